/* How many passwords are looked at, whoever asks however. */
#include "../internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const int64_t start_ms = 1000000;

/* One login that ends at once; whether it was let in. */
static bool attempt(struct logins *l, const char *peer, const char *email, int64_t now_ms, bool good, int64_t *ret_retry_ms)
{
	struct err err = { 0 };

	*ret_retry_ms = 0;
	if (login_enter(l, peer, email, now_ms, ret_retry_ms, &err) < 0) {
		assert_int_equal(err.code, ERR_RATE);
		assert_true(*ret_retry_ms > 0);
		return false;
	}
	login_leave(l, peer, email, good);
	return true;
}

/* Another e-mail, and another address of the same IPv6 network, buy nothing. */
static void test_budget_of_an_address(void **state)
{
	static const char *const peers[][2] = {
		{ "192.0.2.1", "192.0.2.1" },
		{ "2001:db8::1", "2001:db8::2:3:4:5" },
	};

	for (size_t p = 0; p < ARRAY_LEN(peers); p++) {
		struct logins *l = logins_new();
		int64_t retry_ms, now = start_ms;
		char email[32];
		int let = 0;

		for (int i = 0; i < 1000; i++) {
			snprintf(email, sizeof(email), "%d@example.org", i);
			let += attempt(l, peers[p][i % 2], email, now, i % 3 == 0, &retry_ms);
		}
		assert_int_equal(let, LOGIN_BURST);
		assert_int_equal(retry_ms, LOGIN_EVERY_MS);
		/* A stranger is not held up, and the address itself not for long. */
		assert_true(attempt(l, "198.51.100.1", "ann@example.org", now, true, &retry_ms));
		assert_true(attempt(l, "2001:db8:0:1::1", "ann@example.org", now, true, &retry_ms));
		now += LOGIN_EVERY_MS;
		assert_true(attempt(l, peers[p][0], "ann@example.org", now, true, &retry_ms));
		assert_false(attempt(l, peers[p][1], "ann@example.org", now, true, &retry_ms));
		/* An hour of it: the budget, and what comes back. */
		let = 0;
		for (int64_t end = now + HOUR_MS; now < end; now += 100) {
			snprintf(email, sizeof(email), "%" PRId64 "@example.org", now);
			let += attempt(l, peers[p][0], email, now, false, &retry_ms);
		}
		assert_in_range(let, 599, 600);
		logins_free(l);
	}
}

static void test_guesses_at_one_email(void **state)
{
	struct logins *l = logins_new();
	int64_t retry_ms, now = start_ms;

	for (int i = 0; i < 10; i++)
		assert_true(attempt(l, "192.0.2.1", "ann@example.org", now, false, &retry_ms));
	assert_false(attempt(l, "192.0.2.1", "ann@example.org", now, false, &retry_ms));
	assert_int_equal(retry_ms, 10 * MINUTE_MS);
	/* Ann herself is elsewhere, or somebody else here. */
	assert_true(attempt(l, "192.0.2.2", "ann@example.org", now, true, &retry_ms));
	assert_true(attempt(l, "192.0.2.1", "bob@example.org", now, true, &retry_ms));
	now += retry_ms + 10 * MINUTE_MS + 1;
	/* Whoever knows it has made no guesses. */
	for (int i = 0; i < 100; i++, now += LOGIN_EVERY_MS)
		assert_true(attempt(l, "192.0.2.1", "ann@example.org", now, true, &retry_ms));
	logins_free(l);
}

static void test_few_at_a_time(void **state)
{
	struct logins *l = logins_new();
	struct err err = { 0 };
	int64_t retry_ms;
	char peer[32];

	assert_int_equal(login_enter(l, "192.0.2.1", "a@example.org", start_ms, &retry_ms, &err), 0);
	assert_false(attempt(l, "192.0.2.1", "b@example.org", start_ms, true, &retry_ms)); /* one of an address */
	for (int i = 2; i <= LOGINS_AT_ONCE; i++) {
		snprintf(peer, sizeof(peer), "192.0.2.%d", i);
		assert_int_equal(login_enter(l, peer, "a@example.org", start_ms, &retry_ms, &err), 0);
	}
	assert_false(attempt(l, "192.0.2.99", "c@example.org", start_ms, true, &retry_ms));
	assert_int_equal(retry_ms, SECOND_MS);
	login_leave(l, "192.0.2.1", "a@example.org", false);
	/* What was refused cost nothing of the budget. */
	for (int i = 0; i < LOGIN_BURST; i++)
		assert_true(attempt(l, "192.0.2.99", "c@example.org", start_ms, true, &retry_ms));
	assert_false(attempt(l, "192.0.2.99", "c@example.org", start_ms, true, &retry_ms));
	logins_free(l);
}

/* A clock that was set back by a year locks nobody out for a year. */
static void test_clock_set_back(void **state)
{
	struct logins *l = logins_new();
	int64_t retry_ms, year_ms = 365 * DAY_MS;

	while (attempt(l, "192.0.2.1", "ann@example.org", start_ms + year_ms, false, &retry_ms))
		;
	while (attempt(l, "192.0.2.1", "bob@example.org", start_ms + year_ms, false, &retry_ms))
		;
	assert_false(attempt(l, "192.0.2.1", "ann@example.org", start_ms, true, &retry_ms));
	assert_true(retry_ms <= LOGIN_EVERY_MS);
	assert_true(attempt(l, "192.0.2.1", "ann@example.org", start_ms + LOGIN_BURST * LOGIN_EVERY_MS, true, &retry_ms));
	logins_free(l);
}

/* From ever new addresses: what is remembered has an end. */
static void test_many_addresses(void **state)
{
	struct logins *l = logins_new();
	int64_t retry_ms;
	char peer[32];

	for (int i = 0; i < 250000; i++) {
		snprintf(peer, sizeof(peer), "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
		assert_true(attempt(l, peer, "ann@example.org", start_ms + i, false, &retry_ms));
	}
	assert_true(logins_count(l) <= 200000);
	logins_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget_of_an_address), cmocka_unit_test(test_guesses_at_one_email),
		cmocka_unit_test(test_few_at_a_time), cmocka_unit_test(test_clock_set_back), cmocka_unit_test(test_many_addresses),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("login", tests, NULL, NULL);
}
