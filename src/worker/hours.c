/* When the machine is on offer: weekly hours in local time, minus maintenance.  Pure: the
 * offset of local time is a function of the instant, so that the clock change falls where it
 * does. */
#include "internal.h"

#include <ctype.h>
#include <time.h>

#define DAY_MIN	 (24 * 60)
#define WEEK_MIN (7 * DAY_MIN)
#define AHEAD_MS (31 * DAY_MS)

static const char *const day_names[] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

/* ---- reading ---- */

static int day_parse(struct slice s)
{
	for (int i = 0; i < 7; i++)
		if (slice_is(s, day_names[i]))
			return i;
	return -1;
}

/* "HH:MM" up to 24:00; -1 if it is none. */
static int time_of_day(struct slice s)
{
	int minutes;

	if (s.len != 5 || s.ptr[2] != ':')
		return -1;
	for (int i = 0; i < 5; i++)
		if (i != 2 && !isdigit((unsigned char)s.ptr[i]))
			return -1;
	minutes = ((s.ptr[0] - '0') * 10 + s.ptr[1] - '0') * 60 + (s.ptr[3] - '0') * 10 +
		  s.ptr[4] - '0';
	return s.ptr[3] > '5' || minutes > DAY_MIN ? -1 : minutes;
}

static int span_add(struct hours *h, int from_day, int to_day, int from, int to,
		    struct err *err)
{
	int days = (to_day - from_day + 7) % 7 + 1;

	if (to <= from)
		to += DAY_MIN; /* past midnight */
	for (int i = 0; i < days; i++) {
		int64_t at = (from_day + i) % 7 * DAY_MIN;

		if (h->weekly_count == HOURS_MAX)
			return err_set(err, ERR_INVALID, "more than %d spans: name fewer",
				       HOURS_MAX);
		h->weekly[h->weekly_count++] = (struct hours_span){ at + from, at + to };
	}
	return 0;
}

static int bad_span(struct slice s, bool is_maintenance, struct err *err)
{
	return err_set(err, ERR_INVALID,
		       "'%.*s' is no span of time: write 22:00-08:00 or mon-fri 22:00-08:00%s",
		       (int)MIN(s.len, (size_t)60), s.ptr,
		       is_maintenance ? " or 2026-12-24T00:00-2026-12-27T08:00" : "");
}

static int weekly_parse(struct slice s, bool is_maintenance, struct hours *h, struct err *err)
{
	struct slice whole = s, days = { 0 }, from;
	int first = 0, last = 6, a, b;

	if (memchr(s.ptr, ' ', s.len)) {
		struct slice day;

		slice_split(&s, ' ', &days);
		s = slice_trim(s);
		slice_split(&days, '-', &day);
		first = day_parse(day);
		last = days.ptr ? day_parse(days) : first;
		if (first < 0 || last < 0)
			return bad_span(whole, is_maintenance, err);
	}
	if (!slice_split(&s, '-', &from) || !s.ptr)
		return bad_span(whole, is_maintenance, err);
	a = time_of_day(slice_trim(from));
	b = time_of_day(slice_trim(s));
	if (a < 0 || b < 0 || a == DAY_MIN || a == b)
		return bad_span(whole, is_maintenance, err);
	return span_add(h, first, last, a, b, err);
}

/* "2026-12-24T00:00" as minutes since 1970, were it UTC. */
static int instant_parse(struct slice s, int64_t *ret)
{
	char text[32];
	struct err ignored = { 0 };
	int64_t ms;

	if (s.len != 16)
		return -1;
	snprintf(text, sizeof(text), "%.16s:00Z", s.ptr);
	if (time_parse(text, &ms, &ignored) < 0)
		return -1;
	*ret = ms / MINUTE_MS;
	return 0;
}

static int once_parse(struct slice s, struct hours *h, struct err *err)
{
	struct hours_once o;

	if (s.len != 33 || (s.ptr[16] != '-' && s.ptr[16] != '/') ||
	    instant_parse((struct slice){ s.ptr, 16 }, &o.from_min) < 0 ||
	    instant_parse((struct slice){ s.ptr + 17, 16 }, &o.to_min) < 0 ||
	    o.to_min <= o.from_min)
		return bad_span(s, true, err);
	if (h->once_count == HOURS_MAX)
		return err_set(err, ERR_INVALID,
			       "more than %d windows: remove those that are over", HOURS_MAX);
	h->once[h->once_count++] = o;
	return 0;
}

int hours_parse(const char *text, bool is_maintenance, struct hours *ret, struct err *err)
{
	struct slice rest = slice_trim(slice_of(text)), part;
	struct hours h = { 0 };

	if (!is_maintenance && (rest.len == 0 || slice_is(rest, "always"))) {
		h.always = true;
		*ret = h;
		return 0;
	}
	if (rest.len == 0)
		rest.ptr = NULL;
	while (slice_split(&rest, ',', &part)) {
		part = slice_trim(part);
		if (is_maintenance && part.len && isdigit((unsigned char)part.ptr[0]) &&
		    part.len > 11) {
			if (once_parse(part, &h, err) < 0)
				return -1;
		} else if (weekly_parse(part, is_maintenance, &h, err) < 0) {
			return -1;
		}
	}
	*ret = h;
	return 0;
}

/* ---- asking ---- */

int64_t utc_offset_system(void *arg, int64_t at_ms)
{
	time_t at = (time_t)(at_ms / SECOND_MS);
	struct tm tm;

	(void)arg;
	return localtime_r(&at, &tm) ? tm.tm_gmtoff * SECOND_MS : 0;
}

/* 1970-01-01 was a Thursday. */
static int64_t minute_of_week(int64_t local_min)
{
	int64_t m = (local_min + 3 * DAY_MIN) % WEEK_MIN;

	return m < 0 ? m + WEEK_MIN : m;
}

static bool within(const struct hours *h, int64_t local_min)
{
	int64_t m = minute_of_week(local_min);

	for (size_t i = 0; i < h->weekly_count; i++) {
		const struct hours_span *s = &h->weekly[i];

		if ((m >= s->from_min && m < s->to_min) ||
		    (m + WEEK_MIN >= s->from_min && m + WEEK_MIN < s->to_min))
			return true;
	}
	for (size_t i = 0; i < h->once_count; i++)
		if (local_min >= h->once[i].from_min && local_min < h->once[i].to_min)
			return true;
	return false;
}

static void edge_nearer(int64_t *steps, int64_t now, int64_t edge, bool weekly)
{
	int64_t d = edge - now;

	if (weekly)
		d = (d % WEEK_MIN + WEEK_MIN) % WEEK_MIN;
	if (d > 0 && d < *steps)
		*steps = d;
}

/* Minutes until something may change; at most a day. */
static int64_t next_edge(const struct hours *h, int64_t local_min, int64_t steps)
{
	int64_t m = minute_of_week(local_min);

	for (size_t i = 0; i < h->weekly_count; i++) {
		edge_nearer(&steps, m, h->weekly[i].from_min, true);
		edge_nearer(&steps, m, h->weekly[i].to_min, true);
	}
	for (size_t i = 0; i < h->once_count; i++) {
		edge_nearer(&steps, local_min, h->once[i].from_min, false);
		edge_nearer(&steps, local_min, h->once[i].to_min, false);
	}
	return steps;
}

static bool open_at(const struct hours *hours, const struct hours *maintenance,
		    int64_t local_min)
{
	return (hours->always || within(hours, local_min)) && !within(maintenance, local_min);
}

bool hours_available(const struct hours *hours, const struct hours *maintenance, int64_t at_ms,
		     utc_offset_fn *offset, void *arg, int64_t *ret_until_ms)
{
	int64_t at = at_ms / MINUTE_MS, end = at + AHEAD_MS / MINUTE_MS;
	int64_t shift = offset(arg, at_ms) / MINUTE_MS;

	*ret_until_ms = 0;
	if (!open_at(hours, maintenance, at + shift))
		return false;
	if (hours->always && !maintenance->weekly_count && !maintenance->once_count)
		return true;
	while (at < end) {
		int64_t step = next_edge(maintenance, at + shift,
					 next_edge(hours, at + shift, DAY_MIN));
		int64_t then = offset(arg, (at + step) * MINUTE_MS) / MINUTE_MS;

		/* The clock is changed on the way: go minute by minute. */
		if (then != shift && step > 1) {
			step = 1;
			then = offset(arg, (at + step) * MINUTE_MS) / MINUTE_MS;
		}
		at += step;
		shift = then;
		if (!open_at(hours, maintenance, at + shift)) {
			*ret_until_ms = at * MINUTE_MS;
			return true;
		}
	}
	return true;
}
