#include "types.h"

#include <setjmp.h>

#include <cmocka.h>

static size_t member_size(const struct field *f)
{
	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID:
	case KIND_OBJECT: return sizeof(void *);
	case KIND_INT:
	case KIND_TIME:
	case KIND_MONEY:
	case KIND_PPM: return sizeof(int64_t);
	case KIND_BOOL: return sizeof(bool);
	case KIND_ENUM: return sizeof(int);
	case KIND_LIST:
	case KIND_MAP: return sizeof(struct text_list);
	}
	return 0;
}

static bool is_number(const struct field *f)
{
	return f->kind == KIND_INT || f->kind == KIND_TIME || f->kind == KIND_MONEY ||
	       f->kind == KIND_PPM;
}

/* ---- each description by itself ---------------------------------------------------------- */

static void check_doc(const char *type, const char *field, const char *doc)
{
	size_t len = doc ? strlen(doc) : 0;

	if (len < 5 || doc[len - 1] != '.')
		fail_msg("%s.%s: doc is no sentence: '%s'", type, field, doc ? doc : "");
}

/* Money, shares and times in words that a reader can compute with. */
static void check_unit(const struct type *t, const struct field *f)
{
	static const struct {
		const char *end, *unit;
	} units[] = { { "_uusd", "millionths of a dollar" },
		      { "_uusd_h", "hour" },
		      { "_ppm", "millionths" },
		      { "_mib", "MiB" },
		      { "_kbps", "kbit/s" } };
	size_t len = strlen(f->name);

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		size_t end = strlen(units[i].end);

		if (len > end && str_eq(f->name + len - end, units[i].end) &&
		    !strstr(f->doc, units[i].unit) && !str_eq(f->name, "fee_uusd"))
			fail_msg("%s.%s: doc does not name its unit (%s): '%s'", t->name,
				 f->name, units[i].unit, f->doc);
	}
}

static void check_kind(const struct type *t, const struct field *f)
{
	if (f->kind == KIND_ID)
		assert_int_equal(strlen(f->prefix), 2);
	if (f->kind == KIND_ENUM)
		assert_non_null(f->names);
	if (f->kind == KIND_OBJECT)
		assert_non_null(f->type);
	if (f->kind == KIND_TEXT || f->kind == KIND_LIST || f->kind == KIND_MAP)
		assert_true(f->max > 0 && f->max <= 1 << 20 && f->min >= 0 && f->min <= f->max);
	if (f->kind == KIND_MAP || (f->kind == KIND_LIST && !f->type))
		assert_true(f->item_max > 0 && f->item_max <= 1 << 16);
	if (is_number(f)) {
		assert_true(f->min < f->max);
		assert_true(f->kind == KIND_TIME || (f->def >= f->min && f->def <= f->max));
	}
	if ((f->flags & FIELD_HIDDEN) && !(f->flags & FIELD_SQL))
		fail_msg("%s.%s: hidden and not stored", t->name, f->name);
	if ((f->flags & FIELD_SECRET) && (f->flags & FIELD_SQL))
		fail_msg("%s.%s: a secret is stored", t->name, f->name);
	if ((f->flags & FIELD_NULL) && !(f->flags & FIELD_SQL))
		fail_msg("%s.%s: FIELD_NULL without a column", t->name, f->name);
}

static void test_fields(void **state)
{
	for (size_t i = 0; i < described_count; i++) {
		const struct type *t = described_types[i].type;

		assert_string_equal(t->name, described_types[i].name);
		check_doc(t->name, "", t->doc);
		for (size_t j = 0; j < t->count; j++) {
			const struct field *f = &t->fields[j];

			check_doc(t->name, f->name, f->doc);
			check_unit(t, f);
			check_kind(t, f);
			for (size_t k = 0; k < j; k++)
				assert_string_not_equal(f->name, t->fields[k].name);
			if ((f->flags & FIELD_SQL) && !described_types[i].table)
				fail_msg("%s.%s has a column, but %s has no table", t->name,
					 f->name, t->name);
		}
	}
}

/* A member without a row would be lost at every border.  Only padding may lie between the
 * members described. */
static void test_members_are_described(void **state)
{
	for (size_t i = 0; i < described_count; i++) {
		const struct type *t = described_types[i].type;
		unsigned char *covered = xcalloc(1, t->size);
		size_t gap = 0;

		for (size_t j = 0; j < t->count; j++)
			memset(covered + t->fields[j].offset, 1, member_size(&t->fields[j]));
		for (size_t at = 0; at < t->size; at++) {
			gap = covered[at] ? 0 : gap + 1;
			if (gap >= 8)
				fail_msg("%s: the member at byte %zu has no row", t->name,
					 at / 8 * 8);
		}
		free(covered);
	}
}

/* ---- tables ------------------------------------------------------------------------------ */

static char *read_migration(void)
{
	FILE *f = fopen(MIGRATION, "r");
	char *text = xcalloc(1, 1 << 20);

	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

/* The line of `column` in `table`, or an empty slice. */
static struct slice column_find(const char *migration, const char *table, const char *column)
{
	char head[64], start[64];
	const char *from, *at, *end;

	snprintf(head, sizeof(head), "CREATE TABLE %s (\n", table);
	snprintf(start, sizeof(start), "\n\t%s ", column);
	from = strstr(migration, head);
	if (!from)
		fail_msg("there is no table %s", table);
	end = strstr(from, "\n);");
	at = strstr(from, start);
	if (!at || at > end)
		return (struct slice){ 0 };
	return (struct slice){ at + 2, strcspn(at + 2, "\n") };
}

static size_t column_count(const char *migration, const char *table)
{
	char head[64];
	const char *at;
	size_t count = 0;

	snprintf(head, sizeof(head), "CREATE TABLE %s (\n", table);
	for (at = strstr(migration, head) + strlen(head); *at != ')'; at = strchr(at, '\n') + 1)
		count += at[0] == '\t' && at[1] >= 'a' && at[1] <= 'z';
	return count;
}

static void test_tables(void **state)
{
	char *migration = read_migration();

	for (size_t i = 0; i < described_count; i++) {
		const struct type *t = described_types[i].type;
		const char *table = described_types[i].table;
		size_t stored = 0;

		if (!table)
			continue;
		for (size_t j = 0; j < t->count; j++) {
			const struct field *f = &t->fields[j];
			struct slice line;
			char text[256];

			if (!(f->flags & FIELD_SQL))
				continue;
			stored++;
			line = column_find(migration, table, f->name);
			if (line.len == 0 || line.len >= sizeof(text))
				fail_msg("table %s has no column %s", table, f->name);
			memcpy(text, line.ptr, line.len);
			text[line.len] = '\0';
			if (!strstr(text,
				    is_number(f) || f->kind == KIND_BOOL ? " BIGINT" : " TEXT"))
				fail_msg("%s: wrong type: %s", table, text);
			if (f->kind != KIND_OBJECT &&
			    !strstr(text, "NOT NULL") != !!(f->flags & FIELD_NULL))
				fail_msg("%s: NULL or not: %s", table, text);
		}
		assert_int_equal(stored, column_count(migration, table));
	}
	free(migration);
}

/* ---- round trips ------------------------------------------------------------------------- */

static void round_trip(const struct type *t, uint64_t *seed)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf first = STRBUF_INIT, second = STRBUF_INIT;
	struct err err = { 0 };
	void *value, *copy;

	arena_init(&a, 0);
	strbuf_init(&first);
	strbuf_init(&second);
	value = arena_alloc(&a, t->size);
	copy = arena_alloc(&a, t->size);
	make_value(t, seed, &a, value);
	schema_write_secret(t, value, &first);
	if (schema_parse(t, (struct slice){ first.buf, first.len }, FROM_SERVER, &a, copy,
			 &err) < 0)
		fail_msg("%s: %s: %s\n%s", t->name, err.field, err.text, first.buf);
	schema_write_secret(t, copy, &second);
	assert_string_equal(first.buf, second.buf);
	strbuf_reset(&first);
	schema_write(t, value, &first);
	if (schema_parse(t, (struct slice){ first.buf, first.len }, FROM_SERVER, &a, copy,
			 &err) < 0)
		fail_msg("without secrets: %s: %s: %s\n%s", t->name, err.field, err.text,
			 first.buf);
}

static void test_round_trip(void **state)
{
	uint64_t seed = 0x9e3779b97f4a7c15;

	for (size_t i = 0; i < described_count; i++)
		for (int n = 0; n < 50; n++)
			round_trip(described_types[i].type, &seed);
}

static void test_secrets_stay(void **state)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct text_map_item item = { "TOKEN", "hunter2" };
	struct registry_login login = { .username = "ann", .secret = "hunter2" };
	struct resources resources;
	struct workload_spec spec = { .image = "debian",
				      .secrets = { &item, 1 },
				      .registry = &login,
				      .resources = &resources };
	struct desired_lease desired = { .secrets = { &item, 1 }, .registry = &login };

	arena_init(&a, 0);
	strbuf_init(&out);
	schema_defaults(&resources_type, &resources);
	schema_write(&workload_spec_type, &spec, &out);
	schema_write(&desired_lease_type, &desired, &out);
	assert_null(strstr(out.buf, "hunter2"));
	assert_non_null(strstr(out.buf, "ann"));
	strbuf_reset(&out);
	schema_write_secret(&desired_lease_type, &desired, &out);
	assert_non_null(strstr(out.buf, "hunter2"));
}

/* ---- what clients send ------------------------------------------------------------------- */

static void test_smallest_spec(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct workload_spec s;
	struct err err = { 0 };

	arena_init(&a, 0);
	if (schema_parse(&workload_spec_type,
			 SLICE("{\"image\":\"debian:12\",\"resources\":{}}"), FROM_CLIENT, &a,
			 &s, &err) < 0)
		fail_msg("%s: %s", err.field, err.text);
	assert_int_equal(s.kind, WORKLOAD_JOB);
	assert_int_equal(s.resources->cpu_milli, 1000);
	assert_int_equal(s.resources->memory_mib, 1024);
	assert_int_equal(s.resources->disk_mib, 10240);
	assert_int_equal(s.retries, 3);
	assert_int_equal(s.prepare_timeout_s, 1800);
	assert_int_equal(s.max_duration_s, 0);
}

#define RES "\"resources\":{}"
#define IMG "\"image\":\"debian\","
static const struct {
	const struct type *type;
	const char *json, *field;
} refused[] = {
	{ &workload_spec_type, "{" RES "}", "image" },
	{ &workload_spec_type, "{\"image\":\"De bian\"," RES "}", "image" },
	{ &workload_spec_type, "{" IMG "\"resources\":{\"cpu_milli\":9}}",
	  "resources.cpu_milli" },
	{ &workload_spec_type, "{" IMG "\"resources\":{\"memory_mib\":16777217}}",
	  "resources.memory_mib" },
	{ &workload_spec_type, "{" IMG "\"resources\":{\"gpu_model\":\"H100\"}}",
	  "resources.gpu_model" },
	{ &workload_spec_type, "{" IMG "\"resources\":{\"vram_mib\":1}}",
	  "resources.vram_mib" },
	{ &workload_spec_type, "{" IMG "\"resources\":{\"gpus\":65}}", "resources.gpus" },
	{ &workload_spec_type, "{" IMG RES ",\"name\":\"-a\"}", "name" },
	{ &workload_spec_type, "{" IMG RES ",\"name\":\"A\"}", "name" },
	{ &workload_spec_type, "{" IMG RES ",\"env\":{\"1A\":\"x\"}}", "env" },
	{ &workload_spec_type, "{" IMG RES ",\"env\":{\"A=B\":\"x\"}}", "env" },
	{ &workload_spec_type, "{" IMG RES ",\"secrets\":{\"A-B\":\"x\"}}", "secrets" },
	{ &workload_spec_type, "{" IMG RES ",\"env\":{\"A\":\"x\"},\"secrets\":{\"A\":\"y\"}}",
	  "secrets" },
	{ &workload_spec_type, "{" IMG RES ",\"outputs\":[\"/out\",\"out\"]}", "outputs[1]" },
	{ &workload_spec_type, "{" IMG RES ",\"outputs\":[\"/out/../etc\"]}", "outputs[0]" },
	{ &workload_spec_type, "{" IMG RES ",\"outputs\":[\"/\"]}", "outputs[0]" },
	{ &workload_spec_type, "{" IMG RES ",\"outputs\":[\"/a\",\"/a\"]}", "outputs[1]" },
	{ &workload_spec_type, "{" IMG RES ",\"retries\":101}", "retries" },
	{ &workload_spec_type,
	  "{" IMG RES ",\"max_price_uusd_h\":1,\"quote\":\"qt_01jdq3k5v8e4r9t0m2n6p7a1bc\"}",
	  "max_price_uusd_h" },
	{ &workload_spec_type, "{" IMG RES ",\"ready\":{\"command\":[]}}", "ready.command" },
	{ &workload_spec_type, "{" IMG RES ",\"registry\":{\"username\":\"a\"}}",
	  "registry.secret" },
	{ &workload_spec_type,
	  "{" IMG RES ",\"inputs\":[{\"id\":\"in_01jdq3k5v8e4r9t0m2n6p7a1bc\",\"name\":\"a\"},"
	  "{\"id\":\"in_01jdq3k5v8e4r9t0m2n6p7a1bd\",\"name\":\"a\"}]}",
	  "inputs[1].name" },
	{ &workload_spec_type,
	  "{" IMG RES
	  ",\"inputs\":[{\"id\":\"in_01jdq3k5v8e4r9t0m2n6p7a1bc\",\"name\":\"..\"}]}",
	  "inputs[0].name" },
	{ &array_request_type, "{\"spec\":{" IMG RES "}}", "count" },
	{ &array_request_type, "{\"count\":0,\"spec\":{" IMG RES "}}", "count" },
	{ &array_request_type, "{\"count\":1001,\"spec\":{" IMG RES "}}", "count" },
	{ &array_request_type, "{\"count\":2}", "spec" },
	{ &array_request_type, "{\"count\":2,\"spec\":{" IMG RES ",\"retries\":101}}",
	  "spec.retries" },
	{ &array_request_type,
	  "{\"count\":1,\"spec\":{" IMG RES ",\"quote\":\"qt_01jdq3k5v8e4r9t0m2n6p7a1bc\"}}",
	  "spec.quote" },
	{ &array_request_type,
	  "{\"count\":2,\"spec\":{" IMG RES ",\"env\":{\"TES_ARRAY_INDEX\":\"7\"}}}",
	  "spec.env" },
	{ &array_request_type,
	  "{\"count\":2,\"spec\":{" IMG RES ",\"secrets\":{\"TES_ARRAY_INDEX\":\"7\"}}}",
	  "spec.secrets" },
	/* 60 characters and "-999" */
	{ &array_request_type,
	  "{\"count\":1000,\"spec\":{" IMG RES
	  ",\"name\":\"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff\"}}",
	  "spec.name" },
	{ &key_request_type, "{\"name\":\"ci\",\"scopes\":[\"workloads:read\",\"all\"]}",
	  "scopes[1]" },
	{ &key_request_type, "{\"name\":\"ci\",\"role\":\"none\"}", "role" },
	{ &login_type, "{\"email\":\"ann\",\"password\":\"x\"}", "email" },
	{ &login_type, "{\"email\":\"a@b@c\",\"password\":\"x\"}", "email" },
	{ &bill_query_type,
	  "{\"since_ms\":\"2026-01-02T00:00:00Z\",\"until_ms\":\"2026-01-01T00:00:00Z\"}",
	  "until_ms" },
	{ &inventory_type,
	  "{\"hostname\":\"a\",\"cpu_threads\":2,\"memory_mib\":10,\"offered_cpu_milli\":2001}",
	  "offered_cpu_milli" },
	{ &inventory_type,
	  "{\"hostname\":\"a\",\"cpu_threads\":2,\"memory_mib\":10,\"offered_memory_mib\":11}",
	  "offered_memory_mib" },
	{ &inventory_type,
	  "{\"hostname\":\"a\",\"cpu_threads\":2,\"memory_mib\":10,"
	  "\"devices\":[{\"uuid\":\"a\",\"model\":\"m\"},{\"uuid\":\"a\",\"model\":\"m\"}]}",
	  "devices[1].uuid" },
	{ &log_batch_type,
	  "{\"lease\":\"le_01jdq3k5v8e4r9t0m2n6p7a1bc\",\"generation\":1,"
	  "\"entries\":[{\"seq\":1,\"at_ms\":\"2026-01-01T00:00:00Z\"},"
	  "{\"seq\":3,\"at_ms\":\"2026-01-01T00:00:00Z\"}]}",
	  "entries[1].seq" },
};

static void test_array(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct array_request r;
	struct workload_spec third;
	struct err err = { 0 };

	arena_init(&a, 0);
	if (schema_parse(&array_request_type,
			 SLICE("{\"count\":3,\"spec\":{" IMG RES
			       ",\"name\":\"fold\",\"env\":{\"A\":\"1\"}}}"),
			 FROM_CLIENT, &a, &r, &err) < 0)
		fail_msg("%s: %s", err.field, err.text);
	array_spec(&r, 2, &a, &third);
	assert_string_equal(third.name, "fold-2");
	assert_int_equal(third.env.len, 2);
	assert_string_equal(text_map_find(&third.env, "A"), "1");
	assert_string_equal(text_map_find(&third.env, ARRAY_INDEX_VARIABLE), "2");
	assert_string_equal(r.spec->name, "fold");
	assert_int_equal(r.spec->env.len, 1);
	if (schema_check(&workload_spec_type, &third, &err) < 0)
		fail_msg("%s: %s", err.field, err.text);
}

/* A small request that would be stored as a large one. */
static void test_array_bytes(void **state)
{
	cleanup_arena struct arena a = { 0 };
	char *large = arena_alloc(&a, 8193);
	struct workload_spec spec;
	struct array_request r = { .spec = &spec };
	struct err err = { 0 };

	schema_defaults(&workload_spec_type, &spec);
	memset(large, 'x', 8192);
	spec.image = "debian";
	spec.command.items = (const char *[]){ large, large, large };
	spec.command.len = 3;
	r.count = 600;
	assert_int_equal(schema_check(&array_request_type, &r, &err), 0);
	r.count = 700;
	assert_int_equal(schema_check(&array_request_type, &r, &err), -1);
	assert_string_equal(err.field, "count");
	assert_non_null(strstr(err.text, "16 MiB"));
}

static void test_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		cleanup_arena struct arena a = { 0 };
		struct err err = { 0 };
		void *value;

		arena_init(&a, 0);
		value = arena_alloc(&a, refused[i].type->size);
		if (schema_parse(refused[i].type, slice_of(refused[i].json), FROM_CLIENT, &a,
				 value, &err) == 0)
			fail_msg("taken: %s", refused[i].json);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.field, refused[i].field);
		assert_true(strlen(err.text) > 5);
	}
}

static void test_scopes(void **state)
{
	const char *const names[] = { "workloads:read", "org:write" };
	const char *const unknown[] = { "workloads:read", "org" };
	unsigned scopes = 7;
	struct err err = { 0 };
	size_t count = 0;

	assert_int_equal(scopes_parse(names, 2, &scopes, &err), 0);
	assert_int_equal(scopes, SCOPE_WORKLOADS_READ | SCOPE_ORG_WRITE);
	assert_int_equal(scopes_parse(unknown, 2, &scopes, &err), -1);
	assert_string_equal(err.field, "scopes[1]");
	assert_int_equal(scopes, SCOPE_WORKLOADS_READ | SCOPE_ORG_WRITE);
	while (scope_names[count])
		count++;
	assert_int_equal((1U << count) - 1, SCOPE_ALL);
}

static void test_names(void **state)
{
	static const struct {
		const char *const *names;
		int last;
		const char *text;
	} enums[] = {
		{ role_names, ROLE_OWNER, "owner" },
		{ worker_state_names, WORKER_LEFT, "left" },
		{ worker_intent_names, INTENT_DRAINING, "draining" },
		{ offer_sort_names, OFFER_SORT_NETWORK, "network" },
		{ workload_kind_names, WORKLOAD_INSTANCE, "instance" },
		{ workload_state_names, WORKLOAD_STOPPED, "stopped" },
		{ replica_state_names, REPLICA_ENDED, "ended" },
		{ lease_state_names, LEASE_ENDED, "ended" },
		{ lease_desired_names, DESIRE_NONE, "none" },
		{ observed_state_names, OBSERVED_GONE, "gone" },
		{ log_stream_names, LOG_SYSTEM, "system" },
	};

	for (size_t i = 0; i < ARRAY_LEN(enums); i++) {
		assert_string_equal(enums[i].names[enums[i].last], enums[i].text);
		assert_null(enums[i].names[enums[i].last + 1]);
	}
	for (int s = WORKLOAD_PENDING; s <= WORKLOAD_STOPPED; s++)
		assert_int_equal(workload_state_is_final(s), s >= WORKLOAD_SUCCEEDED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_members_are_described),
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_secrets_stay),
		cmocka_unit_test(test_smallest_spec),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_array),
		cmocka_unit_test(test_array_bytes),
		cmocka_unit_test(test_scopes),
		cmocka_unit_test(test_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
