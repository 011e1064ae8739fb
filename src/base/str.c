#include "internal.h"

bool slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool slice_is(struct slice a, const char *s)
{
	return slice_eq(a, slice_of(s));
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice s)
{
	while (s.len && is_space(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len && is_space(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

bool slice_split(struct slice *s, char sep, struct slice *ret)
{
	const char *at;

	if (!s->ptr)
		return false;
	at = s->len ? memchr(s->ptr, sep, s->len) : NULL;
	if (at) {
		*ret = (struct slice){ s->ptr, (size_t)(at - s->ptr) };
		*s = (struct slice){ at + 1, s->len - ret->len - 1 };
	} else {
		*ret = *s;
		*s = (struct slice){ NULL, 0 };
	}
	return true;
}

char strbuf_nothing[1];

void strbuf_init(struct strbuf *sb)
{
	*sb = (struct strbuf){ .buf = strbuf_nothing };
}

void strbuf_release(struct strbuf *sb)
{
	if (sb->cap)
		free(sb->buf);
	strbuf_init(sb);
}

void strbuf_reset(struct strbuf *sb)
{
	sb->len = 0;
	if (sb->cap)
		sb->buf[0] = '\0';
}

static void strbuf_grow(struct strbuf *sb, size_t extra)
{
	size_t need, cap;

	assert(extra < SIZE_MAX / 4 - sb->len);
	need = sb->len + extra + 1;
	if (need <= sb->cap)
		return;
	cap = MAX(MAX((size_t)64, need), sb->cap + sb->cap / 2);
	if (!sb->cap)
		sb->buf = NULL;
	sb->buf = xrealloc(sb->buf, cap);
	sb->cap = cap;
	sb->buf[sb->len] = '\0';
}

void strbuf_add(struct strbuf *sb, const void *p, size_t len)
{
	if (!len)
		return;
	strbuf_grow(sb, len);
	memcpy(sb->buf + sb->len, p, len);
	sb->len += len;
	sb->buf[sb->len] = '\0';
}

void strbuf_adds(struct strbuf *sb, const char *s)
{
	strbuf_add(sb, s, strlen(s));
}

void strbuf_addc(struct strbuf *sb, char c)
{
	strbuf_add(sb, &c, 1);
}

void strbuf_addf(struct strbuf *sb, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strbuf_vaddf(sb, fmt, ap);
	va_end(ap);
}

void strbuf_vaddf(struct strbuf *sb, const char *fmt, va_list ap)
{
	va_list again;
	size_t room;
	int len;

	strbuf_grow(sb, 64);
	room = sb->cap - sb->len;
	va_copy(again, ap);
	len = vsnprintf(sb->buf + sb->len, room, fmt, ap);
	assert(len >= 0);
	if ((size_t)len >= room) {
		strbuf_grow(sb, (size_t)len);
		vsnprintf(sb->buf + sb->len, (size_t)len + 1, fmt, again);
	}
	va_end(again);
	sb->len += (size_t)len;
}

char *strbuf_take(struct strbuf *sb)
{
	char *s = sb->cap ? sb->buf : xcalloc(1, 1);

	strbuf_init(sb);
	return s;
}

void strbuf_add_escaped(struct strbuf *sb, const char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		uint32_t cp = 0;
		size_t n = utf8_next(s + i, len - i, &cp);

		if (n == 0)
			strbuf_addf(sb, "\\x%02x", (unsigned char)s[i]);
		else if (cp == '\n')
			strbuf_adds(sb, "\\n");
		else if (cp == '\t')
			strbuf_adds(sb, "\\t");
		else if (cp < 0x80 && codepoint_is_control(cp))
			strbuf_addf(sb, "\\x%02x", cp);
		else if (codepoint_is_control(cp))
			strbuf_addf(sb, "\\u%04x", cp);
		else
			strbuf_add(sb, s + i, n);
		i += n ? n : 1;
	}
}

bool str_eq(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

int text_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool str_empty(const char *s)
{
	return !s || !*s;
}

int str_copy(char *dst, size_t size, const char *src)
{
	size_t len = strlen(src);

	assert(size > 0);
	if (len >= size) {
		dst[0] = '\0';
		return -1;
	}
	memcpy(dst, src, len + 1);
	return 0;
}

size_t str_distance(const char *a, const char *b)
{
	enum { LEN_MAX = 64 };
	size_t alen = strlen(a), blen = strlen(b);
	size_t rows[3][LEN_MAX + 1], *before = rows[0], *last = rows[1], *row = rows[2];

	if (alen > LEN_MAX || blen > LEN_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= blen; j++)
		last[j] = j;
	for (size_t i = 1; i <= alen; i++) {
		size_t *oldest = before;

		row[0] = i;
		for (size_t j = 1; j <= blen; j++) {
			size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);

			row[j] = MIN(change, MIN(last[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = MIN(row[j], before[j - 2] + 1);
		}
		before = last;
		last = row;
		row = oldest;
	}
	return last[blen];
}
