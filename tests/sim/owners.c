/* The owners of machines, who join, drain, pause, reprice and take devices away; and the operator, who books money and
 * blocks workers. */
#include "machine.h"
#include "people.h"

#include "../../src/db/db.h"

int owners_join(void)
{
	for (int i = 0; i < sim.o.machines; i++) {
		struct machine *m = &machines[i];
		cleanup_arena struct arena a = { 0 };
		struct join_token token = { 0 };
		struct worker_joined joined;
		struct inventory inv;
		char hex[2 * SIGN_PUBLIC_SIZE + 1];

		if (quiet_call(OP_join_token_create, provider_org(), &join_token_request_type,
			       &(struct join_token_request){ .expires_s = 3600 }, &a,
			       &token) < 0)
			return -1;
		inventory_fill(m, &inv);
		hex_format(m->pk, sizeof(m->pk), hex);
		if (quiet_call(OP_worker_join, "", &worker_join_type,
			       &(struct worker_join){ .token = token.secret,
						      .public_key = hex,
						      .name = m->name,
						      .inventory = &inv },
			       &a, &joined) < 0)
			return -1;
		machine_join(i, joined.worker_id);
	}
	return 0;
}

/* ---- intent ------------------------------------------------------------------------------------------------ */

static void intent_tell(void *arg);

static void intent_told(struct rpc *r, const struct err *err, struct slice answer)
{
	struct machine *m = r->arg;

	(void)answer;
	if (err) {
		if (err->code == ERR_UNAUTHENTICATED)
			process_session_refused(m, r);
		at(sim.now_ms + 5 * SECOND_MS, intent_tell, m);
	}
}

static void intent_tell(void *arg)
{
	struct machine *m = arg;
	struct intent_request in = { .intent = m->intent };
	struct rpc *r;

	if (!m->up) {
		at(sim.now_ms + 10 * SECOND_MS, intent_tell, m);
		return;
	}
	r = process_rpc(m, OP_worker_intent, intent_told, m);
	r->epoch_now = NULL; /* the owner's command, not the process's */
	rpc_body(r, &intent_request_type, &in);
	process_call(m, r);
}

/* ---- blocking ------------------------------------------------------------------------------------------------ */

struct block {
	struct machine *m;
	bool block;
};

static void block_again(void *arg)
{
	struct block *b = arg;
	const char *const block[] = { "worker", "block", b->m->id, "--why", "sim" };
	const char *const unblock[] = { "worker", "unblock", b->m->id };

	if (operator_command(b->block ? 5 : 3, b->block ? block : unblock) != 0) {
		at(sim.now_ms + 5 * SECOND_MS, block_again, b);
		return;
	}
	b->m->blocked = b->block;
	free(b);
}

static void block(struct machine *m, bool on, int64_t at_ms)
{
	struct block *b = xcalloc(1, sizeof(*b));

	m->blocked = true;
	*b = (struct block){ m, on };
	at(at_ms, block_again, b);
}

/* ---- changes of mind -------------------------------------------------------------------------------------------- */

static void devices_back(void *arg)
{
	struct machine *m = arg;

	m->devices_shown = m->device_count;
	process_inventory_changed(m);
}

static void open_again(void *arg)
{
	struct machine *m = arg;

	if (m->intent == INTENT_OPEN)
		return;
	m->intent = INTENT_OPEN;
	intent_tell(m);
}

static void owner_again(void *arg)
{
	struct machine *m = arg;
	int64_t back_ms = sim.now_ms + rng_in(&sim.life, 1, 8) * MINUTE_MS;

	if (sim.calm)
		return;
	if (strikes(FAULT_OWNER, &sim.luck, 150000)) {
		switch (rng_in(&sim.luck, 0, 3)) {
		case 0:
			m->intent =
				rng_chance(&sim.luck, 600000) ? INTENT_DRAINING : INTENT_PAUSED;
			intent_tell(m);
			at(back_ms, open_again, m);
			break;
		case 1:
			m->price_cpu_uusd_h = rng_in(&sim.luck, 1, 10) * 10000;
			process_inventory_changed(m);
			break;
		case 2:
			m->devices_shown = m->device_count ? m->device_count - 1 : 0;
			process_inventory_changed(m);
			at(back_ms, devices_back, m);
			break;
		default: block(m, true, sim.now_ms); block(m, false, back_ms);
		}
	}
	at(sim.now_ms + rng_in(&sim.life, 2, 6) * MINUTE_MS, owner_again, m);
}

/* ---- money ---------------------------------------------------------------------------------------------------------- */

struct top_up {
	struct customer *c;
	int64_t number, amount;
};

static void top_up(void *arg)
{
	struct top_up *x = arg;
	struct err err = { 0 };

	/* The same number until it is known to be there. */
	if (operator_deposit(x->c->org, x->number, x->amount, &err) < 0) {
		at(sim.now_ms + 3 * SECOND_MS, top_up, x);
		return;
	}
	free(x);
}

static void pay_again(void *arg)
{
	struct customer *c = &customers[rng_in(&sim.life, 0, sim.o.customers - 1)];
	struct top_up *x = xcalloc(1, sizeof(*x));

	*x = (struct top_up){ c, ++c->deposits, sum_choose() };
	top_up(x);
	if (!sim.calm)
		at(sim.now_ms + rng_in(&sim.life, 1, is_poor() ? 20 : 10) * MINUTE_MS,
		   pay_again, arg);
}

static void started(void *arg)
{
	process_start(arg);
}

void owners_start(void)
{
	for (int i = 0; i < sim.o.machines; i++) {
		if (sim_scale() == 1)
			process_start(&machines[i]);
		else
			at(sim.now_ms + rng_in(&sim.life, 0, MINUTE_MS), started, &machines[i]);
		at(sim.now_ms + 3 * MINUTE_MS, owner_again, &machines[i]);
	}
	at(sim.now_ms + 4 * MINUTE_MS, pay_again, NULL);
}

void owners_calm(void)
{
	for (int i = 0; i < sim.o.machines; i++) {
		intent_tell(&machines[i]);
		if (machines[i].blocked)
			block(&machines[i], false, sim.now_ms + 10);
	}
}
