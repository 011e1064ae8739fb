/* Sessions of workers: what makes a request fresh and its own. */
#include "../internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const int64_t now_ms = 1000000;

/* A nonce is good once, in any order within the window. */
static void test_nonces(void **state)
{
	struct nonce_window w = { 0 };

	assert_true(nonce_take(&w, 1));
	assert_false(nonce_take(&w, 1));
	assert_false(nonce_take(&w, 0));
	assert_false(nonce_take(&w, -5));
	assert_true(nonce_take(&w, 10));
	for (int64_t n = 2; n < 10; n++)
		assert_true(nonce_take(&w, n)); /* late, not repeated */
	for (int64_t n = 1; n <= 10; n++)
		assert_false(nonce_take(&w, n));
	assert_true(nonce_take(&w, 10 + NONCE_WINDOW));
	assert_false(nonce_take(&w, 10)); /* fell out */
	assert_true(nonce_take(&w, 11));
	assert_false(nonce_take(&w, 11));
	assert_true(nonce_take(&w, INT64_C(1) << 60));
	assert_false(nonce_take(&w, 12 + NONCE_WINDOW));
	assert_false(nonce_take(&w, INT64_C(1) << 60));
}

/* Against a set that remembers everything. */
static void test_nonces_random(void **state)
{
	enum { COUNT = 20000 };
	struct nonce_window w = { 0 };
	static bool taken[COUNT + 1];
	int64_t newest = 0;
	uint64_t seed = 7;

	for (int i = 0; i < 200000; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		int64_t n = 1 + (int64_t)(seed >> 33) % MIN((int64_t)COUNT, newest + 300);
		bool expect = !taken[n] && n > newest - NONCE_WINDOW;

		assert_int_equal(nonce_take(&w, n), expect);
		if (expect) {
			taken[n] = true;
			newest = MAX(newest, n);
		}
	}
}

static void test_limits(void **state)
{
	struct sessions *s = sessions_new();
	const uint8_t key[32] = { 0 };

	for (int i = 0; i < 6; i++) {
		const uint8_t theirs[EXCHANGE_SIZE] = { (uint8_t)i };
		char id[16];

		snprintf(id, sizeof(id), "ss_%d", i);
		assert_true(session_put(s, id, "wk_a", theirs, key, now_ms + 1000 + i));
		assert_true(session_put(s, id + 1, "wk_b", theirs, key, now_ms + 1000 + i)); /* another worker's */
		assert_false(session_put(s, "ss_x", "wk_a", theirs, key, now_ms + 1000)); /* a replay */
	}
	assert_int_equal(sessions_count(s, "wk_a"), 4); /* the oldest made room */
	assert_int_equal(sessions_count(s, "wk_b"), 4);
	session_drop_worker(s, "wk_a");
	assert_int_equal(sessions_count(s, "wk_a"), 0);
	assert_int_equal(sessions_count(s, "wk_b"), 4);
	sessions_expire(s, now_ms + 1003);
	assert_int_equal(sessions_count(s, "wk_b"), 2);
	sessions_free(s);
}

/* The one that expires first makes room, wherever it stands among its worker's; dropped ones leave the others found. */
static void test_room(void **state)
{
	static const int64_t expires_ms[] = { 4000, 1000, 3000, 2000, 5000, 6000 };
	struct sessions *s = sessions_new();
	const uint8_t key[32] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(expires_ms); i++) {
		const uint8_t theirs[EXCHANGE_SIZE] = { (uint8_t)i };
		char id[16];

		snprintf(id, sizeof(id), "ss_%zu", i);
		assert_true(session_put(s, id, "wk_a", theirs, key, now_ms + expires_ms[i]));
	}
	assert_int_equal(sessions_count(s, "wk_a"), 4); /* 1000 and 2000 are gone */
	sessions_expire(s, now_ms + 2999);
	assert_int_equal(sessions_count(s, "wk_a"), 4);
	sessions_expire(s, now_ms + 4000);
	assert_int_equal(sessions_count(s, "wk_a"), 2);
	for (uint8_t i = 0; i < 4; i++) { /* those that ended are no replays any more, as before */
		const uint8_t theirs[EXCHANGE_SIZE] = { i };
		char id[16];

		snprintf(id, sizeof(id), "ss_again_%u", i);
		assert_true(session_put(s, id, "wk_a", theirs, key, now_ms + 9000 + i));
	}
	assert_int_equal(sessions_count(s, "wk_a"), 4);
	sessions_expire(s, now_ms + 9003);
	assert_int_equal(sessions_count(s, "wk_a"), 0);
	assert_int_equal(sessions_count(s, "wk_unknown"), 0);
	session_drop_worker(s, "wk_unknown");
	sessions_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nonces), cmocka_unit_test(test_nonces_random), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_room),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
