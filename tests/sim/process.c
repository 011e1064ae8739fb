/* The worker process: its session, its heartbeats, its stream of desired leases.  As src/worker does it, message by
 * message, without its threads. */
#include "machine.h"

#define GATHER_MS	 20
#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS	 (10 * SECOND_MS)

static int64_t backoff(int64_t *ms)
{
	*ms = *ms ? MIN(*ms * 2, BACKOFF_MAX_MS) : BACKOFF_FIRST_MS;
	return *ms / 2 + rng_in(&sim.life, 0, *ms / 2);
}

/* A timer that only this process sees. */
struct later {
	struct machine *m;
	unsigned epoch, serial;
	void (*fn)(struct machine *m);
};

static void later_run(void *arg)
{
	struct later *x = arg;

	if (x->m->up && x->m->epoch == x->epoch)
		x->fn(x->m);
	free(x);
}

static void later(struct machine *m, int64_t ms, void (*fn)(struct machine *m))
{
	struct later *x = xcalloc(1, sizeof(*x));

	*x = (struct later){ .m = m, .epoch = m->epoch, .fn = fn };
	at(sim.now_ms + ms, later_run, x);
}

/* ---- session ------------------------------------------------------------------------------------------------ */

struct rpc *process_rpc(struct machine *m, int op,
			void (*done)(struct rpc *, const struct err *, struct slice), void *arg)
{
	struct rpc *r = rpc_new(op, m->node, m->id, true);

	r->done = done;
	r->arg = arg;
	r->epoch_now = &m->epoch;
	r->epoch = m->epoch;
	snprintf(r->session, sizeof(r->session), "%s", m->session);
	return r;
}

static void session_opened(struct rpc *r, const struct err *err, struct slice answer)
{
	struct machine *m = r->arg;
	cleanup_arena struct arena a = { 0 };
	struct session s;
	struct err why = { 0 };

	m->session_busy = false;
	if (err)
		return;
	if (schema_parse(&session_type, answer, FROM_SERVER, &a, &s, &why) < 0) {
		broken("wire", "a session cannot be read: %s", why.text);
		return;
	}
	snprintf(m->session, sizeof(m->session), "%s", s.id);
	m->offset_ms = s.server_time_ms - machine_clock(m);
	m->heartbeat_ms = s.heartbeat_ms;
	m->inventory_due = true;
	process_observe_soon(m);
}

static void session_open(struct machine *m)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	uint8_t pk[EXCHANGE_SIZE], sk[EXCHANGE_SIZE], sig[SIGNATURE_SIZE];
	char hex[2 * EXCHANGE_SIZE + 1];
	struct session_request in = { .worker_id = m->id,
				      .boot_id = m->boot_id,
				      .version = "sim",
				      .time_ms = machine_clock(m) + m->offset_ms };
	struct rpc *r;

	if (m->session_busy)
		return;
	m->session_busy = true;
	exchange_keypair(pk, sk);
	hex_format(pk, sizeof(pk), hex);
	in.exchange_key = hex;
	session_sign_text(m->id, in.time_ms, hex, in.boot_id, &text);
	sign_make(text.buf, text.len, m->sk, sig);
	in.signature = base64url_format(&a, sig, sizeof(sig));
	r = rpc_new(OP_worker_session, m->node, "", false);
	r->done = session_opened;
	r->arg = m;
	r->epoch_now = &m->epoch;
	r->epoch = m->epoch;
	rpc_body(r, &session_request_type, &in);
	net_call(r);
}

void process_session_refused(struct machine *m, const struct rpc *r)
{
	if (str_eq(m->session, r->session))
		m->session[0] = '\0';
}

static void session_lost(struct machine *m, const struct rpc *r)
{
	process_session_refused(m, r);
	if (!m->session[0])
		session_open(m);
}

void process_call(struct machine *m, struct rpc *r)
{
	if (!m->session[0]) {
		struct err err = { 0 };

		session_open(m);
		err_set(&err, ERR_UNAVAILABLE, "no session yet");
		rpc_refuse(r, &err);
		return;
	}
	net_call(r);
}

/* ---- heartbeats ------------------------------------------------------------------------------------------------ */

struct sent {
	struct machine *m;
	int64_t at_ms, desired_rev;
	bool inventory;
	VEC(char *) finals;
};

static void sent_free(struct sent *s)
{
	for (size_t i = 0; i < s->finals.len; i++)
		free(s->finals.items[i]);
	vec_release(&s->finals);
	free(s);
}

void inventory_fill(struct machine *m, struct inventory *ret)
{
	*ret = (struct inventory){
		.hostname = m->name,
		.os = "Debian 12",
		.arch = "x86_64",
		.engine = "docker",
		.cpu_threads = m->cpu_milli / 1000,
		.memory_mib = m->memory_mib,
		.disk_mib = 1 << 20,
		.devices = { m->devices, m->devices_shown },
		.offered_cpu_milli = m->cpu_milli,
		.offered_memory_mib = m->memory_mib,
		.offered_disk_mib = 1 << 20,
		.price_gpu_uusd_h = m->price_gpu_uusd_h,
		.price_cpu_uusd_h = m->price_cpu_uusd_h,
		.price_gib_uusd_h = 1000,
		.region = "sim",
		.available = true,
	};
}

static void observe_now(struct machine *m);
static void observe_after(struct machine *m, int64_t ms);

static void behind_check(struct machine *m, const struct observed *out, const struct sent *s)
{
	if (!m->synced ||
	    (out->desired_rev >= s->desired_rev && out->desired_rev <= m->desired_rev)) {
		m->behind_ms = 0;
		return;
	}
	if (!m->behind_ms) {
		m->behind_ms = sim.now_ms;
		return;
	}
	if (out->desired_rev >= s->desired_rev && sim.now_ms - m->behind_ms <= 5 * SECOND_MS)
		return;
	m->behind_ms = 0;
	m->stream_mark[0] = '\0'; /* the whole set again */
	if (m->stream)
		stream_break(m->stream, 0);
}

static void observe_answered(struct machine *m, const struct observed *out,
			     const struct sent *s)
{
	/* Since it was asked: the answer may have been long on its way. */
	m->heard_ms = m->heard_saved_ms = MAX(m->heard_ms, s->at_ms);
	m->offset_ms = out->server_time_ms - machine_clock(m);
	m->heartbeat_ms = out->heartbeat_ms;
	m->observe_backoff_ms = 0;
	for (size_t i = 0; i < s->finals.len; i++) {
		struct task *t = task_find(m, s->finals.items[i]);

		if (t)
			t->final_told = true;
	}
	for (size_t i = 0; i < out->problems.len; i++)
		note("%s is told: %s", m->name, out->problems.items[i]);
	behind_check(m, out, s);
}

static void observe_done(struct rpc *r, const struct err *err, struct slice answer)
{
	struct sent *s = r->arg;
	struct machine *m = s->m;
	cleanup_arena struct arena a = { 0 };
	struct observed out;
	struct err why = { 0 };

	m->observing = false;
	if (!err && schema_parse(&observed_type, answer, FROM_SERVER, &a, &out, &why) < 0)
		broken("wire", "an answer cannot be read: %s", why.text);
	if (err || why.code) {
		m->dirty = true;
		m->inventory_due |= s->inventory;
		int64_t wait_ms = backoff(&m->observe_backoff_ms);

		if (err && err->code == ERR_UNAUTHENTICATED)
			session_lost(m, r);
		if (err && err->code == ERR_CONFLICT) {
			/* An older process's request for a session came late. */
			wait_ms += 30 * SECOND_MS;
			if (!is_broken(BREAK_OLD_SESSION))
				session_lost(m, r);
		}
		observe_after(m, wait_ms);
	} else {
		observe_answered(m, &out, s);
		observe_after(m, m->dirty ? GATHER_MS : m->heartbeat_ms);
	}
	sent_free(s);
}

static void observe_now(struct machine *m)
{
	cleanup_arena struct arena a = { 0 };
	struct sent *s = xcalloc(1, sizeof(*s));
	struct observation in = { .at_ms = machine_clock(m) + m->offset_ms,
				  .boot_id = m->boot_id,
				  .intent = m->intent };
	struct inventory inv;
	size_t it = 0, n = map_count(m->tasks);
	const char *id;
	void *value;

	m->dirty = false;
	m->observing = true;
	*s = (struct sent){ .m = m, .at_ms = sim.now_ms, .inventory = m->inventory_due };
	in.leases.items = arena_array(&a, struct lease_observation, n + 1);
	in.receipts.items = arena_array(&a, struct signed_usage, n + 1);
	while (map_next(m->tasks, &it, &id, &value)) {
		bool final = false;

		if (!task_observe(value, &a, &in.leases.items[in.leases.len]))
			continue;
		in.leases.len++;
		if (task_receipt(value, &a, &in.receipts.items[in.receipts.len], &final))
			in.receipts.len++;
		if (final)
			*vec_push(&s->finals) = xstrdup(id);
	}
	in.desired_rev = s->desired_rev = m->synced ? m->desired_rev : 0;
	if (s->inventory) {
		inventory_fill(m, &inv);
		in.inventory = &inv;
		m->inventory_due = false;
	}
	struct rpc *r = process_rpc(m, OP_worker_observe, observe_done, s);

	rpc_body(r, &observation_type, &in);
	process_call(m, r);
}

static void observe_due(void *arg)
{
	struct later *x = arg;
	struct machine *m = x->m;

	if (m->up && m->epoch == x->epoch && m->observe_serial == x->serial && !m->observing)
		observe_now(m);
	free(x);
}

static void observe_after(struct machine *m, int64_t ms)
{
	struct later *x = xcalloc(1, sizeof(*x));

	*x = (struct later){ .m = m, .epoch = m->epoch, .serial = ++m->observe_serial };
	at(sim.now_ms + ms, observe_due, x);
}

void process_observe_soon(struct machine *m)
{
	if (m->dirty)
		return;
	m->dirty = true;
	if (!m->observing && !m->observe_backoff_ms)
		observe_after(m, GATHER_MS);
}

void process_inventory_changed(struct machine *m)
{
	m->inventory_due = true;
	if (m->up)
		process_observe_soon(m);
}

/* ---- the stream --------------------------------------------------------------------------------------------------- */

static void stream_open(struct machine *m);

static void stream_event(void *arg, unsigned id, const char *event, const char *mark,
			 struct slice data)
{
	struct machine *m = arg;
	cleanup_arena struct arena a = { 0 };
	struct err err = { 0 };

	if (!m->up || !m->stream || m->stream->id != id)
		return;
	m->stream_backoff_ms = 0;
	if (str_eq(event, "sync")) {
		struct desired_set set;

		if (schema_parse(&desired_set_type, data, FROM_SERVER, &a, &set, &err) == 0)
			tasks_desire(m, &set);
	} else if (str_eq(event, "lease")) {
		struct desired_lease one;

		if (schema_parse(&desired_lease_type, data, FROM_SERVER, &a, &one, &err) == 0)
			tasks_desire_one(m, &one);
	}
	if (err.code)
		broken("wire", "%s cannot be read: %s %s", event, err.field, err.text);
	snprintf(m->stream_mark, sizeof(m->stream_mark), "%s", mark);
	process_observe_soon(m);
}

static void stream_closed(void *arg, unsigned id)
{
	struct machine *m = arg;

	if (!m->up || !m->stream || m->stream->id != id)
		return;
	m->stream = NULL;
	later(m, backoff(&m->stream_backoff_ms), stream_open);
}

static void stream_refused(struct rpc *r, const struct err *err, struct slice answer)
{
	struct machine *m = r->arg;

	(void)answer;
	m->stream = NULL;
	if (err->code == ERR_UNAUTHENTICATED)
		session_lost(m, r);
	later(m, backoff(&m->stream_backoff_ms), stream_open);
}

static void stream_open(struct machine *m)
{
	struct rpc *r;

	if (m->stream)
		return;
	if (!m->session[0]) {
		session_open(m);
		later(m, backoff(&m->stream_backoff_ms), stream_open);
		return;
	}
	r = process_rpc(m, OP_worker_desired, stream_refused, m);
	if (m->stream_mark[0])
		r->last_event_id = xstrdup(m->stream_mark);
	m->stream = net_stream(r, stream_event, stream_closed, m);
}

/* ---- start and end ---------------------------------------------------------------------------------------------------- */

void process_start(struct machine *m)
{
	struct random rnd = sim_random();
	size_t it = 0;
	const char *lease;
	void *value;

	m->up = true;
	m->up_ms = sim.now_ms;
	m->epoch++;
	id_make("bo", sim.now_ms, &rnd, m->boot_id);
	m->session[0] = '\0';
	m->session_busy = m->synced = m->dirty = m->observing = false;
	m->inventory_due = true;
	m->offset_ms = 0;
	m->desired_rev = m->observe_backoff_ms = m->stream_backoff_ms = m->behind_ms = 0;
	m->stream = NULL;
	m->stream_mark[0] = '\0';
	m->heard_ms = m->heard_saved_ms ? m->heard_saved_ms : sim.now_ms;
	m->tasks = map_new();
	note("%s: worker starts", m->name);
	while (map_next(m->disk, &it, &lease, &value))
		task_recover(m, lease, value);
	session_open(m);
	observe_after(m, GATHER_MS);
	later(m, 10, stream_open);
}

void process_end(struct machine *m)
{
	if (m->stream) {
		struct stream *s = m->stream;

		m->stream = NULL;
		stream_break(s, 0);
	}
	m->up = false;
	m->epoch++;
	map_free(m->tasks, task_free);
	m->tasks = NULL;
}
