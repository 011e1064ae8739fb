/* The worker link, outwards: what the server wants of a worker, as a stream.  What it answers is observe.c's.
 * Level-triggered: every message may be lost, doubled, late or out of order. */
#include "../internal.h"

struct desired_state {
	char worker_id[ID_SIZE];
	int64_t rev;
	bool synced;
};

static int desired_sync(struct live *st, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct desired_state *s = st->state;
	struct desired_set set = { 0 };
	struct lease *leases;
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	char id[24];
	size_t len;

	if (db_query_int(conn, "SELECT desired_rev FROM workers WHERE id = $1", DB_ARGS(DB_TEXT(s->worker_id)), 0, &set.rev,
			 err) < 0 ||
	    db_select(conn, &lease_type, "leases", "WHERE worker_id = $1 AND state <> 'ended' ORDER BY id",
		      DB_ARGS(DB_TEXT(s->worker_id)), a, (void **)&leases, &len, err) < 0)
		return -1;
	set.leases.items = arena_array(a, struct desired_lease, len + 1);
	set.leases.len = len;
	for (size_t i = 0; i < len; i++)
		if (lease_desired_fill(st->c, conn, &leases[i], a, &set.leases.items[i], err) < 0)
			return -1;
	schema_write_secret(&desired_set_type, &set, &text);
	snprintf(id, sizeof(id), "%" PRId64, set.rev);
	s->rev = set.rev;
	s->synced = true;
	return live_push(st, "sync", id, (struct slice){ text.buf, text.len }) ? 0 : 1;
}

#define CHANGES_MAX 100 /* of each look; what is behind them comes with the next */

/* Those of the living, which a new lease enters, or of the ended: each has its index, in this order. */
static int changes_read(const struct desired_state *s, struct db_conn *conn, const char *tail, struct arena *a, struct lease **ret,
			size_t *ret_len, struct err *err)
{
	return db_select(conn, &lease_type, "leases", tail, DB_ARGS(DB_TEXT(s->worker_id), DB_INT(s->rev), DB_INT(CHANGES_MAX)), a,
			 (void **)ret, ret_len, err);
}

/* 1: nobody listens any more. */
static int change_push(struct live *st, struct db_conn *conn, const struct lease *lease, struct arena *a, struct err *err)
{
	struct desired_state *s = st->state;
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct desired_lease want;
	char id[24];

	if (lease_desired_fill(st->c, conn, lease, a, &want, err) < 0)
		return -1;
	schema_write_secret(&desired_lease_type, &want, &text);
	snprintf(id, sizeof(id), "%" PRId64, want.rev);
	if (!live_push(st, "lease", id, (struct slice){ text.buf, text.len }))
		return 1;
	s->rev = want.rev;
	return 0;
}

static int desired_changes(struct live *st, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct desired_state *s = st->state;
	struct lease *living, *ended;
	size_t living_len, ended_len;
	int rc = 0;

	if (changes_read(s, conn, "WHERE worker_id = $1 AND desired_rev > $2 AND state <> 'ended' ORDER BY desired_rev LIMIT $3", a,
			 &living, &living_len, err) < 0 ||
	    changes_read(s, conn, "WHERE worker_id = $1 AND desired_rev > $2 AND state = 'ended' ORDER BY desired_rev LIMIT $3", a,
			 &ended, &ended_len, err) < 0)
		return -1;
	for (size_t i = 0, k = 0; rc == 0 && i + k < MIN(living_len + ended_len, (size_t)CHANGES_MAX);) {
		bool lives = k == ended_len || (i < living_len && living[i].desired_rev < ended[k].desired_rev);

		rc = change_push(st, conn, lives ? &living[i++] : &ended[k++], a, err);
	}
	return rc;
}

struct pull_arg {
	struct live *st;
	struct arena *a;
	int rc;
};

static int desired_read(struct db_conn *conn, void *arg, struct err *err)
{
	struct pull_arg *p = arg;
	struct desired_state *s = p->st->state;

	p->rc = s->synced ? desired_changes(p->st, conn, p->a, err) : desired_sync(p->st, conn, p->a, err);
	return p->rc < 0 ? -1 : 0;
}

static int desired_pull(struct live *st, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct pull_arg arg = { st, a, 0 };

	return db_read(conn, desired_read, &arg, err) < 0 ? -1 : arg.rc;
}

int op_worker_desired(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct desired_state *s = xcalloc(1, sizeof(*s));
	struct err ignored = { 0 };

	(void)conn;
	(void)err;
	snprintf(s->worker_id, sizeof(s->worker_id), "%s", call->caller.worker_id);
	/* Resuming: only what changed since. Anything else, a nonsensical id included, gets the whole set. */
	s->synced = call->last_event_id && int_parse(call->last_event_id, 0, INT64_MAX, &s->rev, &ignored) == 0;
	call->stream = live_new(c, "worker", s->worker_id, desired_pull, s, free);
	return 0;
}
