#include "../model.h"

#include <setjmp.h>

#include <cmocka.h>

#define T0	    INT64_C(1800000000000)
#define ID	    "le_01jdq3k5v8e4r9t0m2n6p7a1bc"
#define EVENT_COUNT (LEASE_EVENT_TICK + 1)
#define STATE_COUNT (LEASE_ENDED + 1)

static const struct resources resources = {
	.cpu_milli = 1000, .memory_mib = 1024, .disk_mib = 1024, .gpus = 1
};

/* A lease that came to `state` on the usual way, a second a step. */
static struct lease lease_in(enum lease_state state)
{
	struct lease l = {
		.id = ID,
		.generation = 3,
		.state = state,
		.desired = DESIRE_RUN,
		.reason = REASON_PLACED,
		.resources = &resources,
		.exit_code = -1,
		.reserved_ms = T0,
		.reserved_until_ms = T0 + 30 * SECOND_MS,
		.prepare_until_ms = T0 + 30 * MINUTE_MS,
		.grace_ms = 5 * MINUTE_MS,
		.funded_ms = FUNDED_UNLIMITED,
		.observed_at_ms = T0,
	};

	if (state >= LEASE_PREPARING) {
		l.reason = REASON_ACCEPTED;
		l.accepted_ms = l.observed_at_ms = T0 + SECOND_MS;
	}
	if (state >= LEASE_RUNNING) {
		l.reason = REASON_READY;
		l.running_ms = l.observed_at_ms = T0 + 2 * SECOND_MS;
	}
	if (state == LEASE_PAUSED) {
		l.desired = DESIRE_PAUSE;
		l.reason = REASON_OUT_OF_FUNDS;
		l.paused_ms = l.observed_at_ms = T0 + 3 * SECOND_MS;
	}
	if (state == LEASE_STOPPING) {
		l.desired = DESIRE_STOP;
		l.reason = REASON_STOPPED_BY_CUSTOMER;
		l.stopping_ms = T0 + 3 * SECOND_MS;
	}
	if (state == LEASE_ENDED) {
		l.desired = DESIRE_NONE;
		l.reason = REASON_COMPLETED;
		l.ended_ms = T0 + 3 * SECOND_MS;
	}
	return l;
}

static struct lease_event event_of(enum lease_event_kind kind)
{
	struct lease_event e = { .kind = kind, .exit_code = -1 };

	if (kind <= LEASE_EVENT_GONE)
		e.generation = 3;
	if (kind == LEASE_EVENT_EXITED)
		e.exit_code = 0;
	if (kind == LEASE_EVENT_FAILED)
		e.reason = REASON_IMAGE_PULL_FAILED;
	if (kind == LEASE_EVENT_STOP)
		e.reason = REASON_DRAINED_BY_PROVIDER;
	return e;
}

static struct lease_change apply(const struct lease *l, const struct lease_event *e,
				 int64_t now_ms)
{
	struct lease_change ret;
	struct err err = { 0 };

	if (lease_apply(l, e, now_ms, &ret, &err) < 0)
		fail_msg("%s", err.text);
	return ret;
}

static struct lease_change apply_kind(const struct lease *l, enum lease_event_kind kind,
				      int64_t now_ms)
{
	struct lease_event e = event_of(kind);

	e.heard_ms = now_ms;
	return apply(l, &e, now_ms);
}

/* ---- every event in every state ---------------------------------------------------------- */

#define NONE	REASON_NONE /* no effects, state and reason as before */
#define REFUSED (-1)
#define MOVE	(EFFECT_CHANGED | EFFECT_ANNOUNCE)
#define STOP	(MOVE | EFFECT_DESIRE)
#define END	(STOP | EFFECT_RELEASE | EFFECT_SETTLE)
#define RETRY	(EFFECT_RETRY | EFFECT_AVOID)

struct outcome {
	int state;
	int reason;
	unsigned effects;
};

/* As a table again, written down apart from the machine; 4 seconds after T0. */
static const struct outcome outcomes[EVENT_COUNT][STATE_COUNT] = {
	[LEASE_EVENT_ACCEPTED] = { { LEASE_PREPARING, REASON_ACCEPTED, MOVE },
				   { LEASE_PREPARING, NONE, 0 },
				   { LEASE_RUNNING, NONE, 0 },
				   { LEASE_PAUSED, NONE, 0 },
				   { LEASE_STOPPING, NONE, 0 },
				   { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_PROGRESS] = { { LEASE_PREPARING, REASON_ACCEPTED, MOVE },
				   { LEASE_PREPARING, NONE, 0 },
				   { LEASE_RUNNING, NONE, 0 },
				   { LEASE_PAUSED, NONE, 0 },
				   { LEASE_STOPPING, NONE, 0 },
				   { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_RUNNING] = { { LEASE_RUNNING, REASON_READY, MOVE },
				  { LEASE_RUNNING, REASON_READY, MOVE },
				  { LEASE_RUNNING, NONE, 0 },
				  { LEASE_PAUSED, NONE, 0 },
				  { LEASE_STOPPING, NONE, 0 },
				  { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_PAUSED] = { { LEASE_PAUSED, REASON_OUT_OF_FUNDS, MOVE },
				 { LEASE_PAUSED, REASON_OUT_OF_FUNDS, MOVE },
				 { LEASE_PAUSED, REASON_OUT_OF_FUNDS, MOVE },
				 { LEASE_PAUSED, NONE, 0 },
				 { LEASE_STOPPING, NONE, 0 },
				 { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_EXITED] = { { LEASE_ENDED, REASON_COMPLETED, END | EFFECT_CREDIT },
				 { LEASE_ENDED, REASON_COMPLETED, END | EFFECT_CREDIT },
				 { LEASE_ENDED, REASON_COMPLETED, END | EFFECT_CREDIT },
				 { LEASE_ENDED, REASON_COMPLETED, END | EFFECT_CREDIT },
				 { LEASE_ENDED, REASON_STOPPED_BY_CUSTOMER,
				   END | EFFECT_CREDIT },
				 { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_FAILED] = { { LEASE_ENDED, REASON_IMAGE_PULL_FAILED, END | RETRY },
				 { LEASE_ENDED, REASON_IMAGE_PULL_FAILED, END | RETRY },
				 { LEASE_ENDED, REASON_IMAGE_PULL_FAILED, END | RETRY },
				 { LEASE_ENDED, REASON_IMAGE_PULL_FAILED, END | RETRY },
				 { LEASE_ENDED, REASON_STOPPED_BY_CUSTOMER,
				   END | EFFECT_CREDIT },
				 { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_GONE] = { { LEASE_RESERVED, NONE, 0 },
			       { LEASE_ENDED, REASON_CONTAINER_LOST,
				 END | RETRY | EFFECT_BLAME },
			       { LEASE_ENDED, REASON_CONTAINER_LOST,
				 END | RETRY | EFFECT_BLAME },
			       { LEASE_ENDED, REASON_CONTAINER_LOST,
				 END | RETRY | EFFECT_BLAME },
			       { LEASE_ENDED, REASON_STOPPED_BY_CUSTOMER, END | EFFECT_CREDIT },
			       { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_STOP] = { { LEASE_STOPPING, REASON_DRAINED_BY_PROVIDER, STOP },
			       { LEASE_STOPPING, REASON_DRAINED_BY_PROVIDER, STOP },
			       { LEASE_STOPPING, REASON_DRAINED_BY_PROVIDER, STOP },
			       { LEASE_STOPPING, REASON_DRAINED_BY_PROVIDER, STOP },
			       { LEASE_STOPPING, NONE, 0 },
			       { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_PAUSE] = { { REFUSED },
				{ REFUSED },
				{ LEASE_RUNNING, REASON_OUT_OF_FUNDS, STOP },
				{ LEASE_PAUSED, NONE, 0 },
				{ LEASE_STOPPING, NONE, 0 },
				{ LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_RESUME] = { { LEASE_RESERVED, NONE, 0 },
				 { LEASE_PREPARING, NONE, 0 },
				 { LEASE_RUNNING, NONE, 0 },
				 { LEASE_PAUSED, REASON_RESUMED, STOP },
				 { LEASE_STOPPING, NONE, 0 },
				 { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_SILENT] = { { LEASE_RESERVED, NONE, EFFECT_CHANGED },
				 { LEASE_PREPARING, NONE, EFFECT_CHANGED },
				 { LEASE_RUNNING, NONE, EFFECT_CHANGED },
				 { LEASE_PAUSED, NONE, EFFECT_CHANGED },
				 { LEASE_STOPPING, NONE, EFFECT_CHANGED },
				 { LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_HEARD] = { { LEASE_RESERVED, NONE, 0 },
				{ LEASE_PREPARING, NONE, 0 },
				{ LEASE_RUNNING, NONE, 0 },
				{ LEASE_PAUSED, NONE, 0 },
				{ LEASE_STOPPING, NONE, 0 },
				{ LEASE_ENDED, NONE, 0 } },
	[LEASE_EVENT_TICK] = { { LEASE_RESERVED, NONE, 0 },
			       { LEASE_PREPARING, NONE, 0 },
			       { LEASE_RUNNING, NONE, 0 },
			       { LEASE_PAUSED, NONE, 0 },
			       { LEASE_STOPPING, NONE, 0 },
			       { LEASE_ENDED, NONE, 0 } },
};

static void test_every_pair(void **state)
{
	for (int kind = 0; kind < EVENT_COUNT; kind++)
		for (int from = 0; from < STATE_COUNT; from++) {
			const struct outcome *want = &outcomes[kind][from];
			struct lease l = lease_in(from);
			struct lease_event e = event_of(kind);
			struct lease_change c = { .effects = 4711 };
			struct err err = { 0 };
			int rc = lease_apply(&l, &e, T0 + 4 * SECOND_MS, &c, &err);

			if (want->state == REFUSED) {
				assert_int_equal(rc, -1);
				assert_int_equal(err.code, ERR_CONFLICT);
				assert_int_equal(c.effects, 4711);
				continue;
			}
			if (rc < 0 || c.lease.state != want->state ||
			    c.effects != want->effects ||
			    c.lease.reason != (want->reason == NONE ? l.reason : want->reason))
				fail_msg("event %d in %s: %s for %s, effects %#x, expected %#x",
					 kind, lease_state_names[from],
					 lease_state_names[c.lease.state],
					 lease_reason_names[c.lease.reason], c.effects,
					 want->effects);
			assert_true(c.effects == 0 ? c.lease.updated_ms == l.updated_ms
						   : c.lease.updated_ms == T0 + 4 * SECOND_MS);
			if (c.effects & EFFECT_RELEASE) {
				assert_int_equal(c.lease.desired, DESIRE_NONE);
				assert_true(c.lease.ended_ms == T0 + 4 * SECOND_MS);
			}
		}
}

static void test_other_generation(void **state)
{
	for (int kind = 0; kind < EVENT_COUNT; kind++)
		for (int from = 0; from < STATE_COUNT; from++) {
			struct lease l = lease_in(from);
			struct lease_event e = event_of(kind);
			struct lease_change c;
			struct err err = { 0 };

			e.generation = 2;
			assert_int_equal(lease_apply(&l, &e, T0 + 4 * SECOND_MS, &c, &err), -1);
			assert_int_equal(err.code, ERR_CONFLICT);
		}
}

/* ---- reasons ----------------------------------------------------------------------------- */

static void test_exit_reasons(void **state)
{
	static const struct {
		int64_t exit_code;
		enum lease_reason said, becomes;
	} cases[] = {
		{ 0, REASON_NONE, REASON_COMPLETED },
		{ 0, REASON_COMPLETED, REASON_COMPLETED },
		{ 1, REASON_NONE, REASON_EXITED_WITH_ERROR },
		{ 1, REASON_COMPLETED, REASON_EXITED_WITH_ERROR },
		{ 137, REASON_OUT_OF_MEMORY, REASON_OUT_OF_MEMORY },
		{ 0, REASON_OUT_OF_MEMORY, REASON_COMPLETED },
		{ 137, REASON_DISK_LIMIT_EXCEEDED, REASON_DISK_LIMIT_EXCEEDED },
		{ 143, REASON_DRAINED_BY_PROVIDER, REASON_DRAINED_BY_PROVIDER },
		{ -1, REASON_CONTAINER_LOST, REASON_CONTAINER_LOST },
		/* Not for a worker to say. */
		{ 1, REASON_STOPPED_BY_CUSTOMER, REASON_EXITED_WITH_ERROR },
		{ 1, REASON_BLOCKED_BY_OPERATOR, REASON_EXITED_WITH_ERROR },
		{ 1, REASON_OUT_OF_FUNDS, REASON_EXITED_WITH_ERROR },
		{ 1, REASON_MAX_DURATION_EXCEEDED, REASON_EXITED_WITH_ERROR },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct lease l = lease_in(LEASE_RUNNING);
		struct lease_event e = event_of(LEASE_EVENT_EXITED);
		struct lease_change c;

		e.exit_code = cases[i].exit_code;
		e.reason = cases[i].said;
		c = apply(&l, &e, T0 + 4 * SECOND_MS);
		assert_int_equal(c.lease.reason, cases[i].becomes);
		assert_int_equal(c.lease.exit_code, cases[i].exit_code);
		assert_int_equal(!!(c.effects & EFFECT_RETRY),
				 lease_reason_retries(cases[i].becomes));
		assert_int_equal(!!(c.effects & EFFECT_BLAME),
				 lease_reason_blames_worker(cases[i].becomes));
	}
}

static void test_worker_keeps_the_limit(void **state)
{
	struct lease l = lease_in(LEASE_RUNNING);
	struct lease_event e = event_of(LEASE_EVENT_EXITED);

	l.max_duration_ms = HOUR_MS;
	e.exit_code = 0; /* ended well, when it was told to */
	e.reason = REASON_MAX_DURATION_EXCEEDED;
	assert_int_equal(apply(&l, &e, T0 + 4 * SECOND_MS).lease.reason,
			 REASON_MAX_DURATION_EXCEEDED);
}

static void test_failure_without_reason(void **state)
{
	struct lease_event e = event_of(LEASE_EVENT_FAILED);
	struct lease l = lease_in(LEASE_PREPARING);

	e.reason = REASON_STOPPED_BY_CUSTOMER;
	assert_int_equal(apply(&l, &e, T0 + 4 * SECOND_MS).lease.reason, REASON_CREATE_FAILED);
	l = lease_in(LEASE_RUNNING);
	assert_int_equal(apply(&l, &e, T0 + 4 * SECOND_MS).lease.reason, REASON_CONTAINER_LOST);
}

static void test_customer_has_the_last_word(void **state)
{
	struct lease l = lease_in(LEASE_RUNNING);
	struct lease_event drain = { .kind = LEASE_EVENT_STOP,
				     .reason = REASON_DRAINED_BY_PROVIDER };
	struct lease_event stop = { .kind = LEASE_EVENT_STOP,
				    .reason = REASON_STOPPED_BY_CUSTOMER,
				    .text = "by ann" };
	struct lease_change c = apply(&l, &drain, T0 + 4 * SECOND_MS);

	c = apply(&c.lease, &stop, T0 + 5 * SECOND_MS);
	assert_int_equal(c.lease.reason, REASON_STOPPED_BY_CUSTOMER);
	assert_string_equal(c.lease.reason_text, "by ann");
	assert_true(c.lease.stopping_ms == T0 + 4 * SECOND_MS);
	c = apply(&c.lease, &drain, T0 + 6 * SECOND_MS);
	assert_int_equal(c.effects, 0);
	c = apply_kind(&c.lease, LEASE_EVENT_GONE, T0 + 7 * SECOND_MS);
	assert_int_equal(c.lease.reason, REASON_STOPPED_BY_CUSTOMER);
	assert_false(c.effects & EFFECT_RETRY);
}

static void test_stop_wins_over_exit(void **state)
{
	struct lease l = lease_in(LEASE_STOPPING);
	struct lease_event e = event_of(LEASE_EVENT_EXITED);
	struct lease_change c;

	e.exit_code = 137;
	e.reason = REASON_OUT_OF_MEMORY;
	c = apply(&l, &e, T0 + 4 * SECOND_MS);
	assert_int_equal(c.lease.reason, REASON_STOPPED_BY_CUSTOMER);
	assert_int_equal(c.lease.exit_code, 137);
}

static void test_reasons(void **state)
{
	size_t count = 0;

	while (lease_reason_names[count]) {
		assert_true(strlen(lease_reason_text(count)) > 10);
		assert_int_equal(lease_reason_text(count)[strlen(lease_reason_text(count)) - 1],
				 '.');
		if (lease_reason_blames_worker(count))
			assert_true(lease_reason_retries(count));
		count++;
	}
	assert_int_equal(count, REASON_RESUMED + 1);
	assert_string_equal(lease_reason_names[REASON_WORKER_LOST], "worker_lost");
	assert_string_equal(lease_reason_names[REASON_RESUMED], "resumed");
	assert_false(lease_reason_blames_worker(REASON_IMAGE_PULL_FAILED));
	assert_true(lease_reason_blames_worker(REASON_WORKER_LOST));
	assert_false(lease_reason_retries(REASON_STOPPED_BY_CUSTOMER));
}

/* ---- preparing, pausing ------------------------------------------------------------------ */

static void test_progress(void **state)
{
	struct lease l = lease_in(LEASE_PREPARING);
	struct lease_event e = { .kind = LEASE_EVENT_PROGRESS,
				 .generation = 3,
				 .phase = "pulling image",
				 .progress_done = 10,
				 .progress_total = 100,
				 .image_digest = "a@sha256:0" };
	struct lease_change c = apply(&l, &e, T0 + 4 * SECOND_MS);

	assert_int_equal(c.effects, EFFECT_CHANGED);
	assert_string_equal(c.lease.phase, "pulling image");
	assert_int_equal(c.lease.progress_done, 10);
	assert_string_equal(c.lease.image_digest, "a@sha256:0");
	assert_int_equal(apply(&c.lease, &e, T0 + 5 * SECOND_MS).effects, 0);
	e.image_digest = "a@sha256:1";
	c = apply(&c.lease, &e, T0 + 5 * SECOND_MS);
	assert_int_equal(c.effects, 0);
	assert_string_equal(c.lease.image_digest, "a@sha256:0");
	c = apply_kind(&c.lease, LEASE_EVENT_RUNNING, T0 + 6 * SECOND_MS);
	assert_null(c.lease.phase);
}

static void test_pause_and_resume(void **state)
{
	struct lease l = lease_in(LEASE_RUNNING);
	struct lease_change c = apply_kind(&l, LEASE_EVENT_PAUSE, T0 + 10 * SECOND_MS);

	assert_int_equal(c.lease.state, LEASE_RUNNING);
	assert_int_equal(c.lease.desired, DESIRE_PAUSE);
	assert_int_equal(apply_kind(&c.lease, LEASE_EVENT_PAUSE, T0 + 11 * SECOND_MS).effects,
			 0);
	c = apply_kind(&c.lease, LEASE_EVENT_RUNNING, T0 + 11 * SECOND_MS); /* not yet told */
	assert_int_equal(c.effects, 0);
	c = apply_kind(&c.lease, LEASE_EVENT_PAUSED, T0 + 12 * SECOND_MS);
	assert_int_equal(c.lease.state, LEASE_PAUSED);
	assert_true(c.lease.paused_ms == T0 + 12 * SECOND_MS);
	c = apply_kind(&c.lease, LEASE_EVENT_RESUME, T0 + 20 * SECOND_MS);
	assert_int_equal(c.lease.state, LEASE_PAUSED);
	assert_int_equal(c.lease.desired, DESIRE_RUN);
	c = apply_kind(&c.lease, LEASE_EVENT_RUNNING, T0 + 21 * SECOND_MS);
	assert_int_equal(c.lease.state, LEASE_RUNNING);
	assert_int_equal(c.lease.reason, REASON_RESUMED);
	assert_int_equal(c.lease.paused_ms, 0);
	assert_true(c.lease.running_ms == T0 + 2 * SECOND_MS);
}

/* ---- time -------------------------------------------------------------------------------- */

/* Nothing before the deadline, the expected at it. */
static struct lease_change tick_at_deadline(const struct lease *l, int64_t expected_ms)
{
	int64_t deadline = lease_deadline_ms(l);
	struct lease_change c;

	assert_true(deadline == expected_ms);
	assert_int_equal(apply_kind(l, LEASE_EVENT_TICK, deadline - 1).effects, 0);
	c = apply_kind(l, LEASE_EVENT_TICK, deadline);
	assert_true(c.effects & EFFECT_ANNOUNCE);
	return c;
}

static void test_reservation_expires(void **state)
{
	struct lease l = lease_in(LEASE_RESERVED);
	struct lease_change c = tick_at_deadline(&l, T0 + 30 * SECOND_MS);

	assert_int_equal(c.lease.state, LEASE_STOPPING);
	assert_int_equal(c.lease.reason, REASON_RESERVATION_EXPIRED);
	assert_int_equal(
		apply_kind(&c.lease, LEASE_EVENT_ACCEPTED, T0 + 31 * SECOND_MS).effects, 0);
	c = tick_at_deadline(&c.lease, T0 + 30 * SECOND_MS + LEASE_STOP_GRACE_MS);
	assert_int_equal(c.lease.state, LEASE_ENDED);
	assert_int_equal(c.lease.reason, REASON_RESERVATION_EXPIRED);
	assert_true(c.effects & EFFECT_RETRY);
	assert_true(c.effects & EFFECT_BLAME);
	assert_true(lease_deadline_ms(&c.lease) == 0);
}

/* The retry does not start beside a container that the worker still shows. */
static void test_unheeded_stop_holds_the_retry(void **state)
{
	struct lease l = lease_in(LEASE_RESERVED);
	struct lease_change c = apply_kind(&l, LEASE_EVENT_TICK, T0 + 30 * SECOND_MS);
	struct lease_event stop = event_of(LEASE_EVENT_STOP);
	int64_t end_ms = T0 + 30 * SECOND_MS + LEASE_STOP_GRACE_MS;

	c = apply_kind(&c.lease, LEASE_EVENT_RUNNING, end_ms - 5 * SECOND_MS);
	assert_int_equal(c.lease.state, LEASE_STOPPING);
	assert_true(lease_deadline_ms(&c.lease) ==
		    end_ms - 5 * SECOND_MS + LEASE_STOP_GRACE_MS);
	/* But not for ever. */
	c = apply_kind(&c.lease, LEASE_EVENT_RUNNING, end_ms + l.grace_ms - SECOND_MS);
	c = tick_at_deadline(&c.lease, end_ms + l.grace_ms);
	assert_int_equal(c.lease.state, LEASE_ENDED);
	/* Where nothing follows, nothing waits. */
	l = lease_in(LEASE_RUNNING);
	stop.reason = REASON_STOPPED_BY_CUSTOMER;
	c = apply(&l, &stop, T0 + 30 * SECOND_MS);
	c = apply_kind(&c.lease, LEASE_EVENT_RUNNING, end_ms - 5 * SECOND_MS);
	tick_at_deadline(&c.lease, end_ms);
}

/* Cut off, a worker may run it still: until it has used up its grace, no other attempt begins. */
static void test_retry_waits_for_a_worker_that_was_not_heard(void **state)
{
	const int64_t stop_ms = T0 + 30 * SECOND_MS, end_ms = stop_ms + LEASE_STOP_GRACE_MS;
	struct lease l = lease_in(LEASE_RESERVED);
	struct lease stopping = apply_kind(&l, LEASE_EVENT_TICK, stop_ms).lease;
	struct lease_event tick = event_of(LEASE_EVENT_TICK), stop = event_of(LEASE_EVENT_STOP);
	struct lease_change c;

	tick.heard_ms = stop_ms;
	c = apply(&stopping, &tick, end_ms);
	assert_int_equal(c.lease.state, LEASE_STOPPING);
	assert_true(c.lease.unreachable_since_ms == end_ms);
	c = tick_at_deadline(&c.lease, end_ms + l.grace_ms);
	assert_int_equal(c.lease.state, LEASE_ENDED);
	assert_int_equal(c.lease.reason, REASON_RESERVATION_EXPIRED);
	/* Heard, without a word of it. */
	tick.heard_ms = stop_ms + 1;
	assert_int_equal(apply(&stopping, &tick, end_ms).lease.state, LEASE_ENDED);
	/* Heard once, and it showed it. */
	c = apply_kind(&stopping, LEASE_EVENT_RUNNING, stop_ms + SECOND_MS);
	tick.heard_ms = stop_ms + SECOND_MS;
	c = apply(&c.lease, &tick, lease_deadline_ms(&c.lease));
	assert_int_equal(c.lease.state, LEASE_STOPPING);
	assert_true(c.lease.unreachable_since_ms > 0);
	/* Where nothing follows, nothing waits. */
	l = lease_in(LEASE_RUNNING);
	stop.reason = REASON_STOPPED_BY_CUSTOMER;
	c = apply(&l, &stop, stop_ms);
	tick.heard_ms = stop_ms;
	assert_int_equal(apply(&c.lease, &tick, end_ms).lease.state, LEASE_ENDED);
}

static void test_preparation_times_out(void **state)
{
	struct lease l = lease_in(LEASE_PREPARING);
	struct lease_change c = tick_at_deadline(&l, T0 + 30 * MINUTE_MS);

	assert_int_equal(c.lease.state, LEASE_STOPPING);
	assert_int_equal(c.lease.reason, REASON_PREPARATION_TIMEOUT);
	c = apply_kind(&c.lease, LEASE_EVENT_GONE, T0 + 31 * MINUTE_MS);
	assert_int_equal(c.lease.reason, REASON_PREPARATION_TIMEOUT);
	assert_true(c.effects & EFFECT_RETRY);
	assert_false(c.effects & EFFECT_BLAME);
}

static void test_never_ready(void **state)
{
	struct lease l = lease_in(LEASE_PREPARING);
	struct lease_event e = { .kind = LEASE_EVENT_PROGRESS,
				 .generation = 3,
				 .started = true };
	struct lease_change c;

	l.ready_timeout_ms = MINUTE_MS;
	assert_true(lease_deadline_ms(&l) == T0 + 31 * MINUTE_MS);
	c = apply(&l, &e, T0 + 10 * SECOND_MS);
	assert_int_equal(c.effects, EFFECT_CHANGED);
	c = apply(&c.lease, &e, T0 + 20 * SECOND_MS);
	c = tick_at_deadline(&c.lease, T0 + 10 * SECOND_MS + MINUTE_MS + LEASE_READY_SLACK_MS);
	assert_int_equal(c.lease.reason, REASON_NEVER_READY);
	e = (struct lease_event){ .kind = LEASE_EVENT_FAILED,
				  .generation = 3,
				  .reason = REASON_NEVER_READY,
				  .text = "its command said no" };
	c = apply(&c.lease, &e, T0 + 2 * MINUTE_MS);
	assert_int_equal(c.lease.state, LEASE_ENDED);
	assert_string_equal(c.lease.reason_text, "its command said no");
}

/* Killed and restarted between the start and the first word of it: what ran meanwhile counts. */
static void test_started_before_it_could_say_so(void **state)
{
	struct lease l = lease_in(LEASE_RESERVED);
	struct lease_event e = { .kind = LEASE_EVENT_PROGRESS,
				 .generation = 3,
				 .phase = "preparing" };
	struct lease_change c = apply(&l, &e, T0 + 1 * SECOND_MS);

	meter_observe(&c.lease, T0 + 6 * SECOND_MS);
	e.started = true;
	c = apply(&c.lease, &e, T0 + 6 * SECOND_MS);
	assert_int_equal(c.lease.observed_ms, 5 * SECOND_MS);
	e.started = false;
	c = apply(&c.lease, &e, T0 + 6 * SECOND_MS);
	assert_int_equal(c.lease.observed_ms, 0);

	e.started = true;
	c = apply(&l, &e, T0 + 4 * SECOND_MS);
	assert_int_equal(c.lease.observed_ms, T0 + 4 * SECOND_MS - l.reserved_ms);
}

/* Its word that nothing runs yet waits for the store; meanwhile it starts and ends. */
static void test_not_yet_counts_from_when_it_was_said(void **state)
{
	struct lease l = lease_in(LEASE_RESERVED);
	struct lease_event e = { .kind = LEASE_EVENT_PROGRESS,
				 .generation = 3,
				 .phase = "preparing",
				 .age_ms = 2 * SECOND_MS };
	struct lease_change c = apply(&l, &e, T0 + 6 * SECOND_MS);

	assert_true(c.lease.accepted_ms == T0 + 4 * SECOND_MS);
	assert_int_equal(c.lease.observed_ms, 2 * SECOND_MS);
	e.age_ms = SECOND_MS;
	c = apply(&c.lease, &e, T0 + 8 * SECOND_MS);
	assert_int_equal(c.lease.observed_ms, SECOND_MS);
	/* Never more than since it was accepted. */
	e.age_ms = HOUR_MS;
	c = apply(&c.lease, &e, T0 + 8 * SECOND_MS);
	assert_int_equal(c.lease.observed_ms, 4 * SECOND_MS);
	e.age_ms = 0;
	c = apply(&c.lease, &e, T0 + 9 * SECOND_MS);
	assert_int_equal(c.lease.observed_ms, 0);
}

static void test_worker_lost(void **state)
{
	for (int from = LEASE_RESERVED; from < LEASE_ENDED; from++) {
		struct lease l = lease_in(from);
		struct lease_change c;
		int64_t end = T0 + 4 * SECOND_MS + 5 * MINUTE_MS;

		l.reserved_until_ms = T0 + HOUR_MS;
		c = apply_kind(&l, LEASE_EVENT_SILENT, T0 + 4 * SECOND_MS);
		assert_int_equal(
			apply_kind(&c.lease, LEASE_EVENT_SILENT, T0 + 9 * SECOND_MS).effects,
			0);
		assert_int_equal(apply_kind(&c.lease, LEASE_EVENT_HEARD, end - 1)
					 .lease.unreachable_since_ms,
				 0);
		c = tick_at_deadline(&c.lease, end);
		assert_int_equal(c.lease.state, LEASE_ENDED);
		assert_int_equal(c.lease.reason, from == LEASE_STOPPING
							 ? REASON_STOPPED_BY_CUSTOMER
							 : REASON_WORKER_LOST);
	}
}

static void test_max_duration(void **state)
{
	struct lease l = lease_in(LEASE_RUNNING);
	int64_t look = T0 + 62 * SECOND_MS;

	l.max_duration_ms = 100 * SECOND_MS;
	meter_observe(&l, look);
	l.claimed_ms = 60 * SECOND_MS;
	assert_int_equal(tick_at_deadline(&l, look + 40 * SECOND_MS).lease.reason,
			 REASON_MAX_DURATION_EXCEEDED);
	/* Without receipts by observation alone, a little later. */
	l.claimed_ms = 0;
	assert_true(lease_deadline_ms(&l) == look + 100 * SECOND_MS);
	l.state = LEASE_PAUSED;
	assert_true(lease_deadline_ms(&l) == 0);
}

/* Left alone by its worker, every lease that is not paused ends by ticks at its deadlines. */
static void test_silence_ends_every_lease(void **state)
{
	for (int from = LEASE_RESERVED; from < LEASE_ENDED; from++) {
		struct lease l = lease_in(from);
		struct lease_change c = apply_kind(&l, LEASE_EVENT_SILENT, T0 + 4 * SECOND_MS);

		for (int i = 0; i < 3 && c.lease.state != LEASE_ENDED; i++)
			c = apply_kind(&c.lease, LEASE_EVENT_TICK, lease_deadline_ms(&c.lease));
		assert_int_equal(c.lease.state, LEASE_ENDED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_pair),
		cmocka_unit_test(test_other_generation),
		cmocka_unit_test(test_exit_reasons),
		cmocka_unit_test(test_worker_keeps_the_limit),
		cmocka_unit_test(test_failure_without_reason),
		cmocka_unit_test(test_customer_has_the_last_word),
		cmocka_unit_test(test_stop_wins_over_exit),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_pause_and_resume),
		cmocka_unit_test(test_reservation_expires),
		cmocka_unit_test(test_unheeded_stop_holds_the_retry),
		cmocka_unit_test(test_retry_waits_for_a_worker_that_was_not_heard),
		cmocka_unit_test(test_preparation_times_out),
		cmocka_unit_test(test_never_ready),
		cmocka_unit_test(test_started_before_it_could_say_so),
		cmocka_unit_test(test_not_yet_counts_from_when_it_was_said),
		cmocka_unit_test(test_worker_lost),
		cmocka_unit_test(test_max_duration),
		cmocka_unit_test(test_silence_ends_every_lease),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
