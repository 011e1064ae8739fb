/* The hub: wakes what waits for a topic, in this process.  Losing a wake would only cost time: duties come round and
 * streams look again by themselves, which is also how changes made by other replicas are seen. */
#include "internal.h"

struct hub_listener {
	struct hub *hub;
	char topic[64];
	void (*fn)(void *arg);
	void *arg;
	struct hub_listener *next, *prev; /* of the same topic */
};

/* Each waits by itself: what wakes one of them leaves the others asleep. */
struct hub_duty {
	pthread_cond_t moved;
	bool woken;
	int64_t went_ms; /* monotonic; when it last stopped waiting */
};

struct hub {
	pthread_mutex_t lock;
	struct map *listeners; /* topic -> first listener */
	struct map *duties;    /* name -> struct hub_duty */
	bool stopping;
};

struct hub *hub_new(void)
{
	struct hub *h = xcalloc(1, sizeof(*h));

	pthread_mutex_init(&h->lock, NULL);
	h->listeners = map_new();
	h->duties = map_new();
	return h;
}

static void duty_free(void *arg)
{
	struct hub_duty *d = arg;

	pthread_cond_destroy(&d->moved);
	free(d);
}

void hub_free(struct hub *h)
{
	if (!h)
		return;
	assert(map_count(h->listeners) == 0);
	map_free(h->listeners, NULL);
	map_free(h->duties, duty_free);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* Lock held. */
static struct hub_duty *duty_of(struct hub *h, const char *name)
{
	struct hub_duty *d = map_find(h->duties, name);
	pthread_condattr_t monotonic;

	if (d)
		return d;
	d = xcalloc(1, sizeof(*d));
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&d->moved, &monotonic);
	pthread_condattr_destroy(&monotonic);
	map_put(h->duties, name, d);
	return d;
}

/* Lock held. */
static void duty_wake(struct hub_duty *d)
{
	if (d->woken)
		return;
	d->woken = true;
	pthread_cond_signal(&d->moved);
}

void hub_wake(struct hub *h, const char *topic)
{
	pthread_mutex_lock(&h->lock);
	if (str_starts(topic, "duty:")) {
		duty_wake(duty_of(h, topic + 5));
	} else {
		/* fn only queues, so calling it under the lock is short and keeps the listener alive. */
		for (struct hub_listener *l = map_find(h->listeners, topic); l; l = l->next)
			l->fn(l->arg);
	}
	pthread_mutex_unlock(&h->lock);
}

struct hub_listener *hub_listen(struct hub *h, const char *topic, void (*fn)(void *arg), void *arg)
{
	struct hub_listener *l = xcalloc(1, sizeof(*l)), *first;

	l->hub = h;
	l->fn = fn;
	l->arg = arg;
	snprintf(l->topic, sizeof(l->topic), "%s", topic);
	pthread_mutex_lock(&h->lock);
	first = map_find(h->listeners, topic);
	l->next = first;
	if (first)
		first->prev = l;
	map_put(h->listeners, topic, l);
	pthread_mutex_unlock(&h->lock);
	return l;
}

void hub_unlisten(struct hub_listener *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->hub->lock);
	if (l->next)
		l->next->prev = l->prev;
	if (l->prev)
		l->prev->next = l->next;
	else if (l->next)
		map_put(l->hub->listeners, l->topic, l->next);
	else
		map_remove(l->hub->listeners, l->topic);
	pthread_mutex_unlock(&l->hub->lock);
	free(l);
}

/* Lock held.  Until until_ms of the monotonic clock, or before that when woken, or when all is to stop. */
static void duty_wait(struct hub *h, struct hub_duty *d, bool until_woken, int64_t until_ms)
{
	const struct timespec until = { .tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000 };

	while (!h->stopping && !(until_woken && d->woken))
		if (pthread_cond_timedwait(&d->moved, &h->lock, &until) != 0)
			return;
}

bool hub_wait_duty(struct hub *h, const char *name, int64_t wait_ms, int64_t gather_ms)
{
	struct hub_duty *d;
	bool go;

	pthread_mutex_lock(&h->lock);
	d = duty_of(h, name);
	if (wait_ms > 0) {
		duty_wait(h, d, true, time_monotonic_ms() + wait_ms);
		duty_wait(h, d, false, d->went_ms + gather_ms);
	}
	d->went_ms = time_monotonic_ms();
	d->woken = false;
	go = !h->stopping;
	pthread_mutex_unlock(&h->lock);
	return go;
}

void hub_stop(struct hub *h)
{
	const char *name;
	void *duty;
	size_t it = 0;

	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	while (map_next(h->duties, &it, &name, &duty))
		pthread_cond_signal(&((struct hub_duty *)duty)->moved);
	pthread_mutex_unlock(&h->lock);
}

/* ---- waking after the commit ------------------------------------------------------------------------ */

struct wake_arg {
	struct hub *hub;
	char topic[64];
};

static void wake_run(void *arg)
{
	struct wake_arg *w = arg;

	hub_wake(w->hub, w->topic);
}

void wake(struct control *c, struct db_conn *conn, const char *kind, const char *id)
{
	struct wake_arg *w = xcalloc(1, sizeof(*w));

	w->hub = c->hub;
	snprintf(w->topic, sizeof(w->topic), "%s:%s", kind, id);
	if (conn && db_in_tx(conn)) {
		db_after_commit(conn, wake_run, free, w);
		return;
	}
	wake_run(w);
	free(w);
}
