/* What this machine offers: what was detected, what its owner gives away of it, and when. */
#include "internal.h"

#include "hw/hw.h"

int share_parse(const char *text, enum share_unit unit, int64_t total, int64_t *ret,
		struct err *err)
{
	size_t len = strlen(text);
	int64_t value;

	if (len && text[len - 1] == '%') {
		if (ppm_parse(text, &value, err) < 0)
			return -1;
		if (value > 1000000 || !muldiv_floor(total, value, 1000000, &value))
			return err_set(err, ERR_INVALID,
				       "'%s' is more than all of it: at most 100%%", text);
	} else if (unit == SHARE_COUNT_MILLI) {
		/* Decimals as in money: millionths. */
		if (money_parse(text, &value, err) < 0 || value < 0)
			return err_set(
				err, ERR_INVALID,
				"'%s' is no share: write 80%%, or a number like 6 or 1.5",
				text);
		value /= 1000;
	} else {
		if (size_parse(text, &value, err) < 0)
			return -1;
		value >>= 20;
	}
	*ret = MIN(value, total);
	return 0;
}

static bool list_names(const char *list, const struct device *d)
{
	struct slice rest = slice_of(list), part;

	while (slice_split(&rest, ',', &part))
		if (slice_is(slice_trim(part), d->uuid))
			return true;
	return false;
}

int gpus_share(const char *text, struct inventory *inv, struct err *err)
{
	size_t kept = 0;
	int64_t count = (int64_t)inv->devices.len;

	if (str_eq(text, "all"))
		return 0;
	if (strstr(text, "GPU-")) {
		for (size_t i = 0; i < inv->devices.len; i++)
			if (list_names(text, &inv->devices.items[i]))
				inv->devices.items[kept++] = inv->devices.items[i];
		inv->devices.len = kept;
		return 0;
	}
	if (str_eq(text, "none"))
		count = 0;
	else if (strchr(text, '%') ? share_parse(text, SHARE_BYTES_MIB, count, &count, err) < 0
				   : int_parse(text, 0, 1024, &count, err) < 0)
		return err_wrap(err, "[share] gpus");
	inv->devices.len = MIN(inv->devices.len, (size_t)count);
	return 0;
}

static int shares_apply(const struct worker_config *c, struct inventory *inv, struct err *err)
{
	if (share_parse(c->share_cpus, SHARE_COUNT_MILLI, inv->cpu_threads * 1000,
			&inv->offered_cpu_milli, err) < 0)
		return err_wrap(err, "[share] cpus");
	if (share_parse(c->share_memory, SHARE_BYTES_MIB, inv->memory_mib,
			&inv->offered_memory_mib, err) < 0)
		return err_wrap(err, "[share] memory");
	if (share_parse(c->share_disk, SHARE_BYTES_MIB, inv->disk_mib, &inv->offered_disk_mib,
			err) < 0)
		return err_wrap(err, "[share] disk");
	return gpus_share(c->share_gpus, inv, err);
}

/* What is free changes all the time, mostly by what leases themselves write: that is theirs,
 * and small changes are no news. */
static int64_t disk_on_offer(int64_t free_mib, const struct disk_before *before)
{
	int64_t has = free_mib + (before ? before->used_by_leases_mib : 0);

	if (before && before->known_mib &&
	    llabs(has - before->known_mib) <= before->known_mib / 20)
		return before->known_mib;
	return has >= 1024 ? has / 1024 * 1024 : has;
}

int inventory_make(const struct worker_config *c, const struct runtime_info *engine,
		   const char *problem, int64_t now_ms, const struct disk_before *disk,
		   struct arena *a, struct inventory *ret, struct text_list *ret_problems,
		   struct err *err)
{
	struct inventory inv = { 0 };
	struct text_list problems = { 0 };
	struct hours hours, maintenance;
	int64_t free_bytes;
	struct err ignored = { 0 };

	/* Not the engine's directory: two workers of one machine must not simulate the same
	 * GPUs. */
	if (hw_detect(c->state_dir, str_empty(c->gpu_simulated) ? NULL : c->gpu_simulated, a,
		      &inv, &problems, err) < 0)
		return -1;
	if (engine && engine->root_dir[0] &&
	    disk_free_bytes(engine->root_dir, &free_bytes, NULL, &ignored) == 0)
		inv.disk_mib = free_bytes >> 20;
	inv.disk_mib = disk_on_offer(inv.disk_mib, disk);
	if (shares_apply(c, &inv, err) < 0 || hours_parse(c->hours, false, &hours, err) < 0 ||
	    hours_parse(c->maintenance, true, &maintenance, err) < 0)
		return -1;
	inv.version = TES_VERSION;
	if (engine) {
		inv.engine = arena_strdup(a, engine->engine);
		inv.engine_version = arena_strdup(a, engine->version);
	}
	inv.price_gpu_uusd_h = c->price_gpu_uusd_h;
	inv.price_cpu_uusd_h = c->price_cpu_uusd_h;
	inv.price_gib_uusd_h = c->price_gib_uusd_h;
	inv.region = str_empty(c->region) ? NULL : c->region;
	inv.lease_min_s = c->lease_min_ms / SECOND_MS;
	inv.lease_max_s = c->lease_max_ms / SECOND_MS;
	inv.private_routes = c->private_routes;
	inv.available = hours_available(&hours, &maintenance, now_ms, utc_offset_system, NULL,
					&inv.available_until_ms);
	inv.problem = problem ? arena_strdup(a, problem) : NULL;
	*ret = inv;
	*ret_problems = problems;
	return 0;
}
