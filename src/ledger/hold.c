/* Holds: money set aside, and what becomes of it. */
#include "internal.h"

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct transfer *)a)->id, ((const struct transfer *)b)->id);
}

static int by_pending_id(const void *a, const void *b)
{
	return strcmp(((const struct transfer *)a)->pending_id,
		      ((const struct transfer *)b)->pending_id);
}

static int select_sorted(struct db_conn *c, const char *column, const char *const *ids, size_t len,
			 int (*compare)(const void *, const void *), struct arena *arena,
			 struct transfer **ret, size_t *ret_len, struct err *err)
{
	if (!len) {
		*ret_len = 0;
		return 0;
	}
	if (db_select_in(c, &transfer_type, "transfers", column, ids, len, arena, (void **)ret,
			 ret_len, err) < 0)
		return -1;
	if (*ret_len)
		qsort(*ret, *ret_len, sizeof(**ret), compare);
	return 0;
}

int holds_get(struct db_conn *c, const char *const *ids, size_t len, struct arena *arena,
	      struct hold *ret, struct err *err)
{
	const char **given = arena_array(arena, const char *, len);
	struct transfer *holds, *enders;
	size_t count = 0, hold_len, ender_len;

	for (size_t i = 0; i < len; i++)
		if (!str_empty(ids[i]))
			given[count++] = ids[i];
	if (select_sorted(c, "id", given, count, by_id, arena, &holds, &hold_len, err) < 0 ||
	    select_sorted(c, "pending_id", given, count, by_pending_id, arena, &enders,
			  &ender_len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		const struct transfer key = { .id = ids[i], .pending_id = ids[i] }, *t, *ender;

		ret[i] = (struct hold){ 0 };
		if (str_empty(ids[i]))
			continue;
		t = hold_len ? bsearch(&key, holds, hold_len, sizeof(key), by_id) : NULL;
		if (!t || t->kind != TRANSFER_PENDING)
			return err_set(err, ERR_NOT_FOUND, "no hold %.40s", ids[i]);
		ender = ender_len ? bsearch(&key, enders, ender_len, sizeof(key), by_pending_id)
				  : NULL;
		ret[i].transfer = *t;
		ret[i].is_open = !ender;
		ret[i].ended_by = ender ? ender->kind : TRANSFER_PENDING;
	}
	return 0;
}

static int refuse_spent(const char *hold_id, struct err *err)
{
	return err_set(
		err, ERR_CONFLICT,
		"hold %s was spent: what is wrong with it is corrected by a new transfer",
		hold_id);
}

/* Fills in the transfer that releases a hold. */
static struct transfer release_of(const struct transfer *hold, const char *why,
				  struct arena *arena)
{
	char id[ID_SIZE];

	ledger_id("release", hold->id, 0, id);
	return (struct transfer){ .id = arena_strdup(arena, id),
				  .kind = TRANSFER_VOID,
				  .pending_id = hold->id,
				  .code = "release",
				  .text = why,
				  .subject = hold->subject };
}

/* ---- many at once ---- */

/* One pass over all requests at a time, each with a few statements for all of them. */
struct holding {
	struct db_conn *c;
	struct arena *arena;
	int64_t now_ms;
	const char *why;
	struct hold_request *requests;
	size_t len;
	bool *done;		  /* made before */
	struct transfer **old;	  /* what it replaces, if open */
	struct account *accounts; /* customer and escrow of each */
	bool *are_new;		  /* of `accounts`: made when they are posted to */
	struct transfer *transfers;
	size_t transfer_len;
	struct transfer *replaced; /* those of `old` that are released */
	size_t replaced_len;
};

static int find_made_before(struct holding *h, struct err *err)
{
	const char **ids = arena_array(h->arena, const char *, h->len);
	struct transfer *there;
	size_t len;

	h->done = arena_array(h->arena, bool, h->len);
	for (size_t i = 0; i < h->len; i++) {
		struct hold_request *r = &h->requests[i];

		ledger_id("hold", r->subject, r->number, r->ret_hold);
		ids[i] = r->ret_hold;
	}
	if (select_sorted(h->c, "id", ids, h->len, by_id, h->arena, &there, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < h->len && len; i++) {
		const struct transfer key = { .id = ids[i] },
				      *t = bsearch(&key, there, len, sizeof(key), by_id);

		if (!t)
			continue;
		if (t->kind != TRANSFER_PENDING || !str_eq(t->subject, h->requests[i].subject))
			return err_set(err, ERR_CONFLICT,
				       "transfer %s is there already and not this hold", t->id);
		h->requests[i].ret_held = t->amount;
		h->done[i] = true;
	}
	return 0;
}

static int find_replaced(struct holding *h, struct err *err)
{
	const char **ids = arena_array(h->arena, const char *, h->len);
	struct hold *holds = arena_array(h->arena, struct hold, h->len);

	h->old = arena_array(h->arena, struct transfer *, h->len);
	for (size_t i = 0; i < h->len; i++)
		if (!h->done[i])
			ids[i] = h->requests[i].replaces;
	if (holds_get(h->c, ids, h->len, h->arena, holds, err) < 0)
		return -1;
	for (size_t i = 0; i < h->len; i++) {
		if (!holds[i].transfer.id)
			continue;
		if (holds[i].is_open)
			h->old[i] = &holds[i].transfer;
		else if (holds[i].ended_by == TRANSFER_POST)
			return refuse_spent(ids[i], err);
	}
	return 0;
}

static int load_accounts(struct holding *h, struct err *err)
{
	struct account_spec *specs = arena_array(h->arena, struct account_spec, 2 * h->len);

	for (size_t i = 0; i < h->len; i++) {
		specs[2 * i] =
			(struct account_spec){ ACCOUNT_CUSTOMER, h->requests[i].org_id, NULL };
		specs[2 * i + 1] = (struct account_spec){ ACCOUNT_ESCROW, h->requests[i].org_id,
							  h->requests[i].subject };
	}
	h->accounts = arena_array(h->arena, struct account, 2 * h->len);
	h->are_new = arena_array(h->arena, bool, 2 * h->len);
	return accounts_ensure(h->c, specs, 2 * h->len, h->now_ms, h->arena, h->accounts,
			       h->are_new, err);
}

/* First come, first served: what is held for one request is not there for the next. */
static void plan(struct holding *h)
{
	struct map *available = map_new(); /* by account, an index into left */
	int64_t *left = arena_array(h->arena, int64_t, h->len);

	h->transfers = arena_array(h->arena, struct transfer, 2 * h->len);
	h->replaced = arena_array(h->arena, struct transfer, h->len);
	for (size_t i = 0; i < h->len; i++) {
		struct hold_request *r = &h->requests[i];
		const struct account *customer = &h->accounts[2 * i];
		int64_t *free_here = map_find(available, customer->id), there, amount;

		if (!free_here) {
			free_here = &left[i];
			*free_here = account_available(customer);
			map_put(available, customer->id, free_here);
		}
		there = *free_here +
			(h->old[i] && str_eq(h->old[i]->debit_account, customer->id)
				 ? h->old[i]->amount
				 : 0);
		amount = r->is_partial ? MAX(MIN(r->amount, there), INT64_C(1)) : r->amount;
		r->ret_missing = h->done[i] ? 0 : MAX(amount - there, INT64_C(0));
		if (h->done[i] || r->ret_missing)
			continue;
		*free_here = there - amount;
		r->ret_held = amount;
		if (h->old[i]) {
			h->replaced[h->replaced_len++] = *h->old[i];
			h->transfers[h->transfer_len++] =
				release_of(h->old[i], h->why, h->arena);
		}
		h->transfers[h->transfer_len++] = (struct transfer){
			.id = r->ret_hold,
			.kind = TRANSFER_PENDING,
			.debit_account = customer->id,
			.credit_account = h->accounts[2 * i + 1].id,
			.code = "hold",
			.subject = r->subject,
			.amount = amount,
		};
	}
	map_free(available, NULL);
}

static int check_requests(const struct hold_request *requests, size_t len, struct err *err)
{
	for (size_t i = 0; i < len; i++)
		if (requests[i].amount < 1 || requests[i].amount > LEDGER_AMOUNT_MAX)
			return err_set_field(err, "amount",
					     "%" PRId64 " cannot be held: 1 to %" PRId64,
					     requests[i].amount, LEDGER_AMOUNT_MAX);
	return 0;
}

static int hold_all(struct holding *h, struct err *err)
{
	struct known known = {
		.ids_are_new = true
	}; /* of an open hold, the release is not there either */

	if (check_requests(h->requests, h->len, err) < 0 || find_made_before(h, err) < 0 ||
	    find_replaced(h, err) < 0 || load_accounts(h, err) < 0)
		return -1;
	plan(h);
	known.accounts = h->accounts;
	known.account_count = 2 * h->len;
	known.are_new = h->are_new;
	known.holds = h->replaced;
	known.hold_count = h->replaced_len;
	return post_known(h->c, h->transfers, h->transfer_len, &known, h->now_ms, err);
}

int ledger_hold_many(struct db_conn *c, struct hold_request *requests, size_t len,
		     const char *why, int64_t now_ms, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct holding h = { .c = c,
			     .arena = &arena,
			     .now_ms = now_ms,
			     .why = why,
			     .requests = requests,
			     .len = len };

	if (!len)
		return 0;
	return hold_all(&h, err);
}

/* ---- one at a time ---- */

int ledger_hold(struct db_conn *c, const char *org_id, const char *subject, int64_t number,
		int64_t amount, bool partial, int64_t now_ms, char ret_hold[static ID_SIZE],
		int64_t *ret_held, struct err *err)
{
	struct hold_request r = { .org_id = org_id,
				  .subject = subject,
				  .number = number,
				  .amount = amount,
				  .is_partial = partial };
	cleanup_arena struct arena arena = { 0 };
	struct holding h = {
		.c = c, .arena = &arena, .now_ms = now_ms, .requests = &r, .len = 1
	};

	if (hold_all(&h, err) < 0)
		return -1;
	if (r.ret_missing)
		return refuse_funds(&h.accounts[0], account_available(&h.accounts[0]),
				    r.ret_missing, err);
	memcpy(ret_hold, r.ret_hold, ID_SIZE);
	*ret_held = r.ret_held;
	return 0;
}

int ledger_hold_release(struct db_conn *c, const char *hold_id, const char *why, int64_t now_ms,
			struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct known known = { .hold_count = 1, .ids_are_new = true };
	struct transfer release;
	struct hold h;

	if (holds_get(c, &hold_id, 1, &arena, &h, err) < 0)
		return -1;
	if (!h.transfer.id)
		return err_set(err, ERR_NOT_FOUND, "no hold is named");
	if (!h.is_open)
		return h.ended_by == TRANSFER_POST ? refuse_spent(hold_id, err) : 0;
	release = release_of(&h.transfer, why, &arena);
	known.holds = &h.transfer;
	return post_known(c, &release, 1, &known, now_ms, err);
}

int ledger_deposit(struct db_conn *c, const char *org_id, const char *id, int64_t amount,
		   const char *text, int64_t now_ms, struct err *err)
{
	const struct account_spec specs[2] = { { ACCOUNT_EXTERNAL, NULL, NULL },
					       { ACCOUNT_CUSTOMER, org_id, NULL } };
	struct account accounts[2];
	const struct known known = { .accounts = accounts, .account_count = 2 };
	cleanup_arena struct arena arena = { 0 };
	struct transfer t = { .id = id,
			      .kind = TRANSFER_POSTED,
			      .code = "deposit",
			      .subject = org_id,
			      .amount = amount,
			      .text = text };

	if (accounts_ensure(c, specs, 2, now_ms, &arena, accounts, NULL, err) < 0)
		return -1;
	t.debit_account = accounts[0].id;
	t.credit_account = accounts[1].id;
	return post_known(c, &t, 1, &known, now_ms, err);
}

int ledger_expire(struct db_conn *c, int64_t now_ms, int max, int *ret_expired, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct transfer *due, *ends;
	size_t len;

	if (db_select(c, &transfer_type, "transfers",
		      "WHERE expires_ms > 0 AND expires_ms <= $1 AND NOT EXISTS "
		      "(SELECT 1 FROM transfers e WHERE e.pending_id = transfers.id) ORDER BY "
		      "expires_ms, id LIMIT $2",
		      DB_ARGS(DB_INT(now_ms), DB_INT(max)), &arena, (void **)&due, &len,
		      err) < 0)
		return -1;
	ends = arena_array(&arena, struct transfer, len);
	for (size_t i = 0; i < len; i++) {
		char id[ID_SIZE];

		ledger_id("expire", due[i].id, 0, id);
		ends[i] = (struct transfer){ .id = arena_strdup(&arena, id),
					     .kind = TRANSFER_EXPIRE,
					     .pending_id = due[i].id,
					     .code = "expire",
					     .subject = due[i].subject };
	}
	const struct known known = { .holds = due, .hold_count = len, .ids_are_new = true };
	if (post_known(c, ends, len, &known, now_ms, err) < 0)
		return -1;
	*ret_expired = (int)len;
	return 0;
}
