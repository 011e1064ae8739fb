/* Checkers of the whole: the audit, that runs now and then, and what must be true once all is over. */
#include "check.h"

#include "../../src/control/internal.h"

/* ---- the ledger -------------------------------------------------------------------------------------------- */

static void ledger_check(void)
{
	cleanup_arena struct arena a = { 0 };
	struct audit audit;
	struct err err = { 0 };

	checker_begin();
	if (ledger_audit(checker_conn(), &a, &audit, &err) < 0)
		broken("audit", "cannot be made: %s", err.text);
	else if (audit.findings.len)
		broken("audit", "%zu findings: %s", audit.findings.len,
		       audit.findings.items[0]);
	else
		sim.out->totals.transfers = audit.transfers;
	checker_end();
}

/* What a worker is told to be paid for is held. */
static void holds_check(void)
{
	struct look l = { 0 };

	while (look_row(
		&l,
		"SELECT l.id, l.rate_uusd_h, l.funded_ms, l.billed_uusd, COALESCE(t.amount, 0), l.billed_ms,"
		" l.max_duration_ms FROM leases l LEFT JOIN transfers t ON t.id = l.hold_id"
		" WHERE l.state <> 'ended' AND l.rate_uusd_h > 0",
		DB_NO_ARGS)) {
		int64_t money = look_int(&l, 3) + look_int(&l, 4), rate = look_int(&l, 1),
			longest_ms = look_int(&l, 6);
		int64_t there_ms = funded_ms(money, rate);

		if (longest_ms && money >= owed_uusd(rate, longest_ms))
			there_ms = FUNDED_UNLIMITED; /* to the end of what it may run */
		if (look_int(&l, 2) > MAX(there_ms, look_int(&l, 5)))
			broken("hold",
			       "%s: %" PRId64 " ms are funded, the hold is good for %" PRId64,
			       look_text(&l, 0), look_int(&l, 2), there_ms);
	}
}

/* What ended was settled for good. */
static void final_check(void)
{
	struct look l = { 0 };

	while (look_row(
		&l,
		"SELECT id, billed_uusd, reason, reason_text, ended_ms FROM leases WHERE state = 'ended'",
		DB_NO_ARGS)) {
		const struct seen *s = seen_find(look_text(&l, 0));

		if (s && s->ended && s->billed_uusd != look_int(&l, 1))
			broken("ended",
			       "%s was charged after its end: %" PRId64 ", then %" PRId64,
			       s->id, s->billed_uusd, look_int(&l, 1));
		if (str_empty(look_text(&l, 3)) || str_eq(look_text(&l, 2), "none") ||
		    str_eq(look_text(&l, 2), "placed") ||
		    str_eq(look_text(&l, 2), "accepted") || str_eq(look_text(&l, 2), "ready") ||
		    !look_int(&l, 4))
			broken("reason", "%s ended and does not say why: %s", look_text(&l, 0),
			       look_text(&l, 2));
	}
}

/* ---- events -------------------------------------------------------------------------------------------------- */

static int64_t chain_seq;
static char chain_hash[SHA256_HEX_SIZE];

static struct map *subjects; /* -> struct place, of the last event of it in the chain */
struct place {
	int64_t at_ms, made;
	char kind[48]; /* removal left out, which is no state */
};

static void kind_keep(char kind[static 48], const char *latest)
{
	if (!str_eq(latest, "workload.removed"))
		snprintf(kind, 48, "%s", latest);
}

/* Of each subject in the order in which its transactions wrote them: SQLite numbers rows as they come. */
static void order_check(int64_t after_seq)
{
	struct look l = { 0 };
	const char *sql = sim.o.store
				  ? "SELECT subject, seq, at_ms, made, kind FROM events WHERE seq > $1 ORDER BY seq"
				  : "SELECT subject, seq, at_ms, rowid, kind FROM events WHERE seq > $1 ORDER BY seq";

	if (!subjects)
		subjects = map_new();
	while (look_row(&l, sql, DB_ARGS(DB_INT(after_seq)))) {
		const char *subject = look_text(&l, 0);
		struct place *p = map_find(subjects, subject);
		int64_t at_ms = look_int(&l, 2), made = look_int(&l, 3);

		if (!p) {
			p = xcalloc(1, sizeof(*p));
			map_put(subjects, subject, p);
		}
		if (at_ms < p->at_ms || (made <= p->made && (!sim.o.store || at_ms == p->at_ms)))
			broken("order", "%s is told event %" PRId64 " after what came later", subject,
			       look_int(&l, 1));
		p->at_ms = at_ms;
		p->made = made;
		kind_keep(p->kind, look_text(&l, 4));
	}
}

/* Numbered without a gap, and chained. */
static void chain_check(void)
{
	cleanup_arena struct arena a = { 0 };
	struct event *events;
	struct err err = { 0 };
	size_t len;

	order_check(chain_seq);

	checker_begin();
	if (db_select(checker_conn(), &event_type, "events", "WHERE seq > $1 ORDER BY seq",
		      DB_ARGS(DB_INT(chain_seq)), &a, (void **)&events, &len, &err) < 0)
		broken("checker", "events: %s", err.text), len = 0;
	checker_end();
	for (size_t i = 0; i < len && !sim.out->failed; i++) {
		const struct event *e = &events[i];
		char hash[SHA256_HEX_SIZE];

		event_hash(e, hash);
		if (e->seq != chain_seq + 1 ||
		    !str_eq(e->prev_hash ? e->prev_hash : "", chain_hash) ||
		    !str_eq(e->hash, hash))
			broken("chain", "event %" PRId64 " (%s of %s) does not follow %" PRId64,
			       e->seq, e->kind, e->subject, chain_seq);
		chain_seq = e->seq;
		memcpy(chain_hash, hash, sizeof(hash));
	}
	sim.out->totals.events = chain_seq;
	note("%" PRId64 " events, chained to %s", chain_seq, chain_hash);
}

/* What waits to be numbered comes after all that is. */
static struct map *waiting_read(void)
{
	struct map *ret = map_new();
	struct look l = { 0 };

	while (look_row(&l, "SELECT subject, kind FROM events WHERE seq IS NULL ORDER BY at_ms, made", DB_NO_ARGS)) {
		char *kind = map_find(ret, look_text(&l, 0));

		if (!kind) {
			const struct place *p = map_find(subjects, look_text(&l, 0));

			kind = xcalloc(1, sizeof(p->kind));
			kind_keep(kind, p ? p->kind : "");
			map_put(ret, look_text(&l, 0), kind);
		}
		kind_keep(kind, look_text(&l, 1));
	}
	return ret;
}

/* The last word about each is what it is; after chain_check. */
static void told_check(void)
{
	struct map *waiting = waiting_read();
	struct look l = { 0 };

	while (look_row(&l,
			"SELECT id, 'lease.' || state FROM leases UNION ALL"
			" SELECT id, 'workload.' || state FROM workloads",
			DB_NO_ARGS)) {
		const char *id = look_text(&l, 0), *told = map_find(waiting, id);
		const struct place *p = map_find(subjects, id);

		told = told ? told : p ? p->kind : "nothing";
		if (!str_eq(look_text(&l, 1), told))
			broken("told", "%s is %s, the last that was told is %s", id, look_text(&l, 1), told);
	}
	map_free(waiting, free);
}

/* ---- workloads ------------------------------------------------------------------------------------------------- */

static void keys_check(void)
{
	struct map *keys = map_new();
	struct look l = { 0 };

	sim.out->totals.workloads = 0;
	while (look_row(&l, "SELECT id, spec FROM workloads", DB_NO_ARGS)) {
		const char *at = strstr(look_text(&l, 1), "\"SIM_KEY\":\"");
		char key[24] = "";

		sim.out->totals.workloads++;
		if (at)
			snprintf(key, sizeof(key), "%.*s", (int)strcspn(at + 11, "\""),
				 at + 11);
		if (!at || map_find(keys, key))
			broken("idempotency", "key %s made a second workload, %s", key,
			       look_text(&l, 0));
		map_put(keys, key, keys);
	}
	map_free(keys, NULL);
}

/* A workload stands where its lease stands. */
static void follow_check(void)
{
	struct look l = { 0 };

	while (look_row(
		&l,
		"SELECT w.id, w.state, r.state, (SELECT COUNT(*) FROM leases l WHERE l.workload_id = w.id AND"
		" l.state <> 'ended') FROM workloads w JOIN replicas r ON r.workload_id = w.id",
		DB_NO_ARGS)) {
		const char *state = look_text(&l, 1), *replica = look_text(&l, 2);
		bool final = str_eq(state, "succeeded") || str_eq(state, "failed") ||
			     str_eq(state, "stopped");
		const char *wanted = final			? "ended"
				     : str_eq(state, "pending") ? "pending"
								: "leased";

		if (!str_eq(replica, wanted) || look_int(&l, 3) != str_eq(replica, "leased"))
			broken("workload",
			       "%s is %s, its replica %s, with %" PRId64 " living leases",
			       look_text(&l, 0), state, replica, look_int(&l, 3));
	}
}

/* ---- output ------------------------------------------------------------------------------------------------------- */

/* What is kept is what was written, from its beginning: no line lost, none doubled. */
static void output_check(const char *lease, int64_t seq, int64_t bytes, bool cut)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	cleanup_arena struct arena a = { 0 };
	char key[64];
	struct err err = { 0 };
	int64_t n = 0;

	snprintf(key, sizeof(key), "logs/%s", lease);
	if (bytes && blob_read(server_blobs(), key, 0, bytes, &text, &err) < 0) {
		broken("output", "of %s: %s", lease, err.text);
		return;
	}
	struct slice rest = { text.buf, text.len }, line;

	while (rest.len && slice_split(&rest, '\n', &line) && line.len) {
		struct log_entry e;
		char wanted[80];

		n++;
		if (schema_parse(&log_entry_type, line, FROM_SERVER, &a, &e, &err) < 0) {
			broken("output", "of %s, line %" PRId64 ": %s", lease, n, err.text);
			return;
		}
		line_text(lease, n, wanted);
		if (cut && e.stream == LOG_SYSTEM)
			break;
		if (e.seq != n || !str_eq(e.text, wanted)) {
			broken("output", "of %s: line %" PRId64 " is number %" PRId64 ": %s",
			       lease, n, e.seq, e.text);
			return;
		}
	}
	if (n != seq || (int64_t)text.len != bytes)
		broken("output",
		       "of %s: %" PRId64 " lines in %zu bytes, for %" PRId64 " in %" PRId64,
		       lease, n, text.len, seq, bytes);
	sim.out->totals.lines += sim.calm ? n : 0;
}

static void outputs_check(bool all)
{
	struct look l = { 0 };

	while (look_row(
		&l,
		all ? "SELECT id, logs_seq, logs_bytes, logs_cut FROM leases WHERE logs_expired = 0 AND NOT EXISTS"
		      " (SELECT 1 FROM workloads w WHERE w.id = workload_id AND w.removed_ms > 0)"
		    : "SELECT id, logs_seq, logs_bytes, logs_cut FROM leases WHERE state <> 'ended'",
		DB_NO_ARGS)) {
		const struct truth *t = truth_find(look_text(&l, 0));

		output_check(look_text(&l, 0), look_int(&l, 1), look_int(&l, 2),
			     look_int(&l, 3));
		if (t && look_int(&l, 1) > truth_lines(t))
			broken("output", "of %s: %" PRId64 " lines, it wrote %" PRId64,
			       t->lease, look_int(&l, 1), truth_lines(t));
		if (all && t && t->delivered && !look_int(&l, 3) && look_int(&l, 1) != t->lines)
			broken("output", "of %s is not whole: %" PRId64 " of %" PRId64 " lines",
			       t->lease, look_int(&l, 1), t->lines);
	}
}

static void result_check(const char *id, const char *path, const char *lease)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	char key[64], wanted[160];
	struct err err = { 0 };

	snprintf(key, sizeof(key), "results/%s", id);
	result_text(lease, strtoll(path + 4, NULL, 10), wanted);
	if (blob_read(server_blobs(), key, 0, 4096, &text, &err) < 0)
		broken("results", "%s of %s: %s", path, lease, err.text);
	else if (!str_eq(text.buf, wanted))
		broken("results", "%s of %s is \"%.80s\"", path, lease, text.buf);
	sim.out->totals.results++;
}

static void results_check(void)
{
	struct look l = { 0 };
	struct truth *t;
	size_t it = 0;

	while (look_row(
		&l,
		"SELECT r.id, path, r.lease_id FROM results r JOIN workloads w ON w.id = r.workload_id"
		" WHERE w.removed_ms = 0",
		DB_NO_ARGS))
		result_check(look_text(&l, 0), look_text(&l, 1), look_text(&l, 2));
	while (truth_next(&it, &t))
		if (t->delivered &&
		    look_number(
			    "SELECT COUNT(*) FROM workloads w JOIN leases l ON l.workload_id = w.id"
			    " WHERE l.id = $1 AND w.removed_ms = 0",
			    DB_ARGS(DB_TEXT(t->lease))) &&
		    look_number("SELECT COUNT(*) FROM results WHERE lease_id = $1",
				DB_ARGS(DB_TEXT(t->lease))) != t->results)
			broken("results", "of %s: %" PRId64 " were delivered, others are there",
			       t->lease, t->results);
}

/* ---- together --------------------------------------------------------------------------------------------------------- */

void check_audit(void)
{
	if (sim.out->failed)
		return;
	sim.out->totals.audits++;
	check_all();
	ledger_check();
	holds_check();
	final_check();
	chain_check();
	told_check();
	keys_check();
	follow_check();
	outputs_check(false);
	liar_check();
}

static struct map *disagreeing; /* leases at the last look, for what they are to do */

static bool does_agree(const char *lease, const char *worker, const char *desired, const char *state)
{
	const struct truth *t = truth_find(lease);
	int m = machine_find(worker), wish;
	bool ready;

	if (m < 0 || !machine_wish(m, lease, &wish, &ready) || !str_eq(lease_desired_names[wish], desired))
		return false;
	if (wish != DESIRE_RUN)
		return !t || !t->running;
	/* Ready, and neither at the end of its work nor of what is paid for. */
	return !str_eq(state, "running") || !ready || !t || t->running || t->exited ||
	       truth_run_ms(t) - MAX(t->ready_ms, INT64_C(0)) >= t->funded_ms;
}

/* Some time after the last fault: machines have what the server wants, do with it what the server wants, and have
 * nothing else. */
void check_converged(bool again)
{
	struct map *now = map_new();
	struct look l = { 0 };
	struct truth *const *run;
	size_t n;

	while (look_row(&l, "SELECT id, worker_id, desired, state, reason FROM leases WHERE state <> 'ended'",
			DB_NO_ARGS)) {
		const char *lease = look_text(&l, 0), *desired = look_text(&l, 2), *before;

		if (does_agree(lease, look_text(&l, 1), desired, look_text(&l, 3)))
			continue;
		before = again ? map_find(disagreeing, lease) : NULL;
		if (before && str_eq(before, desired))
			broken("converge", "%s is %s (%s) and to %s, which its machine does not do", lease,
			       look_text(&l, 3), look_text(&l, 4), desired);
		map_put(now, lease, xstrdup(desired));
	}
	map_free(disagreeing, free);
	disagreeing = now;
	truths_running(&run, &n);
	for (size_t i = 0; i < n; i++)
		if (!run[i]->seen || (run[i]->seen->ended && sim.now_ms - run[i]->seen->ended_seen_ms > 90 * SECOND_MS))
			broken("converge", "%s has ended and still runs", run[i]->lease);
	if (look_number("SELECT COUNT(*) FROM workers WHERE state <> 'online'", DB_NO_ARGS))
		broken("converge", "a worker that is there counts as offline");
}

static void none(const char *check, const char *what, const char *sql)
{
	int64_t n = look_number(sql, DB_NO_ARGS);

	if (n)
		broken(check, "%" PRId64 " %s", n, what);
}

static void watchers_check(void)
{
	for (int i = 0; i < sim.o.customers; i++) {
		const struct customer *c = &customers[i];
		int64_t there = look_number("SELECT COUNT(*) FROM events WHERE org_id = $1",
					    DB_ARGS(DB_TEXT(c->org)));

		if (there != c->seen_count)
			broken("events", "%s was told %" PRId64 " events, there are %" PRId64,
			       c->org, c->seen_count, there);
	}
}

void check_end(void)
{
	struct truth *t;
	size_t it = 0;

	check_audit();
	outputs_check(true);
	results_check();
	none("liveness", "leases have not ended",
	     "SELECT COUNT(*) FROM leases WHERE state <> 'ended'");
	none("liveness", "workloads have not ended",
	     "SELECT COUNT(*) FROM workloads WHERE ended_ms = 0");
	none("liveness", "events are not announced",
	     "SELECT COUNT(*) FROM events WHERE seq IS NULL");
	none("capacity", "devices are claimed for nothing",
	     "SELECT COUNT(*) FROM device_claims");
	none("money", "accounts hold money for nothing",
	     "SELECT COUNT(*) FROM accounts WHERE debits_pending <> 0 OR credits_pending <> 0");
	while (truth_next(&it, &t)) {
		if (t->running || t->live)
			broken("liveness", "the container of %s is still there", t->lease);
	}
	for (int i = 0; i < sim.o.machines; i++)
		if (machine_lease_count(i))
			broken("liveness", "machine %d still has %zu leases", i,
			       machine_lease_count(i));
	people_check();
	watchers_check();
}
