/* Leadership through the store: a row a duty, held for a while and renewed.  Whoever finds it expired, or its holder's
 * connection gone where the store can tell (db_claim), takes it and raises the epoch: one that was killed is replaced at
 * once, one that cannot be reached when its time is over.  What a duty writes is safe even if two believe to lead for a
 * moment (every step re-reads and claims in its own transaction); leadership keeps them from doing the work twice. */
#include "internal.h"

#define HOLD_MS (6 * SECOND_MS)
#define RENEW_MS (2 * SECOND_MS)

struct leader_arg {
	struct control *c;
	const char *role;
	int64_t now_ms;
	bool claimed; /* nobody else who lives has it */
	bool leads;
};

static int leader_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct leader_arg *x = arg;
	int64_t changed;

	if (db_exec(conn,
		    "INSERT INTO leaders (role, holder, epoch, until_ms) VALUES ($1, $2, 1, $3)"
		    " ON CONFLICT (role) DO UPDATE SET"
		    " epoch = leaders.epoch + CASE WHEN leaders.holder = excluded.holder THEN 0 ELSE 1 END,"
		    " holder = excluded.holder, until_ms = excluded.until_ms"
		    " WHERE leaders.holder = excluded.holder OR leaders.until_ms < $4 OR $5 = 1",
		    DB_ARGS(DB_TEXT(x->role), DB_TEXT(x->c->instance), DB_INT(x->now_ms + HOLD_MS), DB_INT(x->now_ms),
			    DB_INT(x->claimed)), &changed, err) < 0)
		return -1;
	x->leads = changed > 0;
	return 0;
}

/* The duty's own entry; only finding it needs the lock, its content is one thread's. */
static struct leadership *leadership_of(struct control *c, const char *role)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct leadership *found = NULL;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; !found && i < ARRAY_LEN(c->leads); i++) {
		if (!c->leads[i].role)
			c->leads[i].role = role;
		if (str_eq(c->leads[i].role, role))
			found = &c->leads[i];
	}
	pthread_mutex_unlock(&lock);
	assert(found);
	return found;
}

int leader_check(struct control *c, struct db_conn *conn, const char *role, int64_t now_ms, bool *ret_leads, struct err *err)
{
	struct leader_arg x = { .c = c, .role = role, .now_ms = now_ms };
	char name[64];
	struct leadership *known = leadership_of(c, role);

	if (known->until_ms && known->until_ms - (HOLD_MS - RENEW_MS) > now_ms && known->until_ms <= now_ms + HOLD_MS) {
		*ret_leads = true; /* renewed a moment ago */
		return 0;
	}
	snprintf(name, sizeof(name), "leader %s", role);
	if (db_claim(conn, name, &x.claimed, err) < 0 || db_tx(conn, leader_tx, &x, err) < 0)
		return -1;
	known->until_ms = x.leads ? now_ms + HOLD_MS : 0;
	*ret_leads = x.leads;
	return 0;
}

bool leader_was(struct control *c, const char *role)
{
	return leadership_of(c, role)->until_ms != 0;
}

static int release_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct control *c = arg;

	return db_exec(conn, "UPDATE leaders SET until_ms = 0 WHERE holder = $1", DB_ARGS(DB_TEXT(c->instance)), NULL, err);
}

static int take_over_tx(struct db_conn *conn, void *arg, struct err *err)
{
	return db_exec(conn, "UPDATE leaders SET until_ms = 0", DB_NO_ARGS, NULL, err);
}

/* Where there can be no other process (a lock on the store says so). */
int leader_take_over(struct db_conn *conn, struct err *err)
{
	return db_tx(conn, take_over_tx, NULL, err);
}

/* At an orderly stop: the next process need not wait. */
int leader_release(struct control *c, struct db_conn *conn, struct err *err)
{
	return db_tx(conn, release_tx, c, err);
}
