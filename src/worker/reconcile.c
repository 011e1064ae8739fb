/* What to do next for one lease: a function of what is wanted, what was done and what the
 * engine has.
 *
 *   PREPARE -> CREATE -> START -> (PROBE)* -> READY -> … -> END -> (STOP) -> FLUSH -> COLLECT -> FINISH -> REMOVE -> FORGET
 *
 * Level-triggered: asked again after every step and every wake, it does not remember what it
 * answered before.
 */
#include "internal.h"

static struct lease_decision act(enum lease_action action)
{
	return (struct lease_decision){ .action = action };
}

static struct lease_decision end(enum observed_state state, enum lease_reason reason)
{
	return (struct lease_decision){ .action = ACT_END,
					.end_state = state,
					.reason = reason };
}

static void wake_by(struct lease_decision *d, int64_t at_ms)
{
	if (!d->wake_ms || at_ms < d->wake_ms)
		d->wake_ms = at_ms;
}

static bool is_live(enum container_state s)
{
	return s == CONTAINER_RUNNING || s == CONTAINER_PAUSED;
}

/* The end is decided; the container, its output and its results are still to be dealt with. */
static struct lease_decision bring_to_end(const struct lease_view *v)
{
	const struct journal *j = v->journal;

	if (is_live(v->container))
		return act(ACT_STOP);
	if (j->started && v->container == CONTAINER_EXITED) {
		if (!j->logs_done)
			return act(ACT_FLUSH);
		if (!j->results_done)
			return act(ACT_COLLECT);
	}
	return act(ACT_FINISH);
}

/* The server is done with it. */
static struct lease_decision clean(const struct lease_view *v)
{
	return act(v->journal->removed && v->container == CONTAINER_ABSENT ? ACT_FORGET
									   : ACT_REMOVE);
}

static struct lease_decision fence_wake(const struct lease_view *v, int64_t now_ms)
{
	struct lease_decision ret = act(ACT_WAIT);

	if (v->grace_ms)
		wake_by(&ret, now_ms + MAX(v->grace_ms - v->silent_ms, 1));
	return ret;
}

static struct lease_decision while_running(const struct lease_view *v, int64_t now_ms)
{
	const struct journal *j = v->journal;
	struct lease_decision ret = fence_wake(v, now_ms);

	if (v->disk_exceeded)
		return end(OBSERVED_EXITED, REASON_DISK_LIMIT_EXCEEDED);
	if (!j->ready && v->has_ready) {
		if (v->ready_timeout_ms && now_ms >= v->started_ms + v->ready_timeout_ms)
			return end(OBSERVED_FAILED, REASON_NEVER_READY);
		return act(ACT_PROBE);
	}
	if (!j->ready)
		return act(ACT_READY);
	if (v->max_duration_ms && v->delivered_ms >= v->max_duration_ms)
		return end(OBSERVED_EXITED, REASON_MAX_DURATION_EXCEEDED);
	if (v->want == DESIRE_PAUSE || v->delivered_ms >= v->funded_ms)
		return act(ACT_PAUSE);
	if (v->max_duration_ms)
		wake_by(&ret, now_ms + v->max_duration_ms - v->delivered_ms);
	if (v->funded_ms < FUNDED_UNLIMITED)
		wake_by(&ret, now_ms + v->funded_ms - v->delivered_ms);
	return ret;
}

static struct lease_decision while_absent(const struct lease_view *v, int64_t now_ms)
{
	const struct journal *j = v->journal;

	if (j->started)
		return end(OBSERVED_FAILED, REASON_CONTAINER_LOST);
	if (v->want == DESIRE_PAUSE)
		return fence_wake(v, now_ms); /* starts when it is wanted to run */
	return act(j->prepared ? ACT_CREATE : ACT_PREPARE);
}

struct lease_view lease_view_of(const struct journal *j, const struct container_status *status,
				int64_t silent_ms)
{
	const struct desired_lease *d = j->desired;

	return (struct lease_view){
		.want = d->desired,
		.funded_ms = d->funded_ms,
		.max_duration_ms = d->max_duration_ms,
		.grace_ms = d->grace_ms,
		.has_ready = d->ready != NULL,
		.ready_timeout_ms = d->ready ? d->ready->timeout_s * SECOND_MS : 0,
		.journal = j,
		.container = status->state,
		.started_ms = status->started_ms,
		.delivered_ms = j->delivered_ms,
		.silent_ms = silent_ms,
	};
}

struct lease_decision reconcile_next(const struct lease_view *v, int64_t now_ms)
{
	const struct journal *j = v->journal;

	if (v->want == DESIRE_NONE)
		return clean(v);
	if (j->ended)
		return act(j->removed && v->container == CONTAINER_ABSENT ? ACT_WAIT
									  : ACT_REMOVE);
	if (j->end_state != OBSERVED_ACCEPTED)
		return bring_to_end(v);
	/* The engine may have started it without our having written that down. */
	if (v->container == CONTAINER_EXITED)
		return end(OBSERVED_EXITED, REASON_NONE);
	if (v->want == DESIRE_STOP)
		return end(j->started || is_live(v->container) ? OBSERVED_EXITED
							       : OBSERVED_GONE,
			   REASON_NONE);
	if (v->grace_ms && v->silent_ms >= v->grace_ms)
		return end(j->started || is_live(v->container) ? OBSERVED_EXITED
							       : OBSERVED_FAILED,
			   REASON_WORKER_LOST);

	switch (v->container) {
	case CONTAINER_ABSENT: return while_absent(v, now_ms);
	case CONTAINER_CREATED:
		return v->want == DESIRE_PAUSE ? fence_wake(v, now_ms) : act(ACT_START);
	case CONTAINER_RUNNING: return while_running(v, now_ms);
	case CONTAINER_PAUSED:
		if (v->disk_exceeded)
			return end(OBSERVED_EXITED, REASON_DISK_LIMIT_EXCEEDED);
		if (v->want == DESIRE_RUN && v->delivered_ms < v->funded_ms)
			return act(ACT_RESUME);
		return fence_wake(v, now_ms);
	case CONTAINER_EXITED: break;
	}
	return act(ACT_WAIT);
}
