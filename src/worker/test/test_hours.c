#include "../internal.h"

#include <setjmp.h>

#include <cmocka.h>

static int64_t at(const char *text)
{
	struct err err = { 0 };
	int64_t ms = 0;

	if (time_parse(text, &ms, &err) < 0)
		fail_msg("%s", err.text);
	return ms;
}

static int64_t fixed(void *arg, int64_t at_ms)
{
	return *(int64_t *)arg;
}

/* Central European time around the two changes of 2026: 29 March and 25 October, 01:00 UTC. */
static int64_t berlin(void *arg, int64_t at_ms)
{
	return at_ms >= at("2026-03-29T01:00:00Z") && at_ms < at("2026-10-25T01:00:00Z")
		       ? 2 * HOUR_MS
		       : HOUR_MS;
}

static struct hours parse(const char *text, bool maintenance)
{
	struct hours h;
	struct err err = { 0 };

	if (hours_parse(text, maintenance, &h, &err) < 0)
		fail_msg("'%s': %s", text, err.text);
	return h;
}

static void expect(const char *hours, const char *maintenance, const char *when,
		   utc_offset_fn *offset, bool wanted, const char *until)
{
	struct hours h = parse(hours, false), m = parse(maintenance, true);
	int64_t utc = 0, until_ms;
	bool got = hours_available(&h, &m, at(when), offset ? offset : fixed, &utc, &until_ms);
	char text[32];

	time_format(until_ms, text);
	if (got != wanted || until_ms != (until ? at(until) : 0))
		fail_msg("'%s' but '%s' at %s: %s until %s", hours, maintenance, when,
			 got ? "available" : "not", text);
}

static void weekly(void **state)
{
	/* 2026-11-23 is a Monday. */
	expect("always", "", "2026-11-23T12:00:00Z", NULL, true, NULL);
	expect("", "", "2026-11-23T12:00:00Z", NULL, true, NULL);
	expect("22:00-08:00", "", "2026-11-23T12:00:00Z", NULL, false, NULL);
	expect("22:00-08:00", "", "2026-11-23T22:00:00Z", NULL, true, "2026-11-24T08:00:00Z");
	expect("22:00-08:00", "", "2026-11-24T07:59:59Z", NULL, true, "2026-11-24T08:00:00Z");
	expect("22:00-08:00", "", "2026-11-24T08:00:00Z", NULL, false, NULL);
	expect("mon-fri 18:00-24:00, sat 00:00-24:00", "", "2026-11-28T05:00:00Z", NULL, true,
	       "2026-11-29T00:00:00Z");
	/* Friday evening runs into Saturday. */
	expect("mon-fri 18:00-24:00, sat 00:00-24:00", "", "2026-11-27T20:00:00Z", NULL, true,
	       "2026-11-29T00:00:00Z");
	/* Over the end of the week. */
	expect("sun 22:00-06:00", "", "2026-11-30T05:00:00Z", NULL, true,
	       "2026-11-30T06:00:00Z");
	expect("fri-mon 10:00-12:00", "", "2026-11-29T11:00:00Z", NULL, true,
	       "2026-11-29T12:00:00Z");
	expect("fri-mon 10:00-12:00", "", "2026-11-25T11:00:00Z", NULL, false, NULL);
	/* All week, in pieces that touch: no end. */
	expect("00:00-12:00, 12:00-24:00", "", "2026-11-23T11:00:00Z", NULL, true, NULL);
}

static void maintenance(void **state)
{
	expect("always", "sun 03:00-04:00", "2026-11-23T12:00:00Z", NULL, true,
	       "2026-11-29T03:00:00Z");
	expect("always", "sun 03:00-04:00", "2026-11-29T03:30:00Z", NULL, false, NULL);
	expect("always", "2026-12-24T00:00-2026-12-27T08:00", "2026-12-23T12:00:00Z", NULL,
	       true, "2026-12-24T00:00:00Z");
	expect("always", "2026-12-24T00:00/2026-12-27T08:00", "2026-12-26T12:00:00Z", NULL,
	       false, NULL);
	expect("always", "2026-12-24T00:00-2026-12-27T08:00", "2026-12-27T08:00:00Z", NULL,
	       true, NULL);
	/* Farther away than one looks. */
	expect("always", "2027-12-24T00:00-2027-12-27T08:00", "2026-11-23T12:00:00Z", NULL,
	       true, NULL);
	expect("22:00-08:00", "mon 23:00-23:30", "2026-11-23T22:10:00Z", NULL, true,
	       "2026-11-23T23:00:00Z");
}

static void clock_changes(void **state)
{
	/* Spring: the night has one hour less; local 08:00 is 06:00 UTC after the change, 07:00
	 * before. */
	expect("22:00-08:00", "", "2026-03-28T21:00:00Z", berlin, true, "2026-03-29T06:00:00Z");
	expect("22:00-08:00", "", "2026-03-27T21:00:00Z", berlin, true, "2026-03-28T07:00:00Z");
	/* Autumn: one hour more. */
	expect("22:00-08:00", "", "2026-10-24T20:00:00Z", berlin, true, "2026-10-25T07:00:00Z");
	/* The skipped hour: 02:30 does not exist on that night; the span ends when 03:00 is
	 * there. */
	expect("22:00-02:30", "", "2026-03-28T22:00:00Z", berlin, true, "2026-03-29T01:00:00Z");
	/* The doubled hour counts each time: available at both 02:15. */
	expect("02:00-02:30", "", "2026-10-25T00:15:00Z", berlin, true, "2026-10-25T00:30:00Z");
	expect("02:00-02:30", "", "2026-10-25T01:15:00Z", berlin, true, "2026-10-25T01:30:00Z");
}

static void refuses(void **state)
{
	static const char *const bad[] = { "22:00",
					   "22-08",
					   "25:00-26:00",
					   "22:00-22:00",
					   "mo 10:00-12:00",
					   "mon- 10:00-12:00",
					   "-",
					   "24:00-01:00",
					   "22:60-23:00",
					   "mon 10:00",
					   "now",
					   ",",
					   "10:00-12:00,",
					   "mon-fri-sun 10:00-11:00",
					   "2026-12-24T00:00-2026-12-27T08:00" };
	struct hours h;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		err = (struct err){ 0 };
		if (hours_parse(bad[i], false, &h, &err) == 0)
			fail_msg("'%s' was taken", bad[i]);
		assert_true(err.text[0]);
	}
	err = (struct err){ 0 };
	assert_int_equal(hours_parse("2026-12-27T00:00-2026-12-24T08:00", true, &h, &err), -1);
	assert_int_equal(hours_parse("2026-13-27T00:00-2027-12-24T08:00", true, &h, &err), -1);
	assert_int_equal(hours_parse("2026-12-27", true, &h, &err), -1);
}

static void shares(void **state)
{
	static const struct {
		const char *text;
		enum share_unit unit;
		int64_t total, wanted;
	} good[] = {
		{ "100%", SHARE_COUNT_MILLI, 8000, 8000 },
		{ "50%", SHARE_COUNT_MILLI, 7000, 3500 },
		{ "6", SHARE_COUNT_MILLI, 8000, 6000 },
		{ "1.5", SHARE_COUNT_MILLI, 8000, 1500 },
		{ "64", SHARE_COUNT_MILLI, 8000, 8000 },
		{ "16GiB", SHARE_BYTES_MIB, 64000, 16384 },
		{ "80%", SHARE_BYTES_MIB, 1000, 800 },
		{ "0", SHARE_BYTES_MIB, 1000, 0 },
		{ "0%", SHARE_COUNT_MILLI, 8000, 0 },
	};
	static const char *const bad[] = { "", "%", "-1", "abc", "-5%", "101%", "5 %x" };
	struct err err = { 0 };
	int64_t got;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (share_parse(good[i].text, good[i].unit, good[i].total, &got, &err) < 0 ||
		    got != good[i].wanted)
			fail_msg("'%s' of %" PRId64 ": %" PRId64 " %s", good[i].text,
				 good[i].total, got, err.text);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (share_parse(bad[i], SHARE_COUNT_MILLI, 8000, &got, &err) == 0)
			fail_msg("'%s' was taken: %" PRId64, bad[i], got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weekly),	 cmocka_unit_test(maintenance),
		cmocka_unit_test(clock_changes), cmocka_unit_test(refuses),
		cmocka_unit_test(shares),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
