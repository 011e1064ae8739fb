/* Placements become leases, many in one transaction: each kind of row is read or written by one exchange with the store
 * for all of them.  Shares the table `leases` with lease.c. */
#include "internal.h"

#include <stdatomic.h>

#define IN_SIZE 32
#define IN_32                                                                                                            \
	"($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24," \
	" $25, $26, $27, $28, $29, $30, $31, $32)"

/* What is known of a worker that leases go to. */
struct home {
	const char *org_id;
	int64_t desired_rev; /* of the last lease numbered here */
	struct resources takes; /* all the leases that go here */
};

struct reserving {
	struct control *c;
	struct db_conn *conn;
	struct arena *a;
	int64_t now_ms;
	const struct lease_plan *plans;
	size_t len;
	struct lease *leases;
	struct map *homes; /* worker id -> struct home, in the arena */
};

static void lease_fill(struct reserving *r, const struct lease_plan *plan, struct lease *ret)
{
	const struct workload *w = plan->workload;
	const struct placement *pl = plan->placement;
	const struct control_config *cf = &r->c->config;
	int64_t now = r->now_ms;

	*ret = (struct lease){
		.id = new_id(r->c, "le", r->a),
		.org_id = w->org_id,
		.workload_id = w->id,
		.replica_id = plan->replica->id,
		.worker_id = pl->worker_id,
		.generation = plan->replica->generation + 1,
		.state = LEASE_RESERVED,
		.desired = DESIRE_RUN,
		.reason = REASON_PLACED,
		.resources = w->spec->resources,
		.devices = { (const char **)pl->devices, pl->device_count },
		.image = w->image_pinned ? w->image_pinned : w->spec->image,
		.rate_uusd_h = pl->rate_uusd_h,
		.fee_ppm = cf->fee_ppm,
		.quote_id = w->quote_id,
		.reserved_ms = now,
		.reserved_until_ms = now + cf->reservation_ttl_ms,
		.prepare_until_ms = now + cf->reservation_ttl_ms + w->spec->prepare_timeout_s * SECOND_MS,
		.ready_timeout_ms = w->spec->ready ? w->spec->ready->timeout_s * SECOND_MS : 0,
		.max_duration_ms = w->spec->max_duration_s * SECOND_MS,
		.grace_ms = cf->grace_ms,
		.exit_code = -1,
		.observed_at_ms = now,
		.settled_at_ms = now,
		.updated_ms = now,
	};
}

/* What was quoted holds for the first attempt, on the worker that it was quoted for. */
static int quote_apply(struct reserving *r, const struct workload *w, struct lease *lease, struct err *err)
{
	struct quote q;

	if (w->attempts > 0 || !w->quote_id)
		return 0;
	if (db_get(r->conn, &quote_type, "quotes", "WHERE id = $1", DB_ARGS(DB_TEXT(w->quote_id)), r->a, &q, err) < 0)
		return -1;
	assert(str_eq(q.worker_id, lease->worker_id));
	lease->rate_uusd_h = q.rate_uusd_h;
	lease->fee_ppm = q.fee_ppm;
	return 0;
}

/* ---- workers ---------------------------------------------------------------------------------------- */

static int homes_read(struct reserving *r, const struct db_value *ids, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int rc;

	if (db_query(r->conn, "SELECT id, org_id, desired_rev FROM workers WHERE id IN " IN_32, (struct db_args){ ids, IN_SIZE },
		     &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0) {
		struct home *h = map_find(r->homes, db_text(rows, 0, r->a));

		h->org_id = db_text(rows, 1, r->a);
		h->desired_rev = db_int(rows, 2);
	}
	return rc;
}

/* Each home once, IN_SIZE at a time; the last of them fills up the places that are left. */
static int homes_load(struct reserving *r, struct err *err)
{
	struct db_value ids[IN_SIZE];
	size_t n = 0, it = 0;
	const char *id;
	void *home;

	for (size_t i = 0; i < r->len; i++)
		if (!map_find(r->homes, r->leases[i].worker_id))
			map_put(r->homes, r->leases[i].worker_id, arena_new(r->a, struct home));
	while (map_next(r->homes, &it, &id, &home)) {
		ids[n++] = DB_TEXT(id);
		if (n < IN_SIZE)
			continue;
		n = 0;
		if (homes_read(r, ids, err) < 0)
			return -1;
	}
	for (size_t i = n; n > 0 && i < IN_SIZE; i++)
		ids[i] = ids[n - 1];
	return n > 0 ? homes_read(r, ids, err) : 0;
}

/* What was asked for has limits, far from where these sums could overflow. */
static void home_take(struct home *h, const struct resources *want)
{
	h->takes.cpu_milli += want->cpu_milli;
	h->takes.memory_mib += want->memory_mib;
	h->takes.disk_mib += want->disk_mib;
	h->takes.gpus += want->gpus;
}

/* Whose they are, and the next numbers of their desired sets. */
static int homes_find(struct reserving *r, struct err *err)
{
	if (homes_load(r, err) < 0)
		return -1;
	for (size_t i = 0; i < r->len; i++) {
		struct home *h = map_find(r->homes, r->leases[i].worker_id);

		if (!h->org_id)
			return err_set(err, ERR_CONFLICT, "worker %s is no longer there", r->leases[i].worker_id);
		r->leases[i].provider_org_id = h->org_id;
		r->leases[i].desired_rev = ++h->desired_rev;
		home_take(h, r->leases[i].resources);
	}
	return 0;
}

/* All that the leases take of one worker at once: it may be the home of several. */
static int capacity_claim(struct reserving *r, struct err *err)
{
	enum { COLUMNS = 7 };
	struct db_value *values = arena_array(r->a, struct db_value, map_count(r->homes) * COLUMNS), *v = values;
	const char *worker_id;
	void *home;
	size_t it = 0;
	int64_t changed;

	while (map_next(r->homes, &it, &worker_id, &home)) {
		const struct home *h = home;

		*v++ = DB_TEXT(worker_id);
		*v++ = DB_INT(h->takes.cpu_milli);
		*v++ = DB_INT(h->takes.memory_mib);
		*v++ = DB_INT(h->takes.disk_mib);
		*v++ = DB_INT(h->takes.gpus);
		*v++ = DB_INT(r->now_ms);
		*v++ = DB_INT(h->desired_rev);
	}
	if (db_exec_batch(r->conn,
			  "UPDATE workers SET used_cpu_milli = used_cpu_milli + $2, used_memory_mib = used_memory_mib + $3,"
			  " used_disk_mib = used_disk_mib + $4, used_gpus = used_gpus + $5, updated_ms = $6, desired_rev = $7"
			  " WHERE id = $1 AND state = 'online' AND intent = 'open' AND blocked = 0"
			  " AND used_cpu_milli + $2 <= cpu_milli AND used_memory_mib + $3 <= memory_mib"
			  " AND used_disk_mib + $4 <= disk_mib AND used_gpus + $5 <= gpus",
			  values, COLUMNS, map_count(r->homes), &changed, err) < 0)
		return -1;
	if (changed != (int64_t)map_count(r->homes))
		return err_set(err, ERR_CONFLICT, "worker %s%s no longer has the capacity", r->leases[0].worker_id,
			       r->len > 1 ? " or another" : "");
	return 0;
}

/* The table's primary key is the guard against leasing a device twice: ERR_CONFLICT. */
static int devices_claim(struct reserving *r, struct err *err)
{
	VEC(struct db_value) values = { 0 };
	int rc = 0;

	for (size_t i = 0; i < r->len; i++)
		for (size_t k = 0; k < r->leases[i].devices.len; k++) {
			*vec_push(&values) = DB_TEXT(r->leases[i].worker_id);
			*vec_push(&values) = DB_TEXT(r->leases[i].devices.items[k]);
			*vec_push(&values) = DB_TEXT(r->leases[i].id);
		}
	if (values.len)
		rc = db_exec_batch(r->conn, "INSERT INTO device_claims (worker_id, device_uuid, lease_id) VALUES ($1, $2, $3)",
				   values.items, 3, values.len / 3, NULL, err);
	vec_release(&values);
	return rc;
}

/* ---- money --------------------------------------------------------------------------------------------- */

/* The holds that stood for the waiting replicas become the leases', at the prices really agreed. */
static int holds_move(struct reserving *r, struct err *err)
{
	struct hold_request *holds = arena_array(r->a, struct hold_request, r->len);
	struct lease **of = arena_array(r->a, struct lease *, r->len);
	size_t len = 0;

	for (size_t i = 0; i < r->len; i++) {
		const struct lease_plan *plan = &r->plans[i];
		struct lease *l = &r->leases[i];
		int64_t amount = hold_amount(l->rate_uusd_h, hold_duration_ms(r->c, plan->workload->spec));

		if (amount == 0) {
			if (plan->replica->hold_id &&
			    ledger_hold_release(r->conn, plan->replica->hold_id, "placed", r->now_ms, err) < 0)
				return -1;
			l->funded_ms = lease_funded_by(l, 0);
			continue;
		}
		of[len] = l;
		holds[len++] = (struct hold_request){ .org_id = l->org_id, .subject = l->id, .amount = amount,
						      .replaces = plan->replica->hold_id };
	}
	if (ledger_hold_many(r->conn, holds, len, "placed", r->now_ms, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (holds[i].ret_missing)
			return err_set(err, ERR_FUNDS, "organisation %s cannot pay for lease %s", of[i]->org_id, of[i]->id);
		of[i]->hold_id = holds[i].ret_hold;
		of[i]->funded_ms = lease_funded_by(of[i], holds[i].ret_held);
	}
	return 0;
}

/* ---- replicas, workloads, events --------------------------------------------------------------------------- */

static int replicas_move(struct reserving *r, struct err *err)
{
	enum { COLUMNS = 5 };
	struct db_value *values = arena_array(r->a, struct db_value, r->len * COLUMNS), *v = values;
	int64_t changed;

	for (size_t i = 0; i < r->len; i++) {
		*v++ = DB_TEXT(r->leases[i].replica_id);
		*v++ = DB_INT(r->leases[i].generation);
		*v++ = DB_TEXT(r->leases[i].id);
		*v++ = DB_INT(r->now_ms);
		*v++ = DB_INT(r->leases[i].generation - 1);
	}
	if (db_exec_batch(r->conn,
			  "UPDATE replicas SET state = 'leased', generation = $2, lease_id = $3, hold_id = NULL, updated_ms = $4"
			  " WHERE id = $1 AND state = 'pending' AND generation = $5",
			  values, COLUMNS, r->len, &changed, err) < 0)
		return -1;
	if (changed != (int64_t)r->len)
		return err_set(err, ERR_CONFLICT, "replica %s%s is no longer pending", r->leases[0].replica_id,
			       r->len > 1 ? " or another" : "");
	return 0;
}

static int workloads_move(struct reserving *r, struct err *err)
{
	enum { COLUMNS = 6 };
	struct db_value *values = arena_array(r->a, struct db_value, r->len * COLUMNS), *v = values;
	struct event_item *events = arena_array(r->a, struct event_item, 2 * r->len), *e = events;

	for (size_t i = 0; i < r->len; i++) {
		const struct lease *l = &r->leases[i];
		const char *text = arena_printf(r->a, "placed on worker %s, attempt %" PRId64, l->worker_id, l->generation);

		*v++ = DB_TEXT(l->workload_id);
		*v++ = DB_TEXT(lease_reason_names[REASON_PLACED]);
		*v++ = DB_TEXT(text);
		*v++ = DB_TEXT(l->id);
		*v++ = DB_TEXT(l->worker_id);
		*v++ = DB_INT(r->now_ms);
		*e++ = (struct event_item){ l->org_id, "scheduler", l->workload_id, "workload.preparing",
					    lease_reason_names[REASON_PLACED], text };
		*e++ = (struct event_item){ l->org_id, "scheduler", l->id, "lease.reserved", lease_reason_names[REASON_PLACED],
					    lease_reason_text(REASON_PLACED) };
	}
	if (db_exec_batch(r->conn,
			  "UPDATE workloads SET state = 'preparing', reason = $2, reason_text = $3, attempts = attempts + 1,"
			  " lease_id = $4, worker_id = $5, updated_ms = $6 WHERE id = $1",
			  values, COLUMNS, r->len, NULL, err) < 0)
		return -1;
	return events_append(r->c, r->conn, events, (size_t)(e - events), err);
}

static int reserve(struct reserving *r, struct err *err)
{
	for (size_t i = 0; i < r->len; i++) {
		lease_fill(r, &r->plans[i], &r->leases[i]);
		if (quote_apply(r, r->plans[i].workload, &r->leases[i], err) < 0)
			return -1;
	}
	if (homes_find(r, err) < 0 || capacity_claim(r, err) < 0 || replicas_move(r, err) < 0 || holds_move(r, err) < 0)
		return -1;
	for (size_t i = 0; i < r->len; i++)
		r->leases[i].deadline_ms = lease_deadline_ms(&r->leases[i]);
	if (db_insert_many(r->conn, &lease_type, "leases", r->leases, r->len, err) < 0 || devices_claim(r, err) < 0 ||
	    workloads_move(r, err) < 0)
		return -1;
	for (size_t i = 0; i < r->len; i++) {
		heartbeat_changed(r->c, r->conn, r->leases[i].worker_id);
		wake(r->c, r->conn, "worker", r->leases[i].worker_id);
		wake(r->c, r->conn, "workload", r->leases[i].workload_id);
	}
	wake(r->c, r->conn, "duty", "faults");
	return 0;
}

int leases_reserve(struct control *c, struct db_conn *conn, const struct lease_plan *plans, size_t len, int64_t now_ms,
		   struct arena *a, struct err *err)
{
	struct reserving r = { .c = c, .conn = conn, .a = a, .now_ms = now_ms, .plans = plans, .len = len };
	int rc;

	if (len == 0)
		return 0;
	r.leases = arena_array(a, struct lease, len);
	r.homes = map_new();
	rc = reserve(&r, err);
	map_free(r.homes, NULL);
	return rc;
}
