#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

static void fill_with(void *arg, void *buf, size_t len)
{
	memset(buf, *(int *)arg, len);
}

/* The example of RFC 9562, appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F. */
static void fill_as_rfc(void *arg, void *buf, size_t len)
{
	static const unsigned char bytes[16] = {
		0, 0, 0, 0, 0, 0, 0xfc, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f
	};

	assert_int_equal(len, sizeof(bytes));
	memcpy(buf, bytes, len);
}

static void an_id_is_a_uuid_version_7(void **state)
{
	static const struct random rnd = { .fill = fill_as_rfc };
	char id[ID_SIZE];

	id_make("wl", INT64_C(0x017F22E279B0), &rnd, id);
	assert_string_equal(id, "wl_01fwhe4ydgfk1shh6w1g60eecf");
	assert_true(id_time_ms(id) == INT64_C(0x017F22E279B0));
	assert_int_equal(strlen(id), ID_LEN);
}

static void ids_sort_by_time(void **state)
{
	static const int64_t times[] = {
		0, 1, 31, 32, 1024, INT64_C(1800000000000), (INT64_C(1) << 48) - 1
	};
	struct random rnd = { .fill = fill_with };
	char before[ID_SIZE] = "", id[ID_SIZE];
	int byte = 0xff;

	rnd.arg = &byte;
	for (size_t i = 0; i < ARRAY_LEN(times); i++, byte ^= 0xff) {
		id_make("le", times[i], &rnd, id);
		assert_true(id_valid(id, "le"));
		assert_true(id_time_ms(id) == times[i]);
		assert_true(strcmp(before, id) < 0);
		memcpy(before, id, sizeof(id));
	}
}

static void validity(void **state)
{
	static const char good[] = "wl_01jdq3k5v8e4r9t0m2n6p7a1bc";
	char bad[40];

	assert_true(id_valid(good, "wl"));
	assert_true(id_valid(good, NULL));
	assert_false(id_valid(good, "le"));
	assert_false(id_valid(NULL, NULL));
	assert_false(id_valid("", NULL));
	assert_false(id_valid("wl_", NULL));
	/* Every other byte in every place is right or refused, never read past. */
	for (size_t at = 0; at < ID_LEN; at++) {
		static const char wrong[] = "ILOUilou-./:@[`{ \n\x80";

		for (size_t i = 0; i < sizeof(wrong); i++) {
			memcpy(bad, good, sizeof(good));
			bad[at] = wrong[i];
			if (at < 2 && wrong[i] >= 'a' && wrong[i] <= 'z')
				continue;
			assert_false(id_valid(bad, NULL));
		}
	}
	memcpy(bad, good, sizeof(good));
	bad[3] = '8'; /* the 129th bit */
	assert_false(id_valid(bad, NULL));
	snprintf(bad, sizeof(bad), "%s0", good);
	assert_false(id_valid(bad, NULL));
}

static void prefixes(void **state)
{
	assert_true(id_prefix_valid("wl_", "wl"));
	assert_true(id_prefix_valid("wl_01jdq", "wl"));
	assert_true(id_prefix_valid("wl_01jdq3k5v8e4r9t0m2n6p7a1bc", NULL));
	assert_false(id_prefix_valid("wl", "wl"));
	assert_false(id_prefix_valid("wl-01", "wl"));
	assert_false(id_prefix_valid("wk_01", "wl"));
	assert_false(id_prefix_valid("wl_0%", "wl"));
	assert_false(id_prefix_valid("wl_9", "wl"));
	assert_false(id_prefix_valid("wl_01jdq3k5v8e4r9t0m2n6p7a1bcd", "wl"));
	assert_false(id_prefix_valid(NULL, "wl"));
}

static void system_ids_differ(void **state)
{
	char a[ID_SIZE], b[ID_SIZE];

	id_make("ev", 1, &random_system, a);
	id_make("ev", 1, &random_system, b);
	assert_string_not_equal(a, b);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_id_is_a_uuid_version_7),
		cmocka_unit_test(ids_sort_by_time),
		cmocka_unit_test(validity),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(system_ids_differ),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
