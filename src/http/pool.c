#include "internal.h"

#include <time.h>

/* Ends one exchange's handling.  After MHD_resume_connection it may be gone at any moment. */
static void exchange_answered(struct exchange *ex)
{
	struct MHD_Connection *connection = ex->connection;

	ex->state = EXCHANGE_ANSWERED;
	MHD_resume_connection(connection);
}

static void exchange_handle(struct http_server *s, struct exchange *ex, void *thread_state)
{
	ex->req.arena = &ex->arena;
	s->config.handler(&ex->req, &ex->res, thread_state, s->config.arg);
	response_build(ex);
	exchange_answered(ex);
}

static struct exchange *queue_take(struct http_server *s)
{
	struct exchange *ex;

	pthread_mutex_lock(&s->queue_lock);
	while (!s->queue_head && !s->queue_closed)
		pthread_cond_wait(&s->queue_more, &s->queue_lock);
	ex = s->queue_closed ? NULL : s->queue_head;
	if (ex) {
		s->queue_head = ex->queue_next;
		if (!s->queue_head)
			s->queue_tail = NULL;
		s->queue_len--;
	}
	pthread_mutex_unlock(&s->queue_lock);
	return ex;
}

static void *pool_run(void *arg)
{
	struct http_server *s = arg;
	struct exchange *ex;
	void *state = s->config.thread_open ? s->config.thread_open(s->config.arg) : s;

	pthread_mutex_lock(&s->queue_lock);
	s->pool_ready++;
	s->pool_failed |= !state;
	pthread_cond_broadcast(&s->queue_idle);
	pthread_mutex_unlock(&s->queue_lock);
	if (!state)
		return NULL;
	if (!s->config.thread_open)
		state = NULL;
	while ((ex = queue_take(s)))
		exchange_handle(s, ex, state);
	if (s->config.thread_open && s->config.thread_close)
		s->config.thread_close(state);
	return NULL;
}

int pool_start(struct http_server *s, struct err *err)
{
	bool failed;

	s->pool = xcalloc((size_t)s->config.pool_threads, sizeof(*s->pool));
	for (int i = 0; i < s->config.pool_threads; i++) {
		int rc = pthread_create(&s->pool[i], NULL, pool_run, s);

		if (rc)
			return err_sys(err, rc, "http: cannot start thread %d of %d", i + 1,
				       s->config.pool_threads);
		s->pool_count++;
	}
	pthread_mutex_lock(&s->queue_lock);
	while (s->pool_ready < s->pool_count)
		pthread_cond_wait(&s->queue_idle, &s->queue_lock);
	failed = s->pool_failed;
	pthread_mutex_unlock(&s->queue_lock);
	if (failed)
		return err_set(err, ERR_UNAVAILABLE,
			       "http: a thread of the pool could not open what it needs");
	return 0;
}

bool pool_submit(struct http_server *s, struct exchange *ex)
{
	bool room;

	pthread_mutex_lock(&s->queue_lock);
	room = !s->queue_closed && s->queue_len < s->config.queue_max;
	if (room) {
		ex->state = EXCHANGE_HANDLING;
		ex->queue_next = NULL;
		/* Before a thread of the pool can take it, and resume what was not suspended
		 * yet. */
		MHD_suspend_connection(ex->connection);
		if (s->queue_tail)
			s->queue_tail->queue_next = ex;
		else
			s->queue_head = ex;
		s->queue_tail = ex;
		s->queue_len++;
		s->in_flight++;
		pthread_cond_signal(&s->queue_more);
	}
	pthread_mutex_unlock(&s->queue_lock);
	return room;
}

void pool_done(struct http_server *s)
{
	pthread_mutex_lock(&s->queue_lock);
	if (--s->in_flight == 0)
		pthread_cond_broadcast(&s->queue_idle);
	pthread_mutex_unlock(&s->queue_lock);
}

bool pool_drain(struct http_server *s, int64_t grace_ms)
{
	struct timespec until;
	bool drained;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += grace_ms / 1000;
	until.tv_nsec += grace_ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000)
		until.tv_sec++, until.tv_nsec -= 1000000000;
	pthread_mutex_lock(&s->queue_lock);
	while (s->in_flight && !rc)
		rc = pthread_cond_timedwait(&s->queue_idle, &s->queue_lock, &until);
	drained = !s->in_flight;
	pthread_mutex_unlock(&s->queue_lock);
	return drained;
}

void pool_stop(struct http_server *s)
{
	struct exchange *ex;

	pthread_mutex_lock(&s->queue_lock);
	s->queue_closed = true;
	ex = s->queue_head;
	s->queue_head = s->queue_tail = NULL;
	s->queue_len = 0;
	pthread_cond_broadcast(&s->queue_more);
	pthread_mutex_unlock(&s->queue_lock);
	while (ex) {
		struct exchange *next = ex->queue_next;

		response_problem(ex, 503, "the server is stopping; try again");
		response_build(ex);
		exchange_answered(ex);
		ex = next;
	}
	for (int i = 0; i < s->pool_count; i++)
		pthread_join(s->pool[i], NULL);
	s->pool_count = 0;
	free(s->pool);
	s->pool = NULL;
}
