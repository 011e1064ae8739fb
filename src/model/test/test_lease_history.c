/* The lease machine under any history: events lost, doubled, late and out of order. */
#include "../model.h"

#include <setjmp.h>

#include <cmocka.h>

#define T0	    INT64_C(1800000000000)
#define EVENT_COUNT (LEASE_EVENT_TICK + 1)

static const struct resources resources = { .cpu_milli = 1000, .memory_mib = 1024 };

static struct lease reserved(void)
{
	return (struct lease){
		.id = "le_01jdq3k5v8e4r9t0m2n6p7a1bc",
		.generation = 3,
		.reason = REASON_PLACED,
		.reason_text = lease_reason_text(REASON_PLACED),
		.resources = &resources,
		.exit_code = -1,
		.reserved_ms = T0,
		.reserved_until_ms = T0 + 30 * SECOND_MS,
		.prepare_until_ms = T0 + 30 * MINUTE_MS,
		.grace_ms = 5 * MINUTE_MS,
		.funded_ms = FUNDED_UNLIMITED,
		.observed_at_ms = T0,
	};
}

struct history {
	uint64_t seed;
	int64_t now_ms;
	struct lease lease;
	int64_t billed_ms;
};

static uint64_t draw(struct history *h, uint64_t below)
{
	h->seed ^= h->seed << 13;
	h->seed ^= h->seed >> 7;
	h->seed ^= h->seed << 17;
	return (h->seed >> 11) % below;
}

static struct lease_event draw_event(struct history *h)
{
	struct lease_event e = { .kind = draw(h, EVENT_COUNT),
				 .exit_code = (int64_t)draw(h, 257) - 1 };

	e.reason = draw(h, REASON_RESUMED + 1);
	if (e.kind == LEASE_EVENT_STOP)
		e.reason = REASON_STOPPED_BY_CUSTOMER +
			   draw(h, REASON_OUT_OF_FUNDS - REASON_STOPPED_BY_CUSTOMER + 1);
	if (e.kind <= LEASE_EVENT_GONE)
		e.generation = draw(h, 20) ? 3 : 2;
	/* What would end it comes rarely, so that histories are long. */
	if (e.kind >= LEASE_EVENT_EXITED && e.kind <= LEASE_EVENT_STOP && draw(h, 5))
		e.kind = draw(h, 2) ? LEASE_EVENT_RUNNING : LEASE_EVENT_TICK;
	e.heard_ms = h->now_ms - (int64_t)draw(h, 2 * MINUTE_MS);
	e.started = draw(h, 2);
	e.delivered_ms = (int64_t)draw(h, HOUR_MS);
	e.phase = draw(h, 2) ? "pulling image" : NULL;
	e.progress_done = (int64_t)draw(h, 4);
	return e;
}

static void check_invariants(const struct lease *before, const struct lease_change *c,
			     int64_t now_ms)
{
	const struct lease *l = &c->lease;

	assert_true(c->effects != 0 ||
		    (l->state == before->state && l->reason == before->reason &&
		     l->desired == before->desired));
	assert_true(l->state == before->state || (c->effects & EFFECT_ANNOUNCE));
	assert_true(l->reason == before->reason || (c->effects & EFFECT_ANNOUNCE));
	assert_true(l->desired == before->desired || (c->effects & EFFECT_DESIRE));
	assert_true((l->state == LEASE_ENDED) == (l->desired == DESIRE_NONE));
	assert_true((l->state == LEASE_STOPPING) == (l->desired == DESIRE_STOP));
	assert_true((l->state == LEASE_PAUSED) == (l->paused_ms != 0));
	assert_true((l->state == LEASE_ENDED) == (l->ended_ms != 0));
	assert_true(l->state != LEASE_RUNNING || l->running_ms);
	assert_non_null(l->reason_text);
	assert_true(l->observed_ms >= 0 &&
		    (!l->accepted_ms || l->observed_ms <= now_ms - l->accepted_ms));
	/* It gives back, settles and counts once: when it ends. */
	assert_int_equal(!!(c->effects & EFFECT_RELEASE),
			 before->state != LEASE_ENDED && l->state == LEASE_ENDED);
	assert_int_equal(!!(c->effects & EFFECT_SETTLE), !!(c->effects & EFFECT_RELEASE));
	if (c->effects & (EFFECT_RETRY | EFFECT_AVOID | EFFECT_BLAME | EFFECT_CREDIT))
		assert_true(c->effects & EFFECT_RELEASE);
	assert_false((c->effects & EFFECT_BLAME) && (c->effects & EFFECT_CREDIT));
	if (l->state != LEASE_ENDED && l->state != LEASE_PAUSED)
		assert_true(l->state == LEASE_RUNNING
				    ? l->max_duration_ms == 0 || lease_deadline_ms(l) > 0
				    : lease_deadline_ms(l) > 0);
}

/* Without effects only the columns of lease_metering_type may have moved: others are not stored. */
static void check_metering(const struct lease *before, const struct lease *after)
{
	struct lease l = *before;

	for (size_t i = 0; i < lease_metering_type.count; i++) {
		const struct field *f = &lease_metering_type.fields[i];

		if (f->kind == KIND_BOOL)
			*(bool *)((char *)&l + f->offset) = *(const bool *)((const char *)after + f->offset);
		else if (f->kind != KIND_ID)
			*(int64_t *)((char *)&l + f->offset) = *(const int64_t *)((const char *)after + f->offset);
	}
	assert_memory_equal(&l, after, sizeof(l));
}

static void step_history(struct history *h)
{
	struct lease before = h->lease;
	struct lease_event e = draw_event(h);
	struct lease_change c, again;
	struct err err = { 0 };

	h->now_ms += (int64_t)draw(h, draw(h, 10) ? 20 * SECOND_MS : 10 * MINUTE_MS);
	if (lease_apply(&before, &e, h->now_ms, &c, &err) < 0) {
		assert_int_equal(err.code, ERR_CONFLICT);
		return;
	}
	check_invariants(&before, &c, h->now_ms);
	if (c.effects == 0)
		check_metering(&before, &c.lease);
	if (before.state == LEASE_ENDED) {
		assert_int_equal(c.effects, 0);
		assert_memory_equal(&c.lease, &before, sizeof(before));
	}
	/* Doubled, it changes nothing more. */
	if (lease_apply(&c.lease, &e, h->now_ms, &again, &err) == 0 &&
	    e.kind != LEASE_EVENT_TICK)
		assert_int_equal(again.effects & ~(unsigned)EFFECT_CHANGED, 0);
	h->lease = c.lease;
	/* A receipt that claims whatever it likes. */
	h->lease.claimed_ms += (int64_t)draw(h, 30 * SECOND_MS);
	assert_true(meter_billable_ms(&h->lease) <= h->lease.observed_ms);
	assert_true(meter_billable_ms(&h->lease) <= h->lease.claimed_ms);
	if (h->lease.running_ms && before.running_ms) {
		assert_true(meter_billable_ms(&h->lease) >= h->billed_ms);
		h->billed_ms = meter_billable_ms(&h->lease);
	}
}

static void test_any_history(void **state)
{
	int ended = 0;

	for (uint64_t seed = 1; seed <= 3000; seed++) {
		struct history h = { .seed = seed * UINT64_C(0x9e3779b97f4a7c15),
				     .now_ms = T0,
				     .lease = reserved() };

		h.lease.max_duration_ms = draw(&h, 2) ? 10 * MINUTE_MS : 0;
		h.lease.ready_timeout_ms = draw(&h, 2) ? MINUTE_MS : 0;
		for (int i = 0; i < 60; i++)
			step_history(&h);
		ended += h.lease.state == LEASE_ENDED;
	}
	assert_true(ended > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_history),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
