/* sched, inside: how the pool is laid out.  See sched.h for what it promises.
 *
 * A worker's devices of one model and size of memory form a `shelf`; a worker without devices
 * has one empty shelf. An offer is a shelf.  Shelves of the same model, memory and region are a
 * `kind`.  A kind keeps those that can be placed on in a treap, in the order in which they are
 * preferred, and every node knows bounds for its subtree (least prices, most of everything
 * else): a search leaves out a subtree that cannot hold anything better. */
#ifndef TES_SCHED_INTERNAL_H
#define TES_SCHED_INTERNAL_H

#include "sched.h"

/* What a shelf has and a request needs at least: one comparison, one bound. */
enum dim {
	DIM_GPUS,
	DIM_CPU,
	DIM_MEMORY,
	DIM_DISK,
	DIM_RELIABILITY,
	DIM_UNTIL,     /* ms since 1970; INT64_MAX: open end */
	DIM_LEASE_MAX, /* seconds; INT64_MAX: any */
	DIM_LEASE_MIN, /* seconds, negated */
	DIM_COUNT,
	DIM_NONE = -1,
};
enum price { PRICE_GPU, PRICE_CPU, PRICE_GIB, PRICE_COUNT };

struct kind {
	const char *model, *region; /* "" where there is none */
	int64_t vram_mib;
	char *key;
	uint32_t root;	 /* of its treap; 0: nothing can be placed on it now */
	size_t refs;	 /* shelves, placeable or not */
	size_t position; /* in pool.kinds */
};

struct shelf {
	uint32_t left, right;
	uint32_t group; /* of its worker */
	bool indexed;
	uint64_t hash; /* the order of equals, and the heap order of the treap */
	struct pool_worker *worker;
	struct kind *kind;
	int64_t has[DIM_COUNT];
	int64_t price[PRICE_COUNT];
	int64_t most[DIM_COUNT]; /* of the subtree */
	int64_t least[PRICE_COUNT];
};

struct group {
	const char *model;
	int64_t vram_mib, total, free;
	uint32_t shelf;
};
struct pool_device {
	const char *uuid;
	uint32_t group;
	bool free;
};

/* One allocation: the texts and arrays stand behind the struct. */
struct pool_worker {
	char id[ID_SIZE];
	int state, intent;
	bool blocked, available, simulated;
	const char *problem, *region, *cpu_model, *gpu_driver, *cuda_version;
	int64_t cpu_milli, memory_mib, disk_mib, gpus;
	int64_t used_cpu_milli, used_memory_mib, used_disk_mib, used_gpus;
	int64_t price[PRICE_COUNT];
	int64_t uptime_ppm, reliability_ppm, net_down_kbps, net_up_kbps;
	int64_t lease_min_s, lease_max_s, available_until_ms;
	int64_t updated_ms;
	size_t position; /* in pool.workers */
	struct group *groups;
	size_t group_count;
	struct pool_device *devices;
	size_t device_count;
};

/* Which kinds a wish for a GPU model selects: remembered, since it compares texts. */
#define WISH_COUNT 64
#define WISH_TEXT  64
struct wish {
	char text[WISH_TEXT];
	uint64_t epoch; /* of pool.kinds when it was made; 0: empty */
	VEC(struct kind *) kinds;
};

struct pool {
	struct map *by_id, *by_kind;
	VEC(struct pool_worker *) workers;
	VEC(struct kind *) kinds;
	uint64_t kinds_epoch;	   /* changes when a kind comes or goes */
	VEC(struct shelf) shelves; /* [0] is the empty subtree */
	uint32_t shelf_unused;	   /* list through `left` */
	/* WISH_COUNT, and one for what does not fit: a cache, changed by readers too. */
	struct wish *wishes;
};

/* The weight from which on a worker is not taken at all. */
#define AVOID_NEVER_PPM INT64_C(1000000)

/* ---- a request, prepared ---- */

struct ask {
	const struct request *r;
	struct resources want;
	int64_t need[DIM_COUNT];
	int64_t price_max;	    /* INT64_MAX: any */
	double weight[PRICE_COUNT]; /* µUSD/h = Σ weight × price, before rounding */
};
void ask_init(struct ask *a, const struct request *r);
/* False if it overflows. */
bool ask_price(const struct ask *a, const int64_t price[static PRICE_COUNT],
	       int64_t *ret) must_check;
int64_t ask_avoid_ppm(const struct ask *a, const struct pool_worker *w);
/* What the price counts as: the more it is avoided the higher.  False: never. */
bool price_avoided(int64_t price, int64_t weight_ppm, int64_t *ret) must_check;

/* ---- filters ---- */

enum filter_scope {
	FILTER_WORKER, /* whatever is asked for: decides what is indexed */
	FILTER_KIND,   /* the same for all of a kind */
	FILTER_OFFER,
};
enum constraint {
	CONSTRAINT_STATE,
	CONSTRAINT_BLOCKED,
	CONSTRAINT_INTENT,
	CONSTRAINT_HOURS,
	CONSTRAINT_PROBLEM,
	CONSTRAINT_CAPACITY,
	CONSTRAINT_REGION,
	CONSTRAINT_GPU_MODEL,
	CONSTRAINT_VRAM,
	CONSTRAINT_WORKER,
	CONSTRAINT_GPUS,
	CONSTRAINT_CPU,
	CONSTRAINT_MEMORY,
	CONSTRAINT_DISK,
	CONSTRAINT_RELIABILITY,
	CONSTRAINT_UNTIL,
	CONSTRAINT_LEASE_MAX,
	CONSTRAINT_LEASE_MIN,
	CONSTRAINT_PRICE,
	CONSTRAINT_AVOIDED,
	CONSTRAINT_COUNT,
};
/* One reason why an offer does not match. */
struct filter {
	const char *name; /* the field of the request, where there is one */
	enum filter_scope scope;
	enum dim dim; /* has >= need of it, or DIM_NONE and pass() */
	bool (*pass)(const struct ask *a, const struct shelf *s);
};
extern const struct filter filters[CONSTRAINT_COUNT];
bool filter_passes(const struct filter *f, const struct ask *a, const struct shelf *s);
/* All filters of a scope and those after it. */
bool filters_pass(enum filter_scope from, const struct ask *a, const struct shelf *s);
bool filters_pass_scope(enum filter_scope scope, const struct ask *a, const struct shelf *s);
/* Whole words of the name NVML gives, whatever their case and order; an empty wish matches
 * all. */
bool gpu_model_matches(const char *model, const char *wish);

/* ---- index ---- */

void index_insert(struct pool *p, uint32_t shelf);
void index_erase(struct pool *p, uint32_t shelf);
struct choice {
	uint32_t shelf; /* 0: none */
	int64_t price, counts_as;
};
/* Improves *best with the best of the kind. */
void index_search(const struct pool *p, const struct kind *k, const struct ask *a,
		  struct choice *best);
/* An equal of the choice, picked by the tie. */
uint32_t index_spread(const struct pool *p, const struct ask *a, uint32_t shelf, uint64_t tie);
/* Not above any price in the subtree of `s`. */
double index_bound(const struct ask *a, const struct shelf *s);

/* ---- pool ---- */

struct pool_worker *pool_find(const struct pool *p,
			      const char *worker_id); /* NULL: not there */
static inline const struct shelf *pool_shelf(const struct pool *p, uint32_t index)
{
	return &p->shelves.items[index];
}
/* ---- explain ---- */

/* What is asked for; what a shelf that does not pass has; and what must come to pass for it to
 * pass. */
void constraint_wanted(enum constraint c, const struct ask *a, struct strbuf *out);
void constraint_best(enum constraint c, const struct shelf *s, const struct ask *a,
		     struct strbuf *out);
void constraint_change(enum constraint c, const struct shelf *s, const struct ask *a,
		       struct strbuf *out);
/* How near to passing a shelf is; larger is nearer. */
int64_t constraint_nearness(enum constraint c, const struct shelf *s, const struct ask *a);
/* Makes the change that constraint_change names in a request (`want` is what r->want points
 * to).  False: the customer cannot make it. */
bool constraint_relax(enum constraint c, const struct shelf *s, struct request *r,
		      struct resources *want);

struct explain_count {
	int64_t excluded;	     /* by this constraint, having passed those before it */
	const struct shelf *nearest; /* of them */
	const struct shelf
		*alone; /* the nearest that matches after constraint_change; or NULL */
};
struct explain_counts {
	int64_t offers, matching;
	struct explain_count of[CONSTRAINT_COUNT];
	const struct shelf
		*closest; /* fails the fewest, all of which the customer can change; or NULL */
};
void explain_count(const struct pool *p, const struct ask *a, struct explain_counts *ret);

#endif
