#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

#include <time.h>

static const struct {
	const char *text, *formatted;
} samples[] = {
	{ "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z" },
	{ "2026-11-23T13:58:00.123Z", "2026-11-23T13:58:00.123Z" },
	{ "2026-11-23T15:58:00+02:00", "2026-11-23T13:58:00.000Z" },
	{ "2026-11-23t13:58:00z", "2026-11-23T13:58:00.000Z" },
	{ "2026-11-23 13:58:00-00:30", "2026-11-23T14:28:00.000Z" },
	{ "2024-02-29T00:00:00.1Z", "2024-02-29T00:00:00.100Z" },
	{ "2000-02-29T00:00:00.1239999999Z", "2000-02-29T00:00:00.123Z" },
	{ "2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z" },
	{ "1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z" },
	{ "0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z" },
	{ "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z" },
	{ "9999-12-31T23:59:59.999-23:59", "9999-12-31T23:59:59.999Z" },
};

static void times_are_read_and_written(void **state)
{
	char buf[32];

	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		struct err err;
		int64_t ms;

		if (time_parse(samples[i].text, &ms, &err) < 0)
			fail_msg("%s", err.text);
		time_format(ms, buf);
		assert_string_equal(buf, samples[i].formatted);
	}
	time_format(INT64_MAX, buf);
	assert_string_equal(buf, "9999-12-31T23:59:59.999Z");
	time_format(INT64_MIN, buf);
	assert_string_equal(buf, "0000-01-01T00:00:00.000Z");
}

static void other_texts_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"2026",
		"2026-11-23",
		"2026-11-23T13:58Z",
		"2026-11-23T13:58:00",
		"2026-13-01T00:00:00Z",
		"2026-00-01T00:00:00Z",
		"2026-04-31T00:00:00Z",
		"2023-02-29T00:00:00Z",
		"1900-02-29T00:00:00Z",
		"2026-11-23T24:00:00Z",
		"2026-11-23T13:60:00Z",
		"2026-11-23T13:58:61Z",
		"2026-11-23T13:58:00.Z",
		"2026-11-23T13:58:00+2:00",
		"2026-11-23T13:58:00+24:00",
		"2026-11-23T13:58:00Zx",
		"2026-11-23_13:58:00Z",
		"-026-11-23T13:58:00Z",
		"2026-11-23T13:58:00+0200",
		" 2026-11-23T13:58:00Z",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int64_t ms = 77;
		struct err err;

		if (time_parse(bad[i], &ms, &err) == 0)
			fail_msg("'%s' was accepted", bad[i]);
		assert_int_equal(err.code, ERR_INVALID);
		assert_int_equal(ms, 77);
	}
}

/* Every day of five centuries, against the C library. */
static void days_agree_with_gmtime(void **state)
{
	for (int64_t day = -100000; day < 100000; day++) {
		time_t seconds = (time_t)(day * 86400 + 3661);
		char want[32], have[32];
		struct err err;
		struct tm tm;
		int64_t ms;

		gmtime_r(&seconds, &tm);
		strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
		time_format((int64_t)seconds * 1000, have);
		assert_string_equal(have, want);
		assert_int_equal(time_parse(have, &ms, &err), 0);
		assert_true(ms == (int64_t)seconds * 1000);
	}
}

static void clocks_go_forward(void **state)
{
	int64_t monotonic = time_monotonic_ms(), wall = clock_now(&clock_system);

	assert_true(time_monotonic_ms() >= monotonic);
	assert_true(wall > INT64_C(1600000000000));
	assert_true(llabs(wall / 1000 - (int64_t)time(NULL)) <= 5);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_read_and_written),
		cmocka_unit_test(other_texts_are_refused),
		cmocka_unit_test(days_agree_with_gmtime),
		cmocka_unit_test(clocks_go_forward),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
