/* What yaml_parse accepts must be a valid JSON document. */
#include "../codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = { 0 }, b = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct json *value, *again;
	struct err err = { 0 };

	arena_init(&a, 256 << 10); /* small, to reach what happens at its end */
	arena_init(&b, 0);
	strbuf_init(&out);
	if (yaml_parse((struct slice){ (const char *)data, size }, &a, &value, &err) < 0) {
		assert(err.code != ERR_NONE && err.text[0]);
		return 0;
	}
	json_write(value, &out);
	if (json_parse((struct slice){ out.buf, out.len }, &b, &again, &err) < 0)
		abort();
	return 0;
}
