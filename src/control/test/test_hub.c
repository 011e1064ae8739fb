/* Who is woken, and when a duty goes.  What must not wait is given an hour, what must wait is timed from below: no test here
 * depends on how fast the machine is. */
#include "../internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define AGES_MS HOUR_MS
#define SHORT_MS 30

static void test_duty_woken(void **state)
{
	struct hub *h = hub_new();

	hub_wake(h, "duty:faults");
	assert_true(hub_wait_duty(h, "faults", AGES_MS, 0));
	/* Nothing to wait for. */
	assert_true(hub_wait_duty(h, "faults", 0, AGES_MS));
	assert_true(hub_wait_duty(h, "faults", -5, AGES_MS));
	hub_free(h);
}

/* What was answered, or is meant for another, does not wake it. */
static void test_duty_not_woken(void **state)
{
	struct hub *h = hub_new();
	int64_t began_ms;

	hub_wake(h, "duty:faults");
	assert_true(hub_wait_duty(h, "faults", AGES_MS, 0));
	hub_wake(h, "duty:scheduler");
	hub_wake(h, "worker:faults");
	began_ms = time_monotonic_ms();
	assert_true(hub_wait_duty(h, "faults", SHORT_MS, 0));
	assert_true(time_monotonic_ms() - began_ms >= SHORT_MS);
	assert_true(hub_wait_duty(h, "scheduler", AGES_MS, 0));
	hub_free(h);
}

static void test_duty_gathers(void **state)
{
	struct hub *h = hub_new();
	int64_t began_ms = time_monotonic_ms();

	hub_wake(h, "duty:publisher");
	assert_true(hub_wait_duty(h, "publisher", AGES_MS, SHORT_MS)); /* the first: at once */
	hub_wake(h, "duty:publisher");
	hub_wake(h, "duty:publisher");
	assert_true(hub_wait_duty(h, "publisher", AGES_MS, SHORT_MS));
	assert_true(time_monotonic_ms() - began_ms >= SHORT_MS);
	/* Both are answered. */
	began_ms = time_monotonic_ms();
	assert_true(hub_wait_duty(h, "publisher", SHORT_MS, 0));
	assert_true(time_monotonic_ms() - began_ms >= SHORT_MS);
	hub_free(h);
}

/* A round that took 300 ms and wants the next a second after it began; by a clock that meanwhile went on or was set. */
static void test_duty_waits_as_long_as_it_said(void **state)
{
	const int64_t began_ms = 10 * HOUR_MS, next_ms = began_ms + SECOND_MS;

	assert_int_equal(duty_wait_ms(began_ms, next_ms, began_ms + 300), 700);
	assert_true(duty_wait_ms(began_ms, next_ms, began_ms + HOUR_MS) <= 0);
	assert_int_equal(duty_wait_ms(began_ms, next_ms, began_ms - HOUR_MS), SECOND_MS);
}

static void *wait_for_ages(void *arg)
{
	return hub_wait_duty(arg, "faults", AGES_MS, AGES_MS) ? arg : NULL;
}

static void test_duties_stop(void **state)
{
	struct hub *h = hub_new();
	pthread_t thread;
	void *went_on;

	assert_true(hub_wait_duty(h, "faults", 0, 0));
	hub_wake(h, "duty:faults");
	assert_int_equal(pthread_create(&thread, NULL, wait_for_ages, h), 0); /* it gathers for an hour */
	hub_stop(h);
	pthread_join(thread, &went_on);
	assert_null(went_on);
	assert_false(hub_wait_duty(h, "scheduler", AGES_MS, 0));
	hub_free(h);
}

static void count(void *arg)
{
	++*(int *)arg;
}

static void test_listeners(void **state)
{
	struct hub *h = hub_new();
	int a = 0, b = 0;
	struct hub_listener *one = hub_listen(h, "org:1", count, &a), *two = hub_listen(h, "org:1", count, &b);

	hub_wake(h, "org:1");
	hub_wake(h, "org:2");
	hub_unlisten(one);
	hub_wake(h, "org:1");
	hub_unlisten(two);
	hub_wake(h, "org:1");
	assert_int_equal(a, 1);
	assert_int_equal(b, 2);
	hub_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_duty_woken), cmocka_unit_test(test_duty_not_woken), cmocka_unit_test(test_duty_gathers),
		cmocka_unit_test(test_duty_waits_as_long_as_it_said), cmocka_unit_test(test_duties_stop), cmocka_unit_test(test_listeners),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("control-hub", tests, NULL, NULL);
}
