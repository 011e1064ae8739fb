/* The steps of a lease in the worker, as src/worker/act.c does them, each with the places where the process may die. */
#include "machine.h"

#define STOP_MAX_MS (10 * SECOND_MS)

/* ---- steps that last -------------------------------------------------------------------------------------- */

struct lasting {
	struct machine *m;
	unsigned epoch, serial;
	char id[ID_SIZE];
	void (*then)(struct task *t);
};

static void lasting_over(void *arg)
{
	struct lasting *x = arg;
	struct task *t = x->m->up && x->m->epoch == x->epoch ? task_find(x->m, x->id) : NULL;

	if (t && t->busy && t->busy_serial == x->serial) {
		t->busy = false;
		x->then(t);
	}
	free(x);
}

static void lasts(struct task *t, int64_t ms, void (*then)(struct task *t))
{
	struct lasting *x = xcalloc(1, sizeof(*x));

	t->busy = true;
	*x = (struct lasting){
		.m = t->m, .epoch = t->m->epoch, .serial = ++t->busy_serial, .then = then
	};
	snprintf(x->id, sizeof(x->id), "%s", t->id);
	at(sim.now_ms + ms, lasting_over, x);
}

static void phase(struct task *t, const char *what, int64_t done)
{
	snprintf(t->phase, sizeof(t->phase), "%s", what);
	t->progress_done = done;
	process_observe_soon(t->m);
}

static void fail(struct task *t, enum lease_reason reason, const char *text)
{
	t->j.end_state = OBSERVED_FAILED;
	t->j.end_reason = reason;
	t->j.end_text = arena_strdup(&t->arena, text);
	note("%s: %s fails: %s: %s", t->m->name, t->id, lease_reason_names[reason], text);
	task_step_in(t, 1);
}

/* ---- preparing ----------------------------------------------------------------------------------------------- */

static bool holds(const struct task *t)
{
	return t->j.desired && t->j.desired->resources && !t->j.ended && t->j.created;
}

static bool shares_device(const struct desired_lease *a, const struct desired_lease *b)
{
	for (size_t i = 0; i < a->devices.len; i++)
		for (size_t k = 0; k < b->devices.len; k++)
			if (str_eq(a->devices.items[i], b->devices.items[k]))
				return true;
	return false;
}

/* Its end is under way. */
static bool leaves(const struct task *t)
{
	return t->j.end_state != OBSERVED_ACCEPTED || t->j.desired->desired == DESIRE_STOP ||
	       t->j.desired->desired == DESIRE_NONE ||
	       (t->next && (t->next->d.desired == DESIRE_STOP ||
			    t->next->d.desired == DESIRE_NONE));
}

/* As agent_fits: what the owner offers, beside what is there. */
static const char *misfit(struct task *mine, bool with_leaving)
{
	const struct desired_lease *d = mine->j.desired;
	struct machine *m = mine->m;
	int64_t cpu_milli = d->resources->cpu_milli, memory_mib = d->resources->memory_mib;
	size_t it = 0;
	const char *id;
	void *value;

	while (map_next(m->tasks, &it, &id, &value)) {
		struct task *t = value;

		if (t == mine || !holds(t) || (!with_leaving && leaves(t)))
			continue;
		if (shares_device(d, t->j.desired))
			return "a GPU is in use by another lease";
		cpu_milli += t->j.desired->resources->cpu_milli;
		memory_mib += t->j.desired->resources->memory_mib;
	}
	for (size_t i = 0; i < d->devices.len; i++) {
		int k = 0;

		while (k < m->devices_shown && !str_eq(m->uuids[k], d->devices.items[i]))
			k++;
		if (k == m->devices_shown)
			return "a GPU is not offered by this machine";
	}
	return cpu_milli > m->cpu_milli || memory_mib > m->memory_mib ? "it does not fit"
								      : NULL;
}

static void fetch(struct task *t);

static void prepared(struct task *t)
{
	if (t->inputs_got < t->j.desired->inputs.len) {
		fetch(t);
		return;
	}
	if (strikes(FAULT_PREPARE, &sim.luck, 60000)) {
		fail(t, REASON_IMAGE_PULL_FAILED, "the registry does not answer");
		return;
	}
	t->j.image = arena_strdup(&t->arena, t->j.desired->image);
	t->j.image_digest = "docker.io/library/debian@sha256:"
			    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	t->j.prepared = true;
	task_step_in(t, 1);
}

struct delivery {
	struct machine *m;
	char id[ID_SIZE];
	unsigned serial;
};

static struct delivery *delivery_new(struct task *t)
{
	struct delivery *x = xcalloc(1, sizeof(*x));

	t->busy = true;
	*x = (struct delivery){ .m = t->m, .serial = ++t->busy_serial };
	snprintf(x->id, sizeof(x->id), "%s", t->id);
	return x;
}

/* The task, if it still waits for this. */
static struct task *delivery_task(const struct delivery *x)
{
	struct task *t = task_find(x->m, x->id);

	if (!t || !t->busy || t->busy_serial != x->serial)
		return NULL;
	t->busy = false;
	return t;
}

/* Nobody knows, or it may be better later. */
static bool is_open(const struct err *err)
{
	return err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT ||
	       err->code == ERR_UNAUTHENTICATED || err->code == ERR_RATE;
}

static void fetched(struct rpc *r, const struct err *err, struct slice answer)
{
	struct delivery *x = r->arg;
	struct task *t = delivery_task(x);
	char hash[SHA256_HEX_SIZE];

	if (err && err->code == ERR_UNAUTHENTICATED)
		process_session_refused(x->m, r);
	if (t && !err) {
		sha256_hex(answer.ptr, answer.len, hash);
		if (!str_eq(hash, t->j.desired->inputs.items[t->inputs_got].sha256))
			broken("inputs", "an input of %s is not what was uploaded", t->id);
		t->inputs_got++;
		prepared(t);
	} else if (t && is_open(err)) {
		lasts(t, 2 * SECOND_MS, prepared);
	} else if (t) {
		fail(t, REASON_INPUT_FAILED, err->text);
	}
	free(x);
}

static void fetch(struct task *t)
{
	struct rpc *r;

	phase(t, "fetching inputs", 0);
	r = process_rpc(t->m, OP_worker_input, fetched, delivery_new(t));
	r->params[0] = xstrdup(t->id);
	r->params[1] = xstrdup(t->j.desired->inputs.items[t->inputs_got].id);
	process_call(t->m, r);
}

static void half_prepared(struct task *t)
{
	phase(t, "pulling image", 500);
	lasts(t, rng_in(&sim.life, 100, 15 * SECOND_MS), prepared);
}

static void prepare(struct task *t)
{
	const char *why = misfit(t, false);
	int64_t ms = rng_chance(&sim.life, 500000)
			     ? rng_in(&sim.life, 20, 500)
			     : rng_in(&sim.life, SECOND_MS, 20 * SECOND_MS);

	if (why) {
		sim.out->totals.refused_devices++;
		fail(t, REASON_REFUSED_BY_WORKER, why);
		return;
	}
	if (misfit(t, true)) {
		phase(t, "waiting for an earlier lease", 0);
		task_step_in(t, 200);
		return;
	}
	if (strikes(FAULT_PREPARE, &sim.luck, 20000))
		ms = rng_in(&sim.luck, MINUTE_MS, 20 * MINUTE_MS);
	phase(t, "preparing", 0);
	lasts(t, ms, half_prepared);
}

static void create(struct task *t)
{
	phase(t, "creating container", 0);
	t->j.created = true;
	container_create(t->m, t->j.desired);
	if (machine_dies(t->m))
		return;
	task_step_in(t, rng_in(&sim.life, 20, 200));
}

static void start(struct task *t)
{
	struct container *c = container_find(t->m, t->id);

	t->j.started = true;
	task_save(t);
	if (machine_dies(t->m))
		return;
	if (c)
		container_start(t->m, c);
	if (machine_dies(t->m))
		return;
	task_step_in(t, 10);
}

static void ready_since(struct task *t, int64_t base_ms)
{
	struct container *c = container_find(t->m, t->id);

	t->j.ready = true;
	t->j.base_ms = base_ms;
	t->phase[0] = '\0';
	t->progress_done = 0;
	truths_disturbed = true;
	if (c && c->truth->ready_ms < 0)
		c->truth->ready_ms = t->j.desired->ready ? truth_run_ms(c->truth) : 0;
	process_observe_soon(t->m);
	if (machine_dies(t->m))
		return;
	task_save(t);
	task_step_in(t, 1);
}

static void probe(struct task *t)
{
	struct container *c = container_find(t->m, t->id);

	phase(t, "waiting until it is ready", 0);
	if (c && c->ready_after_ms >= 0 && truth_run_ms(c->truth) >= c->ready_after_ms)
		ready_since(t, machine_clock(t->m));
	else
		task_step_in(t, SECOND_MS);
}

static void pause_or_resume(struct task *t, bool resume)
{
	struct container *c = container_find(t->m, t->id);

	*(resume ? &t->j.resume_at_ms : &t->j.pause_at_ms) = machine_clock(t->m);
	task_save(t);
	if (machine_dies(t->m))
		return;
	if (c)
		container_pause(t->m, c, resume);
	process_observe_soon(t->m);
	task_step_in(t, 5);
}

/* ---- ending ---------------------------------------------------------------------------------------------------- */

static void end_by_exit(struct task *t)
{
	const struct container *c = container_find(t->m, t->id);
	struct journal *j = &t->j;

	j->exit_code = t->status.exit_code;
	if (t->status.oom_killed)
		j->end_reason = REASON_OUT_OF_MEMORY;
	else if (c && c->lost)
		j->end_reason = REASON_CONTAINER_LOST;
	else
		j->end_reason =
			t->status.exit_code ? REASON_EXITED_WITH_ERROR : REASON_COMPLETED;
}

static void end(struct task *t, const struct lease_decision *d)
{
	struct journal *j = &t->j;

	j->end_state = d->end_state;
	j->end_reason = d->reason;
	if (d->reason == REASON_NONE && t->status.state == CONTAINER_EXITED &&
	    j->desired->desired != DESIRE_STOP)
		end_by_exit(t);
	if (!j->base_ms && t->status.started_ms && !j->desired->ready) {
		j->base_ms = t->status.started_ms;
		j->ready = true;
		j->delivered_ms = meter_delivered_ms(j, &t->status, t->seen_ms);
	}
	if (d->reason != REASON_NONE)
		task_save(t);
	note("%s: the end of %s: %s, %s", t->m->name, t->id, observed_state_names[j->end_state],
	     lease_reason_names[j->end_reason]);
	task_step_in(t, 1);
}

static void stop_over(struct task *t)
{
	struct container *c = container_find(t->m, t->id);

	if (c) {
		c->truth->killed =
			c->state == CONTAINER_RUNNING || c->state == CONTAINER_PAUSED;
		container_end(t->m, c, 143);
	}
	task_step_in(t, 5);
}

static void stop(struct task *t)
{
	phase(t, "stopping", 0);
	lasts(t,
	      rng_chance(&sim.life, 700000) ? rng_in(&sim.life, 10, 500)
					    : rng_in(&sim.life, 500, STOP_MAX_MS),
	      stop_over);
}

static void flush(struct task *t)
{
	task_pump(t);
	if (t->log_done) {
		t->j.logs_done = true;
		t->j.log_seq = t->log_seq;
		task_step_in(t, 1);
		return;
	}
	task_step_in(t, 2 * SECOND_MS);
}

/* ---- results: file by file, then the word that there are no more -------------------------------------------------- */

static void collect(struct task *t);

static void collected(struct task *t, const char *note_text)
{
	t->j.results_done = true;
	if (note_text)
		t->j.end_text = arena_strdup(&t->arena, note_text);
	else if (t->log_done && !t->log_cut)
		truth_get(t->id, t->m->number)->delivered = true;
	task_step_in(t, 1);
}

static void delivered(struct rpc *r, const struct err *err, struct slice answer)
{
	struct delivery *x = r->arg;
	struct task *t = delivery_task(x);

	(void)answer;
	if (err && err->code == ERR_UNAUTHENTICATED)
		process_session_refused(x->m, r);
	if (t && !err && r->op == OP_worker_results_done) {
		collected(t, NULL);
	} else if (t && !err) {
		t->results_sent++;
		task_step_in(t, 1);
	} else if (t && is_open(err)) {
		task_step_in(t, 2 * SECOND_MS);
	} else if (t) {
		collected(t, err->text);
	}
	free(x);
}

static void collect(struct task *t)
{
	struct truth *truth = truth_get(t->id, t->m->number);
	bool last = t->results_sent >= truth->results;
	struct rpc *r;

	phase(t, "delivering results", t->results_sent);
	r = process_rpc(t->m, last ? OP_worker_results_done : OP_worker_result, delivered,
			delivery_new(t));
	r->params[0] = xstrdup(t->id);
	if (!last) {
		char text[160], path[32];

		result_text(t->id, t->results_sent, text);
		snprintf(path, sizeof(path), "out/%" PRId64, t->results_sent);
		r->params[1] = xstrdup(path);
		r->upload = xstrdup(text);
		r->upload_len = strlen(text);
	}
	process_call(t->m, r);
}

static void finish(struct task *t)
{
	struct journal *j = &t->j;

	if (t->status.state == CONTAINER_EXITED)
		j->exit_code = t->status.exit_code;
	if (j->base_ms) {
		if (t->receipt_next >= j->receipt_seq)
			j->receipt_seq = t->receipt_next + 1;
		j->final_seq = ++t->receipt_next;
	}
	j->ended = true;
	t->phase[0] = '\0';
	t->progress_done = 0;
	if (machine_dies(t->m))
		return;
	task_save(t);
	process_observe_soon(t->m);
	task_step_in(t, 1);
}

static void remove_all(struct task *t)
{
	if (t->j.created)
		container_remove(t->m, t->id);
	if (machine_dies(t->m))
		return;
	t->j.removed = true;
	if (t->j.desired->desired != DESIRE_NONE)
		task_save(t);
	task_step_in(t, 1);
}

void task_act(struct task *t, const struct lease_decision *d)
{
	switch (d->action) {
	case ACT_PREPARE: prepare(t); break;
	case ACT_CREATE: create(t); break;
	case ACT_START: start(t); break;
	case ACT_PROBE: probe(t); break;
	case ACT_READY: ready_since(t, t->status.started_ms); break;
	case ACT_PAUSE: pause_or_resume(t, false); break;
	case ACT_RESUME: pause_or_resume(t, true); break;
	case ACT_END: end(t, d); break;
	case ACT_STOP: stop(t); break;
	case ACT_FLUSH: flush(t); break;
	case ACT_COLLECT: collect(t); break;
	case ACT_FINISH: finish(t); break;
	case ACT_REMOVE: remove_all(t); break;
	case ACT_WAIT:
	case ACT_FORGET: break;
	}
}

/* ---- output ------------------------------------------------------------------------------------------------------------ */

#define BATCH 20

struct batch {
	struct machine *m;
	char id[ID_SIZE];
};

static void batch_answered(struct task *t, const struct rpc *r, const struct err *err, struct slice answer)
{
	cleanup_arena struct arena a = { 0 };
	struct err why = { 0 };
	struct log_ack ack;

	if (!err) {
		if (schema_parse(&log_ack_type, answer, FROM_SERVER, &a, &ack, &why) < 0)
			broken("wire", "an acknowledgement cannot be read: %s", why.text);
		t->log_seq = MAX(t->log_seq, ack.seq);
		t->log_cut |= ack.cut;
	} else if (err->code == ERR_UNAUTHENTICATED) {
		process_session_refused(t->m, r);
	} else if (err->code != ERR_UNAVAILABLE && err->code != ERR_TIMEOUT) {
		note("%s: output of %s is refused: %s", t->m->name, t->id, err->text);
		t->log_cut = true;
	}
}

static void batch_done(struct rpc *r, const struct err *err, struct slice answer)
{
	struct batch *x = r->arg;
	struct task *t = task_find(x->m, x->id);

	if (t) {
		t->log_busy = false;
		batch_answered(t, r, err, answer);
		if (!err)
			task_pump(t);
	}
	free(x);
}

/* Sends what the container wrote and the server has not acknowledged, a batch at a time. */
void task_pump(struct task *t)
{
	const struct container *c = container_find(t->m, t->id);
	cleanup_arena struct arena a = { 0 };
	struct log_batch in = { .lease = t->id };
	struct batch *x;
	struct rpc *r;
	int64_t n;

	if (t->log_busy || t->j.ended || !t->j.desired)
		return;
	n = c ? truth_lines(c->truth) - t->log_seq : 0;
	if (t->log_cut || n <= 0 || (c->state == CONTAINER_RUNNING && n < 3)) {
		t->log_done = t->log_cut || (n <= 0 && (!c || c->state == CONTAINER_EXITED));
		return;
	}
	in.generation = t->j.desired->generation;
	in.entries.len = MIN(n, (int64_t)BATCH);
	in.entries.items = arena_array(&a, struct log_entry, in.entries.len);
	for (size_t i = 0; i < in.entries.len; i++) {
		char text[80];

		line_text(t->id, t->log_seq + 1 + i, text);
		in.entries.items[i] = (struct log_entry){ .seq = t->log_seq + 1 + i,
							  .at_ms = machine_clock(t->m),
							  .stream = i % 2,
							  .text = arena_strdup(&a, text) };
	}
	x = xcalloc(1, sizeof(*x));
	x->m = t->m;
	snprintf(x->id, sizeof(x->id), "%s", t->id);
	r = process_rpc(t->m, OP_worker_logs, batch_done, x);
	rpc_body(r, &log_batch_type, &in);
	t->log_busy = true;
	process_call(t->m, r);
}
