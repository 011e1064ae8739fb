/* Resources, offers and quotes: what is asked for, what could be given, at which frozen
 * price. */
#include "internal.h"

static const struct field resources_fields[] = {
	FIELD_INT(struct resources, cpu_milli, 10, CPU_MILLI_MAX, 1000, 0,
		  "CPU in thousandths of a hardware thread."),
	FIELD_INT(struct resources, memory_mib, 16, MEMORY_MIB_MAX, 1024, 0, "Memory in MiB."),
	FIELD_INT(struct resources, disk_mib, 64, DISK_MIB_MAX, 10240, 0,
		  "Disk for the container's own files in MiB."),
	FIELD_INT(struct resources, gpus, 0, GPUS_MAX, 0, 0, "Whole GPUs."),
	FIELD_TEXT(struct resources, gpu_model, 0, GPU_MODEL_MAX_BYTES, FIELD_LINE,
		   "GPU model as NVML names it; absent: any."),
	FIELD_INT(struct resources, vram_mib, 0, VRAM_MIB_MAX, 0, 0,
		  "Memory of each GPU in MiB, at least."),
};

static int resources_check(const void *value, struct err *err)
{
	const struct resources *r = value;

	if (r->gpus == 0 && !str_empty(r->gpu_model))
		return err_set_field(
			err, "gpu_model",
			"'%.64s' is asked for with no GPU: set gpus to 1 or more, or leave "
			"gpu_model out",
			r->gpu_model);
	if (r->gpus == 0 && r->vram_mib > 0)
		return err_set_field(
			err, "vram_mib",
			"%" PRId64
			" MiB are asked for with no GPU: set gpus to 1 or more, or leave "
			"vram_mib out",
			r->vram_mib);
	return 0;
}
TYPE_CHECK(resources, resources, resources_check, "What one replica gets, all to itself.");

static const struct field offer_fields[] = {
	FIELD_ID(struct offer, id, "of", OUT_SET, "The offer; stays the same for a worker."),
	FIELD_ID(struct offer, worker_id, "wk", FIELD_OUT, "The worker that would run it."),
	FIELD_TEXT(struct offer, region, 0, REGION_MAX_BYTES, FIELD_OUT | FIELD_LINE,
		   "Where it stands."),
	FIELD_TEXT(struct offer, gpu_model, 0, GPU_MODEL_MAX_BYTES, FIELD_OUT | FIELD_LINE,
		   "GPU model as NVML names it; absent: no GPU."),
	FIELD_TEXT(struct offer, cpu_model, 0, 128, FIELD_OUT | FIELD_LINE,
		   "CPU as the kernel names it."),
	FIELD_INT(struct offer, gpus, 0, GPUS_MAX, 0, FIELD_OUT, "GPUs that it has."),
	FIELD_INT(struct offer, gpus_free, 0, GPUS_MAX, 0, FIELD_OUT,
		  "GPUs that nobody holds."),
	FIELD_INT(struct offer, vram_mib, 0, VRAM_MIB_MAX, 0, FIELD_OUT,
		  "Memory of one GPU in MiB."),
	FIELD_INT(struct offer, cpu_milli_free, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Free CPU in thousandths of a hardware thread."),
	FIELD_INT(struct offer, memory_mib_free, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Free memory in MiB."),
	FIELD_INT(struct offer, disk_mib_free, 0, COUNT_MAX, 0, FIELD_OUT, "Free disk in MiB."),
	FIELD_MONEY(struct offer, price_gpu_uusd_h, FIELD_OUT,
		    "One GPU for an hour, in millionths of a dollar."),
	FIELD_MONEY(struct offer, price_cpu_uusd_h, FIELD_OUT,
		    "One hardware thread for an hour, in millionths of a dollar."),
	FIELD_MONEY(struct offer, price_gib_uusd_h, FIELD_OUT,
		    "One GiB of memory for an hour, in millionths of a dollar."),
	FIELD_MONEY(struct offer, price_uusd_h, FIELD_OUT,
		    "All that was asked for, for an hour, in millionths of a dollar."),
	FIELD_PPM(struct offer, uptime_ppm, FIELD_OUT,
		  "Share of the last 30 days that it was online, in millionths."),
	FIELD_PPM(struct offer, reliability_ppm, FIELD_OUT,
		  "Uptime times the share of leases that it did not fail, in millionths."),
	FIELD_INT(struct offer, net_down_kbps, 0, KBPS_MAX, 0, FIELD_OUT,
		  "Link speed inbound in kbit/s; 0: unknown."),
	FIELD_INT(struct offer, net_up_kbps, 0, KBPS_MAX, 0, FIELD_OUT,
		  "Link speed outbound in kbit/s; 0: unknown."),
	FIELD_TIME(struct offer, available_until_ms, FIELD_OUT,
		   "Until when its owner gives it; absent: open end."),
	FIELD_INT(struct offer, lease_min_s, 0, DURATION_S_MAX, 0, FIELD_OUT,
		  "Shortest lease that its owner takes, in seconds."),
	FIELD_TEXT(struct offer, cuda_version, 0, 32, FIELD_OUT | FIELD_LINE,
		   "Highest CUDA version that its driver supports."),
	FIELD_TEXT(struct offer, gpu_driver, 0, 64, FIELD_OUT | FIELD_LINE,
		   "Version of its GPU driver."),
	FIELD_BOOL(struct offer, simulated, FIELD_OUT, "Not hardware; for trying things out."),
};
TYPE(offer, offer, "What one worker could give to one request, now.");

static const struct field offer_query_fields[] = {
	FIELD_INT(struct offer_query, gpus, 0, GPUS_MAX, 0, 0, "Free GPUs, at least."),
	FIELD_INT(struct offer_query, vram_mib, 0, VRAM_MIB_MAX, 0, 0,
		  "Memory of each GPU in MiB, at least."),
	FIELD_INT(struct offer_query, cpu_milli, 0, CPU_MILLI_MAX, 0, 0,
		  "Free CPU in thousandths of a hardware thread, at least."),
	FIELD_INT(struct offer_query, memory_mib, 0, MEMORY_MIB_MAX, 0, 0,
		  "Free memory in MiB, at least."),
	FIELD_INT(struct offer_query, disk_mib, 0, DISK_MIB_MAX, 0, 0,
		  "Free disk in MiB, at least."),
	FIELD_MONEY(
		struct offer_query, max_price_uusd_h, 0,
		"Price of all that is asked for, at most, in millionths of a dollar an hour; "
		"0: any."),
	FIELD_PPM(struct offer_query, min_reliability_ppm, 0,
		  "Reliability in millionths, at least."),
	FIELD_INT(struct offer_query, max_duration_s, 0, DURATION_S_MAX, 0, 0,
		  "How long it is wanted in seconds; 0: open end."),
	FIELD_TEXT(struct offer_query, gpu_model, 0, GPU_MODEL_MAX_BYTES, FIELD_LINE,
		   "GPU model as NVML names it; absent: any."),
	FIELD_TEXT(struct offer_query, region, 0, REGION_MAX_BYTES, FIELD_LINE,
		   "Where it stands; absent: anywhere."),
	FIELD_ENUM(struct offer_query, sort, offer_sort_names, OFFER_SORT_PRICE, 0,
		   "What comes first; price: the cheapest, else the most."),
	FIELD_INT(struct offer_query, limit, 1, 1000, 50, 0, "Offers on one page, at most."),
	FIELD_TEXT(struct offer_query, cursor, 0, 256, FIELD_LINE,
		   "The `next` of the page before."),
};
TYPE(offer_query, offer_query, "Which offers to list.");

static const struct field offer_page_fields[] = {
	FIELD_LIST(struct offer_page, items, &offer_type, 1000, FIELD_OUT,
		   "The offers, best first."),
	FIELD_TEXT(struct offer_page, next, 0, 256, FIELD_OUT | FIELD_LINE,
		   "Cursor of the next page; absent: this is the last."),
	FIELD_INT(struct offer_page, total, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Offers that match, on all pages."),
};
TYPE(offer_page, offer_page, "Offers that match.");

static const struct field quote_request_fields[] = {
	FIELD_OBJECT(struct quote_request, resources, &resources_type, FIELD_REQUIRED,
		     "What is wanted."),
	FIELD_ID(struct quote_request, offer, "of", 0,
		 "From this offer; absent: from the best."),
	FIELD_TEXT(struct quote_request, region, 0, REGION_MAX_BYTES, FIELD_LINE,
		   "Where it stands; absent: anywhere."),
	FIELD_PPM(struct quote_request, min_reliability_ppm, 0,
		  "Reliability in millionths, at least."),
	FIELD_MONEY(struct quote_request, max_price_uusd_h, 0,
		    "Price at most, in millionths of a dollar an hour; 0: any."),
	FIELD_INT(struct quote_request, max_duration_s, 0, DURATION_S_MAX, 0, 0,
		  "How long it is wanted in seconds; 0: open end."),
};
TYPE(quote_request, quote_request, "Asks for a price that stands for a while.");

static const struct field quote_fields[] = {
	FIELD_ID(struct quote, id, "qt", COLUMN_SET, "The quote."),
	FIELD_ID(struct quote, org_id, "or", COLUMN_SET, "Who may use it."),
	FIELD_ID(struct quote, worker_id, "wk", COLUMN_SET, "The worker that it binds."),
	FIELD_OBJECT(struct quote, resources, &resources_type, COLUMN_SET, "What it is for."),
	FIELD_MONEY(struct quote, rate_uusd_h, COLUMN,
		    "The frozen price of all of it, in millionths of a dollar an hour."),
	FIELD_PPM(struct quote, fee_ppm, COLUMN,
		  "The network's share of the price, in millionths."),
	FIELD_TIME(struct quote, created_ms, COLUMN, "When it was given."),
	FIELD_TIME(struct quote, expires_ms, COLUMN, "Until when it can be used."),
	FIELD_ID(struct quote, used_by, "wl", COLUMN_NULL,
		 "The workload that used it; a quote works once."),
};
TYPE(quote, quote, "A frozen price.");

/* The three parts have denominators 1, 1000 and 1024: all are brought to their least common
 * multiple, so that the sum is rounded once and not three times. */
#define PRICE_SCALE	   128000U
#define PRICE_SCALE_CPU	   (PRICE_SCALE / 1000)
#define PRICE_SCALE_MEMORY (PRICE_SCALE / 1024)

static bool price_add(int64_t amount, int64_t unit_uusd_h, unsigned scale,
		      unsigned __int128 *sum)
{
	unsigned __int128 part;

	if (amount < 0 || unit_uusd_h < 0)
		return false;
	part = (unsigned __int128)amount * (unsigned __int128)unit_uusd_h;
	return !__builtin_mul_overflow(part, (unsigned __int128)scale, &part) &&
	       !__builtin_add_overflow(*sum, part, sum);
}

bool price_of(const struct resources *want, int64_t gpu_uusd_h, int64_t cpu_uusd_h,
	      int64_t gib_uusd_h, int64_t *ret)
{
	unsigned __int128 sum = PRICE_SCALE - 1; /* rounds up */

	if (!price_add(want->gpus, gpu_uusd_h, PRICE_SCALE, &sum) ||
	    !price_add(want->cpu_milli, cpu_uusd_h, PRICE_SCALE_CPU, &sum) ||
	    !price_add(want->memory_mib, gib_uusd_h, PRICE_SCALE_MEMORY, &sum))
		return false;
	sum /= PRICE_SCALE;
	if (sum > INT64_MAX)
		return false;
	*ret = (int64_t)sum;
	return true;
}
