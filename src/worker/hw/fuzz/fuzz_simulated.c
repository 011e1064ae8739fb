/* The configuration's description of GPUs that are not there. */
#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = { 0 };
	struct detection d = { .arena = &a, .inventory.hostname = "host" };
	struct err err = { 0 };

	arena_init(&a, 0);
	if (simulated_add(&d, "/nowhere", arena_strndup(&a, (const char *)data, size), &err) < 0) {
		assert(err.text[0] && utf8_valid(err.text, strlen(err.text)));
		return 0;
	}
	assert(d.inventory.devices.len <= DEVICES_MAX);
	for (size_t i = 0; i < d.inventory.devices.len; i++)
		assert(d.devices[i].vram_mib > 0 && utf8_valid(d.devices[i].model, strlen(d.devices[i].model)));
	return 0;
}
