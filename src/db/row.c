/* Described rows: a type's FIELD_SQL fields as columns.
 *
 * What a type's statements have in common is worked out once and kept in a plan, which all
 * connections share.
 */
#include "internal.h"

/* The columns of a statement, in its order. */
struct columns {
	size_t count;
	const struct field *fields[DB_COLUMNS_MAX];
	uint16_t names[DB_COLUMNS_MAX]; /* how many, of an enum */
};

/* "UPDATE <table> SET …" for one key column, which is the last. */
struct row_update {
	const char *key;
	char *tail;
	struct columns columns;
	struct row_update *next;
};

struct row_plan {
	const struct type *type;
	struct row_plan *next;
	struct columns columns; /* all of them */
	char *select;			/* "SELECT a, b FROM " */
	char *insert;			/* " (a, b) VALUES ($1, $2)" */
	_Atomic(struct row_update *) updates;
};

/* ---- plans ------------------------------------------------------------------------------- */

static void columns_add(struct columns *c, const struct field *f)
{
	assert(c->count < DB_COLUMNS_MAX);
	while (f->kind == KIND_ENUM && f->names[c->names[c->count]])
		c->names[c->count]++;
	c->fields[c->count++] = f;
}

static struct row_plan *plan_new(const struct type *t)
{
	struct row_plan *p = xcalloc(1, sizeof(*p));
	cleanup_strbuf struct strbuf columns = STRBUF_INIT, marks = STRBUF_INIT, text = STRBUF_INIT;

	strbuf_init(&columns);
	strbuf_init(&marks);
	strbuf_init(&text);
	p->type = t;
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];
		if (!(f->flags & FIELD_SQL))
			continue;
		const char *comma = p->columns.count ? ", " : "";
		columns_add(&p->columns, f);
		strbuf_addf(&columns, "%s%s", comma, f->name);
		strbuf_addf(&marks, "%s$%zu", comma, p->columns.count);
	}
	assert(p->columns.count);
	strbuf_addf(&text, "SELECT %s FROM ", columns.buf);
	p->select = strbuf_take(&text);
	strbuf_addf(&text, " (%s) VALUES (%s)", columns.buf, marks.buf);
	p->insert = strbuf_take(&text);
	atomic_init(&p->updates, NULL);
	return p;
}

static void plan_free(struct row_plan *p)
{
	struct row_update *next;

	for (struct row_update *u = atomic_load(&p->updates); u; u = next) {
		next = u->next;
		free(u->tail);
		free(u);
	}
	free(p->select);
	free(p->insert);
	free(p);
}

void row_plans_release(struct db *db)
{
	for (size_t i = 0; i < ROW_PLAN_BUCKETS; i++) {
		struct row_plan *next;
		for (struct row_plan *p = atomic_load(&db->plans[i]); p; p = next) {
			next = p->next;
			plan_free(p);
		}
	}
}

/* Two threads may both make the plan of one type: both are kept, and it does not matter which
 * is found. */
static const struct row_plan *plan_get(struct db *db, const struct type *t)
{
	_Atomic(struct row_plan *) *bucket = &db->plans[((uintptr_t)t >> 4) % ROW_PLAN_BUCKETS];

	for (struct row_plan *p = atomic_load_explicit(bucket, memory_order_acquire); p;
	     p = p->next)
		if (p->type == t)
			return p;

	struct row_plan *fresh = plan_new(t);
	fresh->next = atomic_load(bucket);
	while (!atomic_compare_exchange_weak(bucket, &fresh->next, fresh))
		;
	return fresh;
}

static const struct field *plan_column(const struct row_plan *p, const char *name)
{
	for (size_t i = 0; i < p->columns.count; i++)
		if (!strcmp(p->columns.fields[i]->name, name))
			return p->columns.fields[i];
	assert(!"the key is no column of the type");
	return NULL;
}

/* What cannot change is left out of SET: SQLite would rewrite every index that it stands in. */
static const struct row_update *plan_update(const struct row_plan *plan, const char *key)
{
	struct row_plan *p =
		(struct row_plan *)plan; /* `updates` is all that changes, atomically */
	const char *comma = "";

	for (struct row_update *u = atomic_load_explicit(&p->updates, memory_order_acquire); u;
	     u = u->next)
		if (!strcmp(u->key, key))
			return u;

	struct row_update *fresh = xcalloc(1, sizeof(*fresh));
	cleanup_strbuf struct strbuf tail = STRBUF_INIT;
	const struct field *column = plan_column(p, key);

	strbuf_init(&tail);
	strbuf_adds(&tail, " SET ");
	for (size_t i = 0; i < p->columns.count; i++) {
		const struct field *f = p->columns.fields[i];
		if (f == column || f->flags & FIELD_FIXED)
			continue;
		columns_add(&fresh->columns, f);
		strbuf_addf(&tail, "%s%s = $%zu", comma, f->name, fresh->columns.count);
		comma = ", ";
	}
	assert(fresh->columns.count);
	columns_add(&fresh->columns, column);
	strbuf_addf(&tail, " WHERE %s = $%zu", key, fresh->columns.count);
	fresh->key = column->name;
	fresh->tail = strbuf_take(&tail);
	fresh->next = atomic_load(&p->updates);
	while (!atomic_compare_exchange_weak(&p->updates, &fresh->next, fresh))
		;
	return fresh;
}

/* ---- struct to values -------------------------------------------------------------------- */

static struct db_value text_value(const struct field *f, const char *s)
{
	return DB_TEXT(s || f->flags & FIELD_NULL ? s : "");
}

/* Until values_finish, ptr is an offset: the buffer may still move. */
static struct db_value json_value(const struct field *f, const void *at, struct strbuf *json)
{
	size_t from = json->len;

	if (f->kind == KIND_OBJECT && !*(const void *const *)at)
		return text_value(f, NULL);
	field_write(f, at, json);
	return (struct db_value){ .kind = DB_KIND_TEXT,
				  .ptr = (const char *)from,
				  .len = json->len - from };
}

static void values_fill(const struct columns *columns, const void *row, struct strbuf *json,
			struct db_value *values)
{
	for (size_t i = 0; i < columns->count; i++) {
		const struct field *f = columns->fields[i];
		const void *at = (const char *)row + f->offset;
		int index;
		switch (f->kind) {
		case KIND_TEXT:
		case KIND_ID: values[i] = text_value(f, *(const char *const *)at); break;
		case KIND_INT:
		case KIND_MONEY:
		case KIND_PPM: values[i] = DB_INT(*(const int64_t *)at); break;
		case KIND_TIME:
			values[i] = DB_INT(*(const int64_t *)at);
			if (!values[i].integer && f->flags & FIELD_NULL)
				values[i] = (struct db_value){ .null_of = DB_KIND_INT };
			break;
		case KIND_BOOL: values[i] = DB_INT(*(const bool *)at); break;
		case KIND_ENUM:
			index = *(const int *)at;
			values[i] = text_value(
				f, index >= 0 && index < columns->names[i] ? f->names[index] : NULL);
			break;
		case KIND_OBJECT:
		case KIND_LIST:
		case KIND_MAP: values[i] = json_value(f, at, json); break;
		}
	}
}

static void values_finish(const struct columns *columns, const struct strbuf *json,
			  struct db_value *values, size_t rows)
{
	for (size_t i = 0; i < columns->count; i++) {
		enum field_kind kind = columns->fields[i]->kind;
		if (kind != KIND_OBJECT && kind != KIND_LIST && kind != KIND_MAP)
			continue;
		for (size_t row = 0; row < rows; row++) {
			struct db_value *v = &values[row * columns->count + i];
			if (v->len)
				v->ptr = json->buf + (uintptr_t)v->ptr;
		}
	}
}

static void rows_fill(struct db_conn *c, const struct columns *columns, const void *rows, size_t size,
		      size_t count, struct db_value *values)
{
	strbuf_reset(&c->json);
	for (size_t i = 0; i < count; i++)
		values_fill(columns, (const char *)rows + i * size, &c->json,
			    values + i * columns->count);
	values_finish(columns, &c->json, values, count);
}

/* ---- values to struct -------------------------------------------------------------------- */

static int value_kind_fail(const struct field *f, const char *table, struct err *err)
{
	return err_set(err, ERR_INTERNAL, "%s.%s holds a value of another type", table,
		       f->name);
}

static int enum_read(const struct field *f, struct db_value v, const char *table, int *ret,
		     struct err *err)
{
	for (int i = 0; f->names[i]; i++)
		if (!strncmp(f->names[i], v.ptr, v.len) && !f->names[i][v.len]) {
			*ret = i;
			return 0;
		}
	return err_set(
		err, ERR_INTERNAL,
		"%s.%s holds \"%.*s\", which this version does not know: a newer one wrote it?",
		table, f->name, (int)MIN(v.len, (size_t)60), v.ptr);
}

static int json_read(const struct field *f, struct db_value v, const char *table,
		     struct arena *arena, void *at, struct err *err)
{
	if (!field_read(f, (struct slice){ v.ptr, v.len }, arena, at, err))
		return 0;
	/* It was good when it was written: no fault of the caller's input. */
	err->code = ERR_INTERNAL;
	err->field[0] = '\0';
	return err_wrap(err, "%s.%s", table, f->name);
}

/* As field_write writes it, and as most lists and maps are. */
static bool is_empty_json(const struct field *f, struct db_value v)
{
	return v.len == 2 && !memcmp(v.ptr, f->kind == KIND_LIST ? "[]" : "{}", 2);
}

/* `at` is zeroed. */
static int value_read(const struct field *f, struct db_value v, const char *table,
		      struct arena *arena, void *at, struct err *err)
{
	bool is_text = v.kind == DB_KIND_TEXT, is_int = v.kind == DB_KIND_INT;
	bool absent = v.kind == DB_KIND_NULL || (is_text && !v.len);

	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID:
		if (v.kind == DB_KIND_NULL ||
		    (absent && !(f->flags & (FIELD_NULL | FIELD_REQUIRED))))
			return 0;
		*(const char **)at = arena_strndup(arena, v.ptr, v.len);
		return is_text ? 0 : value_kind_fail(f, table, err);
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM:
	case KIND_TIME:
		*(int64_t *)at = v.kind == DB_KIND_NULL ? f->def : v.integer;
		return is_text ? value_kind_fail(f, table, err) : 0;
	case KIND_BOOL:
		*(bool *)at = v.integer != 0;
		return is_text ? value_kind_fail(f, table, err) : 0;
	case KIND_ENUM:
		*(int *)at = (int)f->def;
		if (is_int)
			return value_kind_fail(f, table, err);
		return absent ? 0 : enum_read(f, v, table, at, err);
	case KIND_LIST:
	case KIND_MAP: absent = absent || is_empty_json(f, v); /* fall through */
	case KIND_OBJECT:
		if (is_int)
			return value_kind_fail(f, table, err);
		return absent ? 0 : json_read(f, v, table, arena, at, err);
	}
	return 0;
}

static int row_read(const struct row_plan *p, struct db_rows *rows, const char *table,
		    struct arena *arena, void *row, struct err *err)
{
	memset(row, 0, p->type->size);
	for (size_t i = 0; i < p->columns.count; i++) {
		const struct field *f = p->columns.fields[i];
		if (value_read(f, db_column(rows, (int)i), table, arena,
			       (char *)row + f->offset, err))
			return -1;
	}
	return 0;
}

/* ---- the statements ----------------------------------------------------------------- */

static const char *sql_join(struct db_conn *c, const char *a, const char *b, const char *d,
			    const char *e)
{
	strbuf_reset(&c->sql);
	strbuf_adds(&c->sql, a);
	strbuf_adds(&c->sql, b);
	strbuf_adds(&c->sql, d);
	strbuf_adds(&c->sql, e);
	return c->sql.buf;
}

static int select_begin(struct db_conn *c, const struct row_plan *p, const char *table,
			const char *tail, struct db_args args, struct db_rows **ret,
			struct err *err)
{
	return db_query(c, sql_join(c, p->select, table, " ", tail), args, ret, err);
}

/* What is being collected. */
struct rows_found {
	const struct row_plan *plan;
	const char *table;
	struct arena *arena;
	char *items;
	size_t len, cap;
};

static int rows_take(struct rows_found *f, struct db_rows *rows, struct err *err)
{
	const size_t size = f->plan->type->size;

	if (f->len == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 16;
		f->items = xreallocarray(f->items, f->cap, size);
	}
	if (row_read(f->plan, rows, f->table, f->arena, f->items + f->len * size, err))
		return -1;
	f->len++;
	return 0;
}

static void rows_give(struct rows_found *f, void **ret_items, size_t *ret_len)
{
	const size_t size = f->plan->type->size;

	*ret_items = arena_alloc_array(f->arena, MAX(f->len, (size_t)1), size);
	if (f->len)
		memcpy(*ret_items, f->items, f->len * size);
	*ret_len = f->len;
}

int db_select(struct db_conn *c, const struct type *t, const char *table, const char *tail,
	      struct db_args args, struct arena *arena, void **ret_items, size_t *ret_len,
	      struct err *err)
{
	struct rows_found found = { .plan = plan_get(c->db, t), .table = table, .arena = arena };
	cleanup_rows struct db_rows *rows = NULL;
	int got;

	if (select_begin(c, found.plan, table, tail, args, &rows, err))
		return -1;
	while ((got = db_next(rows, err)) > 0)
		if (rows_take(&found, rows, err)) {
			got = -1;
			break;
		}
	if (!got)
		rows_give(&found, ret_items, ret_len);
	free(found.items);
	return got;
}

/* ---- by many keys ------------------------------------------------------------------------ */

#define SEARCH_MAX 64
#define LIST_MAX   1000

/* clang-format off */
static const char search_marks[] =
	"($1), ($2), ($3), ($4), ($5), ($6), ($7), ($8), ($9), ($10), ($11), ($12), "
	"($13), ($14), ($15), ($16), ($17), ($18), ($19), ($20), ($21), ($22), ($23), "
	"($24), ($25), ($26), ($27), ($28), ($29), ($30), ($31), ($32), ($33), ($34), "
	"($35), ($36), ($37), ($38), ($39), ($40), ($41), ($42), ($43), ($44), ($45), "
	"($46), ($47), ($48), ($49), ($50), ($51), ($52), ($53), ($54), ($55), ($56), "
	"($57), ($58), ($59), ($60), ($61), ($62), ($63), ($64)";
/* clang-format on */

/* Three sizes of a statement are enough: the places that are left find nothing. */
static const struct {
	size_t places, marks_len;
} search_sizes[] = { { 1, 4 }, { 8, 46 }, { SEARCH_MAX, sizeof(search_marks) - 1 } };

static int search_run(struct db_conn *c, const struct db_value *values, size_t columns,
		      size_t count, struct rows_found *found, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int got;

	if (db_query_many(c, c->sql.buf, values, columns, count, &rows, err))
		return -1;
	while ((got = db_next(rows, err)) > 0)
		if (rows_take(found, rows, err))
			return -1;
	return got;
}

/* `count` is at most SEARCH_MAX.  For "column IN (…)" SQLite would first make a table of the keys. */
static int search_some(struct db_conn *c, const char *column, const char *const *texts,
		       size_t count, struct rows_found *found, struct err *err)
{
	struct db_value values[SEARCH_MAX];
	size_t size = 0;

	while (search_sizes[size].places < count)
		size++;
	for (size_t i = 0; i < search_sizes[size].places; i++)
		values[i] = DB_TEXT(i < count ? texts[i] : NULL);
	sql_join(c, found->plan->select, "(VALUES ", "", "");
	strbuf_add(&c->sql, search_marks, search_sizes[size].marks_len);
	strbuf_addf(&c->sql, ") AS keys CROSS JOIN %s WHERE %s = keys.column1", found->table, column);
	return search_run(c, values, search_sizes[size].places, 1, found, err);
}

/* How many of the sorted texts come before all that is in the table. */
static int search_skip(struct db_conn *c, const char *column, const char *const *texts,
		       size_t count, const struct rows_found *found, size_t *ret, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	struct db_value first;
	size_t n = 0;
	int got;

	strbuf_reset(&c->sql);
	strbuf_addf(&c->sql, "SELECT %s FROM %s WHERE %s >= $1 ORDER BY %s LIMIT 1", column,
		    found->table, column, column);
	if (db_query(c, c->sql.buf, DB_ARGS(DB_TEXT(texts[0])), &rows, err) ||
	    (got = db_next(rows, err)) < 0)
		return -1;
	if (got)
		first = db_column(rows, 0); /* ends with a zero */
	while (n < count && (!got || strcmp(texts[n], first.ptr) < 0))
		n++;
	*ret = n;
	return 0;
}

/* On SQLite a statement is cheap and each key costs a search: so one looks over the gap in which a
 * key lies, and keys that are newer than all in the table cost no more than that. */
static int search_gaps(struct db_conn *c, const char *column, const char *const *sorted,
		       size_t count, struct rows_found *found, struct err *err)
{
	for (size_t at = 0, some, skip; at < count; at += some) {
		if (search_skip(c, column, sorted + at, count - at, found, &skip, err))
			return -1;
		at += skip;
		some = MIN(count - at, (size_t)SEARCH_MAX);
		if (some && search_some(c, column, sorted + at, some, found, err))
			return -1;
	}
	return 0;
}

/* On PostgreSQL a statement is an exchange with the server, and takes a list.  One look at the gap in
 * which the keys of a list lie goes first: where they are newer than all in the table they cost no
 * more than that. */
static int search_lists(struct db_conn *c, const char *column, const char *const *sorted,
			size_t count, struct rows_found *found, struct err *err)
{
	enum { VALUES = 3 };
	const size_t lists = (count + LIST_MAX - 1) / LIST_MAX;
	cleanup_free struct strbuf *texts = xcalloc(lists, sizeof(*texts));
	cleanup_free struct db_value *values =
		xreallocarray(NULL, lists * VALUES, sizeof(*values));
	int r = 0;

	for (size_t i = 0; i < lists; i++) {
		const char *const *keys = sorted + i * LIST_MAX;
		size_t len = MIN(count - i * LIST_MAX, (size_t)LIST_MAX);

		strbuf_init(&texts[i]);
		values[i * VALUES] = postgres_texts(keys, len, &texts[i]);
		values[i * VALUES + 1] = DB_TEXT(keys[0]);
		values[i * VALUES + 2] = DB_TEXT(keys[len - 1]);
	}
	sql_join(c, found->plan->select, found->table, " WHERE ", column);
	strbuf_addf(&c->sql, " = ANY ($1) AND EXISTS (SELECT 1 FROM %s WHERE %s BETWEEN $2 AND $3)",
		    found->table, column);
	for (size_t at = 0, some; !r && at < lists; at += some) {
		some = db_in_tx(c) ? lists : 1;
		r = search_run(c, values + at * VALUES, VALUES, some, found, err);
	}
	for (size_t i = 0; i < lists; i++)
		strbuf_release(&texts[i]);
	return r;
}

static int select_by_search(struct db_conn *c, const char *column, const char *const *texts,
			    size_t count, struct rows_found *found, struct err *err)
{
	cleanup_free const char **sorted = xreallocarray(NULL, count, sizeof(*sorted));
	size_t len = 0;

	memcpy(sorted, texts, count * sizeof(*sorted));
	for (size_t i = 1; i < count; i++)
		if (strcmp(sorted[i - 1], sorted[i]) > 0) {
			qsort(sorted, count, sizeof(*sorted), text_order);
			break;
		}
	for (size_t i = 0; i < count; i++)
		if (!len || strcmp(sorted[len - 1], sorted[i]))
			sorted[len++] = sorted[i];
	if (db_is_postgres(c->db))
		return search_lists(c, column, sorted, len, found, err);
	return len == 1 ? search_some(c, column, sorted, len, found, err)
			: search_gaps(c, column, sorted, len, found, err);
}

int db_select_in(struct db_conn *c, const struct type *t, const char *table, const char *column,
		 const char *const *texts, size_t count, struct arena *arena, void **ret_items,
		 size_t *ret_len, struct err *err)
{
	struct rows_found found = { .plan = plan_get(c->db, t), .table = table, .arena = arena };
	int r = count ? select_by_search(c, column, texts, count, &found, err) : 0;

	if (!r)
		rows_give(&found, ret_items, ret_len);
	free(found.items);
	return r;
}

/* Only an id is shown: another argument may be a secret's hash. */
static int not_found(const char *table, struct db_args args, struct err *err)
{
	char id[ID_SIZE] = "";

	if (args.len && args.items[0].kind == DB_KIND_TEXT && args.items[0].len == ID_LEN)
		memcpy(id, args.items[0].ptr, ID_LEN);
	if (id_valid(id, NULL))
		return err_set(err, ERR_NOT_FOUND, "no %s %s", table, id);
	return err_set(err, ERR_NOT_FOUND, "no %s like that", table);
}

int db_get(struct db_conn *c, const struct type *t, const char *table, const char *tail,
	   struct db_args args, struct arena *arena, void *ret, struct err *err)
{
	const struct row_plan *p = plan_get(c->db, t);
	cleanup_rows struct db_rows *rows = NULL;

	if (select_begin(c, p, table, tail, args, &rows, err))
		return -1;
	int got = db_next(rows, err);
	if (got < 0)
		return -1;
	if (!got)
		return not_found(table, args, err);

	void *row = arena_alloc(arena, t->size);
	if (row_read(p, rows, table, arena, row, err))
		return -1;
	got = db_next(rows, err);
	if (got)
		return got < 0 ? -1
			       : err_set(err, ERR_INTERNAL,
					 "more than one %s where there is one: %.100s", table,
					 tail);
	memcpy(ret, row, t->size);
	return 0;
}

int db_insert(struct db_conn *c, const struct type *t, const char *table, const void *value,
	      struct err *err)
{
	return db_insert_many(c, t, table, value, 1, err);
}

/* Rows at a time.  PostgreSQL takes them as one statement, which each time costs as much as some
 * fifty rows; SQLite one by one, and few keep to the processor's cache. */
#define INSERT_ROWS_POSTGRES 1000
#define INSERT_ROWS_SQLITE   128

int db_insert_many(struct db_conn *c, const struct type *t, const char *table,
		   const void *values, size_t count, struct err *err)
{
	const struct row_plan *plan = plan_get(c->db, t);
	const struct columns *columns = &plan->columns;
	const char *sql = sql_join(c, "INSERT INTO ", table, plan->insert, "");
	const size_t chunk = MIN(count, db_is_postgres(c->db) ? (size_t)INSERT_ROWS_POSTGRES :
								(size_t)INSERT_ROWS_SQLITE);
	struct db_value one[DB_COLUMNS_MAX];
	cleanup_free struct db_value *many =
		count > 1 ? xreallocarray(NULL, chunk * columns->count, sizeof(*many)) : NULL;
	struct db_value *values_of = many ? many : one;

	for (size_t at = 0; at < count; at += chunk) {
		size_t n = MIN(chunk, count - at);
		rows_fill(c, columns, (const char *)values + at * t->size, t->size, n, values_of);
		if (db_exec_batch(c, sql, values_of, columns->count, n, NULL, err))
			return -1;
	}
	return 0;
}

int db_update(struct db_conn *c, const struct type *t, const char *table, const char *key,
	      const void *value, struct err *err)
{
	const struct row_update *u = plan_update(plan_get(c->db, t), key);
	const char *sql = sql_join(c, "UPDATE ", table, u->tail, "");
	struct db_value values[DB_COLUMNS_MAX];
	int64_t changed;

	rows_fill(c, &u->columns, value, t->size, 1, values);
	if (db_exec(c, sql, (struct db_args){ values, u->columns.count }, &changed, err))
		return -1;
	if (!changed)
		return err_set(err, ERR_NOT_FOUND, "no %s with this %s", table, key);
	return 0;
}

/* One batch, however many: only so does *ret_changed stand for all of them in a pipeline. */
int db_update_many(struct db_conn *c, const struct type *t, const char *table, const char *key,
		   const void *values, size_t count, int64_t *ret_changed, struct err *err)
{
	const struct row_update *u = plan_update(plan_get(c->db, t), key);
	const char *sql = sql_join(c, "UPDATE ", table, u->tail, "");
	cleanup_free struct db_value *many =
		xreallocarray(NULL, MAX(count, (size_t)1) * u->columns.count, sizeof(*many));

	rows_fill(c, &u->columns, values, t->size, count, many);
	return db_exec_batch(c, sql, many, u->columns.count, count, ret_changed, err);
}
