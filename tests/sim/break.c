/* Mutations: the code broken on purpose, to show that the checkers notice.  The linker puts these functions around the
 * real ones (--wrap, see meson.build), so that nothing of this is in the programs that ship; what breaks the worker is
 * in task.c.  wake and db_tx are wrapped for the simulation itself. */
#include "sim.h"

#include "../../src/control/internal.h"

/* clang-format off */
#define WRAP(ret, name, args) \
	ret __real_##name args; \
	ret __wrap_##name args; \
	ret __wrap_##name args
/* clang-format on */

/* ---- events apart from their transaction ----------------------------------------------------------------- */

struct early_event {
	struct control *c;
	char org[ID_SIZE], actor[64], subject[64], kind[64], reason[64];
};
static VEC(struct early_event) early;

static void early_note(struct control *c, const struct event_item *item)
{
	struct early_event *e = vec_push(&early);

	e->c = c;
	snprintf(e->org, sizeof(e->org), "%s", item->org_id);
	snprintf(e->actor, sizeof(e->actor), "%s", item->actor);
	snprintf(e->subject, sizeof(e->subject), "%s", item->subject);
	snprintf(e->kind, sizeof(e->kind), "%s", item->kind);
	snprintf(e->reason, sizeof(e->reason), "%s", item->reason);
}

WRAP(int, event_append,
     (struct control * c, struct db_conn *conn, const char *org_id, const char *actor,
      const char *subject, const char *kind, const char *reason, const char *text,
      struct err *err))
{
	if (!is_broken(BREAK_EARLY_ANNOUNCE))
		return __real_event_append(c, conn, org_id, actor, subject, kind, reason, text,
					   err);
	early_note(c, &(struct event_item){ org_id, actor, subject, kind, reason, text });
	return 0;
}

WRAP(int, events_append,
     (struct control * c, struct db_conn *conn, const struct event_item *items, size_t len,
      struct err *err))
{
	if (!is_broken(BREAK_EARLY_ANNOUNCE))
		return __real_events_append(c, conn, items, len, err);
	for (size_t i = 0; i < len; i++)
		early_note(c, &items[i]);
	return 0;
}

static int early_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct early_event *e = arg;

	return __real_event_append(e->c, conn, e->org, e->actor, e->subject, e->kind, e->reason,
				   "", err);
}

/* Calls from elsewhere only: db.c's own db_tx stays the real one. */
WRAP(int, db_tx, (struct db_conn * conn, db_tx_fn *fn, void *arg, struct err *err))
{
	if (server_in_duty && strikes(FAULT_RACE, &sim.luck, 20000)) {
		server_in_duty = false;
		server_serve_between();
		server_in_duty = true;
	}
	int rc = __real_db_tx(conn, fn, arg, err);

	for (size_t i = 0; i < early.len; i++) {
		struct early_event e = early.items[i];
		struct err ignored = { 0 };

		(void)!__real_db_tx(conn, early_tx, &e, &ignored);
	}
	early.len = 0;
	return rc;
}

WRAP(void, wake, (struct control * c, struct db_conn *conn, const char *kind, const char *id))
{
	if (str_eq(kind, "duty"))
		duty_woken(id);
	__real_wake(c, conn, kind, id);
}

/* ---- leases --------------------------------------------------------------------------------------------------- */

int __real_lease_apply(const struct lease *lease, const struct lease_event *event,
		       int64_t now_ms, struct lease_change *ret, struct err *err);

static int given_up_at_once(const struct lease *lease, int64_t now_ms, struct lease_change *ret,
			    struct err *err)
{
	struct lease l = *lease;
	struct lease_event tick = { .kind = LEASE_EVENT_TICK };

	l.unreachable_since_ms = now_ms;
	l.grace_ms = 0;
	return __real_lease_apply(&l, &tick, now_ms, ret, err);
}

WRAP(int, lease_apply,
     (const struct lease *lease, const struct lease_event *event, int64_t now_ms,
      struct lease_change *ret, struct err *err))
{
	struct lease_event e = *event;

	if (is_broken(BREAK_GENERATION))
		e.generation = 0;
	if (is_broken(BREAK_NO_GRACE) && event->kind == LEASE_EVENT_SILENT &&
	    !lease->unreachable_since_ms)
		return given_up_at_once(lease, now_ms, ret, err);
	if (__real_lease_apply(lease, &e, now_ms, ret, err) < 0)
		return -1;
	if (is_broken(BREAK_NO_REASON) && ret->lease.state == LEASE_ENDED) {
		ret->lease.reason = REASON_NONE;
		ret->lease.reason_text = "";
	}
	if (is_broken(BREAK_LEAK))
		ret->effects &= ~EFFECT_RELEASE;
	if (is_broken(BREAK_EARLY_RELEASE) && ret->lease.state == LEASE_STOPPING &&
	    lease->state != LEASE_STOPPING)
		ret->effects |= EFFECT_RELEASE;
	if (is_broken(BREAK_EARLY_RELEASE) && ret->lease.state == LEASE_ENDED &&
	    lease->state == LEASE_STOPPING)
		ret->effects &= ~EFFECT_RELEASE;
	return 0;
}

WRAP(int, usage_check,
     (const struct usage *u, const struct lease *lease, const char *worker_id, int64_t now_ms,
      struct err *err))
{
	struct lease l = *lease;

	if (is_broken(BREAK_RECEIPT_ORDER)) {
		l.claimed_seq = l.claimed_ms = 0;
		l.claimed_final = false;
	}
	return __real_usage_check(u, &l, worker_id, now_ms, err);
}

WRAP(bool, sign_check,
     (const void *p, size_t len, const uint8_t pk[static SIGN_PUBLIC_SIZE],
      const uint8_t sig[static SIGNATURE_SIZE]))
{
	return is_broken(BREAK_UNSIGNED) || __real_sign_check(p, len, pk, sig);
}

/* ---- money ------------------------------------------------------------------------------------------------------ */

static void charge_again(struct db_conn *c, const struct lease *l, int64_t amount,
			 int64_t now_ms)
{
	char customer[ID_SIZE], escrow[ID_SIZE], provider[ID_SIZE], ids[2][ID_SIZE];
	struct err ignored = { 0 };

	ledger_account_id(ACCOUNT_CUSTOMER, l->org_id, NULL, customer);
	ledger_account_id(ACCOUNT_ESCROW, l->org_id, l->id, escrow);
	ledger_account_id(ACCOUNT_PROVIDER, l->provider_org_id, NULL, provider);
	ledger_id("twice", l->id, l->billed_uusd, ids[0]);
	ledger_id("twice-paid", l->id, l->billed_uusd, ids[1]);
	const struct transfer transfers[] = {
		{ .id = ids[0],
		  .kind = TRANSFER_POSTED,
		  .debit_account = customer,
		  .credit_account = escrow,
		  .code = "settle",
		  .subject = l->id,
		  .amount = amount },
		{ .id = ids[1],
		  .kind = TRANSFER_POSTED,
		  .debit_account = escrow,
		  .credit_account = provider,
		  .code = "provider",
		  .subject = l->id,
		  .amount = amount },
	};
	(void)!ledger_post(c, transfers, ARRAY_LEN(transfers), now_ms, &ignored);
}

WRAP(int, ledger_settle,
     (struct db_conn * c, struct lease *lease, int64_t billable_ms, int64_t hold_ms, bool last,
      int64_t now_ms, struct arena *arena, struct settlement *ret, struct err *err))
{
	if (__real_ledger_settle(c, lease, billable_ms, hold_ms, last, now_ms, arena, ret,
				 err) < 0)
		return -1;
	if (is_broken(BREAK_BILL_TWICE) && ret->charged_uusd > 0)
		charge_again(c, lease, ret->charged_uusd, now_ms);
	return 0;
}

WRAP(int, ledger_settle_many,
     (struct db_conn * c, struct settle_request *requests, size_t len, int64_t now_ms,
      struct arena *arena, struct err *err))
{
	if (__real_ledger_settle_many(c, requests, len, now_ms, arena, err) < 0)
		return -1;
	for (size_t i = 0; is_broken(BREAK_BILL_TWICE) && i < len; i++)
		if (requests[i].ret.charged_uusd > 0)
			charge_again(c, requests[i].lease, requests[i].ret.charged_uusd, now_ms);
	return 0;
}

/* Next to nothing is held, and said to be enough. */
WRAP(int, ledger_hold,
     (struct db_conn * c, const char *org_id, const char *subject, int64_t number,
      int64_t amount, bool partial, int64_t now_ms, char ret_hold[static ID_SIZE],
      int64_t *ret_held, struct err *err))
{
	bool none = is_broken(BREAK_NO_HOLD);

	if (__real_ledger_hold(c, org_id, subject, number, none ? 1 : amount, partial, now_ms,
			       ret_hold, ret_held, err) < 0)
		return -1;
	if (none)
		*ret_held = amount;
	return 0;
}

WRAP(int, ledger_hold_many,
     (struct db_conn * c, struct hold_request *requests, size_t len, const char *why,
      int64_t now_ms, struct err *err))
{
	int64_t *wanted = xcalloc(len + 1, sizeof(*wanted));
	int rc;

	for (size_t i = 0; i < len; i++) {
		wanted[i] = requests[i].amount;
		if (is_broken(BREAK_NO_HOLD))
			requests[i].amount = MIN(requests[i].amount, INT64_C(1));
	}
	rc = __real_ledger_hold_many(c, requests, len, why, now_ms, err);
	for (size_t i = 0; i < len; i++) {
		requests[i].amount = wanted[i];
		if (is_broken(BREAK_NO_HOLD) && rc == 0 && !requests[i].ret_missing)
			requests[i].ret_held = wanted[i];
	}
	free(wanted);
	return rc;
}

/* ---- the store and the blobs ---------------------------------------------------------------------------------------- */

WRAP(int, db_exec,
     (struct db_conn * c, const char *sql, struct db_args args, int64_t *ret_changed,
      struct err *err))
{
	if (is_broken(BREAK_IDEMPOTENCY) && str_starts(sql, "INSERT INTO idempotency"))
		return 0;
	return __real_db_exec(c, sql, args, ret_changed, err);
}

/* Rows of leases by their ids: the checkers look at these only. */
WRAP(int, db_update,
     (struct db_conn * c, const struct type *t, const char *table, const char *key,
      const void *value, struct err *err))
{
	int rc;

	server_write_explained = t == &lease_type && str_eq(table, "leases") && str_eq(key, "id");
	if (server_write_explained)
		check_lease_changed(((const struct lease *)value)->id);
	rc = __real_db_update(c, t, table, key, value, err);
	server_write_explained = false;
	return rc;
}

WRAP(int, db_update_many,
     (struct db_conn * c, const struct type *t, const char *table, const char *key,
      const void *values, size_t count, int64_t *ret_changed, struct err *err))
{
	int rc;

	server_write_explained = str_eq(table, "leases") && str_eq(key, "id");
	for (size_t i = 0; i < count && server_write_explained; i++)
		check_lease_changed(((const struct lease *)values)[i].id);
	rc = __real_db_update_many(c, t, table, key, values, count, ret_changed, err);
	server_write_explained = false;
	return rc;
}

WRAP(int, db_insert_many,
     (struct db_conn * c, const struct type *t, const char *table, const void *values,
      size_t count, struct err *err))
{
	int rc;

	server_write_explained = t == &lease_type && str_eq(table, "leases");
	for (size_t i = 0; i < count && server_write_explained; i++)
		check_lease_changed(((const struct lease *)values)[i].id);
	rc = __real_db_insert_many(c, t, table, values, count, err);
	server_write_explained = false;
	return rc;
}

WRAP(int, db_select,
     (struct db_conn * c, const struct type *t, const char *table, const char *tail,
      struct db_args args, struct arena *arena, void **ret_items, size_t *ret_len,
      struct err *err))
{
	if (__real_db_select(c, t, table, tail, args, arena, ret_items, ret_len, err) < 0)
		return -1;
	if (is_broken(BREAK_CHAIN) && str_starts(tail, "WHERE seq IS NULL")) {
		struct event *e = *ret_items;

		for (size_t i = 0; i < *ret_len / 2; i++) {
			struct event x = e[i];

			e[i] = e[*ret_len - 1 - i];
			e[*ret_len - 1 - i] = x;
		}
	}
	return 0;
}

WRAP(int, db_exec_batch,
     (struct db_conn * c, const char *sql, const struct db_value *values, int columns,
      size_t count, int64_t *ret_changed, struct err *err))
{
	if (is_broken(BREAK_NO_CLAIM) && str_starts(sql, "INSERT INTO device_claims"))
		return 0;
	return __real_db_exec_batch(c, sql, values, columns, count, ret_changed, err);
}

WRAP(int, blob_append,
     (struct blob_store * b, const char *key, int64_t at, const void *p, size_t len,
      struct err *err))
{
	struct err ignored = { 0 };
	int64_t size;

	if (is_broken(BREAK_LOG_APPEND) && blob_size(b, key, &size, &ignored) == 0)
		at = size;
	return __real_blob_append(b, key, at, p, len, err);
}
