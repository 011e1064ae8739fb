/* A worker that lies: receipts and observations that are not true, sent beside the true ones.  Nothing may follow from
 * them but evidence. */
#include "sim.h"

#include "../../src/api/api.h"
#include "../../src/db/db.h"
#include "check.h"

enum lie {
	LIE_SIGNATURE,	 /* more time, signed by somebody else */
	LIE_OTHERS,	 /* for a lease of another worker */
	LIE_FUTURE,	 /* from the future */
	LIE_DEVICES,	 /* more devices than leased */
	LIE_LESS,	 /* total that falls */
	LIE_GENERATION,	 /* of another attempt */
	LIE_EXIT,	 /* another attempt has exited with 77 */
	LIE_EXIT_OTHERS, /* another worker's lease has exited with 78 */
	LIE_COUNT,
};
static int64_t lies_evident; /* those that must have become evidence */

struct target {
	char lease[ID_SIZE];
	int64_t generation, claimed_ms, claimed_seq, gpus;
	int owner, liar;
};

static bool target_find(enum lie lie, struct target *ret)
{
	struct look l = { 0 };
	bool found = false;
	int64_t skip = rng_in(&sim.luck, 0, 5);

	while (look_row(
		&l,
		"SELECT id, generation, claimed_ms, claimed_seq, worker_id FROM leases WHERE state = 'running' AND"
		" claimed_seq > 2 AND claimed_ms > 2000 AND claimed_final = 0 ORDER BY id",
		DB_NO_ARGS)) {
		*ret = (struct target){ .generation = look_int(&l, 1),
					.claimed_ms = look_int(&l, 2),
					.claimed_seq = look_int(&l, 3) };
		snprintf(ret->lease, ID_SIZE, "%s", look_text(&l, 0));
		ret->owner = machine_find(look_text(&l, 4));
		found = true;
		if (skip-- == 0)
			break;
	}
	look_end(&l);
	if (!found)
		return false;
	ret->liar = lie == LIE_OTHERS || lie == LIE_EXIT_OTHERS
			    ? (ret->owner + 1) % sim.o.machines
			    : ret->owner;
	return sim.o.machines > 1 || ret->liar != ret->owner ||
	       (lie != LIE_OTHERS && lie != LIE_EXIT_OTHERS);
}

static void receipt_lie(enum lie lie, const struct target *x, struct arena *a,
			struct signed_usage *ret)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	uint8_t sig[SIGNATURE_SIZE];
	struct usage u = { .lease = x->lease,
			   .worker = machine_id(x->liar),
			   .generation = x->generation,
			   .seq = x->claimed_seq + 100000,
			   .delivered_ms = x->claimed_ms + HOUR_MS,
			   .at_ms = sim.now_ms };

	if (lie == LIE_FUTURE)
		u.at_ms += 10 * MINUTE_MS;
	if (lie == LIE_DEVICES)
		u.gpus = 60;
	if (lie == LIE_LESS)
		u.delivered_ms = x->claimed_ms / 2;
	if (lie == LIE_GENERATION)
		u.generation++;
	strbuf_adds(&text, "tes-usage-1\n");
	schema_write(&usage_type, &u, &text);
	sign_make(text.buf, text.len, machine_key(x->liar), sig);
	if (lie == LIE_SIGNATURE)
		sig[3] ^= 1;
	ret->payload = arena_strdup(a, text.buf + strlen("tes-usage-1\n"));
	ret->signature = base64url_format(a, sig, sizeof(sig));
}

static void lie_told(struct rpc *r, const struct err *err, struct slice answer)
{
	(void)answer;
	if (!err && (uintptr_t)r->arg)
		lies_evident++;
}

static void lie_tell(enum lie lie)
{
	cleanup_arena struct arena a = { 0 };
	struct signed_usage receipt;
	struct lease_observation seen = { .state = OBSERVED_EXITED,
					  .exit_code = lie == LIE_EXIT ? 77 : 78,
					  .reason = REASON_NONE };
	struct observation in = { .at_ms = sim.now_ms };
	struct target x;
	struct rpc *r;

	if (!target_find(lie, &x) || !machine_is_up(x.liar) || !server_is_up())
		return;
	in.boot_id = machine_boot(x.liar);
	if (lie == LIE_EXIT || lie == LIE_EXIT_OTHERS) {
		seen.lease = x.lease;
		seen.generation = x.generation + (lie == LIE_EXIT);
		in.leases.items = &seen;
		in.leases.len = 1;
	} else {
		receipt_lie(lie, &x, &a, &receipt);
		in.receipts.items = &receipt;
		in.receipts.len = 1;
	}
	note("a lie of kind %d about %s", lie, x.lease);
	r = rpc_new(OP_worker_observe, node_of_machine(x.liar), machine_id(x.liar), true);
	snprintf(r->session, sizeof(r->session), "%s", machine_session(x.liar));
	r->done = lie_told;
	r->arg = (void *)(uintptr_t)(lie != LIE_EXIT);
	rpc_body(r, &observation_type, &in);
	net_call(r);
}

static void lie_again(void *arg)
{
	if (strikes(FAULT_LIAR, &sim.luck, 250000))
		lie_tell(rng_in(&sim.luck, 0, LIE_COUNT - 1));
	at(sim.now_ms + rng_in(&sim.luck, 10 * SECOND_MS, MINUTE_MS), lie_again, arg);
}

void liar_start(void)
{
	lies_evident = 0;
	at(sim.now_ms + MINUTE_MS, lie_again, NULL);
}

void liar_check(void)
{
	int64_t evidence = look_number("SELECT COUNT(*) FROM evidence", DB_NO_ARGS);
	struct look l = { 0 };

	if (evidence < lies_evident)
		broken("lies", "%" PRId64 " lies were told, %" PRId64 " are on record",
		       lies_evident, evidence);
	if (look_row(&l, "SELECT id, exit_code FROM leases WHERE exit_code IN (77, 78)",
		     DB_NO_ARGS)) {
		broken("lies", "%s was ended by a lie (%" PRId64 ")", look_text(&l, 0),
		       look_int(&l, 1));
		look_end(&l);
	}
}
