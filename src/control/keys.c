/* Keys that were good a moment ago: who asks often does not cost the store a look at the key for each request.  An entry
 * is at most KEY_FRESH_MS old, which bounds how long this process may honour what another one has revoked; what this
 * process changes itself empties the whole (keys_changed), so that it counts from the next request.  Called by all
 * threads; holds no more than KEY_SLOTS entries. */
#include "internal.h"

#define KEY_SLOTS 1024 /* a key has one slot: two that share it displace each other */

struct slot {
	struct known_key key;
	int64_t read_ms; /* monotonic, before the store was asked */
	uint64_t era;    /* of `keys` at that moment; 0: never used */
};

struct keys {
	pthread_mutex_t lock;
	uint64_t era; /* counts up when all is to be forgotten: entries of an earlier one do not count */
	struct slot slots[KEY_SLOTS];
};

struct keys *keys_new(void)
{
	struct keys *k = xcalloc(1, sizeof(*k));

	pthread_mutex_init(&k->lock, NULL);
	k->era = 1;
	return k;
}

void keys_free(struct keys *k)
{
	if (!k)
		return;
	pthread_mutex_destroy(&k->lock);
	free(k);
}

/* An id's last characters are random. */
static struct slot *slot_of(struct keys *k, const char *id)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	while (*id)
		h = (h ^ (uint8_t)*id++) * 16777619u;
	return &k->slots[h % KEY_SLOTS];
}

bool keys_find(struct keys *k, const char *id, int64_t monotonic_ms, struct known_key *ret, uint64_t *ret_era)
{
	const struct slot *s;
	bool found;

	pthread_mutex_lock(&k->lock);
	s = slot_of(k, id);
	found = s->era == k->era && monotonic_ms - s->read_ms < KEY_FRESH_MS && str_eq(s->key.id, id);
	if (found)
		*ret = s->key;
	*ret_era = k->era;
	pthread_mutex_unlock(&k->lock);
	return found;
}

void keys_put(struct keys *k, const struct known_key *key, int64_t monotonic_ms, uint64_t era)
{
	pthread_mutex_lock(&k->lock);
	if (era == k->era)
		*slot_of(k, key->id) = (struct slot){ *key, monotonic_ms, era };
	pthread_mutex_unlock(&k->lock);
}

void keys_empty(struct keys *k)
{
	pthread_mutex_lock(&k->lock);
	k->era++;
	pthread_mutex_unlock(&k->lock);
}

static void empty_run(void *keys)
{
	keys_empty(keys);
}

static void not_yet(void *keys)
{
}

void keys_changed(struct control *c, struct db_conn *conn)
{
	/* What frees the argument runs after a rollback and an unknown outcome as well. */
	db_after_commit(conn, not_yet, empty_run, c->keys);
}
