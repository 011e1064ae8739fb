/* db: SQL behind one interface, on SQLite ("sqlite:/var/lib/tes/tes.db", "sqlite::memory:" for
 * tests) and PostgreSQL ("postgres://…", any libpq URI).  Knows no jobs.
 *
 * A `struct db` is shared by all threads; a `struct db_conn` belongs to one thread at a time.
 * Statements are written once with $1 … $n for both stores.  SQL is always a string literal or
 * built by db.c from a type's description: no value is ever spliced into text.
 *
 * Every write is inside db_tx (elsewhere it is refused), which runs its function again when the
 * store asks for it (SQLITE_BUSY, serialization failure, deadlock, connection lost): the
 * function must have no effect but through the connection and its own `arg`, which it must fill
 * afresh each time.  Isolation is serializable on both stores.
 *
 * The stores are made to agree where SQL leaves room: texts compare and sort by bytes, LIKE
 * minds case, a failed statement dooms its transaction (use ON CONFLICT and the count of
 * changed rows), results are BIGINT, TEXT or BYTEA (a sum is an integer or an error).
 */
#ifndef TES_DB_H
#define TES_DB_H

#include "../base/base.h"
#include "../schema/schema.h"

struct db;
struct db_conn;

/* Checks that the store answers.  A SQLite URL may end in "?synchronous=full|normal|off" (full:
 * a commit survives power loss; :memory: is off).  "sqlite::memory:" is a private temporary
 * file, removed by db_close. */
int db_open(const char *url, struct db **ret, struct err *err) must_check;
void db_close(struct db *db); /* after its connections; NULL is fine */
bool db_is_postgres(const struct db *db);
int db_conn_open(struct db *db, struct db_conn **ret, struct err *err) must_check;
void db_conn_close(struct db_conn *c);

/* ---- migrations -------------------------------------------------------------------------- */

/* migrations/NNNN_name.sql, embedded in the binary at build time; applied in order, each in one
 * transaction, recorded with its SHA-256 in `schema_migrations`.  A changed or unknown recorded
 * migration is an error that says what to do.  Two replicas migrating at once: one waits. */
int db_migrate(struct db *db, int64_t now_ms, int *ret_applied, struct err *err) must_check;
int db_migrations_pending(struct db_conn *c, int *ret_pending, struct err *err) must_check;
/* Consistent copy while others write, put in place by rename, so that `path` is never half a
 * backup: SQLite's backup API to a file, which is itself a database; on PostgreSQL pg_dump
 * (custom format, for pg_restore). */
int db_backup(struct db *db, const char *path, struct err *err) must_check;

/* ---- statements -------------------------------------------------------------------------- */

enum db_kind {
	DB_KIND_NULL,
	DB_KIND_INT,
	DB_KIND_TEXT,
	DB_KIND_BLOB,
	DB_KIND_TEXTS, /* within db: a list, as PostgreSQL takes it */
};
struct db_value {
	enum db_kind kind;
	enum db_kind null_of; /* what a NULL would have been, where known */
	int64_t integer;
	const char *ptr;
	size_t len;
};
#define DB_NULL	  ((struct db_value){ .kind = DB_KIND_NULL })
#define DB_INT(n) ((struct db_value){ .kind = DB_KIND_INT, .integer = (n) })
static inline struct db_value DB_TEXT(const char *s) /* NULL is SQL NULL */
{
	return (struct db_value){ .kind = s ? DB_KIND_TEXT : DB_KIND_NULL,
				  .null_of = DB_KIND_TEXT,
				  .ptr = s,
				  .len = s ? strlen(s) : 0 };
}
#define DB_BLOB(p, n) \
	((struct db_value){ .kind = DB_KIND_BLOB, .ptr = (const char *)(p), .len = (n) })
struct db_args {
	const struct db_value *items;
	size_t len;
};
#define DB_ARGS(...)                                                    \
	((struct db_args){ (const struct db_value[]){ __VA_ARGS__ },    \
			   sizeof((struct db_value[]){ __VA_ARGS__ }) / \
				   sizeof(struct db_value) })
#define DB_NO_ARGS ((struct db_args){ NULL, 0 })

/* Column types used in migrations, on both stores: BIGINT, TEXT, BYTEA (migrate.c turns it into
 * BLOB for SQLite).  A violated unique constraint is ERR_CONFLICT and names table and columns; a
 * violated foreign key is ERR_CONFLICT; a violated CHECK is ERR_INVALID and names the
 * constraint; NULL where it may not be is ERR_INVALID and names the column.  A full disk, a
 * read-only or absent store is ERR_UNAVAILABLE. */
int db_exec(struct db_conn *c, const char *sql, struct db_args args,
	    int64_t *ret_changed /* may be NULL */, struct err *err) must_check;
/* The same statement for `count` rows of `columns` values each, row after row in `values`: one
 * exchange with the server for all, and on PostgreSQL one execution if it is an INSERT … VALUES,
 * or an UPDATE whose first condition is "column = $n" and differs from row to row.  All or
 * nothing, since a failure dooms the transaction. */
int db_exec_batch(struct db_conn *c, const char *sql, const struct db_value *values,
		  size_t columns, size_t count, int64_t *ret_changed /* may be NULL */,
		  struct err *err) must_check;

/* Rows are freed before the transaction ends and before another one begins.  For INSERT …
 * RETURNING and the like all is done when db_query returns. */
struct db_rows;
int db_query(struct db_conn *c, const char *sql, struct db_args args, struct db_rows **ret,
	     struct err *err) must_check;
/* 1: a row, 0: no more, -1: error. */
int db_next(struct db_rows *r, struct err *err) must_check;
void db_rows_free(struct db_rows *r);
bool db_is_null(struct db_rows *r, int col);
/* NULL is 0, NULL and { NULL, 0 }; texts and bytes are copied. */
int64_t db_int(struct db_rows *r, int col);
const char *db_text(struct db_rows *r, int col, struct arena *arena);
struct slice db_blob(struct db_rows *r, int col, struct arena *arena);
void db_rows_free_(struct db_rows **r);
#define cleanup_rows cleanup(db_rows_free_)
/* One integer, `def` where there is no row. */
int db_query_int(struct db_conn *c, const char *sql, struct db_args args, int64_t def,
		 int64_t *ret, struct err *err) must_check;

/* ---- transactions ------------------------------------------------------------------------ */

typedef int db_tx_fn(struct db_conn *c, void *arg, struct err *err);
/* Runs fn in a transaction and commits; fn returning -1 rolls back.  ERR_RETRY from fn, or a
 * conflict reported by the store, runs it again with backoff, at most 50 times or 10 s, then
 * ERR_UNAVAILABLE.  If the connection is lost while committing, the outcome is unknown:
 * ERR_UNAVAILABLE, and the caller's idempotency key settles it. */
int db_tx(struct db_conn *c, db_tx_fn *fn, void *arg, struct err *err) must_check;
/* Within db_tx, while no rows are open: `fn` makes batches and nothing else (db_exec_batch,
 * db_insert_many).  They take effect one after the other, but PostgreSQL is sent each without
 * waiting for what became of the one before, and works on it while the next is put together.  So a
 * failure may show only when all has been sent: then the first one is told.  What a batch changed
 * is counted when this returns. */
int db_pipeline(struct db_conn *c, db_tx_fn *fn, void *arg, struct err *err) must_check;
/* A read-only snapshot for several statements; within db_tx simply runs fn. */
int db_read(struct db_conn *c, db_tx_fn *fn, void *arg, struct err *err) must_check;
/* The same for a function that makes one statement at most (a second is ERR_INTERNAL): a
 * statement is a snapshot by itself, so this saves beginning and ending a transaction. */
int db_read_one(struct db_conn *c, db_tx_fn *fn, void *arg, struct err *err) must_check;
bool db_in_tx(const struct db_conn *c);
/* Claims a name for as long as this connection lives, outside of transactions.  true: it is
 * this connection's (again), so whoever had it has lost their connection: a process that was
 * killed is known to be dead as soon as the store notices.  false: a living connection has it,
 * or the store cannot tell (SQLite, where a lock on its file says more). */
int db_claim(struct db_conn *c, const char *name, bool *ret_held, struct err *err) must_check;
/* `fn(arg)` runs once after the running transaction has committed, in order of registration;
 * dropped on rollback or retry, and where the outcome of a commit is unknown.  `arg_free` (may
 * be NULL) is called in any case.  This is how other threads are woken: never before the
 * commit. */
void db_after_commit(struct db_conn *c, void (*fn)(void *arg), void (*arg_free)(void *arg),
		     void *arg);

/* Test and simulation hook: called before each statement and each commit with a running number;
 * a return other than 0 makes that statement (or commit, where sql is "COMMIT") fail with that
 * error code.  ERR_TIMEOUT for a commit: it takes effect, but the caller is told
 * ERR_UNAVAILABLE, as when the connection is lost at that moment.  Set it while no statement
 * runs; the number starts at 1 again. */
typedef enum err_code db_fault_fn(void *arg, int64_t number, const char *sql);
void db_set_fault(struct db *db, db_fault_fn *fn, void *arg);

/* ---- described rows ---------------------------------------------------------------------- */

/* The columns of a type are its FIELD_SQL fields, by name.  Objects, lists and maps are stored
 * as JSON text, secret fields included; bools as 0/1; enums as their names.  What is absent
 * (NULL text, id or object, time 0) is NULL with FIELD_NULL, else '' (time: 0), and reads back
 * as absent; only a FIELD_REQUIRED text keeps ''.  Lists and maps are never NULL in SQL. */

/* SELECT <columns> FROM table <where…>: all rows into an arena array of t->size each. */
int db_select(struct db_conn *c, const struct type *t, const char *table, const char *tail,
	      struct db_args args, struct arena *arena, void **ret_items, size_t *ret_len,
	      struct err *err) must_check;
/* The rows whose `column`, a text that is unique and indexed, is one of `texts`, which may repeat
 * and be in any order: each row once, in no order. */
int db_select_in(struct db_conn *c, const struct type *t, const char *table, const char *column,
		 const char *const *texts, size_t count, struct arena *arena, void **ret_items,
		 size_t *ret_len, struct err *err) must_check;
/* Exactly one: ERR_NOT_FOUND ("no <table> …") if none. */
int db_get(struct db_conn *c, const struct type *t, const char *table, const char *tail,
	   struct db_args args, struct arena *arena, void *ret, struct err *err) must_check;
int db_insert(struct db_conn *c, const struct type *t, const char *table, const void *value,
	      struct err *err) must_check;
int db_insert_many(struct db_conn *c, const struct type *t, const char *table,
		   const void *values, size_t count, struct err *err) must_check;
/* UPDATE all columns but FIELD_FIXED of the row whose `key` column equals the value's, else
 * ERR_NOT_FOUND.  A type that has but some of the table's columns leaves the others as they are,
 * which costs less where the others stand in indexes. */
int db_update(struct db_conn *c, const struct type *t, const char *table, const char *key,
	      const void *value, struct err *err) must_check;
/* The same as a batch; *ret_changed as of db_exec_batch: whether all were there is for the caller
 * to see. */
int db_update_many(struct db_conn *c, const struct type *t, const char *table, const char *key,
		   const void *values, size_t count, int64_t *ret_changed,
		   struct err *err) must_check;

#endif
