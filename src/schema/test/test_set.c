/* Query strings, and single fields from the command line. */
#include "kinds.h"

#include <setjmp.h>

#include <cmocka.h>

static void query(struct arena *a, const char *text, struct kinds *ret)
{
	struct err err = { 0 };

	if (schema_parse_query(&kinds_type, slice_of(text), a, ret, &err) < 0)
		fail_msg("%s: %s: %s", text, err.field, err.text);
}

static void test_query(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct kinds k;

	arena_init(&a, 0);
	query(&a,
	      "name=a+b%20c%2B&count=7&on=true&color=red&at_ms=2026-11-23T13:58:00Z&price_uusd=250000&share_ppm=5&&"
	      "labels=x,y%2Cz&labels=w&limits.memory_mib=9&env.A.B=1&limits.part.name=p&env.C=&note=",
	      &k);
	assert_string_equal(k.name, "a b c+");
	assert_int_equal(k.count, 7);
	assert_true(k.on);
	assert_int_equal(k.color, 0);
	assert_true(k.at_ms == INT64_C(1795442280000));
	assert_int_equal(k.price_uusd, 250000);
	assert_int_equal(k.labels.len, 3);
	assert_string_equal(k.labels.items[1], "y,z");
	assert_string_equal(k.labels.items[2], "w");
	assert_int_equal(k.limits->memory_mib, 9);
	assert_string_equal(k.limits->part->name, "p");
	assert_int_equal(k.limits->part->gpus, 1);
	assert_int_equal(k.env.len, 2);
	assert_string_equal(text_map_find(&k.env, "A.B"), "1");
	assert_string_equal(text_map_find(&k.env, "C"), "");
	assert_string_equal(k.note, "");
}

static void test_query_refused(void **state)
{
	static const struct {
		const char *query, *field, *text;
	} cases[] = {
		{ "", "name", "is required: add it" },
		{ "name=ok&count=65", "count", "65 is more than 64, the most allowed" },
		{ "name=ok&count=2.5", "count", NULL },
		{ "name=ok&count=", "count", NULL },
		{ "name=ok&count", "count", NULL },
		{ "name=ok&count=99999999999999999999", "count", NULL },
		{ "name=ok&name=ok", "name", "is given more than once: give it once" },
		{ "name=ok&env.A=1&env.A=2", "env.A", "is given more than once: give it once" },
		{ "name=ok&limits=1&limits.memory_mib=2", "limits",
		  "is given more than once: give it once" },
		{ "name=ok&nam=1", "nam", "unknown field `nam`; did you mean `name`?" },
		{ "name=ok&limit.memory_mib=1", "limit",
		  "unknown field `limit`; did you mean `limits`?" },
		{ "name=ok&limits.memory=1", "limits.memory",
		  "unknown field `memory`; did you mean `memory_mib`?" },
		{ "name=ok&name.x=1", "name", "is given more than once: give it once" },
		{ "name=ok&count.x=1", "count",
		  "has no fields: leave out the dot and what follows" },
		{ "name=ok&limits=1", "limits",
		  "\"1\" is text, an object with named fields is wanted" },
		{ "name=ok&parts=a", "parts",
		  "\"a\" is text, a list is wanted: put it in [ ]" },
		{ "name=ok&labels.a=a", "labels",
		  "has no fields: leave out the dot and what follows" },
		{ "name=ok&labels=a,b,c,d,e", "labels",
		  "has 5 entries, 4 are allowed: remove some" },
		{ "name=ok&labels=a,012345678", "labels[1]",
		  "the text is 9 bytes long, 8 are allowed: shorten it" },
		{ "name=ok&on=yes", "on", "`yes` is neither true nor false: give one of them" },
		{ "name=%zz", "name",
		  "`%zz` is not properly escaped: write %XX for bytes of valid UTF-8" },
		{ "name=%00", "name",
		  "`%00` is not properly escaped: write %XX for bytes of valid UTF-8" },
		{ "%=1", "",
		  "`%` is not properly escaped: write %XX for bytes of valid UTF-8" },
		{ "name=ok&made_by=me", "made_by", "is set by the server: leave it out" },
		{ "name=ok&count=13", "count", "13 brings bad luck: take 12 or 14" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_arena struct arena a = { 0 };
		struct kinds k;
		struct err err = { 0 };

		arena_init(&a, 0);
		if (schema_parse_query(&kinds_type, slice_of(cases[i].query), &a, &k, &err) ==
		    0)
			fail_msg("taken: %s", cases[i].query);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.field, cases[i].field);
		if (cases[i].text)
			assert_string_equal(err.text, cases[i].text);
	}
}

static void test_query_size(void **state)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct kinds k;
	struct err err = { 0 };

	arena_init(&a, 64 << 10);
	strbuf_init(&text);
	for (int i = 0; i < 257; i++)
		strbuf_addf(&text, "&k%d", i);
	assert_int_equal(schema_parse_query(&kinds_type, (struct slice){ text.buf, text.len },
					    &a, &k, &err),
			 -1);
	assert_int_equal(err.code, ERR_TOO_LARGE);
	arena_release(&a);
	arena_init(&a, 0);
	assert_int_equal(schema_parse_query(&kinds_type, (struct slice){ text.buf, text.len },
					    &a, &k, &err),
			 -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_string_equal(err.text, "the query has more than 256 fields: give fewer");
}

static void test_write_query(void **state)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	const char *labels[] = { "a,b", "c" };
	struct kinds k;

	arena_init(&a, 0);
	strbuf_init(&out);
	schema_defaults(&kinds_type, &k);
	schema_write_query(&kinds_type, &k, &a, &out);
	assert_string_equal(out.buf, "");
	k.name = "a b";
	k.secret = "s";
	k.made_by = "m";
	k.count = 0;
	k.on = true;
	k.color = 2;
	k.at_ms = 1000;
	k.labels = (struct text_list){ labels, 2 };
	schema_write_query(&kinds_type, &k, &a, &out);
	assert_string_equal(
		out.buf,
		"name=a%20b&count=0&at_ms=1000&on=true&color=dark-blue&"
		"labels=a%2Cb,c");
}

/* ---- schema_set -------------------------------------------------------------------------- */

static void set(struct arena *a, struct kinds *k, const char *path, const char *text)
{
	struct err err = { 0 };

	if (schema_set(&kinds_type, path, text, a, k, &err) < 0)
		fail_msg("%s=%s: %s: %s", path, text, err.field, err.text);
}

static void test_set(void **state)
{
	cleanup_arena struct arena a = { 0 };
	const struct limits *before;
	struct kinds k;

	arena_init(&a, 0);
	schema_defaults(&kinds_type, &k);
	set(&a, &k, "name", "ab");
	set(&a, &k, "count", "64");
	set(&a, &k, "price_uusd", "0.25");
	set(&a, &k, "balance_uusd", "$12");
	set(&a, &k, "share_ppm", "99.95%");
	set(&a, &k, "on", "true");
	set(&a, &k, "color", "red");
	set(&a, &k, "at_ms", "1970-01-01T00:00:01Z");
	assert_string_equal(k.name, "ab");
	assert_int_equal(k.count, 64);
	assert_int_equal(k.price_uusd, 250000);
	assert_int_equal(k.balance_uusd, 12000000);
	assert_int_equal(k.share_ppm, 999500);
	assert_int_equal(k.at_ms, 1000);
	set(&a, &k, "share_ppm", "7");
	assert_int_equal(k.share_ppm, 7);

	set(&a, &k, "limits.memory_mib", "4GiB");
	before = k.limits;
	set(&a, &k, "limits.timeout_s", "1h30m");
	assert_int_equal(before->timeout_s, 0); /* what was handed out does not change */
	assert_int_equal(k.limits->memory_mib, 4096);
	assert_int_equal(k.limits->timeout_s, 5400);
	set(&a, &k, "limits.memory_mib", "16");
	assert_int_equal(k.limits->memory_mib, 16);
	set(&a, &k, "limits.memory_mib", "16GB");
	assert_int_equal(k.limits->memory_mib, 15259);
	set(&a, &k, "limits.timeout_s", "1500ms");
	assert_int_equal(k.limits->timeout_s, 2);
	set(&a, &k, "limits.size_bytes", "1K");
	assert_int_equal(k.limits->size_bytes, 1024);
	set(&a, &k, "limits.part.name", "p");
	assert_string_equal(k.limits->part->name, "p");
	assert_int_equal(k.limits->part->gpus, 1);
}

static void test_set_many(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct kinds k;

	arena_init(&a, 0);
	schema_defaults(&kinds_type, &k);
	set(&a, &k, "labels", "a, b");
	assert_int_equal(k.labels.len, 2);
	assert_string_equal(k.labels.items[1], "b");
	set(&a, &k, "labels[]", "c,d");
	set(&a, &k, "labels[0]", "z");
	assert_int_equal(k.labels.len, 3);
	assert_string_equal(k.labels.items[0], "z");
	assert_string_equal(k.labels.items[2], "c,d");
	set(&a, &k, "labels", "");
	assert_int_equal(k.labels.len, 0);

	set(&a, &k, "env", "A=1=2");
	set(&a, &k, "env.B.C", "3");
	set(&a, &k, "env.A", "4");
	assert_int_equal(k.env.len, 2);
	assert_string_equal(text_map_find(&k.env, "A"), "4");
	assert_string_equal(text_map_find(&k.env, "B.C"), "3");

	set(&a, &k, "parts[0].name", "p");
	set(&a, &k, "parts[].name", "q");
	set(&a, &k, "parts[1].tags[]", "t");
	set(&a, &k, "parts[0].gpus", "3");
	assert_int_equal(k.parts.len, 2);
	assert_int_equal(k.parts.items[0].gpus, 3);
	assert_string_equal(k.parts.items[1].tags.items[0], "t");
}

static void test_set_refused(void **state)
{
	static const struct {
		const char *path, *text, *field, *why;
	} cases[] = {
		{ "count", "65", "count", "65 is more than 64, the most allowed" },
		{ "count", "two", "count", "two" },
		{ "price_uusd", "0.1234567", "price_uusd", "decimals" },
		{ "share_ppm", "1.23456%", "share_ppm", "four decimals" },
		{ "share_ppm", "101%", "share_ppm", "101% is more than 100%, the most allowed" },
		{ "at_ms", "yesterday", "at_ms", "yesterday" },
		{ "id", "wl_01", "id", "is not a full id" },
		{ "secret", "", "secret", "is empty" },
		{ "limits", "x", "limits",
		  "is an object: set one of its fields, such as limits.memory_mib" },
		{ "limits.memory", "x", "limits.memory", "did you mean `memory_mib`?" },
		{ "limits.memory_mib", "4 apples", "limits.memory_mib", "4 apples" },
		{ "limits.timeout_s", "2d", "limits.timeout_s", "2d is more than 1d, the most allowed" },
		{ "limit", "x", "limit", "did you mean `limits`?" },
		{ "name.x", "x", "name", "has no fields or items: remove `.x`" },
		{ "name[0]", "x", "name", "has no fields or items: remove `[0]`" },
		{ "parts", "x", "parts",
		  "is a list of objects: set parts[0] and a field of it" },
		{ "parts[0]", "x", "parts", "is a list of objects" },
		{ "parts[1].name", "x", "parts[1]", "the list has 0 items: the next is [0]" },
		{ "parts[99999999999999999999].name", "x", "parts[18446744073709551615]",
		  "the next is [0]" },
		{ "parts[-1].name", "x", "parts", "is a list of objects" },
		{ "parts[0", "x", "parts", "is a list of objects" },
		{ "parts[", "x", "parts", "is a list of objects" },
		{ "parts[0].name", "", "parts[0].name", "is empty" },
		{ "labels[0].x", "x", "labels", "is a list of texts: set labels[0]" },
		{ "labels", "a,b,c,d,e", "labels", "has 5 entries" },
		{ "labels", "a,012345678", "labels[1]", "9 bytes long" },
		{ "env", "A", "env", "give NAME=TEXT" },
		{ "env", "=x", "env", "is empty" },
		{ "env[0]", "A=1", "env", "give NAME=TEXT" },
		{ "env.A", "01234567890123456", "env.A", "17 bytes long" },
		{ "made_by", "me", "made_by", "is set by the server" },
		{ "hidden", "me", "hidden", "unknown field" },
		{ "name", "a\xff", "name", "UTF-8" },
		{ "", "x", "", "unknown field ``" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_arena struct arena a = { 0 };
		struct kinds k, before;
		struct err err = { 0 };

		arena_init(&a, 0);
		schema_defaults(&kinds_type, &before);
		k = before;
		if (schema_set(&kinds_type, cases[i].path, cases[i].text, &a, &k, &err) == 0)
			fail_msg("taken: %s=%s", cases[i].path, cases[i].text);
		assert_memory_equal(&k, &before, sizeof(k));
		assert_string_equal(err.field, cases[i].field);
		if (!strstr(err.text, cases[i].why))
			fail_msg("%s: `%s` does not say `%s`", cases[i].path, err.text,
				 cases[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query),	    cmocka_unit_test(test_query_refused),
		cmocka_unit_test(test_query_size),  cmocka_unit_test(test_write_query),
		cmocka_unit_test(test_set),	    cmocka_unit_test(test_set_many),
		cmocka_unit_test(test_set_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("set", tests, NULL, NULL);
}
