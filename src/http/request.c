/* The callbacks of libmicrohttpd's epoll threads: an exchange goes HEAD -> BODY -> HANDLING ->
 * ANSWERED -> SENDING, one step a call.  A request that is refused for what its head says still
 * goes through BODY when the body is small: answering earlier makes libmicrohttpd close the
 * connection.
 */
#include "internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void exchange_body_release(struct exchange *ex)
{
	atomic_fetch_sub(&ex->server->bodies_memory, ex->body_charged);
	ex->body_charged = 0;
	strbuf_release(&ex->body);
	strbuf_init(&ex->body);
	if (ex->spool_fd >= 0)
		close(take_fd(ex->spool_fd));
	if (ex->spool_path)
		unlink(ex->spool_path); /* gone already if the handler kept it */
	free(take_ptr(ex->spool_path));
}

void exchange_free(struct exchange *ex)
{
	if (!ex)
		return;
	exchange_body_release(ex);
	strbuf_release(&ex->body);
	strbuf_release(&ex->stream_head);
	response_release(&ex->res);
	if (ex->reply)
		MHD_destroy_response(ex->reply);
	if (ex->stream) {
		stream_abort(ex->stream);
		http_stream_unref(ex->stream);
	}
	arena_release(&ex->arena);
	if (ex->in_flight)
		pool_done(ex->server);
	free(ex);
}

void *exchange_begin(void *server, const char *uri, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *conn = info->socket_context;
	size_t len = uri ? strlen(uri) : 0;
	struct exchange *ex = xcalloc(1, sizeof(*ex) + len + 1);

	exchange_free(take_ptr(conn->exchange));
	conn->exchange = ex;
	ex->server = server;
	ex->connection = connection;
	ex->conn = conn;
	ex->req.begun_ms = time_monotonic_ms();
	ex->spool_fd = -1;
	ex->res.exchange = ex;
	ex->res.fd = -1;
	arena_init(&ex->arena, 0);
	strbuf_init(&ex->body);
	strbuf_init(&ex->stream_head);
	if (len)
		memcpy(ex->target, uri, len);
	return ex;
}

void exchange_end(void *server, struct MHD_Connection *connection, void **exchange,
		  enum MHD_RequestTerminationCode code)
{
	struct exchange *ex = *exchange;
	struct http_server *s = server;

	if (!ex)
		return;
	*exchange = NULL;
	ex->conn->exchange = NULL;
	ex->conn->deadline_ms = time_monotonic_ms() + s->config.idle_timeout_ms;
	exchange_free(ex);
}

/* Hands the answer in ex->res to libmicrohttpd. */
static enum MHD_Result reply_send(struct exchange *ex)
{
	enum MHD_Result rc;

	if (!ex->reply)
		response_build(ex);
	ex->state = EXCHANGE_SENDING;
	ex->conn->deadline_ms = 0;
	if (ex->res.status >= 500)
		ex->server->responses_5xx++;
	rc = MHD_queue_response(ex->connection, (unsigned)ex->res.status, ex->reply);
	MHD_destroy_response(take_ptr(ex->reply));
	return rc;
}

static enum MHD_Result problem_send(struct exchange *ex, int status, const char *detail)
{
	response_problem(ex, status, detail);
	return reply_send(ex);
}

/* For what leaves the connection unusable: where the next request begins is not certain. */
static enum MHD_Result problem_send_and_close(struct exchange *ex, int status,
					      const char *detail)
{
	response_problem(ex, status, detail);
	http_respond_header(&ex->res, "Connection", "close");
	return reply_send(ex);
}

static enum MHD_Result stream_send(struct exchange *ex)
{
	struct http_server *s = ex->server;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(ex->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	bool room = s->stream_count < s->config.connections_max;

	if (room && s->config.tls_cert &&
	    (ex->reply = stream_reply(ex->stream, ex->connection))) {
		for (struct response_header *h = ex->res.headers; h; h = h->next)
			MHD_add_response_header(ex->reply, h->name, h->value);
		http_stream_unref(take_ptr(ex->stream));
		return reply_send(ex);
	}
	room = room && !s->config.tls_cert;
	if (room && !stream_adopt(ex->stream, info->connect_fd, &ex->stream_head)) {
		http_stream_unref(take_ptr(ex->stream));
		return MHD_NO; /* closes libmicrohttpd's descriptor; the stream has its own */
	}
	stream_abort(ex->stream);
	http_stream_unref(take_ptr(ex->stream));
	ex->res.headers = NULL; /* they were the stream's */
	return problem_send_and_close(ex, 503, "too many event streams; try again later");
}

static int method_parse(const char *method, bool *ret_is_head)
{
	*ret_is_head = str_eq(method, "HEAD");
	if (*ret_is_head)
		return HTTP_GET;
	for (int i = 0; i < HTTP_METHODS; i++)
		if (str_eq(method, http_method_names[i]))
			return i;
	return -1;
}

static int refuse(struct exchange *ex, int status, const char *detail)
{
	ex->refuse_status = status;
	snprintf(ex->refuse_detail, sizeof(ex->refuse_detail), "%s", detail);
	return -1;
}

static int route_find(struct exchange *ex, const char *method, const struct path *path)
{
	int m = method_parse(method, &ex->is_head);
	char detail[232];

	router_match(ex->server->router, path, m < 0 ? HTTP_GET : (enum http_method)m,
		     &ex->match);
	if (m < 0)
		ex->match.route = NULL;
	if (ex->match.route) {
		ex->req.method = (enum http_method)m;
		ex->req.route = ex->match.route;
		return 0;
	}
	if (!ex->match.methods) {
		snprintf(detail, sizeof(detail), "there is no '%.180s' here", path->decoded);
		return refuse(ex, 404, detail);
	}
	snprintf(detail, sizeof(detail), "'%.180s' does not know the method %.16s",
		 path->decoded, method);
	return refuse(ex, 405, detail);
}

static bool media_type_is(const char *value, const char *type)
{
	size_t len = strcspn(value, "; \t");

	return strlen(type) == len && strncasecmp(value, type, len) == 0;
}

/* Whether the route takes the body that the head announces; length -1: chunked, not known
 * yet. */
static int body_check(struct exchange *ex, int64_t length)
{
	const struct http_route *route = ex->req.route;
	const char *type = http_header(&ex->req, "Content-Type");
	int64_t max = route->body == HTTP_BODY_NONE ? 0 : route->body_max;
	char detail[232];

	if (length > max || (length < 0 && !max)) {
		if (max)
			snprintf(detail, sizeof(detail),
				 "body: %" PRId64 " bytes, the limit is %" PRId64, length, max);
		else
			snprintf(detail, sizeof(detail), "body: this operation takes none");
		return refuse(ex, 413, detail);
	}
	if (length && route->content_type &&
	    !(type && media_type_is(type, route->content_type))) {
		snprintf(detail, sizeof(detail), "Content-Type '%.60s': must be '%s'",
			 type ? type : "", route->content_type);
		return refuse(ex, 415, detail);
	}
	return 0;
}

static void peer_find(struct exchange *ex)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(ex->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const char *forwarded = http_header(&ex->req, "X-Forwarded-For");
	struct in6_addr in6;
	char last[INET6_ADDRSTRLEN];

	peer_format(info ? info->client_addr : NULL, ex->peer);
	ex->req.peer = ex->peer;
	if (!ex->server->config.trust_forwarded || !forwarded)
		return;
	/* The last entry is the one that the proxy wrote; those before it are the client's
	 * own word. */
	if (strrchr(forwarded, ','))
		forwarded = strrchr(forwarded, ',') + 1;
	while (*forwarded == ' ')
		forwarded++;
	if (!str_copy(last, sizeof(last), forwarded) &&
	    (inet_pton(AF_INET, last, &in6) == 1 || inet_pton(AF_INET6, last, &in6) == 1))
		memcpy(ex->peer, last, sizeof(last));
}

static int64_t body_length(struct exchange *ex)
{
	const char *length = http_header(&ex->req, "Content-Length");

	if (http_header(&ex->req, "Transfer-Encoding"))
		return -1;
	return length ? strtoll(length, NULL, 10) : 0;
}

static int spool_open(struct exchange *ex)
{
	char *path = path_join(ex->server->config.spool_dir, "upload-XXXXXX");

	ex->spool_fd = mkostemp(path, O_CLOEXEC);
	if (ex->spool_fd < 0) {
		free(path);
		return refuse(ex, 503, "the server has no room for the body; try again later");
	}
	ex->spool_path = path;
	ex->req.body_path = path;
	return 0;
}

/* Whoever may not upload does not fill the disk first. */
static int admit(struct exchange *ex)
{
	const struct http_server_config *config = &ex->server->config;
	char detail[232] = "";
	int status;

	if (!config->admit)
		return 0;
	ex->req.arena = &ex->arena;
	status = config->admit(&ex->req, detail, config->arg);
	return status ? refuse(ex, status, detail) : 0;
}

static enum MHD_Result head_step(struct exchange *ex, const char *method, const char *version)
{
	struct http_server *s = ex->server;
	struct path path;
	struct err err;
	int64_t length;
	int status;

	s->requests++;
	id_make("rq", clock_now(&clock_system), &random_system, ex->request_id);
	ex->req.request_id = ex->request_id;
	if (head_check(ex, method, version, &status, &err))
		return problem_send_and_close(ex, status, err.text);
	if (path_parse(&ex->arena, ex->target, &path, &err))
		return problem_send_and_close(ex, 400, err.text);
	if (s->stopping)
		return problem_send_and_close(ex, 503, "the server is stopping; try again");
	ex->req.target = ex->target;
	ex->req.path = path.decoded;
	ex->req.query = path.query;
	peer_find(ex);
	sha256_init(&ex->body_hash);
	length = body_length(ex);
	if (!route_find(ex, method, &path) && !body_check(ex, length) &&
	    ex->req.route->body == HTTP_BODY_FILE && !admit(ex))
		spool_open(ex);
	if (ex->refuse_status && (length < 0 || length > DRAIN_MAX))
		return problem_send_and_close(ex, ex->refuse_status, ex->refuse_detail);
	ex->body_started_ms = time_monotonic_ms();
	ex->conn->deadline_ms = ex->body_started_ms + s->config.idle_timeout_ms;
	ex->state = EXCHANGE_BODY;
	return MHD_YES;
}

static int body_keep(struct exchange *ex, const char *data, size_t len)
{
	struct http_server *s = ex->server;
	char detail[232];
	struct err err;

	if (ex->req.body_size > ex->req.route->body_max) {
		snprintf(detail, sizeof(detail), "body: over the limit of %" PRId64 " bytes",
			 ex->req.route->body_max);
		return refuse(ex, 413, detail);
	}
	sha256_update(&ex->body_hash, data, len);
	if (ex->spool_fd >= 0) {
		if (write_all(ex->spool_fd, data, len, &err))
			return refuse(ex, 503,
				      "the server has no room for the body; try again later");
		return 0;
	}
	ex->body_charged += (int64_t)len;
	if (atomic_fetch_add(&s->bodies_memory, (int64_t)len) > BODIES_MEMORY_MAX)
		return refuse(ex, 503, "the server holds too many request bodies; try again");
	strbuf_add(&ex->body, data, len);
	return 0;
}

static enum MHD_Result body_step(struct exchange *ex, const char *data, size_t *data_len)
{
	size_t len = *data_len;
	int64_t grace_ms = ex->server->config.idle_timeout_ms;

	*data_len = 0;
	ex->req.body_size += (int64_t)len;
	ex->conn->deadline_ms = ex->body_started_ms + grace_ms +
				ex->req.body_size * 1000 / BODY_RATE_MIN_BYTES_S;
	if (ex->refuse_status)
		ex->body_dropped += (int64_t)len;
	else if (body_keep(ex, data, len))
		exchange_body_release(ex);
	/* libmicrohttpd takes no answer in the middle of a body; who goes on for too long
	 * gets none. */
	return ex->body_dropped > DRAIN_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result body_end(struct exchange *ex)
{
	struct http_server *s = ex->server;

	if (ex->refuse_status)
		return problem_send(ex, ex->refuse_status, ex->refuse_detail);
	sha256_final(&ex->body_hash, ex->req.body_sha256);
	ex->req.body = (struct slice){ ex->body.buf, ex->body.len };
	if (ex->spool_fd >= 0)
		close(take_fd(ex->spool_fd));
	ex->conn->deadline_ms = 0;
	ex->in_flight = true;
	if (pool_submit(s, ex))
		return MHD_YES;
	ex->in_flight = false;
	s->queue_full++;
	return problem_send(ex, 503, "the server is busy; try again");
}

enum MHD_Result exchange_step(void *server, struct MHD_Connection *connection, const char *url,
			      const char *method, const char *version, const char *data,
			      size_t *data_len, void **exchange)
{
	struct exchange *ex = *exchange;

	switch (ex->state) {
	case EXCHANGE_HEAD: return head_step(ex, method, version);
	case EXCHANGE_BODY: return *data_len ? body_step(ex, data, data_len) : body_end(ex);
	case EXCHANGE_ANSWERED: return ex->stream ? stream_send(ex) : reply_send(ex);
	case EXCHANGE_HANDLING:
	case EXCHANGE_SENDING: break;
	}
	return MHD_YES;
}

const char *http_param(const struct http_request *req, const char *name)
{
	const struct exchange *ex = container_of(req, struct exchange, req);
	int index = route_param_index(req->route, name);

	return index < 0 ? NULL : ex->match.params[index];
}

const char *http_header(const struct http_request *req, const char *name)
{
	const struct exchange *ex = container_of(req, struct exchange, req);

	return MHD_lookup_connection_value(ex->connection, MHD_HEADER_KIND, name);
}
