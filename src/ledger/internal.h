/* ledger, inside. */
#ifndef TES_LEDGER_INTERNAL_H
#define TES_LEDGER_INTERNAL_H

#include "ledger.h"

/* No sum of an account goes beyond it, so that adding one more transfer cannot overflow. */
#define LEDGER_SUM_MAX (INT64_C(1) << 61)

struct account_spec {
	enum ledger_account_kind kind;
	const char *org_id, *subject;
};
/* Finds or makes several accounts at once, in few statements; ret has their count.  ret_are_new:
 * escrows that are not there are left to the posting that has them in struct known; NULL: all are
 * made at once. */
int accounts_ensure(struct db_conn *c, const struct account_spec *specs, size_t count,
		    int64_t now_ms, struct arena *arena, struct account *ret, bool *ret_are_new,
		    struct err *err) must_check;
/* Of accounts that were not there a moment ago. */
int accounts_insert(struct db_conn *c, const struct account *made, size_t len,
		    struct err *err) must_check;
/* What is written was not there when it was read: a conflict means that somebody else has written
 * it since, which the next attempt shall see.  An unknown organisation conflicts for good.  -1. */
int retry_on_conflict(struct err *err);
const struct account *account_find(const struct account *sorted, size_t len, const char *id);

/* A hold and how it stands. */
struct hold {
	struct transfer transfer;
	bool is_open;
	int ended_by; /* enum transfer_kind, if not open */
};
/* Of each id in turn; NULL or empty: none, with transfer.id NULL.  ERR_NOT_FOUND if one is not there. */
int holds_get(struct db_conn *c, const char *const *ids, size_t len, struct arena *arena,
	      struct hold *ret, struct err *err) must_check;

/* What a caller within the ledger has read already in the same transaction, so that posting
 * need not read it again. */
struct known {
	const struct account *accounts; /* in any order, may repeat; others are read */
	size_t account_count;
	const bool *are_new; /* those that are made with their first transfers; NULL: none */
	const struct transfer
		*holds; /* pending and open; if any, then all that the transfers end */
	size_t hold_count;
	bool ids_are_new; /* none of the transfers is there */
};
int post_known(struct db_conn *c, const struct transfer *transfers, size_t len,
	       const struct known *known, int64_t now_ms, struct err *err) must_check;

/* ERR_FUNDS: which account, what is there, what is missing. */
int refuse_funds(const struct account *a, int64_t there, int64_t missing, struct err *err);

#endif
