#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

#include "../internal.h"

static void vec_grows(void **state)
{
	VEC(int) v = { 0 };

	for (int i = 0; i < 1000; i++)
		*vec_push(&v) = i;
	assert_int_equal(v.len, 1000);
	for (size_t i = 0; i < v.len; i++)
		assert_int_equal(v.items[i], i);
	assert_int_equal(*vec_push(&v), 0);
	vec_release(&v);
	assert_null(v.items);
	assert_int_equal(v.len, 0);
}

static void put_find_remove(void **state)
{
	struct map *m = map_new();
	int a, b;

	assert_null(map_find(m, "x"));
	assert_null(map_remove(m, "x"));
	map_put(m, "x", &a);
	map_put(m, "", &b);
	assert_ptr_equal(map_find(m, "x"), &a);
	assert_ptr_equal(map_find(m, ""), &b);
	map_put(m, "x", &b);
	assert_int_equal(map_count(m), 2);
	assert_ptr_equal(map_remove(m, "x"), &b);
	assert_null(map_find(m, "x"));
	assert_int_equal(map_count(m), 1);
	map_free(m, NULL);
	map_free(NULL, NULL);
}

static uint64_t lcg(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return *seed >> 33;
}

/* A long random history against an array that shows the truth. */
static void agrees_with_an_array(void **state)
{
	enum { KEYS = 3000 };
	void **truth = xcalloc(KEYS, sizeof(*truth));
	struct map *m = map_new();
	uint64_t seed = 1;
	size_t count = 0;

	for (size_t step = 0; step < 200000; step++) {
		size_t k = lcg(&seed) % KEYS;
		void *value = (void *)(uintptr_t)(step + 1);
		char key[16];

		snprintf(key, sizeof(key), "key%zu", k);
		/* Phases of growing and of shrinking. */
		if (lcg(&seed) % 4 < (step / 20000 % 2 ? 1 : 3)) {
			count += !truth[k];
			truth[k] = value;
			map_put(m, key, value);
		} else {
			assert_ptr_equal(map_remove(m, key), truth[k]);
			count -= truth[k] != NULL;
			truth[k] = NULL;
		}
		assert_int_equal(map_count(m), count);
		k = lcg(&seed) % KEYS;
		snprintf(key, sizeof(key), "key%zu", k);
		assert_ptr_equal(map_find(m, key), truth[k]);
	}
	map_free(m, NULL);
	free(truth);
}

static void iterates_in_order_of_insertion(void **state)
{
	struct map *m = map_new();
	size_t it = 0, expected = 0;
	const char *key;
	void *value;
	char name[16];

	for (size_t i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%zu", i);
		map_put(m, name, (void *)(uintptr_t)i);
	}
	for (size_t i = 1; i < 1000; i += 2) {
		snprintf(name, sizeof(name), "%zu", i);
		map_remove(m, name);
	}
	map_put(m, "0", (void *)(uintptr_t)7);
	while (map_next(m, &it, &key, &value)) {
		assert_int_equal((uintptr_t)value, expected ? expected : 7);
		expected += 2;
		if (expected % 4 == 0)
			assert_ptr_equal(map_remove(m, key), value);
	}
	assert_int_equal(expected, 1000);
	assert_int_equal(map_count(m), 250);
	map_free(m, NULL);
}

static void free_reaches_every_value(void **state)
{
	struct map *m = map_new();

	map_put(m, "a", xstrdup("1"));
	map_put(m, "b", xstrdup("2"));
	free(map_remove(m, "a"));
	map_free(m, free); /* the leak checker sees the rest */
}

/* The reference vectors: key 00..0f, input 00 01 02 …, of the length that is the index. */
static void siphash_is_siphash(void **state)
{
	static const uint64_t key[2] = { UINT64_C(0x0706050403020100),
					 UINT64_C(0x0f0e0d0c0b0a0908) };
	static const struct {
		size_t len;
		uint64_t hash;
	} vectors[] = {
		{ 0, UINT64_C(0x726fdb47dd0e0e31) },  { 1, UINT64_C(0x74f839c593dc67fd) },
		{ 7, UINT64_C(0xab0200f58b01d137) },  { 8, UINT64_C(0x93f5f5799a932462) },
		{ 15, UINT64_C(0xa129ca6149be45e5) }, { 63, UINT64_C(0x958a324ceb064572) },
	};
	unsigned char input[64];

	for (size_t i = 0; i < sizeof(input); i++)
		input[i] = (unsigned char)i;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
		assert_true(siphash24(key, input, vectors[i].len) == vectors[i].hash);
	assert_true(hash_bytes("a", 1) == hash_bytes("a", 1));
	assert_true(hash_bytes("a", 1) != hash_bytes("b", 1));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(vec_grows),
		cmocka_unit_test(put_find_remove),
		cmocka_unit_test(agrees_with_an_array),
		cmocka_unit_test(iterates_in_order_of_insertion),
		cmocka_unit_test(free_reaches_every_value),
		cmocka_unit_test(siphash_is_siphash),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
