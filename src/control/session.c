/* Worker sessions.  A worker proves possession of its ed25519 key when it opens one (api/link.c); both ends then hold a
 * MAC key that never crossed the wire.  Every request carries session, time, nonce and MAC over method, target and body:
 * what somebody copies from one worker is worth nothing on another, and nothing at all a minute later.
 * Sessions live in this process; after its restart workers open new ones. */
#include "internal.h"

#define PER_WORKER 4 /* sessions of one worker: the process, and its owner's commands */
struct session_entry {
	char id[ID_SIZE], worker_id[ID_SIZE];
	struct session_entry *next; /* of the same worker, in the order of opening, newest first */
	uint8_t key[32];
	uint8_t exchange_key[EXCHANGE_SIZE]; /* the worker's: the same again is a replay */
	int64_t expires_ms;
	struct nonce_window nonces;
};

struct sessions {
	pthread_mutex_t lock;
	struct map *by_id;
	struct map *by_worker; /* worker id -> its newest */
};

struct sessions *sessions_new(void)
{
	struct sessions *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	s->by_id = map_new();
	s->by_worker = map_new();
	return s;
}

void sessions_free(struct sessions *s)
{
	if (!s)
		return;
	map_free(s->by_worker, NULL);
	map_free(s->by_id, free);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Lock held. */
static void drop(struct sessions *s, struct session_entry *e)
{
	struct session_entry *newest = map_find(s->by_worker, e->worker_id), **at = &newest;

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	if (newest)
		map_put(s->by_worker, e->worker_id, newest);
	else
		map_remove(s->by_worker, e->worker_id);
	map_remove(s->by_id, e->id);
	free(e);
}

/* Lock held.  Makes room by ending the worker's session that expires first; false if one has the same exchange key. */
static bool make_room(struct sessions *s, const struct session_entry *fresh)
{
	struct session_entry *first = NULL;
	size_t count = 0;

	for (struct session_entry *e = map_find(s->by_worker, fresh->worker_id); e; e = e->next, count++) {
		if (memcmp(e->exchange_key, fresh->exchange_key, EXCHANGE_SIZE) == 0)
			return false;
		if (!first || e->expires_ms <= first->expires_ms)
			first = e;
	}
	if (count >= PER_WORKER)
		drop(s, first);
	return true;
}

bool session_put(struct sessions *s, const char *id, const char *worker_id, const uint8_t exchange_key[static EXCHANGE_SIZE],
		 const uint8_t key[static 32], int64_t expires_ms)
{
	struct session_entry *e = xcalloc(1, sizeof(*e));
	bool fresh;

	snprintf(e->id, sizeof(e->id), "%s", id);
	snprintf(e->worker_id, sizeof(e->worker_id), "%s", worker_id);
	memcpy(e->key, key, sizeof(e->key));
	memcpy(e->exchange_key, exchange_key, EXCHANGE_SIZE);
	e->expires_ms = expires_ms;
	pthread_mutex_lock(&s->lock);
	fresh = make_room(s, e);
	if (fresh) {
		e->next = map_find(s->by_worker, e->worker_id);
		map_put(s->by_worker, e->worker_id, e);
		map_put(s->by_id, e->id, e);
	}
	pthread_mutex_unlock(&s->lock);
	if (!fresh)
		free(e);
	return fresh;
}

void session_drop_worker(struct sessions *s, const char *worker_id)
{
	struct session_entry *e;

	pthread_mutex_lock(&s->lock);
	while ((e = map_find(s->by_worker, worker_id)))
		drop(s, e);
	pthread_mutex_unlock(&s->lock);
}

void sessions_expire(struct sessions *s, int64_t now_ms)
{
	size_t it = 0;
	const char *id;
	void *value;

	pthread_mutex_lock(&s->lock);
	while (map_next(s->by_id, &it, &id, &value)) {
		struct session_entry *e = value;

		if (e->expires_ms <= now_ms)
			drop(s, e);
	}
	pthread_mutex_unlock(&s->lock);
}

bool nonce_take(struct nonce_window *w, int64_t nonce)
{
	if (nonce <= 0 || nonce <= w->newest - NONCE_WINDOW)
		return false;
	if (nonce > w->newest) {
		/* forget the bits that the window moves over */
		int64_t steps = MIN(nonce - w->newest, (int64_t)NONCE_WINDOW);

		for (int64_t i = 0; i < steps; i++)
			w->seen[(nonce - i) % NONCE_WINDOW / 64] &= ~(UINT64_C(1) << ((nonce - i) % 64));
		w->newest = nonce;
	}
	uint64_t bit = UINT64_C(1) << (nonce % 64), *word = &w->seen[nonce % NONCE_WINDOW / 64];
	bool fresh = !(*word & bit);

	*word |= bit;
	return fresh;
}

size_t sessions_count(struct sessions *s, const char *worker_id)
{
	size_t count = 0;

	pthread_mutex_lock(&s->lock);
	for (const struct session_entry *e = map_find(s->by_worker, worker_id); e; e = e->next)
		count++;
	pthread_mutex_unlock(&s->lock);
	return count;
}

bool session_is_live(struct control *c, const char *id)
{
	const struct session_entry *e;
	bool live;

	pthread_mutex_lock(&c->sessions->lock);
	e = id ? map_find(c->sessions->by_id, id) : NULL;
	live = e && e->expires_ms > control_now(c);
	pthread_mutex_unlock(&c->sessions->lock);
	return live;
}

static const char *method_name(enum http_method m)
{
	return http_method_names[m];
}

int session_check(struct control *c, const struct http_request *req, struct caller *ret, struct err *err)
{
	const char *id = http_header(req, "TES-Session"), *time_text = http_header(req, "TES-Time");
	const char *nonce_text = http_header(req, "TES-Nonce"), *mac_text = http_header(req, "TES-MAC");
	int64_t time_ms, nonce, now = control_now(c);
	uint8_t mac[MAC_SIZE], expected[MAC_SIZE];
	struct session_entry *e;
	bool known, fresh = false;

	if (!id || !time_text || !nonce_text || !mac_text)
		return err_set(err, ERR_UNAUTHENTICATED,
			       "this is a worker's operation: send TES-Session, TES-Time, TES-Nonce and TES-MAC");
	if (int_parse(time_text, 0, INT64_MAX, &time_ms, err) < 0 ||
	    int_parse(nonce_text, 1, INT64_MAX - NONCE_WINDOW, &nonce, err) < 0 || hex_parse(mac_text, mac, sizeof(mac)) < 0) {
		err_clear(err);
		return err_set(err, ERR_UNAUTHENTICATED, "TES-Time, TES-Nonce or TES-MAC is malformed");
	}
	pthread_mutex_lock(&c->sessions->lock);
	e = map_find(c->sessions->by_id, id);
	known = e && e->expires_ms > now;
	if (known) {
		request_mac(e->key, id, method_name(req->method), req->target, time_ms, nonce, req->body_sha256, expected);
		known = mem_equal_const_time(mac, expected, sizeof(mac));
	}
	if (known && llabs(time_ms - now) <= API_CLOCK_SKEW_MS)
		fresh = nonce_take(&e->nonces, nonce);
	if (fresh) {
		ret->kind = CALLER_WORKER;
		ret->worker_id = arena_strdup(req->arena, e->worker_id);
		ret->session_id = arena_strdup(req->arena, id);
	}
	pthread_mutex_unlock(&c->sessions->lock);
	if (!known)
		return err_set(err, ERR_UNAUTHENTICATED, "no such session, or the MAC does not fit: open a new session");
	if (llabs(time_ms - now) > API_CLOCK_SKEW_MS)
		return err_set(err, ERR_UNAUTHENTICATED,
			       "TES-Time is off by %" PRId64 " ms, at most %" PRId64 " are allowed: set the machine's clock",
			       time_ms - now, API_CLOCK_SKEW_MS);
	if (!fresh)
		return err_set(err, ERR_CONFLICT, "TES-Nonce %" PRId64 " was used before in this session", nonce);
	return 0;
}
