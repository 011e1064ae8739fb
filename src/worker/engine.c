/* The container engine as a whole: that it answers, what happens in it, the packet filter
 * around it, what is left over in it from earlier; and with that what this machine offers. */
#include "internal.h"

#include "jail/jail.h"

#include <unistd.h>

#define CARE_EVERY_MS	   (5 * SECOND_MS)
#define INVENTORY_EVERY_MS (30 * SECOND_MS)
#define ENGINE_RETRY_MS	   1000

int64_t system_boot_ms(void)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err ignored = { 0 };
	const char *at;

	if (file_read("/proc/stat", 4 << 20, &text, &ignored) < 0)
		return 0;
	at = strstr(text.buf, "\nbtime ");
	return at ? strtoll(at + 7, NULL, 10) * SECOND_MS : 0;
}

int engine_open(const char *socket, const char *worker_id, struct runtime **ret,
		struct err *err)
{
	static const char *const known[] = { "/var/run/docker.sock",
					     "/run/podman/podman.sock" };
	struct err e = { 0 };
	char any[ID_SIZE];

	if (!worker_id) {
		id_make("wk", now_ms_get(), &random_system, any);
		worker_id = any;
	}
	if (!str_eq(socket, "auto"))
		return runtime_docker_open(socket, worker_id, ret, err);
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (access(known[i], F_OK) < 0)
			continue;
		err_clear(&e);
		if (runtime_docker_open(known[i], worker_id, ret, &e) == 0)
			return 0;
	}
	if (e.code) {
		*err = e;
		return -1;
	}
	return err_set(
		err, ERR_UNAVAILABLE,
		"no container engine: neither %s nor %s is there; install Docker or Podman, or set [engine] socket",
		known[0], known[1]);
}

void agent_problem_set(struct agent *w, const char *problem)
{
	bool changed;

	pthread_mutex_lock(&w->lock);
	changed = !str_eq(w->problem, problem ? problem : "");
	snprintf(w->problem, sizeof(w->problem), "%s", problem ? problem : "");
	pthread_mutex_unlock(&w->lock);
	if (!changed)
		return;
	if (problem)
		log_line(LOG_ERROR, "nothing can run on this machine now", "problem", problem,
			 NULL);
	else
		log_line(LOG_INFO, "workloads can run on this machine", NULL);
	agent_inventory_refresh(w);
}

bool agent_has_problem(struct agent *w)
{
	bool ret;

	pthread_mutex_lock(&w->lock);
	ret = w->problem[0];
	pthread_mutex_unlock(&w->lock);
	return ret;
}

int agent_jail_ensure(struct agent *w, int64_t max_age_ms, struct err *err)
{
	bool required = agent_config(w)->jail_required;
	int64_t now = time_monotonic_ms(), last;
	int rc = 0;

	pthread_mutex_lock(&w->jail_lock);
	/* Where it cannot be and need not be, it is not tried for each container either. */
	last = required ? w->jail_checked_ms : w->jail_tried_ms;
	if (!last || now - last > max_age_ms) {
		struct err e = { 0 };

		rc = w->jail_checked_ms ? jail_check(&e) : -1;
		if (rc < 0) {
			err_clear(&e);
			rc = jail_apply(&e);
		}
		w->jail_tried_ms = now;
		/* What is known to be gone does not count as there for a while yet. */
		w->jail_checked_ms = rc == 0 ? now : 0;
		if (rc < 0 && required)
			*err = e;
		else
			rc = 0;
	}
	pthread_mutex_unlock(&w->jail_lock);
	return rc;
}

static int64_t agent_disk_used(struct agent *w)
{
	size_t it = 0;
	const char *id;
	void *value;
	int64_t sum = 0;

	while (map_next(w->leases, &it, &id, &value)) {
		struct lease_run *l = value;

		pthread_mutex_lock(&l->lock);
		sum += l->disk_used_bytes;
		pthread_mutex_unlock(&l->lock);
	}
	return sum;
}

/* ---- inventory ---- */

void agent_inventory_refresh(struct agent *w)
{
	struct arena fresh = { 0 };
	cleanup_strbuf struct strbuf before = STRBUF_INIT, after = STRBUF_INIT;
	struct inventory inv = { 0 };
	struct text_list problems = { 0 };
	struct err err = { 0 };
	struct disk_before disk = { 0 };
	struct runtime_info engine;
	char problem[sizeof(w->problem)];

	pthread_mutex_lock(&w->inventory_lock);
	pthread_mutex_lock(&w->lock);
	snprintf(problem, sizeof(problem), "%s", w->problem);
	engine = w->engine;
	disk.known_mib = w->inventory.disk_mib;
	disk.used_by_leases_mib = agent_disk_used(w) >> 20;
	pthread_mutex_unlock(&w->lock);
	if (inventory_make(agent_config(w), engine.engine[0] ? &engine : NULL,
			   problem[0] ? problem : NULL, now_ms_get(), &disk, &fresh, &inv,
			   &problems, &err) < 0) {
		log_err(LOG_ERROR, &err, "this machine's inventory cannot be made", NULL);
		arena_release(&fresh);
		pthread_mutex_unlock(&w->inventory_lock);
		return;
	}
	pthread_mutex_lock(&w->lock);
	if (w->inventory.hostname)
		schema_write(&inventory_type, &w->inventory, &before);
	schema_write(&inventory_type, &inv, &after);
	if (str_eq(before.buf, after.buf)) {
		pthread_mutex_unlock(&w->lock);
		arena_release(&fresh);
	} else {
		arena_release(&w->inventory_arena);
		w->inventory_arena = fresh;
		w->inventory = inv;
		w->inventory_changed = true;
		w->due_ms = 0;
		pthread_cond_broadcast(&w->cond);
		pthread_mutex_unlock(&w->lock);
	}
	pthread_mutex_unlock(&w->inventory_lock);
}

bool agent_device_is_simulated(struct agent *w, const char *uuid)
{
	bool ret = false;

	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->inventory.devices.len; i++)
		if (str_eq(w->inventory.devices.items[i].uuid, uuid))
			ret = w->inventory.devices.items[i].simulated;
	pthread_mutex_unlock(&w->lock);
	return ret;
}

/* ---- events ---- */

static bool engine_is_away(struct agent *w)
{
	bool ret;

	pthread_mutex_lock(&w->lock);
	ret = w->engine_away;
	pthread_mutex_unlock(&w->lock);
	return ret;
}

void agent_jail_care(struct agent *w, int64_t max_age_ms)
{
	struct err err = { 0 };

	if (engine_is_away(w))
		return; /* that is the problem, and it makes its rules anew when it is back */
	if (agent_jail_ensure(w, max_age_ms, &err) < 0) {
		err_wrap(&err,
			 "the network of workloads cannot be closed off ([jail] required)");
		agent_problem_set(w, err.text);
	} else {
		agent_problem_set(w, NULL);
	}
}

static void engine_is_back(struct agent *w)
{
	pthread_mutex_lock(&w->lock);
	w->engine_away = false;
	if (w->engine_gone_ms)
		w->engine_back_ms = now_ms_get();
	pthread_mutex_unlock(&w->lock);
	/* A restarted engine has made its rules anew. */
	pthread_mutex_lock(&w->jail_lock);
	w->jail_checked_ms = w->jail_tried_ms = 0;
	pthread_mutex_unlock(&w->jail_lock);
	pthread_mutex_lock(&w->lock);
	w->orphans_due |= w->synced;
	pthread_mutex_unlock(&w->lock);
	agent_jail_care(w, 0);
	agent_inventory_refresh(w);
}

/* What listened to it was cut off: the engine has ended, even if one answers again at once, for which
 * systemd's socket may have kept us waiting. */
static void engine_has_ended(struct agent *w)
{
	pthread_mutex_lock(&w->lock);
	if (!w->engine_gone_ms || w->engine_back_ms >= w->engine_gone_ms)
		w->engine_gone_ms = now_ms_get();
	pthread_mutex_unlock(&w->lock);
}

static void engine_is_gone(struct agent *w, const struct err *err)
{
	engine_has_ended(w);
	pthread_mutex_lock(&w->lock);
	w->engine_away = true;
	pthread_mutex_unlock(&w->lock);
	agent_problem_set(w, err->text);
}

static int engine_ask(struct agent *w, struct runtime *rt, struct err *err)
{
	struct runtime_info info;

	if (runtime_info(rt, &info, err) < 0)
		return -1;
	pthread_mutex_lock(&w->lock);
	w->engine = info;
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static int engine_find(struct agent *w, struct err *err)
{
	struct runtime *rt;

	if (w->rt)
		return engine_ask(w, w->rt, err);
	if (engine_open(agent_config(w)->engine_socket, w->id.worker_id, &rt, err) < 0)
		return -1;
	if (engine_ask(w, rt, err) < 0) {
		runtime_close(rt);
		return -1;
	}
	__atomic_store_n(&w->rt, rt, __ATOMIC_RELEASE);
	log_line(LOG_INFO, "container engine found", "engine", w->engine.engine, "version",
		 w->engine.version, NULL);
	return 0;
}

static void pause_for(struct agent *w, int64_t ms)
{
	int64_t until = time_monotonic_ms() + ms;

	pthread_mutex_lock(&w->lock);
	while (!agent_stopping(w) && cond_wait_until(&w->cond, &w->lock, until))
		;
	pthread_mutex_unlock(&w->lock);
}

static void on_engine_event(void *arg, const char *lease)
{
	agent_wake_lease(arg, lease);
}

void *engine_thread(void *arg)
{
	struct agent *w = arg;
	bool there = false, ended;
	int64_t begun_ms;

	while (!agent_stopping(w)) {
		struct err err = { 0 };

		if (!there) {
			if (engine_find(w, &err) < 0) {
				engine_is_gone(w, &err);
				pause_for(w, ENGINE_RETRY_MS);
				continue;
			}
			there = true;
			engine_is_back(w);
		}
		agent_wake_lease(w, NULL); /* what happened while nobody listened */
		begun_ms = time_monotonic_ms();
		if (runtime_events(w->rt, &w->stopping, on_engine_event, w, &err) == 0)
			break;
		/* One that does not tell has not ended. */
		ended = time_monotonic_ms() - begun_ms > ENGINE_RETRY_MS;
		if (ended)
			engine_has_ended(w);
		there = runtime_presence(w->rt) != RUNTIME_GONE && engine_ask(w, w->rt, &err) == 0;
		if (there && ended)
			engine_is_back(w);
		if (there) /* not again and again */
			pause_for(w, ENGINE_RETRY_MS);
	}
	return NULL;
}

/* ---- care ---- */

static bool is_idle(struct agent *w)
{
	bool ret;

	pthread_mutex_lock(&w->lock);
	ret = map_count(w->leases) == 0;
	pthread_mutex_unlock(&w->lock);
	return ret;
}

/* Containers of this worker that belong to no lease it has: what a crash or a lost journal left
 * behind. */
static void orphans_remove(struct agent *w)
{
	cleanup_arena struct arena a = { 0 };
	struct container_status *list;
	struct err err = { 0 };
	size_t len;
	bool due;

	pthread_mutex_lock(&w->lock);
	due = w->orphans_due;
	pthread_mutex_unlock(&w->lock);
	if (!due)
		return;
	if (runtime_list(w->rt, &a, &list, &len, &err) < 0) {
		log_err(LOG_WARN, &err, "cannot look for containers that are left over", NULL);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		bool known;

		pthread_mutex_lock(&w->lock);
		known = map_find(w->leases, list[i].lease);
		pthread_mutex_unlock(&w->lock);
		if (known)
			continue;
		log_line(LOG_WARN, "removing a container that belongs to no lease", "lease",
			 list[i].lease, NULL);
		if (runtime_remove(w->rt, list[i].lease, &err) < 0)
			log_err(LOG_WARN, &err, "cannot remove it", "lease", list[i].lease,
				NULL);
	}
	pthread_mutex_lock(&w->lock);
	w->orphans_due = false;
	pthread_mutex_unlock(&w->lock);
}

static void care_pause(struct agent *w)
{
	int64_t until = time_monotonic_ms() + CARE_EVERY_MS;

	pthread_mutex_lock(&w->lock);
	while (!agent_stopping(w) && w->finished_count < REAP_COUNT &&
	       cond_wait_until(&w->care_cond, &w->lock, until))
		;
	pthread_mutex_unlock(&w->lock);
}

void *care_thread(void *arg)
{
	struct agent *w = arg;
	int64_t inventory_ms = 0;

	while (!agent_stopping(w)) {
		agent_reap(w);
		if (agent_runtime(w)) {
			agent_jail_care(w, CARE_EVERY_MS / 2);
			orphans_remove(w);
		}
		if (time_monotonic_ms() - inventory_ms >= INVENTORY_EVERY_MS) {
			agent_inventory_refresh(w);
			inventory_ms = time_monotonic_ms();
			if (is_idle(w))
				memory_give_back();
		}
		care_pause(w);
	}
	return NULL;
}
