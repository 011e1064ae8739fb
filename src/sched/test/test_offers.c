/* offers: the same filters as placement, sorted, and paged without gaps. */
#include "pool.h"

static int64_t sort_value(const struct offer *o, enum offer_sort sort)
{
	switch (sort) {
	case OFFER_SORT_PRICE: return o->price_uusd_h;
	case OFFER_SORT_RELIABILITY: return -o->reliability_ppm;
	case OFFER_SORT_VRAM: return -o->vram_mib;
	case OFFER_SORT_GPUS: return -o->gpus_free;
	case OFFER_SORT_NETWORK: return -o->net_down_kbps;
	}
	abort();
}

/* Reads all pages; each worker that fits must come, in order, and no shelf twice. */
static size_t read_pages(struct world *w, struct offer_query q, struct arena *arena)
{
	struct offer_page page = { 0 };
	size_t count = 0;
	int64_t before = INT64_MIN;
	char seen[WORKER_MAX * DEVICE_MAX][96];
	struct err err;

	do {
		q.cursor = page.next;
		assert_int_equal(pool_offers(w->pool, &q, NOW_MS, arena, &page, &err), 0);
		assert_true(page.items.len <= (size_t)q.limit);
		for (size_t i = 0; i < page.items.len; i++) {
			const struct offer *o = &page.items.items[i];

			assert_true(sort_value(o, q.sort) >= before);
			before = sort_value(o, q.sort);
			assert_string_equal(o->id + 3, o->worker_id + 3);
			snprintf(seen[count], sizeof(seen[count]), "%s %s %" PRId64,
				 o->worker_id, o->gpu_model, o->vram_mib);
			for (size_t k = 0; k < count; k++)
				assert_string_not_equal(seen[k], seen[count]);
			count++;
		}
	} while (page.next);
	assert_int_equal(count, page.total);
	return count;
}

static void test_pages(void **state)
{
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct world w;

		world_init(&w, seed, WORKER_MAX);
		for (int sort = OFFER_SORT_PRICE; sort <= OFFER_SORT_NETWORK; sort++) {
			cleanup_arena struct arena arena = { 0 };
			struct test_request t;
			size_t matching = 0, count;
			int64_t ignored;

			request_random(&w, &t);
			t.r.worker = NULL;
			t.r.avoid_len = 0;
			const struct offer_query q = {
				.gpus = t.want.gpus,
				.vram_mib = t.want.vram_mib,
				.cpu_milli = t.want.cpu_milli,
				.memory_mib = t.want.memory_mib,
				.disk_mib = t.want.disk_mib,
				.gpu_model = t.want.gpu_model,
				.region = t.r.region,
				.sort = sort,
				.max_price_uusd_h = t.r.max_price_uusd_h,
				.min_reliability_ppm = t.r.min_reliability_ppm,
				.max_duration_s = t.r.max_duration_s,
				.limit = (int64_t)(seed % 7) + 1,
			};
			for (size_t i = 0; i < w.len; i++)
				matching += truth_fits(&w.workers[i], &t.r, &ignored);
			count = read_pages(&w, q, &arena);
			/* A worker with two models may make two offers. */
			assert_true(count >= matching);
			assert_int_equal(count > 0, matching > 0);
		}
		world_release(&w);
	}
}

/* Who asks for nothing sees everything that is free, at the price of one device or one
 * thread. */
static void test_nothing_asked(void **state)
{
	cleanup_arena struct arena arena = { 0 };
	struct offer_page page;
	struct world w;
	struct err err;

	world_init(&w, 5, WORKER_MAX);
	assert_int_equal(pool_offers(w.pool, &(struct offer_query){ .limit = 1000 }, NOW_MS,
				     &arena, &page, &err),
			 0);
	assert_true(page.items.len > 10);
	assert_null(page.next);
	for (size_t i = 0; i < page.items.len; i++) {
		const struct offer *o = &page.items.items[i];

		assert_true(o->gpus == 0 || o->gpus_free > 0);
		assert_int_equal(o->price_uusd_h,
				 o->gpus ? o->price_gpu_uusd_h : o->price_cpu_uusd_h);
	}
	assert_int_equal(pool_offers(w.pool, &(struct offer_query){ .gpu_model = "a100" },
				     NOW_MS, &arena, &page, &err),
			 0);
	for (size_t i = 0; i < page.items.len; i++)
		assert_string_equal(page.items.items[i].gpu_model, "NVIDIA A100-SXM4-80GB");
	world_release(&w);
}

static void test_bad_cursors(void **state)
{
	static const char *const bad[] = { "x",
					   "0",
					   "0.1.2",
					   "0.1.2.wk_1",
					   "0.1.2.wk_1.0.9",
					   "0.99999999999999999999.2.wk_1.0",
					   "0.1.2.wk_1.-1",
					   "0...wk_1.0",
					   "1.1.2.wk_1.0",
					   "....." };
	cleanup_arena struct arena arena = { 0 };
	struct offer_page page;
	struct world w;
	struct err err;

	world_init(&w, 5, 3);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const struct offer_query q = { .cursor = bad[i], .sort = OFFER_SORT_PRICE };

		err_clear(&err);
		assert_int_equal(pool_offers(w.pool, &q, NOW_MS, &arena, &page, &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.field, "cursor");
	}
	world_release(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pages),
					    cmocka_unit_test(test_nothing_asked),
					    cmocka_unit_test(test_bad_cursors) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
