/* schema, private: access to the members of a described struct, paths for error texts, and the
 * checks that every reader shares. */
#ifndef TES_SCHEMA_INTERNAL_H
#define TES_SCHEMA_INTERNAL_H

#include "schema.h"

#define MAP_KEY_MAX	128 /* bytes of a map's key */
#define TYPE_FIELDS_MAX 96  /* fields of one type */

/* Any LIST(T): the struct has no name, its layout is this. */
struct raw_list {
	void *items;
	size_t len;
};

static inline void *field_ptr(const struct field *f, const void *value)
{
	return (char *)value + f->offset;
}

static inline bool field_is_number(const struct field *f)
{
	return f->kind == KIND_INT || f->kind == KIND_TIME || f->kind == KIND_MONEY ||
	       f->kind == KIND_PPM;
}

/* Whether the stored value stands for "not given": NULL, a time of 0, a default outside the
 * field's own limits. */
bool field_is_absent(const struct field *f, const void *at);

/* What a number counts, as the end of its name says. */
enum unit { UNIT_NONE, UNIT_BYTES, UNIT_MIB, UNIT_MS, UNIT_S };
enum unit field_unit(const struct field *f);
bool field_is_milli(const struct field *f); /* counts thousandths */
/* As people write it, with its unit; also 0. */
void number_format(const struct field *f, int64_t v, struct strbuf *out);

const struct field *type_find(const struct type *t, const char *name,
			      size_t len);		    /* NULL if unknown or hidden */
int names_find(const char *const *names, const char *name); /* index or -1 */
int names_count(const char *const *names);
void names_join(const char *const *names, struct strbuf *out); /* "a, b, c" */

/* Where the reader is: a list on the stack, made into "items[3].name" only when something is
 * wrong. */
struct path {
	const struct path *up;
	const char *name; /* NULL: the item `index` of the list above */
	size_t index;
};
/* ERR_INVALID with the field's path; a line other than 0 is appended to the text. */
int path_err(const struct path *at, int line, struct err *err, const char *fmt, ...)
	printf_like(4, 5);
/* The same for what a type's check() found: its field is relative to `at`. */
int path_err_below(const struct path *at, int line, struct err *err);
/* Member `name` of `t` does not exist (or is hidden). `at` ends with it. */
int unknown_field(const struct type *t, const struct path *at, const char *name, int line,
		  struct err *err);

/* Outside text as it may stand in an error: short, valid, without control characters. */
struct shown {
	char text[56];
};
struct shown show_text(const char *text, size_t len);
struct shown show_field(const struct field *f, const char *text); /* keeps secrets */

int number_check(const struct field *f, int64_t v, const struct path *path, int line,
		 struct err *err) must_check;
int text_check(const struct field *f, const char *text, const struct path *path, int line,
	       struct err *err) must_check;
int count_check(const struct field *f, size_t count, const struct path *path, int line,
		struct err *err) must_check;
int item_check(const struct field *f, const char *text, const struct path *path, int line,
	       struct err *err) must_check;
int key_check(const char *key, const struct path *path, int line, struct err *err) must_check;
int enum_err(const struct field *f, const char *text, const struct path *path, int line,
	     struct err *err);

/* Text to a scalar field; KIND_TEXT borrows it. `human`: units of people (dollars, GiB,
 * hours), else those of JSON. */
int scalar_from_text(const struct field *f, const char *text, bool human,
		     const struct path *path, int line, void *at, struct err *err) must_check;

/* Bytes that the arena can still hand out.  Going over its cap aborts, so what the outside
 * sends is measured first. */
static inline size_t arena_room(const struct arena *a)
{
	size_t cap = a->cap ? a->cap : ARENA_CAP_DEFAULT;

	return a->used < cap ? cap - a->used : 0;
}

/* schema_read, where the document's texts may also stand for numbers and truth values (a query
 * string). */
int read_texts(const struct type *t, const struct json *in, struct arena *arena, void *ret,
	       struct err *err) must_check;

#endif
