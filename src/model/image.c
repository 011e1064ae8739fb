/* Image references, after the grammar of github.com/distribution/reference:
 *
 *   reference := [domain '/'] path [':' tag] ['@' digest]
 *   domain    := host [':' port]; host: a domain name, an IPv4 or a bracketed IPv6 address
 *   path      := component ['/' component]*; of a-z, 0-9 and separators '.', '_', '__', '-'…
 *   tag       := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
 *   digest    := algorithm ':' hex of at least 32 characters
 *
 * The first component is a domain only if it could not be a path: it has a '.', a ':' or a
 * capital, or is "localhost".
 */
#include "internal.h"

#define TAG_MAX_BYTES  128
#define DIGEST_HEX_MIN 32

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool port_valid(struct slice s)
{
	if (s.len == 0 || s.len > 5)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_digit(s.ptr[i]))
			return false;
	return true;
}

static bool host_label_valid(struct slice s)
{
	if (s.len == 0 || s.ptr[0] == '-' || s.ptr[s.len - 1] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_lower(s.ptr[i]) && !is_upper(s.ptr[i]) && !is_digit(s.ptr[i]) &&
		    s.ptr[i] != '-')
			return false;
	return true;
}

static bool host_valid(struct slice host)
{
	struct slice label;

	if (host.len == 0 || host.ptr[host.len - 1] == '.')
		return false;
	while (slice_split(&host, '.', &label))
		if (!host_label_valid(label))
			return false;
	return true;
}

static bool ipv6_valid(struct slice s)
{
	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_hex(s.ptr[i]) && s.ptr[i] != ':')
			return false;
	return true;
}

static bool domain_valid(struct slice domain)
{
	const char *end = domain.ptr + domain.len;
	const char *colon;

	if (domain.len > 0 && domain.ptr[0] == '[') {
		const char *close = memchr(domain.ptr, ']', domain.len);

		if (!close || !ipv6_valid((struct slice){ domain.ptr + 1,
							  (size_t)(close - domain.ptr) - 1 }))
			return false;
		if (close + 1 == end)
			return true;
		return close[1] == ':' &&
		       port_valid((struct slice){ close + 2, (size_t)(end - close) - 2 });
	}
	colon = memchr(domain.ptr, ':', domain.len);
	if (!colon)
		return host_valid(domain);
	return host_valid((struct slice){ domain.ptr, (size_t)(colon - domain.ptr) }) &&
	       port_valid((struct slice){ colon + 1, (size_t)(end - colon) - 1 });
}

static bool domain_is(struct slice first)
{
	if (slice_is(first, "localhost"))
		return true;
	for (size_t i = 0; i < first.len; i++)
		if (first.ptr[i] == '.' || first.ptr[i] == ':' || first.ptr[i] == '[' ||
		    is_upper(first.ptr[i]))
			return true;
	return false;
}

/* [a-z0-9]+ ( ( '.' | '_' | '__' | '-'+ ) [a-z0-9]+ )* */
static bool component_valid(struct slice s)
{
	size_t i = 0;

	for (;;) {
		size_t start = i;

		while (i < s.len && (is_lower(s.ptr[i]) || is_digit(s.ptr[i])))
			i++;
		if (i == start)
			return false;
		if (i == s.len)
			return true;
		if (s.ptr[i] == '-') {
			while (i < s.len && s.ptr[i] == '-')
				i++;
		} else if (s.ptr[i] == '_') {
			i++;
			if (i < s.len && s.ptr[i] == '_')
				i++;
		} else if (s.ptr[i] == '.') {
			i++;
		} else {
			return false;
		}
	}
}

static bool path_valid(struct slice path)
{
	struct slice component;

	if (path.len == 0 || path.ptr[path.len - 1] == '/')
		return false;
	while (slice_split(&path, '/', &component))
		if (!component_valid(component))
			return false;
	return true;
}

static bool tag_valid(struct slice tag)
{
	if (tag.len == 0 || tag.len > TAG_MAX_BYTES)
		return false;
	for (size_t i = 0; i < tag.len; i++) {
		char c = tag.ptr[i];

		if (!is_lower(c) && !is_upper(c) && !is_digit(c) && c != '_' &&
		    !(i > 0 && (c == '.' || c == '-')))
			return false;
	}
	return true;
}

/* algorithm := [A-Za-z][A-Za-z0-9]* ( [-_+.] [A-Za-z][A-Za-z0-9]* )* */
static bool algorithm_valid(struct slice s)
{
	bool start = true;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (is_lower(c) || is_upper(c))
			start = false;
		else if (start || (!is_digit(c) && !strchr("-_+.", c)))
			return false;
		else if (!is_digit(c))
			start = true;
	}
	return !start;
}

static bool digest_valid(struct slice digest)
{
	struct slice algorithm;

	if (!slice_split(&digest, ':', &algorithm) || !algorithm_valid(algorithm))
		return false;
	if (slice_is(algorithm, "sha256") ? digest.len != 64 : digest.len < DIGEST_HEX_MIN)
		return false;
	for (size_t i = 0; i < digest.len; i++)
		if (!is_hex(digest.ptr[i]) || is_upper(digest.ptr[i]))
			return false;
	return true;
}

/* Takes what follows the last `sep` off the end of *s; false if there is no `sep`. */
static bool cut_after(struct slice *s, char sep, struct slice *ret)
{
	const char *at = memrchr(s->ptr, sep, s->len);

	if (!at)
		return false;
	*ret = (struct slice){ at + 1, (size_t)(s->ptr + s->len - at) - 1 };
	s->len = (size_t)(at - s->ptr);
	return true;
}

int image_parse(const char *image, struct image_ref *ret, struct err *err)
{
	struct image_ref ref = { 0 };
	struct slice rest = slice_of(image);
	struct slice last = rest;
	const char *slash;

	if (rest.len == 0)
		return err_set(err, ERR_INVALID,
			       "no image is named: write one like docker.io/library/debian:12");
	if (rest.len > IMAGE_MAX_BYTES)
		return err_set(err, ERR_INVALID,
			       "the image's name has %zu characters, at most %d are allowed",
			       rest.len, IMAGE_MAX_BYTES);
	if (cut_after(&rest, '@', &ref.digest) && !digest_valid(ref.digest))
		return err_set(
			err, ERR_INVALID,
			"'%.100s': after '@' comes a digest like sha256: and 64 characters of "
			"0-9 and a-f",
			image);
	/* A ':' before the last '/' belongs to the domain's port. */
	slash = rest.ptr ? memrchr(rest.ptr, '/', rest.len) : NULL;
	last = slash ? (struct slice){ slash, (size_t)(rest.ptr + rest.len - slash) } : rest;
	if (last.len && memchr(last.ptr, ':', last.len) && cut_after(&rest, ':', &ref.tag) &&
	    !tag_valid(ref.tag))
		return err_set(
			err, ERR_INVALID,
			"'%.100s': a tag has 1 to %d characters of A-Z a-z 0-9 _ . - and "
			"starts with none of the last two",
			image, TAG_MAX_BYTES);
	ref.path = rest;
	slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
	if (slash && domain_is((struct slice){ rest.ptr, (size_t)(slash - rest.ptr) })) {
		ref.domain = (struct slice){ rest.ptr, (size_t)(slash - rest.ptr) };
		ref.path = (struct slice){ slash + 1, rest.len - ref.domain.len - 1 };
		if (!domain_valid(ref.domain))
			return err_set(
				err, ERR_INVALID,
				"'%.100s': '%.*s' is not the name of a registry: write HOST or "
				"HOST:PORT",
				image, (int)ref.domain.len, ref.domain.ptr);
	}
	if (!path_valid(ref.path))
		return err_set(
			err, ERR_INVALID,
			"'%.100s' is not an image: write [REGISTRY/]NAME[:TAG][@DIGEST] with a "
			"name of a-z 0-9 . _ - /",
			image);
	*ret = ref;
	return 0;
}
