/* pool_place against a plain scan of random pools; take and give; ties. */
#include "pool.h"

static struct mirror *mirror_find(struct world *w, const char *id)
{
	for (size_t i = 0; i < w->len; i++)
		if (strcmp(w->workers[i].id, id) == 0)
			return &w->workers[i];
	return NULL;
}

/* The best by price, then by reliability; NULL if none. */
static struct mirror *scan(struct world *w, const struct request *r, int64_t *ret_counts_as)
{
	struct mirror *best = NULL;
	int64_t counts_as;

	for (size_t i = 0; i < w->len; i++) {
		struct mirror *m = &w->workers[i];

		if (!truth_fits(m, r, &counts_as))
			continue;
		if (!best || counts_as < *ret_counts_as ||
		    (counts_as == *ret_counts_as &&
		     m->worker.reliability_ppm > best->worker.reliability_ppm)) {
			best = m;
			*ret_counts_as = counts_as;
		}
	}
	return best;
}

static void mirror_use(struct mirror *m, const struct resources *want,
		       const char *const *devices, size_t len, int64_t sign)
{
	m->worker.used_cpu_milli += sign * want->cpu_milli;
	m->worker.used_memory_mib += sign * want->memory_mib;
	m->worker.used_disk_mib += sign * want->disk_mib;
	m->worker.used_gpus += sign * want->gpus;
	for (size_t i = 0; i < len; i++)
		for (size_t d = 0; d < m->inventory.devices.len; d++)
			if (strcmp(m->uuids[d], devices[i]) == 0) {
				assert_int_equal(m->taken[d], sign < 0);
				m->taken[d] = sign > 0;
			}
}

static void check_devices(const struct mirror *m, const struct placement *pl,
			  const struct resources *want)
{
	const char *model = NULL;

	assert_int_equal(pl->device_count, want->gpus);
	for (size_t i = 0; i < pl->device_count; i++) {
		size_t d = 0;

		while (d < m->inventory.devices.len && strcmp(m->uuids[d], pl->devices[i]) != 0)
			d++;
		assert_true(d < m->inventory.devices.len);
		assert_false(m->taken[d]);
		assert_true(m->devices[d].vram_mib >= want->vram_mib);
		assert_true(truth_model(m->devices[d].model, want->gpu_model));
		assert_true(!model || strcmp(model, m->devices[d].model) == 0);
		model = m->devices[d].model;
	}
}

struct held {
	char worker[ID_SIZE];
	struct resources want;
	char devices[DEVICE_MAX][48];
	size_t device_count;
	bool is;
};

static void hold(struct world *w, struct held *h, const struct placement *pl,
		 const struct resources *want)
{
	*h = (struct held){ .want = *want, .device_count = pl->device_count, .is = true };
	memcpy(h->worker, pl->worker_id, ID_SIZE);
	for (size_t i = 0; i < pl->device_count; i++)
		snprintf(h->devices[i], sizeof(h->devices[i]), "%s", pl->devices[i]);
	pool_take(w->pool, pl, want);
	mirror_use(mirror_find(w, pl->worker_id), want, pl->devices, pl->device_count, 1);
}

static void give(struct world *w, struct held *h)
{
	const char *devices[DEVICE_MAX];
	struct mirror *m = mirror_find(w, h->worker);

	for (size_t i = 0; i < h->device_count; i++)
		devices[i] = h->devices[i];
	pool_give(w->pool, h->worker, &h->want, devices, h->device_count);
	if (m)
		mirror_use(m, &h->want, devices, h->device_count, -1);
	h->is = false;
}

static void change_someone(struct world *w, struct held *held, size_t held_len)
{
	struct mirror *m = &w->workers[roll(w, w->len)];
	size_t number = (size_t)(m - w->workers);

	if (!m->id[0]) {
		mirror_random(w, m, number);
		return;
	}
	if (chance(w, 50)) {
		m->worker.state =
			m->worker.state == WORKER_ONLINE ? WORKER_OFFLINE : WORKER_ONLINE;
		m->worker.reliability_ppm = 600000 + (int64_t)roll(w, 4) * 100000;
		mirror_put(w, m);
		return;
	}
	for (size_t i = 0; i < held_len; i++)
		if (held[i].is && strcmp(held[i].worker, m->id) == 0)
			held[i].is = false;
	if (chance(w, 50)) {
		m->worker.state = WORKER_LEFT;
		mirror_put(w, m);
	} else {
		pool_remove(w->pool, m->id);
	}
	m->id[0] = '\0';
}

/* 400 pools, 60 decisions each, with leases coming and going and workers changing in
 * between. */
static void test_same_as_scan(void **state)
{
	size_t placed = 0, refused = 0;

	for (uint64_t seed = 1; seed <= 400; seed++) {
		struct world w;
		struct held held[60] = { 0 };

		world_init(&w, seed, seed % WORKER_MAX + 1);
		for (size_t i = 0; i < ARRAY_LEN(held); i++) {
			struct test_request t;
			struct placement pl;
			struct mirror *best, *got;
			int64_t best_counts_as = 0, counts_as;
			struct held *old = &held[roll(&w, ARRAY_LEN(held))];

			request_random(&w, &t);
			best = scan(&w, &t.r, &best_counts_as);
			if (!pool_place(w.pool, &t.r, &pl)) {
				assert_null(best);
				refused++;
			} else {
				assert_non_null(best);
				got = mirror_find(&w, pl.worker_id);
				assert_true(truth_fits(got, &t.r, &counts_as));
				assert_int_equal(counts_as, best_counts_as);
				assert_int_equal(got->worker.reliability_ppm,
						 best->worker.reliability_ppm);
				check_devices(got, &pl, &t.want);
				hold(&w, &held[i], &pl, &t.want);
				placed++;
			}
			if (old->is && chance(&w, 30))
				give(&w, old);
			if (chance(&w, 10))
				change_someone(&w, held, ARRAY_LEN(held));
		}
		world_release(&w);
	}
	/* The worlds must be worth it: both answers often. */
	assert_true(placed > 3000 && refused > 3000);
}

static void put_equal(struct world *w, size_t len, int64_t gpus)
{
	*w = (struct world){ .pool = pool_new(), .len = len, .seed = 1 };
	for (size_t i = 0; i < len; i++) {
		struct mirror *m = &w->workers[i];

		number_id(m->id, i);
		for (size_t d = 0; d < (size_t)gpus; d++) {
			snprintf(m->uuids[d], sizeof(m->uuids[d]), "GPU-%zu-%zu", i, d);
			m->devices[d] = (struct device){ .uuid = m->uuids[d],
							 .model = models[0],
							 .vram_mib = 24576 };
		}
		m->inventory = (struct inventory){ .devices = { m->devices, (size_t)gpus },
						   .available = true,
						   .price_gpu_uusd_h = 250000 };
		m->worker = (struct worker){ .id = m->id,
					     .inventory = &m->inventory,
					     .cpu_milli = 16000,
					     .memory_mib = 65536,
					     .disk_mib = 102400,
					     .gpus = gpus,
					     .reliability_ppm = 600000 };
		mirror_put(w, m);
	}
}

/* Among equals each gets its share, and one tie gives one answer. */
static void test_ties_spread(void **state)
{
	struct resources want = {
		.gpus = 1, .cpu_milli = 1000, .memory_mib = 1024, .disk_mib = 1024
	};
	struct request r = { .want = &want, .now_ms = NOW_MS };
	size_t count[16] = { 0 };
	struct placement pl;
	struct world w;

	put_equal(&w, ARRAY_LEN(count), 2);
	for (r.tie = 0; r.tie < 16000; r.tie++) {
		assert_true(pool_place(w.pool, &r, &pl));
		count[strtoul(pl.worker_id + 3, NULL, 10)]++;
	}
	for (size_t i = 0; i < ARRAY_LEN(count); i++)
		assert_true(count[i] > 0);
	for (int i = 0; i < 3; i++) {
		char first[ID_SIZE];

		assert_true(pool_place(w.pool, &r, &pl));
		memcpy(first, pl.worker_id, ID_SIZE);
		assert_true(pool_place(w.pool, &r, &pl));
		assert_string_equal(first, pl.worker_id);
	}
	world_release(&w);
}

/* Of equals, the one that is already in use: big machines stay whole. */
static void test_fullest_first(void **state)
{
	struct resources one = { .gpus = 1,
				 .cpu_milli = 1000,
				 .memory_mib = 1024,
				 .disk_mib = 1024 },
			 all = one;
	struct request r = { .want = &one, .now_ms = NOW_MS };
	char used[ID_SIZE];
	struct placement pl;
	struct world w;

	put_equal(&w, 10, 8);
	all.gpus = 8;
	for (size_t i = 0; i < 8; i++) {
		r.tie = i * 7919;
		assert_true(pool_place(w.pool, &r, &pl));
		if (i)
			assert_string_equal(pl.worker_id, used);
		memcpy(used, pl.worker_id, ID_SIZE);
		pool_take(w.pool, &pl, &one);
	}
	r.want = &all;
	for (size_t i = 0; i < 9; i++) {
		assert_true(pool_place(w.pool, &r, &pl));
		assert_string_not_equal(pl.worker_id, used);
		pool_take(w.pool, &pl, &all);
	}
	assert_false(pool_place(w.pool, &r, &pl));
	world_release(&w);
}

static void test_round_trip(void **state)
{
	struct resources want = {
		.gpus = 2, .cpu_milli = 4000, .memory_mib = 8192, .disk_mib = 1024
	};
	struct request r = { .want = &want, .now_ms = NOW_MS };
	struct pool_sum *before, *after;
	struct placement pl[8], unused;
	cleanup_arena struct arena arena = { 0 };
	struct world w;

	put_equal(&w, 2, 8);
	assert_int_equal(pool_sums(w.pool, &arena, &before), 1);
	for (size_t i = 0; i < ARRAY_LEN(pl); i++) {
		assert_true(pool_place(w.pool, &r, &pl[i]));
		pool_take(w.pool, &pl[i], &want);
	}
	assert_false(pool_place(w.pool, &r, &unused));
	assert_int_equal(pool_sums(w.pool, &arena, &after), 1);
	assert_int_equal(after->gpus_free, 0);
	assert_int_equal(after->cpu_milli_free, 0);
	for (size_t i = 0; i < ARRAY_LEN(pl); i++)
		pool_give(w.pool, pl[i].worker_id, &want, pl[i].devices, pl[i].device_count);
	assert_int_equal(pool_sums(w.pool, &arena, &after), 1);
	assert_memory_equal(&before->workers, &after->workers,
			    sizeof(*before) - offsetof(struct pool_sum, workers));
	assert_int_equal(after->gpus, 16);
	assert_string_equal(after->gpu_model, models[0]);
	world_release(&w);
}

static void test_models(void **state)
{
	assert_true(gpu_model_matches("NVIDIA GeForce RTX 4090", "4090"));
	assert_true(gpu_model_matches("NVIDIA GeForce RTX 4090", "rtx 4090"));
	assert_true(gpu_model_matches("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090"));
	assert_true(gpu_model_matches("NVIDIA A100-SXM4-80GB", "A100"));
	assert_true(gpu_model_matches("NVIDIA A100-SXM4-80GB", "a100 80gb"));
	assert_true(gpu_model_matches("NVIDIA A100-SXM4-80GB", NULL));
	assert_true(gpu_model_matches("", ""));
	assert_false(gpu_model_matches("NVIDIA A1000", "A100"));
	assert_false(gpu_model_matches("NVIDIA GeForce RTX 4090", "RTX 4080"));
	assert_false(gpu_model_matches("NVIDIA GeForce RTX 4090", "409"));
	assert_false(gpu_model_matches("", "4090"));
	assert_false(gpu_model_matches("NVIDIA A1000", "--"));
}

static void test_avoid_weight(void **state)
{
	assert_int_equal(avoid_weight(500000, 0), 500000);
	assert_int_equal(avoid_weight(500000, -5), 500000);
	assert_int_equal(avoid_weight(500000, HOUR_MS), 250000);
	assert_int_equal(avoid_weight(1000000, 3 * HOUR_MS), 125000);
	assert_in_range(avoid_weight(1000000, HOUR_MS / 2), 707000, 707200);
	assert_int_equal(avoid_weight(1000000, 400 * DAY_MS), 0);
	assert_int_equal(avoid_weight(0, HOUR_MS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_scan),  cmocka_unit_test(test_ties_spread),
		cmocka_unit_test(test_fullest_first), cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_models),	      cmocka_unit_test(test_avoid_weight),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
