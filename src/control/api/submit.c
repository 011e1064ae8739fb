/* Creating workloads.  Submissions that come while another is being committed wait for it and are then committed together:
 * a few exchanges with the store and one flush to its disk for all of them, and no two transactions that fight over the
 * customer's account.  Each still stands for itself: what is wrong with one does not touch the others. */
#include "../internal.h"

#define GROUP_MAX 64

struct submission {
	struct call *call;
	const struct workload_spec *spec; /* with its secrets, and with resources */
	char request_hash[SHA256_HEX_SIZE];
	struct replica replica;
	int64_t amount;
	bool replayed;
	bool done, failed; /* failed: err is the answer */
	bool cannot_pay;   /* left out when the transaction is run again */
	struct err err;
	struct submission *next;
};

struct submissions {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	struct submission *first, **last;
	bool busy; /* some thread commits a group */
};

struct submissions *submissions_new(void)
{
	struct submissions *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->moved, NULL);
	s->last = &s->first;
	return s;
}

void submissions_free(struct submissions *s)
{
	if (!s)
		return;
	pthread_cond_destroy(&s->moved);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- what is asked for ---------------------------------------------------------------------------------- */

static int quote_take(struct control *c, struct db_conn *conn, struct call *call, const struct workload_spec *spec,
		      struct workload *w, struct err *err)
{
	struct quote q;
	const struct resources *want = spec->resources, *have;

	if (db_get(conn, &quote_type, "quotes", "WHERE id = $1 AND org_id = $2",
		   DB_ARGS(DB_TEXT(spec->quote), DB_TEXT(call->caller.org_id)), call->arena, &q, err) < 0) {
		if (err->code != ERR_NOT_FOUND)
			return -1;
		err_clear(err);
		return err_set_field(err, "quote", "%s is not a quote of this organisation: ask for one with `tes quote`",
				     spec->quote);
	}
	if (q.expires_ms <= control_now(c)) {
		err_set(err, ERR_GONE, "quote %s has expired: ask for a new one", q.id);
		snprintf(err->field, sizeof(err->field), "quote");
		return -1;
	}
	if (q.used_by)
		return err_set(err, ERR_CONFLICT, "quote %s was used for %s: a quote is for one workload", q.id, q.used_by);
	have = q.resources;
	if (want->gpus != have->gpus || want->cpu_milli != have->cpu_milli || want->memory_mib != have->memory_mib ||
	    want->disk_mib != have->disk_mib || want->vram_mib > have->vram_mib || !str_eq(want->gpu_model, have->gpu_model))
		return err_set_field(err, "resources", "differ from those of quote %s: leave them out, or ask for a new quote",
				     q.id);
	w->quote_id = q.id;
	w->worker_wanted = q.worker_id;
	w->max_price_uusd_h = MAX(q.rate_uusd_h, INT64_C(1)); /* 0 would mean "any price" */
	return 0;
}

/* The cap is frozen now: what the customer said, or the best price there is; nothing is ever charged above it. */
static int price_cap(struct control *c, struct db_conn *conn, struct call *call, const struct workload_spec *spec,
		     struct workload *w, struct err *err)
{
	struct request r;
	struct placement best;
	bool found;

	if (spec->quote)
		return quote_take(c, conn, call, spec, w, err);
	w->max_price_uusd_h = spec->max_price_uusd_h;
	if (w->max_price_uusd_h)
		return 0;
	if (request_of(c, conn, w, NULL, control_now(c), call->arena, &r, err) < 0)
		return -1;
	if (scheduler_best(c, conn, &r, &best, &found, err) < 0)
		return -1;
	if (found) {
		w->max_price_uusd_h = MAX(best.rate_uusd_h, 1); /* 0 would mean "any price" */
		return 0;
	}
	struct explanation why;

	if (scheduler_explain(c, conn, &r, call->arena, &why, err) < 0)
		return -1;
	return err_set_field(err, "max_price_uusd_h",
			     "is not given and nothing matches now (%s): give one (tes run --max-price, or max_price in a job file) to wait for an offer", why.summary);
}

static int inputs_check(struct db_conn *conn, const struct call *call, const struct workload_spec *spec, struct err *err)
{
	for (size_t i = 0; i < spec->inputs.len; i++) {
		int64_t there;
		char field[40];

		if (db_query_int(conn, "SELECT COUNT(*) FROM inputs WHERE id = $1 AND org_id = $2",
				 DB_ARGS(DB_TEXT(spec->inputs.items[i].id), DB_TEXT(call->caller.org_id)), 0, &there, err) < 0)
			return -1;
		snprintf(field, sizeof(field), "inputs[%zu].id", i);
		if (!there)
			return err_set_field(err, field, "%s is not an input of this organisation: upload it first",
					     spec->inputs.items[i].id);
	}
	return 0;
}

/* A copy that may be shown and stored: without the values of secrets. */
static const struct workload_spec *spec_without_secrets(const struct workload_spec *spec, struct arena *a)
{
	struct workload_spec *copy = arena_new(a, struct workload_spec);

	*copy = *spec;
	copy->secrets.len = 0;
	if (spec->registry) {
		struct registry_login *login = arena_new(a, struct registry_login);

		login->username = spec->registry->username;
		copy->registry = login;
	}
	return copy;
}

static const struct workload_spec *spec_with_resources(const struct workload_spec *spec, struct arena *a)
{
	struct workload_spec *filled;
	struct resources *r;

	if (spec->resources)
		return spec;
	filled = arena_new(a, struct workload_spec);
	r = arena_new(a, struct resources);
	*filled = *spec;
	schema_defaults(&resources_type, r);
	filled->resources = r;
	return filled;
}

/* Reads only.  -1 with what is wrong with it, or with what is wrong with the store. */
static int prepare(struct control *c, struct db_conn *conn, struct submission *s, struct err *err)
{
	struct call *call = s->call;
	struct workload *w = call->out;
	int64_t now = control_now(c);

	if (call->idempotency_key) {
		call_hash(call, s->request_hash);
		if (call_replay_find(conn, call, s->request_hash, &s->replayed, err) < 0)
			return -1;
		if (s->replayed)
			return 0;
	}
	s->spec = spec_with_resources(call->in, call->arena);
	*w = (struct workload){
		.id = new_id(c, "wl", call->arena), .org_id = call->caller.org_id,
		.spec = spec_without_secrets(s->spec, call->arena), .exit_code = -1, .created_ms = now, .updated_ms = now,
		.reason = "submitted", .reason_text = "waiting for a worker",
	};
	w->name = s->spec->name ? s->spec->name : w->id + ID_LEN - 8;
	if (active_take(c, conn, w->org_id, err) < 0 || inputs_check(conn, call, s->spec, err) < 0 ||
	    price_cap(c, conn, call, s->spec, w, err) < 0)
		return -1;
	s->amount = hold_amount(w->max_price_uusd_h, hold_duration_ms(c, w->spec));
	s->replica = (struct replica){
		.id = new_id(c, "rp", call->arena), .org_id = w->org_id, .workload_id = w->id, .state = REPLICA_PENDING,
		.retries_left = w->spec->retries, .created_ms = now, .updated_ms = now,
	};
	return 0;
}

/* ---- writing a group --------------------------------------------------------------------------------------- */

struct group {
	struct control *c;
	struct submission **items;
	size_t len;
};

static bool is_of_store(const struct err *err)
{
	return err->code == ERR_RETRY || err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT || err->code == ERR_INTERNAL;
}

/* Sets each one's money aside.  Nothing may be written for those who cannot pay: then once more, without them. */
static int group_hold(struct group *g, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct hold_request *holds = arena_array(a, struct hold_request, g->len);
	struct submission **of = arena_array(a, struct submission *, g->len);
	bool again = false;
	size_t len = 0;

	for (size_t i = 0; i < g->len; i++) {
		struct submission *s = g->items[i];

		if (s->failed || s->replayed || s->amount == 0)
			continue;
		of[len] = s;
		holds[len++] = (struct hold_request){ .org_id = s->replica.org_id, .subject = s->replica.id, .number = 1,
						      .amount = s->amount };
	}
	if (ledger_hold_many(conn, holds, len, NULL, control_now(g->c), err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		struct submission *s = of[i];
		char missing[32];

		s->replica.hold_id = holds[i].ret_hold;
		s->cannot_pay = holds[i].ret_missing > 0;
		if (!s->cannot_pay)
			continue;
		again = true;
		money_format(holds[i].ret_missing, missing);
		err_set(&s->err, ERR_FUNDS, "holding the first %" PRId64 " s of it: $%s more is needed: deposit at least that",
			hold_duration_ms(g->c, s->spec) / SECOND_MS, missing);
	}
	return again ? err_set(err, ERR_RETRY, "some cannot pay") : 0;
}

/* What only some of them have. */
static int extras_write(struct group *g, struct db_conn *conn, struct submission *s, struct err *err)
{
	struct workload *w = s->call->out;
	int64_t changed = 1;

	if (w->quote_id && db_exec(conn, "UPDATE quotes SET used_by = $2 WHERE id = $1 AND used_by IS NULL",
				   DB_ARGS(DB_TEXT(w->quote_id), DB_TEXT(w->id)), &changed, err) < 0)
		return -1;
	if (changed == 0)
		return err_set(err, ERR_RETRY, "quote %s was used meanwhile", w->quote_id);
	if (workload_spec_seal(g->c, conn, w->id, s->spec, s->call->arena, err) < 0)
		return -1;
	return s->call->idempotency_key ? call_replay_keep(g->c, conn, s->call, s->request_hash, err) : 0;
}

static int group_write(struct group *g, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct workload *workloads = arena_array(a, struct workload, g->len);
	struct replica *replicas = arena_array(a, struct replica, g->len);
	struct event_item *events = arena_array(a, struct event_item, g->len);
	size_t len = 0;

	for (size_t i = 0; i < g->len; i++) {
		struct submission *s = g->items[i];
		const struct workload *w = s->call->out;

		if (s->failed || s->replayed)
			continue;
		workloads[len] = *w;
		replicas[len] = s->replica;
		events[len++] = (struct event_item){ w->org_id, caller_actor(&s->call->caller), w->id, "workload.pending",
						     w->reason, w->reason_text };
	}
	if (len == 0)
		return 0;
	if (db_insert_many(conn, &workload_type, "workloads", workloads, len, err) < 0 ||
	    db_insert_many(conn, &replica_type, "replicas", replicas, len, err) < 0)
		return -1;
	for (size_t i = 0; i < g->len; i++)
		if (!g->items[i]->failed && !g->items[i]->replayed && extras_write(g, conn, g->items[i], err) < 0)
			return -1;
	wake(g->c, conn, "duty", "scheduler");
	return events_append(g->c, conn, events, len, err);
}

static int group_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct group *g = arg;
	cleanup_arena struct arena arena = { 0 };

	for (size_t i = 0; i < g->len; i++) {
		struct submission *s = g->items[i];

		s->failed = s->cannot_pay;
		if (s->failed)
			continue;
		s->replayed = s->call->replayed = false;
		err_clear(&s->err);
		if (prepare(g->c, conn, s, &s->err) == 0)
			continue;
		if (is_of_store(&s->err))
			return *err = s->err, -1;
		s->failed = true;
	}
	return group_hold(g, conn, &arena, err) < 0 ? -1 : group_write(g, conn, &arena, err);
}

static void group_commit(struct control *c, struct db_conn *conn, struct submission **items, size_t len)
{
	struct group g = { c, items, len };
	struct err err = { 0 };

	if (db_tx(conn, group_tx, &g, &err) == 0)
		return;
	for (size_t i = 0; i < len; i++) {
		items[i]->failed = true;
		items[i]->err = err;
	}
}

/* ---- who commits ------------------------------------------------------------------------------------------------- */

/* Of two such, the second must see what became of the first. */
static bool clashes(const struct submission *a, const struct submission *b)
{
	const struct workload_spec *x = a->call->in, *y = b->call->in;

	if (!str_eq(a->call->caller.org_id, b->call->caller.org_id))
		return false;
	return (a->call->idempotency_key && b->call->idempotency_key &&
		str_eq(a->call->idempotency_key, b->call->idempotency_key)) ||
	       (x->quote && y->quote && str_eq(x->quote, y->quote));
}

/* Lock held: takes those that wait, from the front, up to the first that clashes with one before it. */
static size_t group_take(struct submissions *q, struct submission **items)
{
	size_t len = 0;

	for (struct submission *s; (s = q->first) && len < GROUP_MAX; len++) {
		for (size_t i = 0; i < len; i++)
			if (clashes(items[i], s))
				return len;
		items[len] = s;
		q->first = s->next;
		if (!q->first)
			q->last = &q->first;
	}
	return len;
}

/* Until `mine` is done: commits a group whenever nobody else does. */
static void take_part(struct control *c, struct db_conn *conn, struct submission *mine)
{
	struct submissions *q = c->submissions;
	struct submission *items[GROUP_MAX];
	size_t len;

	pthread_mutex_lock(&q->lock);
	*q->last = mine;
	q->last = &mine->next;
	while (!mine->done) {
		if (q->busy) {
			pthread_cond_wait(&q->moved, &q->lock);
			continue;
		}
		q->busy = true;
		len = group_take(q, items);
		pthread_mutex_unlock(&q->lock);
		group_commit(c, conn, items, len);
		pthread_mutex_lock(&q->lock);
		for (size_t i = 0; i < len; i++)
			items[i]->done = true;
		q->busy = false;
		pthread_cond_broadcast(&q->moved);
	}
	pthread_mutex_unlock(&q->lock);
}

int op_workload_create(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct submission mine = { .call = call };

	take_part(c, conn, &mine);
	if (mine.failed)
		return *err = mine.err, -1;
	return 0;
}
