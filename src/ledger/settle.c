/* Settling leases: what one owes follows from its total delivered time, what it is charged is
 * the difference to what it was charged before. */
#include "internal.h"

struct settling {
	struct arena *arena;
	struct lease *lease;
	const struct settle_request *request;
	int64_t now_ms;
	struct account customer, escrow, provider, network;
	struct hold hold;  /* is_open false: none */
	int64_t *free;	   /* what the customer has beside the holds, after those settled before this one */
	int64_t billed_ms; /* up to where it is paid */
	int64_t charge, fee, missing;
	int64_t wanted, held; /* of the hold that it is to have from now on */
	const char *hold_id;
	struct transfer transfers[5];
	size_t len;
};

static int accounts_load(struct db_conn *c, struct settling *all, size_t len, int64_t now_ms,
			 struct arena *arena, struct err *err)
{
	enum { EACH = 4 };
	struct account_spec *specs = arena_array(arena, struct account_spec, EACH * len);
	struct account *accounts = arena_array(arena, struct account, EACH * len);

	for (size_t i = 0; i < len; i++) {
		const struct lease *l = all[i].lease;

		specs[EACH * i] = (struct account_spec){ ACCOUNT_CUSTOMER, l->org_id, NULL };
		specs[EACH * i + 1] = (struct account_spec){ ACCOUNT_ESCROW, l->org_id, l->id };
		specs[EACH * i + 2] =
			(struct account_spec){ ACCOUNT_PROVIDER, l->provider_org_id, NULL };
		specs[EACH * i + 3] = (struct account_spec){ ACCOUNT_FEE, NULL, NULL };
	}
	if (accounts_ensure(c, specs, EACH * len, now_ms, arena, accounts, NULL, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		all[i].customer = accounts[EACH * i];
		all[i].escrow = accounts[EACH * i + 1];
		all[i].provider = accounts[EACH * i + 2];
		all[i].network = accounts[EACH * i + 3];
	}
	return 0;
}

static int holds_load(struct db_conn *c, struct settling *all, size_t len, struct arena *arena,
		      struct err *err)
{
	const char **ids = arena_array(arena, const char *, len);
	struct hold *holds = arena_array(arena, struct hold, len);

	for (size_t i = 0; i < len; i++)
		ids[i] = all[i].lease->hold_id;
	if (holds_get(c, ids, len, arena, holds, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		all[i].hold = holds[i];
	return 0;
}

static int64_t held(const struct settling *s)
{
	return s->hold.is_open ? s->hold.transfer.amount : 0;
}

/* What is charged, limited by what there is: then up to a whole second before the money ends,
 * so that what was billed stays what its time costs. */
static void charge(struct settling *s, int64_t billable_ms)
{
	const struct lease *l = s->lease;
	int64_t there = held(s) + MAX(*s->free, INT64_C(0)), due;

	s->billed_ms = MAX(billable_ms, l->billed_ms);
	due = owed_uusd(l->rate_uusd_h, s->billed_ms) - l->billed_uusd;
	if (due > there) {
		s->billed_ms = MIN(
			MAX(funded_ms(l->billed_uusd + there, l->rate_uusd_h), l->billed_ms),
			s->billed_ms);
		s->charge = owed_uusd(l->rate_uusd_h, s->billed_ms) - l->billed_uusd;
		s->missing = due - s->charge;
	} else {
		s->charge = due;
	}
	assert(s->charge >= 0 && s->charge <= there);
	s->fee = fee_of(l->billed_uusd + s->charge, l->fee_ppm) - l->fee_uusd;
}

/* `purpose` and what was billed by then name it: billed_uusd grows with every settlement that
 * charges. */
static struct transfer *add(struct settling *s, enum transfer_kind kind, const char *purpose,
			    const struct account *debit, const struct account *credit,
			    int64_t amount)
{
	struct transfer *t = &s->transfers[s->len];
	char id[ID_SIZE];

	if (amount <= 0)
		return NULL;
	s->len++;
	ledger_id(purpose, s->lease->id, s->lease->billed_uusd + s->charge, id);
	*t = (struct transfer){ .id = arena_strdup(s->arena, id),
				.kind = kind,
				.debit_account = debit->id,
				.credit_account = credit->id,
				.code = purpose,
				.subject = s->lease->id,
				.amount = amount };
	return t;
}

static void plan_charge(struct settling *s)
{
	int64_t from_hold = MIN(s->charge, held(s));
	struct transfer *t, *rest;
	char missing[32];

	t = add(s, TRANSFER_POST, "settle", &s->customer, &s->escrow, from_hold);
	if (t)
		t->pending_id = s->hold.transfer.id;
	rest = add(s, TRANSFER_POSTED, "settle-beyond", &s->customer, &s->escrow,
		   s->charge - from_hold);
	t = t ? t : rest;
	if (t && s->missing) {
		money_format(s->missing, missing);
		t->text = arena_printf(s->arena, "%s %s more is owed, and not there", missing,
				       s->customer.currency);
	}
	add(s, TRANSFER_POSTED, "provider", &s->escrow, &s->provider, s->charge - s->fee);
	add(s, TRANSFER_POSTED, "fee", &s->escrow, &s->network, s->fee);
}

static void plan_void(struct settling *s)
{
	struct transfer *t = &s->transfers[s->len++];
	char id[ID_SIZE];

	ledger_id("release", s->hold.transfer.id, 0, id);
	*t = (struct transfer){ .id = arena_strdup(s->arena, id),
				.kind = TRANSFER_VOID,
				.code = "release",
				.pending_id = s->hold.transfer.id,
				.subject = s->lease->id };
}

/* The new hold is named after the old one; after none, by the time. */
static void plan_hold(struct settling *s, int64_t amount)
{
	struct transfer *t = add(s, TRANSFER_PENDING, "hold", &s->customer, &s->escrow, amount);
	char id[ID_SIZE];

	if (!t)
		return;
	if (s->hold.transfer.id)
		ledger_id("renew", s->hold.transfer.id, 0, id);
	else
		ledger_id("renew", s->lease->id, s->now_ms, id);
	t->id = arena_strdup(s->arena, id);
}

/* At least the smallest unit: it buys a long time at such a rate. */
static int64_t wanted(const struct settling *s)
{
	const struct settle_request *r = s->request;

	if (r->last || !s->lease->rate_uusd_h)
		return 0;
	return MIN(MAX(owed_uusd(s->lease->rate_uusd_h, r->hold_ms), INT64_C(1)), LEDGER_AMOUNT_MAX);
}

static void plan(struct settling *s)
{
	s->wanted = wanted(s);
	charge(s, s->request->billable_ms);
	if (!s->charge && s->hold.is_open && held(s) >= s->wanted && !s->request->last) {
		s->held = held(s);
		s->hold_id = s->lease->hold_id;
		return;
	}
	s->held = MIN(s->wanted, held(s) + MAX(*s->free, INT64_C(0)) - s->charge);
	plan_charge(s);
	if (s->hold.is_open && !MIN(s->charge, held(s)))
		plan_void(s);
	plan_hold(s, s->held);
	s->hold_id = s->held > 0 ? s->transfers[s->len - 1].id : NULL;
	*s->free += held(s) - s->charge - s->held;
}

/* In their order: what one takes of a customer's money is not there for the next. */
static void plan_all(struct settling *all, size_t len, struct arena *arena)
{
	struct map *customers = map_new(); /* by account, what is free there */

	for (size_t i = 0; i < len; i++) {
		struct settling *s = &all[i];

		s->free = map_find(customers, s->customer.id);
		if (!s->free) {
			s->free = arena_new(arena, int64_t);
			*s->free = account_available(&s->customer);
			map_put(customers, s->customer.id, s->free);
		}
		plan(s);
	}
	map_free(customers, NULL);
}

static int post(struct db_conn *c, const struct settling *all, size_t len, int64_t now_ms,
		struct arena *arena, struct err *err)
{
	struct transfer *transfers = arena_array(arena, struct transfer, len * ARRAY_LEN(all->transfers)),
			*holds = arena_array(arena, struct transfer, len);
	struct account *accounts = arena_array(arena, struct account, 4 * len);
	struct known known = { .accounts = accounts, .account_count = 4 * len, .holds = holds };
	size_t count = 0;

	for (size_t i = 0; i < len; i++) {
		const struct settling *s = &all[i];

		accounts[4 * i] = s->customer;
		accounts[4 * i + 1] = s->escrow;
		accounts[4 * i + 2] = s->provider;
		accounts[4 * i + 3] = s->network;
		if (s->hold.is_open)
			holds[known.hold_count++] = s->hold.transfer;
		memcpy(transfers + count, s->transfers, s->len * sizeof(*transfers));
		count += s->len;
	}
	return post_known(c, transfers, count, &known, now_ms, err);
}

static void take(const struct settling *s, struct settle_request *r)
{
	struct lease *l = r->lease;

	l->billed_ms = s->billed_ms;
	l->billed_uusd += s->charge;
	l->fee_uusd += s->fee;
	l->hold_id = s->hold_id;
	l->settled_at_ms = s->now_ms;
	r->ret = (struct settlement){ .charged_uusd = s->charge,
				      .fee_uusd = s->fee,
				      .held_uusd = s->held,
				      .is_short = s->missing > 0 || s->held < s->wanted };
}

int ledger_settle_many(struct db_conn *c, struct settle_request *requests, size_t len,
		       int64_t now_ms, struct arena *arena, struct err *err)
{
	struct settling *all = arena_array(arena, struct settling, len);

	if (!len)
		return 0;
	for (size_t i = 0; i < len; i++) {
		all[i].arena = arena;
		all[i].request = &requests[i];
		all[i].lease = requests[i].lease;
		all[i].now_ms = now_ms;
	}
	if (accounts_load(c, all, len, now_ms, arena, err) < 0 ||
	    holds_load(c, all, len, arena, err) < 0)
		return -1;
	plan_all(all, len, arena);
	if (post(c, all, len, now_ms, arena, err) < 0)
		return err_wrap(err, len > 1 ? "lease %s or another" : "lease %s", all[0].lease->id);
	for (size_t i = 0; i < len; i++)
		take(&all[i], &requests[i]);
	return 0;
}

int ledger_settle(struct db_conn *c, struct lease *lease, int64_t billable_ms, int64_t hold_ms,
		  bool last, int64_t now_ms, struct arena *arena, struct settlement *ret,
		  struct err *err)
{
	struct settle_request r = {
		.lease = lease, .billable_ms = billable_ms, .hold_ms = hold_ms, .last = last
	};

	if (ledger_settle_many(c, &r, 1, now_ms, arena, err) < 0)
		return -1;
	*ret = r.ret;
	return 0;
}
