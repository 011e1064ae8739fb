/* Offers as customers see them.  A page is cut by a cursor that names the last offer's place in
 * the order, so that paging neither skips nor repeats what did not change in between. */
#include "internal.h"

#define OFFERS_LIMIT	 INT64_C(50)
#define OFFERS_LIMIT_MAX INT64_C(1000)

/* Ascending is best first. */
struct place {
	int64_t first, second;
	const char *id; /* of the worker */
	uint32_t group;
	const struct shelf *shelf;
	int64_t price;
};

static int place_compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;
	if (x->second != y->second)
		return x->second < y->second ? -1 : 1;
	if (!str_eq(x->id, y->id))
		return strcmp(x->id, y->id);
	return (x->group > y->group) - (x->group < y->group);
}

static struct place place_of(const struct shelf *s, int64_t price, enum offer_sort sort)
{
	struct place at = { .second = price,
			    .id = s->worker->id,
			    .group = s->group,
			    .shelf = s,
			    .price = price };

	switch (sort) {
	case OFFER_SORT_PRICE:
		at.first = price;
		at.second = -s->has[DIM_RELIABILITY];
		break;
	case OFFER_SORT_RELIABILITY: at.first = -s->has[DIM_RELIABILITY]; break;
	case OFFER_SORT_VRAM: at.first = -s->kind->vram_mib; break;
	case OFFER_SORT_GPUS: at.first = -s->has[DIM_GPUS]; break;
	case OFFER_SORT_NETWORK: at.first = -s->worker->net_down_kbps; break;
	}
	return at;
}

/* ---- cursors: "<sort>.<first>.<second>.<worker id>.<group>" ---- */

static const char *cursor_format(const struct place *at, int sort, struct arena *arena)
{
	return arena_printf(arena, "%d.%" PRId64 ".%" PRId64 ".%s.%" PRIu32, sort, at->first,
			    at->second, at->id, at->group);
}

static bool cursor_int(struct slice *rest, int64_t min, int64_t max, int64_t *ret)
{
	struct slice part;
	struct err ignored;
	char text[24];

	if (!slice_split(rest, '.', &part) || part.len >= sizeof(text))
		return false;
	memcpy(text, part.ptr, part.len);
	text[part.len] = '\0';
	return int_parse(text, min, max, ret, &ignored) == 0;
}

static int cursor_parse(const char *cursor, int sort, struct arena *arena, struct place *ret,
			struct err *err)
{
	struct slice rest = slice_of(cursor), id;
	int64_t of_sort, group;
	struct place at = { 0 };

	if (!cursor_int(&rest, 0, INT32_MAX, &of_sort) ||
	    !cursor_int(&rest, INT64_MIN, INT64_MAX, &at.first) ||
	    !cursor_int(&rest, INT64_MIN, INT64_MAX, &at.second) ||
	    !slice_split(&rest, '.', &id) || !cursor_int(&rest, 0, UINT32_MAX, &group) ||
	    rest.len)
		return err_set_field(
			err, "cursor",
			"\"%.60s\" is not a cursor: send the `next` of the page before, "
			"unchanged",
			cursor);
	if (of_sort != sort)
		return err_set_field(
			err, "cursor",
			"belongs to another sort: send the sort of the page before, or no "
			"cursor");
	at.id = arena_strndup(arena, id.ptr, id.len);
	at.group = (uint32_t)group;
	*ret = at;
	return 0;
}

/* ---- the page ---- */

/* What is priced and must be free.  Who asks for nothing in particular sees the price of one
 * device, or of one hardware thread where there are no devices. */
static struct resources asked_of(const struct offer_query *q, bool devices)
{
	struct resources want = { .gpus = q->gpus,
				  .gpu_model = q->gpu_model,
				  .vram_mib = q->vram_mib,
				  .cpu_milli = q->cpu_milli,
				  .memory_mib = q->memory_mib,
				  .disk_mib = q->disk_mib };

	if (!want.gpus && (!str_empty(want.gpu_model) || want.vram_mib))
		want.gpus = 1;
	if (!want.gpus && !want.cpu_milli && !want.memory_mib) {
		want.gpus = devices;
		want.cpu_milli = devices ? 0 : 1000;
	}
	return want;
}

static void offer_fill(const struct place *at, struct arena *arena, struct offer *ret)
{
	const struct shelf *s = at->shelf;
	const struct pool_worker *w = s->worker;

	*ret = (struct offer){
		.id = arena_printf(arena, "of_%s", w->id + 3),
		.worker_id = arena_strdup(arena, w->id),
		.region = arena_strdup(arena, w->region),
		.gpu_model = arena_strdup(arena, s->kind->model),
		.cpu_model = arena_strdup(arena, w->cpu_model),
		.gpus = w->groups[s->group].total,
		.gpus_free = s->has[DIM_GPUS],
		.vram_mib = s->kind->vram_mib,
		.cpu_milli_free = s->has[DIM_CPU],
		.memory_mib_free = s->has[DIM_MEMORY],
		.disk_mib_free = s->has[DIM_DISK],
		.price_gpu_uusd_h = w->price[PRICE_GPU],
		.price_cpu_uusd_h = w->price[PRICE_CPU],
		.price_gib_uusd_h = w->price[PRICE_GIB],
		.price_uusd_h = at->price,
		.uptime_ppm = w->uptime_ppm,
		.reliability_ppm = w->reliability_ppm,
		.net_down_kbps = w->net_down_kbps,
		.net_up_kbps = w->net_up_kbps,
		.available_until_ms = w->available_until_ms,
		.lease_min_s = w->lease_min_s,
		.cuda_version = arena_strdup(arena, w->cuda_version),
		.gpu_driver = arena_strdup(arena, w->gpu_driver),
		.simulated = w->simulated,
	};
}

int pool_offers(const struct pool *p, const struct offer_query *q, int64_t now_ms,
		struct arena *arena, struct offer_page *ret, struct err *err)
{
	const struct resources want[2] = { asked_of(q, false), asked_of(q, true) };
	size_t limit = (size_t)(q->limit > 0 ? MIN(q->limit, OFFERS_LIMIT_MAX) : OFFERS_LIMIT),
	       len = 0, count;
	struct place after, *places;
	struct request r[2];
	struct ask ask[2];
	int64_t total = 0;
	bool paged = !str_empty(q->cursor);

	if (paged && cursor_parse(q->cursor, q->sort, arena, &after, err) < 0)
		return -1;
	for (size_t i = 0; i < 2; i++) {
		r[i] = (struct request){ .want = &want[i],
					 .region = q->region,
					 .now_ms = now_ms,
					 .min_reliability_ppm = q->min_reliability_ppm,
					 .max_price_uusd_h = q->max_price_uusd_h,
					 .max_duration_s = q->max_duration_s };
		ask_init(&ask[i], &r[i]);
	}
	places = arena_array(arena, struct place, p->shelves.len);
	for (size_t i = 1; i < p->shelves.len; i++) {
		const struct shelf *s = pool_shelf(p, (uint32_t)i);
		const struct ask *a = &ask[s->worker && s->worker->device_count];
		int64_t price;

		if (!s->worker || !filters_pass(FILTER_WORKER, a, s) ||
		    !ask_price(a, s->price, &price))
			continue;
		total++;
		places[len] = place_of(s, price, (enum offer_sort)q->sort);
		len += !paged || place_compare(&places[len], &after) > 0;
	}
	if (len)
		qsort(places, len, sizeof(*places), place_compare);
	count = MIN(len, limit);
	ret->total = total;
	ret->items.items = arena_array(arena, struct offer, count);
	ret->items.len = count;
	for (size_t i = 0; i < count; i++)
		offer_fill(&places[i], arena, &ret->items.items[i]);
	ret->next = count < len ? cursor_format(&places[count - 1], q->sort, arena) : NULL;
	return 0;
}
