/* The few primitives that TES AI uses, all libsodium's. */
#include "codec.h"

#include <sodium.h>

void crypto_init(void)
{
	if (sodium_init() < 0) {
		fprintf(stderr, "libsodium cannot start: no source of randomness\n");
		abort();
	}
}

/* ---- hashes and MACs --------------------------------------------------------------------- */

static_assert(sizeof(struct sha256) >= sizeof(crypto_hash_sha256_state),
	      "struct sha256 is too small");
static_assert(SHA256_SIZE == crypto_hash_sha256_BYTES, "SHA-256 has 32 bytes");

static crypto_hash_sha256_state *sha256_state(struct sha256 *s)
{
	return (crypto_hash_sha256_state *)(void *)s->opaque;
}

void sha256_init(struct sha256 *s)
{
	crypto_hash_sha256_init(sha256_state(s));
}

void sha256_update(struct sha256 *s, const void *p, size_t len)
{
	crypto_hash_sha256_update(sha256_state(s), p, len);
}

void sha256_final(struct sha256 *s, uint8_t ret[static SHA256_SIZE])
{
	crypto_hash_sha256_final(sha256_state(s), ret);
}

void sha256_hex(const void *p, size_t len, char ret[static SHA256_HEX_SIZE])
{
	uint8_t digest[SHA256_SIZE];

	crypto_hash_sha256(digest, p, len);
	hex_format(digest, sizeof(digest), ret);
}

static_assert(MAC_SIZE == crypto_auth_hmacsha256_BYTES && crypto_auth_hmacsha256_KEYBYTES == 32,
	      "HMAC-SHA-256");

void mac_make(const void *p, size_t len, const uint8_t key[static 32],
	      uint8_t ret[static MAC_SIZE])
{
	crypto_auth_hmacsha256(ret, p, len, key);
}

bool mem_equal_const_time(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

/* ---- signatures and key exchange --------------------------------------------------------- */

static_assert(SIGN_PUBLIC_SIZE == crypto_sign_PUBLICKEYBYTES &&
		      SIGN_SECRET_SIZE == crypto_sign_SECRETKEYBYTES &&
		      SIGNATURE_SIZE == crypto_sign_BYTES,
	      "ed25519");

void sign_keypair(uint8_t pk[static SIGN_PUBLIC_SIZE], uint8_t sk[static SIGN_SECRET_SIZE])
{
	crypto_sign_keypair(pk, sk);
}

void sign_make(const void *p, size_t len, const uint8_t sk[static SIGN_SECRET_SIZE],
	       uint8_t ret[static SIGNATURE_SIZE])
{
	crypto_sign_detached(ret, NULL, p, len, sk);
}

bool sign_check(const void *p, size_t len, const uint8_t pk[static SIGN_PUBLIC_SIZE],
		const uint8_t sig[static SIGNATURE_SIZE])
{
	return crypto_sign_verify_detached(sig, p, len, pk) == 0;
}

static_assert(EXCHANGE_SIZE == crypto_scalarmult_BYTES &&
		      EXCHANGE_SIZE == crypto_scalarmult_SCALARBYTES,
	      "X25519");

void exchange_keypair(uint8_t pk[static EXCHANGE_SIZE], uint8_t sk[static EXCHANGE_SIZE])
{
	randombytes_buf(sk, EXCHANGE_SIZE);
	crypto_scalarmult_base(pk, sk);
}

int exchange_shared(const uint8_t my_sk[static EXCHANGE_SIZE],
		    const uint8_t client_pk[static EXCHANGE_SIZE],
		    const uint8_t server_pk[static EXCHANGE_SIZE], bool is_client,
		    uint8_t ret[static 32])
{
	uint8_t point[EXCHANGE_SIZE];
	crypto_generichash_state hash;

	/* Fails on the points of small order, with which anybody would know the key. */
	if (crypto_scalarmult(point, my_sk, is_client ? server_pk : client_pk) < 0)
		return -1;
	crypto_generichash_init(&hash, NULL, 0, 32);
	crypto_generichash_update(&hash, point, sizeof(point));
	crypto_generichash_update(&hash, client_pk, EXCHANGE_SIZE);
	crypto_generichash_update(&hash, server_pk, EXCHANGE_SIZE);
	crypto_generichash_final(&hash, ret, 32);
	sodium_memzero(point, sizeof(point));
	sodium_memzero(&hash, sizeof(hash));
	return 0;
}

/* ---- passwords and sealed boxes ---------------------------------------------------------- */

static_assert(PASSWORD_HASH_SIZE >= crypto_pwhash_STRBYTES, "the hash must fit");

int password_hash(const char *password, char ret[static PASSWORD_HASH_SIZE], struct err *err)
{
	char hash[crypto_pwhash_STRBYTES];

	if (crypto_pwhash_str(hash, password, strlen(password),
			      crypto_pwhash_OPSLIMIT_INTERACTIVE,
			      crypto_pwhash_MEMLIMIT_INTERACTIVE) < 0)
		return err_set(err, ERR_UNAVAILABLE,
			       "no %d MiB of memory for hashing a password: try again",
			       (int)(crypto_pwhash_MEMLIMIT_INTERACTIVE >> 20));
	memcpy(ret, hash, sizeof(hash));
	return 0;
}

bool password_check(const char *password, const char *hash)
{
	char whole[crypto_pwhash_STRBYTES] = "";

	if (str_copy(whole, sizeof(whole), hash) < 0)
		return false;
	return crypto_pwhash_str_verify(whole, password, strlen(password)) == 0;
}

#define NONCE_SIZE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
static_assert(SEAL_OVERHEAD == NONCE_SIZE + crypto_aead_xchacha20poly1305_ietf_ABYTES,
	      "nonce and tag");
static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == 32, "key");

void seal_make(const void *p, size_t len, const uint8_t key[static 32], uint8_t *ret)
{
	randombytes_buf(ret, NONCE_SIZE);
	crypto_aead_xchacha20poly1305_ietf_encrypt(ret + NONCE_SIZE, NULL, p, len, NULL, 0,
						   NULL, ret, key);
}

int seal_open(const void *p, size_t len, const uint8_t key[static 32], uint8_t *ret)
{
	const uint8_t *box = p;

	if (len < SEAL_OVERHEAD)
		return -1;
	return crypto_aead_xchacha20poly1305_ietf_decrypt(ret, NULL, NULL, box + NONCE_SIZE,
							  len - NONCE_SIZE, NULL, 0, box, key);
}
