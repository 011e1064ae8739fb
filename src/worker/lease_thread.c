/* The thread of a lease: look, decide, do one step; again after each step and each wake. */
#include "internal.h"

#define LOOK_EVERY_MS  (2 * SECOND_MS) /* what is claimed is never older than this */
#define SAVE_EVERY_MS  (5 * SECOND_MS)
#define DISK_FIRST_MS  (1 * SECOND_MS)
#define DISK_EVERY_MS  (5 * SECOND_MS)
#define RECEIPTS_AHEAD 200

void lease_wait(struct lease_run *l, int64_t wait_ms)
{
	int64_t until = time_monotonic_ms() + wait_ms;

	pthread_mutex_lock(&l->lock);
	while (!l->woken && !agent_stopping(l->w) && cond_wait_until(&l->cond, &l->lock, until))
		;
	pthread_mutex_unlock(&l->lock);
}

void lease_phase(struct lease_run *l, const char *phase, int64_t done, int64_t total)
{
	int64_t now = time_monotonic_ms();
	bool tell;

	pthread_mutex_lock(&l->lock);
	tell = !str_eq(l->phase, phase) || now - l->progress_told_ms >= 250 ||
	       (total && done == total);
	snprintf(l->phase, sizeof(l->phase), "%s", phase);
	l->progress_done = done;
	l->progress_total = total;
	if (tell)
		l->progress_told_ms = now;
	pthread_mutex_unlock(&l->lock);
	if (tell)
		observe_later(l->w);
}

static void journal_save(struct lease_run *l, const struct journal *j)
{
	struct err err = { 0 };

	if (!j->desired || !j->desired->resources)
		return; /* never taken: there is nothing to remember */
	if (journals_save(l->w->journals, j, &err) < 0)
		log_err(LOG_ERROR, &err, "the journal cannot be written", "lease", l->id, NULL);
	l->saved_ms = time_monotonic_ms();
}

/* What others do to a lease while it runs. */
static void progress_note(struct lease_run *l)
{
	struct output_position at;
	bool cut;

	pthread_mutex_lock(&l->lock);
	if (l->pump) {
		log_pump_position(l->pump, &at, &cut);
		l->j.log_seq = at.seq;
		l->j.log_since_ns = at.since_ns;
		l->j.log_count = at.count;
		l->j.log_cut |= cut;
	}
	if (l->j.receipt_seq - l->receipt_next < RECEIPTS_AHEAD / 2)
		l->j.receipt_seq = l->receipt_next + RECEIPTS_AHEAD;
	pthread_mutex_unlock(&l->lock);
}

void lease_save(struct lease_run *l)
{
	progress_note(l);
	journal_save(l, &l->j);
}

void lease_save_end(struct lease_run *l, int64_t final_seq)
{
	struct journal ended;

	progress_note(l);
	ended = l->j;
	ended.final_seq = final_seq;
	ended.ended = true;
	journal_save(l, &ended);
	pthread_mutex_lock(&l->lock);
	l->j.final_seq = final_seq;
	l->j.ended = true;
	l->phase[0] = '\0';
	l->progress_done = l->progress_total = 0;
	pthread_mutex_unlock(&l->lock);
}

void lease_fail(struct lease_run *l, enum lease_reason reason, const char *doing,
		const struct err *err)
{
	pthread_mutex_lock(&l->lock);
	l->j.end_state = OBSERVED_FAILED;
	l->j.end_reason = reason;
	l->j.end_text = doing ? arena_printf(&l->arena, "%s: %s", doing, err->text)
			      : arena_strdup(&l->arena, err->text);
	pthread_mutex_unlock(&l->lock);
	log_err(LOG_WARN, err, "a lease failed", "lease", l->id, "reason",
		lease_reason_names[reason], NULL);
}

/* ---- wishes ---- */

/* Takes over the newest wish; true if there was one. */
static bool wish_take(struct lease_run *l)
{
	struct arena fresh = { 0 };
	struct desired_lease merged;
	struct journal copy;
	struct desired_box *box;

	pthread_mutex_lock(&l->lock);
	box = take_ptr(l->next);
	l->woken = false;
	/* Whatever was to be interrupted has come back here. */
	__atomic_store_n(&l->cancel, agent_stopping(l->w), __ATOMIC_RELAXED);
	if (box && !l->j.desired) {
		/* The first: there are no texts but its own. */
		struct desired_lease *first = arena_new(&box->arena, struct desired_lease);

		*first = box->d;
		arena_release(&l->arena);
		l->arena = box->arena;
		box->arena = (struct arena){ 0 };
		l->j.desired = first;
	} else if (box) {
		copy = l->j;
		desired_merge(l->j.desired, &box->d, &fresh, &merged);
		copy.desired = &merged;
		schema_copy(&journal_type, &copy, &fresh, &l->j);
		arena_release(&l->arena);
		l->arena = fresh;
	}
	pthread_mutex_unlock(&l->lock);
	if (!box)
		return false;
	arena_release(&box->arena);
	free(box);
	return true;
}

/* ---- looking ---- */

static int status_get(struct lease_run *l, struct container_status *ret, struct err *err)
{
	*ret = (struct container_status){ .state = CONTAINER_ABSENT };
	if (!l->j.created || l->j.removed)
		return 0;
	if (l->made) {
		l->made = false;
		*ret = (struct container_status){ .state = CONTAINER_CREATED,
						  .generation = l->j.desired->generation };
		return 0;
	}
	if (!agent_runtime(l->w))
		return err_set(err, ERR_UNAVAILABLE, "the container engine does not answer");
	if (runtime_status(agent_runtime(l->w), l->id, ret, err) < 0)
		return -1;
	if (ret->state != CONTAINER_ABSENT && l->j.desired &&
	    (ret->generation != l->j.desired->generation ||
	     (ret->state == CONTAINER_CREATED && !l->j.prepared))) {
		/* Of an attempt that is over, or of a process before this one that was about to
		 * start it, with inputs that are gone: not this lease's. */
		if (runtime_remove(agent_runtime(l->w), l->id, err) < 0)
			return -1;
		*ret = (struct container_status){ .state = CONTAINER_ABSENT };
	}
	return 0;
}

static void disk_look(struct lease_run *l)
{
	const struct resources *r = l->j.desired->resources;
	int64_t now = time_monotonic_ms(), used, took;
	struct err err = { 0 };
	bool enforced;

	pthread_mutex_lock(&l->w->lock);
	enforced = l->w->engine.storage_limit;
	pthread_mutex_unlock(&l->w->lock);
	if (enforced || !r || r->disk_mib <= 0 || now < l->disk_next_ms)
		return;
	if (!l->disk_next_ms) {
		l->disk_next_ms = now + DISK_FIRST_MS;
		return;
	}
	if (runtime_disk_used(agent_runtime(l->w), l->id, &used, &err) < 0) {
		l->disk_next_ms = err.code == ERR_UNSUPPORTED ? INT64_MAX : now + DISK_EVERY_MS;
		return;
	}
	/* Looking costs; but what fills its disk quickly is looked at more often. */
	took = time_monotonic_ms() - now;
	l->disk_next_ms =
		now + MAX((used + l->j.inputs_bytes) * 2 > r->disk_mib << 20 ? DISK_EVERY_MS / 5 : DISK_EVERY_MS,
			  took * 20);
	pthread_mutex_lock(&l->lock);
	l->disk_used_bytes = used;
	pthread_mutex_unlock(&l->lock);
	l->disk_exceeded = used + l->j.inputs_bytes > r->disk_mib << 20;
}

void lease_pump_start(struct lease_run *l, bool ended)
{
	struct output_position from = { l->j.log_seq, l->j.log_since_ns, l->j.log_count };

	if (l->j.logs_done || l->j.ended || l->j.log_cut)
		return;
	if (!l->pump)
		l->pump =
			log_pump_start(l->w, l, l->id, l->j.desired->generation, &from, ended);
	else if (!ended)
		log_pump_look(l->pump);
}

/* What the engine has.  -1: it does not say. */
static int look(struct lease_run *l)
{
	struct container_status st;
	int64_t now = now_ms_get();
	struct err err = { 0 };
	bool live, save, first;

	/* What has ended stays as it is. */
	if (l->status.state == CONTAINER_EXITED && !l->j.removed)
		return 0;
	if (status_get(l, &st, &err) < 0) {
		snprintf(l->note, sizeof(l->note), "%s", err.text);
		return -1;
	}
	live = st.state == CONTAINER_RUNNING || st.state == CONTAINER_PAUSED;
	pthread_mutex_lock(&l->lock);
	first = !l->j.started_ms && st.started_ms && (live || st.state == CONTAINER_EXITED);
	if (live || st.state == CONTAINER_EXITED) {
		l->j.started = true;
		l->j.started_ms = st.started_ms;
		l->j.finished_ms = st.state == CONTAINER_EXITED ? st.finished_ms : 0;
	}
	save = meter_settle(&l->j, &st, now);
	l->j.delivered_ms = meter_delivered_ms(&l->j, &st, now);
	l->status = st;
	l->seen_ms = now;
	pthread_mutex_unlock(&l->lock);
	if (l->j.started && l->j.desired && st.state != CONTAINER_ABSENT)
		lease_pump_start(l, st.state == CONTAINER_EXITED);
	if (live && l->j.end_state == OBSERVED_ACCEPTED && l->j.desired)
		disk_look(l);
	if (save || (!first && live && time_monotonic_ms() - l->saved_ms >= SAVE_EVERY_MS))
		lease_save(l);
	return 0;
}

/* ---- deciding ---- */

static struct lease_decision decide(struct lease_run *l)
{
	struct lease_view v = lease_view_of(&l->j, &l->status,
					    time_monotonic_ms() -
						    __atomic_load_n(&l->w->heard_ms, __ATOMIC_RELAXED));

	v.disk_exceeded = l->disk_exceeded;
	/* Since the look: what runs has run on. */
	if (l->status.state == CONTAINER_RUNNING)
		v.delivered_ms += l->j.base_ms ? MAX(now_ms_get() - l->seen_ms, 0) : 0;
	return reconcile_next(&v, now_ms_get());
}

static void wait_for(struct lease_run *l, const struct lease_decision *d)
{
	int64_t wait_ms = l->j.ended || !l->j.created ? HOUR_MS : LOOK_EVERY_MS;

	if (d->wake_ms)
		wait_ms = MIN(wait_ms, MAX(d->wake_ms - now_ms_get(), 1));
	lease_wait(l, wait_ms);
}

void *lease_thread(void *arg)
{
	struct lease_run *l = arg;
	struct agent *w = l->w;
	struct backoff backoff = { 0 };

	while (!agent_stopping(w)) {
		struct lease_decision d;

		if (wish_take(l) && !l->j.ended) {
			if (l->j.started)
				lease_save(l);
			observe_later(w);
		}
		if (!l->j.desired) {
			lease_wait(l, HOUR_MS); /* not known yet: the first sync tells */
			continue;
		}
		if (look(l) < 0) {
			lease_wait(l, backoff_next(&backoff));
			continue;
		}
		backoff.ms = 0;
		d = decide(l);
		if (d.action == ACT_WAIT) {
			wait_for(l, &d);
		} else if (d.action == ACT_FORGET) {
			break;
		} else {
			lease_act(l, &d);
		}
	}
	if (!agent_stopping(w)) {
		struct err err = { 0 };

		if (journals_remove(w->journals, l->id, &err) < 0)
			log_err(LOG_WARN, &err, "cannot remove what is left of a lease",
				"lease", l->id, NULL);
		log_line(LOG_INFO, "lease forgotten", "lease", l->id, NULL);
		agent_lease_finished(l);
	} else if (!l->j.ended) {
		lease_save(l);
	}
	return NULL;
}
