/* Leases in the store.  Nothing else writes the table `leases` but reserve.c, which makes them, and transition.c, which
 * moves them. */
#include "internal.h"

/* The digest of nothing that exists. */
#define INPUT_GONE "0000000000000000000000000000000000000000000000000000000000000000"

int lease_load(struct db_conn *conn, const char *id, struct arena *a, struct lease *ret, struct err *err)
{
	if (db_get(conn, &lease_type, "leases", "WHERE id = $1", DB_ARGS(DB_TEXT(id)), a, ret, err) < 0)
		return err->code == ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, LEASE_MISSING, id) : -1;
	return 0;
}

int lease_store(struct control *c, struct db_conn *conn, struct lease *lease, struct err *err)
{
	lease->deadline_ms = lease_deadline_ms(lease);
	lease->updated_ms = control_now(c);
	return db_update(conn, &lease_type, "leases", "id", lease, err);
}

/* Delivered time that so much money, all that was billed included, pays for.  Once it covers the longest time there is no
 * end to it: rounding must not cut the last second. */
int64_t lease_funded_by(const struct lease *l, int64_t money_uusd)
{
	if (l->max_duration_ms && money_uusd >= owed_uusd(l->rate_uusd_h, l->max_duration_ms))
		return FUNDED_UNLIMITED;
	return funded_ms(money_uusd, l->rate_uusd_h);
}

int lease_settle(struct control *c, struct db_conn *conn, struct lease *lease, int64_t now_ms, struct arena *a, struct err *err)
{
	struct settlement s = { 0 };
	int64_t hold_ms = c->config.hold_ms, billable = meter_billable_ms(lease), rate = lease->rate_uusd_h;

	if (lease->max_duration_ms) {
		int64_t rest = owed_uusd(rate, lease->max_duration_ms) - owed_uusd(rate, billable);

		hold_ms = MIN(hold_ms, funded_ms(rest, rate) + SECOND_MS); /* a second more: both are rounded down */
	}
	if (ledger_settle(conn, lease, billable, hold_ms, false, now_ms, a, &s, err) < 0)
		return -1;
	lease->funded_ms = lease_funded_by(lease, lease->billed_uusd + s.held_uusd);
	metrics_count(c, conn, "charged_uusd_total", s.charged_uusd);
	return 0;
}

int leases_settle_last(struct control *c, struct db_conn *conn, struct lease *const *leases, size_t len, int64_t now_ms,
		       struct arena *a, struct err *err)
{
	struct settle_request *requests = arena_array(a, struct settle_request, len);
	int64_t charged = 0;

	for (size_t i = 0; i < len; i++)
		requests[i] = (struct settle_request){ .lease = leases[i], .billable_ms = meter_billable_ms(leases[i]), .last = true };
	if (ledger_settle_many(conn, requests, len, now_ms, a, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		charged += requests[i].ret.charged_uusd;
	if (charged)
		metrics_count(c, conn, "charged_uusd_total", charged);
	return 0;
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
