/* Fills an empty store with simulated machines and running leases.
 *
 *   bench-world DATABASE DIRECTORY WORKERS LEASES [KEYS_FILE]
 *
 * Prints the customer's API key. */
#include "world.h"

#include <stdlib.h>

static int make(int argc, char **argv, struct err *err)
{
	struct world_spec spec = { .keys_path = argc > 5 ? argv[5] : NULL };
	struct world_control control;
	struct world world;
	int rc;

	if (int_parse(argv[3], 1, 10000000, &spec.workers, err) < 0 || int_parse(argv[4], 0, 10000000, &spec.leases, err) < 0 ||
	    world_control_open(argv[1], argv[2], &clock_system, &control, err) < 0)
		return -1;
	rc = world_make(control.c, &spec, &world, err);
	if (rc == 0)
		printf("key=%s\n", world.secret);
	world_release(&world);
	world_control_close(&control);
	return rc;
}

int main(int argc, char **argv)
{
	struct err err = { 0 };

	crypto_init();
	if (argc < 5) {
		fprintf(stderr, "usage: bench-world DATABASE DIRECTORY WORKERS LEASES [KEYS_FILE]\n");
		return 2;
	}
	if (make(argc, argv, &err) < 0) {
		fprintf(stderr, "bench-world: %s\n", err.text);
		return 1;
	}
	return 0;
}
