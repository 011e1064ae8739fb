/* Statements: what the walk along the chains gives is what a look at every transfer gives. */
#include "ledger.h"

#define BATCH	20
#define BATCHES 60
#define STEP_MS (2 * MINUTE_MS)

/* Mostly later than the one before, now and then earlier, as with a second server's clock. */
static int64_t batch_ms(int batch)
{
	return NOW_MS + batch * STEP_MS - (batch % 7 == 3 ? 5 * MINUTE_MS : 0);
}

static const char *opened(struct test_store *s, enum ledger_account_kind kind, const char *org,
			  struct arena *arena)
{
	struct call x = { .fn = call_account, .kind = kind, .org = org, .arena = arena };
	struct err err;

	assert_ok(in_tx(s->conn, &x, &err));
	return x.account.id;
}

/* Some from A to B, some deposits of either; all of B's and most of A's pass several marks. */
static struct test_store *traded(void **state)
{
	struct test_store *s = world(state);
	cleanup_arena struct arena arena = { 0 };
	const char *a = opened(s, ACCOUNT_CUSTOMER, ORG_A, &arena),
		   *b = opened(s, ACCOUNT_PROVIDER, ORG_B, &arena),
		   *outside = opened(s, ACCOUNT_EXTERNAL, NULL, &arena);
	static char ids[BATCH][ID_SIZE];
	struct transfer batch[BATCH];
	struct err err;

	for (int n = 0; n < BATCHES; n++) {
		for (int i = 0; i < BATCH; i++) {
			bool is_deposit = (n == 0 && i == 0) || i % 6 == 5;

			ledger_id("trade", ORG_A, n * BATCH + i, ids[i]);
			batch[i] = (struct transfer){
				.id = ids[i],
				.kind = TRANSFER_POSTED,
				.debit_account = is_deposit ? outside : a,
				.credit_account = is_deposit && i % 12 != 11 ? a : b,
				.amount = is_deposit ? 1000000 : 1,
			};
		}
		DO(s, .fn = call_post, .transfers = batch, .len = BATCH, .now_ms = batch_ms(n));
	}
	assert_audit_clean(s);
	return s;
}

static void assert_same(struct test_store *s, const char *org, int64_t since_ms,
			int64_t until_ms, int64_t max)
{
	cleanup_arena struct arena arena = { 0 };
	struct transfer *walked, *all;
	size_t walked_len, all_len;
	struct err err;

	assert_ok(ledger_statement(s->conn, org, since_ms, until_ms, max, &arena, &walked,
				   &walked_len, &err));
	assert_ok(db_select(s->conn, &transfer_type, "transfers",
			    "WHERE (debit_account IN (SELECT id FROM accounts WHERE org_id = $1) "
			    "OR credit_account IN (SELECT id FROM accounts WHERE org_id = $1)) "
			    "AND created_ms >= $2 AND created_ms < $3 ORDER BY created_ms, id "
			    "LIMIT $4",
			    DB_ARGS(DB_TEXT(org), DB_INT(since_ms), DB_INT(until_ms),
				    DB_INT(max)),
			    &arena, (void **)&all, &all_len, &err));
	assert_int_equal(walked_len, all_len);
	for (size_t i = 0; i < all_len; i++)
		assert_string_equal(walked[i].id, all[i].id);
}

static void test_periods(void **state)
{
	static const char *const orgs[] = { ORG_A, ORG_B, "or_nobody" };
	static const int bounds[] = { -10, 0, 1, 3, 4, 11, 30, 45, BATCHES, BATCHES + 10 };
	struct test_store *s = traded(state);

	for (size_t o = 0; o < ARRAY_LEN(orgs); o++) {
		for (size_t i = 0; i < ARRAY_LEN(bounds); i++)
			for (size_t k = i; k < ARRAY_LEN(bounds); k++)
				assert_same(s, orgs[o], NOW_MS + bounds[i] * STEP_MS,
					    NOW_MS + bounds[k] * STEP_MS, 10000);
		assert_same(s, orgs[o], 0, INT64_MAX / 2, 7);
	}
	assert_int_equal(test_store_int(s, "SELECT CAST(SUM(transfers) AS BIGINT) FROM accounts"),
			 2 * BATCH * BATCHES);
}

/* A period that is past is entered by a mark, not walked to from the newest. */
static void test_marks(void **state)
{
	struct test_store *s = traded(state);

	test_store_run(s, "UPDATE accounts SET last_transfer = 'tr_gone';\n");
	assert_same(s, ORG_A, 0, NOW_MS + 20 * STEP_MS, 10000);
	assert_same(s, ORG_B, 0, NOW_MS + 20 * STEP_MS, 10000);
	assert_true(audit_finds(s, "account names another newest transfer"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { TEST_BOTH(test_periods), TEST_BOTH(test_marks) };

	return test_stores_run("ledger-statement", tests, ARRAY_LEN(tests));
}
