/* Customers' workloads: look, stop, remove; creating them is submit.c. */
#include "../internal.h"

/* ---- look ------------------------------------------------------------------------------------------- */

#define FILTER                                                                                                            \
	" AND removed_ms = 0 AND ($3 = '' OR name = $3) AND ($4 = '' OR state = $4)"                                      \
	" AND ($5 = 1 OR ended_ms = 0 OR ended_ms > $6) AND ($8 = '' OR array_id = $8)"
#define LISTED "WHERE org_id = $1 AND ($2 = '' OR id < $2)" FILTER " ORDER BY id DESC LIMIT $7"
/* In the same order, by the array's own index: an organisation may have a million others.  A cursor that is none of the
 * array's still tells where to go on. */
#define LISTED_OF_ARRAY                                                                                                   \
	"WHERE org_id = $1 AND array_id = $8 AND ($2 = '' OR id < $2)"                                                    \
	" AND array_index < COALESCE((SELECT w.array_index FROM workloads w WHERE w.id = $2 AND w.org_id = $1"            \
	" AND w.array_id = $8), 9223372036854775807)" FILTER " ORDER BY array_index DESC LIMIT $7"

int op_workload_list(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct workload_query *q = call->in;
	struct workload_page *page = call->out;
	void *items;
	size_t len;

	/* One more than asked for tells whether there is a next page. state -1: any. */
	if (db_select(conn, &workload_type, "workloads", q->array ? LISTED_OF_ARRAY : LISTED,
		      DB_ARGS(DB_TEXT(call->caller.org_id), DB_TEXT(q->cursor ? q->cursor : ""),
			      DB_TEXT(q->name ? q->name : ""),
			      DB_TEXT(q->state >= 0 ? workload_state_names[q->state] : ""), DB_INT(q->all),
			      DB_INT(control_now(c) - DAY_MS), DB_INT(q->limit + 1), DB_TEXT(q->array ? q->array : "")),
		      call->arena, &items, &len, err) < 0)
		return -1;
	page->items.items = items;
	page->items.len = MIN(len, (size_t)q->limit);
	if (len > (size_t)q->limit)
		page->next = page->items.items[q->limit - 1].id;
	return 0;
}

static int workload_of(struct db_conn *conn, struct call *call, struct workload *ret, struct err *err)
{
	return workload_load(conn, call->caller.org_id, call->params[0], call->arena, ret, err);
}

int op_workload_show(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	(void)c;
	return workload_show(conn, call->caller.org_id, call->params[0], call->arena, call->out, err);
}

int op_workload_leases(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct workload w;
	struct lease_page *page = call->out;
	void *items;

	(void)c;
	if (workload_of(conn, call, &w, err) < 0 ||
	    db_select(conn, &lease_type, "leases", "WHERE workload_id = $1 ORDER BY generation", DB_ARGS(DB_TEXT(w.id)),
		      call->arena, &items, &page->items.len, err) < 0)
		return -1;
	page->items.items = items;
	return 0;
}

static bool ends_sentence(const char *text)
{
	size_t len = strlen(text);

	return len && text[len - 1] == '.';
}

int op_workload_explain(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct workload w;
	struct request r;
	struct explanation *out = call->out;

	if (workload_of(conn, call, &w, err) < 0 || request_of(c, conn, &w, NULL, control_now(c), call->arena, &r, err) < 0 ||
	    scheduler_explain(c, conn, &r, call->arena, out, err) < 0)
		return -1;
	out->workload_id = w.id;
	if (w.state != WORKLOAD_PENDING)
		out->summary = arena_printf(call->arena, "The workload is %s: %s%s For a new attempt: %s",
					    workload_state_names[w.state], w.reason_text, ends_sentence(w.reason_text) ? "" : ".",
					    out->summary);
	return 0;
}

/* ---- stop and remove ----------------------------------------------------------------------------------- */

static int replicas_end(struct control *c, struct db_conn *conn, const struct workload *w, struct arena *a, struct err *err)
{
	struct replica *items;
	size_t len;

	if (db_select(conn, &replica_type, "replicas", "WHERE workload_id = $1 AND state = 'pending'",
		      DB_ARGS(DB_TEXT(w->id)), a, (void **)&items, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (items[i].hold_id &&
		    ledger_hold_release(conn, items[i].hold_id, "stopped before it was placed", control_now(c), err) < 0)
			return -1;
		items[i].state = REPLICA_ENDED;
		items[i].hold_id = NULL;
		items[i].updated_ms = control_now(c);
		if (db_update(conn, &replica_type, "replicas", "id", &items[i], err) < 0)
			return -1;
	}
	return 0;
}

int workload_stop(struct control *c, struct db_conn *conn, struct workload *w, const char *actor, struct arena *a, struct err *err)
{
	struct lease *leases;
	size_t len;
	struct lease_event event = { .kind = LEASE_EVENT_STOP, .reason = REASON_STOPPED_BY_CUSTOMER };

	if (workload_state_is_final(w->state))
		return 0; /* stopping what has ended is no mistake */
	if (db_select(conn, &lease_type, "leases", "WHERE workload_id = $1 AND state <> 'ended'", DB_ARGS(DB_TEXT(w->id)), a,
		      (void **)&leases, &len, err) < 0 ||
	    replicas_end(c, conn, w, a, err) < 0)
		return -1;
	if (len == 0)
		return workload_set_state(c, conn, w, WORKLOAD_STOPPED, lease_reason_names[REASON_STOPPED_BY_CUSTOMER],
					  lease_reason_text(REASON_STOPPED_BY_CUSTOMER), actor, err);
	for (size_t i = 0; i < len; i++)
		if (lease_transition(c, conn, &leases[i], &event, actor, a, err) < 0)
			return -1;
	return workload_load(conn, w->org_id, w->id, a, w, err);
}

int op_workload_stop(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct workload *w = call->out;

	if (workload_of(conn, call, w, err) < 0)
		return -1;
	return workload_stop(c, conn, w, caller_actor(&call->caller), call->arena, err);
}

int op_workload_remove(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct workload w;

	if (workload_of(conn, call, &w, err) < 0)
		return -1;
	if (!workload_state_is_final(w.state))
		return err_set(err, ERR_CONFLICT, "%s is %s: stop it first", w.id, workload_state_names[w.state]);
	if (db_exec(conn, "UPDATE workloads SET removed_ms = $2, updated_ms = $2 WHERE id = $1",
		    DB_ARGS(DB_TEXT(w.id), DB_INT(control_now(c))), NULL, err) < 0 ||
	    db_exec(conn, "DELETE FROM workload_secrets WHERE workload_id = $1", DB_ARGS(DB_TEXT(w.id)), NULL, err) < 0)
		return -1;
	wake(c, conn, "duty", "retention"); /* its logs and results go with it */
	return event_append(c, conn, w.org_id, caller_actor(&call->caller), w.id, "workload.removed", "removed",
			    "removed with its logs and results; bill and events stay", err);
}
