#include "../model.h"

#include <setjmp.h>

#include <cmocka.h>

#define T0	 INT64_C(1800000000000)
#define LEASE	 "le_01jdq3k5v8e4r9t0m2n6p7a1bc"
#define OTHER	 "le_01jdq3k5v8e4r9t0m2n6p7a1bd"
#define WORKER	 "wk_01jdq3k5v8e4r9t0m2n6p7a1bc"
#define STRANGER "wk_01jdq3k5v8e4r9t0m2n6p7a1bd"

static const struct resources resources = {
	.cpu_milli = 2000, .memory_mib = 4096, .disk_mib = 1024, .gpus = 2
};

static struct lease running(void)
{
	return (struct lease){ .id = LEASE,
			       .worker_id = WORKER,
			       .generation = 1,
			       .state = LEASE_RUNNING,
			       .resources = &resources,
			       .grace_ms = 5 * MINUTE_MS,
			       .funded_ms = FUNDED_UNLIMITED,
			       .reserved_ms = T0,
			       .accepted_ms = T0,
			       .running_ms = T0,
			       .observed_at_ms = T0,
			       .claimed_seq = 5,
			       .claimed_ms = 50 * SECOND_MS };
}

static struct usage usage_next(void)
{
	return (struct usage){ .lease = LEASE,
			       .worker = WORKER,
			       .generation = 1,
			       .seq = 6,
			       .delivered_ms = 60 * SECOND_MS,
			       .gpus = 2,
			       .cpu_milli = 2000,
			       .memory_mib = 4096,
			       .at_ms = T0 + 60 * SECOND_MS };
}

static enum err_code check(const struct usage *u, const struct lease *l, const char *field)
{
	struct err err = { 0 };

	if (usage_check(u, l, WORKER, T0 + 60 * SECOND_MS, &err) == 0)
		return ERR_NONE;
	if (field)
		assert_string_equal(err.field, field);
	return err.code;
}

static void test_usage(void **state)
{
	struct lease l = running();
	struct usage u = usage_next();

	assert_int_equal(check(&u, &l, NULL), ERR_NONE);
	u.at_ms = T0 + 90 * SECOND_MS;
	assert_int_equal(check(&u, &l, NULL), ERR_NONE);
	u.seq = 900; /* lost ones in between cost nothing */
	assert_int_equal(check(&u, &l, NULL), ERR_NONE);
}

#define LIE(member, value)                                               \
	do {                                                             \
		struct usage lie = usage_next();                         \
		lie.member = value;                                      \
		assert_int_equal(check(&lie, &l, #member), ERR_INVALID); \
	} while (0)

static void test_usage_lies(void **state)
{
	struct lease l = running();
	struct usage u = usage_next();
	struct err err;

	LIE(lease, OTHER);
	LIE(lease, NULL);
	LIE(worker, STRANGER);
	LIE(generation, 2);
	LIE(gpus, 3);
	LIE(cpu_milli, 2001);
	LIE(memory_mib, 4097);
	LIE(at_ms, T0 + 90 * SECOND_MS + 1);
	LIE(delivered_ms, 50 * SECOND_MS - 1);
	LIE(seq, 5);
	LIE(seq, 4);
	u.gpus = -1;
	assert_int_equal(check(&u, &l, ""), ERR_INVALID);
	u = usage_next();
	assert_int_equal(usage_check(&u, &l, STRANGER, T0 + 60 * SECOND_MS, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_string_equal(err.field, "lease");
}

static void test_usage_possible(void **state)
{
	struct lease l = running();

	l.reserved_ms = T0;
	assert_int_equal(usage_possible_ms(&l, T0 + HOUR_MS), HOUR_MS + 30 * SECOND_MS);
	assert_int_equal(usage_possible_ms(&l, T0 - HOUR_MS), 30 * SECOND_MS); /* a clock that was set back */
}

static void test_usage_repeats(void **state)
{
	struct lease l = running();
	struct usage u = usage_next();

	usage_take(&u, &l);
	assert_int_equal(check(&u, &l, NULL), ERR_CONFLICT);
	u.seq = 3; /* an older one that came late */
	u.delivered_ms = 30 * SECOND_MS;
	assert_int_equal(check(&u, &l, NULL), ERR_CONFLICT);
}

static void test_usage_final(void **state)
{
	struct lease l = running();
	struct usage u = usage_next();

	u.final = true;
	usage_take(&u, &l);
	assert_int_equal(check(&u, &l, NULL), ERR_CONFLICT);
	u.seq++;
	assert_int_equal(check(&u, &l, "seq"), ERR_INVALID);
	u.final = false;
	u.delivered_ms += SECOND_MS;
	assert_int_equal(check(&u, &l, "seq"), ERR_INVALID);
	u.seq--; /* takes the end back */
	assert_int_equal(check(&u, &l, "seq"), ERR_INVALID);
}

/* ---- observation ------------------------------------------------------------------------- */

static void test_observe(void **state)
{
	struct lease l = running();

	meter_observe(&l, T0 + 10 * SECOND_MS);
	meter_observe(&l, T0 + 10 * SECOND_MS);
	meter_observe(&l, T0 + 9 * SECOND_MS);
	assert_true(l.observed_ms == 10 * SECOND_MS);
	assert_true(meter_billable_ms(&l) == 10 * SECOND_MS);
	/* A silence within the grace counts, a longer one does not. */
	meter_observe(&l, T0 + 10 * SECOND_MS + 5 * MINUTE_MS);
	assert_true(l.observed_ms == 10 * SECOND_MS + 5 * MINUTE_MS);
	meter_observe(&l, T0 + 11 * SECOND_MS + 10 * MINUTE_MS);
	assert_true(l.observed_ms == 10 * SECOND_MS + 5 * MINUTE_MS);
	assert_true(meter_billable_ms(&l) == 50 * SECOND_MS);
}

static void test_observe_by_state(void **state)
{
	static const int64_t expected_s[] = {
		[LEASE_RESERVED] = 0, [LEASE_PREPARING] = 10, [LEASE_RUNNING] = 10,
		[LEASE_PAUSED] = 4,   [LEASE_STOPPING] = 10,  [LEASE_ENDED] = 6,
	};

	for (int s = LEASE_RESERVED; s <= LEASE_ENDED; s++) {
		struct lease l = running();

		l.state = s;
		l.accepted_ms = s == LEASE_RESERVED ? 0 : T0;
		l.desired = s == LEASE_PAUSED ? DESIRE_PAUSE : DESIRE_RUN;
		l.paused_ms = T0 + 4 * SECOND_MS;
		l.ended_ms = T0 + 6 * SECOND_MS;
		meter_observe(&l, T0 + 10 * SECOND_MS);
		assert_true(l.observed_ms == expected_s[s] * SECOND_MS);
		meter_observe(&l, T0 + 20 * SECOND_MS);
		if (s == LEASE_PAUSED || s == LEASE_ENDED || s == LEASE_RESERVED)
			assert_true(l.observed_ms == expected_s[s] * SECOND_MS);
	}
}

static void observe(struct lease *l, enum lease_event_kind kind, int64_t at_ms,
		    int64_t delivered_ms)
{
	struct lease_event e = {
		.kind = kind, .generation = 1, .delivered_ms = delivered_ms, .exit_code = 0
	};
	struct lease_change c;
	struct err err;

	assert_int_equal(lease_apply(l, &e, at_ms, &c, &err), 0);
	*l = c.lease;
}

static struct lease reserved(void)
{
	struct lease l = running();

	l.state = LEASE_RESERVED;
	l.accepted_ms = l.running_ms = 0;
	l.claimed_seq = 0;
	l.claimed_ms = HOUR_MS; /* claims whatever it can get */
	return l;
}

static void test_preparing_is_free(void **state)
{
	struct lease l = reserved();

	observe(&l, LEASE_EVENT_ACCEPTED, T0 + 1 * SECOND_MS, 0);
	for (int i = 1; i <= 10; i++)
		observe(&l, LEASE_EVENT_PROGRESS, T0 + i * 10 * SECOND_MS, 0);
	assert_true(meter_billable_ms(&l) == 0);
	observe(&l, LEASE_EVENT_RUNNING, T0 + 110 * SECOND_MS, 3 * SECOND_MS);
	assert_true(l.running_ms == T0 + 107 * SECOND_MS);
	assert_true(meter_billable_ms(&l) <= 10 * SECOND_MS);
	observe(&l, LEASE_EVENT_RUNNING, T0 + 120 * SECOND_MS, 13 * SECOND_MS);
	assert_true(meter_billable_ms(&l) <= 20 * SECOND_MS);
}

static void test_short_job_is_paid(void **state)
{
	struct lease l = reserved();

	/* It ended before the server saw it run. */
	observe(&l, LEASE_EVENT_ACCEPTED, T0 + 1 * SECOND_MS, 0);
	observe(&l, LEASE_EVENT_EXITED, T0 + 5 * SECOND_MS, 3 * SECOND_MS);
	assert_true(l.running_ms == T0 + 2 * SECOND_MS);
	l.claimed_ms = 3 * SECOND_MS;
	assert_true(meter_billable_ms(&l) == 3 * SECOND_MS);
	/* And before it saw it accepted. */
	l = reserved();
	observe(&l, LEASE_EVENT_EXITED, T0 + 5 * SECOND_MS, 3 * SECOND_MS);
	l.claimed_ms = 3 * SECOND_MS;
	assert_true(meter_billable_ms(&l) == 3 * SECOND_MS);
	/* What never ran is free, whatever is claimed. */
	l = reserved();
	observe(&l, LEASE_EVENT_ACCEPTED, T0 + 1 * SECOND_MS, 0);
	observe(&l, LEASE_EVENT_FAILED, T0 + 5 * SECOND_MS, 0);
	assert_true(meter_billable_ms(&l) == 0);
}

static void test_billable_limits(void **state)
{
	struct lease l = running();

	l.observed_ms = 100 * SECOND_MS;
	assert_true(meter_billable_ms(&l) == 50 * SECOND_MS);
	l.observed_ms = 40 * SECOND_MS;
	assert_true(meter_billable_ms(&l) == 40 * SECOND_MS);
	l.max_duration_ms = 30 * SECOND_MS;
	assert_true(meter_billable_ms(&l) == 30 * SECOND_MS);
	l.funded_ms = 20 * SECOND_MS;
	assert_true(meter_billable_ms(&l) == 20 * SECOND_MS);
	l.running_ms = 0;
	assert_true(meter_billable_ms(&l) == 0);
}

/* ---- money ------------------------------------------------------------------------------- */

static uint64_t seed = 0x9e3779b97f4a7c15;

static int64_t draw(int64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (int64_t)((seed >> 1) % (uint64_t)below);
}

static int64_t draw_size(void)
{
	return draw(INT64_C(1) << (1 + draw(50)));
}

static void test_owed(void **state)
{
	assert_true(owed_uusd(3600, 1999) == 1);
	assert_true(owed_uusd(250000, HOUR_MS) == 250000);
	assert_true(owed_uusd(1, HOUR_MS - 1) == 0);
	assert_true(owed_uusd(0, HOUR_MS) == 0);
	assert_true(owed_uusd(INT64_MAX, INT64_MAX) == INT64_MAX);
	for (int i = 0; i < 20000; i++) {
		int64_t rate = draw(INT64_C(10000000000000)), ms = draw(1000 * DAY_MS),
			more = draw(DAY_MS);
		unsigned __int128 exact = (unsigned __int128)rate * (uint64_t)(ms / 1000);
		int64_t owed = owed_uusd(rate, ms);

		/* Never above, less than one below. */
		assert_true((unsigned __int128)owed * 3600 <= exact &&
			    exact < ((unsigned __int128)owed + 1) * 3600);
		assert_true(owed_uusd(rate, ms + more) >= owed);
	}
}

/* However often a lease is settled, the parts sum to what the whole costs. */
static void test_owed_adds_up(void **state)
{
	for (int i = 0; i < 2000; i++) {
		int64_t rate = draw_size(), total = 1 + draw(DAY_MS), billed = 0, fees = 0,
			at = 0;
		int64_t fee_ppm = draw(1000001);

		while (at < total) {
			int64_t charge, fee;

			at = MIN(at + 1 + draw(total), total);
			charge = owed_uusd(rate, at) - billed;
			assert_true(charge >= 0);
			billed += charge;
			fee = fee_of(billed, fee_ppm) - fees;
			assert_true(fee >= 0 && fee <= charge);
			fees += fee;
		}
		assert_true(billed == owed_uusd(rate, total));
		assert_true(fees == fee_of(owed_uusd(rate, total), fee_ppm));
	}
}

static void test_funded(void **state)
{
	assert_true(funded_ms(100, 0) == FUNDED_UNLIMITED);
	assert_true(funded_ms(0, 1) == 0);
	assert_true(funded_ms(INT64_MAX, 1) == FUNDED_UNLIMITED);
	assert_true(funded_ms(250000, 250000) == HOUR_MS);
	for (int i = 0; i < 20000; i++) {
		int64_t amount = draw_size(), rate = 1 + draw_size();
		int64_t ms = funded_ms(amount, rate);

		assert_true(ms >= 0 && ms <= FUNDED_UNLIMITED);
		if (ms < FUNDED_UNLIMITED) {
			assert_true(ms % 1000 == 0);
			assert_true(owed_uusd(rate, ms) <= amount);
			assert_true((__int128)rate * (ms / 1000 + 1) > (__int128)amount * 3600);
		}
	}
}

static void test_price(void **state)
{
	struct resources r = { .cpu_milli = 1500, .memory_mib = 1536, .gpus = 2 };
	int64_t price;

	assert_true(price_of(&r, 1000000, 100000, 10000, &price));
	assert_true(price == 2000000 + 150000 + 15000);
	/* Three parts that are not whole are rounded up together, once. */
	r = (struct resources){ .cpu_milli = 1, .memory_mib = 1 };
	assert_true(price_of(&r, 0, 100, 100, &price));
	assert_true(price == 1);
	assert_true(price_of(&r, 0, 0, 0, &price));
	assert_true(price == 0);
	r.gpus = 64;
	price = 4711;
	assert_false(price_of(&r, INT64_MAX, 0, 0, &price));
	assert_false(price_of(&r, -1, 0, 0, &price));
	r = (struct resources){ .gpus = INT64_MAX,
				.cpu_milli = INT64_MAX,
				.memory_mib = INT64_MAX };
	assert_false(price_of(&r, INT64_MAX, INT64_MAX, INT64_MAX, &price));
	assert_true(price == 4711);
}

static void test_reliability(void **state)
{
	assert_true(reliability(1000000, 0, 0) == 600000);
	assert_true(reliability(1000000, 95, 0) == 980000);
	assert_true(reliability(500000, 0, 0) == 300000);
	assert_true(reliability(1000000, 0, 95) == 30000);
	assert_true(reliability(0, 1000, 0) == 0);
	assert_true(reliability(1000000, INT64_C(1) << 53, 0) <= 1000000);
	for (int i = 0; i < 1000; i++) {
		int64_t ok = draw_size(), bad = draw_size(), up = draw(1000001);

		assert_true(reliability(up, ok + 1, bad) >= reliability(up, ok, bad));
		assert_true(reliability(up, ok, bad + 1) <= reliability(up, ok, bad));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_usage_lies),
		cmocka_unit_test(test_usage_possible), cmocka_unit_test(test_usage_repeats),
		cmocka_unit_test(test_usage_final),
		cmocka_unit_test(test_observe),
		cmocka_unit_test(test_observe_by_state),
		cmocka_unit_test(test_preparing_is_free),
		cmocka_unit_test(test_short_job_is_paid),
		cmocka_unit_test(test_billable_limits),
		cmocka_unit_test(test_owed),
		cmocka_unit_test(test_owed_adds_up),
		cmocka_unit_test(test_funded),
		cmocka_unit_test(test_price),
		cmocka_unit_test(test_reliability),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
