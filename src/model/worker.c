/* What a machine has and what its owner gives away: devices, inventories, workers. */
#include "internal.h"

static const struct field device_fields[] = {
	FIELD_INT(struct device, index, 0, 1023, 0, 0, "Number on its machine."),
	FIELD_TEXT(struct device, uuid, 1, UUID_MAX_BYTES, FIELD_REQUIRED | FIELD_LINE,
		   "As NVML gives it; one device in the whole network."),
	FIELD_TEXT(struct device, model, 1, GPU_MODEL_MAX_BYTES, FIELD_REQUIRED | FIELD_LINE,
		   "As NVML names it."),
	FIELD_INT(struct device, vram_mib, 0, VRAM_MIB_MAX, 0, 0, "Memory in MiB."),
	FIELD_TEXT(struct device, pci_bus, 0, 32, FIELD_LINE, "PCI address."),
	FIELD_BOOL(struct device, simulated, 0, "Not hardware; for trying things out."),
};
TYPE(device, device, "A GPU.");

static const struct field inventory_fields[] = {
	FIELD_TEXT(struct inventory, hostname, 1, 253, FIELD_REQUIRED | FIELD_LINE,
		   "Name of the machine; only its owner sees it."),
	FIELD_TEXT(struct inventory, os, 0, 128, FIELD_LINE,
		   "Operating system with its version."),
	FIELD_TEXT(struct inventory, kernel, 0, 128, FIELD_LINE, "Kernel version."),
	FIELD_TEXT(struct inventory, arch, 0, 32, FIELD_LINE,
		   "Architecture as `uname -m` names it."),
	FIELD_TEXT(struct inventory, cpu_model, 0, 128, FIELD_LINE,
		   "CPU as the kernel names it."),
	FIELD_TEXT(struct inventory, engine, 0, 64, FIELD_LINE,
		   "Container engine: docker or podman."),
	FIELD_TEXT(struct inventory, engine_version, 0, 64, FIELD_LINE, "Its version."),
	FIELD_TEXT(struct inventory, version, 0, 64, FIELD_LINE, "Version of tes-worker."),
	FIELD_INT(struct inventory, cpu_threads, 1, 4096, 1, FIELD_REQUIRED,
		  "Hardware threads of the machine."),
	FIELD_INT(struct inventory, memory_mib, 1, MEMORY_MIB_MAX, 1, FIELD_REQUIRED,
		  "Memory of the machine in MiB."),
	FIELD_INT(struct inventory, disk_mib, 0, DISK_MIB_MAX, 0, 0,
		  "Disk for containers in MiB, of the machine."),
	FIELD_TEXT(struct inventory, gpu_driver, 0, 64, FIELD_LINE,
		   "Version of the GPU driver."),
	FIELD_TEXT(struct inventory, cuda_version, 0, 32, FIELD_LINE,
		   "Highest CUDA version that the driver supports."),
	FIELD_LIST(struct inventory, devices, &device_type, GPUS_MAX, 0, "The GPUs on offer."),
	FIELD_INT(struct inventory, net_down_kbps, 0, KBPS_MAX, 0, 0,
		  "Link speed inbound in kbit/s; 0: unknown."),
	FIELD_INT(struct inventory, net_up_kbps, 0, KBPS_MAX, 0, 0,
		  "Link speed outbound in kbit/s; 0: unknown."),
	FIELD_INT(struct inventory, offered_cpu_milli, 0, 4096 * INT64_C(1000), 0, 0,
		  "CPU on offer in thousandths of a hardware thread."),
	FIELD_INT(struct inventory, offered_memory_mib, 0, MEMORY_MIB_MAX, 0, 0,
		  "Memory on offer in MiB."),
	FIELD_INT(struct inventory, offered_disk_mib, 0, DISK_MIB_MAX, 0, 0,
		  "Disk on offer in MiB."),
	FIELD_MONEY(struct inventory, price_gpu_uusd_h, 0,
		    "Price of one GPU for an hour, in millionths of a dollar."),
	FIELD_MONEY(struct inventory, price_cpu_uusd_h, 0,
		    "Price of one hardware thread for an hour, in millionths of a dollar."),
	FIELD_MONEY(struct inventory, price_gib_uusd_h, 0,
		    "Price of one GiB of memory for an hour, in millionths of a dollar."),
	FIELD_TEXT(struct inventory, region, 0, REGION_MAX_BYTES, FIELD_LINE,
		   "Where the machine stands, like de or us-east."),
	FIELD_INT(struct inventory, lease_min_s, 0, DURATION_S_MAX, 0, 0,
		  "Shortest lease that the owner takes, in seconds."),
	FIELD_INT(struct inventory, lease_max_s, 0, DURATION_S_MAX, 0, 0,
		  "Longest lease that the owner takes, in seconds; 0: any."),
	FIELD_TIME(struct inventory, available_until_ms, 0,
		   "End of today's hours or start of the next maintenance; absent: open end."),
	FIELD_BOOL(struct inventory, available, 0, "Inside its hours and outside maintenance."),
	FIELD_BOOL(struct inventory, private_routes, 0,
		   "Workloads may reach private address ranges."),
	FIELD_BOOL(struct inventory, simulated, 0,
		   "The machine is not real; for trying things out."),
	FIELD_TEXT(struct inventory, problem, 0, 512, 0,
		   "Why it cannot run anything now; absent: nothing is wrong."),
};

static int check_offered(const char *field, int64_t offered, int64_t has, struct err *err)
{
	if (offered > has)
		return err_set_field(err, field,
				     "%" PRId64 " is more than the machine has (%" PRId64
				     "): offer at most that",
				     offered, has);
	return 0;
}

static int inventory_check(const void *value, struct err *err)
{
	const struct inventory *v = value;

	if (check_offered("offered_cpu_milli", v->offered_cpu_milli, v->cpu_threads * 1000,
			  err) < 0 ||
	    check_offered("offered_memory_mib", v->offered_memory_mib, v->memory_mib, err) <
		    0 ||
	    check_offered("offered_disk_mib", v->offered_disk_mib, v->disk_mib, err) < 0 ||
	    check_label("region", v->region, err) < 0)
		return -1;
	for (size_t i = 0; i < v->devices.len; i++)
		for (size_t j = 0; j < i; j++)
			if (str_eq(v->devices.items[i].uuid, v->devices.items[j].uuid)) {
				char field[48];

				snprintf(field, sizeof(field), "devices[%zu].uuid", i);
				return err_set_field(
					err, field,
					"'%.96s' stands here twice: list each device once",
					v->devices.items[i].uuid);
			}
	if (v->lease_max_s && v->lease_max_s < v->lease_min_s)
		return err_set_field(err, "lease_max_s",
				     "%" PRId64 " s is less than lease_min_s (%" PRId64
				     " s): no lease would fit",
				     v->lease_max_s, v->lease_min_s);
	return 0;
}
TYPE_CHECK(inventory, inventory, inventory_check,
	   "What a worker detected, and what its owner gives away.");

/* What leases take, when it was heard, how it served: also read and stored by themselves. */
#define WORKER_USED \
	FIELD_INT(struct worker, used_cpu_milli, 0, COUNT_MAX, 0, COLUMN, \
		  "CPU that leases hold, in thousandths of a hardware thread."), \
	FIELD_INT(struct worker, used_memory_mib, 0, COUNT_MAX, 0, COLUMN, \
		  "Memory that leases hold, in MiB."), \
	FIELD_INT(struct worker, used_disk_mib, 0, COUNT_MAX, 0, COLUMN, \
		  "Disk that leases hold, in MiB."), \
	FIELD_INT(struct worker, used_gpus, 0, GPUS_MAX, 0, COLUMN, "GPUs that leases hold.")
#define WORKER_HEARD \
	FIELD_TIME(struct worker, seen_ms, COLUMN, "When it was last heard."), \
	FIELD_TIME(struct worker, offline_since_ms, COLUMN, \
		   "Since when it is silent; absent: it is not.")
#define WORKER_SERVED \
	FIELD_PPM(struct worker, reliability_ppm, COLUMN, \
		  "Uptime times the share of leases that it did not fail, in millionths."), \
	FIELD_INT(struct worker, leases_ok, 0, COUNT_MAX, 0, COLUMN, "Leases that it served."), \
	FIELD_INT(struct worker, leases_failed, 0, COUNT_MAX, 0, COLUMN, \
		  "Leases that it failed."), \
	FIELD_TIME(struct worker, updated_ms, COLUMN, "When this record last changed.")

static const struct field worker_fields[] = {
	FIELD_ID(struct worker, id, "wk", COLUMN_SET, "The worker."),
	FIELD_ID(struct worker, org_id, "or", COLUMN_SET, "The provider that it belongs to."),
	FIELD_TEXT(struct worker, name, 0, NAME_MAX_BYTES, COLUMN | FIELD_LINE,
		   "Its name, for people."),
	FIELD_TEXT(struct worker, public_key, HEX32_BYTES, HEX32_BYTES, COLUMN | FIELD_LINE,
		   "Its ed25519 key, hexadecimal."),
	FIELD_ENUM(struct worker, state, worker_state_names, WORKER_OFFLINE, COLUMN,
		   "What the server sees."),
	FIELD_ENUM(struct worker, intent, worker_intent_names, INTENT_OPEN, COLUMN,
		   "What its owner wishes."),
	FIELD_BOOL(struct worker, blocked, COLUMN, "Taken out by the operator."),
	FIELD_TEXT(struct worker, blocked_why, 0, REASON_TEXT_MAX_BYTES, COLUMN,
		   "Why it is blocked."),
	FIELD_OBJECT(struct worker, inventory, &inventory_type, COLUMN,
		     "What it has and offers."),
	FIELD_INT(struct worker, cpu_milli, 0, COUNT_MAX, 0, COLUMN,
		  "CPU on offer in thousandths of a hardware thread."),
	FIELD_INT(struct worker, memory_mib, 0, COUNT_MAX, 0, COLUMN,
		  "Memory on offer in MiB."),
	FIELD_INT(struct worker, disk_mib, 0, COUNT_MAX, 0, COLUMN, "Disk on offer in MiB."),
	FIELD_INT(struct worker, gpus, 0, GPUS_MAX, 0, COLUMN, "GPUs on offer."),
	WORKER_USED,
	FIELD_TIME(struct worker, joined_ms, COLUMN, "When it joined."),
	WORKER_HEARD,
	FIELD_TEXT(struct worker, boot_id, 0, 64, COLUMN | FIELD_LINE,
		   "Changes each time that its process starts."),
	FIELD_INT(struct worker, desired_rev, 0, COUNT_MAX, 0, COLUMN,
		  "Counts the changes to what it is told to run."),
	FIELD_PPM(struct worker, uptime_ppm, COLUMN,
		  "Share of the last 30 days that it was online, in millionths."),
	WORKER_SERVED,
	FIELD_BOOL(struct worker, simulated, COLUMN,
		   "Not hardware; never on a production network."),
};
TYPE(worker, worker, "A provider's machine.");

static const struct field worker_standing_fields[] = {
	FIELD_ID(struct worker, id, "wk", COLUMN_SET | FIELD_FIXED, "The worker."),
	FIELD_ID(struct worker, org_id, "or", COLUMN_SET | FIELD_FIXED, "The provider that it belongs to."),
	FIELD_TEXT(struct worker, name, 0, NAME_MAX_BYTES, COLUMN | FIELD_FIXED | FIELD_LINE,
		   "Its name, for people."),
	FIELD_TEXT(struct worker, public_key, HEX32_BYTES, HEX32_BYTES, COLUMN | FIELD_FIXED | FIELD_LINE,
		   "Its ed25519 key, hexadecimal."),
	FIELD_ENUM(struct worker, state, worker_state_names, WORKER_OFFLINE, COLUMN,
		   "What the server sees."),
	WORKER_USED,
	WORKER_HEARD,
	FIELD_TEXT(struct worker, boot_id, 0, 64, COLUMN | FIELD_FIXED | FIELD_LINE,
		   "Changes each time that its process starts."),
	FIELD_INT(struct worker, desired_rev, 0, COUNT_MAX, 0, COLUMN,
		  "Counts the changes to what it is told to run."),
	FIELD_PPM(struct worker, uptime_ppm, COLUMN | FIELD_FIXED,
		  "Share of the last 30 days that it was online, in millionths."),
	WORKER_SERVED,
};
TYPE(worker_standing, worker, "What a heartbeat reads of a worker, and moves.");

static const struct field worker_page_fields[] = {
	FIELD_LIST(struct worker_page, items, &worker_type, 100000, FIELD_OUT, "The workers."),
};
TYPE(worker_page, worker_page, "Workers of a provider.");

static const struct field intent_request_fields[] = {
	FIELD_ENUM(
		struct intent_request, intent, worker_intent_names, INTENT_OPEN, 0,
		"open: takes leases; paused: takes no new ones; draining: takes none and hands "
		"back what it has."),
	FIELD_BOOL(struct intent_request, leave, 0,
		   "Leaves the network for good once its leases have ended."),
};
TYPE(intent_request, intent_request, "What the owner of a worker wishes.");

/* Bayesian mean of the outcomes with a prior of 3 good ones of 5. */
#define PRIOR_OK  3
#define PRIOR_ALL 5

int64_t reliability(int64_t uptime_ppm, int64_t leases_ok, int64_t leases_failed)
{
	int64_t share_ppm, ret;

	assert(uptime_ppm >= 0 && uptime_ppm <= 1000000);
	assert(leases_ok >= 0 && leases_ok <= COUNT_MAX && leases_failed >= 0 &&
	       leases_failed <= COUNT_MAX);
	/* Cannot overflow: the quotients are at most one million. */
	if (!muldiv_floor(leases_ok + PRIOR_OK, 1000000, leases_ok + leases_failed + PRIOR_ALL,
			  &share_ppm) ||
	    !muldiv_floor(uptime_ppm, share_ppm, 1000000, &ret))
		abort();
	return ret;
}
