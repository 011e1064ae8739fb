/* All described types, and values made up for them from a seed. */
#ifndef TES_MODEL_TEST_TYPES_H
#define TES_MODEL_TEST_TYPES_H

#include "../model.h"

struct described {
	const char *name; /* of the variable, without _type */
	const struct type *type;
	const char *table; /* that stores it; NULL: none */
};
extern const struct described described_types[];
extern const size_t described_count;

/* Fills `value` within the limits of its description and of its check; the same seed gives
 * the same value. */
void make_value(const struct type *t, uint64_t *seed, struct arena *a, void *value);

#endif
