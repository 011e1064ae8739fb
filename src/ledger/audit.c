/* The audit: everything that follows from the transfers is computed again and compared.  What
 * it reads it reads by statements of its own, not through the code that wrote it. */
#include "internal.h"

#define FINDINGS_MAX 1000

struct audit_run {
	struct db_conn *c;
	struct arena *arena;
	struct audit audit;
	VEC(const char *) findings;
	struct map *sums; /* by account id */
};

/* What the transfers say an account has. */
struct sums {
	int64_t debits_pending, debits_posted, credits_pending, credits_posted, transfers;
};

static void found(struct audit_run *r, const char *fmt, ...) printf_like(2, 3);
static void found(struct audit_run *r, const char *fmt, ...)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	va_list ap;

	if (r->findings.len >= FINDINGS_MAX)
		return;
	va_start(ap, fmt);
	strbuf_vaddf(&text, fmt, ap);
	va_end(ap);
	*vec_push(&r->findings) = arena_strndup(r->arena, text.buf, text.len);
}

/* ---- accounts against their transfers ---- */

/* Of a hold `t`. */
#define OPEN "NOT EXISTS (SELECT 1 FROM transfers e WHERE e.pending_id = t.id)"

/* clang-format off */
#define SUM_SQL(account) \
	"SELECT " account ", " \
	"CAST(SUM(CASE WHEN kind IN ('posted', 'post') THEN amount ELSE 0 END) AS BIGINT), " \
	"CAST(SUM(CASE WHEN kind = 'pending' AND " OPEN \
	" THEN amount ELSE 0 END) AS BIGINT), COUNT(*) FROM transfers t GROUP BY " account
/* clang-format on */

static int sum_side(struct audit_run *r, const char *sql, bool debit, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int got;

	if (db_query(r->c, sql, DB_NO_ARGS, &rows, err) < 0)
		return -1;
	while ((got = db_next(rows, err)) == 1) {
		const char *id = db_text(rows, 0, r->arena);
		struct sums *s = map_find(r->sums, id);

		if (!s) {
			s = arena_new(r->arena, struct sums);
			map_put(r->sums, id, s);
		}
		*(debit ? &s->debits_posted : &s->credits_posted) = db_int(rows, 1);
		*(debit ? &s->debits_pending : &s->credits_pending) = db_int(rows, 2);
		s->transfers += db_int(rows, 3);
		r->audit.transfers += debit ? db_int(rows, 3) : 0;
	}
	return got;
}

static void compare(struct audit_run *r, const struct account *a, const char *what,
		    int64_t stands, int64_t follows)
{
	if (stands != follows)
		found(r, "account %s (%s): %s is %" PRId64 ", but its transfers make %" PRId64,
		      a->id, a->name, what, stands, follows);
}

static void check_account(struct audit_run *r, const struct account *a)
{
	const struct sums none = { 0 }, *s = map_find(r->sums, a->id);
	bool limited = str_eq(a->name, "customer") || str_starts(a->name, "escrow:");

	if (!s)
		s = &none;
	compare(r, a, "debits_posted", a->debits_posted, s->debits_posted);
	compare(r, a, "debits_pending", a->debits_pending, s->debits_pending);
	compare(r, a, "credits_posted", a->credits_posted, s->credits_posted);
	compare(r, a, "credits_pending", a->credits_pending, s->credits_pending);
	compare(r, a, "transfers", a->transfers, s->transfers);
	if ((limited || a->debits_must_not_exceed_credits) &&
	    a->debits_posted + a->debits_pending > a->credits_posted)
		found(r,
		      "account %s (%s): debits of %" PRId64 " and holds of %" PRId64
		      " exceed credits of %" PRId64,
		      a->id, a->name, a->debits_posted, a->debits_pending, a->credits_posted);
	if (a->credits_must_not_exceed_debits &&
	    a->credits_posted + a->credits_pending > a->debits_posted)
		found(r,
		      "account %s (%s): credits of %" PRId64 " and holds of %" PRId64
		      " exceed debits of %" PRId64,
		      a->id, a->name, a->credits_posted, a->credits_pending, a->debits_posted);
	if (limited && !a->debits_must_not_exceed_credits)
		found(r, "account %s (%s): has lost its limit", a->id, a->name);
}

static void check_balanced(struct audit_run *r, const char *currency, const struct sums *s)
{
	if (s->debits_posted != s->credits_posted)
		found(r, "%s: debits of %" PRId64 " against credits of %" PRId64, currency,
		      s->debits_posted, s->credits_posted);
	if (s->debits_pending != s->credits_pending)
		found(r, "%s: held debits of %" PRId64 " against held credits of %" PRId64,
		      currency, s->debits_pending, s->credits_pending);
	r->audit.debits_uusd += s->debits_posted;
	r->audit.credits_uusd += s->credits_posted;
}

static int check_accounts(struct audit_run *r, struct err *err)
{
	struct account *accounts;
	struct sums sums = { 0 };
	size_t len;

	if (sum_side(r, SUM_SQL("debit_account"), true, err) < 0 ||
	    sum_side(r, SUM_SQL("credit_account"), false, err) < 0)
		return -1;
	if (db_select(r->c, &account_type, "accounts", "ORDER BY currency, id", DB_NO_ARGS,
		      r->arena, (void **)&accounts, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		const struct account *a = &accounts[i];

		check_account(r, a);
		sums.debits_posted += a->debits_posted;
		sums.credits_posted += a->credits_posted;
		sums.debits_pending += a->debits_pending;
		sums.credits_pending += a->credits_pending;
		if (i + 1 == len || !str_eq(a->currency, accounts[i + 1].currency)) {
			check_balanced(r, a->currency, &sums);
			sums = (struct sums){ 0 };
		}
	}
	r->audit.accounts = (int64_t)len;
	return 0;
}

/* ---- what must not be in the tables ---- */

/* clang-format off */
/* The number in `account`'s chain of a transfer that may not be there, or be another's. */
#define NUMBER_OF(transfer, account) \
	"CASE WHEN " transfer ".debit_account = " account " THEN " transfer ".debit_number " \
	"WHEN " transfer ".credit_account = " account " THEN " transfer ".credit_number ELSE -1 END"
/* clang-format on */

/* Each gives the id of what is wrong and two numbers that say how. */
static const struct {
	const char *what, *sql;
} wrongs[] = {
	{ "transfer is of no known kind or amount",
	  "SELECT id, amount, 0 FROM transfers WHERE amount <= 0 "
	  "OR kind NOT IN ('posted', 'pending', 'post', 'void', 'expire')" },
	{ "transfer is on an account that is not there",
	  "SELECT t.id, t.amount, 0 FROM transfers t LEFT JOIN accounts d ON d.id = "
	  "t.debit_account LEFT JOIN accounts c ON c.id = t.credit_account "
	  "WHERE d.id IS NULL OR c.id IS NULL" },
	{ "transfer does not fit the hold that it ends",
	  "SELECT t.id, t.amount, h.amount FROM transfers t LEFT JOIN transfers h ON h.id = "
	  "t.pending_id WHERE t.pending_id IS NOT NULL AND (h.id IS NULL "
	  "OR h.kind <> 'pending' OR t.kind NOT IN ('post', 'void', 'expire') OR t.amount "
	  "> h.amount "
	  "OR (t.kind <> 'post' AND t.amount <> h.amount) "
	  "OR t.debit_account <> h.debit_account OR t.credit_account <> h.credit_account)" },
	{ "transfer does not follow the one before it on its account",
	  "SELECT t.id, t.debit_number, t.credit_number FROM transfers t "
	  "LEFT JOIN transfers d ON d.id = t.debit_prev "
	  "LEFT JOIN transfers c ON c.id = t.credit_prev "
	  "WHERE (t.debit_number > 1 AND t.debit_number <> 1 + " NUMBER_OF("d", "t.debit_account")
	  ") OR (t.credit_number > 1 AND t.credit_number <> 1 + " NUMBER_OF("c", "t.credit_account")
	  ")" },
	{ "account names another newest transfer",
	  "SELECT a.id, a.transfers, 0 FROM accounts a LEFT JOIN transfers t ON t.id = "
	  "a.last_transfer WHERE a.transfers > 0 AND a.transfers <> " NUMBER_OF("t", "a.id") },
	{ "transfer is between two currencies",
	  "SELECT t.id, t.amount, 0 FROM transfers t JOIN accounts d ON d.id = t.debit_account "
	  "JOIN accounts c ON c.id = t.credit_account WHERE d.currency <> c.currency" },
	{ "hold for a lease that has ended, or never was",
	  "SELECT t.id, t.amount, 0 FROM transfers t WHERE t.kind = 'pending' AND " OPEN
	  " AND substr(t.subject, 1, 3) = 'le_' "
	  "AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.id = t.subject AND l.state <> "
	  "'ended')" },
	{ "hold for a replica that does not wait",
	  "SELECT t.id, t.amount, 0 FROM transfers t WHERE t.kind = 'pending' AND " OPEN
	  " AND substr(t.subject, 1, 3) = 'rp_' "
	  "AND NOT EXISTS (SELECT 1 FROM replicas r WHERE r.id = t.subject AND r.state = "
	  "'pending')" },
	{ "hold that its lease does not know",
	  "SELECT t.id, t.amount, 0 FROM transfers t JOIN leases l ON l.id = t.subject AND "
	  "l.state <> 'ended' "
	  "WHERE t.kind = 'pending' AND " OPEN
	  " AND (l.hold_id IS NULL OR l.hold_id <> t.id)" },
	{ "lease counts on a hold that is not open",
	  "SELECT l.id, 0, 0 FROM leases l WHERE l.state <> 'ended' AND l.hold_id IS NOT NULL "
	  "AND NOT EXISTS "
	  "(SELECT 1 FROM transfers t WHERE t.id = l.hold_id AND t.subject = l.id AND t.kind "
	  "= 'pending' AND " OPEN ")" },
	{ "escrow of an ended lease is not empty",
	  "SELECT a.id, a.credits_posted - a.debits_posted, a.credits_pending FROM leases l "
	  "JOIN accounts a ON a.org_id = l.org_id AND a.name = 'escrow:' || l.id WHERE "
	  "l.state = 'ended' "
	  "AND (a.credits_posted <> a.debits_posted OR a.credits_pending <> 0 OR "
	  "a.debits_pending <> 0)" },
};

static int check_wrongs(struct audit_run *r, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
		cleanup_rows struct db_rows *rows = NULL;
		int got;

		if (db_query(r->c, wrongs[i].sql, DB_NO_ARGS, &rows, err) < 0)
			return -1;
		while ((got = db_next(rows, err)) == 1)
			found(r, "%s: %s (%" PRId64 ", %" PRId64 ")",
			      db_text(rows, 0, r->arena), wrongs[i].what, db_int(rows, 1),
			      db_int(rows, 2));
		if (got < 0)
			return -1;
	}
	return 0;
}

/* ---- leases ---- */

struct billed {
	const char *id;
	int64_t rate, fee_ppm, ms, uusd, fee;	  /* as the lease has them */
	int64_t paid_in, paid_provider, paid_fee; /* as the transfers have them */
};

static void check_billed(struct audit_run *r, const struct billed *b)
{
	int64_t owed = owed_uusd(b->rate, b->ms);

	if (b->uusd != owed)
		found(r,
		      "lease %s: billed %" PRId64 ", but %" PRId64 " ms at %" PRId64
		      " an hour are %" PRId64,
		      b->id, b->uusd, b->ms, b->rate, owed);
	if (b->fee != fee_of(b->uusd, b->fee_ppm))
		found(r,
		      "lease %s: fee %" PRId64 ", but %" PRId64 " ppm of %" PRId64
		      " are %" PRId64,
		      b->id, b->fee, b->fee_ppm, b->uusd, fee_of(b->uusd, b->fee_ppm));
	if (b->uusd != b->paid_in)
		found(r,
		      "lease %s: billed %" PRId64
		      ", but the customer's transfers make %" PRId64,
		      b->id, b->uusd, b->paid_in);
	if (b->fee != b->paid_fee)
		found(r, "lease %s: fee %" PRId64 ", but its transfers make %" PRId64, b->id,
		      b->fee, b->paid_fee);
	if (b->uusd - b->fee != b->paid_provider)
		found(r,
		      "lease %s: the provider's share is %" PRId64
		      ", but its transfers make %" PRId64,
		      b->id, b->uusd - b->fee, b->paid_provider);
}

static int check_leases(struct audit_run *r, struct err *err)
{
	static const char sql[] =
		"WITH moved (debit, credit, amount) AS (SELECT t.debit_account, "
		"t.credit_account, CAST(SUM(t.amount) AS BIGINT) FROM transfers t JOIN accounts "
		"e ON e.id = t.debit_account AND e.name LIKE 'escrow:%' "
		"WHERE t.kind IN ('posted', 'post') GROUP BY t.debit_account, t.credit_account) "
		"SELECT l.id, l.rate_uusd_h, l.fee_ppm, l.billed_ms, l.billed_uusd, "
		"l.fee_uusd, COALESCE(a.credits_posted, 0), "
		"COALESCE(mp.amount, 0), COALESCE(mf.amount, 0) "
		"FROM leases l "
		"LEFT JOIN accounts a ON a.org_id = l.org_id AND a.name = 'escrow:' || l.id "
		"AND a.currency = $1 "
		"LEFT JOIN accounts p ON p.org_id = l.provider_org_id AND p.name = 'provider' "
		"AND p.currency = $1 "
		"LEFT JOIN accounts f ON f.org_id IS NULL AND f.name = 'fee' AND f.currency = "
		"$1 "
		"LEFT JOIN moved mp ON mp.debit = a.id AND mp.credit = p.id "
		"LEFT JOIN moved mf ON mf.debit = a.id AND mf.credit = f.id";
	cleanup_rows struct db_rows *rows = NULL;
	int got;

	if (db_query(r->c, sql, DB_ARGS(DB_TEXT(LEDGER_CURRENCY)), &rows, err) < 0)
		return -1;
	while ((got = db_next(rows, err)) == 1) {
		const struct billed b = {
			.id = db_text(rows, 0, r->arena),
			.rate = db_int(rows, 1),
			.fee_ppm = db_int(rows, 2),
			.ms = db_int(rows, 3),
			.uusd = db_int(rows, 4),
			.fee = db_int(rows, 5),
			.paid_in = db_int(rows, 6),
			.paid_provider = db_int(rows, 7),
			.paid_fee = db_int(rows, 8),
		};

		check_billed(r, &b);
		r->audit.leases++;
	}
	return got;
}

/* ---- all of it ---- */

/* In one snapshot: a transfer in the middle of the audit would look like a fault. */
static int run(struct db_conn *c, void *arg, struct err *err)
{
	struct audit_run *r = arg;

	r->c = c;
	r->audit = (struct audit){ 0 };
	r->findings.len = 0;
	map_free(r->sums, NULL);
	r->sums = map_new();
	return check_accounts(r, err) < 0 || check_wrongs(r, err) < 0 ||
			       check_leases(r, err) < 0
		       ? -1
		       : 0;
}

int ledger_audit(struct db_conn *c, struct arena *arena, struct audit *ret, struct err *err)
{
	struct audit_run r = { .arena = arena };
	int failed = db_read(c, run, &r, err);

	if (!failed) {
		const char **items = arena_array(arena, const char *, r.findings.len);

		if (r.findings.len)
			memcpy(items, r.findings.items, r.findings.len * sizeof(*items));
		r.audit.findings = (struct text_list){ items, r.findings.len };
		*ret = r.audit;
	}
	map_free(r.sums, NULL);
	vec_release(&r.findings);
	return failed;
}
