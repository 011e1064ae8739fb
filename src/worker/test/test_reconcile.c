#include "../internal.h"

#include <setjmp.h>

#include <cmocka.h>

#define NOW INT64_C(1700000000000)

/* Where the journal stands. */
static const struct journal fresh = { .exit_code = -1 };
static const struct journal prepared = { .exit_code = -1, .prepared = true };
static const struct journal created = { .exit_code = -1, .prepared = true, .created = true };
static const struct journal started = {
	.exit_code = -1, .prepared = true, .created = true, .started = true
};
static const struct journal ready = { .exit_code = -1,
				      .prepared = true,
				      .created = true,
				      .started = true,
				      .ready = true,
				      .base_ms = NOW - 5000 };
static const struct journal ending = {
	.created = true, .started = true, .ready = true, .end_state = OBSERVED_EXITED
};
static const struct journal flushed = { .created = true,
					.started = true,
					.ready = true,
					.end_state = OBSERVED_EXITED,
					.logs_done = true };
static const struct journal collected = { .created = true,
					  .started = true,
					  .ready = true,
					  .end_state = OBSERVED_EXITED,
					  .logs_done = true,
					  .results_done = true };
static const struct journal ended = {
	.created = true, .started = true, .end_state = OBSERVED_EXITED, .ended = true
};
static const struct journal removed = { .created = true,
					.started = true,
					.end_state = OBSERVED_EXITED,
					.ended = true,
					.removed = true };
static const struct journal failed = { .end_state = OBSERVED_FAILED };

#define PLENTY .funded_ms = FUNDED_UNLIMITED, .grace_ms = 60000
#define WITH(...)           \
	{                   \
		__VA_ARGS__ \
	}

/* clang-format off */
static const struct {
	const char *what;
	struct lease_view view;
	enum lease_action action;
	int64_t wake_in_ms; /* of ACT_WAIT; 0: none */
	enum observed_state state;
	enum lease_reason reason;
} table[] = {
	/* towards running */
	{ "a new lease", WITH(.journal = &fresh, PLENTY), ACT_PREPARE },
	{ "image and inputs are here", WITH(.journal = &prepared, PLENTY), ACT_CREATE },
	{ "create was cut off", WITH(.journal = &created, PLENTY), ACT_CREATE },
	{ "the container is made", WITH(.journal = &created, PLENTY, .container = CONTAINER_CREATED), ACT_START },
	{ "it runs", WITH(.journal = &started, PLENTY, .container = CONTAINER_RUNNING), ACT_READY },
	{ "it runs, we had not written that down", WITH(.journal = &created, PLENTY, .container = CONTAINER_RUNNING), ACT_READY },
	{ "paused before the start", WITH(.journal = &prepared, PLENTY, .want = DESIRE_PAUSE), ACT_WAIT, 60000 },
	/* readiness */
	{ "is it ready?", WITH(.journal = &started, PLENTY, .container = CONTAINER_RUNNING, .has_ready = true,
			       .ready_timeout_ms = 3000, .started_ms = NOW - 2999), ACT_PROBE },
	{ "never ready", WITH(.journal = &started, PLENTY, .container = CONTAINER_RUNNING, .has_ready = true,
			      .ready_timeout_ms = 3000, .started_ms = NOW - 3000), ACT_END, 0, OBSERVED_FAILED, REASON_NEVER_READY },
	/* running */
	{ "nothing to do", WITH(.journal = &ready, PLENTY, .container = CONTAINER_RUNNING), ACT_WAIT, 60000 },
	{ "nothing to do, without grace", WITH(.journal = &ready, .funded_ms = FUNDED_UNLIMITED, .container = CONTAINER_RUNNING),
	  ACT_WAIT },
	{ "until the money ends", WITH(.journal = &ready, .funded_ms = 9000, .grace_ms = 60000, .delivered_ms = 5000,
				       .container = CONTAINER_RUNNING), ACT_WAIT, 4000 },
	{ "until it has run long enough", WITH(.journal = &ready, PLENTY, .max_duration_ms = 7000, .delivered_ms = 5000,
					       .container = CONTAINER_RUNNING), ACT_WAIT, 2000 },
	{ "until it is alone for too long", WITH(.journal = &ready, PLENTY, .silent_ms = 59000, .container = CONTAINER_RUNNING),
	  ACT_WAIT, 1000 },
	{ "what is paid for is used up", WITH(.journal = &ready, .funded_ms = 5000, .delivered_ms = 5000, .grace_ms = 60000,
					      .container = CONTAINER_RUNNING), ACT_PAUSE },
	{ "told to pause", WITH(.journal = &ready, PLENTY, .want = DESIRE_PAUSE, .container = CONTAINER_RUNNING), ACT_PAUSE },
	{ "is paused", WITH(.journal = &ready, PLENTY, .want = DESIRE_PAUSE, .container = CONTAINER_PAUSED), ACT_WAIT, 60000 },
	{ "paused and still without money", WITH(.journal = &ready, .funded_ms = 5000, .delivered_ms = 5000, .grace_ms = 60000,
						 .container = CONTAINER_PAUSED), ACT_WAIT, 60000 },
	{ "there is money again", WITH(.journal = &ready, .funded_ms = 6000, .delivered_ms = 5000, .grace_ms = 60000,
				       .container = CONTAINER_PAUSED), ACT_RESUME },
	/* ends */
	{ "it has ended", WITH(.journal = &ready, PLENTY, .container = CONTAINER_EXITED), ACT_END, 0, OBSERVED_EXITED, REASON_NONE },
	{ "never a second start", WITH(.journal = &created, PLENTY, .container = CONTAINER_EXITED), ACT_END, 0, OBSERVED_EXITED },
	{ "the container is lost", WITH(.journal = &ready, PLENTY), ACT_END, 0, OBSERVED_FAILED, REASON_CONTAINER_LOST },
	{ "too long", WITH(.journal = &ready, PLENTY, .max_duration_ms = 5000, .delivered_ms = 5000,
			   .container = CONTAINER_RUNNING), ACT_END, 0, OBSERVED_EXITED, REASON_MAX_DURATION_EXCEEDED },
	{ "too much disk", WITH(.journal = &ready, PLENTY, .disk_exceeded = true, .container = CONTAINER_RUNNING), ACT_END, 0,
	  OBSERVED_EXITED, REASON_DISK_LIMIT_EXCEEDED },
	{ "alone for too long", WITH(.journal = &ready, PLENTY, .silent_ms = 60000, .container = CONTAINER_RUNNING), ACT_END, 0,
	  OBSERVED_EXITED, REASON_WORKER_LOST },
	{ "alone for too long, paused", WITH(.journal = &ready, PLENTY, .silent_ms = 60000, .container = CONTAINER_PAUSED), ACT_END,
	  0, OBSERVED_EXITED, REASON_WORKER_LOST },
	{ "alone before it ran", WITH(.journal = &prepared, PLENTY, .silent_ms = 60000), ACT_END, 0, OBSERVED_FAILED,
	  REASON_WORKER_LOST },
	{ "told to stop", WITH(.journal = &ready, PLENTY, .want = DESIRE_STOP, .container = CONTAINER_RUNNING), ACT_END, 0,
	  OBSERVED_EXITED },
	{ "told to stop before it ran", WITH(.journal = &fresh, PLENTY, .want = DESIRE_STOP), ACT_END, 0, OBSERVED_GONE },
	/* after the end was decided */
	{ "still runs", WITH(.journal = &ending, PLENTY, .container = CONTAINER_RUNNING), ACT_STOP },
	{ "is frozen", WITH(.journal = &ending, PLENTY, .container = CONTAINER_PAUSED), ACT_STOP },
	{ "output is due", WITH(.journal = &ending, PLENTY, .container = CONTAINER_EXITED), ACT_FLUSH },
	{ "results are due", WITH(.journal = &flushed, PLENTY, .container = CONTAINER_EXITED), ACT_COLLECT },
	{ "all is delivered", WITH(.journal = &collected, PLENTY, .container = CONTAINER_EXITED), ACT_FINISH },
	{ "nothing to deliver", WITH(.journal = &failed, PLENTY), ACT_FINISH },
	{ "its container vanished meanwhile", WITH(.journal = &ending, PLENTY), ACT_FINISH },
	{ "cleaning", WITH(.journal = &ended, PLENTY, .container = CONTAINER_EXITED), ACT_REMOVE },
	{ "cleaned: said until the server has it", WITH(.journal = &removed, PLENTY), ACT_WAIT },
	{ "a stop that comes late", WITH(.journal = &removed, PLENTY, .want = DESIRE_STOP), ACT_WAIT },
	/* the server is done with it */
	{ "whatever runs goes", WITH(.journal = &ready, PLENTY, .want = DESIRE_NONE, .container = CONTAINER_RUNNING), ACT_REMOVE },
	{ "nothing was made", WITH(.journal = &fresh, PLENTY, .want = DESIRE_NONE), ACT_REMOVE },
	{ "nothing is left", WITH(.journal = &removed, PLENTY, .want = DESIRE_NONE), ACT_FORGET },
};
/* clang-format on */

static void decides(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct lease_decision d = reconcile_next(&table[i].view, NOW);
		int64_t wake = d.wake_ms ? d.wake_ms - NOW : 0;

		if (d.action != table[i].action || d.end_state != table[i].state ||
		    d.reason != table[i].reason || wake != table[i].wake_in_ms)
			fail_msg("%s: action %d, state %d, reason %d, wake in %" PRId64 " ms",
				 table[i].what, d.action, d.end_state, d.reason, wake);
	}
}

/* From any point the steps lead to the end, and no container is started twice. */
static void every_path_ends(void **state)
{
	for (int want = DESIRE_RUN; want <= DESIRE_NONE; want++) {
		for (int at = CONTAINER_ABSENT; at <= CONTAINER_EXITED; at++) {
			struct journal j = fresh;
			struct lease_view v = { .want = want,
						PLENTY,
						.journal = &j,
						.container = at,
						.started_ms = NOW };
			int starts = 0, steps = 0;
			struct lease_decision d;

			if (at != CONTAINER_ABSENT)
				j.prepared = j.created = true;
			for (;; steps++) {
				d = reconcile_next(&v, NOW);
				assert_true(steps < 30);
				if (d.action == ACT_FORGET)
					break;
				if (d.action == ACT_WAIT) {
					/* The world goes on: what waits is ended, what has
					 * ended is forgotten. */
					if (j.ended)
						v.want = DESIRE_NONE;
					else if (v.container == CONTAINER_RUNNING ||
						 v.container == CONTAINER_PAUSED)
						v.container = CONTAINER_EXITED;
					else
						v.want = DESIRE_RUN;
					continue;
				}
				switch (d.action) {
				case ACT_PREPARE: j.prepared = true; break;
				case ACT_CREATE:
					j.created = true;
					v.container = CONTAINER_CREATED;
					break;
				case ACT_START:
					starts++;
					j.started = true;
					v.container = CONTAINER_RUNNING;
					break;
				case ACT_PROBE:
				case ACT_READY: j.ready = true; break;
				case ACT_PAUSE: v.container = CONTAINER_PAUSED; break;
				case ACT_RESUME: v.container = CONTAINER_RUNNING; break;
				case ACT_END: j.end_state = d.end_state; break;
				case ACT_STOP:
					v.container = CONTAINER_EXITED;
					j.started = true;
					break;
				case ACT_FLUSH: j.logs_done = true; break;
				case ACT_COLLECT: j.results_done = true; break;
				case ACT_FINISH: j.ended = true; break;
				case ACT_REMOVE:
					j.removed = true;
					v.container = CONTAINER_ABSENT;
					break;
				case ACT_WAIT:
				case ACT_FORGET: break;
				}
			}
			assert_true(starts <= 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(decides),
					    cmocka_unit_test(every_path_ends) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
