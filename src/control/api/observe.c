/* What a worker sees: heartbeats with observations and receipts.  The leases that one concerns are read first, moved in
 * memory, and stored together (transition.c).
 * Level-triggered: every message may be lost, doubled, late or out of order. */
#include "../internal.h"

/* A lease that the message concerns. */
struct tracked {
	struct lease lease, before; /* `before`: its last transition */
	struct lease_move move;
	bool moved;   /* since it was last stored */
	bool claimed; /* a receipt of it is stored */
	bool listed;  /* among what the worker has */
};

struct observing {
	struct control *c;
	struct db_conn *conn;
	struct arena *a;
	const struct observation *in;
	int64_t heard_ms;
	struct worker w;
	bool seen;        /* that it was is stored */
	struct usage *usages;          /* of each receipt, */
	bool *good;                    /* if it is one */
	struct map *leases;            /* id -> struct tracked: the living, and what else the message names */
	struct tracked *living;
	size_t living_len;
	VEC(struct tracked *) all;     /* the same as in the map, in order */
	VEC(const char *) problems;
};

/* ---- reading ------------------------------------------------------------------------------------------- */

static int receipts_read(struct observing *x, struct err *err)
{
	size_t len = x->in->receipts.len;

	x->usages = arena_array(x->a, struct usage, len);
	x->good = arena_array(x->a, bool, len);
	for (size_t i = 0; i < len; i++)
		if (receipt_read(x->c, x->conn, &x->w, &x->in->receipts.items[i], x->a, &x->usages[i], &x->good[i], err) < 0)
			return -1;
	return 0;
}

static struct tracked *track(struct observing *x, const struct lease *leases, size_t len)
{
	struct tracked *all = arena_array(x->a, struct tracked, len);

	for (size_t i = 0; i < len; i++) {
		all[i].lease = leases[i];
		all[i].move.lease = &all[i].lease;
		all[i].claimed = leases[i].claimed_seq > 0;
		map_put(x->leases, leases[i].id, &all[i]);
		*vec_push(&x->all) = &all[i];
	}
	return all;
}

static int living_read(struct observing *x, struct err *err)
{
	struct lease *leases;

	if (db_select(x->conn, &lease_type, "leases", "WHERE worker_id = $1 AND state <> 'ended'", DB_ARGS(DB_TEXT(x->w.id)), x->a,
		      (void **)&leases, &x->living_len, err) < 0)
		return -1;
	x->living = track(x, leases, x->living_len);
	return 0;
}

/* What the message names besides: leases that have ended, that are another's, that never were. */
static int others_read(struct observing *x, struct err *err)
{
	const struct observation *in = x->in;
	const char **ids = arena_array(x->a, const char *, in->receipts.len + in->leases.len);
	struct lease *leases;
	size_t count = 0, len;

	for (size_t i = 0; i < in->receipts.len; i++)
		if (x->good[i] && !map_find(x->leases, x->usages[i].lease))
			ids[count++] = x->usages[i].lease;
	for (size_t i = 0; i < in->leases.len; i++)
		if (!map_find(x->leases, in->leases.items[i].lease))
			ids[count++] = in->leases.items[i].lease;
	if (count == 0)
		return 0;
	if (db_select_in(x->conn, &lease_type, "leases", "id", ids, count, x->a, (void **)&leases, &len, err) < 0)
		return -1;
	track(x, leases, len);
	return 0;
}

/* ---- storing ------------------------------------------------------------------------------------------- */

/* All that has moved since the last time. */
static int flush(struct observing *x, struct err *err)
{
	struct lease_moves m = { .worker = &x->w, .worker_seen = x->seen, .actor = x->w.id };
	size_t moved = 0;

	for (size_t i = 0; i < x->all.len; i++)
		moved += x->all.items[i]->moved;
	m.items = arena_array(x->a, struct lease_move *, moved);
	for (size_t i = 0; i < x->all.len; i++)
		if (x->all.items[i]->moved)
			m.items[m.len++] = &x->all.items[i]->move;
	if (lease_moves_store(x->c, x->conn, &m, x->a, err) < 0)
		return -1;
	for (size_t i = 0; i < x->all.len; i++) {
		struct tracked *t = x->all.items[i];

		if (t->moved && t->move.refused.code)
			*vec_push(&x->problems) = arena_printf(x->a, "%s: %s", t->lease.id, t->move.refused.text);
		t->claimed = t->claimed || t->move.receipt;
		t->move = (struct lease_move){ .lease = &t->lease };
		t->moved = false;
	}
	x->seen = false;
	return 0;
}

/* What was not to be: *ret_why, and the lease stays as it is. */
static int transition(struct observing *x, struct tracked *t, const struct lease_event *event, struct err *ret_why)
{
	struct lease_change change;

	if (lease_apply(&t->lease, event, control_now(x->c), &change, ret_why) < 0)
		return -1;
	t->before = t->lease;
	t->move.before = &t->before;
	t->lease = change.lease;
	t->move.effects |= change.effects;
	t->moved = true;
	return 0;
}

/* ---- receipts ------------------------------------------------------------------------------------------ */

static int receipts_take(struct observing *x, struct err *err)
{
	for (size_t i = 0; i < x->in->receipts.len; i++) {
		struct tracked *t = x->good[i] ? map_find(x->leases, x->usages[i].lease) : NULL;
		const struct receipt *row = NULL;

		if (!x->good[i])
			continue;
		if (receipt_take(x->c, x->conn, &x->w, &x->in->receipts.items[i], &x->usages[i], t ? &t->lease : NULL, x->a, &row,
				 err) < 0)
			return -1;
		if (!row)
			continue;
		t->move.receipt = row;
		t->move.receipt_replaces = t->claimed;
		t->moved = true;
	}
	return 0;
}

/* ---- observations ---------------------------------------------------------------------------------------- */

static bool event_of(const struct lease_observation *o, struct lease_event *ret)
{
	*ret = (struct lease_event){
		.generation = o->generation, .reason = o->reason, .text = o->text, .phase = o->phase,
		.image_digest = o->image_digest, .progress_done = o->progress_done, .progress_total = o->progress_total,
		.exit_code = o->exit_code, .started = o->started, .delivered_ms = o->delivered_ms,
	};
	switch ((enum observed_state)o->state) {
	case OBSERVED_ACCEPTED:
		ret->kind = LEASE_EVENT_ACCEPTED;
		return true;
	case OBSERVED_PREPARING:
		ret->kind = LEASE_EVENT_PROGRESS;
		return true;
	case OBSERVED_RUNNING:
		ret->kind = LEASE_EVENT_RUNNING;
		return true;
	case OBSERVED_PAUSED:
		ret->kind = LEASE_EVENT_PAUSED;
		return true;
	case OBSERVED_EXITED:
		ret->kind = LEASE_EVENT_EXITED;
		return true;
	case OBSERVED_FAILED:
		ret->kind = LEASE_EVENT_FAILED;
		return true;
	case OBSERVED_GONE:
		ret->kind = LEASE_EVENT_GONE;
		return true;
	}
	return false;
}

/* A worker that still has what the server has ended did not hear of it: tell it again. */
static void remind(struct observing *x, struct tracked *t, const struct lease_observation *o)
{
	if (o->state == OBSERVED_GONE || t->lease.desired_rev > x->in->desired_rev)
		return;
	t->move.effects |= EFFECT_CHANGED | EFFECT_DESIRE;
	t->moved = true;
}

static int lease_not_own(struct observing *x, const struct lease_observation *o, struct err *err)
{
	const char *problem = arena_printf(x->a, "%s is another worker's lease", o->lease);

	*vec_push(&x->problems) = problem;
	return evidence_add(x->c, x->conn, x->w.id, o->lease, "lease_not_own", problem, "", err);
}

static int observe_lease(struct observing *x, const struct lease_observation *o, struct err *err)
{
	struct tracked *t = map_find(x->leases, o->lease);
	struct lease_event event;
	struct err why = { 0 };

	if (!t) {
		*vec_push(&x->problems) = arena_printf(x->a, "%s: " LEASE_MISSING, o->lease, o->lease);
		return 0;
	}
	t->listed = true;
	if (!str_eq(t->lease.worker_id, x->w.id))
		return lease_not_own(x, o, err);
	/* One that is listed twice: each transition is announced. */
	if ((t->move.effects & ~EFFECT_CHANGED) && flush(x, err) < 0)
		return -1;
	if (t->lease.state == LEASE_ENDED) {
		remind(x, t, o);
		return 0;
	}
	if (!event_of(o, &event))
		return 0;
	event.age_ms = MAX(control_now(x->c) - x->heard_ms, 0);
	if (transition(x, t, &event, &why) < 0)
		*vec_push(&x->problems) = arena_printf(x->a, "%s: %s", o->lease, why.text);
	return 0;
}

/* Leases that the worker must know of and does not list: what it once accepted is lost there. */
static int observe_missing(struct observing *x, struct err *err)
{
	struct lease_event gone = { .kind = LEASE_EVENT_GONE, .reason = REASON_CONTAINER_LOST,
				    .text = "the worker no longer has it" };

	for (size_t i = 0; i < x->living_len; i++) {
		struct tracked *t = &x->living[i];

		if (t->listed || t->lease.state == LEASE_RESERVED || t->lease.state == LEASE_ENDED ||
		    t->lease.desired_rev > x->in->desired_rev)
			continue;
		gone.generation = t->lease.generation;
		if (transition(x, t, &gone, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- the worker ------------------------------------------------------------------------------------------ */

/* Back from silence: its leases are reachable again. */
static int worker_heard(struct observing *x, struct err *err)
{
	struct lease_event heard = { .kind = LEASE_EVENT_HEARD };
	struct worker *w = &x->w;

	for (size_t i = 0; i < x->living_len; i++)
		if (x->living[i].lease.unreachable_since_ms && transition(x, &x->living[i], &heard, err) < 0)
			return -1;
	if (w->state != WORKER_OFFLINE)
		return 0;
	w->state = WORKER_ONLINE;
	w->offline_since_ms = 0;
	w->updated_ms = control_now(x->c);
	scheduler_dirty(x->c, x->conn, w->id);
	return event_append(x->c, x->conn, w->org_id, w->id, w->id, "worker.online", "heartbeat", w->name, err);
}

static int worker_read(struct observing *x, const char *id, struct err *err)
{
	struct worker *w = &x->w;

	if ((x->in->inventory ? worker_load : worker_standing_load)(x->conn, id, x->a, w, err) < 0)
		return -1;
	if (w->state == WORKER_LEFT)
		return err_set(err, ERR_GONE, "worker %s has left the network: join again with a new token", w->id);
	if (!str_eq(x->in->boot_id, w->boot_id))
		return err_set(err, ERR_CONFLICT, "another process runs with this worker's key since: one machine, one key");
	w->seen_ms = control_now(x->c);
	return 0;
}

static int inventory_take(struct observing *x, struct err *err)
{
	struct worker *w = &x->w;

	if (worker_inventory_take(x->c, w, x->in->inventory, err) < 0 || worker_devices_store(x->conn, w->id, x->in->inventory, err) < 0)
		return -1;
	w->updated_ms = w->seen_ms;
	scheduler_dirty(x->c, x->conn, w->id);
	return db_update(x->conn, &worker_type, "workers", "id", w, err);
}

/* ---- the heartbeat ----------------------------------------------------------------------------------------- */

/* The heartbeat of a machine that has nothing and says nothing new writes nothing, and most of the time asks the store
 * nothing either (heartbeats.c). */
static int observe_quietly(struct control *c, struct db_conn *conn, const struct call *call, bool *ret_done, struct observed *ret,
			   struct err *err)
{
	const struct observation *in = call->in;
	cleanup_rows struct db_rows *rows = NULL;
	const char *id = call->caller.worker_id;
	int64_t now = control_now(c), desired_rev;
	uint64_t era;
	int rc;

	*ret_done = false;
	if (in->inventory || in->receipts.len || in->leases.len)
		return 0;
	*ret_done = heartbeat_find(c, id, in->boot_id, now, &desired_rev, &era);
	if (*ret_done) {
		*ret = (struct observed){ .desired_rev = desired_rev };
		return 0;
	}
	if (db_query(conn,
		     "SELECT w.desired_rev, w.seen_ms FROM workers w WHERE w.id = $1 AND w.state = 'online' AND w.boot_id = $2"
		     " AND w.seen_ms > $3 AND w.seen_ms <= $4"
		     " AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.worker_id = w.id AND l.state <> 'ended')",
		     DB_ARGS(DB_TEXT(id), DB_TEXT(in->boot_id), DB_INT(now - seen_lag_ms(c)), DB_INT(now)), &rows, err) < 0 ||
	    (rc = db_next(rows, err)) < 0)
		return -1;
	if (rc == 0)
		return 0;
	*ret = (struct observed){ .desired_rev = db_int(rows, 0) };
	*ret_done = true;
	heartbeat_keep(c, id, in->boot_id, now, ret->desired_rev, db_int(rows, 1), era);
	return 0;
}

struct observe_arg {
	struct control *c;
	struct call *call;
	int64_t heard_ms; /* when it came: the transaction may be tried many times */
};

static int observe(struct observing *x, struct err *err)
{
	if ((x->in->inventory && inventory_take(x, err) < 0) || receipts_read(x, err) < 0 || living_read(x, err) < 0 ||
	    others_read(x, err) < 0 || worker_heard(x, err) < 0 || receipts_take(x, err) < 0)
		return -1;
	for (size_t i = 0; i < x->in->leases.len; i++)
		if (observe_lease(x, &x->in->leases.items[i], err) < 0)
			return -1;
	return observe_missing(x, err) < 0 ? -1 : flush(x, err);
}

/* Into the call's arena, which outlives the transaction.  A worker does not take an answer with more problems. */
static void answer(const struct observing *x, struct call *call)
{
	struct observed *out = call->out;

	out->receipts_taken = x->in->receipts.len;
	out->desired_rev = x->w.desired_rev;
	out->problems.items = arena_array(call->arena, const char *, OBSERVED_PROBLEMS_MAX);
	out->problems.len = MIN(x->problems.len, (size_t)OBSERVED_PROBLEMS_MAX);
	for (size_t i = 0; i < out->problems.len; i++)
		out->problems.items[i] = arena_strdup(call->arena, x->problems.items[i]);
}

/* With an arena of its own: a worker can make conflicts for itself, and each try needs as much as the one before. */
static int observe_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct observe_arg *g = arg;
	struct call *call = g->call;
	cleanup_arena struct arena arena = { 0 };
	struct observing x = {
		.c = g->c, .conn = conn, .a = &arena, .in = call->in, .heard_ms = g->heard_ms, .seen = true, .leases = map_new(),
	};
	int rc;

	heartbeat_changed(g->c, conn, call->caller.worker_id);
	rc = worker_read(&x, call->caller.worker_id, err) < 0 || observe(&x, err) < 0 ? -1 : 0;
	if (rc == 0)
		answer(&x, call);
	map_free(x.leases, NULL);
	vec_release(&x.all);
	vec_release(&x.problems);
	return rc;
}

int op_worker_observe(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct observation *in = call->in;
	struct observed *out = call->out;
	struct observe_arg arg = { c, call, control_now(c) - call->age_ms };
	bool done;

	if (observe_quietly(c, conn, call, &done, out, err) < 0 || (!done && db_tx(conn, observe_tx, &arg, err) < 0))
		return -1;
	out->server_time_ms = control_now(c);
	out->heartbeat_ms = c->config.heartbeat_ms;
	if (out->desired_rev > in->desired_rev)
		wake(c, conn, "worker", call->caller.worker_id); /* its stream may have missed what another replica did */
	return 0;
}
