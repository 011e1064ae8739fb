#include "../jail/jail.h"
#include "internal.h"

#include <errno.h>

#include <strings.h>

/* Pulling aside, nothing that the engine does for one container takes longer on a machine
 * that still works. */
#define CHANGE_TIMEOUT_MS (120 * SECOND_MS)

static int inspect(struct runtime *rt, const char *lease, struct arena *arena,
		   struct json **ret, struct err *err)
{
	char name[CONTAINER_NAME_SIZE];

	if (container_name(lease, name, err) < 0)
		return -1;
	return docker_get(rt, arena_printf(arena, "/containers/%s/json", name),
			  "looking at the container", arena, ret, err);
}

/* POST /containers/<name>/<action>; what is as wanted already (304) is fine. */
static int change(struct runtime *rt, const char *lease, const char *action, const char *doing,
		  int64_t timeout_ms, struct err *err)
{
	cleanup_strbuf struct strbuf path = STRBUF_INIT;
	char name[CONTAINER_NAME_SIZE];
	struct docker_call call = { .method = HTTP_POST, .timeout_ms = timeout_ms };

	if (container_name(lease, name, err) < 0)
		return -1;
	strbuf_addf(&path, "/containers/%s/%s", name, action);
	call.path = path.buf;
	return docker_do(rt, &call, doing, err);
}

/* There is a container of that name: is it the one that was to be made? */
static int create_again(struct runtime *rt, const struct container_spec *spec, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct json *answer;
	const struct json *labels;
	const char *worker;
	int64_t generation;

	if (inspect(rt, spec->lease, &arena, &answer, err) < 0)
		return -1;
	labels = json_path(answer, "Config", "Labels");
	worker = json_text(labels, LABEL_WORKER);
	if (!str_eq(worker, rt->worker_id))
		return err_set(err, ERR_CONFLICT,
			       "container tes-%s exists, but belongs to worker '%.40s'",
			       spec->lease, worker);
	if (int_parse(json_text(labels, LABEL_GENERATION), 0, INT64_MAX, &generation, NULL) <
		    0 ||
	    generation != spec->generation)
		return err_set(err, ERR_CONFLICT,
			       "container tes-%s is of generation %.20s, not %" PRId64
			       ": remove it first",
			       spec->lease, json_text(labels, LABEL_GENERATION),
			       spec->generation);
	return 0;
}

int runtime_create(struct runtime *rt, const struct container_spec *spec, struct err *err)
{
	cleanup_strbuf struct strbuf body = STRBUF_INIT, path = STRBUF_INIT;
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };
	struct docker_call call = { .method = HTTP_POST, .timeout_ms = CHANGE_TIMEOUT_MS };
	char name[CONTAINER_NAME_SIZE];
	int rc;

	assert(spec->resources && spec->resources->memory_mib > 0 &&
	       spec->resources->cpu_milli > 0);
	if (container_name(spec->lease, name, err) < 0 || create_body(rt, spec, &body, err) < 0)
		return -1;
	strbuf_addf(&path, "/containers/create?name=%s", name);
	call.path = path.buf;
	call.body = (struct slice){ body.buf, body.len };
	rc = docker_send(rt, &call, &res, err);
	explicit_bzero(body.buf, body.len);
	if (rc < 0)
		return err_wrap(err, "making the container");
	/* Podman says 500 and these words. */
	if (res.status == 409 || (res.status == 500 && strstr(res.body.buf, "already in use")))
		return create_again(rt, spec, err);
	if (res.status >= 400)
		return docker_fail(&res, "making the container", err);
	return 0;
}

/* Where runc has the container ready and looks for its command, what follows is the command's
 * fault; the same words of a hook or of runc itself are the machine's. */
static const char *runc_exec(const char *words)
{
	static const char *const starts[] = { ": exec: ", " caused: exec: ",
					      " caused \"exec: " };
	const char *tail = strstr(words, "container process");

	if (!tail)
		return NULL;
	tail += strlen("container process");
	for (size_t i = 0; i < ARRAY_LEN(starts); i++)
		if (str_starts(tail, starts[i]))
			return tail;
	return NULL;
}

int command_fault(const char *words)
{
	const char *runc = runc_exec(words);
	bool crun = strcasestr(words, "executable file `") || strcasestr(words, "open executable:") ||
		    strcasestr(words, "attempted to invoke a command that was not found");

	if (!runc && !crun)
		return 0;
	if (runc)
		words = runc;
	if (strcasestr(words, "permission denied") || strcasestr(words, "is a directory"))
		return EACCES;
	return strcasestr(words, "exec format error") ? ENOEXEC : ENOENT;
}

/* An engine that gave containers another hardware address than we ask for would leave them
 * outside the jail: find out at the first start. */
static int mac_check(struct runtime *rt, const char *lease, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	const struct json *networks;
	struct json *answer;
	bool ours = true, known = false;

	if (inspect(rt, lease, &arena, &answer, err) < 0)
		return -1;
	networks = json_path(answer, "NetworkSettings", "Networks");
	for (size_t i = 0;
	     networks && networks->kind == JSON_OBJECT && i < networks->member_count; i++) {
		const char *mac = json_text(&networks->members[i].value, "MacAddress");

		known |= *mac != '\0';
		ours &= !*mac || jail_mac_is(mac);
	}
	if (!ours) {
		(void)!runtime_remove(rt, lease, NULL);
		return err_set(
			err, ERR_UNSUPPORTED,
			"%s %s does not give containers the hardware address by which the "
			"packet filter "
			"knows them: nothing can be run safely",
			rt->info.engine, rt->info.version);
	}
	/* A container that has ended already does not tell. */
	__atomic_store_n(&rt->mac_checked, known, __ATOMIC_RELAXED);
	return 0;
}

int runtime_start(struct runtime *rt, const char *lease, struct err *err)
{
	struct err e = { 0 };

	if (change(rt, lease, "start", "starting the container", CHANGE_TIMEOUT_MS, &e) == 0)
		return __atomic_load_n(&rt->mac_checked, __ATOMIC_RELAXED)
			       ? 0
			       : mac_check(rt, lease, err);
	e.sys = command_fault(e.text);
	if (e.sys)
		e.code = ERR_INVALID;
	*err = e;
	return -1;
}

static int state_get(struct runtime *rt, const char *lease, enum container_state *ret,
		     struct err *err)
{
	struct container_status status;

	if (runtime_status(rt, lease, &status, err) < 0)
		return -1;
	*ret = status.state;
	return 0;
}

/* Engines refuse what has been done already, each with a status of its own: the state
 * decides. */
static int change_unless(struct runtime *rt, const char *lease, const char *action,
			 const char *doing, enum container_state wanted, struct err *err)
{
	enum container_state state;
	struct err e = { 0 };

	if (change(rt, lease, action, doing, CHANGE_TIMEOUT_MS, &e) == 0)
		return 0;
	if ((e.code == ERR_CONFLICT || e.code == ERR_UNAVAILABLE) &&
	    state_get(rt, lease, &state, NULL) == 0 && state == wanted)
		return 0;
	*err = e;
	return -1;
}

int runtime_pause(struct runtime *rt, const char *lease, struct err *err)
{
	return change_unless(rt, lease, "pause", "pausing the container", CONTAINER_PAUSED,
			     err);
}

int runtime_unpause(struct runtime *rt, const char *lease, struct err *err)
{
	return change_unless(rt, lease, "unpause", "resuming the container", CONTAINER_RUNNING,
			     err);
}

/* What is killed must still be scheduled to die: the thousand processes of a fork bomb that
 * share a tenth of a processor need half an hour for it.  Best effort: Podman's engine of
 * version 4 cannot change it. */
static void cpu_lend(struct runtime *rt, const char *lease)
{
	static const char body[] = "{\"NanoCpus\":1000000000}";
	cleanup_arena struct arena arena = { 0 };
	struct docker_call call = { .method = HTTP_POST,
				    .timeout_ms = DOCKER_TIMEOUT_MS,
				    .body = { body, sizeof(body) - 1 } };
	char name[CONTAINER_NAME_SIZE];
	struct json *answer;
	int64_t has;

	if (container_name(lease, name, NULL) < 0 ||
	    inspect(rt, lease, &arena, &answer, NULL) < 0)
		return;
	has = json_int(json_find(answer, "HostConfig"), "NanoCpus");
	if (has <= 0 || has >= 1000000000)
		return;
	call.path = arena_printf(&arena, "/containers/%s/update", name);
	(void)!docker_do(rt, &call, "lending it a processor", NULL);
}

int runtime_stop(struct runtime *rt, const char *lease, int64_t grace_ms, struct err *err)
{
	char action[48];
	enum container_state state;
	struct err e = { 0 };

	snprintf(action, sizeof(action), "stop?t=%" PRId64, (MAX(grace_ms, 0) + 999) / 1000);
	for (int tries = 0; tries < 2; tries++) {
		if (state_get(rt, lease, &state, &e) < 0)
			break;
		if (state == CONTAINER_ABSENT || state == CONTAINER_CREATED ||
		    state == CONTAINER_EXITED)
			return 0;
		/* What is frozen does not hear TERM. */
		if (state == CONTAINER_PAUSED && runtime_unpause(rt, lease, &e) < 0)
			break;
		cpu_lend(rt, lease);
		if (change(rt, lease, action, "stopping the container",
			   MAX(grace_ms, 0) + CHANGE_TIMEOUT_MS, &e) == 0 ||
		    e.code == ERR_NOT_FOUND)
			return 0;
	}
	*err = e;
	return -1;
}

int runtime_remove(struct runtime *rt, const char *lease, struct err *err)
{
	cleanup_strbuf struct strbuf path = STRBUF_INIT;
	char name[CONTAINER_NAME_SIZE];
	struct docker_call call = { .method = HTTP_DELETE, .timeout_ms = CHANGE_TIMEOUT_MS };
	struct err e = { 0 };

	if (container_name(lease, name, err) < 0)
		return -1;
	strbuf_addf(&path, "/containers/%s?force=1&v=1", name);
	call.path = path.buf;
	if (docker_do(rt, &call, "removing the container", &e) < 0 && e.code != ERR_NOT_FOUND) {
		enum container_state state;

		cpu_lend(rt, lease);
		/* Another call is at it (409), or was. */
		if (e.code != ERR_CONFLICT || state_get(rt, lease, &state, NULL) < 0 ||
		    state != CONTAINER_ABSENT) {
			*err = e;
			return -1;
		}
	}
	return 0;
}

int runtime_status(struct runtime *rt, const char *lease, struct container_status *ret,
		   struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct err e = { 0 };
	struct json *answer;

	if (inspect(rt, lease, &arena, &answer, &e) == 0) {
		status_read(rt, answer, ret);
		return 0;
	}
	if (e.code != ERR_NOT_FOUND) {
		*err = e;
		return -1;
	}
	memset(ret, 0, sizeof(*ret));
	snprintf(ret->lease, sizeof(ret->lease), "%s", lease);
	return 0;
}
