/* Shared by the files of hw only. */
#ifndef TES_WORKER_HW_INTERNAL_H
#define TES_WORKER_HW_INTERNAL_H

#include "hw.h"

#define DEVICES_MAX  64
#define PROBLEMS_MAX 96

/* What one detection gathers. */
struct detection {
	struct arena *arena;
	struct inventory inventory;
	struct device devices[DEVICES_MAX];
	const char *problems[PROBLEMS_MAX];
	size_t problem_count;
};

void problem_add(struct detection *d, const char *fmt, ...) printf_like(2, 3);
/* NULL if there is no room for another. */
struct device *device_add(struct detection *d);

void machine_detect(struct detection *d, const char *data_dir);
void network_detect(struct detection *d);
void nvml_detect(struct detection *d, const char *library);
int simulated_add(struct detection *d, const char *data_dir, const char *spec,
		  struct err *err) must_check;

#endif
