/* Every parser of short texts, on one input; what one of them accepts must survive being
 * written and read again. */
#include "../base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_size(const char *s)
{
	struct err err;
	char buf[24];
	int64_t n;

	if (size_parse(s, &n, &err) == 0) {
		assert(n >= 0);
		size_format(n, buf);
	}
}

static void check_duration(const char *s)
{
	int64_t n, again;
	struct err err;
	char buf[32];

	if (duration_parse(s, &n, &err) < 0)
		return;
	duration_format(n, buf);
	if (duration_parse(buf, &again, &err) < 0 || again != n)
		abort();
}

static void check_money(const char *s)
{
	int64_t n, again;
	struct err err;
	char buf[32];

	if (money_parse(s, &n, &err) < 0)
		return;
	money_format(n, buf);
	if (money_parse(buf, &again, &err) < 0 || again != n)
		abort();
}

static void check_time(const char *s)
{
	int64_t n, again;
	struct err err;
	char buf[32];

	if (time_parse(s, &n, &err) < 0)
		return;
	time_format(n, buf);
	/* An offset can lead out of the years that can be written. */
	if (time_parse(buf, &again, &err) < 0 || (again != n && buf[0] != '9' && buf[0] != '0'))
		abort();
}

static void check_rest(const char *s, size_t len)
{
	struct strbuf sb;
	struct err err;
	int64_t n;

	if (int_parse(s, -1000, 1000, &n, &err) == 0)
		assert(n >= -1000 && n <= 1000);
	if (ppm_parse(s, &n, &err) == 0)
		assert(n >= 0);
	if (id_valid(s, NULL))
		assert(id_prefix_valid(s, NULL) && id_time_ms(s) >= 0);
	err_set_field(&err, s, "%s", s);
	assert(utf8_valid(err.text, strlen(err.text)) &&
	       utf8_valid(err.field, strlen(err.field)));
	strbuf_init(&sb);
	strbuf_add_escaped(&sb, s, len);
	assert(utf8_valid(sb.buf, sb.len) && !strchr(sb.buf, '\n') && !strchr(sb.buf, '\x1b'));
	strbuf_release(&sb);
	str_distance(s, "duration");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = xmalloc(size + 1);

	if (size)
		memcpy(s, data, size);
	s[size] = '\0';
	check_size(s);
	check_duration(s);
	check_money(s);
	check_time(s);
	check_rest(s, size);
	free(s);
	return 0;
}
