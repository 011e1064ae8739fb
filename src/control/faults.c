/* The fault monitor: workers that fall silent, and leases whose deadline has come (reservation, preparation, grace,
 * duration, stop).  The server's own downtime is nobody's fault: silence is counted from its start at the earliest. */
#include "internal.h"

#define BATCH 200
#define ROUND_MS (2 * SECOND_MS)

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
	return lease_transition(x->c, conn, &lease, &event, "faults", &arena, err);
}

static int leases_event(struct control *c, struct db_conn *conn, const char *sql, struct db_args args,
			enum lease_event_kind kind, struct arena *a, size_t *ret_len, struct err *err)
{
	struct db_rows *rows = NULL;
	VEC(const char *) ids = { 0 };
	int rc;

	if (db_query(conn, sql, args, &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0)
		*vec_push(&ids) = db_text(rows, 0, a);
	db_rows_free(rows);
	for (size_t i = 0; rc == 0 && i < ids.len; i++) {
		struct lease_arg x = { c, ids.items[i], kind };

		rc = db_tx(conn, lease_event_tx, &x, err);
	}
	if (ret_len)
		*ret_len = ids.len;
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
	if (db_exec(conn, "UPDATE workers SET state = 'offline', offline_since_ms = $2 WHERE id = $1",
		    DB_ARGS(DB_TEXT(w.id), DB_INT(x->now_ms)), NULL, err) < 0)
		return -1;
	scheduler_dirty(x->c, conn, w.id);
	return event_append(x->c, conn, w.org_id, "faults", w.id, "worker.offline", "missed_heartbeats",
			    arena_printf(&arena, "%s was last heard %" PRId64 " s ago", w.name, (x->now_ms - w.seen_ms) / SECOND_MS),
			    err);
}

static int workers_silent(struct control *c, struct db_conn *conn, int64_t now_ms, struct arena *a, struct err *err)
{
	struct worker *items;
	size_t len;
	int64_t before = now_ms - c->config.silent_after_ms;

	if (before < c->started_ms)
		return 0; /* they have not had the time to be heard */
	/* Of an idle worker the last heartbeats may not have been stored (observe_quietly); since it has accepted a lease
	 * they all are. */
	if (db_select(conn, &worker_type, "workers",
		      "WHERE state = 'online' AND seen_ms < $1 AND (seen_ms < $2"
		      " OR EXISTS (SELECT 1 FROM leases l WHERE l.worker_id = workers.id AND l.state <> 'ended'"
		      " AND l.accepted_ms <> 0)) LIMIT $3",
		      DB_ARGS(DB_INT(before), DB_INT(before - seen_lag_ms(c)), DB_INT(BATCH)), a, (void **)&items, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		struct silent_arg x = { c, items[i].id, items[i].seen_ms, now_ms };

		if (db_tx(conn, worker_silent_tx, &x, err) < 0)
			return -1;
	}
	return leases_event(c, conn,
			    "SELECT l.id FROM leases l JOIN workers w ON w.id = l.worker_id WHERE w.state = 'offline'"
			    " AND l.state <> 'ended' AND l.unreachable_since_ms = 0 LIMIT $1",
			    DB_ARGS(DB_INT(BATCH)), LEASE_EVENT_SILENT, a, NULL, err);
}

/* Uptime in buckets of a day: a worker counts as up for the time since the last round if it is online now. */
static int uptime_count(struct control *c, struct db_conn *conn, int64_t now_ms, struct err *err)
{
	static const char bump[] =
		"INSERT INTO worker_days (worker_id, day, online_s, expected_s)"
		" SELECT id, $1, CASE WHEN state = 'online' THEN $2 ELSE 0 END, $2 FROM workers"
		" WHERE state <> 'left' AND intent = 'open' AND blocked = 0 AND joined_ms < $3"
		" ON CONFLICT (worker_id, day) DO UPDATE SET online_s = worker_days.online_s + excluded.online_s,"
		" expected_s = worker_days.expected_s + excluded.expected_s";
	static const char refresh[] =
		"UPDATE workers SET uptime_ppm = COALESCE((SELECT SUM(d.online_s) * 1000000 / SUM(d.expected_s)"
		" FROM worker_days d WHERE d.worker_id = workers.id AND d.day > $1), 1000000) WHERE state <> 'left'";
	int64_t day = now_ms / DAY_MS, minute_s = 60, last;

	if (db_query_int(conn, "SELECT CAST(value AS BIGINT) FROM settings WHERE key = 'uptime_counted_ms'", DB_NO_ARGS, 0,
			 &last, err) < 0)
		return -1;
	if (now_ms - last < MINUTE_MS)
		return 0;
	char value[24];

	snprintf(value, sizeof(value), "%" PRId64, now_ms);
	if (db_exec(conn, "INSERT INTO settings (key, value) VALUES ('uptime_counted_ms', $1)"
			  " ON CONFLICT (key) DO UPDATE SET value = excluded.value", DB_ARGS(DB_TEXT(value)), NULL, err) < 0)
		return -1;
	if (now_ms - c->started_ms < c->config.silent_after_ms)
		return 0; /* the server was away: nobody is blamed for it */
	if (db_exec(conn, bump, DB_ARGS(DB_INT(day), DB_INT(minute_s), DB_INT(now_ms - MINUTE_MS)), NULL, err) < 0)
		return -1;
	return db_exec(conn, refresh, DB_ARGS(DB_INT(day - 30)), NULL, err);
}

struct uptime_arg {
	struct control *c;
	int64_t now_ms;
};

static int uptime_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct uptime_arg *x = arg;

	return uptime_count(x->c, conn, x->now_ms, err);
}

int faults_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct uptime_arg up = { c, now_ms };
	int64_t next;
	size_t done;
	bool leads;

	*ret_next_ms = now_ms + ROUND_MS;
	if (leader_check(c, conn, "faults", now_ms, &leads, err) < 0)
		return -1;
	if (!leads)
		return 0;
	if (now_ms - c->started_ms < c->config.silent_after_ms)
		return 0; /* workers have not had the time to say what happened while the server was away */
	if (workers_silent(c, conn, now_ms, &arena, err) < 0 ||
	    leases_event(c, conn, "SELECT id FROM leases WHERE state <> 'ended' AND deadline_ms <> 0 AND deadline_ms <= $1"
				  " ORDER BY deadline_ms LIMIT $2",
			 DB_ARGS(DB_INT(now_ms), DB_INT(BATCH)), LEASE_EVENT_TICK, &arena, &done, err) < 0 ||
	    db_tx(conn, uptime_tx, &up, err) < 0 ||
	    db_query_int(conn, "SELECT MIN(deadline_ms) FROM leases WHERE state <> 'ended' AND deadline_ms <> 0", DB_NO_ARGS, 0,
			 &next, err) < 0)
		return -1;
	if (done == BATCH)
		*ret_next_ms = now_ms;
	else if (next > now_ms)
		*ret_next_ms = MIN(*ret_next_ms, next);
	return 0;
}
