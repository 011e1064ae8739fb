/* codec: bytes <-> values.  No I/O, no clocks; every parser here is fuzzed and takes hostile input.
 */
#ifndef TES_CODEC_H
#define TES_CODEC_H

#include "../base/base.h"

/* ---- text encodings ------------------------------------------------------------------------------ */

void hex_format(const void *p, size_t len, char *ret);                     /* 2 * len + 1 bytes, lower case */
int hex_parse(const char *s, void *ret, size_t len) must_check;            /* exactly len bytes or -1; either case */
char *base64url_format(struct arena *a, const void *p, size_t len);        /* RFC 4648 §5, no padding */
int base64url_parse(const char *s, void *ret, size_t max, size_t *ret_len) must_check; /* strict: canonical, no padding */
char *url_escape(struct arena *a, const char *s);                          /* all but RFC 3986's unreserved characters */
int url_unescape(struct arena *a, struct slice s, char **ret) must_check;  /* refuses %00 and invalid UTF-8 */

/* ---- JSON (over jansson; the only place that includes it) ---------------------------------------- */

/* A parsed document, owned by its arena.  Any JSON value.  Depth at most 32, at most 262,144 values and what the arena
 * can hold (else ERR_TOO_LARGE; the size of the text is the caller's to limit); duplicate keys, NaN, whole numbers
 * beyond int64, "\u0000" and invalid UTF-8 are refused, so that texts never hold a NUL.  Error text names line and
 * column. */
enum json_kind { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_TEXT, JSON_ARRAY, JSON_OBJECT };
struct json {
	enum json_kind kind;
	int line; /* set when it was read from YAML, else 0 */
	union {
		bool boolean;
		int64_t integer;
		double real;
		struct { const char *text; size_t text_len; };
		struct { struct json *items; size_t count; };
		struct { struct json_member *members; size_t member_count; };
	};
};
struct json_member {
	const char *name;
	struct json value;
};
int json_parse(struct slice in, struct arena *arena, struct json **ret, struct err *err) must_check;
const struct json *json_find(const struct json *object, const char *name); /* NULL if absent or not an object */
void json_write(const struct json *value, struct strbuf *out);             /* compact */
/* Quoted and escaped; NULL -> null.  Always valid JSON: bytes that are not UTF-8 become U+FFFD. */
void json_write_text(const char *text, struct strbuf *out);

/* ---- YAML subset for job files (over libyaml) ----------------------------------------------------- */

/* One document into the same tree and limits as JSON, each node with its line (a member's value with that of its key);
 * anchors, aliases, tags and doubled keys are refused.  Plain scalars as in YAML 1.2's core schema, but only `true` and
 * `false` are truth values; quoted scalars are texts. */
int yaml_parse(struct slice in, struct arena *arena, struct json **ret, struct err *err) must_check;

/* ---- cryptography (over libsodium; the only place that includes it) ------------------------------- */

void crypto_init(void); /* once per process, before anything below */

#define SHA256_SIZE 32
#define SHA256_HEX_SIZE 65
struct sha256 { uint64_t opaque[16]; };
void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *p, size_t len);
void sha256_final(struct sha256 *s, uint8_t ret[static SHA256_SIZE]);
void sha256_hex(const void *p, size_t len, char ret[static SHA256_HEX_SIZE]);

#define SIGN_PUBLIC_SIZE 32
#define SIGN_SECRET_SIZE 64
#define SIGNATURE_SIZE 64
void sign_keypair(uint8_t pk[static SIGN_PUBLIC_SIZE], uint8_t sk[static SIGN_SECRET_SIZE]);          /* ed25519 */
void sign_make(const void *p, size_t len, const uint8_t sk[static SIGN_SECRET_SIZE], uint8_t ret[static SIGNATURE_SIZE]);
bool sign_check(const void *p, size_t len, const uint8_t pk[static SIGN_PUBLIC_SIZE], const uint8_t sig[static SIGNATURE_SIZE]);

#define EXCHANGE_SIZE 32
void exchange_keypair(uint8_t pk[static EXCHANGE_SIZE], uint8_t sk[static EXCHANGE_SIZE]);            /* X25519, ephemeral */
/* BLAKE2b-256 over (X25519 shared point, client pk, server pk); both ends get the same key. */
int exchange_shared(const uint8_t my_sk[static EXCHANGE_SIZE], const uint8_t client_pk[static EXCHANGE_SIZE],
		    const uint8_t server_pk[static EXCHANGE_SIZE], bool is_client, uint8_t ret[static 32]) must_check;

#define MAC_SIZE 32
void mac_make(const void *p, size_t len, const uint8_t key[static 32], uint8_t ret[static MAC_SIZE]); /* HMAC-SHA-256 */
bool mem_equal_const_time(const void *a, const void *b, size_t len);

#define PASSWORD_HASH_SIZE 128
int password_hash(const char *password, char ret[static PASSWORD_HASH_SIZE], struct err *err) must_check; /* argon2id, interactive limits */
bool password_check(const char *password, const char *hash);

/* Secret box: nonce || XChaCha20-Poly1305; ret_len = len + SEAL_OVERHEAD. */
#define SEAL_OVERHEAD 40
void seal_make(const void *p, size_t len, const uint8_t key[static 32], uint8_t *ret);
int seal_open(const void *p, size_t len, const uint8_t key[static 32], uint8_t *ret) must_check;

#endif
