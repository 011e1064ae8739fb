#include "kinds.h"

#include <setjmp.h>

#include <cmocka.h>

#define ID "wl_01jdq3k5v8e4r9t0m2n6p7a1bc"

static void assert_refused(const char *json, enum schema_from from, const char *field,
			   const char *text)
{
	cleanup_arena struct arena a = { 0 };
	struct kinds ret, before;
	struct err err = { 0 };

	arena_init(&a, 0);
	memset(&before, 0x5a, sizeof(before));
	ret = before;
	if (schema_parse(&kinds_type, slice_of(json), from, &a, &ret, &err) == 0)
		fail_msg("taken: %s", json);
	assert_memory_equal(&ret, &before, sizeof(ret));
	assert_int_equal(err.code, ERR_INVALID);
	assert_string_equal(err.field, field);
	assert_string_equal(err.text, text);
}

static void parse(struct arena *a, const char *json, enum schema_from from, struct kinds *ret)
{
	struct err err = { 0 };

	if (schema_parse(&kinds_type, slice_of(json), from, a, ret, &err) < 0)
		fail_msg("%s: %s: %s", json, err.field, err.text);
}

static void test_values(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct kinds k;

	arena_init(&a, 0);
	parse(&a,
	      "{\"id\":\"" ID
	      "\",\"name\":\"ab\",\"note\":null,\"count\":64,\"at_ms\":\"2026-11-23T15:58:00.5+02:00\","
	      "\"on\":true,\"color\":\"dark-blue\",\"limits\":{\"size_bytes\":9223372036854775807,\"part\":{\"name\":\"p\"}},"
	      "\"parts\":[{\"name\":\"x\",\"tags\":[\"t\",\"\"]},{\"name\":\"y\",\"gpus\":0}],\"labels\":[],\"env\":{\"B\":\"1\",\"A\":\"2\"}}",
	      FROM_CLIENT, &k);
	assert_string_equal(k.id, ID);
	assert_null(k.note);
	assert_int_equal(k.count, 64);
	assert_int_equal(k.unset, -1);
	assert_true(k.at_ms == INT64_C(1795442280500));
	assert_true(k.on);
	assert_int_equal(k.color, 2);
	assert_int_equal(k.shape, -1);
	assert_int_equal(k.limits->memory_mib, 512);
	assert_int_equal(k.limits->timeout_s, 0);
	assert_true(k.limits->size_bytes == INT64_MAX);
	assert_string_equal(k.limits->part->name, "p");
	assert_int_equal(k.parts.len, 2);
	assert_int_equal(k.parts.items[0].gpus, 1);
	assert_int_equal(k.parts.items[0].tags.len, 2);
	assert_int_equal(k.parts.items[1].gpus, 0);
	assert_int_equal(k.labels.len, 0);
	assert_string_equal(text_map_find(&k.env, "A"), "2");
	assert_null(text_map_find(&k.env, "C"));

	parse(&a, "{\"name\":\"ab\"}", FROM_CLIENT, &k);
	assert_int_equal(k.count, 2);
	assert_int_equal(k.color, 1);
	assert_null(k.limits);
}

static void test_limits(void **state)
{
	static const struct {
		const char *json, *field, *text;
	} cases[] = {
		{ "\"id\":\"wl_01jdq\"", "id",
		  "`wl_01jdq` is not a full id (wl_ and 26 letters and digits): copy all of it" },
		{ "\"any_id\":\"\"", "any_id",
		  "`` is not a full id (two letters, _ and 26 letters and digits): copy all of it" },
		{ "\"note\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"",
		  "note", "the text is 70 bytes long, 64 are allowed: shorten it" },
		{ "\"note\":\"a\\u001bb\"", "note",
		  "has a control character (0x1b) at byte 2: remove it" },
		{ "\"note\":\"a\\u007f\"", "note",
		  "has a control character (0x7f) at byte 2: remove it" },
		{ "\"note\":\"\\u009b\"", "note",
		  "has a control character (0xc2) at byte 1: remove it" },
		{ "\"secret\":\"\"", "secret", "is empty: at least 1 character is needed" },
		{ "\"secret\":\"01234567890123456\"", "secret",
		  "the secret is 17 bytes long, 16 are allowed: shorten it" },
		{ "\"secret\":123456", "secret",
		  "is a whole number, text is wanted: put it in quotes" },
		{ "\"count\":65", "count", "65 is more than 64, the most allowed" },
		{ "\"count\":-1", "count", "-1 is less than 0, the least allowed" },
		{ "\"unset\":-1", "unset", "-1 is less than 0, the least allowed" },
		{ "\"count\":2.0", "count",
		  "2.0 is a number with a fraction, a whole number is wanted: give it without quotes and fraction" },
		{ "\"count\":\"2\"", "count",
		  "\"2\" is text, a whole number is wanted: give it without quotes and fraction" },
		{ "\"count\":[2]", "count",
		  "is a list, a whole number is wanted: give it without quotes and fraction" },
		{ "\"count\":true", "count",
		  "true is a truth value, a whole number is wanted: give it without quotes and fraction" },
		{ "\"at_ms\":true", "at_ms",
		  "true is a truth value, a time is wanted: milliseconds since 1970 UTC, or text such as \"2026-11-23T13:58:00Z\"" },
		{ "\"at_ms\":\"1969-12-31T23:59:59Z\"", "at_ms",
		  "the time is outside 1970-01-01T00:00:00.000Z … 9999-12-31T23:59:59.999Z: correct it" },
		{ "\"price_uusd\":-1", "price_uusd", "-1 is less than 0, the least allowed" },
		{ "\"price_uusd\":1000000000000001", "price_uusd",
		  "1000000000000001 is more than 1000000000000000, the most allowed" },
		{ "\"share_ppm\":1000001", "share_ppm",
		  "1000001 is more than 1000000, the most allowed" },
		{ "\"on\":1", "on",
		  "1 is a whole number, true or false is wanted, without quotes" },
		{ "\"on\":\"true\"", "on",
		  "\"true\" is text, true or false is wanted, without quotes" },
		{ "\"color\":\"blue\"", "color",
		  "`blue` is not known: choose one of red, green, dark-blue" },
		{ "\"color\":1", "color", "1 is a whole number, a name is wanted" },
		{ "\"limits\":[]", "limits",
		  "is a list, an object with named fields is wanted" },
		{ "\"limits\":{\"memory_mib\":-5}", "limits.memory_mib",
		  "-5 is less than 0, the least allowed" },
		{ "\"limits\":{\"part\":{}}", "limits.part.name", "is required: add it" },
		{ "\"limits\":{\"part\":{\"name\":null}}", "limits.part.name",
		  "is required: add it" },
		{ "\"parts\":{}", "parts", "is an object, a list is wanted: put it in [ ]" },
		{ "\"parts\":[{\"name\":\"a\"},7]", "parts[1]",
		  "is a whole number, an object with named fields is wanted" },
		{ "\"parts\":[{\"name\":\"a\"},{\"name\":\"a\\tb\"}]", "parts[1].name",
		  "has a control character (0x09) at byte 2: remove it" },
		{ "\"parts\":[{\"name\":\"a\",\"tags\":[\"x\",\"012345678\"]}]",
		  "parts[0].tags[1]", "the text is 9 bytes long, 8 are allowed: shorten it" },
		{ "\"parts\":[null,null,null,null,null]", "parts",
		  "has 5 entries, 4 are allowed: remove some" },
		{ "\"labels\":[\"a\",7]", "labels[1]",
		  "7 is a whole number, text is wanted: put it in quotes" },
		{ "\"labels\":\"a\"", "labels",
		  "\"a\" is text, a list is wanted: put it in [ ]" },
		{ "\"env\":{\"A\":1}", "env.A",
		  "1 is a whole number, text is wanted: put it in quotes" },
		{ "\"env\":{\"\":\"1\"}", "env.", "is empty: at least 1 character is needed" },
		{ "\"env\":{\"a\\nb\":\"1\"}", "env.a?b",
		  "has a control character (0x0a) at byte 2: remove it" },
		{ "\"env\":{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\",\"d\":\"4\",\"e\":\"5\"}",
		  "env", "has 5 entries, 4 are allowed: remove some" },
		{ "\"env\":[\"A=1\"]", "env",
		  "is a list, an object that maps names to texts is wanted" },
		{ "\"count\":13", "count", "13 brings bad luck: take 12 or 14" },
		{ "\"made_by\":\"me\"", "made_by", "is set by the server: leave it out" },
		{ "\"made_ms\":null", "made_ms", "is set by the server: leave it out" },
	};
	char json[256];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		snprintf(json, sizeof(json), "{\"name\":\"ok\",%s}", cases[i].json);
		assert_refused(json, FROM_CLIENT, cases[i].field, cases[i].text);
	}
	assert_refused("{}", FROM_CLIENT, "name", "is required: add it");
	assert_refused("{\"name\":\"x\"}", FROM_CLIENT, "name",
		       "the text is 1 bytes long, at least 2 are needed");
	assert_refused("[]", FROM_CLIENT, "",
		       "is a list, an object with named fields is wanted");
	assert_refused("{\"name\":\"ok\"}", FROM_SERVER, "made_by", "is required: add it");
}

static void test_unknown(void **state)
{
	assert_refused("{\"nam\":1}", FROM_CLIENT, "nam",
		       "unknown field `nam`; did you mean `name`?");
	assert_refused("{\"limits\":{\"memory\":1}}", FROM_CLIENT, "limits.memory",
		       "unknown field `memory`; did you mean `memory_mib`?");
	assert_refused("{\"parts\":[{\"gpu\":1}]}", FROM_CLIENT, "parts[0].gpu",
		       "unknown field `gpu`; did you mean `gpus`?");
	assert_refused("{\"parts\":[{\"priority\":1}]}", FROM_CLIENT, "parts[0].priority",
		       "unknown field `priority`: known are name, gpus, tags");
	assert_refused(
		"{\"hidden\":\"x\"}", FROM_CLIENT, "hidden",
		"unknown field `hidden`: known are id, any_id, name, note, output, secret, count, offset, unset, at_ms, "
		"price_uusd, balance_uusd, share_ppm, on, color, shape, …");
	assert_refused(
		"{\"a\\u001b[31m012345678901234567890123456789012345678901234567890123456789\":1}",
		FROM_CLIENT, "a?[31m012345678901234567890123456789012345678901…",
		"unknown field `a?[31m012345678901234567890123456789012345678901…`: known are id, any_id, name, note, "
		"output, secret, count, offset, unset, at_ms, price_uusd, balance_uusd, share_ppm, on, color, shape, …");
}

static void test_server(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct kinds k;

	arena_init(&a, 0);
	parse(&a,
	      "{\"name\":\"ok\",\"made_by\":\"tesd\",\"made_ms\":\"1970-01-01T00:00:01Z\",\"count\":13,\"newer\":{\"x\":[1]},"
	      "\"hidden\":7}",
	      FROM_SERVER, &k);
	assert_string_equal(k.made_by, "tesd");
	assert_int_equal(k.made_ms, 1000);
	assert_null(k.hidden);
	assert_refused("{\"name\":\"ok\",\"made_by\":\"tesd\",\"count\":65}", FROM_SERVER,
		       "count", "65 is more than 64, the most allowed");
}

static void assert_yaml_refused(const char *yaml, const char *field, const char *text)
{
	cleanup_arena struct arena a = { 0 };
	struct json *doc = NULL;
	struct kinds k;
	struct err err = { 0 };

	arena_init(&a, 0);
	assert_int_equal(yaml_parse(slice_of(yaml), &a, &doc, &err), 0);
	assert_int_equal(schema_read(&kinds_type, doc, FROM_CLIENT, &a, &k, &err), -1);
	assert_string_equal(err.field, field);
	assert_string_equal(err.text, text);
}

static void test_lines(void **state)
{
	assert_yaml_refused("name: ok\nlimits:\n  memory: 4\n", "limits.memory",
			    "unknown field `memory`; did you mean `memory_mib`? (line 3)");
	assert_yaml_refused("name: 12\n", "name",
			    "12 is a whole number, text is wanted: put it in quotes (line 1)");
	assert_yaml_refused("name: ok\nenv:\n  N: 4\n", "env.N",
			    "4 is a whole number, text is wanted: put it in quotes (line 3)");
	assert_yaml_refused("name: ok\nlabels:\n- a\n- no\n- true\n", "labels[2]",
			    "true is a truth value, text is wanted: put it in quotes (line 5)");
	assert_yaml_refused(
		"name: ok\non: yes\n", "on",
		"\"yes\" is text, true or false is wanted, without quotes (line 2)");
	assert_yaml_refused("name: ok\nparts:\n- name: a\n- gpus: 2\n", "parts[1].name",
			    "is required: add it (line 4)");
	assert_yaml_refused("name: ok\n\ncount: 13\n", "count",
			    "13 brings bad luck: take 12 or 14 (line 3)");
}

static void test_room(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct json *doc = NULL;
	struct kinds k;
	struct err err = { 0 };

	arena_init(&a, 1200);
	assert_int_equal(
		json_parse(
			SLICE("{\"name\":\"ok\",\"parts\":[{},{},{},{}],\"env\":{},\"note\":\"01234567890123456789\"}"),
			&a, &doc, &err),
		0);
	/* Each attempt takes some of what is left, until there is not enough. */
	while (schema_read(&kinds_type, doc, FROM_CLIENT, &a, &k, &err) == -1 &&
	       err.code == ERR_INVALID)
		;
	assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void test_check(void **state)
{
	struct text_map_item env[] = { { "A", "01234567890123456" } };
	struct part part = { .name = "p", .gpus = 1 };
	struct kinds k;
	struct err err = { 0 };

	schema_defaults(&kinds_type, &k);
	assert_int_equal(schema_check(&kinds_type, &k, &err), -1);
	assert_string_equal(err.field, "name");
	k.name = "ok";
	assert_int_equal(schema_check(&kinds_type, &k, &err), 0);
	k.parts.items = &part;
	k.parts.len = 1;
	assert_int_equal(schema_check(&kinds_type, &k, &err), 0);
	part.gpus = 65;
	assert_int_equal(schema_check(&kinds_type, &k, &err), -1);
	assert_string_equal(err.field, "parts[0].gpus");
	k.parts.len = 0;
	k.env.items = env;
	k.env.len = 1;
	assert_int_equal(schema_check(&kinds_type, &k, &err), -1);
	assert_string_equal(err.field, "env.A");
	k.env.len = 0;
	k.count = 13;
	assert_int_equal(schema_check(&kinds_type, &k, &err), -1);
	assert_string_equal(err.field, "count");
}

static void test_without_err(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct kinds k;

	arena_init(&a, 0);
	assert_int_equal(
		schema_parse(&kinds_type, SLICE("{\"nam\":1}"), FROM_CLIENT, &a, &k, NULL), -1);
	assert_int_equal(schema_parse(&kinds_type, SLICE("{\"count\":\"x\"}"), FROM_CLIENT, &a,
				      &k, NULL),
			 -1);
	assert_int_equal(schema_parse(&kinds_type, SLICE("{"), FROM_CLIENT, &a, &k, NULL), -1);
	assert_int_equal(schema_parse_query(&kinds_type, SLICE("on=7"), &a, &k, NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),	cmocka_unit_test(test_limits),
		cmocka_unit_test(test_unknown), cmocka_unit_test(test_server),
		cmocka_unit_test(test_lines),	cmocka_unit_test(test_room),
		cmocka_unit_test(test_check),	cmocka_unit_test(test_without_err),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("read", tests, NULL, NULL);
}
