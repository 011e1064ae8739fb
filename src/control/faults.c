/* The fault monitor: workers that fall silent, and leases whose deadline has come (reservation, preparation, grace,
 * duration, stop).  The server's own downtime is nobody's fault: silence is counted from its start at the earliest. */
#include "internal.h"

#define BATCH 200
#define ROUND_MS (2 * SECOND_MS)
#define UPTIME_BATCH 1000

struct lease_arg {
	struct control *c;
	const char *id;
	enum lease_event_kind kind;
};

static int lease_event_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct lease_arg *x = arg;
	cleanup_arena struct arena arena = { 0 };
	struct lease lease;
	struct lease_event event = { .kind = x->kind };

	if (lease_load(conn, x->id, &arena, &lease, err) < 0)
		return -1;
	if (lease.state == LEASE_ENDED)
		return 0;
	/* Of a worker with a lease each heartbeat is stored. */
	if (x->kind == LEASE_EVENT_TICK && lease.state == LEASE_STOPPING &&
	    db_query_int(conn, "SELECT seen_ms FROM workers WHERE id = $1", DB_ARGS(DB_TEXT(lease.worker_id)), 0, &event.heard_ms,
			 err) < 0)
		return -1;
	return lease_transition(x->c, conn, &lease, &event, "faults", &arena, err);
}

/* *ret_done: how many took it; those that could not are passed over. */
static int leases_event(struct control *c, struct db_conn *conn, const char *sql, struct db_args args,
			enum lease_event_kind kind, size_t *ret_done, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct db_rows *rows = NULL;
	VEC(const char *) ids = { 0 };
	int rc;

	*ret_done = 0;
	if (db_query(conn, sql, args, &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0)
		*vec_push(&ids) = db_text(rows, 0, &arena);
	db_rows_free(rows);
	for (size_t i = 0; rc == 0 && i < ids.len; i++) {
		struct lease_arg x = { c, ids.items[i], kind };

		if (db_tx(conn, lease_event_tx, &x, err) == 0)
			(*ret_done)++;
		else if (!duty_passes_over(c, "faults", ids.items[i], err))
			rc = -1;
	}
	vec_release(&ids);
	return rc;
}

struct silent_arg {
	struct control *c;
	const char *worker_id;
	int64_t seen_ms, now_ms;
};

static int worker_silent_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct silent_arg *x = arg;
	cleanup_arena struct arena arena = { 0 };
	struct worker w;

	if (worker_load(conn, x->worker_id, &arena, &w, err) < 0)
		return -1;
	if (w.state != WORKER_ONLINE || w.seen_ms != x->seen_ms)
		return 0; /* heard meanwhile */
	if (db_exec(conn, "UPDATE workers SET state = 'offline', offline_since_ms = $2, updated_ms = $2 WHERE id = $1",
		    DB_ARGS(DB_TEXT(w.id), DB_INT(x->now_ms)), NULL, err) < 0)
		return -1;
	heartbeat_changed(x->c, conn, w.id);
	scheduler_dirty(x->c, conn, w.id);
	return event_append(x->c, conn, w.org_id, "faults", w.id, "worker.offline", "missed_heartbeats",
			    arena_printf(&arena, "%s was last heard %" PRId64 " s ago", w.name, (x->now_ms - w.seen_ms) / SECOND_MS),
			    err);
}

/* Many may fall silent at once, where a network ends. */
static int workers_silent(struct control *c, struct db_conn *conn, int64_t now_ms, size_t *ret_done, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct worker *items;
	size_t len;
	int64_t before = now_ms - c->config.silent_after_ms;

	*ret_done = 0;
	if (before < c->started_ms)
		return 0; /* they have not had the time to be heard */
	/* Of an idle worker the last heartbeats may not have been stored (heartbeats.c); since it has accepted a lease they
	 * all are. */
	if (db_select(conn, &worker_type, "workers",
		      "WHERE state = 'online' AND seen_ms < $1 AND (seen_ms < $2"
		      " OR EXISTS (SELECT 1 FROM leases l WHERE l.worker_id = workers.id AND l.state <> 'ended'"
		      " AND l.accepted_ms <> 0)) LIMIT $3",
		      DB_ARGS(DB_INT(before), DB_INT(before - seen_lag_ms(c)), DB_INT(BATCH)), &arena, (void **)&items, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		struct silent_arg x = { c, items[i].id, items[i].seen_ms, now_ms };

		if (db_tx(conn, worker_silent_tx, &x, err) == 0)
			(*ret_done)++;
		else if (!duty_passes_over(c, "faults", items[i].id, err))
			return -1;
	}
	return 0;
}

/* ---- uptime ------------------------------------------------------------------------------------------------ */

struct uptime_arg {
	struct control *c;
	int64_t now_ms;
	const char *after, *upto; /* workers with after < id <= upto */
	bool due;
};

/* Claims the minute that has passed since the last count. */
static int uptime_due_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct uptime_arg *x = arg;
	char value[24];
	int64_t last;

	if (db_query_int(conn, "SELECT CAST(value AS BIGINT) FROM settings WHERE key = 'uptime_counted_ms'", DB_NO_ARGS, 0,
			 &last, err) < 0)
		return -1;
	/* After the server was away nobody is blamed for it. */
	x->due = x->now_ms - last >= MINUTE_MS && x->now_ms - x->c->started_ms >= x->c->config.silent_after_ms;
	if (x->now_ms - last < MINUTE_MS)
		return 0;
	snprintf(value, sizeof(value), "%" PRId64, x->now_ms);
	return db_exec(conn, "INSERT INTO settings (key, value) VALUES ('uptime_counted_ms', $1)"
			     " ON CONFLICT (key) DO UPDATE SET value = excluded.value", DB_ARGS(DB_TEXT(value)), NULL, err);
}

static int uptime_tx(struct db_conn *conn, void *arg, struct err *err)
{
	static const char bump[] =
		"INSERT INTO worker_days (worker_id, day, online_s, expected_s)"
		" SELECT id, $1, CASE WHEN state = 'online' THEN $2 ELSE 0 END, $2 FROM workers WHERE id > $4 AND id <= $5"
		" AND state <> 'left' AND intent = 'open' AND blocked = 0 AND joined_ms < $3"
		" ON CONFLICT (worker_id, day) DO UPDATE SET online_s = worker_days.online_s + excluded.online_s,"
		" expected_s = worker_days.expected_s + excluded.expected_s";
	/* Most stay as they are, and are not written. */
	static const char refresh[] =
		"UPDATE workers SET uptime_ppm = d.ppm, updated_ms = $4 FROM (SELECT worker_id,"
		" CAST(SUM(online_s) AS BIGINT) * 1000000 / CAST(SUM(expected_s) AS BIGINT) AS ppm FROM worker_days"
		" WHERE worker_id > $2 AND worker_id <= $3 AND day > $1 GROUP BY worker_id HAVING SUM(expected_s) > 0) d"
		" WHERE d.worker_id = workers.id AND workers.state <> 'left' AND workers.uptime_ppm <> d.ppm";
	struct uptime_arg *x = arg;
	int64_t day = x->now_ms / DAY_MS, minute_s = 60;

	if (db_exec(conn, bump, DB_ARGS(DB_INT(day), DB_INT(minute_s), DB_INT(x->now_ms - MINUTE_MS), DB_TEXT(x->after),
					DB_TEXT(x->upto)), NULL, err) < 0)
		return -1;
	return db_exec(conn, refresh, DB_ARGS(DB_INT(day - 30), DB_TEXT(x->after), DB_TEXT(x->upto), DB_INT(x->now_ms)), NULL, err);
}

/* The last of the next UPTIME_BATCH ids after `after`; NULL: there are none. */
static int uptime_batch_end(struct db_conn *conn, const char *after, struct arena *a, const char **ret, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int rc;

	*ret = NULL;
	if (db_query(conn, "SELECT MAX(id) FROM (SELECT id FROM workers WHERE id > $1 ORDER BY id LIMIT $2) t",
		     DB_ARGS(DB_TEXT(after), DB_INT(UPTIME_BATCH)), &rows, err) < 0 || (rc = db_next(rows, err)) < 0)
		return -1;
	*ret = db_text(rows, 0, a);
	return 0;
}

/* Uptime in buckets of a day: a worker counts as up for the minute since the last count if it is online now.  Many short
 * transactions, so that heartbeats and placements are not kept waiting; where one of them fails, its workers have a
 * minute less of both sums. */
static int uptime_count(struct control *c, struct db_conn *conn, int64_t now_ms, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct uptime_arg x = { .c = c, .now_ms = now_ms, .after = "" };

	if (db_tx(conn, uptime_due_tx, &x, err) < 0)
		return -1;
	if (!x.due)
		return 0;
	for (;; x.after = x.upto) {
		if (uptime_batch_end(conn, x.after, &arena, &x.upto, err) < 0)
			return -1;
		if (!x.upto)
			return 0;
		if (db_tx(conn, uptime_tx, &x, err) < 0)
			return -1;
	}
}

int faults_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	int64_t next;
	size_t silent, unreachable, ticked;
	bool leads;

	*ret_next_ms = now_ms + ROUND_MS;
	if (heartbeats_round(c, conn, now_ms, ret_next_ms, err) < 0 || leader_check(c, conn, "faults", now_ms, &leads, err) < 0)
		return -1;
	if (!leads)
		return 0;
	if (now_ms - c->started_ms < c->config.silent_after_ms)
		return 0; /* workers have not had the time to say what happened while the server was away */
	if (workers_silent(c, conn, now_ms, &silent, err) < 0 ||
	    leases_event(c, conn,
			 "SELECT l.id FROM leases l JOIN workers w ON w.id = l.worker_id WHERE w.state = 'offline'"
			 " AND l.state <> 'ended' AND l.unreachable_since_ms = 0 LIMIT $1",
			 DB_ARGS(DB_INT(BATCH)), LEASE_EVENT_SILENT, &unreachable, err) < 0 ||
	    leases_event(c, conn, "SELECT id FROM leases WHERE state <> 'ended' AND deadline_ms <> 0 AND deadline_ms <= $1"
				  " ORDER BY deadline_ms LIMIT $2",
			 DB_ARGS(DB_INT(now_ms), DB_INT(BATCH)), LEASE_EVENT_TICK, &ticked, err) < 0 ||
	    uptime_count(c, conn, now_ms, err) < 0 ||
	    db_query_int(conn, "SELECT MIN(deadline_ms) FROM leases WHERE state <> 'ended' AND deadline_ms <> 0", DB_NO_ARGS, 0,
			 &next, err) < 0)
		return -1;
	if (silent == BATCH || unreachable == BATCH || ticked == BATCH)
		*ret_next_ms = now_ms;
	else if (next > now_ms)
		*ret_next_ms = MIN(*ret_next_ms, next);
	return 0;
}
