#include "../internal.h"

#include <setjmp.h>

#include <cmocka.h>

#define T INT64_C(1700000000000)

static struct container_status st(enum container_state s, int64_t finished_ms)
{
	return (struct container_status){ .state = s,
					  .started_ms = T,
					  .finished_ms = finished_ms };
}

static void counts_running_time(void **state)
{
	struct journal j = { .base_ms = T };
	struct container_status running = st(CONTAINER_RUNNING, 0),
				exited = st(CONTAINER_EXITED, T + 7000);

	assert_false(meter_settle(&j, &running, T + 5000));
	assert_int_equal(meter_delivered_ms(&j, &running, T + 5000), 5000);
	assert_int_equal(meter_delivered_ms(&j, &exited, T + 90000), 7000);
}

static void nothing_before_it_is_ready(void **state)
{
	struct journal j = { 0 };
	struct container_status running = st(CONTAINER_RUNNING, 0);

	assert_int_equal(meter_delivered_ms(&j, &running, T + 5000), 0);
	j.base_ms = T + 4000;
	assert_int_equal(meter_delivered_ms(&j, &running, T + 5000), 1000);
}

static void never_falls(void **state)
{
	struct journal j = { .base_ms = T, .delivered_ms = 5000 };
	struct container_status running = st(CONTAINER_RUNNING, 0),
				absent = st(CONTAINER_ABSENT, 0);

	assert_int_equal(meter_delivered_ms(&j, &running, T + 3000),
			 5000); /* the clock was set back */
	assert_int_equal(meter_delivered_ms(&j, &absent, T + 9000), 5000);
}

static void pauses_do_not_count(void **state)
{
	struct journal j = { .base_ms = T, .pause_at_ms = T + 1000 };
	struct container_status paused = st(CONTAINER_PAUSED, 0),
				running = st(CONTAINER_RUNNING, 0);

	assert_false(meter_settle(&j, &paused, T + 1010));
	assert_int_equal(meter_delivered_ms(&j, &paused, T + 9000), 1000);
	j.resume_at_ms = T + 4000;
	assert_true(meter_settle(&j, &running, T + 4050));
	assert_int_equal(j.paused_total_ms, 3000);
	assert_int_equal(j.pause_at_ms, 0);
	assert_int_equal(meter_delivered_ms(&j, &running, T + 6000), 3000);
}

/* A crash between writing down and doing. */
static void a_pause_that_did_not_happen(void **state)
{
	struct journal j = { .base_ms = T, .pause_at_ms = T + 1000 };
	struct container_status running = st(CONTAINER_RUNNING, 0);

	assert_true(meter_settle(&j, &running, T + 5000));
	assert_int_equal(meter_delivered_ms(&j, &running, T + 5000), 5000);
}

static void a_resumption_that_did_not_happen(void **state)
{
	struct journal j = { .base_ms = T, .pause_at_ms = T + 1000, .resume_at_ms = T + 2000 };
	struct container_status paused = st(CONTAINER_PAUSED, 0);

	assert_true(meter_settle(&j, &paused, T + 5000));
	assert_int_equal(meter_delivered_ms(&j, &paused, T + 5000), 1000);
}

static void ended_while_paused(void **state)
{
	struct journal j = { .base_ms = T, .pause_at_ms = T + 1000 };
	struct container_status exited = st(CONTAINER_EXITED, T + 8000);

	assert_false(meter_settle(&j, &exited, T + 9000));
	assert_int_equal(meter_delivered_ms(&j, &exited, T + 9000), 1000);
	/* Resumed, and ended before we looked. */
	j = (struct journal){ .base_ms = T, .pause_at_ms = T + 1000, .resume_at_ms = T + 3000 };
	assert_true(meter_settle(&j, &exited, T + 9000));
	assert_int_equal(meter_delivered_ms(&j, &exited, T + 9000), 6000);
}

static void somebody_elses_pause(void **state)
{
	struct journal j = { .base_ms = T };
	struct container_status paused = st(CONTAINER_PAUSED, 0);

	assert_true(meter_settle(&j, &paused, T + 2000));
	assert_int_equal(meter_delivered_ms(&j, &paused, T + 5000), 2000);
}

static void receipts_are_signed(void **state)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	uint8_t pk[SIGN_PUBLIC_SIZE], sk[SIGN_SECRET_SIZE], sig[SIGNATURE_SIZE];
	struct usage u = { .lease = "le_01jdq3k5v8e4r9t0m2n6p7a1bc",
			   .worker = "wk_01jdq3k5v8e4r9t0m2n6p7a1bc",
			   .generation = 2,
			   .seq = 7,
			   .delivered_ms = 1234,
			   .gpus = 1,
			   .cpu_milli = 500,
			   .memory_mib = 64,
			   .at_ms = T,
			   .final = true };
	struct usage back;
	struct signed_usage s;
	struct err err = { 0 };
	size_t len;

	crypto_init();
	sign_keypair(pk, sk);
	receipt_make(&u, sk, &a, &s);
	assert_int_equal(base64url_parse(s.signature, sig, sizeof(sig), &len), 0);
	assert_int_equal(len, SIGNATURE_SIZE);
	strbuf_addf(&text, "tes-usage-1\n%s", s.payload);
	assert_true(sign_check(text.buf, text.len, pk, sig));
	text.buf[20] ^= 1;
	assert_false(sign_check(text.buf, text.len, pk, sig));
	assert_int_equal(
		schema_parse(&usage_type, slice_of(s.payload), FROM_CLIENT, &a, &back, &err),
		0);
	assert_int_equal(back.delivered_ms, 1234);
	assert_int_equal(back.seq, 7);
	assert_true(back.final);
	assert_string_equal(back.lease, u.lease);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_running_time),
		cmocka_unit_test(nothing_before_it_is_ready),
		cmocka_unit_test(never_falls),
		cmocka_unit_test(pauses_do_not_count),
		cmocka_unit_test(a_pause_that_did_not_happen),
		cmocka_unit_test(a_resumption_that_did_not_happen),
		cmocka_unit_test(ended_while_paused),
		cmocka_unit_test(somebody_elses_pause),
		cmocka_unit_test(receipts_are_signed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
