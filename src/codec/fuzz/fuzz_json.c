/* What json_parse accepts must be written and read back the same. */
#include "../codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = { 0 }, b = { 0 };
	cleanup_strbuf struct strbuf once = STRBUF_INIT, twice = STRBUF_INIT, text = STRBUF_INIT;
	struct json *value, *again;
	struct err err = { 0 };

	arena_init(&a, 256 << 10); /* small, to reach what happens at its end */
	arena_init(&b, 0);
	strbuf_init(&once);
	strbuf_init(&twice);
	strbuf_init(&text);
	json_write_text(
		arena_strndup(&b, (const char *)data, strnlen((const char *)data, size)),
		&text);
	if (json_parse((struct slice){ text.buf, text.len }, &b, &again, &err) < 0)
		abort();
	if (json_parse((struct slice){ (const char *)data, size }, &a, &value, &err) < 0) {
		assert(err.code != ERR_NONE && err.text[0]);
		return 0;
	}
	json_write(value, &once);
	if (json_parse((struct slice){ once.buf, once.len }, &b, &again, &err) < 0)
		abort();
	json_write(again, &twice);
	assert(strcmp(once.buf, twice.buf) == 0);
	return 0;
}
