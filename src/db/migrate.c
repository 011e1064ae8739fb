/* Migrations: one list for both stores, applied in order, each in a transaction of its own,
 * recorded with its hash. */
#include "internal.h"

static const char records_sql[] =
	"CREATE TABLE IF NOT EXISTS schema_migrations (number BIGINT PRIMARY KEY,"
	" name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_ms BIGINT NOT NULL)";

/* ---- the dialect ------------------------------------------------------------------------- */

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

/* What must be one thing to both stores and has two names.  Texts compare by bytes in SQLite,
 * and in PostgreSQL by the language of the database unless told. */
static void word_add(struct strbuf *out, struct slice word, struct slice before, bool postgres)
{
	bool cast = slice_is(before, "AS") || slice_is(before, "as");

	if (!postgres && slice_is(word, "BYTEA"))
		strbuf_adds(out, "BLOB");
	else if (postgres && slice_is(word, "TEXT") && !cast)
		strbuf_adds(out, "TEXT COLLATE \"C\"");
	else
		strbuf_add(out, word.ptr, word.len);
}

/* Length of the quoted text or comment that *p begins with; 0: neither. */
static size_t opaque_len(const char *p)
{
	const char *end;

	if (p[0] == '-' && p[1] == '-')
		return strcspn(p, "\n");
	if (p[0] != '\'' && p[0] != '"')
		return 0;
	end = strchr(p + 1, p[0]);
	return end ? (size_t)(end + 1 - p) : strlen(p);
}

/* Length of the storage option that p begins with, which only the other store knows; 0: none. */
static size_t option_len(const char *p, bool postgres)
{
	static const char rowid[] = "WITHOUT ROWID";
	const char *end;

	if (postgres)
		return str_starts(p, rowid) ? strlen(rowid) : 0;
	end = str_starts(p, "WITH (fillfactor") ? strchr(p, ')') : NULL;
	return end ? (size_t)(end + 1 - p) : 0;
}

static const char *blank_skip(const char *p)
{
	for (;;) {
		p += strspn(p, " \t\r\n;");
		if (p[0] != '-' || p[1] != '-')
			return p;
		p += strcspn(p, "\n");
	}
}

/* Nothing but a comment after it on its line. */
static bool is_line_end(const char *p)
{
	p += strspn(p, " \t");
	return *p == '\0' || *p == '\r' || *p == '\n' || (p[0] == '-' && p[1] == '-');
}

bool migrate_next_statement(const char **sql, bool postgres, struct strbuf *ret)
{
	const char *p = blank_skip(*sql);
	struct slice before = { NULL, 0 };

	strbuf_reset(ret);
	while (*p) {
		size_t len = opaque_len(p);
		if (len) {
			if (*p != '-')
				strbuf_add(ret, p, len);
		} else if (option_len(p, postgres)) {
			len = option_len(p, postgres);
		} else if (is_word(*p)) {
			while (is_word(p[len]))
				len++;
			const struct slice word = { p, len };
			word_add(ret, word, before, postgres);
			before = word;
		} else {
			len = 1;
			if (*p == ';' && is_line_end(p + 1))
				break;
			strbuf_addc(ret, *p);
		}
		p += len;
	}
	*sql = *p ? p + 1 : p;
	return ret->len > 0;
}

/* ---- what is recorded -------------------------------------------------------------------- */

static const struct migration *migration_find(const struct migration *list, size_t len,
					      int64_t number)
{
	for (size_t i = 0; i < len; i++)
		if (list[i].number == number)
			return &list[i];
	return NULL;
}

static int record_check(const struct migration *m, int64_t number, const char *name,
			const char *sha256, struct err *err)
{
	char expected[SHA256_HEX_SIZE];

	if (!m)
		return err_set(
			err, ERR_CONFLICT,
			"database has migration %" PRId64
			" (%.60s), which this program does not know: run the "
			"newer version that applied it, or restore the backup from before",
			number, name);
	sha256_hex(m->sql, strlen(m->sql), expected);
	if (strcmp(expected, sha256))
		return err_set(err, ERR_CONFLICT,
			       "migration %.60s is not what was applied to this database "
			       "(SHA-256 %.12s, here %.12s): run "
			       "an unchanged build, and change the schema by a new migration",
			       m->name, sha256, expected);
	return 0;
}

/* How many of the list are applied; they are its first ones. */
static int records_read(struct db_conn *c, const struct migration *list, size_t len,
			size_t *ret_done, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	cleanup_rows struct db_rows *rows = NULL;
	size_t done = 0;
	int got;

	arena_init(&arena, 0);
	if (db_query(c, "SELECT number, name, sha256 FROM schema_migrations ORDER BY number",
		     DB_NO_ARGS, &rows, err))
		return -1;
	while ((got = db_next(rows, err)) > 0) {
		int64_t number = db_int(rows, 0);
		const char *name = db_text(rows, 1, &arena);
		const struct migration *m = migration_find(list, len, number);
		if (record_check(m, number, name, db_text(rows, 2, &arena), err))
			return -1;
		if (m != &list[done])
			return err_set(err, ERR_CONFLICT,
				       "database has migration %.60s but not %.60s before it: "
				       "restore a backup",
				       m->name, list[done].name);
		done++;
	}
	if (got < 0)
		return -1;
	*ret_done = done;
	return 0;
}

int migrate_pending(struct db_conn *c, const struct migration *list, size_t len,
		    int *ret_pending, struct err *err)
{
	int64_t exists;
	size_t done = 0;

	if (db_query_int(c, c->db->store->table_exists_sql,
			 DB_ARGS(DB_TEXT("schema_migrations")), 0, &exists, err))
		return -1;
	if (exists && records_read(c, list, len, &done, err))
		return -1;
	*ret_pending = (int)(len - done);
	return 0;
}

/* ---- applying ---------------------------------------------------------------------------- */

struct step {
	const struct migration *list;
	size_t len;
	int64_t now_ms;
	bool applied; /* one migration; false: there was none left */
};

static int script_run(struct db_conn *c, const struct migration *m, struct err *err)
{
	const struct db_store *store = c->db->store;
	const char *rest = m->sql;
	cleanup_strbuf struct strbuf sql = STRBUF_INIT;

	strbuf_init(&sql);
	while (migrate_next_statement(&rest, store == &postgres_store, &sql)) {
		if (db_fault_(c, sql.buf, err) || store->run(c, sql.buf, err)) {
			c->failed = *err;
			return err_wrap(err, "migration %s", m->name);
		}
	}
	return 0;
}

/* Applies the first that is not there yet.  The lock is held from here to the commit, so that
 * of two who migrate at once the second finds it done. */
static int step_run(struct db_conn *c, void *arg, struct err *err)
{
	struct step *step = arg;
	char sha256[SHA256_HEX_SIZE];
	size_t done;

	step->applied = false;
	if (c->db->store->run(c, records_sql, err) ||
	    records_read(c, step->list, step->len, &done, err))
		return -1;
	if (done == step->len)
		return 0;

	const struct migration *m = &step->list[done];
	sha256_hex(m->sql, strlen(m->sql), sha256);
	if (script_run(c, m, err) ||
	    db_exec(c,
		    "INSERT INTO schema_migrations (number, name, sha256, applied_ms)"
		    " VALUES ($1, $2, $3, $4)",
		    DB_ARGS(DB_INT(m->number), DB_TEXT(m->name), DB_TEXT(sha256),
			    DB_INT(step->now_ms)),
		    NULL, err))
		return -1;
	step->applied = true;
	return 0;
}

int migrate_list(struct db *db, const struct migration *list, size_t len, int64_t now_ms,
		 int *ret_applied, struct err *err)
{
	struct step step = { .list = list, .len = len, .now_ms = now_ms };
	struct db_conn *c;
	int applied = 0, r;

	for (size_t i = 1; i < len; i++)
		assert(list[i].number > list[i - 1].number);
	if (db_conn_open(db, &c, err))
		return -1;
	do {
		r = tx_run_retrying(c, TX_MIGRATE, step_run, &step, err);
		applied += !r && step.applied;
	} while (!r && step.applied);
	db_conn_close(c);
	if (r)
		return -1;
	*ret_applied = applied;
	return 0;
}

int db_migrate(struct db *db, int64_t now_ms, int *ret_applied, struct err *err)
{
	return migrate_list(db, migrations_embedded, migrations_embedded_len, now_ms,
			    ret_applied, err);
}

int db_migrations_pending(struct db_conn *c, int *ret_pending, struct err *err)
{
	return migrate_pending(c, migrations_embedded, migrations_embedded_len, ret_pending,
			       err);
}
