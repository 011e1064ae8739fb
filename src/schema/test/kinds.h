/* A type that uses every kind, and values of it drawn from a seed: for the tests and the fuzz
 * harness. */
#ifndef TES_SCHEMA_TEST_KINDS_H
#define TES_SCHEMA_TEST_KINDS_H

#include "../schema.h"

struct part {
	const char *name;
	int64_t gpus;
	struct text_list tags;
};

struct limits {
	int64_t memory_mib, timeout_s, size_bytes;
	const struct part *part;
};

struct kinds {
	const char *id, *any_id, *name, *note, *output, *secret;
	int64_t count, offset, unset, at_ms, price_uusd, balance_uusd, share_ppm;
	bool on;
	int color, shape;
	const struct limits *limits;
	LIST(struct part) parts;
	struct text_list labels;
	struct text_map env;
	const char *made_by; /* by the server */
	int64_t made_ms;
	const char *hidden;
};

extern const struct type part_type, limits_type, kinds_type;

/* Numbers from a seed (xorshift64*, Vigna 2016). */
uint64_t draw(uint64_t *seed);
uint64_t draw_below(uint64_t *seed, uint64_t limit);
/* A valid value; `server`: with what only the server sets; `query`: only what a query string
 * can carry. */
void kinds_draw(uint64_t *seed, struct arena *a, bool server, bool query, struct kinds *ret);
/* Equal in every described field but the hidden one. */
bool value_equal(const struct type *t, const void *a, const void *b);

#endif
