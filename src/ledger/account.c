/* Accounts: who has which, and what is on them. */
#include "../codec/codec.h"
#include "internal.h"

int64_t account_balance(const struct account *a)
{
	return a->credits_posted - a->debits_posted;
}

int64_t account_available(const struct account *a)
{
	return account_balance(a) - a->debits_pending;
}

/* ---- ids ---- */

/* Of a SHA-256 over the parts.  What is made about one thing at one time stands together in the
 * indexes, and is still in memory: so the id begins with the time of the subject's id, like one
 * of base.h's. */
static void id_hash(const char kind[static 2], const char *subject, const char *const *parts,
		    size_t count, char ret[static ID_SIZE])
{
	static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
	uint8_t hash[SHA256_SIZE];
	struct sha256 s;
	unsigned __int128 n = 0;

	sha256_init(&s);
	for (size_t i = 0; i < count; i++) /* with its end, so that parts do not run together */
		sha256_update(&s, parts[i] ? parts[i] : "",
			      strlen(parts[i] ? parts[i] : "") + 1);
	sha256_final(&s, hash);
	for (size_t i = 0; i < 16; i++)
		n = n << 8 | hash[i];
	if (subject && id_valid(subject, NULL))
		n = (unsigned __int128)id_time_ms(subject) << 80 | n >> 48;
	ret[0] = kind[0];
	ret[1] = kind[1];
	ret[2] = '_';
	for (size_t i = ID_LEN - 1; i >= 3; i--) {
		ret[i] = alphabet[n & 31];
		n >>= 5;
	}
	ret[ID_LEN] = '\0';
}

void ledger_id(const char *purpose, const char *subject, int64_t number,
	       char ret[static ID_SIZE])
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, number);
	id_hash("tr", subject, (const char *const[]){ purpose, subject, text }, 3, ret);
}

static void account_name(const struct account_spec *spec, char *ret, size_t size)
{
	static const char *const names[] = {
		[ACCOUNT_CUSTOMER] = "customer", [ACCOUNT_PROVIDER] = "provider",
		[ACCOUNT_ESCROW] = "escrow:",	 [ACCOUNT_FEE] = "fee",
		[ACCOUNT_EXTERNAL] = "external",
	};
	int len = snprintf(ret, size, "%s%s", names[spec->kind],
			   spec->kind == ACCOUNT_ESCROW ? spec->subject : "");

	assert(len > 0 && (size_t)len < size);
}

static const char *account_org(const struct account_spec *spec)
{
	bool network = spec->kind == ACCOUNT_FEE || spec->kind == ACCOUNT_EXTERNAL;

	assert(network || !str_empty(spec->org_id));
	return network ? NULL : spec->org_id;
}

void ledger_account_id(enum ledger_account_kind kind, const char *org_id, const char *subject,
		       char ret[static ID_SIZE])
{
	const struct account_spec spec = { kind, org_id, subject };
	char name[128];

	account_name(&spec, name, sizeof(name));
	id_hash("ac", kind == ACCOUNT_ESCROW ? subject : account_org(&spec),
		(const char *const[]){ "account", account_org(&spec), name, LEDGER_CURRENCY },
		4, ret);
}

/* ---- the table ---- */

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct account *)a)->id, ((const struct account *)b)->id);
}

const struct account *account_find(const struct account *sorted, size_t len, const char *id)
{
	const struct account key = { .id = id };

	return len ? bsearch(&key, sorted, len, sizeof(key), by_id) : NULL;
}

static struct account account_make(const struct account_spec *spec, const char *id,
				   int64_t now_ms, struct arena *arena)
{
	char name[128];
	bool limited = spec->kind == ACCOUNT_CUSTOMER || spec->kind == ACCOUNT_ESCROW;

	account_name(spec, name, sizeof(name));
	return (struct account){ .id = id,
				 .org_id = arena_strdup(arena, account_org(spec)),
				 .name = arena_strdup(arena, name),
				 .currency = LEDGER_CURRENCY,
				 .created_ms = now_ms,
				 .debits_must_not_exceed_credits = limited };
}

int retry_on_conflict(struct err *err)
{
	if (err->code == ERR_CONFLICT && !strstr(err->text, "foreign") &&
	    !strstr(err->text, "FOREIGN"))
		err->code = ERR_RETRY;
	return -1;
}

int accounts_insert(struct db_conn *c, const struct account *made, size_t len, struct err *err)
{
	if (!len || db_insert_many(c, &account_type, "accounts", made, len, err) == 0)
		return 0;
	retry_on_conflict(err);
	return err_wrap(err, "account %s", made[0].name);
}

int accounts_ensure(struct db_conn *c, const struct account_spec *specs, size_t count,
		    int64_t now_ms, struct arena *arena, struct account *ret, bool *ret_are_new,
		    struct err *err)
{
	const char **ids = arena_array(arena, const char *, count);
	struct account *there, *made = arena_array(arena, struct account, count);
	size_t len, made_len = 0;

	for (size_t i = 0; i < count; i++) {
		char id[ID_SIZE];

		ledger_account_id(specs[i].kind, specs[i].org_id, specs[i].subject, id);
		ids[i] = arena_strdup(arena, id);
	}
	if (db_select_in(c, &account_type, "accounts", "id", ids, count, arena, (void **)&there,
			 &len, err) < 0)
		return -1;
	if (len)
		qsort(there, len, sizeof(*there), by_id);
	for (size_t i = 0; i < count; i++) {
		const struct account *a = account_find(there, len, ids[i]);
		bool later = !a && ret_are_new && specs[i].kind == ACCOUNT_ESCROW;

		ret[i] = a ? *a : account_make(&specs[i], ids[i], now_ms, arena);
		if (ret_are_new)
			ret_are_new[i] = later;
		if (!a && !later)
			made[made_len++] = ret[i];
	}
	if (made_len)
		qsort(made, made_len, sizeof(*made), by_id);
	for (size_t i = 1, kept = made_len ? 1 : 0, all = made_len; i < all; i++) {
		if (!str_eq(made[kept - 1].id, made[i].id))
			made[kept++] = made[i];
		made_len = kept;
	}
	return accounts_insert(c, made, made_len, err);
}

int ledger_account(struct db_conn *c, enum ledger_account_kind kind, const char *org_id,
		   const char *subject, int64_t now_ms, struct arena *arena,
		   struct account *ret, struct err *err)
{
	const struct account_spec spec = { kind, org_id, subject };
	struct account a;

	if (accounts_ensure(c, &spec, 1, now_ms, arena, &a, NULL, err) < 0)
		return -1;
	*ret = a;
	return 0;
}

int ledger_account_get(struct db_conn *c, const char *id, struct arena *arena,
		       struct account *ret, struct err *err)
{
	return db_get(c, &account_type, "accounts", "WHERE id = $1", DB_ARGS(DB_TEXT(id)),
		      arena, ret, err);
}
