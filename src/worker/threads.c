/* Threads of leases, used again: most live for a moment, and to make one and take it away costs
 * more than what it does.  Those that have nothing to do wait for the next task, for a while.
 * They are of the process, and end with it. */
#include "internal.h"

#define THREAD_STACK ((size_t)256 << 10)
#define IDLE_MS	     (10 * SECOND_MS)
#define AGAIN_MS     100 /* where no thread is to be had now */

struct idle {
	struct idle *next;
	pthread_cond_t woken;
	struct thread_task *task; /* NULL: none yet */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows; the last of all */
static struct idle *idle; /* the last one first: its stack is warm */
static pthread_cond_t task_ended = PTHREAD_COND_INITIALIZER;
static size_t joining;
static struct thread_task *delayed; /* by due_ms */
static pthread_cond_t delayed_first; /* another one is */
static bool keeper_there;

int thread_start(pthread_t *ret, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	rc = pthread_create(ret, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return rc;
}

/* Lock held; NULL: none came in time. */
static struct thread_task *task_await(void)
{
	struct idle me = { .next = idle };
	int64_t until = time_monotonic_ms() + IDLE_MS;

	cond_init_monotonic(&me.woken);
	idle = &me;
	while (!me.task && cond_wait_until(&me.woken, &lock, until))
		;
	if (!me.task) {
		struct idle **at = &idle;

		while (*at != &me)
			at = &(*at)->next;
		*at = me.next;
	}
	pthread_cond_destroy(&me.woken);
	return me.task;
}

static void *tasks_run(void *arg)
{
	struct thread_task *t = arg;

	while (t) {
		t->fn(t->arg);
		pthread_mutex_lock(&lock);
		t->state = TASK_ENDED; /* and from here on its owner's */
		if (joining)
			pthread_cond_broadcast(&task_ended);
		t = task_await();
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static int fresh_thread(void *(*fn)(void *), void *arg)
{
	pthread_t thread;
	int rc = thread_start(&thread, fn, arg);

	if (rc == 0)
		pthread_detach(thread);
	return rc;
}

/* Lock held. */
static void task_delay(struct thread_task *t, int64_t delay_ms)
{
	struct thread_task **at = &delayed;

	t->state = TASK_DELAYED;
	t->due_ms = time_monotonic_ms() + delay_ms;
	while (*at && (*at)->due_ms <= t->due_ms)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
	if (delayed == t)
		pthread_cond_signal(&delayed_first);
}

/* Lock held.  Where no thread is to be had, other leases have them, and will end. */
static void task_give(struct thread_task *t)
{
	struct idle *thread = idle;

	t->state = TASK_RUNS;
	if (!thread) {
		if (fresh_thread(tasks_run, t) != 0)
			task_delay(t, AGAIN_MS);
		return;
	}
	idle = thread->next;
	thread->task = t;
	pthread_cond_signal(&thread->woken); /* it is the only one there */
}

/* ---- later ---- */

static void *keeper_thread(void *unused)
{
	pthread_mutex_lock(&lock);
	while (true) {
		struct thread_task *t = delayed;

		if (!t) {
			pthread_cond_wait(&delayed_first, &lock);
		} else if (time_monotonic_ms() < t->due_ms) {
			cond_wait_until(&delayed_first, &lock, t->due_ms);
		} else {
			delayed = t->next;
			task_give(t);
		}
	}
	return NULL;
}

/* Lock held: before the first task, it must not be what there is no thread left for. */
static void keeper_need(void)
{
	if (keeper_there)
		return;
	keeper_there = true;
	cond_init_monotonic(&delayed_first);
	if (fresh_thread(keeper_thread, NULL) != 0)
		abort(); /* no threads: nothing works on this machine */
}

void thread_task_start(struct thread_task *t, void *(*fn)(void *), void *arg)
{
	pthread_mutex_lock(&lock);
	keeper_need();
	*t = (struct thread_task){ .fn = fn, .arg = arg };
	task_give(t);
	pthread_mutex_unlock(&lock);
}

void thread_task_start_in(struct thread_task *t, int64_t delay_ms, void *(*fn)(void *), void *arg)
{
	pthread_mutex_lock(&lock);
	keeper_need();
	*t = (struct thread_task){ .fn = fn, .arg = arg };
	task_delay(t, delay_ms);
	pthread_mutex_unlock(&lock);
}

bool thread_task_cancel(struct thread_task *t)
{
	struct thread_task **at = &delayed;
	bool ret;

	pthread_mutex_lock(&lock);
	if (t->state == TASK_DELAYED) {
		while (*at != t)
			at = &(*at)->next;
		*at = t->next;
		t->state = TASK_NONE;
	}
	ret = t->state == TASK_NONE;
	pthread_mutex_unlock(&lock);
	return ret;
}

void thread_task_join(struct thread_task *t)
{
	pthread_mutex_lock(&lock);
	joining++;
	while (t->state != TASK_ENDED)
		pthread_cond_wait(&task_ended, &lock);
	joining--;
	pthread_mutex_unlock(&lock);
}
