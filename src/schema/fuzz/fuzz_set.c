/* Lines "path=text", set one after the other as on a command line. */
#include "../test/kinds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = { (const char *)data, size }, line, path;
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct kinds value, before;
	struct err err = { 0 };

	arena_init(&a, 0);
	strbuf_init(&out);
	schema_defaults(&kinds_type, &value);
	value.name = "ok";
	while (size < 16 << 10 && slice_split(&rest, '\n', &line)) {
		const char *name, *text;

		if (!slice_split(&line, '=', &path))
			continue;
		name = arena_strndup(&a, path.ptr, path.len);
		text = arena_strndup(&a, line.ptr, line.ptr ? line.len : 0);
		before = value;
		if (schema_set(&kinds_type, name, text, &a, &value, &err) < 0)
			assert(memcmp(&before, &value, sizeof(value)) == 0 && err.text[0]);
		(void)schema_field(&kinds_type, name, &value, NULL);
	}
	schema_write_secret(&kinds_type, &value, &out);
	for (size_t i = 0; i < kinds_type.count; i++)
		field_format(&kinds_type.fields[i],
			     (char *)&value + kinds_type.fields[i].offset, &out);
	return 0;
}
