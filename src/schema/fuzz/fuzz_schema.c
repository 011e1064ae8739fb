/* A JSON document (from the server if it begins with '!') as a type of all kinds: what is
 * accepted must keep the limits of its description, and be written and read back the same. */
#include "../test/kinds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool server = size > 0 && data[0] == '!';
	enum schema_from from = server ? FROM_SERVER : FROM_CLIENT;
	struct slice in = { (const char *)data + server, size - server };
	cleanup_arena struct arena a = { 0 }, b = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct kinds value, again;
	struct err err = { 0 };

	arena_init(&a, 256 << 10); /* small, to reach what happens at its end */
	arena_init(&b, 0);
	strbuf_init(&out);
	if (schema_parse(&kinds_type, in, from, &a, &value, &err) < 0) {
		assert(err.code != ERR_NONE && err.text[0]);
		return 0;
	}
	assert(server || schema_check(&kinds_type, &value, &err) == 0);
	schema_write_secret(&kinds_type, &value, &out);
	if (!server && schema_parse(&kinds_type, (struct slice){ out.buf, out.len }, from, &b,
				    &again, &err) < 0)
		abort();
	assert(server || value_equal(&kinds_type, &value, &again));
	return 0;
}
