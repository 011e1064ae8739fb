#include "../../os/os.h"
#include "../jail/jail.h"
#include "internal.h"

#include <sys/resource.h>

#define PIDS_MAX      4096
#define SHM_MIN_BYTES (INT64_C(64) << 20)
#define NOFILE_MAX    (1 << 20)

static void add_env(struct strbuf *out, bool *first, const char *key, const char *value)
{
	cleanup_strbuf struct strbuf item = STRBUF_INIT;

	strbuf_addf(&item, "%s=%s", key, value ? value : "");
	strbuf_adds(out, *first ? "" : ",");
	*first = false;
	json_write_text(item.buf, out);
	explicit_bzero(item.buf, item.len);
}

static void add_map(struct strbuf *out, bool *first, const struct text_map *map)
{
	for (size_t i = 0; map && i < map->len; i++)
		add_env(out, first, map->items[i].key, map->items[i].value);
}

static void add_texts(struct strbuf *out, const struct text_list *list)
{
	strbuf_addc(out, '[');
	for (size_t i = 0; i < list->len; i++) {
		strbuf_adds(out, i ? "," : "");
		json_write_text(list->items[i], out);
	}
	strbuf_addc(out, ']');
}

static void add_environment(const struct container_spec *spec, struct strbuf *out)
{
	bool first = true;

	strbuf_adds(out, ",\"Env\":[");
	add_map(out, &first, spec->env);
	add_map(out, &first, spec->secrets);
	if (spec->gpus_simulated && spec->gpu_uuids.len > 0) {
		cleanup_strbuf struct strbuf uuids = STRBUF_INIT;

		for (size_t i = 0; i < spec->gpu_uuids.len; i++)
			strbuf_addf(&uuids, "%s%s", i ? "," : "", spec->gpu_uuids.items[i]);
		add_env(out, &first, "TES_SIMULATED_GPUS", uuids.buf);
	}
	strbuf_addc(out, ']');
}

static void add_labels(const struct runtime *rt, const struct container_spec *spec,
		       struct strbuf *out)
{
	strbuf_adds(out, ",\"Labels\":{\"" LABEL_LEASE "\":");
	json_write_text(spec->lease, out);
	strbuf_addf(out, ",\"" LABEL_GENERATION "\":\"%" PRId64 "\",\"" LABEL_WORKER "\":",
		    spec->generation);
	json_write_text(rt->worker_id, out);
	strbuf_addc(out, '}');
}

static int add_gpus(const struct runtime *rt, const struct container_spec *spec,
		    struct strbuf *out, struct err *err)
{
	struct text_list devices = { .len = spec->gpu_uuids.len };
	cleanup_arena struct arena arena = { 0 };

	if (spec->gpus_simulated || spec->gpu_uuids.len == 0)
		return 0;
	if (!rt->info.nvidia && !rt->info.cdi)
		return err_set(
			err, ERR_UNSUPPORTED,
			"%s %s on this worker cannot hand GPUs to containers: install the "
			"NVIDIA container "
			"toolkit (nvidia-ctk runtime configure, or nvidia-ctk cdi generate)",
			rt->info.engine, rt->info.version);
	devices.items = arena_array(&arena, const char *, devices.len);
	for (size_t i = 0; i < devices.len; i++)
		devices.items[i] = rt->info.nvidia ? spec->gpu_uuids.items[i]
						   : arena_printf(&arena, "nvidia.com/gpu=%s",
								  spec->gpu_uuids.items[i]);
	strbuf_addf(out, ",\"DeviceRequests\":[{\"Driver\":\"%s\",\"DeviceIDs\":",
		    rt->info.nvidia ? "nvidia" : "cdi");
	add_texts(out, &devices);
	if (rt->info.nvidia)
		strbuf_adds(out, ",\"Capabilities\":[[\"gpu\",\"compute\",\"utility\"]]");
	strbuf_adds(out, "}]");
	return 0;
}

/* Podman's service has lowered its own limit to that, and asks for more in containers. */
static int64_t pid_max(void)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	int64_t max = 32768;

	if (file_read("/proc/sys/kernel/pid_max", 64, &text, NULL) == 0)
		max = strtoll(text.buf, NULL, 10);
	return max;
}

/* Our own limit, because the engine's default may be more than the host allows (then nothing
 * starts), or so many files that programs which close them all take seconds. */
static void add_ulimit(struct strbuf *out, const char *name, int resource, int64_t max)
{
	struct rlimit own = { .rlim_max = RLIM_INFINITY };
	int64_t limit;

	getrlimit((__rlimit_resource_t)resource, &own);
	limit = (int64_t)MIN(own.rlim_max, (rlim_t)max);
	strbuf_addf(out, ",{\"Name\":\"%s\",\"Soft\":%" PRId64 ",\"Hard\":%" PRId64 "}", name,
		    limit, limit);
}

static void add_limits(const struct runtime *rt, const struct resources *r, struct strbuf *out)
{
	int64_t memory = r->memory_mib << 20;

	strbuf_addf(out, ",\"Memory\":%" PRId64, memory);
	/* Memory and swap together: no swap. */
	if (rt->info.swap_limit)
		strbuf_addf(out, ",\"MemorySwap\":%" PRId64, memory);
	strbuf_addf(out, ",\"NanoCpus\":%" PRId64 ",\"PidsLimit\":%d", r->cpu_milli * 1000000,
		    PIDS_MAX);
	/* Pages there count as the container's memory; the default of 64 MiB starves data
	 * loaders of PyTorch. */
	strbuf_addf(out, ",\"ShmSize\":%" PRId64, MAX(memory / 2, MIN(SHM_MIN_BYTES, memory)));
	/* Core files would go where the host's pattern says. */
	strbuf_adds(out, ",\"Ulimits\":[{\"Name\":\"core\",\"Soft\":0,\"Hard\":0}");
	add_ulimit(out, "nofile", RLIMIT_NOFILE, NOFILE_MAX);
	if (rt->podman)
		add_ulimit(out, "nproc", RLIMIT_NPROC, pid_max());
	strbuf_addc(out, ']');
	if (rt->info.storage_limit)
		strbuf_addf(out, ",\"StorageOpt\":{\"size\":\"%" PRId64 "\"}",
			    r->disk_mib << 20);
}

static void add_log_config(const struct runtime *rt, struct strbuf *out)
{
	/* Podman keeps one file and begins it anew when it is full. */
	if (rt->podman)
		strbuf_addf(out,
			    ",\"LogConfig\":{\"Type\":\"k8s-file\","
			    "\"Config\":{\"max-size\":\"%dm\"}}",
			    RUNTIME_LOG_FILE_MIB * RUNTIME_LOG_FILES);
	else
		strbuf_addf(out,
			    ",\"LogConfig\":{\"Type\":\"json-file\","
			    "\"Config\":{\"max-size\":\"%dm\",\"max-file\":\"%d\"}}",
			    RUNTIME_LOG_FILE_MIB, RUNTIME_LOG_FILES);
}

/* See jail.h: the address is what the packet filter knows a workload by. */
static void add_network(const struct runtime *rt, const struct container_spec *spec,
			struct strbuf *out)
{
	char mac[JAIL_MAC_SIZE];

	jail_mac(spec->lease, spec->private_routes, mac);
	/* API 1.44 moved it; Podman never looked elsewhere, and has its own name for the
	 * network. */
	if (rt->podman || rt->api_minor >= 44)
		strbuf_addf(
			out,
			",\"NetworkingConfig\":{\"EndpointsConfig\":{\"%s\":{\"MacAddress\":\"%s\"}}}",
			rt->podman ? "podman" : "bridge", mac);
	else
		strbuf_addf(out, ",\"MacAddress\":\"%s\"", mac);
}

int create_body(const struct runtime *rt, const struct container_spec *spec, struct strbuf *out,
		struct err *err)
{
	strbuf_adds(out, "{\"Image\":");
	json_write_text(spec->image, out);
	if (spec->command.len > 0) {
		strbuf_adds(out, ",\"Cmd\":");
		add_texts(out, &spec->command);
	}
	add_environment(spec, out);
	add_labels(rt, spec, out);
	add_network(rt, spec, out);
	strbuf_adds(out,
		    ",\"HostConfig\":{\"NetworkMode\":\"bridge\","
		    "\"RestartPolicy\":{\"Name\":\"no\"},\"Privileged\":false,"
		    "\"IpcMode\":\"private\",\"CgroupnsMode\":\"private\","
		    "\"SecurityOpt\":[\"no-new-privileges\"],"
		    "\"CapDrop\":[\"ALL\"],\"CapAdd\":[\"CHOWN\",\"DAC_OVERRIDE\",\"FOWNER\","
		    "\"SETGID\",\"SETUID\",\"KILL\","
		    "\"NET_BIND_SERVICE\"]");
	add_limits(rt, spec->resources, out);
	add_log_config(rt, out);
	if (spec->inputs_dir) {
		strbuf_adds(
			out,
			",\"Mounts\":[{\"Type\":\"bind\",\"Target\":\"/in\",\"ReadOnly\":true,"
			"\"BindOptions\":{\"Propagation\":\"rprivate\"},\"Source\":");
		json_write_text(spec->inputs_dir, out);
		strbuf_adds(out, "}]");
	}
	if (add_gpus(rt, spec, out, err) < 0)
		return -1;
	strbuf_adds(out, "}}");
	return 0;
}
