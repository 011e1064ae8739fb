#include "internal.h"

bool decimal_scan(const char **s, int64_t *ret_whole, int64_t *ret_nano)
{
	int64_t whole = 0, nano = 0, unit = 100000000;
	const char *p = *s;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, *p - '0', &whole))
			return false;
	}
	if (*p == '.') {
		if (p[1] < '0' || p[1] > '9')
			return false;
		for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10) {
			if (unit == 0 && *p != '0')
				return false;
			nano += (*p - '0') * unit;
		}
	}
	*s = p;
	*ret_whole = whole;
	*ret_nano = nano;
	return true;
}

int int_parse(const char *s, int64_t min, int64_t max, int64_t *ret, struct err *err)
{
	const char *p = s;
	bool negative = *p == '-', fits = true;
	int64_t value = 0;

	if (negative)
		p++;
	if (!*p)
		goto bad;
	for (; *p; p++) {
		if (*p < '0' || *p > '9')
			goto bad;
		/* Negative all along: INT64_MIN has no positive counterpart. */
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_sub_overflow(value, *p - '0', &value))
			fits = false;
	}
	if (!negative && fits)
		fits = !__builtin_sub_overflow(INT64_C(0), value, &value);
	if (!fits || value < min || value > max)
		return err_set(err, ERR_INVALID,
			       "%.40s is out of range: give a whole number from %" PRId64
			       " to %" PRId64,
			       s, min, max);
	*ret = value;
	return 0;
bad:
	return err_set(err, ERR_INVALID,
		       "'%.40s' is not a whole number: give one from %" PRId64 " to %" PRId64,
		       s, min, max);
}

/* whole.nano * unit, the rest dropped. */
static bool scale(int64_t whole, int64_t nano, int64_t unit, int64_t *ret)
{
	int64_t a, b;

	return mul_checked(whole, unit, &a) && muldiv_floor(nano, unit, 1000000000, &b) &&
	       add_checked(a, b, ret);
}

/* 1 for no unit; 0 if it is not one. */
static int64_t size_unit(const char *unit)
{
	static const char letters[] = "KMGT";
	int64_t value = 1, base = 1024;
	const char *at;
	int power;

	if (!*unit || ((*unit == 'B' || *unit == 'b') && !unit[1]))
		return 1;
	at = strchr(letters, *unit >= 'a' ? *unit - 'a' + 'A' : *unit);
	if (!at)
		return 0;
	if ((unit[1] == 'B' || unit[1] == 'b') && !unit[2])
		base = 1000;
	else if (unit[1] && !(unit[1] == 'i' &&
			      (!unit[2] || ((unit[2] == 'B' || unit[2] == 'b') && !unit[3]))))
		return 0;
	for (power = (int)(at - letters); power >= 0; power--)
		value *= base;
	return value;
}

int size_parse(const char *s, int64_t *ret_bytes, struct err *err)
{
	int64_t whole, nano, unit, bytes;
	const char *p = s;

	if (!decimal_scan(&p, &whole, &nano))
		goto bad;
	while (*p == ' ' && p[1])
		p++;
	unit = size_unit(p);
	if (!unit || (unit == 1 && nano))
		goto bad;
	if (!scale(whole, nano, unit, &bytes))
		return err_set(err, ERR_INVALID,
			       "'%.40s' is too large: at most %" PRId64 " bytes (8388607 TiB)",
			       s, INT64_MAX);
	*ret_bytes = bytes;
	return 0;
bad:
	return err_set(err, ERR_INVALID,
		       "'%.40s' is not a size: write it like 512MiB, 1.5GiB, 20GB or 4096", s);
}

void size_format(int64_t bytes, char buf[static 24])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	uint64_t abs = bytes < 0 ? -(uint64_t)bytes : (uint64_t)bytes;
	const char *sign = bytes < 0 ? "-" : "";
	unsigned shift = 0, whole, tenths;

	while (abs >> shift >= 1024)
		shift += 10;
	whole = (unsigned)(abs >> shift);
	tenths = (unsigned)((unsigned __int128)(abs & ((UINT64_C(1) << shift) - 1)) * 10 >>
			    shift);
	if (tenths)
		snprintf(buf, 24, "%s%u.%u %s", sign, whole, tenths, units[shift / 10]);
	else
		snprintf(buf, 24, "%s%u %s", sign, whole, units[shift / 10]);
}

static const struct duration_unit {
	const char *name;
	int64_t ms;
} duration_units[] = {
	{ "d", DAY_MS }, { "h", HOUR_MS }, { "m", MINUTE_MS }, { "s", SECOND_MS }, { "ms", 1 }
};

/* The unit at *s, moving past it; units go from large to small, so the search starts at *next.
 */
static const struct duration_unit *duration_unit_scan(const char **s, size_t *next)
{
	size_t len = 0;

	while ((*s)[len] >= 'a' && (*s)[len] <= 'z')
		len++;
	for (size_t i = *next; i < ARRAY_LEN(duration_units); i++) {
		if (slice_is((struct slice){ *s, len }, duration_units[i].name)) {
			*s += len;
			*next = i + 1;
			return &duration_units[i];
		}
	}
	return NULL;
}

int duration_parse(const char *s, int64_t *ret_ms, struct err *err)
{
	int64_t whole, nano, part, total = 0;
	const char *p = s;
	size_t next = 0;

	if (str_eq(s, "0")) {
		*ret_ms = 0;
		return 0;
	}
	do {
		const struct duration_unit *unit;

		if (!decimal_scan(&p, &whole, &nano))
			goto bad;
		unit = duration_unit_scan(&p, &next);
		if (!unit)
			goto bad;
		if (!scale(whole, nano, unit->ms, &part) || !add_checked(total, part, &total))
			return err_set(err, ERR_INVALID,
				       "'%.40s' is too long: at most 106751991167d", s);
	} while (*p);
	*ret_ms = total;
	return 0;
bad:
	return err_set(err, ERR_INVALID,
		       "'%.40s' is not a duration: write it like 250ms, 90s, 15m, 2h30m or 7d",
		       s);
}

void duration_format(int64_t ms, char buf[static 32])
{
	uint64_t rest = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
	int len = snprintf(buf, 32, "%s", ms < 0 ? "-" : "");

	for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
		uint64_t unit = (uint64_t)duration_units[i].ms;

		if (rest >= unit)
			len += snprintf(buf + len, 32 - (size_t)len, "%" PRIu64 "%s",
					rest / unit, duration_units[i].name);
		rest %= unit;
	}
	if (ms == 0)
		snprintf(buf, 32, "0s");
}

int ppm_parse(const char *s, int64_t *ret_ppm, struct err *err)
{
	int64_t whole, nano, ppm;
	const char *p = s;
	bool fits;

	if (!decimal_scan(&p, &whole, &nano))
		goto bad;
	if (str_eq(p, "%")) {
		if (nano % 100000)
			return err_set(err, ERR_INVALID,
				       "'%.40s' is too fine: give at most four decimals", s);
		fits = mul_checked(whole, 10000, &ppm) && add_checked(ppm, nano / 100000, &ppm);
	} else if (nano == 0 && (str_eq(p, "ppm") || (whole == 0 && !*p))) {
		ppm = whole;
		fits = true;
	} else {
		goto bad;
	}
	if (!fits)
		return err_set(err, ERR_INVALID, "'%.40s' is too large", s);
	*ret_ppm = ppm;
	return 0;
bad:
	return err_set(err, ERR_INVALID,
		       "'%.40s' is not a share: write it like 2.5%% or 25000ppm", s);
}
