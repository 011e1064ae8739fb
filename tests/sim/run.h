/* Running histories, each in a process of its own. */
#ifndef TES_SIM_RUN_H
#define TES_SIM_RUN_H

#include "sim.h"

/* In a child; a history that ends its process counts as failed, with what it was ended by. */
void run_one(const struct options *o, struct outcome *ret);
/* Seeds first … last, `jobs` at a time; `done` for each in order of their end, until it returns false.  False if it did. */
bool run_many(const struct options *o, uint64_t first, uint64_t last, int jobs,
	      bool (*done)(void *arg, const struct options *o, const struct outcome *out),
	      void *arg);
/* The command that repeats it. */
void options_print(const struct options *o, char *buf, size_t size);
/* Looks for a shorter history that fails by the same checker. */
void shrink(struct options *o, struct outcome *out);

#endif
