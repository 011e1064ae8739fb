/* db, inside: what the two stores implement, and what the common part keeps for them.
 *
 * A store embeds `struct db`, `struct db_conn` and `struct db_rows` at the head of its own
 * structs.  It knows nothing of retries, hooks and faults: it does one thing once and says in
 * err->code what became of it.  ERR_RETRY means that nothing was done and that the same may
 * succeed again; after a lost connection it also sets `conn->lost`.
 */
#ifndef TES_DB_INTERNAL_H
#define TES_DB_INTERNAL_H

#include "db.h"

#include <stdatomic.h>

#define DB_PARAMS_MAX  1000
#define DB_COLUMNS_MAX 96

enum tx_mode {
	TX_NONE,
	TX_READ_ONE, /* one statement, for which the store begins no transaction */
	TX_READ,
	TX_WRITE,
	TX_MIGRATE, /* a write that excludes other migrations, and sees what they committed */
};

struct db_store {
	const char *name;
	/* One integer row: whether the table $1 exists. */
	const char *table_exists_sql;

	int (*open)(const char *url, struct db **ret, struct err *err);
	void (*close)(struct db *db);
	int (*backup)(struct db *db, const char *path, struct err *err);

	int (*conn_open)(struct db *db, struct db_conn **ret, struct err *err);
	void (*conn_close)(struct db_conn *c);
	/* After `lost`: connects anew and clears it. */
	int (*reconnect)(struct db_conn *c, struct err *err);

	int (*begin)(struct db_conn *c, enum tx_mode mode, struct err *err);
	/* On failure the transaction is over as well.  ERR_UNAVAILABLE: outcome unknown. */
	int (*commit)(struct db_conn *c, struct err *err);
	void (*rollback)(struct db_conn *c);
	/* A statement without parameters whose rows nobody reads, not kept. */
	int (*run)(struct db_conn *c, const char *sql, struct err *err);

	/* `args.len` equals `params`, and no cursor of the statement is open. */
	int (*prepare)(struct db_conn *c, const char *sql, int params, struct db_rows **ret,
		       struct err *err);
	void (*finalize)(struct db_rows *r);
	int (*exec)(struct db_rows *r, struct db_args args, int64_t *ret_changed,
		    struct err *err);
	/* `values` holds count times `params` values.  *changed counts up; NULL: nobody asks.  With
	 * conn->piping the store may leave it and failures to pipeline_end. */
	int (*exec_batch)(struct db_rows *r, const struct db_value *values, size_t count,
			  int64_t *changed, struct err *err);
	/* NULL: nothing is ever left to it. */
	int (*pipeline_end)(struct db_conn *c, struct err *err);
	/* The statement has taken its whole effect when this returns, but for several executions at
	 * once (see db_query_many). */
	int (*query)(struct db_rows *r, const struct db_value *values, size_t count,
		     struct err *err);
	int (*next)(struct db_rows *r, struct err *err);
	/* Borrowed until the next row. */
	struct db_value (*column)(struct db_rows *r, int col);
	void (*reset)(struct db_rows *r);
};

extern const struct db_store sqlite_store;
extern const struct db_store postgres_store;

struct row_plan;
#define ROW_PLAN_BUCKETS 64

struct db {
	const struct db_store *store;
	atomic_int conns;
	db_fault_fn *fault;
	void *fault_arg;
	atomic_int_fast64_t fault_number;
	/* Described rows: found by the type's address, only ever added to. */
	_Atomic(struct row_plan *) plans[ROW_PLAN_BUCKETS];
};

/* A prepared statement of one connection, and the cursor over its rows while `open`. */
struct db_rows {
	struct db_conn *conn;
	char *sql;
	uint64_t hash;
	uint64_t used;	      /* value of conn->clock at the last use, for eviction */
	struct db_rows *next; /* in its bucket */
	int params;	      /* highest $n */
	bool open, cached;
};

#define STMT_BUCKETS   256
#define STMT_CACHE_MAX 512

struct hook {
	void (*fn)(void *arg);
	void (*arg_free)(void *arg);
	void *arg;
};

struct db_conn {
	struct db *db;
	enum tx_mode mode;
	bool asked;	   /* in TX_READ_ONE: the one statement has been made */
	bool piping;	   /* in db_pipeline */
	bool many;	   /* the rows of a db_query_many are being read */
	bool lost;	   /* the connection is gone; set by the store */
	struct err failed; /* the first failure in the running transaction; ERR_NONE: none */
	VEC(struct hook) hooks;
	struct db_rows *stmts[STMT_BUCKETS];
	size_t stmt_count;
	uint64_t clock;
	int open_rows;
	struct strbuf sql, json; /* scratch of row.c */
};

/* Called by a store's open and conn_open on what it has allocated. */
void db_init_(struct db *db, const struct db_store *store);
void db_conn_init_(struct db_conn *c, struct db *db);
/* Called by conn_close first, while statements can still be finalized. */
void db_conn_release_(struct db_conn *c);

/* stmt.c */
/* The rows of several executions of a statement, one after the other, in a transaction; `values` as
 * db_exec_batch takes them.  PostgreSQL works on the next while the rows of one are read: until
 * they are freed, nothing else may be asked of the connection.  SQLite: one. */
int db_query_many(struct db_conn *c, const char *sql, const struct db_value *values,
		  size_t columns, size_t count, struct db_rows **ret, struct err *err) must_check;
void stmts_release(struct db_conn *c);
struct db_value db_column(struct db_rows *r, int col);

/* row.c */
void row_plans_release(struct db *db);

/* db.c */
enum err_code db_fault_(struct db_conn *c, const char *sql, struct err *err);
int tx_run_retrying(struct db_conn *c, enum tx_mode mode, db_tx_fn *fn, void *arg,
		    struct err *err) must_check;

/* How long to go on asking a store that is busy or restarting. */
struct backoff {
	int attempt;
	int64_t deadline_ms; /* monotonic; 0 until the first wait */
};
#define BACKOFF_ATTEMPTS_MAX 50
#define BACKOFF_TOTAL_MS     (10 * SECOND_MS)
bool backoff_wait(struct backoff *b, bool lost); /* false: enough */
int backoff_give_up(const struct backoff *b, struct err *err);

/* migrate.c */
struct migration {
	int number;
	const char *name; /* "0001_start" */
	const char *sql;
};
extern const struct migration migrations_embedded[];
extern const size_t migrations_embedded_len;
int migrate_list(struct db *db, const struct migration *list, size_t len, int64_t now_ms,
		 int *ret_applied, struct err *err) must_check;
int migrate_pending(struct db_conn *c, const struct migration *list, size_t len,
		    int *ret_pending, struct err *err) must_check;
/* Cuts the next statement off *sql, in the dialect of the store; false at the end. */
bool migrate_next_statement(const char **sql, bool postgres, struct strbuf *ret);

/* pg_type.h: the types that results may have; the parameters are BIGINT, TEXT or BYTEA */
enum {
	OID_BOOL = 16,
	OID_BYTEA = 17,
	OID_CHAR = 18,
	OID_NAME = 19,
	OID_INT8 = 20,
	OID_INT2 = 21,
	OID_INT4 = 23,
	OID_TEXT = 25,
	OID_OID = 26,
	OID_UNKNOWN = 705,
	OID_BYTEA_ARRAY = 1001,
	OID_TEXT_ARRAY = 1009,
	OID_INT8_ARRAY = 1016,
	OID_BPCHAR = 1042,
	OID_VARCHAR = 1043,
	OID_NUMERIC = 1700,
	OID_VOID = 2278,
};

/* postgres_*.c: what postgres.c is made of.  struct pg_result is libpq's PGresult. */
struct pg_result;
enum pg_loss {
	PG_LOST_NOTHING,
	PG_LOST_STATEMENTS, /* to be prepared anew */
	PG_LOST_CONNECTION,
};
/* Length of the message's first line, which says it; for %.*s. */
int postgres_line_len(const char *message);
/* `message`: what libpq says, for a result that says nothing. */
void postgres_fail(const struct pg_result *res, const char *message, bool writing,
		   const char *sql, enum pg_loss *ret_loss, struct err *err);
/* Whether all columns are of types that we take; ret_numeric: some need postgres_numeric_check,
 * row by row. */
int postgres_types_check(const struct pg_result *res, const char *sql, bool *ret_numeric,
			 struct err *err) must_check;
int postgres_numeric_check(const struct pg_result *res, int row, const char *sql,
			   struct err *err) must_check;
struct db_value postgres_value(const struct pg_result *res, int row, int col);
/* Parameters as libpq takes them.  0: for the server to guess. */
unsigned postgres_oid(enum db_kind kind);
struct postgres_params {
	const char *values[DB_PARAMS_MAX];
	int lengths[DB_PARAMS_MAX], formats[DB_PARAMS_MAX];
	uint64_t integers[DB_PARAMS_MAX];
};
void postgres_params_fill(struct postgres_params *p, const struct db_value *values, int count);
/* postgres_batch.c.  The statement for many rows at once; false: there is none that would do
 * the same.  ret_key: the parameter in which the rows of one execution must differ, or -1. */
bool postgres_batch_sql(const char *sql, int params, struct strbuf *ret, int *ret_key);
/* How many of the rows go in one exchange: libpq keeps what is sent, and all the results of a
 * pipeline till they are read. */
size_t postgres_batch_rows(const struct db_value *values, size_t columns, size_t count);
/* One array for each parameter, in `buf`; false: these rows must go one by one. */
bool postgres_batch_arrays(const struct db_value *values, size_t columns, size_t rows, int key,
			   struct strbuf *buf, struct db_value *ret_arrays, unsigned *ret_types);
/* A list of texts as one value, for "column = ANY ($1)"; lives as long as `buf` does. */
struct db_value postgres_texts(const char *const *texts, size_t count, struct strbuf *buf);
int postgres_dump(const char *url, const char *path, struct err *err) must_check;

/* sqlite_error.c.  `rc` is an extended result code. */
struct sqlite3;
int sqlite_error(struct sqlite3 *handle, int rc, const char *what, struct err *err);

/* backup.c: what surrounds a store's own way of copying. */
int backup_begin(const char *path, char **ret_part_path, struct err *err) must_check;
int backup_end(const char *part_path, const char *path, struct err *err) must_check;

#endif
