/* A range that is taken lies within the file. */
#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const int64_t sizes[] = { 0, 1, 10, INT64_MAX };
	char *value = xcalloc(1, size + 1);
	int64_t at, len;

	memcpy(value, data, size);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		if (range_parse(value, sizes[i], &at, &len) == RANGE_PART)
			assert(at >= 0 && len > 0 && at < sizes[i] && len <= sizes[i] - at);
	free(value);
	return 0;
}
