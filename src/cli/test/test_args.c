#include "../internal.h"

#include <setjmp.h>

#include <cmocka.h>

struct parsed {
	struct args args;
	struct err err;
	int rc;
};

static struct parsed parse(const char *command, const char *const *argv)
{
	struct parsed p = { .rc = 0 };
	size_t len = 0;

	while (argv[len])
		len++;
	p.rc = args_parse(command_find(command), argv, len, &p.args, &p.err);
	return p;
}
#define PARSE(command, ...) parse(command, (const char *const[]){ __VA_ARGS__, NULL })

static void expect_usage(struct parsed p, const char *text)
{
	assert_int_equal(p.rc, -1);
	assert_int_equal(p.err.code, ERR_INVALID);
	if (!strstr(p.err.text, text))
		fail_msg("\"%s\" is not in \"%s\"", text, p.err.text);
}

static void test_forms(void **state)
{
	struct parsed p = PARSE("run", "--gpus", "2", "--name=x", "-e", "A=1", "-eB=2", "-w",
				"--", "sh", "-c", "--json");

	assert_int_equal(p.rc, 0);
	assert_string_equal(args_get(&p.args, "gpus"), "2");
	assert_string_equal(args_get(&p.args, "name"), "x");
	assert_string_equal(args_get(&p.args, "env"), "B=2");
	assert_int_equal(p.args.flags.len, 5);
	assert_true(args_has(&p.args, "wait"));
	assert_false(args_has(&p.args, "json"));
	assert_int_equal(p.args.rest_len, 3);
	assert_string_equal(p.args.rest[2], "--json");
	args_release(&p.args);

	p = PARSE("logs", "-f", "wl_01", "--json");
	assert_int_equal(p.rc, 0);
	assert_string_equal(args_word(&p.args, 0), "wl_01");
	assert_null(args_word(&p.args, 1));
	args_release(&p.args);

	p = PARSE("run", "--env=A=B=C");
	assert_int_equal(p.rc, 0);
	assert_string_equal(args_get(&p.args, "env"), "A=B=C");
	args_release(&p.args);
}

static void test_usage(void **state)
{
	expect_usage(PARSE("run", "--imag", "x"), "did you mean --image?");
	expect_usage(PARSE("run", "--zzzzzzzz"), "there is no flag --zzzzzzzz");
	expect_usage(PARSE("run", "-x"), "there is no flag -x");
	expect_usage(PARSE("run", "--gpus"), "--gpus needs a value");
	expect_usage(PARSE("run", "--wait=yes"), "takes no value");
	expect_usage(PARSE("run", "--gpus", "1", "--gpus", "2"), "given twice");
	expect_usage(PARSE("run", "python3"), "stands after \"--\"");
	expect_usage(PARSE("ls", "--", "x"), "runs nothing");
	expect_usage(PARSE("stop", "a", "b"), "\"b\" is too much");
	expect_usage(PARSE("stop", "--json"), "something is missing");
	expect_usage(PARSE("ls", "a"), "too much");
	expect_usage(PARSE("keys", "revoke", "a", "b"), "too much");
}

static const char *converted(enum value_kind kind, const char *text)
{
	static struct arena arena;
	struct err err = { 0 };
	const char *ret;

	arena_release(&arena);
	return value_convert(kind, text, INT64_C(1795446604269), &arena, &ret, &err) < 0 ? NULL
											 : ret;
}

static void test_values(void **state)
{
	assert_string_equal(converted(VALUE_CPUS, "0.5"), "500");
	assert_string_equal(converted(VALUE_CPUS, "12"), "12000");
	assert_string_equal(converted(VALUE_CPUS, "0.001"), "1");
	assert_null(converted(VALUE_CPUS, "0.0001"));
	assert_null(converted(VALUE_CPUS, "-1"));
	assert_null(converted(VALUE_CPUS, ""));
	assert_string_equal(converted(VALUE_GIB, "24"), "24GiB");
	assert_string_equal(converted(VALUE_GIB, "512MiB"), "512MiB");
	assert_null(converted(VALUE_SIZE, "4"));
	assert_string_equal(converted(VALUE_SIZE, "4GiB"), "4GiB");
	assert_null(converted(VALUE_DURATION, "10"));
	assert_string_equal(converted(VALUE_DURATION, "0"), "0");
	assert_string_equal(converted(VALUE_DURATION, "10m"), "10m");
	assert_string_equal(converted(VALUE_PPM, "99.5%"), "995000");
	assert_null(converted(VALUE_PPM, "99"));
	assert_string_equal(converted(VALUE_SINCE, "10m"), "2026-11-23T15:00:04.269Z");
	assert_string_equal(converted(VALUE_SINCE, "2026-11-01"), "2026-11-01T00:00:00.000Z");
	assert_string_equal(converted(VALUE_SINCE, "2026-11-01T01:00:00+01:00"),
			    "2026-11-01T00:00:00.000Z");
	assert_null(converted(VALUE_SINCE, "yesterday"));
}

static void test_apply(void **state)
{
	struct arena arena = { 0 };
	struct workload_spec spec;
	struct err err = { 0 };
	struct parsed p =
		PARSE("run", "--gpus", "2", "--vram", "24", "--cpus", "0.5", "--memory",
		      "1.5GiB", "--out", "/a", "--out", "/b", "--max-price", "0.25",
		      "--max-duration", "1h", "--min-reliability", "99%");

	assert_int_equal(p.rc, 0);
	schema_defaults(&workload_spec_type, &spec);
	assert_int_equal(args_apply(&p.args, 0, &arena, &spec, &err), 0);
	assert_int_equal(spec.resources->gpus, 2);
	assert_int_equal(spec.resources->vram_mib, 24 << 10);
	assert_int_equal(spec.resources->cpu_milli, 500);
	assert_int_equal(spec.resources->memory_mib, 1536);
	assert_int_equal(spec.resources->disk_mib, 10240);
	assert_int_equal(spec.outputs.len, 2);
	assert_string_equal(spec.outputs.items[1], "/b");
	assert_int_equal(spec.max_price_uusd_h, 250000);
	assert_int_equal(spec.max_duration_s, 3600);
	assert_int_equal(spec.min_reliability_ppm, 990000);
	args_release(&p.args);

	p = PARSE("offers", "--gpus", "100");
	struct offer_query query;

	schema_defaults(&offer_query_type, &query);
	assert_int_equal(args_apply(&p.args, 0, &arena, &query, &err), -1);
	assert_string_equal(err.field, "--gpus");
	args_release(&p.args);
	arena_release(&arena);
}

static void test_flag_names(void **state)
{
	struct parsed p = PARSE("run", "--gpus", "2");
	static const char *const cases[][2] = {
		{ "resources.gpus", "--gpus" },	    { "resources.cpu_milli", "--cpus" },
		{ "outputs[3]", "--out" },	    { "max_price_uusd_h", "--max-price" },
		{ "inputs[0].id", "--in" },	    { "env", "--env" },
		{ "ready.command", "ready.command" }, { "", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = { .code = ERR_INVALID };

		snprintf(err.field, sizeof(err.field), "%s", cases[i][0]);
		args_name_flag(&p.args, &err);
		assert_string_equal(err.field, cases[i][1]);
	}
	args_release(&p.args);
}

/* Every row of the table leads somewhere. */
static void test_table(void **state)
{
	struct arena arena = { 0 };

	for (const struct command *c = commands; c->name; c++) {
		struct flag_walk w = { 0 };
		const struct flag *f;

		assert_non_null(c->run);
		assert_true(c->doc[strlen(c->doc) - 1] == '.');
		while ((f = flag_next(c, &w))) {
			if (f->field && !(c->type && field_path(c->type, f->field, &arena)))
				fail_msg("%s --%s sets no field", c->name, f->name);
			assert_true((f->kind == VALUE_NONE) == (f->arg == NULL));
			assert_non_null(f->doc);
		}
	}
	arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),	   cmocka_unit_test(test_usage),
		cmocka_unit_test(test_values),	   cmocka_unit_test(test_apply),
		cmocka_unit_test(test_flag_names), cmocka_unit_test(test_table),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
