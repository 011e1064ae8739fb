/* Threads that are used again. */
#include "../internal.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#define TASKS 50

static int refused; /* so many threads are not to be had */

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg)
{
	if (__atomic_load_n(&refused, __ATOMIC_RELAXED)) {
		__atomic_sub_fetch(&refused, 1, __ATOMIC_RELAXED);
		return EAGAIN;
	}
	return __real_pthread_create(ret, attr, fn, arg);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct work {
	struct thread_task task;
	pthread_t ran_on;
	bool began, may_end;
};

static void *work_do(void *arg)
{
	struct work *w = arg;

	pthread_mutex_lock(&lock);
	w->ran_on = pthread_self();
	w->began = true;
	pthread_cond_broadcast(&changed);
	while (!w->may_end)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void work_end(struct work *w)
{
	pthread_mutex_lock(&lock);
	w->may_end = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	thread_task_join(&w->task);
}

static void work_await(struct work *w)
{
	pthread_mutex_lock(&lock);
	while (!w->began)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static void all_run_at_the_same_time(void **state)
{
	struct work works[TASKS] = { 0 };

	for (size_t i = 0; i < TASKS; i++)
		thread_task_start(&works[i].task, work_do, &works[i]);
	for (size_t i = 0; i < TASKS; i++)
		work_await(&works[i]);
	for (size_t i = 0; i < TASKS; i++) {
		assert_int_equal(works[i].task.state, TASK_RUNS);
		work_end(&works[i]);
	}
}

/* The first is joined before the second begins; its thread may not be back yet, so the second
 * looks for it among a few. */
static void a_thread_is_used_again(void **state)
{
	struct work first = { .may_end = true };
	bool again = false;

	thread_task_start(&first.task, work_do, &first);
	thread_task_join(&first.task);
	for (size_t i = 0; i < TASKS && !again; i++) {
		struct work next = { .may_end = true };

		thread_task_start(&next.task, work_do, &next);
		thread_task_join(&next.task);
		again = pthread_equal(next.ran_on, first.ran_on);
	}
	assert_true(again);
}

/* The one that is due first, though it came last. */
static void the_delayed_begin(void **state)
{
	struct work late = { 0 }, soon = { .may_end = true };
	int64_t began_ms = time_monotonic_ms();

	thread_task_start_in(&late.task, HOUR_MS, work_do, &late);
	thread_task_start_in(&soon.task, 5, work_do, &soon);
	thread_task_join(&soon.task);
	assert_true(soon.began);
	assert_true(time_monotonic_ms() - began_ms >= 5);
	assert_true(thread_task_cancel(&late.task));
	assert_false(late.began);
}

static void what_is_cancelled_never_begins(void **state)
{
	struct work works[3] = { { .may_end = true }, { .may_end = true }, { .may_end = true } },
		    never = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(works); i++)
		thread_task_start_in(&works[i].task, 20, work_do, &works[i]);
	assert_true(thread_task_cancel(&works[1].task));
	assert_true(thread_task_cancel(&works[1].task));
	assert_true(thread_task_cancel(&never.task));
	thread_task_join(&works[0].task);
	thread_task_join(&works[2].task);
	assert_false(works[1].began);
	assert_false(thread_task_cancel(&works[0].task)); /* it has run */
	/* It may be started after all. */
	thread_task_start(&works[1].task, work_do, &works[1]);
	assert_false(thread_task_cancel(&works[1].task));
	thread_task_join(&works[1].task);
	assert_true(works[1].began);
}

/* The last ones need threads of their own, as all others are busy; they get those of the others. */
static void no_thread_is_left_for_a_moment(void **state)
{
	struct work works[TASKS + 3] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(works); i++) {
		if (i == TASKS)
			__atomic_store_n(&refused, 3, __ATOMIC_RELAXED);
		thread_task_start(&works[i].task, work_do, &works[i]);
	}
	assert_true(thread_task_cancel(&works[TASKS].task)); /* it has not begun */
	for (size_t i = 0; i < ARRAY_LEN(works); i++) {
		if (i == TASKS)
			continue;
		work_await(&works[i]);
		work_end(&works[i]);
	}
	assert_int_equal(refused, 0);
	assert_false(works[TASKS].began);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_run_at_the_same_time),
		cmocka_unit_test(a_thread_is_used_again),
		cmocka_unit_test(the_delayed_begin),
		cmocka_unit_test(what_is_cancelled_never_begins),
		cmocka_unit_test(no_thread_is_left_for_a_moment),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
