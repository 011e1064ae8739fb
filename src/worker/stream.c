/* The stream of what the server desires: kept open, resumed where it broke. */
#include "internal.h"

#define EVENT_MAX ((size_t)64 << 20)
#define SILENT_MS (50 * SECOND_MS) /* the server sends a comment every 15 s */

struct stream_state {
	struct agent *w;
	struct sse_parser *parser;
	char last_id[32];
	bool heard;
};

static int event_take(struct stream_state *s, const char *event, struct slice data,
		      struct err *err)
{
	cleanup_arena struct arena a = { 0 };

	if (str_eq(event, "sync")) {
		struct desired_set set;

		if (schema_parse(&desired_set_type, data, FROM_SERVER, &a, &set, err) < 0)
			return -1;
		agent_desire(s->w, &set);
	} else if (str_eq(event, "lease")) {
		struct desired_lease lease;

		if (schema_parse(&desired_lease_type, data, FROM_SERVER, &a, &lease, err) < 0)
			return -1;
		agent_desire_one(s->w, &lease);
	}
	return 0; /* others: of a newer server */
}

static int on_event(void *arg, const char *event, const char *id, struct slice data)
{
	struct stream_state *s = arg;
	struct err err = { 0 };

	if (event_take(s, event, data, &err) < 0) {
		log_err(LOG_ERROR, &err, "the server sent what cannot be read", "event", event,
			NULL);
		s->last_id[0] = '\0'; /* ask for the whole set again */
		return 1;
	}
	snprintf(s->last_id, sizeof(s->last_id), "%s", id);
	return 0;
}

static int on_data(void *arg, const char *p, size_t len)
{
	struct stream_state *s = arg;

	s->heard = true;
	return sse_parser_feed(s->parser, p, len);
}

/* One connection, until it breaks. */
static int stream_once(struct stream_state *s, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct link_call call = {
		.op = OP_worker_desired,
		.idle_timeout_ms = SILENT_MS,
		.on_data = on_data,
		.arg = s,
		.last_event_id = s->last_id[0] ? s->last_id : NULL,
		.cancel = &s->w->stream_cancel,
	};
	int rc;

	s->parser = sse_parser_new(EVENT_MAX, on_event, s);
	rc = link_do(s->w->link, &call, &a, NULL, err);
	sse_parser_free(take_ptr(s->parser));
	return rc;
}

void *stream_thread(void *arg)
{
	struct agent *w = arg;
	struct stream_state s = { .w = w };
	struct backoff backoff = { 0 };

	while (!agent_stopping(w)) {
		struct err err = { 0 };
		int64_t until, heard_ms;
		int rc;

		s.heard = false;
		rc = stream_once(&s, &err);
		if (agent_stopping(w))
			break;
		/* Behind, or ahead of a restored store: begin with the whole set. */
		if (__atomic_exchange_n(&w->stream_cancel, 0, __ATOMIC_RELAXED))
			s.last_id[0] = '\0';
		if (s.heard)
			backoff.ms = 0;
		if (rc < 0 && err.code != ERR_UNAVAILABLE && err.code != ERR_TIMEOUT)
			log_err(LOG_WARN, &err, "the stream of leases broke", NULL);
		until = time_monotonic_ms() + backoff_next(&backoff);
		heard_ms = w->heard_ms;
		pthread_mutex_lock(&w->lock);
		/* A heartbeat that was answered says that the server is back. */
		while (!agent_stopping(w) && w->heard_ms == heard_ms &&
		       cond_wait_until(&w->cond, &w->lock, until))
			;
		pthread_mutex_unlock(&w->lock);
	}
	return NULL;
}
