/* Creating workloads.  Submissions that come while another is being committed wait for it and are then committed together:
 * a few exchanges with the store and one flush to its disk for all of them, and no two transactions that fight over the
 * customer's account.  Each still stands for itself: what is wrong with one does not touch the others. */
#include "../internal.h"

#define GROUP_MAX 64

/* One workload, or all of an array. */
struct submission {
	struct call *call;
	const struct array_request *array;      /* NULL: call->in is the specification of one */
	const struct workload_spec *asked;      /* as it came */
	const char *array_id;
	size_t count;
	struct workload_spec *specs;            /* with their secrets, and with resources */
	struct workload *workloads;
	struct replica *replicas;
	char request_hash[SHA256_HEX_SIZE];
	int64_t amount; /* for each of them */
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

/* What is asked for, as specifications of single workloads. */
static void specs_fill(struct submission *s)
{
	struct arena *a = s->call->arena;
	struct resources *r = NULL;

	if (!s->asked->resources) {
		r = arena_new(a, struct resources);
		schema_defaults(&resources_type, r);
	}
	s->specs = arena_array(a, struct workload_spec, s->count);
	for (size_t i = 0; i < s->count; i++) {
		if (s->array)
			array_spec(s->array, (int64_t)i, a, &s->specs[i]);
		else
			s->specs[i] = *s->asked;
		if (r)
			s->specs[i].resources = r;
	}
}

/* Ids of one moment, in their order: an array is listed, and placed, in the order of its numbers. */
static const char **ids_make(struct control *c, const char *kind, size_t len, struct arena *a)
{
	const char **ids = arena_array(a, const char *, len);

	for (size_t i = 0; i < len; i++)
		ids[i] = new_id(c, kind, a);
	qsort(ids, len, sizeof(*ids), text_order);
	return ids;
}

static void workload_begin(struct control *c, struct submission *s, size_t i, const char *id, const char *replica_id)
{
	struct arena *a = s->call->arena;
	const struct workload_spec *spec = &s->specs[i];
	struct workload *w = &s->workloads[i];
	int64_t now = control_now(c);

	*w = (struct workload){
		.id = id, .org_id = s->call->caller.org_id, .spec = spec_without_secrets(spec, a),
		.exit_code = -1, .created_ms = now, .updated_ms = now,
		.reason = "submitted", .reason_text = "waiting for a worker",
	};
	if (s->array) {
		w->array_id = s->array_id;
		w->array_index = (int64_t)i;
	}
	w->name = spec->name ? spec->name : w->id + ID_LEN - 8;
	s->replicas[i] = (struct replica){
		.id = replica_id, .org_id = w->org_id, .workload_id = w->id, .state = REPLICA_PENDING,
		.retries_left = spec->retries, .created_ms = now, .updated_ms = now,
	};
}

static void array_answer(struct submission *s)
{
	struct workload_array *out = s->call->out;

	out->id = s->array_id;
	out->max_price_uusd_h = s->workloads[0].max_price_uusd_h;
	out->ids.len = s->count;
	out->ids.items = arena_array(s->call->arena, const char *, s->count);
	for (size_t i = 0; i < s->count; i++)
		out->ids.items[i] = s->workloads[i].id;
}

/* Reads only.  -1 with what is wrong with it, or with what is wrong with the store. */
static int prepare(struct control *c, struct db_conn *conn, struct submission *s, struct err *err)
{
	struct call *call = s->call;
	const char **ids, **replica_ids;
	struct workload *first;

	if (call->idempotency_key) {
		call_hash(call, s->request_hash);
		if (call_replay_find(conn, call, s->request_hash, &s->replayed, err) < 0)
			return -1;
		if (s->replayed)
			return 0;
	}
	s->workloads = s->array ? arena_array(call->arena, struct workload, s->count) : call->out;
	s->replicas = arena_array(call->arena, struct replica, s->count);
	specs_fill(s);
	if (s->array)
		s->array_id = new_id(c, "ar", call->arena);
	ids = ids_make(c, "wl", s->count, call->arena);
	replica_ids = ids_make(c, "rp", s->count, call->arena);
	for (size_t i = 0; i < s->count; i++)
		workload_begin(c, s, i, ids[i], replica_ids[i]);
	first = &s->workloads[0];
	if (active_take(c, conn, first->org_id, (int64_t)s->count, err) < 0)
		return -1;
	if (inputs_check(conn, call, s->asked, err) < 0 || price_cap(c, conn, call, s->asked, first, err) < 0)
		return s->array && err->field[0] ? (err_prefix_field(err, "spec"), -1) : -1;
	for (size_t i = 1; i < s->count; i++)
		s->workloads[i].max_price_uusd_h = first->max_price_uusd_h;
	s->amount = hold_amount(first->max_price_uusd_h, hold_duration_ms(c, s->asked));
	if (s->array)
		array_answer(s);
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

static bool is_written(const struct submission *s)
{
	return !s->failed && !s->replayed;
}

static size_t group_count(const struct group *g)
{
	size_t count = 0;

	for (size_t i = 0; i < g->len; i++)
		count += is_written(g->items[i]) ? g->items[i]->count : 0;
	return count;
}

/* What is missing for all of it: the first that was not held lacks a part, those behind it lack all. */
static void hold_take(struct group *g, struct submission *s, const struct hold_request *holds)
{
	int64_t lacking = 0;
	char missing[32];

	for (size_t i = 0; i < s->count; i++) {
		s->replicas[i].hold_id = holds[i].ret_hold;
		if (holds[i].ret_missing > 0)
			lacking += lacking ? s->amount : holds[i].ret_missing;
	}
	s->cannot_pay = lacking > 0;
	if (!s->cannot_pay)
		return;
	money_format(lacking, missing);
	err_set(&s->err, ERR_FUNDS, "holding the first %" PRId64 " s of %s: $%s more is needed: deposit at least that",
		hold_duration_ms(g->c, s->asked) / SECOND_MS, s->array ? "all of them" : "it", missing);
}

/* Sets each one's money aside.  Nothing may be written for those who cannot pay: then once more, without them. */
static int group_hold(struct group *g, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct hold_request *holds = arena_array(a, struct hold_request, group_count(g));
	bool again = false;
	size_t len = 0;

	for (size_t i = 0; i < g->len; i++) {
		struct submission *s = g->items[i];

		for (size_t j = 0; is_written(s) && s->amount > 0 && j < s->count; j++)
			holds[len++] = (struct hold_request){ .org_id = s->replicas[j].org_id, .subject = s->replicas[j].id,
							      .number = 1, .amount = s->amount };
	}
	if (ledger_hold_many(conn, holds, len, NULL, control_now(g->c), err) < 0)
		return -1;
	len = 0;
	for (size_t i = 0; i < g->len; i++) {
		struct submission *s = g->items[i];

		if (!is_written(s) || s->amount == 0)
			continue;
		hold_take(g, s, holds + len);
		len += s->count;
		again |= s->cannot_pay;
	}
	return again ? err_set(err, ERR_RETRY, "some cannot pay") : 0;
}

/* What only some of them have. */
static int extras_write(struct group *g, struct db_conn *conn, struct submission *s, struct err *err)
{
	const struct workload *w = s->workloads;
	int64_t changed = 1;

	if (w->quote_id && db_exec(conn, "UPDATE quotes SET used_by = $2 WHERE id = $1 AND used_by IS NULL",
				   DB_ARGS(DB_TEXT(w->quote_id), DB_TEXT(w->id)), &changed, err) < 0)
		return -1;
	if (changed == 0)
		return err_set(err, ERR_RETRY, "quote %s was used meanwhile", w->quote_id);
	for (size_t i = 0; i < s->count; i++)
		if (workload_spec_seal(g->c, conn, w[i].id, &s->specs[i], s->call->arena, err) < 0)
			return -1;
	return s->call->idempotency_key ? call_replay_keep(g->c, conn, s->call, s->request_hash, err) : 0;
}

static int group_write(struct group *g, struct db_conn *conn, struct arena *a, struct err *err)
{
	const size_t count = group_count(g);
	struct workload *workloads = arena_array(a, struct workload, count);
	struct replica *replicas = arena_array(a, struct replica, count);
	struct event_item *events = arena_array(a, struct event_item, count);
	size_t len = 0;

	if (count == 0)
		return 0;
	for (size_t i = 0; i < g->len; i++) {
		struct submission *s = g->items[i];

		for (size_t j = 0; is_written(s) && j < s->count; j++) {
			const struct workload *w = &s->workloads[j];

			workloads[len] = *w;
			replicas[len] = s->replicas[j];
			events[len++] = (struct event_item){ w->org_id, caller_actor(&s->call->caller), w->id,
							     "workload.pending", w->reason, w->reason_text };
		}
	}
	if (db_insert_many(conn, &workload_type, "workloads", workloads, len, err) < 0 ||
	    db_insert_many(conn, &replica_type, "replicas", replicas, len, err) < 0)
		return -1;
	for (size_t i = 0; i < g->len; i++)
		if (is_written(g->items[i]) && extras_write(g, conn, g->items[i], err) < 0)
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
	const struct workload_spec *x = a->asked, *y = b->asked;

	if (!str_eq(a->call->caller.org_id, b->call->caller.org_id))
		return false;
	return (a->call->idempotency_key && b->call->idempotency_key &&
		str_eq(a->call->idempotency_key, b->call->idempotency_key)) ||
	       (x->quote && y->quote && str_eq(x->quote, y->quote));
}

/* Lock held: takes those that wait, from the front, up to the first that clashes with one before it, or with which they
 * would be more workloads than an array may have. */
static size_t group_take(struct submissions *q, struct submission **items)
{
	size_t len = 0, workloads = 0;

	for (struct submission *s; (s = q->first) && len < GROUP_MAX; len++) {
		workloads += s->count;
		if (workloads > ARRAY_MAX)
			return len;
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

static int submit(struct control *c, struct db_conn *conn, struct submission *mine, struct err *err)
{
	take_part(c, conn, mine);
	return mine->failed ? (*err = mine->err, -1) : 0;
}

int op_workload_create(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	return submit(c, conn, &(struct submission){ .call = call, .asked = call->in, .count = 1 }, err);
}

int op_array_create(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct array_request *in = call->in;

	return submit(c, conn, &(struct submission){ .call = call, .array = in, .asked = in->spec, .count = (size_t)in->count },
		      err);
}
