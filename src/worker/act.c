/* The steps of a lease, one function each.  They block, and give up early when l->cancel says
 * that the wish has changed; what they could not do is asked of them again. */
#include "internal.h"

#include "jail/jail.h"

#include <errno.h>
#include <unistd.h>

#define STOP_GRACE_MS (10 * SECOND_MS)
/* Cut off: another worker may be about to start the next attempt. */
#define FENCE_GRACE_MS	 (5 * SECOND_MS)
#define PROBE_TIMEOUT_MS (10 * SECOND_MS)
#define PROBE_EVERY_MS	 500
#define ROOM_LOOK_MS	 200
#define TRIES_MAX	 5

static bool cancelled(struct lease_run *l)
{
	return __atomic_load_n(&l->cancel, __ATOMIC_RELAXED);
}

/* A step that failed for now: again later, but not for ever.  True: give up. */
static bool step_failed(struct lease_run *l, const struct err *err)
{
	if (cancelled(l))
		return false;
	if (err->code != ERR_UNAVAILABLE && err->code != ERR_TIMEOUT)
		return true;
	if (agent_has_problem(l->w))
		l->tries = 0; /* the engine is away: that is not this lease's fault */
	if (++l->tries >= TRIES_MAX)
		return true;
	log_err(LOG_WARN, err, "a step failed, trying again", "lease", l->id, NULL);
	lease_wait(l, 200 << l->tries);
	return false;
}

/* ---- preparing ---- */

static void on_pull(void *arg, const char *phase, int64_t done, int64_t total)
{
	lease_phase(arg, phase, done, total);
}

static void on_input(void *arg, int64_t done, int64_t total)
{
	lease_phase(arg, "fetching inputs", done, total);
}

/* Local limits, which the server's placement should have kept. */
static int accept_check(struct lease_run *l, struct err *err)
{
	const struct desired_lease *d = l->j.desired;

	if (!d->resources || str_empty(d->image))
		return err_set(err, ERR_INVALID, "the server names no image or no resources");
	return agent_fits(l->w, l, err);
}

static int image_prepare(struct lease_run *l, struct image_got *ret, struct err *err)
{
	struct agent *w = l->w;
	const struct desired_lease *d = l->j.desired;
	char known[80];
	struct image_request req = {
		.image = d->image,
		.login = d->registry,
		.allow_local = agent_config(w)->images_allow_local,
		.private_registries = agent_config(w)->images_private_registries,
		.cancel = &l->cancel,
		.progress = on_pull,
		.arg = l,
	};
	struct err e = { 0 };

	if (images_find(&w->images, d->image, d->registry, known))
		req.known = known;
	if (runtime_image(agent_runtime(w), &req, ret, err) < 0)
		return -1;
	if (ret->pulled &&
	    images_remember(&w->images, w->state_dir, d->image, d->registry, ret->image, &e) < 0)
		log_err(LOG_WARN, &e, "cannot remember an image; it is asked for again", NULL);
	return 0;
}

static enum lease_reason image_reason(const struct err *err)
{
	if (err->code == ERR_FORBIDDEN)
		return REASON_IMAGE_NOT_ALLOWED;
	return err->code == ERR_UNSUPPORTED ? REASON_REGISTRY_NOT_ALLOWED
					    : REASON_IMAGE_PULL_FAILED;
}

static void act_prepare(struct lease_run *l)
{
	const struct desired_lease *d = l->j.desired;
	struct image_got image;
	int64_t inputs_bytes;
	struct err err = { 0 };

	if (accept_check(l, &err) < 0 && err.code == ERR_RATE) {
		lease_phase(l, "waiting for an earlier lease", 0, 0);
		lease_wait(l, ROOM_LOOK_MS);
		return;
	}
	if (err.code) {
		lease_fail(l, REASON_REFUSED_BY_WORKER, NULL, &err);
		return;
	}
	if (!agent_runtime(l->w)) {
		lease_phase(l, "waiting for the container engine", 0, 0);
		lease_wait(l, SECOND_MS);
		return;
	}
	lease_phase(l, "preparing", 0, 0);
	if (image_prepare(l, &image, &err) < 0) {
		if (step_failed(l, &err))
			lease_fail(l, image_reason(&err), NULL, &err);
		return;
	}
	if (inputs_fetch(l->w->link, l->w->state_dir, d, &l->cancel, on_input, l,
			 &inputs_bytes, &err) < 0) {
		if (step_failed(l, &err))
			lease_fail(l,
				   err.code == ERR_TOO_LARGE ? REASON_DISK_LIMIT_EXCEEDED
							     : REASON_INPUT_FAILED,
				   NULL, &err);
		return;
	}
	l->tries = 0;
	pthread_mutex_lock(&l->lock);
	l->j.image = arena_strdup(&l->arena, image.image);
	l->j.image_digest = arena_strdup(&l->arena, image.digest);
	l->j.inputs_bytes = inputs_bytes;
	l->j.prepared = true;
	pthread_mutex_unlock(&l->lock);
}

static void act_create(struct lease_run *l)
{
	const struct desired_lease *d = l->j.desired;
	cleanup_free char *inputs = lease_dir(l->w->state_dir, l->id, "in");
	struct resources resources = *d->resources;
	struct container_spec spec = {
		.lease = l->id,
		.generation = d->generation,
		.image = l->j.image,
		.command = d->command,
		.env = &d->env,
		.secrets = &d->secrets,
		.resources = &resources,
		.gpu_uuids = d->devices,
		.inputs_dir = d->inputs.len ? inputs : NULL,
		.private_routes = agent_config(l->w)->private_routes,
	};
	struct err err = { 0 };
	bool first;

	resources.disk_mib -= (l->j.inputs_bytes + (1 << 20) - 1) >> 20;
	if (d->devices.len)
		spec.gpus_simulated = agent_device_is_simulated(l->w, d->devices.items[0]);
	if (agent_jail_ensure(l->w, 10 * SECOND_MS, &err) < 0) {
		lease_fail(l, REASON_REFUSED_BY_WORKER,
			   "the network of workloads cannot be closed off", &err);
		return;
	}
	lease_phase(l, "creating container", 0, 0);
	/* Not written: until it is started, what the labels say is enough (see act_start). */
	first = !l->j.created;
	pthread_mutex_lock(&l->lock);
	l->j.created = true;
	pthread_mutex_unlock(&l->lock);
	if (runtime_create(agent_runtime(l->w), &spec, &err) == 0) {
		l->tries = 0;
		l->made = first; /* else it may have been there */
		return;
	}
	/* The image was removed meanwhile. */
	if (err.code == ERR_NOT_FOUND && l->tries++ == 0) {
		pthread_mutex_lock(&l->lock);
		l->j.prepared = false;
		pthread_mutex_unlock(&l->lock);
		return;
	}
	if (step_failed(l, &err))
		lease_fail(l, REASON_CREATE_FAILED, NULL, &err);
}

/* What a shell would say of a command that it cannot run: the same on every machine. */
static void command_fail(struct lease_run *l, const struct err *err)
{
	pthread_mutex_lock(&l->lock);
	l->j.end_state = OBSERVED_EXITED;
	l->j.end_reason = REASON_EXITED_WITH_ERROR;
	l->j.exit_code = err->sys == ENOENT ? 127 : 126;
	l->j.end_text = arena_printf(&l->arena, "its command cannot be run: %s", err->text);
	pthread_mutex_unlock(&l->lock);
	log_err(LOG_INFO, err, "a lease's command cannot be run", "lease", l->id, NULL);
}

static void act_start(struct lease_run *l)
{
	struct err err = { 0 };

	lease_pump_start(l, false);
	/* Written before: a container that is gone when we come back may have run, and does not
	 * run a second time.  The first that is written of a lease: before this nothing has
	 * happened that may not happen again.  A container that was made is found again by its
	 * name, and removed. */
	pthread_mutex_lock(&l->lock);
	l->j.started = true;
	pthread_mutex_unlock(&l->lock);
	lease_save(l);
	if (runtime_start(agent_runtime(l->w), l->id, &err) < 0) {
		if (err.code == ERR_INVALID)
			command_fail(l, &err);
		else if (step_failed(l, &err))
			lease_fail(l, REASON_CREATE_FAILED, NULL, &err);
		return;
	}
	l->tries = 0;
	if (l->pump)
		log_pump_kick(l->pump);
}

/* ---- running ---- */

static void ready_since(struct lease_run *l, int64_t base_ms)
{
	pthread_mutex_lock(&l->lock);
	l->j.ready = true;
	l->j.base_ms = base_ms;
	l->phase[0] = '\0';
	l->progress_done = l->progress_total = 0;
	pthread_mutex_unlock(&l->lock);
	observe_soon(l->w);
	/* Without a probe the engine's own time stamp says as much after a restart. */
	if (l->j.desired->ready)
		lease_save(l);
	log_line(LOG_INFO, "lease runs", "lease", l->id, "image", l->j.image, NULL);
}

static void act_probe(struct lease_run *l)
{
	const struct readiness *ready = l->j.desired->ready;
	int64_t left = l->status.started_ms + ready->timeout_s * SECOND_MS - now_ms_get();
	struct err err = { 0 };
	int status = -1;

	lease_phase(l, "waiting until it is ready", 0, 0);
	if (runtime_exec(agent_runtime(l->w), l->id, &ready->command,
			 MAX(MIN(left, PROBE_TIMEOUT_MS), 100), &status, &err) == 0 &&
	    status == 0) {
		ready_since(l, now_ms_get());
		return;
	}
	if (err.code)
		snprintf(l->note, sizeof(l->note), "%s", err.text);
	else
		snprintf(l->note, sizeof(l->note), "the readiness command ended with status %d",
			 status);
	lease_wait(l, MAX(MIN(left, PROBE_EVERY_MS), 1));
}

static void act_pause(struct lease_run *l, bool resume)
{
	struct err err = { 0 };
	int rc;

	pthread_mutex_lock(&l->lock);
	if (resume)
		l->j.resume_at_ms = now_ms_get();
	else
		l->j.pause_at_ms = now_ms_get();
	pthread_mutex_unlock(&l->lock);
	lease_save(l);
	rc = resume ? runtime_unpause(agent_runtime(l->w), l->id, &err)
		    : runtime_pause(agent_runtime(l->w), l->id, &err);
	observe_soon(l->w);
	if (rc == 0) {
		log_line(LOG_INFO, resume ? "lease goes on" : "lease is paused", "lease", l->id,
			 NULL);
		return;
	}
	/* It may have ended just now: the next look tells. */
	log_err(LOG_WARN, &err, resume ? "cannot resume" : "cannot pause", "lease", l->id,
		NULL);
	lease_wait(l, 500);
}

/* ---- ending ---- */

/* Whether the machine or its engine went down and took the container along, which is no doing of
 * the customer's.  False: it cannot be told yet, as the engine does not answer. */
static bool loss_tell(const struct lease_run *l, bool *ret_lost)
{
	const struct container_status *st = &l->status;
	int64_t boot_ms, gone_ms, back_ms;
	enum runtime_presence presence;

	*ret_lost = false;
	if (st->exit_code == 0)
		return true;
	boot_ms = system_boot_ms();
	presence = runtime_presence(agent_runtime(l->w));
	pthread_mutex_lock(&l->w->lock); /* after it has answered: it may be another by now */
	gone_ms = l->w->engine_gone_ms;
	back_ms = l->w->engine_back_ms;
	pthread_mutex_unlock(&l->w->lock);
	*ret_lost = presence == RUNTIME_GONE || /* it has ended its containers, and then itself */
		    (boot_ms && st->started_ms < boot_ms && st->finished_ms >= boot_ms) ||
		    (gone_ms && st->finished_ms >= gone_ms - 15 * SECOND_MS &&
		     (!back_ms || back_ms < gone_ms || st->finished_ms <= back_ms));
	return *ret_lost || presence == RUNTIME_THERE;
}

static void end_by_exit(struct lease_run *l, bool lost)
{
	struct journal *j = &l->j;
	const struct container_status *st = &l->status;
	const struct resources *r = j->desired->resources;

	j->exit_code = MIN(MAX(st->exit_code, -1), 255);
	if (st->oom_killed) {
		j->end_reason = REASON_OUT_OF_MEMORY;
		j->end_text = arena_printf(&l->arena,
					   "it needed more than its %" PRId64 " MiB of memory",
					   r ? r->memory_mib : 0);
	} else if (lost) {
		j->end_reason = REASON_CONTAINER_LOST;
		j->end_text = arena_printf(&l->arena,
					   "the machine or its container engine was restarted");
	} else if (st->exit_code) {
		j->end_reason = REASON_EXITED_WITH_ERROR;
		j->end_text = st->error[0]
				      ? arena_printf(&l->arena,
						     "it ended with status %" PRId64 ": %s",
						     st->exit_code, st->error)
				      : arena_printf(&l->arena, "it ended with status %" PRId64,
						     st->exit_code);
	} else {
		j->end_reason = REASON_COMPLETED;
		j->end_text = NULL;
	}
}

static const char *end_text(struct lease_run *l, enum lease_reason reason)
{
	const struct desired_lease *d = l->j.desired;
	char a[32], b[32];

	switch ((int)reason) {
	case REASON_DISK_LIMIT_EXCEEDED:
		size_format(l->disk_used_bytes + l->j.inputs_bytes, a);
		size_format(d->resources->disk_mib << 20, b);
		return arena_printf(&l->arena, "it took %s%s; %s were asked for", a,
				    l->j.inputs_bytes ? ", inputs included" : "", b);
	case REASON_NEVER_READY:
		return arena_printf(&l->arena,
				    "not ready within %" PRId64 " s of its start%s%s",
				    d->ready->timeout_s, l->note[0] ? ": " : "", l->note);
	case REASON_WORKER_LOST:
		duration_format(d->grace_ms, a);
		return arena_printf(&l->arena,
				    "the worker could not reach the server for %s and ended it",
				    a);
	case REASON_CONTAINER_LOST:
		return arena_printf(&l->arena,
				    "its container has disappeared from the machine");
	}
	return NULL;
}

static void act_end(struct lease_run *l, const struct lease_decision *d)
{
	bool by_itself = d->reason == REASON_NONE && l->status.state == CONTAINER_EXITED &&
			 l->j.desired->desired != DESIRE_STOP,
	     lost = false;

	if (by_itself && !loss_tell(l, &lost)) {
		lease_wait(l, SECOND_MS);
		return;
	}
	pthread_mutex_lock(&l->lock);
	l->j.end_state = d->end_state;
	l->j.end_reason = d->reason;
	if (by_itself)
		end_by_exit(l, lost);
	else
		l->j.end_text = end_text(l, d->reason);
	/* Ended before it was ready, or before we saw it run: it did run. */
	if (!l->j.base_ms && l->status.started_ms && !l->j.desired->ready) {
		l->j.base_ms = l->status.started_ms;
		l->j.ready = true;
		l->j.delivered_ms = meter_delivered_ms(&l->j, &l->status, l->seen_ms);
	}
	pthread_mutex_unlock(&l->lock);
	if (d->reason != REASON_NONE)
		lease_save(l); /* decided by us: it stays decided */
	log_line(LOG_INFO, "lease ends", "lease", l->id, "reason",
		 l->j.end_reason ? lease_reason_names[l->j.end_reason] : "told to stop", "text",
		 l->j.end_text, NULL);
}

static void act_stop(struct lease_run *l)
{
	struct err err = { 0 };
	int64_t grace = STOP_GRACE_MS;

	if (l->j.end_reason == REASON_DISK_LIMIT_EXCEEDED)
		grace = 0; /* it still writes */
	else if (l->j.end_reason == REASON_WORKER_LOST)
		grace = FENCE_GRACE_MS;

	lease_phase(l, "stopping", 0, 0);
	if (runtime_stop(agent_runtime(l->w), l->id, grace, &err) < 0) {
		log_err(LOG_WARN, &err, "cannot stop a container", "lease", l->id, NULL);
		lease_wait(l, SECOND_MS);
	}
}

static void act_flush(struct lease_run *l)
{
	if (l->pump) {
		log_pump_ended(l->pump, &l->cancel);
		if (!log_pump_done(l->pump)) {
			lease_wait(l, 2 * SECOND_MS);
			if (!log_pump_done(l->pump))
				return;
		}
	}
	pthread_mutex_lock(&l->lock);
	if (l->pump) {
		struct output_position at;
		bool cut;

		log_pump_position(l->pump, &at, &cut);
		l->j.log_seq = at.seq;
		l->j.log_cut |= cut;
	}
	l->j.logs_done = true;
	pthread_mutex_unlock(&l->lock);
	log_pump_free(take_ptr(l->pump));
}

static void on_result(void *arg, int64_t done, int64_t total)
{
	lease_phase(arg, "delivering results", done, total);
}

static void act_collect(struct lease_run *l)
{
	cleanup_strbuf struct strbuf note = STRBUF_INIT;
	struct err err = { 0 };

	if (results_collect(l->w->link, agent_runtime(l->w), l->w->state_dir, l->j.desired,
			    &l->cancel, on_result, l, &note, &err) < 0) {
		if (cancelled(l))
			return;
		if (err.code == ERR_UNAVAILABLE || err.code == ERR_TIMEOUT ||
		    err.code == ERR_UNAUTHENTICATED || err.code == ERR_RATE) {
			log_err(LOG_WARN, &err, "results cannot be delivered now, trying again",
				"lease", l->id, NULL);
			lease_wait(l, 2 * SECOND_MS);
			return;
		}
		log_err(LOG_ERROR, &err, "results are lost", "lease", l->id, NULL);
		strbuf_addf(&note, "%sresults could not be delivered: %s", note.len ? "; " : "",
			    err.text);
	}
	pthread_mutex_lock(&l->lock);
	l->j.results_done = true;
	if (note.len)
		l->j.end_text = arena_printf(&l->arena, "%s%s%.400s",
					     l->j.end_text ? l->j.end_text : "",
					     l->j.end_text ? "; " : "", note.buf);
	pthread_mutex_unlock(&l->lock);
}

static void act_finish(struct lease_run *l)
{
	int64_t final_seq = 0;

	pthread_mutex_lock(&l->lock);
	if (l->status.state == CONTAINER_EXITED)
		l->j.exit_code = MIN(MAX(l->status.exit_code, -1), 255);
	if (l->j.base_ms) {
		if (l->receipt_next >= l->j.receipt_seq)
			l->j.receipt_seq = l->receipt_next + 1;
		final_seq = ++l->receipt_next;
	}
	l->ending = true;
	pthread_mutex_unlock(&l->lock);
	/* First the journal: what was said to be the end must stay the end. */
	lease_save_end(l, final_seq);
	observe_end(l->w);
	log_pump_free(take_ptr(l->pump));
}

static void act_remove(struct lease_run *l)
{
	cleanup_free char *inputs = lease_dir(l->w->state_dir, l->id, "in");
	struct err err = { 0 };

	log_pump_free(take_ptr(l->pump));
	if (l->j.created &&
	    (!agent_runtime(l->w) || runtime_remove(agent_runtime(l->w), l->id, &err) < 0)) {
		log_err(LOG_WARN, &err, "cannot remove a container", "lease", l->id, NULL);
		lease_wait(l, 2 * SECOND_MS);
		return;
	}
	if (dir_remove(inputs, &err) < 0)
		log_err(LOG_WARN, &err, "cannot remove the inputs of a lease", "lease", l->id,
			NULL);
	pthread_mutex_lock(&l->lock);
	l->j.removed = true;
	pthread_mutex_unlock(&l->lock);
}

void lease_act(struct lease_run *l, const struct lease_decision *d)
{
	switch (d->action) {
	case ACT_PREPARE: act_prepare(l); break;
	case ACT_CREATE: act_create(l); break;
	case ACT_START: act_start(l); break;
	case ACT_PROBE: act_probe(l); break;
	case ACT_READY: ready_since(l, l->status.started_ms); break;
	case ACT_PAUSE:
	case ACT_RESUME: act_pause(l, d->action == ACT_RESUME); break;
	case ACT_END: act_end(l, d); break;
	case ACT_STOP: act_stop(l); break;
	case ACT_FLUSH: act_flush(l); break;
	case ACT_COLLECT: act_collect(l); break;
	case ACT_FINISH: act_finish(l); break;
	case ACT_REMOVE: act_remove(l); break;
	case ACT_WAIT:
	case ACT_FORGET: break;
	}
}
