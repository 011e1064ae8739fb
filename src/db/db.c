/* Connections, transactions with retry, hooks after commit, faults on demand. */
#include "internal.h"

#include "../codec/codec.h"

#include <pthread.h>
#include <time.h>

static const struct db_store *store_find(const char *url)
{
	if (str_starts(url, "sqlite:"))
		return &sqlite_store;
	if (str_starts(url, "postgres://") || str_starts(url, "postgresql://"))
		return &postgres_store;
	return NULL;
}

/* Outside of transactions nobody runs it again. */
static int unavailable(int r, struct err *err)
{
	if (r && err->code == ERR_RETRY)
		err->code = ERR_UNAVAILABLE;
	return r;
}

int db_open(const char *url, struct db **ret, struct err *err)
{
	const struct db_store *store = store_find(url);

	/* The rest of a URL may hold a password: never show it. */
	if (!store)
		return err_set(err, ERR_INVALID,
			       "database URL begins with \"%.*s\": use sqlite:/path/to/file or "
			       "postgres://user@host/database",
			       (int)MIN(strcspn(url, ":/@"), (size_t)16), url);
	return unavailable(store->open(url, ret, err), err);
}

void db_init_(struct db *db, const struct db_store *store)
{
	db->store = store;
	atomic_init(&db->conns, 0);
	atomic_init(&db->fault_number, 0);
	for (size_t i = 0; i < ROW_PLAN_BUCKETS; i++)
		atomic_init(&db->plans[i], NULL);
}

void db_close(struct db *db)
{
	if (!db)
		return;
	assert(atomic_load(&db->conns) == 0);
	row_plans_release(db);
	db->store->close(db);
}

bool db_is_postgres(const struct db *db)
{
	return db->store == &postgres_store;
}

int db_backup(struct db *db, const char *path, struct err *err)
{
	return unavailable(db->store->backup(db, path, err), err);
}

void db_conn_init_(struct db_conn *c, struct db *db)
{
	c->db = db;
	strbuf_init(&c->sql);
	strbuf_init(&c->json);
}

void db_conn_release_(struct db_conn *c)
{
	stmts_release(c);
	vec_release(&c->hooks);
	strbuf_release(&c->sql);
	strbuf_release(&c->json);
}

int db_conn_open(struct db *db, struct db_conn **ret, struct err *err)
{
	if (unavailable(db->store->conn_open(db, ret, err), err))
		return -1;
	atomic_fetch_add(&db->conns, 1);
	return 0;
}

void db_conn_close(struct db_conn *c)
{
	if (!c)
		return;
	assert(c->mode == TX_NONE);
	struct db *db = c->db;

	db->store->conn_close(c);
	atomic_fetch_sub(&db->conns, 1);
}

/* ---- faults ------------------------------------------------------------------------------ */

void db_set_fault(struct db *db, db_fault_fn *fn, void *arg)
{
	db->fault = fn;
	db->fault_arg = arg;
	atomic_store(&db->fault_number, 0);
}

enum err_code db_fault_(struct db_conn *c, const char *sql, struct err *err)
{
	struct db *db = c->db;
	if (!db->fault)
		return ERR_NONE;

	int64_t number = atomic_fetch_add(&db->fault_number, 1) + 1;
	enum err_code code = db->fault(db->fault_arg, number, sql);
	if (code)
		err_set(err, code, "fault on purpose at statement %" PRId64 ": %.80s", number,
			sql);
	return code;
}

/* ---- hooks ------------------------------------------------------------------------------- */

void db_after_commit(struct db_conn *c, void (*fn)(void *arg), void (*arg_free)(void *arg),
		     void *arg)
{
	assert(c->mode == TX_WRITE);
	*vec_push(&c->hooks) = (struct hook){ .fn = fn, .arg_free = arg_free, .arg = arg };
}

/* A hook may use the connection again, so the list is taken off it first. */
static void hooks_finish(struct db_conn *c, bool committed)
{
	typeof(c->hooks) hooks = c->hooks;
	if (!hooks.len)
		return;
	memset(&c->hooks, 0, sizeof(c->hooks));

	for (size_t i = 0; i < hooks.len; i++) {
		const struct hook *h = &hooks.items[i];
		if (committed)
			h->fn(h->arg);
		if (h->arg_free)
			h->arg_free(h->arg);
	}
	vec_release(&hooks);
}

/* ---- retry ------------------------------------------------------------------------------- */

/* The first retry is at once; then 1, 2, 4 … ms, each between a half and the whole of it by
 * chance, so that those who collided do not collide again.  Who waits for a server to come back
 * waits longer. */
bool backoff_wait(struct backoff *b, bool lost)
{
	int64_t now_ms = time_monotonic_ms();

	if (!b->deadline_ms)
		b->deadline_ms = now_ms + BACKOFF_TOTAL_MS;
	if (++b->attempt >= BACKOFF_ATTEMPTS_MAX || now_ms >= b->deadline_ms)
		return false;
	if (b->attempt == 1)
		return true;

	uint32_t chance;
	random_system.fill(random_system.arg, &chance, sizeof(chance));
	int64_t top_us = INT64_C(1000) << MIN(b->attempt - 2, lost ? 8 : 6);
	int64_t wait_us = top_us / 2 + chance % (top_us / 2);
	const struct timespec ts = { .tv_sec = wait_us / 1000000,
				     .tv_nsec = wait_us % 1000000 * 1000 };
	nanosleep(&ts, NULL);
	return true;
}

int backoff_give_up(const struct backoff *b, struct err *err)
{
	const struct err last = *err;
	return err_set(err, ERR_UNAVAILABLE, "gave up after %d attempts: %.180s", b->attempt,
		       last.text);
}

/* ---- transactions ------------------------------------------------------------------------ */

bool db_in_tx(const struct db_conn *c)
{
	return c->mode != TX_NONE;
}

static int tx_commit(struct db_conn *c, struct err *err)
{
	enum err_code fault = c->mode != TX_READ ? db_fault_(c, "COMMIT", err) : ERR_NONE;

	if (fault && fault != ERR_TIMEOUT) {
		c->db->store->rollback(c);
		return -1;
	}
	if (c->db->store->commit(c, err))
		return -1;
	if (fault)
		return err_set(
			err, ERR_UNAVAILABLE,
			"connection lost while committing (on purpose): outcome unknown");
	return 0;
}

static int tx_run_once(struct db_conn *c, enum tx_mode mode, db_tx_fn *fn, void *arg,
		       struct err *err)
{
	const struct db_store *store = c->db->store;

	if (c->lost && store->reconnect(c, err))
		return -1;
	if (mode != TX_READ_ONE && store->begin(c, mode, err))
		return -1;

	c->mode = mode;
	c->asked = false;
	c->failed.code = ERR_NONE;
	int r = fn(c, arg, err);
	assert(c->open_rows == 0);

	/* What the store refused counts even if fn overlooked it: the transaction is spoilt. */
	if (c->failed.code && (!r || c->failed.code == ERR_RETRY)) {
		*err = c->failed;
		r = -1;
	}
	if (mode != TX_READ_ONE) {
		if (r)
			store->rollback(c);
		else
			r = tx_commit(c, err);
	}
	c->mode = TX_NONE;
	return r;
}

/* Where many threads of this process want the same rows, each spoils the others' attempts, and
 * the slow ones would never come through.  Those that failed a few times go one after the other:
 * against fresh ones alone a transaction soon succeeds. */
#define QUEUE_AFTER 3
static pthread_mutex_t contended = PTHREAD_MUTEX_INITIALIZER;

static int tx_retry(struct db_conn *c, enum tx_mode mode, db_tx_fn *fn, void *arg,
		    struct backoff *backoff, bool *ret_queued, struct err *err)
{
	while (tx_run_once(c, mode, fn, arg, err)) {
		hooks_finish(c, false);
		if (err->code != ERR_RETRY)
			return -1;
		if (!backoff_wait(backoff, c->lost))
			return backoff_give_up(backoff, err);
		if (backoff->attempt == QUEUE_AFTER && mode == TX_WRITE && !c->lost) {
			pthread_mutex_lock(&contended);
			*ret_queued = true;
		}
	}
	return 0;
}

int tx_run_retrying(struct db_conn *c, enum tx_mode mode, db_tx_fn *fn, void *arg,
		    struct err *err)
{
	struct backoff backoff = { 0 };
	bool queued = false;
	int r;

	assert(c->mode == TX_NONE && c->open_rows == 0);
	r = tx_retry(c, mode, fn, arg, &backoff, &queued, err);
	if (queued)
		pthread_mutex_unlock(&contended);
	if (r)
		return -1;
	if (backoff.attempt)
		err_clear(err);
	hooks_finish(c, true);
	return 0;
}

int db_tx(struct db_conn *c, db_tx_fn *fn, void *arg, struct err *err)
{
	return tx_run_retrying(c, TX_WRITE, fn, arg, err);
}

int db_read(struct db_conn *c, db_tx_fn *fn, void *arg, struct err *err)
{
	if (c->mode != TX_NONE)
		return fn(c, arg, err);
	return tx_run_retrying(c, TX_READ, fn, arg, err);
}

int db_read_one(struct db_conn *c, db_tx_fn *fn, void *arg, struct err *err)
{
	if (c->mode != TX_NONE)
		return fn(c, arg, err);
	return tx_run_retrying(c, TX_READ_ONE, fn, arg, err);
}

/* ---- claims ------------------------------------------------------------------------------ */

struct claim {
	int64_t key;
	int64_t held;
};

static int claim_fn(struct db_conn *c, void *arg, struct err *err)
{
	struct claim *x = arg;

	/* Once more by the session that has it counts up there, and costs nothing. */
	return db_query_int(c, "SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END",
			    DB_ARGS(DB_INT(x->key)), 0, &x->held, err);
}

int db_claim(struct db_conn *c, const char *name, bool *ret_held, struct err *err)
{
	struct claim x = { .held = 0 };
	uint8_t hash[SHA256_SIZE];
	struct sha256 h;

	assert(c->mode == TX_NONE);
	if (!db_is_postgres(c->db)) {
		*ret_held = false;
		return 0;
	}
	sha256_init(&h);
	sha256_update(&h, name, strlen(name));
	sha256_final(&h, hash);
	for (size_t i = 0; i < sizeof(x.key); i++)
		x.key = (int64_t)((uint64_t)x.key << 8 | hash[i]);
	if (db_read(c, claim_fn, &x, err) < 0)
		return -1;
	*ret_held = x.held;
	return 0;
}
