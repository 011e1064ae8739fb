#include "internal.h"

#include <ctype.h>

const char *json_text(const struct json *object, const char *name)
{
	const struct json *v = json_find(object, name);

	return v && v->kind == JSON_TEXT ? v->text : "";
}

int64_t json_int(const struct json *object, const char *name)
{
	const struct json *v = json_find(object, name);

	return v && v->kind == JSON_INT ? v->integer : 0;
}

bool json_bool(const struct json *object, const char *name)
{
	const struct json *v = json_find(object, name);

	return v && v->kind == JSON_BOOL && v->boolean;
}

const struct json *json_path(const struct json *object, const char *a, const char *b)
{
	const struct json *v = json_find(object, a);

	return v ? json_find(v, b) : NULL;
}

int64_t go_time_ns(const char *s)
{
	const char *dot = strchr(s, '.');
	int64_t ms, ns, fraction = 0, unit = 100000000;

	if (time_parse(s, &ms, NULL) < 0 || ms <= 0)
		return 0;
	for (const char *p = dot ? dot + 1 : ""; isdigit((unsigned char)*p) && unit > 0;
	     p++, unit /= 10)
		fraction += (*p - '0') * unit;
	return mul_checked(ms, 1000000, &ns) ? ns + fraction % 1000000 : 0;
}

int line_split(struct line_splitter *ls, const char *p, size_t len, line_fn *fn, void *arg)
{
	const char *end = p + len;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);

		if (ls->line.len + n > ls->max)
			ls->dropping = true;
		if (!ls->dropping)
			strbuf_add(&ls->line, p, n);
		p += n;
		if (!nl)
			break;
		p++;
		if (!ls->dropping) {
			int rc = fn(arg, (struct slice){ ls->line.buf, ls->line.len });

			if (rc != 0)
				return rc;
		}
		ls->dropping = false;
		strbuf_reset(&ls->line);
	}
	return 0;
}
