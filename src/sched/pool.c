/* The pool's workers, shelves and kinds: what is there and what of it is free. */
#include "internal.h"

struct pool *pool_new(void)
{
	struct pool *p = xcalloc(1, sizeof(*p));
	struct shelf *empty = vec_push(&p->shelves);

	for (size_t i = 0; i < DIM_COUNT; i++)
		empty->most[i] = INT64_MIN;
	for (size_t i = 0; i < PRICE_COUNT; i++)
		empty->least[i] = INT64_MAX;
	p->by_id = map_new();
	p->by_kind = map_new();
	p->kinds_epoch = 1;
	p->wishes = xcalloc(WISH_COUNT + 1, sizeof(*p->wishes));
	return p;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->workers.len; i++)
		free(p->workers.items[i]);
	for (size_t i = 0; i < p->kinds.len; i++)
		free(p->kinds.items[i]);
	for (size_t i = 0; i <= WISH_COUNT; i++)
		vec_release(&p->wishes[i].kinds);
	free(p->wishes);
	map_free(p->by_id, NULL);
	map_free(p->by_kind, NULL);
	vec_release(&p->workers);
	vec_release(&p->kinds);
	vec_release(&p->shelves);
	free(p);
}

size_t pool_count(const struct pool *p)
{
	return p->workers.len;
}

struct pool_worker *pool_find(const struct pool *p, const char *worker_id)
{
	return map_find(p->by_id, worker_id);
}

int64_t pool_updated_ms(const struct pool *p, const char *worker_id)
{
	const struct pool_worker *w = pool_find(p, worker_id);

	return w ? w->updated_ms : 0;
}

/* ---- kinds ---- */

static struct kind *kind_ref(struct pool *p, const char *model, int64_t vram_mib,
			     const char *region)
{
	cleanup_strbuf struct strbuf key = STRBUF_INIT;
	struct kind *k;
	size_t model_size = strlen(model) + 1, region_size = strlen(region) + 1;

	strbuf_addf(&key, "%" PRId64 "\n%s\n%s", vram_mib, model, region);
	k = map_find(p->by_kind, key.buf);
	if (!k) {
		k = xcalloc(1, sizeof(*k) + model_size + region_size + key.len + 1);
		k->model = memcpy((char *)(k + 1), model, model_size);
		k->region = memcpy((char *)(k + 1) + model_size, region, region_size);
		k->key = memcpy((char *)(k + 1) + model_size + region_size, key.buf,
				key.len + 1);
		k->vram_mib = vram_mib;
		k->position = p->kinds.len;
		*vec_push(&p->kinds) = k;
		map_put(p->by_kind, k->key, k);
		p->kinds_epoch++;
	}
	k->refs++;
	return k;
}

static void kind_unref(struct pool *p, struct kind *k)
{
	struct kind *last = p->kinds.items[p->kinds.len - 1];

	if (--k->refs)
		return;
	assert(!k->root);
	map_remove(p->by_kind, k->key);
	p->kinds.items[k->position] = last;
	last->position = k->position;
	p->kinds.len--;
	p->kinds_epoch++;
	free(k);
}

/* ---- shelves ---- */

static uint32_t shelf_alloc(struct pool *p)
{
	uint32_t index = p->shelf_unused;

	if (index) {
		p->shelf_unused = p->shelves.items[index].left;
	} else {
		assert(p->shelves.len < UINT32_MAX);
		index = (uint32_t)p->shelves.len;
		(void)vec_push(&p->shelves);
	}
	return index;
}

static void shelf_free(struct pool *p, uint32_t index)
{
	struct shelf *s = &p->shelves.items[index];

	if (s->indexed)
		index_erase(p, index);
	kind_unref(p, s->kind);
	*s = (struct shelf){ .left = p->shelf_unused };
	p->shelf_unused = index;
}

/* FNV-1a: the same in every process, so that plans can be repeated.  The server makes the ids,
 * nobody chooses them. */
static uint64_t hash_shelf(const char *worker_id, size_t group)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ group;

	for (const char *c = worker_id; *c; c++)
		h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
	h = (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return h ^ h >> 32;
}

static void shelf_fill(struct shelf *s, const struct pool_worker *w)
{
	int64_t gpus = MIN(w->groups[s->group].free, w->gpus - w->used_gpus);

	s->has[DIM_GPUS] = MIN(gpus, (int64_t)PLACEMENT_DEVICES_MAX);
	s->has[DIM_CPU] = w->cpu_milli - w->used_cpu_milli;
	s->has[DIM_MEMORY] = w->memory_mib - w->used_memory_mib;
	s->has[DIM_DISK] = w->disk_mib - w->used_disk_mib;
	s->has[DIM_RELIABILITY] = w->reliability_ppm;
	s->has[DIM_UNTIL] = w->available_until_ms > 0 ? w->available_until_ms : INT64_MAX;
	s->has[DIM_LEASE_MAX] = w->lease_max_s > 0 ? w->lease_max_s : INT64_MAX;
	s->has[DIM_LEASE_MIN] = -w->lease_min_s;
	memcpy(s->price, w->price, sizeof(s->price));
}

/* What is free has changed, or is to be seen for the first time. */
static void worker_index(struct pool *p, struct pool_worker *w)
{
	for (size_t g = 0; g < w->group_count; g++) {
		uint32_t index = w->groups[g].shelf;
		struct shelf *s = &p->shelves.items[index];

		if (s->indexed)
			index_erase(p, index);
		shelf_fill(s, w);
		if (filters_pass_scope(FILTER_WORKER, NULL, s))
			index_insert(p, index);
	}
}

/* ---- workers ---- */

static size_t text_size(const char *s)
{
	return s ? strlen(s) + 1 : 1;
}

/* NULL becomes "". */
static const char *text_keep(char **at, const char *s)
{
	size_t size = text_size(s);
	char *copy = memcpy(*at, s ? s : "", size);

	*at += size;
	return copy;
}

static bool list_has(const struct text_list *l, const char *text)
{
	for (size_t i = 0; l && i < l->len; i++)
		if (str_eq(l->items[i], text))
			return true;
	return false;
}

static uint32_t group_of(struct pool_worker *w, const struct device *d)
{
	const char *model = d->model ? d->model : "";
	uint32_t g = 0;

	while (g < w->group_count &&
	       !(str_eq(w->groups[g].model, model) && w->groups[g].vram_mib == d->vram_mib))
		g++;
	if (g == w->group_count)
		w->groups[w->group_count++] =
			(struct group){ .model = model, .vram_mib = d->vram_mib };
	return g;
}

static void worker_devices(struct pool_worker *w, const struct inventory *v,
			   const struct text_list *devices_free, char **text)
{
	for (size_t i = 0; i < v->devices.len; i++) {
		const struct device *d = &v->devices.items[i];
		struct pool_device *to = &w->devices[w->device_count++];

		to->uuid = text_keep(text, d->uuid);
		to->group = group_of(w, d);
		to->free = list_has(devices_free, d->uuid);
		w->groups[to->group].total++;
		w->groups[to->group].free += to->free;
	}
	if (!w->group_count)
		w->groups[w->group_count++].model = "";
}

static struct pool_worker *worker_new(const struct worker *from,
				      const struct text_list *devices_free)
{
	const struct inventory *v = from->inventory;
	const char *texts[] = { v->problem, v->region, v->cpu_model, v->gpu_driver,
				v->cuda_version };
	size_t size = sizeof(struct pool_worker), groups = MAX(v->devices.len, (size_t)1);
	struct pool_worker *w;
	char *text;

	size += groups * sizeof(struct group) + v->devices.len * sizeof(struct pool_device);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		size += text_size(texts[i]);
	for (size_t i = 0; i < v->devices.len; i++)
		size += text_size(v->devices.items[i].uuid);
	w = xcalloc(1, size);
	w->groups = (struct group *)(w + 1);
	w->devices = (struct pool_device *)(w->groups + groups);
	text = (char *)(w->devices + v->devices.len);
	if (str_copy(w->id, sizeof(w->id), from->id) < 0)
		abort();
	w->state = from->state;
	w->intent = from->intent;
	w->blocked = from->blocked;
	w->available = v->available;
	w->simulated = from->simulated || v->simulated;
	w->problem = text_keep(&text, v->problem);
	w->region = text_keep(&text, v->region);
	w->cpu_model = text_keep(&text, v->cpu_model);
	w->gpu_driver = text_keep(&text, v->gpu_driver);
	w->cuda_version = text_keep(&text, v->cuda_version);
	w->cpu_milli = from->cpu_milli;
	w->memory_mib = from->memory_mib;
	w->disk_mib = from->disk_mib;
	w->gpus = from->gpus;
	w->used_cpu_milli = from->used_cpu_milli;
	w->used_memory_mib = from->used_memory_mib;
	w->used_disk_mib = from->used_disk_mib;
	w->used_gpus = from->used_gpus;
	w->price[PRICE_GPU] = v->price_gpu_uusd_h;
	w->price[PRICE_CPU] = v->price_cpu_uusd_h;
	w->price[PRICE_GIB] = v->price_gib_uusd_h;
	w->uptime_ppm = from->uptime_ppm;
	w->reliability_ppm = from->reliability_ppm;
	w->net_down_kbps = v->net_down_kbps;
	w->net_up_kbps = v->net_up_kbps;
	w->lease_min_s = v->lease_min_s;
	w->lease_max_s = v->lease_max_s;
	w->available_until_ms = v->available_until_ms;
	w->updated_ms = from->updated_ms;
	worker_devices(w, v, devices_free, &text);
	return w;
}

void pool_put(struct pool *p, const struct worker *from, const struct text_list *devices_free)
{
	struct pool_worker *w;

	pool_remove(p, from->id);
	if (!from->inventory || from->state == WORKER_LEFT)
		return;
	w = worker_new(from, devices_free);
	w->position = p->workers.len;
	*vec_push(&p->workers) = w;
	map_put(p->by_id, w->id, w);
	for (size_t g = 0; g < w->group_count; g++) {
		struct kind *k =
			kind_ref(p, w->groups[g].model, w->groups[g].vram_mib, w->region);
		uint32_t index = shelf_alloc(p);

		/* The caller's texts end with the call; the kind's live as long as the
		 * shelf. */
		w->groups[g].model = k->model;
		w->groups[g].shelf = index;
		p->shelves.items[index] = (struct shelf){ .group = (uint32_t)g,
							  .worker = w,
							  .kind = k,
							  .hash = hash_shelf(w->id, g) };
	}
	worker_index(p, w);
}

void pool_remove(struct pool *p, const char *worker_id)
{
	struct pool_worker *w = map_remove(p->by_id, worker_id), *last;

	if (!w)
		return;
	for (size_t g = 0; g < w->group_count; g++)
		shelf_free(p, w->groups[g].shelf);
	last = p->workers.items[p->workers.len - 1];
	p->workers.items[w->position] = last;
	last->position = w->position;
	p->workers.len--;
	free(w);
}

/* ---- take and give ---- */

static void worker_use(struct pool_worker *w, const struct resources *r, int64_t sign)
{
	w->used_cpu_milli += sign * r->cpu_milli;
	w->used_memory_mib += sign * r->memory_mib;
	w->used_disk_mib += sign * r->disk_mib;
	w->used_gpus += sign * r->gpus;
	assert(w->used_cpu_milli >= 0 && w->used_memory_mib >= 0 && w->used_disk_mib >= 0 &&
	       w->used_gpus >= 0);
}

static struct pool_device *device_find(struct pool_worker *w, const char *uuid)
{
	for (size_t i = 0; i < w->device_count; i++)
		if (str_eq(w->devices[i].uuid, uuid))
			return &w->devices[i];
	return NULL;
}

void pool_take(struct pool *p, const struct placement *pl, const struct resources *want)
{
	struct pool_worker *w = pool_find(p, pl->worker_id);

	assert(w && pl->device_count == (size_t)want->gpus);
	for (size_t i = 0; i < pl->device_count; i++) {
		struct pool_device *d = device_find(w, pl->devices[i]);

		assert(d && d->free);
		d->free = false;
		w->groups[d->group].free--;
	}
	worker_use(w, want, 1);
	assert(w->used_cpu_milli <= w->cpu_milli && w->used_memory_mib <= w->memory_mib &&
	       w->used_disk_mib <= w->disk_mib && w->used_gpus <= w->gpus);
	worker_index(p, w);
}

void pool_give(struct pool *p, const char *worker_id, const struct resources *want,
	       const char *const *devices, size_t device_count)
{
	struct pool_worker *w = pool_find(p, worker_id);

	if (!w)
		return;
	for (size_t i = 0; i < device_count; i++) {
		struct pool_device *d = device_find(w, devices[i]);

		if (!d)
			continue;
		assert(!d->free);
		d->free = true;
		w->groups[d->group].free++;
	}
	worker_use(w, want, -1);
	worker_index(p, w);
}

/* ---- sums ---- */

size_t pool_sums(const struct pool *p, struct arena *arena, struct pool_sum **ret)
{
	struct pool_sum *sums = arena_array(arena, struct pool_sum, p->kinds.len);
	size_t len = 0;

	for (size_t i = 0; i < p->workers.len; i++) {
		const struct pool_worker *w = p->workers.items[i];

		for (size_t g = 0; g < w->group_count; g++) {
			const struct group *group = &w->groups[g];
			size_t n = 0;

			while (n < len && !str_eq(sums[n].gpu_model, group->model))
				n++;
			if (n == len)
				sums[len++].gpu_model = arena_strdup(arena, group->model);
			sums[n].gpus += group->total;
			sums[n].gpus_free += group->free;
			if (g)
				continue;
			/* A worker's share of everything but devices is counted once, with its
			 * first model. */
			sums[n].workers++;
			sums[n].cpu_milli += w->cpu_milli;
			sums[n].cpu_milli_free +=
				MAX(w->cpu_milli - w->used_cpu_milli, INT64_C(0));
		}
	}
	*ret = sums;
	return len;
}
