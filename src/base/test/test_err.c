#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

#include <errno.h>

static void set_fills_and_returns_minus_one(void **state)
{
	struct err err = { .sys = 7, .field = "old" };

	assert_int_equal(err_set(&err, ERR_FUNDS, "%d is not %s", 3, "enough"), -1);
	assert_int_equal(err.code, ERR_FUNDS);
	assert_int_equal(err.sys, 0);
	assert_string_equal(err.field, "");
	assert_string_equal(err.text, "3 is not enough");
	assert_int_equal(err_set(NULL, ERR_FUNDS, "nobody asks"), -1);
	err_clear(&err);
	assert_int_equal(err.code, ERR_NONE);
	assert_string_equal(err.text, "");
}

static void long_texts_are_cut_at_a_character(void **state)
{
	struct err err;
	char text[600];

	/* "é" is two bytes, and 231 bytes fit: the last one would be half a character. */
	for (size_t i = 0; i < sizeof(text) - 2; i += 2)
		memcpy(text + i, "é", 2);
	text[sizeof(text) - 2] = '\0';
	err_set(&err, ERR_INVALID, "%s", text);
	assert_true(utf8_valid(err.text, strlen(err.text)));
	assert_int_equal(strlen(err.text), 231);
	err_set_field(&err, text, "%s", text);
	assert_true(utf8_valid(err.field, strlen(err.field)));
	for (int i = 0; i < 100; i++) {
		err_wrap(&err, "abc");
		err_prefix_field(&err, "xyz");
	}
	assert_true(strlen(err.text) < sizeof(err.text));
	assert_true(utf8_valid(err.text, strlen(err.text)));
}

static void control_characters_do_not_get_in(void **state)
{
	struct err err;

	err_set_field(&err, "a\nb", "x\r\n\x1b[31m %s\x7f \xc2\x9b \xff \xe2\x80\xae", "\t");
	assert_string_equal(err.field, "a?b");
	assert_string_equal(err.text, "x???[31m ?? ? ? ?");
	err_wrap(&err, "\x07");
	assert_string_equal(err.text, "?: x???[31m ?? ? ? ?");
}

static void sys_names_the_cause(void **state)
{
	struct err err;

	assert_int_equal(err_sys(&err, ENOENT, "cannot open %s", "x"), -1);
	assert_int_equal(err.code, ERR_IO);
	assert_int_equal(err.sys, ENOENT);
	assert_string_equal(err.text, "cannot open x: No such file or directory");
}

static void wrap_keeps_the_code(void **state)
{
	struct err err;

	err_set_field(&err, "gpus", "too many");
	assert_int_equal(err_wrap(&err, "offer %d", 3), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_string_equal(err.text, "offer 3: too many");
	/* Arguments may point into the error itself. */
	err_set(&err, ERR_GONE, "again: %s", err.text);
	assert_string_equal(err.text, "again: offer 3: too many");
}

static void prefix_joins_paths(void **state)
{
	struct err err;

	err_set_field(&err, "[3]", "bad");
	err_prefix_field(&err, "env");
	err_prefix_field(&err, "spec");
	err_prefix_field(&err, "");
	err_prefix_field(&err, NULL);
	assert_string_equal(err.field, "spec.env[3]");
	err_set(&err, ERR_INVALID, "bad");
	err_prefix_field(&err, "spec");
	assert_string_equal(err.field, "spec");
}

static void every_code_has_its_own_name(void **state)
{
	for (int a = ERR_NONE; a <= ERR_INTERNAL; a++) {
		for (int b = ERR_NONE; b < a; b++)
			assert_string_not_equal(err_code_name((enum err_code)a),
						err_code_name((enum err_code)b));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_fills_and_returns_minus_one),
		cmocka_unit_test(long_texts_are_cut_at_a_character),
		cmocka_unit_test(control_characters_do_not_get_in),
		cmocka_unit_test(sys_names_the_cause),
		cmocka_unit_test(wrap_keeps_the_code),
		cmocka_unit_test(prefix_joins_paths),
		cmocka_unit_test(every_code_has_its_own_name),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
