#include "base.h"

#include <time.h>

static int64_t system_now_ms(void *arg)
{
	struct timespec ts;
	int rc = clock_gettime(CLOCK_REALTIME, &ts);

	assert(rc == 0);
	return (int64_t)ts.tv_sec * SECOND_MS + ts.tv_nsec / 1000000;
}

const struct clock clock_system = { .now_ms = system_now_ms };

int64_t time_monotonic_ms(void)
{
	struct timespec ts;
	int rc = clock_gettime(CLOCK_MONOTONIC, &ts);

	assert(rc == 0);
	return (int64_t)ts.tv_sec * SECOND_MS + ts.tv_nsec / 1000000;
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar and back: Howard Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms".  Years begin in March, eras of 400 years have
 * 146097 days, 719468 days lead from 0000-03-01 to 1970. */
static int64_t days_from_civil(int64_t year, int64_t month, int64_t day)
{
	int64_t era, year_of_era, day_of_year, day_of_era;

	year -= month <= 2;
	era = (year >= 0 ? year : year - 399) / 400;
	year_of_era = year - era * 400;
	day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
	return era * 146097 + day_of_era - 719468;
}

static void civil_from_days(int64_t days, int64_t *ret_year, int64_t *ret_month,
			    int64_t *ret_day)
{
	int64_t era, day_of_era, year_of_era, day_of_year, month;

	days += 719468;
	era = (days >= 0 ? days : days - 146096) / 146097;
	day_of_era = days - era * 146097;
	year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) /
		365;
	day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	month = (5 * day_of_year + 2) / 153;
	*ret_day = day_of_year - (153 * month + 2) / 5 + 1;
	*ret_month = month < 10 ? month + 3 : month - 9;
	*ret_year = year_of_era + era * 400 + (*ret_month <= 2);
}

#define TIME_MIN INT64_C(-62167219200000) /* 0000-01-01T00:00:00.000Z */
#define TIME_MAX INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

void time_format(int64_t ms, char buf[static 32])
{
	int64_t days, rest, year, month, day;

	ms = MIN(MAX(ms, TIME_MIN), TIME_MAX);
	days = ms / DAY_MS - (ms % DAY_MS < 0);
	rest = ms - days * DAY_MS;
	civil_from_days(days, &year, &month, &day);
	snprintf(buf, 32, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)year % 10000,
		 (unsigned)month % 100, (unsigned)day % 100, (unsigned)(rest / HOUR_MS),
		 (unsigned)(rest / MINUTE_MS % 60), (unsigned)(rest / SECOND_MS % 60),
		 (unsigned)(rest % SECOND_MS));
}

/* Exactly `count` digits at *s within [min, max]; moves *s past them. */
static bool scan_digits(const char **s, int count, int64_t min, int64_t max, int64_t *ret)
{
	int64_t value = 0;

	for (int i = 0; i < count; i++, ++*s) {
		if (**s < '0' || **s > '9')
			return false;
		value = value * 10 + (**s - '0');
	}
	*ret = value;
	return value >= min && value <= max;
}

static bool scan_char(const char **s, const char *any_of)
{
	if (!**s || !strchr(any_of, **s))
		return false;
	++*s;
	return true;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap);
}

static bool scan_date(const char **s, int64_t *ret_ms)
{
	int64_t year, month, day;

	if (!scan_digits(s, 4, 0, 9999, &year) || !scan_char(s, "-") ||
	    !scan_digits(s, 2, 1, 12, &month) || !scan_char(s, "-") ||
	    !scan_digits(s, 2, 1, 31, &day) || day > days_in_month(year, month))
		return false;
	*ret_ms = days_from_civil(year, month, day) * DAY_MS;
	return true;
}

/* A leap second (":60") is the first instant of the next minute.  Decimals beyond the third are
 * dropped. */
static bool scan_time(const char **s, int64_t *ret_ms)
{
	int64_t hour, minute, second, digit, fraction = 0;

	if (!scan_digits(s, 2, 0, 23, &hour) || !scan_char(s, ":") ||
	    !scan_digits(s, 2, 0, 59, &minute) || !scan_char(s, ":") ||
	    !scan_digits(s, 2, 0, 60, &second))
		return false;
	if (scan_char(s, ".")) {
		int64_t unit = 100;

		if (!scan_digits(s, 1, 0, 9, &digit))
			return false;
		do {
			fraction += digit * unit;
			unit /= 10;
		} while (scan_digits(s, 1, 0, 9, &digit));
	}
	*ret_ms = hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS + fraction;
	return true;
}

static bool scan_offset(const char **s, int64_t *ret_ms)
{
	int64_t hours, minutes, sign = **s == '-' ? -1 : 1;

	if (scan_char(s, "Zz")) {
		*ret_ms = 0;
		return true;
	}
	if (!scan_char(s, "+-") || !scan_digits(s, 2, 0, 23, &hours) || !scan_char(s, ":") ||
	    !scan_digits(s, 2, 0, 59, &minutes))
		return false;
	*ret_ms = sign * (hours * HOUR_MS + minutes * MINUTE_MS);
	return true;
}

int time_parse(const char *s, int64_t *ret_ms, struct err *err)
{
	int64_t date, time, offset;
	const char *p = s;

	if (!scan_date(&p, &date) || !scan_char(&p, "Tt ") || !scan_time(&p, &time) ||
	    !scan_offset(&p, &offset) || *p)
		return err_set(err, ERR_INVALID,
			       "'%.40s' is not a time: write it like 2026-11-23T13:58:00Z or "
			       "2026-11-23T15:58:00+02:00",
			       s);
	*ret_ms = date + time - offset;
	return 0;
}
