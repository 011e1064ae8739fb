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

struct hub {
	pthread_mutex_t lock;
	pthread_cond_t duty_woken;
	struct map *listeners; /* topic -> first listener */
	struct map *duties;    /* name -> (void *)1 when woken */
	bool stopping;
};

struct hub *hub_new(void)
{
	struct hub *h = xcalloc(1, sizeof(*h));

	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->duty_woken, NULL);
	h->listeners = map_new();
	h->duties = map_new();
	return h;
}

void hub_free(struct hub *h)
{
	if (!h)
		return;
	assert(map_count(h->listeners) == 0);
	map_free(h->listeners, NULL);
	map_free(h->duties, NULL);
	pthread_cond_destroy(&h->duty_woken);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

void hub_wake(struct hub *h, const char *topic)
{
	pthread_mutex_lock(&h->lock);
	if (str_starts(topic, "duty:")) {
		map_put(h->duties, topic + 5, h);
		pthread_cond_broadcast(&h->duty_woken);
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

bool hub_wait_duty(struct hub *h, const char *name, int64_t deadline_ms)
{
	struct timespec until = { .tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000 };
	bool go;

	pthread_mutex_lock(&h->lock);
	while (!h->stopping && !map_find(h->duties, name))
		if (pthread_cond_timedwait(&h->duty_woken, &h->lock, &until) != 0)
			break;
	map_remove(h->duties, name);
	go = !h->stopping;
	pthread_mutex_unlock(&h->lock);
	return go;
}

void hub_stop(struct hub *h)
{
	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	pthread_cond_broadcast(&h->duty_woken);
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
