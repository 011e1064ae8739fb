/* Calls to the server, each signed with the session's key (docs/protocol.md).  One session
 * serves all threads; connections are kept and shared. */
#include "internal.h"

#include <unistd.h>

#define CALL_TIMEOUT_MS (30 * SECOND_MS)
#define RENEW_BEFORE_MS (5 * MINUTE_MS)
#define ANSWER_MAX	((size_t)16 << 20)

struct link {
	const struct identity *id;
	const char *ca_file;
	pthread_mutex_t lock;	 /* of what follows */
	pthread_mutex_t opening; /* held by the one that opens a session */
	VEC(struct http_client *) idle;
	char session[ID_SIZE * 2];
	uint8_t key[32];
	int64_t session_number; /* 0: none yet */
	bool session_valid;
	int64_t expires_ms; /* by the server's clock */
	int64_t nonce;
	int64_t clock_offset_ms; /* the server's clock minus ours */
	int64_t heartbeat_ms;
};

struct link *link_new(const struct identity *id, const char *ca_file)
{
	struct link *l = xcalloc(1, sizeof(*l));

	l->id = id;
	l->ca_file = str_empty(ca_file) ? NULL : ca_file;
	l->heartbeat_ms = 10 * SECOND_MS;
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->opening, NULL);
	return l;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->idle.len; i++)
		http_client_free(l->idle.items[i]);
	vec_release(&l->idle);
	explicit_bzero(l->key, sizeof(l->key));
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->opening);
	free(l);
}

static struct http_client *client_take(struct link *l)
{
	struct http_client *c = NULL;

	pthread_mutex_lock(&l->lock);
	if (l->idle.len)
		c = l->idle.items[--l->idle.len];
	pthread_mutex_unlock(&l->lock);
	return c ? c : http_client_new();
}

static void client_give(struct link *l, struct http_client *c)
{
	pthread_mutex_lock(&l->lock);
	*vec_push(&l->idle) = c;
	pthread_mutex_unlock(&l->lock);
}

int64_t link_session(struct link *l)
{
	int64_t ret;

	pthread_mutex_lock(&l->lock);
	ret = l->session_number;
	pthread_mutex_unlock(&l->lock);
	return ret;
}

int64_t link_heartbeat_ms(struct link *l)
{
	int64_t ret;

	pthread_mutex_lock(&l->lock);
	ret = l->heartbeat_ms;
	pthread_mutex_unlock(&l->lock);
	return ret;
}

void link_clock_set(struct link *l, int64_t server_time_ms)
{
	pthread_mutex_lock(&l->lock);
	l->clock_offset_ms = server_time_ms - now_ms_get();
	pthread_mutex_unlock(&l->lock);
}

int64_t link_now(struct link *l)
{
	int64_t ret;

	pthread_mutex_lock(&l->lock);
	ret = now_ms_get() + l->clock_offset_ms;
	pthread_mutex_unlock(&l->lock);
	return ret;
}

int64_t backoff_next(struct backoff *b)
{
	uint32_t random;

	b->ms = b->ms ? MIN(b->ms * 2, 10 * SECOND_MS) : 200;
	random_system.fill(random_system.arg, &random, sizeof(random));
	return b->ms / 2 + (int64_t)(random % (uint64_t)(b->ms / 2 + 1));
}

/* ---- plain calls ---- */

static int answer_read(const struct operation *op, struct http_result *res, struct arena *a,
		       void *ret, struct err *err)
{
	struct slice body = { res->body.buf, res->body.len };

	if (res->status / 100 != 2) {
		api_problem_read(res->status, body, err);
		return -1;
	}
	if (!ret || op->out == &nothing_type)
		return 0;
	if (schema_parse(op->out, body, FROM_SERVER, a, ret, err) < 0) {
		err->code = ERR_UNAVAILABLE;
		return err_wrap(err, "the server's answer to %s", op->name);
	}
	return 0;
}

/* Without a signature: joining and opening sessions. */
static int call_plain(const char *server, const char *ca_file, const struct operation *op,
		      const void *in, struct arena *a, void *ret, struct err *err)
{
	struct http_client *client = http_client_new();
	cleanup_strbuf struct strbuf body = STRBUF_INIT;
	struct http_header_item headers[] = { { "Content-Type", "application/json" } };
	struct http_call call = {
		.method = HTTP_POST,
		.url = arena_printf(a, "%s%s", server, op->path),
		.ca_file = ca_file,
		.headers = headers,
		.header_count = 1,
		.timeout_ms = CALL_TIMEOUT_MS,
	};
	struct http_result res = { .body = STRBUF_INIT };
	int rc;

	schema_write_input(op->in, in, &body);
	call.body = (struct slice){ body.buf, body.len };
	rc = http_call(client, &call, &res, err);
	if (rc == 0)
		rc = answer_read(op, &res, a, ret, err);
	explicit_bzero(body.buf, body.len);
	http_result_release(&res);
	http_client_free(client);
	return rc;
}

int link_join(const char *server, const char *ca_file, const struct worker_join *in,
	      struct arena *a, struct worker_joined *ret, struct err *err)
{
	return call_plain(server, str_empty(ca_file) ? NULL : ca_file,
			  &operations[OP_worker_join], in, a, ret, err);
}

/* ---- the session ---- */

static int session_open(struct link *l, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	uint8_t pk[EXCHANGE_SIZE], sk[EXCHANGE_SIZE], theirs[EXCHANGE_SIZE], key[32],
		signature[SIGNATURE_SIZE];
	char hex[2 * EXCHANGE_SIZE + 1];
	struct session_request in = { .worker_id = l->id->worker_id,
				      .exchange_key = hex,
				      .boot_id = l->id->boot_id,
				      .version = TES_VERSION,
				      .time_ms = link_now(l) };
	struct session out;

	exchange_keypair(pk, sk);
	hex_format(pk, sizeof(pk), hex);
	session_sign_text(in.worker_id, in.time_ms, hex, in.boot_id, &text);
	sign_make(text.buf, text.len, l->id->sk, signature);
	in.signature = base64url_format(&a, signature, sizeof(signature));
	if (call_plain(l->id->server, l->ca_file, &operations[OP_worker_session], &in, &a, &out,
		       err) < 0)
		return err_wrap(err, "opening a session");
	if (!out.id || !out.exchange_key ||
	    hex_parse(out.exchange_key, theirs, sizeof(theirs)) < 0 ||
	    exchange_shared(sk, pk, theirs, true, key) < 0 ||
	    strlen(out.id) >= sizeof(l->session))
		return err_set(err, ERR_UNAVAILABLE,
			       "opening a session: the server's answer is not a session");
	explicit_bzero(sk, sizeof(sk));
	pthread_mutex_lock(&l->lock);
	snprintf(l->session, sizeof(l->session), "%s", out.id);
	memcpy(l->key, key, sizeof(key));
	l->session_number++;
	l->session_valid = true;
	l->nonce = 0;
	l->expires_ms = out.expires_ms;
	l->heartbeat_ms = MAX(out.heartbeat_ms, 100);
	if (out.server_time_ms)
		l->clock_offset_ms = out.server_time_ms - now_ms_get();
	pthread_mutex_unlock(&l->lock);
	explicit_bzero(key, sizeof(key));
	return 0;
}

int link_probe(struct link *l, int64_t *ret_skew_ms, struct err *err)
{
	if (session_open(l, err) < 0)
		return -1;
	*ret_skew_ms = l->clock_offset_ms;
	return 0;
}

/* What a signed call needs of the session, taken at once. */
struct ticket {
	int64_t session_number, time_ms, nonce;
	char session[ID_SIZE * 2];
	uint8_t key[32];
};

static bool ticket_take(struct link *l, struct ticket *ret)
{
	bool valid;

	pthread_mutex_lock(&l->lock);
	ret->time_ms = now_ms_get() + l->clock_offset_ms;
	valid = l->session_valid && ret->time_ms < l->expires_ms - RENEW_BEFORE_MS;
	if (valid) {
		ret->session_number = l->session_number;
		ret->nonce = ++l->nonce;
		memcpy(ret->session, l->session, sizeof(ret->session));
		memcpy(ret->key, l->key, sizeof(ret->key));
	}
	pthread_mutex_unlock(&l->lock);
	return valid;
}

static int ticket_get(struct link *l, struct ticket *ret, struct err *err)
{
	int rc = 0;

	if (ticket_take(l, ret))
		return 0;
	pthread_mutex_lock(&l->opening);
	if (!ticket_take(l, ret)) {
		rc = session_open(l, err);
		if (rc == 0 && !ticket_take(l, ret))
			rc = err_set(err, ERR_UNAVAILABLE,
				     "the server gave a session that has already expired");
	}
	pthread_mutex_unlock(&l->opening);
	return rc;
}

void link_session_end(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->session_valid = false;
	pthread_mutex_unlock(&l->lock);
}

static void session_refused(struct link *l, int64_t number)
{
	pthread_mutex_lock(&l->lock);
	if (l->session_number == number)
		l->session_valid = false;
	pthread_mutex_unlock(&l->lock);
}

/* ---- signed calls ---- */

struct signed_headers {
	struct http_header_item items[6];
	size_t count;
	char time[24], nonce[24], mac[2 * MAC_SIZE + 1];
};

static void header_add(struct signed_headers *h, const char *name, const char *value)
{
	assert(h->count < ARRAY_LEN(h->items));
	h->items[h->count++] = (struct http_header_item){ name, value };
}

static const char *const method_names[] = {
	[GET] = "GET", [POST] = "POST", [PUT] = "PUT", [DELETE] = "DELETE"
};
static const enum http_method http_methods[] = {
	[GET] = HTTP_GET, [POST] = HTTP_POST, [PUT] = HTTP_PUT, [DELETE] = HTTP_DELETE
};

static void sign(const struct ticket *t, const struct operation *op, const char *target,
		 const uint8_t body_sha256[static SHA256_SIZE], struct signed_headers *h)
{
	uint8_t mac[MAC_SIZE];

	request_mac(t->key, t->session, method_names[op->method], target, t->time_ms, t->nonce,
		    body_sha256, mac);
	snprintf(h->time, sizeof(h->time), "%" PRId64, t->time_ms);
	snprintf(h->nonce, sizeof(h->nonce), "%" PRId64, t->nonce);
	hex_format(mac, sizeof(mac), h->mac);
	header_add(h, "TES-Session", t->session);
	header_add(h, "TES-Time", h->time);
	header_add(h, "TES-Nonce", h->nonce);
	header_add(h, "TES-MAC", h->mac);
}

static int call_once(struct link *l, const struct link_call *c, const char *target,
		     struct slice body, const uint8_t body_sha256[static SHA256_SIZE],
		     struct arena *a, void *ret, int64_t *ret_session, struct err *err)
{
	const struct operation *op = &operations[c->op];
	struct signed_headers headers = { .count = 0 };
	struct ticket ticket;
	struct http_result res = { .body = STRBUF_INIT };
	struct http_client *client;
	int rc;

	if (ticket_get(l, &ticket, err) < 0)
		return -1;
	*ret_session = ticket.session_number;
	sign(&ticket, op, target, body_sha256, &headers);
	if (body.ptr)
		header_add(&headers, "Content-Type", "application/json");
	if (c->last_event_id)
		header_add(&headers, "Last-Event-ID", c->last_event_id);
	struct http_call call = {
		.method = http_methods[op->method],
		.url = arena_printf(a, "%s%s", l->id->server, target),
		.ca_file = l->ca_file,
		.headers = headers.items,
		.header_count = headers.count,
		.body = body,
		.body_fd = c->body_fd,
		.body_fd_size = c->body_size,
		.response_max = ANSWER_MAX,
		.timeout_ms =
			c->timeout_ms || c->idle_timeout_ms ? c->timeout_ms : CALL_TIMEOUT_MS,
		.idle_timeout_ms = c->idle_timeout_ms,
		.on_data = c->on_data,
		.on_status = c->on_status,
		.cancel = c->cancel,
		.arg = c->arg,
	};
	client = client_take(l);
	rc = http_call(client, &call, &res, err);
	client_give(l, client);
	if (rc == 0)
		rc = answer_read(op, &res, a, c->on_data ? NULL : ret, err);
	http_result_release(&res);
	explicit_bzero(&ticket, sizeof(ticket));
	return rc;
}

int link_do(struct link *l, const struct link_call *c, struct arena *a, void *ret,
	    struct err *err)
{
	const struct operation *op = &operations[c->op];
	size_t params = (c->params[0] != NULL) + (c->params[1] != NULL);
	const char *target = operation_path(op, c->params, params, a);
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	uint8_t sha256[SHA256_SIZE];
	struct slice body = { 0 };
	struct sha256 hash;
	struct err e = { 0 };
	int rc = -1;

	if (c->in) {
		schema_write_input(op->in, c->in, &text);
		body = (struct slice){ text.buf, text.len };
	}
	sha256_init(&hash);
	sha256_update(&hash, text.buf, text.len);
	sha256_final(&hash, sha256);
	/* A session may have ended with the server's process: once more with a new one.  And a
	 * request that went through a connection that broke may have been sent twice by the
	 * client below: every operation of ours may be repeated. */
	for (int tries = 0; tries < 2; tries++) {
		int64_t session = 0;

		err_clear(&e);
		if (c->body_fd > 0 && lseek(c->body_fd, 0, SEEK_SET) < 0)
			return err_set(err, ERR_INTERNAL,
				       "cannot go back to the beginning of what is to be sent");
		rc = call_once(l, c, target, body, c->body_fd > 0 ? c->body_sha256 : sha256, a,
			       ret, &session, &e);
		if (rc == 0 || !session)
			break;
		if (e.code == ERR_UNAUTHENTICATED)
			session_refused(l, session);
		else if (e.code != ERR_CONFLICT || !strstr(e.text, "TES-Nonce"))
			break;
	}
	if (rc < 0)
		*err = e;
	return rc;
}
