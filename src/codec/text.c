/* hex, base64url and percent escapes. */
#include "codec.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

void hex_format(const void *p, size_t len, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = p;

	for (size_t i = 0; i < len; i++) {
		ret[2 * i] = digits[bytes[i] >> 4];
		ret[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret[2 * len] = 0;
}

int hex_parse(const char *s, void *ret, size_t len)
{
	uint8_t *bytes = ret;

	if (strlen(s) != 2 * len || strspn(s, "0123456789abcdefABCDEF") != 2 * len)
		return -1;
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(hex_digit(s[2 * i]) << 4 | hex_digit(s[2 * i + 1]));
	return 0;
}

/* ---- base64url --------------------------------------------------------------------------- */

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *base64url_format(struct arena *a, const void *p, size_t len)
{
	char *ret = arena_alloc(a, (len + 2) / 3 * 4 + 1), *out = ret;
	const uint8_t *bytes = p;
	uint32_t bits = 0;
	int held = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | bytes[i];
		for (held += 8; held >= 6; held -= 6)
			*out++ = base64_digits[bits >> (held - 6) & 63];
	}
	if (held > 0)
		*out++ = base64_digits[bits << (6 - held) & 63];
	return ret;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int base64url_parse(const char *s, void *ret, size_t max, size_t *ret_len)
{
	size_t digits = strlen(s), len = digits / 4 * 3 + digits % 4 * 3 / 4, n = 0;
	uint8_t *bytes = ret;
	uint32_t bits = 0;
	int held = 0;

	if (digits % 4 == 1 || len > max)
		return -1;
	for (size_t i = 0; i < digits; i++)
		if (base64_digit(s[i]) < 0)
			return -1;
	/* The last digit's spare bits must be 0, or two texts would mean the same bytes. */
	held = (int)(digits * 6 % 8);
	if (held > 0 && base64_digit(s[digits - 1]) & ((1 << held) - 1))
		return -1;
	held = 0;
	for (size_t i = 0; i < digits; i++) {
		bits = bits << 6 | (uint32_t)base64_digit(s[i]);
		held += 6;
		if (held >= 8) {
			held -= 8;
			bytes[n++] = (uint8_t)(bits >> held);
		}
	}
	*ret_len = n;
	return 0;
}

/* ---- percent escapes (RFC 3986) ---------------------------------------------------------- */

static bool is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

char *url_escape(struct arena *a, const char *s)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t escaped = 0;
	char *ret, *out;

	for (const char *p = s; *p; p++)
		escaped += !is_unreserved(*p);
	ret = out = arena_alloc(a, strlen(s) + 2 * escaped + 1);
	for (; *s; s++) {
		if (is_unreserved(*s)) {
			*out++ = *s;
			continue;
		}
		*out++ = '%';
		*out++ = digits[(uint8_t)*s >> 4];
		*out++ = digits[(uint8_t)*s & 15];
	}
	return ret;
}

int url_unescape(struct arena *a, struct slice s, char **ret)
{
	char *text = arena_alloc(a, s.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (c == '%') {
			int high = s.len - i > 2 ? hex_digit(s.ptr[i + 1]) : -1;
			int low = s.len - i > 2 ? hex_digit(s.ptr[i + 2]) : -1;

			if (high < 0 || low < 0)
				return -1;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (c == 0)
			return -1;
		text[n++] = c;
	}
	if (!utf8_valid(text, n))
		return -1;
	*ret = text;
	return 0;
}
