/* `tes-worker check`: can this machine run workloads?  Every failure names its cause and the
 * next step. */
#include "internal.h"

#include "jail/jail.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum verdict { CHECK_OK, CHECK_SKIPPED, CHECK_WARNING, CHECK_FAILED };
static const char *const verdict_names[] = { "ok", "skipped", "warning", "failed" };

struct check {
	const char *name;
	enum verdict verdict;
	char text[400], next[300];
};
#define CHECKS_MAX 16
struct checks {
	const struct command_args *args;
	struct check items[CHECKS_MAX];
	size_t count;
	struct runtime *rt;
	struct runtime_info engine;
};

static void told(struct checks *cs, const char *name, enum verdict v, const char *next,
		 const char *fmt, ...) printf_like(5, 6);
static void told(struct checks *cs, const char *name, enum verdict v, const char *next,
		 const char *fmt, ...)
{
	struct check *c = &cs->items[cs->count++];
	va_list ap;

	assert(cs->count <= CHECKS_MAX);
	c->name = name;
	c->verdict = v;
	snprintf(c->next, sizeof(c->next), "%s", next ? next : "");
	va_start(ap, fmt);
	vsnprintf(c->text, sizeof(c->text), fmt, ap);
	va_end(ap);
}

static void check_state(struct checks *cs)
{
	const char *dir = cs->args->config->state_dir;
	struct err err = { 0 };
	struct stat st;
	cleanup_free char *probe = path_join(dir, "check");

	if (stat(dir, &st) < 0 && errno == ENOENT) {
		told(cs, "state", CHECK_SKIPPED, "join makes it", "%s does not exist yet", dir);
		return;
	}
	if (file_write_atomic(probe, "", 0, 0600, &err) < 0) {
		told(cs, "state", CHECK_FAILED,
		     "run as the user that owns it, or set [worker] state_dir", "%s", err.text);
		return;
	}
	unlink(probe);
	told(cs, "state", CHECK_OK, NULL, "%s can be written", dir);
}

static void check_key(struct checks *cs)
{
	const char *dir = cs->args->config->state_dir;
	cleanup_free char *path = path_join(dir, "key");
	struct err err = { 0 };

	if (access(path, F_OK) < 0)
		told(cs, "key", CHECK_SKIPPED, "tes-worker join URL --token T makes it",
		     "this machine has not joined yet");
	else if (identity_check(dir, &err) < 0)
		told(cs, "key", CHECK_FAILED, "chmod 600 it", "%s", err.text);
	else
		told(cs, "key", CHECK_OK, NULL, "only its owner can read it");
}

static void check_server(struct checks *cs)
{
	struct identity id = { 0 };
	struct err err = { 0 };
	struct link *link;
	int64_t skew;

	if (identity_load(cs->args->config->state_dir, &id, &err) < 0) {
		if (err.code == ERR_NOT_FOUND)
			told(cs, "server", CHECK_SKIPPED, "tes-worker join URL --token T",
			     "this machine has not joined yet");
		else
			told(cs, "server", CHECK_FAILED, "mend the state directory", "%s",
			     err.text);
		return;
	}
	state_boot_read(cs->args->config->state_dir, id.boot_id);
	link = link_new(&id, cs->args->config->ca_file);
	if (link_probe(link, &skew, &err) < 0)
		told(cs, "server", CHECK_FAILED,
		     err.field[0] && strstr(err.field, "time")
			     ? "set the clock: systemctl enable --now systemd-timesyncd"
			     : "check the address, the network and the clock",
		     "%s", err.text);
	else if (llabs(skew) > API_CLOCK_SKEW_MS / 2)
		told(cs, "server", CHECK_WARNING,
		     "set the clock: systemctl enable --now systemd-timesyncd",
		     "%s answers; our clock is off by %" PRId64 " ms", id.server, -skew);
	else
		told(cs, "server", CHECK_OK, NULL,
		     "%s knows worker %s; clocks differ by %lld ms", id.server, id.worker_id,
		     llabs(skew));
	link_free(link);
	explicit_bzero(&id, sizeof(id));
}

static void check_engine(struct checks *cs)
{
	struct err err = { 0 };

	if (engine_open(cs->args->config->engine_socket, NULL, &cs->rt, &err) < 0 ||
	    runtime_info(cs->rt, &cs->engine, &err) < 0) {
		told(cs, "engine", CHECK_FAILED,
		     "start Docker or Podman's socket, and run as a user that may use it", "%s",
		     err.text);
		return;
	}
	told(cs, "engine", CHECK_OK, NULL, "%s %s", cs->engine.engine, cs->engine.version);
}

/* Whether /proc shows the files that a container holds open (proc(5), ptrace access mode). */
static bool sees_open_files(void)
{
	cleanup_strbuf struct strbuf status = STRBUF_INIT;
	const char *line;

	if (file_read("/proc/self/status", 64 << 10, &status, NULL) < 0)
		return false;
	line = strstr(status.buf, "\nCapEff:");
	return line && strtoull(line + strlen("\nCapEff:"), NULL, 16) >> CAP_SYS_PTRACE & 1;
}

static void check_limits(struct checks *cs)
{
	const struct runtime_info *e = &cs->engine;

	if (!e->engine[0]) {
		told(cs, "limits", CHECK_SKIPPED, NULL, "no engine");
		return;
	}
	if (!e->memory_limit || !e->cpu_limit || !e->pids_limit)
		told(cs, "limits", CHECK_FAILED,
		     "boot with cgroup controllers cpu, memory and pids (cgroup v2, no cgroup_disable=memory)",
		     "the engine cannot limit:%s%s%s", e->memory_limit ? "" : " memory",
		     e->cpu_limit ? "" : " CPU", e->pids_limit ? "" : " processes");
	else if (!e->swap_limit)
		told(cs, "limits", CHECK_WARNING, "boot with swapaccount=1, or without swap",
		     "memory, CPU and processes are limited, swap is not");
	else if (!e->storage_limit && !sees_open_files())
		told(cs, "limits", CHECK_WARNING, "run as root with CAP_SYS_PTRACE, as the unit that ships does",
		     "disk use is watched, but not of files that a workload removes and holds open");
	else
		told(cs, "limits", CHECK_OK, NULL, "memory, CPU and processes are limited%s",
		     e->storage_limit ? ", disk too" : "; disk use is watched");
	told(cs, "seccomp", e->seccomp ? CHECK_OK : CHECK_WARNING,
	     e->seccomp ? NULL : "use an engine and a kernel with seccomp",
	     e->seccomp ? "system calls of workloads are filtered"
			: "system calls of workloads are not filtered");
}

static void check_jail(struct checks *cs)
{
	struct err err = { 0 };

	if (jail_apply(&err) == 0)
		told(cs, "jail", CHECK_OK, NULL,
		     "workloads cannot reach this machine or its network");
	else
		told(cs, "jail", cs->args->config->jail_required ? CHECK_FAILED : CHECK_WARNING,
		     "run as root or with CAP_NET_ADMIN on a kernel with nftables; [jail] required = false runs workloads regardless",
		     "%s", err.text);
}

static void check_disk(struct checks *cs)
{
	const char *dirs[] = { cs->engine.root_dir[0] ? cs->engine.root_dir : "/var/lib",
			       cs->args->config->state_dir };
	char free_text[24];

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		struct err err = { 0 };
		int64_t free_bytes, total;

		if (disk_free_bytes(dirs[i], &free_bytes, &total, &err) < 0)
			continue;
		size_format(free_bytes, free_text);
		if (free_bytes < INT64_C(2) << 30 || free_bytes < total / 50)
			told(cs, "disk", CHECK_WARNING, "make room: images and results need it",
			     "%s has %s free", dirs[i], free_text);
		else
			told(cs, "disk", CHECK_OK, NULL, "%s has %s free", dirs[i], free_text);
	}
}

static void check_gpu(struct checks *cs)
{
	cleanup_arena struct arena a = { 0 };
	struct inventory inv;
	struct text_list problems;
	struct err err = { 0 };

	if (inventory_make(cs->args->config, cs->engine.engine[0] ? &cs->engine : NULL, NULL,
			   now_ms_get(), NULL, &a, &inv, &problems, &err) < 0) {
		told(cs, "hardware", CHECK_FAILED, "mend the configuration", "%s", err.text);
		return;
	}
	told(cs, "hardware", CHECK_OK, NULL,
	     "%" PRId64 " threads, %" PRId64 " MiB of memory, %zu GPUs on offer",
	     inv.cpu_threads, inv.memory_mib, inv.devices.len);
	for (size_t i = 0; i < problems.len && cs->count < CHECKS_MAX - 2; i++)
		told(cs, "hardware", CHECK_WARNING, "mend it if what it names is to be rented out",
		     "%s", problems.items[i]);
	if (inv.devices.len && !inv.devices.items[0].simulated && cs->engine.engine[0] &&
	    !cs->engine.cdi && !cs->engine.nvidia)
		told(cs, "gpu", CHECK_FAILED,
		     "install nvidia-container-toolkit and run nvidia-ctk runtime configure",
		     "there are GPUs, but the engine cannot hand them to containers");
}

/* A directory as inputs have one, which the engine must see by the same path; NULL: not joined yet. */
static const char *inputs_dir_make(struct checks *cs, char path[static 4096])
{
	const char *state_dir = cs->args->config->state_dir;

	snprintf(path, 4096, "%s/check", state_dir);
	return access(state_dir, W_OK) == 0 && (mkdir(path, 0755) == 0 || errno == EEXIST) ? path : NULL;
}

/* A container is made, started and removed. */
static void check_container(struct checks *cs)
{
	struct resources r = { .cpu_milli = 100, .memory_mib = 64, .disk_mib = 64 };
	struct text_map none = { 0 };
	char lease[ID_SIZE];
	struct image_request req = { .image = cs->args->image, .allow_local = "*",
				      .private_registries = "*" };
	struct image_got got;
	struct container_status st = { 0 };
	struct container_spec spec = {
		.lease = lease, .generation = 1, .env = &none, .secrets = &none, .resources = &r
	};
	struct err err = { 0 };
	char path[4096];
	int rc;

	if (!cs->rt || !cs->engine.engine[0] || str_empty(cs->args->image)) {
		told(cs, "container", CHECK_SKIPPED,
		     "tes-worker check --image IMAGE runs a container of it",
		     "no image was named");
		return;
	}
	id_make("le", now_ms_get(), &random_system, lease);
	spec.inputs_dir = inputs_dir_make(cs, path);
	rc = runtime_image(cs->rt, &req, &got, &err);
	if (rc == 0) {
		spec.image = got.image;
		rc = runtime_create(cs->rt, &spec, &err);
		if (rc == 0)
			rc = runtime_start(cs->rt, lease, &err);
		if (rc == 0)
			rc = runtime_status(cs->rt, lease, &st, &err);
		if (rc == 0 && !st.started_ms)
			rc = err_set(&err, ERR_UNAVAILABLE,
				     "it was started, but has not run: %s", st.error);
		struct err removing = { 0 };

		if (runtime_remove(cs->rt, lease, &removing) < 0 && rc == 0) {
			err = removing;
			rc = -1;
		}
	}
	if (spec.inputs_dir)
		rmdir(spec.inputs_dir);
	if (rc < 0)
		told(cs, "container", CHECK_FAILED,
		     strstr(err.text, "bind source") || strstr(err.text, "statfs")
			     ? "the engine sees other files than this program (a snap, a virtual machine, a private /tmp?): set [worker] state_dir to a path of both"
			     : "try it with the engine's own command line, and read the engine's log",
		     "%s", err.text);
	else
		told(cs, "container", CHECK_OK, NULL,
		     "a container of %s was made, started and removed", cs->args->image);
}

static void print_json(const struct checks *cs, bool good)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	strbuf_addf(&out, "{\"ok\":%s,\"checks\":[", good ? "true" : "false");
	for (size_t i = 0; i < cs->count; i++) {
		const struct check *c = &cs->items[i];

		strbuf_addf(&out,
			    "%s{\"name\":\"%s\",\"result\":\"%s\",\"text\":", i ? "," : "",
			    c->name, verdict_names[c->verdict]);
		json_write_text(c->text, &out);
		strbuf_adds(&out, ",\"next\":");
		json_write_text(c->next[0] ? c->next : NULL, &out);
		strbuf_addc(&out, '}');
	}
	strbuf_adds(&out, "]}");
	puts(out.buf);
}

static void print_text(const struct checks *cs)
{
	for (size_t i = 0; i < cs->count; i++) {
		const struct check *c = &cs->items[i];
		cleanup_strbuf struct strbuf text = STRBUF_INIT;

		strbuf_add_escaped(&text, c->text, strlen(c->text));
		printf("%-8s %-10s %s\n", verdict_names[c->verdict], c->name, text.buf);
		if (c->verdict != CHECK_OK && c->next[0])
			printf("%-8s %-10s next: %s\n", "", "", c->next);
	}
}

int command_check(const struct command_args *args)
{
	struct checks cs = { .args = args };
	bool good = true;

	check_state(&cs);
	check_key(&cs);
	check_server(&cs);
	check_engine(&cs);
	check_limits(&cs);
	check_jail(&cs);
	check_disk(&cs);
	check_gpu(&cs);
	check_container(&cs);
	if (cs.rt)
		runtime_close(cs.rt);
	for (size_t i = 0; i < cs.count; i++)
		good &= cs.items[i].verdict != CHECK_FAILED;
	if (args->json)
		print_json(&cs, good);
	else
		print_text(&cs);
	return good ? 0 : 1;
}
