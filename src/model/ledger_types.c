/* The ledger's nouns, described; its rules are in ledger/. */
#include "internal.h"

static const struct field account_fields[] = {
	FIELD_ID(struct account, id, "ac", COLUMN_SET, "The account."),
	FIELD_ID(struct account, org_id, "or", COLUMN_NULL,
		 "Whose it is; absent: the network's."),
	FIELD_TEXT(struct account, name, 1, 128, COLUMN_SET | FIELD_LINE,
		   "customer, provider, escrow:<lease>, fee or external."),
	FIELD_TEXT(struct account, currency, 1, 16, COLUMN_SET | FIELD_LINE,
		   "What the amounts are millionths of, like USD."),
	FIELD_INT(struct account, debits_pending, 0, INT64_MAX, 0, COLUMN,
		  "Debits that are held, in micro-units."),
	FIELD_INT(struct account, debits_posted, 0, INT64_MAX, 0, COLUMN,
		  "Debits made, in micro-units."),
	FIELD_INT(struct account, credits_pending, 0, INT64_MAX, 0, COLUMN,
		  "Credits that are held, in micro-units."),
	FIELD_INT(struct account, credits_posted, 0, INT64_MAX, 0, COLUMN,
		  "Credits made, in micro-units."),
	FIELD_BOOL(struct account, debits_must_not_exceed_credits, COLUMN,
		   "Its balance is never negative, holds included."),
	FIELD_BOOL(struct account, credits_must_not_exceed_debits, COLUMN,
		   "Its balance is never positive, holds included."),
	FIELD_TIME(struct account, created_ms, COLUMN, "When it was opened."),
	FIELD_INT(struct account, transfers, 0, INT64_MAX, 0, COLUMN | FIELD_HIDDEN,
		  "How many transfers it takes part in."),
	FIELD_ID(struct account, last_transfer, "tr", COLUMN_NULL | FIELD_HIDDEN,
		 "The newest of them."),
};
TYPE(account, account, "An account of the ledger.");

static const struct field transfer_fields[] = {
	FIELD_ID(struct transfer, id, "tr", COLUMN_SET, "The transfer, named by who made it."),
	FIELD_ID(struct transfer, debit_account, "ac", COLUMN_SET, "The account that gives."),
	FIELD_ID(struct transfer, credit_account, "ac", COLUMN_SET, "The account that takes."),
	FIELD_ID(struct transfer, pending_id, "tr", COLUMN_NULL,
		 "The pending transfer that this one posts, voids or expires."),
	FIELD_TEXT(struct transfer, code, 0, 32, COLUMN | FIELD_LINE,
		   "What it is for, like deposit, hold or settle."),
	FIELD_TEXT(struct transfer, subject, 0, 64, COLUMN | FIELD_LINE,
		   "The id of what it is about."),
	FIELD_TEXT(struct transfer, text, 0, 512, COLUMN, "For people."),
	FIELD_ENUM(struct transfer, kind, transfer_kind_names, 0, COLUMN,
		   "posted; pending: a hold; post, void, expire: its end."),
	FIELD_INT(struct transfer, amount, 0, INT64_MAX, 0, COLUMN,
		  "Micro-units of the accounts' currency."),
	FIELD_TIME(struct transfer, created_ms, COLUMN, "When it was made."),
	FIELD_TIME(struct transfer, expires_ms, COLUMN,
		   "When a hold ends by itself; absent: never."),
	FIELD_INT(struct transfer, debit_number, 0, INT64_MAX, 0, COLUMN | FIELD_HIDDEN,
		  "Its place among those of the account that gives, from 1."),
	FIELD_INT(struct transfer, credit_number, 0, INT64_MAX, 0, COLUMN | FIELD_HIDDEN,
		  "Its place among those of the account that takes, from 1."),
	FIELD_ID(struct transfer, debit_prev, "tr", COLUMN_NULL | FIELD_HIDDEN,
		 "The one before it, of the account that gives."),
	FIELD_ID(struct transfer, credit_prev, "tr", COLUMN_NULL | FIELD_HIDDEN,
		 "The one before it, of the account that takes."),
};
TYPE(transfer, transfer, "Money that moved, or is held. Never changed, never deleted.");

static const struct field transfer_page_fields[] = {
	FIELD_LIST(struct transfer_page, items, &transfer_type, 10000, FIELD_OUT,
		   "The transfers, newest first."),
};
TYPE(transfer_page, transfer_page, "Transfers.");
