/* PostgreSQL's errors in our terms. */
#include "internal.h"

#include <libpq-fe.h>

int postgres_line_len(const char *s)
{
	return (int)MIN(strcspn(s, "\n"), (size_t)150);
}

static const char *diag(const PGresult *res, int field)
{
	const char *s = PQresultErrorField(res, field);
	return s ? s : "";
}

static int unique_fail(const PGresult *res, struct err *err)
{
	/* "Key (a, b)=(1, 2) already exists.", in the server's language */
	const char *detail = diag(res, PG_DIAG_MESSAGE_DETAIL);
	const char *open = strchr(detail, '(');
	const char *close = open ? strstr(open, ")=(") : NULL;

	if (close)
		return err_set(err, ERR_CONFLICT,
			       "%.60s(%.*s) must be unique: another row has the same value",
			       diag(res, PG_DIAG_TABLE_NAME), (int)MIN(close - open - 1, 100),
			       open + 1);
	return err_set(err, ERR_CONFLICT,
		       "%.100s must be unique: another row has the same value",
		       diag(res, PG_DIAG_CONSTRAINT_NAME));
}

struct state {
	const char *sqlstate; /* or its class of two characters */
	enum err_code code;
	bool lost;
};

static const struct state states[] = {
	{ "40001", ERR_RETRY },	      /* serialization_failure */
	{ "40P01", ERR_RETRY },	      /* deadlock_detected */
	{ "55P03", ERR_RETRY },	      /* lock_not_available */
	{ "26000", ERR_RETRY, true }, /* a pooler gave us a session without our statements */
	{ "57P01", ERR_RETRY, true }, /* admin_shutdown */
	{ "57P02", ERR_RETRY, true }, /* crash_shutdown */
	{ "57P03", ERR_RETRY, true }, /* cannot_connect_now */
	{ "57P05", ERR_RETRY, true }, /* idle_session_timeout */
	{ "25P03", ERR_RETRY, true }, /* idle_in_transaction_session_timeout */
	{ "08", ERR_RETRY, true },    /* connection exception */
	{ "53", ERR_UNAVAILABLE }, /* insufficient resources: disk full, too many connections */
	{ "57", ERR_UNAVAILABLE }, /* cancelled, statement timeout */
	{ "58", ERR_UNAVAILABLE }, /* system error */
	{ "23", ERR_CONFLICT },	   /* the other integrity constraints */
	{ "P0001", ERR_CONFLICT }, /* RAISE in a trigger */
	{ "22021", ERR_INVALID },  /* text with a byte 0 or not UTF-8 */
	{ "22003", ERR_INVALID },  /* number out of range */
	{ "54", ERR_TOO_LARGE },   /* program limit exceeded */
};

static int constraint_fail(const PGresult *res, const char *sqlstate, struct err *err)
{
	if (!strcmp(sqlstate, "23505"))
		return unique_fail(res, err);
	if (!strcmp(sqlstate, "23514"))
		return err_set(err, ERR_INVALID, "check %.100s refuses this row",
			       diag(res, PG_DIAG_CONSTRAINT_NAME));
	if (!strcmp(sqlstate, "23502"))
		return err_set(err, ERR_INVALID, "%.60s.%.60s must not be NULL",
			       diag(res, PG_DIAG_TABLE_NAME), diag(res, PG_DIAG_COLUMN_NAME));
	return err_set(err, ERR_CONFLICT,
		       "foreign key %.60s: a row that is referred to does not exist, "
		       "or is still referred to",
		       diag(res, PG_DIAG_CONSTRAINT_NAME));
}

void postgres_fail(const PGresult *res, const char *message, bool writing, const char *sql,
		   enum pg_loss *ret_loss, struct err *err)
{
	const char *sqlstate = diag(res, PG_DIAG_SQLSTATE);

	*ret_loss = PG_LOST_NOTHING;
	if (*diag(res, PG_DIAG_MESSAGE_PRIMARY))
		message = diag(res, PG_DIAG_MESSAGE_PRIMARY);
	if (str_starts(sqlstate, "2350") || !strcmp(sqlstate, "23514")) {
		constraint_fail(res, sqlstate, err);
		return;
	}
	/* Somebody has altered a table: prepared anew, the statement is good. */
	if (!strcmp(sqlstate, "0A000") &&
	    !strcmp(diag(res, PG_DIAG_SOURCE_FUNCTION), "RevalidateCachedQuery")) {
		*ret_loss = PG_LOST_STATEMENTS;
		err_set(err, ERR_RETRY, "%.*s: %.80s", postgres_line_len(message), message,
			sql);
		return;
	}
	if (!strcmp(sqlstate, "25006")) {
		if (writing)
			err_set(err, ERR_UNAVAILABLE,
				"PostgreSQL takes no writes here (a standby?): %.*s",
				postgres_line_len(message), message);
		else
			err_set(err, ERR_INTERNAL,
				"statement that writes outside of db_tx: %.100s", sql);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		if (str_starts(sqlstate, states[i].sqlstate)) {
			*ret_loss = states[i].lost ? PG_LOST_CONNECTION : PG_LOST_NOTHING;
			err_set(err, states[i].code, "PostgreSQL: %.*s",
				postgres_line_len(message), message);
			return;
		}
	err_set(err, ERR_INTERNAL, "PostgreSQL: %.*s (SQLSTATE %s): %.80s",
		postgres_line_len(message), message, sqlstate, sql);
}
