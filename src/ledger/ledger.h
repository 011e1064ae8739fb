/* ledger: double entry after TigerBeetle's model.  The only writer of `accounts` and
 * `transfers`.
 *
 * Transfers are immutable and named by their caller: posting the same id again with the same
 * content is a no-op, with other content ERR_CONFLICT.  Two phases: a pending transfer holds
 * money (debits_pending / credits_pending); it is posted (all or part; the rest is released),
 * voided, or expires.  A correction is a new transfer.
 * Every function runs inside the caller's db_tx, so that a transition and its money commit
 * together.
 *
 *   deposit    external -> customer
 *   hold       customer -> escrow:<lease>, pending
 *   settle     post part of the hold; escrow:<lease> -> provider, escrow:<lease> -> fee;
 *              a new hold
 *   release    void the hold
 *
 * One set of accounts a currency.  Amounts are int64_t micro-units, > 0.
 */
#ifndef TES_LEDGER_H
#define TES_LEDGER_H

#include "../base/base.h"
#include "../db/db.h"
#include "../model/model.h"

/* POSTED moves money.  PENDING holds it.  POST, VOID and EXPIRE end the hold that pending_id
 * names, once: POST moves its amount (all or part of the hold, the rest is released), the other
 * two release all of it. */
enum transfer_kind {
	TRANSFER_POSTED,
	TRANSFER_PENDING,
	TRANSFER_POST,
	TRANSFER_VOID,
	TRANSFER_EXPIRE,
};
extern const char *const transfer_kind_names[];

#define LEDGER_CURRENCY "USD"
/* Of one transfer: a thousand million dollars. */
#define LEDGER_AMOUNT_MAX INT64_C(1000000000000000)

enum ledger_account_kind {
	ACCOUNT_CUSTOMER,
	ACCOUNT_PROVIDER,
	ACCOUNT_ESCROW,
	ACCOUNT_FEE,
	ACCOUNT_EXTERNAL,
};

/* Finds or makes: customer and provider of an organisation, escrow of a subject (a lease or a
 * replica's hold), fee and external of the network (org NULL).  Customer and escrow accounts:
 * debits must not exceed credits. */
int ledger_account(struct db_conn *c, enum ledger_account_kind kind, const char *org_id,
		   const char *subject, int64_t now_ms, struct arena *arena,
		   struct account *ret, struct err *err) must_check;
/* The id that ledger_account gives or would give it: follows from the rest, so that a history
 * can be repeated. */
void ledger_account_id(enum ledger_account_kind kind, const char *org_id, const char *subject,
		       char ret[static ID_SIZE]);
/* ERR_NOT_FOUND if there is none. */
int ledger_account_get(struct db_conn *c, const char *id, struct arena *arena,
		       struct account *ret, struct err *err) must_check;
/* credits - debits (customer, provider, escrow, fee), posted only; and what is still free after
 * holds. */
int64_t account_balance(const struct account *a);
int64_t account_available(const struct account *a);

/* All or none.  ERR_FUNDS names the account, what is there and what is missing; ERR_CONFLICT:
 * an id with other content, or a pending transfer already posted, voided or expired;
 * ERR_NOT_FOUND: no such account or pending transfer.  After these nothing has been written,
 * and the caller may go on in its transaction.
 *
 * Limits hold for the sum of all: the order of the transfers does not matter, but that a
 * pending one comes before what ends it.  Each account is written once per call however many
 * transfers touch it: post in batches where speed matters.
 * Of what ends a hold the accounts may be left NULL, and the amount of VOID and EXPIRE 0.
 * created_ms is set to now_ms.  The same content: accounts, kind, pending_id, code, subject and
 * amount. */
int ledger_post(struct db_conn *c, const struct transfer *transfers, size_t len, int64_t now_ms,
		struct err *err) must_check;
int ledger_transfer_find(struct db_conn *c, const char *id, struct arena *arena,
			 struct transfer *ret, bool *ret_found, struct err *err) must_check;
/* The transfers in which an account of the organisation gives or takes, made in since_ms <= time <
 * until_ms, oldest first, at most `max`. */
int ledger_statement(struct db_conn *c, const char *org_id, int64_t since_ms, int64_t until_ms,
		     int64_t max, struct arena *arena, struct transfer **ret, size_t *ret_len,
		     struct err *err) must_check;
/* Expires pending transfers whose time is over, at most `max`; how many were. */
int ledger_expire(struct db_conn *c, int64_t now_ms, int max, int *ret_expired,
		  struct err *err) must_check;

/* external -> customer.  `id` is the caller's, for retries: ledger_id("deposit", …). */
int ledger_deposit(struct db_conn *c, const char *org_id, const char *id, int64_t amount,
		   const char *text, int64_t now_ms, struct err *err) must_check;

/* ---- leases ---- */

/* Deterministic ids make retries no-ops: "tr_", the time in the subject's id if it is one, and
 * SHA-256 over the purpose, the subject and the number. */
void ledger_id(const char *purpose, const char *subject, int64_t number,
	       char ret[static ID_SIZE]);

/* Holds `amount` (or with `partial` what there is, at least 1) of the customer's money for
 * `subject`.  *ret_held is what was held.  The same subject and number again: the hold that was
 * made then. */
int ledger_hold(struct db_conn *c, const char *org_id, const char *subject, int64_t number,
		int64_t amount, bool partial, int64_t now_ms, char ret_hold[static ID_SIZE],
		int64_t *ret_held, struct err *err) must_check;
/* Voids it.  Already released: nothing happens; already posted: ERR_CONFLICT. */
int ledger_hold_release(struct db_conn *c, const char *hold_id, const char *why, int64_t now_ms,
			struct err *err) must_check;

/* Many holds in a handful of statements, for whoever commits placements in batches.  Each
 * stands for itself: one that the customer cannot pay has ret_missing > 0, and nothing is done
 * for it; the others are made, first come, first served. */
struct hold_request {
	const char *org_id, *subject;
	int64_t number, amount;
	const char *replaces; /* a hold of the same customer, released at once; NULL: none */
	bool is_partial;
	char ret_hold[ID_SIZE];
	int64_t ret_held, ret_missing;
};
/* `why`: the text of the releases. */
int ledger_hold_many(struct db_conn *c, struct hold_request *requests, size_t len,
		     const char *why, int64_t now_ms, struct err *err) must_check;

struct settlement {
	int64_t charged_uusd, fee_uusd; /* the fee is part of the charge */
	int64_t held_uusd;		/* that the lease's hold stands for now */
	bool is_short; /* could not pay for all, or hold less than was wanted */
};
/* Settles a lease up to `billable_ms` of delivered time: charges owed_uusd(rate, billable_ms) -
 * billed_uusd, from its hold first and then from what the customer has, splits it between
 * provider and fee (cumulative likewise) in linked transfers, and renews the hold to what
 * `hold_ms` cost at its rate unless `last`.  With nothing to charge and a sufficient hold it
 * writes nothing.
 * Updates lease->billed_ms, billed_uusd, fee_uusd, hold_id (from the arena; NULL: none) and
 * settled_at_ms; the caller stores the lease in the same transaction.
 * Never charges more than the customer has: billed_ms then stops at what was paid for, what is
 * missing stands in the transfer's text, and a later settlement catches up if there is money by
 * then. */
int ledger_settle(struct db_conn *c, struct lease *lease, int64_t billable_ms, int64_t hold_ms,
		  bool last, int64_t now_ms, struct arena *arena, struct settlement *ret,
		  struct err *err) must_check;
/* The same for many different leases in a handful of statements, as if each were settled after the
 * other; all or none. */
struct settle_request {
	struct lease *lease;
	int64_t billable_ms, hold_ms;
	bool last;
	struct settlement ret;
};
int ledger_settle_many(struct db_conn *c, struct settle_request *requests, size_t len,
		       int64_t now_ms, struct arena *arena, struct err *err) must_check;

/* ---- audit ---- */

struct audit {
	int64_t accounts, transfers, leases;
	int64_t debits_uusd, credits_uusd;
	struct text_list findings;
};
/* Recomputes everything from transfers: per account the four sums, Σ debits = Σ credits (posted
 * and pending) per currency, no limit violated, every escrow of an ended lease empty, every
 * lease's billed amount equal to owed_uusd() of its billed time, its fee and its transfers,
 * holds only for live subjects.  One line of text a finding. */
int ledger_audit(struct db_conn *c, struct arena *arena, struct audit *ret,
		 struct err *err) must_check;

#endif
