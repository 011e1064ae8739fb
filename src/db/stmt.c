/* Statements: the cache of prepared ones, running them, reading their rows. */
#include "internal.h"

/* Statements are our own text, so speed is all that is asked of this hash. */
static uint64_t text_hash(const char *s, size_t len)
{
	uint64_t h = len * UINT64_C(0x9e3779b97f4a7c15);

	for (size_t at = 0; at < len; at += 8) {
		uint64_t word = 0;
		memcpy(&word, s + at, MIN(len - at, (size_t)8));
		h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
	}
	return h;
}

/* The highest $n outside of quotes and comments. */
static int params_count(const char *sql)
{
	int max = 0;

	for (const char *p = sql; *p; p++) {
		if (*p == '\'' || *p == '"') {
			char quote = *p;
			for (p++; *p && *p != quote; p++)
				;
			if (!*p)
				break;
		} else if (p[0] == '-' && p[1] == '-') {
			p += strcspn(p, "\n");
			if (!*p)
				break;
		} else if (*p == '$' && p[1] >= '0' && p[1] <= '9') {
			int n = 0;
			for (p++; *p >= '0' && *p <= '9'; p++)
				n = MIN(n * 10 + (*p - '0'), DB_PARAMS_MAX + 1);
			max = MAX(max, n);
			p--;
		}
	}
	return max;
}

/* ---- cache ------------------------------------------------------------------------------- */

static void stmt_unlink(struct db_rows *stmt)
{
	struct db_conn *c = stmt->conn;
	struct db_rows **at = &c->stmts[stmt->hash % STMT_BUCKETS];

	while (*at != stmt)
		at = &(*at)->next;
	*at = stmt->next;
	c->stmt_count--;
}

static void stmt_free(struct db_rows *stmt)
{
	free(stmt->sql);
	stmt->conn->db->store->finalize(stmt);
}

static void stmt_evict(struct db_conn *c)
{
	struct db_rows *oldest = NULL;

	for (size_t i = 0; i < STMT_BUCKETS; i++)
		for (struct db_rows *s = c->stmts[i]; s; s = s->next)
			if (!s->open && (!oldest || s->used < oldest->used))
				oldest = s;
	if (!oldest)
		return;
	stmt_unlink(oldest);
	stmt_free(oldest);
}

void stmts_release(struct db_conn *c)
{
	assert(c->open_rows == 0);
	for (size_t i = 0; i < STMT_BUCKETS; i++)
		while (c->stmts[i]) {
			struct db_rows *s = c->stmts[i];
			stmt_unlink(s);
			stmt_free(s);
		}
}

static int stmt_new(struct db_conn *c, const char *sql, size_t len, uint64_t hash,
		    struct db_rows **ret, struct err *err)
{
	struct db_rows *stmt;
	int params = params_count(sql);

	if (params > DB_PARAMS_MAX)
		return err_set(err, ERR_INTERNAL,
			       "statement has more than %d parameters: %.80s", DB_PARAMS_MAX,
			       sql);
	if (c->db->store->prepare(c, sql, params, &stmt, err))
		return -1;
	stmt->conn = c;
	stmt->sql = xmalloc(len + 1);
	memcpy(stmt->sql, sql, len + 1);
	stmt->hash = hash;
	stmt->params = params;
	*ret = stmt;
	return 0;
}

/* The cached statement, or a new one: of its own, freed after use, while the cached one has
 * rows open. */
static int stmt_get(struct db_conn *c, const char *sql, struct db_rows **ret, struct err *err)
{
	size_t len = strlen(sql);
	uint64_t hash = text_hash(sql, len);
	struct db_rows **bucket = &c->stmts[hash % STMT_BUCKETS];
	struct db_rows *stmt = *bucket;

	while (stmt && (stmt->hash != hash || strcmp(stmt->sql, sql)))
		stmt = stmt->next;

	bool busy = stmt && stmt->open;
	if (!stmt || busy) {
		if (stmt_new(c, sql, len, hash, &stmt, err))
			return -1;
		if (!busy) {
			/* What a pipeline has sent is still to be answered. */
			if (c->stmt_count >= STMT_CACHE_MAX && !c->piping)
				stmt_evict(c);
			stmt->cached = true;
			stmt->next = *bucket;
			*bucket = stmt;
			c->stmt_count++;
		}
	}
	stmt->used = ++c->clock;
	*ret = stmt;
	return 0;
}

/* ---- running ----------------------------------------------------------------------------- */

enum what { EXEC, BATCH, QUERY };

struct call {
	enum what what;
	const char *sql;
	struct db_args args; /* of one row */
	size_t count;	     /* rows of a batch, or executions of a query */
	int64_t *changed;
	struct db_rows *rows;
};

static int call_once(struct db_conn *c, struct call *call, struct err *err)
{
	const struct db_store *store = c->db->store;
	struct db_rows *stmt;

	if (db_fault_(c, call->sql, err))
		return -1;
	if (c->lost && store->reconnect(c, err))
		return -1;
	if (stmt_get(c, call->sql, &stmt, err))
		return -1;

	int r = -1;
	if (call->args.len != (size_t)stmt->params)
		err_set(err, ERR_INTERNAL,
			"%zu values for a statement with %d parameters: %.100s", call->args.len,
			stmt->params, call->sql);
	else if (call->what == EXEC)
		r = store->exec(stmt, call->args, call->changed, err);
	else if (call->what == BATCH)
		r = store->exec_batch(stmt, call->args.items, call->count, call->changed, err);
	else
		r = store->query(stmt, call->args.items, call->count, err);

	if (!r && call->what == QUERY) {
		stmt->open = true;
		c->open_rows++;
		c->many = call->count > 1;
		call->rows = stmt;
	} else if (!stmt->cached) {
		stmt_free(stmt);
	}
	return r;
}

static void tx_note_failure(struct db_conn *c, const struct err *err)
{
	if (c->mode != TX_NONE && !c->failed.code)
		c->failed = *err;
}

/* Outside a transaction there are only reads, which may be repeated here; inside, db_tx repeats
 * the whole. */
static int call_run(struct db_conn *c, struct call *call, struct err *err)
{
	struct backoff backoff = { 0 };

	if (c->mode != TX_NONE && c->failed.code) {
		if (c->failed.code == ERR_RETRY)
			*err = c->failed;
		else
			err_set(err, ERR_INTERNAL,
				"a statement failed earlier in this transaction: %.150s",
				c->failed.text);
		return -1;
	}
	assert(!c->many);
	if (c->mode == TX_READ_ONE && (c->asked || (call->what == QUERY && call->count > 1))) {
		err_set(err, ERR_INTERNAL, "second statement in db_read_one: %.100s", call->sql);
		tx_note_failure(c, err);
		return -1;
	}
	if (c->piping && call->what != BATCH) {
		err_set(err, ERR_INTERNAL, "in db_pipeline a statement that is no batch: %.100s",
			call->sql);
		tx_note_failure(c, err);
		return -1;
	}
	c->asked = true;
	while (call_once(c, call, err)) {
		if (c->mode != TX_NONE) {
			tx_note_failure(c, err);
			return -1;
		}
		if (err->code != ERR_RETRY)
			return -1;
		if (!backoff_wait(&backoff, c->lost))
			return backoff_give_up(&backoff, err);
	}
	if (backoff.attempt)
		err_clear(err);
	return 0;
}

static int write_check(const struct db_conn *c, const char *sql, struct err *err)
{
	if (c->mode == TX_WRITE || c->mode == TX_MIGRATE)
		return 0;
	return err_set(err, ERR_INTERNAL, "statement that writes outside of db_tx: %.100s",
		       sql);
}

int db_exec(struct db_conn *c, const char *sql, struct db_args args, int64_t *ret_changed,
	    struct err *err)
{
	int64_t changed = 0;
	struct call call = { .what = EXEC, .sql = sql, .args = args, .changed = &changed };

	if (write_check(c, sql, err) || call_run(c, &call, err))
		return -1;
	if (ret_changed)
		*ret_changed = changed;
	return 0;
}

int db_exec_batch(struct db_conn *c, const char *sql, const struct db_value *values,
		  size_t columns, size_t count, int64_t *ret_changed, struct err *err)
{
	int64_t changed = 0;
	struct call call = { .what = BATCH,
			     .sql = sql,
			     .args = { values, columns },
			     .count = count,
			     .changed = c->piping ? ret_changed : &changed };

	if (ret_changed && c->piping)
		*ret_changed = 0;
	if (write_check(c, sql, err) || (count && call_run(c, &call, err)))
		return -1;
	if (ret_changed && !c->piping)
		*ret_changed = changed;
	return 0;
}

int db_pipeline(struct db_conn *c, db_tx_fn *fn, void *arg, struct err *err)
{
	const struct db_store *store = c->db->store;
	struct err sent;
	int r;

	assert(c->mode == TX_WRITE && !c->piping && c->open_rows == 0);
	c->piping = true;
	r = fn(c, arg, err);
	c->piping = false;
	/* What was sent came before whatever fn met with. */
	if (store->pipeline_end && store->pipeline_end(c, &sent)) {
		tx_note_failure(c, &sent);
		*err = sent;
		return -1;
	}
	return r;
}

int db_query(struct db_conn *c, const char *sql, struct db_args args, struct db_rows **ret,
	     struct err *err)
{
	return db_query_many(c, sql, args.items, args.len, 1, ret, err);
}

int db_query_many(struct db_conn *c, const char *sql, const struct db_value *values,
		  size_t columns, size_t count, struct db_rows **ret, struct err *err)
{
	struct call call = {
		.what = QUERY, .sql = sql, .args = { values, columns }, .count = count
	};

	assert(count == 1 || db_in_tx(c));
	if (call_run(c, &call, err))
		return -1;
	*ret = call.rows;
	return 0;
}

/* ---- rows -------------------------------------------------------------------------------- */

int db_next(struct db_rows *r, struct err *err)
{
	int got = r->conn->db->store->next(r, err);

	if (got < 0) {
		/* Some rows are out already: too late to begin anew. */
		if (err->code == ERR_RETRY && r->conn->mode == TX_NONE)
			err->code = ERR_UNAVAILABLE;
		tx_note_failure(r->conn, err);
	}
	return got;
}

void db_rows_free(struct db_rows *r)
{
	if (!r)
		return;
	assert(r->open);
	r->conn->db->store->reset(r);
	r->open = false;
	r->conn->open_rows--;
	r->conn->many = false;
	if (!r->cached)
		stmt_free(r);
}

void db_rows_free_(struct db_rows **r)
{
	db_rows_free(*r);
}

struct db_value db_column(struct db_rows *r, int col)
{
	return r->conn->db->store->column(r, col);
}

bool db_is_null(struct db_rows *r, int col)
{
	return db_column(r, col).kind == DB_KIND_NULL;
}

int64_t db_int(struct db_rows *r, int col)
{
	struct db_value v = db_column(r, col);

	/* Not an integer: a statement that forgot CAST(… AS BIGINT). */
	assert(v.kind == DB_KIND_INT || v.kind == DB_KIND_NULL);
	return v.integer;
}

const char *db_text(struct db_rows *r, int col, struct arena *arena)
{
	struct db_value v = db_column(r, col);

	if (v.kind == DB_KIND_NULL)
		return NULL;
	assert(v.kind == DB_KIND_TEXT);
	return arena_strndup(arena, v.ptr, v.len);
}

struct slice db_blob(struct db_rows *r, int col, struct arena *arena)
{
	struct db_value v = db_column(r, col);

	if (v.kind == DB_KIND_NULL)
		return (struct slice){ NULL, 0 };
	assert(v.kind == DB_KIND_BLOB || v.kind == DB_KIND_TEXT);
	return (struct slice){ arena_strndup(arena, v.ptr, v.len), v.len };
}

int db_query_int(struct db_conn *c, const char *sql, struct db_args args, int64_t def,
		 int64_t *ret, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;

	if (db_query(c, sql, args, &rows, err))
		return -1;
	int got = db_next(rows, err);
	if (got < 0)
		return -1;
	*ret = got ? db_int(rows, 0) : def;
	return 0;
}
