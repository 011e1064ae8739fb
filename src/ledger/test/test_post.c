/* Posting: sums, limits, repeats, holds and their ends. */
#include "ledger.h"

static void fund(struct test_store *s, int64_t amount)
{
	struct err err;

	DO(s, .fn = call_deposit, .org = ORG_A, .number = 1, .amount = amount);
}

static void name(char ret[static ID_SIZE], int64_t number)
{
	ledger_id("test", "post", number, ret);
}

static void test_deposit(void **state)
{
	struct test_store *s = world(state);
	struct err err;

	for (int i = 0; i < 3; i++)
		fund(s, 5000000);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 5000000, 0);
	assert_account(s, ACCOUNT_EXTERNAL, NULL, NULL, -5000000, 0);
	REFUSED(s, ERR_CONFLICT, .fn = call_deposit, .org = ORG_A, .number = 1,
		.amount = 5000001);
	REFUSED(s, ERR_INVALID, .fn = call_deposit, .org = ORG_A, .number = 2, .amount = 0);
	REFUSED(s, ERR_INVALID, .fn = call_deposit, .org = ORG_A, .number = 2, .amount = -5);
	REFUSED(s, ERR_INVALID, .fn = call_deposit, .org = ORG_A, .number = 2,
		.amount = INT64_MAX);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 5000000, 0);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM transfers"), 1);
	assert_audit_clean(s);
}

static void test_accounts(void **state)
{
	struct test_store *s = world(state);
	cleanup_arena struct arena arena = { 0 };
	struct account again;
	struct err err;
	char id[ID_SIZE];

	struct call a = DO(s, .fn = call_account, .kind = ACCOUNT_ESCROW, .org = ORG_A,
			   .subject = LEASE, .arena = &arena);
	assert_string_equal(a.account.name, "escrow:" LEASE);
	assert_true(a.account.debits_must_not_exceed_credits);
	assert_true(id_valid(a.account.id, "ac"));
	struct call b = DO(s, .fn = call_account, .kind = ACCOUNT_ESCROW, .org = ORG_A,
			   .subject = LEASE, .arena = &arena);
	assert_string_equal(a.account.id, b.account.id);
	b = DO(s, .fn = call_account, .kind = ACCOUNT_PROVIDER, .org = ORG_A, .arena = &arena);
	assert_string_not_equal(a.account.id, b.account.id);
	assert_false(b.account.debits_must_not_exceed_credits);
	ledger_account_id(ACCOUNT_PROVIDER, ORG_A, NULL, id);
	assert_string_equal(b.account.id, id);
	b = DO(s, .fn = call_account, .kind = ACCOUNT_FEE, .arena = &arena);
	assert_null(b.account.org_id);
	ledger_account_id(ACCOUNT_CUSTOMER, ORG_B, NULL, id);
	assert_fails(ledger_account_get(s->conn, id, &arena, &again, &err), ERR_NOT_FOUND);
	REFUSED(s, ERR_CONFLICT, .fn = call_account, .kind = ACCOUNT_CUSTOMER,
		.org = "or_nobody", .arena = &arena);
}

static void test_hold_and_release(void **state)
{
	struct test_store *s = world(state);
	struct err err;

	fund(s, 1000);
	struct call h = DO(s, .fn = call_hold, .org = ORG_A, .subject = REPLICA, .number = 1,
			   .amount = 600);
	assert_int_equal(h.ret_amount, 600);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000, 600);
	assert_account(s, ACCOUNT_ESCROW, ORG_A, REPLICA, 0, 600);
	/* The same again is the same hold, whatever is asked for now. */
	struct call again = DO(s, .fn = call_hold, .org = ORG_A, .subject = REPLICA,
			       .number = 1, .amount = 700, .partial = true);
	assert_string_equal(h.ret_id, again.ret_id);
	assert_int_equal(again.ret_amount, 600);
	REFUSED(s, ERR_FUNDS, .fn = call_hold, .org = ORG_A, .subject = REPLICA, .number = 2,
		.amount = 401);
	struct call part = DO(s, .fn = call_hold, .org = ORG_A, .subject = REPLICA, .number = 2,
			      .amount = 401, .partial = true);
	assert_int_equal(part.ret_amount, 400);
	REFUSED(s, ERR_FUNDS, .fn = call_hold, .org = ORG_A, .subject = REPLICA, .number = 3,
		.amount = 1, .partial = true);
	for (int i = 0; i < 2; i++)
		DO(s, .fn = call_release, .id = h.ret_id);
	DO(s, .fn = call_release, .id = part.ret_id);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000, 0);
	REFUSED(s, ERR_NOT_FOUND, .fn = call_release, .id = "tr_00000000000000000000000000");
	assert_audit_clean(s);
}

/* What the error says is what a person needs. */
static void test_funds_text(void **state)
{
	struct test_store *s = world(state);
	struct call x = { .fn = call_hold,
			  .org = ORG_A,
			  .subject = REPLICA,
			  .number = 1,
			  .amount = 2500000 };
	struct err err;

	fund(s, 1000000);
	assert_fails(in_tx(s->conn, &x, &err), ERR_FUNDS);
	assert_non_null(strstr(err.text, "customer"));
	assert_non_null(strstr(err.text, "1.00 USD available"));
	assert_non_null(strstr(err.text, "1.50 more"));
}

/* After a refusal the caller's transaction goes on, and nothing of the refused call is in
 * it. */
static int refused_then_fine(struct db_conn *c, struct call *x, struct err *err)
{
	struct err refused;
	char hold[ID_SIZE];
	int64_t held;

	assert_int_equal(ledger_hold(c, ORG_A, "something", 1, 2000, false, NOW_MS, hold, &held,
				     &refused),
			 -1);
	assert_int_equal(refused.code, ERR_FUNDS);
	return ledger_hold(c, ORG_A, "something", 2, 500, false, NOW_MS, hold, &held, err);
}

static void test_refusal_writes_nothing(void **state)
{
	struct test_store *s = world(state);
	struct err err;

	fund(s, 1000);
	DO(s, .fn = refused_then_fine);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000, 500);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM transfers"), 2);
	assert_audit_clean(s);
}

struct trio {
	char hold[ID_SIZE], end[ID_SIZE], other[ID_SIZE], customer[ID_SIZE], escrow[ID_SIZE],
		provider[ID_SIZE];
};

static struct trio trio(struct test_store *s)
{
	cleanup_arena struct arena arena = { 0 };
	struct trio t;
	struct err err;

	name(t.hold, 1);
	name(t.end, 2);
	name(t.other, 3);
	ledger_account_id(ACCOUNT_CUSTOMER, ORG_A, NULL, t.customer);
	ledger_account_id(ACCOUNT_ESCROW, ORG_A, LEASE, t.escrow);
	ledger_account_id(ACCOUNT_PROVIDER, ORG_B, NULL, t.provider);
	fund(s, 1000);
	DO(s, .fn = call_account, .kind = ACCOUNT_ESCROW, .org = ORG_A, .subject = LEASE,
	   .arena = &arena);
	DO(s, .fn = call_account, .kind = ACCOUNT_PROVIDER, .org = ORG_B, .arena = &arena);
	return t;
}

static void test_post_part(void **state)
{
	struct test_store *s = world(state);
	const struct trio t = trio(s);
	const struct transfer hold = { .id = t.hold,
				       .kind = TRANSFER_PENDING,
				       .debit_account = t.customer,
				       .credit_account = t.escrow,
				       .amount = 600 };
	const struct transfer post = {
		.id = t.end, .kind = TRANSFER_POST, .pending_id = t.hold, .amount = 250
	};
	struct transfer again = post;
	struct err err;

	DO(s, .fn = call_post, .transfers = &hold, .len = 1);
	for (int i = 0; i < 2; i++)
		DO(s, .fn = call_post, .transfers = &post, .len = 1);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 750, 0);
	assert_account(s, ACCOUNT_ESCROW, ORG_A, LEASE, 250, 0);
	again.id = t.other;
	REFUSED(s, ERR_CONFLICT, .fn = call_post, .transfers = &again, .len = 1);
	again = (struct transfer){ .id = t.other, .kind = TRANSFER_VOID, .pending_id = t.hold };
	REFUSED(s, ERR_CONFLICT, .fn = call_post, .transfers = &again, .len = 1);
	REFUSED(s, ERR_CONFLICT, .fn = call_release, .id = t.hold);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM transfers"), 3);
	assert_true(audit_finds(s, "account") == false);
}

/* Hold, post and split in one call: each account is written once, and the order counts only for
 * the hold. */
static void test_linked(void **state)
{
	struct test_store *s = world(state);
	const struct trio t = trio(s);
	const struct transfer all[] = {
		{ .id = t.hold,
		  .kind = TRANSFER_PENDING,
		  .debit_account = t.customer,
		  .credit_account = t.escrow,
		  .amount = 600 },
		{ .id = t.other,
		  .kind = TRANSFER_POSTED,
		  .debit_account = t.escrow,
		  .credit_account = t.provider,
		  .amount = 250 },
		{ .id = t.end, .kind = TRANSFER_POST, .pending_id = t.hold, .amount = 250 },
	};
	const struct transfer backwards[] = { all[2], all[0] };
	struct transfer more = all[1];
	struct err err;

	REFUSED(s, ERR_NOT_FOUND, .fn = call_post, .transfers = backwards, .len = 2);
	for (int i = 0; i < 2; i++)
		DO(s, .fn = call_post, .transfers = all, .len = 3);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 750, 0);
	assert_account(s, ACCOUNT_ESCROW, ORG_A, LEASE, 0, 0);
	assert_account(s, ACCOUNT_PROVIDER, ORG_B, NULL, 250, 0);
	more.amount = 251;
	REFUSED(s, ERR_CONFLICT, .fn = call_post, .transfers = &more, .len = 1);
	assert_audit_clean(s);
}

static void test_bad_transfers(void **state)
{
	struct test_store *s = world(state);
	const struct trio t = trio(s);
	const struct transfer good = { .id = t.hold,
				       .kind = TRANSFER_POSTED,
				       .debit_account = t.customer,
				       .credit_account = t.escrow,
				       .amount = 10 };
	struct transfer bad[2] = { good, good };
	struct err err;

	bad[0].credit_account = t.customer;
	REFUSED(s, ERR_INVALID, .fn = call_post, .transfers = bad, .len = 1);
	bad[0].credit_account = "ac_00000000000000000000000000";
	REFUSED(s, ERR_NOT_FOUND, .fn = call_post, .transfers = bad, .len = 1);
	bad[0].credit_account = NULL;
	REFUSED(s, ERR_INVALID, .fn = call_post, .transfers = bad, .len = 1);
	bad[0] = good;
	bad[0].id = "tr_nonsense";
	REFUSED(s, ERR_INVALID, .fn = call_post, .transfers = bad, .len = 1);
	bad[0] = good;
	bad[0].pending_id = t.other;
	REFUSED(s, ERR_INVALID, .fn = call_post, .transfers = bad, .len = 1);
	bad[0] = good;
	bad[0].expires_ms = NOW_MS;
	REFUSED(s, ERR_INVALID, .fn = call_post, .transfers = bad, .len = 1);
	bad[0] = good;
	bad[1].amount = 11; /* one id, two contents in one call */
	REFUSED(s, ERR_CONFLICT, .fn = call_post, .transfers = bad, .len = 2);
	bad[1] = good; /* the same twice in one call is one */
	DO(s, .fn = call_post, .transfers = bad, .len = 2);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 990, 0);
	bad[0] = (struct transfer){
		.id = t.other, .kind = TRANSFER_POST, .pending_id = good.id, .amount = 1
	};
	REFUSED(s, ERR_CONFLICT, .fn = call_post, .transfers = bad, .len = 1);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM transfers"), 2);
}

static void test_currencies_do_not_mix(void **state)
{
	struct test_store *s = world(state);
	const struct trio t = trio(s);
	const struct transfer mixed = { .id = t.hold,
					.kind = TRANSFER_POSTED,
					.debit_account = t.customer,
					.credit_account = t.provider,
					.amount = 10 };
	struct err err;

	test_store_run(s, "UPDATE accounts SET currency = 'TES' WHERE name = 'provider';\n");
	REFUSED(s, ERR_INVALID, .fn = call_post, .transfers = &mixed, .len = 1);
}

static void test_expiry(void **state)
{
	struct test_store *s = world(state);
	const struct trio t = trio(s);
	struct transfer holds[3];
	char ids[3][ID_SIZE];
	struct err err;

	for (size_t i = 0; i < 3; i++) {
		name(ids[i], 10 + (int64_t)i);
		holds[i] = (struct transfer){ .id = ids[i],
					      .kind = TRANSFER_PENDING,
					      .debit_account = t.customer,
					      .credit_account = t.escrow,
					      .amount = 100,
					      .expires_ms = NOW_MS + (int64_t)i * 1000 };
	}
	DO(s, .fn = call_post, .transfers = holds, .len = 3, .now_ms = NOW_MS - 1);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000, 300);
	/* Past its time it cannot be spent, even before it is swept up. */
	const struct transfer late = {
		.id = t.end, .kind = TRANSFER_POST, .pending_id = ids[0], .amount = 10
	};
	REFUSED(s, ERR_CONFLICT, .fn = call_post, .transfers = &late, .len = 1);
	struct call x = DO(s, .fn = call_expire, .number = 1, .now_ms = NOW_MS + 1000);
	assert_int_equal(x.ret_count, 1);
	x = DO(s, .fn = call_expire, .number = 10, .now_ms = NOW_MS + 1000);
	assert_int_equal(x.ret_count, 1);
	x = DO(s, .fn = call_expire, .number = 10, .now_ms = NOW_MS + 1000);
	assert_int_equal(x.ret_count, 0);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000, 100);
	DO(s, .fn = call_release, .id = ids[0]);
	assert_audit_clean(s);
}

/* More than one lookup takes at a time, with all the shapes mixed. */
static void test_big_batch(void **state)
{
	enum { N = 1000 };
	struct test_store *s = world(state);
	const struct trio t = trio(s);
	static struct transfer all[N];
	static char ids[N][ID_SIZE];
	struct err err;

	for (size_t i = 0; i < N; i++) {
		ledger_id("big", "batch", (int64_t)i, ids[i]);
		all[i] = (struct transfer){ .id = ids[i],
					    .kind = TRANSFER_POSTED,
					    .debit_account = t.customer,
					    .credit_account = t.escrow,
					    .amount = 1 };
		if (i % 4 == 1)
			all[i].kind = TRANSFER_PENDING;
		if (i % 4 == 2)
			all[i] = (struct transfer){ .id = ids[i],
						    .kind = i % 8 == 2 ? TRANSFER_VOID
								       : TRANSFER_POST,
						    .pending_id = ids[i - 1],
						    .amount = 1 };
	}
	DO(s, .fn = call_post, .transfers = all, .len = N / 2);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000 - N / 4 - N / 16, 0);
	DO(s, .fn = call_post, .transfers = all, .len = N);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000 - N / 2 - N / 8, 0);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM transfers"), N + 1);
	all[N - 1].amount = 1000;
	ledger_id("big", "batch", N, ids[N - 1]);
	REFUSED(s, ERR_FUNDS, .fn = call_post, .transfers = all, .len = N);
	assert_audit_clean(s);
}

/* More than goes to the store at once, between more accounts than few. */
struct many {
	struct transfer transfers[2500];
	char ids[2500][ID_SIZE], accounts[20][ID_SIZE];
	int64_t nth; /* the statement that fails */
	struct test_store *store;
	const char *id; /* which another connection posts meanwhile; NULL: none, or it has */
};

static struct many *many(struct test_store *s, struct arena *arena)
{
	struct many *m = arena_new(arena, struct many);
	char customer[ID_SIZE], subject[16];
	struct err err;

	m->store = s;
	fund(s, ARRAY_LEN(m->transfers));
	ledger_account_id(ACCOUNT_CUSTOMER, ORG_A, NULL, customer);
	for (size_t i = 0; i < ARRAY_LEN(m->accounts); i++) {
		snprintf(subject, sizeof(subject), "many-%zu", i);
		DO(s, .fn = call_account, .kind = ACCOUNT_ESCROW, .org = ORG_A, .subject = subject,
		   .arena = arena);
		ledger_account_id(ACCOUNT_ESCROW, ORG_A, subject, m->accounts[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(m->transfers); i++) {
		ledger_id("many", "transfers", (int64_t)i, m->ids[i]);
		m->transfers[i] = (struct transfer){
			.id = m->ids[i],
			.kind = TRANSFER_POSTED,
			.debit_account = arena_strdup(arena, customer),
			.credit_account = m->accounts[i % ARRAY_LEN(m->accounts)],
			.amount = 1
		};
	}
	return m;
}

/* `others`: transfers that are not of the many. */
static void assert_many(struct many *m, int64_t others, bool posted)
{
	const int64_t len = ARRAY_LEN(m->transfers);

	assert_int_equal(test_store_int(m->store, "SELECT COUNT(*) FROM transfers"),
			 others + (posted ? len : 0));
	assert_account(m->store, ACCOUNT_CUSTOMER, ORG_A, NULL, posted ? 0 : len, 0);
	assert_account(m->store, ACCOUNT_ESCROW, ORG_A, "many-7", posted ? len / 20 : 0, 0);
	assert_audit_clean(m->store);
}

static enum err_code fail_nth(void *arg, int64_t number, const char *sql)
{
	return number == ((const struct many *)arg)->nth ? ERR_IO : ERR_NONE;
}

/* Whichever statement fails, what was sent before it leaves nothing, and the connection is good. */
static void test_many_fault_sweep(void **state)
{
	struct test_store *s = world(state);
	cleanup_arena struct arena arena = { 0 };
	struct many *m = many(s, &arena);
	int failed = -1;
	struct err err;

	for (m->nth = 1; failed; m->nth++) {
		struct call x = { .fn = call_post,
				  .transfers = m->transfers,
				  .len = ARRAY_LEN(m->transfers) };

		db_set_fault(s->db, fail_nth, m);
		failed = in_tx(s->conn, &x, &err);
		db_set_fault(s->db, NULL, NULL);
		if (failed)
			assert_int_equal(err.code, ERR_IO);
		assert_many(m, 1, !failed);
	}
	assert_true(m->nth > 6);
}

/* What only the store sees, in the middle of what was sent to it. */
static void test_many_bad_row(void **state)
{
	struct test_store *s = world(state);
	cleanup_arena struct arena arena = { 0 };
	struct many *m = many(s, &arena);
	struct err err;

	m->transfers[1500].text = "not \377 UTF-8";
	REFUSED(s, ERR_INVALID, .fn = call_post, .transfers = m->transfers,
		.len = ARRAY_LEN(m->transfers));
	assert_many(m, 1, false);
	m->transfers[1500].text = NULL;
	DO(s, .fn = call_post, .transfers = m->transfers, .len = ARRAY_LEN(m->transfers));
	assert_many(m, 1, true);
}

static enum err_code post_meanwhile(void *arg, int64_t number, const char *sql)
{
	struct many *m = arg;
	char external[ID_SIZE], customer[ID_SIZE];
	const struct transfer other = { .id = m->id,
					.kind = TRANSFER_POSTED,
					.debit_account = external,
					.credit_account = customer,
					.amount = 1 };
	struct call x = { .fn = call_post, .transfers = &other, .len = 1 };
	struct db_conn *c;
	struct err err;

	if (!m->id || !str_starts(sql, "INSERT INTO transfers"))
		return ERR_NONE;
	m->id = NULL;
	ledger_account_id(ACCOUNT_EXTERNAL, NULL, NULL, external);
	ledger_account_id(ACCOUNT_CUSTOMER, ORG_B, NULL, customer);
	assert_ok(db_conn_open(m->store->db, &c, &err));
	assert_ok(in_tx(c, &x, &err));
	db_conn_close(c);
	return ERR_NONE;
}

/* Somebody else posts one of the ids after it was looked for: it is seen at the next attempt, and
 * that it is another transfer. */
static void test_many_meanwhile(void **state)
{
	struct test_store *s = world(state);
	cleanup_arena struct arena arena = { 0 };
	struct many *m = many(s, &arena);
	struct call x = { .fn = call_post,
			  .transfers = m->transfers,
			  .len = ARRAY_LEN(m->transfers) };
	struct err err;

	DO(s, .fn = call_deposit, .org = ORG_B, .number = 2, .amount = 1);
	m->id = m->ids[1500];
	db_set_fault(s->db, post_meanwhile, m);
	assert_fails(in_tx(s->conn, &x, &err), ERR_CONFLICT);
	db_set_fault(s->db, NULL, NULL);
	assert_null(m->id);
	assert_non_null(strstr(err.text, m->ids[1500]));
	assert_many(m, 3, false);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_B, NULL, 2, 0);
}

static int call_hold_many(struct db_conn *c, struct call *x, struct err *err)
{
	return ledger_hold_many(c, x->requests, x->len, "placed", NOW_MS, err);
}

/* Each hold for itself; what a hold replaces counts for it; again is the same. */
static void test_hold_many(void **state)
{
	enum { N = 150 };
	struct test_store *s = world(state);
	static struct hold_request r[N];
	static char subjects[N][ID_SIZE];
	struct err err;

	fund(s, 1000);
	DO(s, .fn = call_deposit, .org = ORG_B, .number = 1, .amount = 1000);
	struct call old = DO(s, .fn = call_hold, .org = ORG_A, .subject = "something",
			     .number = 1, .amount = 900);
	for (size_t i = 0; i < N; i++) {
		snprintf(subjects[i], ID_SIZE, "thing-%zu", i);
		r[i] = (struct hold_request){ .org_id = i % 2 ? ORG_B : ORG_A,
					      .subject = subjects[i],
					      .amount = 20 };
	}
	r[0].amount = 901; /* more than is there, beside the old hold */
	r[2].replaces = old.ret_id;
	DO(s, .fn = call_hold_many, .requests = r, .len = N);
	assert_int_equal(r[0].ret_missing, 801);
	assert_int_equal(r[2].ret_held, 20);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000, 1000);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_B, NULL, 1000, 1000);
	for (size_t i = 1; i < N; i++)
		assert_int_equal(r[i].ret_missing, i > 100 ? 20 : 0);
	/* An escrow is made with its first hold in it, and not without. */
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM accounts WHERE name LIKE "
					   "'escrow:thing-%' AND transfers = 1 AND "
					   "credits_pending = 20 AND last_transfer IS NOT NULL"),
			 100);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM accounts WHERE name LIKE "
					   "'escrow:thing-%'"),
			 100);
	r[0].amount = 1; /* the others are there, so only those that were refused are tried */
	DO(s, .fn = call_hold_many, .requests = r, .len = N);
	assert_int_equal(r[0].ret_missing, 1);
	assert_int_equal(r[2].ret_held, 20);
	assert_account(s, ACCOUNT_CUSTOMER, ORG_A, NULL, 1000, 1000);
	DO(s, .fn = call_release, .id = old.ret_id);
	REFUSED(s, ERR_INVALID, .fn = call_hold_many, .len = 1,
		.requests =
			&(struct hold_request){ .org_id = ORG_A, .subject = "x", .amount = 0 });
	REFUSED(s, ERR_NOT_FOUND, .fn = call_hold_many, .len = 1,
		.requests = &(struct hold_request){ .org_id = ORG_A,
						    .subject = "x",
						    .amount = 1,
						    .replaces = "tr_nothing" });
	assert_audit_clean(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(test_deposit),
		TEST_BOTH(test_accounts),
		TEST_BOTH(test_hold_and_release),
		TEST_BOTH(test_funds_text),
		TEST_BOTH(test_refusal_writes_nothing),
		TEST_BOTH(test_post_part),
		TEST_BOTH(test_linked),
		TEST_BOTH(test_bad_transfers),
		TEST_BOTH(test_currencies_do_not_mix),
		TEST_BOTH(test_expiry),
		TEST_BOTH(test_hold_many),
		TEST_BOTH(test_big_batch),
		TEST_BOTH(test_many_fault_sweep),
		TEST_ON("postgres", test_many_bad_row),
		TEST_ON("postgres", test_many_meanwhile), /* SQLite has one writer */
	};

	return test_stores_run("ledger-post", tests, ARRAY_LEN(tests));
}
