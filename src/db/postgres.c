/* PostgreSQL over libpq.  Every statement is prepared on first use, in each connection;
 * integers and bytes travel in binary.  BEGIN waits for the transaction's first statement and
 * goes to the server together with it.
 */
#include "internal.h"

#include <libpq-fe.h>

/* "tesmigra": the advisory lock that migrations take. */
#define MIGRATE_LOCK "8387236826097673825"

/* Fewer go as a pipeline: planning a join for them would not pay. */
#define BATCH_ROWS_MIN 8

struct postgres_db {
	struct db db;
	char *url;
};

/* A command that the server has not answered yet. */
struct sent {
	struct postgres_stmt *stmt; /* NULL: BEGIN or DEALLOCATE */
	bool prepare;
	int64_t *changed; /* of an execution: counts up; may be NULL */
};

struct postgres_conn {
	struct db_conn conn;
	PGconn *pg;
	unsigned session; /* counts connections; what was prepared in another is gone */
	unsigned name_next;
	const char *begin; /* to be sent before the next statement, or NULL */
	VEC(struct sent) sent; /* in the pipeline that is open, in order */
	size_t answered;       /* of these */
	struct postgres_params params;  /* scratch of pipe_send */
};

struct postgres_stmt {
	struct db_rows rows;
	unsigned session; /* in which it is prepared; 0: none */
	char name[16];
	PGresult *res;
	int row, row_count;
	bool numeric; /* some column needs a look before each row is handed out */
	bool ahead;   /* more answers are to come, as the pipeline's last */
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
	c->sent.len = 0;
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
	vec_release(&c->sent);
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
		if (PQpipelineStatus(c->pg) == PQ_PIPELINE_OFF)
			PQclear(PQexec(c->pg, sql));
		else if (PQsendQueryParams(c->pg, sql, 0, NULL, NULL, NULL, NULL, 1))
			*vec_push(&c->sent) = (struct sent){ 0 };
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

/* Settles the parameters' types by the values at hand; a statement that was prepared for others
 * is prepared again. */
static void types_settle(struct postgres_stmt *s, const struct db_value *values)
{
	for (int i = 0; i < s->rows.params; i++) {
		const struct db_value *v = &values[i];
		Oid type = postgres_oid(v->kind ? v->kind : v->null_of);
		if (s->types[i] == type || !type || (!v->kind && s->types[i]))
			continue;
		unprepare(s);
		s->types[i] = type;
	}
}

/* ---- pipelines ---------------------------------------------------------------------------- */

/* Opens a pipeline if none is, and puts into it: [BEGIN] [prepare] execute.  What becomes of them
 * is told by pipe_close. */
static int pipe_send(struct postgres_conn *c, struct postgres_stmt *s,
		     const struct db_value *values, int64_t *changed)
{
	struct postgres_params *p = &c->params;

	if (!PQenterPipelineMode(c->pg))
		return -1;
	if (!c->sent.len)
		c->answered = 0;
	if (c->begin) {
		if (!PQsendQueryParams(c->pg, c->begin, 0, NULL, NULL, NULL, NULL, 1))
			return -1;
		*vec_push(&c->sent) = (struct sent){ 0 };
		c->begin = NULL;
	}
	if (!is_prepared(s)) {
		snprintf(s->name, sizeof(s->name), "s%u", c->name_next++);
		if (!PQsendPrepare(c->pg, s->name, s->rows.sql, s->rows.params, s->types))
			return -1;
		*vec_push(&c->sent) = (struct sent){ .stmt = s, .prepare = true };
		s->session = c->session;
	}
	postgres_params_fill(p, values, s->rows.params);
	if (!PQsendQueryPrepared(c->pg, s->name, s->rows.params, p->values, p->lengths,
				 p->formats, 1))
		return -1;
	*vec_push(&c->sent) = (struct sent){ .stmt = s, .changed = changed };
	return 0;
}

static void sent_answered(struct sent *x, PGresult *res)
{
	if (!result_good(res) && x->prepare)
		x->stmt->session = 0;
	if (result_good(res) && x->changed)
		*x->changed += strtoll(PQcmdTuples(res), NULL, 10);
}

/* 1: the next answer, and to what; 0: there are no more; -1: the connection is lost. */
static int pipe_next(struct postgres_conn *c, const struct sent **ret, PGresult **ret_res)
{
	/* Each answer is followed by a NULL; two of them on end mean that nothing more will
	 * come. */
	for (int nulls = 0; nulls < 2;) {
		PGresult *res = PQgetResult(c->pg);
		if (!res) {
			nulls++;
			continue;
		}
		bool end = PQresultStatus(res) == PGRES_PIPELINE_SYNC;
		if (end || c->answered == c->sent.len) {
			PQclear(res);
			return end && c->answered == c->sent.len ? 0 : -1;
		}
		struct sent *x = &c->sent.items[c->answered++];
		sent_answered(x, res);
		*ret = x;
		*ret_res = res;
		return 1;
	}
	return -1;
}

/* Reads the answers that are left, unless all are `read`.  Told is the first failure, of which *res
 * is the answer; without one *res becomes the last answer. */
static int pipe_end(struct postgres_conn *c, int read, const struct sent *failed,
		    PGresult **res, struct err *err)
{
	const struct sent *x;
	PGresult *next;
	int r = 0;

	while (read > 0 && (read = pipe_next(c, &x, &next)) > 0) {
		PGresult *unwanted = failed ? next : *res;
		if (!failed)
			*res = next;
		if (!failed && !result_good(next))
			failed = x;
		PQclear(unwanted);
	}
	if (!PQexitPipelineMode(c->pg))
		read = -1;
	if (failed)
		r = result_fail(c, *res, failed->stmt ? failed->stmt->rows.sql : "BEGIN", err);
	else if (read < 0)
		r = lost_fail(c, err);
	if (read < 0)
		c->conn.lost = true;
	c->sent.len = 0;
	return r;
}

/* ret_last: the last answer; may be NULL. */
static int pipe_close(struct postgres_conn *c, PGresult **ret_last, struct err *err)
{
	cleanup_result PGresult *res = NULL;

	if (pipe_end(c, PQpipelineSync(c->pg) ? 1 : -1, NULL, &res, err))
		return -1;
	if (ret_last)
		*ret_last = take_ptr(res);
	return 0;
}

static int pipe_run(struct postgres_stmt *s, const struct db_value *values, int64_t *changed,
		    PGresult **ret_last, struct err *err)
{
	struct postgres_conn *c = conn_of(s->rows.conn);

	types_settle(s, values);
	if (pipe_send(c, s, values, changed))
		return lost_fail(c, err);
	return pipe_close(c, ret_last, err);
}

static int pg_pipeline_end(struct db_conn *conn, struct err *err)
{
	struct postgres_conn *c = conn_of(conn);

	if (conn->lost || PQpipelineStatus(c->pg) == PQ_PIPELINE_OFF)
		return 0;
	return pipe_close(c, NULL, err);
}

/* ---- running ------------------------------------------------------------------------------ */

static int pg_exec(struct db_rows *r, struct db_args args, int64_t *ret_changed,
		   struct err *err)
{
	int64_t changed = 0;

	if (pipe_run(stmt_of(r), args.items, &changed, NULL, err))
		return -1;
	*ret_changed = changed;
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

/* 1: sent, 0: these must go one by one, -1: the connection is lost. */
static int batch_try(struct postgres_stmt *s, const struct db_value *values, size_t rows,
		     int64_t *changed)
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
	return pipe_send(conn_of(s->rows.conn), batch, arrays, changed) ? -1 : 1;
}

static int batch_send(struct postgres_stmt *s, const struct db_value *values, size_t rows,
		      int64_t *changed)
{
	size_t columns = (size_t)s->rows.params;
	int sent = batch_try(s, values, rows, changed);

	for (size_t i = 0; !sent && i < rows; i++)
		types_settle(s, values + i * columns);
	for (size_t i = 0; !sent && i < rows; i++)
		if (pipe_send(conn_of(s->rows.conn), s, values + i * columns, changed))
			sent = -1;
	return sent < 0 ? -1 : 0;
}

static int pg_exec_batch(struct db_rows *r, const struct db_value *values, size_t count,
			 int64_t *changed, struct err *err)
{
	struct postgres_conn *c = conn_of(r->conn);
	size_t columns = (size_t)r->params, rows;

	for (; count; count -= rows, values += rows * columns) {
		rows = postgres_batch_rows(values, columns, count);
		bool more = c->conn.piping || count > rows;
		/* The server begins while the next are put together. */
		if (batch_send(stmt_of(r), values, rows, changed) ||
		    (more && PQflush(c->pg) < 0))
			return lost_fail(c, err);
	}
	return c->conn.piping ? 0 : pipe_close(c, NULL, err);
}

/* ---- rows -------------------------------------------------------------------------------- */

static int rows_take(struct postgres_stmt *s, PGresult *res, struct err *err)
{
	s->res = res;
	s->row = -1;
	s->row_count = PQntuples(res);
	return postgres_types_check(res, s->rows.sql, &s->numeric, err);
}

static int query_ahead(struct postgres_stmt *s, const struct db_value *values, size_t count,
		       struct err *err)
{
	struct postgres_conn *c = conn_of(s->rows.conn);
	size_t columns = (size_t)s->rows.params;

	for (size_t i = 0; i < count; i++)
		types_settle(s, values + i * columns);
	for (size_t i = 0; i < count; i++)
		if (pipe_send(c, s, values + i * columns, NULL) || PQflush(c->pg) < 0)
			return lost_fail(c, err);
	if (!PQpipelineSync(c->pg))
		return lost_fail(c, err);
	s->ahead = true;
	s->row = s->row_count = 0;
	return 0;
}

/* The rows of the next execution; there are none if `ahead` is no more. */
static int ahead_next(struct postgres_stmt *s, struct err *err)
{
	struct postgres_conn *c = conn_of(s->rows.conn);
	cleanup_result PGresult *res = NULL;
	const struct sent *x, *failed = NULL;
	int got;

	PQclear(s->res);
	s->res = NULL;
	while ((got = pipe_next(c, &x, &res)) > 0) {
		if (PQresultStatus(res) == PGRES_TUPLES_OK)
			return rows_take(s, take_ptr(res), err);
		if (!result_good(res)) {
			failed = x;
			break;
		}
		PQclear(take_ptr(res));
	}
	s->ahead = false;
	s->row = s->row_count = 0;
	return pipe_end(c, got, failed, &res, err);
}

static void pg_reset(struct db_rows *r)
{
	struct postgres_stmt *s = stmt_of(r);
	struct err err;

	/* A failure among those that nobody reads is told by the next statement. */
	while (s->ahead)
		ahead_next(s, &err);
	PQclear(s->res);
	s->res = NULL;
}

static int pg_query(struct db_rows *r, const struct db_value *values, size_t count,
		    struct err *err)
{
	PGresult *res;

	if (count > 1)
		return query_ahead(stmt_of(r), values, count, err);
	if (pipe_run(stmt_of(r), values, NULL, &res, err))
		return -1;
	if (rows_take(stmt_of(r), res, err)) {
		pg_reset(r);
		return -1;
	}
	return 0;
}

static int pg_next(struct db_rows *r, struct err *err)
{
	struct postgres_stmt *s = stmt_of(r);

	while (s->row + 1 >= s->row_count && s->ahead)
		if (ahead_next(s, err))
			return -1;
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
	.pipeline_end = pg_pipeline_end,
	.query = pg_query,
	.next = pg_next,
	.column = pg_column,
	.reset = pg_reset,
};
