#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(void *arg, const char *phase, int64_t done, int64_t total)
{
	assert(phase && done >= 0 && total >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pull pull;

	pull_init(&pull, check, NULL);
	assert(pull_feed(&pull, (const char *)data, size) == 0);
	assert(pull.layers.len <= PULL_LAYERS_MAX);
	pull_error_code(pull.error, size % 2);
	pull_release(&pull);
	return 0;
}
