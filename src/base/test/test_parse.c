#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

struct sample {
	const char *text;
	int64_t value;
};

typedef int parse_fn(const char *s, int64_t *ret, struct err *err);

static void accepts(parse_fn *parse, const struct sample *samples, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct err err;
		int64_t value = -77;

		if (parse(samples[i].text, &value, &err) < 0)
			fail_msg("'%s': %s", samples[i].text, err.text);
		if (value != samples[i].value)
			fail_msg("'%s' gave %" PRId64, samples[i].text, value);
	}
}

/* Refused, with the value in the text, and the output untouched. */
static void refuses(parse_fn *parse, const char *const *texts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct err err;
		int64_t value = -77;

		if (parse(texts[i], &value, &err) == 0)
			fail_msg("'%s' was accepted as %" PRId64, texts[i], value);
		assert_int_equal(value, -77);
		assert_int_equal(err.code, ERR_INVALID);
		if (!strstr(err.text, texts[i]) && strlen(texts[i]) < 40)
			fail_msg("'%s' is not in: %s", texts[i], err.text);
	}
}

static void integers(void **state)
{
	int64_t n = 5;
	struct err err;

	assert_int_equal(int_parse("-9223372036854775808", INT64_MIN, INT64_MAX, &n, &err), 0);
	assert_true(n == INT64_MIN);
	assert_int_equal(int_parse("9223372036854775807", INT64_MIN, INT64_MAX, &n, &err), 0);
	assert_true(n == INT64_MAX);
	assert_int_equal(int_parse("007", 0, 10, &n, &err), 0);
	assert_int_equal(n, 7);
	assert_int_equal(int_parse("11", 0, 10, &n, &err), -1);
	assert_string_equal(err.text, "11 is out of range: give a whole number from 0 to 10");
	assert_int_equal(int_parse("x", 0, 10, &n, &err), -1);
	assert_string_equal(err.text, "'x' is not a whole number: give one from 0 to 10");
	assert_int_equal(int_parse("9223372036854775808", INT64_MIN, INT64_MAX, &n, &err), -1);
	assert_int_equal(int_parse("-9223372036854775809", INT64_MIN, INT64_MAX, &n, &err), -1);
	assert_int_equal(int_parse("", 0, 10, &n, &err), -1);
	assert_int_equal(int_parse("-", -10, 10, &n, &err), -1);
	assert_int_equal(int_parse("+1", 0, 10, &n, &err), -1);
	assert_int_equal(int_parse(" 1", 0, 10, &n, &err), -1);
	assert_int_equal(int_parse("1 ", 0, 10, &n, &err), -1);
	assert_int_equal(n, 7);
}

static void sizes(void **state)
{
	static const struct sample good[] = {
		{ "0", 0 },
		{ "1024", 1024 },
		{ "512M", 512 << 20 },
		{ "2GiB", INT64_C(2) << 30 },
		{ "1.5 GiB", INT64_C(3) << 29 },
		{ "1KB", 1000 },
		{ "20GB", INT64_C(20000000000) },
		{ "1k", 1024 },
		{ "3 B", 3 },
		{ "0.1K", 102 },
		{ "1Ti", INT64_C(1) << 40 },
		{ "2 tb", INT64_C(2000000000000) },
		{ "9223372036854775807", INT64_MAX },
		{ "8388607T", INT64_C(8388607) << 40 },
	};
	static const char *const bad[] = {
		"",	    "x",     "-1",    "1.5",	      "1.5B",
		"1e3",	    "1 X",   "1GiBB", "1Gi B",	      "1..5G",
		".5G",	    "1.G",   " 1",    "1 ",	      "9223372036854775808",
		"8388608T", "1KiBx", "0x10",  "1.0000000001G"
	};

	accepts(size_parse, good, ARRAY_LEN(good));
	refuses(size_parse, bad, ARRAY_LEN(bad));
}

static void sizes_are_written(void **state)
{
	static const struct sample cases[] = {
		{ "0 B", 0 },
		{ "1023 B", 1023 },
		{ "1 KiB", 1024 },
		{ "1.5 GiB", INT64_C(3) << 29 },
		{ "1023.9 KiB", (1 << 20) - 1 },
		{ "7.9 EiB", INT64_MAX },
		{ "-8 EiB", INT64_MIN },
		{ "-512 MiB", -(512 << 20) },
	};
	char buf[24];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_format(cases[i].value, buf);
		assert_string_equal(buf, cases[i].text);
	}
}

static void durations(void **state)
{
	static const struct sample good[] = {
		{ "0", 0 },
		{ "0s", 0 },
		{ "90s", 90000 },
		{ "15m", 900000 },
		{ "2h30m", 9000000 },
		{ "7d", 604800000 },
		{ "250ms", 250 },
		{ "1.5h", 5400000 },
		{ "1d2h3m4s5ms", 93784005 },
		{ "0.0005s", 0 },
		{ "36h", 129600000 },
		{ "106751991167d7h12m55s807ms", INT64_MAX },
	};
	static const char *const bad[] = { "",
					   "5",
					   "s",
					   "5m2m",
					   "5s2m",
					   "1h 2m",
					   "-1s",
					   "5x",
					   "5min",
					   "1ms1s",
					   "1S",
					   "1.s",
					   "106751991168d",
					   "106751991167d7h12m55s808ms",
					   "99999999999999999999s" };

	accepts(duration_parse, good, ARRAY_LEN(good));
	refuses(duration_parse, bad, ARRAY_LEN(bad));
}

static void durations_are_read_back(void **state)
{
	static const int64_t values[] = { 0,	   1,	       999,	     1000,     61001,
					  HOUR_MS, DAY_MS - 1, 36 * HOUR_MS, INT64_MAX };
	char buf[32];
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		int64_t back;

		duration_format(values[i], buf);
		assert_int_equal(duration_parse(buf, &back, &err), 0);
		assert_true(back == values[i]);
	}
	duration_format(9000000, buf);
	assert_string_equal(buf, "2h30m");
	duration_format(INT64_MIN, buf);
	assert_string_equal(buf, "-106751991167d7h12m55s808ms");
}

static void shares(void **state)
{
	static const struct sample good[] = { { "0", 0 },	   { "2.5%", 25000 },
					      { "100%", 1000000 }, { "25000ppm", 25000 },
					      { "0.0001%", 1 },	   { "99.5%", 995000 },
					      { "0%", 0 } };
	static const char *const bad[] = {
		"",  "5",   "0.5", "1.5ppm", "0.00001%",
		"%", "-1%", "5 %", "5%%",    "9223372036854775807%"
	};

	accepts(ppm_parse, good, ARRAY_LEN(good));
	refuses(ppm_parse, bad, ARRAY_LEN(bad));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers),
		cmocka_unit_test(sizes),
		cmocka_unit_test(sizes_are_written),
		cmocka_unit_test(durations),
		cmocka_unit_test(durations_are_read_back),
		cmocka_unit_test(shares),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
