/* Customers who submit, look, stop and watch; the operator who books money and blocks workers; owners who change their
 * minds.  All of them ask again until they have an answer. */
#include "people.h"

#include "../../src/db/db.h"

#define PACE_MAX 100 /* times as many submissions, in a large network */

struct customer customers[CUSTOMER_MAX];
static char provider[ID_SIZE];

const char *customer_org(int i)
{
	return customers[i].org;
}

const char *provider_org(void)
{
	return provider;
}

/* Some histories are of people with little money, whose leases are paused and ended for want of it. */
bool is_poor(void)
{
	return sim.o.seed % 3 == 0;
}

int64_t sum_choose(void)
{
	return rng_in(&sim.life, 1, 30) * (is_poor() ? 4000 : 100000) * MIN(sim_scale(), PACE_MAX);
}

/* Nobody knows whether it was done: ask again. */
static bool is_open(const struct err *err)
{
	return err && (err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT ||
		       err->code == ERR_RETRY);
}

static struct rpc *call_new(struct customer *c, int op,
			    void (*done)(struct rpc *, const struct err *, struct slice),
			    void *arg)
{
	struct rpc *r = rpc_new(op, c->node, c->org, false);

	r->done = done;
	r->arg = arg;
	return r;
}

/* ---- submitting --------------------------------------------------------------------------------------------- */

static void submit(void *arg);
static void stop(void *arg);

static void submitted(struct rpc *r, const struct err *err, struct slice answer)
{
	struct job *j = r->arg;
	cleanup_arena struct arena a = { 0 };
	struct workload w;
	struct err why = { 0 };

	if (is_open(err)) {
		at(sim.now_ms + rng_in(&sim.life, 100, 10 * SECOND_MS), submit, j);
		return;
	}
	if (err) {
		j->state = JOB_REFUSED;
		return;
	}
	if (schema_parse(&workload_type, answer, FROM_SERVER, &a, &w, &why) < 0)
		broken("wire", "a workload cannot be read: %s %s", why.field, why.text);
	else if (j->workload[0] && !str_eq(j->workload, w.id))
		broken("idempotency", "key %s gave %s and then %s", j->key, j->workload, w.id);
	if (why.code || j->state == JOB_MADE)
		return;
	j->state = JOB_MADE;
	snprintf(j->workload, sizeof(j->workload), "%s", w.id);
	if (j->stop_after_ms >= 0 || sim.calm)
		at(sim.now_ms + MAX(j->stop_after_ms, INT64_C(0)), stop, j);
	/* A customer whose program asks twice for good measure. */
	if (rng_chance(&sim.life, 50000))
		at(sim.now_ms + rng_in(&sim.life, 1, MINUTE_MS), submit, j);
}

static void submit(void *arg)
{
	struct job *j = arg;
	struct rpc *r = call_new(j->customer, OP_workload_create, submitted, j);

	r->key = xstrdup(j->key);
	r->body = xstrdup(j->spec);
	net_call(r);
}

static const char *number_text(struct arena *a, int64_t n)
{
	return arena_printf(a, "%" PRId64, n);
}

/* What somebody might want to run; the command tells the simulated container what to do. */
static void spec_make(struct job *j, const char *quote)
{
	struct rng *r = &sim.life;
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct resources want = { .cpu_milli = rng_in(r, 1, 8) * 500,
				  .memory_mib = rng_in(r, 1, 8) * 1024,
				  .disk_mib = 1024,
				  .gpus = rng_chance(r, 500000) ? rng_in(r, 1, 2) : 0 };
	bool is_instance = rng_chance(r, is_poor() ? 500000 : 150000),
	     has_ready = rng_chance(r, 150000);
	int64_t results = rng_chance(r, 400000) ? rng_in(r, 1, 3) : 0;
	int64_t work_ms =
		is_instance ? -1 : rng_in(r, 1, rng_chance(r, 500000) ? 60 : 900) * SECOND_MS;
	int64_t exit_code = rng_chance(r, 120000) ? 1 : rng_chance(r, 30000) ? 138 : 0;
	struct readiness ready = { .command = { (const char *[]){ "true" }, 1 },
				   .timeout_s = rng_in(r, 10, 90) };
	const char *command[] = { "run",
				  number_text(&a, work_ms),
				  number_text(&a, exit_code),
				  number_text(&a, rng_in(r, 1, 30) * SECOND_MS),
				  number_text(&a, !has_ready ? 0
						  : rng_chance(r, 100000)
							  ? -1
							  : rng_in(r, 0, 40 * SECOND_MS)),
				  number_text(&a, results) };
	struct workload_input input = { j->input, "data" };
	struct text_map_item env = { "SIM_KEY", j->key }, secret = { "SIM_SECRET", "shh" };
	struct workload_spec spec = {
		.kind = is_instance ? WORKLOAD_INSTANCE : WORKLOAD_JOB,
		.image = "docker.io/library/debian:12",
		.command = { command, ARRAY_LEN(command) },
		.env = { &env, 1 },
		.resources = &want,
		.quote = quote,
		.outputs = { (const char *[]){ "/out" }, results ? 1 : 0 },
		.ready = has_ready ? &ready : NULL,
		.prepare_timeout_s = rng_in(r, 20, 600),
		.retries = rng_in(r, 0, 3),
		.max_duration_s = rng_chance(r, 250000) ? rng_in(r, 10, 600) : 0,
		.max_price_uusd_h = quote || rng_chance(r, is_poor() ? 800000 : 300000)
					    ? 0
					    : rng_in(r, 1, 100) * 100000,
		.secrets = { &secret, rng_chance(r, 200000) ? 1 : 0 },
		.inputs = { &input, j->input[0] ? 1 : 0 },
	};

	j->stop_after_ms = is_instance || rng_chance(r, 250000)
				   ? rng_in(r, 0, (is_poor() ? 60 : 15) * MINUTE_MS)
				   : -1;
	j->work_ms = work_ms;
	j->exit_code = exit_code;
	if (quote)
		want = j->customer->quoted;
	else
		j->customer->quoted = want;
	schema_write_input(&workload_spec_type, &spec, &text);
	j->spec = strbuf_take(&text);
}

static struct job *job_new(struct customer *c)
{
	struct job *j = xcalloc(1, sizeof(*j));

	*vec_push(&c->jobs) = j;
	j->customer = c;
	snprintf(j->key, sizeof(j->key), "c%d-%zu", c->number, c->jobs.len);
	return j;
}

static void uploaded(struct rpc *r, const struct err *err, struct slice answer);

static void upload(void *arg)
{
	struct job *j = arg;
	struct rpc *r = call_new(j->customer, OP_input_create, uploaded, j);

	r->upload = xstrdup(j->key);
	r->upload_len = strlen(j->key);
	net_call(r);
}

static void uploaded(struct rpc *r, const struct err *err, struct slice answer)
{
	struct job *j = r->arg;
	cleanup_arena struct arena a = { 0 };
	struct input in;
	struct err why = { 0 };

	if (is_open(err)) {
		at(sim.now_ms + rng_in(&sim.life, 100, 10 * SECOND_MS), upload, j);
		return;
	}
	if (err || schema_parse(&input_type, answer, FROM_SERVER, &a, &in, &why) < 0) {
		broken("inputs", "cannot be uploaded: %s", err ? err->text : why.text);
		return;
	}
	snprintf(j->input, sizeof(j->input), "%s", in.id);
	spec_make(j, NULL);
	submit(j);
}

static void quoted(struct rpc *r, const struct err *err, struct slice answer)
{
	struct job *j = r->arg;
	cleanup_arena struct arena a = { 0 };
	struct quote q = { 0 };
	struct err why = { 0 };

	if (!err && schema_parse(&quote_type, answer, FROM_SERVER, &a, &q, &why) < 0)
		broken("wire", "a quote cannot be read: %s %s", why.field, why.text);
	spec_make(j, err ? NULL : q.id);
	submit(j);
}

static void submit_again(void *arg)
{
	struct customer *c = arg;
	struct job *j;

	if (sim.calm)
		return;
	j = job_new(c);
	if (rng_chance(&sim.life, 150000)) {
		struct resources want = { .cpu_milli = 1000,
					  .memory_mib = 1024,
					  .disk_mib = 1024,
					  .gpus = rng_in(&sim.life, 0, 1) };
		struct quote_request in = { .resources = &want };
		struct rpc *r = call_new(c, OP_quote_create, quoted, j);

		c->quoted = want;
		rpc_body(r, &quote_request_type, &in);
		net_call(r);
	} else if (rng_chance(&sim.life, 200000)) {
		upload(j);
	} else {
		spec_make(j, NULL);
		submit(j);
	}
	at(sim.now_ms + rng_in(&sim.life, 5 * SECOND_MS, c->pace_ms) / MIN(sim_scale(), PACE_MAX), submit_again, c);
}

/* ---- stopping -------------------------------------------------------------------------------------------------- */

static void stopped(struct rpc *r, const struct err *err, struct slice answer)
{
	struct job *j = r->arg;

	(void)answer;
	if (is_open(err)) {
		at(sim.now_ms + rng_in(&sim.life, 100, 10 * SECOND_MS), stop, j);
		return;
	}
	if (err && (err->code != ERR_NOT_FOUND || !j->remove_asked))
		broken("stop", "%s cannot be stopped: %s", j->workload, err->text);
	j->stop_told_ms = sim.now_ms;
}

static void stop(void *arg)
{
	struct job *j = arg;
	struct rpc *r = call_new(j->customer, OP_workload_stop, stopped, j);

	r->params[0] = xstrdup(j->workload);
	net_call(r);
}

/* ---- removing ------------------------------------------------------------------------------------------------------ */

static void removed(struct rpc *r, const struct err *err, struct slice answer)
{
	struct job *j = r->arg;

	(void)answer;
	if (err && !is_open(err) && err->code != ERR_CONFLICT && err->code != ERR_NOT_FOUND)
		broken("remove", "%s: %s", j->workload, err->text);
}

/* ERR_CONFLICT while it has not ended, ERR_NOT_FOUND after an answer that was lost. */
static void remove_one(struct customer *c, struct job *j)
{
	struct rpc *r = call_new(c, OP_workload_remove, removed, j);

	j->remove_asked = true;
	r->params[0] = xstrdup(j->workload);
	net_call(r);
}

/* ---- looking ------------------------------------------------------------------------------------------------------- */

static void bill_look(const struct bill *b)
{
	int64_t sum = 0;

	for (size_t i = 0; i < b->lines.len; i++) {
		const struct bill_line *l = &b->lines.items[i];

		sum += l->amount_uusd;
		if (l->amount_uusd != owed_uusd(l->rate_uusd_h, l->seconds * SECOND_MS))
			broken("bill", "%s: %" PRId64 " s at %" PRId64 " are not %" PRId64,
			       l->lease_id, l->seconds, l->rate_uusd_h, l->amount_uusd);
	}
	if (sum != b->total_uusd)
		broken("bill", "of %s: the lines make %" PRId64 ", the total is %" PRId64,
		       b->workload_id, sum, b->total_uusd);
}

static void looked(struct rpc *r, const struct err *err, struct slice answer)
{
	struct err why = { 0 };
	cleanup_arena struct arena a = { 0 };
	const struct type *t = operations[r->op].out;

	if (err)
		return;
	void *out = arena_alloc(&a, t->size);

	if (schema_parse(t, answer, FROM_SERVER, &a, out, &why) < 0) {
		broken("wire", "the answer of %s cannot be read: %s %s", operations[r->op].name,
		       why.field, why.text);
		return;
	}
	if (r->op == OP_workload_bill) {
		bill_look(out);
	} else if (r->op == OP_org_balance) {
		const struct balance *b = out;

		if (b->available_uusd < 0 || b->available_uusd != b->posted_uusd - b->held_uusd)
			broken("balance",
			       "%" PRId64 " there, %" PRId64 " held, %" PRId64 " free",
			       b->posted_uusd, b->held_uusd, b->available_uusd);
	}
}

static void look_again(void *arg)
{
	static const int ops[] = { OP_workload_show,   OP_workload_bill, OP_workload_explain,
				   OP_workload_leases, OP_workload_logs, OP_workload_results,
				   OP_org_balance,     OP_workload_list, OP_org_transfers };
	struct customer *c = arg;
	int op = ops[rng_in(&sim.life, 0, ARRAY_LEN(ops) - 1)];
	struct job *j =
		c->jobs.len ? c->jobs.items[rng_in(&sim.life, 0, c->jobs.len - 1)] : NULL;
	bool needs_job = strchr(operations[op].path, '{') != NULL;

	if (sim.over)
		return;
	if (j && j->state == JOB_MADE && j->stop_told_ms && rng_chance(&sim.life, 200000))
		remove_one(c, j);
	if (!needs_job || (j && j->state == JOB_MADE)) {
		struct rpc *r = call_new(c, op, looked, NULL);

		if (needs_job)
			r->params[0] = xstrdup(j->workload);
		net_call(r);
	}
	at(sim.now_ms + rng_in(&sim.life, 30 * SECOND_MS, 5 * MINUTE_MS), look_again, c);
}

/* ---- watching: the organisation's events, each once and in order ------------------------------------------------------ */

static void watch(void *arg);

static void watch_event(void *arg, unsigned id, const char *event, const char *mark,
			struct slice data)
{
	struct customer *c = arg;
	cleanup_arena struct arena a = { 0 };
	struct event e;
	struct err err = { 0 };

	(void)event;
	if (!c->stream || c->stream->id != id)
		return;
	if (schema_parse(&event_type, data, FROM_SERVER, &a, &e, &err) < 0)
		broken("wire", "an event cannot be read: %s %s", err.field, err.text);
	else if (e.seq <= c->seen_seq)
		broken("events", "%s is told event %" PRId64 " after %" PRId64, c->org, e.seq,
		       c->seen_seq);
	else if (!str_eq(e.org_id, c->org))
		broken("events", "%s is told an event of %s", c->org, e.org_id);
	else
		c->seen_seq = e.seq;
	c->seen_count++;
	snprintf(c->mark, sizeof(c->mark), "%s", mark);
}

static void watch_closed(void *arg, unsigned id)
{
	struct customer *c = arg;

	if (!c->stream || c->stream->id != id)
		return;
	c->stream = NULL;
	at(sim.now_ms + rng_in(&sim.life, 100, 3 * SECOND_MS), watch, c);
}

static void watch_refused(struct rpc *r, const struct err *err, struct slice answer)
{
	struct customer *c = r->arg;

	(void)err;
	(void)answer;
	c->stream = NULL;
	at(sim.now_ms + rng_in(&sim.life, SECOND_MS, 5 * SECOND_MS), watch, c);
}

static void watch(void *arg)
{
	struct customer *c = arg;
	struct event_query in = { .limit = 100, .follow = true };
	struct rpc *r;

	if (c->stream)
		return;
	r = call_new(c, OP_event_list, watch_refused, c);
	rpc_body(r, &event_query_type, &in);
	if (c->mark[0])
		r->last_event_id = xstrdup(c->mark);
	c->stream = net_stream(r, watch_event, watch_closed, c);
}

/* ---- setting up ----------------------------------------------------------------------------------------------------------- */

struct caught {
	const struct type *type;
	struct arena *a;
	void *ret;
	bool ok;
};

static void catch_answer(struct rpc *r, const struct err *err, struct slice answer)
{
	struct caught *x = r->arg;
	struct err why = { 0 };

	x->ok = !err && schema_parse(x->type, answer, FROM_SERVER, x->a, x->ret, &why) == 0;
	if (!x->ok)
		broken("setup", "%s: %s", operations[r->op].name, err ? err->text : why.text);
}

int quiet_call(int op, const char *caller, const struct type *in_type, const void *in,
	       struct arena *a, void *ret)
{
	struct rpc *r = rpc_new(op, NODE_OPERATOR, caller, false);
	struct caught x = { operations[op].out, a, ret, false };

	rpc_body(r, in_type, in);
	r->quiet = true;
	r->done = catch_answer;
	r->arg = &x;
	net_call(r);
	return x.ok ? 0 : -1;
}

static int org_make(const char *name, char ret[static ID_SIZE])
{
	const char *const argv[] = { "org", "create", name };
	cleanup_arena struct arena a = { 0 };
	cleanup_rows struct db_rows *rows = NULL;
	struct err err = { 0 };

	if (operator_command(3, argv) != 0 ||
	    db_query(checker_conn(), "SELECT id FROM orgs WHERE name = $1",
		     DB_ARGS(DB_TEXT(name)), &rows, &err) < 0 ||
	    db_next(rows, &err) != 1)
		return -1;
	snprintf(ret, ID_SIZE, "%s", db_text(rows, 0, &a));
	return 0;
}

int people_setup(void)
{
	struct err err = { 0 };

	if (org_make("provider", provider) < 0 || owners_join() < 0)
		return -1;
	for (int i = 0; i < sim.o.customers; i++) {
		struct customer *c = &customers[i];
		char name[24];

		*c = (struct customer){ .number = i,
					.node = node_of_customer(i),
					.pace_ms = rng_in(&sim.life, 40, 400) * SECOND_MS };
		snprintf(name, sizeof(name), "customer%d", i);
		if (org_make(name, c->org) < 0 ||
		    operator_deposit(c->org, ++c->deposits, sum_choose(), &err) < 0)
			return -1;
	}
	return 0;
}

void people_start(void)
{
	owners_start();
	for (int i = 0; i < sim.o.customers; i++) {
		at(sim.now_ms + rng_in(&sim.life, 10, 60) * SECOND_MS, submit_again,
		   &customers[i]);
		at(sim.now_ms + MINUTE_MS, look_again, &customers[i]);
		at(sim.now_ms + SECOND_MS, watch, &customers[i]);
	}
}

void people_calm(void)
{
	owners_calm();
}

/* A request that came late may have made what its customer had given up: a look at the list tells. */
static void list_look(void)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_rows struct db_rows *rows = NULL;
	struct err err = { 0 };

	checker_begin();
	if (db_query(checker_conn(),
		     "SELECT id, spec FROM workloads WHERE ended_ms = 0 ORDER BY id",
		     DB_NO_ARGS, &rows, &err) < 0)
		broken("checker", "%s", err.text);
	while (rows && db_next(rows, &err) > 0) {
		const char *at = strstr(db_text(rows, 1, &a), "\"SIM_KEY\":\"c");
		int customer = at ? atoi(at + 12) : 0;
		size_t number = at ? strtoul(strchr(at + 12, '-') + 1, NULL, 10) : 0;

		if (!number || customer >= sim.o.customers ||
		    number > customers[customer].jobs.len)
			continue;
		struct job *j = customers[customer].jobs.items[number - 1];

		j->state = JOB_MADE;
		snprintf(j->workload, sizeof(j->workload), "%s", db_text(rows, 0, &a));
	}
	checker_end();
}

void people_stop_all(void)
{
	note("everything is stopped");
	list_look();
	for (int i = 0; i < sim.o.customers; i++)
		for (size_t k = 0; k < customers[i].jobs.len; k++)
			if (customers[i].jobs.items[k]->state == JOB_MADE)
				at(sim.now_ms + rng_in(&sim.life, 0, 5000), stop,
				   customers[i].jobs.items[k]);
}

bool people_idle(void)
{
	for (int i = 0; i < sim.o.machines; i++)
		if (machine_lease_count(i))
			return false;
	return true;
}

void people_free(void)
{
	for (int i = 0; i < sim.o.customers; i++) {
		for (size_t k = 0; k < customers[i].jobs.len; k++) {
			free(customers[i].jobs.items[k]->spec);
			free(customers[i].jobs.items[k]);
		}
		vec_release(&customers[i].jobs);
	}
}

/* What customers know, against what the server says of it. */
void people_check(void)
{
	for (int i = 0; i < sim.o.customers; i++)
		for (size_t k = 0; k < customers[i].jobs.len; k++) {
			const struct job *j = customers[i].jobs.items[k];
			cleanup_arena struct arena a = { 0 };
			struct workload w;
			struct err err = { 0 };

			if (j->state == JOB_ASKED)
				broken("people", "submission %s was never answered", j->key);
			if (j->state != JOB_MADE)
				continue;
			checker_begin();
			if (db_get(checker_conn(), &workload_type, "workloads", "WHERE id = $1",
				   DB_ARGS(DB_TEXT(j->workload)), &a, &w, &err) < 0)
				broken("people", "%s was made and is not there: %s",
				       j->workload, err.text);
			else if (w.state == WORKLOAD_SUCCEEDED &&
				 (j->exit_code != 0 || w.exit_code != 0 || j->work_ms < 0))
				broken("outcome", "%s has succeeded with status %" PRId64,
				       j->workload, j->exit_code);
			checker_end();
		}
}
