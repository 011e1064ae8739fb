/* Logins, bounded.  Looking at a password costs a tenth of a second and 64 MiB (argon2id), and who asks is nobody yet: so
 * there are few at a time in the whole process, one at a time of one address, and a budget an address, whatever e-mail
 * each of them names; guessing at one e-mail is bounded more tightly.  An address exhausts its own budget and nobody
 * else's, and it comes back within seconds: nobody is locked out by a stranger. */
#include "internal.h"

#include <arpa/inet.h>

#define GUESSES 10			    /* failures of one address and e-mail in the window */
#define GUESS_WINDOW_MS (10 * MINUTE_MS)
#define ENTRIES_MAX 100000

struct visitor {
	int64_t budget_ms; /* when the whole budget is there again; each try puts it off by LOGIN_EVERY_MS */
	bool busy;
};

struct guesses {
	int64_t since_ms;
	int count;
};

struct logins {
	pthread_mutex_t lock;
	struct map *visitors; /* by address */
	struct map *guesses;  /* by "<address> <email>" */
	int running;
};

struct logins *logins_new(void)
{
	struct logins *l = xcalloc(1, sizeof(*l));

	pthread_mutex_init(&l->lock, NULL);
	l->visitors = map_new();
	l->guesses = map_new();
	return l;
}

void logins_free(struct logins *l)
{
	if (!l)
		return;
	map_free(l->visitors, free);
	map_free(l->guesses, free);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

#define ADDRESS_SIZE 64

/* Of IPv6 the network: whoever has one address of it has all 2^64. */
static void address_of(const char *peer, char ret[static ADDRESS_SIZE])
{
	struct in6_addr in6;
	char text[INET6_ADDRSTRLEN];

	snprintf(ret, ADDRESS_SIZE, "%s", peer ? peer : "");
	if (inet_pton(AF_INET6, ret, &in6) != 1 || IN6_IS_ADDR_V4MAPPED(&in6))
		return;
	memset(&in6.s6_addr[8], 0, 8);
	snprintf(ret, ADDRESS_SIZE, "%s/64", inet_ntop(AF_INET6, &in6, text, sizeof(text)));
}

/* Lock held.  Forgets what no longer limits anybody; if that is not enough, somebody makes them up: forget all rather than
 * grow.  What runs at a time stays bounded. */
static void make_room(struct logins *l, int64_t now_ms)
{
	size_t it = 0;
	const char *key;
	void *value;

	if (map_count(l->visitors) >= ENTRIES_MAX) {
		while (map_next(l->visitors, &it, &key, &value))
			if (((struct visitor *)value)->budget_ms <= now_ms && !((struct visitor *)value)->busy)
				free(map_remove(l->visitors, key));
		if (map_count(l->visitors) >= ENTRIES_MAX) {
			map_free(l->visitors, free);
			l->visitors = map_new();
		}
	}
	it = 0;
	if (map_count(l->guesses) >= ENTRIES_MAX) {
		while (map_next(l->guesses, &it, &key, &value))
			if (now_ms - ((struct guesses *)value)->since_ms > GUESS_WINDOW_MS)
				free(map_remove(l->guesses, key));
		if (map_count(l->guesses) >= ENTRIES_MAX) {
			map_free(l->guesses, free);
			l->guesses = map_new();
		}
	}
}

/* Lock held.  What is refused leaves nothing behind: an entry costs whoever makes it a look at a password. */
static int enter(struct logins *l, const char *address, const char *pair, int64_t now_ms, int64_t *ret_retry_ms, struct err *err)
{
	struct visitor *v = map_find(l->visitors, address);
	struct guesses *g = map_find(l->guesses, pair);
	int64_t full_ms = LOGIN_BURST * LOGIN_EVERY_MS, wait_ms;

	*ret_retry_ms = SECOND_MS;
	/* What lies ahead of us does because the clock was set back. */
	if (v)
		v->budget_ms = MIN(v->budget_ms, now_ms + full_ms);
	if (g && (now_ms - g->since_ms > GUESS_WINDOW_MS || now_ms < g->since_ms))
		*g = (struct guesses){ .since_ms = now_ms };
	if (g && g->count >= GUESSES) {
		*ret_retry_ms = g->since_ms + GUESS_WINDOW_MS - now_ms;
		return err_set(err, ERR_RATE, "too many tries for this e-mail from this address: wait ten minutes");
	}
	wait_ms = v ? v->budget_ms - now_ms - (full_ms - LOGIN_EVERY_MS) : 0;
	if (wait_ms > 0) {
		*ret_retry_ms = wait_ms;
		return err_set(err, ERR_RATE, "too many logins from this address: the next in %" PRId64 " seconds",
			       (wait_ms + SECOND_MS - 1) / SECOND_MS);
	}
	if (v && v->busy)
		return err_set(err, ERR_RATE, "another login from this address is being looked at: try again");
	if (l->running >= LOGINS_AT_ONCE)
		return err_set(err, ERR_RATE, "as many logins as may are being looked at: try again");
	if (!v)
		map_put(l->visitors, address, v = xcalloc(1, sizeof(*v)));
	if (!g) {
		map_put(l->guesses, pair, g = xcalloc(1, sizeof(*g)));
		g->since_ms = now_ms;
	}
	v->budget_ms = MAX(v->budget_ms, now_ms) + LOGIN_EVERY_MS;
	v->busy = true;
	g->count++;
	l->running++;
	return 0;
}

int login_enter(struct logins *l, const char *peer, const char *email, int64_t now_ms, int64_t *ret_retry_ms, struct err *err)
{
	char address[ADDRESS_SIZE];
	cleanup_strbuf struct strbuf pair = STRBUF_INIT;
	int rc;

	address_of(peer, address);
	strbuf_addf(&pair, "%s %s", address, email);
	pthread_mutex_lock(&l->lock);
	make_room(l, now_ms);
	rc = enter(l, address, pair.buf, now_ms, ret_retry_ms, err);
	pthread_mutex_unlock(&l->lock);
	return rc;
}

void login_leave(struct logins *l, const char *peer, const char *email, bool good)
{
	char address[ADDRESS_SIZE];
	cleanup_strbuf struct strbuf pair = STRBUF_INIT;
	struct visitor *v;

	address_of(peer, address);
	strbuf_addf(&pair, "%s %s", address, email);
	pthread_mutex_lock(&l->lock);
	l->running--;
	v = map_find(l->visitors, address); /* NULL: forgotten meanwhile */
	if (v)
		v->busy = false;
	if (good)
		free(map_remove(l->guesses, pair.buf));
	pthread_mutex_unlock(&l->lock);
}

size_t logins_count(struct logins *l)
{
	size_t count;

	pthread_mutex_lock(&l->lock);
	count = map_count(l->visitors) + map_count(l->guesses);
	pthread_mutex_unlock(&l->lock);
	return count;
}
