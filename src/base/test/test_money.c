#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

static void arithmetic_is_checked(void **state)
{
	int64_t n = 1;

	assert_true(add_checked(INT64_MAX, INT64_MIN, &n) && n == -1);
	assert_false(add_checked(INT64_MAX, 1, &n));
	assert_false(sub_checked(INT64_MIN, 1, &n));
	assert_true(sub_checked(0, INT64_MAX, &n) && n == -INT64_MAX);
	assert_false(mul_checked(INT64_MAX / 2 + 1, 2, &n));
	assert_true(mul_checked(-3, 4, &n) && n == -12);
	assert_false(mul_checked(INT64_MIN, -1, &n));
	assert_int_equal(n, -12);
}

static void muldiv_has_a_wide_product(void **state)
{
	int64_t n = 1;

	assert_true(muldiv_floor(7, 3, 2, &n) && n == 10);
	assert_true(muldiv_floor(INT64_MAX, INT64_MAX, INT64_MAX, &n) && n == INT64_MAX);
	assert_false(muldiv_floor(INT64_MAX, 2, 1, &n));
	assert_true(muldiv_floor(0, INT64_MAX, 1, &n) && n == 0);
	/* 2.50 dollars an hour for 3599 seconds */
	assert_true(muldiv_floor(2500000, 3599, 3600, &n) && n == 2499305);
}

static const struct {
	const char *text, *formatted;
	int64_t uusd;
} amounts[] = {
	{ "0", "0.00", 0 },
	{ "0.25", "0.25", 250000 },
	{ "1", "1.00", 1000000 },
	{ "12.345678", "12.345678", 12345678 },
	{ "12.3400000", "12.34", 12340000 },
	{ "-0.5", "-0.50", -500000 },
	{ "0.000001", "0.000001", 1 },
	{ "9223372036854.775807", "9223372036854.775807", INT64_MAX },
	{ "-9223372036854.775807", "-9223372036854.775807", -INT64_MAX },
};

static void amounts_are_read_and_written(void **state)
{
	char buf[32];

	for (size_t i = 0; i < ARRAY_LEN(amounts); i++) {
		struct err err;
		int64_t uusd;

		assert_int_equal(money_parse(amounts[i].text, &uusd, &err), 0);
		assert_true(uusd == amounts[i].uusd);
		money_format(uusd, buf);
		assert_string_equal(buf, amounts[i].formatted);
	}
	money_format(INT64_MIN, buf);
	assert_string_equal(buf, "-9223372036854.775808");
}

static void other_texts_are_refused(void **state)
{
	static const char *const bad[] = { "",
					   "-",
					   "--1",
					   "+1",
					   ".5",
					   "1.",
					   "1e3",
					   "$1",
					   "1 ",
					   " 1",
					   "1,5",
					   "0.0000001",
					   "9223372036854.775808",
					   "9999999999999999999999",
					   "1.2.3",
					   "0x1",
					   "NaN" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int64_t uusd = 77;
		struct err err;

		if (money_parse(bad[i], &uusd, &err) == 0)
			fail_msg("'%s' was accepted", bad[i]);
		assert_int_equal(err.code, ERR_INVALID);
		assert_int_equal(uusd, 77);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(arithmetic_is_checked),
		cmocka_unit_test(muldiv_has_a_wide_product),
		cmocka_unit_test(amounts_are_read_and_written),
		cmocka_unit_test(other_texts_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
