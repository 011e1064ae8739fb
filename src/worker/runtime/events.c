#include "internal.h"

struct event_call {
	struct runtime *rt;
	struct line_splitter lines;
	runtime_event_fn *fn;
	void *arg;
};

void events_start(struct runtime *rt)
{
	rt->events_since_ns = clock_now(&clock_system) * 1000000;
}

/* What a container does by itself or on our order; not our looking at it and running probes
 * in it. */
static bool event_matters(const char *action)
{
	static const char *const kinds[] = { "create", "start",	  "die",     "died",
					     "oom",    "pause",	  "unpause", "kill",
					     "stop",   "destroy", "remove" };

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (str_eq(action, kinds[i]))
			return true;
	}
	return false;
}

static int event_line(void *arg, struct slice line)
{
	struct event_call *c = arg;
	cleanup_arena struct arena arena = { 0 };
	struct json *event;
	const char *action, *lease;
	int64_t at_ns;

	if (json_parse(line, &arena, &event, NULL) < 0)
		return 0;
	action = json_text(event, "Action");
	if (!event_matters(*action ? action : json_text(event, "status")))
		return 0;
	at_ns = json_int(event, "timeNano");
	if (at_ns == 0)
		at_ns = json_int(event, "time") * 1000000000;
	c->rt->events_since_ns = MAX(c->rt->events_since_ns, at_ns + 1);
	lease = json_text(json_path(event, "Actor", "Attributes"), LABEL_LEASE);
	c->fn(c->arg, *lease ? lease : NULL);
	return 0;
}

static int event_data(void *arg, const char *p, size_t len)
{
	struct event_call *c = arg;

	return line_split(&c->lines, p, len, event_line, c);
}

int runtime_events(struct runtime *rt, const volatile int *cancel, runtime_event_fn *fn,
		   void *arg, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct event_call c = { .rt = rt, .lines.max = 64 << 10, .fn = fn, .arg = arg };
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };
	struct docker_call call = {
		.method = HTTP_GET, .on_data = event_data, .cancel = cancel, .arg = &c
	};
	struct err e = { 0 };
	int rc;

	strbuf_init(&c.lines.line);
	call.path = arena_printf(&arena, "/events?since=%" PRId64 ".%09" PRId64 "&filters=%s",
				 rt->events_since_ns / 1000000000,
				 rt->events_since_ns % 1000000000,
				 worker_filter(rt, &arena, ",\"type\":[\"container\"]"));
	rc = docker_send(rt, &call, &res, &e);
	strbuf_release(&c.lines.line);
	if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
		return 0;
	if (rc == 0 && res.status >= 400)
		return docker_fail(&res, "listening to the engine", err);
	/* It only ends when the engine does. */
	return err_set(err, ERR_UNAVAILABLE, "the engine at %s ended the stream of events%s%s",
		       rt->socket, rc < 0 ? ": " : "", e.text);
}
