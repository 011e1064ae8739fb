/* What a customer asks the list of offers for: cursor, model and region, one a line.  A page that is given leads to the
 * next, in order, and all of them to an end. */
#include "../sched.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MACHINES 5
#define NOW_MS	 INT64_C(1800000000000)

static struct pool *pool_make(void)
{
	static const char *const models[] = { "NVIDIA GeForce RTX 4090", "NVIDIA A100-SXM4-80GB", "Tesla T4" };
	struct pool *p = pool_new();

	for (int i = 0; i < MACHINES; i++) {
		char id[ID_SIZE], uuid[2][16];
		const char *uuids[2] = { uuid[0], uuid[1] };
		struct device devices[2];
		struct text_list list = { .items = uuids, .len = 2 };
		struct inventory inventory = { .devices = { devices, 2 },
					       .price_gpu_uusd_h = i * INT64_C(100000),
					       .region = i % 2 ? "eu-de" : NULL,
					       .available = true };
		struct worker w = { .id = id, .inventory = &inventory, .state = WORKER_ONLINE, .intent = INTENT_OPEN, .gpus = 2,
				    .cpu_milli = 8000, .memory_mib = 32768, .disk_mib = 65536, .reliability_ppm = 1000000 };

		snprintf(id, sizeof(id), "wk_%026d", i);
		for (int d = 0; d < 2; d++) {
			snprintf(uuid[d], sizeof(uuid[d]), "GPU-%d-%d", i, d);
			devices[d] = (struct device){ .index = d, .uuid = uuid[d], .vram_mib = 16384,
						      .model = models[(i + d * (i == 2)) % (int)ARRAY_LEN(models)] };
		}
		pool_put(p, &w, &list);
	}
	return p;
}

static const char *line_next(struct slice *rest, struct arena *a)
{
	struct slice line;

	return slice_split(rest, '\n', &line) ? arena_strndup(a, line.ptr, line.len) : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pool *pool;
	cleanup_arena struct arena a = { 0 };
	struct slice rest = { (const char *)data, size };
	struct offer_query q = { .limit = 2 };
	struct err err = { 0 };
	int taken = 0;

	arena_init(&a, 0);
	if (!pool)
		pool = pool_make();
	const char *cursor = line_next(&rest, &a);

	q.gpu_model = line_next(&rest, &a);
	q.region = line_next(&rest, &a);
	for (q.sort = OFFER_SORT_PRICE; q.sort <= OFFER_SORT_NETWORK; q.sort++) {
		struct offer_page page;
		int pages = 0;

		for (q.cursor = cursor; q.cursor || !pages; q.cursor = page.next) {
			page = (struct offer_page){ 0 };
			if (pool_offers(pool, &q, NOW_MS, &a, &page, &err) < 0) {
				assert(q.cursor == cursor && str_eq(err.field, "cursor") && err.text[0]);
				err_clear(&err);
				break;
			}
			assert(page.items.len <= 2 && page.total <= 2 * MACHINES && ++pages <= MACHINES + 1);
			taken += pages == 1 && !str_empty(cursor);
			if (!page.next)
				break;
		}
	}
	assert(taken <= 1); /* a cursor is of one order */
	return 0;
}
