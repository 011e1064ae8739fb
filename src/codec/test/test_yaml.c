#include "../codec.h"

#include <setjmp.h>

#include <cmocka.h>

static void assert_yaml(const char *yaml, const char *json)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct json *ret = NULL;
	struct err err = { 0 };

	arena_init(&a, 0);
	if (yaml_parse(slice_of(yaml), &a, &ret, &err) < 0)
		fail_msg("%s: %s", yaml, err.text);
	json_write(ret, &out);
	assert_string_equal(out.buf, json);
}

static void assert_refused(const char *yaml, size_t len, const char *why)
{
	cleanup_arena struct arena a = { 0 };
	struct json *ret = NULL;
	struct err err = { 0 };

	arena_init(&a, 0);
	assert_int_equal(yaml_parse((struct slice){ yaml, len }, &a, &ret, &err), -1);
	assert_null(ret);
	assert_int_equal(err.code, ERR_INVALID);
	if (!strstr(err.text, why))
		fail_msg("%.60s: `%s` does not say `%s`", yaml, err.text, why);
}

static void test_scalars(void **state)
{
	assert_yaml("[null, ~, Null, NULL, nULL]", "[null,null,null,null,\"nULL\"]");
	assert_yaml("a:\nb: \n", "{\"a\":null,\"b\":null}");
	assert_yaml("[true, false, True, yes, no, on, off]",
		    "[true,false,\"True\",\"yes\",\"no\",\"on\",\"off\"]");
	assert_yaml("[0, -1, +2, 007, 0x1F, 0o17, 9223372036854775807, -9223372036854775808]",
		    "[0,-1,2,7,31,15,9223372036854775807,-9223372036854775808]");
	assert_yaml("[1.5, .5, 1., 1e3, -2.5E-1]", "[1.5,0.5,1.0,1000.0,-0.25]");
	assert_yaml(
		"[0x, 0o8, 1e, '1', \"true\", -, 1.2.3, 1_000, 12:30, 2026-11-23]",
		"[\"0x\",\"0o8\",\"1e\",\"1\",\"true\",\"-\",\"1.2.3\",\"1_000\",\"12:30\",\"2026-11-23\"]");
	assert_yaml("['', \"a\\tb\\u00e4\", 'it''s']", "[\"\",\"a\\tbä\",\"it's\"]");
	assert_yaml("a: |\n  one\n  two\nb: >-\n  x\n  y\n",
		    "{\"a\":\"one\\ntwo\\n\",\"b\":\"x y\"}");
	assert_yaml("7", "7");
}

static void test_collections(void **state)
{
	assert_yaml(
		"# a job\nname: x\nresources:\n  gpus: 2\ncommand:\n- python3\n- -c\n- 'print(1)'\nenv: {A: '1', B: b}\n",
		"{\"name\":\"x\",\"resources\":{\"gpus\":2},\"command\":[\"python3\",\"-c\",\"print(1)\"],"
		"\"env\":{\"A\":\"1\",\"B\":\"b\"}}");
	assert_yaml("--- \n[]\n...\n", "[]");
	assert_yaml("%YAML 1.2\n---\n{}\n", "{}");
	assert_yaml("{\"a\": 1, 2: 3, <<: x}", "{\"a\":1,\"2\":3,\"<<\":\"x\"}");
}

static void test_lines(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct json *doc = NULL;
	const struct json *v;
	struct err err;

	arena_init(&a, 0);
	assert_int_equal(
		yaml_parse(SLICE("a: 1\n\nb:\n  c: 2\n  d:\n  - x\n  - y\n"), &a, &doc, &err),
		0);
	assert_int_equal(doc->line, 1);
	assert_int_equal(json_find(doc, "a")->line, 1);
	v = json_find(doc, "b");
	assert_int_equal(v->line, 3);
	assert_int_equal(json_find(v, "c")->line, 4);
	assert_int_equal(json_find(v, "d")->line, 5);
	assert_int_equal(json_find(v, "d")->items[1].line, 7);
}

static void test_refused(void **state)
{
	static const struct {
		const char *yaml, *why;
	} cases[] = {
		{ "", "empty" },
		{ "# nothing\n", "empty" },
		{ "a: &x 1", "line 1: anchors" },
		{ "a: 1\nb: *x\n", "line 2: " },
		{ "a: 1\n*x : 2\n", "line 2: " },
		{ "a: !!str 1", "line 1: anchors" },
		{ "! a", "line 1: anchors" },
		{ "&a [1]", "line 1: anchors" },
		{ "!t {a: 1}", "line 1: anchors" },
		{ "&a b: c", "line 1: anchors" },
		{ "%TAG ! tag:x,2000:\n---\na\n", "%TAG" },
		{ "a: 1\nb: 2\n'a': 3\n", "line 3: `a` was given before, in line 1" },
		{ "[a]: 1", "a key must be" },
		{ "{a: 1}: 1", "a key must be" },
		{ "a: 1\n---\nb: 2\n", "second document" },
		{ "a: [1\nb: 2\n", "line 2" },
		{ "a: 1\n b: 2\n", "line 2" },
		{ "\ta: 1\n", "line 1" },
		{ "a: 9223372036854775808", "line 1: the number needs" },
		{ "a: 0xffffffffffffffff", "line 1: the number needs" },
		{ "a: 1e999", "too large" },
		{ "a: .inf", "finite" },
		{ "a: .NaN", "finite" },
		{ "a: \"\\0\"", "NUL" },
		{ "\"\\0\": 1", "NUL" },
		{ "a: \xff", "UTF-8" },
		{ "\xff\xfe"
		  "a",
		  "UTF-8" },
		{ "a: @x", "line 1" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_refused(cases[i].yaml, strlen(cases[i].yaml), cases[i].why);
	assert_refused("a\0b", 3, "UTF-8");
	assert_refused(NULL, 0, "empty");
}

static void test_limits(void **state)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	cleanup_arena struct arena small = { 0 };
	struct json *ret = NULL;
	struct err err = { 0 };
	char deep[80] = "";

	memset(deep, '[', 32);
	deep[32] = '7';
	memset(deep + 33, ']', 32);
	assert_yaml(deep, deep);
	memset(deep, '[', 33);
	memset(deep + 33, ']', 33);
	assert_refused(deep, 66, "nested");
	for (int i = 0; i < 500; i++)
		strbuf_addf(&text, "k%d: 1\n", i);
	arena_init(&small, 4096);
	assert_int_equal(yaml_parse((struct slice){ text.buf, text.len }, &small, &ret, &err),
			 -1);
	assert_int_equal(err.code, ERR_TOO_LARGE);
	strbuf_reset(&text);
	for (int i = 0; i <= 1 << 18; i++)
		strbuf_adds(&text, "- 1\n");
	assert_int_equal(yaml_parse((struct slice){ text.buf, text.len }, &small, &ret, &err),
			 -1);
	assert_int_equal(err.code, ERR_TOO_LARGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scalars), cmocka_unit_test(test_collections),
		cmocka_unit_test(test_lines),	cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
