/* Keys kept for a moment: never longer, and nothing that was read before a change. */
#include "../internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct known_key ann = { .id = "ak_ann", .org_id = "or_1", .hash = "aa", .role = ROLE_OWNER, .scopes = 3,
				      .expires_ms = 5, .used_ms = 4 };
static const struct known_key bob = { .id = "ak_bob", .org_id = "or_2", .user_id = "us_2", .hash = "bb" };

static bool found(struct keys *k, const struct known_key *key, int64_t now_ms)
{
	struct known_key got;
	uint64_t era;

	if (!keys_find(k, key->id, now_ms, &got, &era))
		return false;
	assert_string_equal(got.org_id, key->org_id);
	assert_string_equal(got.user_id, key->user_id);
	assert_string_equal(got.hash, key->hash);
	assert_int_equal(got.role, key->role);
	assert_int_equal(got.scopes, key->scopes);
	assert_int_equal(got.expires_ms, key->expires_ms);
	assert_int_equal(got.used_ms, key->used_ms);
	return true;
}

static uint64_t era_now(struct keys *k)
{
	struct known_key got;
	uint64_t era;

	keys_find(k, "ak_nobody", 1, &got, &era);
	return era;
}

static void test_kept_for_a_moment(void **state)
{
	struct keys *k = keys_new();

	assert_false(found(k, &ann, 1000));
	keys_put(k, &ann, 1000, era_now(k));
	keys_put(k, &bob, 1500, era_now(k));
	assert_true(found(k, &ann, 1000));
	assert_true(found(k, &ann, 999 + KEY_FRESH_MS));
	assert_false(found(k, &ann, 1000 + KEY_FRESH_MS));
	assert_true(found(k, &bob, 1000 + KEY_FRESH_MS));
	keys_free(k);
}

static void test_emptied(void **state)
{
	struct keys *k = keys_new();
	uint64_t before;

	keys_put(k, &ann, 1000, era_now(k));
	before = era_now(k);
	keys_empty(k);
	assert_false(found(k, &ann, 1000));
	/* What somebody read from the store before the change and puts after it. */
	keys_put(k, &ann, 1000, before);
	assert_false(found(k, &ann, 1000));
	keys_put(k, &ann, 1000, era_now(k));
	assert_true(found(k, &ann, 1000));
	keys_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_for_a_moment),
		cmocka_unit_test(test_emptied),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("control-keys", tests, NULL, NULL);
}
