/* explain: every offer is counted once, and what it says would help does help. */
#include "pool.h"

static size_t offers_of(const struct world *w)
{
	size_t n = 0;

	for (size_t i = 1; i < w->pool->shelves.len; i++)
		n += w->pool->shelves.items[i].worker != NULL;
	return n;
}

/* Applies the change that explain names for `c`, as a customer would. */
static void check_change(const struct world *w, const struct test_request *t, enum constraint c,
			 const struct shelf *s)
{
	struct test_request changed = *t;
	struct placement pl;

	changed.r.want = &changed.want;
	if (!constraint_relax(c, s, &changed.r, &changed.want))
		return;
	if (!pool_place(w->pool, &changed.r, &pl))
		fail_msg("a change of %s does not help", filters[c].name);
}

static void check_lines(const struct explanation *e)
{
	int64_t excluded = 0;

	for (size_t i = 0; i < e->lines.len; i++) {
		const struct explain_line *l = &e->lines.items[i];

		assert_true(l->excluded > 0);
		assert_false(str_empty(l->constraint) || str_empty(l->wanted) ||
			     str_empty(l->best));
		excluded += l->excluded;
	}
	assert_int_equal(excluded, e->offers - e->matching);
	assert_false(str_empty(e->summary));
}

static void test_counts_and_changes(void **state)
{
	size_t changes = 0, matching = 0;

	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct world w;

		world_init(&w, seed, seed % WORKER_MAX + 1);
		for (int i = 0; i < 20; i++) {
			cleanup_arena struct arena arena = { 0 };
			struct test_request t;
			struct explain_counts n;
			struct explanation e;
			struct placement pl;
			struct ask a;

			request_random(&w, &t);
			pool_explain(w.pool, &t.r, &arena, &e);
			assert_int_equal(e.offers, offers_of(&w));
			assert_int_equal(e.matching > 0, pool_place(w.pool, &t.r, &pl));
			check_lines(&e);
			matching += e.matching > 0;
			ask_init(&a, &t.r);
			explain_count(w.pool, &a, &n);
			for (size_t c = 0; c < CONSTRAINT_COUNT; c++) {
				if (!n.of[c].alone)
					continue;
				check_change(&w, &t, (enum constraint)c, n.of[c].alone);
				changes++;
			}
		}
		world_release(&w);
	}
	assert_true(changes > 3000 && matching > 1000);
}

static void one_worker(struct world *w, struct mirror **ret)
{
	struct mirror *m = &w->workers[0];

	*w = (struct world){ .pool = pool_new(), .len = 1 };
	number_id(m->id, 1);
	snprintf(m->uuids[0], sizeof(m->uuids[0]), "GPU-0");
	m->devices[0] =
		(struct device){ .uuid = m->uuids[0], .model = models[0], .vram_mib = 24576 };
	m->inventory = (struct inventory){ .devices = { m->devices, 1 },
					   .available = true,
					   .price_gpu_uusd_h = 400000,
					   .region = "eu-de" };
	m->worker = (struct worker){ .id = m->id,
				     .inventory = &m->inventory,
				     .cpu_milli = 8000,
				     .memory_mib = 32768,
				     .disk_mib = 102400,
				     .gpus = 1,
				     .reliability_ppm = 912345 };
	mirror_put(w, m);
	*ret = m;
}

#define assert_says(e, name, a_wanted, a_best, a_change)                  \
	do {                                                              \
		assert_int_equal((e).lines.len, 1);                       \
		assert_string_equal((e).lines.items[0].constraint, name); \
		assert_string_equal((e).lines.items[0].wanted, a_wanted); \
		assert_string_equal((e).lines.items[0].best, a_best);     \
		assert_string_equal((e).lines.items[0].change, a_change); \
	} while (0)

static void test_texts(void **state)
{
	const struct resources plain = {
		.gpus = 1, .cpu_milli = 1000, .memory_mib = 1024, .disk_mib = 1024
	};
	cleanup_arena struct arena arena = { 0 };
	struct resources want = plain;
	struct request r = { .want = &want, .now_ms = NOW_MS };
	struct explanation e;
	struct mirror *m;
	struct world w;

	one_worker(&w, &m);
	pool_explain(w.pool, &r, &arena, &e);
	assert_int_equal(e.lines.len, 0);
	assert_string_equal(e.summary, "1 of 1 offers match.");
	want.gpus = 2;
	pool_explain(w.pool, &r, &arena, &e);
	assert_says(e, "gpus", "2", "1 free of 1", "ask for at most 1 gpus");
	assert_string_equal(
		e.summary,
		"None of 1 offers matches. One of these changes is enough: ask for at most 1 "
		"gpus.");
	want = plain;
	r.max_price_uusd_h = 250000;
	pool_explain(w.pool, &r, &arena, &e);
	assert_says(e, "max_price", "$0.25/h", "$0.40/h", "set max_price to at least $0.40/h");
	r.max_price_uusd_h = 0;
	r.min_reliability_ppm = 990000;
	pool_explain(w.pool, &r, &arena, &e);
	assert_says(e, "min_reliability", "99%", "91.2345%",
		    "accept a min_reliability of 91.2345%");
	r.min_reliability_ppm = 0;
	want.gpu_model = "H100";
	pool_explain(w.pool, &r, &arena, &e);
	assert_says(e, "gpu_model", "H100", "NVIDIA GeForce RTX 4090",
		    "ask for gpu_model \"NVIDIA GeForce RTX 4090\"");
	want.gpu_model = NULL;
	want.cpu_milli = 16500;
	pool_explain(w.pool, &r, &arena, &e);
	assert_says(e, "cpu", "16.5 cpus", "8 cpus free of 8 cpus", "ask for at most 8 cpus");
	r.min_reliability_ppm = 990000;
	pool_explain(w.pool, &r, &arena, &e);
	assert_null(e.lines.items[0].change);
	assert_string_equal(
		e.summary,
		"None of 1 offers matches. No single change is enough; all of these are, for "
		"worker "
		"wk_00000000000000000000000001: ask for at most 8 cpus; accept a "
		"min_reliability of 91.2345%.");
	r.min_reliability_ppm = 0;
	want = plain;
	m->inventory.available_until_ms = NOW_MS + 2 * HOUR_MS;
	mirror_put(&w, m);
	pool_explain(w.pool, &r, &arena, &e);
	assert_string_equal(e.lines.items[0].wanted, "an open end");
	assert_string_equal(e.lines.items[0].change, "set max_duration to at most 2h");
	m->worker.state = WORKER_OFFLINE;
	mirror_put(&w, m);
	r.max_duration_s = 60;
	pool_explain(w.pool, &r, &arena, &e);
	assert_says(e, "state", "online", "offline", "wait until the worker is back");
	pool_remove(w.pool, m->id);
	pool_explain(w.pool, &r, &arena, &e);
	assert_int_equal(e.offers, 0);
	assert_false(str_empty(e.summary));
	world_release(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_counts_and_changes),
					    cmocka_unit_test(test_texts) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
