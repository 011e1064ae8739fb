#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define VALUE_MAX ((size_t)4096) /* bytes of one value or message that are kept */

static struct {
	pthread_mutex_t lock;
	int fd;
	bool json;
	enum log_level min;
} sink = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO, .min = LOG_INFO };

static const char *const level_names[] = {
	[LOG_DEBUG] = "debug",
	[LOG_INFO] = "info",
	[LOG_WARN] = "warn",
	[LOG_ERROR] = "error",
};

void log_init(int fd, bool json, enum log_level min)
{
	pthread_mutex_lock(&sink.lock);
	sink.fd = fd;
	sink.json = json;
	sink.min = min;
	pthread_mutex_unlock(&sink.lock);
}

int log_level_parse(const char *s, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
		if (str_eq(s, level_names[i])) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -1;
}

static struct slice shorten(const char *s)
{
	size_t len = strnlen(s, VALUE_MAX + 1);

	if (len <= VALUE_MAX)
		return (struct slice){ s, len };
	len = VALUE_MAX;
	while (len && ((unsigned char)s[len] & 0xc0) == 0x80)
		len--;
	return (struct slice){ s, len };
}

static void add_plain(struct strbuf *sb, const char *s, bool quote_if_needed)
{
	struct slice text = shorten(s);
	bool quote = quote_if_needed && (!text.len || strpbrk(s, " \"'=\\\t\n"));

	if (quote)
		strbuf_addc(sb, '"');
	for (size_t i = 0, start = 0; i <= text.len; i++) {
		if (i < text.len && !(quote && (text.ptr[i] == '"' || text.ptr[i] == '\\')))
			continue;
		strbuf_add_escaped(sb, text.ptr + start, i - start);
		if (i < text.len) {
			strbuf_addc(sb, '\\');
			strbuf_addc(sb, text.ptr[i]);
		}
		start = i + 1;
	}
	if (s[text.len])
		strbuf_adds(sb, "…");
	if (quote)
		strbuf_addc(sb, '"');
}

static void add_json(struct strbuf *sb, const char *s)
{
	struct slice text = shorten(s);

	strbuf_addc(sb, '"');
	for (size_t i = 0; i < text.len;) {
		uint32_t cp = 0;
		size_t n = utf8_next(text.ptr + i, text.len - i, &cp);

		if (n == 0) {
			strbuf_adds(sb, "\\ufffd");
		} else if (cp == '"' || cp == '\\') {
			strbuf_addc(sb, '\\');
			strbuf_addc(sb, (char)cp);
		} else if (cp == '\n') {
			strbuf_adds(sb, "\\n");
		} else if (codepoint_is_control(cp)) {
			strbuf_addf(sb, "\\u%04x", cp);
		} else {
			strbuf_add(sb, text.ptr + i, n);
		}
		i += n ? n : 1;
	}
	if (s[text.len])
		strbuf_adds(sb, "…");
	strbuf_addc(sb, '"');
}

static void add_pair(struct strbuf *sb, bool json, const char *key, const char *value)
{
	if (!value)
		return;
	if (json) {
		strbuf_addc(sb, ',');
		add_json(sb, key);
		strbuf_addc(sb, ':');
		add_json(sb, value);
	} else {
		strbuf_addf(sb, " %s=", key);
		add_plain(sb, value, true);
	}
}

static void add_head(struct strbuf *sb, bool json, enum log_level level, const char *message)
{
	char at[32];

	time_format(clock_now(&clock_system), at);
	if (json) {
		strbuf_addf(sb, "{\"at\":\"%s\",\"level\":\"%s\",\"message\":", at,
			    level_names[level]);
		add_json(sb, message);
	} else {
		strbuf_addf(sb, "%s %s ", at, level_names[level]);
		add_plain(sb, message, false);
	}
}

/* A log that cannot be written must not stop the program: what does not go out is lost. */
static void write_line(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		p += n;
		len -= (size_t)n;
	}
}

static void log_pairs(enum log_level level, const struct err *err, const char *message,
		      va_list ap)
{
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;
	int saved_errno = errno;
	const char *key;

	pthread_mutex_lock(&sink.lock);
	if (level >= sink.min) {
		add_head(&sb, sink.json, level, message);
		while ((key = va_arg(ap, const char *)))
			add_pair(&sb, sink.json, key, va_arg(ap, const char *));
		if (err) {
			add_pair(&sb, sink.json, "code", err_code_name(err->code));
			add_pair(&sb, sink.json, "field", err->field[0] ? err->field : NULL);
			add_pair(&sb, sink.json, "error", err->text);
		}
		strbuf_adds(&sb, sink.json ? "}\n" : "\n");
		write_line(sink.fd, sb.buf, sb.len);
	}
	pthread_mutex_unlock(&sink.lock);
	errno = saved_errno;
}

void log_line(enum log_level level, const char *message, ...)
{
	va_list ap;

	va_start(ap, message);
	log_pairs(level, NULL, message, ap);
	va_end(ap);
}

void log_err(enum log_level level, const struct err *err, const char *message, ...)
{
	va_list ap;

	va_start(ap, message);
	log_pairs(level, err, message, ap);
	va_end(ap);
}
