/* Entries stand in a dense array in order of insertion; a table of slots, open addressing with
 * linear probing, leads to them.  Iteration is therefore in order of insertion whatever the
 * hash key of the process is: a simulation that walks a map gives the same history each time.
 */
#include "base.h"

struct entry {
	uint64_t hash;
	char *key; /* NULL: removed */
	void *value;
};

enum { SLOT_EMPTY, SLOT_REMOVED, SLOT_FIRST }; /* SLOT_FIRST + i leads to entries[i] */

struct map {
	struct entry *entries;
	uint32_t *slots;
	size_t len, cap; /* of entries, with removed ones */
	size_t count;	 /* without them */
	size_t mask; /* number of slots - 1; at least twice cap, so that a probe always meets an
			empty one */
};

#define CAP_MIN 8

static void slots_fill(struct map *m)
{
	memset(m->slots, 0, (m->mask + 1) * sizeof(*m->slots));
	for (size_t i = 0; i < m->len; i++) {
		size_t at = m->entries[i].hash & m->mask;

		while (m->slots[at] != SLOT_EMPTY)
			at = (at + 1) & m->mask;
		m->slots[at] = (uint32_t)(i + SLOT_FIRST);
	}
}

struct map *map_new(void)
{
	struct map *m = xcalloc(1, sizeof(*m));

	m->cap = CAP_MIN;
	m->mask = 2 * CAP_MIN - 1;
	m->entries = xreallocarray(NULL, m->cap, sizeof(*m->entries));
	m->slots = xcalloc(m->mask + 1, sizeof(*m->slots));
	return m;
}

void map_free(struct map *m, void (*value_free)(void *))
{
	if (!m)
		return;
	for (size_t i = 0; i < m->len; i++) {
		if (m->entries[i].key && value_free)
			value_free(m->entries[i].value);
		free(m->entries[i].key);
	}
	free(m->entries);
	free(m->slots);
	free(m);
}

/* Drops removed entries and leaves room for as many again as there are. */
static void make_room(struct map *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->len; i++) {
		if (m->entries[i].key)
			m->entries[kept++] = m->entries[i];
	}
	m->len = kept;
	if (kept > m->cap / 2) {
		m->cap *= 2;
		assert(m->cap < UINT32_MAX / 4);
		m->mask = 2 * m->cap - 1;
		m->entries = xreallocarray(m->entries, m->cap, sizeof(*m->entries));
		m->slots = xreallocarray(m->slots, m->mask + 1, sizeof(*m->slots));
	}
	slots_fill(m);
}

/* The slot that leads to the key, or SIZE_MAX. */
static size_t slot_find(const struct map *m, const char *key, uint64_t hash)
{
	for (size_t at = hash & m->mask; m->slots[at] != SLOT_EMPTY; at = (at + 1) & m->mask) {
		const struct entry *e;

		if (m->slots[at] == SLOT_REMOVED)
			continue;
		e = &m->entries[m->slots[at] - SLOT_FIRST];
		if (e->hash == hash && strcmp(e->key, key) == 0)
			return at;
	}
	return SIZE_MAX;
}

void *map_find(const struct map *m, const char *key)
{
	size_t at = slot_find(m, key, hash_bytes(key, strlen(key)));

	return at == SIZE_MAX ? NULL : m->entries[m->slots[at] - SLOT_FIRST].value;
}

void map_put(struct map *m, const char *key, void *value)
{
	uint64_t hash = hash_bytes(key, strlen(key));
	size_t at = slot_find(m, key, hash);

	if (at != SIZE_MAX) {
		m->entries[m->slots[at] - SLOT_FIRST].value = value;
		return;
	}
	if (m->len == m->cap)
		make_room(m);
	/* Slots of removed entries are not used again before make_room: there are never more of
	 * them than entries. */
	at = hash & m->mask;
	while (m->slots[at] != SLOT_EMPTY)
		at = (at + 1) & m->mask;
	m->slots[at] = (uint32_t)(m->len + SLOT_FIRST);
	m->entries[m->len++] =
		(struct entry){ .hash = hash, .key = xstrdup(key), .value = value };
	m->count++;
}

void *map_remove(struct map *m, const char *key)
{
	size_t at = slot_find(m, key, hash_bytes(key, strlen(key)));
	struct entry *e;

	if (at == SIZE_MAX)
		return NULL;
	e = &m->entries[m->slots[at] - SLOT_FIRST];
	m->slots[at] = SLOT_REMOVED;
	free(e->key);
	e->key = NULL;
	m->count--;
	return e->value;
}

size_t map_count(const struct map *m)
{
	return m->count;
}

bool map_next(const struct map *m, size_t *it, const char **ret_key, void **ret_value)
{
	while (*it < m->len && !m->entries[*it].key)
		++*it;
	if (*it >= m->len)
		return false;
	if (ret_key)
		*ret_key = m->entries[*it].key;
	if (ret_value)
		*ret_value = m->entries[*it].value;
	++*it;
	return true;
}
