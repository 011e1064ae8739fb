#include "internal.h"

static bool number_parse(const char **s, int64_t *ret)
{
	int64_t n = 0;
	const char *p = *s;

	for (; *p >= '0' && *p <= '9'; p++)
		if (!mul_checked(n, 10, &n) || !add_checked(n, *p - '0', &n))
			return false;
	if (p == *s)
		return false;
	*s = p;
	*ret = n;
	return true;
}

enum range_kind range_parse(const char *value, int64_t size, int64_t *ret_at, int64_t *ret_len)
{
	int64_t first = -1, last = -1;
	const char *p = value;

	if (strncasecmp(p, "bytes=", 6) != 0)
		return RANGE_ALL;
	p += 6;
	if (*p != '-' && !number_parse(&p, &first))
		return RANGE_ALL;
	if (*p++ != '-')
		return RANGE_ALL;
	if (*p && !number_parse(&p, &last))
		return RANGE_ALL;
	if (*p || (first < 0 && last < 0) || (first >= 0 && last >= 0 && last < first))
		return RANGE_ALL;
	if (first < 0) { /* the last `last` bytes */
		if (!last || !size)
			return RANGE_BAD;
		first = last < size ? size - last : 0;
		last = size - 1;
	}
	if (first >= size)
		return RANGE_BAD;
	if (last < 0 || last >= size)
		last = size - 1;
	*ret_at = first;
	*ret_len = last - first + 1;
	return RANGE_PART;
}
