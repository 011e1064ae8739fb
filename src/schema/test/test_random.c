/* Values drawn from seeds: what is written is read back the same, and no damaged document does
 * harm. */
#include "kinds.h"

#include <setjmp.h>

#include <cmocka.h>

#define SEEDS 500

static void must_parse(uint64_t seed, const char *json, enum schema_from from, struct arena *a,
		       struct kinds *ret)
{
	struct err err = { 0 };

	if (schema_parse(&kinds_type, slice_of(json), from, a, ret, &err) < 0)
		fail_msg("seed %" PRIu64 ": %s: %s in %s", seed, err.field, err.text, json);
}

static void test_json_round_trip(void **state)
{
	for (uint64_t n = 1; n <= SEEDS; n++) {
		uint64_t seed = n;
		cleanup_arena struct arena a = { 0 };
		cleanup_strbuf struct strbuf json = STRBUF_INIT, again = STRBUF_INIT;
		struct kinds in, out;
		struct err err = { 0 };

		arena_init(&a, 0);
		strbuf_init(&json);
		strbuf_init(&again);
		kinds_draw(&seed, &a, false, false, &in);
		if (schema_check(&kinds_type, &in, &err) < 0)
			fail_msg("seed %" PRIu64 ": %s: %s", n, err.field, err.text);
		schema_write_input(&kinds_type, &in, &json);
		must_parse(n, json.buf, FROM_CLIENT, &a, &out);
		assert_true(value_equal(&kinds_type, &in, &out));
		schema_write_input(&kinds_type, &out, &again);
		assert_string_equal(json.buf, again.buf);

		kinds_draw(&seed, &a, true, false, &in);
		strbuf_reset(&json);
		schema_write_secret(&kinds_type, &in, &json);
		must_parse(n, json.buf, FROM_SERVER, &a, &out);
		assert_true(value_equal(&kinds_type, &in, &out));
		in.secret = NULL;
		strbuf_reset(&json);
		schema_write(&kinds_type, &in, &json);
		must_parse(n, json.buf, FROM_SERVER, &a, &out);
		assert_true(value_equal(&kinds_type, &in, &out));
	}
}

static void test_field_round_trip(void **state)
{
	for (uint64_t n = 1; n <= SEEDS; n++) {
		uint64_t seed = n;
		cleanup_arena struct arena a = { 0 };
		struct kinds in, out;
		struct err err = { 0 };

		arena_init(&a, 0);
		kinds_draw(&seed, &a, true, false, &in);
		schema_defaults(&kinds_type, &out);
		for (size_t i = 0; i < kinds_type.count; i++) {
			const struct field *f = &kinds_type.fields[i];
			cleanup_strbuf struct strbuf json = STRBUF_INIT;

			strbuf_init(&json);
			field_write(f, (const char *)&in + f->offset, &json);
			if (f->kind == KIND_INT && in.unset == -1 &&
			    f->offset == offsetof(struct kinds, unset))
				continue;
			if (field_read(f, (struct slice){ json.buf, json.len }, &a,
				       (char *)&out + f->offset, &err) < 0)
				fail_msg("seed %" PRIu64 ": %s: %s", n, err.field, err.text);
		}
		assert_true(value_equal(&kinds_type, &in, &out));
	}
}

static void test_query_round_trip(void **state)
{
	for (uint64_t n = 1; n <= SEEDS; n++) {
		uint64_t seed = n;
		cleanup_arena struct arena a = { 0 };
		cleanup_strbuf struct strbuf query = STRBUF_INIT;
		struct kinds in, out;
		struct err err = { 0 };

		arena_init(&a, 0);
		strbuf_init(&query);
		kinds_draw(&seed, &a, false, true, &in);
		/* An object with nothing but defaults leaves nothing to write. */
		in.limits = NULL;
		schema_write_query(&kinds_type, &in, &a, &query);
		if (schema_parse_query(&kinds_type, (struct slice){ query.buf, query.len }, &a,
				       &out, &err) < 0)
			fail_msg("seed %" PRIu64 ": %s: %s in %s", n, err.field, err.text,
				 query.buf);
		assert_true(value_equal(&kinds_type, &in, &out));
	}
}

static void test_copy(void **state)
{
	for (uint64_t n = 1; n <= SEEDS; n++) {
		uint64_t seed = n;
		cleanup_arena struct arena a = { 0 }, b = { 0 };
		cleanup_strbuf struct strbuf json = STRBUF_INIT, again = STRBUF_INIT;
		struct kinds in, out;

		arena_init(&a, 0);
		arena_init(&b, 0);
		strbuf_init(&json);
		strbuf_init(&again);
		kinds_draw(&seed, &a, true, false, &in);
		in.hidden = "h";
		schema_write_secret(&kinds_type, &in, &json);
		schema_copy(&kinds_type, &in, &b, &out);
		assert_string_equal(out.hidden, "h");
		arena_release(&a); /* nothing of the copy may hang on it */
		schema_write_secret(&kinds_type, &out, &again);
		assert_string_equal(json.buf, again.buf);
	}
}

/* One byte changed, dropped, doubled, or the end cut off. */
static void damage(uint64_t *seed, struct strbuf *text)
{
	static const char bytes[] = "{}[]\",:\\0129-.eE \n\x00\x01\x7f\x80\xff\xc3&=%+tfnu";
	size_t at = draw_below(seed, text->len);

	switch (draw_below(seed, 4)) {
	case 0: text->buf[at] = bytes[draw_below(seed, sizeof(bytes))]; break;
	case 1:
		memmove(text->buf + at, text->buf + at + 1, text->len - at);
		text->len--;
		break;
	case 2:
		strbuf_addc(text, 'x');
		memmove(text->buf + at + 1, text->buf + at, text->len - at - 1);
		break;
	case 3:
		text->len = at;
		text->buf[at] = 0;
		break;
	}
}

static void assert_harmless(int rc, const struct kinds *ret, const struct kinds *before,
			    const struct err *err)
{
	if (rc == 0)
		return;
	assert_int_equal(rc, -1);
	assert_memory_equal(ret, before, sizeof(*ret));
	assert_int_not_equal(err->code, ERR_NONE);
	assert_true(err->text[0] != 0);
	assert_true(utf8_valid(err->text, strlen(err->text)));
	assert_true(utf8_valid(err->field, strlen(err->field)));
	assert_null(strchr(err->text, '\n'));
}

static void test_damaged(void **state)
{
	for (uint64_t n = 1; n <= SEEDS; n++) {
		uint64_t seed = n;
		cleanup_arena struct arena a = { 0 };
		cleanup_strbuf struct strbuf json = STRBUF_INIT, query = STRBUF_INIT, text = STRBUF_INIT;
		struct kinds in, out, before;

		arena_init(&a, 0);
		strbuf_init(&json);
		strbuf_init(&query);
		strbuf_init(&text);
		kinds_draw(&seed, &a, false, true, &in);
		schema_write_query(&kinds_type, &in, &a, &query);
		kinds_draw(&seed, &a, false, false, &in);
		schema_write_input(&kinds_type, &in, &json);
		memset(&before, 0x5a, sizeof(before));
		for (int i = 0; i < 3; i++) {
			struct err err = { 0 };

			strbuf_reset(&text);
			strbuf_add(&text, json.buf, json.len);
			damage(&seed, &text);
			out = before;
			assert_harmless(schema_parse(&kinds_type,
						     (struct slice){ text.buf, text.len },
						     FROM_CLIENT, &a, &out, &err),
					&out, &before, &err);
			strbuf_reset(&text);
			strbuf_add(&text, query.buf, query.len);
			damage(&seed, &text);
			out = before;
			err_clear(&err);
			assert_harmless(schema_parse_query(&kinds_type,
							   (struct slice){ text.buf, text.len },
							   &a, &out, &err),
					&out, &before, &err);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_round_trip),
		cmocka_unit_test(test_field_round_trip),
		cmocka_unit_test(test_query_round_trip),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_damaged),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
