#include "internal.h"

/* Texts quote what came from outside, and end up on terminals, in logs and in JSON: make them
 * harmless where they are made.  Also mends a character that the size limit cut in two. */
static void make_printable(char *s)
{
	size_t len = strlen(s);
	char *out = s;

	for (size_t i = 0; i < len;) {
		uint32_t cp;
		size_t n = utf8_next(s + i, len - i, &cp);

		if (n == 0 || codepoint_is_control(cp)) {
			*out++ = '?';
			i += n ? n : 1;
			continue;
		}
		memmove(out, s + i, n);
		out += n;
		i += n;
	}
	*out = '\0';
}

static void fill(struct err *err, enum err_code code, int sys, const char *field,
		 const char *fmt, va_list ap)
{
	struct err made = { .code = code, .sys = sys };

	/* Built aside: the arguments may point into *err. */
	if (field)
		snprintf(made.field, sizeof(made.field), "%s", field);
	vsnprintf(made.text, sizeof(made.text), fmt, ap);
	make_printable(made.field);
	make_printable(made.text);
	*err = made;
}

/* Adds what fits. */
static void append(char *text, size_t size, const char *more)
{
	size_t len = strlen(text), n = strnlen(more, size - len - 1);

	memcpy(text + len, more, n);
	text[len + n] = '\0';
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
	va_list ap;

	assert(code != ERR_NONE);
	if (!err)
		return -1;
	va_start(ap, fmt);
	fill(err, code, 0, NULL, fmt, ap);
	va_end(ap);
	return -1;
}

int err_set_field(struct err *err, const char *field, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	fill(err, ERR_INVALID, 0, field, fmt, ap);
	va_end(ap);
	return -1;
}

int err_sys(struct err *err, int sys, const char *fmt, ...)
{
	char reason[96];
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	fill(err, ERR_IO, sys, NULL, fmt, ap);
	va_end(ap);
	append(err->text, sizeof(err->text), ": ");
	append(err->text, sizeof(err->text), strerror_r(sys, reason, sizeof(reason)));
	make_printable(err->text);
	return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	char text[sizeof(err->text)];
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	append(text, sizeof(text), ": ");
	append(text, sizeof(text), err->text);
	make_printable(text);
	memcpy(err->text, text, sizeof(text));
	return -1;
}

void err_prefix_field(struct err *err, const char *prefix)
{
	char field[sizeof(err->field)] = "";

	if (!err || str_empty(prefix))
		return;
	append(field, sizeof(field), prefix);
	if (err->field[0] != '\0' && err->field[0] != '[')
		append(field, sizeof(field), ".");
	append(field, sizeof(field), err->field);
	make_printable(field);
	memcpy(err->field, field, sizeof(field));
}

void err_clear(struct err *err)
{
	if (err)
		*err = (struct err){ 0 };
}

const char *err_code_name(enum err_code code)
{
	switch (code) {
	case ERR_NONE: return "none";
	case ERR_INVALID: return "invalid";
	case ERR_UNAUTHENTICATED: return "unauthenticated";
	case ERR_FUNDS: return "funds";
	case ERR_FORBIDDEN: return "forbidden";
	case ERR_NOT_FOUND: return "not_found";
	case ERR_CONFLICT: return "conflict";
	case ERR_GONE: return "gone";
	case ERR_TOO_LARGE: return "too_large";
	case ERR_RATE: return "rate";
	case ERR_UNSUPPORTED: return "unsupported";
	case ERR_RETRY: return "retry";
	case ERR_UNAVAILABLE: return "unavailable";
	case ERR_TIMEOUT: return "timeout";
	case ERR_IO: return "io";
	case ERR_INTERNAL: return "internal";
	}
	assert(!"unknown err_code");
	return "internal";
}
