#include "../codec.h"

#include <setjmp.h>

#include <cmocka.h>

static void test_sha256(void **state)
{
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	struct sha256 s;

	/* FIPS 180-4's example */
	sha256_hex("abc", 3, hex);
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_init(&s);
	sha256_update(&s, "a", 1);
	sha256_update(&s, "", 0);
	sha256_update(&s, "bc", 2);
	sha256_final(&s, digest);
	hex_format(digest, sizeof(digest), hex);
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_mac(void **state)
{
	uint8_t key[32], mac[MAC_SIZE];
	char hex[2 * MAC_SIZE + 1];

	memset(key, 'k', sizeof(key));
	mac_make("what do ya want for nothing?", 28, key, mac);
	hex_format(mac, sizeof(mac), hex);
	assert_string_equal(hex,
			    "4f63351605b85f42e803b30e42c1905fed065a563ff4295a47982e43f228e097");
	assert_true(mem_equal_const_time("abc", "abc", 3));
	assert_false(mem_equal_const_time("abc", "abd", 3));
	assert_true(mem_equal_const_time("a", "b", 0));
}

static void test_sign(void **state)
{
	uint8_t pk[SIGN_PUBLIC_SIZE], sk[SIGN_SECRET_SIZE], sig[SIGNATURE_SIZE];

	/* RFC 8032 §7.1, test 2 */
	assert_int_equal(
		hex_parse("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
			  pk, sizeof(pk)),
		0);
	assert_int_equal(
		hex_parse("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
			  "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
			  sig, sizeof(sig)),
		0);
	assert_true(sign_check("\x72", 1, pk, sig));
	assert_false(sign_check("\x73", 1, pk, sig));

	sign_keypair(pk, sk);
	sign_make("hello", 5, sk, sig);
	assert_true(sign_check("hello", 5, pk, sig));
	assert_false(sign_check("hello", 4, pk, sig));
	sig[40] ^= 1;
	assert_false(sign_check("hello", 5, pk, sig));
}

static void test_exchange(void **state)
{
	uint8_t client_pk[32], client_sk[32], server_pk[32], server_sk[32],
		a[32] = { 0 }, b[32] = { 0 }, zero[32] = { 0 };

	exchange_keypair(client_pk, client_sk);
	exchange_keypair(server_pk, server_sk);
	assert_int_equal(exchange_shared(client_sk, client_pk, server_pk, true, a), 0);
	assert_int_equal(exchange_shared(server_sk, client_pk, server_pk, false, b), 0);
	assert_memory_equal(a, b, 32);
	assert_memory_not_equal(a, zero, 32);
	assert_int_equal(exchange_shared(client_sk, client_pk, zero, true, a), -1);
	assert_memory_equal(a, b, 32);
}

static void test_password(void **state)
{
	char hash[PASSWORD_HASH_SIZE], cut[20];
	struct err err;

	assert_int_equal(password_hash("correct horse", hash, &err), 0);
	assert_true(str_starts(hash, "$argon2id$"));
	assert_true(password_check("correct horse", hash));
	assert_false(password_check("correct horses", hash));
	assert_false(password_check("", hash));
	assert_false(password_check("correct horse", ""));
	assert_false(password_check("correct horse", "$argon2id$nonsense"));
	memcpy(cut, hash, sizeof(cut));
	cut[sizeof(cut) - 1] = 0;
	assert_false(password_check("correct horse", cut));
}

static void test_seal(void **state)
{
	uint8_t key[32] = { 7 }, box[5 + SEAL_OVERHEAD], again[5 + SEAL_OVERHEAD], text[5];

	seal_make("hello", 5, key, box);
	seal_make("hello", 5, key, again);
	assert_memory_not_equal(box, again, sizeof(box));
	assert_int_equal(seal_open(box, sizeof(box), key, text), 0);
	assert_memory_equal(text, "hello", 5);
	for (size_t i = 0; i < sizeof(box); i++) {
		box[i] ^= 1;
		assert_int_equal(seal_open(box, sizeof(box), key, text), -1);
		box[i] ^= 1;
	}
	for (size_t len = 0; len < sizeof(box); len++)
		assert_int_equal(seal_open(box, len, key, text), -1);
	key[0] ^= 1;
	assert_int_equal(seal_open(box, sizeof(box), key, text), -1);
	key[0] ^= 1;
	seal_make("", 0, key, box);
	assert_int_equal(seal_open(box, SEAL_OVERHEAD, key, text), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256),	 cmocka_unit_test(test_mac),
		cmocka_unit_test(test_sign),	 cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_password), cmocka_unit_test(test_seal),
	};

	crypto_init();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("crypto", tests, NULL, NULL);
}
