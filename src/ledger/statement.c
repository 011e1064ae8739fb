/* Statements: the transfers of an organisation, by walking the chains of its accounts from the
 * newest back.  A period that is long past is entered by the mark behind it, one of which stands
 * every 256 transfers of an account. */
#include "internal.h"

/* A chain is in the order of posting.  Times follow it but for what the clocks of several servers
 * differ: walks begin later and end earlier by so much, and the times themselves decide. */
#define SKEW_MS (10 * MINUTE_MS)

/* clang-format off */
#define MARK(side) \
	"SELECT id, created_ms FROM (SELECT id, created_ms FROM transfers WHERE " side \
	"_account = a.id AND " side "_number % 256 = 0 AND created_ms >= $5 " \
	"ORDER BY created_ms LIMIT 1) " side

#define PREV "CASE WHEN t.debit_account = w.account THEN t.debit_prev ELSE t.credit_prev END"

static const char statement_tail[] =
	"WHERE id IN (WITH RECURSIVE walk (account, id) AS ("
	"SELECT a.id, COALESCE((SELECT m.id FROM (" MARK("debit") " UNION ALL " MARK("credit") ") m "
	"ORDER BY m.created_ms LIMIT 1), a.last_transfer) FROM accounts a WHERE a.org_id = $1 "
	"UNION ALL "
	"SELECT w.account, " PREV " FROM walk w JOIN transfers t ON t.id = w.id "
	"WHERE t.created_ms >= $4 AND " PREV " IS NOT NULL) SELECT id FROM walk) "
	"AND created_ms >= $2 AND created_ms < $3 ORDER BY created_ms, id LIMIT $6";
/* clang-format on */

int ledger_statement(struct db_conn *c, const char *org_id, int64_t since_ms, int64_t until_ms,
		     int64_t max, struct arena *arena, struct transfer **ret, size_t *ret_len,
		     struct err *err)
{
	void *items;

	if (db_select(c, &transfer_type, "transfers", statement_tail,
		      DB_ARGS(DB_TEXT(org_id), DB_INT(since_ms), DB_INT(until_ms),
			      DB_INT(since_ms - SKEW_MS), DB_INT(until_ms + SKEW_MS),
			      DB_INT(max)),
		      arena, &items, ret_len, err) < 0)
		return -1;
	*ret = items;
	return 0;
}
