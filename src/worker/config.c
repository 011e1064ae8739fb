/* The configuration file, one row a key. */
#include "internal.h"

#include "hw/hw.h"

#include <unistd.h>

#define CONFIG_DEFAULT_PATH "/etc/tes/tes-worker.conf"

static const char *const log_format_names[] = { "plain", "json", NULL };
static const char *const log_level_names[] = { "debug", "info", "warn", "error", NULL };

#define AT(m) offsetof(struct worker_config, m)
/* clang-format off */
static const struct config_key keys[] = {
	{ "worker", "name", CONFIG_TEXT, AT(name), "", .doc = "Name of this machine, for people; empty: its hostname." },
	{ "worker", "state_dir", CONFIG_TEXT, AT(state_dir), "/var/lib/tes-worker",
	  .doc = "Directory for the key and for what must survive a restart." },
	{ "worker", "region", CONFIG_TEXT, AT(region), "", .doc = "Where the machine stands, like de or us-east." },
	{ "worker", "ca_file", CONFIG_TEXT, AT(ca_file), "", .doc = "Certificates to trust for the server; empty: the system's." },
	{ "engine", "socket", CONFIG_TEXT, AT(engine_socket), "auto",
	  .doc = "Path of the container engine's socket; auto: Docker's, then Podman's." },
	{ "share", "cpus", CONFIG_TEXT, AT(share_cpus), "100%", .doc = "Hardware threads on offer: 80%, 6 or 1.5." },
	{ "share", "memory", CONFIG_TEXT, AT(share_memory), "80%", .doc = "Memory on offer: 80% or 16GiB." },
	{ "share", "disk", CONFIG_TEXT, AT(share_disk), "80%", .doc = "Disk of the engine on offer: 80% or 200GiB." },
	{ "share", "gpus", CONFIG_TEXT, AT(share_gpus), "all", .doc = "GPUs on offer: all, none, a number, 50%, or their uuids with commas." },
	{ "price", "gpu_hour", CONFIG_MONEY, AT(price_gpu_uusd_h), "0.20", .doc = "Dollars for one GPU and hour." },
	{ "price", "cpu_hour", CONFIG_MONEY, AT(price_cpu_uusd_h), "0.01", .doc = "Dollars for one hardware thread and hour." },
	{ "price", "memory_gib_hour", CONFIG_MONEY, AT(price_gib_uusd_h), "0.002", .doc = "Dollars for one GiB of memory and hour." },
	{ "hours", "daily", CONFIG_TEXT, AT(hours), "always",
	  .doc = "When the machine is on offer, in local time: always, 22:00-08:00, or mon-fri 22:00-08:00, sat 00:00-24:00." },
	{ "maintenance", "windows", CONFIG_TEXT, AT(maintenance), "",
	  .doc = "When it is not: sun 03:00-04:00, 2026-12-24T00:00-2026-12-27T08:00." },
	{ "lease", "shortest", CONFIG_DURATION, AT(lease_min_ms), "0s", 0, 365 * DAY_MS,
	  .doc = "Leases that are certainly shorter are not taken." },
	{ "lease", "longest", CONFIG_DURATION, AT(lease_max_ms), "0s", 0, 365 * DAY_MS,
	  .doc = "Leases that may be longer are not taken; 0s: any." },
	{ "images", "allow_local", CONFIG_TEXT, AT(images_allow_local), "",
	  .doc = "Images of this machine that leases may use as they are, as patterns: lab/*, base:1. Others must come from a registry." },
	{ "images", "private_registries", CONFIG_TEXT, AT(images_private_registries), "",
	  .doc = "Registries on your own network that leases may pull from: nas.lan, 192.168.1.5:5000. Those on the internet need no mention." },
	{ "jail", "private_routes", CONFIG_BOOL, AT(private_routes), "false",
	  .doc = "Workloads may reach private address ranges: your home or office network." },
	{ "jail", "required", CONFIG_BOOL, AT(jail_required), "true",
	  .doc = "Run nothing where the packet filter that closes workloads off cannot be set up." },
	{ "gpu", "simulated", CONFIG_TEXT, AT(gpu_simulated), "",
	  .doc = "GPUs that are not there, to try things out: 2x NVIDIA-Sim 24576 (number, model, MiB). Never on a production network." },
	{ "log", "format", CONFIG_ENUM, AT(log_format), "plain", .names = log_format_names, .doc = "Lines for people or JSON objects." },
	{ "log", "level", CONFIG_ENUM, AT(log_level), "info", .names = log_level_names, .doc = "The least important that is written." },
};
/* clang-format on */
static int bad_value(const char *key, struct err *err)
{
	err_wrap(err, "%s", key);
	snprintf(err->field, sizeof(err->field), "%s", key);
	return -1;
}

/* What a kind alone cannot check; totals do not matter for the form. */
static int check(const void *filled, struct err *err)
{
	const struct worker_config *c = filled;
	struct inventory any = { .hostname = "any", .cpu_threads = 1, .memory_mib = 1 };
	struct hours hours;
	int64_t ignored;

	if (share_parse(c->share_cpus, SHARE_COUNT_MILLI, INT64_C(1) << 40, &ignored, err) < 0)
		return bad_value("share.cpus", err);
	if (share_parse(c->share_memory, SHARE_BYTES_MIB, INT64_C(1) << 40, &ignored, err) < 0)
		return bad_value("share.memory", err);
	if (share_parse(c->share_disk, SHARE_BYTES_MIB, INT64_C(1) << 40, &ignored, err) < 0)
		return bad_value("share.disk", err);
	if (gpus_share(c->share_gpus, &any, err) < 0)
		return bad_value("share.gpus", err);
	any.region = str_empty(c->region) ? NULL : c->region;
	if (schema_check(&inventory_type, &any, err) < 0)
		return bad_value("worker.region", err);
	if (hours_parse(c->hours, false, &hours, err) < 0)
		return bad_value("hours.daily", err);
	if (hours_parse(c->maintenance, true, &hours, err) < 0)
		return bad_value("maintenance.windows", err);
	if (hw_simulated_check(c->gpu_simulated, err) < 0)
		return bad_value("gpu.simulated", err);
	if (c->lease_max_ms && c->lease_max_ms < c->lease_min_ms)
		return err_set_field(
			err, "lease.longest",
			"lease.longest is less than lease.shortest: no lease would fit");
	if (c->state_dir[0] != '/')
		return err_set_field(err, "worker.state_dir",
				     "worker.state_dir is '%s': write an absolute path",
				     c->state_dir);
	return 0;
}

static const struct config_table table = { keys, ARRAY_LEN(keys), sizeof(struct worker_config),
					   check };

int config_open(const char *path, struct arena *arena, struct worker_config *ret,
		struct err *err)
{
	if (!path && access(CONFIG_DEFAULT_PATH, F_OK) == 0)
		path = CONFIG_DEFAULT_PATH;
	return config_load(&table, path, arena, ret, err);
}

void config_describe(struct strbuf *out)
{
	config_print(
		&table,
		"Configuration of tes-worker.  SIGHUP takes over new prices, shares, hours and leases.",
		out);
}
