/* The audit finds every kind of fault: each is made on purpose, behind the ledger's back. */
#include "ledger.h"

#define RATE  INT64_C(3600000)
#define OTHER "le_00000000000000000000000002"

/* A settled and ended lease, a running one with its hold, and a transfer between. */
static struct test_store *busy(void **state)
{
	struct test_store *s = world(state);
	struct lease ended = { .id = LEASE,
			       .org_id = ORG_A,
			       .provider_org_id = ORG_B,
			       .rate_uusd_h = RATE,
			       .fee_ppm = 100000 };
	struct lease running = ended;
	cleanup_arena struct arena arena = { 0 };
	struct err err;

	running.id = OTHER;
	DO(s, .fn = call_deposit, .org = ORG_A, .number = 1, .amount = 10000000);
	DO(s, .fn = call_deposit, .org = ORG_B, .number = 1, .amount = 1000000);
	add_lease(s, ended.id, RATE, 100000);
	add_lease(s, running.id, RATE, 100000);
	DO(s, .fn = call_settle, .lease = &ended, .billable_ms = 0, .hold_ms = MINUTE_MS,
	   .arena = &arena);
	DO(s, .fn = call_settle, .lease = &ended, .billable_ms = MINUTE_MS,
	   .hold_ms = MINUTE_MS, .last = true, .arena = &arena);
	DO(s, .fn = call_settle, .lease = &running, .billable_ms = MINUTE_MS,
	   .hold_ms = MINUTE_MS, .arena = &arena);
	assert_audit_clean(s);
	return s;
}

static const struct {
	const char *sql, *finding;
} faults[] = {
	{ "UPDATE accounts SET debits_posted = debits_posted + 1 WHERE name = 'customer' AND "
	  "org_id = '" ORG_A "';\n",
	  "debits_posted is" },
	{ "UPDATE accounts SET debits_pending = debits_pending - 1 WHERE name = 'customer' "
	  "AND org_id = '" ORG_A "';\n",
	  "debits_pending is" },
	{ "UPDATE accounts SET credits_posted = credits_posted + 1 WHERE name = 'provider';\n",
	  "credits_posted is" },
	{ "UPDATE accounts SET credits_pending = credits_pending + 1 WHERE name = 'escrow:" OTHER
	  "';\n",
	  "credits_pending is" },
	{ "UPDATE accounts SET credits_posted = credits_posted + 1 WHERE name = 'provider';\n",
	  "against credits of" },
	{ "UPDATE accounts SET credits_pending = credits_pending + 1 WHERE name = 'escrow:" OTHER
	  "';\n",
	  "against held credits" },
	{ "UPDATE accounts SET debits_must_not_exceed_credits = 0 WHERE name = 'customer';\n",
	  "has lost its limit" },
	{ "UPDATE accounts SET debits_must_not_exceed_credits = 0, debits_posted = "
	  "credits_posted + 1 "
	  "WHERE name = 'customer' AND org_id = '" ORG_A "';\n",
	  "exceed credits" },
	{ "UPDATE transfers SET amount = amount + 1 WHERE code = 'deposit' AND subject = '" ORG_A
	  "';\n",
	  "but its transfers make" },
	{ "UPDATE transfers SET amount = 0 WHERE code = 'fee' AND subject = '" LEASE "';\n",
	  "no known kind or amount" },
	{ "UPDATE transfers SET kind = 'posting' WHERE code = 'settle' AND subject = '" LEASE
	  "';\n",
	  "no known kind or amount" },
	{ "UPDATE transfers SET kind = 'void', amount = amount - 1 WHERE code = 'settle' AND "
	  "subject = '" LEASE "';\n",
	  "does not fit the hold" },
	{ "UPDATE transfers SET credit_account = (SELECT id FROM accounts WHERE name = 'fee') "
	  "WHERE kind = 'post' AND subject = '" LEASE "';\n",
	  "does not fit the hold" },
	{ "UPDATE transfers SET pending_id = 'tr_gone' WHERE kind = 'post' AND subject = '" LEASE
	  "';\n",
	  "does not fit the hold" },
	{ "UPDATE transfers SET debit_account = 'ac_gone' WHERE code = 'deposit';\n",
	  "account that is not there" },
	{ "UPDATE transfers SET credit_account = 'ac_gone' WHERE code = 'fee';\n",
	  "account that is not there" },
	{ "UPDATE accounts SET currency = 'TES' WHERE name = 'provider';\n",
	  "between two currencies" },
	{ "UPDATE leases SET state = 'ended' WHERE id = '" OTHER "';\n",
	  "lease that has ended" },
	{ "UPDATE leases SET state = 'ended' WHERE id = '" OTHER "';\n",
	  "escrow of an ended lease is not empty" },
	{ "UPDATE transfers SET subject = '" REPLICA
	  "' WHERE kind = 'pending' AND subject = '" OTHER "';\n",
	  "replica that does not wait" },
	{ "UPDATE leases SET hold_id = NULL WHERE id = '" OTHER "';\n",
	  "hold that its lease does not know" },
	{ "UPDATE leases SET hold_id = 'tr_x' WHERE id = '" OTHER "';\n",
	  "counts on a hold that is not open" },
	{ "UPDATE leases SET billed_ms = billed_ms + 1000 WHERE id = '" LEASE "';\n",
	  "ms at 3600000 an hour are" },
	{ "UPDATE leases SET billed_uusd = billed_uusd + 1000 WHERE id = '" LEASE "';\n",
	  "but the customer's transfers make" },
	{ "UPDATE leases SET fee_uusd = fee_uusd + 1 WHERE id = '" LEASE "';\n",
	  "ppm of 60000 are 6000" },
	{ "UPDATE leases SET fee_uusd = fee_uusd + 1 WHERE id = '" LEASE "';\n",
	  "fee 6001, but its transfers make 6000" },
	{ "UPDATE transfers SET amount = amount - 1 WHERE code = 'provider' AND subject = '" LEASE
	  "';\n",
	  "the provider's share is" },
	{ "DELETE FROM transfers WHERE code = 'fee' AND subject = '" LEASE "';\n",
	  "fee 6000, but its transfers make 0" },
	{ "DELETE FROM transfers WHERE code = 'fee' AND subject = '" LEASE "';\n",
	  "transfers is" },
	{ "DELETE FROM transfers WHERE code = 'fee' AND subject = '" LEASE "';\n",
	  "does not follow the one before it" },
	{ "UPDATE transfers SET debit_number = debit_number + 1 WHERE debit_number > 2;\n",
	  "does not follow the one before it" },
	{ "UPDATE transfers SET credit_prev = id WHERE credit_number = 2;\n",
	  "does not follow the one before it" },
	{ "UPDATE accounts SET last_transfer = NULL WHERE name = 'provider';\n",
	  "names another newest transfer" },
};

struct fault {
	struct test_store *s;
	size_t i;
};

static int break_and_audit(struct db_conn *c, void *arg, struct err *err)
{
	const struct fault *f = arg;
	cleanup_arena struct arena arena = { 0 };
	const char *sql = faults[f->i].sql;
	char one[1024];
	struct audit audit;
	int64_t changed;
	bool is_found = false;

	snprintf(one, sizeof(one), "%.*s", (int)strcspn(sql, ";"), sql);
	if (db_exec(c, one, DB_NO_ARGS, &changed, err) < 0)
		return -1;
	if (!changed)
		fail_msg("nothing to break: %s", one);
	if (ledger_audit(c, &arena, &audit, err) < 0)
		return -1;
	for (size_t i = 0; i < audit.findings.len; i++)
		is_found |= strstr(audit.findings.items[i], faults[f->i].finding) != NULL;
	if (!is_found)
		fail_msg("\"%s\" is not found after %s (%zu findings, the first: %s)",
			 faults[f->i].finding, one, audit.findings.len,
			 audit.findings.len ? audit.findings.items[0] : "none");
	return err_set(err, ERR_CONFLICT, "rolled back");
}

static void test_every_fault(void **state)
{
	struct test_store *s = busy(state);
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		struct fault f = { s, i };

		assert_fails(db_tx(s->conn, break_and_audit, &f, &err), ERR_CONFLICT);
	}
	assert_audit_clean(s);
}

static void test_counts(void **state)
{
	struct test_store *s = busy(state);
	cleanup_arena struct arena arena = { 0 };
	struct audit audit;
	struct err err;

	assert_ok(ledger_audit(s->conn, &arena, &audit, &err));
	assert_int_equal(audit.leases, 2);
	assert_int_equal(audit.accounts, test_store_int(s, "SELECT COUNT(*) FROM accounts"));
	assert_int_equal(audit.transfers, test_store_int(s, "SELECT COUNT(*) FROM transfers"));
	assert_int_equal(audit.debits_uusd, 11000000 + 4 * 60000);
	assert_int_equal(audit.findings.len, 0);
}

/* The store itself refuses what would break a limit, whoever writes it. */
static int overdraw(struct db_conn *c, void *arg, struct err *err)
{
	return db_exec(c,
		       "UPDATE accounts SET debits_posted = credits_posted + 1 WHERE name = "
		       "'customer'",
		       DB_NO_ARGS, NULL, err);
}

static void test_store_guards(void **state)
{
	struct test_store *s = busy(state);
	struct err err;

	assert_fails(db_tx(s->conn, overdraw, NULL, &err), ERR_INVALID);
	assert_non_null(strstr(err.text, "accounts_debits_limit"));
	assert_audit_clean(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { TEST_BOTH(test_every_fault), TEST_BOTH(test_counts),
					    TEST_BOTH(test_store_guards) };

	return test_stores_run("ledger-audit", tests, ARRAY_LEN(tests));
}
