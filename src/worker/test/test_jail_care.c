/* When the packet filter is looked at, with one of our own making. */
#include "../internal.h"
#include "../jail/jail.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

static int checks, applies;
static bool refuses;

static int outcome(struct err *err)
{
	return refuses ? err_set(err, ERR_UNSUPPORTED, "refused") : 0;
}

int __wrap_jail_check(struct err *err);
int __wrap_jail_check(struct err *err)
{
	checks++;
	return outcome(err);
}

int __wrap_jail_apply(struct err *err);
int __wrap_jail_apply(struct err *err)
{
	applies++;
	return outcome(err);
}

static void agent_make(struct agent *w, struct worker_config *c, bool required)
{
	*c = (struct worker_config){ .jail_required = required,
				     .state_dir = "/",
				     .share_cpus = "100%",
				     .share_memory = "100%",
				     .share_disk = "100%",
				     .share_gpus = "none",
				     .hours = "always",
				     .maintenance = "" };
	*w = (struct agent){ .config = c };
	pthread_mutex_init(&w->jail_lock, NULL);
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_init(&w->inventory_lock, NULL);
	cond_init_monotonic(&w->cond);
	w->leases = map_new();
	checks = applies = 0;
}

static void agent_end(struct agent *w)
{
	arena_release(&w->inventory_arena);
	map_free(w->leases, NULL);
}

static void one_that_stands(void **state)
{
	struct worker_config c;
	struct agent w;
	struct err err = { 0 };

	refuses = false;
	agent_make(&w, &c, true);
	for (int i = 0; i < 5; i++)
		assert_int_equal(agent_jail_ensure(&w, HOUR_MS, &err), 0);
	assert_int_equal(applies, 1);
	assert_int_equal(checks, 0);
	usleep(2000);
	assert_int_equal(agent_jail_ensure(&w, 0, &err), 0);
	assert_int_equal(checks, 1);
	assert_int_equal(applies, 1);
	/* Found gone, and not to be had again: then no container is made on the strength of what
	 * was there before. */
	refuses = true;
	usleep(2000);
	assert_int_equal(agent_jail_ensure(&w, 0, &err), -1);
	assert_int_equal(agent_jail_ensure(&w, HOUR_MS, &err), -1);
	refuses = false;
	assert_int_equal(agent_jail_ensure(&w, HOUR_MS, &err), 0);
	agent_end(&w);
}

/* Where workloads may run without it, it is not tried for each of them. */
static void one_that_cannot_be(void **state)
{
	struct worker_config c;
	struct agent w;
	struct err err = { 0 };

	refuses = true;
	agent_make(&w, &c, false);
	for (int i = 0; i < 5; i++)
		assert_int_equal(agent_jail_ensure(&w, HOUR_MS, &err), 0);
	assert_int_equal(applies, 1);
	usleep(2000);
	assert_int_equal(agent_jail_ensure(&w, 0, &err), 0);
	assert_int_equal(applies, 2);
	/* The owner has changed their mind: what was tried does not count as done. */
	c.jail_required = true;
	for (int i = 0; i < 5; i++)
		assert_int_equal(agent_jail_ensure(&w, HOUR_MS, &err), -1);
	assert_int_equal(applies, 7);
	assert_string_equal(err.text, "refused");
	refuses = false;
	for (int i = 0; i < 5; i++)
		assert_int_equal(agent_jail_ensure(&w, HOUR_MS, &err), 0);
	assert_int_equal(applies, 8);
	agent_end(&w);
}

/* A failure that passes, as of a filter that another changes at the same time, does not keep the
 * machine from work. */
static void a_problem_that_passes(void **state)
{
	struct worker_config c;
	struct agent w;

	agent_make(&w, &c, true);
	refuses = true;
	agent_jail_care(&w, 0);
	assert_true(agent_has_problem(&w));
	agent_jail_care(&w, HOUR_MS);
	assert_true(agent_has_problem(&w));
	refuses = false;
	agent_jail_care(&w, HOUR_MS);
	assert_false(agent_has_problem(&w));
	/* The engine's own trouble is not ours to call solved. */
	w.engine_away = true;
	agent_problem_set(&w, "the engine is away");
	agent_jail_care(&w, 0);
	assert_true(agent_has_problem(&w));
	agent_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_stands),
		cmocka_unit_test(one_that_cannot_be),
		cmocka_unit_test(a_problem_that_passes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
