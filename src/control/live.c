/* Live answers.  A stream is woken by its topic, and looks by itself now and then (for what other replicas commit); a thread of a small
 * pool then lets it read what is new and push it.  One thread at a time works on a stream; a wake that comes meanwhile
 * makes it look once more. */
#include "internal.h"

#include <time.h>

#define TICK_MS 500
#define LOOK_AGAIN_MS 1000         /* where other replicas may have committed */
#define LOOK_AGAIN_RARELY_MS 15000 /* where none can: only against a lost wake; and workers' streams, which are many and
				    * are woken by their heartbeats too */

struct live_queue {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct live *first, **last;
	VEC(struct live *) live;
	VEC(pthread_t) threads;
	pthread_t ticker;
	bool started, stopping;
};

static struct live_queue streams = { .lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER };

struct live *live_new(struct control *c, const char *kind, const char *id,
			  int (*pull)(struct live *, struct db_conn *, struct arena *, struct err *), void *state,
			  void (*state_free)(void *))
{
	struct live *st = xcalloc(1, sizeof(*st));

	st->c = c;
	st->pull = pull;
	st->state = state;
	st->state_free = state_free;
	st->refs = 1;
	snprintf(st->topic, sizeof(st->topic), "%s:%s", kind, id);
	return st;
}

void live_free(struct live *st)
{
	if (!st)
		return;
	assert(!st->listener);
	if (st->http)
		http_stream_unref(st->http);
	if (st->state_free)
		st->state_free(st->state);
	free(st);
}

bool live_push(struct live *st, const char *event, const char *id, struct slice data)
{
	if (st->sink)
		return st->sink(st->sink_arg, event, id, data);
	return http_stream_push(st->http, event, id, data);
}

/* Called with the lock held. */
static void enqueue(struct live *st)
{
	if (st->closed || st->queued)
		return;
	if (st->running) {
		st->again = true;
		return;
	}
	st->queued = true;
	st->next = NULL;
	*streams.last = st;
	streams.last = &st->next;
	pthread_cond_signal(&streams.filled);
}

static void woken(void *arg)
{
	pthread_mutex_lock(&streams.lock);
	enqueue(arg);
	pthread_mutex_unlock(&streams.lock);
}

/* Lock held; drops it while taking the stream out of the hub. */
static void retire(struct live *st)
{
	st->closed = true;
	for (size_t i = 0; i < streams.live.len; i++) {
		if (streams.live.items[i] == st) {
			streams.live.items[i] = streams.live.items[--streams.live.len];
			break;
		}
	}
	pthread_mutex_unlock(&streams.lock);
	hub_unlisten(take_ptr(st->listener)); /* after this nobody can enqueue it */
	http_stream_finish(st->http);
	live_free(st);
	pthread_mutex_lock(&streams.lock);
}

void live_start(struct live *st, struct http_stream *http)
{
	st->http = http;
	st->running = true; /* by us: a wake that comes before we are done only makes it look once more */
	st->listener = hub_listen(st->c->hub, st->topic, woken, st);
	pthread_mutex_lock(&streams.lock);
	st->running = false;
	if (streams.stopping) { /* the threads may have ended: nobody else would */
		retire(st);
	} else {
		*vec_push(&streams.live) = st;
		enqueue(st);
	}
	pthread_mutex_unlock(&streams.lock);
}

static int pull_once(struct live *st, struct db_conn *conn)
{
	cleanup_arena struct arena arena = { 0 };
	struct err err = { 0 };
	int rc;

	if (http_stream_closed(st->http))
		return 1;
	/* Each packet wakes the other end. */
	http_stream_cork(st->http);
	rc = st->pull(st, conn, &arena, &err);
	http_stream_uncork(st->http);
	if (rc < 0) {
		log_err(LOG_WARN, &err, "a stream could not be read", "topic", st->topic, NULL);
		return 1; /* the client resumes */
	}
	return rc;
}

static int64_t look_again_ms(const struct live *st)
{
	return db_is_postgres(st->c->db) && !str_starts(st->topic, "worker:") ? LOOK_AGAIN_MS : LOOK_AGAIN_RARELY_MS;
}

static void *stream_thread(void *arg)
{
	struct db_conn *conn = arg;

	pthread_mutex_lock(&streams.lock);
	while (!streams.stopping) {
		struct live *st = streams.first;

		if (!st) {
			pthread_cond_wait(&streams.filled, &streams.lock);
			continue;
		}
		st->look_ms = time_monotonic_ms() + look_again_ms(st);
		streams.first = st->next;
		if (!streams.first)
			streams.last = &streams.first;
		st->queued = false;
		st->running = true;
		st->again = false;
		pthread_mutex_unlock(&streams.lock);
		int rc = pull_once(st, conn);
		pthread_mutex_lock(&streams.lock);
		st->running = false;
		if (rc != 0)
			retire(st);
		else if (st->again)
			enqueue(st);
	}
	pthread_mutex_unlock(&streams.lock);
	db_conn_close(conn);
	return NULL;
}

static void *ticker_thread(void *arg)
{
	int64_t last = time_monotonic_ms();

	pthread_mutex_lock(&streams.lock);
	while (!streams.stopping) {
		pthread_mutex_unlock(&streams.lock);
		nanosleep(&(struct timespec){ .tv_nsec = 100 * 1000000 }, NULL);
		pthread_mutex_lock(&streams.lock);
		if (time_monotonic_ms() - last < TICK_MS)
			continue;
		last = time_monotonic_ms();
		for (size_t i = 0; i < streams.live.len; i++)
			if (streams.live.items[i]->look_ms <= last)
				enqueue(streams.live.items[i]);
	}
	pthread_mutex_unlock(&streams.lock);
	return arg;
}

int live_threads_start(struct control *c, int threads, struct err *err)
{
	streams.last = &streams.first;
	streams.stopping = false;
	for (int i = 0; i < threads; i++) {
		struct db_conn *conn;

		if (db_conn_open(c->db, &conn, err) < 0)
			return -1;
		if (pthread_create(vec_push(&streams.threads), NULL, stream_thread, conn) != 0) {
			streams.threads.len--;
			db_conn_close(conn);
			return err_set(err, ERR_UNAVAILABLE, "cannot start a thread for streams");
		}
	}
	if (pthread_create(&streams.ticker, NULL, ticker_thread, c) != 0)
		return err_set(err, ERR_UNAVAILABLE, "cannot start a thread for streams");
	streams.started = true;
	return 0;
}

void live_threads_stop(struct control *c)
{
	pthread_mutex_lock(&streams.lock);
	streams.stopping = true;
	pthread_cond_broadcast(&streams.filled);
	pthread_mutex_unlock(&streams.lock);
	for (size_t i = 0; i < streams.threads.len; i++)
		pthread_join(streams.threads.items[i], NULL);
	if (streams.started)
		pthread_join(streams.ticker, NULL);
	streams.started = false;
	pthread_mutex_lock(&streams.lock);
	while (streams.live.len)
		retire(streams.live.items[0]);
	streams.first = NULL;
	vec_release(&streams.live); /* requests may still come, and find it stopping */
	pthread_mutex_unlock(&streams.lock);
	vec_release(&streams.threads);
}
