/* Settling leases: what is owed is a function of the total, whatever the steps; money never
 * goes below zero. */
#include "ledger.h"

#define RATE	INT64_C(1234567) /* odd on purpose: each second has a remainder */
#define FEE_PPM INT64_C(33333)
#define HOLD_MS (10 * MINUTE_MS)

static struct lease lease_of(const char *hold_id)
{
	return (struct lease){ .id = LEASE,
			       .org_id = ORG_A,
			       .provider_org_id = ORG_B,
			       .rate_uusd_h = RATE,
			       .fee_ppm = FEE_PPM,
			       .hold_id = hold_id };
}

static void fund(struct test_store *s, int64_t number, int64_t amount)
{
	struct err err;

	DO(s, .fn = call_deposit, .org = ORG_A, .number = number, .amount = amount);
}

static void test_one_step(void **state)
{
	struct test_store *s = world(state);
	struct lease l = lease_of(NULL);
	cleanup_arena struct arena arena = { 0 };
	int64_t owed = owed_uusd(RATE, 5 * MINUTE_MS), fee = fee_of(owed, FEE_PPM),
		hold = owed_uusd(RATE, HOLD_MS);
	struct err err;

	fund(s, 1, 10000000);
	add_lease(s, LEASE, RATE, FEE_PPM);
	struct call h = DO(s, .fn = call_hold, .org = ORG_A, .subject = LEASE, .amount = hold);
	l.hold_id = h.ret_id;
	struct call x = DO(s, .fn = call_settle, .lease = &l, .billable_ms = 5 * MINUTE_MS,
			   .hold_ms = HOLD_MS, .arena = &arena);
	assert_int_equal(x.settlement.charged_uusd, owed);
	assert_int_equal(x.settlement.fee_uusd, fee);
	assert_int_equal(x.settlement.held_uusd, hold);
	assert_false(x.settlement.is_short);
	assert_int_equal(l.billed_ms, 5 * MINUTE_MS);
	assert_int_equal(l.settled_at_ms, NOW_MS);
	assert_string_not_equal(l.hold_id, h.ret_id);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 10000000 - owed, hold);
	assert_account(s, ACCOUNT_PROVIDER, ORG_B, NULL, owed - fee, 0);
	assert_account(s, ACCOUNT_FEE, NULL, NULL, fee, 0);
	assert_audit_clean(s);
	x = DO(s, .fn = call_settle, .lease = &l, .billable_ms = 5 * MINUTE_MS,
	       .hold_ms = HOLD_MS, .last = true, .arena = &arena);
	assert_int_equal(x.settlement.charged_uusd, 0);
	assert_int_equal(x.settlement.held_uusd, 0);
	assert_null(l.hold_id);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 10000000 - owed, 0);
	assert_account(s, ACCOUNT_ESCROW, ORG_A, LEASE, 0, 0);
	assert_audit_clean(s);
}

/* However often it is settled, the sum is that of one settlement. */
static void test_many_steps_make_one(void **state)
{
	struct test_store *s = world(state);
	struct lease l = lease_of(NULL);
	cleanup_arena struct arena arena = { 0 };
	int64_t at = 0, charged = 0, fees = 0, total = 47 * MINUTE_MS + 11 * SECOND_MS + 300;
	struct err err;

	fund(s, 1, 10000000);
	add_lease(s, LEASE, RATE, FEE_PPM);
	for (int64_t i = 1; at < total; i++) {
		at = MIN(at + i * 1371, total);
		struct call x = DO(s, .fn = call_settle, .lease = &l, .billable_ms = at,
				   .hold_ms = HOLD_MS, .arena = &arena, .now_ms = NOW_MS + i,
				   .last = at == total);
		charged += x.settlement.charged_uusd;
		fees += x.settlement.fee_uusd;
		assert_false(x.settlement.is_short);
		if (i % 10 == 0)
			assert_audit_clean(s);
	}
	assert_int_equal(charged, owed_uusd(RATE, total));
	assert_int_equal(fees, fee_of(charged, FEE_PPM));
	assert_int_equal(l.billed_uusd, charged);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 10000000 - charged, 0);
	assert_account(s, ACCOUNT_PROVIDER, ORG_B, NULL, charged - fees, 0);
	assert_audit_clean(s);
}

/* With nothing to charge and enough held, nothing is written. */
static void test_quiet(void **state)
{
	struct test_store *s = world(state);
	struct lease l = lease_of(NULL);
	cleanup_arena struct arena arena = { 0 };
	int64_t count;
	const char *hold;
	struct err err;

	fund(s, 1, 10000000);
	add_lease(s, LEASE, RATE, FEE_PPM);
	DO(s, .fn = call_settle, .lease = &l, .billable_ms = 0, .hold_ms = HOLD_MS,
	   .arena = &arena);
	assert_non_null(l.hold_id);
	hold = l.hold_id;
	count = test_store_int(s, "SELECT COUNT(*) FROM transfers");
	/* A receipt that says less than the one before changes nothing either. */
	DO(s, .fn = call_settle, .lease = &l, .billable_ms = 0, .hold_ms = HOLD_MS / 2,
	   .arena = &arena);
	assert_string_equal(l.hold_id, hold);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM transfers"), count);
	/* A hold that is too small is made anew. */
	struct call x = DO(s, .fn = call_settle, .lease = &l, .billable_ms = 0,
			   .hold_ms = 2 * HOLD_MS, .arena = &arena, .now_ms = NOW_MS + 1);
	assert_string_not_equal(l.hold_id, hold);
	assert_int_equal(x.settlement.held_uusd, owed_uusd(RATE, 2 * HOLD_MS));
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 10000000, x.settlement.held_uusd);
	assert_audit_clean(s);
}

/* The money ends: billed is what was there, to the second, and what came too late is charged
 * when there is money. */
static void test_short(void **state)
{
	struct test_store *s = world(state);
	struct lease l = lease_of(NULL);
	cleanup_arena struct arena arena = { 0 };
	int64_t money = owed_uusd(RATE, 90 * SECOND_MS) + 17, paid;
	struct err err;

	fund(s, 1, money);
	add_lease(s, LEASE, RATE, FEE_PPM);
	struct call x = DO(s, .fn = call_settle, .lease = &l, .billable_ms = 30 * SECOND_MS,
			   .hold_ms = HOLD_MS, .arena = &arena);
	assert_true(x.settlement.is_short);
	assert_int_equal(x.settlement.held_uusd, money - owed_uusd(RATE, 30 * SECOND_MS));
	x = DO(s, .fn = call_settle, .lease = &l, .billable_ms = 200 * SECOND_MS,
	       .hold_ms = HOLD_MS, .arena = &arena);
	assert_true(x.settlement.is_short);
	assert_int_equal(l.billed_ms, 90 * SECOND_MS);
	paid = owed_uusd(RATE, 90 * SECOND_MS);
	assert_int_equal(l.billed_uusd, paid);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, money - paid, 17);
	assert_int_equal(
		test_store_int(
			s, "SELECT COUNT(*) FROM transfers WHERE text LIKE '%more is owed%'"),
		1);
	assert_audit_clean(s);
	fund(s, 2, 10000000);
	x = DO(s, .fn = call_settle, .lease = &l, .billable_ms = 200 * SECOND_MS,
	       .hold_ms = HOLD_MS, .arena = &arena, .last = true);
	assert_false(x.settlement.is_short);
	assert_int_equal(l.billed_ms, 200 * SECOND_MS);
	assert_int_equal(l.billed_uusd, owed_uusd(RATE, 200 * SECOND_MS));
	assert_audit_clean(s);
}

/* More than the hold: the rest comes from what the customer has beside it. */
static void test_beyond_hold(void **state)
{
	struct test_store *s = world(state);
	struct lease l = lease_of(NULL);
	cleanup_arena struct arena arena = { 0 };
	struct err err;

	fund(s, 1, 10000000);
	add_lease(s, LEASE, RATE, FEE_PPM);
	DO(s, .fn = call_settle, .lease = &l, .billable_ms = 0, .hold_ms = MINUTE_MS,
	   .arena = &arena);
	struct call x = DO(s, .fn = call_settle, .lease = &l, .billable_ms = HOUR_MS,
			   .hold_ms = MINUTE_MS, .arena = &arena);
	assert_int_equal(x.settlement.charged_uusd, RATE);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 10000000 - RATE,
		       owed_uusd(RATE, MINUTE_MS));
	assert_audit_clean(s);
}

static void test_free_and_all_fee(void **state)
{
	struct test_store *s = world(state);
	struct lease nothing = lease_of(NULL), all = lease_of(NULL);
	cleanup_arena struct arena arena = { 0 };
	struct err err;

	fund(s, 1, 10000000);
	nothing.rate_uusd_h = 0;
	add_lease(s, LEASE, 0, FEE_PPM);
	struct call x = DO(s, .fn = call_settle, .lease = &nothing, .billable_ms = HOUR_MS,
			   .hold_ms = HOLD_MS, .arena = &arena);
	assert_int_equal(x.settlement.charged_uusd, 0);
	assert_null(nothing.hold_id);
	all.id = "le_00000000000000000000000002";
	all.fee_ppm = 1000000;
	add_lease(s, all.id, RATE, 1000000);
	x = DO(s, .fn = call_settle, .lease = &all, .billable_ms = HOUR_MS, .hold_ms = HOLD_MS,
	       .arena = &arena, .last = true);
	assert_int_equal(x.settlement.fee_uusd, RATE);
	assert_account(s, ACCOUNT_PROVIDER, ORG_B, NULL, 0, 0);
	assert_audit_clean(s);
}

/* The hold was ended by somebody else: the lease lives on with a new one. */
static void test_lost_hold(void **state)
{
	struct test_store *s = world(state);
	struct lease l = lease_of(NULL);
	cleanup_arena struct arena arena = { 0 };
	struct err err;

	fund(s, 1, 10000000);
	add_lease(s, LEASE, RATE, FEE_PPM);
	DO(s, .fn = call_settle, .lease = &l, .billable_ms = 0, .hold_ms = MINUTE_MS,
	   .arena = &arena);
	DO(s, .fn = call_release, .id = l.hold_id);
	DO(s, .fn = call_settle, .lease = &l, .billable_ms = MINUTE_MS, .hold_ms = MINUTE_MS,
	   .arena = &arena);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 10000000 - owed_uusd(RATE, MINUTE_MS),
		       owed_uusd(RATE, MINUTE_MS));
	assert_audit_clean(s);
}

static enum err_code fail_nth(void *arg, int64_t number, const char *sql)
{
	return number == *(const int64_t *)arg ? ERR_IO : ERR_NONE;
}

/* Whichever statement fails, the commit included, nothing of the settlement is there. */
static void test_fault_sweep(void **state)
{
	struct test_store *s = world(state);
	struct lease l = lease_of(NULL), copy;
	cleanup_arena struct arena arena = { 0 };
	int64_t nth, count;
	struct err err;

	fund(s, 1, 10000000);
	add_lease(s, LEASE, RATE, FEE_PPM);
	DO(s, .fn = call_settle, .lease = &l, .billable_ms = 0, .hold_ms = HOLD_MS,
	   .arena = &arena);
	count = test_store_int(s, "SELECT COUNT(*) FROM transfers");
	for (nth = 1;; nth++) {
		struct call x = { .fn = call_settle,
				  .lease = &copy,
				  .billable_ms = MINUTE_MS,
				  .hold_ms = HOLD_MS,
				  .arena = &arena };
		int failed;

		copy = l;
		db_set_fault(s->db, fail_nth, &nth);
		failed = in_tx(s->conn, &x, &err);
		db_set_fault(s->db, NULL, NULL);
		if (!failed)
			break;
		assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM transfers"), count);
		assert_audit_clean(s);
	}
	assert_true(nth > 5);
	assert_int_equal(copy.billed_uusd, owed_uusd(RATE, MINUTE_MS));
	assert_audit_clean(s);
}

struct several {
	struct lease leases[3];
	int64_t billable_ms[3];
	struct settle_request requests[3];
	struct arena *arena;
};

static int store_settled(struct db_conn *c, const struct lease *l, struct err *err)
{
	return db_exec(c,
		       "UPDATE leases SET billed_ms = $2, billed_uusd = $3, fee_uusd = $4, "
		       "hold_id = $5, state = 'ended' WHERE id = $1",
		       DB_ARGS(DB_TEXT(l->id), DB_INT(l->billed_ms), DB_INT(l->billed_uusd),
			       DB_INT(l->fee_uusd), DB_TEXT(l->hold_id)),
		       NULL, err);
}

static int settle_together(struct db_conn *c, void *arg, struct err *err)
{
	struct several *x = arg;

	for (size_t i = 0; i < 3; i++)
		x->requests[i] = (struct settle_request){ .lease = &x->leases[i],
							  .billable_ms = x->billable_ms[i],
							  .last = true };
	if (ledger_settle_many(c, x->requests, 3, NOW_MS, x->arena, err) < 0)
		return -1;
	for (size_t i = 0; i < 3; i++)
		if (store_settled(c, &x->leases[i], err) < 0)
			return -1;
	return 0;
}

/* What the first takes beyond its hold is not there for the last; what the second gives back is. */
static void test_together(void **state)
{
	static const char *const ids[] = { LEASE, "le_00000000000000000000000002",
					   "le_00000000000000000000000003" };
	struct test_store *s = world(state);
	cleanup_arena struct arena arena = { 0 };
	int64_t hold = owed_uusd(RATE, MINUTE_MS), hour = owed_uusd(RATE, HOUR_MS), money = 3 * hold + hour;
	struct several x = { .billable_ms = { HOUR_MS, 0, HOUR_MS }, .arena = &arena };
	struct err err;

	fund(s, 1, money);
	for (size_t i = 0; i < 3; i++) {
		add_lease(s, ids[i], RATE, FEE_PPM);
		x.leases[i] = lease_of(NULL);
		x.leases[i].id = ids[i];
		DO(s, .fn = call_settle, .lease = &x.leases[i], .hold_ms = MINUTE_MS, .arena = &arena);
	}
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, money, 3 * hold);
	assert_ok(db_tx(s->conn, settle_together, &x, &err));
	assert_int_equal(x.requests[0].ret.charged_uusd, hour);
	assert_false(x.requests[0].ret.is_short);
	assert_int_equal(x.requests[1].ret.charged_uusd, 0);
	assert_true(x.requests[2].ret.is_short);
	assert_true(x.requests[2].ret.charged_uusd > 2 * hold && x.requests[2].ret.charged_uusd <= 3 * hold);
	assert_int_equal(x.requests[2].ret.charged_uusd, owed_uusd(RATE, x.leases[2].billed_ms));
	for (size_t i = 0; i < 3; i++)
		assert_null(x.leases[i].hold_id);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 3 * hold - x.requests[2].ret.charged_uusd, 0);
	assert_audit_clean(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(test_one_step),    TEST_BOTH(test_many_steps_make_one),
		TEST_BOTH(test_quiet),	     TEST_BOTH(test_short),
		TEST_BOTH(test_beyond_hold), TEST_BOTH(test_free_and_all_fee),
		TEST_BOTH(test_lost_hold),   TEST_BOTH(test_fault_sweep),
		TEST_BOTH(test_together),
	};

	return test_stores_run("ledger-settle", tests, ARRAY_LEN(tests));
}
