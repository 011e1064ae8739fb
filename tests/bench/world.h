/* A network of simulated machines, written straight into an empty store: what the measurements start from. */
#ifndef TES_BENCH_WORLD_H
#define TES_BENCH_WORLD_H

#include "../../src/control/internal.h"

#define WORLD_KINDS 40 /* of machines: ten GPU models in four regions */
#define WORLD_GPUS 8

struct world_spec {
	int64_t workers, leases; /* leases run, spread evenly; at most WORLD_GPUS a worker hold a GPU */
	const char *keys_path;	 /* NULL, or where to write a line "<worker> <secret key>" for each */
};
struct world {
	char customer[ID_SIZE], provider[ID_SIZE];
	char secret[96]; /* of the customer's API key, an owner's */
	char (*workers)[ID_SIZE];
	uint8_t (*keys)[SIGN_SECRET_SIZE]; /* the workers' */
	char (*leases)[ID_SIZE];	   /* lease n is on worker n % worker_count */
	int64_t worker_count;
};

/* Migrates the store, and makes two organisations, a key, money and machines in it. */
int world_make(struct control *c, const struct world_spec *spec, struct world *ret, struct err *err) must_check;
void world_release(struct world *w);

/* Request `n` for GPUs: half of them name a model, the others a least memory; all a region. */
void world_want(int64_t n, struct resources *ret, const char **ret_region);

/* Opens a store (empty or not) and the control code over it, as tesd does, with files below `dir`.  The clock is
 * borrowed. */
struct world_control {
	struct control_config config;
	struct db *db;
	struct blob_store *blobs;
	struct control *c;
	struct arena arena;
};
int world_control_open(const char *database, const char *dir, const struct clock *clock, struct world_control *ret, struct err *err) must_check;
void world_control_close(struct world_control *w);

double world_seconds(void);	/* CLOCK_MONOTONIC */
double world_cpu_seconds(void); /* of this process */

#endif
