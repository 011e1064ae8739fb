/* Placement alone, without store or network: decisions a second and their latency at 1k, 10k,
 * 100k and 1M workers of 40 kinds, mixed requests, pool half full.  The peer is a full scan
 * over arrays that the compiler vectorises (see meson.build).
 *
 *   bench-place [DECISIONS] */
#include "sched.h"
#include <time.h>

#define KINDS	 40
#define MODELS	 10
#define REGIONS	 4
#define GPUS	 8
#define REQUESTS 4096
#define NOW_MS	 INT64_C(1800000000000)

static const char *const model_names[MODELS] = {
	"NVIDIA GeForce RTX 3090",
	"NVIDIA GeForce RTX 4090",
	"NVIDIA GeForce RTX 5090",
	"NVIDIA RTX A6000",
	"NVIDIA L40S",
	"NVIDIA A100-SXM4-40GB",
	"NVIDIA A100-SXM4-80GB",
	"NVIDIA H100 80GB HBM3",
	"NVIDIA H200",
	"Tesla T4",
};
static const char *const wishes[MODELS] = { "3090", "RTX 4090",	 "5090", "A6000", "L40S",
					    "A100", "A100 80GB", "H100", "H200",  "T4" };
static const int64_t vrams[MODELS] = { 24, 24, 32, 48, 48, 40, 80, 80, 141, 16 };
static const char *const regions[REGIONS] = { "eu-de", "eu-fi", "us-east", "ap-sg" };

static uint64_t seed = 1;

static uint64_t roll(uint64_t sides)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % sides;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---- the peer ---- */

struct scan {
	size_t len;
	int32_t *model, *region, *gpus, *cpu, *memory, *disk, *reliability, *vram;
	float *price_gpu, *price_cpu, *price_gib, *score;
};
struct scan_ask {
	int32_t model, region, gpus, cpu, memory, disk, reliability,
		vram; /* model, region: -1 any */
	float max_price;
};

static void scan_init(struct scan *s, size_t len)
{
	int32_t **ints[] = { &s->model,	 &s->region, &s->gpus,	      &s->cpu,
			     &s->memory, &s->disk,   &s->reliability, &s->vram };
	float **floats[] = { &s->price_gpu, &s->price_cpu, &s->price_gib, &s->score };

	s->len = len;
	for (size_t i = 0; i < ARRAY_LEN(ints); i++)
		*ints[i] = xcalloc(len, sizeof(int32_t));
	for (size_t i = 0; i < ARRAY_LEN(floats); i++)
		*floats[i] = xcalloc(len, sizeof(float));
}

static void scan_release(struct scan *s)
{
	free(s->model), free(s->region), free(s->gpus), free(s->cpu), free(s->memory),
		free(s->disk);
	free(s->reliability), free(s->vram), free(s->price_gpu), free(s->price_cpu),
		free(s->price_gib), free(s->score);
}

/* Scores all, then takes the least: two loops without branches. */
static float scan_place(struct scan *s, const struct scan_ask *a)
{
	float *restrict score = s->score, best = 1e30f, gpus = (float)a->gpus,
			cpu = (float)a->cpu / 1000, gib = (float)a->memory / 1024;

	for (size_t i = 0; i < s->len; i++) {
		float price =
			gpus * s->price_gpu[i] + cpu * s->price_cpu[i] + gib * s->price_gib[i];
		int fits = ((s->model[i] == a->model) | (a->model < 0)) &
			   ((s->region[i] == a->region) | (a->region < 0)) &
			   (s->gpus[i] >= a->gpus) & (s->cpu[i] >= a->cpu) &
			   (s->memory[i] >= a->memory) & (s->disk[i] >= a->disk) &
			   (s->reliability[i] >= a->reliability) & (s->vram[i] >= a->vram) &
			   (price <= a->max_price);

		/* A higher reliability wins among equal prices. */
		score[i] = fits ? price - (float)s->reliability[i] * 1e-6f : 1e30f;
	}
	for (size_t i = 0; i < s->len; i++)
		best = score[i] < best ? score[i] : best;
	return best;
}

/* ---- the pool ---- */

struct made {
	struct worker worker;
	struct inventory inventory;
	struct device devices[GPUS];
	char id[ID_SIZE], uuids[GPUS][48];
	const char *free_uuids[GPUS];
};

static int64_t kind_price(size_t kind, bool own_prices)
{
	return 100000 + (int64_t)kind * 25000 + (own_prices ? (int64_t)roll(20000) : 0);
}

/* Worker `n`, whose leases hold half of it on average. */
static void make_worker(struct made *m, size_t n, bool own_prices, struct text_list *ret_free)
{
	size_t kind = n % KINDS, model = kind % MODELS;
	int64_t used = (int64_t)roll(GPUS + 1);

	memset(m, 0, sizeof(*m));
	snprintf(m->id, sizeof(m->id), "wk_%026zu", n);
	ret_free->items = m->free_uuids;
	ret_free->len = 0;
	for (size_t i = 0; i < GPUS; i++) {
		snprintf(m->uuids[i], sizeof(m->uuids[i]), "GPU-%zu-%zu", n, i);
		m->devices[i] = (struct device){ .uuid = m->uuids[i],
						 .model = model_names[model],
						 .vram_mib = vrams[model] * 1024 };
		if ((int64_t)i >= used)
			m->free_uuids[ret_free->len++] = m->uuids[i];
	}
	m->inventory = (struct inventory){
		.devices = { m->devices, GPUS },
		.region = regions[kind / MODELS],
		.available = true,
		.price_gpu_uusd_h = kind_price(kind, own_prices),
		.price_cpu_uusd_h = 2000 + (own_prices ? (int64_t)roll(3) * 1000 : 0),
		.price_gib_uusd_h = 500,
		.available_until_ms = roll(10) ? 0 : NOW_MS + (int64_t)roll(24) * HOUR_MS,
	};
	m->worker = (struct worker){
		.id = m->id,
		.inventory = &m->inventory,
		.cpu_milli = 64000,
		.memory_mib = 262144,
		.disk_mib = 1 << 20,
		.gpus = GPUS,
		.used_gpus = used,
		.used_cpu_milli = used * 1000 * (int64_t)(1 + roll(8)),
		.used_memory_mib = used * 4096 * (int64_t)(1 + roll(8)),
		.used_disk_mib = used * 65536,
		.reliability_ppm = 600000 + (int64_t)roll(400000),
	};
}

static void scan_put(struct scan *s, size_t n, const struct made *m)
{
	const struct worker *w = &m->worker;

	s->model[n] = (int32_t)(n % KINDS % MODELS);
	s->region[n] = (int32_t)(n % KINDS / MODELS);
	s->gpus[n] = (int32_t)(w->gpus - w->used_gpus);
	s->cpu[n] = (int32_t)(w->cpu_milli - w->used_cpu_milli);
	s->memory[n] = (int32_t)(w->memory_mib - w->used_memory_mib);
	s->disk[n] = (int32_t)(w->disk_mib - w->used_disk_mib);
	s->reliability[n] = (int32_t)w->reliability_ppm;
	s->vram[n] = (int32_t)m->devices[0].vram_mib;
	s->price_gpu[n] = (float)m->inventory.price_gpu_uusd_h;
	s->price_cpu[n] = (float)m->inventory.price_cpu_uusd_h;
	s->price_gib[n] = (float)m->inventory.price_gib_uusd_h;
}

struct mixed {
	struct request r;
	struct resources want;
	struct scan_ask ask;
};

static void make_request(struct mixed *x)
{
	static const int64_t gpus[] = { 0, 1, 1, 1, 1, 1, 2, 2, 4, 8 };
	int64_t n = gpus[roll(ARRAY_LEN(gpus))], each = MAX(n, INT64_C(1));
	bool model = n && roll(2), region = roll(10) < 3;
	size_t m = roll(MODELS), g = roll(REGIONS);

	*x = (struct mixed){ .want = { .gpus = n,
				       .cpu_milli = each * 1000 * (int64_t)(1 + roll(8)),
				       .memory_mib = each * 4096 * (int64_t)(1 + roll(8)),
				       .disk_mib = each * 16384 } };
	x->want.gpu_model = model ? wishes[m] : NULL;
	x->want.vram_mib = n && !model && roll(2) ? (int64_t)(1 + roll(5)) * 16384 : 0;
	x->r = (struct request){
		.region = region ? regions[g] : NULL,
		.tie = roll(1 << 30),
		.now_ms = NOW_MS,
		.min_reliability_ppm = roll(5) ? 0 : 900000,
		.max_duration_s = roll(2) ? 3600 : 0,
		.max_price_uusd_h = roll(3) ? 0 : each * (int64_t)(100000 + roll(1000000))
	};
	x->ask = (struct scan_ask){
		.model = model ? (int32_t)m : -1,
		.region = region ? (int32_t)g : -1,
		.gpus = (int32_t)n,
		.cpu = (int32_t)x->want.cpu_milli,
		.memory = (int32_t)x->want.memory_mib,
		.disk = (int32_t)x->want.disk_mib,
		.reliability = (int32_t)x->r.min_reliability_ppm,
		.vram = (int32_t)x->want.vram_mib,
		.max_price = x->r.max_price_uusd_h ? (float)x->r.max_price_uusd_h : 1e29f,
	};
}

/* ---- measuring ---- */

struct figures {
	double mean_ns, p50_ns, p99_ns, cycle_ns, scan_ns;
	double placed;
};

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void measure_place(const struct pool *p, struct mixed *requests, size_t decisions,
			  struct figures *ret)
{
	int64_t *took = xcalloc(decisions, sizeof(*took)), start;
	struct placement pl;
	size_t placed = 0;

	for (size_t i = 0; i < decisions / 10; i++)
		(void)pool_place(p, &requests[i % REQUESTS].r, &pl);
	start = now_ns();
	for (size_t i = 0; i < decisions; i++)
		placed += pool_place(p, &requests[i % REQUESTS].r, &pl);
	ret->mean_ns = (double)(now_ns() - start) / (double)decisions;
	for (size_t i = 0; i < decisions; i++) {
		start = now_ns();
		(void)pool_place(p, &requests[i % REQUESTS].r, &pl);
		took[i] = now_ns() - start;
	}
	qsort(took, decisions, sizeof(*took), by_value);
	ret->p50_ns = (double)took[decisions / 2];
	ret->p99_ns = (double)took[decisions * 99 / 100];
	ret->placed = (double)placed / (double)decisions;
	free(took);
}

/* Place, take, and give back what was taken 1000 decisions ago: the pool stays as full. */
static void measure_cycle(struct pool *p, struct mixed *requests, size_t decisions,
			  struct figures *ret)
{
	enum { BACK = 1000 };
	static struct held {
		struct placement pl;
		const struct resources *want;
	} held[BACK];
	int64_t start = now_ns();

	for (size_t i = 0; i < decisions; i++) {
		struct mixed *x = &requests[i % REQUESTS];
		struct held *h = &held[i % BACK];

		if (h->want)
			pool_give(p, h->pl.worker_id, h->want, h->pl.devices,
				  h->pl.device_count);
		h->want = pool_place(p, &x->r, &h->pl) ? &x->want : NULL;
		if (h->want)
			pool_take(p, &h->pl, h->want);
	}
	ret->cycle_ns = (double)(now_ns() - start) / (double)decisions;
	memset(held, 0, sizeof(held));
}

static void measure_scan(struct scan *s, struct mixed *requests, struct figures *ret)
{
	size_t decisions = MAX((size_t)20000000 / s->len, (size_t)20);
	volatile float sink = 0;
	int64_t start = now_ns();

	for (size_t i = 0; i < decisions; i++)
		sink = sink + scan_place(s, &requests[i % REQUESTS].ask);
	ret->scan_ns = (double)(now_ns() - start) / (double)decisions;
}

static struct figures run(size_t workers, size_t decisions, bool own_prices)
{
	struct pool *p = pool_new();
	struct mixed *requests = xcalloc(REQUESTS, sizeof(*requests));
	struct made *m = xmalloc(sizeof(*m));
	struct figures ret = { 0 };
	struct scan scan;

	scan_init(&scan, workers);
	for (size_t i = 0; i < workers; i++) {
		struct text_list devices_free;

		make_worker(m, i, own_prices, &devices_free);
		pool_put(p, &m->worker, &devices_free);
		scan_put(&scan, i, m);
	}
	for (size_t i = 0; i < REQUESTS; i++) {
		make_request(&requests[i]);
		requests[i].r.want = &requests[i].want;
	}
	measure_place(p, requests, decisions, &ret);
	measure_cycle(p, requests, decisions, &ret);
	measure_scan(&scan, requests, &ret);
	printf("%-10s %8zu workers: p50 %6.0f ns, p99 %6.0f ns, %9.0f/s, %4.1f%% placed; "
	       "place+take+give %6.0f ns; "
	       "full scan %9.0f ns (%.0f times)\n",
	       own_prices ? "own prices" : "40 kinds", workers, ret.p50_ns, ret.p99_ns,
	       1e9 / ret.mean_ns, 100 * ret.placed, ret.cycle_ns, ret.scan_ns,
	       ret.scan_ns / ret.mean_ns);
	pool_free(p);
	scan_release(&scan);
	free(requests);
	free(m);
	return ret;
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 1000, 10000, 100000, 1000000 };
	size_t decisions = argc > 1 ? strtoul(argv[1], NULL, 10) : 200000;
	struct figures results[ARRAY_LEN(sizes)];
	double growth;

	for (int own_prices = 1; own_prices >= 0; own_prices--)
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
			results[i] = run(sizes[i], MAX(decisions, (size_t)1000), own_prices);
	growth = results[3].mean_ns / results[0].mean_ns;
	printf("bench placement-10k value=%.2f unit=us-p99 peer=scan peer_value=%.2f "
	       "ratio=%.1f goal=5 %s\n",
	       results[1].p99_ns / 1000, results[1].scan_ns / 1000,
	       results[1].scan_ns / results[1].mean_ns,
	       results[1].p99_ns < 5000 ? "ok" : "short");
	printf("bench placement-growth value=%.2f unit=times-1k-to-1M peer=scan "
	       "peer_value=%.0f ratio=%.1f goal=4 %s\n",
	       growth, results[3].scan_ns / results[0].scan_ns,
	       results[3].scan_ns / results[3].mean_ns, growth <= 4 ? "ok" : "short");
	return 0;
}
