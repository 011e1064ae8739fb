#include "../../os/os.h"
#include "internal.h"

#include <dirent.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Is there a CDI specification for NVIDIA's devices? */
static bool cdi_dir_has_nvidia(const char *dir)
{
	DIR *d = opendir(dir);
	bool found = false;

	if (!d)
		return false;
	for (struct dirent *e = readdir(d); e && !found; e = readdir(d)) {
		cleanup_free char *path = path_join(dir, e->d_name);
		cleanup_strbuf struct strbuf text = STRBUF_INIT;

		if (e->d_name[0] != '.' && file_read(path, 4 << 20, &text, NULL) == 0)
			found = strstr(text.buf, "nvidia.com/gpu") != NULL;
	}
	closedir(d);
	return found;
}

static bool cdi_usable(const struct runtime *rt, const struct json *info)
{
	const struct json *dirs = json_find(info, "CDISpecDirs");
	int64_t major = 0;
	bool found = false;

	if (rt->podman) {
		/* Podman's compatible API takes CDI device requests since 5.0. */
		char number[8] = "";

		snprintf(number, sizeof(number), "%.*s",
			 (int)MIN(strcspn(rt->info.version, "."), (size_t)7), rt->info.version);
		return int_parse(number, 0, 1000, &major, NULL) == 0 && major >= 5 &&
		       (cdi_dir_has_nvidia("/etc/cdi") || cdi_dir_has_nvidia("/var/run/cdi"));
	}
	for (size_t i = 0; dirs && dirs->kind == JSON_ARRAY && i < dirs->count && !found; i++)
		found = dirs->items[i].kind == JSON_TEXT &&
			cdi_dir_has_nvidia(dirs->items[i].text);
	return found;
}

/* Docker's "nvidia" device driver runs this hook; the runtime of that name need not be
 * registered for it. */
static bool nvidia_usable(const struct runtime *rt, const struct json *info)
{
	if (rt->podman)
		return false;
	return json_path(info, "Runtimes", "nvidia") ||
	       access("/usr/bin/nvidia-container-runtime-hook", X_OK) == 0 ||
	       access("/usr/local/bin/nvidia-container-runtime-hook", X_OK) == 0;
}

/* Docker's overlay2 limits the size of a layer by project quotas, on XFS mounted with them
 * and nowhere else. */
static bool storage_limit_usable(const struct json *info)
{
	cleanup_strbuf struct strbuf mounts = STRBUF_INIT;
	struct slice rest, line;
	const char *root = json_text(info, "DockerRootDir");
	size_t best = 0;
	bool usable = false;

	if (!str_eq(json_text(info, "Driver"), "overlay2"))
		return false;
	if (file_read("/proc/self/mounts", 16 << 20, &mounts, NULL) < 0)
		return false;
	rest = (struct slice){ mounts.buf, mounts.len };
	/* Of the mounts above the root directory the longest path wins, of equal ones the
	 * last. */
	while (slice_split(&rest, '\n', &line)) {
		struct slice field[4] = { 0 };
		size_t len;

		for (size_t i = 0; i < ARRAY_LEN(field); i++)
			if (!slice_split(&line, ' ', &field[i]))
				break;
		len = field[1].len;
		if (len < best || len == 0 || strncmp(root, field[1].ptr, len) != 0 ||
		    (len > 1 && root[len] && root[len] != '/'))
			continue;
		best = len;
		usable = slice_is(field[2], "xfs") &&
			 (memmem(field[3].ptr, field[3].len, "prjquota", 8) ||
			  memmem(field[3].ptr, field[3].len, "pquota", 6));
	}
	return usable;
}

/* The jail is in this machine's packet filter: whatever an engine lets out elsewhere passes
 * it by. */
static int place_check(const struct runtime *rt, const struct json *info, const char *kernel,
		       struct err *err)
{
	const struct json *options = json_find(info, "SecurityOptions");
	bool rootless = json_bool(info, "Rootless");

	for (size_t i = 0; options && options->kind == JSON_ARRAY && i < options->count; i++)
		rootless |= options->items[i].kind == JSON_TEXT &&
			    str_starts(options->items[i].text, "name=rootless");
	if (rootless)
		return err_set(
			err, ERR_UNSUPPORTED,
			"the engine at %s runs without root, where the packet filter does not "
			"see its "
			"workloads: use the system's engine",
			rt->socket);
	if (!str_eq(json_text(info, "KernelVersion"), kernel))
		return err_set(
			err, ERR_UNSUPPORTED,
			"the engine at %s runs on another kernel (%.40s, here it is %.40s), "
			"where the packet "
			"filter does not see its workloads: use one of this machine",
			rt->socket, json_text(info, "KernelVersion"), kernel);
	return 0;
}

int info_parse(const struct runtime *rt, const struct json *info, const char *kernel,
	       struct runtime_info *ret, struct err *err)
{
	const struct json *options = json_find(info, "SecurityOptions");

	if (place_check(rt, info, kernel, err) < 0)
		return -1;
	if (str_copy(ret->root_dir, sizeof(ret->root_dir), json_text(info, "DockerRootDir")) <
	    0)
		return err_set(err, ERR_UNSUPPORTED,
			       "the engine's root directory has a path of over %zu bytes",
			       sizeof(ret->root_dir) - 1);
	ret->seccomp = false;
	for (size_t i = 0; options && options->kind == JSON_ARRAY && i < options->count; i++) {
		const char *text =
			options->items[i].kind == JSON_TEXT ? options->items[i].text : "";

		ret->seccomp |= str_starts(text, "name=seccomp") && !strstr(text, "unconfined");
	}
	ret->pids_limit = json_bool(info, "PidsLimit");
	ret->memory_limit = json_bool(info, "MemoryLimit");
	ret->swap_limit = json_bool(info, "SwapLimit");
	ret->cpu_limit = json_bool(info, "CpuCfsQuota");
	ret->cdi = cdi_usable(rt, info);
	ret->nvidia = nvidia_usable(rt, info);
	ret->storage_limit = storage_limit_usable(info);
	return 0;
}

int info_read(struct runtime *rt, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct json *info;
	struct utsname uts;

	uname(&uts);
	if (docker_get(rt, "/info", "asking what the engine can do", &arena, &info, err) < 0)
		return -1;
	return info_parse(rt, info, uts.release, &rt->info, err);
}

static void subnet_read(struct runtime *rt, struct runtime_info *info)
{
	cleanup_arena struct arena arena = { 0 };
	const struct json *config;
	struct json *network;

	if (docker_get(rt, "/networks/bridge", "asking for the default network", &arena,
		       &network, NULL) < 0)
		return;
	config = json_path(network, "IPAM", "Config");
	if (config && config->kind == JSON_ARRAY && config->count > 0)
		snprintf(info->bridge_subnet, sizeof(info->bridge_subnet), "%s",
			 json_text(&config->items[0], "Subnet"));
}

int runtime_info(struct runtime *rt, struct runtime_info *ret, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct runtime_info info;
	struct json *unused;

	/* What the engine can do does not change while it runs; that it answers may. */
	if (docker_get(rt, "/version", "asking for the engine's version", &arena, &unused,
		       err) < 0)
		return -1;
	info = rt->info;
	subnet_read(rt, &info);
	*ret = info;
	return 0;
}
