#include "types.h"

#define D(t, table)                  \
	{                            \
#t, &t##_type, table \
	}
const struct described described_types[] = {
	D(account, "accounts"),
	D(api_key, "api_keys"),
	D(api_key_page, NULL),
	D(array_request, NULL),
	D(array_summary, NULL),
	D(balance, NULL),
	D(bill, NULL),
	D(bill_line, NULL),
	D(bill_query, NULL),
	D(desired_input, NULL),
	D(desired_lease, NULL),
	D(desired_set, NULL),
	D(device, NULL),
	D(event, "events"),
	D(event_page, NULL),
	D(event_query, NULL),
	D(explain_line, NULL),
	D(explanation, NULL),
	D(input, "inputs"),
	D(intent_request, NULL),
	D(inventory, NULL),
	D(join_token, "join_tokens"),
	D(join_token_request, NULL),
	D(key_request, NULL),
	D(lease, "leases"),
	D(lease_observation, NULL),
	D(lease_page, NULL),
	D(log_ack, NULL),
	D(log_batch, NULL),
	D(log_entry, NULL),
	D(log_page, NULL),
	D(log_query, NULL),
	D(login, NULL),
	D(member, "memberships"),
	D(member_page, NULL),
	D(nothing, NULL),
	D(observation, NULL),
	D(observed, NULL),
	D(offer, NULL),
	D(offer_page, NULL),
	D(offer_query, NULL),
	D(org, "orgs"),
	D(quote, "quotes"),
	D(quote_request, NULL),
	D(readiness, NULL),
	D(receipt, "receipts"),
	D(registry_login, NULL),
	D(replica, "replicas"),
	D(resources, NULL),
	D(result, "results"),
	D(result_list, NULL),
	D(session, NULL),
	D(session_request, NULL),
	D(signed_usage, NULL),
	D(transfer, "transfers"),
	D(transfer_page, NULL),
	D(usage, NULL),
	D(user, "users"),
	D(version, NULL),
	D(whoami, NULL),
	D(worker, "workers"),
	D(worker_join, NULL),
	D(worker_joined, NULL),
	D(worker_page, NULL),
	D(workload, "workloads"),
	D(workload_array, NULL),
	D(workload_input, NULL),
	D(workload_page, NULL),
	D(workload_query, NULL),
	D(workload_spec, NULL),
};
const size_t described_count = ARRAY_LEN(described_types);

static int64_t draw(uint64_t *seed, int64_t lo, int64_t hi)
{
	uint64_t span = (uint64_t)hi - (uint64_t)lo + 1;

	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return span ? (int64_t)((uint64_t)lo + *seed % span) : (int64_t)*seed;
}

static void fill(void *arg, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)draw(arg, 0, 255);
}

static const char *make_id(const char *prefix, uint64_t *seed, struct arena *a)
{
	struct random random = { fill, seed };
	char id[ID_SIZE];

	id_make(prefix, draw(seed, 0, INT64_C(1) << 44), &random, id);
	return arena_strdup(a, id);
}

static const char *make_from(const char *alphabet, int64_t lo, int64_t hi, uint64_t *seed,
			     struct arena *a)
{
	size_t len = (size_t)draw(seed, lo, MIN(hi, lo + 20));
	char *s = arena_alloc(a, len + 1);

	for (size_t i = 0; i < len; i++)
		s[i] = alphabet[draw(seed, 0, (int64_t)strlen(alphabet) - 1)];
	return s;
}

/* Texts that a check looks at. */
static const char *make_text(const struct field *f, uint64_t *seed, struct arena *a)
{
	if (str_eq(f->name, "name") || str_eq(f->name, "region"))
		return make_from("abcdefghijklmnopqrstuvwxyz0123456789", MAX(f->min, 1), f->max,
				 seed, a);
	if (str_eq(f->name, "email"))
		return arena_printf(a, "%s@example.org", make_from("abc.xyz", 1, 20, seed, a));
	if (str_eq(f->name, "image"))
		return arena_printf(a, "example.org:5000/%s:latest",
				    make_from("abc", 1, 20, seed, a));
	if (str_eq(f->name, "public_key"))
		return make_from("0123456789abcdef", 64, 64, seed, a);
	if (f->min == f->max)
		return make_from("0123456789abcdef", f->min, f->max, seed, a);
	if (f->min == 0 && !(f->flags & FIELD_REQUIRED) && draw(seed, 0, 3) == 0)
		return NULL;
	return make_from(f->flags & FIELD_LINE ? "aZ09 \"\\/<>&" : "aZ09 \"\\/\n\t",
			 MAX(f->min, 1), f->max, seed, a);
}

static const char *make_item(const struct field *f, size_t i, uint64_t *seed, struct arena *a)
{
	if (str_eq(f->name, "scopes"))
		return scope_names[i % 7];
	if (str_eq(f->name, "outputs"))
		return arena_printf(a, "/out/%zu", i);
	return make_from("abc \"\\", 1, f->item_max, seed, a);
}

static void make_list(const struct field *f, uint64_t *seed, struct arena *a, void *at)
{
	struct text_list *list = at; /* all lists have this layout */
	size_t size = f->type ? f->type->size : sizeof(char *);

	list->len = (size_t)draw(seed, 1, MIN(f->max, 3));
	list->items = arena_alloc_array(a, list->len, size);
	for (size_t i = 0; i < list->len; i++) {
		if (f->type)
			make_value(f->type, seed, a, (char *)list->items + i * size);
		else
			list->items[i] = make_item(f, i, seed, a);
	}
}

static void make_map(const struct field *f, uint64_t *seed, struct arena *a,
		     struct text_map *map)
{
	map->len = (size_t)draw(seed, 0, 3);
	map->items = arena_array(a, struct text_map_item, map->len);
	for (size_t i = 0; i < map->len; i++) {
		map->items[i].key = arena_printf(
			a, "%s_%zu", str_eq(f->name, "secrets") ? "SECRET" : "V", i);
		map->items[i].value = make_from("a b\"\\\n", 0, f->item_max, seed, a);
	}
}

static void make_field(const struct field *f, uint64_t *seed, struct arena *a, void *at)
{
	void *object;

	switch (f->kind) {
	case KIND_TEXT: *(const char **)at = make_text(f, seed, a); break;
	case KIND_ID:
		if (f->flags & FIELD_REQUIRED || draw(seed, 0, 1))
			*(const char **)at = make_id(f->prefix, seed, a);
		break;
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM: *(int64_t *)at = draw(seed, f->min, f->max); break;
	case KIND_TIME: *(int64_t *)at = draw(seed, 1, f->max); break;
	case KIND_BOOL: *(bool *)at = draw(seed, 0, 1); break;
	case KIND_ENUM: {
		int count = 0;

		while (f->names[count])
			count++;
		*(int *)at = (int)draw(seed, 0, count - 1);
		break;
	}
	case KIND_OBJECT:
		if (!(f->flags & FIELD_REQUIRED) && draw(seed, 0, 3) == 0)
			break;
		object = arena_alloc(a, f->type->size);
		make_value(f->type, seed, a, object);
		*(void **)at = object;
		break;
	case KIND_LIST: make_list(f, seed, a, at); break;
	case KIND_MAP: make_map(f, seed, a, at); break;
	}
}

/* What the fields of a type owe to each other. */
static void make_consistent(const struct type *t, void *value)
{
	if (t == &resources_type) {
		struct resources *r = value;

		r->gpus = MAX(r->gpus, 1);
	} else if (t == &inventory_type) {
		struct inventory *v = value;

		v->offered_cpu_milli = v->cpu_threads * 1000;
		v->offered_memory_mib = v->memory_mib;
		v->offered_disk_mib = v->disk_mib;
		v->lease_max_s = 0;
		for (size_t i = 0; i < v->devices.len; i++)
			((char *)v->devices.items[i].uuid)[0] = (char)('A' + i);
	} else if (t == &workload_spec_type) {
		struct workload_spec *s = value;

		if (s->quote)
			s->max_price_uusd_h = 0;
		for (size_t i = 0; i < s->inputs.len; i++)
			((char *)s->inputs.items[i].name)[0] = (char)('a' + i);
	} else if (t == &array_request_type) {
		struct array_request *r = value;
		struct workload_spec *s = (struct workload_spec *)r->spec;

		r->count = MIN(r->count, 10);
		s->quote = NULL;
		s->name = NULL;
	} else if (t == &key_request_type) {
		((struct key_request *)value)->role = ROLE_ADMIN;
	} else if (t == &bill_query_type) {
		struct bill_query *q = value;

		q->until_ms = MAX(q->until_ms, q->since_ms);
	} else if (t == &log_batch_type) {
		struct log_batch *b = value;

		for (size_t i = 0; i < b->entries.len; i++)
			b->entries.items[i].seq = 7 + (int64_t)i;
	}
}

void make_value(const struct type *t, uint64_t *seed, struct arena *a, void *value)
{
	memset(value, 0, t->size);
	for (size_t i = 0; i < t->count; i++)
		make_field(&t->fields[i], seed, a, (char *)value + t->fields[i].offset);
	make_consistent(t, value);
}
