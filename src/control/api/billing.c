/* Balance, bills and transfers: everything here is read from the ledger and the leases' frozen rates, so that a customer
 * can recompute each line: floor(rate × seconds / 3600), with the signed receipt that supports the seconds. */
#include "../internal.h"

#define ROWS_MAX 10000

/* A sum over a part of what there is would be a wrong sum. */
static int rows_check(size_t len, struct err *err)
{
	if (len > ROWS_MAX)
		return err_set_field(err, "since_ms", "the period has more than %d rows: ask for a shorter one", ROWS_MAX);
	return 0;
}

static int receipt_of(struct db_conn *conn, const char *lease_id, struct arena *a, const char **ret, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int rc;

	*ret = NULL;
	if (db_query(conn, "SELECT id FROM receipts WHERE lease_id = $1 ORDER BY seq DESC LIMIT 1", DB_ARGS(DB_TEXT(lease_id)),
		     &rows, err) < 0 || (rc = db_next(rows, err)) < 0)
		return -1;
	if (rc)
		*ret = db_text(rows, 0, a);
	return 0;
}

static int bill_fill(struct db_conn *conn, const struct lease *leases, size_t len, struct arena *a, struct bill *out,
		     struct err *err)
{
	out->lines.items = arena_array(a, struct bill_line, len + 1);
	out->lines.len = len;
	out->final = true;
	for (size_t i = 0; i < len; i++) {
		const struct lease *l = &leases[i];
		struct bill_line *line = &out->lines.items[i];

		*line = (struct bill_line){
			.lease_id = l->id, .worker_id = l->worker_id, .reason = lease_reason_names[l->reason],
			.from_ms = l->running_ms, .to_ms = l->ended_ms ? l->ended_ms : l->settled_at_ms,
			.seconds = l->billed_ms / SECOND_MS, .rate_uusd_h = l->rate_uusd_h, .amount_uusd = l->billed_uusd,
			.fee_uusd = l->fee_uusd,
		};
		if (receipt_of(conn, l->id, a, &line->receipt_id, err) < 0)
			return -1;
		if (!add_checked(out->total_uusd, l->billed_uusd, &out->total_uusd))
			return err_set(err, ERR_INTERNAL, "the bill's total does not fit");
		if (l->state != LEASE_ENDED)
			out->final = false;
	}
	return 0;
}

/* What is held for a workload: for its waiting replicas and for its living leases. */
static int held_sum(struct db_conn *conn, const char *workload_id, int64_t *ret, struct err *err)
{
	return db_query_int(conn,
			    "SELECT COALESCE(SUM(t.amount), 0) FROM transfers t WHERE t.id IN"
			    " (SELECT hold_id FROM replicas WHERE workload_id = $1 AND state = 'pending' UNION ALL"
			    " SELECT hold_id FROM leases WHERE workload_id = $1 AND state <> 'ended')",
			    DB_ARGS(DB_TEXT(workload_id)), 0, ret, err);
}

/* A removed workload's bill stays; by its whole id, because its name may be another's by now. */
static int billed_load(struct db_conn *conn, const struct call *call, struct workload *ret, struct err *err)
{
	const char *ref = call->params[0];
	struct workload *found;
	size_t len = 0;

	if (id_valid(ref, "wl") &&
	    db_select(conn, &workload_type, "workloads", "WHERE id = $1 AND org_id = $2",
		      DB_ARGS(DB_TEXT(ref), DB_TEXT(call->caller.org_id)), call->arena, (void **)&found, &len, err) < 0)
		return -1;
	if (len == 0)
		return workload_load(conn, call->caller.org_id, ref, call->arena, ret, err);
	*ret = found[0];
	return 0;
}

int op_workload_bill(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct bill *out = call->out;
	struct workload w;
	struct lease *leases;
	size_t len;

	(void)c;
	if (billed_load(conn, call, &w, err) < 0 ||
	    db_select(conn, &lease_type, "leases", "WHERE workload_id = $1 ORDER BY generation", DB_ARGS(DB_TEXT(w.id)),
		      call->arena, (void **)&leases, &len, err) < 0 ||
	    bill_fill(conn, leases, len, call->arena, out, err) < 0 || held_sum(conn, w.id, &out->held_uusd, err) < 0)
		return -1;
	out->workload_id = w.id;
	out->final = workload_state_is_final(w.state);
	return 0;
}

int op_org_bill(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct bill_query *q = call->in;
	struct lease *leases;
	size_t len;

	if (db_select(conn, &lease_type, "leases",
		      "WHERE org_id = $1 AND reserved_ms >= $2 AND reserved_ms < $3 AND billed_uusd > 0 ORDER BY reserved_ms LIMIT $4",
		      DB_ARGS(DB_TEXT(call->caller.org_id), DB_INT(q->since_ms),
			      DB_INT(q->until_ms ? q->until_ms : control_now(c) + 1), DB_INT(ROWS_MAX + 1)),
		      call->arena, (void **)&leases, &len, err) < 0 ||
	    rows_check(len, err) < 0)
		return -1;
	return bill_fill(conn, leases, len, call->arena, call->out, err);
}

int op_org_balance(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct balance *out = call->out;
	struct account customer = { 0 }, provider = { 0 };
	int64_t left;
	struct account *accounts;
	size_t len;

	if (db_select(conn, &account_type, "accounts", "WHERE org_id = $1 AND name IN ('customer', 'provider')",
		      DB_ARGS(DB_TEXT(call->caller.org_id)), call->arena, (void **)&accounts, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		*(str_eq(accounts[i].name, "customer") ? &customer : &provider) = accounts[i];
	out->posted_uusd = account_balance(&customer);
	out->held_uusd = customer.debits_pending;
	out->available_uusd = account_available(&customer);
	out->earned_uusd = account_balance(&provider);
	if (db_query_int(conn, "SELECT COALESCE(SUM(rate_uusd_h), 0) FROM leases WHERE org_id = $1 AND state = 'running'",
			 DB_ARGS(DB_TEXT(call->caller.org_id)), 0, &out->rate_uusd_h, err) < 0)
		return -1;
	if (out->rate_uusd_h > 0) {
		left = funded_ms(MAX(out->posted_uusd, (int64_t)0), out->rate_uusd_h);
		out->exhausted_ms = left >= FUNDED_UNLIMITED / 2 ? 0 : control_now(c) + left;
	}
	return 0;
}

int op_org_transfers(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct bill_query *q = call->in;
	struct transfer_page *out = call->out;

	if (ledger_statement(conn, call->caller.org_id, q->since_ms, q->until_ms ? q->until_ms : control_now(c) + 1, ROWS_MAX + 1,
			     call->arena, &out->items.items, &out->items.len, err) < 0 ||
	    rows_check(out->items.len, err) < 0)
		return -1;
	return 0;
}
