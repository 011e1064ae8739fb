#include "../internal.h"

#include <setjmp.h>

#include <cmocka.h>

static struct arena arena;

static int secret(void *arg, const char *name, const char **ret, struct err *err)
{
	(void)arg;
	if (str_eq(name, "MISSING"))
		return err_set(err, ERR_INVALID, "%s is not there", name);
	*ret = "hush";
	return 0;
}

static int job_read(const char *text, struct job *ret, struct err *err)
{
	return job_from_yaml(slice_of(text), "dir", secret, NULL, &arena, ret, err);
}

static void test_example(void **state)
{
	struct job job;
	struct err err = { 0 };

	if (job_read(
		    "kind: job\nname: digits\nimage: tes-demo/digits:1\ncommand: [python3, /in/train.py]\n"
		    "cpus: 1\nmemory: 1GiB\ndisk: 1GiB\nenv:\n  EPOCHS: \"40\"\ninputs:\n  - train.py\n  - /abs/x\n"
		    "outputs:\n  - /out\nmax_price: 1.00\nmax_duration: 10m\nretries: 1\n",
		    &job, &err) < 0)
		fail_msg("%s: %s", err.field, err.text);
	assert_string_equal(job.spec.name, "digits");
	assert_string_equal(job.spec.command.items[1], "/in/train.py");
	assert_int_equal(job.spec.resources->cpu_milli, 1000);
	assert_int_equal(job.spec.resources->memory_mib, 1024);
	assert_int_equal(job.spec.resources->disk_mib, 1024);
	assert_string_equal(text_map_find(&job.spec.env, "EPOCHS"), "40");
	assert_int_equal(job.input_count, 2);
	assert_string_equal(job.input_paths[0], "dir/train.py");
	assert_string_equal(job.input_paths[1], "/abs/x");
	assert_string_equal(job.spec.outputs.items[0], "/out");
	assert_int_equal(job.spec.max_price_uusd_h, 1000000);
	assert_int_equal(job.spec.max_duration_s, 600);
	assert_int_equal(job.spec.retries, 1);
}

/* What the server says of a field is told by the name that the file has for it. */
static void test_names(void **state)
{
	static const struct {
		const char *field, *said;
	} cases[] = {
		{ "max_price_uusd_h", "j.yaml: max_price: is too low" },
		{ "resources.memory_mib", "j.yaml: memory: is too low" },
		{ "command", "j.yaml: command: is too low" },
		{ "", "j.yaml: is too low" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = { 0 };

		err_set_field(&err, cases[i].field, "is too low");
		job_name_field("j.yaml", &err);
		assert_string_equal(err.field, "");
		assert_string_equal(err.text, cases[i].said);
	}
}

static void test_forms(void **state)
{
	struct job job;
	struct err err = { 0 };

	assert_int_equal(job_read("image: debian:12\n", &job, &err), 0);
	assert_int_equal(job.spec.resources->cpu_milli, 1000);
	if (job_read(
		    "image: debian:12\ncpus: 0.5\ngpus: 2\ngpu_model: A100\nvram: 40\nmax_price: 0.5\nmin_reliability: 99%\n"
		    "prepare_timeout: 1h\nsecrets: [A, B]\nready:\n  command: [curl, localhost]\n  timeout: 5m\n"
		    "registry: {username: me}\nkind: instance\n",
		    &job, &err) < 0)
		fail_msg("%s: %s", err.field, err.text);
	assert_int_equal(job.spec.kind, WORKLOAD_INSTANCE);
	assert_int_equal(job.spec.resources->cpu_milli, 500);
	assert_int_equal(job.spec.resources->vram_mib, 40 << 10);
	assert_string_equal(job.spec.resources->gpu_model, "A100");
	assert_int_equal(job.spec.max_price_uusd_h, 500000);
	assert_int_equal(job.spec.min_reliability_ppm, 990000);
	assert_int_equal(job.spec.prepare_timeout_s, 3600);
	assert_string_equal(text_map_find(&job.spec.secrets, "B"), "hush");
	assert_int_equal(job.spec.ready->timeout_s, 300);
	assert_string_equal(job.spec.registry->secret, "hush");
	/* The API's own names are taken as well. */
	if (job_read(
		    "image: debian:12\nresources:\n  cpu_milli: 250\n  memory: 2GiB\nmax_price_uusd_h: 7\n",
		    &job, &err) < 0)
		fail_msg("%s: %s", err.field, err.text);
	assert_int_equal(job.spec.resources->cpu_milli, 250);
	assert_int_equal(job.spec.resources->memory_mib, 2048);
	assert_int_equal(job.spec.max_price_uusd_h, 7);
}

static void refused(const char *text, const char *field, const char *part, const char *line)
{
	struct job job;
	struct err err = { 0 };

	if (job_read(text, &job, &err) == 0)
		fail_msg("taken: %s", text);
	assert_int_equal(err.code, ERR_INVALID);
	if (!str_eq(err.field, field) || !strstr(err.text, part) || !strstr(err.text, line))
		fail_msg("%s: %s", err.field, err.text);
}

static void test_refused(void **state)
{
	refused("image: a\nmemry: 2GiB\n", "memry", "did you mean `memory`?", "line 2");
	refused("image: a\nfrobnicate: 1\n", "frobnicate", "unknown field", "line 2");
	refused("image: a\n\nmemory: 2\n", "memory", "does not say its unit", "line 3");
	refused("image: a\ncpus: much\n", "cpus", "hardware threads", "line 2");
	refused("image: a\ncpus: [1]\n", "cpus", "one value", "line 2");
	refused("image: a\nresources:\n  cpu_milli: 5\n", "resources.cpu_milli", "less than 10",
		"line 3");
	refused("image: a\ncpus: 1\nresources: {cpu_milli: 500}\n", "cpu_milli", "twice",
		"line 3");
	refused("image: a\nenv:\n  A: 40\n", "env.A", "quotes", "line 3");
	refused("image: a\noutputs: [relative]\n", "outputs[0]", "absolute", "line 2");
	refused("image: a\nresources:\n  gpuss: 1\n", "resources.gpuss", "gpus", "line 3");
	refused("cpus: 1\n", "image", "required", "line 1");
	refused("- a\n", "", "holds fields", "line 1");
	refused("image: a\nsecrets: [MISSING]\n", "secrets", "MISSING", "line 2");
	refused("image: a\nmax_duration: 10\n", "max_duration", "unit", "line 2");
	refused("image: a\nimage: b\n", "", "", "line 2");
}

static void test_array(void **state)
{
	struct job job;
	struct err err = { 0 };

	assert_int_equal(job_read("image: a\n", &job, &err), 0);
	assert_int_equal(job.array, 0);
	if (job_read("image: a\narray: 12\nname: fold\n", &job, &err) < 0)
		fail_msg("%s: %s", err.field, err.text);
	assert_int_equal(job.array, 12);
	assert_string_equal(job.spec.name, "fold");
	refused("image: a\narray: 0\n", "array", "less than 1", "line 2");
	refused("image: a\narray: 1001\n", "array", "more than 1000", "line 2");
	refused("image: a\narray: many\n", "array", "'many'", "line 2");
	refused("image: a\narray: [1, 2]\n", "array", "number of workloads", "line 2");
	refused("image: a\narry: 3\n", "arry", "did you mean `array`?", "line 2");
	refused("image: a\narray: 2\nenv: {TES_ARRAY_INDEX: \"1\"}\n", "env", "leave it out",
		"");
}

static int release(void **state)
{
	arena_release(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example), cmocka_unit_test(test_names),
		cmocka_unit_test(test_forms),	cmocka_unit_test(test_refused),
		cmocka_unit_test(test_array),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, release);
}
