/* Metering: settles running leases on a timer, renews what is held for them, and acts on the money: warns while there is
 * time, pauses at the second where it ends (the worker does so by itself: funded_ms), resumes when there is some again,
 * and only after a long while stops and destroys. */
#include "internal.h"

#define BATCH 200
#define BATCHES 10 /* a round */
#define RESUME_MS MINUTE_MS /* what must be payable before a paused lease goes on, or half of a shorter hold */

struct settle_arg {
	struct control *c;
	const char *id;
	int64_t now_ms;
};

static bool is_exhausted(const struct lease *l)
{
	return l->rate_uusd_h > 0 && l->funded_ms <= meter_billable_ms(l) + SECOND_MS;
}

static int running_settle(struct control *c, struct db_conn *conn, struct lease *l, int64_t now_ms, struct arena *a,
			  struct err *err)
{
	int64_t told = l->funded_ms;
	struct lease_event pause = { .kind = LEASE_EVENT_PAUSE, .reason = REASON_OUT_OF_FUNDS };

	if (lease_settle(c, conn, l, now_ms, a, err) < 0)
		return -1;
	if (is_exhausted(l) && l->desired == DESIRE_RUN)
		return lease_transition(c, conn, l, &pause, "metering", a, err);
	/* The worker need not hear of every renewal, only before half of what it knows is used up. */
	if (l->funded_ms > told && told - meter_billable_ms(l) <= c->config.hold_ms / 2)
		return lease_desired_push(c, conn, l, err);
	l->funded_ms = MAX(told, meter_billable_ms(l));
	return lease_store(c, conn, l, err);
}

static int paused_settle(struct control *c, struct db_conn *conn, struct lease *l, int64_t now_ms, struct arena *a,
			 struct err *err)
{
	struct lease_event resume = { .kind = LEASE_EVENT_RESUME, .reason = REASON_RESUMED };
	struct lease_event stop = { .kind = LEASE_EVENT_STOP, .reason = REASON_OUT_OF_FUNDS };

	int64_t told = l->funded_ms;

	if (lease_settle(c, conn, l, now_ms, a, err) < 0)
		return -1;
	if (l->funded_ms >= meter_billable_ms(l) + MIN(RESUME_MS, c->config.hold_ms / 2)) {
		if (l->desired != DESIRE_RUN)
			return lease_transition(c, conn, l, &resume, "metering", a, err);
		/* It paused by itself: to hear that more is paid for is all it needs to go on. */
		return l->funded_ms > told ? lease_desired_push(c, conn, l, err) : lease_store(c, conn, l, err);
	}
	if (l->paused_ms && now_ms - l->paused_ms >= c->config.pause_keep_ms)
		return lease_transition(c, conn, l, &stop, "metering", a, err);
	return lease_store(c, conn, l, err);
}

static int settle_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct settle_arg *x = arg;
	cleanup_arena struct arena arena = { 0 };
	struct lease l;

	if (lease_load(conn, x->id, &arena, &l, err) < 0)
		return -1;
	if (l.state == LEASE_RUNNING)
		return running_settle(x->c, conn, &l, x->now_ms, &arena, err);
	return l.state == LEASE_PAUSED ? paused_settle(x->c, conn, &l, x->now_ms, &arena, err) : 0;
}

/* ---- warning ------------------------------------------------------------------------------------------- */

struct warn_arg {
	struct control *c;
	const char *org_id;
	int64_t left_ms;
};

static int warn_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct warn_arg *x = arg;
	char key[64], text[160], left[32];

	snprintf(key, sizeof(key), "funds_warned:%s", x->org_id);
	if (x->left_ms > 2 * x->c->config.funds_warn_ms)
		return db_exec(conn, "DELETE FROM settings WHERE key = $1", DB_ARGS(DB_TEXT(key)), NULL, err);
	int64_t changed;

	if (x->left_ms > x->c->config.funds_warn_ms)
		return 0;
	if (db_exec(conn, "INSERT INTO settings (key, value) VALUES ($1, '1') ON CONFLICT (key) DO NOTHING",
		    DB_ARGS(DB_TEXT(key)), &changed, err) < 0)
		return -1;
	if (!changed)
		return 0; /* warned before, and not topped up since */
	duration_format(x->left_ms, left);
	snprintf(text, sizeof(text), "the money lasts for %s more; then workloads are paused, with their data kept", left);
	return event_append(x->c, conn, x->org_id, "metering", x->org_id, "funds.low", "funds_low", text, err);
}

/* For each organisation with running leases: how long its money lasts at the present rate. */
static int orgs_warn(struct control *c, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct db_rows *rows = NULL;
	VEC(struct warn_arg) v = { 0 };
	int rc;

	if (db_query(conn,
		     "SELECT l.org_id, SUM(l.rate_uusd_h), MAX(a.credits_posted - a.debits_posted) FROM leases l"
		     " JOIN accounts a ON a.org_id = l.org_id AND a.name = 'customer'"
		     " WHERE l.state = 'running' AND l.rate_uusd_h > 0 GROUP BY l.org_id", DB_NO_ARGS, &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0)
		*vec_push(&v) = (struct warn_arg){ c, db_text(rows, 0, a), funded_ms(MAX(db_int(rows, 2), 0), db_int(rows, 1)) };
	db_rows_free(rows);
	for (size_t i = 0; rc == 0 && i < v.len; i++)
		if (v.items[i].left_ms <= c->config.funds_warn_ms * 3)
			rc = db_tx(conn, warn_tx, &v.items[i], err);
	vec_release(&v);
	return rc;
}

/* ---- the round ------------------------------------------------------------------------------------------ */

struct expire_arg {
	int64_t now_ms;
	int expired;
};

static int expire_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct expire_arg *x = arg;

	return ledger_expire(conn, x->now_ms, BATCH, &x->expired, err);
}

/* Due: by the timer; or nearly out of what is funded; or paused, where money may have come.  Settling moves a lease behind
 * now_ms, so that no round looks at it twice. */
static int due_read(struct control *c, struct db_conn *conn, int64_t now_ms, struct arena *a, const char **ret_ids, size_t *ret_len,
		    struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int rc;

	*ret_len = 0;
	if (db_query(conn,
		     "SELECT id FROM leases WHERE settled_at_ms < $1 AND ((state = 'running' AND (settled_at_ms <= $2"
		     " OR (rate_uusd_h > 0 AND funded_ms <= observed_ms + $3))) OR state = 'paused') ORDER BY settled_at_ms LIMIT $4",
		     DB_ARGS(DB_INT(now_ms), DB_INT(now_ms - c->config.settle_interval_ms), DB_INT(2 * c->config.heartbeat_ms),
			     DB_INT(BATCH)), &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0)
		ret_ids[(*ret_len)++] = db_text(rows, 0, a);
	return rc;
}

/* *ret_more: there are others, which a batch had no room for. */
static int batch_settle(struct control *c, struct db_conn *conn, int64_t now_ms, bool *ret_more, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	const char *ids[BATCH];
	size_t len, done = 0;

	if (due_read(c, conn, now_ms, &arena, ids, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		struct settle_arg x = { c, ids[i], now_ms };

		if (db_tx(conn, settle_tx, &x, err) == 0)
			done++;
		else if (!duty_passes_over(c, "metering", ids[i], err))
			return -1;
	}
	*ret_more = done == BATCH;
	return 0;
}

int metering_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct expire_arg expire = { .now_ms = now_ms };
	bool leads, more = true;

	*ret_next_ms = now_ms + MIN(c->config.settle_interval_ms, 5 * SECOND_MS);
	if (leader_check(c, conn, "metering", now_ms, &leads, err) < 0)
		return -1;
	if (!leads)
		return 0;
	for (int i = 0; i < BATCHES && more; i++)
		if (batch_settle(c, conn, now_ms, &more, err) < 0)
			return -1;
	if (orgs_warn(c, conn, &arena, err) < 0 || db_tx(conn, expire_tx, &expire, err) < 0)
		return -1;
	if (more || expire.expired == BATCH)
		*ret_next_ms = now_ms;
	return 0;
}
