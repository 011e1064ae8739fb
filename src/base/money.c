#include "internal.h"

#define UUSD_PER_USD INT64_C(1000000)

bool add_checked(int64_t a, int64_t b, int64_t *ret)
{
	int64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret = sum;
	return true;
}

bool sub_checked(int64_t a, int64_t b, int64_t *ret)
{
	int64_t difference;

	if (__builtin_sub_overflow(a, b, &difference))
		return false;
	*ret = difference;
	return true;
}

bool mul_checked(int64_t a, int64_t b, int64_t *ret)
{
	int64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*ret = product;
	return true;
}

bool muldiv_floor(int64_t a, int64_t b, int64_t c, int64_t *ret)
{
	unsigned __int128 quotient;

	assert(a >= 0 && b >= 0 && c > 0);
	quotient = (unsigned __int128)a * (unsigned __int128)b / (unsigned __int128)c;
	if (quotient > INT64_MAX)
		return false;
	*ret = (int64_t)quotient;
	return true;
}

int money_parse(const char *s, int64_t *ret_uusd, struct err *err)
{
	const char *p = s;
	bool negative = *p == '-';
	int64_t whole, nano, uusd;

	if (negative)
		p++;
	if (!decimal_scan(&p, &whole, &nano) || *p)
		return err_set(err, ERR_INVALID,
			       "'%.40s' is not an amount: write dollars, such as 0.25 or 12",
			       s);
	if (nano % 1000)
		return err_set(err, ERR_INVALID,
			       "'%.40s' is finer than a millionth of a dollar: give at most "
			       "six decimals",
			       s);
	if (!mul_checked(whole, UUSD_PER_USD, &uusd) || !add_checked(uusd, nano / 1000, &uusd))
		return err_set(err, ERR_INVALID,
			       "'%.40s' is too much: at most 9223372036854 dollars", s);
	*ret_uusd = negative ? -uusd : uusd;
	return 0;
}

void money_format(int64_t uusd, char buf[static 32])
{
	uint64_t abs = uusd < 0 ? -(uint64_t)uusd : (uint64_t)uusd;
	int len = snprintf(buf, 32, "%s%" PRIu64 ".%06" PRIu64, uusd < 0 ? "-" : "",
			   abs / (uint64_t)UUSD_PER_USD, abs % (uint64_t)UUSD_PER_USD);

	for (int kept = 6; kept > 2 && buf[len - 1] == '0'; kept--)
		buf[--len] = '\0';
}
