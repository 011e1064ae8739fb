/* The decision: which offer a request gets. */
#include "internal.h"
#include <math.h>

int64_t avoid_weight(int64_t weight_ppm, int64_t age_ms)
{
	int64_t whole;

	if (weight_ppm <= 0)
		return 0;
	if (age_ms <= 0)
		return weight_ppm;
	whole = age_ms / HOUR_MS;
	if (whole >= 62)
		return 0;
	return (int64_t)((double)(weight_ppm >> whole) *
			 exp2(-(double)(age_ms % HOUR_MS) / HOUR_MS));
}

/* The kinds whose model the request wishes. */
static const struct wish *wish_get(const struct pool *p, const struct ask *a)
{
	const char *text = a->want.gpu_model ? a->want.gpu_model : "";
	size_t len = strlen(text);
	bool fits = len < WISH_TEXT;
	struct wish *w = &p->wishes[fits ? hash_bytes(text, len) % WISH_COUNT : WISH_COUNT];

	if (fits && w->epoch == p->kinds_epoch && str_eq(w->text, text))
		return w;
	w->kinds.len = 0;
	for (size_t i = 0; i < p->kinds.len; i++)
		if (gpu_model_matches(p->kinds.items[i]->model, text))
			*vec_push(&w->kinds) = p->kinds.items[i];
	memcpy(w->text, fits ? text : "", fits ? len + 1 : 1);
	w->epoch = p->kinds_epoch;
	return w;
}

/* Whether the kind's offers can pass what is the same for all of them; the model was the wish's
 * part. */
static bool kind_passes(const struct pool *p, const struct kind *k, const struct ask *a)
{
	const struct shelf *top = pool_shelf(p, k->root);

	return k->root && filter_passes(&filters[CONSTRAINT_VRAM], a, top) &&
	       filter_passes(&filters[CONSTRAINT_REGION], a, top);
}

static void search_all(const struct pool *p, const struct ask *a, struct choice *best)
{
	const struct wish *wish = wish_get(p, a);
	const struct kind *first = NULL;
	double least = 0;

	/* The kind that could be cheapest first: mostly it answers, and its answer leaves out
	 * the others. */
	for (size_t i = 0; i < wish->kinds.len; i++) {
		const struct kind *k = wish->kinds.items[i];
		double bound;

		if (!kind_passes(p, k, a))
			continue;
		bound = index_bound(a, pool_shelf(p, k->root));
		if (!first || bound < least) {
			first = k;
			least = bound;
		}
	}
	if (!first)
		return;
	index_search(p, first, a, best);
	for (size_t i = 0; i < wish->kinds.len; i++)
		if (wish->kinds.items[i] != first && kind_passes(p, wish->kinds.items[i], a))
			index_search(p, wish->kinds.items[i], a, best);
}

static bool choice_better(const struct pool *p, const struct choice *a, const struct choice *b)
{
	const struct shelf *x = pool_shelf(p, a->shelf), *y = pool_shelf(p, b->shelf);

	if (!b->shelf || a->counts_as != b->counts_as)
		return !b->shelf || a->counts_as < b->counts_as;
	if (x->has[DIM_RELIABILITY] != y->has[DIM_RELIABILITY])
		return x->has[DIM_RELIABILITY] > y->has[DIM_RELIABILITY];
	for (size_t i = DIM_GPUS; i <= DIM_MEMORY; i++)
		if (x->has[i] != y->has[i])
			return x->has[i] < y->has[i];
	return false;
}

/* Weighs one worker's offers, at the price that they count as for being avoided. */
static void consider_worker(const struct pool *p, const struct pool_worker *w,
			    const struct ask *a, struct choice *best)
{
	for (size_t g = 0; g < w->group_count; g++) {
		const struct shelf *s = pool_shelf(p, w->groups[g].shelf);
		struct choice c = { .shelf = w->groups[g].shelf };

		if (filters_pass(FILTER_WORKER, a, s) && ask_price(a, s->price, &c.price) &&
		    price_avoided(c.price, ask_avoid_ppm(a, w), &c.counts_as) &&
		    choice_better(p, &c, best))
			*best = c;
	}
}

static void fill(const struct pool *p, const struct choice *c, const struct ask *a,
		 struct placement *ret)
{
	const struct shelf *s = pool_shelf(p, c->shelf);
	const struct pool_worker *w = s->worker;

	memcpy(ret->worker_id, w->id, sizeof(ret->worker_id));
	ret->rate_uusd_h = c->price;
	ret->device_count = 0;
	for (size_t i = 0; i < w->device_count && ret->device_count < (size_t)a->want.gpus; i++)
		if (w->devices[i].free && w->devices[i].group == s->group)
			ret->devices[ret->device_count++] = w->devices[i].uuid;
	assert(ret->device_count == (size_t)a->want.gpus);
}

bool pool_place(const struct pool *p, const struct request *r, struct placement *ret)
{
	struct choice best = { 0 };
	struct ask a;

	ask_init(&a, r);
	if (!str_empty(r->worker)) {
		const struct pool_worker *w = pool_find(p, r->worker);

		if (w)
			consider_worker(p, w, &a, &best);
	} else {
		best.counts_as = a.price_max;
		search_all(p, &a, &best);
		if (best.shelf)
			best.shelf = index_spread(p, &a, best.shelf, r->tie);
		for (size_t i = 0; i < r->avoid_len; i++) {
			const struct pool_worker *w = pool_find(p, r->avoid[i].worker_id);

			if (w && ask_avoid_ppm(&a, w))
				consider_worker(p, w, &a, &best);
		}
	}
	if (!best.shelf)
		return false;
	fill(p, &best, &a, ret);
	return true;
}
