/* Retention: logs, results and inputs past their time, removed workloads, old idempotency keys, spent tokens and quotes.
 * The bytes go first and the row that names them after: what a crash leaves behind is found again by its row. */
#include "internal.h"

#define BATCH 100
#define ROUND_MS MINUTE_MS

struct sweep_arg {
	const char *sql;
	struct db_args args;
};

static int sweep_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct sweep_arg *x = arg;

	return db_exec(conn, x->sql, x->args, NULL, err);
}

static int sweep(struct db_conn *conn, const char *sql, struct db_args args, struct err *err)
{
	struct sweep_arg x = { sql, args };

	return db_tx(conn, sweep_tx, &x, err);
}

/* Removed longer ago and still there: then what is kept for a time only goes at its end. */
#define REMOVED_MS DAY_MS

static int64_t logs_until_ms(const struct control *c, int64_t now_ms)
{
	return now_ms - c->config.logs_keep_ms;
}

static int64_t removed_since_ms(const struct control *c, int64_t now_ms)
{
	return now_ms - REMOVED_MS;
}

static int64_t expired_until_ms(const struct control *c, int64_t now_ms)
{
	return now_ms;
}

/* Blobs whose time is over: which, in which folder, and how their row is told that they are gone. */
static const struct blob_sweep {
	int64_t (*time_ms)(const struct control *c, int64_t now_ms);
	const char *select; /* ids; $1 that time, $2 at most so many */
	const char *folder, *after;
} sweeps[] = {
	{ logs_until_ms,
	  "SELECT id FROM leases WHERE state = 'ended' AND logs_bytes > 0 AND logs_expired = 0 AND ended_ms < $1 LIMIT $2",
	  "logs", "UPDATE leases SET logs_expired = 1 WHERE id = $1" },
	{ removed_since_ms,
	  "SELECT l.id FROM workloads w JOIN leases l ON l.workload_id = w.id WHERE w.removed_ms > 0 AND w.removed_ms > $1"
	  " AND l.state = 'ended' AND l.logs_bytes > 0 AND l.logs_expired = 0 LIMIT $2",
	  "logs", "UPDATE leases SET logs_expired = 1 WHERE id = $1" },
	{ expired_until_ms,
	  "SELECT id FROM results WHERE expires_ms < $1 LIMIT $2",
	  "results", "DELETE FROM results WHERE id = $1" },
	{ removed_since_ms,
	  "SELECT r.id FROM workloads w JOIN results r ON r.workload_id = w.id WHERE w.removed_ms > 0 AND w.removed_ms > $1 LIMIT $2",
	  "results", "DELETE FROM results WHERE id = $1" },
	{ expired_until_ms,
	  "SELECT id FROM inputs WHERE expires_ms < $1 AND NOT EXISTS (SELECT 1 FROM workloads w WHERE"
	  " w.org_id = inputs.org_id AND w.ended_ms = 0 AND w.spec LIKE '%' || inputs.id || '%') LIMIT $2",
	  "inputs", "DELETE FROM inputs WHERE id = $1" },
};

static int blobs_sweep(struct control *c, struct db_conn *conn, const struct blob_sweep *s, int64_t now_ms, bool *ret_more,
		       struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct db_rows *rows = NULL;
	const char *ids[BATCH];
	size_t len = 0, done = 0;
	int rc;

	if (db_query(conn, s->select, DB_ARGS(DB_INT(s->time_ms(c, now_ms)), DB_INT(BATCH)), &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0)
		ids[len++] = db_text(rows, 0, &arena);
	db_rows_free(rows);
	if (rc < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (blob_delete(c->blobs, arena_printf(&arena, "%s/%s", s->folder, ids[i]), err) == 0 &&
		    sweep(conn, s->after, DB_ARGS(DB_TEXT(ids[i])), err) == 0)
			done++;
		else if (!duty_passes_over(c, "retention", ids[i], err))
			return -1;
	}
	*ret_more |= done == BATCH;
	return 0;
}

int retention_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	bool leads, more = false;

	*ret_next_ms = now_ms + ROUND_MS;
	sessions_expire(c->sessions, now_ms);
	if (leader_check(c, conn, "retention", now_ms, &leads, err) < 0)
		return -1;
	if (!leads)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(sweeps); i++)
		if (blobs_sweep(c, conn, &sweeps[i], now_ms, &more, err) < 0)
			return -1;
	if (more)
		*ret_next_ms = now_ms;
	if (sweep(conn, "DELETE FROM idempotency WHERE created_ms < $1", DB_ARGS(DB_INT(now_ms - DAY_MS)), err) < 0 ||
	    sweep(conn, "DELETE FROM quotes WHERE used_by IS NULL AND expires_ms < $1", DB_ARGS(DB_INT(now_ms - DAY_MS)), err) < 0 ||
	    sweep(conn, "DELETE FROM avoids WHERE updated_ms < $1", DB_ARGS(DB_INT(now_ms - DAY_MS)), err) < 0 ||
	    sweep(conn, "DELETE FROM workload_secrets WHERE EXISTS (SELECT 1 FROM workloads w"
			" WHERE w.id = workload_secrets.workload_id AND w.ended_ms > 0)", DB_NO_ARGS, err) < 0)
		return -1;
	return 0;
}
