/* Random workers and requests for the tests of sched, and the plain truth about them: a copy of
 * what was put, and a scan of it that shares no code with the pool. */
#ifndef TES_SCHED_TEST_POOL_H
#define TES_SCHED_TEST_POOL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <strings.h>

#include <cmocka.h>

#include "../internal.h"

#define NOW_MS	   INT64_C(1800000000000)
#define WORKER_MAX 64
#define DEVICE_MAX 8

struct mirror {
	struct worker worker;
	struct inventory inventory;
	struct device devices[DEVICE_MAX];
	bool taken[DEVICE_MAX];
	char id[ID_SIZE], uuids[DEVICE_MAX][48];
};

struct world {
	struct pool *pool;
	struct mirror workers[WORKER_MAX];
	size_t len;
	uint64_t seed;
};

static inline uint64_t roll(struct world *w, uint64_t sides)
{
	w->seed = w->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (w->seed >> 33) % sides;
}

static inline bool chance(struct world *w, uint64_t percent)
{
	return roll(w, 100) < percent;
}

static const char *const models[] = { "NVIDIA GeForce RTX 4090", "NVIDIA A100-SXM4-80GB",
				      "NVIDIA A1000", "Tesla T4" };
static const char *const wishes[] = { "4090", "RTX 4090", "A100", "a1000",
				      "t4",   "nvidia",	  "H100" };
static const char *const regions[] = { "eu-de", "us-east", NULL };

static inline void mirror_put(struct world *w, struct mirror *m)
{
	const char *free_uuids[DEVICE_MAX];
	struct text_list list = { .items = free_uuids };

	for (size_t i = 0; i < m->inventory.devices.len; i++)
		if (!m->taken[i])
			free_uuids[list.len++] = m->uuids[i];
	pool_put(w->pool, &m->worker, &list);
}

static inline const char *number_id(char id[static ID_SIZE], size_t number)
{
	snprintf(id, ID_SIZE, "wk_%026zu", number);
	return id;
}

static inline void mirror_random(struct world *w, struct mirror *m, size_t number)
{
	size_t devices = chance(w, 25) ? 0 : roll(w, DEVICE_MAX) + 1,
	       model = roll(w, ARRAY_LEN(models));

	*m = (struct mirror){ 0 };
	number_id(m->id, number);
	for (size_t i = 0; i < devices; i++) {
		/* Some machines mix two models. */
		size_t of = chance(w, 10) ? (model + 1) % ARRAY_LEN(models) : model;

		snprintf(m->uuids[i], sizeof(m->uuids[i]), "GPU-%zu-%zu", number, i);
		m->devices[i] = (struct device){ .index = (int64_t)i,
						 .uuid = m->uuids[i],
						 .model = models[of],
						 .vram_mib = (int64_t)(of + 1) * 16384 };
	}
	m->inventory = (struct inventory){
		.devices = { m->devices, devices },
		.price_gpu_uusd_h = (int64_t)roll(w, 4) * 100000,
		.price_cpu_uusd_h = (int64_t)roll(w, 3) * 10000,
		.price_gib_uusd_h = (int64_t)roll(w, 3) * 1000,
		.region = regions[roll(w, ARRAY_LEN(regions))],
		.lease_min_s = chance(w, 20) ? 3600 : 0,
		.lease_max_s = chance(w, 20) ? 7200 : 0,
		.available_until_ms =
			chance(w, 20) ? NOW_MS + (int64_t)roll(w, 10) * HOUR_MS : 0,
		.available = !chance(w, 5),
		.problem = chance(w, 5) ? "engine does not answer" : NULL,
	};
	m->worker = (struct worker){
		.id = m->id,
		.inventory = &m->inventory,
		.blocked = chance(w, 5),
		.state = chance(w, 10) ? WORKER_OFFLINE : WORKER_ONLINE,
		.intent = chance(w, 10) ? (int)roll(w, 3) : INTENT_OPEN,
		.cpu_milli = (int64_t)(roll(w, 16) + 1) * 1000,
		.memory_mib = (int64_t)(roll(w, 16) + 1) * 4096,
		.disk_mib = (int64_t)(roll(w, 16) + 1) * 10240,
		.gpus = (int64_t)devices,
		.reliability_ppm = 600000 + (int64_t)roll(w, 3) * 100000,
	};
	if (chance(w, 3))
		m->worker.used_cpu_milli = m->worker.cpu_milli + 1000;
	mirror_put(w, m);
}

static inline void world_init(struct world *w, uint64_t seed, size_t len)
{
	*w = (struct world){ .pool = pool_new(), .len = len, .seed = seed };
	for (size_t i = 0; i < len; i++)
		mirror_random(w, &w->workers[i], i);
}

static inline void world_release(struct world *w)
{
	pool_free(w->pool);
}

struct test_request {
	struct request r;
	struct resources want;
	struct avoid avoid[2];
	char worker[ID_SIZE], avoided[2][ID_SIZE];
};

static inline void request_random(struct world *w, struct test_request *t)
{
	*t = (struct test_request){
		.want = { .gpus = chance(w, 40) ? 0 : (int64_t)roll(w, 5) + 1,
			  .cpu_milli = (int64_t)(roll(w, 8) + 1) * 500,
			  .memory_mib = (int64_t)(roll(w, 8) + 1) * 1024,
			  .disk_mib = (int64_t)(roll(w, 8) + 1) * 1024 },
		.r = { .min_reliability_ppm = chance(w, 20) ? 700000 : 0,
		       .tie = roll(w, 1 << 30),
		       .now_ms = NOW_MS,
		       .max_price_uusd_h = chance(w, 30) ? (int64_t)roll(w, 10) * 50000 : 0,
		       .max_duration_s = chance(w, 50) ? 0 : (int64_t)(roll(w, 6) + 1) * 1800,
		       .region = chance(w, 30) ? regions[roll(w, 2)] : NULL },
	};
	t->r.want = &t->want;
	if (t->want.gpus && chance(w, 50))
		t->want.gpu_model = wishes[roll(w, ARRAY_LEN(wishes))];
	if (t->want.gpus && chance(w, 20))
		t->want.vram_mib = (int64_t)(roll(w, 4) + 1) * 16384;
	if (chance(w, 10))
		t->r.worker = number_id(t->worker, roll(w, w->len));
	if (!chance(w, 30))
		return;
	t->r.avoid = t->avoid;
	t->r.avoid_len = roll(w, 2) + 1;
	for (size_t i = 0; i < 2; i++)
		t->avoid[i] = (struct avoid){ number_id(t->avoided[i], roll(w, w->len)),
					      chance(w, 50) ? 1000000 : 250000 };
}

/* Does `wish` stand in `model` as words?  By hand for the models above. */
static inline bool truth_model(const char *model, const char *wish)
{
	if (!wish)
		return true;
	if (strcmp(wish, "nvidia") == 0)
		return strncmp(model, "NVIDIA", 6) == 0;
	if (strcmp(wish, "4090") == 0 || strcmp(wish, "RTX 4090") == 0)
		return strcmp(model, models[0]) == 0;
	if (strcmp(wish, "A100") == 0)
		return strcmp(model, models[1]) == 0;
	if (strcmp(wish, "a1000") == 0)
		return strcmp(model, models[2]) == 0;
	return strcmp(wish, "t4") == 0 && strcmp(model, models[3]) == 0;
}

static inline int64_t truth_free(const struct mirror *m, const struct resources *want,
				 const char *model)
{
	int64_t n = 0;

	for (size_t i = 0; i < m->inventory.devices.len; i++)
		n += !m->taken[i] && strcmp(m->devices[i].model, model) == 0 &&
		     m->devices[i].vram_mib >= want->vram_mib &&
		     truth_model(model, want->gpu_model);
	return n;
}

static inline int64_t truth_avoid(const struct request *r, const char *id)
{
	int64_t weight = 0;

	for (size_t i = 0; i < r->avoid_len; i++)
		if (strcmp(r->avoid[i].worker_id, id) == 0)
			weight = MAX(weight, r->avoid[i].weight_ppm);
	return weight;
}

/* May the worker run it, and what would its price count as? */
static inline bool truth_fits(const struct mirror *m, const struct request *r,
			      int64_t *ret_counts_as)
{
	const struct worker *w = &m->worker;
	const struct inventory *v = &m->inventory;
	const struct resources *want = r->want;
	int64_t price, weight = truth_avoid(r, m->id), gpus = 0,
		       end = r->now_ms + r->max_duration_s * 1000;

	if (!m->id[0] || w->state != WORKER_ONLINE || w->intent != INTENT_OPEN || w->blocked ||
	    !v->available || v->problem)
		return false;
	if (w->used_cpu_milli > w->cpu_milli || w->used_memory_mib > w->memory_mib ||
	    w->used_disk_mib > w->disk_mib || w->used_gpus > w->gpus)
		return false;
	if (w->cpu_milli - w->used_cpu_milli < want->cpu_milli ||
	    w->memory_mib - w->used_memory_mib < want->memory_mib ||
	    w->disk_mib - w->used_disk_mib < want->disk_mib)
		return false;
	for (size_t i = 0; i < v->devices.len; i++)
		gpus = MAX(gpus, truth_free(m, want, m->devices[i].model));
	if (gpus < want->gpus || w->reliability_ppm < r->min_reliability_ppm)
		return false;
	if (r->max_duration_s ? (v->lease_max_s && r->max_duration_s > v->lease_max_s) ||
					r->max_duration_s < v->lease_min_s ||
					(v->available_until_ms && end > v->available_until_ms)
			      : v->lease_max_s || v->available_until_ms)
		return false;
	if (r->region && (!v->region || strcasecmp(v->region, r->region) != 0))
		return false;
	if ((r->worker && strcmp(r->worker, m->id) != 0) || weight >= 1000000)
		return false;
	if (!price_of(want, v->price_gpu_uusd_h, v->price_cpu_uusd_h, v->price_gib_uusd_h,
		      &price) ||
	    (r->max_price_uusd_h && price > r->max_price_uusd_h))
		return false;
	*ret_counts_as = price * 1000000 / (1000000 - weight);
	return true;
}

#endif
