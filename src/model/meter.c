/* Metering: what a worker claims, what the server saw, and what both together are worth.
 *
 * Everything here works on totals since the lease began: a lost report costs nothing, a
 * doubled one changes nothing, and rounding never accumulates. */
#include "internal.h"

#define USAGE_FUTURE_MAX_MS (30 * SECOND_MS) /* how far a worker's clock may be ahead */

static int check_at_most(const char *field, int64_t claimed, int64_t leased, struct err *err)
{
	if (claimed > leased)
		return err_set_field(err, field,
				     "%" PRId64 " are claimed, the lease has %" PRId64, claimed,
				     leased);
	return 0;
}

static int check_sequence(const struct usage *u, const struct lease *lease, struct err *err)
{
	bool repeat = u->seq == lease->claimed_seq && u->delivered_ms == lease->claimed_ms &&
		      u->final == lease->claimed_final;
	bool late = u->seq < lease->claimed_seq && u->delivered_ms <= lease->claimed_ms &&
		    !u->final;

	if (repeat || late)
		return err_set(err, ERR_CONFLICT,
			       "receipt %" PRId64 " tells nothing new, the newest is %" PRId64,
			       u->seq, lease->claimed_seq);
	if (u->seq <= lease->claimed_seq)
		return err_set_field(err, "seq",
				     "%" PRId64
				     " was used for something else, the newest is %" PRId64
				     ": count up",
				     u->seq, lease->claimed_seq);
	if (lease->claimed_final)
		return err_set_field(err, "seq",
				     "%" PRId64 " comes after the final receipt (%" PRId64
				     "): send no more",
				     u->seq, lease->claimed_seq);
	if (u->delivered_ms < lease->claimed_ms)
		return err_set_field(err, "delivered_ms",
				     "%" PRId64 " is less than the %" PRId64
				     " of the receipt before: totals never fall",
				     u->delivered_ms, lease->claimed_ms);
	return 0;
}

int usage_check(const struct usage *u, const struct lease *lease, const char *worker_id,
		int64_t now_ms, struct err *err)
{
	const struct resources *r = lease->resources;

	if (!str_eq(u->lease, lease->id))
		return err_set_field(err, "lease", "'%.40s' is not the lease %s",
				     u->lease ? u->lease : "", lease->id);
	if (!str_eq(lease->worker_id, worker_id))
		return err_set_field(err, "lease", "%s is not a lease of worker %.40s",
				     lease->id, worker_id);
	if (!str_eq(u->worker, worker_id))
		return err_set_field(err, "worker",
				     "'%.40s' is not the worker that sent it (%.40s)",
				     u->worker ? u->worker : "", worker_id);
	if (u->generation != lease->generation)
		return err_set_field(err, "generation",
				     "%" PRId64 " is not the lease's (%" PRId64 ")",
				     u->generation, lease->generation);
	if (u->seq < 1 || u->delivered_ms < 0 || u->gpus < 0 || u->cpu_milli < 0 ||
	    u->memory_mib < 0)
		return err_set(err, ERR_INVALID,
			       "a receipt has no negative numbers, and its seq counts from 1");
	if (u->at_ms > now_ms + USAGE_FUTURE_MAX_MS)
		return err_set_field(err, "at_ms",
				     "lies %" PRId64 " s in the future: set the worker's clock",
				     (u->at_ms - now_ms) / SECOND_MS);
	if (check_at_most("gpus", u->gpus, r->gpus, err) < 0 ||
	    check_at_most("cpu_milli", u->cpu_milli, r->cpu_milli, err) < 0 ||
	    check_at_most("memory_mib", u->memory_mib, r->memory_mib, err) < 0)
		return -1;
	return check_sequence(u, lease, err);
}

int64_t usage_possible_ms(const struct lease *lease, int64_t now_ms)
{
	return MAX(now_ms - lease->reserved_ms, 0) + USAGE_FUTURE_MAX_MS;
}

void usage_take(const struct usage *u, struct lease *lease)
{
	lease->claimed_seq = u->seq;
	lease->claimed_ms = u->delivered_ms;
	lease->claimed_final = u->final;
}

/* Until when the lease may have run, at most.  PREPARING counts: its container may have
 * started, and even ended, since the last look; a later word that it had not takes the time
 * back (lease.c). */
static int64_t may_run_until(const struct lease *lease, int64_t now_ms)
{
	switch ((enum lease_state)lease->state) {
	case LEASE_RESERVED: return 0;
	case LEASE_PREPARING:
	case LEASE_RUNNING:
	case LEASE_STOPPING: return now_ms;
	case LEASE_PAUSED:
		return lease->desired == DESIRE_RUN ? now_ms : MIN(lease->paused_ms, now_ms);
	case LEASE_ENDED: return MIN(lease->ended_ms, now_ms);
	}
	return 0;
}

void meter_observe(struct lease *lease, int64_t now_ms)
{
	int64_t since = MAX(lease->observed_at_ms, lease->accepted_ms);
	int64_t until = may_run_until(lease, now_ms);

	if (now_ms <= lease->observed_at_ms)
		return; /* a second look at the same moment, or a clock that was set back */
	lease->observed_at_ms = now_ms;
	if (lease->accepted_ms && until > since && until - since <= lease->grace_ms)
		lease->observed_ms += until - since;
}

int64_t meter_billable_ms(const struct lease *lease)
{
	int64_t ret = MIN(MIN(lease->claimed_ms, lease->observed_ms), lease->funded_ms);

	if (!lease->running_ms)
		return 0; /* preparing is free */
	return lease->max_duration_ms ? MIN(ret, lease->max_duration_ms) : ret;
}

int64_t owed_uusd(int64_t rate_uusd_h, int64_t delivered_ms)
{
	int64_t ret;

	assert(rate_uusd_h >= 0 && delivered_ms >= 0);
	/* Saturates: no account could ever hold that much. */
	return muldiv_floor(rate_uusd_h, delivered_ms / SECOND_MS, HOUR_MS / SECOND_MS, &ret)
		       ? ret
		       : INT64_MAX;
}

int64_t fee_of(int64_t owed, int64_t fee_ppm)
{
	int64_t ret;

	assert(owed >= 0 && fee_ppm >= 0 && fee_ppm <= 1000000);
	if (!muldiv_floor(owed, fee_ppm, 1000000, &ret))
		abort(); /* cannot be: the fee is a part of the amount */
	return ret;
}

int64_t funded_ms(int64_t amount_uusd, int64_t rate_uusd_h)
{
	int64_t seconds;

	assert(amount_uusd >= 0 && rate_uusd_h >= 0);
	if (rate_uusd_h == 0 ||
	    !muldiv_floor(amount_uusd, HOUR_MS / SECOND_MS, rate_uusd_h, &seconds) ||
	    seconds > FUNDED_UNLIMITED / SECOND_MS)
		return FUNDED_UNLIMITED;
	return seconds * SECOND_MS;
}
