/* Leases in the worker process: what is wished, looked at and told.  src/worker/lease.c and lease_thread.c, one step a
 * timer; what to do next is decided by the worker's own reconcile_next, what was delivered by its meter. */
#include "machine.h"

#define LOOK_EVERY_MS	 (4 * SECOND_MS)
#define SAVE_EVERY_MS	 (5 * SECOND_MS)
#define RECEIPT_EVERY_MS (2 * SECOND_MS)
#define RECEIPTS_AHEAD	 200

struct task *task_find(struct machine *m, const char *lease)
{
	return map_find(m->tasks, lease);
}

static void box_free(struct desired_box *box)
{
	if (!box)
		return;
	arena_release(&box->arena);
	free(box);
}

static struct task *task_new(struct machine *m, const char *id)
{
	struct task *t = xcalloc(1, sizeof(*t));

	t->m = m;
	t->j.exit_code = -1;
	snprintf(t->id, sizeof(t->id), "%s", id);
	map_put(m->tasks, t->id, t);
	return t;
}

void task_free(void *task)
{
	struct task *t = task;

	box_free(t->next);
	arena_release(&t->arena);
	free(t);
}

/* ---- steps ------------------------------------------------------------------------------------------------ */

struct step {
	struct machine *m;
	unsigned epoch, serial;
	char id[ID_SIZE];
};

static void step_run(void *arg);

void task_step_in(struct task *t, int64_t ms)
{
	struct step *s = xcalloc(1, sizeof(*s));

	*s = (struct step){ .m = t->m, .epoch = t->m->epoch, .serial = ++t->serial };
	snprintf(s->id, sizeof(s->id), "%s", t->id);
	at(sim.now_ms + ms, step_run, s);
}

void task_wake(struct task *t)
{
	if (!t->busy)
		task_step_in(t, rng_in(&sim.life, 1, 5));
}

void task_save(struct task *t)
{
	if (!t->j.desired || !t->j.desired->resources)
		return;
	if (t->j.receipt_seq - t->receipt_next < RECEIPTS_AHEAD / 2)
		t->j.receipt_seq = t->receipt_next + RECEIPTS_AHEAD;
	machine_save(t->m, t);
	t->saved_ms = sim.now_ms;
}

static bool wish_take(struct task *t)
{
	struct desired_box *box = take_ptr(t->next);
	struct arena fresh = { 0 };
	struct desired_lease merged;
	struct journal copy;

	if (!box)
		return false;
	copy = t->j;
	desired_merge(t->j.desired, &box->d, &fresh, &merged);
	copy.desired = &merged;
	schema_copy(&journal_type, &copy, &fresh, &t->j);
	arena_release(&t->arena);
	t->arena = fresh;
	box_free(box);
	return true;
}

/* What the engine has; as look() of lease_thread.c. */
static void look(struct task *t)
{
	struct container_status st = { .state = CONTAINER_ABSENT };
	int64_t now = machine_clock(t->m);
	struct journal *j = &t->j;
	bool live, save;

	if (j->created && !j->removed)
		container_status_get(t->m, t->id, &st);
	if (st.state == CONTAINER_CREATED && !j->prepared) {
		container_remove(t->m, t->id);
		st = (struct container_status){ .state = CONTAINER_ABSENT };
	}
	live = st.state == CONTAINER_RUNNING || st.state == CONTAINER_PAUSED;
	if (live || st.state == CONTAINER_EXITED) {
		j->started = true;
		j->started_ms = st.started_ms;
		j->finished_ms = st.state == CONTAINER_EXITED ? st.finished_ms : 0;
	}
	save = meter_settle(j, &st, now);
	j->delivered_ms = meter_delivered_ms(j, &st, now);
	t->status = st;
	t->status_known = true;
	t->seen_ms = now;
	if (save || (live && sim.now_ms - t->saved_ms >= SAVE_EVERY_MS))
		task_save(t);
}

static struct lease_decision decide(struct task *t)
{
	struct lease_view v = lease_view_of(&t->j, &t->status, sim.now_ms - t->m->heard_ms);

	if (is_broken(BREAK_NO_FENCE))
		v.silent_ms = 0;
	if (is_broken(BREAK_UNFUNDED))
		v.funded_ms = FUNDED_UNLIMITED;
	if (is_broken(BREAK_DEAF_STOP) && v.want == DESIRE_STOP)
		v.want = DESIRE_RUN;
	return reconcile_next(&v, machine_clock(t->m));
}

static void forget(struct task *t)
{
	struct machine *m = t->m;

	note("%s forgets %s", m->name, t->id);
	machine_forget(m, t->id);
	map_remove(m->tasks, t->id);
	task_free(t);
}

static void wait_for(struct task *t, const struct lease_decision *d)
{
	int64_t wait_ms = t->j.ended || !t->j.created ? HOUR_MS : LOOK_EVERY_MS;

	if (d->wake_ms)
		wait_ms = MIN(wait_ms, MAX(d->wake_ms - machine_clock(t->m), INT64_C(1)));
	task_step_in(t, wait_ms);
}

static void step(struct task *t)
{
	struct lease_decision d;

	if (wish_take(t) && !t->j.ended) {
		if (t->j.started)
			task_save(t);
		process_observe_soon(t->m);
	}
	if (!t->j.desired)
		return; /* the first whole set tells */
	look(t);
	task_pump(t);
	d = decide(t);
	if (d.action == ACT_WAIT)
		wait_for(t, &d);
	else if (d.action == ACT_FORGET)
		forget(t);
	else
		task_act(t, &d);
}

static void step_run(void *arg)
{
	struct step *s = arg;
	struct task *t = s->m->up && s->m->epoch == s->epoch ? task_find(s->m, s->id) : NULL;

	if (t && t->serial == s->serial && !t->busy && !machine_dies(s->m))
		step(t);
	free(s);
}

void task_recover(struct machine *m, const char *lease, const struct saved *saved)
{
	struct task *t = task_new(m, lease);

	schema_copy(&journal_type, &saved->j, &t->arena, &t->j);
	t->log_seq = saved->log_seq;
	t->log_cut = saved->log_cut;
	t->receipt_next = t->j.receipt_seq;
	if (is_broken(BREAK_RERUN) && t->j.started && !t->j.ended) {
		struct container *c = container_find(m, lease);

		/* As if it were made with a restart policy. */
		if (c && c->state == CONTAINER_EXITED) {
			c->state = CONTAINER_CREATED;
			c->truth->exited = false;
			c->truth->live = true;
			container_start(m, c);
		}
	}
	task_wake(t);
}

/* ---- wishes ------------------------------------------------------------------------------------------------- */

static void wish_known(struct task *t, const struct desired_lease *d)
{
	struct truth *truth = truth_get(t->id, t->m->number);

	if (d->desired == DESIRE_RUN) {
		truth->hush_ms = 0;
	} else if (!truth->hush_ms || truth->hush_epoch != t->m->epoch) {
		truth->hush_ms = sim.now_ms;
		truth->hush_epoch = t->m->epoch;
		truths_disturbed = true;
	}
}

static void wish(struct task *t, const struct desired_lease *d, bool of_set)
{
	const struct desired_lease *have = t->next ? &t->next->d : t->j.desired;
	struct desired_box *box;

	if (have && (d->generation != have->generation || (!of_set && d->rev < have->rev)))
		return;
	wish_known(t, d);
	box = xcalloc(1, sizeof(*box));
	desired_merge(have, d, &box->arena, &box->d);
	if (have && (have->desired != d->desired || d->desired == DESIRE_NONE) && t->busy) {
		t->busy = false; /* the step that lasts is given up */
		t->busy_serial++;
	}
	box_free(t->next);
	t->next = box;
	task_wake(t);
}

static void desire(struct machine *m, const struct desired_lease *d, bool of_set)
{
	struct task *t = task_find(m, d->lease);
	struct truth *truth = truth_get(d->lease, m->number);

	truth->funded_ms = MAX(truth->funded_ms, d->funded_ms);
	m->desired_rev = MAX(m->desired_rev, d->rev);
	note("%s is to have %s: %s, rev %" PRId64, m->name, d->lease,
	     lease_desired_names[d->desired], d->rev);
	if (t) {
		wish(t, d, of_set);
		return;
	}
	if (d->desired == DESIRE_NONE)
		return;
	t = task_new(m, d->lease);
	t->j.created = !m->synced;
	wish_known(t, d);
	t->next = xcalloc(1, sizeof(*t->next));
	schema_copy(&desired_lease_type, d, &t->next->arena, &t->next->d);
	if (d->desired == DESIRE_STOP) {
		t->j.end_state = OBSERVED_GONE;
		t->j.end_reason = REASON_CONTAINER_LOST;
		t->j.created = t->j.ended = true;
	}
	task_wake(t);
}

void tasks_desire_one(struct machine *m, const struct desired_lease *d)
{
	desire(m, d, false);
}

static bool set_has(const struct desired_set *set, const char *lease)
{
	for (size_t i = 0; i < set->leases.len; i++)
		if (str_eq(set->leases.items[i].lease, lease))
			return true;
	return false;
}

/* Containers that belong to no lease: what a lost journal left behind. */
static void orphans_remove(struct machine *m)
{
	size_t it = 0;
	const char *lease;
	void *value;

	while (map_next(m->containers, &it, &lease, &value)) {
		char id[ID_SIZE];

		snprintf(id, sizeof(id), "%s", lease);
		if (!task_find(m, id))
			container_remove(m, id);
	}
}

void tasks_desire(struct machine *m, const struct desired_set *set)
{
	size_t it = 0;
	const char *id;
	void *value;

	note("%s gets the whole set, %zu leases, rev %" PRId64, m->name, set->leases.len,
	     set->rev);
	while (map_next(m->tasks, &it, &id, &value)) {
		struct task *t = value;
		struct desired_lease none = { .lease = id,
					      .desired = DESIRE_NONE,
					      .rev = set->rev };

		if (set_has(set, id))
			continue;
		none.generation = t->next	 ? t->next->d.generation
				  : t->j.desired ? t->j.desired->generation
						 : 0;
		wish(t, &none, true);
	}
	for (size_t i = 0; i < set->leases.len; i++)
		desire(m, &set->leases.items[i], true);
	m->desired_rev = set->rev;
	m->synced = true;
	orphans_remove(m);
}

/* ---- what is told -------------------------------------------------------------------------------------------- */

static enum observed_state state_of(const struct task *t)
{
	const struct journal *j = &t->j;

	if (j->ended)
		return j->end_state;
	if (j->ready)
		return t->status.state == CONTAINER_PAUSED && j->end_state == OBSERVED_ACCEPTED
			       ? OBSERVED_PAUSED
			       : OBSERVED_RUNNING;
	return t->phase[0] || j->started ? OBSERVED_PREPARING : OBSERVED_ACCEPTED;
}

bool task_observe(struct task *t, struct arena *a, struct lease_observation *ret)
{
	const struct journal *j = &t->j;

	*ret = (struct lease_observation){
		.lease = t->id,
		.generation = j->desired ? j->desired->generation
			      : t->next	 ? t->next->d.generation
					 : 1,
		.state = state_of(t),
		.reason = j->ended ? j->end_reason : REASON_NONE,
		.text = j->ended ? arena_strdup(a, j->end_text) : NULL,
		.phase = !j->ended && t->phase[0] ? t->phase : NULL,
		.image_digest = j->image_digest,
		.progress_done = t->progress_done,
		.exit_code = j->ended ? j->exit_code : -1,
		.delivered_ms = j->delivered_ms,
		.started = j->started && !j->ready,
	};
	return j->desired || t->next;
}

bool task_receipt(struct task *t, struct arena *a, struct signed_usage *ret, bool *ret_final)
{
	const struct journal *j = &t->j;
	const struct resources *r;
	bool due;

	if (!j->base_ms || !j->desired || !j->desired->resources)
		return false;
	if (j->ended)
		due = !t->final_told && j->final_seq;
	else
		due = j->delivered_ms > t->receipt_delivered_ms &&
		      sim.now_ms - t->receipt_sent_ms >= RECEIPT_EVERY_MS &&
		      t->receipt_next < j->receipt_seq;
	if (!due)
		return false;
	r = j->desired->resources;
	receipt_make(&(struct usage){ .lease = t->id,
				      .worker = t->m->id,
				      .generation = j->desired->generation,
				      .seq = j->ended ? j->final_seq : ++t->receipt_next,
				      .delivered_ms = j->delivered_ms,
				      .gpus = r->gpus,
				      .cpu_milli = r->cpu_milli,
				      .memory_mib = r->memory_mib,
				      .final = j->ended,
				      .at_ms = machine_clock(t->m) + t->m->offset_ms },
		     t->m->sk, a, ret);
	t->receipt_sent_ms = sim.now_ms;
	t->receipt_delivered_ms = j->delivered_ms;
	*ret_final = j->ended;
	return true;
}
