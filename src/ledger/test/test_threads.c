/* Property: whatever 8 threads do at once, the books balance, no limit is broken, and a model
 * of what each of them was told agrees with what is there. */
#include "ledger.h"
#include <pthread.h>

#define THREADS	 8
#define ORGS	 4
#define SUBJECTS 3

struct actor {
	pthread_t thread;
	struct db *db;
	uint64_t seed;
	int number, steps;
	int64_t deposited[ORGS], spent[ORGS], earned; /* as the ledger answered */
	int64_t refused, done;
	char failure[256];
};

static uint64_t roll(struct actor *w, uint64_t sides)
{
	w->seed = w->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (w->seed >> 33) % sides;
}

static const char *const orgs[ORGS] = { "or_0", "or_1", "or_2", "or_3" };

struct step {
	struct actor *w;
	enum { DEPOSIT, HOLD, SPEND, RELEASE, EXPIRE, TWICE } what;
	size_t org;
	int64_t number, amount, part;
	char subject[32], hold[ID_SIZE];
	int64_t now_ms;
	int64_t ret_held, ret_spent;
};

/* Spends a part of a hold that may be anybody's: escrow -> provider in the same posting. */
static int spend(struct db_conn *c, struct step *x, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct account escrow, provider;
	struct hold h;
	char post[ID_SIZE], pay[ID_SIZE];

	x->ret_spent = 0;
	if (holds_get(c, (const char *const[]){ x->hold }, 1, &arena, &h, err) < 0)
		return err->code == ERR_NOT_FOUND ? (err_clear(err), 0) : -1;
	if (!h.is_open || (h.transfer.expires_ms && h.transfer.expires_ms <= x->now_ms))
		return 0;
	if (ledger_account(c, ACCOUNT_ESCROW, orgs[x->org], x->subject, NOW_MS, &arena, &escrow,
			   err) < 0 ||
	    ledger_account(c, ACCOUNT_PROVIDER, orgs[0], NULL, NOW_MS, &arena, &provider, err) <
		    0)
		return -1;
	x->ret_spent = MAX(h.transfer.amount * x->part / 100, INT64_C(1));
	ledger_id("post", x->hold, 0, post);
	ledger_id("pay", x->hold, 0, pay);
	const struct transfer both[] = {
		{ .id = post,
		  .kind = TRANSFER_POST,
		  .pending_id = x->hold,
		  .amount = x->ret_spent },
		{ .id = pay,
		  .kind = TRANSFER_POSTED,
		  .debit_account = escrow.id,
		  .credit_account = provider.id,
		  .amount = x->ret_spent },
	};
	return ledger_post(c, both, 2, x->now_ms, err);
}

/* A hold that expires, since ledger_hold's do not. */
static int hold_until(struct db_conn *c, struct step *x, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct account customer, escrow;

	if (ledger_account(c, ACCOUNT_CUSTOMER, orgs[x->org], NULL, NOW_MS, &arena, &customer,
			   err) < 0 ||
	    ledger_account(c, ACCOUNT_ESCROW, orgs[x->org], x->subject, NOW_MS, &arena, &escrow,
			   err) < 0)
		return -1;
	const struct transfer t = { .id = x->hold,
				    .kind = TRANSFER_PENDING,
				    .debit_account = customer.id,
				    .credit_account = escrow.id,
				    .amount = x->amount,
				    .expires_ms = x->now_ms + 50 };
	return ledger_post(c, &t, 1, x->now_ms, err);
}

static int step_run(struct db_conn *c, void *arg, struct err *err)
{
	struct step *x = arg;
	char id[ID_SIZE];
	int expired;

	switch (x->what) {
	case DEPOSIT:
		ledger_id("deposit", x->subject, x->number, id);
		return ledger_deposit(c, orgs[x->org], id, x->amount, NULL, NOW_MS, err);
	case TWICE: /* the same id twice in one transaction, and once before */
		ledger_id("deposit", x->subject, x->number, id);
		return ledger_deposit(c, orgs[x->org], id, x->amount, NULL, NOW_MS, err) < 0 ||
				       ledger_deposit(c, orgs[x->org], id, x->amount, NULL,
						      NOW_MS, err) < 0
			       ? -1
			       : 0;
	case HOLD:
		if (x->part < 30)
			return hold_until(c, x, err);
		return ledger_hold(c, orgs[x->org], x->subject, x->number, x->amount,
				   x->part < 60, NOW_MS, id, &x->ret_held, err);
	case SPEND: return spend(c, x, err);
	case RELEASE:
		if (ledger_hold_release(c, x->hold, "test", NOW_MS, err) < 0)
			return err->code == ERR_NOT_FOUND || err->code == ERR_CONFLICT
				       ? (err_clear(err), 0)
				       : -1;
		return 0;
	case EXPIRE: return ledger_expire(c, x->now_ms, 5, &expired, err);
	}
	abort();
}

static void account_for(struct actor *w, const struct step *x)
{
	if (x->what == DEPOSIT || x->what == TWICE)
		w->deposited[x->org] += x->amount;
	if (x->what == SPEND) {
		w->spent[x->org] += x->ret_spent;
		w->earned += x->ret_spent;
	}
	w->done++;
}

static void step(struct actor *w, struct db_conn *c, int i)
{
	static const int weights[] = { DEPOSIT, HOLD,  HOLD,	HOLD,	SPEND,
				       SPEND,	SPEND, RELEASE, EXPIRE, TWICE };
	/* Holds are named by what all threads share, so that they meet on the same ones. */
	struct step x = { .w = w,
			  .what = weights[roll(w, ARRAY_LEN(weights))],
			  .org = roll(w, ORGS),
			  .number = (int64_t)roll(w, (uint64_t)w->steps),
			  .amount = (int64_t)roll(w, 1000) + 1,
			  .part = (int64_t)roll(w, 100) + 1,
			  .now_ms = NOW_MS + i };
	struct err err;

	if (x.what == DEPOSIT || x.what == TWICE) {
		snprintf(x.subject, sizeof(x.subject), "thread-%d", w->number);
		x.number = i;
	} else {
		snprintf(x.subject, sizeof(x.subject), "thing-%zu-%" PRIu64, x.org,
			 roll(w, SUBJECTS));
		ledger_id("hold", x.subject, x.number, x.hold);
	}
	if (db_tx(c, step_run, &x, &err) == 0)
		account_for(w, &x);
	else if (err.code == ERR_FUNDS || err.code == ERR_CONFLICT)
		w->refused++;
	else if (!w->failure[0])
		snprintf(w->failure, sizeof(w->failure), "%s: %s", err_code_name(err.code),
			 err.text);
}

static void *actor_run(void *arg)
{
	struct actor *w = arg;
	struct db_conn *c;
	struct err err;

	if (db_conn_open(w->db, &c, &err) < 0) {
		snprintf(w->failure, sizeof(w->failure), "%s", err.text);
		return NULL;
	}
	for (int i = 0; i < w->steps && !w->failure[0]; i++)
		step(w, c, i);
	db_conn_close(c);
	return NULL;
}

static int64_t customer_balance(struct test_store *s, size_t org)
{
	cleanup_arena struct arena arena = { 0 };
	struct account a;

	a = account_of(s, ACCOUNT_CUSTOMER, orgs[org], NULL, &arena);
	assert_true(account_available(&a) >= 0);
	return account_balance(&a);
}

static void test_threads(void **state)
{
	struct test_store *s = world(state);
	struct actor actors[THREADS];
	int64_t deposited[ORGS] = { 0 }, spent[ORGS] = { 0 }, done = 0, refused = 0;
	char sql[128];

	for (size_t i = 0; i < ORGS; i++) {
		snprintf(sql, sizeof(sql),
			 "INSERT INTO orgs (id, name, created_ms) VALUES ('%s', '%s', 1);\n",
			 orgs[i], orgs[i]);
		test_store_run(s, sql);
	}
	for (int i = 0; i < THREADS; i++) {
		actors[i] =
			(struct actor){ .db = s->db,
					.seed = (uint64_t)i + 1,
					.number = i,
					.steps = strcmp(s->name, "sqlite") == 0 ? 1500 : 150 };
		assert_int_equal(pthread_create(&actors[i].thread, NULL, actor_run, &actors[i]),
				 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(actors[i].thread, NULL);
		if (actors[i].failure[0])
			fail_msg("thread %d: %s", i, actors[i].failure);
		for (size_t o = 0; o < ORGS; o++) {
			deposited[o] += actors[i].deposited[o];
			spent[o] += actors[i].spent[o];
		}
		done += actors[i].done;
		refused += actors[i].refused;
	}
	assert_audit_clean(s);
	for (size_t o = 0; o < ORGS; o++)
		assert_int_equal(customer_balance(s, o), deposited[o] - spent[o]);
	/* It must have been worth it. */
	assert_true(done > refused && spent[0] > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { TEST_BOTH(test_threads) };

	return test_stores_run("ledger-threads", tests, ARRAY_LEN(tests));
}
