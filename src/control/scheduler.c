/* The loop that feeds the planner: keeps the pool in memory in step with the store, takes what is pending, decides, and
 * commits.  The store has the last word: capacity and devices are claimed by the transaction itself, so a stale view costs
 * a second try and never a double lease. */
#include "internal.h"

#define BATCH 500                       /* replicas a page: read, decided and committed together */
#define PAGES 10                        /* a round */
#define OLDEST 64                       /* the first page where room is short: what an ended lease leaves is theirs */
#define PASS_EVERY_MS 200               /* where it is short, so often those behind them have their turn */
#define LOOK_MS SECOND_MS               /* some workers again, so often */
#define LOOK_ALL_MS (30 * SECOND_MS)    /* all of them, within about that */
#define IDLE_MS (5 * SECOND_MS)

struct scheduler {
	pthread_mutex_t lock;           /* pool and dirty list; held for reads and refreshes, not while committing */
	struct pool *pool;
	struct map *dirty;              /* worker id -> itself: to be read again */
	int64_t looked_ms;              /* 0: nothing was read yet */
	char looked[ID_SIZE];           /* the last worker that was looked at again; "": begin with the first */
	int64_t known, in_turn;         /* how many workers there were in the last turn, and in this one so far */
	int64_t views;                  /* how many workers were read */
	char cursor[ID_SIZE];           /* the last pending replica that was considered; "": begin with the oldest */
	bool is_short;                  /* some found no room when they were last considered */
	int64_t passed_ms;              /* when all that was pending had last had its turn */
	struct waiting *waiting;
};

struct scheduler *scheduler_new(void)
{
	struct scheduler *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	s->pool = pool_new();
	s->dirty = map_new();
	s->waiting = waiting_new();
	return s;
}

void scheduler_free(struct scheduler *s)
{
	if (!s)
		return;
	pool_free(s->pool);
	map_free(s->dirty, NULL);
	waiting_free(s->waiting);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- the pool in step with the store ------------------------------------------------------------------- */

struct dirty_arg {
	struct scheduler *s;
	char worker_id[ID_SIZE];
};

static void worker_dirty(struct scheduler *s, const char *worker_id)
{
	pthread_mutex_lock(&s->lock);
	map_put(s->dirty, worker_id, s);
	pthread_mutex_unlock(&s->lock);
}

static void dirty_run(void *arg)
{
	struct dirty_arg *d = arg;

	worker_dirty(d->s, d->worker_id);
}

static int64_t views_now(struct scheduler *s)
{
	int64_t views;

	pthread_mutex_lock(&s->lock);
	views = s->views;
	pthread_mutex_unlock(&s->lock);
	return views;
}

void scheduler_dirty(struct control *c, struct db_conn *conn, const char *worker_id)
{
	struct dirty_arg *d = xcalloc(1, sizeof(*d));

	d->s = c->scheduler;
	snprintf(d->worker_id, sizeof(d->worker_id), "%s", worker_id);
	if (db_in_tx(conn)) {
		db_after_commit(conn, dirty_run, free, d);
	} else {
		dirty_run(d);
		free(d);
	}
	wake(c, conn, "duty", "scheduler");
}

/* Devices of one worker that no lease claims. */
static int devices_free(struct db_conn *conn, const struct worker *w, struct arena *a, struct text_list *ret, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	size_t max = w->inventory ? w->inventory->devices.len : 0, n = 0;
	const char **items = arena_array(a, const char *, max + 1);
	int rc;

	*ret = (struct text_list){ items, 0 };
	if (max == 0)
		return 0;
	if (db_query(conn,
		     "SELECT d.uuid FROM worker_devices d WHERE d.worker_id = $1 AND NOT EXISTS"
		     " (SELECT 1 FROM device_claims k WHERE k.worker_id = d.worker_id AND k.device_uuid = d.uuid) ORDER BY d.uuid",
		     DB_ARGS(DB_TEXT(w->id)), &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0)
		if (n < max)
			items[n++] = db_text(rows, 0, a);
	ret->len = n;
	return rc;
}

/* Lock held. */
static int worker_put(struct scheduler *s, struct db_conn *conn, const struct worker *w, struct arena *a, struct err *err)
{
	struct text_list uuids;

	s->views++;
	if (w->state == WORKER_LEFT) {
		pool_remove(s->pool, w->id);
		return 0;
	}
	if (devices_free(conn, w, a, &uuids, err) < 0)
		return -1;
	pool_put(s->pool, w, &uuids);
	return 0;
}

/* All of them, at the start. */
static int load(struct scheduler *s, struct db_conn *conn, int64_t now_ms, struct arena *a, struct err *err)
{
	struct worker *workers;
	size_t len;

	if (db_select(conn, &worker_type, "workers", "WHERE state <> 'left' ORDER BY id", DB_NO_ARGS, a, (void **)&workers, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		if (worker_put(s, conn, &workers[i], a, err) < 0)
			return -1;
	s->known = len;
	s->looked_ms = now_ms;
	return 0;
}

/* Lock held.  Whether the store may say something else of the worker than the pool does: a change in the same moment as the
 * one before it has the same time, so that what is young is always read. */
static bool is_stale(const struct scheduler *s, const char *id, int64_t updated_ms, int64_t now_ms)
{
	return updated_ms != pool_updated_ms(s->pool, id) || updated_ms > now_ms - 2 * LOOK_ALL_MS;
}

/* Lock held.  Looks through some each LOOK_MS, in turn, for what another tesd has committed and what no wake told of. */
static int look_again(struct scheduler *s, struct db_conn *conn, int64_t now_ms, struct arena *a, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int64_t max = 1 + s->known / (LOOK_ALL_MS / LOOK_MS), len = 0;
	int rc;

	if (now_ms - s->looked_ms < LOOK_MS && now_ms >= s->looked_ms)
		return 0;
	if (db_query(conn, "SELECT id, updated_ms FROM workers WHERE id > $1 AND (state <> 'left' OR updated_ms > $2) ORDER BY id LIMIT $3",
		     DB_ARGS(DB_TEXT(s->looked), DB_INT(now_ms - 2 * LOOK_ALL_MS), DB_INT(max)), &rows, err) < 0)
		return -1;
	for (; (rc = db_next(rows, err)) > 0; len++) {
		const char *id = db_text(rows, 0, a);

		if (is_stale(s, id, db_int(rows, 1), now_ms))
			map_put(s->dirty, id, s);
		snprintf(s->looked, sizeof(s->looked), "%s", id);
	}
	if (rc < 0)
		return -1;
	s->in_turn += len;
	if (len < max) { /* the end: how many there are is known, and it begins anew */
		s->known = s->in_turn;
		s->in_turn = 0;
		s->looked[0] = '\0';
	}
	s->looked_ms = now_ms;
	return 0;
}

/* Lock held.  Reads what changed since the last look. */
static int refresh(struct control *c, struct db_conn *conn, int64_t now_ms, struct arena *a, struct err *err)
{
	struct scheduler *s = c->scheduler;
	size_t it = 0;
	const char *id;
	void *value;

	if ((s->looked_ms ? look_again : load)(s, conn, now_ms, a, err) < 0)
		return -1;
	while (map_next(s->dirty, &it, &id, &value)) {
		struct worker *w;
		size_t len;

		if (db_select(conn, &worker_type, "workers", "WHERE id = $1", DB_ARGS(DB_TEXT(id)), a, (void **)&w, &len, err) < 0)
			return -1;
		if (len && worker_put(s, conn, w, a, err) < 0)
			return -1;
		map_remove(s->dirty, id);
	}
	return 0;
}

/* ---- reads for the API ---------------------------------------------------------------------------------- */

int scheduler_offers(struct control *c, struct db_conn *conn, const struct offer_query *q, struct arena *a,
		     struct offer_page *ret, struct err *err)
{
	int rc;

	pthread_mutex_lock(&c->scheduler->lock);
	rc = refresh(c, conn, control_now(c), a, err);
	if (rc == 0)
		rc = pool_offers(c->scheduler->pool, q, control_now(c), a, ret, err);
	pthread_mutex_unlock(&c->scheduler->lock);
	return rc;
}

int scheduler_explain(struct control *c, struct db_conn *conn, const struct request *r, struct arena *a,
		      struct explanation *ret, struct err *err)
{
	int rc;

	pthread_mutex_lock(&c->scheduler->lock);
	rc = refresh(c, conn, control_now(c), a, err);
	if (rc == 0)
		pool_explain(c->scheduler->pool, r, a, ret);
	pthread_mutex_unlock(&c->scheduler->lock);
	return rc;
}

int scheduler_best(struct control *c, struct db_conn *conn, const struct request *r, struct placement *ret, bool *ret_found,
		   struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	int rc;

	pthread_mutex_lock(&c->scheduler->lock);
	rc = refresh(c, conn, control_now(c), &arena, err);
	if (rc == 0)
		*ret_found = pool_place(c->scheduler->pool, r, ret);
	pthread_mutex_unlock(&c->scheduler->lock);
	return rc;
}

size_t scheduler_sums(struct control *c, struct arena *a, struct pool_sum **ret)
{
	size_t len;

	pthread_mutex_lock(&c->scheduler->lock);
	len = pool_sums(c->scheduler->pool, a, ret);
	pthread_mutex_unlock(&c->scheduler->lock);
	return len;
}

/* ---- the round ------------------------------------------------------------------------------------------- */

struct decision {
	struct replica *replica;
	const struct workload *workload;
	struct request request;
	struct placement placement;
	bool placed;
};

struct commit_arg {
	struct control *c;
	const struct decision *decisions; /* of which those `placed` are committed */
	size_t len;
	int64_t now_ms;
};

static int commit(struct db_conn *conn, void *arg, struct err *err)
{
	struct commit_arg *x = arg;
	cleanup_arena struct arena arena = { 0 };
	struct lease_plan *plans = arena_array(&arena, struct lease_plan, x->len);
	size_t len = 0;

	for (size_t i = 0; i < x->len; i++) {
		const struct decision *d = &x->decisions[i];

		if (d->placed)
			plans[len++] = (struct lease_plan){ d->workload, d->replica, &d->placement };
	}
	return leases_reserve(x->c, conn, plans, len, x->now_ms, &arena, err);
}

/* All in one transaction; if one of them no longer fits, each in its own, and those that fail wait for the next round. */
static int commit_all(struct control *c, struct db_conn *conn, const struct decision *d, size_t len, int64_t now_ms,
		      struct err *err)
{
	struct commit_arg arg = { c, d, len, now_ms };

	if (len == 0 || db_tx(conn, commit, &arg, err) == 0)
		return 0;
	if (err->code != ERR_CONFLICT && err->code != ERR_FUNDS)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (!d[i].placed)
			continue;
		err_clear(err);
		arg.decisions = &d[i];
		arg.len = 1;
		if (db_tx(conn, commit, &arg, err) == 0)
			continue;
		if (err->code != ERR_CONFLICT && err->code != ERR_FUNDS)
			return -1;
		metrics_count(c, conn, "placement_conflicts_total", 1);
		worker_dirty(c->scheduler, d[i].placement.worker_id);
	}
	err_clear(err);
	return 0;
}

struct round_arg {
	struct control *c;
	int64_t now_ms;
	struct arena *a;
	struct decision *decisions;
	size_t len, max;
	const char *after;
};

/* What the planner is asked.  The first attempts of one organisation avoid the same workers: looked up once. */
static int decision_prepare(struct round_arg *x, struct db_conn *conn, struct decision *d, struct map *firsts, struct err *err)
{
	const struct workload *w = d->workload;
	const struct request *first = w->attempts == 0 ? map_find(firsts, w->org_id) : NULL;

	if (request_of(x->c, conn, w, first, x->now_ms, x->a, &d->request, err) < 0)
		return -1;
	if (w->attempts == 0 && !first)
		map_put(firsts, w->org_id, &d->request);
	return 0;
}

static int decisions_prepare(struct round_arg *x, struct db_conn *conn, struct replica *pending,
			     const struct workload *const *workloads, struct err *err)
{
	struct map *firsts = map_new();
	int rc = 0;

	x->decisions = arena_array(x->a, struct decision, x->len + 1);
	for (size_t i = 0; rc == 0 && i < x->len; i++) {
		struct decision *d = &x->decisions[i];

		d->replica = &pending[i];
		d->workload = workloads[i];
		rc = decision_prepare(x, conn, d, firsts, err);
	}
	map_free(firsts, NULL);
	return rc;
}

static int round_read(struct db_conn *conn, void *arg, struct err *err)
{
	struct round_arg *x = arg;
	struct replica *pending;
	const struct workload **workloads;

	if (db_select(conn, &replica_type, "replicas",
		      "WHERE state = 'pending' AND not_before_ms <= $1 AND id > $2 ORDER BY id LIMIT $3",
		      DB_ARGS(DB_INT(x->now_ms), DB_TEXT(x->after), DB_INT(x->max)), x->a, (void **)&pending, &x->len, err) < 0 ||
	    waiting_find(x->c->scheduler->waiting, conn, pending, x->len, x->a, &workloads, err) < 0)
		return -1;
	return decisions_prepare(x, conn, pending, workloads, err);
}

/* Decides for all against one view, taking each placement out of it before the next. The placement's device texts belong
 * to the pool and may go when it changes, so they are copied. */
static size_t decide(struct scheduler *s, struct decision *d, size_t len, struct arena *a)
{
	size_t placed = 0;

	for (size_t i = 0; i < len; i++) {
		d[i].placed = pool_place(s->pool, &d[i].request, &d[i].placement);
		if (!d[i].placed)
			continue;
		for (size_t k = 0; k < d[i].placement.device_count; k++)
			d[i].placement.devices[k] = arena_strdup(a, d[i].placement.devices[k]);
		pool_take(s->pool, &d[i].placement, d[i].request.want);
		placed++;
	}
	return placed;
}

static int next_backoff(struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	int64_t at;

	if (db_query_int(conn,
			 "SELECT MIN(not_before_ms) FROM replicas WHERE state = 'pending' AND not_before_ms > 0"
			 " AND not_before_ms > $1", DB_ARGS(DB_INT(now_ms)), 0, &at, err) < 0)
		return -1;
	*ret_next_ms = at ? MIN(now_ms + IDLE_MS, at) : now_ms + IDLE_MS;
	return 0;
}

/* One page of at most `max` of what is pending, oldest first. */
static int page_place(struct control *c, struct db_conn *conn, int64_t now_ms, size_t max, size_t *ret_len, size_t *ret_placed,
		      struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct scheduler *s = c->scheduler;
	struct round_arg x = { .c = c, .now_ms = now_ms, .a = &arena, .max = max, .after = s->cursor };
	int64_t views;
	size_t placed;
	int rc;

	if (db_read(conn, round_read, &x, err) < 0)
		return -1;
	pthread_mutex_lock(&s->lock);
	rc = refresh(c, conn, now_ms, &arena, err);
	placed = rc == 0 ? decide(s, x.decisions, x.len, &arena) : 0;
	views = s->views;
	pthread_mutex_unlock(&s->lock);
	if (rc == 0 && placed)
		rc = commit_all(c, conn, x.decisions, x.len, now_ms, err);
	/* What was taken out of the view and did not become a lease comes back; and whoever read a worker anew between
	 * decision and commit did not see what the lease takes. */
	if (placed && (rc < 0 || views != views_now(s)))
		for (size_t i = 0; i < x.len; i++)
			if (x.decisions[i].placed)
				worker_dirty(s, x.decisions[i].placement.worker_id);
	if (rc < 0)
		return -1;
	metrics_count(c, conn, "placements_total", placed);
	snprintf(s->cursor, sizeof(s->cursor), "%s", x.len == max ? x.decisions[x.len - 1].replica->id : "");
	*ret_len = x.len;
	*ret_placed = placed;
	return 0;
}

/* There is no room for the oldest: the others wait for their turn, and it begins with the oldest again. */
static int wait_for_pass(struct scheduler *s, int64_t *ret_next_ms)
{
	s->cursor[0] = '\0';
	*ret_next_ms = s->passed_ms + PASS_EVERY_MS;
	return 0;
}

/* Goes through all that is pending, so that those that nothing fits hold nobody up who waits behind them.  Where room is
 * short, a wake looks at the oldest alone, and a pass over all follows soon: else each submission reads the whole
 * backlog. */
int scheduler_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	struct scheduler *s = c->scheduler;
	bool leads, over = false;

	*ret_next_ms = now_ms + IDLE_MS;
	if (leader_check(c, conn, "scheduler", now_ms, &leads, err) < 0)
		return -1;
	if (!leads)
		return 0;
	for (int page = 0; page < PAGES && !over; page++) {
		bool begins = !s->cursor[0];
		size_t max = begins && s->is_short ? OLDEST : BATCH, len, placed;

		if (page_place(c, conn, now_ms, max, &len, &placed, err) < 0)
			return -1;
		s->is_short = placed < len || (s->is_short && !begins);
		over = len < max;
		if (over)
			s->passed_ms = now_ms;
		else if (max == OLDEST && s->is_short && now_ms >= s->passed_ms && now_ms < s->passed_ms + PASS_EVERY_MS)
			return wait_for_pass(s, ret_next_ms);
	}
	if (!over) {
		*ret_next_ms = now_ms; /* goes on where it stands */
		return 0;
	}
	return next_backoff(conn, now_ms, ret_next_ms, err);
}
