/* Checkers that run after every step in which something was committed: what must hold at any time. */
#include "check.h"

static struct map *leases; /* id -> struct seen */
static int64_t commits_seen;

struct seen *seen_find(const char *lease)
{
	return leases ? map_find(leases, lease) : NULL;
}

bool seen_next(size_t *it, struct seen **ret)
{
	const char *key;
	void *value;

	if (!leases || !map_next(leases, it, &key, &value))
		return false;
	*ret = value;
	return true;
}

void check_free(void)
{
	map_free(leases, free);
	leases = NULL;
	commits_seen = 0;
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

bool look_row(struct look *l, const char *sql, struct db_args args)
{
	struct err err = { 0 };
	int rc = 0;

	checker_begin();
	if (!l->rows)
		rc = db_query(checker_conn(), sql, args, &l->rows, &err);
	if (rc == 0)
		rc = db_next(l->rows, &err);
	checker_end();
	if (rc < 0)
		broken("checker", "%s: %s", sql, err.text);
	if (rc <= 0)
		look_end(l);
	return rc > 0;
}

const char *look_text(struct look *l, int column)
{
	const char *s = db_text(l->rows, column, &l->arena);

	return s ? s : "";
}

int64_t look_int(struct look *l, int column)
{
	return db_int(l->rows, column);
}

void look_end(struct look *l)
{
	db_rows_free(take_ptr(l->rows));
	arena_release(&l->arena);
}

int64_t look_number(const char *sql, struct db_args args)
{
	struct look l = { 0 };
	int64_t ret = 0;

	if (look_row(&l, sql, args)) {
		ret = look_int(&l, 0);
		look_end(&l);
	}
	return ret;
}

/* ---- money --------------------------------------------------------------------------------------------------- */

static void money_check(void)
{
	static const char sql[] =
		"SELECT CAST(COALESCE(SUM(debits_posted), 0) AS BIGINT), CAST(COALESCE(SUM(credits_posted), 0) AS BIGINT),"
		" CAST(COALESCE(SUM(debits_pending), 0) AS BIGINT), CAST(COALESCE(SUM(credits_pending), 0) AS BIGINT),"
		" CAST(COALESCE(MIN(CASE WHEN name = 'customer' OR name LIKE 'escrow:%' THEN"
		" credits_posted - debits_posted - debits_pending ELSE 0 END), 0) AS BIGINT) FROM accounts";
	struct look l = { 0 };

	if (!look_row(&l, sql, DB_NO_ARGS))
		return;
	if (look_int(&l, 0) != look_int(&l, 1) || look_int(&l, 2) != look_int(&l, 3))
		broken("money",
		       "debits %" PRId64 " (held %" PRId64 ") against credits %" PRId64
		       " (held %" PRId64 ")",
		       look_int(&l, 0), look_int(&l, 2), look_int(&l, 1), look_int(&l, 3));
	if (look_int(&l, 4) < 0)
		broken("money", "an account is %" PRId64 " below its limit", -look_int(&l, 4));
	look_end(&l);
}

/* ---- leases --------------------------------------------------------------------------------------------------- */

struct use {
	char worker[ID_SIZE];
	int64_t cpu_milli, memory_mib, disk_mib, gpus, claims;
};
static struct use uses[NODE_MAX];
static size_t use_count;

static struct use *use_of(const char *worker)
{
	for (size_t i = 0; i < use_count; i++)
		if (str_eq(uses[i].worker, worker))
			return &uses[i];
	assert(use_count < ARRAY_LEN(uses));
	uses[use_count] = (struct use){ 0 };
	snprintf(uses[use_count].worker, ID_SIZE, "%s", worker);
	return &uses[use_count++];
}

static int64_t json_number(const char *text, const char *name)
{
	char key[40];
	const char *p;

	snprintf(key, sizeof(key), "\"%s\":", name);
	p = strstr(text, key);
	return p ? strtoll(p + strlen(key), NULL, 10) : 0;
}

static void truth_check(const struct seen *s)
{
	const struct truth *t = truth_find(s->id);
	int64_t run_ms = t ? truth_run_ms(t) - MAX(t->ready_ms, INT64_C(0)) : 0;

	if (s->billed_ms > run_ms)
		broken("delivered", "%s is billed for %" PRId64 " ms, it ran for %" PRId64,
		       s->id, s->billed_ms, run_ms);
	if (s->billed_ms > s->funded_max_ms)
		broken("funded", "%s is billed for %" PRId64 " ms, funded were %" PRId64, s->id,
		       s->billed_ms, s->funded_max_ms);
}

static struct seen *seen_get(struct look *l)
{
	const char *id = look_text(l, 0);
	struct seen *s = seen_find(id);

	if (s)
		return s;
	if (!leases)
		leases = map_new();
	s = xcalloc(1, sizeof(*s));
	snprintf(s->id, ID_SIZE, "%s", id);
	snprintf(s->worker, ID_SIZE, "%s", look_text(l, 1));
	snprintf(s->replica, ID_SIZE, "%s", look_text(l, 2));
	snprintf(s->workload, ID_SIZE, "%s", look_text(l, 3));
	s->generation = look_int(l, 4);
	map_put(leases, id, s);
	sim.out->totals.leases++;
	sim.out->totals.retries += s->generation > 1;
	return s;
}

#define LEASE_COLUMNS                                                                                                    \
	"id, worker_id, replica_id, workload_id, generation, claimed_ms, billed_ms, billed_uusd, funded_ms, running_ms," \
	" updated_ms, resources, devices, observed_ms, state, reason"

static void lease_take(struct look *l, struct seen *s)
{
	if (s->ended)
		broken("ended", "%s was ended, and is %s again", s->id, look_text(l, 14));
	if (look_int(l, 5) < s->claimed_ms)
		broken("receipts", "%s: %" PRId64 " ms were claimed, now %" PRId64, s->id,
		       s->claimed_ms, look_int(l, 5));
	if (look_int(l, 6) < s->billed_ms || look_int(l, 7) < s->billed_uusd)
		broken("billed", "%s: what was billed has become less", s->id);
	s->claimed_ms = look_int(l, 5);
	s->billed_ms = look_int(l, 6);
	s->billed_uusd = look_int(l, 7);
	s->funded_max_ms = MAX(s->funded_max_ms, look_int(l, 8));
	s->running_ms = look_int(l, 9);
	s->updated_ms = look_int(l, 10);
	if (s->billed_ms > s->claimed_ms || s->billed_ms > look_int(l, 13))
		broken("billed",
		       "%s is billed for %" PRId64 " ms, %" PRId64 " are claimed and %" PRId64
		       " observed",
		       s->id, s->billed_ms, s->claimed_ms, look_int(l, 13));
	truth_check(s);
}

static void living_check(void)
{
	struct look l = { 0 };

	use_count = 0;
	while (look_row(&l, "SELECT " LEASE_COLUMNS " FROM leases WHERE state <> 'ended'",
			DB_NO_ARGS)) {
		struct seen *s = seen_get(&l);
		struct use *u = use_of(s->worker);
		const char *resources = look_text(&l, 11);

		u->cpu_milli += json_number(resources, "cpu_milli");
		u->memory_mib += json_number(resources, "memory_mib");
		u->disk_mib += json_number(resources, "disk_mib");
		u->gpus += json_number(resources, "gpus");
		for (const char *p = look_text(&l, 12); (p = strstr(p, "GPU-")); p++)
			u->claims++;
		s->now = true;
		lease_take(&l, s);
	}
}

/* Those that were living at the last look and no longer are. */
static void ended_check(void)
{
	size_t it = 0;
	struct seen *s;

	while (seen_next(&it, &s)) {
		struct look l = { 0 };

		if (s->now || s->ended) {
			s->now = false;
			continue;
		}
		if (!look_row(&l, "SELECT " LEASE_COLUMNS " FROM leases WHERE id = $1",
			      DB_ARGS(DB_TEXT(s->id)))) {
			broken("ended", "%s is no longer there", s->id);
			return;
		}
		lease_take(&l, s);
		s->ended = true;
		s->ended_seen_ms = sim.now_ms;
		sim.out->totals.ran += s->running_ms > 0;
		for (size_t r = 0; r < ARRAY_LEN(sim.out->totals.ends); r++)
			sim.out->totals.ends[r] +=
				str_eq(lease_reason_names[r], look_text(&l, 15));
		look_end(&l);
	}
}

/* ---- capacity ------------------------------------------------------------------------------------------------------ */

static void capacity_check(void)
{
	struct look l = { 0 };

	while (look_row(
		&l,
		"SELECT w.id, used_cpu_milli, used_memory_mib, used_disk_mib, used_gpus,"
		" (SELECT COUNT(*) FROM device_claims d WHERE d.worker_id = w.id) FROM workers w",
		DB_NO_ARGS)) {
		const char *id = look_text(&l, 0);
		const struct use *u = use_of(id);

		if (look_int(&l, 1) != u->cpu_milli || look_int(&l, 2) != u->memory_mib ||
		    look_int(&l, 3) != u->disk_mib || look_int(&l, 4) != u->gpus)
			broken("capacity",
			       "%s counts %" PRId64 " mCPU, %" PRId64 " MiB, %" PRId64
			       " GPUs; its leases have %" PRId64 ", %" PRId64 ", %" PRId64,
			       id, look_int(&l, 1), look_int(&l, 2), look_int(&l, 4),
			       u->cpu_milli, u->memory_mib, u->gpus);
		if (look_int(&l, 5) != u->claims)
			broken("devices",
			       "%s has %" PRId64 " devices claimed, its leases have %" PRId64,
			       id, look_int(&l, 5), u->claims);
	}
}

/* ---- what really runs ------------------------------------------------------------------------------------------------ */

#define STOP_MS (75 * SECOND_MS) /* LEASE_STOP_GRACE_MS and what a stop lasts */

static bool devices_shared(const struct truth *a, const struct truth *b)
{
	for (int i = 0; a->machine == b->machine && i < a->device_count; i++)
		for (int k = 0; k < b->device_count; k++)
			if (str_eq(a->devices[i], b->devices[k]))
				return true;
	return false;
}

/* A worker that is there must have noticed by now. */
static bool is_excused(const struct truth *t)
{
	return sim.now_ms - machine_down_ms(t->machine) < 20 * SECOND_MS;
}

static void pair_check(const struct truth *a, const struct truth *b)
{
	const struct seen *x = seen_find(a->lease), *y = seen_find(b->lease);

	if (devices_shared(a, b))
		broken("devices", "%s and %s have the same device", a->lease, b->lease);
	if (x && y && str_eq(x->replica, y->replica) &&
	    !is_excused(x->generation < y->generation ? a : b))
		broken("twice",
		       "%s (attempt %" PRId64 ") and %s (attempt %" PRId64 ") run at one time",
		       a->lease, x->generation, b->lease, y->generation);
}

static void run_check(const struct truth *t)
{
	const struct seen *s = seen_find(t->lease);
	int64_t run_ms = truth_run_ms(t) - MAX(t->ready_ms, INT64_C(0));

	if (t->starts > 1)
		broken("rerun", "%s was started %d times", t->lease, t->starts);
	if (is_excused(t))
		return;
	if (t->ready_ms >= 0 && run_ms > t->funded_ms + 30 * SECOND_MS)
		broken("unfunded", "%s has run for %" PRId64 " ms, %" PRId64 " are paid for",
		       t->lease, run_ms, t->funded_ms);
	if (t->max_duration_ms && t->ready_ms >= 0 &&
	    run_ms > t->max_duration_ms + 30 * SECOND_MS)
		broken("duration",
		       "%s has run for %" PRId64 " ms, at most %" PRId64 " were asked for",
		       t->lease, run_ms, t->max_duration_ms);
	if (s && s->ended && sim.now_ms - s->ended_seen_ms > STOP_MS &&
	    !machine_is_cut(t->machine, STOP_MS))
		broken("stopped", "%s ended %" PRId64 " ms ago, and runs", t->lease,
		       sim.now_ms - s->ended_seen_ms);
}

static void running_check(void)
{
	struct truth *run[256], *t;
	size_t it = 0, n = 0;

	while (truth_next(&it, &t))
		if (t->running && n < ARRAY_LEN(run))
			run[n++] = t;
	for (size_t i = 0; i < n; i++) {
		run_check(run[i]);
		for (size_t k = 0; k < i; k++)
			pair_check(run[i], run[k]);
	}
}

void check_step(void)
{
	running_check();
	if (sim.out->totals.commits == commits_seen || sim.out->failed)
		return;
	commits_seen = sim.out->totals.commits;
	sim.out->totals.checks++;
	money_check();
	living_check();
	ended_check();
	capacity_check();
}
