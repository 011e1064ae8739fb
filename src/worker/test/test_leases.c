/* The set of leases, whose threads do here what a test says. */
#include "../internal.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#define LEASES 40

static struct agent agent;
static enum { ENDS, FINISHES, FITS } what;

/* Its wish is what it came with: no other comes. */
static void wish_take(struct lease_run *l)
{
	pthread_mutex_lock(&l->lock);
	l->j.desired = &l->next->d;
	pthread_mutex_unlock(&l->lock);
}

void *__wrap_lease_thread(void *arg);
void *__wrap_lease_thread(void *arg)
{
	struct lease_run *l = arg;
	struct err err = { 0 };
	int64_t until;

	wish_take(l);
	if (what == ENDS) {
		pthread_mutex_lock(&l->lock);
		l->j.ended = true;
		pthread_mutex_unlock(&l->lock);
		observe_end(l->w);
	}
	if (what != FITS) {
		agent_lease_finished(l);
		return NULL;
	}
	while (!agent_stopping(l->w))
		(void)!agent_fits(l->w, l, &err);
	/* A step that has begun goes on for a moment. */
	until = time_monotonic_ms() + (l->id[ID_SIZE - 2] % 5);
	do
		(void)!agent_fits(l->w, l, &err);
	while (time_monotonic_ms() < until);
	return NULL;
}

static int setup(void **state)
{
	memset(&agent, 0, sizeof(agent));
	agent.leases = map_new();
	pthread_mutex_init(&agent.lock, NULL);
	cond_init_monotonic(&agent.cond);
	cond_init_monotonic(&agent.care_cond);
	return 0;
}

static int teardown(void **state)
{
	map_free(agent.leases, NULL);
	return 0;
}

static void desire(size_t count)
{
	static const struct resources resources = {
		.cpu_milli = 500, .memory_mib = 128, .disk_mib = 256
	};

	for (size_t i = 0; i < count; i++) {
		char id[ID_SIZE];
		struct desired_lease d = { .lease = id,
					   .generation = 1,
					   .rev = 1,
					   .desired = DESIRE_RUN,
					   .image = "image",
					   .resources = &resources };

		id_make("le", 1700000000000, &random_system, id);
		agent_desire_one(&agent, &d);
	}
}

static size_t leases_here(void)
{
	size_t ret;

	pthread_mutex_lock(&agent.lock);
	ret = map_count(agent.leases);
	pthread_mutex_unlock(&agent.lock);
	return ret;
}

static void they_take_themselves_out(void **state)
{
	for (what = ENDS; what <= FINISHES; what++) {
		desire(LEASES);
		while (leases_here())
			usleep(1000);
		assert_int_equal(agent.unended, 0);
		assert_int_equal(agent.finished_count, LEASES);
		agent_reap(&agent);
		assert_null(agent.finished);
		assert_int_equal(agent.finished_count, 0);
	}
}

/* Some still look at the others while the first are taken away. */
static void a_stop_takes_all_out(void **state)
{
	what = FITS;
	desire(LEASES);
	assert_int_equal(agent.unended, LEASES);
	usleep(5000);
	pthread_mutex_lock(&agent.lock);
	__atomic_store_n(&agent.stopping, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&agent.lock);
	agent_leases_stop(&agent);
	assert_int_equal(map_count(agent.leases), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(they_take_themselves_out, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stop_takes_all_out, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
