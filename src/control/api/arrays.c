/* Arrays: their workloads together.  An array has no row of its own: it is what its workloads say. */
#include "../internal.h"

#define STOP_AT_ONCE 50 /* workloads in one transaction: others want to place, pay and end meanwhile */

static const char summary_query[] =
	"SELECT array_id, COUNT(*), COUNT(*) FILTER (WHERE state = 'pending'), COUNT(*) FILTER (WHERE state = 'preparing'),"
	" COUNT(*) FILTER (WHERE state = 'running'), COUNT(*) FILTER (WHERE state = 'paused'),"
	" COUNT(*) FILTER (WHERE state = 'stopping'), COUNT(*) FILTER (WHERE state = 'succeeded'),"
	" COUNT(*) FILTER (WHERE state = 'failed'), COUNT(*) FILTER (WHERE state = 'stopped'), MAX(exit_code),"
	" CAST(SUM(charged_uusd) AS BIGINT), MIN(created_ms), CASE WHEN MIN(ended_ms) = 0 THEN 0 ELSE MAX(ended_ms) END"
	" FROM workloads_now WHERE array_id >= $1 AND array_id < $2 AND org_id = $3 GROUP BY array_id LIMIT 2";

static void summary_take(struct db_rows *rows, struct arena *a, struct array_summary *ret)
{
	*ret = (struct array_summary){
		.id = db_text(rows, 0, a), .count = db_int(rows, 1), .pending = db_int(rows, 2), .preparing = db_int(rows, 3),
		.running = db_int(rows, 4), .paused = db_int(rows, 5), .stopping = db_int(rows, 6), .succeeded = db_int(rows, 7),
		.failed = db_int(rows, 8), .stopped = db_int(rows, 9), .exit_code = db_int(rows, 10),
		.charged_uusd = db_int(rows, 11), .created_ms = db_int(rows, 12), .ended_ms = db_int(rows, 13),
	};
}

/* By its id or a unique prefix of it.  One statement. */
static int array_load(struct db_conn *conn, const struct call *call, struct array_summary *ret, struct err *err)
{
	const char *ref = call->params[0];
	cleanup_rows struct db_rows *rows = NULL;
	int rc = 0;

	if (id_prefix_valid(ref, "ar")) {
		if (db_query(conn, summary_query,
			     DB_ARGS(DB_TEXT(ref), DB_TEXT(arena_printf(call->arena, "%s~", ref)), DB_TEXT(call->caller.org_id)),
			     &rows, err) < 0 ||
		    (rc = db_next(rows, err)) < 0)
			return -1;
	}
	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no array \"%.64s\": `tes show` of a workload names its own", ref);
	summary_take(rows, call->arena, ret);
	if ((rc = db_next(rows, err)) < 0)
		return -1;
	return rc ? err_set(err, ERR_CONFLICT, "\"%.64s\" is the beginning of several array ids: give more of it", ref) : 0;
}

int op_array_show(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	(void)c;
	return array_load(conn, call, call->out, err);
}

/* ---- stop -------------------------------------------------------------------------------------------------- */

struct stop_arg {
	struct control *c;
	const char *org_id, *array_id, *actor;
	int64_t from;  /* number of the first that was not looked at yet */
	int64_t after; /* what it becomes by the transaction */
};

static int stop_some(struct db_conn *conn, void *arg, struct err *err)
{
	struct stop_arg *x = arg;
	cleanup_arena struct arena arena = { 0 };
	struct workload *items;
	size_t len;

	if (db_select(conn, &workload_type, "workloads",
		      "WHERE org_id = $1 AND array_id = $2 AND array_index >= $3 AND ended_ms = 0 ORDER BY array_index LIMIT $4",
		      DB_ARGS(DB_TEXT(x->org_id), DB_TEXT(x->array_id), DB_INT(x->from), DB_INT(STOP_AT_ONCE)), &arena,
		      (void **)&items, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		if (workload_stop(x->c, conn, &items[i], x->actor, &arena, err) < 0)
			return -1;
	x->after = len == STOP_AT_ONCE ? items[len - 1].array_index + 1 : ARRAY_MAX;
	return 0;
}

/* Some at a time, in the order of their numbers; what comes between leaves the others to be stopped by asking again. */
int op_array_stop(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct array_summary *out = call->out;
	struct stop_arg x = { .c = c, .org_id = call->caller.org_id, .actor = caller_actor(&call->caller) };

	if (array_load(conn, call, out, err) < 0)
		return -1;
	x.array_id = out->id;
	for (; x.from < ARRAY_MAX; x.from = x.after)
		if (db_tx(conn, stop_some, &x, err) < 0)
			return -1;
	return array_load(conn, call, out, err);
}
