/* JSON out, tables for people, and the documents made from descriptions. */
#include "kinds.h"

#include <setjmp.h>

#include <cmocka.h>

static const char *const labels[] = { "a", "b\x1b" };
static struct text_map_item env[] = { { "A", "1" }, { "B", "2" } };
static struct part parts[] = { { .name = "p", .gpus = 3 }, { .name = "q" } };
static const struct limits limits = {
	.memory_mib = 2048, .timeout_s = 5400, .size_bytes = 1536, .part = &parts[0]
};

static struct kinds sample(void)
{
	struct kinds k;

	schema_defaults(&kinds_type, &k);
	k.name = "ab";
	k.secret = "s3cret";
	k.price_uusd = 250000;
	k.balance_uusd = -1500000;
	k.share_ppm = 999500;
	k.at_ms = INT64_C(1795442280500);
	k.limits = &limits;
	k.labels = (struct text_list){ (const char **)labels, 2 };
	k.env = (struct text_map){ env, 2 };
	k.parts.items = parts;
	k.parts.len = 2;
	k.made_by = "tesd";
	k.hidden = "h";
	return k;
}

static void test_write(void **state)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT, secret = STRBUF_INIT, input = STRBUF_INIT;
	struct kinds k = sample();

	strbuf_init(&out);
	strbuf_init(&secret);
	strbuf_init(&input);
	schema_write(&kinds_type, &k, &out);
	assert_string_equal(
		out.buf,
		"{\"name\":\"ab\",\"count\":2,\"offset\":0,\"at_ms\":1795442280500,\"price_uusd\":250000,"
		"\"balance_uusd\":-1500000,\"share_ppm\":999500,\"on\":false,\"color\":\"green\",\"limits\":{\"memory_mib\":2048,"
		"\"timeout_s\":5400,\"size_bytes\":1536,\"part\":{\"name\":\"p\",\"gpus\":3,\"tags\":[]}},\"parts\":[{\"name\":\"p\","
		"\"gpus\":3,\"tags\":[]},{\"name\":\"q\",\"gpus\":0,\"tags\":[]}],\"labels\":[\"a\",\"b\\u001b\"],\"env\":{\"A\":\"1\","
		"\"B\":\"2\"},\"made_by\":\"tesd\"}");
	schema_write_secret(&kinds_type, &k, &secret);
	assert_non_null(strstr(secret.buf, "\"secret\":\"s3cret\""));
	assert_non_null(strstr(secret.buf, "\"made_by\""));
	schema_write_input(&kinds_type, &k, &input);
	assert_non_null(strstr(input.buf, "\"secret\":\"s3cret\""));
	assert_null(strstr(input.buf, "\"made_by\""));
	assert_null(strstr(secret.buf, "hidden"));
}

static void assert_format(const struct kinds *k, const char *path, const char *text)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	const void *at = NULL;
	const struct field *f = schema_field(&kinds_type, path, k, &at);

	strbuf_init(&out);
	assert_non_null(f);
	field_format(f, at, &out);
	assert_string_equal(out.buf, text);
}

static void test_format(void **state)
{
	struct kinds k = sample();

	assert_format(&k, "name", "ab");
	assert_format(&k, "id", "-");
	assert_format(&k, "secret", "(secret)");
	assert_format(&k, "count", "2");
	assert_format(&k, "unset", "-");
	assert_format(&k, "at_ms", "2026-11-23 13:58:00Z");
	assert_format(&k, "made_ms", "-");
	assert_format(&k, "price_uusd", "$0.25");
	assert_format(&k, "balance_uusd", "-$1.50");
	assert_format(&k, "share_ppm", "99.95%");
	assert_format(&k, "on", "no");
	assert_format(&k, "color", "green");
	assert_format(&k, "shape", "-");
	assert_format(&k, "limits.memory_mib", "2 GiB");
	assert_format(&k, "limits.timeout_s", "1h30m");
	assert_format(&k, "limits.size_bytes", "1.5 KiB");
	assert_format(&k, "limits.part.name", "p");
	assert_format(
		&k, "limits",
		"memory_mib 2 GiB, timeout_s 1h30m, size_bytes 1.5 KiB, part name p, gpus 3");
	assert_format(&k, "parts", "2");
	assert_format(&k, "parts[1].name", "q");
	assert_format(&k, "parts[2].name", "-");
	assert_format(&k, "labels", "a, b?");
	assert_format(&k, "env", "A=1, B=2");
	k.share_ppm = 1000000;
	assert_format(&k, "share_ppm", "100%");
	k.limits = NULL;
	assert_format(&k, "limits", "-");
	assert_format(&k, "limits.part.name", "-");
}

static void test_field(void **state)
{
	struct kinds k = sample();
	const void *at = &k;

	assert_non_null(schema_field(&kinds_type, "limits.part.gpus", NULL, &at));
	assert_null(at);
	assert_non_null(schema_field(&kinds_type, "name", &k, NULL));
	at = &k;
	assert_null(schema_field(&kinds_type, "hidden", &k, &at));
	assert_null(schema_field(&kinds_type, "nam", &k, &at));
	assert_null(schema_field(&kinds_type, "", &k, &at));
	assert_null(schema_field(&kinds_type, "name.x", &k, &at));
	assert_null(schema_field(&kinds_type, "limits.", &k, &at));
	assert_null(schema_field(&kinds_type, "parts[0]", &k, &at));
	assert_null(schema_field(&kinds_type, "parts[x].name", &k, &at));
	assert_null(schema_field(&kinds_type, "parts[0.name", &k, &at));
	assert_ptr_equal(at, &k);
}

static void test_openapi(void **state)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	cleanup_arena struct arena a = { 0 };
	struct type_set seen = { 0 };
	const struct json *properties;
	struct json *doc = NULL;
	struct err err;

	strbuf_init(&out);
	arena_init(&a, 0);
	schema_openapi(&kinds_type, &seen, &out);
	assert_int_equal(seen.v.len, 2);
	assert_ptr_equal(seen.v.items[0], &limits_type);
	assert_ptr_equal(seen.v.items[1], &part_type);
	assert_int_equal(json_parse((struct slice){ out.buf, out.len }, &a, &doc, &err), 0);
	properties = json_find(doc, "properties");
	assert_int_equal(properties->member_count, kinds_type.count - 1);
	assert_string_equal(json_find(json_find(properties, "id"), "pattern")->text,
			    "^wl_[0-9a-hjkmnp-tv-z]{26}$");
	assert_int_equal(json_find(json_find(properties, "count"), "maximum")->integer, 64);
	assert_int_equal(json_find(json_find(properties, "count"), "default")->integer, 2);
	assert_null(json_find(json_find(properties, "unset"), "default"));
	assert_int_equal(json_find(json_find(properties, "color"), "enum")->count, 3);
	assert_string_equal(json_find(json_find(properties, "color"), "default")->text,
			    "green");
	assert_string_equal(json_find(json_find(properties, "limits"), "$ref")->text,
			    "#/components/schemas/limits");
	assert_true(json_find(json_find(properties, "made_by"), "readOnly")->boolean);
	assert_true(json_find(json_find(properties, "secret"), "writeOnly")->boolean);
	assert_int_equal(json_find(doc, "required")->count, 2);
	assert_false(json_find(doc, "additionalProperties")->boolean);

	strbuf_reset(&out);
	schema_openapi(&limits_type, &seen, &out);
	assert_int_equal(seen.v.len, 2);
	assert_int_equal(json_parse((struct slice){ out.buf, out.len }, &a, &doc, &err), 0);
	assert_null(json_find(doc, "required"));
	vec_release(&seen.v);
}

static void test_markdown(void **state)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	strbuf_init(&out);
	schema_markdown(&part_type, &out);
	assert_string_equal(
		out.buf, "| field | kind | limits | meaning |\n|---|---|---|---|\n"
			 "| `name` required | text | 1 … 16 bytes | Name. |\n"
			 "| `gpus` | integer | 0 … 64; default 1 | Whole devices. |\n"
			 "| `tags` | list of texts | at most 3, of 8 bytes each | Words. |\n");
	schema_markdown(&kinds_type, &out);
	assert_non_null(strstr(out.buf, "| Lines \\| more. |"));
	assert_non_null(strstr(out.buf, "| `limits` | [limits](#limits) |"));
	assert_null(strstr(out.buf, "hidden"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write),	 cmocka_unit_test(test_format),
		cmocka_unit_test(test_field),	 cmocka_unit_test(test_openapi),
		cmocka_unit_test(test_markdown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("write", tests, NULL, NULL);
}
