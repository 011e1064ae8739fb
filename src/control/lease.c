/* Leases in the store: the shell around lease_apply.  Nothing else but reserve.c, which makes them, writes the table `leases`. */
#include "internal.h"

/* The digest of nothing that exists. */
#define INPUT_GONE "0000000000000000000000000000000000000000000000000000000000000000"
#define RETRY_BACKOFF_MS (2 * SECOND_MS)   /* doubled with each attempt */
#define RETRY_BACKOFF_MAX_MS (5 * MINUTE_MS)

int lease_load(struct db_conn *conn, const char *id, struct arena *a, struct lease *ret, struct err *err)
{
	if (db_get(conn, &lease_type, "leases", "WHERE id = $1", DB_ARGS(DB_TEXT(id)), a, ret, err) < 0)
		return err->code == ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "there is no lease %s", id) : -1;
	return 0;
}

int lease_store(struct control *c, struct db_conn *conn, struct lease *lease, struct err *err)
{
	lease->deadline_ms = lease_deadline_ms(lease);
	lease->updated_ms = control_now(c);
	return db_update(conn, &lease_type, "leases", "id", lease, err);
}

/* The next number of the worker's desired set; the stream resumes by it. */
static int desired_rev_next(struct control *c, struct db_conn *conn, const char *worker_id, int64_t *ret, struct err *err)
{
	heartbeat_changed(c, conn, worker_id);
	if (db_exec(conn, "UPDATE workers SET desired_rev = desired_rev + 1 WHERE id = $1",
		    DB_ARGS(DB_TEXT(worker_id)), NULL, err) < 0)
		return -1;
	return db_query_int(conn, "SELECT desired_rev FROM workers WHERE id = $1", DB_ARGS(DB_TEXT(worker_id)), 0, ret,
			    err);
}

static int capacity_release(struct control *c, struct db_conn *conn, const struct lease *lease, struct err *err)
{
	const struct resources *r = lease->resources;

	if (lease->devices.len &&
	    db_exec(conn, "DELETE FROM device_claims WHERE worker_id = $1 AND lease_id = $2",
		    DB_ARGS(DB_TEXT(lease->worker_id), DB_TEXT(lease->id)), NULL, err) < 0)
		return -1;
	if (db_exec(conn,
		    "UPDATE workers SET used_cpu_milli = used_cpu_milli - $2, used_memory_mib = used_memory_mib - $3,"
		    " used_disk_mib = used_disk_mib - $4, used_gpus = used_gpus - $5, updated_ms = $6 WHERE id = $1",
		    DB_ARGS(DB_TEXT(lease->worker_id), DB_INT(r->cpu_milli), DB_INT(r->memory_mib), DB_INT(r->disk_mib),
			    DB_INT(r->gpus), DB_INT(control_now(c))), NULL, err) < 0)
		return -1;
	scheduler_dirty(c, conn, lease->worker_id);
	return 0;
}

/* How the worker did: outcome counts and what follows from them. */
static int outcome_count(struct control *c, struct db_conn *conn, const struct lease *lease, bool ok, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int64_t good, bad;
	int rc;

	if (db_query(conn, "SELECT uptime_ppm, leases_ok, leases_failed FROM workers WHERE id = $1",
		     DB_ARGS(DB_TEXT(lease->worker_id)), &rows, err) < 0 || (rc = db_next(rows, err)) < 0)
		return -1;
	if (rc == 0)
		return err_set(err, ERR_INTERNAL, "lease %s has no worker", lease->id);
	good = db_int(rows, 1) + ok;
	bad = db_int(rows, 2) + !ok;
	scheduler_dirty(c, conn, lease->worker_id);
	return db_exec(conn,
		       "UPDATE workers SET leases_ok = $2, leases_failed = $3, reliability_ppm = $4, updated_ms = $5 WHERE id = $1",
		       DB_ARGS(DB_TEXT(lease->worker_id), DB_INT(good), DB_INT(bad), DB_INT(reliability(db_int(rows, 0), good, bad)),
			       DB_INT(control_now(c))), NULL, err);
}

/* This customer and this worker did not get on: keep them apart for a while. */
static int avoid_add(struct control *c, struct db_conn *conn, const struct lease *lease, struct err *err)
{
	int64_t now = control_now(c), weight, since;
	struct db_args pair = DB_ARGS(DB_TEXT(lease->org_id), DB_TEXT(lease->worker_id));

	if (db_query_int(conn, "SELECT weight_ppm FROM avoids WHERE org_id = $1 AND worker_id = $2", pair, 0, &weight,
			 err) < 0 ||
	    db_query_int(conn, "SELECT updated_ms FROM avoids WHERE org_id = $1 AND worker_id = $2", pair, now, &since,
			 err) < 0)
		return -1;
	weight = MIN(avoid_weight(weight, now - since) + 500000, 1000000);
	return db_exec(conn,
		       "INSERT INTO avoids (org_id, worker_id, weight_ppm, updated_ms) VALUES ($1, $2, $3, $4)"
		       " ON CONFLICT (org_id, worker_id) DO UPDATE SET weight_ppm = excluded.weight_ppm,"
		       " updated_ms = excluded.updated_ms",
		       DB_ARGS(DB_TEXT(lease->org_id), DB_TEXT(lease->worker_id), DB_INT(weight), DB_INT(now)), NULL,
		       err);
}

static enum workload_state state_after(const struct lease *lease)
{
	switch ((enum lease_state)lease->state) {
	case LEASE_RESERVED:
	case LEASE_PREPARING:
		return WORKLOAD_PREPARING;
	case LEASE_RUNNING:
		return WORKLOAD_RUNNING;
	case LEASE_PAUSED:
		return WORKLOAD_PAUSED;
	case LEASE_STOPPING:
		return WORKLOAD_STOPPING;
	case LEASE_ENDED:
		break;
	}
	if (lease->reason == REASON_COMPLETED)
		return WORKLOAD_SUCCEEDED;
	return lease->reason == REASON_STOPPED_BY_CUSTOMER ? WORKLOAD_STOPPED : WORKLOAD_FAILED;
}

/* Puts the replica back in the queue, with money held for the next attempt; *ret_again false if that cannot be. */
static int replica_retry(struct control *c, struct db_conn *conn, struct replica *r, const struct workload *w,
			 bool *ret_again, struct err *err)
{
	int64_t now = control_now(c), amount, held;
	char hold[ID_SIZE];

	*ret_again = false;
	if (r->retries_left == 0)
		return 0;
	amount = hold_amount(w->max_price_uusd_h, hold_duration_ms(c, w->spec));
	if (amount > 0) {
		if (ledger_hold(conn, r->org_id, r->id, r->generation + 1, amount, false, now, hold, &held, err) < 0)
			return err->code == ERR_FUNDS ? (err_clear(err), 0) : -1;
		r->hold_id = hold;
	} else {
		r->hold_id = NULL;
	}
	r->state = REPLICA_PENDING;
	r->retries_left--;
	r->not_before_ms = now + MIN(RETRY_BACKOFF_MS << MIN(r->generation - 1, 8), RETRY_BACKOFF_MAX_MS);
	r->updated_ms = now;
	*ret_again = true;
	return db_update(conn, &replica_type, "replicas", "id", r, err);
}

/* Moves replica and workload to where the lease now stands. */
static int workload_follow(struct control *c, struct db_conn *conn, const struct lease *lease, unsigned effects,
			   const char *actor, struct arena *a, struct err *err)
{
	struct replica r;
	struct workload w;
	bool again = false;

	if (workload_load(conn, NULL, lease->workload_id, a, &w, err) < 0)
		return -1;
	/* "name@sha256:…" is the same everywhere; the id of an image that was never in a registry means nothing on
	 * another worker. */
	if (!w.image_pinned && lease->image_digest && strchr(lease->image_digest, '@'))
		w.image_pinned = lease->image_digest;
	if (lease->state == LEASE_RUNNING && !w.started_ms)
		w.started_ms = lease->running_ms;
	if (lease->state == LEASE_ENDED) {
		w.exit_code = lease->exit_code;
		w.charged_uusd += lease->billed_uusd;
		if (db_get(conn, &replica_type, "replicas", "WHERE id = $1", DB_ARGS(DB_TEXT(lease->replica_id)), a, &r, err) < 0)
			return -1;
		if ((effects & EFFECT_RETRY) && replica_retry(c, conn, &r, &w, &again, err) < 0)
			return -1;
		if (!again) {
			r.state = REPLICA_ENDED;
			r.updated_ms = control_now(c);
			r.hold_id = NULL;
			if (db_update(conn, &replica_type, "replicas", "id", &r, err) < 0)
				return -1;
		}
		wake(c, conn, "duty", "scheduler");
	}
	if (again)
		metrics_count(c, conn, "retries_total", 1);
	return workload_set_state(c, conn, &w, again ? WORKLOAD_PENDING : state_after(lease),
				  lease_reason_names[lease->reason],
				  lease->reason_text ? lease->reason_text : lease_reason_text(lease->reason), actor, err);
}

static int effects_apply(struct control *c, struct db_conn *conn, struct lease *lease, unsigned effects,
			 const char *actor, struct arena *a, struct err *err)
{
	int64_t now = control_now(c);

	if ((effects & EFFECT_SETTLE) && lease_settle(c, conn, lease, now, true, a, err) < 0)
		return -1;
	if ((effects & EFFECT_DESIRE) && desired_rev_next(c, conn, lease->worker_id, &lease->desired_rev, err) < 0)
		return -1;
	if ((effects & EFFECT_RELEASE) && capacity_release(c, conn, lease, err) < 0)
		return -1;
	if (lease_store(c, conn, lease, err) < 0)
		return -1;
	if ((effects & (EFFECT_BLAME | EFFECT_CREDIT)) &&
	    outcome_count(c, conn, lease, effects & EFFECT_CREDIT, err) < 0)
		return -1;
	if ((effects & EFFECT_AVOID) && avoid_add(c, conn, lease, err) < 0)
		return -1;
	if (effects & EFFECT_ANNOUNCE) {
		char kind[32];

		snprintf(kind, sizeof(kind), "lease.%s", lease_state_names[lease->state]);
		if (workload_follow(c, conn, lease, effects, actor, a, err) < 0 ||
		    event_append(c, conn, lease->org_id, actor, lease->id, kind, lease_reason_names[lease->reason],
				 lease->reason_text ? lease->reason_text : lease_reason_text(lease->reason), err) < 0)
			return -1;
		metrics_count(c, conn, "lease_transitions_total", 1);
		if (lease->state == LEASE_ENDED)
			metrics_count_label(c, conn, "leases_ended_total", "reason", lease_reason_names[lease->reason], 1);
	}
	if (effects & EFFECT_DESIRE)
		wake(c, conn, "worker", lease->worker_id);
	wake(c, conn, "workload", lease->workload_id);
	wake(c, conn, "duty", "faults"); /* its deadline may be nearer now */
	return 0;
}

int lease_transition(struct control *c, struct db_conn *conn, struct lease *lease, const struct lease_event *event,
		     const char *actor, struct arena *a, struct err *err)
{
	struct lease_change change;

	if (lease_apply(lease, event, control_now(c), &change, err) < 0)
		return -1;
	*lease = change.lease;
	if (change.effects == 0)
		return lease_store(c, conn, lease, err); /* what is metered may have changed */
	return effects_apply(c, conn, lease, change.effects, actor, a, err);
}

/* Delivered time that so much money, all that was billed included, pays for.  Once it covers the longest time there is no
 * end to it: rounding must not cut the last second. */
int64_t lease_funded_by(const struct lease *l, int64_t money_uusd)
{
	if (l->max_duration_ms && money_uusd >= owed_uusd(l->rate_uusd_h, l->max_duration_ms))
		return FUNDED_UNLIMITED;
	return funded_ms(money_uusd, l->rate_uusd_h);
}

int lease_settle(struct control *c, struct db_conn *conn, struct lease *lease, int64_t now_ms, bool last,
		 struct arena *a, struct err *err)
{
	struct settlement s = { 0 };
	int64_t hold_ms = c->config.hold_ms, billable = meter_billable_ms(lease), rate = lease->rate_uusd_h;

	if (lease->max_duration_ms) {
		int64_t rest = owed_uusd(rate, lease->max_duration_ms) - owed_uusd(rate, billable);

		hold_ms = MIN(hold_ms, funded_ms(rest, rate) + SECOND_MS); /* a second more: both are rounded down */
	}
	if (ledger_settle(conn, lease, billable, hold_ms, last, now_ms, a, &s, err) < 0)
		return -1;
	if (!last)
		lease->funded_ms = lease_funded_by(lease, lease->billed_uusd + s.held_uusd);
	metrics_count(c, conn, "charged_uusd_total", s.charged_uusd);
	return 0;
}

int lease_desired_push(struct control *c, struct db_conn *conn, struct lease *lease, struct err *err)
{
	if (desired_rev_next(c, conn, lease->worker_id, &lease->desired_rev, err) < 0)
		return -1;
	wake(c, conn, "worker", lease->worker_id);
	return lease_store(c, conn, lease, err);
}

/* ---- the desired lease ----------------------------------------------------------------------------- */

static int inputs_fill(struct db_conn *conn, const struct workload_spec *spec, struct arena *a,
		       struct desired_lease *ret, struct err *err)
{
	struct desired_input *items = arena_array(a, struct desired_input, spec->inputs.len + 1);

	for (size_t i = 0; i < spec->inputs.len; i++) {
		struct input in;

		if (db_get(conn, &input_type, "inputs", "WHERE id = $1", DB_ARGS(DB_TEXT(spec->inputs.items[i].id)), a,
			   &in, err) < 0) {
			if (err->code != ERR_NOT_FOUND)
				return -1;
			/* Gone: the worker will say so of this lease, and the others of its set are not held up. */
			err_clear(err);
			in = (struct input){ .id = spec->inputs.items[i].id, .sha256 = INPUT_GONE };
		}
		items[i] = (struct desired_input){
			.id = in.id, .name = spec->inputs.items[i].name, .sha256 = in.sha256, .size_bytes = in.size_bytes,
		};
	}
	ret->inputs.items = items;
	ret->inputs.len = spec->inputs.len;
	return 0;
}

int lease_desired_fill(struct control *c, struct db_conn *conn, const struct lease *lease, struct arena *a,
		       struct desired_lease *ret, struct err *err)
{
	struct workload_spec spec;

	*ret = (struct desired_lease){
		.lease = lease->id, .workload = lease->workload_id, .generation = lease->generation,
		.rev = lease->desired_rev, .desired = lease->desired, .image = lease->image,
		.resources = lease->resources, .devices = lease->devices, .grace_ms = lease->grace_ms,
		.prepare_until_ms = lease->prepare_until_ms, .max_duration_ms = lease->max_duration_ms,
		.funded_ms = lease->funded_ms, .logs_max_bytes = c->config.logs_max_bytes,
		.results_max_bytes = c->config.results_max_bytes,
	};
	if (lease->desired == DESIRE_STOP || lease->desired == DESIRE_NONE)
		return 0; /* what is to be stopped needs no secrets */
	if (workload_spec_open(c, conn, lease->workload_id, a, &spec, err) < 0)
		return -1;
	ret->command = spec.command;
	ret->env = spec.env;
	ret->secrets = spec.secrets;
	ret->registry = spec.registry;
	ret->outputs = spec.outputs;
	ret->ready = spec.ready;
	return inputs_fill(conn, &spec, a, ret, err);
}
