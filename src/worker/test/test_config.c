#include "../internal.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/tes-config-XXXXXX";

static int setup(void **state)
{
	int fd = mkstemp(path);

	/* Every key may come from the environment, and whoever runs us may have set some. */
	for (char **e = environ; *e;) {
		char name[128];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*e, "="), *e);
		if (str_starts(name, "TES_"))
			unsetenv(name);
		else
			e++;
	}
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	return unlink(path);
}

static int load(const char *text, struct arena *a, struct worker_config *ret, struct err *err)
{
	struct err e = { 0 };

	*err = e;
	if (file_write_atomic(path, text, strlen(text), 0600, &e) < 0)
		fail_msg("%s", e.text);
	return config_open(path, a, ret, err);
}

static void defaults(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct worker_config c;
	struct err err;

	if (load("", &a, &c, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(c.engine_socket, "auto");
	assert_true(c.jail_required);
	assert_false(c.private_routes);
	assert_int_equal(c.price_gpu_uusd_h, 200000);
}

static void the_shipped_file(void **state)
{
	cleanup_strbuf struct strbuf printed = STRBUF_INIT, shipped = STRBUF_INIT;
	cleanup_arena struct arena a = { 0 };
	struct worker_config c;
	struct err err = { 0 };

	config_describe(&printed);
	if (file_read(DEPLOY_CONF, 1 << 20, &shipped, &err) < 0)
		fail_msg("%s", err.text);
	/* tes-worker config > deploy/tes-worker.conf */
	assert_string_equal(shipped.buf, printed.buf);
	if (config_open(DEPLOY_CONF, &a, &c, &err) < 0)
		fail_msg("%s", err.text);
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *field;
	} bad[] = {
		{ "[share]\ncpus = 200%\n", "share.cpus" },
		{ "[share]\nmemory = lots\n", "share.memory" },
		{ "[share]\ndisk = -1\n", "share.disk" },
		{ "[share]\ngpus = -3\n", "share.gpus" },
		{ "[hours]\ndaily = at night\n", "hours.daily" },
		{ "[maintenance]\nwindows = 2026-12-24\n", "maintenance.windows" },
		{ "[lease]\nshortest = 2h\nlongest = 1h\n", "lease.longest" },
		{ "[worker]\nstate_dir = here\n", "worker.state_dir" },
		{ "[worker]\nregion = De utschland\n", "worker.region" },
		{ "[price]\ncpu_hour = -1\n", "price.cpu_hour" },
		{ "[jail]\nrequired = perhaps\n", "jail.required" },
		{ "[gpu]\nsimulated = a few\n", "gpu.simulated" },
		{ "[gpu]\nsimulated = 1000x Model 24576\n", "gpu.simulated" },
		{ "[wroker]\nname = x\n", "" },
		{ "[worker]\nnmae = x\n", "worker" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		cleanup_arena struct arena a = { 0 };
		struct worker_config c;
		struct err err;

		if (load(bad[i].text, &a, &c, &err) == 0)
			fail_msg("'%s' was taken", bad[i].text);
		if (strncmp(err.field, bad[i].field, strlen(bad[i].field)) != 0 || !err.text[0])
			fail_msg("'%s': field %s, %s", bad[i].text, err.field, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(the_shipped_file),
		cmocka_unit_test(refuses),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
