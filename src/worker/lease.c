/* The set of leases that this worker has, and what others may see of one. */
#include "internal.h"

#define RECEIPT_EVERY_MS (2 * SECOND_MS)

void lease_wake(struct lease_run *l)
{
	bool asleep;

	pthread_mutex_lock(&l->lock);
	asleep = !l->woken;
	l->woken = true;
	pthread_mutex_unlock(&l->lock);
	if (asleep)
		pthread_cond_broadcast(&l->cond);
}

static struct desired_box *box_new(const struct desired_lease *d)
{
	struct desired_box *box = xcalloc(1, sizeof(*box));

	schema_copy(&desired_lease_type, d, &box->arena, &box->d);
	return box;
}

static void box_free(struct desired_box *box)
{
	if (!box)
		return;
	arena_release(&box->arena);
	free(box);
}

static struct lease_run *lease_new(struct agent *w, const char *id)
{
	struct lease_run *l = xcalloc(1, sizeof(*l));

	l->w = w;
	l->j.exit_code = -1;
	snprintf(l->id, sizeof(l->id), "%s", id);
	pthread_mutex_init(&l->lock, NULL);
	cond_init_monotonic(&l->cond);
	return l;
}

static void lease_free(struct lease_run *l)
{
	box_free(l->next);
	log_pump_free(l->pump);
	arena_release(&l->arena);
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* Hands over a wish; one for another generation is dropped, and an older one unless it is of a
 * whole set: after a restored store the server may count anew.  w->lock held. */
static void lease_wish(struct lease_run *l, const struct desired_lease *d, bool of_set)
{
	pthread_mutex_lock(&l->lock);
	const struct desired_lease *have = l->next ? &l->next->d : l->j.desired;

	if (!have || (d->generation == have->generation && (of_set || d->rev >= have->rev))) {
		/* A wish that was not taken over yet may carry what the newer one leaves
		 * out. */
		struct desired_box *box = xcalloc(1, sizeof(*box));

		desired_merge(have, d, &box->arena, &box->d);
		if (have && (have->desired != d->desired || d->desired == DESIRE_NONE))
			__atomic_store_n(&l->cancel, 1, __ATOMIC_RELAXED);
		box_free(l->next);
		l->next = box;
		l->woken = true;
		pthread_cond_broadcast(&l->cond);
	}
	pthread_mutex_unlock(&l->lock);
}

/* w->lock held. */
static void lease_start(struct agent *w, struct lease_run *l)
{
	map_put(w->leases, l->id, l);
	w->unended += !l->j.ended;
	thread_task_start(&l->thread, lease_thread, l);
}

/* A lease that we know nothing of but its name; what may be left of it is removed. */
static void mark_not_here(struct lease_run *l, enum observed_state state)
{
	l->j.end_state = state;
	l->j.end_reason = REASON_CONTAINER_LOST;
	l->j.created = l->j.ended = true;
}

/* ---- the desired set ---- */

/* As many as an observation may list: no server makes this machine run out of threads. */
#define LEASES_HERE_MAX 4096

/* True if the lease is new here. */
static bool desire_locked(struct agent *w, const struct desired_lease *d, bool of_set)
{
	struct lease_run *l = map_find(w->leases, d->lease);

	w->desired_rev = MAX(w->desired_rev, d->rev);
	if (l) {
		lease_wish(l, d, of_set);
		return false;
	}
	if (d->desired == DESIRE_NONE || map_count(w->leases) >= LEASES_HERE_MAX)
		return false;
	l = lease_new(w, d->lease);
	l->next = box_new(d);
	/* Should its journal have been lost, numbers of receipts go on above those that were
	 * used: there is less than one a second. */
	l->receipt_next = MAX((now_ms_get() - id_time_ms(d->lease)) / SECOND_MS, 0);
	/* A process before this one may have made a container of it, of which nothing is written
	 * until it is started. */
	l->j.created = !w->synced;
	if (d->desired == DESIRE_STOP)
		mark_not_here(l, OBSERVED_GONE); /* said until the server has heard it */
	lease_start(w, l);
	return true;
}

void agent_desire_one(struct agent *w, const struct desired_lease *d)
{
	bool is_new;

	pthread_mutex_lock(&w->lock);
	is_new = desire_locked(w, d, false);
	pthread_mutex_unlock(&w->lock);
	if (is_new)
		observe_later(w);
}

static bool set_has(const struct desired_set *set, const char *lease)
{
	for (size_t i = 0; i < set->leases.len; i++)
		if (str_eq(set->leases.items[i].lease, lease))
			return true;
	return false;
}

void agent_desire(struct agent *w, const struct desired_set *set)
{
	size_t it = 0;
	const char *id;
	void *value;

	pthread_mutex_lock(&w->lock);
	while (map_next(w->leases, &it, &id, &value)) {
		struct lease_run *l = value;
		struct desired_lease none = { .lease = id,
					      .desired = DESIRE_NONE,
					      .rev = set->rev };

		if (set_has(set, id))
			continue;
		pthread_mutex_lock(&l->lock);
		none.generation = l->next	 ? l->next->d.generation
				  : l->j.desired ? l->j.desired->generation
						 : 0;
		pthread_mutex_unlock(&l->lock);
		lease_wish(l, &none, true);
	}
	for (size_t i = 0; i < set->leases.len; i++)
		desire_locked(w, &set->leases.items[i], true);
	w->desired_rev = set->rev;
	w->synced = w->orphans_due = true;
	pthread_mutex_unlock(&w->lock);
	observe_soon(w);
}

/* ---- recovery and end ---- */

int agent_recover(struct agent *w, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct text_list names;

	if (journals_list(w->journals, &a, &names, err) < 0)
		return -1;
	for (size_t i = 0; i < names.len; i++) {
		struct lease_run *l = lease_new(w, names.items[i]);
		struct err e = { 0 };

		if (journals_load(w->journals, l->id, &l->arena, &l->j, &e) < 0) {
			/* Without a journal it was never taken: the server asks again. */
			if (e.code == ERR_NOT_FOUND) {
				lease_free(l);
				err_clear(&e);
				if (journals_remove(w->journals, names.items[i], &e) < 0)
					log_err(LOG_WARN, &e, "cannot clean up", NULL);
				continue;
			}
			log_err(LOG_ERROR, &e,
				"a journal cannot be read, its lease is given up", "lease",
				l->id, NULL);
			mark_not_here(l, OBSERVED_FAILED); /* but never run a second time */
		}
		l->receipt_next = l->j.receipt_seq;
		pthread_mutex_lock(&w->lock); /* those before it run already */
		lease_start(w, l);
		pthread_mutex_unlock(&w->lock);
	}
	return 0;
}

void agent_wake_lease(struct agent *w, const char *id)
{
	struct lease_run *l;
	size_t it = 0;
	const char *each;
	void *value;

	pthread_mutex_lock(&w->lock);
	l = id ? map_find(w->leases, id) : NULL;
	if (l)
		lease_wake(l);
	while (!id && map_next(w->leases, &it, &each, &value))
		lease_wake(value);
	pthread_mutex_unlock(&w->lock);
}

void agent_lease_finished(struct lease_run *l)
{
	struct agent *w = l->w;

	pthread_mutex_lock(&w->lock);
	if (!agent_stopping(w)) { /* else it waits for this thread where it is */
		map_remove(w->leases, l->id);
		w->unended -= !l->j.ended;
		l->next_finished = w->finished;
		w->finished = l;
		if (++w->finished_count == REAP_COUNT)
			pthread_cond_broadcast(&w->care_cond);
	}
	pthread_mutex_unlock(&w->lock);
}

void agent_reap(struct agent *w)
{
	struct lease_run *l, *next;

	pthread_mutex_lock(&w->lock);
	l = take_ptr(w->finished);
	w->finished_count = 0;
	pthread_mutex_unlock(&w->lock);
	for (; l; l = next) {
		next = l->next_finished;
		thread_task_join(&l->thread);
		lease_free(l);
	}
}

void agent_leases_stop(struct agent *w)
{
	size_t it = 0;
	const char *id;
	void *value;

	agent_reap(w);
	while (map_next(w->leases, &it, &id, &value)) {
		struct lease_run *l = value;

		__atomic_store_n(&l->cancel, 1, __ATOMIC_RELAXED);
		lease_wake(l);
	}
	it = 0;
	while (map_next(w->leases, &it, &id, &value)) {
		struct lease_run *l = value;

		pthread_mutex_lock(&w->lock); /* those that still run may look at the others */
		map_remove(w->leases, id);
		pthread_mutex_unlock(&w->lock);
		thread_task_join(&l->thread);
		lease_free(l);
	}
}

/* ---- what others see ---- */

static enum observed_state observed_state(const struct lease_run *l)
{
	const struct journal *j = &l->j;

	if (j->ended)
		return j->end_state;
	if (j->ready)
		return l->status.state == CONTAINER_PAUSED && j->end_state == OBSERVED_ACCEPTED
			       ? OBSERVED_PAUSED
			       : OBSERVED_RUNNING;
	return l->phase[0] || j->started ? OBSERVED_PREPARING : OBSERVED_ACCEPTED;
}

bool lease_observe(struct lease_run *l, struct arena *a, struct lease_observation *ret)
{
	const struct journal *j;
	bool known;

	pthread_mutex_lock(&l->lock);
	j = &l->j;
	/* What the server is done with is nobody's business but ours. */
	known = (j->desired || l->next) &&
		!(j->desired && j->desired->desired == DESIRE_NONE);
	*ret = (struct lease_observation){
		.lease = arena_strdup(a, l->id),
		.generation = j->desired ? j->desired->generation
			      : l->next	 ? l->next->d.generation
					 : 1,
		.state = observed_state(l),
		.reason = j->ended ? j->end_reason : REASON_NONE,
		.text = j->ended ? arena_strdup(a, j->end_text) : NULL,
		.phase = !j->ended && l->phase[0] ? arena_strdup(a, l->phase) : NULL,
		.image_digest = arena_strdup(a, j->image_digest),
		.progress_done = l->progress_done,
		.progress_total = l->progress_total,
		.exit_code = j->ended ? j->exit_code : -1,
		.delivered_ms = j->delivered_ms,
		.started = j->started && !j->ready,
	};
	pthread_mutex_unlock(&l->lock);
	return known;
}

bool lease_usage(struct lease_run *l, struct arena *a, struct usage *ret)
{
	const struct journal *j = &l->j;
	int64_t now = time_monotonic_ms();
	bool due = false;

	pthread_mutex_lock(&l->lock);
	if (j->base_ms && j->desired && j->desired->resources) {
		if (j->ended)
			due = !l->final_told && j->final_seq;
		else
			due = !l->ending && j->delivered_ms > l->receipt_delivered_ms &&
			      now - l->receipt_sent_ms >= RECEIPT_EVERY_MS &&
			      l->receipt_next < j->receipt_seq;
	}
	if (due) {
		const struct resources *r = j->desired->resources;

		*ret = (struct usage){
			.lease = arena_strdup(a, l->id),
			.worker = l->w->id.worker_id,
			.generation = j->desired->generation,
			.seq = j->ended ? j->final_seq : ++l->receipt_next,
			.delivered_ms = j->delivered_ms,
			.gpus = r->gpus,
			.cpu_milli = r->cpu_milli,
			.memory_mib = r->memory_mib,
			.final = j->ended,
		};
		l->receipt_sent_ms = now;
		l->receipt_delivered_ms = j->delivered_ms;
	}
	pthread_mutex_unlock(&l->lock);
	return due;
}

/* ---- does it fit? ---- */

static bool list_has(const struct text_list *list, const char *text)
{
	for (size_t i = 0; i < list->len; i++)
		if (str_eq(list->items[i], text))
			return true;
	return false;
}

static bool holds_resources(const struct lease_run *l)
{
	return l->j.desired && l->j.desired->resources && !l->j.ended && l->j.created;
}

/* Its end is under way, and what it holds will be free without anybody's doing. */
static bool is_leaving(const struct lease_run *l)
{
	return l->j.end_state != OBSERVED_ACCEPTED || l->j.desired->desired == DESIRE_STOP ||
	       l->j.desired->desired == DESIRE_NONE ||
	       (l->next && (l->next->d.desired == DESIRE_STOP ||
			    l->next->d.desired == DESIRE_NONE));
}

/* What other leases hold; w->lock held. */
struct held {
	struct resources sum;
	const char *by; /* who has the device that was asked for, or NULL */
};

static struct held held_by_others(struct agent *w, const struct lease_run *mine,
				  bool with_leaving, const char *uuid)
{
	struct held ret = { 0 };
	size_t it = 0;
	const char *id;
	void *value;

	while (map_next(w->leases, &it, &id, &value)) {
		struct lease_run *l = value;

		if (l == mine)
			continue;
		pthread_mutex_lock(&l->lock);
		if (holds_resources(l) && (with_leaving || !is_leaving(l))) {
			ret.sum.cpu_milli += l->j.desired->resources->cpu_milli;
			ret.sum.memory_mib += l->j.desired->resources->memory_mib;
			if (uuid && list_has(&l->j.desired->devices, uuid))
				ret.by = id;
		}
		pthread_mutex_unlock(&l->lock);
	}
	return ret;
}

static bool device_offered(const struct agent *w, const char *uuid)
{
	for (size_t i = 0; i < w->inventory.devices.len; i++)
		if (str_eq(w->inventory.devices.items[i].uuid, uuid))
			return true;
	return false;
}

static int devices_fit(struct agent *w, const struct lease_run *mine, bool with_leaving,
		       struct err *err)
{
	const struct text_list *devices = &mine->j.desired->devices;

	for (size_t i = 0; i < devices->len; i++) {
		const char *uuid = devices->items[i];
		struct held held = held_by_others(w, mine, with_leaving, uuid);

		if (!device_offered(w, uuid))
			return err_set(err, ERR_FORBIDDEN,
				       "GPU %.60s is not offered by this machine", uuid);
		if (held.by)
			return err_set(err, ERR_FORBIDDEN, "GPU %.60s is in use by lease %s",
				       uuid, held.by);
	}
	return 0;
}

static int fits(const char *what, int64_t used, int64_t wanted, int64_t offered,
		struct err *err)
{
	if (wanted > offered - used)
		return err_set(err, ERR_FORBIDDEN,
			       "%" PRId64 " %s are wanted, %" PRId64 " of %" PRId64 " are free",
			       wanted, what, MAX(offered - used, 0), offered);
	return 0;
}

static int all_fits(struct agent *w, const struct lease_run *mine, bool with_leaving,
		    struct err *err)
{
	const struct resources *r = mine->j.desired->resources;
	struct held held = held_by_others(w, mine, with_leaving, NULL);

	if (devices_fit(w, mine, with_leaving, err) < 0 ||
	    fits("thousandths of a CPU", held.sum.cpu_milli, r->cpu_milli,
		 w->inventory.offered_cpu_milli, err) < 0 ||
	    fits("MiB of memory", held.sum.memory_mib, r->memory_mib,
		 w->inventory.offered_memory_mib, err) < 0)
		return -1;
	return 0;
}

int agent_fits(struct agent *w, struct lease_run *mine, struct err *err)
{
	struct err now = { 0 };
	int rc;

	pthread_mutex_lock(&w->lock);
	rc = all_fits(w, mine, true, &now);
	/* A worker that was away for long may get the next leases before it has cleared away
	 * those that ended meanwhile. */
	if (rc < 0)
		rc = all_fits(w, mine, false, err);
	pthread_mutex_unlock(&w->lock);
	if (rc == 0 && now.code)
		return err_set(err, ERR_RATE, "%s", now.text);
	return rc;
}
