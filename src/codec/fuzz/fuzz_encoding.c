/* hex, base64url and percent escapes: one text for the same bytes, and back. */
#include "../codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = { 0 };
	uint8_t bytes[256];
	char *text, *back, hex[513];
	size_t len = MIN(size, sizeof(bytes)), parsed;

	arena_init(&a, 0);
	text = base64url_format(&a, data, len);
	if (base64url_parse(text, bytes, len, &parsed) < 0 || parsed != len ||
	    (len && memcmp(bytes, data, len) != 0))
		abort();
	hex_format(data, len, hex);
	if (hex_parse(hex, bytes, len) < 0 || (len && memcmp(bytes, data, len) != 0))
		abort();

	text = arena_strndup(&a, (const char *)data, size);
	if (base64url_parse(text, bytes, sizeof(bytes), &parsed) == 0)
		assert(strcmp(base64url_format(&a, bytes, parsed), text) == 0);
	if (hex_parse(text, bytes, 32) == 0)
		assert(strlen(text) == 64);
	if (url_unescape(&a, (struct slice){ (const char *)data, size }, &back) == 0) {
		assert(utf8_valid(back, strlen(back)));
		text = url_escape(&a, back);
		if (url_unescape(&a, slice_of(text), &text) < 0 || strcmp(text, back) != 0)
			abort();
	}
	return 0;
}
