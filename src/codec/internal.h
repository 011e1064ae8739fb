/* codec, private: limits and helpers shared by the readers of documents. */
#ifndef TES_CODEC_INTERNAL_H
#define TES_CODEC_INTERNAL_H

#include "codec.h"

#define DEPTH_MAX 32 /* both parsers and everything behind them recurse */
#define VALUES_MAX \
	((size_t)1 << 18) /* jansson needs up to 150 bytes for a value of 3 characters */

/* Bytes that the arena can still hand out.  Going over its cap aborts, so what the outside
 * sends is measured first. */
static inline size_t arena_room(const struct arena *a)
{
	size_t cap = a->cap ? a->cap : ARENA_CAP_DEFAULT;

	return a->used < cap ? cap - a->used : 0;
}

/* What the arena takes for one allocation of `size` bytes. */
static inline size_t arena_cost(size_t size)
{
	return (size + 15) & ~(size_t)15;
}

/* Length of the valid UTF-8 character at p, which ends with a NUL somewhere; 0 if it is none.
 */
size_t utf8_char(const char *p);

#endif
