/* How many workloads of an organisation are active, at most: counting them all at each submission would make the
 * thousandth a thousand times dearer than the first.  What was counted, and each submission since, give an upper bound;
 * only where that reaches the limit, or is old (other replicas submit too), are they counted again. */
#include "internal.h"

#define BOUND_KEEP_MS SECOND_MS

struct actives {
	pthread_mutex_t lock;
	struct map *bounds; /* organisation -> struct bound */
};

struct bound {
	int64_t count, counted_ms;
};

struct actives *actives_new(void)
{
	struct actives *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	s->bounds = map_new();
	return s;
}

void actives_free(struct actives *s)
{
	if (!s)
		return;
	map_free(s->bounds, free);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Takes so many more into the bound, if there is certainly room. */
static bool bound_take(struct control *c, const char *org_id, int64_t more)
{
	struct actives *s = c->actives;
	int64_t age;
	struct bound *b;
	bool room;

	pthread_mutex_lock(&s->lock);
	b = map_find(s->bounds, org_id);
	age = b ? control_now(c) - b->counted_ms : -1;
	room = b && age >= 0 && age < BOUND_KEEP_MS && more <= c->config.workloads_active_max - b->count;
	if (room)
		b->count += more;
	pthread_mutex_unlock(&s->lock);
	return room;
}

static void bound_set(struct control *c, const char *org_id, int64_t count)
{
	struct actives *s = c->actives;
	struct bound *b;

	pthread_mutex_lock(&s->lock);
	b = map_find(s->bounds, org_id);
	if (!b)
		map_put(s->bounds, org_id, b = xcalloc(1, sizeof(*b)));
	*b = (struct bound){ count, control_now(c) };
	pthread_mutex_unlock(&s->lock);
}

int active_take(struct control *c, struct db_conn *conn, const char *org_id, int64_t more, struct err *err)
{
	int64_t active;

	if (bound_take(c, org_id, more))
		return 0;
	if (db_query_int(conn, "SELECT COUNT(*) FROM workloads WHERE org_id = $1 AND ended_ms = 0 AND removed_ms = 0",
			 DB_ARGS(DB_TEXT(org_id)), 0, &active, err) < 0)
		return -1;
	if (active >= c->config.workloads_active_max)
		return err_set(err, ERR_RATE, "%" PRId64 " workloads are active, the most allowed: stop some first", active);
	if (more > c->config.workloads_active_max - active) {
		err_set(err, ERR_RATE,
			"is %" PRId64 ", and %" PRId64 " workloads are active; %" PRId64 " may be: ask for fewer, or stop some first",
			more, active, c->config.workloads_active_max);
		snprintf(err->field, sizeof(err->field), "count");
		return -1;
	}
	bound_set(c, org_id, active + more);
	return 0;
}
