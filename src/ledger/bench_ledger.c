/* Transfers a second: batched, durable, limits enforced, ids checked.
 *
 *   bench-ledger URL [SECONDS [BATCH [ACCOUNTS]]]      an empty database of either store
 *
 * The peer for PostgreSQL is pgbench's simple update on the same server; scripts/bench runs
 * both. */
#include "ledger.h"
#include <time.h>

#define START_UUSD INT64_C(1000000000)

struct bench {
	int64_t accounts, made, batch, number;
	char (*account_ids)[ID_SIZE];
	char (*ids)[ID_SIZE];
	struct transfer *transfers;
	uint64_t seed;
};

static double clock_s(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int64_t roll(struct bench *b, int64_t sides)
{
	b->seed = b->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (int64_t)((b->seed >> 33) % (uint64_t)sides);
}

/* So many in one transaction: a server has room for the locks of only so many rows. */
#define MADE_AT_ONCE 500

/* Every second account is a provider's, which has no limit. */
static int make_accounts(struct db_conn *c, void *arg, struct err *err)
{
	struct bench *b = arg;

	for (int64_t i = b->made; i < MIN(b->made + MADE_AT_ONCE, b->accounts); i++) {
		cleanup_arena struct arena arena = { 0 };
		enum ledger_account_kind kind = i % 2 ? ACCOUNT_PROVIDER : ACCOUNT_CUSTOMER;
		struct account a;
		char org[ID_SIZE], id[ID_SIZE];

		snprintf(org, sizeof(org), "or_%026" PRId64, i / 2);
		if (i % 2 == 0 &&
		    db_exec(c, "INSERT INTO orgs (id, name, created_ms) VALUES ($1, $1, 1)",
			    DB_ARGS(DB_TEXT(org)), NULL, err) < 0)
			return -1;
		if (ledger_account(c, kind, org, NULL, 1, &arena, &a, err) < 0)
			return -1;
		snprintf(b->account_ids[i], ID_SIZE, "%s", a.id);
		ledger_id("bench-deposit", org, 0, id);
		if (i % 2 == 0 && ledger_deposit(c, org, id, START_UUSD, NULL, 1, err) < 0)
			return -1;
	}
	return 0;
}

static void make_batch(struct bench *b)
{
	for (int64_t i = 0; i < b->batch; i++) {
		int64_t from = roll(b, b->accounts / 2) * 2,
			to = roll(b, b->accounts / 2) * 2 + 1;

		/* In order of time, as ids of transfers are: see base.h. */
		id_make("tr", INT64_C(1800000000000) + b->number++, &random_system, b->ids[i]);
		b->transfers[i] = (struct transfer){ .id = b->ids[i],
						     .kind = TRANSFER_POSTED,
						     .code = "bench",
						     .debit_account = b->account_ids[from],
						     .credit_account = b->account_ids[to],
						     .amount = 1 + roll(b, 100) };
	}
}

static int post_batch(struct db_conn *c, void *arg, struct err *err)
{
	struct bench *b = arg;

	return ledger_post(c, b->transfers, (size_t)b->batch, 1, err);
}

static int run(struct bench *b, const char *url, double seconds, struct err *err)
{
	struct db *db;
	struct db_conn *c;
	double start, start_cpu, spent = 0, cpu = 0;
	int64_t posted = 0;
	int applied;

	if (db_open(url, &db, err) < 0)
		return -1;
	if (db_migrate(db, 1, &applied, err) < 0 || db_conn_open(db, &c, err) < 0) {
		db_close(db);
		return -1;
	}
	for (; b->made < b->accounts; b->made += MADE_AT_ONCE)
		if (db_tx(c, make_accounts, b, err) < 0)
			goto fail;
	while (spent < seconds) {
		make_batch(b);
		start = clock_s(CLOCK_MONOTONIC);
		start_cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
		if (db_tx(c, post_batch, b, err) < 0)
			goto fail;
		spent += clock_s(CLOCK_MONOTONIC) - start;
		cpu += clock_s(CLOCK_PROCESS_CPUTIME_ID) - start_cpu;
		posted += b->batch;
	}
	printf("bench ledger store=%s value=%.0f unit=transfers/s batch=%" PRId64
	       " accounts=%" PRId64 " cpu_us_each=%.1f\n",
	       db_is_postgres(db) ? "postgres" : "sqlite", (double)posted / spent, b->batch,
	       b->accounts, cpu * 1e6 / (double)posted);
	db_conn_close(c);
	db_close(db);
	return 0;
fail:
	db_conn_close(c);
	db_close(db);
	return -1;
}

int main(int argc, char **argv)
{
	struct bench b = { .batch = argc > 3 ? atoll(argv[3]) : 8192,
			   .accounts = argc > 4 ? atoll(argv[4]) : 1000,
			   .seed = 1 };
	struct err err;
	int failed;

	if (argc < 2 || b.batch < 1 || b.accounts < 2) {
		fprintf(stderr, "usage: %s URL [SECONDS [BATCH [ACCOUNTS]]]\n", argv[0]);
		return 2;
	}
	b.account_ids = xcalloc((size_t)b.accounts, ID_SIZE);
	b.ids = xcalloc((size_t)b.batch, ID_SIZE);
	b.transfers = xcalloc((size_t)b.batch, sizeof(*b.transfers));
	failed = run(&b, argv[1], argc > 2 ? atof(argv[2]) : 5, &err);
	if (failed)
		fprintf(stderr, "%s: %s\n", argv[0], err.text);
	free(b.account_ids);
	free(b.ids);
	free(b.transfers);
	return failed ? 1 : 0;
}
