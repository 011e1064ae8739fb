#include "internal.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes one segment into `out`, which has room for in.len + 1 bytes. */
static int segment_decode(struct slice in, char *out, struct err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.ptr[i];

		if (c == '%') {
			bool fits = i + 2 < in.len;
			int hi = fits ? hex_digit(in.ptr[i + 1]) : -1;
			int lo = fits ? hex_digit(in.ptr[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return err_set(err, ERR_INVALID,
					       "path: '%%' needs two hexadecimal digits");
			c = (unsigned char)(hi << 4 | lo);
			i += 2;
			if (c == '/' || c == '\\')
				return err_set(err, ERR_INVALID,
					       "path: an encoded '/' or '\\' is refused");
		}
		if (c < 0x20 || c == 0x7f || c == '\\')
			return err_set(err, ERR_INVALID, "path: byte 0x%02x is refused", c);
		out[n++] = (char)c;
	}
	out[n] = '\0';
	if (!utf8_valid(out, n))
		return err_set(err, ERR_INVALID, "path: not valid UTF-8");
	if (str_eq(out, ".") || str_eq(out, ".."))
		return err_set(err, ERR_INVALID,
			       "path: '.' and '..' are refused; send the plain path");
	return 0;
}

int path_parse(struct arena *a, const char *target, struct path *ret, struct err *err)
{
	struct path path = { 0 };
	struct slice rest, part;
	const char *question = strchr(target, '?');
	size_t len = question ? (size_t)(question - target) : strlen(target);
	char *decoded, *out;
	bool more = true;

	if (target[0] != '/')
		return err_set(err, ERR_INVALID,
			       "request target: must be a path that begins with '/'");
	for (const char *p = target; *p; p++)
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f || *p == '#')
			return err_set(err, ERR_INVALID,
				       "request target: byte 0x%02x must be sent as %%%02X",
				       (unsigned char)*p, (unsigned char)*p);
	if (question)
		path.query = slice_of(question + 1);
	out = decoded = arena_alloc(a, len + 2);
	rest = (struct slice){ target + 1, len - 1 };
	while (more) {
		const char *slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
		char *segment;

		more = slash;
		part = (struct slice){ rest.ptr,
				       slash ? (size_t)(slash - rest.ptr) : rest.len };
		if (more) {
			if (!part.len)
				return err_set(err, ERR_INVALID,
					       "path: '//' is refused; send the plain path");
			rest = (struct slice){ slash + 1, rest.len - part.len - 1 };
		}
		if (path.count == PATH_SEGMENTS_MAX)
			return err_set(err, ERR_INVALID, "path: more than %d segments",
				       PATH_SEGMENTS_MAX);
		segment = arena_alloc(a, part.len + 1);
		if (segment_decode(part, segment, err))
			return -1;
		*out++ = '/';
		path.rest[path.count] = (size_t)(out - decoded);
		path.segments[path.count++] = segment;
		out = stpcpy(out, segment);
	}
	path.decoded = decoded;
	*ret = path;
	return 0;
}
