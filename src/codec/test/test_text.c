#include "../codec.h"

#include <setjmp.h>

#include <cmocka.h>

static void test_hex(void **state)
{
	uint8_t bytes[3] = { 9, 9, 9 };
	char text[7];

	hex_format("\x00\xaf\xff", 3, text);
	assert_string_equal(text, "00afff");
	assert_int_equal(hex_parse("00AFff", bytes, 3), 0);
	assert_memory_equal(bytes, "\x00\xaf\xff", 3);
	memset(bytes, 9, 3);
	assert_int_equal(hex_parse("00afff0", bytes, 3), -1);
	assert_int_equal(hex_parse("00aff", bytes, 3), -1);
	assert_int_equal(hex_parse("00affg", bytes, 3), -1);
	assert_int_equal(hex_parse("", bytes, 3), -1);
	assert_memory_equal(bytes, "\x09\x09\x09", 3);
	assert_int_equal(hex_parse("", bytes, 0), 0);
}

static void test_base64url(void **state)
{
	/* RFC 4648 §10, without padding */
	static const struct {
		const char *bytes, *text;
	} cases[] = {
		{ "", "" },
		{ "f", "Zg" },
		{ "fo", "Zm8" },
		{ "foo", "Zm9v" },
		{ "foob", "Zm9vYg" },
		{ "fooba", "Zm9vYmE" },
		{ "foobar", "Zm9vYmFy" },
		{ "\xfb\xff", "-_8" },
	};
	static const char *const wrong[] = { "Z",    "Zg=",  "Zg==", "Zh",   "Zm9", "Zm9vY",
					     "Zm+v", "Zm/v", "Zm v", "Zg\n", "ä" };
	cleanup_arena struct arena a = { 0 };
	uint8_t bytes[8];
	size_t len;

	arena_init(&a, 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_string_equal(
			base64url_format(&a, cases[i].bytes, strlen(cases[i].bytes)),
			cases[i].text);
		assert_int_equal(base64url_parse(cases[i].text, bytes, sizeof(bytes), &len), 0);
		assert_int_equal(len, strlen(cases[i].bytes));
		assert_memory_equal(bytes, cases[i].bytes, len);
	}
	len = 77;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_int_equal(base64url_parse(wrong[i], bytes, sizeof(bytes), &len), -1);
	assert_int_equal(base64url_parse("Zm9vYmFy", bytes, 5, &len), -1);
	assert_int_equal(len, 77);
	assert_int_equal(base64url_parse("Zm9vYmFy", bytes, 6, &len), 0);
}

static void test_url(void **state)
{
	static const char *const wrong[] = { "%",   "%4",  "%4g",  "%g4",	"a%00b",
					     "%ff", "%c3", "\xff", "%ed%a0%80", "100%" };
	cleanup_arena struct arena a = { 0 };
	char *text = NULL;

	arena_init(&a, 0);
	assert_string_equal(url_escape(&a, "a-b._~ /?&=%+ä"),
			    "a-b._~%20%2F%3F%26%3D%25%2B%C3%A4");
	assert_string_equal(url_escape(&a, ""), "");
	assert_int_equal(url_unescape(&a, SLICE("a%2fb%2Fc+%C3%A4%0a"), &text), 0);
	assert_string_equal(text, "a/b/c+ä\n");
	assert_int_equal(url_unescape(&a, SLICE("%41"), &text), 0);
	assert_string_equal(text, "A");
	assert_int_equal(url_unescape(&a, (struct slice){ NULL, 0 }, &text), 0);
	assert_string_equal(text, "");
	text = NULL;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_int_equal(url_unescape(&a, slice_of(wrong[i]), &text), -1);
	assert_int_equal(url_unescape(&a, (struct slice){ "a\0b", 3 }, &text), -1);
	assert_null(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_base64url),
		cmocka_unit_test(test_url),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
