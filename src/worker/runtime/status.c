#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static enum container_state state_parse(const char *status)
{
	static const struct {
		const char *name;
		enum container_state state;
	} states[] = {
		{ "created", CONTAINER_CREATED },     { "configured", CONTAINER_CREATED },
		{ "initialized", CONTAINER_CREATED }, { "running", CONTAINER_RUNNING },
		{ "restarting", CONTAINER_RUNNING },  { "stopping", CONTAINER_RUNNING },
		{ "paused", CONTAINER_PAUSED },
	};

	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		if (str_eq(status, states[i].name))
			return states[i].state;
	}
	return CONTAINER_EXITED; /* exited, stopped, removing, dead */
}

static void address_read(const struct json *inspect, struct container_status *ret)
{
	const struct json *networks = json_path(inspect, "NetworkSettings", "Networks");
	const char *address = json_text(json_find(inspect, "NetworkSettings"), "IPAddress");

	for (size_t i = 0; networks && networks->kind == JSON_OBJECT && !*address &&
			   i < networks->member_count;
	     i++)
		address = json_text(&networks->members[i].value, "IPAddress");
	snprintf(ret->address, sizeof(ret->address), "%s", address);
}

bool kernel_log_oom(const char *container_id)
{
	cleanup_fd int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[8192 + 1];

	if (fd < 0 || strlen(container_id) != 64)
		return false;
	for (;;) {
		ssize_t n = read(fd, record, sizeof(record) - 1);

		if (n < 0 &&
		    (errno == EPIPE || errno == EINTR)) /* overwritten before we came to it */
			continue;
		if (n <= 0)
			return false;
		record[n] = '\0';
		if (strstr(record, "oom-kill:") && strstr(record, container_id))
			return true;
	}
}

void status_read(const struct runtime *rt, const struct json *inspect,
		 struct container_status *ret)
{
	const struct json *state = json_find(inspect, "State");
	const struct json *labels = json_path(inspect, "Config", "Labels");

	memset(ret, 0, sizeof(*ret));
	snprintf(ret->lease, sizeof(ret->lease), "%s", json_text(labels, LABEL_LEASE));
	snprintf(ret->id, sizeof(ret->id), "%s", json_text(inspect, "Id"));
	if (int_parse(json_text(labels, LABEL_GENERATION), 0, INT64_MAX, &ret->generation,
		      NULL) < 0)
		ret->generation = 0;
	ret->state = state_parse(json_text(state, "Status"));
	ret->created_ms = go_time_ns(json_text(inspect, "Created")) / 1000000;
	ret->started_ms = go_time_ns(json_text(state, "StartedAt")) / 1000000;
	ret->finished_ms = go_time_ns(json_text(state, "FinishedAt")) / 1000000;
	ret->exit_code = json_int(state, "ExitCode");
	ret->oom_killed = json_bool(state, "OOMKilled");
	/* Podman does not hear of it with control groups of version 1. */
	if (rt->podman && !ret->oom_killed && ret->state == CONTAINER_EXITED &&
	    ret->exit_code == 128 + SIGKILL)
		ret->oom_killed = kernel_log_oom(ret->id);
	snprintf(ret->error, sizeof(ret->error), "%s", json_text(state, "Error"));
	address_read(inspect, ret);
}

const char *worker_filter(struct runtime *rt, struct arena *arena, const char *more)
{
	return url_escape(arena, arena_printf(arena, "{\"label\":[\"" LABEL_WORKER "=%s\"]%s}",
					      rt->worker_id, more));
}

int runtime_list(struct runtime *rt, struct arena *arena, struct container_status **ret,
		 size_t *ret_len, struct err *err)
{
	cleanup_arena struct arena scratch = { 0 };
	struct json *list, *container;
	struct container_status *found;
	size_t len = 0;

	if (docker_get(rt,
		       arena_printf(&scratch, "/containers/json?all=1&filters=%s",
				    worker_filter(rt, &scratch, "")),
		       "listing the containers", &scratch, &list, err) < 0)
		return -1;
	if (list->kind != JSON_ARRAY)
		return err_set(err, ERR_UNAVAILABLE, "the engine's list of containers is none");
	found = arena_array(arena, struct container_status, MAX(list->count, (size_t)1));
	for (size_t i = 0; i < list->count; i++) {
		const char *path = arena_printf(&scratch, "/containers/%s/json",
						json_text(&list->items[i], "Id"));
		struct err e = { 0 };

		if (docker_get(rt, path, "looking at a container", &scratch, &container, &e) ==
		    0) {
			status_read(rt, container, &found[len++]);
		} else if (e.code != ERR_NOT_FOUND) { /* gone since it was listed */
			*err = e;
			return -1;
		}
	}
	*ret = found;
	*ret_len = len;
	return 0;
}
