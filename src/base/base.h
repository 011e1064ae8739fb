/* base: what every other folder stands on.  Errors, memory, strings, containers, time, ids,
 * log sink.
 *
 * Includes libc only and does no I/O except through the log sink.  Everything here may be
 * called from any thread; objects are not shared between threads unless their comment says so.
 */
#ifndef TES_BASE_H
#define TES_BASE_H

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef NDEBUG
#error "asserts stay on: build without NDEBUG (meson: b_ndebug=false)"
#endif

#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* Each argument is evaluated once; the counter names the copies, so that calls may stand inside
 * calls. */
#define PICK_(x, y, a, op, b) ({ typeof(a) x = (a); typeof(b) y = (b); x op y ? x : y; })
#define PICK__(n, a, op, b) PICK_(pick_a_##n, pick_b_##n, a, op, b)
#define PICK(n, a, op, b) PICK__(n, a, op, b)
#define MIN(a, b) PICK(__COUNTER__, a, <, b)
#define MAX(a, b) PICK(__COUNTER__, a, >, b)
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* ---- errors ---- */

/* What went wrong, in the caller's terms.  `api_status()` maps a code to its HTTP status, in
 * one table. */
enum err_code {
	ERR_NONE = 0,
	ERR_INVALID,         /* the input is wrong: names field, value, limit and what to do */
	ERR_UNAUTHENTICATED, /* who are you? */
	ERR_FUNDS,           /* not enough money */
	ERR_FORBIDDEN,       /* known, and not allowed */
	ERR_NOT_FOUND,
	ERR_CONFLICT,        /* the state does not allow it, or another generation */
	ERR_GONE,            /* was there, has expired */
	ERR_TOO_LARGE,
	ERR_RATE,            /* too many, try later */
	ERR_UNSUPPORTED,     /* method, media type or feature */
	ERR_RETRY,           /* transient inside a transaction: run it again */
	ERR_UNAVAILABLE,     /* a part that we need does not answer; nothing was changed */
	ERR_TIMEOUT,
	ERR_IO,              /* the operating system said no: see sys */
	ERR_INTERNAL,        /* a bug or a broken store */
};

/* Caller-owned, no allocation, cannot leak, works when memory is gone.  `field` is the JSON
 * path of the bad field ("resources.gpus", "env[3]"), or empty.  Both texts may quote what came
 * from outside: they are always valid UTF-8 without control characters, safe on a terminal and
 * in JSON. */
struct err {
	enum err_code code;
	int sys; /* errno, or 0 */
	char field[96];
	char text[232];
};

/* All return -1, so that a function can `return err_set(err, …)`.  Long text is cut, never
 * overflows.  err may be NULL; arguments may point into *err. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) printf_like(3, 4);
/* With ERR_INVALID. */
int err_set_field(struct err *err, const char *field, const char *fmt, ...) printf_like(3, 4);
/* With ERR_IO; appends ": " and what errno means. */
int err_sys(struct err *err, int sys, const char *fmt, ...) printf_like(3, 4);
/* Prefixes "context: "; code, sys and field stay. */
int err_wrap(struct err *err, const char *fmt, ...) printf_like(2, 3);
/* "gpus" -> "resources.gpus", "[3]" -> "env[3]". */
void err_prefix_field(struct err *err, const char *prefix);
void err_clear(struct err *err);
const char *err_code_name(enum err_code code); /* "invalid", "not_found", … */

/* ---- ownership ---- */

static inline void free_ptr_(void *p)
{
	free(*(void **)p);
}
void close_fd_(int *fd);

/* Initialise such a variable where it is declared: every return that follows releases it. */
#define cleanup_free __attribute__((__cleanup__(free_ptr_)))
#define cleanup_fd __attribute__((__cleanup__(close_fd_)))
#define cleanup(fn) __attribute__((__cleanup__(fn)))
#define take_ptr(p) ({ typeof(p) taken_ = (p); (p) = NULL; taken_; })
#define take_fd(fd) ({ int taken_ = (fd); (fd) = -1; taken_; })

/* Out of memory aborts; a size that comes from outside must have passed a cap first. */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
void *xreallocarray(void *p, size_t count, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));

/* ---- arena: all memory of one request or one tick, freed at once ---- */

/* All zero is an empty one with the default cap: cleanup_arena struct arena a = { 0 }; */
struct arena {
	struct arena_block *head;
	size_t used, cap; /* bytes handed out, and what they may come to */
};

#define ARENA_CAP_DEFAULT ((size_t)256 << 20)
/* cap 0: ARENA_CAP_DEFAULT.  Going over it aborts. */
void arena_init(struct arena *a, size_t cap);
void arena_release(struct arena *a);
/* Zeroed, aligned to 16. */
void *arena_alloc(struct arena *a, size_t size) __attribute__((malloc, returns_nonnull));
char *arena_strdup(struct arena *a, const char *s);              /* NULL stays NULL */
char *arena_strndup(struct arena *a, const char *s, size_t len); /* always terminated */
char *arena_printf(struct arena *a, const char *fmt, ...) printf_like(2, 3);
#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define arena_array(a, type, n) ((type *)arena_alloc_array((a), (n), sizeof(type)))
void *arena_alloc_array(struct arena *a, size_t count, size_t size);
#define cleanup_arena __attribute__((__cleanup__(arena_release)))

/* ---- strings ---- */

/* Borrowed bytes, not terminated. */
struct slice {
	const char *ptr;
	size_t len;
};
#define SLICE(lit) ((struct slice){ "" lit, sizeof(lit) - 1 })
static inline struct slice slice_of(const char *s)
{
	return (struct slice){ s, s ? strlen(s) : 0 };
}
bool slice_eq(struct slice a, struct slice b);
bool slice_is(struct slice a, const char *s);
struct slice slice_trim(struct slice s);
/* Cut at the first `sep`: returns what is before it and moves *s past it; false if *s is used
 * up (its ptr is then NULL).  "a,,b" gives "a", "", "b"; "" gives one empty piece. */
bool slice_split(struct slice *s, char sep, struct slice *ret);

/* Growing buffer.  Invariant: buf is never NULL after init and buf[len] == 0. */
struct strbuf {
	char *buf;
	size_t len, cap;
};
extern char strbuf_nothing[1]; /* what an empty buffer points to; never written */
#define STRBUF_INIT { .buf = strbuf_nothing }
void strbuf_init(struct strbuf *sb);
void strbuf_release(struct strbuf *sb);
void strbuf_reset(struct strbuf *sb);
void strbuf_add(struct strbuf *sb, const void *p, size_t len);
void strbuf_adds(struct strbuf *sb, const char *s);
void strbuf_addc(struct strbuf *sb, char c);
void strbuf_addf(struct strbuf *sb, const char *fmt, ...) printf_like(2, 3);
void strbuf_vaddf(struct strbuf *sb, const char *fmt, va_list ap) printf_like(2, 0);
char *strbuf_take(struct strbuf *sb); /* the caller frees; the buffer is empty again */
/* For text of others on a terminal: line ends, control characters and malformed UTF-8 are
 * written as \n, \x1b, \u202e. */
void strbuf_add_escaped(struct strbuf *sb, const char *s, size_t len);
/* cleanup_strbuf struct strbuf sb = STRBUF_INIT; */
#define cleanup_strbuf __attribute__((__cleanup__(strbuf_release)))

bool str_eq(const char *a, const char *b); /* NULL equals NULL only */
bool str_starts(const char *s, const char *prefix);
int text_order(const void *a, const void *b); /* of const char *: for qsort and bsearch */
bool str_empty(const char *s); /* NULL or "" */
bool utf8_valid(const char *s, size_t len);
/* Edits (insert, drop, change, swap neighbours) from a to b, for "did you mean"; SIZE_MAX over
 * 64 characters. */
size_t str_distance(const char *a, const char *b);
/* Copies into a fixed buffer; -1 if it does not fit (dst is then empty). */
int str_copy(char *dst, size_t size, const char *src) must_check;
/* Whole-string integer within [min, max]; ERR_INVALID names value and limits. */
int int_parse(const char *s, int64_t min, int64_t max, int64_t *ret,
	      struct err *err) must_check;
/* "512M", "2GiB", "1.5 GiB", "1024" -> bytes: powers of 1024 for K, M, G, T and KiB…, of 1000
 * for KB…. */
int size_parse(const char *s, int64_t *ret_bytes, struct err *err) must_check;
/* "90s", "15m", "2h30m", "7d", "1.5h", "250ms" -> milliseconds; units from large to small, each
 * at most once. */
int duration_parse(const char *s, int64_t *ret_ms, struct err *err) must_check;
/* "2.5%", "25000ppm", "0" -> millionths; other bare numbers are refused, because nobody knows
 * what 5 means. */
int ppm_parse(const char *s, int64_t *ret_ppm, struct err *err) must_check;
/* For people, rounded down: "1.5 GiB". */
void size_format(int64_t bytes, char buf[static 24]);
/* Exact: "2h30m"; duration_parse reads it back. */
void duration_format(int64_t ms, char buf[static 32]);

/* ---- money ---- */

/* Money is int64_t micro-units of a currency (µUSD).  Arithmetic that could overflow is
 * checked. */
bool add_checked(int64_t a, int64_t b, int64_t *ret) must_check;
bool sub_checked(int64_t a, int64_t b, int64_t *ret) must_check;
bool mul_checked(int64_t a, int64_t b, int64_t *ret) must_check;
/* floor(a * b / c), with a 128-bit product; a, b >= 0, c > 0; false if it does not fit. */
bool muldiv_floor(int64_t a, int64_t b, int64_t c, int64_t *ret) must_check;
/* "0.25", "1", "-12.345678" dollars <-> µUSD; more than six decimals is ERR_INVALID. */
int money_parse(const char *s, int64_t *ret_uusd, struct err *err) must_check;
/* Exact, with at least two decimals: "0.25", "1.00"; money_parse reads it back. */
void money_format(int64_t uusd, char buf[static 32]);

/* ---- time ---- */

/* Time is int64_t milliseconds since 1970 UTC.  Whoever needs the time is handed a clock, so
 * that the simulator can hand out its own. */
struct clock {
	int64_t (*now_ms)(void *arg);
	void *arg;
};
extern const struct clock clock_system; /* CLOCK_REALTIME */
static inline int64_t clock_now(const struct clock *c)
{
	return c->now_ms(c->arg);
}
int64_t time_monotonic_ms(void);
#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)
/* RFC 3339 "2026-11-23T13:58:00.123Z"; what is outside the years 0 to 9999 becomes their first
 * or last instant. */
void time_format(int64_t ms, char buf[static 32]);
/* RFC 3339 with any offset. */
int time_parse(const char *s, int64_t *ret_ms, struct err *err) must_check;

/* ---- random and ids ---- */

/* Source of randomness, so that the simulator can hand out a seeded one. */
struct random {
	void (*fill)(void *arg, void *buf, size_t len);
	void *arg;
};
extern const struct random random_system; /* getrandom(2); aborts if it fails */

/* An id is a two-letter kind, '_' and a UUIDv7 (RFC 9562) in 26 characters of Crockford's base
 * 32, lower case: "wl_01jdq3k5v8e4r9t0m2n6p7a1bc".  Sortable by time; ids made in one
 * millisecond by one process keep order only across different milliseconds. */
#define ID_LEN 29
#define ID_SIZE 32
void id_make(const char kind[static 2], int64_t now_ms, const struct random *rnd,
	     char ret[static ID_SIZE]);
bool id_valid(const char *s, const char *kind); /* kind NULL: any */
/* A prefix of an id that a person may type ("wl_01jdq"): right kind and alphabet, 3 to ID_LEN
 * characters. */
bool id_prefix_valid(const char *s, const char *kind);
int64_t id_time_ms(const char *id); /* the embedded time; id must be valid */

/* ---- containers ---- */

/* Growable typed array: VEC(int) v = {0}; *vec_push(&v) = 3; for (i < v.len) v.items[i];
 * vec_release(&v). */
#define VEC(type) struct { type *items; size_t len, cap; }
#define vec_push(v) \
	({ if ((v)->len == (v)->cap) { \
		(v)->cap = (v)->cap ? (v)->cap * 2 : 8; \
		(v)->items = xreallocarray((v)->items, (v)->cap, sizeof(*(v)->items)); } \
	   memset(&(v)->items[(v)->len], 0, sizeof(*(v)->items)); \
	   &(v)->items[(v)->len++]; })
#define vec_release(v) ({ free((v)->items); memset((v), 0, sizeof(*(v))); })

/* String-keyed hash map (keyed SipHash, so that outsiders cannot choose collisions); values are
 * borrowed.  Iteration is in order of insertion (replacing a value keeps its place), so it does
 * not depend on the hash key. */
struct map;
struct map *map_new(void);
void map_free(struct map *m, void (*value_free)(void *)); /* value_free may be NULL */
void *map_find(const struct map *m, const char *key);
void map_put(struct map *m, const char *key, void *value); /* copies the key; replaces */
void *map_remove(struct map *m, const char *key);          /* the old value or NULL */
size_t map_count(const struct map *m);
/* Iterate: `size_t it = 0; while (map_next(m, &it, &key, &value))`; meanwhile add
 * nothing and remove nothing but the current entry. */
bool map_next(const struct map *m, size_t *it, const char **ret_key, void **ret_value);
uint64_t hash_bytes(const void *p, size_t len); /* keyed per process: never store it */

/* ---- log sink ---- */

/* Library code never logs; the top frame logs once.  Before log_init: plain, LOG_INFO, standard
 * error.  Plain: "2026-11-23T13:58:00.123Z info lease placed lease=le_…"; JSON: one object a
 * line with at, level, message and the fields.  Thread-safe: one write(2) a line.  Messages and
 * values are escaped (no line ends, no terminal controls) and cut at 4 KiB; keys must be plain
 * words. */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
void log_init(int fd, bool json, enum log_level min);
/* "debug", "info", "warn" or "error"; else -1. */
int log_level_parse(const char *s, enum log_level *ret) must_check;
/* Pairs of (const char *key, const char *value), ended by NULL; a NULL value leaves the pair
 * out. */
void log_line(enum log_level level, const char *message, ...) __attribute__((sentinel));
void log_err(enum log_level level, const struct err *err, const char *message, ...)
	__attribute__((sentinel));

#endif
