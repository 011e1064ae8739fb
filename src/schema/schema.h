/* schema: the language in which types are described, once, as tables of fields.
 *
 * From one description come: JSON in (validated, with the path of the bad field) and out, query strings, SQL rows,
 * OpenAPI, tables on the command line, and the docs.  Nobody writes a parser for one type by hand.  The descriptions
 * themselves stand with the nouns, in model/.
 *
 * In memory a described type is a plain struct whose strings and lists are borrowed from an arena:
 *   FIELD_TEXT, FIELD_ID   const char *          NULL: absent
 *   FIELD_INT and kin      int64_t               absent: the field's default
 *   FIELD_BOOL             bool
 *   FIELD_ENUM             int                   index into the names; JSON and SQL carry the name
 *   FIELD_OBJECT           const T *             NULL: absent
 *   FIELD_LIST             LIST(T)               {items, len}; of objects (inline structs) or of texts (const char *)
 *   FIELD_MAP              struct text_map       string to string, order kept
 */
#ifndef TES_SCHEMA_H
#define TES_SCHEMA_H

#include "../base/base.h"
#include "../codec/codec.h"

enum field_kind {
	KIND_TEXT,  /* UTF-8, no control characters but tab and newline (FIELD_LINE: not those either) */
	KIND_ID,    /* base.h id of the kind in `prefix` */
	KIND_INT,
	KIND_BOOL,
	KIND_ENUM,
	KIND_TIME,  /* int64_t ms since 1970 UTC; 0: absent; RFC 3339 text is taken in JSON too */
	KIND_MONEY, /* int64_t micro-units; JSON integer */
	KIND_PPM,   /* int64_t 0 … 1000000 */
	KIND_OBJECT,
	KIND_LIST,
	KIND_MAP,
};

enum field_flags {
	FIELD_REQUIRED = 1 << 0,  /* must be in the JSON that comes in */
	FIELD_OUT = 1 << 1,       /* set by the server: refused in input, written in output */
	FIELD_SECRET = 1 << 2,    /* taken in, never written by schema_write (schema_write_secret writes it) */
	FIELD_SQL = 1 << 3,       /* has a column of the same name */
	FIELD_LINE = 1 << 4,      /* text without newline or tab */
	FIELD_NULL = 1 << 5,      /* absent is NULL in SQL (texts and ids); else '' */
	FIELD_HIDDEN = 1 << 6,    /* has a column, never in JSON */
	FIELD_RAW = 1 << 7,       /* text with any characters but NUL (output of other programs) */
	FIELD_FIXED = 1 << 8,     /* a column that is never changed once its row is there */
};

struct type;
struct field {
	const char *name;
	enum field_kind kind;
	unsigned flags;
	size_t offset;
	int64_t min, max;          /* numbers: inclusive; texts: bytes; lists and maps: count */
	int64_t def;               /* number or enum index when absent; outside min … max (or -1): stands for absent */
	const char *prefix;        /* KIND_ID */
	const char *const *names;  /* KIND_ENUM, NULL-ended */
	const struct type *type;   /* KIND_OBJECT; KIND_LIST of objects; NULL for a list of texts; no cycles */
	int64_t item_max;          /* list of texts, map: bytes of one text or value */
	const char *doc;           /* one sentence with meaning and unit */
};

struct type {
	const char *name;          /* "workload_spec", as in OpenAPI and the docs */
	size_t size;
	const struct field *fields;
	size_t count;
	const char *doc;
	/* What one field alone cannot say ("either quote or max_price"); may be NULL.  Sets err with the field. */
	int (*check)(const void *value, struct err *err);
};

#define LIST(T) struct { T *items; size_t len; }
struct text_map_item { const char *key, *value; };
struct text_map { struct text_map_item *items; size_t len; };
struct text_list { const char **items; size_t len; };
const char *text_map_find(const struct text_map *m, const char *key);

/* The rows of a description.  `T` is the struct, `m` the member, which is also the name outside. */
#define FIELD_ID(T, m, pre, fl, d)            { .name = #m, .kind = KIND_ID, .flags = (fl), .offset = offsetof(T, m), .max = ID_LEN, .prefix = (pre), .doc = (d) }
#define FIELD_TEXT(T, m, lo, hi, fl, d)       { .name = #m, .kind = KIND_TEXT, .flags = (fl), .offset = offsetof(T, m), .min = (lo), .max = (hi), .doc = (d) }
#define FIELD_INT(T, m, lo, hi, df, fl, d)    { .name = #m, .kind = KIND_INT, .flags = (fl), .offset = offsetof(T, m), .min = (lo), .max = (hi), .def = (df), .doc = (d) }
#define FIELD_BOOL(T, m, fl, d)               { .name = #m, .kind = KIND_BOOL, .flags = (fl), .offset = offsetof(T, m), .doc = (d) }
#define FIELD_ENUM(T, m, nm, df, fl, d)       { .name = #m, .kind = KIND_ENUM, .flags = (fl), .offset = offsetof(T, m), .names = (nm), .def = (df), .doc = (d) }
#define FIELD_TIME(T, m, fl, d)               { .name = #m, .kind = KIND_TIME, .flags = (fl), .offset = offsetof(T, m), .max = INT64_C(253402300799999), .doc = (d) }
#define FIELD_MONEY(T, m, fl, d)              { .name = #m, .kind = KIND_MONEY, .flags = (fl), .offset = offsetof(T, m), .max = INT64_C(1000000000000000), .doc = (d) }
#define FIELD_MONEY_SIGNED(T, m, fl, d)       { .name = #m, .kind = KIND_MONEY, .flags = (fl), .offset = offsetof(T, m), .min = INT64_C(-1000000000000000), .max = INT64_C(1000000000000000), .doc = (d) }
#define FIELD_PPM(T, m, fl, d)                { .name = #m, .kind = KIND_PPM, .flags = (fl), .offset = offsetof(T, m), .max = 1000000, .doc = (d) }
#define FIELD_OBJECT(T, m, ty, fl, d)         { .name = #m, .kind = KIND_OBJECT, .flags = (fl), .offset = offsetof(T, m), .type = (ty), .doc = (d) }
#define FIELD_LIST(T, m, ty, hi, fl, d)       { .name = #m, .kind = KIND_LIST, .flags = (fl), .offset = offsetof(T, m), .type = (ty), .max = (hi), .doc = (d) }
#define FIELD_TEXTS(T, m, n, hi, fl, d)       { .name = #m, .kind = KIND_LIST, .flags = (fl), .offset = offsetof(T, m), .max = (n), .item_max = (hi), .doc = (d) }
#define FIELD_MAP(T, m, n, hi, fl, d)         { .name = #m, .kind = KIND_MAP, .flags = (fl), .offset = offsetof(T, m), .max = (n), .item_max = (hi), .doc = (d) }
#define TYPE(var, T, d)        const struct type var##_type = { .name = #var, .size = sizeof(struct T), .fields = var##_fields, .count = ARRAY_LEN(var##_fields), .doc = (d) }
#define TYPE_CHECK(var, T, ck, d) const struct type var##_type = { .name = #var, .size = sizeof(struct T), .fields = var##_fields, .count = ARRAY_LEN(var##_fields), .doc = (d), .check = (ck) }

/* ---- JSON ---------------------------------------------------------------------------------------- */

/* Who sends the value: a client's FIELD_OUT fields are refused; our own peer's (or our own store's) are taken, unknown
 * fields are ignored (a newer peer), FIELD_SECRET need not be there and the type's check() is not run. */
enum schema_from { FROM_CLIENT, FROM_SERVER };

/* Fills `ret` (t->size bytes, defaults first; untouched on failure) from a parsed document, whose texts it borrows.
 * null stands for "not given".  The first error names the path of the field ("resources.gpus", "items[3].name"), the
 * value (shortened; never a secret's), the limit and what to do; unknown fields are refused with the nearest known
 * name, and with the line where the document came from YAML.  ERR_TOO_LARGE if the arena cannot hold it. */
int schema_read(const struct type *t, const struct json *in, enum schema_from from, struct arena *arena, void *ret, struct err *err) must_check;
int schema_parse(const struct type *t, struct slice json, enum schema_from from, struct arena *arena, void *ret, struct err *err) must_check;
/* From "a=1&b=x%20y"; the same rules and units as JSON, but numbers and truth values are texts.  Lists are given by
 * repeating the name or by commas ("%2C" is a comma inside an item), objects and maps by "resources.gpus=1". */
int schema_parse_query(const struct type *t, struct slice query, struct arena *arena, void *ret, struct err *err) must_check;
/* Sets one field by path from text, as on a command line or in the environment, with the limits of its description:
 *   "resources.gpus", "2"        objects are made where they are missing
 *   "max_price_uusd_h", "0.25"   money in dollars
 *   "memory_mib", "4GiB"         sizes where the name ends in _bytes or _mib, durations where it ends in _ms or _s;
 *                                a plain number counts in the field's own unit; a part of a unit is rounded up
 *   "min_reliability_ppm", "99%" or millionths
 *   "env.KEY", "value"           or "env", "KEY=value": one entry of a map, replacing that of the same key
 *   "labels", "a,b"              a whole list of texts
 *   "labels[]", "a,b"            one more text, taken as it is
 *   "items[0].name", "x"         an item of a list of objects; the one after the last is made
 * Errors call the field by `path`; call schema_check once all is set. */
int schema_set(const struct type *t, const char *path, const char *text, struct arena *arena, void *value, struct err *err) must_check;
/* The rules of FROM_CLIENT for a value in memory (limits, required fields, check); FIELD_OUT fields are not looked at. */
int schema_check(const struct type *t, const void *value, struct err *err) must_check;
void schema_defaults(const struct type *t, void *ret);
/* Compact JSON.  What is absent is left out: NULL, a time of 0, an enum index without a name, a number that equals a
 * default outside its own limits.  Invalid UTF-8 is written as U+FFFD. */
void schema_write(const struct type *t, const void *value, struct strbuf *out);        /* without FIELD_SECRET */
void schema_write_secret(const struct type *t, const void *value, struct strbuf *out); /* with them: to the worker that needs them */
void schema_write_input(const struct type *t, const void *value, struct strbuf *out);  /* what a client sends: with them, without FIELD_OUT */
/* One field as stored (with secrets, FROM_SERVER rules); `at` is the member's address.  Reading null changes nothing. */
void field_write(const struct field *f, const void *at, struct strbuf *out);
int field_read(const struct field *f, struct slice json, struct arena *arena, void *ret_at, struct err *err) must_check;
/* "a=1&b=x%20y" with only what differs from the default; without FIELD_SECRET and FIELD_OUT (URLs end in logs). */
void schema_write_query(const struct type *t, const void *value, struct arena *arena, struct strbuf *out);
/* Deep copy into another arena. */
void schema_copy(const struct type *t, const void *from, struct arena *arena, void *ret);

/* ---- fields by name, for tables on the command line and filters ----------------------------------- */

/* The field at "resources.gpus" or "items[3].name", and (where ret_at is not NULL) the address of its member in `value`:
 * NULL if value is NULL or an object or item on the way is missing.  NULL for unknown and hidden fields. */
const struct field *schema_field(const struct type *t, const char *path, const void *value, const void **ret_at);
/* As a person reads it: money "$0.25", ppm "99.95%", sizes "16 GiB", durations "2h30m", times "2026-11-23 13:58:00Z",
 * lists joined by commas; "-" for what is absent (or `at` NULL), secrets never.  Control characters become '?'. */
void field_format(const struct field *f, const void *at, struct strbuf *out);

/* ---- documents ----------------------------------------------------------------------------------- */

/* OpenAPI 3.1 schema object of t; nested described types become "#/components/schemas/<name>" references, and are
 * appended once to `seen` for the caller to emit. */
struct type_set { VEC(const struct type *) v; };
void schema_openapi(const struct type *t, struct type_set *seen, struct strbuf *out);
/* A Markdown table: field, kind, limits, meaning. */
void schema_markdown(const struct type *t, struct strbuf *out);

#endif
