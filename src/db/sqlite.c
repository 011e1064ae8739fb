/* SQLite.  A write holds the database's writer lock from BEGIN to COMMIT: the threads of one
 * process wait for each other on a mutex instead of SQLite's sleeps; other processes are waited
 * for by busy_timeout.  Readers (WAL) wait for nobody.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS 2000
#define WRITER_WAIT_S	5

/* Reading goes by the kernel's page cache, which all connections share, instead of a copy for
 * each; what one has changed, or read from the log, is in its own cache, that grows with need.
 * The log may hold 32 MiB, so that pages changed often are written back seldom. */
#define MMAP_MAX	 (INT64_C(1) << 31)
#define CACHE_KIB	 8192
#define CHECKPOINT_PAGES 8192

struct sqlite_db {
	struct db db;
	char *path;
	char *temp_dir; /* of ":memory:", removed at close; else NULL */
	const char *synchronous;
	pthread_mutex_t writer;
};

struct sqlite_conn {
	struct db_conn conn;
	sqlite3 *handle;
	sqlite3_stmt *begin_read, *begin_write, *commit, *rollback;
	bool writer; /* holds the writer lock */
};

struct sqlite_stmt {
	struct db_rows rows;
	sqlite3_stmt *stmt;
	bool row_waiting; /* query has stepped already */
	bool done;
	int slots;
	uint16_t number[]; /* slot i + 1 takes the value of $number */
};

static struct sqlite_db *db_of(const struct db *db)
{
	return (struct sqlite_db *)db;
}

static struct sqlite_conn *conn_of(const struct db_conn *c)
{
	return (struct sqlite_conn *)c;
}

static struct sqlite_stmt *stmt_of(const struct db_rows *r)
{
	return (struct sqlite_stmt *)r;
}

static int fail(struct sqlite_conn *c, int rc, const char *what, struct err *err)
{
	return sqlite_error(c->handle, rc, what, err);
}

/* ---- open -------------------------------------------------------------------------------- */

static int run_handle(struct sqlite_conn *c, const char *sql, struct err *err)
{
	int rc = sqlite3_exec(c->handle, sql, NULL, NULL, NULL);

	if (rc)
		return fail(c, sqlite3_extended_errcode(c->handle), sql, err);
	return 0;
}

static int sqlite_run(struct db_conn *c, const char *sql, struct err *err)
{
	return run_handle(conn_of(c), sql, err);
}

/* WAL is a lasting property of the file; whoever opens it first sets it, which others may
 * disturb for a moment. */
static int wal_set(struct sqlite_conn *c, struct err *err)
{
	struct backoff backoff = { 0 };
	sqlite3_stmt *stmt;

	for (;;) {
		int rc = sqlite3_prepare_v2(c->handle, "PRAGMA journal_mode = WAL", -1, &stmt,
					    NULL);
		if (!rc)
			rc = sqlite3_step(stmt);
		bool wal = rc == SQLITE_ROW &&
			   str_eq((const char *)sqlite3_column_text(stmt, 0), "wal");
		sqlite3_finalize(stmt);
		if (wal)
			return 0;
		if (rc == SQLITE_ROW)
			return err_set(err, ERR_UNAVAILABLE,
				       "database %.120s: its file system cannot share memory "
				       "for a write-ahead log; "
				       "use a local one",
				       db_of(c->conn.db)->path);
		if ((rc & 0xff) != SQLITE_BUSY || !backoff_wait(&backoff, false))
			return fail(c, rc, "PRAGMA journal_mode", err);
	}
}

static int conn_setup(struct sqlite_conn *c, struct err *err)
{
	cleanup_strbuf struct strbuf sql = STRBUF_INIT;
	const struct {
		sqlite3_stmt **stmt;
		const char *sql;
	} fixed[] = {
		{ &c->begin_read, "BEGIN" },
		{ &c->begin_write, "BEGIN IMMEDIATE" },
		{ &c->commit, "COMMIT" },
		{ &c->rollback, "ROLLBACK" },
	};

	strbuf_init(&sql);
	sqlite3_extended_result_codes(c->handle, 1);
	sqlite3_busy_timeout(c->handle, BUSY_TIMEOUT_MS);
	/* As in PostgreSQL, "x" is a name and never a text. */
	sqlite3_db_config(c->handle, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
	sqlite3_db_config(c->handle, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
	if (wal_set(c, err))
		return -1;
	strbuf_addf(&sql,
		    "PRAGMA synchronous = %s; PRAGMA foreign_keys = ON;"
		    "PRAGMA case_sensitive_like = ON; PRAGMA temp_store = MEMORY;"
		    "PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 67108864;"
		    "PRAGMA wal_autocheckpoint = %d; PRAGMA cache_size = -%d; PRAGMA mmap_size = %" PRId64,
		    db_of(c->conn.db)->synchronous, CHECKPOINT_PAGES, CACHE_KIB, MMAP_MAX);
	if (run_handle(c, sql.buf, err))
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
		int rc = sqlite3_prepare_v3(c->handle, fixed[i].sql, -1,
					    SQLITE_PREPARE_PERSISTENT, fixed[i].stmt, NULL);
		if (rc)
			return fail(c, rc, fixed[i].sql, err);
	}
	return 0;
}

static void sqlite_conn_close(struct db_conn *conn)
{
	struct sqlite_conn *c = conn_of(conn);

	db_conn_release_(conn);
	sqlite3_finalize(c->begin_read);
	sqlite3_finalize(c->begin_write);
	sqlite3_finalize(c->commit);
	sqlite3_finalize(c->rollback);
	int rc = sqlite3_close(c->handle);
	assert(rc == SQLITE_OK); /* else a statement was left behind */
	free(c);
}

static int sqlite_conn_open(struct db *db, struct db_conn **ret, struct err *err)
{
	const char *path = db_of(db)->path;
	struct sqlite_conn *c = xcalloc(1, sizeof(*c));
	int rc = sqlite3_open_v2(
		path, &c->handle,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);

	db_conn_init_(&c->conn, db);
	if (rc) {
		err_set(err, ERR_UNAVAILABLE, "database %.120s: %s", path,
			sqlite3_errmsg(c->handle));
		err->sys = sqlite3_system_errno(c->handle);
	}
	if (rc || conn_setup(c, err)) {
		sqlite_conn_close(&c->conn);
		return -1;
	}
	*ret = &c->conn;
	return 0;
}

static int sqlite_reconnect(struct db_conn *c, struct err *err)
{
	c->lost = false;
	return 0;
}

/* The file is made here, not by SQLite, so that nobody else may read it.  Never open and close
 * a file that is there: that would drop the locks which another connection of this process
 * holds on it. */
static int file_make(const char *path, struct err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (errno == EEXIST)
		return 0;
	err_sys(err, errno, "database %.120s cannot be made", path);
	err->code = ERR_UNAVAILABLE;
	return -1;
}

static int temp_make(struct sqlite_db *s, struct err *err)
{
	const char *base = getenv("TMPDIR");
	cleanup_strbuf struct strbuf path = STRBUF_INIT;

	strbuf_init(&path);
	strbuf_addf(&path, "%s/tes-db-XXXXXX", str_empty(base) ? "/tmp" : base);
	if (!mkdtemp(path.buf)) {
		err_sys(err, errno, "temporary directory %.120s cannot be made", path.buf);
		err->code = ERR_UNAVAILABLE;
		return -1;
	}
	s->temp_dir = xstrdup(path.buf);
	strbuf_adds(&path, "/db");
	s->path = strbuf_take(&path);
	s->synchronous = "off";
	return 0;
}

static int synchronous_parse(struct slice query, const char **ret, struct err *err)
{
	static const char *const names[] = { "full", "normal", "off" };
	const struct slice key = SLICE("synchronous=");

	if (query.len > key.len && !memcmp(query.ptr, key.ptr, key.len)) {
		const struct slice value = { query.ptr + key.len, query.len - key.len };
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			if (slice_is(value, names[i])) {
				*ret = names[i];
				return 0;
			}
	}
	return err_set(
		err, ERR_INVALID,
		"database URL ends in \"?%.60s\": only ?synchronous=full|normal|off is known",
		query.ptr);
}

static int url_parse(struct sqlite_db *s, const char *url, struct err *err)
{
	const char *path = url + strlen("sqlite:");
	const char *query = strrchr(path, '?');
	size_t len = query ? (size_t)(query - path) : strlen(path);

	s->synchronous = "full";
	if (!len)
		return err_set(
			err, ERR_INVALID,
			"database URL \"sqlite:\" has no path: sqlite:/var/lib/tes/tes.db");
	if (query && synchronous_parse(slice_of(query + 1), &s->synchronous, err))
		return -1;
	if (slice_is((struct slice){ path, len }, ":memory:"))
		return temp_make(s, err);
	s->path = xmalloc(len + 1);
	memcpy(s->path, path, len);
	s->path[len] = '\0';
	return 0;
}

static void sqlite_close(struct db *db)
{
	struct sqlite_db *s = db_of(db);

	if (s->temp_dir) {
		static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
		cleanup_strbuf struct strbuf path = STRBUF_INIT;
		strbuf_init(&path);
		for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
			strbuf_reset(&path);
			strbuf_addf(&path, "%s%s", s->path, suffixes[i]);
			unlink(path.buf);
		}
		rmdir(s->temp_dir);
	}
	pthread_mutex_destroy(&s->writer);
	free(s->temp_dir);
	free(s->path);
	free(s);
}

static pthread_once_t configured = PTHREAD_ONCE_INIT;

/* Without its statistics of memory, which nobody asks for, SQLite takes no lock that all threads
 * share for each piece of it.  Too late if somebody else in the process has begun: no harm. */
static void configure(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static int sqlite_open(const char *url, struct db **ret, struct err *err)
{
	struct sqlite_db *s = xcalloc(1, sizeof(*s));
	struct db_conn *c;

	pthread_once(&configured, configure);
	assert(sqlite3_threadsafe());
	db_init_(&s->db, &sqlite_store);
	pthread_mutex_init(&s->writer, NULL);
	if (url_parse(s, url, err) || file_make(s->path, err) ||
	    sqlite_conn_open(&s->db, &c, err)) {
		sqlite_close(&s->db);
		return -1;
	}
	sqlite_conn_close(c);
	*ret = &s->db;
	return 0;
}

/* ---- transactions ------------------------------------------------------------------------ */

static int step_fixed(struct sqlite_conn *c, sqlite3_stmt *stmt, struct err *err)
{
	int rc = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? 0 : fail(c, rc, sqlite3_sql(stmt), err);
}

static int writer_lock(struct sqlite_conn *c, struct err *err)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WRITER_WAIT_S;
	if (pthread_mutex_timedlock(&db_of(c->conn.db)->writer, &until))
		return err_set(err, ERR_RETRY,
			       "database is busy: another thread has been writing for %d s",
			       WRITER_WAIT_S);
	c->writer = true;
	return 0;
}

static void writer_unlock(struct sqlite_conn *c)
{
	if (c->writer)
		pthread_mutex_unlock(&db_of(c->conn.db)->writer);
	c->writer = false;
}

static int sqlite_begin(struct db_conn *conn, enum tx_mode mode, struct err *err)
{
	struct sqlite_conn *c = conn_of(conn);

	if (mode == TX_READ)
		return step_fixed(c, c->begin_read, err);
	if (writer_lock(c, err))
		return -1;
	if (step_fixed(c, c->begin_write, err)) {
		writer_unlock(c);
		return -1;
	}
	/* A migration may rebuild a table that others refer to. */
	if (mode == TX_MIGRATE && run_handle(c, "PRAGMA defer_foreign_keys = ON", err)) {
		conn->db->store->rollback(conn);
		return -1;
	}
	return 0;
}

static void sqlite_rollback(struct db_conn *conn)
{
	struct sqlite_conn *c = conn_of(conn);
	struct err ignored;

	/* SQLite itself rolls back when the disk is full or fails. */
	if (!sqlite3_get_autocommit(c->handle) && step_fixed(c, c->rollback, &ignored))
		assert(sqlite3_get_autocommit(c->handle));
	writer_unlock(c);
}

static int sqlite_commit(struct db_conn *conn, struct err *err)
{
	struct sqlite_conn *c = conn_of(conn);

	if (step_fixed(c, c->commit, err)) {
		sqlite_rollback(conn);
		return -1;
	}
	writer_unlock(c);
	return 0;
}

/* ---- statements -------------------------------------------------------------------------- */

static void sqlite_finalize(struct db_rows *r)
{
	sqlite3_finalize(stmt_of(r)->stmt);
	free(r);
}

static int sqlite_prepare(struct db_conn *conn, const char *sql, int params,
			  struct db_rows **ret, struct err *err)
{
	struct sqlite_conn *c = conn_of(conn);
	sqlite3_stmt *stmt = NULL;
	const char *tail;
	int rc =
		sqlite3_prepare_v3(c->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, &tail);

	if (rc)
		return fail(c, rc, sql, err);
	if (!stmt || *(tail + strspn(tail, " \t\n;"))) {
		sqlite3_finalize(stmt);
		return err_set(err, ERR_INTERNAL, "not exactly one statement: %.100s", sql);
	}

	int slots = sqlite3_bind_parameter_count(stmt);
	struct sqlite_stmt *s = xcalloc(1, sizeof(*s) + (size_t)slots * sizeof(s->number[0]));
	s->stmt = stmt;
	s->slots = slots;
	for (int i = 0; i < slots; i++) {
		const char *name = sqlite3_bind_parameter_name(stmt, i + 1);
		int64_t number;
		if (!name || name[0] != '$' || int_parse(name + 1, 1, params, &number, err)) {
			err_set(err, ERR_INTERNAL,
				"parameter %s is not $1 … $%d (write CAST($1 AS BIGINT)): %.80s",
				name ? name : "?", params, sql);
			sqlite_finalize(&s->rows);
			return -1;
		}
		s->number[i] = (uint16_t)number;
	}
	*ret = &s->rows;
	return 0;
}

/* `lifetime`: SQLITE_STATIC if the values outlive the stepping. */
static int bind(struct sqlite_stmt *s, const struct db_value *values,
		sqlite3_destructor_type lifetime, struct err *err)
{
	for (int i = 0; i < s->slots; i++) {
		const struct db_value *v = &values[s->number[i] - 1];
		int rc = SQLITE_OK;
		switch (v->kind) {
		case DB_KIND_NULL: rc = sqlite3_bind_null(s->stmt, i + 1); break;
		case DB_KIND_INT: rc = sqlite3_bind_int64(s->stmt, i + 1, v->integer); break;
		case DB_KIND_TEXT:
			rc = sqlite3_bind_text64(s->stmt, i + 1, v->len ? v->ptr : "", v->len,
						 lifetime, SQLITE_UTF8);
			break;
		case DB_KIND_BLOB:
			rc = sqlite3_bind_blob64(s->stmt, i + 1, v->len ? v->ptr : "", v->len,
						 lifetime);
			break;
		case DB_KIND_TEXTS: assert(!"a list, which SQLite has none of");
		}
		if (rc)
			return fail(conn_of(s->rows.conn), rc, s->rows.sql, err);
	}
	return 0;
}

static int step_all(struct sqlite_stmt *s, const struct db_value *values, int64_t *changed,
		    struct err *err)
{
	struct sqlite_conn *c = conn_of(s->rows.conn);
	int rc;

	if (bind(s, values, SQLITE_STATIC, err))
		return -1;
	while ((rc = sqlite3_step(s->stmt)) == SQLITE_ROW)
		;
	sqlite3_reset(s->stmt);
	if (rc != SQLITE_DONE)
		return fail(c, rc, s->rows.sql, err);
	if (!sqlite3_stmt_readonly(s->stmt))
		*changed += sqlite3_changes(c->handle);
	return 0;
}

static int sqlite_exec(struct db_rows *r, struct db_args args, int64_t *ret_changed,
		       struct err *err)
{
	int64_t changed = 0;

	if (step_all(stmt_of(r), args.items, &changed, err))
		return -1;
	*ret_changed = changed;
	return 0;
}

static int sqlite_exec_batch(struct db_rows *r, const struct db_value *values, size_t count,
			     int64_t *changed, struct err *err)
{
	int64_t unasked = 0;

	for (size_t i = 0; i < count; i++)
		if (step_all(stmt_of(r), values + i * (size_t)r->params,
			     changed ? changed : &unasked, err))
			return -1;
	return 0;
}

static int sqlite_query(struct db_rows *r, const struct db_value *values, size_t count,
			struct err *err)
{
	struct sqlite_stmt *s = stmt_of(r);
	struct sqlite_conn *c = conn_of(r->conn);

	if (!sqlite3_stmt_readonly(s->stmt) && r->conn->mode != TX_WRITE &&
	    r->conn->mode != TX_MIGRATE)
		return err_set(err, ERR_INTERNAL,
			       "statement that writes outside of db_tx: %.100s", r->sql);
	assert(count == 1);
	/* Copied: the caller's values may be gone before the last row is read. */
	if (bind(s, values, SQLITE_TRANSIENT, err))
		return -1;

	int rc = sqlite3_step(s->stmt);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
		sqlite3_reset(s->stmt);
		return fail(c, rc, r->sql, err);
	}
	s->row_waiting = rc == SQLITE_ROW;
	s->done = rc == SQLITE_DONE;
	return 0;
}

static int sqlite_next(struct db_rows *r, struct err *err)
{
	struct sqlite_stmt *s = stmt_of(r);

	if (s->row_waiting) {
		s->row_waiting = false;
		return 1;
	}
	if (s->done)
		return 0;

	int rc = sqlite3_step(s->stmt);
	if (rc == SQLITE_ROW)
		return 1;
	s->done = true;
	return rc == SQLITE_DONE ? 0 : fail(conn_of(r->conn), rc, r->sql, err);
}

static struct db_value sqlite_column(struct db_rows *r, int col)
{
	sqlite3_stmt *stmt = stmt_of(r)->stmt;
	struct db_value v = { .kind = DB_KIND_NULL };

	assert(col >= 0 && col < sqlite3_data_count(stmt));
	switch (sqlite3_column_type(stmt, col)) {
	case SQLITE_INTEGER:
		v.kind = DB_KIND_INT;
		v.integer = sqlite3_column_int64(stmt, col);
		break;
	case SQLITE_TEXT:
		v.kind = DB_KIND_TEXT;
		v.ptr = (const char *)sqlite3_column_text(stmt, col);
		v.len = (size_t)sqlite3_column_bytes(stmt, col);
		break;
	case SQLITE_BLOB:
		v.kind = DB_KIND_BLOB;
		v.ptr = sqlite3_column_blob(stmt, col);
		v.len = (size_t)sqlite3_column_bytes(stmt, col);
		break;
	case SQLITE_NULL: break;
	default: assert(!"a floating-point result: CAST(… AS BIGINT)");
	}
	return v;
}

static void sqlite_reset(struct db_rows *r)
{
	sqlite3_reset(stmt_of(r)->stmt);
	sqlite3_clear_bindings(stmt_of(r)->stmt);
}

/* ---- backup ------------------------------------------------------------------------------ */

/* All pages in one step, which is one read transaction: under WAL it stops no writer, and it
 * need not begin again when somebody writes. */
static int backup_copy(struct sqlite_conn *from, const char *path, struct err *err)
{
	sqlite3 *to = NULL;
	int rc = sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

	if (!rc) {
		sqlite3_backup *backup = sqlite3_backup_init(to, "main", from->handle, "main");
		if (backup) {
			rc = sqlite3_backup_step(backup, -1);
			int finished = sqlite3_backup_finish(backup);
			rc = rc == SQLITE_DONE ? finished : rc;
		} else {
			rc = sqlite3_errcode(to);
		}
	}
	if (rc)
		err_set(err, ERR_UNAVAILABLE, "backup to %.100s: %s", path, sqlite3_errmsg(to));
	sqlite3_close(to);
	return rc ? -1 : 0;
}

static int sqlite_backup(struct db *db, const char *path, struct err *err)
{
	struct stat live, target;
	struct db_conn *c;
	cleanup_free char *part = NULL;

	if (!stat(db_of(db)->path, &live) && !stat(path, &target) &&
	    live.st_dev == target.st_dev && live.st_ino == target.st_ino)
		return err_set(err, ERR_INVALID,
			       "backup file %.120s is the database itself: name another", path);
	if (backup_begin(path, &part, err))
		return -1;
	int r = db_conn_open(db, &c, err);
	if (!r) {
		r = backup_copy(conn_of(c), part, err);
		db_conn_close(c);
	}
	if (!r)
		r = backup_end(part, path, err);
	if (r)
		unlink(part);
	return r;
}

const struct db_store sqlite_store = {
	.name = "sqlite",
	.table_exists_sql =
		"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
	.open = sqlite_open,
	.close = sqlite_close,
	.backup = sqlite_backup,
	.conn_open = sqlite_conn_open,
	.conn_close = sqlite_conn_close,
	.reconnect = sqlite_reconnect,
	.begin = sqlite_begin,
	.commit = sqlite_commit,
	.rollback = sqlite_rollback,
	.run = sqlite_run,
	.prepare = sqlite_prepare,
	.finalize = sqlite_finalize,
	.exec = sqlite_exec,
	.exec_batch = sqlite_exec_batch,
	.query = sqlite_query,
	.next = sqlite_next,
	.column = sqlite_column,
	.reset = sqlite_reset,
};
