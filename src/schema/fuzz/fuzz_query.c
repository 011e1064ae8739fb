/* A query string as a type of all kinds; a list of objects cannot be there, so all of it can
 * be written again. */
#include "../test/kinds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = { 0 }, b = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct kinds value, again;
	struct err err = { 0 };

	arena_init(&a, 256 << 10);
	arena_init(&b, 0);
	strbuf_init(&out);
	if (schema_parse_query(&kinds_type, (struct slice){ (const char *)data, size }, &a,
			       &value, &err) < 0) {
		assert(err.code != ERR_NONE && err.text[0]);
		return 0;
	}
	assert(schema_check(&kinds_type, &value, &err) == 0);
	schema_write_query(&kinds_type, &value, &b, &out);
	if (schema_parse_query(&kinds_type, (struct slice){ out.buf, out.len }, &b, &again,
			       &err) < 0)
		abort();
	value.secret = again.secret = NULL; /* never written */
	value.limits = again.limits = NULL; /* left out where it is all defaults */
	assert(value_equal(&kinds_type, &value, &again));
	return 0;
}
