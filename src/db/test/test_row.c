/* Described rows: every kind there and back, on both stores. */
#include "stores.h"

#include "../internal.h"

struct port {
	int64_t number;
	const char *secret;
};
static const struct field port_fields[] = {
	FIELD_INT(struct port, number, 1, 65535, 0, FIELD_REQUIRED, "Its number."),
	FIELD_TEXT(struct port, secret, 0, 40, FIELD_SECRET, "Known to its owner."),
};
static TYPE(port, port, "A port.");

enum color { COLOR_RED, COLOR_GREEN };
static const char *const color_names[] = { "red", "green", NULL };

struct thing {
	const char *id, *owner, *name, *note, *label;
	int64_t count, price_uusd, share_ppm, made_at, gone_at;
	bool live;
	int color;
	const struct port *port, *spare;
	LIST(struct port) ports;
	struct text_list words;
	struct text_map env;
	const char *passing; /* no column */
};
static const struct field thing_fields[] = {
	FIELD_ID(struct thing, id, "th", FIELD_SQL | FIELD_REQUIRED, "This."),
	FIELD_ID(struct thing, owner, "ow", FIELD_SQL | FIELD_NULL, "Whose."),
	FIELD_TEXT(struct thing, name, 0, 40, FIELD_SQL | FIELD_REQUIRED, "Its name."),
	FIELD_TEXT(struct thing, note, 0, 400, FIELD_SQL, "About it."),
	FIELD_TEXT(struct thing, label, 0, 40, FIELD_SQL | FIELD_NULL | FIELD_HIDDEN,
		   "Not shown."),
	FIELD_INT(struct thing, count, INT64_MIN, INT64_MAX, 0, FIELD_SQL, "How many."),
	FIELD_MONEY(struct thing, price_uusd, FIELD_SQL, "For one."),
	FIELD_PPM(struct thing, share_ppm, FIELD_SQL, "Of all."),
	FIELD_TIME(struct thing, made_at, FIELD_SQL, "Since."),
	FIELD_TIME(struct thing, gone_at, FIELD_SQL | FIELD_NULL, "Until."),
	FIELD_BOOL(struct thing, live, FIELD_SQL, "Whether."),
	FIELD_ENUM(struct thing, color, color_names, COLOR_RED, FIELD_SQL, "As painted."),
	FIELD_OBJECT(struct thing, port, &port_type, FIELD_SQL, "The main one."),
	FIELD_OBJECT(struct thing, spare, &port_type, FIELD_SQL | FIELD_NULL | FIELD_SECRET,
		     "Another."),
	FIELD_LIST(struct thing, ports, &port_type, 8, FIELD_SQL, "All."),
	FIELD_TEXTS(struct thing, words, 8, 40, FIELD_SQL, "Some."),
	FIELD_MAP(struct thing, env, 8, 400, FIELD_SQL, "Named ones."),
	FIELD_TEXT(struct thing, passing, 0, 40, 0, "Not stored."),
};
static TYPE(thing, thing, "A thing.");

static const char tables[] =
	"CREATE TABLE thing (id TEXT PRIMARY KEY, owner TEXT, name TEXT NOT NULL,\n"
	" note TEXT NOT NULL, label TEXT, count BIGINT NOT NULL, price_uusd BIGINT NOT NULL,\n"
	" share_ppm BIGINT NOT NULL, made_at BIGINT NOT NULL, gone_at BIGINT,\n"
	" live BIGINT NOT NULL, color TEXT NOT NULL, port TEXT NOT NULL, spare TEXT,\n"
	" ports TEXT NOT NULL, words TEXT NOT NULL, env TEXT NOT NULL);\n";

#define ID1   "th_01jdq3k5v8e4r9t0m2n6p7a1bc"
#define ID2   "th_01jdq3k5v8e4r9t0m2n6p7a1bd"
#define ID3   "th_01jdq3k5v8e4r9t0m2n6p7a1be"
#define OWNER "ow_01jdq3k5v8e4r9t0m2n6p7a1bc"

static const struct port main_port = { .number = 80, .secret = "s3cret" };
static const struct thing full = {
	.id = ID1,
	.owner = OWNER,
	.name = "caf\xc3\xa9 \"x\" \\ 'y'",
	.note = "line\nline",
	.label = "",
	.count = INT64_MIN,
	.price_uusd = 250000,
	.share_ppm = 999999,
	.made_at = 1700000000123,
	.gone_at = 1700000000999,
	.live = true,
	.color = COLOR_GREEN,
	.port = &main_port,
	.spare = &main_port,
	.ports = { (struct port[]){ { 1, NULL }, { 65535, "t" } }, 2 },
	.words = { (const char *[]){ "", "a,b", "\"" }, 3 },
	.env = { (struct text_map_item[]){ { "B", "2" }, { "A", "" } }, 2 },
	.passing = "by",
};
static const struct thing empty = { .id = ID2, .name = "" };

static int insert(struct db_conn *c, void *arg, struct err *err)
{
	return db_insert(c, &thing_type, "thing", arg, err);
}

static int update(struct db_conn *c, void *arg, struct err *err)
{
	return db_update(c, &thing_type, "thing", "id", arg, err);
}

static void assert_full(const struct thing *t)
{
	assert_string_equal(t->owner, OWNER);
	assert_string_equal(t->name, full.name);
	assert_string_equal(t->note, full.note);
	assert_string_equal(t->label, "");
	assert_true(t->count == INT64_MIN);
	assert_int_equal(t->price_uusd, 250000);
	assert_int_equal(t->share_ppm, 999999);
	assert_true(t->made_at == full.made_at && t->gone_at == full.gone_at);
	assert_true(t->live);
	assert_int_equal(t->color, COLOR_GREEN);
	assert_int_equal(t->port->number, 80);
	assert_string_equal(t->port->secret, "s3cret");
	assert_string_equal(t->spare->secret, "s3cret");
	assert_int_equal(t->ports.len, 2);
	assert_int_equal(t->ports.items[1].number, 65535);
	assert_null(t->ports.items[0].secret);
	assert_int_equal(t->words.len, 3);
	assert_string_equal(t->words.items[1], "a,b");
	assert_int_equal(t->env.len, 2);
	assert_string_equal(t->env.items[0].key, "B");
	assert_string_equal(text_map_find(&t->env, "A"), "");
	assert_null(t->passing);
}

static void assert_empty(const struct thing *t)
{
	assert_null(t->owner);
	assert_string_equal(t->name, "");
	assert_null(t->note);
	assert_null(t->label);
	assert_true(!t->count && !t->made_at && !t->gone_at && !t->live);
	assert_int_equal(t->color, COLOR_RED);
	assert_true(!t->port && !t->spare && !t->ports.len && !t->words.len && !t->env.len);
}

static void all_kinds(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct thing one, *items;
	struct err err;
	void *found;
	size_t len;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	assert_ok(db_tx(s->conn, insert, (void *)&full, &err));
	assert_ok(db_tx(s->conn, insert, (void *)&empty, &err));
	assert_ok(db_select(s->conn, &thing_type, "thing", "ORDER BY id", DB_NO_ARGS, &arena,
			    &found, &len, &err));
	items = found;
	assert_int_equal(len, 2);
	assert_full(&items[0]);
	assert_empty(&items[1]);

	/* as other statements see it */
	assert_int_equal(
		test_store_int(
			s, "SELECT count(*) FROM thing WHERE id = '" ID2
			   "' AND owner IS NULL AND note = ''"
			   " AND label IS NULL AND made_at = 0 AND gone_at IS NULL AND live = 0"
			   " AND color = 'red' AND port = '' AND spare IS NULL AND ports = '[]'"
			   " AND words = '[]' AND env = '{}'"),
		1);
	assert_int_equal(
		test_store_int(s,
			       "SELECT count(*) FROM thing WHERE color = 'green' AND live = 1"
			       " AND words = '[\"\",\"a,b\",\"\\\"\"]'"
			       " AND env = '{\"B\":\"2\",\"A\":\"\"}'"),
		1);

	assert_ok(db_get(s->conn, &thing_type, "thing", "WHERE id = $1", DB_ARGS(DB_TEXT(ID1)),
			 &arena, &one, &err));
	assert_full(&one);
	assert_ok(db_select(s->conn, &thing_type, "thing", "WHERE id = 'x'", DB_NO_ARGS, &arena,
			    &found, &len, &err));
	assert_int_equal(len, 0);
	assert_non_null(found);
}

static void get_and_update(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct thing one = { .id = "untouched" }, changed;
	struct err err;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	assert_ok(db_tx(s->conn, insert, (void *)&full, &err));
	assert_fails(db_get(s->conn, &thing_type, "thing", "WHERE id = $1",
			    DB_ARGS(DB_TEXT(ID2)), &arena, &one, &err),
		     ERR_NOT_FOUND);
	assert_string_equal(err.text, "no thing " ID2);
	assert_string_equal(one.id, "untouched");
	assert_fails(db_get(s->conn, &thing_type, "thing", "WHERE label = $1",
			    DB_ARGS(DB_TEXT("s3cret")), &arena, &one, &err),
		     ERR_NOT_FOUND);
	assert_string_equal(err.text, "no thing like that");

	changed = empty;
	assert_fails(db_tx(s->conn, update, &changed, &err), ERR_NOT_FOUND);
	changed.id = ID1;
	assert_ok(db_tx(s->conn, update, &changed, &err));
	assert_ok(db_get(s->conn, &thing_type, "thing", "WHERE id = $1", DB_ARGS(DB_TEXT(ID1)),
			 &arena, &one, &err));
	assert_empty(&one);
	assert_ok(db_tx(s->conn, update, (void *)&full, &err));
	assert_ok(db_get(s->conn, &thing_type, "thing", "WHERE id = $1", DB_ARGS(DB_TEXT(ID1)),
			 &arena, &one, &err));
	assert_full(&one);

	assert_fails(db_tx(s->conn, insert, (void *)&full, &err), ERR_CONFLICT);
	assert_ok(db_tx(s->conn, insert, (void *)&empty, &err));
	assert_fails(db_get(s->conn, &thing_type, "thing", "", DB_NO_ARGS, &arena, &one, &err),
		     ERR_INTERNAL);
}

/* Some of a thing's columns, of which two stay as they were inserted. */
struct counted {
	const char *note, *id;
	int64_t count;
	struct text_list words;
};
static const struct field counted_fields[] = {
	FIELD_TEXT(struct counted, note, 0, 400, FIELD_SQL | FIELD_FIXED, "About it."),
	FIELD_ID(struct counted, id, "th", FIELD_SQL | FIELD_REQUIRED, "This."),
	FIELD_INT(struct counted, count, INT64_MIN, INT64_MAX, 0, FIELD_SQL, "How many."),
	FIELD_TEXTS(struct counted, words, 8, 40, FIELD_SQL | FIELD_FIXED, "Some."),
};
static TYPE(counted, counted, "A thing's count.");

static int update_counted(struct db_conn *c, void *arg, struct err *err)
{
	return db_update(c, &counted_type, "thing", "id", arg, err);
}

static void fixed_columns(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct counted one = { .id = ID1, .note = "another", .count = 7 };
	struct thing after;
	struct err err;

	test_store_run(s, tables);
	assert_ok(db_tx(s->conn, insert, (void *)&full, &err));
	assert_ok(db_tx(s->conn, update_counted, &one, &err));
	assert_ok(db_get(s->conn, &thing_type, "thing", "WHERE count = 7", DB_NO_ARGS, &arena,
			 &after, &err));
	after.count = full.count;
	assert_full(&after);
	one.id = ID2;
	assert_fails(db_tx(s->conn, update_counted, &one, &err), ERR_NOT_FOUND);
}

static int update_counts(struct db_conn *c, void *arg, struct err *err)
{
	static const struct counted three[] = { { .id = ID1, .count = 1 },
						{ .id = ID2, .count = 2 },
						{ .id = ID3, .count = 3 } };

	return db_update_many(c, &counted_type, "thing", "id", three, ARRAY_LEN(three), arg, err);
}

/* Those that are not there are missing in the count. */
static void update_many(void **state)
{
	struct test_store *s = test_store_get(state);
	struct thing two[] = { full, full };
	int64_t changed;
	struct err err;

	two[1].id = ID3;
	test_store_run(s, tables);
	assert_ok(db_tx(s->conn, insert, &two[0], &err));
	assert_ok(db_tx(s->conn, insert, &two[1], &err));
	assert_ok(db_tx(s->conn, update_counts, &changed, &err));
	assert_int_equal(changed, 2);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM thing WHERE id = '" ID1 "' AND count = 1"), 1);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM thing WHERE id = '" ID3 "' AND count = 3"), 1);
}

struct many {
	struct thing *items;
	size_t len;
};

static int insert_many(struct db_conn *c, void *arg, struct err *err)
{
	struct many *m = arg;
	return db_insert_many(c, &thing_type, "thing", m->items, m->len, err);
}

static void many_at_once(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct many m = { .len = 1000 };
	struct thing one;
	struct err err;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	m.items = arena_array(&arena, struct thing, m.len);
	for (size_t i = 0; i < m.len; i++) {
		m.items[i] = i % 2 ? empty : full;
		m.items[i].id = arena_printf(&arena, "th_%026zu", i);
		m.items[i].count = (int64_t)i;
	}
	assert_ok(db_tx(s->conn, insert_many, &m, &err));
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM thing"), 1000);
	assert_ok(db_get(s->conn, &thing_type, "thing", "WHERE count = 777", DB_NO_ARGS, &arena,
			 &one, &err));
	assert_string_equal(one.id, m.items[777].id);
	assert_empty(&(struct thing){ .name = one.name, .note = one.note });
	assert_ok(db_get(s->conn, &thing_type, "thing", "WHERE count = 998", DB_NO_ARGS, &arena,
			 &one, &err));
	one.count = full.count;
	assert_full(&one);
}

static size_t found_of(struct test_store *s, const char *column, const char *const *texts,
		       size_t len, struct arena *arena, struct thing **ret)
{
	struct err err;
	void *items;
	size_t found;

	assert_ok(db_select_in(s->conn, &thing_type, "thing", column, texts, len, arena, &items,
			       &found, &err));
	*ret = items;
	return found;
}

static void by_many_keys(void **state)
{
	static const char *const odd[] = { "a,b", "\"", "\\", "{}", "NULL", "it's", " x ", "\\\"" };
	enum { THINGS = 600, ASKED = 2 * THINGS + 100 };
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	const char *asked[ASKED];
	struct thing *found;
	struct many m = { .len = THINGS };
	struct err err;
	int64_t sum = 0;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	test_store_run(s, "CREATE UNIQUE INDEX by_label ON thing (label) WHERE label IS NOT NULL;\n");
	m.items = arena_array(&arena, struct thing, m.len);
	for (size_t i = 0; i < m.len; i++) {
		m.items[i] = full;
		m.items[i].id = arena_printf(&arena, "th_%026zu", 2 * i + 2);
		m.items[i].count = (int64_t)i;
		m.items[i].label = i < ARRAY_LEN(odd) ? odd[i] : NULL;
	}
	assert_ok(db_tx(s->conn, insert_many, &m, &err));

	/* Every second number is there; backwards, so in no order that helps. */
	for (size_t i = 0; i < ASKED; i++)
		asked[i] = arena_printf(&arena, "th_%026zu", (size_t)ASKED - i);
	assert_int_equal(found_of(s, "id", asked, ASKED, &arena, &found), THINGS);
	for (size_t i = 0; i < THINGS; i++)
		sum += found[i].count;
	assert_int_equal(sum, THINGS * (THINGS - 1) / 2);
	assert_string_equal(found[0].note, full.note);
	/* All newer than the table, all older, none. */
	assert_int_equal(found_of(s, "id", asked, 100, &arena, &found), 0);
	asked[0] = "th_";
	asked[1] = "";
	assert_int_equal(found_of(s, "id", asked, 2, &arena, &found), 0);
	assert_int_equal(found_of(s, "id", NULL, 0, &arena, &found), 0);
	assert_non_null(found);
	/* The same often. */
	for (size_t i = 0; i < 70; i++)
		asked[i] = m.items[i % 2].id;
	assert_int_equal(found_of(s, "id", asked, 70, &arena, &found), 2);
	assert_int_equal(found_of(s, "id", asked, 1, &arena, &found), 1);
	assert_string_equal(found[0].label, odd[0]);
	/* By another column, which may be NULL, and texts that mean something elsewhere. */
	assert_int_equal(found_of(s, "label", odd, ARRAY_LEN(odd), &arena, &found),
			 ARRAY_LEN(odd));
	assert_int_equal(found_of(s, "label", (const char *const[]){ "\\\"" }, 1, &arena, &found), 1);
	assert_int_equal(found[0].count, ARRAY_LEN(odd) - 1);
}

/* Several lists of keys in one transaction. */
struct search {
	const char *keys[3500];
	struct arena *arena;
	size_t len;
	int64_t sum, after;
};

static int search_run(struct db_conn *c, void *arg, struct err *err)
{
	struct search *x = arg;
	struct thing *found;
	void *items;

	if (db_select_in(c, &thing_type, "thing", "id", x->keys, ARRAY_LEN(x->keys), x->arena, &items,
			 &x->len, err) < 0)
		return -1;
	found = items;
	x->sum = 0;
	for (size_t i = 0; i < x->len; i++)
		x->sum += found[i].count;
	return db_query_int(c, "SELECT COUNT(*) FROM thing", DB_NO_ARGS, 0, &x->after, err);
}

static void by_keys_in_transaction(void **state)
{
	enum { THINGS = 2500 };
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct many m = { .len = THINGS };
	struct search *x;
	struct err err;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	x = arena_new(&arena, struct search);
	x->arena = &arena;
	m.items = arena_array(&arena, struct thing, m.len);
	for (size_t i = 0; i < m.len; i++) {
		m.items[i] = full;
		m.items[i].id = arena_printf(&arena, "th_%026zu", i);
		m.items[i].count = (int64_t)i;
	}
	for (size_t i = 0; i < ARRAY_LEN(x->keys); i++)
		x->keys[i] = arena_printf(&arena, "th_%026zu", i);
	assert_ok(db_tx(s->conn, insert_many, &m, &err));
	for (int i = 0; i < 2; i++) {
		assert_ok(i ? db_read(s->conn, search_run, x, &err) : db_tx(s->conn, search_run, x, &err));
		assert_int_equal(x->len, THINGS);
		assert_int_equal(x->sum, THINGS * (THINGS - 1) / 2);
		assert_int_equal(x->after, THINGS);
	}
	/* A row that cannot be read, when there is more to come; a list that cannot be asked for, after
	 * others; and all is well again. */
	test_store_run(s, "UPDATE thing SET color = 'mauve' WHERE count = 700");
	assert_fails(db_tx(s->conn, search_run, x, &err), ERR_INTERNAL);
	assert_non_null(strstr(err.text, "mauve"));
	test_store_run(s, "UPDATE thing SET color = 'red' WHERE count = 700");
	if (db_is_postgres(s->db)) {
		const char *good = x->keys[2200];
		x->keys[2200] = "th_\377";
		assert_fails(db_tx(s->conn, search_run, x, &err), ERR_INVALID);
		x->keys[2200] = good;
	}
	assert_ok(db_tx(s->conn, search_run, x, &err));
	assert_int_equal(x->len, THINGS);
}

static void broken_columns(void **state)
{
	static const struct {
		const char *sql, *text;
	} cases[] = {
		{ "UPDATE thing SET color = 'mauve';\n", "thing.color holds \"mauve\"" },
		{ "UPDATE thing SET ports = '[{\"number\":0}]';\n", "thing.ports" },
		{ "UPDATE thing SET env = 'x';\n", "thing.env" },
	};
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct thing one;
	struct err err;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		test_store_run(s, "DELETE FROM thing;\n");
		assert_ok(db_tx(s->conn, insert, (void *)&full, &err));
		test_store_run(s, cases[i].sql);
		assert_fails(db_get(s->conn, &thing_type, "thing", "", DB_NO_ARGS, &arena, &one,
				    &err),
			     ERR_INTERNAL);
		if (!str_starts(err.text, cases[i].text))
			fail_msg("%s", err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(all_kinds),
		TEST_BOTH(get_and_update),
		TEST_BOTH(fixed_columns),
		TEST_BOTH(update_many),
		TEST_BOTH(many_at_once),
		TEST_BOTH(by_many_keys),
		TEST_BOTH(by_keys_in_transaction),
		TEST_BOTH(broken_columns),
	};

	return test_stores_run("db-row", tests, ARRAY_LEN(tests));
}
