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

/* Deletes the blobs of the selected ids, then runs `after` for each id. */
static int blobs_sweep(struct control *c, struct db_conn *conn, const char *select, struct db_args args, const char *folder,
		       const char *after, struct arena *a, struct err *err)
{
	struct db_rows *rows = NULL;
	VEC(const char *) ids = { 0 };
	int rc;

	if (db_query(conn, select, args, &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0)
		*vec_push(&ids) = db_text(rows, 0, a);
	db_rows_free(rows);
	for (size_t i = 0; rc == 0 && i < ids.len; i++) {
		const char *key = arena_printf(a, "%s/%s", folder, ids.items[i]);

		rc = blob_delete(c->blobs, key, err);
		if (rc == 0)
			rc = sweep(conn, after, DB_ARGS(DB_TEXT(ids.items[i])), err);
	}
	vec_release(&ids);
	return rc;
}

int retention_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	bool leads;

	*ret_next_ms = now_ms + ROUND_MS;
	sessions_expire(c->sessions, now_ms);
	if (leader_check(c, conn, "retention", now_ms, &leads, err) < 0)
		return -1;
	if (!leads)
		return 0;
	if (blobs_sweep(c, conn,
			"SELECT l.id FROM leases l JOIN workloads w ON w.id = l.workload_id WHERE l.state = 'ended'"
			" AND l.logs_bytes > 0 AND l.logs_expired = 0 AND (l.ended_ms < $1 OR w.removed_ms > 0) LIMIT $2",
			DB_ARGS(DB_INT(now_ms - c->config.logs_keep_ms), DB_INT(BATCH)), "logs",
			"UPDATE leases SET logs_expired = 1 WHERE id = $1", &arena, err) < 0 ||
	    blobs_sweep(c, conn,
			"SELECT r.id FROM results r JOIN workloads w ON w.id = r.workload_id"
			" WHERE r.expires_ms < $1 OR w.removed_ms > 0 LIMIT $2",
			DB_ARGS(DB_INT(now_ms), DB_INT(BATCH)), "results", "DELETE FROM results WHERE id = $1", &arena, err) < 0 ||
	    blobs_sweep(c, conn, "SELECT id FROM inputs WHERE expires_ms < $1 AND NOT EXISTS (SELECT 1 FROM workloads w WHERE"
			" w.org_id = inputs.org_id AND w.ended_ms = 0 AND w.spec LIKE '%' || inputs.id || '%') LIMIT $2",
			DB_ARGS(DB_INT(now_ms), DB_INT(BATCH)), "inputs", "DELETE FROM inputs WHERE id = $1", &arena, err) < 0)
		return -1;
	if (sweep(conn, "DELETE FROM idempotency WHERE created_ms < $1", DB_ARGS(DB_INT(now_ms - DAY_MS)), err) < 0 ||
	    sweep(conn, "DELETE FROM quotes WHERE used_by IS NULL AND expires_ms < $1", DB_ARGS(DB_INT(now_ms - DAY_MS)), err) < 0 ||
	    sweep(conn, "DELETE FROM avoids WHERE updated_ms < $1", DB_ARGS(DB_INT(now_ms - DAY_MS)), err) < 0 ||
	    sweep(conn, "DELETE FROM workload_secrets WHERE workload_id IN (SELECT id FROM workloads WHERE ended_ms > 0)",
		  DB_NO_ARGS, err) < 0)
		return -1;
	return 0;
}
