#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

static void slices_compare_and_trim(void **state)
{
	struct slice none = { NULL, 0 };

	assert_true(slice_eq(none, SLICE("")));
	assert_true(slice_is(SLICE("abc"), "abc"));
	assert_false(slice_is(SLICE("abc"), "ab"));
	assert_true(slice_is(slice_trim(SLICE(" \t a b\r\n")), "a b"));
	assert_int_equal(slice_trim(SLICE("  ")).len, 0);
	assert_int_equal(slice_of(NULL).len, 0);
}

static void split_gives_every_piece(void **state)
{
	static const char *const want[] = { "a", "", "bc", "" };
	struct slice rest = SLICE("a,,bc,"), piece;
	size_t n = 0;

	while (slice_split(&rest, ',', &piece)) {
		assert_true(n < ARRAY_LEN(want));
		assert_true(slice_is(piece, want[n++]));
	}
	assert_int_equal(n, ARRAY_LEN(want));
	rest = SLICE("");
	assert_true(slice_split(&rest, ',', &piece));
	assert_int_equal(piece.len, 0);
	assert_false(slice_split(&rest, ',', &piece));
}

static void strbuf_grows(void **state)
{
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;
	struct strbuf zero = { 0 };

	assert_string_equal(sb.buf, "");
	strbuf_reset(&sb);
	for (int i = 0; i < 10000; i++)
		strbuf_addf(&sb, "%d,", i % 10);
	assert_int_equal(sb.len, 20000);
	assert_int_equal(sb.buf[sb.len], '\0');
	strbuf_reset(&sb);
	assert_string_equal(sb.buf, "");
	strbuf_addf(&sb, "%0500d", 1);
	assert_int_equal(sb.len, 500);
	strbuf_reset(&sb);
	strbuf_add(&sb, "a\0b", 3);
	strbuf_add(&sb, NULL, 0);
	strbuf_addc(&sb, 'c');
	strbuf_adds(&sb, "de");
	assert_memory_equal(sb.buf, "a\0bcde", 7);
	strbuf_adds(&zero, "x");
	assert_string_equal(zero.buf, "x");
	strbuf_release(&zero);
}

static void take_hands_over(void **state)
{
	struct strbuf sb = STRBUF_INIT;
	char *text;

	text = strbuf_take(&sb);
	assert_string_equal(text, "");
	free(text);
	strbuf_adds(&sb, "abc");
	text = strbuf_take(&sb);
	assert_string_equal(text, "abc");
	assert_int_equal(sb.len, 0);
	free(text);
	strbuf_release(&sb);
}

static void escaped_text_is_harmless(void **state)
{
	static const char text[] = "a\n\t\x1b]0;x\x07 \xc2\x9b \xff\xe2\x80\xae é €";
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;

	strbuf_add_escaped(&sb, text, sizeof(text) - 1);
	assert_string_equal(sb.buf, "a\\n\\t\\x1b]0;x\\x07 \\u009b \\xff\\u202e é €");
}

static void strings_compare(void **state)
{
	char buf[4] = "old";

	assert_true(str_eq(NULL, NULL));
	assert_false(str_eq(NULL, ""));
	assert_true(str_eq("a", "a"));
	assert_true(str_starts("lease", "le"));
	assert_false(str_starts("l", "le"));
	assert_true(str_empty(NULL) && str_empty("") && !str_empty("x"));
	assert_int_equal(str_copy(buf, sizeof(buf), "abcd"), -1);
	assert_string_equal(buf, "");
	assert_int_equal(str_copy(buf, sizeof(buf), "abc"), 0);
	assert_string_equal(buf, "abc");
}

static void utf8_is_strict(void **state)
{
	static const char *const good[] = {
		"", "a", "é", "€", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"
	};
	static const char *const bad[] = { "\x80",
					   "\xc3",
					   "\xc0\x80",
					   "\xc1\xbf",
					   "\xe0\x80\x80",
					   "\xed\xa0\x80",
					   "\xf0\x80\x80\x80",
					   "\xf4\x90\x80\x80",
					   "\xf5\x80\x80\x80",
					   "\xe2\x82",
					   "\xff",
					   "\xe2\x28\xa1" };

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(utf8_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(utf8_valid(bad[i], strlen(bad[i])));
}

static void distance_counts_edits(void **state)
{
	char far[70];

	assert_int_equal(str_distance("", ""), 0);
	assert_int_equal(str_distance("listen", "listne"), 1);
	assert_int_equal(str_distance("port", "prt"), 1);
	assert_int_equal(str_distance("port", "ports"), 1);
	assert_int_equal(str_distance("kitten", "sitting"), 3);
	assert_int_equal(str_distance("", "abc"), 3);
	memset(far, 'x', sizeof(far) - 1);
	far[sizeof(far) - 1] = '\0';
	assert_true(str_distance(far, "x") == SIZE_MAX);
}

static void macros_evaluate_once(void **state)
{
	int calls = 0;

	assert_int_equal(MIN(MAX(++calls, 5), MAX(3, MIN(9, 4))), 4);
	assert_int_equal(calls, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(slices_compare_and_trim),
		cmocka_unit_test(split_gives_every_piece),
		cmocka_unit_test(strbuf_grows),
		cmocka_unit_test(take_hands_over),
		cmocka_unit_test(escaped_text_is_harmless),
		cmocka_unit_test(strings_compare),
		cmocka_unit_test(utf8_is_strict),
		cmocka_unit_test(distance_counts_edits),
		cmocka_unit_test(macros_evaluate_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
