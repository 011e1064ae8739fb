/* The lease machine: (lease, event, now) -> (lease, effects).
 *
 *   RESERVED --accepted--> PREPARING --running--> RUNNING <--pause, resume--> PAUSED
 *
 *   any of these       --stop, time out------------> STOPPING
 *   these or STOPPING  --exited, failed, gone, lost-> ENDED
 *
 * One table names the step for every event in every state; a step only changes the values in
 * its hands.  What the worker says about a state that is already passed is ignored, so that
 * late and doubled observations do no harm; what ends a lease is final, whatever comes after.
 *
 * A reservation that ran out does not end at once: the worker may have taken it and not been
 * heard, and would run it beside the next attempt.  It is stopped, and ends when the worker
 * says so, when a worker that answers has had LEASE_STOP_GRACE_MS (and no longer shows it), or
 * when a silent one has used up its grace and so has ended it by itself.  One that was not heard
 * since the stop, or since it last showed the lease, counts as silent then: the network may
 * call it so only much later.
 *
 * Called by control/ on any thread.  Fails only with ERR_CONFLICT.
 */
#include "internal.h"

#define LEASE_EVENT_COUNT (LEASE_EVENT_TICK + 1)
#define LEASE_STATE_COUNT (LEASE_ENDED + 1)

struct step {
	struct lease lease; /* becomes what it is to be */
	const struct lease_event *event;
	int64_t now_ms;
	unsigned effects;
	bool refused;
};

/* ---- changes that steps are made of ------------------------------------------------------ */

static void change_reason(struct step *s, enum lease_reason reason)
{
	s->lease.reason = reason;
	s->lease.reason_text =
		str_empty(s->event->text) ? lease_reason_text(reason) : s->event->text;
	s->effects |= EFFECT_CHANGED | EFFECT_ANNOUNCE;
}

static void change_state(struct step *s, enum lease_state state, enum lease_reason reason)
{
	s->lease.state = state;
	change_reason(s, reason);
}

static void change_desired(struct step *s, enum lease_desired desired)
{
	s->lease.desired = desired;
	s->effects |= EFFECT_CHANGED | EFFECT_DESIRE;
}

/* The worker resolves an image once; what it says later cannot change what ran. */
static void change_digest(struct step *s)
{
	if (!str_empty(s->lease.image_digest) || str_empty(s->event->image_digest))
		return;
	s->lease.image_digest = s->event->image_digest;
	s->effects |= EFFECT_CHANGED;
}

/* `reason` is kept for good.  What the worker did for the customer is counted by it. */
static void change_to_ended(struct step *s)
{
	enum lease_reason reason = s->lease.reason;

	s->lease.state = LEASE_ENDED;
	s->lease.ended_ms = s->now_ms;
	s->lease.phase = NULL;
	s->lease.paused_ms = 0;
	change_desired(s, DESIRE_NONE);
	s->effects |= EFFECT_ANNOUNCE | EFFECT_RELEASE | EFFECT_SETTLE;
	if (lease_reason_retries(reason))
		s->effects |= EFFECT_RETRY;
	if (lease_reason_avoids(reason))
		s->effects |= EFFECT_AVOID;
	if (lease_reason_blames_worker(reason))
		s->effects |= EFFECT_BLAME;
	else if (s->lease.running_ms && !lease_reason_retries(reason))
		s->effects |= EFFECT_CREDIT;
}

static void change_to_stopping(struct step *s, enum lease_reason reason)
{
	s->lease.stopping_ms = s->now_ms;
	s->lease.paused_ms = 0;
	change_state(s, LEASE_STOPPING, reason);
	change_desired(s, DESIRE_STOP);
}

/* A worker that was restarted knows that it has started the container, but not since when. */
static bool may_have_run(const struct step *s)
{
	return s->event->started && !s->lease.ready_timeout_ms;
}

/* The first word of the worker may come late, when it has run for a while. */
static void change_to_accepted(struct step *s)
{
	struct lease *l = &s->lease;
	int64_t since = may_have_run(s) ? l->reserved_ms
					: s->now_ms - s->event->age_ms - s->event->delivered_ms;

	if (l->accepted_ms)
		return;
	l->accepted_ms = MIN(MAX(l->reserved_ms, since), s->now_ms);
	if (s->now_ms - l->accepted_ms <= l->grace_ms)
		l->observed_ms = s->now_ms - l->accepted_ms;
}

static void change_to_run(struct step *s)
{
	change_to_accepted(s);
	change_digest(s);
	s->lease.phase = NULL;
	if (!s->lease.running_ms)
		s->lease.running_ms =
			MAX(s->lease.accepted_ms, s->now_ms - s->event->delivered_ms);
}

/* ---- what a worker may give as a reason -------------------------------------------------- */

/* A worker must not speak for the customer, the operator or the network. */
static bool worker_may_say(const struct lease *lease, enum lease_reason reason)
{
	switch (reason) {
	case REASON_OUT_OF_MEMORY:
	case REASON_DISK_LIMIT_EXCEEDED:
	case REASON_IMAGE_PULL_FAILED:
	case REASON_IMAGE_NOT_ALLOWED:
	case REASON_REGISTRY_NOT_ALLOWED:
	case REASON_INPUT_FAILED:
	case REASON_CREATE_FAILED:
	case REASON_NEVER_READY:
	case REASON_PREPARATION_TIMEOUT:
	case REASON_REFUSED_BY_WORKER:
	case REASON_WORKER_LOST:
	case REASON_CONTAINER_LOST:
	case REASON_DRAINED_BY_PROVIDER: return true;
	case REASON_MAX_DURATION_EXCEEDED: return lease->max_duration_ms > 0;
	case REASON_NONE:
	case REASON_PLACED:
	case REASON_ACCEPTED:
	case REASON_READY:
	case REASON_COMPLETED:
	case REASON_EXITED_WITH_ERROR:
	case REASON_RESERVATION_EXPIRED:
	case REASON_STOPPED_BY_CUSTOMER:
	case REASON_BLOCKED_BY_OPERATOR:
	case REASON_OUT_OF_FUNDS:
	case REASON_RESUMED: return false;
	}
	return false;
}

/* The kernel may have ended a child while the command itself went on to status 0: then it
 * has completed. */
static enum lease_reason exit_reason(const struct step *s)
{
	enum lease_reason said = s->event->reason;

	if (said == REASON_OUT_OF_MEMORY && s->event->exit_code == 0)
		return REASON_COMPLETED;
	if (worker_may_say(&s->lease, said))
		return said;
	return s->event->exit_code == 0 ? REASON_COMPLETED : REASON_EXITED_WITH_ERROR;
}

/* ---- steps: what the worker observes ----------------------------------------------------- */

static void ignore(struct step *s) {}

static void refuse(struct step *s)
{
	s->refused = true;
}

static void accept(struct step *s)
{
	change_to_accepted(s);
	change_state(s, LEASE_PREPARING, REASON_ACCEPTED);
}

/* Takes back what meter_observe allowed for the case that it had already started: but not since
 * this was said. */
static void not_yet(struct step *s)
{
	s->lease.observed_ms = MIN(s->event->age_ms, s->now_ms - s->lease.accepted_ms);
}

static void progress(struct step *s)
{
	struct lease *l = &s->lease;
	const struct lease_event *e = s->event;
	bool same = (!e->phase || str_eq(e->phase, l->phase)) &&
		    e->progress_done == l->progress_done &&
		    e->progress_total == l->progress_total;

	if (!may_have_run(s))
		not_yet(s);
	change_digest(s);
	if (e->started && l->ready_timeout_ms && !l->ready_until_ms) {
		l->ready_until_ms = s->now_ms + l->ready_timeout_ms;
		s->effects |= EFFECT_CHANGED;
	}
	if (same)
		return;
	if (e->phase)
		l->phase = e->phase;
	l->progress_done = e->progress_done;
	l->progress_total = e->progress_total;
	s->effects |= EFFECT_CHANGED;
}

static void accept_late(struct step *s)
{
	accept(s);
	progress(s);
}

static void run(struct step *s)
{
	change_to_run(s);
	change_state(s, LEASE_RUNNING, REASON_READY);
}

static void still_runs(struct step *s)
{
	change_digest(s);
}

static void run_again(struct step *s)
{
	if (s->lease.desired != DESIRE_RUN)
		return; /* said before it was told to pause */
	s->lease.paused_ms = 0;
	change_state(s, LEASE_RUNNING, REASON_RESUMED);
}

/* As told, or by itself when what is paid for was used up. */
static void freeze(struct step *s)
{
	change_to_run(s);
	s->lease.paused_ms = s->now_ms;
	change_state(s, LEASE_PAUSED, REASON_OUT_OF_FUNDS);
}

static void exited(struct step *s)
{
	change_to_run(s);
	s->lease.exit_code = s->event->exit_code;
	change_reason(s, exit_reason(s));
	change_to_ended(s);
}

/* A worker that came to the same conclusion as the server knows more about it. */
static void say_more(struct step *s)
{
	if (s->event->reason == s->lease.reason && !str_empty(s->event->text))
		change_reason(s, s->event->reason);
}

/* The stop came first: its reason stands, whatever its signal made of the exit status. */
static void stop_exit(struct step *s)
{
	change_digest(s);
	say_more(s);
	s->lease.exit_code = s->event->exit_code;
	change_to_ended(s);
}

static void failed(struct step *s)
{
	enum lease_reason said = s->event->reason;

	change_digest(s);
	if (!worker_may_say(&s->lease, said))
		said = s->lease.running_ms ? REASON_CONTAINER_LOST : REASON_CREATE_FAILED;
	change_reason(s, said);
	change_to_ended(s);
}

static void lost(struct step *s)
{
	change_reason(s, REASON_CONTAINER_LOST);
	change_to_ended(s);
}

static void stopped(struct step *s)
{
	say_more(s);
	change_to_ended(s);
}

/* ---- steps: what the server wants -------------------------------------------------------- */

static void stop(struct step *s)
{
	assert(s->event->reason >= REASON_COMPLETED && s->event->reason < REASON_RESUMED);
	change_to_stopping(s, s->event->reason);
}

/* A stop that allows another attempt gives way to one that does not: the customer's word is
 * the last. */
static void stop_final(struct step *s)
{
	if (lease_reason_retries(s->lease.reason) && !lease_reason_retries(s->event->reason))
		change_reason(s, s->event->reason);
}

static void pause_it(struct step *s)
{
	if (s->lease.desired == DESIRE_PAUSE)
		return;
	change_desired(s, DESIRE_PAUSE);
	change_reason(s, REASON_OUT_OF_FUNDS);
}

static void resume(struct step *s)
{
	if (s->lease.desired == DESIRE_RUN)
		return;
	change_desired(s, DESIRE_RUN);
	change_reason(s, REASON_RESUMED);
}

static void silent(struct step *s)
{
	if (s->lease.unreachable_since_ms)
		return;
	s->lease.unreachable_since_ms = s->now_ms;
	s->effects |= EFFECT_CHANGED;
}

static void heard(struct step *s)
{
	if (!s->lease.unreachable_since_ms)
		return;
	s->lease.unreachable_since_ms = 0;
	s->effects |= EFFECT_CHANGED;
}

/* ---- time -------------------------------------------------------------------------------- */

/* What happens next if nobody says anything. */
struct due {
	int64_t at_ms; /* 0: nothing */
	enum lease_state to;
	enum lease_reason reason;
};

static void due_earlier(struct due *due, int64_t at_ms, enum lease_state to,
			enum lease_reason reason)
{
	if (due->at_ms && due->at_ms <= at_ms)
		return;
	*due = (struct due){ MAX(at_ms, 1), to, reason };
}

/* By its receipts, running on since the last look; a worker that sends none gets a little
 * longer by the server's own observations.  Workers watch the limit themselves: this is for
 * those that do not. */
static int64_t duration_end_ms(const struct lease *l)
{
	int64_t by_receipts = l->max_duration_ms - MIN(l->claimed_ms, l->observed_ms);
	int64_t by_observations = l->max_duration_ms + LEASE_STOP_GRACE_MS - l->observed_ms;

	return MAX(l->observed_at_ms, l->running_ms) +
	       MAX(MIN(by_receipts, by_observations), 0);
}

/* When a worker that answers has had its time.  Where another attempt follows, one that goes on
 * showing the lease has not heeded the stop, or not heard it yet: then the attempt waits, at most
 * as long as for a worker that is silent. */
static int64_t stop_end_ms(const struct lease *l)
{
	int64_t end_ms = l->stopping_ms + LEASE_STOP_GRACE_MS;

	if (!lease_reason_retries(l->reason))
		return end_ms;
	return MIN(MAX(end_ms, l->observed_at_ms + LEASE_STOP_GRACE_MS), end_ms + l->grace_ms);
}

static struct due due_next(const struct lease *l)
{
	struct due due = { 0 };

	switch ((enum lease_state)l->state) {
	case LEASE_RESERVED:
		if (l->reserved_until_ms)
			due_earlier(&due, l->reserved_until_ms, LEASE_STOPPING,
				    REASON_RESERVATION_EXPIRED);
		break;
	case LEASE_PREPARING:
		/* The worker watches this itself, and knows what the command said.  It tells
		 * when the container starts; if that word is lost, both limits together
		 * hold. */
		if (l->ready_until_ms)
			due_earlier(&due, l->ready_until_ms + LEASE_READY_SLACK_MS,
				    LEASE_STOPPING, REASON_NEVER_READY);
		else if (l->prepare_until_ms)
			due_earlier(&due, l->prepare_until_ms + l->ready_timeout_ms,
				    LEASE_STOPPING, REASON_PREPARATION_TIMEOUT);
		break;
	case LEASE_RUNNING:
		if (l->max_duration_ms)
			due_earlier(&due, duration_end_ms(l), LEASE_STOPPING,
				    REASON_MAX_DURATION_EXCEEDED);
		break;
	case LEASE_PAUSED: break;
	case LEASE_STOPPING:
		if (!l->unreachable_since_ms)
			due_earlier(&due, stop_end_ms(l), LEASE_ENDED,
				    l->reason);
		break;
	case LEASE_ENDED: return due;
	}
	if (l->unreachable_since_ms)
		due_earlier(&due, l->unreachable_since_ms + l->grace_ms, LEASE_ENDED,
			    l->state == LEASE_STOPPING ? (enum lease_reason)l->reason
						       : REASON_WORKER_LOST);
	return due;
}

/* Whether the worker of a stopped lease may be cut off and run it still, beside the next attempt. */
static bool may_run_on(const struct step *s)
{
	const struct lease *l = &s->lease;

	return l->state == LEASE_STOPPING && !l->unreachable_since_ms &&
	       lease_reason_retries(l->reason) &&
	       s->now_ms < l->stopping_ms + LEASE_STOP_GRACE_MS + l->grace_ms &&
	       s->event->heard_ms <= MAX(l->stopping_ms, l->observed_at_ms);
}

static void tick(struct step *s)
{
	struct due due = due_next(&s->lease);

	if (!due.at_ms || s->now_ms < due.at_ms)
		return;
	if (due.to == LEASE_STOPPING) {
		change_to_stopping(s, due.reason);
		return;
	}
	if (may_run_on(s)) {
		silent(s);
		return;
	}
	if (due.reason != (enum lease_reason)s->lease.reason)
		change_reason(s, due.reason);
	change_to_ended(s);
}

int64_t lease_deadline_ms(const struct lease *lease)
{
	return due_next(lease).at_ms;
}

/* ---- the machine ------------------------------------------------------------------------- */

typedef void step_fn(struct step *s);

/* clang-format off */
#define ON(event) [LEASE_EVENT_##event]
static step_fn *const steps[LEASE_EVENT_COUNT][LEASE_STATE_COUNT] = {
	/*               RESERVED     PREPARING  RUNNING     PAUSED     STOPPING    ENDED */
	ON(ACCEPTED) = { accept,      not_yet,   ignore,     ignore,    ignore,     ignore },
	ON(PROGRESS) = { accept_late, progress,  ignore,     ignore,    ignore,     ignore },
	ON(RUNNING)  = { run,         run,       still_runs, run_again, ignore,     ignore },
	ON(PAUSED)   = { freeze,      freeze,    freeze,     ignore,    ignore,     ignore },
	ON(EXITED)   = { exited,      exited,    exited,     exited,    stop_exit,  ignore },
	ON(FAILED)   = { failed,      failed,    failed,     failed,    stopped,    ignore },
	/* A reservation that the worker does not have is one that it has not seen yet. */
	ON(GONE)     = { ignore,      lost,      lost,       lost,      stopped,    ignore },
	ON(STOP)     = { stop,        stop,      stop,       stop,      stop_final, ignore },
	ON(PAUSE)    = { refuse,      refuse,    pause_it,   pause_it,  ignore,     ignore },
	ON(RESUME)   = { ignore,      ignore,    resume,     resume,    ignore,     ignore },
	ON(SILENT)   = { silent,      silent,    silent,     silent,    silent,     ignore },
	ON(HEARD)    = { heard,       heard,     heard,      heard,     heard,      ignore },
	ON(TICK)     = { tick,        tick,      tick,       tick,      tick,       ignore },
};
#undef ON
/* clang-format on */

static bool event_is_observation(enum lease_event_kind kind)
{
	return kind <= LEASE_EVENT_GONE;
}

int lease_apply(const struct lease *lease, const struct lease_event *event, int64_t now_ms,
		struct lease_change *ret, struct err *err)
{
	struct step s = { .lease = *lease, .event = event, .now_ms = now_ms };

	assert(lease->state >= LEASE_RESERVED && lease->state <= LEASE_ENDED);
	assert(event->kind <= LEASE_EVENT_TICK && event->delivered_ms >= 0);
	if (event->generation && event->generation != lease->generation)
		return err_set(err, ERR_CONFLICT,
			       "lease %s is at generation %" PRId64 ", not %" PRId64
			       ": it was placed again",
			       lease->id, lease->generation, event->generation);
	if (event_is_observation(event->kind) && lease->state != LEASE_ENDED)
		meter_observe(&s.lease, now_ms);
	steps[event->kind][lease->state](&s);
	if (s.refused)
		return err_set(err, ERR_CONFLICT,
			       "lease %s is %s and cannot be paused: stop it", lease->id,
			       lease_state_names[lease->state]);
	if (s.effects)
		s.lease.updated_ms = now_ms;
	*ret = (struct lease_change){ s.lease, s.effects };
	return 0;
}
