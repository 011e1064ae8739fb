/* Image references: the parts of what is taken, put together again, are what came in. */
#include "../model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_part(struct strbuf *sb, const char *before, struct slice part,
		     const char *behind)
{
	if (part.len == 0)
		return;
	strbuf_adds(sb, before);
	strbuf_add(sb, part.ptr, part.len);
	strbuf_adds(sb, behind);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_strbuf struct strbuf in = STRBUF_INIT, out = STRBUF_INIT;
	struct image_ref ref;
	struct err err;

	strbuf_init(&in);
	strbuf_init(&out);
	strbuf_add(&in, data, size);
	if (image_parse(in.buf, &ref, &err) < 0)
		return 0;
	add_part(&out, "", ref.domain, "/");
	add_part(&out, "", ref.path, "");
	add_part(&out, ":", ref.tag, "");
	add_part(&out, "@", ref.digest, "");
	if (!str_eq(out.buf, in.buf))
		abort();
	return 0;
}
