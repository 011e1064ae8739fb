/* The worker link: what the server wants (a stream), what the worker sees (heartbeats with observations and receipts).
 * Level-triggered: every message may be lost, doubled, late or out of order. */
#include "../internal.h"

#define EVIDENCE_PER_HOUR 1000 /* rows kept of one worker */

/* ---- desired ----------------------------------------------------------------------------------------- */

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

static int desired_changes(struct live *st, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct desired_state *s = st->state;
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct lease *leases;
	size_t len;

	/* Two indexes, one for the living, which a new lease enters, and one for the ended. */
	if (db_select(conn, &lease_type, "leases",
		      "WHERE id IN (SELECT id FROM leases WHERE worker_id = $1 AND desired_rev > $2 AND state <> 'ended'"
		      " UNION ALL SELECT id FROM leases WHERE worker_id = $1 AND desired_rev > $2 AND state = 'ended')"
		      " ORDER BY desired_rev LIMIT 100",
		      DB_ARGS(DB_TEXT(s->worker_id), DB_INT(s->rev)), a, (void **)&leases, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		struct desired_lease want;
		char id[24];

		if (lease_desired_fill(st->c, conn, &leases[i], a, &want, err) < 0)
			return -1;
		strbuf_reset(&text);
		schema_write_secret(&desired_lease_type, &want, &text);
		snprintf(id, sizeof(id), "%" PRId64, want.rev);
		if (!live_push(st, "lease", id, (struct slice){ text.buf, text.len }))
			return 1;
		s->rev = want.rev;
	}
	return 0;
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

/* ---- receipts ---------------------------------------------------------------------------------------- */

static int evidence_add(struct control *c, struct db_conn *conn, const char *worker_id, const char *lease_id,
			const char *kind, const char *text, const char *payload, struct err *err)
{
	char id[ID_SIZE];
	int64_t lately;

	metrics_count(c, conn, "evidence_total", 1);
	if (db_query_int(conn, "SELECT COUNT(*) FROM evidence WHERE worker_id = $1 AND at_ms > $2",
			 DB_ARGS(DB_TEXT(worker_id), DB_INT(control_now(c) - HOUR_MS)), 0, &lately, err) < 0)
		return -1;
	if (lately >= EVIDENCE_PER_HOUR)
		return 0; /* enough is known; more of the same would only fill the store */
	id_make("ev", control_now(c), &c->random, id);
	return db_exec(conn, "INSERT INTO evidence (id, worker_id, lease_id, kind, text, payload, at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		       DB_ARGS(DB_TEXT(id), DB_TEXT(worker_id), DB_TEXT(lease_id ? lease_id : ""), DB_TEXT(kind), DB_TEXT(text),
			       DB_TEXT(payload), DB_INT(control_now(c))), NULL, err);
}

/* What is wrong with it, with the field: the texts of errors alone leave it out. */
static const char *why_text(const struct err *why, struct arena *a)
{
	return arena_printf(a, "%s%s%s", why->field, why->field[0] ? " " : "", why->text);
}

static bool receipt_signed(const struct worker *w, const struct signed_usage *r)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	uint8_t pk[SIGN_PUBLIC_SIZE], sig[SIGNATURE_SIZE];
	size_t len;

	strbuf_adds(&text, "tes-usage-1\n");
	strbuf_adds(&text, r->payload);
	return hex_parse(w->public_key, pk, sizeof(pk)) == 0 &&
	       base64url_parse(r->signature, sig, sizeof(sig), &len) == 0 && len == sizeof(sig) &&
	       sign_check(text.buf, text.len, pk, sig);
}

static int receipt_store(struct control *c, struct db_conn *conn, const struct usage *u, const struct signed_usage *r,
			 struct arena *a, struct err *err)
{
	struct receipt row = {
		.id = new_id(c, "rc", a), .lease_id = u->lease, .worker_id = u->worker, .payload = r->payload,
		.signature = r->signature, .seq = u->seq, .delivered_ms = u->delivered_ms, .at_ms = u->at_ms,
		.received_ms = control_now(c),
	};

	/* Cumulative: the newest stands for all before it, so that a long lease keeps one row. */
	if (db_exec(conn, "DELETE FROM receipts WHERE lease_id = $1", DB_ARGS(DB_TEXT(u->lease)), NULL, err) < 0)
		return -1;
	return db_insert(conn, &receipt_type, "receipts", &row, err);
}

/* More time than has passed: noted at the first receipt that says so. */
static int time_note(struct control *c, struct db_conn *conn, const struct usage *u, const struct lease *lease,
		     const struct signed_usage *r, struct arena *a, struct err *err)
{
	int64_t possible_ms = usage_possible_ms(lease, control_now(c));

	if (u->delivered_ms <= possible_ms || lease->claimed_ms > possible_ms)
		return 0;
	return evidence_add(c, conn, u->worker, u->lease, "receipt_time",
			    arena_printf(a, "delivered_ms %" PRId64 " is more than the %" PRId64 " since the lease was made",
					 u->delivered_ms, MAX(control_now(c) - lease->reserved_ms, 0)), r->payload, err);
}

/* One receipt: taken, a repeat, or evidence; in each case it need not be sent again. -1 only if the store fails. */
static int receipt_take(struct control *c, struct db_conn *conn, const struct worker *w, const struct signed_usage *r,
			struct arena *a, struct err *err)
{
	struct usage u;
	struct lease lease;
	struct err why = { 0 };

	if (!receipt_signed(w, r))
		return evidence_add(c, conn, w->id, NULL, "receipt_signature", "the receipt's signature is not the worker's",
				    r->payload, err);
	if (schema_parse(&usage_type, slice_of(r->payload), FROM_SERVER, a, &u, &why) < 0)
		return evidence_add(c, conn, w->id, NULL, "receipt_malformed", why_text(&why, a), r->payload, err);
	if (lease_load(conn, u.lease, a, &lease, &why) < 0) {
		if (why.code != ERR_NOT_FOUND)
			return *err = why, -1;
		return evidence_add(c, conn, w->id, u.lease, "receipt_lease", why.text, r->payload, err);
	}
	if (usage_check(&u, &lease, w->id, control_now(c), &why) < 0) {
		if (why.code == ERR_CONFLICT)
			return 0; /* a repeat of the newest */
		return evidence_add(c, conn, w->id, u.lease, "receipt_content", why_text(&why, a), r->payload, err);
	}
	if (lease.state == LEASE_ENDED)
		return 0; /* settled; nothing can be added to a final bill */
	if (time_note(c, conn, &u, &lease, r, a, err) < 0)
		return -1;
	usage_take(&u, &lease);
	if (receipt_store(c, conn, &u, r, a, err) < 0)
		return -1;
	return lease_store(c, conn, &lease, err);
}

/* ---- observations -------------------------------------------------------------------------------------- */

static bool event_of(const struct lease_observation *o, struct lease_event *ret)
{
	*ret = (struct lease_event){
		.generation = o->generation, .reason = o->reason, .text = o->text, .phase = o->phase,
		.image_digest = o->image_digest, .progress_done = o->progress_done, .progress_total = o->progress_total,
		.exit_code = o->exit_code, .started = o->started, .delivered_ms = o->delivered_ms,
	};
	switch ((enum observed_state)o->state) {
	case OBSERVED_ACCEPTED:
		ret->kind = LEASE_EVENT_ACCEPTED;
		return true;
	case OBSERVED_PREPARING:
		ret->kind = LEASE_EVENT_PROGRESS;
		return true;
	case OBSERVED_RUNNING:
		ret->kind = LEASE_EVENT_RUNNING;
		return true;
	case OBSERVED_PAUSED:
		ret->kind = LEASE_EVENT_PAUSED;
		return true;
	case OBSERVED_EXITED:
		ret->kind = LEASE_EVENT_EXITED;
		return true;
	case OBSERVED_FAILED:
		ret->kind = LEASE_EVENT_FAILED;
		return true;
	case OBSERVED_GONE:
		ret->kind = LEASE_EVENT_GONE;
		return true;
	}
	return false;
}

/* A worker that still has what the server has ended did not hear of it: tell it again. */
static int remind(struct control *c, struct db_conn *conn, struct lease *lease, const struct lease_observation *o,
		  int64_t known_rev, struct err *err)
{
	if (o->state == OBSERVED_GONE || lease->desired_rev > known_rev)
		return 0;
	return lease_desired_push(c, conn, lease, err);
}

static int observe_lease(struct control *c, struct db_conn *conn, const struct worker *w, const struct lease_observation *o,
			 int64_t known_rev, int64_t heard_ms, struct arena *a, const char **ret_problem, struct err *err)
{
	struct lease lease;
	struct lease_event event;
	struct err why = { 0 };

	*ret_problem = NULL;
	if (lease_load(conn, o->lease, a, &lease, &why) < 0) {
		if (why.code != ERR_NOT_FOUND)
			return *err = why, -1;
		*ret_problem = arena_printf(a, "%s: %s", o->lease, why.text);
		return 0;
	}
	if (!str_eq(lease.worker_id, w->id)) {
		*ret_problem = arena_printf(a, "%s is another worker's lease", o->lease);
		return evidence_add(c, conn, w->id, o->lease, "lease_not_own", *ret_problem, "", err);
	}
	if (lease.state == LEASE_ENDED)
		return remind(c, conn, &lease, o, known_rev, err);
	if (!event_of(o, &event))
		return 0;
	event.age_ms = MAX(control_now(c) - heard_ms, 0);
	if (lease_transition(c, conn, &lease, &event, w->id, a, &why) < 0) {
		if (why.code != ERR_CONFLICT)
			return *err = why, -1;
		*ret_problem = arena_printf(a, "%s: %s", o->lease, why.text);
	}
	return 0;
}

static bool observation_has(const struct observation *o, const char *lease_id)
{
	for (size_t i = 0; i < o->leases.len; i++)
		if (str_eq(o->leases.items[i].lease, lease_id))
			return true;
	return false;
}

/* Leases that the worker must know of and does not list: what it once accepted is lost there.  Most often there is none:
 * only ids are read, by the index of the living. */
static int observe_missing(struct control *c, struct db_conn *conn, const struct worker *w, const struct observation *in,
			   struct arena *a, struct err *err)
{
	struct db_rows *rows;
	VEC(const char *) missing = { 0 };
	struct lease_event gone = { .kind = LEASE_EVENT_GONE, .reason = REASON_CONTAINER_LOST,
				    .text = "the worker no longer has it" };
	struct lease lease;
	int rc;

	if (db_query(conn,
		     "SELECT id FROM leases WHERE worker_id = $1 AND state <> 'ended' AND state <> 'reserved'"
		     " AND desired_rev <= $2",
		     DB_ARGS(DB_TEXT(w->id), DB_INT(in->desired_rev)), &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0) {
		const char *id = db_text(rows, 0, a);

		if (!observation_has(in, id))
			*vec_push(&missing) = id;
	}
	db_rows_free(rows);
	for (size_t i = 0; rc == 0 && i < missing.len; i++) {
		rc = lease_load(conn, missing.items[i], a, &lease, err);
		if (rc < 0)
			break;
		gone.generation = lease.generation;
		rc = lease_transition(c, conn, &lease, &gone, w->id, a, err);
	}
	vec_release(&missing);
	return rc;
}

/* Back from silence: its leases are reachable again. */
static int worker_heard(struct control *c, struct db_conn *conn, struct worker *w, struct arena *a, struct err *err)
{
	struct lease *leases;
	size_t len;
	struct lease_event heard = { .kind = LEASE_EVENT_HEARD };

	if (db_select(conn, &lease_type, "leases", "WHERE worker_id = $1 AND state <> 'ended' AND unreachable_since_ms <> 0",
		      DB_ARGS(DB_TEXT(w->id)), a, (void **)&leases, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		if (lease_transition(c, conn, &leases[i], &heard, w->id, a, err) < 0)
			return -1;
	if (w->state != WORKER_OFFLINE)
		return 0;
	w->state = WORKER_ONLINE;
	w->offline_since_ms = 0;
	w->updated_ms = control_now(c);
	scheduler_dirty(c, conn, w->id);
	return event_append(c, conn, w->org_id, w->id, w->id, "worker.online", "heartbeat", w->name, err);
}

static int worker_refresh(struct control *c, struct db_conn *conn, struct worker *w, const struct observation *in,
			  struct arena *a, struct err *err)
{
	w->seen_ms = control_now(c);
	if (in->inventory) {
		if (worker_inventory_take(c, w, in->inventory, err) < 0 ||
		    worker_devices_store(conn, w->id, in->inventory, err) < 0)
			return -1;
		w->updated_ms = w->seen_ms;
		scheduler_dirty(c, conn, w->id);
	}
	if (worker_heard(c, conn, w, a, err) < 0)
		return -1;
	if (!in->inventory)
		return db_exec(conn, "UPDATE workers SET seen_ms = $2, state = $3, offline_since_ms = $4, updated_ms = $5 WHERE id = $1",
			       DB_ARGS(DB_TEXT(w->id), DB_INT(w->seen_ms), DB_TEXT(worker_state_names[w->state]),
				       DB_INT(w->offline_since_ms), DB_INT(w->updated_ms)), NULL, err);
	return db_update(conn, &worker_type, "workers", "id", w, err);
}

/* The heartbeat of a machine that has nothing and says nothing new writes nothing, and most of the time asks the store
 * nothing either (heartbeats.c). */
static int observe_quietly(struct control *c, struct db_conn *conn, const struct call *call, bool *ret_done, struct observed *ret,
			   struct err *err)
{
	const struct observation *in = call->in;
	cleanup_rows struct db_rows *rows = NULL;
	const char *id = call->caller.worker_id;
	int64_t now = control_now(c), desired_rev;
	uint64_t era;
	int rc;

	*ret_done = false;
	if (in->inventory || in->receipts.len || in->leases.len)
		return 0;
	*ret_done = heartbeat_find(c, id, in->boot_id, now, &desired_rev, &era);
	if (*ret_done) {
		*ret = (struct observed){ .desired_rev = desired_rev };
		return 0;
	}
	if (db_query(conn,
		     "SELECT w.desired_rev, w.seen_ms FROM workers w WHERE w.id = $1 AND w.state = 'online' AND w.boot_id = $2"
		     " AND w.seen_ms > $3 AND w.seen_ms <= $4"
		     " AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.worker_id = w.id AND l.state <> 'ended')",
		     DB_ARGS(DB_TEXT(id), DB_TEXT(in->boot_id), DB_INT(now - seen_lag_ms(c)), DB_INT(now)), &rows, err) < 0 ||
	    (rc = db_next(rows, err)) < 0)
		return -1;
	if (rc == 0)
		return 0;
	*ret = (struct observed){ .desired_rev = db_int(rows, 0) };
	*ret_done = true;
	heartbeat_keep(c, id, in->boot_id, now, ret->desired_rev, db_int(rows, 1), era);
	return 0;
}

struct observe_arg {
	struct control *c;
	struct call *call;
	int64_t heard_ms; /* when it came: the transaction may be tried many times */
};

static int observe_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct observe_arg *x = arg;
	struct control *c = x->c;
	struct call *call = x->call;
	const struct observation *in = call->in;
	struct observed *out = call->out;
	struct worker w;
	VEC(const char *) problems = { 0 };
	int rc = -1;

	heartbeat_changed(c, conn, call->caller.worker_id);
	if (worker_load(conn, call->caller.worker_id, call->arena, &w, err) < 0)
		return -1;
	if (w.state == WORKER_LEFT)
		return err_set(err, ERR_GONE, "worker %s has left the network: join again with a new token", w.id);
	if (!str_eq(in->boot_id, w.boot_id))
		return err_set(err, ERR_CONFLICT, "another process runs with this worker's key since: one machine, one key");
	if (worker_refresh(c, conn, &w, in, call->arena, err) < 0)
		return -1;
	for (size_t i = 0; i < in->receipts.len; i++)
		if (receipt_take(c, conn, &w, &in->receipts.items[i], call->arena, err) < 0)
			goto out;
	out->receipts_taken = in->receipts.len;
	for (size_t i = 0; i < in->leases.len; i++) {
		const char *problem;

		if (observe_lease(c, conn, &w, &in->leases.items[i], in->desired_rev, x->heard_ms, call->arena, &problem, err) < 0)
			goto out;
		if (problem)
			*vec_push(&problems) = problem;
	}
	if (observe_missing(c, conn, &w, in, call->arena, err) < 0 ||
	    db_query_int(conn, "SELECT desired_rev FROM workers WHERE id = $1", DB_ARGS(DB_TEXT(w.id)), 0,
			 &out->desired_rev, err) < 0)
		goto out;
	out->problems.items = arena_array(call->arena, const char *, problems.len + 1);
	out->problems.len = problems.len;
	if (problems.len)
		memcpy(out->problems.items, problems.items, problems.len * sizeof(*problems.items));
	rc = 0;
out:
	vec_release(&problems);
	return rc;
}

int op_worker_observe(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct observation *in = call->in;
	struct observed *out = call->out;
	struct observe_arg arg = { c, call, control_now(c) - call->age_ms };
	bool done;

	if (observe_quietly(c, conn, call, &done, out, err) < 0 || (!done && db_tx(conn, observe_tx, &arg, err) < 0))
		return -1;
	out->server_time_ms = control_now(c);
	out->heartbeat_ms = c->config.heartbeat_ms;
	if (out->desired_rev > in->desired_rev)
		wake(c, conn, "worker", call->caller.worker_id); /* its stream may have missed what another replica did */
	return 0;
}
