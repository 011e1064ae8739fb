/* SQLite's errors in our terms. */
#include "internal.h"

#include <sqlite3.h>

/* "UNIQUE constraint failed: t.a, t.b" -> "t(a, b)"; "… failed: index 'i'" -> "i". */
static void unique_name(const char *message, char *ret, size_t size)
{
	const char *at = strstr(message, ": ");
	const char *dot;

	at = at ? at + 2 : message;
	ret[0] = '\0';
	if (str_starts(at, "index '")) {
		snprintf(ret, size, "%.*s", (int)strcspn(at + 7, "'"), at + 7);
		return;
	}
	if (!(dot = strchr(at, '.'))) {
		snprintf(ret, size, "%s", at);
		return;
	}
	size_t len = (size_t)snprintf(ret, size, "%.*s(", (int)(dot - at), at);
	while (dot && len < size) {
		size_t name = strcspn(dot + 1, ",");
		const char *rest = dot + 1 + name;
		len += (size_t)snprintf(ret + len, size - len, "%.*s%s", (int)name, dot + 1,
					*rest ? ", " : ")");
		dot = *rest ? strchr(rest, '.') : NULL;
	}
}

static const char *after_colon(const char *message)
{
	const char *at = strstr(message, ": ");
	return at ? at + 2 : message;
}

static int constraint_fail(int extended, const char *message, struct err *err)
{
	char name[160];

	switch (extended) {
	case SQLITE_CONSTRAINT_UNIQUE:
	case SQLITE_CONSTRAINT_PRIMARYKEY:
	case SQLITE_CONSTRAINT_ROWID:
		unique_name(message, name, sizeof(name));
		return err_set(err, ERR_CONFLICT,
			       "%s must be unique: another row has the same value", name);
	case SQLITE_CONSTRAINT_CHECK:
		return err_set(err, ERR_INVALID, "check %s refuses this row",
			       after_colon(message));
	case SQLITE_CONSTRAINT_NOTNULL:
		return err_set(err, ERR_INVALID, "%s must not be NULL", after_colon(message));
	case SQLITE_CONSTRAINT_FOREIGNKEY:
		return err_set(err, ERR_CONFLICT,
			       "foreign key: a row that is referred to does not exist, "
			       "or is still referred to");
	default: return err_set(err, ERR_CONFLICT, "%s", message);
	}
}

int sqlite_error(sqlite3 *handle, int rc, const char *what, struct err *err)
{
	const char *message = sqlite3_errmsg(handle);

	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_set(err, ERR_RETRY,
			       "database is busy: another process writes: %.80s", what);
	case SQLITE_CONSTRAINT: return constraint_fail(rc, message, err);
	case SQLITE_FULL:
		return err_set(err, ERR_UNAVAILABLE,
			       "disk is full: free some space at the database file");
	case SQLITE_READONLY:
		return err_set(err, ERR_UNAVAILABLE, "database file cannot be written: %s",
			       message);
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_PROTOCOL: /* WAL locking gave up */
		err_set(err, ERR_UNAVAILABLE, "database: %s (SQLite code %d): %.80s", message,
			rc, what);
		err->sys = sqlite3_system_errno(handle);
		return -1;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_set(err, ERR_INTERNAL,
			       "database file is damaged (%s): restore a backup", message);
	case SQLITE_TOOBIG:
		return err_set(err, ERR_TOO_LARGE, "value is too large for the database: %.80s",
			       what);
	default:
		return err_set(err, ERR_INTERNAL, "%s (SQLite code %d): %.100s", message, rc,
			       what);
	}
}
