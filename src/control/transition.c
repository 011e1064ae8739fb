/* What follows from transitions of leases: the store's part of lease_apply.  Those of one worker are stored together, each
 * kind of row read or written by one exchange with the store for all of them, as reserve.c does where they begin. */
#include "internal.h"

#define RETRY_BACKOFF_MS (2 * SECOND_MS)   /* doubled with each attempt */
#define RETRY_BACKOFF_MAX_MS (5 * MINUTE_MS)
#define EFFECTS_OF_WORKER (EFFECT_DESIRE | EFFECT_RELEASE | EFFECT_BLAME | EFFECT_CREDIT)

struct moving {
	struct control *c;
	struct db_conn *conn;
	struct arena *a;
	const struct lease_moves *m;
	int64_t now_ms;
	bool worker_moved;
	struct map *workloads;  /* id -> struct workload, of those that leases move: what workload_progress_type has */
	struct workload *progress;
	size_t progress_len;
	size_t ended, replacing; /* replicas and receipts that do so */
	int64_t leases_stored[2] /* whole: true */, replicas_ended, replaced; /* as the store counts them */
};

static const struct lease_move *move_at(const struct moving *x, size_t i)
{
	return x->m->items[i];
}

static bool ends(const struct lease_move *m)
{
	return (m->effects & EFFECT_ANNOUNCE) && m->lease->state == LEASE_ENDED;
}

/* ---- money --------------------------------------------------------------------------------------------- */

/* Without its transition; what was metered before it stays. */
static void refuse(struct lease_move *m, const struct err *why)
{
	m->refused = *why;
	m->effects = EFFECT_CHANGED;
	*m->lease = *m->before;
}

static int settle_each(struct moving *x, struct lease_move **ending, size_t len, struct err *err)
{
	for (size_t i = 0; i < len; i++) {
		if (leases_settle_last(x->c, x->conn, &ending[i]->lease, 1, x->now_ms, x->a, err) == 0)
			continue;
		if (err->code != ERR_CONFLICT || !ending[i]->before)
			return -1;
		refuse(ending[i], err);
		err_clear(err);
	}
	return 0;
}

/* All at once; if one of them cannot be, each by itself, so that it does not hold up the others. */
static int settle(struct moving *x, struct err *err)
{
	struct lease_move **ending = arena_array(x->a, struct lease_move *, x->m->len);
	struct lease **leases = arena_array(x->a, struct lease *, x->m->len);
	size_t len = 0;

	for (size_t i = 0; i < x->m->len; i++)
		if (x->m->items[i]->effects & EFFECT_SETTLE) {
			leases[len] = x->m->items[i]->lease;
			ending[len++] = x->m->items[i];
		}
	if (leases_settle_last(x->c, x->conn, leases, len, x->now_ms, x->a, err) == 0)
		return 0;
	if (err->code != ERR_CONFLICT)
		return -1;
	err_clear(err);
	return settle_each(x, ending, len, err);
}

/* ---- the worker ---------------------------------------------------------------------------------------- */

static void release(struct worker *w, const struct resources *r)
{
	w->used_cpu_milli -= r->cpu_milli;
	w->used_memory_mib -= r->memory_mib;
	w->used_disk_mib -= r->disk_mib;
	w->used_gpus -= r->gpus;
}

static int worker_seen_write(struct db_conn *conn, const struct worker *w, struct err *err)
{
	return db_exec_batch(conn,
			     "UPDATE workers SET seen_ms = $2, state = $3, offline_since_ms = $4, updated_ms = $5 WHERE id = $1",
			     DB_ARGS(DB_TEXT(w->id), DB_INT(w->seen_ms), DB_TEXT(worker_state_names[w->state]),
				     DB_INT(w->offline_since_ms), DB_INT(w->updated_ms)).items, 5, 1, NULL, err);
}

/* Its row before the accounts, as reserve.c: in another order each would hold what the other waits for, which PostgreSQL
 * looks into only after a second. */
static int worker_lock(struct moving *x, struct err *err)
{
	for (size_t i = 0; i < x->m->len; i++)
		if (move_at(x, i)->effects & EFFECT_SETTLE)
			return worker_seen_write(x->conn, x->m->worker, err);
	return 0;
}

/* The next numbers of its desired set, by which its stream resumes; what it has free; how it did. */
static void worker_move(struct moving *x)
{
	struct worker *w = x->m->worker;
	unsigned all = 0;

	for (size_t i = 0; i < x->m->len; i++) {
		const struct lease_move *m = move_at(x, i);

		all |= m->effects;
		if (m->effects & EFFECT_DESIRE)
			m->lease->desired_rev = ++w->desired_rev;
		if (m->effects & EFFECT_RELEASE)
			release(w, m->lease->resources);
		w->leases_ok += (m->effects & EFFECT_CREDIT) != 0;
		w->leases_failed += (m->effects & EFFECT_BLAME) != 0 && !(m->effects & EFFECT_CREDIT);
	}
	x->worker_moved = all & EFFECTS_OF_WORKER;
	if (all & (EFFECT_BLAME | EFFECT_CREDIT))
		w->reliability_ppm = reliability(w->uptime_ppm, w->leases_ok, w->leases_failed);
	if (all & (EFFECT_RELEASE | EFFECT_BLAME | EFFECT_CREDIT)) {
		w->updated_ms = x->now_ms;
		scheduler_dirty(x->c, x->conn, w->id);
	}
	if (all & EFFECT_DESIRE) {
		heartbeat_changed(x->c, x->conn, w->id);
		wake(x->c, x->conn, "worker", w->id);
	}
}

/* This customer and this worker did not get on: keep them apart for a while. */
static int avoid_add(struct control *c, struct db_conn *conn, const struct lease *lease, struct err *err)
{
	int64_t now = control_now(c), weight, since;
	struct db_args pair = DB_ARGS(DB_TEXT(lease->org_id), DB_TEXT(lease->worker_id));

	if (db_query_int(conn, "SELECT weight_ppm FROM avoids WHERE org_id = $1 AND worker_id = $2", pair, 0, &weight,
			 err) < 0 ||
	    db_query_int(conn, "SELECT updated_ms FROM avoids WHERE org_id = $1 AND worker_id = $2", pair, now, &since,
			 err) < 0)
		return -1;
	weight = MIN(avoid_weight(weight, now - since) + 500000, 1000000);
	return db_exec(conn,
		       "INSERT INTO avoids (org_id, worker_id, weight_ppm, updated_ms) VALUES ($1, $2, $3, $4)"
		       " ON CONFLICT (org_id, worker_id) DO UPDATE SET weight_ppm = excluded.weight_ppm,"
		       " updated_ms = excluded.updated_ms",
		       DB_ARGS(DB_TEXT(lease->org_id), DB_TEXT(lease->worker_id), DB_INT(weight), DB_INT(now)), NULL,
		       err);
}

/* ---- replicas and workloads ------------------------------------------------------------------------------ */

static enum workload_state state_after(const struct lease *lease)
{
	switch ((enum lease_state)lease->state) {
	case LEASE_RESERVED:
	case LEASE_PREPARING:
		return WORKLOAD_PREPARING;
	case LEASE_RUNNING:
		return WORKLOAD_RUNNING;
	case LEASE_PAUSED:
		return WORKLOAD_PAUSED;
	case LEASE_STOPPING:
		return WORKLOAD_STOPPING;
	case LEASE_ENDED:
		break;
	}
	if (lease->reason == REASON_COMPLETED)
		return WORKLOAD_SUCCEEDED;
	return lease->reason == REASON_STOPPED_BY_CUSTOMER ? WORKLOAD_STOPPED : WORKLOAD_FAILED;
}

/* Puts the replica back in the queue, with money held for the next attempt; *ret_again false if that cannot be. */
static int replica_retry(struct moving *x, const struct lease *lease, bool *ret_again, struct err *err)
{
	struct replica r;
	struct workload w;
	int64_t amount, held;
	char hold[ID_SIZE];

	*ret_again = false;
	if (db_get(x->conn, &replica_type, "replicas", "WHERE id = $1", DB_ARGS(DB_TEXT(lease->replica_id)), x->a, &r, err) < 0 ||
	    (r.retries_left > 0 && workload_load(x->conn, NULL, lease->workload_id, x->a, &w, err) < 0))
		return -1;
	if (r.retries_left == 0)
		return 0;
	amount = hold_amount(w.max_price_uusd_h, hold_duration_ms(x->c, w.spec));
	if (amount > 0) {
		if (ledger_hold(x->conn, r.org_id, r.id, r.generation + 1, amount, false, x->now_ms, hold, &held, err) < 0)
			return err->code == ERR_FUNDS ? (err_clear(err), 0) : -1;
		r.hold_id = hold;
	} else {
		r.hold_id = NULL;
	}
	r.state = REPLICA_PENDING;
	r.retries_left--;
	r.not_before_ms = x->now_ms + MIN(RETRY_BACKOFF_MS << MIN(r.generation - 1, 8), RETRY_BACKOFF_MAX_MS);
	r.updated_ms = x->now_ms;
	*ret_again = true;
	return db_update(x->conn, &replica_type, "replicas", "id", &r, err);
}

static int replicas_retry(struct moving *x, struct err *err)
{
	for (size_t i = 0; i < x->m->len; i++) {
		struct lease_move *m = x->m->items[i];

		m->again = false;
		if ((m->effects & EFFECT_AVOID) && avoid_add(x->c, x->conn, m->lease, err) < 0)
			return -1;
		if (!ends(m))
			continue;
		if ((m->effects & EFFECT_RETRY) && replica_retry(x, m->lease, &m->again, err) < 0)
			return -1;
		if (m->again)
			metrics_count(x->c, x->conn, "retries_total", 1);
		else
			x->ended++;
	}
	return 0;
}

static int workloads_read(struct moving *x, struct err *err)
{
	const char **ids = arena_array(x->a, const char *, x->m->len);
	size_t len = 0;

	for (size_t i = 0; i < x->m->len; i++)
		if (move_at(x, i)->effects & EFFECT_ANNOUNCE)
			ids[len++] = move_at(x, i)->lease->workload_id;
	if (len && db_select_in(x->conn, &workload_progress_type, "workloads", "id", ids, len, x->a, (void **)&x->progress,
				&x->progress_len, err) < 0)
		return -1;
	for (size_t i = 0; i < x->progress_len; i++)
		map_put(x->workloads, x->progress[i].id, &x->progress[i]);
	return 0;
}

static const char *reason_text(const struct lease *lease)
{
	return lease->reason_text ? lease->reason_text : lease_reason_text(lease->reason);
}

/* Moves the workload to where the lease now stands; *ret_changed: its state is another. */
static void workload_follow(struct moving *x, const struct lease_move *m, struct workload *w, bool *ret_changed)
{
	const struct lease *lease = m->lease;
	enum workload_state state = m->again ? WORKLOAD_PENDING : state_after(lease);

	/* "name@sha256:…" is the same everywhere; the id of an image that was never in a registry means nothing on
	 * another worker. */
	if (!w->image_pinned && lease->image_digest && strchr(lease->image_digest, '@'))
		w->image_pinned = lease->image_digest;
	if (lease->state == LEASE_RUNNING && !w->started_ms)
		w->started_ms = lease->running_ms;
	if (lease->state == LEASE_ENDED) {
		w->exit_code = lease->exit_code;
		w->charged_uusd += lease->billed_uusd;
	}
	*ret_changed = w->state != (int)state;
	w->state = state;
	w->reason = lease_reason_names[lease->reason];
	w->reason_text = reason_text(lease);
	w->updated_ms = x->now_ms;
	if (workload_state_is_final(state) && !w->ended_ms)
		w->ended_ms = x->now_ms;
}

/* ---- what is written -------------------------------------------------------------------------------------- */

/* Cumulative: the newest stands for all before it, so that a long lease keeps one row. */
static int receipts_replace(struct moving *x, struct err *err)
{
	enum { COLUMNS = 7 };
	struct db_value *values = arena_array(x->a, struct db_value, COLUMNS * x->m->len), *v = values;

	for (size_t i = 0; i < x->m->len; i++) {
		const struct receipt *r = move_at(x, i)->receipt;

		if (!r || !move_at(x, i)->receipt_replaces)
			continue;
		*v++ = DB_TEXT(r->lease_id);
		*v++ = DB_TEXT(r->payload);
		*v++ = DB_TEXT(r->signature);
		*v++ = DB_INT(r->seq);
		*v++ = DB_INT(r->delivered_ms);
		*v++ = DB_INT(r->at_ms);
		*v++ = DB_INT(r->received_ms);
	}
	x->replacing = (size_t)(v - values) / COLUMNS;
	return db_exec_batch(x->conn,
			     "UPDATE receipts SET payload = $2, signature = $3, seq = $4, delivered_ms = $5, at_ms = $6, received_ms = $7"
			     " WHERE lease_id = $1",
			     values, COLUMNS, x->replacing, &x->replaced, err);
}

static int receipts_insert(struct moving *x, struct err *err)
{
	struct receipt *rows = arena_array(x->a, struct receipt, x->m->len);
	size_t len = 0;

	for (size_t i = 0; i < x->m->len; i++)
		if (move_at(x, i)->receipt && !move_at(x, i)->receipt_replaces)
			rows[len++] = *move_at(x, i)->receipt;
	return db_insert_many(x->conn, &receipt_type, "receipts", rows, len, err);
}

/* Those with effects whole, of the others what is metered. */
static int leases_write(struct moving *x, bool whole, struct err *err)
{
	struct lease *rows = arena_array(x->a, struct lease, x->m->len);
	size_t len = 0;

	for (size_t i = 0; i < x->m->len; i++) {
		const struct lease_move *m = move_at(x, i);

		if ((m->effects != 0) != whole)
			continue;
		m->lease->deadline_ms = lease_deadline_ms(m->lease);
		m->lease->updated_ms = x->now_ms;
		rows[len++] = *m->lease;
	}
	return db_update_many(x->conn, whole ? &lease_type : &lease_metering_type, "leases", "id", rows, len,
			      &x->leases_stored[whole], err);
}

static int claims_drop(struct moving *x, struct err *err)
{
	struct db_value *values = arena_array(x->a, struct db_value, 2 * x->m->len), *v = values;

	for (size_t i = 0; i < x->m->len; i++) {
		const struct lease_move *m = move_at(x, i);

		if (!(m->effects & EFFECT_RELEASE) || m->lease->devices.len == 0)
			continue;
		*v++ = DB_TEXT(m->lease->worker_id);
		*v++ = DB_TEXT(m->lease->id);
	}
	return db_exec_batch(x->conn, "DELETE FROM device_claims WHERE worker_id = $1 AND lease_id = $2", values, 2,
			     (size_t)(v - values) / 2, NULL, err);
}

static int worker_write(struct moving *x, struct err *err)
{
	const struct worker *w = x->m->worker;

	if (x->worker_moved)
		return db_update_many(x->conn, &worker_standing_type, "workers", "id", w, 1, NULL, err);
	return x->m->worker_seen ? worker_seen_write(x->conn, w, err) : 0;
}

static int replicas_end(struct moving *x, struct err *err)
{
	struct db_value *values = arena_array(x->a, struct db_value, 2 * x->m->len), *v = values;

	for (size_t i = 0; i < x->m->len; i++) {
		const struct lease_move *m = move_at(x, i);

		if (!ends(m) || m->again)
			continue;
		*v++ = DB_TEXT(m->lease->replica_id);
		*v++ = DB_INT(x->now_ms);
	}
	return db_exec_batch(x->conn, "UPDATE replicas SET state = 'ended', hold_id = NULL, updated_ms = $2 WHERE id = $1", values, 2,
			     x->ended, &x->replicas_ended, err);
}

static int announce(struct moving *x, struct err *err)
{
	struct event_item *events = arena_array(x->a, struct event_item, 2 * x->m->len);
	size_t len = 0;

	for (size_t i = 0; i < x->m->len; i++) {
		const struct lease_move *m = move_at(x, i);
		const struct lease *l = m->lease;
		struct workload *w;
		bool changed;

		if (!(m->effects & EFFECT_ANNOUNCE))
			continue;
		w = map_find(x->workloads, l->workload_id);
		if (!w)
			return err_set(err, ERR_INTERNAL, "lease %s has no workload", l->id);
		workload_follow(x, m, w, &changed);
		if (changed)
			events[len++] = (struct event_item){ l->org_id, x->m->actor, w->id,
							     arena_printf(x->a, "workload.%s", workload_state_names[w->state]),
							     w->reason, w->reason_text };
		events[len++] = (struct event_item){ l->org_id, x->m->actor, l->id,
						     arena_printf(x->a, "lease.%s", lease_state_names[l->state]),
						     lease_reason_names[l->reason], reason_text(l) };
	}
	if (len == 0)
		return 0;
	if (db_update_many(x->conn, &workload_progress_type, "workloads", "id", x->progress, x->progress_len, NULL, err) < 0)
		return -1;
	return events_append(x->c, x->conn, events, len, err);
}

/* Batches alone (db_pipeline).  The worker's row first: who moves the same at the same time waits there, and is told to try
 * again; a receipt that both insert would be a conflict. */
static int rows_write(struct db_conn *conn, void *arg, struct err *err)
{
	struct moving *x = arg;

	(void)conn;
	if (worker_write(x, err) < 0 || leases_write(x, true, err) < 0 || leases_write(x, false, err) < 0 ||
	    receipts_replace(x, err) < 0 || receipts_insert(x, err) < 0 || claims_drop(x, err) < 0 || replicas_end(x, err) < 0)
		return -1;
	return announce(x, err);
}

/* Each row that is moved is there: else its transaction must not commit. */
static int counts_check(const struct moving *x, struct err *err)
{
	if (x->leases_stored[true] + x->leases_stored[false] != (int64_t)x->m->len)
		return err_set(err, ERR_NOT_FOUND, "lease %s%s is not there", move_at(x, 0)->lease->id,
			       x->m->len > 1 ? " or another" : "");
	if (x->replaced != (int64_t)x->replacing)
		return err_set(err, ERR_INTERNAL, "a receipt that was taken before is not there");
	if (x->replicas_ended != (int64_t)x->ended)
		return err_set(err, ERR_NOT_FOUND, "a replica that a lease ran is not there");
	return 0;
}

/* ---- who must know ------------------------------------------------------------------------------------------ */

static void tell(struct moving *x)
{
	bool any = false, ended = false;

	for (size_t i = 0; i < x->m->len; i++) {
		const struct lease_move *m = move_at(x, i);

		if (m->effects == 0)
			continue;
		any = true;
		wake(x->c, x->conn, "workload", m->lease->workload_id);
		if (!(m->effects & EFFECT_ANNOUNCE))
			continue;
		metrics_count(x->c, x->conn, "lease_transitions_total", 1);
		if (!ends(m))
			continue;
		ended = true;
		metrics_count_label(x->c, x->conn, "leases_ended_total", "reason", lease_reason_names[m->lease->reason], 1);
	}
	if (any)
		wake(x->c, x->conn, "duty", "faults"); /* a deadline may be nearer now */
	if (ended)
		wake(x->c, x->conn, "duty", "scheduler");
}

/* ---- all of it ----------------------------------------------------------------------------------------------- */

static int store(struct moving *x, struct err *err)
{
	if (worker_lock(x, err) < 0 || settle(x, err) < 0)
		return -1;
	worker_move(x);
	if (replicas_retry(x, err) < 0 || workloads_read(x, err) < 0 || db_pipeline(x->conn, rows_write, x, err) < 0 ||
	    counts_check(x, err) < 0)
		return -1;
	tell(x);
	return 0;
}

int lease_moves_store(struct control *c, struct db_conn *conn, const struct lease_moves *m, struct arena *a, struct err *err)
{
	struct moving x = { .c = c, .conn = conn, .a = a, .m = m, .now_ms = control_now(c), .workloads = map_new() };
	int rc = store(&x, err);

	map_free(x.workloads, NULL);
	return rc;
}

static int move_one(struct control *c, struct db_conn *conn, struct lease *lease, unsigned effects, const char *actor,
		    struct arena *a, struct err *err)
{
	struct lease_move move = { .lease = lease, .effects = effects }, *items = &move;
	struct worker w = { 0 };

	if ((effects & EFFECTS_OF_WORKER) && worker_standing_load(conn, lease->worker_id, a, &w, err) < 0)
		return -1;
	return lease_moves_store(c, conn, &(struct lease_moves){ .items = &items, .len = 1, .worker = &w, .actor = actor }, a, err);
}

int lease_transition(struct control *c, struct db_conn *conn, struct lease *lease, const struct lease_event *event,
		     const char *actor, struct arena *a, struct err *err)
{
	struct lease_change change;

	if (lease_apply(lease, event, control_now(c), &change, err) < 0)
		return -1;
	*lease = change.lease;
	if (change.effects == 0)
		return lease_store(c, conn, lease, err); /* what is metered may have changed */
	return move_one(c, conn, lease, change.effects, actor, a, err);
}

int lease_desired_push(struct control *c, struct db_conn *conn, struct lease *lease, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };

	return move_one(c, conn, lease, EFFECT_CHANGED | EFFECT_DESIRE, NULL, &arena, err);
}
