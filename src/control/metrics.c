/* /metrics in Prometheus' text format: counters of this process, and gauges read from the store when asked.  A store keeps
 * what has ended for years and is asked every few seconds: gauges are of what lives, what ended is counted. */
#include "internal.h"

struct metrics {
	pthread_mutex_t lock;
	struct map *counters; /* name, with its label if it has one -> int64_t */
};

struct metrics *metrics_new(void)
{
	struct metrics *m = xcalloc(1, sizeof(*m));

	pthread_mutex_init(&m->lock, NULL);
	m->counters = map_new();
	return m;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	map_free(m->counters, free);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* A model's name comes from a worker: what would end the label is escaped, as the format says. */
static void label_add(struct strbuf *out, const char *name, const char *label, const char *value)
{
	strbuf_addf(out, "%s{%s=\"", name, label);
	for (const char *p = value ? value : ""; *p; p++) {
		if (*p == '\n') {
			strbuf_adds(out, "\\n");
			continue;
		}
		if (*p == '"' || *p == '\\')
			strbuf_addc(out, '\\');
		strbuf_addc(out, *p);
	}
	strbuf_adds(out, "\"}");
}

/* ---- counters -------------------------------------------------------------------------------------------------- */

struct count_arg {
	struct metrics *m;
	int64_t add;
	char name[128];
};

static void count_run(void *arg)
{
	struct count_arg *x = arg;
	int64_t *value;

	pthread_mutex_lock(&x->m->lock);
	value = map_find(x->m->counters, x->name);
	if (!value)
		map_put(x->m->counters, x->name, value = xcalloc(1, sizeof(*value)));
	*value += x->add;
	pthread_mutex_unlock(&x->m->lock);
}

void metrics_count(struct control *c, struct db_conn *conn, const char *name, int64_t add)
{
	struct count_arg now = { .m = c->metrics, .add = add }, *later;

	snprintf(now.name, sizeof(now.name), "%s", name);
	if (!conn || !db_in_tx(conn)) {
		count_run(&now);
		return;
	}
	later = xcalloc(1, sizeof(*later));
	*later = now;
	db_after_commit(conn, count_run, free, later);
}

void metrics_count_label(struct control *c, struct db_conn *conn, const char *name, const char *label, const char *value,
			 int64_t add)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	label_add(&text, name, label, value);
	metrics_count(c, conn, text.buf, add);
}

/* ---- the page ---------------------------------------------------------------------------------------------------- */

static void head(struct strbuf *out, const char *name, const char *type, const char *help)
{
	strbuf_addf(out, "# HELP tes_%s %s\n# TYPE tes_%s %s\n", name, help, name, type);
}

static void labelled(struct strbuf *out, const char *name, const char *label, const char *value, int64_t number)
{
	strbuf_adds(out, "tes_");
	label_add(out, name, label, value);
	strbuf_addf(out, " %" PRId64 "\n", number);
}

/* "SELECT label, number": one line a row. */
static int by_label(struct db_conn *conn, const char *name, const char *label, const char *help, const char *sql,
		    struct strbuf *out, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	cleanup_rows struct db_rows *rows = NULL;
	int rc;

	if (db_query(conn, sql, DB_NO_ARGS, &rows, err) < 0)
		return -1;
	head(out, name, "gauge", help);
	while ((rc = db_next(rows, err)) > 0)
		labelled(out, name, label, db_text(rows, 0, &arena), db_int(rows, 1));
	return rc;
}

static int number(struct db_conn *conn, const char *name, const char *help, const char *sql, struct strbuf *out, struct err *err)
{
	int64_t value;

	if (db_query_int(conn, sql, DB_NO_ARGS, 0, &value, err) < 0)
		return -1;
	head(out, name, "gauge", help);
	strbuf_addf(out, "tes_%s %" PRId64 "\n", name, value);
	return 0;
}

static void server_stats(struct control *c, struct strbuf *out)
{
	/* A request may come before the server has been told to us. */
	struct http_server *server = __atomic_load_n(&c->server, __ATOMIC_ACQUIRE);
	struct http_server_stats s;

	if (!server)
		return;
	http_server_stats(server, &s);
	head(out, "http_requests_total", "counter", "Requests answered.");
	strbuf_addf(out, "tes_http_requests_total %" PRId64 "\n", s.requests);
	head(out, "http_errors_total", "counter", "Requests answered with a 5xx.");
	strbuf_addf(out, "tes_http_errors_total %" PRId64 "\n", s.responses_5xx);
	head(out, "http_queue_length", "gauge", "Requests waiting for a thread.");
	strbuf_addf(out, "tes_http_queue_length %" PRId64 "\n", s.queue_len);
	head(out, "http_queue_full_total", "counter", "Requests refused because the queue was full.");
	strbuf_addf(out, "tes_http_queue_full_total %" PRId64 "\n", s.queue_full);
	head(out, "http_connections", "gauge", "Open connections.");
	strbuf_addf(out, "tes_http_connections %" PRId64 "\n", s.connections);
	head(out, "http_streams", "gauge", "Open event streams.");
	strbuf_addf(out, "tes_http_streams %" PRId64 "\n", s.streams);
}

/* Those of one name, with their labels, are together, below one head. */
static void counters(struct control *c, struct strbuf *out)
{
	struct map *map = c->metrics->counters;
	VEC(const char *) names = { 0 };
	char last[128] = "";
	const char *name;
	void *value;
	size_t it = 0;

	pthread_mutex_lock(&c->metrics->lock);
	while (map_next(map, &it, &name, &value))
		*vec_push(&names) = name;
	if (names.len)
		qsort(names.items, names.len, sizeof(*names.items), text_order);
	for (size_t i = 0; i < names.len; i++) {
		char base[sizeof(last)];

		snprintf(base, sizeof(base), "%.*s", (int)strcspn(names.items[i], "{"), names.items[i]);
		if (!str_eq(base, last))
			head(out, base, "counter", "Since the start of this process.");
		memcpy(last, base, sizeof(last));
		strbuf_addf(out, "tes_%s %" PRId64 "\n", names.items[i], *(int64_t *)map_find(map, names.items[i]));
	}
	pthread_mutex_unlock(&c->metrics->lock);
	vec_release(&names);
}

static void pool_gauges(struct control *c, struct strbuf *out)
{
	cleanup_arena struct arena arena = { 0 };
	struct pool_sum *sums;
	size_t len = scheduler_sums(c, &arena, &sums);

	head(out, "pool_gpus", "gauge", "Devices of online workers, by model.");
	for (size_t i = 0; i < len; i++)
		labelled(out, "pool_gpus", "model", sums[i].gpu_model, sums[i].gpus);
	head(out, "pool_gpus_free", "gauge", "Of these, not leased.");
	for (size_t i = 0; i < len; i++)
		labelled(out, "pool_gpus_free", "model", sums[i].gpu_model, sums[i].gpus_free);
}

int metrics_write(struct control *c, struct db_conn *conn, struct strbuf *out, struct err *err)
{
	char oldest[160];

	snprintf(oldest, sizeof(oldest), "SELECT COALESCE((%" PRId64 " - MIN(created_ms)) / 1000, 0) FROM replicas WHERE state = 'pending'",
		 control_now(c));
	if (by_label(conn, "workers", "state", "Workers by state.", "SELECT state, COUNT(*) FROM workers GROUP BY state", out, err) < 0 ||
	    by_label(conn, "workloads", "state", "Workloads that have not ended, by state.",
		     "SELECT state, COUNT(*) FROM workloads WHERE ended_ms = 0 GROUP BY state", out, err) < 0 ||
	    by_label(conn, "leases", "state", "Leases that have not ended, by state.",
		     /* For "<> 'ended'" SQLite would walk over all that ever were. */
		     "SELECT state, COUNT(*) FROM leases WHERE state < 'ended' GROUP BY state UNION ALL"
		     " SELECT state, COUNT(*) FROM leases WHERE state > 'ended' GROUP BY state", out, err) < 0 ||
	    number(conn, "workloads_pending_oldest_seconds", "Age of the oldest workload that has no lease.", oldest, out, err) < 0 ||
	    number(conn, "ledger_imbalance_uusd", "Sum of debits minus sum of credits, posted and pending: anything but 0 is a fault.",
		   "SELECT COALESCE(SUM(debits_posted + debits_pending - credits_posted - credits_pending), 0) FROM accounts", out, err) < 0 ||
	    number(conn, "events_unpublished", "Committed events that are not announced yet.", "SELECT COUNT(*) FROM events WHERE seq IS NULL",
		   out, err) < 0)
		return -1;
	pool_gauges(c, out);
	server_stats(c, out);
	counters(c, out);
	head(out, "start_time_seconds", "gauge", "When this process started, in seconds since 1970.");
	strbuf_addf(out, "tes_start_time_seconds %" PRId64 "\n", c->started_ms / 1000);
	return 0;
}
