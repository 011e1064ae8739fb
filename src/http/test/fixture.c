#include "fixture.h"
#include "../../codec/codec.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static bool gate_closed;
static int gate_count;
static struct http_stream *newest_stream;

/* ---- handlers ---- */

static void reply_hello(struct http_request *req, struct http_response *res)
{
	http_respond(res, 200, "text/plain", SLICE("hello"));
}

/* What the server understood, one thing a line. */
static void reply_echo(struct http_request *req, struct http_response *res)
{
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;
	const char *id = http_param(req, "id"), *rest = http_param(req, "rest"),
		   *header = http_header(req, "x-test");
	char hash[SHA256_HEX_SIZE];

	hex_format(req->body_sha256, 32, hash);
	strbuf_addf(&sb, "method=%s\ntarget=%s\npath=%s\nquery=%.*s\npeer=%s\nroute=%s\n",
		    http_method_names[req->method], req->target, req->path, (int)req->query.len,
		    req->query.ptr ? req->query.ptr : "", req->peer, req->route->path);
	strbuf_addf(&sb, "id=%s\nrest=%s\nx-test=%s\nsize=%" PRId64 "\nsha256=%s\nbody=%.*s\n",
		    id ? id : "-", rest ? rest : "-", header ? header : "-", req->body_size,
		    hash, (int)req->body.len, req->body.ptr);
	http_respond_header(res, "X-Answer", "a\r\nInjected: yes");
	http_respond(res, 200, "text/plain", (struct slice){ sb.buf, sb.len });
}

static void reply_slow(struct http_request *req, struct http_response *res)
{
	pthread_mutex_lock(&lock);
	gate_count++;
	while (gate_closed)
		pthread_cond_wait(&gate_changed, &lock);
	gate_count--;
	pthread_mutex_unlock(&lock);
	http_respond(res, 200, "text/plain", SLICE("waited"));
}

static void reply_spooled(struct http_request *req, struct http_response *res)
{
	cleanup_strbuf struct strbuf content = STRBUF_INIT, sb = STRBUF_INIT;
	struct err err;
	char hash[SHA256_HEX_SIZE], got[SHA256_HEX_SIZE];

	assert(req->body_path && !file_read(req->body_path, 64 << 20, &content, &err));
	sha256_hex(content.buf, content.len, hash);
	hex_format(req->body_sha256, 32, got);
	strbuf_addf(&sb, "size=%zu announced=%" PRId64 " same=%d", content.len, req->body_size,
		    str_eq(hash, got));
	if (slice_is(req->query, "keep")) {
		cleanup_free char *kept = xcalloc(1, strlen(req->body_path) + 6);

		sprintf(kept, "%s.kept", req->body_path);
		assert(!rename(req->body_path, kept));
	}
	http_respond(res, 200, "text/plain", (struct slice){ sb.buf, sb.len });
}

static void reply_file(struct http_request *req, struct http_response *res)
{
	char path[] = "/tmp/tes-http-file-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	int64_t size = slice_is(req->query, "empty") ? 0 : 100000;

	assert(fd >= 0);
	unlink(path);
	for (int64_t i = 0; i < size; i += 10)
		dprintf(fd, "%09" PRId64 "\n", i);
	http_respond_file_take(res, fd, size, "application/octet-stream", "v1", req);
}

static void reply_nothing(struct http_request *req, struct http_response *res) {}

static void reply_stream(struct http_request *req, struct http_response *res)
{
	struct http_stream *st = http_respond_stream(res, 64 << 10);
	const char *last = http_header(req, "Last-Event-ID");

	http_respond_header(res, "X-Stream", "yes");
	if (slice_is(req->query, "count")) {
		for (int i = last ? atoi(last) + 1 : 0; i < 10; i++) {
			char id[12], data[32];

			snprintf(id, sizeof(id), "%d", i);
			snprintf(data, sizeof(data), "event %d\nline two", i);
			assert(http_stream_push(st, "number", id, slice_of(data)));
		}
		http_stream_finish(st);
		http_stream_unref(st);
		return;
	}
	pthread_mutex_lock(&lock);
	assert(!newest_stream || slice_is(req->query, "many"));
	if (newest_stream)
		http_stream_unref(newest_stream);
	newest_stream = st;
	pthread_cond_broadcast(&gate_changed);
	pthread_mutex_unlock(&lock);
}

static const struct http_route routes[] = {
	{ HTTP_GET, "/hello", HTTP_BODY_NONE, 0, NULL, reply_hello },
	{ HTTP_GET, "/", HTTP_BODY_NONE, 0, NULL, reply_hello },
	{ HTTP_GET, "/v1/things/{id}", HTTP_BODY_NONE, 0, NULL, reply_echo },
	{ HTTP_DELETE, "/v1/things/{id}", HTTP_BODY_NONE, 0, NULL, reply_echo },
	{ HTTP_POST, "/v1/things", HTTP_BODY_MEMORY, 1000, "application/json", reply_echo },
	{ HTTP_PUT, "/v1/any", HTTP_BODY_MEMORY, 200000, NULL, reply_echo },
	{ HTTP_GET, "/files/{rest*}", HTTP_BODY_NONE, 0, NULL, reply_echo },
	{ HTTP_GET, "/slow", HTTP_BODY_NONE, 0, NULL, reply_slow },
	{ HTTP_PUT, "/upload", HTTP_BODY_FILE, 8 << 20, NULL, reply_spooled },
	{ HTTP_GET, "/file", HTTP_BODY_NONE, 0, NULL, reply_file },
	{ HTTP_GET, "/nothing", HTTP_BODY_NONE, 0, NULL, reply_nothing },
	{ HTTP_GET, "/stream", HTTP_BODY_NONE, 0, NULL, reply_stream },
};

static void handle(struct http_request *req, struct http_response *res, void *thread_state,
		   void *server_arg)
{
	((reply_fn *)req->route->arg)(req, res);
}

static void problem(int status, const char *detail, struct strbuf *body, void *server_arg)
{
	strbuf_addf(body, "{\"status\":%d,\"detail\":\"%s\"}", status, detail);
}

/* ---- the server ---- */

struct http_server_config fixture_config(void)
{
	return (struct http_server_config){
		.address = "127.0.0.1",
		.pool_threads = 2,
		.epoll_threads = 2,
		.queue_max = 64,
		.connections_max = 1000,
		.connections_per_address_max = 1000,
		.idle_timeout_ms = 10000,
		.head_max = 4096,
		.routes = routes,
		.route_count = ARRAY_LEN(routes),
		.handler = handle,
		.problem = problem,
		.problem_type = "application/problem+json",
	};
}

int fixture_start(struct fixture *f, struct http_server_config *config)
{
	struct err err;

	crypto_init();
	snprintf(f->spool, sizeof(f->spool), "/tmp/tes-http-spool-XXXXXX");
	assert_non_null(mkdtemp(f->spool));
	config->spool_dir = f->spool;
	if (http_server_start(config, &f->server, &err))
		fail_msg("%s", err.text);
	f->port = http_server_port(f->server);
	return 0;
}

void fixture_stop(struct fixture *f)
{
	struct err err;

	gate_open();
	http_server_stop(f->server, 2000);
	assert_int_equal(dir_remove(f->spool, &err), 0);
	if (newest_stream)
		http_stream_unref(take_ptr(newest_stream));
}

const char *fixture_url(const struct fixture *f, const char *target)
{
	static _Thread_local char url[512];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", f->port, target);
	return url;
}

size_t fixture_spooled(const struct fixture *f)
{
	DIR *dir = opendir(f->spool);
	size_t count = 0;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		count += e->d_name[0] != '.';
	closedir(dir);
	return count;
}

/* ---- the gate ---- */

static void gate_set(bool closed)
{
	pthread_mutex_lock(&lock);
	gate_closed = closed;
	pthread_cond_broadcast(&gate_changed);
	pthread_mutex_unlock(&lock);
}

void gate_close(void)
{
	gate_set(true);
}

void gate_open(void)
{
	gate_set(false);
}

int gate_waiting(void)
{
	int count;

	pthread_mutex_lock(&lock);
	count = gate_count;
	pthread_mutex_unlock(&lock);
	return count;
}

struct http_stream *stream_take(void)
{
	struct http_stream *st;

	pthread_mutex_lock(&lock);
	while (!newest_stream)
		pthread_cond_wait(&gate_changed, &lock);
	st = take_ptr(newest_stream);
	pthread_mutex_unlock(&lock);
	return st;
}

/* ---- raw sockets ---- */

int raw_connect(const struct fixture *f)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)f->port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

void raw_send(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n <= 0)
			return; /* the server may close early; what it answered tells */
		text += n;
		len -= (size_t)n;
	}
}

bool raw_read(int fd, struct strbuf *ret, const char *until, int timeout_ms)
{
	int64_t end = time_monotonic_ms() + timeout_ms;
	char piece[65536];

	while (!until || !memmem(ret->buf, ret->len, until, strlen(until))) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = end - time_monotonic_ms();
		ssize_t n;

		if (left <= 0 || poll(&p, 1, (int)left) <= 0)
			return false;
		n = recv(fd, piece, sizeof(piece), 0);
		if (n <= 0)
			return true;
		strbuf_add(ret, piece, (size_t)n);
	}
	return true;
}

void raw_exchange(const struct fixture *f, const char *text, size_t len, struct strbuf *ret)
{
	int fd = raw_connect(f);

	raw_send(fd, text, len);
	if (!raw_read(fd, ret, NULL, 8000))
		fail_msg("no end of the answer to: %.200s", text);
	close(fd);
}
