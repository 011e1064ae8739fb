/* Heartbeats of idle workers, which the store need not be asked about one by one.  What it said of a worker that is
 * online and has no lease holds for as long as known_for_ms; before that is over it is asked again about many at once.
 * And when they were heard is stored for many at once, before what is stored is seen_lag_ms old.
 *
 * Two rules keep this true.  What this process writes of a worker is followed by heartbeat_changed, after which nothing
 * that was read before counts; what another process writes (another tesd, `tesd admin`) is noticed within known_for_ms.
 * And no heartbeat is answered from here unless the stored time of being seen is younger than the lag which the fault
 * monitor allows for: while it cannot be stored, heartbeats go to the store, and nobody who was answered is called silent.
 *
 * Called by all threads; heartbeats_round by the duty "faults" of every tesd, the one that leads or not.  There is an
 * entry of some 250 bytes for each worker that was heard lately. */
#include "internal.h"

#define BATCH 500
#define BOOT_ID_MAX 64

struct idle_worker {
	char boot_id[BOOT_ID_MAX + 1];
	int64_t desired_rev;
	int64_t known_ms;  /* when the store was asked; 0: nothing is known */
	int64_t stored_ms; /* at least so late is its stored time of being seen */
	int64_t heard_ms;
	uint64_t era; /* what was read in an earlier one does not count */
};

struct heartbeats {
	pthread_mutex_t lock;
	struct map *workers; /* id -> struct idle_worker */
	uint64_t era;        /* counts up with each entry that begins or is forgotten */
	int64_t round_ms, next_ms; /* the last round, and when it wants the next; the duty's */
};

struct heartbeats *heartbeats_new(void)
{
	struct heartbeats *h = xcalloc(1, sizeof(*h));

	pthread_mutex_init(&h->lock, NULL);
	h->workers = map_new();
	return h;
}

void heartbeats_free(struct heartbeats *h)
{
	if (!h)
		return;
	map_free(h->workers, free);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

size_t heartbeats_count(struct heartbeats *h)
{
	size_t count;

	pthread_mutex_lock(&h->lock);
	count = map_count(h->workers);
	pthread_mutex_unlock(&h->lock);
	return count;
}

/* So also what another process writes goes unnoticed for a heartbeat at the longest. */
static int64_t known_for_ms(const struct control *c)
{
	return c->config.heartbeat_ms;
}

/* Rounds are no closer. */
static int64_t pace_ms(const struct control *c)
{
	return c->config.heartbeat_ms / 10;
}

/* A clock that was set back makes all that is later old. */
static bool is_younger(int64_t at_ms, int64_t age_ms, int64_t now_ms)
{
	return at_ms <= now_ms && now_ms - at_ms < age_ms;
}

/* ---- one heartbeat --------------------------------------------------------------------------------------------- */

/* Lock held. */
static struct idle_worker *entry_get(struct heartbeats *h, const char *worker_id)
{
	struct idle_worker *w = map_find(h->workers, worker_id);

	if (w)
		return w;
	w = xcalloc(1, sizeof(*w));
	w->era = ++h->era;
	map_put(h->workers, worker_id, w);
	return w;
}

bool heartbeat_find(struct control *c, const char *worker_id, const char *boot_id, int64_t now_ms, int64_t *ret_desired_rev,
		    uint64_t *ret_era)
{
	struct heartbeats *h = c->heartbeats;
	struct idle_worker *w;
	bool known;

	pthread_mutex_lock(&h->lock);
	w = entry_get(h, worker_id);
	if (!str_eq(w->boot_id, boot_id))
		w->known_ms = 0;
	w->heard_ms = now_ms;
	known = w->known_ms && is_younger(w->known_ms, known_for_ms(c), now_ms) &&
		is_younger(w->stored_ms, seen_lag_ms(c), now_ms);
	*ret_desired_rev = w->desired_rev;
	*ret_era = h->era;
	pthread_mutex_unlock(&h->lock);
	return known;
}

void heartbeat_keep(struct control *c, const char *worker_id, const char *boot_id, int64_t asked_ms, int64_t desired_rev,
		    int64_t seen_ms, uint64_t era)
{
	struct heartbeats *h = c->heartbeats;
	struct idle_worker *w;

	pthread_mutex_lock(&h->lock);
	w = map_find(h->workers, worker_id);
	if (w && w->era <= era) {
		snprintf(w->boot_id, sizeof(w->boot_id), "%s", boot_id);
		w->desired_rev = desired_rev;
		w->known_ms = asked_ms;
		w->stored_ms = seen_ms;
	}
	pthread_mutex_unlock(&h->lock);
}

struct changed_arg {
	struct heartbeats *h;
	char worker_id[ID_SIZE];
};

static void forget(void *arg)
{
	struct changed_arg *x = arg;
	struct idle_worker *w;

	pthread_mutex_lock(&x->h->lock);
	w = map_find(x->h->workers, x->worker_id);
	if (w) {
		w->known_ms = 0;
		w->era = ++x->h->era;
	}
	pthread_mutex_unlock(&x->h->lock);
	free(x);
}

static void not_yet(void *arg)
{
	(void)arg;
}

void heartbeat_changed(struct control *c, struct db_conn *conn, const char *worker_id)
{
	struct changed_arg *x = xcalloc(1, sizeof(*x));

	x->h = c->heartbeats;
	snprintf(x->worker_id, sizeof(x->worker_id), "%s", worker_id);
	/* What frees the argument runs after an unknown outcome as well. */
	db_after_commit(conn, not_yet, forget, x);
}

/* ---- many at once ------------------------------------------------------------------------------------------------ */

/* What a heartbeat is answered by.  That the worker had no lease at this desired_rev is known, and a new one counts it up. */
struct idle_row {
	const char *id, *boot_id;
	int state;
	int64_t desired_rev, seen_ms;
};
static const struct field idle_row_fields[] = {
	FIELD_ID(struct idle_row, id, "wk", FIELD_SQL | FIELD_REQUIRED, "The worker."),
	FIELD_TEXT(struct idle_row, boot_id, 0, BOOT_ID_MAX, FIELD_SQL | FIELD_LINE, "Its process."),
	FIELD_ENUM(struct idle_row, state, worker_state_names, WORKER_OFFLINE, FIELD_SQL, "What the server sees."),
	FIELD_INT(struct idle_row, desired_rev, 0, INT64_MAX, 0, FIELD_SQL, "Counts the changes to what it is told to run."),
	FIELD_TIME(struct idle_row, seen_ms, FIELD_SQL, "When it was last heard, as far as that is stored."),
};
static TYPE(idle_row, idle_row, "A worker without leases.");

/* A worker whose time has come. */
struct due {
	const char *id, *boot_id;
	int64_t heard_ms;
	bool store; /* when it was heard; the store is asked about it in any case */
};

struct round {
	struct control *c;
	struct arena arena;
	uint64_t era; /* at the beginning */
	VEC(struct due) due;
};

/* One batch of a round. */
struct batch {
	const struct due *items;
	size_t len;
	struct arena *arena;
	struct idle_row *rows;
	size_t row_count;
};

/* Not those that another process of the worker has replaced, that were called silent, or have left. */
static int seen_store_tx(struct db_conn *conn, void *arg, struct err *err)
{
	enum { COLUMNS = 3 };
	struct batch *b = arg;
	struct db_value *values = arena_array(b->arena, struct db_value, b->len * COLUMNS), *v = values;

	for (size_t i = 0; i < b->len; i++) {
		if (!b->items[i].store)
			continue;
		*v++ = DB_TEXT(b->items[i].id);
		*v++ = DB_INT(b->items[i].heard_ms);
		*v++ = DB_TEXT(b->items[i].boot_id);
	}
	return db_exec_batch(conn,
			     "UPDATE workers SET seen_ms = $2 WHERE id = $1 AND seen_ms < $2 AND boot_id = $3 AND state = 'online'",
			     values, COLUMNS, (size_t)(v - values) / COLUMNS, NULL, err);
}

static int idle_read(struct db_conn *conn, void *arg, struct err *err)
{
	struct batch *b = arg;
	const char **ids = arena_array(b->arena, const char *, b->len);

	for (size_t i = 0; i < b->len; i++)
		ids[i] = b->items[i].id;
	return db_select_in(conn, &idle_row_type, "workers", "id", ids, b->len, b->arena, (void **)&b->rows, &b->row_count, err);
}

/* Lock held.  True: there is news for the worker that this process did not write. */
static bool row_take(struct idle_worker *w, const struct idle_row *row, int64_t asked_ms)
{
	if (row->state == WORKER_ONLINE && row->desired_rev == w->desired_rev && str_eq(row->boot_id, w->boot_id)) {
		w->known_ms = asked_ms;
		w->stored_ms = row->seen_ms;
		return false;
	}
	w->known_ms = 0;
	return row->desired_rev != w->desired_rev;
}

static void rows_take(struct round *r, const struct batch *b, int64_t asked_ms)
{
	struct heartbeats *h = r->c->heartbeats;

	for (size_t i = 0; i < b->row_count; i++) {
		struct idle_worker *w;
		bool is_news;

		pthread_mutex_lock(&h->lock);
		w = map_find(h->workers, b->rows[i].id);
		is_news = w && w->era <= r->era && row_take(w, &b->rows[i], asked_ms);
		pthread_mutex_unlock(&h->lock);
		if (is_news)
			wake(r->c, NULL, "worker", b->rows[i].id);
	}
}

static int batch_do(struct round *r, struct db_conn *conn, const struct due *items, size_t len, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct batch b = { .items = items, .len = len, .arena = &arena };
	int64_t asked_ms;
	bool store = false;

	for (size_t i = 0; i < len; i++)
		store |= items[i].store;
	if (store && db_tx(conn, seen_store_tx, &b, err) < 0)
		return -1;
	asked_ms = control_now(r->c);
	if (db_read(conn, idle_read, &b, err) < 0)
		return -1;
	rows_take(r, &b, asked_ms);
	return 0;
}

/* Lock held.  Whether the worker's next heartbeat, which is to come soon, would have to go to the store; else
 * *ret_at_ms is when to look again. */
static bool is_due(const struct control *c, const struct idle_worker *w, int64_t now_ms, bool *ret_store, int64_t *ret_at_ms)
{
	int64_t margin_ms = 2 * pace_ms(c), next_heard_ms = w->heard_ms + c->config.heartbeat_ms + margin_ms;

	if (!w->known_ms || next_heard_ms < now_ms)
		return false;
	*ret_store = w->heard_ms > w->stored_ms && next_heard_ms >= w->stored_ms + seen_lag_ms(c);
	*ret_at_ms = w->known_ms + known_for_ms(c) - margin_ms;
	return *ret_store || *ret_at_ms <= now_ms;
}

/* Those that are due, and when the next will be; forgets those that are no longer heard. */
static int64_t due_find(struct round *r, int64_t now_ms)
{
	struct heartbeats *h = r->c->heartbeats;
	int64_t next_ms = INT64_MAX;
	size_t it = 0;
	const char *id;
	void *value;

	pthread_mutex_lock(&h->lock);
	r->era = h->era;
	while (map_next(h->workers, &it, &id, &value)) {
		struct idle_worker *w = value;
		int64_t at_ms = INT64_MAX;
		bool store;

		if (!is_younger(w->heard_ms, 2 * seen_lag_ms(r->c), now_ms)) {
			map_remove(h->workers, id);
			free(w);
		} else if (is_due(r->c, w, now_ms, &store, &at_ms)) {
			*vec_push(&r->due) = (struct due){ arena_strdup(&r->arena, id), arena_strdup(&r->arena, w->boot_id),
							   w->heard_ms, store };
			next_ms = now_ms;
		} else {
			next_ms = MIN(next_ms, at_ms);
		}
	}
	pthread_mutex_unlock(&h->lock);
	return MAX(next_ms, now_ms + pace_ms(r->c));
}

int heartbeats_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	struct heartbeats *h = c->heartbeats;
	struct round r = { .c = c };
	int rc = 0;

	if (!is_younger(h->round_ms, pace_ms(c), now_ms)) {
		h->round_ms = now_ms;
		h->next_ms = due_find(&r, now_ms);
		for (size_t i = 0; rc == 0 && i < r.due.len; i += BATCH)
			rc = batch_do(&r, conn, r.due.items + i, MIN(r.due.len - i, (size_t)BATCH), err);
		vec_release(&r.due);
		arena_release(&r.arena);
	}
	*ret_next_ms = MIN(*ret_next_ms, h->next_ms);
	return rc;
}
