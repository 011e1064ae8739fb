/* sched: matching, explain and placement.  Pure: an indexed view of the pool, and decisions
 * over it.  No clock, no I/O; the loop that feeds it is control/scheduler.c.
 *
 * A pool belongs to one thread.  Workers are grouped by kind (GPU model, VRAM, region: what
 * filters ask for) and, in a kind, kept in an order by price, reliability and what is free, so
 * that a decision touches a few of them and not every worker.
 * Gangs, preemption and fair share come later: a request is one replica today.
 */
#ifndef TES_SCHED_H
#define TES_SCHED_H

#include "../base/base.h"
#include "../model/model.h"

struct pool;
struct pool *pool_new(void);
void pool_free(struct pool *p);

/* Adds, changes or (left, NULL inventory) removes one worker.  Copies what it keeps.
 * `devices_free`: uuids not held. */
void pool_put(struct pool *p, const struct worker *w, const struct text_list *devices_free);
void pool_remove(struct pool *p, const char *worker_id);
size_t pool_count(const struct pool *p);
/* updated_ms of the worker as it was put; 0: it is not there. */
int64_t pool_updated_ms(const struct pool *p, const char *worker_id);

struct avoid {
	const char *worker_id;
	int64_t weight_ppm;
};
struct request {
	const struct resources *want;
	const char *region, *worker; /* NULL: any */
	int64_t min_reliability_ppm;
	int64_t max_price_uusd_h; /* 0: any */
	/* 0: open end, which no worker with a longest lease or a closing time matches. */
	int64_t max_duration_s;
	/* Workers to avoid with their weight (avoid_weight); at 1000000 never, below it the
	 * price counts as price / (1 - weight). */
	const struct avoid *avoid;
	size_t avoid_len;
	/* Breaks ties between equals evenly; from the caller, so that plans are repeatable. */
	uint64_t tie;
	int64_t now_ms;
};
/* A failure adds 500000 (at most 1000000); the weight halves every hour. */
int64_t avoid_weight(int64_t weight_ppm, int64_t age_ms);

#define PLACEMENT_DEVICES_MAX 64
struct placement {
	char worker_id[ID_SIZE];
	int64_t rate_uusd_h;
	size_t device_count;
	/* uuids, owned by the pool until the worker is next put or removed */
	const char *devices[PLACEMENT_DEVICES_MAX];
};
/* Best offer: cheapest after avoidance; among equals the most reliable, then, of one price
 * list, the fullest that fits (keeps big machines whole).  True and *ret, or false, and
 * pool_explain says why.  Does not change the pool. */
bool pool_place(const struct pool *p, const struct request *r, struct placement *ret);
/* Takes what a placement takes out of the view, so that the next decision sees it; and gives it
 * back.  What was taken is given once; giving to a worker that is not there does nothing. */
void pool_take(struct pool *p, const struct placement *pl, const struct resources *want);
void pool_give(struct pool *p, const char *worker_id, const struct resources *want,
	       const char *const *devices, size_t device_count);

/* The same filters, one at a time: which excluded how many, and what would have to change.  A
 * line's change is NULL where it alone would not help; the summary then says what would.  Texts
 * from arena; ret->workload_id is the caller's. */
void pool_explain(const struct pool *p, const struct request *r, struct arena *arena,
		  struct explanation *ret);

/* Offers as customers see them: filtered by the same code, sorted, paged by cursor.  A worker
 * with devices of several models makes an offer of each, with the same id.  Who asks for no
 * resources sees the price of one device, or of one hardware thread where there are none. */
int pool_offers(const struct pool *p, const struct offer_query *q, int64_t now_ms,
		struct arena *arena, struct offer_page *ret, struct err *err) must_check;

/* Sums for /metrics: by GPU model. */
struct pool_sum {
	const char *gpu_model;
	int64_t workers, gpus, gpus_free, cpu_milli, cpu_milli_free;
};
size_t pool_sums(const struct pool *p, struct arena *arena, struct pool_sum **ret);

#endif
