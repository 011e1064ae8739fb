#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Newest API version whose changes we know; the engine's own is taken if it is older.
 * Oldest with what we need (device requests): Docker 19.03. */
#define API_MINOR_MAX	 45
#define API_MINOR_MIN	 40
#define ANSWER_MAX	 ((size_t)16 << 20)
#define IDLE_CLIENTS_MAX 8
#define PING_TIMEOUT_MS	 (2 * SECOND_MS)

static struct http_client *client_get(struct runtime *rt)
{
	struct http_client *client = NULL;

	pthread_mutex_lock(&rt->lock);
	if (rt->idle.len > 0)
		client = rt->idle.items[--rt->idle.len];
	pthread_mutex_unlock(&rt->lock);
	return client ? client : http_client_new();
}

static void client_put(struct runtime *rt, struct http_client *client)
{
	pthread_mutex_lock(&rt->lock);
	if (rt->idle.len < IDLE_CLIENTS_MAX)
		*vec_push(&rt->idle) = take_ptr(client);
	pthread_mutex_unlock(&rt->lock);
	if (client)
		http_client_free(client);
}

/* Why nobody answers, as far as the socket's file tells. */
static int socket_fail(const struct runtime *rt, const struct err *cause, struct err *err)
{
	if (faccessat(AT_FDCWD, rt->socket, R_OK | W_OK, AT_EACCESS) == 0)
		return err_set(err, ERR_UNAVAILABLE, "the container engine at %s: %s",
			       rt->socket, cause->text);
	if (errno == EACCES)
		return err_set(
			err, ERR_FORBIDDEN,
			"no permission to use the container engine at %s: run as root, or as "
			"a member "
			"of the socket's group",
			rt->socket);
	return err_set(
		err, ERR_UNAVAILABLE,
		"there is no container engine at %s: is Docker or Podman running, and is this "
		"its "
		"socket?",
		rt->socket);
}

/* Where we are short of descriptors we cannot tell. */
static bool is_refused(const struct runtime *rt)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || str_copy(address.sun_path, sizeof(address.sun_path), rt->socket) < 0)
		return false;
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
	       (errno == ECONNREFUSED || errno == ENOENT);
}

enum runtime_presence runtime_presence(struct runtime *rt)
{
	const struct http_call ping = { .method = HTTP_GET,
					.url = "http://engine/_ping",
					.unix_socket = rt->socket,
					.timeout_ms = PING_TIMEOUT_MS };
	cleanup(http_result_release) struct http_result answer = { .body = STRBUF_INIT };
	struct http_client *fresh;
	struct err ignored = { 0 };
	int rc;

	if (is_refused(rt))
		return RUNTIME_GONE;
	fresh = http_client_new(); /* with no connection that is there */
	rc = http_call(fresh, &ping, &answer, &ignored);
	http_client_free(fresh);
	return rc < 0 ? RUNTIME_SILENT : RUNTIME_THERE;
}

int docker_send(struct runtime *rt, const struct docker_call *call, struct http_result *ret,
		struct err *err)
{
	cleanup_strbuf struct strbuf url = STRBUF_INIT;
	struct http_client *client = client_get(rt);
	struct http_header_item headers[2];
	struct http_call http = {
		.method = call->method,
		.unix_socket = rt->socket,
		.headers = headers,
		.body = call->body,
		.timeout_ms = call->timeout_ms,
		.idle_timeout_ms = call->idle_timeout_ms,
		.response_max = ANSWER_MAX,
		.on_data = call->on_data,
		.cancel = call->cancel,
		.arg = call->arg,
	};
	struct err e = { 0 };
	int rc;

	strbuf_addf(&url, "http://engine%s%s", rt->prefix, call->path);
	http.url = url.buf;
	if (call->body.ptr)
		headers[http.header_count++] =
			(struct http_header_item){ "Content-Type", "application/json" };
	if (call->registry_auth)
		headers[http.header_count++] =
			(struct http_header_item){ "X-Registry-Auth", call->registry_auth };
	rc = http_call(client, &http, ret, &e);
	client_put(rt, client);
	if (rc < 0 && e.code == ERR_UNAVAILABLE)
		return socket_fail(rt, &e, err);
	if (rc < 0 && err) {
		*err = e;
		err_wrap(err, "the container engine at %s", rt->socket);
	}
	return rc;
}

/* {"message": "…"} of Docker, {"cause": …, "message": …} of Podman. */
const char *docker_words(const struct http_result *res, struct arena *arena)
{
	struct json *answer;
	const char *words;

	if (json_parse((struct slice){ res->body.buf, res->body.len }, arena, &answer, NULL) ==
	    0) {
		words = json_text(answer, "message");
		if (*words)
			return words;
	}
	return arena_printf(arena, "status %d", res->status);
}

int docker_fail(const struct http_result *res, const char *doing, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	enum err_code code = ERR_UNAVAILABLE;
	const char *words;

	if (res->status == 404)
		code = ERR_NOT_FOUND;
	else if (res->status == 409)
		code = ERR_CONFLICT;
	else if (res->status >= 400 && res->status < 500)
		code = ERR_INVALID;
	else if (res->status == 501)
		code = ERR_UNSUPPORTED;
	words = docker_words(res, &arena);
	if (res->status == 500 &&
	    strstr(words, "container state improper")) /* Podman's conflict */
		code = ERR_CONFLICT;
	return err_set(err, code, "%s: %s", doing, words);
}

int docker_do(struct runtime *rt, const struct docker_call *call, const char *doing,
	      struct err *err)
{
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };

	if (docker_send(rt, call, &res, err) < 0)
		return err_wrap(err, "%s", doing);
	if (res.status >= 400)
		return docker_fail(&res, doing, err);
	return 0;
}

int docker_get(struct runtime *rt, const char *path, const char *doing, struct arena *arena,
	       struct json **ret, struct err *err)
{
	struct docker_call call = { .method = HTTP_GET,
				    .path = path,
				    .timeout_ms = DOCKER_TIMEOUT_MS };
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };

	if (docker_send(rt, &call, &res, err) < 0)
		return err_wrap(err, "%s", doing);
	if (res.status >= 400)
		return docker_fail(&res, doing, err);
	if (json_parse((struct slice){ res.body.buf, res.body.len }, arena, ret, err) < 0)
		return err_wrap(err, "%s: the engine's answer", doing);
	return 0;
}

int container_name(const char *lease, char ret[static CONTAINER_NAME_SIZE], struct err *err)
{
	if (!id_valid(lease, "le"))
		return err_set_field(err, "lease", "'%.40s' is not the id of a lease", lease);
	snprintf(ret, CONTAINER_NAME_SIZE, "tes-%s", lease);
	return 0;
}

/* Chooses the newest API version that both sides know. */
static int negotiate(struct runtime *rt, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct json *version;
	const struct json *components;
	int64_t newest, oldest = API_MINOR_MIN;
	const char *api, *api_min;

	if (docker_get(rt, "/version", "asking for the engine's version", &arena, &version,
		       err) < 0)
		return -1;
	api = json_text(version, "ApiVersion");
	api_min = json_text(version, "MinAPIVersion");
	if (!str_starts(api, "1.") || int_parse(api + 2, 0, 1000, &newest, NULL) < 0)
		return err_set(err, ERR_UNSUPPORTED,
			       "%s does not speak Docker's engine API: its version is '%.40s'",
			       rt->socket, api);
	if (str_starts(api_min, "1.") && int_parse(api_min + 2, 0, 1000, &oldest, NULL) < 0)
		oldest = API_MINOR_MIN;
	if (newest < API_MINOR_MIN)
		return err_set(
			err, ERR_UNSUPPORTED,
			"the engine at %s speaks API version %.20s; 1.%d is needed (Docker "
			"19.03, Podman 3)",
			rt->socket, api, API_MINOR_MIN);
	rt->api_minor = (int)MAX(MIN(newest, API_MINOR_MAX), oldest);
	snprintf(rt->prefix, sizeof(rt->prefix), "/v1.%d", rt->api_minor);
	components = json_find(version, "Components");
	if (components && components->kind == JSON_ARRAY && components->count > 0)
		rt->podman = str_starts(json_text(&components->items[0], "Name"), "Podman");
	snprintf(rt->info.engine, sizeof(rt->info.engine), "%s",
		 rt->podman ? "podman" : "docker");
	snprintf(rt->info.version, sizeof(rt->info.version), "%s",
		 json_text(version, "Version"));
	return 0;
}

int runtime_docker_open(const char *socket, const char *worker_id, struct runtime **ret,
			struct err *err)
{
	struct runtime *rt;

	if (!id_valid(worker_id, "wk"))
		return err_set_field(err, "worker", "'%.40s' is not the id of a worker",
				     worker_id);
	rt = xcalloc(1, sizeof(*rt));
	pthread_mutex_init(&rt->lock, NULL);
	if (str_copy(rt->socket, sizeof(rt->socket), socket) < 0) {
		err_set(err, ERR_INVALID,
			"the engine's socket path has over %zu bytes: %.100s…",
			sizeof(rt->socket) - 1, socket);
		goto fail;
	}
	memcpy(rt->worker_id, worker_id, ID_LEN + 1);
	if (negotiate(rt, err) < 0 || info_read(rt, err) < 0)
		goto fail;
	events_start(rt);
	*ret = rt;
	return 0;
fail:
	runtime_close(rt);
	return -1;
}

void runtime_close(struct runtime *rt)
{
	if (!rt)
		return;
	for (size_t i = 0; i < rt->idle.len; i++)
		http_client_free(rt->idle.items[i]);
	vec_release(&rt->idle);
	pthread_mutex_destroy(&rt->lock);
	free(rt);
}
