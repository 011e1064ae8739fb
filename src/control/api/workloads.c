/* Customers' workloads: create, look, stop, remove. */
#include "../internal.h"

/* ---- create ----------------------------------------------------------------------------------------- */

static int quote_use(struct control *c, struct db_conn *conn, struct call *call, const struct workload_spec *spec,
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
	return db_exec(conn, "UPDATE quotes SET used_by = $2 WHERE id = $1", DB_ARGS(DB_TEXT(q.id), DB_TEXT(w->id)), NULL,
		       err);
}

/* The cap is frozen now: what the customer said, or the best price there is; nothing is ever charged above it. */
static int price_cap(struct control *c, struct db_conn *conn, struct call *call, const struct workload_spec *spec,
		     struct workload *w, struct err *err)
{
	struct request r;
	struct placement best;
	bool found;

	if (spec->quote)
		return quote_use(c, conn, call, spec, w, err);
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
			     "is not given and nothing matches now (%s): give --max-price to wait for an offer", why.summary);
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

static int replica_add(struct control *c, struct db_conn *conn, struct call *call, const struct workload *w, struct err *err)
{
	int64_t amount = hold_amount(w->max_price_uusd_h, hold_duration_ms(c, w->spec)), now = control_now(c), held;
	char hold[ID_SIZE];
	struct replica r = {
		.id = new_id(c, "rp", call->arena), .org_id = w->org_id, .workload_id = w->id, .state = REPLICA_PENDING,
		.retries_left = w->spec->retries, .created_ms = now, .updated_ms = now,
	};

	if (amount > 0) {
		if (ledger_hold(conn, w->org_id, r.id, 1, amount, false, now, hold, &held, err) < 0)
			return err_wrap(err, "holding the first %" PRId64 " s", hold_duration_ms(c, w->spec) / SECOND_MS);
		r.hold_id = hold;
	}
	return db_insert(conn, &replica_type, "replicas", &r, err);
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

int op_workload_create(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct workload_spec *spec = call->in;
	struct workload *w = call->out;
	int64_t now = control_now(c);

	if (!spec->resources) {
		struct workload_spec *filled = arena_new(call->arena, struct workload_spec);
		struct resources *r = arena_new(call->arena, struct resources);

		*filled = *spec;
		schema_defaults(&resources_type, r);
		filled->resources = r;
		spec = filled;
	}
	w->id = new_id(c, "wl", call->arena);
	w->org_id = call->caller.org_id;
	w->name = spec->name ? spec->name : w->id + ID_LEN - 8;
	w->spec = spec_without_secrets(spec, call->arena);
	w->exit_code = -1;
	w->created_ms = w->updated_ms = now;
	w->reason = "submitted";
	w->reason_text = "waiting for a worker";
	if (active_take(c, conn, call->caller.org_id, err) < 0 || inputs_check(conn, call, spec, err) < 0 ||
	    price_cap(c, conn, call, spec, w, err) < 0 || db_insert(conn, &workload_type, "workloads", w, err) < 0 ||
	    workload_spec_seal(c, conn, w->id, spec, call->arena, err) < 0 || replica_add(c, conn, call, w, err) < 0 ||
	    event_append(c, conn, w->org_id, caller_actor(&call->caller), w->id, "workload.pending", w->reason,
			 w->reason_text, err) < 0)
		return -1;
	wake(c, conn, "duty", "scheduler");
	return 0;
}

/* ---- look ------------------------------------------------------------------------------------------- */

int op_workload_list(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct workload_query *q = call->in;
	struct workload_page *page = call->out;
	void *items;
	size_t len;

	/* One more than asked for tells whether there is a next page. state -1: any. */
	if (db_select(conn, &workload_type, "workloads",
		      "WHERE org_id = $1 AND removed_ms = 0 AND ($2 = '' OR id < $2) AND ($3 = '' OR name = $3)"
		      " AND ($4 = '' OR state = $4) AND ($5 = 1 OR ended_ms = 0 OR ended_ms > $6)"
		      " ORDER BY id DESC LIMIT $7",
		      DB_ARGS(DB_TEXT(call->caller.org_id), DB_TEXT(q->cursor ? q->cursor : ""),
			      DB_TEXT(q->name ? q->name : ""),
			      DB_TEXT(q->state >= 0 ? workload_state_names[q->state] : ""), DB_INT(q->all),
			      DB_INT(control_now(c) - DAY_MS), DB_INT(q->limit + 1)),
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

/* What it has cost up to now, the running lease included. */
static int charges_add(struct db_conn *conn, struct workload *w, struct err *err)
{
	int64_t running;

	if (workload_state_is_final(w->state))
		return 0;
	if (db_query_int(conn, "SELECT COALESCE(SUM(billed_uusd), 0) FROM leases WHERE workload_id = $1 AND state <> 'ended'",
			 DB_ARGS(DB_TEXT(w->id)), 0, &running, err) < 0)
		return -1;
	w->charged_uusd += running;
	return 0;
}

int op_workload_show(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	(void)c;
	return workload_of(conn, call, call->out, err) < 0 ? -1 : charges_add(conn, call->out, err);
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
		out->summary = arena_printf(call->arena, "the workload is %s (%s: %s); for a new attempt: %s",
					    workload_state_names[w.state], w.reason, w.reason_text, out->summary);
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

int op_workload_stop(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct workload *w = call->out;
	const char *actor = caller_actor(&call->caller);
	struct lease *leases;
	size_t len;
	struct lease_event event = { .kind = LEASE_EVENT_STOP, .reason = REASON_STOPPED_BY_CUSTOMER };

	if (workload_of(conn, call, w, err) < 0)
		return -1;
	if (workload_state_is_final(w->state))
		return 0; /* stopping what has ended is no mistake */
	if (db_select(conn, &lease_type, "leases", "WHERE workload_id = $1 AND state <> 'ended'", DB_ARGS(DB_TEXT(w->id)),
		      call->arena, (void **)&leases, &len, err) < 0 ||
	    replicas_end(c, conn, w, call->arena, err) < 0)
		return -1;
	if (len == 0)
		return workload_set_state(c, conn, w, WORKLOAD_STOPPED, lease_reason_names[REASON_STOPPED_BY_CUSTOMER],
					  lease_reason_text(REASON_STOPPED_BY_CUSTOMER), actor, err);
	for (size_t i = 0; i < len; i++)
		if (lease_transition(c, conn, &leases[i], &event, actor, call->arena, err) < 0)
			return -1;
	return workload_load(conn, w->org_id, w->id, call->arena, w, err);
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
