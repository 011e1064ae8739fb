/* Why an offer does not match: one table, read by placement, explain and offers alike. */
#include "internal.h"
#include <ctype.h>
#include <strings.h>

/* ---- the prepared request ---- */

void ask_init(struct ask *a, const struct request *r)
{
	int64_t duration = r->max_duration_s, until = INT64_MAX, ms;

	*a = (struct ask){ .r = r, .want = *r->want, .price_max = INT64_MAX };
	if (r->max_price_uusd_h > 0)
		a->price_max = r->max_price_uusd_h;
	if (duration > 0 &&
	    (!mul_checked(duration, SECOND_MS, &ms) || !add_checked(r->now_ms, ms, &until)))
		until = INT64_MAX;
	a->need[DIM_GPUS] = a->want.gpus;
	a->need[DIM_CPU] = a->want.cpu_milli;
	a->need[DIM_MEMORY] = a->want.memory_mib;
	a->need[DIM_DISK] = a->want.disk_mib;
	a->need[DIM_RELIABILITY] = r->min_reliability_ppm;
	a->need[DIM_UNTIL] = until;
	a->need[DIM_LEASE_MAX] = duration > 0 ? duration : INT64_MAX;
	a->need[DIM_LEASE_MIN] = duration > 0 ? -duration : -INT64_MAX;
	a->weight[PRICE_GPU] = (double)a->want.gpus;
	a->weight[PRICE_CPU] = (double)a->want.cpu_milli / 1000;
	a->weight[PRICE_GIB] = (double)a->want.memory_mib / 1024;
}

bool ask_price(const struct ask *a, const int64_t price[static PRICE_COUNT], int64_t *ret)
{
	return price_of(&a->want, price[PRICE_GPU], price[PRICE_CPU], price[PRICE_GIB], ret);
}

int64_t ask_avoid_ppm(const struct ask *a, const struct pool_worker *w)
{
	int64_t weight = 0;

	for (size_t i = 0; i < a->r->avoid_len; i++)
		if (str_eq(a->r->avoid[i].worker_id, w->id))
			weight = MAX(weight, a->r->avoid[i].weight_ppm);
	return weight;
}

bool price_avoided(int64_t price, int64_t weight_ppm, int64_t *ret)
{
	if (weight_ppm >= AVOID_NEVER_PPM)
		return false;
	return muldiv_floor(price, AVOID_NEVER_PPM,
			    AVOID_NEVER_PPM - MAX(weight_ppm, INT64_C(0)), ret);
}

/* ---- predicates ---- */

static bool state_pass(const struct ask *a, const struct shelf *s)
{
	return s->worker->state == WORKER_ONLINE;
}

static bool blocked_pass(const struct ask *a, const struct shelf *s)
{
	return !s->worker->blocked;
}

static bool intent_pass(const struct ask *a, const struct shelf *s)
{
	return s->worker->intent == INTENT_OPEN;
}

static bool hours_pass(const struct ask *a, const struct shelf *s)
{
	return s->worker->available;
}

static bool problem_pass(const struct ask *a, const struct shelf *s)
{
	return str_empty(s->worker->problem);
}

static bool capacity_pass(const struct ask *a, const struct shelf *s)
{
	const struct pool_worker *w = s->worker;

	return w->used_cpu_milli <= w->cpu_milli && w->used_memory_mib <= w->memory_mib &&
	       w->used_disk_mib <= w->disk_mib && w->used_gpus <= w->gpus;
}

static bool region_pass(const struct ask *a, const struct shelf *s)
{
	return str_empty(a->r->region) || strcasecmp(a->r->region, s->kind->region) == 0;
}

static size_t word_len(const char *s)
{
	size_t len = 0;

	while (isalnum((unsigned char)s[len]))
		len++;
	return len;
}

static bool has_word(const char *model, const char *word, size_t len)
{
	while (*model) {
		size_t here = word_len(model);

		if (here == len && strncasecmp(model, word, len) == 0)
			return true;
		model += here ? here : 1;
	}
	return false;
}

bool gpu_model_matches(const char *model, const char *wish)
{
	bool any = false;

	if (str_empty(wish))
		return true;
	while (*wish) {
		size_t len = word_len(wish);

		if (len && !has_word(model, wish, len))
			return false;
		any |= len > 0;
		wish += len ? len : 1;
	}
	return any;
}

static bool model_pass(const struct ask *a, const struct shelf *s)
{
	return gpu_model_matches(s->kind->model, a->want.gpu_model);
}

static bool vram_pass(const struct ask *a, const struct shelf *s)
{
	return s->kind->vram_mib >= a->want.vram_mib;
}

static bool worker_pass(const struct ask *a, const struct shelf *s)
{
	return str_empty(a->r->worker) || str_eq(a->r->worker, s->worker->id);
}

static bool price_pass(const struct ask *a, const struct shelf *s)
{
	int64_t price;

	return ask_price(a, s->price, &price) && price <= a->price_max;
}

static bool avoided_pass(const struct ask *a, const struct shelf *s)
{
	return ask_avoid_ppm(a, s->worker) < AVOID_NEVER_PPM;
}

/* ---- the table ---- */

/* In the order in which offers are counted out: what nobody can change first, then what tells
 * offers apart most. */
const struct filter filters[CONSTRAINT_COUNT] = {
	[CONSTRAINT_STATE] = { "state", FILTER_WORKER, DIM_NONE, state_pass },
	[CONSTRAINT_BLOCKED] = { "blocked", FILTER_WORKER, DIM_NONE, blocked_pass },
	[CONSTRAINT_INTENT] = { "intent", FILTER_WORKER, DIM_NONE, intent_pass },
	[CONSTRAINT_HOURS] = { "hours", FILTER_WORKER, DIM_NONE, hours_pass },
	[CONSTRAINT_PROBLEM] = { "problem", FILTER_WORKER, DIM_NONE, problem_pass },
	[CONSTRAINT_CAPACITY] = { "capacity", FILTER_WORKER, DIM_NONE, capacity_pass },
	[CONSTRAINT_REGION] = { "region", FILTER_KIND, DIM_NONE, region_pass },
	[CONSTRAINT_GPU_MODEL] = { "gpu_model", FILTER_KIND, DIM_NONE, model_pass },
	[CONSTRAINT_VRAM] = { "vram", FILTER_KIND, DIM_NONE, vram_pass },
	[CONSTRAINT_WORKER] = { "worker", FILTER_OFFER, DIM_NONE, worker_pass },
	[CONSTRAINT_GPUS] = { "gpus", FILTER_OFFER, DIM_GPUS, NULL },
	[CONSTRAINT_CPU] = { "cpu", FILTER_OFFER, DIM_CPU, NULL },
	[CONSTRAINT_MEMORY] = { "memory", FILTER_OFFER, DIM_MEMORY, NULL },
	[CONSTRAINT_DISK] = { "disk", FILTER_OFFER, DIM_DISK, NULL },
	[CONSTRAINT_RELIABILITY] = { "min_reliability", FILTER_OFFER, DIM_RELIABILITY, NULL },
	[CONSTRAINT_UNTIL] = { "available_until", FILTER_OFFER, DIM_UNTIL, NULL },
	[CONSTRAINT_LEASE_MAX] = { "lease_max", FILTER_OFFER, DIM_LEASE_MAX, NULL },
	[CONSTRAINT_LEASE_MIN] = { "lease_min", FILTER_OFFER, DIM_LEASE_MIN, NULL },
	[CONSTRAINT_PRICE] = { "max_price", FILTER_OFFER, DIM_NONE, price_pass },
	[CONSTRAINT_AVOIDED] = { "avoided", FILTER_OFFER, DIM_NONE, avoided_pass },
};

bool filter_passes(const struct filter *f, const struct ask *a, const struct shelf *s)
{
	return f->dim == DIM_NONE ? f->pass(a, s) : s->has[f->dim] >= a->need[f->dim];
}

bool filters_pass(enum filter_scope from, const struct ask *a, const struct shelf *s)
{
	for (size_t i = 0; i < CONSTRAINT_COUNT; i++)
		if (filters[i].scope >= from && !filter_passes(&filters[i], a, s))
			return false;
	return true;
}

bool filters_pass_scope(enum filter_scope scope, const struct ask *a, const struct shelf *s)
{
	for (size_t i = 0; i < CONSTRAINT_COUNT; i++)
		if (filters[i].scope == scope && !filter_passes(&filters[i], a, s))
			return false;
	return true;
}
