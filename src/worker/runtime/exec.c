#include "../../os/os.h"
#include "internal.h"

#include <signal.h>

static int exec_create(struct runtime *rt, const char *container,
		       const struct text_list *command, struct arena *arena,
		       const char **ret_id, struct err *err)
{
	cleanup_strbuf struct strbuf body = STRBUF_INIT;
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };
	struct docker_call call = { .method = HTTP_POST, .timeout_ms = DOCKER_TIMEOUT_MS };
	struct json *answer;

	/* Output is attached because the stream's end tells that the command has ended. */
	strbuf_adds(&body, "{\"AttachStdout\":true,\"AttachStderr\":true,\"Cmd\":[");
	for (size_t i = 0; i < command->len; i++) {
		strbuf_adds(&body, i ? "," : "");
		json_write_text(command->items[i], &body);
	}
	strbuf_adds(&body, "]}");
	call.path = arena_printf(arena, "/containers/%s/exec", container);
	call.body = (struct slice){ body.buf, body.len };
	if (docker_send(rt, &call, &res, err) < 0)
		return -1;
	if (res.status >= 400)
		return docker_fail(&res, "running a command in the container", err);
	if (json_parse((struct slice){ res.body.buf, res.body.len }, arena, &answer, err) < 0)
		return err_wrap(err, "running a command in the container: the engine's answer");
	*ret_id = json_text(answer, "Id");
	if (!**ret_id || strspn(*ret_id, "0123456789abcdef") != strlen(*ret_id))
		return err_set(err, ERR_UNAVAILABLE,
			       "the engine gave a command in the container no id");
	return 0;
}

static int data_ignore(void *arg, const char *p, size_t len)
{
	return 0;
}

/* No engine can end a command that it runs in a container.  The process number is ours only
 * where worker and engine see the same processes: its control group must name the container. */
static void exec_kill(struct runtime *rt, const char *exec_path)
{
	cleanup_arena struct arena arena = { 0 };
	cleanup_strbuf struct strbuf groups = STRBUF_INIT;
	struct json *exec;
	const char *container;
	int64_t pid;

	if (docker_get(rt, exec_path, "looking at a command", &arena, &exec, NULL) < 0 ||
	    !json_bool(exec, "Running"))
		return;
	pid = json_int(exec, "Pid");
	container = json_text(exec, "ContainerID");
	if (pid <= 1 || pid > INT32_MAX || strlen(container) != 64)
		return;
	if (file_read(arena_printf(&arena, "/proc/%" PRId64 "/cgroup", pid), 64 << 10, &groups,
		      NULL) == 0 &&
	    strstr(groups.buf, container))
		kill((pid_t)pid, SIGKILL);
}

int runtime_exec(struct runtime *rt, const char *lease, const struct text_list *command,
		 int64_t timeout_ms, int *ret_status, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };
	struct docker_call call = {
		.method = HTTP_POST,
		.body = SLICE("{\"Detach\":false,\"Tty\":false}"),
		.timeout_ms = timeout_ms,
		.on_data = data_ignore,
	};
	char name[CONTAINER_NAME_SIZE];
	struct json *exec;
	const char *id = NULL, *path;

	if (container_name(lease, name, err) < 0 ||
	    exec_create(rt, name, command, &arena, &id, err) < 0)
		return -1;
	path = arena_printf(&arena, "/exec/%s/json", id);
	call.path = arena_printf(&arena, "/exec/%s/start", id);
	if (docker_send(rt, &call, &res, err) < 0) {
		exec_kill(rt, path);
		return err_wrap(err, "running a command in the container");
	}
	if (res.status >= 400)
		return docker_fail(&res, "running a command in the container", err);
	if (docker_get(rt, path, "asking how a command ended", &arena, &exec, err) < 0)
		return -1;
	*ret_status = (int)json_int(exec, "ExitCode");
	return 0;
}

struct copy {
	int fd;
	int64_t left;
	bool too_large;
	struct err err;
};

static int copy_data(void *arg, const char *p, size_t len)
{
	struct copy *copy = arg;

	copy->too_large = (int64_t)len > copy->left;
	if (copy->too_large)
		return 1;
	copy->left -= (int64_t)len;
	return write_all(copy->fd, p, len, &copy->err) < 0;
}

int runtime_copy_out(struct runtime *rt, const char *lease, const char *path, int fd,
		     int64_t max_bytes, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };
	struct copy copy = { .fd = fd, .left = max_bytes };
	struct docker_call call = { .method = HTTP_GET,
				    .idle_timeout_ms = 5 * MINUTE_MS,
				    .on_data = copy_data,
				    .arg = &copy };
	char name[CONTAINER_NAME_SIZE];

	if (container_name(lease, name, err) < 0)
		return -1;
	call.path = arena_printf(&arena, "/containers/%s/archive?path=%s", name,
				 url_escape(&arena, path));
	if (docker_send(rt, &call, &res, err) < 0) {
		if (copy.too_large)
			return err_set(err, ERR_TOO_LARGE,
				       "%.100s has more than the %" PRId64
				       " bytes that are left for results",
				       path, max_bytes);
		if (copy.err.code != ERR_NONE)
			*err = copy.err;
		return err_wrap(err, "copying %.60s", path);
	}
	if (res.status >= 400)
		return docker_fail(&res, "copying out of the container", err);
	return 0;
}
