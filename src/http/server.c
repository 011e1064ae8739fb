#include "internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMORY_MIN_BYTES 8192 /* of a connection */
#define PEM_MAX_BYTES	 (1 << 20)
#define LISTEN_BACKLOG	 1024

/* ---- connections ---- */

static void conn_notify(void *server, struct MHD_Connection *connection, void **context,
			enum MHD_ConnectionNotificationCode code)
{
	struct http_server *s = server;
	struct conn *c = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

		*context = c = xcalloc(1, sizeof(*c));
		c->fd = info->connect_fd;
		c->deadline_ms = time_monotonic_ms() + s->config.idle_timeout_ms;
		pthread_mutex_lock(&s->conns_lock);
		c->next = s->conns;
		if (c->next)
			c->next->prev = c;
		s->conns = c;
		s->conn_count++;
		pthread_mutex_unlock(&s->conns_lock);
		return;
	}
	if (!c)
		return;
	/* libmicrohttpd closes the descriptor after this, so conns_expire never meets a
	 * closed one. */
	pthread_mutex_lock(&s->conns_lock);
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->conn_count--;
	pthread_mutex_unlock(&s->conns_lock);
	exchange_free(c->exchange);
	free(c);
	*context = NULL;
}

void conns_expire(struct http_server *s, int64_t now_ms)
{
	pthread_mutex_lock(&s->conns_lock);
	for (struct conn *c = s->conns; c; c = c->next)
		if (c->deadline_ms && now_ms > c->deadline_ms)
			shutdown(c->fd, SHUT_RDWR);
	pthread_mutex_unlock(&s->conns_lock);
}

/* ---- starting ---- */

static int config_check(const struct http_server_config *c, struct err *err)
{
	if (!c->tls_cert != !c->tls_key)
		return err_set_field(err, "tls_cert",
				     "certificate and key must be given together");
	if (c->pool_threads < 1 || c->pool_threads > 1024)
		return err_set_field(err, "pool_threads", "%d: must be 1 to 1024",
				     c->pool_threads);
	if (c->epoll_threads < 1 || c->epoll_threads > 64)
		return err_set_field(err, "epoll_threads", "%d: must be 1 to 64",
				     c->epoll_threads);
	if (c->queue_max < 1)
		return err_set_field(err, "queue_max", "%d: must be at least 1", c->queue_max);
	if (c->connections_max < c->epoll_threads)
		return err_set_field(err, "connections_max",
				     "%d: must be at least epoll_threads (%d)",
				     c->connections_max, c->epoll_threads);
	if (c->connections_per_address_max < 1)
		return err_set_field(err, "connections_per_address_max",
				     "%d: must be at least 1", c->connections_per_address_max);
	if (c->idle_timeout_ms < 1000 || c->idle_timeout_ms > HOUR_MS)
		return err_set_field(err, "idle_timeout", "%" PRId64 " ms: must be 1 s to 1 h",
				     c->idle_timeout_ms);
	if (c->head_max < 1024 || c->head_max > 65536)
		return err_set_field(err, "head_max",
				     "%" PRId64 " bytes: must be 1024 to 65536", c->head_max);
	for (size_t i = 0; i < c->route_count; i++)
		if (c->routes[i].body == HTTP_BODY_FILE && !c->spool_dir)
			return err_set_field(err, "spool_dir", "needed by route '%s'",
					     c->routes[i].path);
	return 0;
}

static int address_parse(const char *address, int port, struct sockaddr_storage *ret,
			 socklen_t *ret_len, struct err *err)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)port);
		*ret_len = sizeof(*in);
		return 0;
	}
	if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		*ret_len = sizeof(*in6);
		return 0;
	}
	return err_set_field(
		err, "address",
		"'%s': must be an IPv4 or IPv6 address, as 127.0.0.1 or ::", address);
}

static int listen_open(const struct http_server_config *config, int *ret_fd, int *ret_port,
		       struct err *err)
{
	struct sockaddr_storage addr;
	socklen_t len;
	cleanup_fd int fd = -1;
	int on = 1, off = 0;

	if (config->port < 0 || config->port > 65535)
		return err_set_field(err, "port", "%d: must be 0 to 65535", config->port);
	if (address_parse(config->address, config->port, &addr, &len, err))
		return -1;
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, errno, "http: cannot make a socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (addr.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&addr, len) || listen(fd, LISTEN_BACKLOG))
		return err_sys(err, errno, "http: cannot listen on %s port %d", config->address,
			       config->port);
	if (getsockname(fd, (struct sockaddr *)&addr, &len))
		return err_sys(err, errno, "http: cannot tell the port");
	*ret_port =
		ntohs(addr.ss_family == AF_INET ? ((struct sockaddr_in *)&addr)->sin_port
						: ((struct sockaddr_in6 *)&addr)->sin6_port);
	*ret_fd = take_fd(fd);
	return 0;
}

static void option_add(struct MHD_OptionItem *items, size_t *count, enum MHD_OPTION option,
		       intptr_t value, void *ptr)
{
	items[(*count)++] = (struct MHD_OptionItem){ option, value, ptr };
}

static int daemon_start(struct http_server *s, int listen_fd, const char *cert, const char *key,
			struct err *err)
{
	const struct http_server_config *c = &s->config;
	/* A head of head_max, its parsed form and the head of the answer share a
	 * connection's memory. */
	intptr_t memory = MAX((intptr_t)MEMORY_MIN_BYTES,
			      (intptr_t)(c->head_max + c->head_max / 2 + 2048));
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
	struct MHD_OptionItem items[16];
	size_t n = 0;

	flags |= cert ? MHD_USE_TLS : MHD_USE_TURBO; /* TURBO: see stream.c */
	option_add(items, &n, MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL);
	option_add(items, &n, MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory, NULL);
	option_add(items, &n, MHD_OPTION_CONNECTION_LIMIT, c->connections_max, NULL);
	option_add(items, &n, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		   c->connections_per_address_max, NULL);
	option_add(items, &n, MHD_OPTION_CONNECTION_TIMEOUT, (c->idle_timeout_ms + 999) / 1000,
		   NULL);
	option_add(items, &n, MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL);
	option_add(items, &n, MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)exchange_begin, s);
	option_add(items, &n, MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)exchange_end, s);
	option_add(items, &n, MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)conn_notify, s);
	if (c->epoll_threads > 1)
		option_add(items, &n, MHD_OPTION_THREAD_POOL_SIZE, c->epoll_threads, NULL);
	if (cert) {
		option_add(items, &n, MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)cert);
		option_add(items, &n, MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)key);
		option_add(items, &n, MHD_OPTION_HTTPS_PRIORITIES, 0,
			   "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2");
	}
	option_add(items, &n, MHD_OPTION_END, 0, NULL);
	assert(n <= ARRAY_LEN(items));
	errno = 0;
	s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, exchange_step, s, MHD_OPTION_ARRAY,
				     items, MHD_OPTION_END);
	if (!s->daemon && cert)
		return err_set(
			err, ERR_INVALID,
			"http: cannot start; are '%s' and '%s' a PEM certificate and its key?",
			c->tls_cert, c->tls_key);
	if (!s->daemon)
		return err_sys(err, errno, "http: cannot start the server");
	return 0;
}

static struct http_server *server_new(const struct http_server_config *config)
{
	struct http_server *s = xcalloc(1, sizeof(*s));
	pthread_condattr_t monotonic;

	s->config = *config;
	if (!s->config.keepalive_ms)
		s->config.keepalive_ms = KEEPALIVE_MS;
	s->stream_epoll = s->stream_wake = -1;
	pthread_mutex_init(&s->conns_lock, NULL);
	pthread_mutex_init(&s->queue_lock, NULL);
	pthread_mutex_init(&s->streams_lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->queue_more, NULL);
	pthread_cond_init(&s->queue_idle, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return s;
}

int http_server_start(const struct http_server_config *config, struct http_server **ret,
		      struct err *err)
{
	struct http_server *s;
	cleanup_strbuf struct strbuf cert = STRBUF_INIT, key = STRBUF_INIT;
	cleanup_fd int fd = -1;

	if (config_check(config, err))
		return -1;
	s = server_new(config);
	if (config->tls_cert && (file_read(config->tls_cert, PEM_MAX_BYTES, &cert, err) ||
				 file_read(config->tls_key, PEM_MAX_BYTES, &key, err)))
		goto fail;
	if (router_new(config->routes, config->route_count, &s->router, err) ||
	    listen_open(config, &fd, &s->port, err) || streams_start(s, err) ||
	    pool_start(s, err) ||
	    daemon_start(s, fd, config->tls_cert ? cert.buf : NULL, key.buf, err))
		goto fail;
	fd = -1; /* the daemon's from now on */
	*ret = s;
	return 0;
fail:
	http_server_stop(s, 0);
	return -1;
}

int http_server_port(const struct http_server *s)
{
	return s->port;
}

void http_server_stop(struct http_server *s, int64_t grace_ms)
{
	cleanup_fd int fd = -1;

	if (!s)
		return;
	s->stopping = true;
	/* The epoll threads may still be looking at the listening socket: it is closed last. */
	if (s->daemon) {
		fd = MHD_quiesce_daemon(s->daemon);
		shutdown(fd, SHUT_RDWR);
	}
	streams_finish(s);
	pool_drain(s, grace_ms);
	pool_stop(s);
	/* What the pool answered last still has to reach libmicrohttpd's threads and the
	 * sockets. */
	if (s->daemon)
		pool_drain(s, MIN(grace_ms, SECOND_MS));
	streams_stop(s);
	if (s->daemon)
		MHD_stop_daemon(s->daemon);
	router_free(s->router);
	pthread_cond_destroy(&s->queue_more);
	pthread_cond_destroy(&s->queue_idle);
	pthread_mutex_destroy(&s->conns_lock);
	pthread_mutex_destroy(&s->queue_lock);
	pthread_mutex_destroy(&s->streams_lock);
	free(s);
}

void http_server_stats(const struct http_server *s, struct http_server_stats *ret)
{
	struct http_server *mutable = (struct http_server *)s;

	pthread_mutex_lock(&mutable->queue_lock);
	ret->queue_len = s->queue_len;
	pthread_mutex_unlock(&mutable->queue_lock);
	ret->requests = s->requests;
	ret->responses_5xx = s->responses_5xx;
	ret->queue_full = s->queue_full;
	ret->streams = s->stream_count;
	ret->connections = s->conn_count + ret->streams;
}
