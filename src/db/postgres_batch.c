/* A batch as one statement.  For each execution PostgreSQL makes a table's CHECKs, index
 * expressions and triggers ready anew, which costs more than the row does; so the rows of a batch
 * go as one array for each parameter, and the statement is rewritten to take them from there:
 *
 *   INSERT INTO t (a, b) VALUES ($1, $2)
 *   INSERT INTO t (a, b) SELECT batch.p1, batch.p2
 *       FROM (SELECT unnest($1) AS p1, unnest($2) AS p2) AS batch
 *
 *   UPDATE t SET b = b + $2 WHERE a = $1 AND c > $2
 *   UPDATE t SET b = b + batch.p2 FROM (SELECT unnest($1) AS p1, unnest($2) AS p2) AS batch
 *       WHERE a = batch.p1 AND c > batch.p2
 *
 * The arrays are as long as each other, so that it is the same as FROM unnest($1, $2), which would
 * first make a table in memory of each.
 *
 * Taken are only statements for which that is the same.  An UPDATE changes a row once, so its
 * first condition must be `column = $n`: rows of a batch that differ in $n then concern different
 * rows of the table. */
#include "internal.h"

#include <endian.h>

/* Where `word` stands in sql, outside of quotes and parentheses; or NULL. */
static const char *find_outside(const char *sql, const char *word)
{
	size_t len = strlen(word);
	int depth = 0;

	for (const char *p = sql; *p; p++) {
		if (*p == '\'' || *p == '"') {
			p = strchr(p + 1, *p);
			if (!p)
				return NULL;
			continue;
		}
		depth += (*p == '(') - (*p == ')');
		if (!depth && !strncmp(p, word, len))
			return p;
	}
	return NULL;
}

/* Appends sql up to `end` with $n as batch.pn. */
static void add_substituted(struct strbuf *out, const char *sql, const char *end)
{
	char quote = '\0';

	for (const char *p = sql; p < end; p++) {
		if (quote)
			quote = *p == quote ? '\0' : quote;
		else if (*p == '\'' || *p == '"')
			quote = *p;
		if (!quote && p[0] == '$' && p[1] >= '0' && p[1] <= '9')
			strbuf_adds(out, "batch.p");
		else
			strbuf_addc(out, *p);
	}
}

static void add_unnest(struct strbuf *out, int params)
{
	strbuf_adds(out, " FROM (SELECT ");
	for (int i = 1; i <= params; i++)
		strbuf_addf(out, "%sunnest($%d) AS p%d", i > 1 ? ", " : "", i, i);
	strbuf_adds(out, ") AS batch");
}

static bool insert_rewrite(const char *sql, int params, struct strbuf *ret)
{
	const char *values = find_outside(sql, " VALUES ("), *rest;

	if (!values)
		return false;
	const char *row = values + strlen(" VALUES ");
	rest = find_outside(row, ")");
	/* The closing parenthesis is where the depth is 0 again. */
	if (!rest || strstr(rest, "$") || strstr(rest, "DO UPDATE") ||
	    find_outside(rest + 1, ","))
		return false;
	strbuf_add(ret, sql, (size_t)(values - sql));
	strbuf_adds(ret, " SELECT ");
	add_substituted(ret, row + 1, rest);
	add_unnest(ret, params);
	strbuf_adds(ret, rest + 1);
	return true;
}

static bool update_rewrite(const char *sql, int params, struct strbuf *ret, int *ret_key)
{
	const char *where = find_outside(sql, " WHERE "), *p;
	int key = 0;

	if (!where || find_outside(sql, " FROM ") || find_outside(where, " OR "))
		return false;
	p = where + strlen(" WHERE ");
	p += strspn(p, "abcdefghijklmnopqrstuvwxyz_");
	if (strncmp(p, " = $", 4))
		return false;
	for (p += 4; *p >= '0' && *p <= '9'; p++)
		key = key * 10 + (*p - '0');
	if (!key || (*p && !str_starts(p, " AND ")))
		return false;
	add_substituted(ret, sql, where);
	add_unnest(ret, params);
	add_substituted(ret, where, where + strlen(where));
	*ret_key = key - 1;
	return true;
}

bool postgres_batch_sql(const char *sql, int params, struct strbuf *ret, int *ret_key)
{
	*ret_key = -1;
	/* What looks at more than its own row could see what the rows before it did. */
	if (!params || strstr(sql, "SELECT") || strstr(sql, "RETURNING") || strstr(sql, "--"))
		return false;
	if (str_starts(sql, "INSERT INTO "))
		return insert_rewrite(sql, params, ret);
	return str_starts(sql, "UPDATE ") && update_rewrite(sql, params, ret, ret_key);
}

/* ---- arrays ------------------------------------------------------------------------------- */

static enum db_kind kind_of(const struct db_value *v)
{
	return v->kind ? v->kind : v->null_of;
}

/* What all the values of one parameter are; DB_KIND_NULL: they differ, or nobody knows. */
static enum db_kind kind_common(const struct db_value *values, size_t columns, size_t rows)
{
	enum db_kind kind = DB_KIND_NULL;

	for (size_t i = 0; i < rows; i++) {
		enum db_kind one = kind_of(&values[i * columns]);

		if (one && kind && one != kind)
			return DB_KIND_NULL;
		kind = one ? one : kind;
	}
	return kind;
}

static int value_compare(const void *a, const void *b)
{
	const struct db_value *x = *(const struct db_value *const *)a;
	const struct db_value *y = *(const struct db_value *const *)b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->kind == DB_KIND_INT)
		return x->integer < y->integer ? -1 : x->integer > y->integer;
	int order = memcmp(x->ptr ? x->ptr : "", y->ptr ? y->ptr : "", MIN(x->len, y->len));
	return order ? order : x->len < y->len ? -1 : x->len > y->len;
}

static bool keys_differ(const struct db_value *keys, size_t columns, size_t rows)
{
	const struct db_value **sorted = xreallocarray(NULL, rows, sizeof(*sorted));
	bool ascending = true, differ = true;

	for (size_t i = 0; i < rows; i++) {
		sorted[i] = &keys[i * columns];
		ascending = ascending && (!i || value_compare(&sorted[i - 1], &sorted[i]) < 0);
	}
	if (!ascending)
		qsort(sorted, rows, sizeof(*sorted), value_compare);
	for (size_t i = 1; !ascending && differ && i < rows; i++)
		differ = value_compare(&sorted[i - 1], &sorted[i]) != 0;
	free(sorted);
	return differ;
}

static void add_be32(struct strbuf *out, uint32_t n)
{
	n = htobe32(n);
	strbuf_add(out, &n, sizeof(n));
}

/* PostgreSQL's binary form of an array: dimensions, whether there are NULLs, type; length and
 * first index of the one dimension; then each value with its length. */
static void add_array(struct strbuf *out, unsigned type, const struct db_value *values,
		      size_t columns, size_t rows)
{
	add_be32(out, 1);
	add_be32(out, 1);
	add_be32(out, type);
	add_be32(out, (uint32_t)rows);
	add_be32(out, 1);
	for (size_t i = 0; i < rows; i++) {
		const struct db_value *v = &values[i * columns];

		if (v->kind == DB_KIND_NULL) {
			add_be32(out, UINT32_MAX);
		} else if (v->kind == DB_KIND_INT) {
			uint64_t n = htobe64((uint64_t)v->integer);
			add_be32(out, sizeof(n));
			strbuf_add(out, &n, sizeof(n));
		} else {
			add_be32(out, (uint32_t)v->len);
			if (v->len)
				strbuf_add(out, v->ptr, v->len);
		}
	}
}

struct db_value postgres_texts(const char *const *texts, size_t count, struct strbuf *buf)
{
	struct db_value *values = xreallocarray(NULL, count, sizeof(*values));

	for (size_t i = 0; i < count; i++)
		values[i] = DB_TEXT(texts[i]);
	strbuf_reset(buf);
	add_array(buf, OID_TEXT, values, 1, count);
	free(values);
	return (struct db_value){ .kind = DB_KIND_TEXTS, .ptr = buf->buf, .len = buf->len };
}

size_t postgres_batch_rows(const struct db_value *values, size_t columns, size_t count)
{
	const size_t bytes_max = 16 << 20;
	size_t rows = 0, bytes = 0;

	while (rows < MIN(count, (size_t)1000) && bytes < bytes_max) {
		for (size_t i = 0; i < columns; i++)
			bytes += values[rows * columns + i].len;
		rows++;
	}
	return rows;
}

bool postgres_batch_arrays(const struct db_value *values, size_t columns, size_t rows, int key,
			   struct strbuf *buf, struct db_value *ret_arrays, unsigned *ret_types)
{
	static const struct { unsigned one, array; } types[] = {
		[DB_KIND_INT] = { OID_INT8, OID_INT8_ARRAY },
		[DB_KIND_TEXT] = { OID_TEXT, OID_TEXT_ARRAY },
		[DB_KIND_BLOB] = { OID_BYTEA, OID_BYTEA_ARRAY },
	};

	if (key >= 0 && !keys_differ(values + key, columns, rows))
		return false;
	for (size_t i = 0; i < columns; i++) {
		enum db_kind kind = kind_common(values + i, columns, rows);
		size_t from = buf->len;

		if (kind == DB_KIND_NULL)
			return false;
		add_array(buf, types[kind].one, values + i, columns, rows);
		ret_types[i] = types[kind].array;
		ret_arrays[i] = (struct db_value){ .kind = DB_KIND_BLOB, .len = buf->len - from };
	}
	/* The buffer no longer moves. */
	const char *p = buf->buf;
	for (size_t i = 0; i < columns; i++) {
		ret_arrays[i].ptr = p;
		p += ret_arrays[i].len;
	}
	return true;
}
