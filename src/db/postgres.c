/* PostgreSQL over libpq.  Every statement is prepared on first use, in each connection;
 * integers and bytes travel in binary.  BEGIN waits for the transaction's first statement and
 * goes to the server together with it.
 */
#include "internal.h"

#include <endian.h>
#include <libpq-fe.h>

/* "tesmigra": the advisory lock that migrations take. */
#define MIGRATE_LOCK "8387236826097673825"

/* Fewer go as a pipeline: planning a join for them would not pay. */
#define BATCH_ROWS_MIN 8

struct postgres_db {
	struct db db;
	char *url;
};

struct postgres_conn {
	struct db_conn conn;
	PGconn *pg;
	unsigned session; /* counts connections; what was prepared in another is gone */
	unsigned name_next;
	const char *begin; /* to be sent before the next statement, or NULL */
};

struct postgres_stmt {
	struct db_rows rows;
	unsigned session; /* in which it is prepared; 0: none */
	char name[16];
	PGresult *res;
	int row, row_count;
	bool numeric; /* some column needs a look before each row is handed out */
	/* For many rows at once; NULL: not asked for yet, or there is none. */
	struct postgres_stmt *batch;
	bool batch_sought;
	int batch_key; /* see postgres_batch_sql */
	Oid types[];  /* of each parameter; 0: left to the server until a value has been seen */
};

static struct postgres_db *db_of(const struct db *db)
{
	return (struct postgres_db *)db;
}

static struct postgres_conn *conn_of(const struct db_conn *c)
{
	return (struct postgres_conn *)c;
}

static struct postgres_stmt *stmt_of(const struct db_rows *r)
{
	return (struct postgres_stmt *)r;
}

static void result_free(PGresult **res)
{
	PQclear(*res);
}
#define cleanup_result cleanup(result_free)

static bool result_good(const PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

static int lost_fail(struct postgres_conn *c, struct err *err)
{
	const char *message = PQerrorMessage(c->pg);

	c->conn.lost = true;
	c->begin = NULL;
	return err_set(err, ERR_RETRY, "connection to PostgreSQL lost: %.*s",
		       postgres_line_len(message), message);
}

static int result_fail(struct postgres_conn *c, const PGresult *res, const char *sql,
		       struct err *err)
{
	bool writing = c->conn.mode == TX_WRITE || c->conn.mode == TX_MIGRATE;
	enum pg_loss loss;

	if (PQstatus(c->pg) == CONNECTION_BAD)
		return lost_fail(c, err);
	postgres_fail(res, PQerrorMessage(c->pg), writing, sql, &loss, err);
	if (loss == PG_LOST_STATEMENTS)
		c->session++;
	if (loss == PG_LOST_CONNECTION) {
		c->conn.lost = true;
		c->begin = NULL;
	}
	return -1;
}

/* ---- connections ------------------------------------------------------------------------- */

static void notice_ignore(void *arg, const char *message) {}

static int session_check(struct postgres_conn *c, struct err *err)
{
	const char *encoding = PQparameterStatus(c->pg, "server_encoding");

	if (PQserverVersion(c->pg) < 120000)
		return err_set(err, ERR_UNSUPPORTED,
			       "PostgreSQL %d is too old: 12 or later is needed",
			       PQserverVersion(c->pg) / 10000);
	if (!str_eq(encoding, "UTF8"))
		return err_set(
			err, ERR_UNSUPPORTED,
			"PostgreSQL database has encoding %s: create it with ENCODING 'UTF8'",
			encoding ? encoding : "unknown");
	return 0;
}

/* A PGconn is not used again after a failure: libpq keeps what was left of a pipeline. */
static int session_open(struct postgres_conn *c, struct err *err)
{
	/* What stands in the URL comes last and wins.  A dead peer is noticed within half a
	 * minute. */
	static const char *const keys[] = {
		"connect_timeout",  "keepalives_idle",	"keepalives_interval",
		"keepalives_count", "tcp_user_timeout", "fallback_application_name",
		"client_encoding",  "dbname",		NULL
	};
	const char *const values[] = { "5",	"10",	"5",	"4",
				       "30000", "tesd", "UTF8", db_of(c->conn.db)->url,
				       NULL };
	/* Isolation is serializable: a sequential scan, which the planner likes for tables that
	 * are small or not analysed yet, would collide with every writer of the table. */
	static const char setup[] =
		"SET default_transaction_read_only = on; SET client_min_messages = error;"
		"SET jit = off; SET enable_seqscan = off";

	PQfinish(c->pg);
	c->session++;
	c->begin = NULL;
	c->conn.lost = true;
	c->pg = PQconnectdbParams(keys, values, 1);
	if (PQstatus(c->pg) != CONNECTION_OK) {
		const char *message = PQerrorMessage(c->pg);
		return err_set(err, ERR_RETRY, "PostgreSQL does not answer: %.*s",
			       postgres_line_len(message), message);
	}
	PQsetNoticeProcessor(c->pg, notice_ignore, NULL);
	cleanup_result PGresult *res = PQexec(c->pg, setup);
	if (!result_good(res))
		return result_fail(c, res, setup, err);
	c->conn.lost = false;
	return session_check(c, err);
}

static void pg_conn_close(struct db_conn *conn)
{
	struct postgres_conn *c = conn_of(conn);

	db_conn_release_(conn);
	PQfinish(c->pg);
	free(c);
}

static int pg_conn_open(struct db *db, struct db_conn **ret, struct err *err)
{
	struct postgres_conn *c = xcalloc(1, sizeof(*c));

	db_conn_init_(&c->conn, db);
	if (session_open(c, err)) {
		pg_conn_close(&c->conn);
		return -1;
	}
	*ret = &c->conn;
	return 0;
}

static int pg_reconnect(struct db_conn *conn, struct err *err)
{
	return session_open(conn_of(conn), err);
}

static void pg_close(struct db *db)
{
	free(db_of(db)->url);
	free(db);
}

static int pg_open(const char *url, struct db **ret, struct err *err)
{
	struct postgres_db *p = xcalloc(1, sizeof(*p));
	struct db_conn *c;

	db_init_(&p->db, &postgres_store);
	p->url = xstrdup(url);
	if (pg_conn_open(&p->db, &c, err)) {
		pg_close(&p->db);
		return -1;
	}
	pg_conn_close(c);
	*ret = &p->db;
	return 0;
}

/* ---- transactions ------------------------------------------------------------------------ */

static int pg_run(struct db_conn *conn, const char *sql, struct err *err)
{
	struct postgres_conn *c = conn_of(conn);
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	strbuf_init(&text);
	if (c->begin)
		strbuf_addf(&text, "%s; ", c->begin);
	c->begin = NULL;
	strbuf_adds(&text, sql);
	cleanup_result PGresult *res = PQexec(c->pg, text.buf);
	return result_good(res) ? 0 : result_fail(c, res, sql, err);
}

static int pg_begin(struct db_conn *conn, enum tx_mode mode, struct err *err)
{
	struct postgres_conn *c = conn_of(conn);

	switch (mode) {
	case TX_READ: c->begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"; break;
	case TX_WRITE: c->begin = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"; break;
	case TX_MIGRATE:
		/* Each statement sees what was committed before it: above all, while it waited
		 * for the lock. */
		c->begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
		return pg_run(conn, "SELECT pg_advisory_xact_lock(" MIGRATE_LOCK ")", err);
	case TX_NONE:
	case TX_READ_ONE: assert(!"no transaction");
	}
	return 0;
}

static void pg_rollback(struct db_conn *conn)
{
	struct postgres_conn *c = conn_of(conn);

	if (c->begin) {
		c->begin = NULL;
		return;
	}
	if (conn->lost)
		return;
	cleanup_result PGresult *res = PQexec(c->pg, "ROLLBACK");
	if (!result_good(res))
		conn->lost = true;
}

static int pg_commit(struct db_conn *conn, struct err *err)
{
	struct postgres_conn *c = conn_of(conn);

	if (c->begin) {
		c->begin = NULL;
		return 0;
	}
	cleanup_result PGresult *res = PQexec(c->pg, "COMMIT");
	if (!result_good(res)) {
		result_fail(c, res, "COMMIT", err);
		if (conn->lost)
			err_set(err, ERR_UNAVAILABLE,
				"connection to PostgreSQL lost while committing: "
				"outcome unknown");
		else
			pg_rollback(conn);
		return -1;
	}
	if (strcmp(PQcmdStatus(res), "COMMIT"))
		return err_set(err, ERR_INTERNAL, "COMMIT answered with %s", PQcmdStatus(res));
	return 0;
}

/* ---- statements -------------------------------------------------------------------------- */

static int pg_prepare(struct db_conn *conn, const char *sql, int params, struct db_rows **ret,
		      struct err *err)
{
	struct postgres_stmt *s = xcalloc(1, sizeof(*s) + (size_t)params * sizeof(s->types[0]));

	*ret = &s->rows;
	return 0;
}

static bool is_prepared(const struct postgres_stmt *s)
{
	return s->session && s->session == conn_of(s->rows.conn)->session;
}

/* In a failed transaction this is refused, and the server keeps the statement till the
 * session's end: no harm. */
static void unprepare(struct postgres_stmt *s)
{
	struct postgres_conn *c = conn_of(s->rows.conn);

	if (is_prepared(s) && !c->conn.lost) {
		char sql[32];
		snprintf(sql, sizeof(sql), "DEALLOCATE %s", s->name);
		PQclear(PQexec(c->pg, sql));
	}
	s->session = 0;
}

static void pg_finalize(struct db_rows *r)
{
	struct postgres_stmt *s = stmt_of(r);

	PQclear(s->res);
	unprepare(s);
	if (s->batch) {
		unprepare(s->batch);
		free(s->batch->rows.sql);
		free(s->batch);
	}
	free(s);
}

static Oid oid_of(enum db_kind kind)
{
	switch (kind) {
	case DB_KIND_INT: return OID_INT8;
	case DB_KIND_TEXT: return OID_TEXT;
	case DB_KIND_BLOB: return OID_BYTEA;
	case DB_KIND_TEXTS: return OID_TEXT_ARRAY;
	case DB_KIND_NULL: break;
	}
	return 0;
}

/* Settles the parameters' types by the values at hand; a statement that was prepared for others
 * is prepared again. */
static void types_settle(struct postgres_stmt *s, const struct db_value *values)
{
	for (int i = 0; i < s->rows.params; i++) {
		const struct db_value *v = &values[i];
		Oid type = oid_of(v->kind ? v->kind : v->null_of);
		if (s->types[i] == type || !type || (!v->kind && s->types[i]))
			continue;
		unprepare(s);
		s->types[i] = type;
	}
}

struct params {
	const char *values[DB_PARAMS_MAX];
	int lengths[DB_PARAMS_MAX], formats[DB_PARAMS_MAX];
	uint64_t integers[DB_PARAMS_MAX];
};

static void params_fill(struct params *p, const struct db_value *values, int count)
{
	for (int i = 0; i < count; i++) {
		const struct db_value *v = &values[i];
		p->formats[i] = 1;
		switch (v->kind) {
		case DB_KIND_NULL:
			p->values[i] = NULL;
			p->lengths[i] = 0;
			break;
		case DB_KIND_INT:
			p->integers[i] = htobe64((uint64_t)v->integer);
			p->values[i] = (const char *)&p->integers[i];
			p->lengths[i] = 8;
			break;
		case DB_KIND_TEXT:
		case DB_KIND_BLOB:
		case DB_KIND_TEXTS:
			p->values[i] = v->len ? v->ptr : "";
			p->lengths[i] = (int)v->len;
			break;
		}
	}
}

/* One exchange with the server, as a pipeline: [BEGIN] [prepare] execute × count.  On success
 * *ret is the result of the last execution. */
struct exchange {
	struct postgres_stmt *stmt;
	const struct db_value *values;
	size_t count;
	bool arrays; /* of a batch, whose types are settled */
	int64_t changed;
	PGresult *res;
};

static int exchange_send(struct postgres_conn *c, struct exchange *x, const char *begin,
			 bool prepare)
{
	struct postgres_stmt *s = x->stmt;
	struct params params;

	if (begin && !PQsendQueryParams(c->pg, begin, 0, NULL, NULL, NULL, NULL, 1))
		return -1;
	if (prepare) {
		snprintf(s->name, sizeof(s->name), "s%u", c->name_next++);
		if (!PQsendPrepare(c->pg, s->name, s->rows.sql, s->rows.params, s->types))
			return -1;
	}
	for (size_t i = 0; i < x->count; i++) {
		params_fill(&params, x->values + i * (size_t)s->rows.params, s->rows.params);
		if (!PQsendQueryPrepared(c->pg, s->name, s->rows.params, params.values,
					 params.lengths, params.formats, 1))
			return -1;
	}
	return PQpipelineSync(c->pg) ? 0 : -1;
}

/* Reads up to the pipeline's end.  x->res becomes the first failure, or else the last result;
 * NULL: connection lost. ret_done counts the commands that succeeded. */
static bool exchange_receive(struct postgres_conn *c, struct exchange *x, int *ret_done)
{
	bool good = true, end = false;
	int nulls = 0, done = 0;

	/* Each result is followed by a NULL; two of them on end mean that nothing more will
	 * come. */
	while (!end && nulls < 2) {
		PGresult *res = PQgetResult(c->pg);
		nulls = res ? 0 : nulls + 1;
		if (!res)
			continue;
		ExecStatusType status = PQresultStatus(res);
		end = status == PGRES_PIPELINE_SYNC;
		if (end || status == PGRES_PIPELINE_ABORTED || !good) {
			PQclear(res);
			continue;
		}
		good = result_good(res);
		if (good) {
			done++;
			x->changed += strtoll(PQcmdTuples(res), NULL, 10);
		}
		PQclear(x->res);
		x->res = res;
	}
	if (good && !end) {
		PQclear(x->res);
		x->res = NULL;
	}
	*ret_done = done;
	return good && end;
}

static int exchange_run(struct postgres_conn *c, struct exchange *x, struct err *err)
{
	struct postgres_stmt *s = x->stmt;
	const char *begin = c->begin;
	bool good = false;
	int done = 0;

	for (size_t i = 0; !x->arrays && i < x->count; i++)
		types_settle(s, x->values + i * (size_t)s->rows.params);
	bool prepare = !is_prepared(s);

	c->begin = NULL;
	if (PQenterPipelineMode(c->pg) && !exchange_send(c, x, begin, prepare))
		good = exchange_receive(c, x, &done);
	bool whole = PQexitPipelineMode(c->pg);
	if (prepare && done > (begin ? 1 : 0))
		s->session = c->session;
	if (good && whole)
		return 0;

	if (x->res)
		result_fail(c, x->res, s->rows.sql, err);
	else
		lost_fail(c, err);
	if (!whole)
		c->conn.lost = true;
	PQclear(x->res);
	x->res = NULL;
	return -1;
}

static int pg_exec(struct db_rows *r, struct db_args args, int64_t *ret_changed,
		   struct err *err)
{
	struct exchange x = { .stmt = stmt_of(r), .values = args.items, .count = 1 };

	if (exchange_run(conn_of(r->conn), &x, err))
		return -1;
	PQclear(x.res);
	*ret_changed = x.changed;
	return 0;
}

/* The statement for many rows at once. */
static struct postgres_stmt *batch_of(struct postgres_stmt *s)
{
	cleanup_strbuf struct strbuf sql = STRBUF_INIT;
	struct postgres_stmt *batch;

	if (s->batch_sought)
		return s->batch;
	s->batch_sought = true;
	strbuf_init(&sql);
	if (!postgres_batch_sql(s->rows.sql, s->rows.params, &sql, &s->batch_key))
		return NULL;
	batch = xcalloc(1, sizeof(*batch) + (size_t)s->rows.params * sizeof(batch->types[0]));
	batch->rows.conn = s->rows.conn;
	batch->rows.sql = strbuf_take(&sql);
	batch->rows.params = s->rows.params;
	return s->batch = batch;
}

/* 1: done, 0: these must go one by one. */
static int batch_try(struct postgres_stmt *s, const struct db_value *values, size_t rows,
		     int64_t *ret_changed, struct err *err)
{
	struct postgres_stmt *batch = rows >= BATCH_ROWS_MIN ? batch_of(s) : NULL;
	cleanup_strbuf struct strbuf buf = STRBUF_INIT;
	struct db_value arrays[DB_PARAMS_MAX];
	Oid types[DB_PARAMS_MAX];
	size_t columns = (size_t)s->rows.params;

	strbuf_init(&buf);
	if (!batch || !postgres_batch_arrays(values, columns, rows, s->batch_key, &buf, arrays,
					     types))
		return 0;
	if (memcmp(batch->types, types, columns * sizeof(types[0]))) {
		unprepare(batch);
		memcpy(batch->types, types, columns * sizeof(types[0]));
	}
	struct exchange x = { .stmt = batch, .values = arrays, .count = 1, .arrays = true };
	if (exchange_run(conn_of(s->rows.conn), &x, err))
		return -1;
	PQclear(x.res);
	*ret_changed = x.changed;
	return 1;
}

static int pg_exec_batch(struct db_rows *r, const struct db_value *values, size_t count,
			 int64_t *ret_changed, struct err *err)
{
	struct postgres_stmt *s = stmt_of(r);
	size_t columns = (size_t)r->params, rows;
	int64_t changed = 0;

	for (; count; count -= rows, values += rows * columns) {
		struct exchange x = { .stmt = s, .values = values };
		rows = x.count = postgres_batch_rows(values, columns, count);
		int done = batch_try(s, values, rows, &x.changed, err);
		if (done < 0 || (!done && exchange_run(conn_of(r->conn), &x, err)))
			return -1;
		PQclear(x.res);
		changed += x.changed;
	}
	*ret_changed = changed;
	return 0;
}

/* ---- rows -------------------------------------------------------------------------------- */

static int pg_query(struct db_rows *r, struct db_args args, struct err *err)
{
	struct postgres_stmt *s = stmt_of(r);
	struct exchange x = { .stmt = s, .values = args.items, .count = 1 };

	if (exchange_run(conn_of(r->conn), &x, err))
		return -1;
	s->res = x.res;
	s->row = -1;
	s->row_count = PQntuples(x.res);
	if (postgres_types_check(s->res, r->sql, &s->numeric, err)) {
		PQclear(s->res);
		s->res = NULL;
		return -1;
	}
	return 0;
}

static int pg_next(struct db_rows *r, struct err *err)
{
	struct postgres_stmt *s = stmt_of(r);

	if (s->row + 1 >= s->row_count) {
		s->row = s->row_count;
		return 0;
	}
	s->row++;
	return s->numeric && postgres_numeric_check(s->res, s->row, r->sql, err) ? -1 : 1;
}

static struct db_value pg_column(struct db_rows *r, int col)
{
	return postgres_value(stmt_of(r)->res, stmt_of(r)->row, col);
}

static void pg_reset(struct db_rows *r)
{
	PQclear(stmt_of(r)->res);
	stmt_of(r)->res = NULL;
}

static int pg_backup(struct db *db, const char *path, struct err *err)
{
	return postgres_dump(db_of(db)->url, path, err);
}

const struct db_store postgres_store = {
	.name = "postgres",
	.table_exists_sql = "SELECT CAST(to_regclass(quote_ident($1)) IS NOT NULL AS INT)",
	.open = pg_open,
	.close = pg_close,
	.backup = pg_backup,
	.conn_open = pg_conn_open,
	.conn_close = pg_conn_close,
	.reconnect = pg_reconnect,
	.begin = pg_begin,
	.commit = pg_commit,
	.rollback = pg_rollback,
	.run = pg_run,
	.prepare = pg_prepare,
	.finalize = pg_finalize,
	.exec = pg_exec,
	.exec_batch = pg_exec_batch,
	.query = pg_query,
	.next = pg_next,
	.column = pg_column,
	.reset = pg_reset,
};
