/* Organisations, leases and transfers for the tests of the ledger. */
#ifndef TES_LEDGER_TEST_LEDGER_H
#define TES_LEDGER_TEST_LEDGER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../db/test/stores.h"
#include "../internal.h"

#define NOW_MS	INT64_C(1800000000000)
#define ORG_A	"or_00000000000000000000000001"
#define ORG_B	"or_00000000000000000000000002"
#define LEASE	"le_00000000000000000000000001"
#define REPLICA "rp_00000000000000000000000001"

/* A function to be run in a transaction, as a block would be elsewhere. */
struct call {
	int (*fn)(struct db_conn *c, struct call *call, struct err *err);
	const struct transfer *transfers;
	struct hold_request *requests;
	size_t len;
	const char *org, *subject, *id, *text;
	int64_t number, amount, now_ms;
	bool partial, last;
	char ret_id[ID_SIZE];
	int64_t ret_amount;
	int ret_count;
	struct lease *lease;
	int64_t billable_ms, hold_ms;
	struct arena *arena;
	struct settlement settlement;
	struct account account;
	enum ledger_account_kind kind;
};

static inline int call_run(struct db_conn *c, void *arg, struct err *err)
{
	struct call *call = arg;

	return call->fn(c, call, err);
}

static inline int in_tx(struct db_conn *c, struct call *call, struct err *err)
{
	return db_tx(c, call_run, call, err);
}

static inline int call_post(struct db_conn *c, struct call *x, struct err *err)
{
	return ledger_post(c, x->transfers, x->len, x->now_ms ? x->now_ms : NOW_MS, err);
}

static inline int call_deposit(struct db_conn *c, struct call *x, struct err *err)
{
	char id[ID_SIZE];

	ledger_id("deposit", x->org, x->number, id);
	return ledger_deposit(c, x->org, id, x->amount, x->text, NOW_MS, err);
}

static inline int call_hold(struct db_conn *c, struct call *x, struct err *err)
{
	return ledger_hold(c, x->org, x->subject, x->number, x->amount, x->partial, NOW_MS,
			   x->ret_id, &x->ret_amount, err);
}

static inline int call_release(struct db_conn *c, struct call *x, struct err *err)
{
	return ledger_hold_release(c, x->id, "test", NOW_MS, err);
}

static inline int call_expire(struct db_conn *c, struct call *x, struct err *err)
{
	return ledger_expire(c, x->now_ms, (int)x->number, &x->ret_count, err);
}

static inline int call_account(struct db_conn *c, struct call *x, struct err *err)
{
	return ledger_account(c, x->kind, x->org, x->subject, NOW_MS, x->arena, &x->account,
			      err);
}

/* What the lease is billed must be stored with it. */
static inline int call_settle(struct db_conn *c, struct call *x, struct err *err)
{
	struct lease l = *x->lease;
	int64_t changed;

	if (ledger_settle(c, &l, x->billable_ms, x->hold_ms, x->last,
			  x->now_ms ? x->now_ms : NOW_MS, x->arena, &x->settlement, err) < 0)
		return -1;
	if (db_exec(c,
		    "UPDATE leases SET billed_ms = $2, billed_uusd = $3, fee_uusd = $4, "
		    "hold_id = $5, settled_at_ms = $6, "
		    "state = $7 WHERE id = $1",
		    DB_ARGS(DB_TEXT(l.id), DB_INT(l.billed_ms), DB_INT(l.billed_uusd),
			    DB_INT(l.fee_uusd), DB_TEXT(l.hold_id), DB_INT(l.settled_at_ms),
			    DB_TEXT(x->last ? "ended" : "running")),
		    &changed, err) < 0)
		return -1;
	assert_int_equal(changed, 1);
	*x->lease = l;
	return 0;
}

#define DO(s, ...)                                         \
	({                                                 \
		struct call call_ = { __VA_ARGS__ };       \
		assert_ok(in_tx((s)->conn, &call_, &err)); \
		call_;                                     \
	})
#define REFUSED(s, code, ...)                                       \
	({                                                          \
		struct call call_ = { __VA_ARGS__ };                \
		assert_fails(in_tx((s)->conn, &call_, &err), code); \
	})

/* ---- the world ---- */

static inline void add_lease(struct test_store *s, const char *id, int64_t rate,
			     int64_t fee_ppm)
{
	char sql[1024];

	snprintf(sql, sizeof(sql),
		 "INSERT INTO replicas (id, org_id, workload_id, number, state, generation, "
		 "created_ms) "
		 "VALUES ('rp_%s', '" ORG_A
		 "', 'wl_1', (SELECT COUNT(*) FROM replicas), 'leased', 1, 1);\n"
		 "INSERT INTO leases (id, org_id, provider_org_id, workload_id, replica_id, "
		 "worker_id, generation, state, "
		 "desired, reason, resources, rate_uusd_h, fee_ppm, claimed_ms, observed_ms) "
		 "VALUES ('%s', '" ORG_A "', '" ORG_B
		 "', 'wl_1', 'rp_%s', 'wk_1', 1, 'running', 'run', 'ready', '{}', "
		 "%" PRId64 ", %" PRId64 ", 1000000000000000, 1000000000000000);\n",
		 id + 3, id, id + 3, rate, fee_ppm);
	test_store_run(s, sql);
}

static inline struct test_store *world(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;
	int applied;

	assert_ok(db_migrate(s->db, NOW_MS, &applied, &err));
	test_store_run(
		s,
		"INSERT INTO orgs (id, name, created_ms) VALUES ('" ORG_A "', 'a', 1);\n"
		"INSERT INTO orgs (id, name, created_ms) VALUES ('" ORG_B "', 'b', 1);\n"
		"INSERT INTO workers (id, org_id, public_key, state, intent, joined_ms) "
		"VALUES ('wk_1', '" ORG_B "', 'k', 'online', 'open', 1);\n"
		"INSERT INTO workloads (id, org_id, state, spec, max_price_uusd_h, created_ms) "
		"VALUES ('wl_1', '" ORG_A "', 'running', '{}', 0, 1);\n");
	return s;
}

/* ---- what is there ---- */

static inline struct account account_of(struct test_store *s, enum ledger_account_kind kind,
					const char *org, const char *subject,
					struct arena *arena)
{
	struct account a;
	char id[ID_SIZE];
	struct err err;

	ledger_account_id(kind, org, subject, id);
	assert_ok(ledger_account_get(s->conn, id, arena, &a, &err));
	return a;
}

#define assert_account(s, kind, org, subject, balance, pending)                                \
	do {                                                                                   \
		cleanup_arena struct arena arena_ = { 0 };                                     \
		struct account account_;                                                       \
		account_ = account_of(s, kind, org, subject, &arena_);                         \
		assert_int_equal(account_balance(&account_), balance);                         \
		assert_int_equal(account_.debits_pending + account_.credits_pending, pending); \
	} while (0)

static inline void assert_audit_clean(struct test_store *s)
{
	cleanup_arena struct arena arena = { 0 };
	struct audit audit;
	struct err err;

	assert_ok(ledger_audit(s->conn, &arena, &audit, &err));
	if (audit.findings.len)
		fail_msg("%zu findings, the first: %s", audit.findings.len,
			 audit.findings.items[0]);
	assert_int_equal(audit.debits_uusd, audit.credits_uusd);
}

static inline bool audit_finds(struct test_store *s, const char *what)
{
	cleanup_arena struct arena arena = { 0 };
	struct audit audit;
	struct err err;

	assert_ok(ledger_audit(s->conn, &arena, &audit, &err));
	for (size_t i = 0; i < audit.findings.len; i++)
		if (strstr(audit.findings.items[i], what))
			return true;
	return false;
}

#endif
