/* The HTTP face: routes from the table of operations, credentials, JSON in and out, problems, streams, files; and the
 * pages that machines ask for: /healthz /readyz /metrics /v1/openapi.json. */
#include "internal.h"

#include <unistd.h>

#define STREAM_BUFFER_MAX (4 << 20)

enum page { PAGE_HEALTH = OPERATION_COUNT, PAGE_READY, PAGE_METRICS, PAGE_OPENAPI, ROUTE_COUNT };
static struct http_route routes[ROUTE_COUNT];

static const enum http_method http_methods[] = { [GET] = HTTP_GET, [POST] = HTTP_POST, [PUT] = HTTP_PUT, [DELETE] = HTTP_DELETE };

static void routes_fill(const struct control *c)
{
	static const struct { enum page page; const char *path; } pages[] = {
		{ PAGE_HEALTH, "/healthz" }, { PAGE_READY, "/readyz" }, { PAGE_METRICS, "/metrics" },
		{ PAGE_OPENAPI, "/v1/openapi.json" },
	};

	for (size_t i = 0; i < OPERATION_COUNT; i++) {
		const struct operation *op = &operations[i];
		bool bytes = op->flags & OP_UPLOAD, json = op->method == POST && !bytes;

		routes[i] = (struct http_route){
			.method = http_methods[op->method], .path = op->path, .arg = (void *)op,
			.body = bytes ? HTTP_BODY_FILE : json ? HTTP_BODY_MEMORY : HTTP_BODY_NONE,
			.body_max = bytes ? (op->id == OP_input_create ? c->config.inputs_max_bytes :
					     c->config.results_max_bytes) : json ? API_BODY_MAX : 0,
			.content_type = json && op->in != &nothing_type ? "application/json" : NULL,
		};
	}
	for (size_t i = 0; i < ARRAY_LEN(pages); i++)
		routes[pages[i].page] = (struct http_route){ .method = HTTP_GET, .path = pages[i].path };
}

/* retry_ms: what is refused for now may be tried again after so long; 0: soon. */
static void answer_problem(struct http_response *res, const struct err *err, int64_t retry_ms, const char *request_id)
{
	cleanup_strbuf struct strbuf body = STRBUF_INIT;
	char seconds[24];

	api_problem(err, request_id, &body);
	snprintf(seconds, sizeof(seconds), "%" PRId64, MAX((retry_ms + SECOND_MS - 1) / SECOND_MS, 1));
	if (err->code == ERR_UNAUTHENTICATED)
		http_respond_header(res, "WWW-Authenticate", "Bearer realm=\"tes\"");
	if (err->code == ERR_RATE || err->code == ERR_UNAVAILABLE || err->code == ERR_RETRY)
		http_respond_header(res, "Retry-After", seconds);
	http_respond(res, api_status(err->code), "application/problem+json", (struct slice){ body.buf, body.len });
}

/* What no handler saw: bad heads, unknown paths, bodies over the limit. */
static void problem(int status, const char *detail, struct strbuf *body, void *arg)
{
	struct err err = { 0 };
	enum err_code code = status >= 500 ? ERR_UNAVAILABLE : status == 405 ? ERR_UNSUPPORTED : ERR_INVALID;

	for (enum err_code i = ERR_INVALID; status < 500 && i <= ERR_INTERNAL; i++)
		if (api_status(i) == status)
			code = i;
	err_set(&err, code, "%s", detail);
	strbuf_reset(body);
	strbuf_addf(body, "{\"type\":\"about:blank\",\"title\":\"The request could not be taken\",\"status\":%d,\"code\":\"%s\",\"detail\":",
		    status, err_code_name(err.code));
	json_write_text(err.text, body);
	strbuf_addc(body, '}');
}

static int input_read(const struct http_request *req, const struct operation *op, void **ret, struct err *err)
{
	void *in = arena_alloc(req->arena, MAX(op->in->size, 1));

	*ret = in;
	if (op->method == POST && !(op->flags & OP_UPLOAD)) {
		if (req->body.len == 0 && op->in == &nothing_type)
			return 0;
		return schema_parse(op->in, req->body, FROM_CLIENT, req->arena, in, err);
	}
	return schema_parse_query(op->in, req->query, req->arena, in, err);
}

/* The path's {parameters}, in order. */
static void params_read(const struct http_request *req, const struct operation *op, struct call *call)
{
	size_t n = 0;

	for (const char *p = strchr(op->path, '{'); p; p = strchr(p + 1, '{')) {
		char name[32];

		assert(n < ARRAY_LEN(call->params));
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(p + 1, "*}"), p + 1);
		call->params[n++] = http_param(req, name);
	}
}

static int caller_read(struct control *c, struct db_conn *conn, const struct http_request *req, const struct operation *op,
		       struct caller *ret, struct err *err)
{
	const char *header = http_header(req, "Authorization");

	*ret = (struct caller){ .kind = CALLER_NOBODY, .peer = req->peer, .request_id = req->request_id };
	if (op->flags & OP_WORKER)
		return session_check(c, req, ret, err);
	if (header)
		return auth_key(c, conn, header, req->arena, ret, err);
	return 0;
}

static void answer(struct http_request *req, struct http_response *res, struct call *call)
{
	const struct operation *op = call->op;
	cleanup_strbuf struct strbuf body = STRBUF_INIT;

	http_respond_header(res, "Cache-Control", "no-store");
	if (call->stream) {
		live_start(take_ptr(call->stream), http_respond_stream(res, STREAM_BUFFER_MAX));
		return;
	}
	if (call->file_fd > 0) {
		http_respond_file_take(res, take_fd(call->file_fd), call->file_size, "application/octet-stream",
				       call->file_etag, req);
		return;
	}
	if (op->out == &nothing_type) {
		http_respond(res, 204, NULL, (struct slice){ NULL, 0 });
		return;
	}
	if (call->replayed) {
		strbuf_adds(&body, call->replay_body);
		http_respond_header(res, "Idempotent-Replayed", "true");
	} else {
		(op->flags & OP_SECRETS ? schema_write_secret : schema_write)(op->out, call->out, &body);
	}
	http_respond(res, op->flags & OP_CREATED ? 201 : 200, "application/json", (struct slice){ body.buf, body.len });
}

static void serve_operation(struct control *c, struct db_conn *conn, struct http_request *req, struct http_response *res,
			    const struct operation *op)
{
	struct err err = { 0 };
	const char *accept = http_header(req, "Accept");
	struct call call = {
		.op = op, .arena = req->arena, .idempotency_key = http_header(req, "Idempotency-Key"),
		.body_path = req->body_path, .body_size = req->body_size, .body_sha256 = req->body_sha256,
		.last_event_id = http_header(req, "Last-Event-ID"),
		.age_ms = time_monotonic_ms() - req->begun_ms,
		.wants_stream = accept && strstr(accept, "text/event-stream"), .file_fd = -1,
	};
	void *in;

	params_read(req, op, &call);
	if (caller_read(c, conn, req, op, &call.caller, &err) < 0 || control_authorise(&call, &err) < 0 ||
	    input_read(req, op, &in, &err) < 0 ||
	    (call.in = in, control_call(c, conn, &call, &err)) < 0) {
		if (api_status(err.code) >= 500)
			log_err(LOG_ERROR, &err, "operation failed", "operation", op->name, "request", req->request_id, NULL);
		answer_problem(res, &err, call.retry_ms, req->request_id);
		live_free(call.stream);
		close_fd_(&call.file_fd);
		return;
	}
	answer(req, res, &call);
}

/* ---- pages ------------------------------------------------------------------------------------------- */

static void serve_ready(struct db_conn *conn, struct http_request *req, struct http_response *res)
{
	struct err err = { 0 };
	int pending;

	if (db_migrations_pending(conn, &pending, &err) < 0) {
		err_wrap(&err, "the store does not answer");
		answer_problem(res, &err, 0, req->request_id);
		return;
	}
	http_respond(res, 200, "application/json", SLICE("{\"status\":\"ready\"}"));
}

/* Numbers about the network are the operator's: only from this machine, or with the configured token. */
static bool metrics_allowed(const struct control *c, const struct http_request *req)
{
	const char *header = http_header(req, "Authorization"), *token = c->config.metrics_token;

	if (!str_empty(token))
		return header && str_starts(header, "Bearer ") && strlen(header + 7) == strlen(token) &&
		       mem_equal_const_time(header + 7, token, strlen(token));
	return str_starts(req->peer, "127.") || str_eq(req->peer, "::1") || str_eq(req->peer, "::ffff:127.0.0.1");
}

static void serve_metrics(struct control *c, struct db_conn *conn, struct http_request *req, struct http_response *res)
{
	cleanup_strbuf struct strbuf body = STRBUF_INIT;
	struct err err = { 0 };

	if (!metrics_allowed(c, req))
		err_set(&err, ERR_FORBIDDEN, "metrics are served to this machine, or with the token in [server] metrics_token");
	if (err.code || metrics_write(c, conn, &body, &err) < 0)
		answer_problem(res, &err, 0, req->request_id);
	else
		http_respond(res, 200, "text/plain; version=0.0.4", (struct slice){ body.buf, body.len });
}

/* Uploads only from those who may: a key that is known and allowed, or a session that is live.  The MAC of a session's
 * request covers the body, so it is checked after it. */
static int admit(const struct http_request *head, char detail[static 232], void *arg)
{
	struct control *c = arg;
	const struct operation *op = head->route->arg;
	const char *header = http_header(head, "Authorization");
	struct call call = { .op = op, .caller = { .kind = CALLER_NOBODY } };
	struct err err = { 0 };
	int rc = 0;

	if (op->flags & OP_WORKER) {
		rc = session_is_live(c, http_header(head, "TES-Session")) ? 0 :
		     err_set(&err, ERR_UNAUTHENTICATED, "no such session: open a new one");
	} else {
		pthread_mutex_lock(&c->admit_lock);
		if (header)
			rc = auth_key_look(c, c->admit_conn, header, head->arena, &call.caller, &err);
		pthread_mutex_unlock(&c->admit_lock);
		if (rc == 0)
			rc = control_authorise(&call, &err);
	}
	if (rc == 0)
		return 0;
	snprintf(detail, 232, "%s", err.text);
	return api_status(err.code);
}

static void handle(struct http_request *req, struct http_response *res, void *thread_state, void *arg)
{
	struct control *c = arg;
	cleanup_strbuf struct strbuf body = STRBUF_INIT;

	switch (req->route - routes) {
	case PAGE_HEALTH:
		http_respond(res, 200, "application/json", SLICE("{\"status\":\"ok\"}"));
		return;
	case PAGE_READY:
		serve_ready(thread_state, req, res);
		return;
	case PAGE_METRICS:
		serve_metrics(c, thread_state, req, res);
		return;
	case PAGE_OPENAPI:
		api_openapi(c->config.public_url, &body);
		http_respond(res, 200, "application/json", (struct slice){ body.buf, body.len });
		return;
	default:
		serve_operation(c, thread_state, req, res, req->route->arg);
	}
}

/* ---- start and stop ------------------------------------------------------------------------------------ */

static void *thread_open(void *arg)
{
	struct control *c = arg;
	struct db_conn *conn;
	struct err err = { 0 };

	if (db_conn_open(c->db, &conn, &err) < 0) {
		log_err(LOG_ERROR, &err, "a thread cannot reach the store", NULL);
		return NULL;
	}
	return conn;
}

static void thread_close(void *conn)
{
	db_conn_close(conn);
}

int serve_start(struct control *c, struct err *err)
{
	const struct control_config *cf = &c->config;
	struct http_server *server;

	routes_fill(c);
	if (db_conn_open(c->db, &c->admit_conn, err) < 0)
		return -1;
	if (http_server_start(&(struct http_server_config){
		.address = cf->listen_address, .port = cf->listen_port,
		.tls_cert = str_empty(cf->tls_cert) ? NULL : cf->tls_cert,
		.tls_key = str_empty(cf->tls_key) ? NULL : cf->tls_key,
		.pool_threads = cf->threads, .epoll_threads = 1, .queue_max = cf->queue_max,
		.connections_max = cf->connections_max,
		.connections_per_address_max = cf->connections_per_address_max ? cf->connections_per_address_max : cf->connections_max,
		.idle_timeout_ms = 60 * SECOND_MS, .head_max = 8 << 10, .spool_dir = blob_spool_dir(c->blobs),
		.trust_forwarded = cf->trust_forwarded, .routes = routes, .route_count = ROUTE_COUNT, .handler = handle,
		.admit = admit, .problem = problem, .problem_type = "application/problem+json", .thread_open = thread_open,
		.thread_close = thread_close, .arg = c,
	}, &server, err) < 0)
		return -1;
	__atomic_store_n(&c->server, server, __ATOMIC_RELEASE); /* its threads run already */
	return 0;
}

void serve_stop(struct control *c)
{
	/* Requests look at it until it has stopped. */
	http_server_stop(c->server, 10 * SECOND_MS);
	c->server = NULL;
	if (c->admit_conn)
		db_conn_close(take_ptr(c->admit_conn));
}
