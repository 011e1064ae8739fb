/* API keys: "tes_<26 characters of the key's id>_<43 characters of secret>".  The store keeps the secret's SHA-256: it has
 * 256 random bits, so there is nothing to guess and no slow hash is needed. */
#include "internal.h"

#define KEY_PREFIX "tes_"
#define KEY_ID_CHARS 26
#define KEY_SECRET_BYTES 32

void auth_key_make(struct control *c, struct arena *a, struct api_key *ret)
{
	uint8_t secret[KEY_SECRET_BYTES];
	char hash[SHA256_HEX_SIZE];
	const char *text;

	c->random.fill(c->random.arg, secret, sizeof(secret));
	ret->id = new_id(c, "ak", a);
	text = base64url_format(a, secret, sizeof(secret));
	ret->secret = arena_printf(a, KEY_PREFIX "%s_%s", ret->id + 3, text);
	sha256_hex(text, strlen(text), hash);
	ret->hash = arena_strdup(a, hash);
	ret->created_ms = control_now(c);
}

int auth_key_split(const char *token, struct arena *a, const char **ret_id, const char **ret_secret)
{
	const char *id = token + strlen(KEY_PREFIX);

	if (!str_starts(token, KEY_PREFIX) || strlen(id) < KEY_ID_CHARS + 2 || id[KEY_ID_CHARS] != '_')
		return -1;
	*ret_id = arena_printf(a, "ak_%.*s", KEY_ID_CHARS, id);
	*ret_secret = id + KEY_ID_CHARS + 1;
	return id_valid(*ret_id, "ak") && strlen(*ret_secret) <= 64 ? 0 : -1;
}

/* The member's present role limits the key's: whoever is demoted or leaves takes their keys along. */
static int role_now(struct db_conn *conn, const struct api_key *k, struct arena *a, enum role *ret, struct err *err)
{
	struct member m = { 0 };

	*ret = k->role;
	if (!k->user_id)
		return 0; /* made by the operator for the organisation itself */
	if (db_get(conn, &member_type, "memberships", "WHERE org_id = $1 AND user_id = $2",
		   DB_ARGS(DB_TEXT(k->org_id), DB_TEXT(k->user_id)), a, &m, err) < 0) {
		if (err->code != ERR_NOT_FOUND)
			return -1;
		return err_set(err, ERR_UNAUTHENTICATED, "the key's owner is no longer a member of the organisation");
	}
	*ret = MIN(k->role, m.role);
	return 0;
}

static int unknown(struct err *err)
{
	err_clear(err);
	return err_set(err, ERR_UNAUTHENTICATED, "this API key is not known: `tes login` gets a new one");
}

static int ended(const char *how, struct err *err)
{
	return err_set(err, ERR_UNAUTHENTICATED, "this API key %s: `tes login` gets a new one", how);
}

/* A key of that id, whose secret has that hash, from the store. */
static int key_read(struct db_conn *conn, const char *id, const char *hash, struct arena *a, struct known_key *ret,
		    struct err *err)
{
	struct api_key k;
	struct known_key known = { 0 };

	if (db_get(conn, &api_key_type, "api_keys", "WHERE id = $1", DB_ARGS(DB_TEXT(id)), a, &k, err) < 0)
		return err->code == ERR_NOT_FOUND ? unknown(err) : -1;
	if (!mem_equal_const_time(hash, k.hash, SHA256_HEX_SIZE - 1))
		return unknown(err);
	if (k.revoked_ms)
		return ended("was revoked", err);
	if (role_now(conn, &k, a, &known.role, err) < 0 ||
	    scopes_parse(k.scopes.items, k.scopes.len, &known.scopes, err) < 0)
		return -1;
	known.expires_ms = k.expires_ms;
	known.used_ms = k.used_ms;
	if (str_copy(known.id, ID_SIZE, k.id) || str_copy(known.org_id, ID_SIZE, k.org_id) ||
	    str_copy(known.user_id, ID_SIZE, k.user_id ? k.user_id : "") || str_copy(known.hash, SHA256_HEX_SIZE, k.hash))
		return err_set(err, ERR_INTERNAL, "%s is stored with an id of another form", id);
	*ret = known;
	return 0;
}

static int key_find(struct control *c, struct db_conn *conn, const char *header, struct arena *a, struct known_key *ret,
		    struct err *err)
{
	const char *id, *secret;
	char hash[SHA256_HEX_SIZE];
	int64_t monotonic_ms = time_monotonic_ms();
	uint64_t era;

	if (!str_starts(header, "Bearer ") || auth_key_split(header + 7, a, &id, &secret) < 0)
		return err_set(err, ERR_UNAUTHENTICATED,
			       "the Authorization header does not hold an API key: send \"Bearer tes_…\"; `tes login` gets one");
	sha256_hex(secret, strlen(secret), hash);
	if (!keys_find(c->keys, id, monotonic_ms, ret, &era)) {
		if (key_read(conn, id, hash, a, ret, err) < 0)
			return -1;
		keys_put(c->keys, ret, monotonic_ms, era);
	} else if (!mem_equal_const_time(hash, ret->hash, SHA256_HEX_SIZE - 1)) {
		return unknown(err);
	}
	if (ret->expires_ms && ret->expires_ms <= control_now(c))
		return ended("has expired", err);
	return 0;
}

static void caller_fill(const struct known_key *k, struct arena *a, struct caller *ret)
{
	ret->kind = CALLER_KEY;
	ret->org_id = arena_strdup(a, k->org_id);
	ret->user_id = *k->user_id ? arena_strdup(a, k->user_id) : NULL;
	ret->key_id = arena_strdup(a, k->id);
	ret->role = k->role;
	ret->scopes = k->scopes;
}

int auth_key_look(struct control *c, struct db_conn *conn, const char *header, struct arena *a, struct caller *ret,
		  struct err *err)
{
	struct known_key k;

	if (key_find(c, conn, header, a, &k, err) < 0)
		return -1;
	caller_fill(&k, a, ret);
	return 0;
}

struct used_arg {
	struct control *c;
	const char *id;
	int64_t now_ms;
};

/* When a key was last used, to the hour: enough to find those that nobody needs. */
static int used_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct used_arg *x = arg;

	keys_changed(x->c, conn);
	return db_exec(conn, "UPDATE api_keys SET used_ms = $2 WHERE id = $1 AND used_ms <= $3",
		       DB_ARGS(DB_TEXT(x->id), DB_INT(x->now_ms), DB_INT(x->now_ms - HOUR_MS)), NULL, err);
}

int auth_key(struct control *c, struct db_conn *conn, const char *header, struct arena *a, struct caller *ret,
	     struct err *err)
{
	struct known_key k;
	int64_t now = control_now(c);

	if (key_find(c, conn, header, a, &k, err) < 0 ||
	    (now - k.used_ms >= HOUR_MS && db_tx(conn, used_tx, &(struct used_arg){ c, k.id, now }, err) < 0))
		return -1;
	caller_fill(&k, a, ret);
	return 0;
}
