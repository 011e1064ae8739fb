#include "../codec.h"

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>

static struct json *parse(struct arena *a, const char *text)
{
	struct json *ret = NULL;
	struct err err = { 0 };

	if (json_parse(slice_of(text), a, &ret, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	return ret;
}

static void assert_refused(const char *text, size_t len, enum err_code code, const char *why)
{
	cleanup_arena struct arena a = { 0 };
	struct json *ret = NULL;
	struct err err = { 0 };

	arena_init(&a, 0);
	assert_int_equal(json_parse((struct slice){ text, len }, &a, &ret, &err), -1);
	assert_null(ret);
	assert_int_equal(err.code, code);
	if (!strstr(err.text, why))
		fail_msg("%.40s: `%s` does not say `%s`", text, err.text, why);
}

static void test_kinds(void **state)
{
	cleanup_arena struct arena a = { 0 };
	const struct json *v;
	struct json *doc;

	arena_init(&a, 0);
	doc = parse(
		&a,
		"{\"n\":null,\"b\":true,\"i\":-9223372036854775808,\"r\":1.5,\"t\":\"\\u00e4\\ud83d\\ude00\",\"a\":[1,[]],"
		"\"o\":{}}");
	assert_int_equal(doc->kind, JSON_OBJECT);
	assert_int_equal(doc->member_count, 7);
	assert_string_equal(doc->members[0].name, "n");
	assert_int_equal(json_find(doc, "n")->kind, JSON_NULL);
	assert_true(json_find(doc, "b")->boolean);
	assert_true(json_find(doc, "i")->integer == INT64_MIN);
	assert_true(json_find(doc, "r")->real == 1.5);
	v = json_find(doc, "t");
	assert_string_equal(v->text, "ä😀");
	assert_int_equal(v->text_len, 6);
	v = json_find(doc, "a");
	assert_int_equal(v->count, 2);
	assert_int_equal(v->items[1].kind, JSON_ARRAY);
	assert_int_equal(v->items[1].count, 0);
	assert_int_equal(json_find(doc, "o")->kind, JSON_OBJECT);
	assert_null(json_find(doc, "x"));
	assert_null(json_find(v, "x"));
	assert_null(json_find(NULL, "x"));
	assert_int_equal(parse(&a, " 7 ")->integer, 7);
}

static void test_round_trip(void **state)
{
	static const char *const documents[] = {
		"null",		"true",
		"false",	"0",
		"-1",		"9223372036854775807",
		"0.1",		"0.30000000000000004",
		"1e+300",	"\"\"",
		"[]",		"{}",
		"[[],{},[{}]]", "{\"a\":[1,2,{\"b\":null}],\"c\":\"\\\"\\\\\\n\\r\\t\\u0001\"}",
		"2.0",		"{\"\":0,\"ä\":\"\xef\xbf\xbd\"}",
	};

	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		cleanup_arena struct arena a = { 0 };
		cleanup_strbuf struct strbuf out = STRBUF_INIT;

		arena_init(&a, 0);
		strbuf_init(&out);
		json_write(parse(&a, documents[i]), &out);
		assert_string_equal(out.buf, documents[i]);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "", "empty" },
		{ " \n ", "empty" },
		{ "{", "line 1" },
		{ "[1,]", "line 1, column 4" },
		{ "{\n\"a\": 1,\n\"a\": 2}", "line 3" },
		{ "[9223372036854775808]", "big" },
		{ "[-9223372036854775809]", "big" },
		{ "[1e999]", "overflow" },
		{ "[NaN]", "invalid token" },
		{ "[Infinity]", "invalid token" },
		{ "[01]", "line 1" },
		{ "[+1]", "line 1" },
		{ "['a']", "line 1" },
		{ "[1] [2]", "line 1" },
		{ "[\"\\u0000\"]", "u0000" },
		{ "{\"a\\u0000b\":1}", "u0000" },
		{ "[\"\\ud800\"]", "ud800" },
		{ "[\"\xff\"]", "0xff" },
		{ "[\"\xc0\x80\"]", "0xc0" },
		{ "[\"\n\"]", "line 1" },
		{ "// no\n1", "line 1" },
		{ "tru", "line 1" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_refused(cases[i].text, strlen(cases[i].text), ERR_INVALID, cases[i].why);
	assert_refused("[1]\0", 4, ERR_INVALID, "line 1");
	assert_refused(NULL, 0, ERR_INVALID, "empty");
}

static void test_depth(void **state)
{
	cleanup_arena struct arena a = { 0 };
	char text[70] = "";

	arena_init(&a, 0);
	memset(text, '[', 32);
	memset(text + 32, ']', 32);
	parse(&a, text);
	memset(text, '[', 33);
	memset(text + 33, ']', 33);
	assert_refused(text, 66, ERR_INVALID, "column 33: nested more than 32");
	memset(text, '[', sizeof(text));
	assert_refused(text, sizeof(text), ERR_INVALID, "nested");
	parse(&a, "\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[\"");
}

static void test_size(void **state)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	cleanup_arena struct arena small = { 0 };
	struct json *ret = NULL;
	struct err err = { 0 };

	strbuf_adds(&text, "[0");
	for (int i = 0; i < 1 << 18; i++)
		strbuf_adds(&text, ",0");
	strbuf_addc(&text, ']');
	assert_refused(text.buf, text.len, ERR_TOO_LARGE, "values");
	arena_init(&small, 4096);
	assert_int_equal(json_parse((struct slice){ "[\"x\",0,0,0]", 11 }, &small, &ret, &err),
			 0);
	strbuf_reset(&text);
	strbuf_adds(&text, "[\"x\"");
	for (int i = 0; i < 100; i++)
		strbuf_adds(&text, ",\"y\"");
	strbuf_addc(&text, ']');
	assert_int_equal(json_parse((struct slice){ text.buf, text.len }, &small, &ret, &err),
			 -1);
	assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void test_write_text(void **state)
{
	static const struct {
		const char *text, *written;
	} cases[] = {
		{ NULL, "null" },
		{ "", "\"\"" },
		{ "a\x01\x1f\x7f", "\"a\\u0001\\u001f\x7f\"" },
		{ "\xff", "\"\xef\xbf\xbd\"" },
		{ "a\xc3", "\"a\xef\xbf\xbd\"" },
		{ "\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
		{ "\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"" },
		{ "\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
		{ "\xf4\x90\x80\x80x",
		  "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\"" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_strbuf struct strbuf out = STRBUF_INIT;

		strbuf_init(&out);
		json_write_text(cases[i].text, &out);
		assert_string_equal(out.buf, cases[i].written);
	}
}

static void test_write_real(void **state)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	json_write(&(struct json){ .kind = JSON_REAL, .real = NAN }, &out);
	json_write(&(struct json){ .kind = JSON_REAL, .real = -INFINITY }, &out);
	json_write(&(struct json){ .kind = JSON_REAL, .real = 3 }, &out);
	assert_string_equal(out.buf, "nullnull3.0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),	   cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),	   cmocka_unit_test(test_depth),
		cmocka_unit_test(test_size),	   cmocka_unit_test(test_write_text),
		cmocka_unit_test(test_write_real),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
