/* Checkers that run after every step in which something was committed: what must hold at any time. */
#include "check.h"

static struct map *leases; /* id -> struct seen */
bool truths_disturbed;
static int64_t commits_seen;

struct seen *seen_find(const char *lease)
{
	return map_find(leases, lease);
}

bool seen_next(size_t *it, struct seen **ret)
{
	const char *key;
	void *value;

	if (!map_next(leases, it, &key, &value))
		return false;
	*ret = value;
	return true;
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
		" CAST(COALESCE(MIN(CASE WHEN name = 'customer' OR name LIKE 'escrow:%' OR debits_must_not_exceed_credits = 1"
		" THEN credits_posted - debits_posted - debits_pending WHEN credits_must_not_exceed_debits = 1"
		" THEN debits_posted - credits_posted - credits_pending ELSE 0 END), 0) AS BIGINT) FROM accounts";
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

/* Of each worker, what its living leases have: kept up with each change, and added up anew by each full look. */
struct use {
	char worker[ID_SIZE];
	int64_t cpu_milli, memory_mib, disk_mib, gpus, claims;
	bool touched;
};
static struct map *uses;
static VEC(struct use *) touched; /* since the last look at capacity */

static struct use *use_of(struct map *m, const char *worker)
{
	struct use *u = map_find(m, worker);

	if (u)
		return u;
	u = xcalloc(1, sizeof(*u));
	snprintf(u->worker, ID_SIZE, "%s", worker);
	map_put(m, worker, u);
	return u;
}

static void use_add(struct use *u, const struct seen *s, int sign)
{
	u->cpu_milli += sign * s->cpu_milli;
	u->memory_mib += sign * s->memory_mib;
	u->disk_mib += sign * s->disk_mib;
	u->gpus += sign * s->gpus;
	u->claims += sign * s->claims;
}

static void use_change(const struct seen *s, int sign)
{
	struct use *u = use_of(uses, s->worker);

	use_add(u, s, sign);
	if (!u->touched)
		*vec_push(&touched) = u;
	u->touched = true;
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

#define LEASE_COLUMNS                                                                                                    \
	"id, worker_id, replica_id, workload_id, generation, claimed_ms, billed_ms, billed_uusd, funded_ms, running_ms," \
	" updated_ms, resources, devices, observed_ms, state, reason, rate_uusd_h"

static struct seen *seen_new(struct look *l)
{
	struct seen *s = xcalloc(1, sizeof(*s));
	const char *resources = look_text(l, 11);

	snprintf(s->id, ID_SIZE, "%s", look_text(l, 0));
	snprintf(s->worker, ID_SIZE, "%s", look_text(l, 1));
	snprintf(s->replica, ID_SIZE, "%s", look_text(l, 2));
	snprintf(s->workload, ID_SIZE, "%s", look_text(l, 3));
	s->generation = look_int(l, 4);
	s->cpu_milli = json_number(resources, "cpu_milli");
	s->memory_mib = json_number(resources, "memory_mib");
	s->disk_mib = json_number(resources, "disk_mib");
	s->gpus = json_number(resources, "gpus");
	for (const char *p = look_text(l, 12); (p = strstr(p, "GPU-")); p++)
		s->claims++;
	map_put(leases, s->id, s);
	sim.out->totals.leases++;
	sim.out->totals.retries += s->generation > 1;
	use_change(s, 1);
	return s;
}

static void seen_end(struct look *l, struct seen *s)
{
	s->ended = true;
	s->ended_seen_ms = sim.now_ms;
	truths_disturbed = true;
	use_change(s, -1);
	sim.out->totals.ran += s->running_ms > 0;
	for (size_t r = 0; r < ARRAY_LEN(sim.out->totals.ends); r++)
		sim.out->totals.ends[r] += str_eq(lease_reason_names[r], look_text(l, 15));
}

/* What the store says of one lease, against what it said before, and what is true. */
static struct seen *lease_take(struct look *l)
{
	struct seen *s = seen_find(look_text(l, 0));

	if (!s)
		s = seen_new(l);
	if (s->ended && !str_eq(look_text(l, 14), "ended"))
		broken("ended", "%s was ended, and is %s again", s->id, look_text(l, 14));
	if (look_int(l, 5) < s->claimed_ms)
		broken("receipts", "%s: %" PRId64 " ms were claimed, now %" PRId64, s->id,
		       s->claimed_ms, look_int(l, 5));
	if (look_int(l, 6) < s->billed_ms || look_int(l, 7) < s->billed_uusd)
		broken("billed", "%s: what was billed has become less", s->id);
	if (s->ended && look_int(l, 7) != s->billed_uusd)
		broken("ended", "%s was charged after its end: %" PRId64 ", then %" PRId64, s->id,
		       s->billed_uusd, look_int(l, 7));
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
	if (s->billed_uusd != owed_uusd(look_int(l, 16), s->billed_ms))
		broken("billed", "%s: %" PRId64 " ms at %" PRId64 " an hour are billed as %" PRId64,
		       s->id, s->billed_ms, look_int(l, 16), s->billed_uusd);
	truth_check(s);
	if (!s->ended && str_eq(look_text(l, 14), "ended"))
		seen_end(l, s);
	return s;
}

static bool lease_look(const char *id)
{
	struct look l = { 0 };

	if (!look_row(&l, "SELECT " LEASE_COLUMNS " FROM leases WHERE id = $1",
		      DB_ARGS(DB_TEXT(id))))
		return false;
	lease_take(&l);
	look_end(&l);
	return true;
}

/* Which leases have changed: of those that control/ wrote as whole rows, by their ids (break.c); after any other
 * statement on the table, all are looked at. */
static VEC(char *) changed;

void check_lease_changed(const char *id)
{
	*vec_push(&changed) = xstrdup(id);
}

static void changed_forget(void)
{
	for (size_t i = 0; i < changed.len; i++)
		free(changed.items[i]);
	changed.len = 0;
}

static void changed_check(void)
{
	for (size_t i = 0; i < changed.len && !sim.out->failed; i++)
		/* One that was never seen was written by a transaction that did not commit. */
		if (!lease_look(changed.items[i]) && seen_find(changed.items[i]))
			broken("ended", "%s is no longer there", changed.items[i]);
	changed_forget();
}

static void uses_compare(struct map *fresh)
{
	size_t it = 0;
	const char *worker;
	void *value;

	while (map_next(uses, &it, &worker, &value)) {
		const struct use *kept = value, *u = use_of(fresh, worker);

		if (kept->cpu_milli != u->cpu_milli || kept->memory_mib != u->memory_mib ||
		    kept->disk_mib != u->disk_mib || kept->gpus != u->gpus || kept->claims != u->claims)
			broken("checker", "what the leases of %s have was added up wrong", worker);
	}
}

static void all_check(void)
{
	struct look l = { 0 };
	struct map *fresh = map_new();
	size_t it = 0;
	struct seen *s;

	changed_forget();
	while (look_row(&l, "SELECT " LEASE_COLUMNS " FROM leases WHERE state <> 'ended'", DB_NO_ARGS)) {
		s = lease_take(&l);
		s->now = true;
		use_add(use_of(fresh, s->worker), s, 1);
	}
	/* Those that were living at the last look and no longer are. */
	while (seen_next(&it, &s) && !sim.out->failed) {
		if (!s->now && !s->ended && !lease_look(s->id))
			broken("ended", "%s is no longer there", s->id);
		s->now = false;
	}
	if (!sim.out->failed)
		uses_compare(fresh);
	map_free(fresh, free);
}

/* ---- capacity ------------------------------------------------------------------------------------------------------ */

#define USE_COLUMNS                                                                    \
	"w.id, used_cpu_milli, used_memory_mib, used_disk_mib, used_gpus,"             \
	" (SELECT COUNT(*) FROM device_claims d WHERE d.worker_id = w.id) FROM workers w"

static void use_check(struct look *l)
{
	const char *id = look_text(l, 0);
	const struct use *u = use_of(uses, id);

	if (look_int(l, 1) != u->cpu_milli || look_int(l, 2) != u->memory_mib ||
	    look_int(l, 3) != u->disk_mib || look_int(l, 4) != u->gpus)
		broken("capacity",
		       "%s counts %" PRId64 " mCPU, %" PRId64 " MiB, %" PRId64
		       " GPUs; its leases have %" PRId64 ", %" PRId64 ", %" PRId64,
		       id, look_int(l, 1), look_int(l, 2), look_int(l, 4), u->cpu_milli,
		       u->memory_mib, u->gpus);
	if (look_int(l, 5) != u->claims)
		broken("devices", "%s has %" PRId64 " devices claimed, its leases have %" PRId64, id,
		       look_int(l, 5), u->claims);
}

static void capacity_check(bool all)
{
	struct look l = { 0 };

	if (all)
		while (look_row(&l, "SELECT " USE_COLUMNS, DB_NO_ARGS))
			use_check(&l);
	for (size_t i = 0; i < touched.len; i++) {
		touched.items[i]->touched = false;
		if (!all && look_row(&l, "SELECT " USE_COLUMNS " WHERE w.id = $1",
				     DB_ARGS(DB_TEXT(touched.items[i]->worker)))) {
			use_check(&l);
			look_end(&l);
		}
	}
	touched.len = 0;
}

/* Each claim is of a living lease that has the device, and of one only. */
static void claims_check(void)
{
	struct look l = { 0 };
	struct map *taken = map_new();

	while (look_row(&l,
			"SELECT c.worker_id, c.device_uuid, l.id, l.worker_id, l.devices FROM device_claims c"
			" LEFT JOIN leases l ON l.id = c.lease_id AND l.state <> 'ended'",
			DB_NO_ARGS)) {
		char device[120], quoted[120];

		snprintf(device, sizeof(device), "%s %s", look_text(&l, 0), look_text(&l, 1));
		snprintf(quoted, sizeof(quoted), "\"%s\"", look_text(&l, 1));
		if (!str_eq(look_text(&l, 0), look_text(&l, 3)) || !strstr(look_text(&l, 4), quoted) ||
		    map_find(taken, device))
			broken("devices", "%s is claimed for %s, which does not have it", device,
			       look_text(&l, 2));
		map_put(taken, device, taken);
	}
	map_free(taken, NULL);
}

/* ---- what really runs ------------------------------------------------------------------------------------------------ */

#define HUSH_MS (30 * SECOND_MS) /* a stop, and the step that it waits for */
#define EXCUSED_MS (20 * SECOND_MS)
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
	return sim.now_ms - machine_down_ms(t->machine) < EXCUSED_MS;
}

struct pair {
	const struct truth *a, *b;
};
static VEC(struct pair) pairs; /* of one replica, running at one time */

/* Of one that has begun to run, with all others that do. */
static void meet_check(const struct truth *a, struct truth *const *run, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct truth *b = run[i];

		if (a == b)
			continue;
		if (devices_shared(a, b))
			broken("devices", "%s and %s have the same device", a->lease, b->lease);
		/* One without `seen` has begun in this step too, and is yet to be looked at. */
		if (b->seen && str_eq(a->seen->replica, b->seen->replica))
			*vec_push(&pairs) = (struct pair){ a, b };
	}
}

static void pairs_check(void)
{
	size_t kept = 0;

	for (size_t i = 0; i < pairs.len; i++) {
		const struct truth *a = pairs.items[i].a, *b = pairs.items[i].b;

		if (!a->running || !b->running)
			continue;
		pairs.items[kept++] = pairs.items[i];
		if (!is_excused(a->seen->generation < b->seen->generation ? a : b))
			broken("twice",
			       "%s (attempt %" PRId64 ") and %s (attempt %" PRId64 ") run at one time",
			       a->lease, a->seen->generation, b->lease, b->seen->generation);
	}
	pairs.len = kept;
}

/* ret: no sooner than then can anything be wrong with it, if nothing happens to it. */
static int64_t run_check(const struct truth *t)
{
	const struct seen *s = t->seen;
	int64_t run_ms = truth_run_ms(t) - MAX(t->ready_ms, INT64_C(0)), quiet_ms = INT64_MAX;
	bool excused = is_excused(t);

	if (t->starts > 1)
		broken("rerun", "%s was started %d times", t->lease, t->starts);
	if (t->ready_ms >= 0 && t->funded_ms < FUNDED_UNLIMITED) {
		int64_t left_ms = t->funded_ms + 30 * SECOND_MS - run_ms;

		quiet_ms = MIN(quiet_ms, sim.now_ms + left_ms);
		if (left_ms < 0 && !excused)
			broken("unfunded", "%s has run for %" PRId64 " ms, %" PRId64 " are paid for",
			       t->lease, run_ms, t->funded_ms);
	}
	if (t->ready_ms >= 0 && t->max_duration_ms) {
		int64_t left_ms = t->max_duration_ms + 30 * SECOND_MS - run_ms;

		quiet_ms = MIN(quiet_ms, sim.now_ms + left_ms);
		if (left_ms < 0 && !excused)
			broken("duration", "%s has run for %" PRId64 " ms, at most %" PRId64 " were asked for",
			       t->lease, run_ms, t->max_duration_ms);
	}
	if (s && s->ended) {
		int64_t left_ms = s->ended_seen_ms + STOP_MS - sim.now_ms;

		quiet_ms = MIN(quiet_ms, sim.now_ms + left_ms);
		if (left_ms < 0 && !excused && !machine_is_cut(t->machine, STOP_MS) &&
		    machine_is_told(t->machine, EXCUSED_MS))
			broken("stopped", "%s ended %" PRId64 " ms ago, and runs", t->lease,
			       sim.now_ms - s->ended_seen_ms);
	}
	if (t->hush_ms && t->hush_epoch == machine_epoch(t->machine)) {
		int64_t left_ms = t->hush_ms + HUSH_MS - sim.now_ms;

		quiet_ms = MIN(quiet_ms, sim.now_ms + left_ms);
		if (left_ms < 0 && !excused)
			broken("deaf", "%s runs, and its worker knew %" PRId64 " ms ago that it is not to", t->lease,
			       sim.now_ms - t->hush_ms);
	}
	return quiet_ms;
}

/* Time alone breaks nothing before quiet_until_ms; what may bring that forward sets truths_disturbed. */
static int64_t quiet_until_ms;

static void running_check(void)
{
	struct truth *const *run, *t;
	size_t n;

	if (!truths_disturbed && !pairs.len && sim.now_ms <= quiet_until_ms)
		return;
	truths_disturbed = false;
	truths_running(&run, &n);
	while ((t = truth_started())) {
		t->seen = seen_find(t->lease);
		if (t->seen)
			meet_check(t, run, n);
		else
			broken("twice", "%s runs, and there is no such lease", t->lease);
	}
	pairs_check();
	quiet_until_ms = INT64_MAX;
	for (size_t i = 0; i < n; i++)
		quiet_until_ms = MIN(quiet_until_ms, run_check(run[i]));
}

/* ---- together ---------------------------------------------------------------------------------------------------------- */

#define ALL_EVERY 200 /* checks of what has changed, until one of everything */

void check_all(void)
{
	money_check();
	all_check();
	capacity_check(true);
	claims_check();
}

/* In a large network, what must add up all rows of a table is looked at so seldom that it takes a share of the time. */
static bool rows_are_due(void)
{
	static int64_t writes;

	return ++writes % sim_scale() == 0;
}

void check_step(void)
{
	unsigned wrote = server_wrote;

	if (sim.out->totals.commits != commits_seen && !sim.out->failed) {
		commits_seen = sim.out->totals.commits;
		server_wrote = 0;
		sim.out->totals.checks++;
		if (sim.out->totals.checks % (ALL_EVERY * sim_scale() * sim_scale()) == 0) {
			check_all();
		} else {
			if (wrote & WROTE_ACCOUNTS && (sim_scale() == 1 || rows_are_due()))
				money_check();
			if (wrote & WROTE_LEASES)
				all_check();
			else if (changed.len)
				changed_check();
			if (wrote & WROTE_CAPACITY || touched.len)
				capacity_check(sim_scale() == 1);
			if (wrote & WROTE_CAPACITY && sim_scale() == 1)
				claims_check();
		}
	}
	running_check();
}

void check_start(void)
{
	leases = map_new();
	uses = map_new();
}

void check_free(void)
{
	map_free(leases, free);
	map_free(uses, free);
	changed_forget();
	vec_release(&changed);
	vec_release(&touched);
	vec_release(&pairs);
}
