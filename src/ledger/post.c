/* Posting transfers.  Everything is read and checked before anything is written, so that a
 * refusal leaves the caller's transaction as it was; the conditions of the UPDATE and the
 * CHECKs of the table stand behind it. */
#include "internal.h"

/* An account that the call touches, and by how much. */
struct touched {
	const char *id;
	struct account account; /* as it was read */
	bool is_new;		/* was not there, and is made here */
	int64_t transfers; /* how many of the call */
	const char *last_transfer;
	int64_t debits_pending, debits_posted, credits_pending, credits_posted;
};

struct posting {
	struct db_conn *c;
	struct arena arena;
	const struct known *known;
	int64_t now_ms;
	/* Those that are not there yet, completed, in the caller's order. */
	struct transfer *todo;
	size_t todo_len;
	const struct transfer **pending; /* for each of todo: what it ends, or NULL */
	struct touched *accounts;	 /* sorted by id: two postings lock in the same order */
	size_t account_count;
	struct touched **sides; /* of todo[i]: [2 * i] the debit's, [2 * i + 1] the credit's */
	int64_t to_update, updated; /* accounts that were there */
};

static bool ends_hold(int kind)
{
	return kind == TRANSFER_POST || kind == TRANSFER_VOID || kind == TRANSFER_EXPIRE;
}

/* ---- the transfers themselves ---- */

static int check_one(const struct transfer *t, struct err *err)
{
	int64_t least = t->kind == TRANSFER_VOID || t->kind == TRANSFER_EXPIRE ? 0 : 1;

	if (!id_valid(t->id, "tr"))
		return err_set_field(
			err, "id",
			"'%.40s' is not the id of a transfer: make it with ledger_id",
			t->id ? t->id : "");
	if (t->kind < TRANSFER_POSTED || t->kind > TRANSFER_EXPIRE)
		return err_set_field(err, "kind", "%d is not a kind of transfer", t->kind);
	if (t->amount < least || t->amount > LEDGER_AMOUNT_MAX)
		return err_set_field(err, "amount",
				     "%" PRId64 " is outside %" PRId64 " to %" PRId64,
				     t->amount, least, LEDGER_AMOUNT_MAX);
	if (ends_hold(t->kind) != !str_empty(t->pending_id))
		return err_set_field(
			err, "pending_id",
			"must be given for post, void and expire, and only for them");
	if (!ends_hold(t->kind) &&
	    (str_empty(t->debit_account) || str_empty(t->credit_account)))
		return err_set_field(err, "debit_account", "a %s transfer needs both accounts",
				     transfer_kind_names[t->kind]);
	if (t->expires_ms && t->kind != TRANSFER_PENDING)
		return err_set_field(err, "expires_ms", "only a pending transfer expires");
	return 0;
}

/* What the caller may leave out, the one that is there or comes after has filled in. */
static bool same_content(const struct transfer *asked, const struct transfer *there)
{
	return asked->kind == there->kind &&
	       (!asked->amount || asked->amount == there->amount) &&
	       (!asked->debit_account || str_eq(asked->debit_account, there->debit_account)) &&
	       (!asked->credit_account ||
		str_eq(asked->credit_account, there->credit_account)) &&
	       str_eq(asked->pending_id, there->pending_id) &&
	       str_eq(asked->code ? asked->code : "", there->code ? there->code : "") &&
	       str_eq(asked->subject ? asked->subject : "",
		      there->subject ? there->subject : "");
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct transfer *)a)->id, ((const struct transfer *)b)->id);
}

static int by_id_of(const void *a, const void *b)
{
	const struct transfer *const *x = a, *const *y = b;
	int c = strcmp((*x)->id, (*y)->id);

	return c ? c : (*x > *y) - (*x < *y);
}

static int by_pending_id(const void *a, const void *b)
{
	const struct transfer *const *x = a, *const *y = b;

	return strcmp((*x)->pending_id, (*y)->pending_id);
}

static const struct transfer *find(const struct transfer *sorted, size_t len, const char *id)
{
	const struct transfer key = { .id = id };

	return len ? bsearch(&key, sorted, len, sizeof(key), by_id) : NULL;
}

static int conflict(const struct transfer *t, struct err *err)
{
	return err_set(err, ERR_CONFLICT,
		       "transfer %s is there already with other content: a correction is a new "
		       "transfer",
		       t->id);
}

/* Leaves out what is there already, in the store or earlier in the same call. */
static int drop_repeats(struct posting *p, const struct transfer *transfers, size_t len,
			struct err *err)
{
	const struct transfer **sorted = arena_array(&p->arena, const struct transfer *, len);
	const char **ids = arena_array(&p->arena, const char *, len);
	bool *drop = arena_array(&p->arena, bool, len), in_order = true;
	struct transfer *there = NULL;
	size_t there_len = 0;

	for (size_t i = 0; i < len; i++) {
		sorted[i] = &transfers[i];
		in_order = in_order && (!i || by_id(&transfers[i - 1], &transfers[i]) <= 0);
	}
	if (!in_order)
		qsort(sorted, len, sizeof(const struct transfer *), by_id_of);
	for (size_t i = 0; i < len; i++)
		ids[i] = sorted[i]->id;
	if (!p->known->ids_are_new &&
	    db_select_in(p->c, &transfer_type, "transfers", "id", ids, len, &p->arena,
			 (void **)&there, &there_len, err) < 0)
		return -1;
	if (there_len)
		qsort(there, there_len, sizeof(*there), by_id);
	for (size_t i = 0; i < len; i++) {
		const struct transfer *old = find(there, there_len, sorted[i]->id);

		if (!old && i && str_eq(sorted[i - 1]->id, sorted[i]->id))
			old = sorted[i - 1];
		if (old && !same_content(sorted[i], old))
			return conflict(sorted[i], err);
		drop[sorted[i] - transfers] = old != NULL;
	}
	p->todo = arena_array(&p->arena, struct transfer, len);
	for (size_t i = 0; i < len; i++)
		if (!drop[i])
			p->todo[p->todo_len++] = transfers[i];
	return 0;
}

/* ---- holds ---- */

/* Fills in what is left out and holds it against the pending transfer. */
static int end_hold(struct posting *p, struct transfer *t, const struct transfer *pending,
		    struct err *err)
{
	if (pending->kind != TRANSFER_PENDING)
		return err_set(err, ERR_CONFLICT, "transfer %s is not a hold but %s",
			       pending->id, transfer_kind_names[pending->kind]);
	if ((t->debit_account && !str_eq(t->debit_account, pending->debit_account)) ||
	    (t->credit_account && !str_eq(t->credit_account, pending->credit_account)))
		return err_set_field(err, "debit_account",
				     "hold %s is between other accounts: leave both out",
				     pending->id);
	if (t->amount > pending->amount ||
	    (t->kind != TRANSFER_POST && t->amount && t->amount != pending->amount))
		return err_set_field(err, "amount",
				     "%" PRId64 " is not what hold %s has: %" PRId64, t->amount,
				     pending->id, pending->amount);
	if (t->kind == TRANSFER_POST && pending->expires_ms && pending->expires_ms <= p->now_ms)
		return err_set(err, ERR_CONFLICT, "hold %s has expired", pending->id);
	t->debit_account = pending->debit_account;
	t->credit_account = pending->credit_account;
	if (t->kind != TRANSFER_POST)
		t->amount = pending->amount;
	return 0;
}

static int check_ended_once(const struct transfer **ends, size_t len, struct err *err)
{
	qsort(ends, len, sizeof(const struct transfer *), by_pending_id);
	for (size_t i = 1; i < len; i++)
		if (str_eq(ends[i - 1]->pending_id, ends[i]->pending_id))
			return err_set(err, ERR_CONFLICT,
				       "hold %s is ended twice, by %s and %s",
				       ends[i]->pending_id, ends[i - 1]->id, ends[i]->id);
	return 0;
}

/* The holds of the store that are ended here, sorted; refuses those that have ended before. */
static int load_holds(struct posting *p, const struct transfer **ends, size_t len,
		      struct transfer **ret, size_t *ret_len, struct err *err)
{
	const char **ids = arena_array(&p->arena, const char *, len);
	struct transfer *enders;
	size_t ender_len;

	for (size_t i = 0; i < len; i++)
		ids[i] = ends[i]->pending_id;
	if (p->known->hold_count) {
		*ret_len = p->known->hold_count;
		*ret = arena_array(&p->arena, struct transfer, *ret_len);
		memcpy(*ret, p->known->holds, *ret_len * sizeof(**ret));
	} else {
		if (db_select_in(p->c, &transfer_type, "transfers", "id", ids, len, &p->arena,
				 (void **)ret, ret_len, err) < 0 ||
		    db_select_in(p->c, &transfer_type, "transfers", "pending_id", ids, len,
				 &p->arena, (void **)&enders, &ender_len, err) < 0)
			return -1;
		if (ender_len)
			return err_set(err, ERR_CONFLICT, "hold %s has ended already: %s by %s",
				       enders[0].pending_id,
				       transfer_kind_names[enders[0].kind], enders[0].id);
	}
	if (*ret_len)
		qsort(*ret, *ret_len, sizeof(**ret), by_id);
	return 0;
}

/* The holds made in the same call, sorted by id and then by place. */
static const struct transfer **made_here(struct posting *p, size_t *ret_len)
{
	const struct transfer **made =
		arena_array(&p->arena, const struct transfer *, p->todo_len);
	size_t len = 0;

	for (size_t i = 0; i < p->todo_len; i++)
		if (p->todo[i].kind == TRANSFER_PENDING)
			made[len++] = &p->todo[i];
	qsort(made, len, sizeof(const struct transfer *), by_id_of);
	*ret_len = len;
	return made;
}

static const struct transfer *find_made(const struct transfer **made, size_t len,
					const char *id)
{
	size_t lo = 0, hi = len;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(made[mid]->id, id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < len && str_eq(made[lo]->id, id) ? made[lo] : NULL;
}

static int resolve_holds(struct posting *p, struct err *err)
{
	const struct transfer **ends = arena_array(&p->arena, const struct transfer *,
						   p->todo_len),
			      **made;
	struct transfer *pendings;
	size_t len = 0, made_len, pending_len;

	p->pending = arena_array(&p->arena, const struct transfer *, p->todo_len);
	for (size_t i = 0; i < p->todo_len; i++)
		if (ends_hold(p->todo[i].kind))
			ends[len++] = &p->todo[i];
	if (!len)
		return 0;
	made = made_here(p, &made_len);
	if (check_ended_once(ends, len, err) < 0 ||
	    load_holds(p, ends, len, &pendings, &pending_len, err) < 0)
		return -1;
	for (size_t i = 0; i < p->todo_len; i++) {
		struct transfer *t = &p->todo[i];
		const struct transfer *hold;

		if (!ends_hold(t->kind))
			continue;
		hold = find_made(made, made_len, t->pending_id);
		if (!hold)
			hold = find(pendings, pending_len, t->pending_id);
		else if (hold > t) /* comes after what ends it */
			hold = NULL;
		if (!hold)
			return err_set(err, ERR_NOT_FOUND, "no hold %.40s", t->pending_id);
		if (end_hold(p, t, hold, err) < 0)
			return -1;
		p->pending[i] = hold;
	}
	return 0;
}

/* ---- accounts ---- */

struct side {
	const char *id;
	size_t at; /* in posting.sides */
};

static int side_by_id(const void *a, const void *b)
{
	return strcmp(((const struct side *)a)->id, ((const struct side *)b)->id);
}

static int touched_by_id(const void *a, const void *b)
{
	return strcmp(((const struct touched *)a)->id, ((const struct touched *)b)->id);
}

static struct touched *touched_find(struct posting *p, const char *id)
{
	const struct touched key = { .id = id };

	return bsearch(&key, p->accounts, p->account_count, sizeof(key), touched_by_id);
}

/* Each account once, whatever touches it. */
static void list_accounts(struct posting *p)
{
	size_t len = 2 * p->todo_len;
	struct side *sides = arena_array(&p->arena, struct side, len);

	for (size_t i = 0; i < p->todo_len; i++) {
		sides[2 * i] = (struct side){ p->todo[i].debit_account, 2 * i };
		sides[2 * i + 1] = (struct side){ p->todo[i].credit_account, 2 * i + 1 };
	}
	qsort(sides, len, sizeof(*sides), side_by_id);
	p->accounts = arena_array(&p->arena, struct touched, len);
	p->sides = arena_array(&p->arena, struct touched *, len);
	for (size_t i = 0; i < len; i++) {
		if (!i || !str_eq(sides[i - 1].id, sides[i].id))
			p->accounts[p->account_count++].id = sides[i].id;
		p->sides[sides[i].at] = &p->accounts[p->account_count - 1];
	}
}

static int load_accounts(struct posting *p, struct err *err)
{
	const char **ids;
	size_t unknown = 0, found = 0;
	struct account *accounts = NULL;

	list_accounts(p);
	for (size_t i = 0; i < p->known->account_count; i++) {
		struct touched *t = touched_find(p, p->known->accounts[i].id);

		if (!t)
			continue;
		t->account = p->known->accounts[i];
		t->is_new = p->known->are_new && p->known->are_new[i];
	}
	ids = arena_array(&p->arena, const char *, p->account_count);
	for (size_t i = 0; i < p->account_count; i++)
		if (!p->accounts[i].account.id)
			ids[unknown++] = p->accounts[i].id;
	if (unknown && db_select_in(p->c, &account_type, "accounts", "id", ids, unknown,
				    &p->arena, (void **)&accounts, &found, err) < 0)
		return -1;
	for (size_t i = 0; i < found; i++)
		touched_find(p, accounts[i].id)->account = accounts[i];
	for (size_t i = 0; i < p->account_count; i++)
		if (!p->accounts[i].account.id)
			return err_set(err, ERR_NOT_FOUND, "no account %.40s",
				       p->accounts[i].id);
	return 0;
}

static int add(int64_t *sum, int64_t amount, const struct touched *t, struct err *err)
{
	if (!add_checked(*sum, amount, sum) || *sum > LEDGER_SUM_MAX)
		return err_set(err, ERR_INVALID,
			       "account %s would hold more than can be counted", t->id);
	return 0;
}

/* The transfer becomes the newest of the account's chain. */
static void chain(struct touched *t, const char *id, int64_t *ret_number, const char **ret_prev)
{
	*ret_prev = t->transfers ? t->last_transfer : t->account.last_transfer;
	*ret_number = t->account.transfers + ++t->transfers;
	t->last_transfer = id;
}

static int apply(struct posting *p, size_t i, struct err *err)
{
	struct transfer *t = &p->todo[i];
	const struct transfer *pending = p->pending[i];
	struct touched *debit = p->sides[2 * i], *credit = p->sides[2 * i + 1];

	if (debit == credit)
		return err_set_field(err, "credit_account",
				     "%s is the debit account too: money moves between two",
				     credit->id);
	if (!str_eq(debit->account.currency, credit->account.currency))
		return err_set_field(
			err, "credit_account",
			"%s is in %s and %s in %s: exchange needs a transfer in each",
			debit->id, debit->account.currency, credit->id,
			credit->account.currency);
	chain(debit, t->id, &t->debit_number, &t->debit_prev);
	chain(credit, t->id, &t->credit_number, &t->credit_prev);
	if (t->kind == TRANSFER_PENDING)
		return add(&debit->debits_pending, t->amount, debit, err) < 0 ||
				       add(&credit->credits_pending, t->amount, credit, err) < 0
			       ? -1
			       : 0;
	if (pending) {
		debit->debits_pending -= pending->amount;
		credit->credits_pending -= pending->amount;
	}
	if (t->kind == TRANSFER_VOID || t->kind == TRANSFER_EXPIRE)
		return 0;
	return add(&debit->debits_posted, t->amount, debit, err) < 0 ||
			       add(&credit->credits_posted, t->amount, credit, err) < 0
		       ? -1
		       : 0;
}

int refuse_funds(const struct account *a, int64_t there, int64_t missing, struct err *err)
{
	char there_text[32], missing_text[32];

	money_format(there, there_text);
	money_format(missing, missing_text);
	return err_set(
		err, ERR_FUNDS,
		"account %s (%.60s) has %s %s available, %s more is needed: deposit at least "
		"that",
		a->id, a->name, there_text, a->currency, missing_text);
}

/* The same as the CHECKs of the table, but with words. */
static int check_limits(const struct touched *t, struct err *err)
{
	const struct account *a = &t->account;
	int64_t debits_pending = a->debits_pending, debits = a->debits_posted;
	int64_t credits_pending = a->credits_pending, credits = a->credits_posted;

	if (add(&debits_pending, t->debits_pending, t, err) < 0 ||
	    add(&debits, t->debits_posted, t, err) < 0 ||
	    add(&credits_pending, t->credits_pending, t, err) < 0 ||
	    add(&credits, t->credits_posted, t, err) < 0)
		return -1;
	if (debits_pending < 0 || credits_pending < 0)
		return err_set(err, ERR_INTERNAL,
			       "account %s would have a negative sum of holds: run the audit",
			       a->id);
	if (a->debits_must_not_exceed_credits && debits_pending + debits > credits)
		return refuse_funds(a, account_available(a), debits_pending + debits - credits,
				    err);
	if (a->credits_must_not_exceed_debits && credits_pending + credits > debits)
		return refuse_funds(a,
				    a->debits_posted - a->credits_posted - a->credits_pending,
				    credits_pending + credits - debits, err);
	return 0;
}

/* ---- writing ---- */

/* With all that they have at first. */
static int make_accounts(struct posting *p, struct err *err)
{
	struct account *made = arena_array(&p->arena, struct account, p->account_count);
	size_t len = 0;

	for (size_t i = 0; i < p->account_count; i++) {
		const struct touched *t = &p->accounts[i];
		struct account *a = &made[len];

		if (!t->is_new)
			continue;
		len++;
		*a = t->account;
		a->debits_pending = t->debits_pending;
		a->debits_posted = t->debits_posted;
		a->credits_pending = t->credits_pending;
		a->credits_posted = t->credits_posted;
		a->transfers = t->transfers;
		a->last_transfer = t->last_transfer;
	}
	p->to_update = (int64_t)(p->account_count - len);
	return accounts_insert(p->c, made, len, err);
}

static int update_accounts(struct posting *p, struct err *err)
{
	static const char sql[] =
		"UPDATE accounts SET debits_pending = debits_pending + $2, debits_posted = "
		"debits_posted + $3, "
		"credits_pending = credits_pending + $4, credits_posted = credits_posted + $5, "
		"transfers = transfers + $6, last_transfer = $7 "
		"WHERE id = $1 AND transfers = $8 "
		"AND (debits_must_not_exceed_credits = 0 "
		"OR debits_pending + $2 + debits_posted + $3 <= credits_posted + $5) "
		"AND (credits_must_not_exceed_debits = 0 "
		"OR credits_pending + $4 + credits_posted + $5 <= debits_posted + $3)";
	enum { COLUMNS = 8 };
	struct db_value *values =
				arena_array(&p->arena, struct db_value, COLUMNS * p->account_count),
			*v = values;

	for (size_t i = 0; i < p->account_count; i++) {
		const struct touched *t = &p->accounts[i];

		if (t->is_new)
			continue;
		*v++ = DB_TEXT(t->id);
		*v++ = DB_INT(t->debits_pending);
		*v++ = DB_INT(t->debits_posted);
		*v++ = DB_INT(t->credits_pending);
		*v++ = DB_INT(t->credits_posted);
		*v++ = DB_INT(t->transfers);
		*v++ = DB_TEXT(t->last_transfer);
		*v++ = DB_INT(t->account.transfers);
	}
	return db_exec_batch(p->c, sql, values, COLUMNS, (size_t)p->to_update, &p->updated, err);
}

static int write_batches(struct db_conn *c, void *arg, struct err *err)
{
	struct posting *p = arg;

	if (make_accounts(p, err) < 0 || update_accounts(p, err) < 0)
		return -1;
	return db_insert_many(c, &transfer_type, "transfers", p->todo, p->todo_len, err);
}

static int write_all(struct posting *p, struct err *err)
{
	if (db_pipeline(p->c, write_batches, p, err) < 0)
		return retry_on_conflict(err);
	/* Isolation keeps what was read; if not, the whole transaction starts again. */
	if (p->updated != p->to_update)
		return err_set(err, ERR_RETRY, "an account changed while it was posted to");
	return 0;
}

static int post(struct posting *p, const struct transfer *transfers, size_t len,
		struct err *err)
{
	for (size_t i = 0; i < len; i++)
		if (check_one(&transfers[i], err) < 0)
			return -1;
	if (drop_repeats(p, transfers, len, err) < 0)
		return -1;
	if (!p->todo_len)
		return 0;
	if (resolve_holds(p, err) < 0 || load_accounts(p, err) < 0)
		return -1;
	for (size_t i = 0; i < p->todo_len; i++) {
		p->todo[i].created_ms = p->now_ms;
		if (apply(p, i, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < p->account_count; i++)
		if (check_limits(&p->accounts[i], err) < 0)
			return -1;
	return write_all(p, err);
}

int post_known(struct db_conn *c, const struct transfer *transfers, size_t len,
	       const struct known *known, int64_t now_ms, struct err *err)
{
	struct posting p = { .c = c, .known = known, .now_ms = now_ms };
	int r;

	assert(db_in_tx(c));
	if (!len)
		return 0;
	r = post(&p, transfers, len, err);
	arena_release(&p.arena);
	return r;
}

int ledger_post(struct db_conn *c, const struct transfer *transfers, size_t len, int64_t now_ms,
		struct err *err)
{
	const struct known nothing = { 0 };

	return post_known(c, transfers, len, &nothing, now_ms, err);
}

int ledger_transfer_find(struct db_conn *c, const char *id, struct arena *arena,
			 struct transfer *ret, bool *ret_found, struct err *err)
{
	struct transfer *items;
	size_t len;

	if (db_select_in(c, &transfer_type, "transfers", "id", &id, 1, arena, (void **)&items,
			 &len, err) < 0)
		return -1;
	if (len)
		*ret = items[0];
	*ret_found = len > 0;
	return 0;
}
