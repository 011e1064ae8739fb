/* The network between the nodes and the server: requests, answers and streams that are lost, doubled, late, or cut off. */
#include "sim.h"

#include "../../src/api/api.h"
#include "../../src/schema/schema.h"

#define TIMEOUT_MS (30 * SECOND_MS) /* of a call, for its caller */
#define TOO_OLD_MS \
	(60 * SECOND_MS) /* a worker's request: its time stamp is refused then (api.h) */
#define NOTICE_MS (50 * SECOND_MS) /* until an idle stream counts as broken (worker/stream.c) */

static int64_t cut_until_ms[NODE_MAX];
static int64_t slow_until_ms[NODE_MAX];
static int64_t sent, arrived[NODE_MAX], answered[NODE_MAX]; /* the latest, by number */
static unsigned opened[NODE_MAX]; /* the latest process whose session was opened */
static VEC(struct stream *) streams; /* open or being opened */
static unsigned stream_ids;

int node_of_customer(int i)
{
	return NODE_FIRST + i;
}

int node_of_machine(int i)
{
	return NODE_FIRST + sim.o.customers + i;
}

bool net_is_cut(int node)
{
	return sim.now_ms < cut_until_ms[node];
}

/* ---- partitions -------------------------------------------------------------------------------------- */

static void streams_cut(int node)
{
	for (size_t i = streams.len; i-- > 0;)
		if (streams.items[i]->node == node)
			stream_break(streams.items[i], rng_in(&sim.net, SECOND_MS, NOTICE_MS));
}

static void cut_one(void)
{
	int nodes = NODE_FIRST + sim.o.customers + sim.o.machines;
	int node = (int)rng_in(&sim.net, NODE_FIRST, nodes - 1);

	if (strikes(FAULT_PARTITION, &sim.net, 300000)) {
		/* Mostly short; some longer than any grace. */
		int64_t ms = rng_chance(&sim.net, 300000)
				     ? rng_in(&sim.net, MINUTE_MS, 12 * MINUTE_MS)
				     : rng_in(&sim.net, SECOND_MS, MINUTE_MS);

		happened(ms < MINUTE_MS ? HAPPENED_CUT_SHORT : HAPPENED_CUT_LONG);
		cut_until_ms[node] = sim.now_ms + ms;
		note("node %d is cut off for %" PRId64 " ms", node, ms);
		streams_cut(node);
	}
}

static void partition_again(void *arg)
{
	for (int i = 0; i < sim_scale(); i++)
		cut_one();
	for (size_t i = streams.len; i-- > 0;)
		if (strikes(FAULT_STREAM, &sim.net, 60000))
			stream_break(streams.items[i], rng_in(&sim.net, 0, 5 * SECOND_MS));
	at(sim.now_ms + rng_in(&sim.net, 20 * SECOND_MS, 40 * SECOND_MS), partition_again, arg);
}

void net_start(void)
{
	memset(cut_until_ms, 0, sizeof(cut_until_ms));
	memset(slow_until_ms, 0, sizeof(slow_until_ms));
	memset(opened, 0, sizeof(opened));
	at(sim.now_ms + MINUTE_MS, partition_again, NULL);
}

void net_heal(void)
{
	memset(cut_until_ms, 0, sizeof(cut_until_ms));
	memset(slow_until_ms, 0, sizeof(slow_until_ms));
}

void net_slow(int node, int64_t ms)
{
	happened(HAPPENED_SLOW);
	slow_until_ms[node] = MAX(slow_until_ms[node], sim.now_ms + ms);
	note("node %d has a slow network for %" PRId64 " ms", node, ms);
}

/* Each message on its own, as on a connection of its own. */
static int64_t latency(int node)
{
	int64_t ms = rng_in(&sim.net, 1, 40);

	if (sim.now_ms < slow_until_ms[node])
		ms += rng_in(&sim.net, 0, 5 * SECOND_MS);
	if (strikes(FAULT_DELAY, &sim.net, 15000))
		ms += rng_chance(&sim.net, 300000)
			      ? rng_in(&sim.net, 5 * SECOND_MS, 70 * SECOND_MS)
			      : rng_in(&sim.net, 100, 5 * SECOND_MS);
	return ms;
}

/* ---- calls --------------------------------------------------------------------------------------------- */

struct rpc *rpc_new(int op, int node, const char *caller, bool is_worker)
{
	struct rpc *r = xcalloc(1, sizeof(*r));

	r->op = op;
	r->node = node;
	r->is_worker = is_worker;
	r->refs = 1;
	snprintf(r->caller, sizeof(r->caller), "%s", caller ? caller : "");
	return r;
}

static void rpc_unref(struct rpc *r)
{
	if (--r->refs)
		return;
	free(r->params[0]);
	free(r->params[1]);
	free(r->body);
	free(r->key);
	free(r->last_event_id);
	free(r->upload);
	free(r);
}

void rpc_body(struct rpc *r, const struct type *t, const void *value)
{
	struct strbuf text = STRBUF_INIT;

	schema_write_input(t, value, &text);
	free(r->body);
	r->body = strbuf_take(&text);
}

static bool caller_lives(const struct rpc *r)
{
	return !r->epoch_now || *r->epoch_now == r->epoch;
}

static void settle(struct rpc *r, const struct err *err, struct slice answer)
{
	if (r->settled)
		return;
	r->settled = true;
	if (caller_lives(r))
		r->done(r, err, answer);
}

static void order_look(int64_t *latest, const struct rpc *r, enum happening h)
{
	if (r->number < latest[r->node])
		happened(h);
	latest[r->node] = MAX(latest[r->node], r->number);
}

struct reply {
	struct rpc *r;
	struct err err; /* code 0: fine */
	struct strbuf text;
};

static void reply_arrives(void *arg)
{
	struct reply *y = arg;

	order_look(answered, y->r, HAPPENED_ANSWER_ORDER);
	if (y->r->settled && sim.now_ms - y->r->sent_ms >= TIMEOUT_MS)
		happened(HAPPENED_ANSWER_LATE);
	if (!net_is_cut(y->r->node))
		settle(y->r, y->err.code ? &y->err : NULL,
		       (struct slice){ y->text.buf, y->text.len });
	rpc_unref(y->r);
	strbuf_release(&y->text);
	free(y);
}

static void reply_send(struct rpc *r, const struct err *err, struct strbuf *text)
{
	struct reply *y;

	if (net_is_cut(r->node) || strikes(FAULT_LOSS, &sim.net, 10000))
		return;
	y = xcalloc(1, sizeof(*y));
	y->r = r;
	r->refs++;
	y->err = *err;
	strbuf_init(&y->text);
	strbuf_add(&y->text, text->buf, text->len);
	at(sim.now_ms + latency(r->node), reply_arrives, y);
}

static void session_look(const struct rpc *r)
{
	if (r->op != OP_worker_session)
		return;
	if (r->epoch < opened[r->node])
		happened(HAPPENED_SESSION_ORDER);
	opened[r->node] = MAX(opened[r->node], r->epoch);
}

/* One copy of a request comes to the server. */
static void request_arrives(void *arg)
{
	struct rpc *r = arg;
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err err = { 0 };

	order_look(arrived, r, HAPPENED_REQUEST_ORDER);
	if (r->is_worker && sim.now_ms - r->sent_ms > TOO_OLD_MS)
		happened(HAPPENED_REQUEST_OLD);
	if (net_is_cut(r->node) || (r->is_worker && sim.now_ms - r->sent_ms > TOO_OLD_MS)) {
		rpc_unref(r);
		return;
	}
	if (!server_is_up())
		err_set(&err, ERR_UNAVAILABLE, "connection refused");
	else if (r->is_worker && !server_has_session(r->session))
		err_set(&err, ERR_UNAUTHENTICATED, "no such session");
	else if (server_call(r, &text, &err) == 0)
		session_look(r);
	reply_send(r, &err, &text);
	rpc_unref(r);
}

static void rpc_expires(void *arg)
{
	struct rpc *r = arg;
	struct err err = { 0 };

	err_set(&err, ERR_TIMEOUT, "no answer");
	settle(r, &err, (struct slice){ "", 0 });
	rpc_unref(r);
}

static void request_send(struct rpc *r)
{
	if (net_is_cut(r->node) || strikes(FAULT_LOSS, &sim.net, 10000))
		return;
	r->refs++;
	at(sim.now_ms + latency(r->node), request_arrives, r);
}

void net_call(struct rpc *r)
{
	r->sent_ms = sim.now_ms;
	r->number = ++sent;
	if (r->quiet) {
		cleanup_strbuf struct strbuf text = STRBUF_INIT;
		struct err err = { 0 };
		int rc = server_call(r, &text, &err);

		settle(r, rc < 0 ? &err : NULL, (struct slice){ text.buf, text.len });
		rpc_unref(r);
		return;
	}
	request_send(r);
	if (strikes(FAULT_DUP, &sim.net, 20000))
		request_send(r);
	at(sim.now_ms + TIMEOUT_MS, rpc_expires, r);
}

void rpc_refuse(struct rpc *r, const struct err *err)
{
	settle(r, err, (struct slice){ "", 0 });
	rpc_unref(r);
}

void server_serve_between(void)
{
	void *arg;

	if (timer_steal(request_arrives, sim.now_ms + 500, &arg)) {
		note("a request is served between two transactions");
		request_arrives(arg);
	}
}

/* ---- streams --------------------------------------------------------------------------------------------- */

struct frame {
	struct stream *s;
	char event[24], mark[48];
	struct strbuf data;
};

void stream_unref(struct stream *s)
{
	if (--s->refs == 0)
		free(s);
}

static void stream_forget(struct stream *s)
{
	struct stream *last = streams.items[streams.len - 1];

	assert(streams.items[s->place] == s);
	streams.items[s->place] = last;
	last->place = s->place;
	streams.len--;
}

static void stream_told(void *arg)
{
	struct stream *s = arg;

	if (!s->told)
		s->closed(s->arg, s->id);
	s->told = true;
	stream_unref(s);
}

void stream_break(struct stream *s, int64_t noticed_ms)
{
	if (s->gone)
		return;
	s->gone = true;
	server_stream_drop(s);
	stream_forget(s);
	at(sim.now_ms + noticed_ms, stream_told, s); /* takes the table's reference */
}

static void frame_arrives(void *arg)
{
	struct frame *f = arg;

	if (!f->s->gone)
		f->s->event(f->s->arg, f->s->id, f->event, f->mark,
			    (struct slice){ f->data.buf, f->data.len });
	stream_unref(f->s);
	strbuf_release(&f->data);
	free(f);
}

void stream_push(struct stream *s, const char *event, const char *mark, struct slice data)
{
	struct frame *f;

	if (s->gone)
		return;
	f = xcalloc(1, sizeof(*f));
	f->s = s;
	s->refs++;
	snprintf(f->event, sizeof(f->event), "%s", event);
	snprintf(f->mark, sizeof(f->mark), "%s", mark);
	strbuf_init(&f->data);
	strbuf_add(&f->data, data.ptr, data.len);
	s->last_ms = MAX(sim.now_ms + latency(s->node), s->last_ms); /* in order */
	at(s->last_ms, frame_arrives, f);
}

struct opening {
	struct rpc *r;
	struct stream *s;
};

static void stream_arrives(void *arg)
{
	struct opening *o = arg;
	struct rpc *r = o->r;
	struct err err = { 0 };

	if (o->s->gone)
		; /* broken before it was open */
	else if (net_is_cut(r->node))
		err_set(&err, ERR_TIMEOUT, "no answer");
	else if (!server_is_up())
		err_set(&err, ERR_UNAVAILABLE, "connection refused");
	else if (r->is_worker && !server_has_session(r->session))
		err_set(&err, ERR_UNAUTHENTICATED, "no such session");
	else
		(void)server_stream(r, o->s, &err);
	if (err.code) {
		o->s->gone = o->s->told = true;
		stream_forget(o->s);
		settle(r, &err, (struct slice){ "", 0 });
		stream_unref(o->s);
	}
	stream_unref(o->s);
	rpc_unref(r);
	free(o);
}

struct stream *net_stream(struct rpc *r,
			  void (*event)(void *, unsigned, const char *, const char *,
					struct slice),
			  void (*closed)(void *, unsigned), void *arg)
{
	struct stream *s = xcalloc(1, sizeof(*s));
	struct opening *o = xcalloc(1, sizeof(*o));

	s->place = streams.len;
	*vec_push(&streams) = s;
	s->refs = 2; /* the table's, and the opening's */
	s->node = r->node;
	s->id = ++stream_ids;
	s->event = event;
	s->closed = closed;
	s->arg = arg;
	r->sent_ms = sim.now_ms;
	*o = (struct opening){ r, s };
	at(sim.now_ms + (net_is_cut(r->node) ? TIMEOUT_MS : latency(r->node)), stream_arrives, o);
	return s;
}
