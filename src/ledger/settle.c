/* Settling a lease: what it owes follows from its total delivered time, what it is charged is
 * the difference to what it was charged before. */
#include "internal.h"

struct settling {
	struct db_conn *c;
	struct arena *arena;
	struct lease *lease;
	int64_t now_ms;
	struct account customer, escrow, provider, network;
	struct hold hold;  /* is_open false: none */
	int64_t free;	   /* what the customer has beside the hold */
	int64_t billed_ms; /* up to where it is paid */
	int64_t charge, fee, missing;
	struct transfer transfers[5];
	size_t len;
};

static int load(struct settling *s, struct err *err)
{
	const struct account_spec specs[4] = {
		{ ACCOUNT_CUSTOMER, s->lease->org_id, NULL },
		{ ACCOUNT_ESCROW, s->lease->org_id, s->lease->id },
		{ ACCOUNT_PROVIDER, s->lease->provider_org_id, NULL },
		{ ACCOUNT_FEE, NULL, NULL },
	};
	struct account accounts[4];

	if (accounts_ensure(s->c, specs, 4, s->now_ms, s->arena, accounts, NULL, err) < 0)
		return -1;
	s->customer = accounts[0];
	s->escrow = accounts[1];
	s->provider = accounts[2];
	s->network = accounts[3];
	s->free = account_available(&s->customer);
	return str_empty(s->lease->hold_id)
		       ? 0
		       : hold_get(s->c, s->lease->hold_id, s->arena, &s->hold, err);
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
	int64_t there = held(s) + MAX(s->free, INT64_C(0)), due;

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

static int post(struct settling *s, struct err *err)
{
	const struct account accounts[] = { s->customer, s->escrow, s->provider, s->network };
	const struct known known = { .accounts = accounts,
				     .account_count = ARRAY_LEN(accounts),
				     .holds = &s->hold.transfer,
				     .hold_count = s->hold.is_open };

	return post_known(s->c, s->transfers, s->len, &known, s->now_ms, err);
}

int ledger_settle(struct db_conn *c, struct lease *lease, int64_t billable_ms, int64_t hold_ms,
		  bool last, int64_t now_ms, struct arena *arena, struct settlement *ret,
		  struct err *err)
{
	struct settling s = { .c = c, .arena = arena, .lease = lease, .now_ms = now_ms };
	int64_t wanted = 0, hold;
	const char *hold_id;

	if (load(&s, err) < 0)
		return -1;
	if (!last && lease->rate_uusd_h) /* at least the smallest unit: it buys a long time at such a rate */
		wanted = MIN(MAX(owed_uusd(lease->rate_uusd_h, hold_ms), INT64_C(1)), LEDGER_AMOUNT_MAX);
	charge(&s, billable_ms);
	if (!s.charge && s.hold.is_open && held(&s) >= wanted && !last) {
		hold = held(&s);
		hold_id = lease->hold_id;
	} else {
		hold = MIN(wanted, held(&s) + MAX(s.free, INT64_C(0)) - s.charge);
		plan_charge(&s);
		if (s.hold.is_open && !MIN(s.charge, held(&s)))
			plan_void(&s);
		plan_hold(&s, hold);
		hold_id = hold > 0 ? s.transfers[s.len - 1].id : NULL;
		if (post(&s, err) < 0)
			return err_wrap(err, "lease %s", lease->id);
	}
	lease->billed_ms = s.billed_ms;
	lease->billed_uusd += s.charge;
	lease->fee_uusd += s.fee;
	lease->hold_id = hold_id;
	lease->settled_at_ms = now_ms;
	*ret = (struct settlement){ .charged_uusd = s.charge,
				    .fee_uusd = s.fee,
				    .held_uusd = hold,
				    .is_short = s.missing > 0 || hold < wanted };
	return 0;
}
