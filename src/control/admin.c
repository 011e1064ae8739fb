/* `tesd admin`: the operator's commands, on the store itself.  Whoever may read the configuration and the store may do
 * anything; nothing of this is reachable over the network. */
#include "internal.h"

#include "../os/os.h"

#include <unistd.h>

const char admin_help[] =
	"tesd admin [-c FILE] COMMAND            the operator's commands, on the store itself\n"
	"  org create NAME                        a new organisation\n"
	"  org list\n"
	"  user create EMAIL --org ORG --role viewer|developer|admin|owner [--password-stdin]\n"
	"  user list\n"
	"  key create --org ORG [--role ROLE] [--name NAME]    an API key; its secret is shown once\n"
	"  credit ORG AMOUNT [--reason TEXT] [--id TRANSFER]   give money (dollars); the same --id twice is one transfer\n"
	"  join-token create --org ORG [--ttl DURATION]        links one new worker to ORG\n"
	"  worker list\n"
	"  worker block WORKER --why TEXT         no new leases; the present ones end\n"
	"  worker unblock WORKER\n"
	"  worker remove WORKER --why TEXT        its key was lost or its machine is gone: ends its leases, frees its GPUs\n"
	"  evidence [WORKER]                      what workers sent that cannot be true\n"
	"  audit                                  recompute the ledger and the event chain; status 1 if anything is off\n"
	"ORG is an id or a name, WORKER also a unique beginning of its id.  --json prints one JSON object or list.\n";

#define COLUMNS_MAX	 16
#define PASSWORD_LEN_MIN 8

struct args {
	struct control *c;
	struct db_conn *conn;
	struct arena arena;
	const char *words[6];
	int word_count;
	const char *org, *role, *name, *reason, *id, *ttl, *why;
	bool password_stdin, json;
	bool usage; /* the error is one of usage: exit status 2 */
};

static int args_read(int argc, char **argv, struct args *a, struct err *err)
{
	const struct { const char *flag; const char **value; } options[] = {
		{ "--org", &a->org }, { "--role", &a->role }, { "--name", &a->name }, { "--reason", &a->reason },
		{ "--id", &a->id }, { "--ttl", &a->ttl }, { "--why", &a->why },
	};

	for (int i = 0; i < argc; i++) {
		bool taken = false;

		if (str_eq(argv[i], "--json")) {
			a->json = true;
			continue;
		}
		if (str_eq(argv[i], "--password-stdin")) {
			a->password_stdin = true;
			continue;
		}
		for (size_t k = 0; k < ARRAY_LEN(options); k++) {
			if (!str_eq(argv[i], options[k].flag))
				continue;
			if (++i >= argc)
				return err_set(err, ERR_INVALID, "%s needs a value", options[k].flag);
			*options[k].value = argv[i];
			taken = true;
			break;
		}
		if (taken)
			continue;
		if (argv[i][0] == '-')
			return err_set(err, ERR_INVALID, "unknown option %s; `tesd admin --help` lists them", argv[i]);
		if (a->word_count == (int)ARRAY_LEN(a->words))
			return err_set(err, ERR_INVALID, "too many words, from \"%.40s\" on", argv[i]);
		a->words[a->word_count++] = argv[i];
	}
	return 0;
}

static const char *word(const struct args *a, int i)
{
	return i < a->word_count ? a->words[i] : NULL;
}

/* ---- output --------------------------------------------------------------------------------------------------- */

static void print_value(const struct args *a, const struct type *t, const void *value, const char *human)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	if (a->json)
		schema_write_secret(t, value, &out);
	else
		strbuf_adds(&out, human);
	puts(out.buf);
}

static void print_json_list(const struct type *t, const void *items, size_t len)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	for (size_t i = 0; i < len; i++) {
		strbuf_addc(&out, i ? ',' : '[');
		schema_write(t, (const char *)items + i * t->size, &out);
	}
	puts(len ? (strbuf_addc(&out, ']'), out.buf) : "[]");
}

/* Rows of a described type: a JSON list; on a terminal a table with heads; else columns of tabs, for cut(1). */
static void print_list(struct args *a, const struct type *t, const void *items, size_t len, const char *const *columns)
{
	bool people = term_is(STDOUT_FILENO);
	size_t widths[COLUMNS_MAX], count = 0;
	const char **cells;

	if (a->json) {
		print_json_list(t, items, len);
		return;
	}
	while (columns[count])
		count++;
	assert(count <= COLUMNS_MAX);
	cells = arena_array(&a->arena, const char *, (len + 1) * count);
	for (size_t k = 0; k < count; k++) {
		cells[k] = columns[k];
		widths[k] = strlen(columns[k]);
		for (size_t i = 0; i < len; i++) {
			cleanup_strbuf struct strbuf raw = STRBUF_INIT, safe = STRBUF_INIT;
			const void *at;
			const struct field *f = schema_field(t, columns[k], (const char *)items + i * t->size, &at);

			assert(f);
			field_format(f, at, &raw);
			strbuf_add_escaped(&safe, raw.buf, raw.len);
			cells[(i + 1) * count + k] = arena_strdup(&a->arena, safe.buf);
			widths[k] = MAX(widths[k], safe.len);
		}
	}
	for (size_t i = people ? 0 : 1; i <= len; i++)
		for (size_t k = 0; k < count; k++)
			printf("%-*s%s", people && k + 1 < count ? (int)widths[k] : 0, cells[i * count + k],
			       k + 1 == count ? "\n" : people ? "  " : "\t");
}

/* ---- organisations, people, keys ------------------------------------------------------------------------------- */

static int org_find(struct args *a, const char *ref, struct org *ret, struct err *err)
{
	if (!ref)
		return err_set(err, ERR_INVALID, "say which organisation: --org NAME");
	if (db_get(a->conn, &org_type, "orgs", "WHERE id = $1 OR name = $1", DB_ARGS(DB_TEXT(ref)), &a->arena, ret, err) == 0)
		return 0;
	if (err->code != ERR_NOT_FOUND)
		return -1;
	err_clear(err);
	return err_set(err, ERR_NOT_FOUND, "there is no organisation \"%.60s\"; `tesd admin org list` lists them", ref);
}

struct org_arg { struct args *a; struct org org; };

static int org_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct org_arg *x = arg;

	if (db_insert(conn, &org_type, "orgs", &x->org, err) < 0)
		return -1;
	return event_append(x->a->c, conn, x->org.id, "operator", x->org.id, "org.created", "created", x->org.name, err);
}

static int org_create(struct args *a, struct err *err)
{
	struct org_arg x = { a, { .name = word(a, 2) } };

	if (str_empty(x.org.name) || strlen(x.org.name) > 63)
		return err_set_field(err, "NAME", "is missing or longer than 63 characters");
	x.org.id = new_id(a->c, "or", &a->arena);
	x.org.created_ms = control_now(a->c);
	if (db_tx(a->conn, org_tx, &x, err) < 0) {
		if (err->code == ERR_CONFLICT)
			err_set(err, ERR_CONFLICT, "there is an organisation \"%s\" already", x.org.name);
		return -1;
	}
	print_value(a, &org_type, &x.org, x.org.id);
	return 0;
}

static int org_list(struct args *a, struct err *err)
{
	static const char *const columns[] = { "id", "name", "created_ms", NULL };
	void *items;
	size_t len;

	if (db_select(a->conn, &org_type, "orgs", "ORDER BY created_ms", DB_NO_ARGS, &a->arena, &items, &len, err) < 0)
		return -1;
	print_list(a, &org_type, items, len, columns);
	return 0;
}

static int role_of(const char *text, enum role def, int *ret, struct err *err)
{
	*ret = def;
	for (int i = ROLE_VIEWER; text && role_names[i]; i++)
		if (str_eq(role_names[i], text)) {
			*ret = i;
			return 0;
		}
	return text ? err_set_field(err, "--role", "\"%.20s\" is not a role: viewer, developer, admin or owner", text) : 0;
}

struct user_arg { struct args *a; struct user user; struct member member; };

static int user_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct user_arg *x = arg;
	struct user *known;
	size_t len;

	if (db_select(conn, &user_type, "users", "WHERE email = $1", DB_ARGS(DB_TEXT(x->user.email)), &x->a->arena, (void **)&known,
		      &len, err) < 0)
		return -1;
	if (len)
		x->user = known[0]; /* a member of one more organisation */
	else if (db_insert(conn, &user_type, "users", &x->user, err) < 0)
		return -1;
	x->member.user_id = x->user.id;
	if (db_insert(conn, &member_type, "memberships", &x->member, err) < 0)
		return -1;
	return event_append(x->a->c, conn, x->member.org_id, "operator", x->user.id, "member.added", "created", x->user.email, err);
}

static int password_read(struct args *a, char hash[static PASSWORD_HASH_SIZE], struct err *err)
{
	char password[256] = "";

	if (!a->password_stdin) {
		if (term_read_secret("Password: ", password, sizeof(password), err) < 0)
			return -1;
	} else if (!fgets(password, sizeof(password), stdin)) {
		return err_set(err, ERR_INVALID, "no password came on standard input");
	}
	password[strcspn(password, "\r\n")] = '\0';
	if (strlen(password) < PASSWORD_LEN_MIN)
		return err_set(err, ERR_INVALID, "the password has %zu characters, at least %d are needed", strlen(password),
			       PASSWORD_LEN_MIN);
	return password_hash(password, hash, err);
}

static int user_create(struct args *a, struct err *err)
{
	struct user_arg x = { .a = a };
	struct org org;
	char hash[PASSWORD_HASH_SIZE];

	x.user.email = word(a, 2);
	if (!x.user.email || !strchr(x.user.email, '@'))
		return err_set_field(err, "EMAIL", "is missing or has no '@'");
	if (org_find(a, a->org, &org, err) < 0 || role_of(a->role, ROLE_DEVELOPER, &x.member.role, err) < 0 ||
	    password_read(a, hash, err) < 0)
		return -1;
	x.user.id = new_id(a->c, "us", &a->arena);
	x.user.password_hash = hash;
	x.user.created_ms = x.member.created_ms = control_now(a->c);
	x.member.org_id = org.id;
	if (db_tx(a->conn, user_tx, &x, err) < 0)
		return err->code == ERR_CONFLICT ? err_set(err, ERR_CONFLICT, "%s is a member of %s already", x.user.email, org.name) : -1;
	print_value(a, &user_type, &x.user, x.user.id);
	return 0;
}

static int user_list(struct args *a, struct err *err)
{
	static const char *const columns[] = { "id", "email", "created_ms", NULL };
	void *items;
	size_t len;

	if (db_select(a->conn, &user_type, "users", "ORDER BY created_ms", DB_NO_ARGS, &a->arena, &items, &len, err) < 0)
		return -1;
	print_list(a, &user_type, items, len, columns);
	return 0;
}

struct key_arg { struct args *a; struct api_key key; };

static int key_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct key_arg *x = arg;

	if (db_insert(conn, &api_key_type, "api_keys", &x->key, err) < 0)
		return -1;
	return event_append(x->a->c, conn, x->key.org_id, "operator", x->key.id, "key.created", "created", x->key.name, err);
}

static int key_create(struct args *a, struct err *err)
{
	struct key_arg x = { .a = a };
	struct org org;

	if (org_find(a, a->org, &org, err) < 0 || role_of(a->role, ROLE_OWNER, &x.key.role, err) < 0)
		return -1;
	auth_key_make(a->c, &a->arena, &x.key);
	x.key.org_id = org.id;
	x.key.name = a->name ? a->name : "operator";
	scopes_all(&a->arena, &x.key.scopes);
	if (db_tx(a->conn, key_tx, &x, err) < 0)
		return -1;
	print_value(a, &api_key_type, &x.key, x.key.secret);
	return 0;
}

/* ---- money ------------------------------------------------------------------------------------------------------- */

struct credit_arg { struct args *a; struct org org; struct transfer transfer; struct account account; };

static int credit_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct credit_arg *x = arg;
	struct args *a = x->a;
	struct account from, to;
	struct transfer there;
	bool found;
	int64_t now = control_now(a->c);
	char text[200], amount[32];

	if (ledger_transfer_find(conn, x->transfer.id, &a->arena, &there, &found, err) < 0 ||
	    ledger_account(conn, ACCOUNT_EXTERNAL, NULL, NULL, now, &a->arena, &from, err) < 0 ||
	    ledger_account(conn, ACCOUNT_CUSTOMER, x->org.id, NULL, now, &a->arena, &to, err) < 0)
		return -1;
	x->transfer.debit_account = from.id;
	x->transfer.credit_account = to.id;
	money_format(x->transfer.amount, amount);
	snprintf(text, sizeof(text), "%s: $%s", x->transfer.text, amount);
	if (ledger_post(conn, &x->transfer, 1, now, err) < 0 ||
	    ledger_account_get(conn, to.id, &a->arena, &x->account, err) < 0)
		return -1;
	if (found)
		return 0; /* it was given before; the same id is the same money */
	if (event_append(a->c, conn, x->org.id, "operator", x->transfer.id, "credit.added", "credit", text, err) < 0)
		return -1;
	wake(a->c, conn, "duty", "metering");
	return 0;
}

static int credit(struct args *a, struct err *err)
{
	struct credit_arg x = { .a = a };
	char line[120], balance[32];

	if (!word(a, 2))
		return err_set(err, ERR_INVALID, "say who gets how much: tesd admin credit ORG 25.00");
	if (org_find(a, word(a, 1), &x.org, err) < 0 || money_parse(word(a, 2), &x.transfer.amount, err) < 0)
		return -1;
	if (x.transfer.amount <= 0)
		return err_set_field(err, "AMOUNT", "%s is not more than 0; a correction is a new transfer", word(a, 2));
	money_format(LEDGER_AMOUNT_MAX, balance);
	if (x.transfer.amount > LEDGER_AMOUNT_MAX)
		return err_set_field(err, "AMOUNT", "$%.40s is more than $%s, the most of one transfer", word(a, 2), balance);
	if (a->id && !id_valid(a->id, "tr"))
		return err_set_field(err, "--id", "\"%.40s\" is not a transfer id", a->id);
	x.transfer.kind = TRANSFER_POSTED;
	x.transfer.id = a->id ? a->id : new_id(a->c, "tr", &a->arena);
	x.transfer.code = "credit";
	x.transfer.subject = x.org.id;
	x.transfer.text = a->reason ? a->reason : "credit";
	if (db_tx(a->conn, credit_tx, &x, err) < 0)
		return -1;
	money_format(account_balance(&x.account), balance);
	snprintf(line, sizeof(line), "%s  balance $%s", x.transfer.id, balance);
	print_value(a, &transfer_type, &x.transfer, line);
	return 0;
}

/* ---- workers ------------------------------------------------------------------------------------------------------- */

struct token_arg { struct args *a; struct org org; int64_t ttl_ms; struct join_token token; };

static int token_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct token_arg *x = arg;

	return join_token_make(x->a->c, conn, x->org.id, x->ttl_ms, "operator", &x->a->arena, &x->token, err);
}

static int token_create(struct args *a, struct err *err)
{
	struct token_arg x = { .a = a, .ttl_ms = DAY_MS };

	if (org_find(a, a->org, &x.org, err) < 0 || (a->ttl && duration_parse(a->ttl, &x.ttl_ms, err) < 0))
		return -1;
	if (x.ttl_ms < SECOND_MS || x.ttl_ms > 366 * DAY_MS)
		return err_set_field(err, "--ttl", "%.40s is out of range: give 1s to 366d", a->ttl);
	if (db_tx(a->conn, token_tx, &x, err) < 0)
		return -1;
	print_value(a, &join_token_type, &x.token, x.token.secret);
	return 0;
}

static int worker_list(struct args *a, struct err *err)
{
	static const char *const columns[] = { "id", "name", "org_id", "state", "intent", "blocked", "gpus", "used_gpus", "cpu_milli",
					       "used_cpu_milli", "reliability_ppm", "seen_ms", NULL };
	void *items;
	size_t len;

	if (db_select(a->conn, &worker_type, "workers", "WHERE state <> 'left' ORDER BY joined_ms", DB_NO_ARGS, &a->arena, &items,
		      &len, err) < 0)
		return -1;
	print_list(a, &worker_type, items, len, columns);
	return 0;
}

struct block_arg { struct args *a; const char *id; bool block, remove; const char *why; struct worker w; };

static int block_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct block_arg *x = arg;
	struct args *a = x->a;
	struct lease *leases;
	size_t len = 0;
	struct lease_event stop = { .kind = LEASE_EVENT_STOP, .reason = REASON_BLOCKED_BY_OPERATOR };

	if (worker_load(conn, x->id, &a->arena, &x->w, err) < 0 ||
	    db_exec(conn, "UPDATE workers SET blocked = $2, blocked_why = $3, updated_ms = $4 WHERE id = $1",
		    DB_ARGS(DB_TEXT(x->id), DB_INT(x->block), DB_TEXT(x->why), DB_INT(control_now(a->c))), NULL, err) < 0)
		return -1;
	if (x->block && db_select(conn, &lease_type, "leases", "WHERE worker_id = $1 AND state <> 'ended'", DB_ARGS(DB_TEXT(x->id)),
				  &a->arena, (void **)&leases, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		if (lease_transition(a->c, conn, &leases[i], &stop, "operator", &a->arena, err) < 0)
			return -1;
	if (x->remove && (db_exec(conn, "UPDATE workers SET state = 'left', updated_ms = $2 WHERE id = $1",
				   DB_ARGS(DB_TEXT(x->id), DB_INT(control_now(a->c))), NULL, err) < 0 ||
			  db_exec(conn, "DELETE FROM worker_devices WHERE worker_id = $1", DB_ARGS(DB_TEXT(x->id)), NULL, err) < 0))
		return -1;
	heartbeat_changed(a->c, conn, x->id);
	return event_append(a->c, conn, x->w.org_id, "operator", x->id,
			    x->remove ? "worker.removed" : x->block ? "worker.blocked" : "worker.unblocked",
			    x->remove ? "removed" : x->block ? "blocked" : "unblocked", x->why, err);
}

/* By its whole id, which no name that a provider gives to another worker takes from it; else by a unique beginning of its
 * id, or its name. */
static int worker_find(struct args *a, const char *ref, const char **ret, struct err *err)
{
	static const char *const tails[] = {
		"WHERE id = $1 AND state <> 'left'",
		"WHERE state <> 'left' AND (name = $1 OR substr(id, 1, length($1)) = $1) ORDER BY joined_ms LIMIT 2",
	};
	struct worker *found;
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_LEN(tails) && len == 0; i++)
		if (db_select(a->conn, &worker_type, "workers", tails[i], DB_ARGS(DB_TEXT(ref)), &a->arena, (void **)&found, &len,
			      err) < 0)
			return -1;
	if (len == 0 || !*ref)
		return err_set(err, ERR_NOT_FOUND, "there is no worker \"%.60s\"; `tesd admin worker list` lists them", ref);
	if (len > 1)
		return err_set(err, ERR_CONFLICT, "\"%.60s\" stands for several workers: give the whole id", ref);
	*ret = found->id;
	return 0;
}

static int worker_block(struct args *a, bool block, bool remove, struct err *err)
{
	struct block_arg x = { .a = a, .block = block, .remove = remove, .why = block ? a->why : "" };
	const char *what = remove ? "remove" : block ? "block" : "unblock";

	if (!word(a, 2) || (block && str_empty(a->why))) {
		a->usage = true;
		return err_set(err, ERR_INVALID, "say which worker%s: worker %s WORKER%s", block ? ", and why" : "", what,
			       block ? " --why TEXT" : "");
	}
	if (worker_find(a, word(a, 2), &x.id, err) < 0)
		return -1;
	if (db_tx(a->conn, block_tx, &x, err) < 0)
		return -1;
	x.w.blocked = block;
	print_value(a, &worker_type, &x.w, remove ? "removed" : block ? "blocked" : "unblocked");
	return 0;
}

static int evidence(struct args *a, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int rc;

	if (db_query(a->conn, "SELECT at_ms, worker_id, lease_id, kind, text FROM evidence WHERE ($1 = '' OR worker_id = $1) ORDER BY at_ms",
		     DB_ARGS(DB_TEXT(word(a, 1) ? word(a, 1) : "")), &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0) {
		char at[32];

		time_format(db_int(rows, 0), at);
		printf("%s\t%s\t%s\t%s\t%s\n", at, db_text(rows, 1, &a->arena), db_text(rows, 2, &a->arena),
		       db_text(rows, 3, &a->arena), db_text(rows, 4, &a->arena));
	}
	return rc;
}

/* ---- audit ------------------------------------------------------------------------------------------------------- */

struct audit_arg { struct args *a; struct audit audit; int64_t events; char broken[160]; };

static int chain_check(struct db_conn *conn, struct audit_arg *x, struct err *err)
{
	const char *prev = "";
	int64_t after = 0;

	for (;;) {
		struct event *items;
		size_t len;

		if (db_select(conn, &event_type, "events", "WHERE seq > $1 ORDER BY seq LIMIT 1000", DB_ARGS(DB_INT(after)), &x->a->arena,
			      (void **)&items, &len, err) < 0)
			return -1;
		for (size_t i = 0; i < len; i++) {
			char hash[SHA256_HEX_SIZE];

			if (!items[i].prev_hash)
				items[i].prev_hash = "";
			event_hash(&items[i], hash);
			if (!str_eq(hash, items[i].hash) || !str_eq(items[i].prev_hash, prev) || items[i].seq != after + 1) {
				snprintf(x->broken, sizeof(x->broken), "event %" PRId64 " (%s) does not follow from the one before it",
					 items[i].seq, items[i].id);
				return 0;
			}
			prev = items[i].hash;
			after = items[i].seq;
			x->events++;
		}
		if (len == 0)
			return 0;
	}
}

static int audit_read(struct db_conn *conn, void *arg, struct err *err)
{
	struct audit_arg *x = arg;

	return ledger_audit(conn, &x->a->arena, &x->audit, err) < 0 ? -1 : chain_check(conn, x, err);
}

static int audit(struct args *a, struct err *err)
{
	struct audit_arg x = { .a = a };
	size_t faults;
	char debits[32], credits[32];

	if (db_read(a->conn, audit_read, &x, err) < 0)
		return -1;
	faults = x.audit.findings.len + (x.broken[0] != '\0');
	money_format(x.audit.debits_uusd, debits);
	money_format(x.audit.credits_uusd, credits);
	if (a->json) {
		printf("{\"ok\":%s,\"accounts\":%" PRId64 ",\"transfers\":%" PRId64 ",\"leases\":%" PRId64 ",\"events\":%" PRId64
		       ",\"debits_uusd\":%" PRId64 ",\"credits_uusd\":%" PRId64 ",\"findings\":%zu}\n", faults ? "false" : "true",
		       x.audit.accounts, x.audit.transfers, x.audit.leases, x.events, x.audit.debits_uusd, x.audit.credits_uusd, faults);
	} else {
		printf("%" PRId64 " accounts, %" PRId64 " transfers, %" PRId64 " leases, %" PRId64 " events\n", x.audit.accounts,
		       x.audit.transfers, x.audit.leases, x.events);
		printf("debits $%s = credits $%s: %s\n", debits, credits, x.audit.debits_uusd == x.audit.credits_uusd ? "balanced" : "NOT balanced");
	}
	for (size_t i = 0; i < x.audit.findings.len; i++)
		fprintf(stderr, "finding: %s\n", x.audit.findings.items[i]);
	if (x.broken[0])
		fprintf(stderr, "finding: %s\n", x.broken);
	return faults ? err_set(err, ERR_INTERNAL, "the audit found %zu faults", faults) : 0;
}

/* ---- which ---------------------------------------------------------------------------------------------------------- */

static int run(struct args *a, struct err *err)
{
	const char *first = word(a, 0), *second = word(a, 1);

	if (str_eq(first, "org") && str_eq(second, "create"))
		return org_create(a, err);
	if (str_eq(first, "org") && str_eq(second, "list"))
		return org_list(a, err);
	if (str_eq(first, "user") && str_eq(second, "create"))
		return user_create(a, err);
	if (str_eq(first, "user") && str_eq(second, "list"))
		return user_list(a, err);
	if (str_eq(first, "key") && str_eq(second, "create"))
		return key_create(a, err);
	if (str_eq(first, "credit"))
		return credit(a, err);
	if (str_eq(first, "join-token") && str_eq(second, "create"))
		return token_create(a, err);
	if (str_eq(first, "worker") && str_eq(second, "list"))
		return worker_list(a, err);
	if (str_eq(first, "worker") && (str_eq(second, "block") || str_eq(second, "unblock") || str_eq(second, "remove")))
		return worker_block(a, !str_eq(second, "unblock"), str_eq(second, "remove"), err);
	if (str_eq(first, "evidence"))
		return evidence(a, err);
	if (str_eq(first, "audit"))
		return audit(a, err);
	a->usage = true;
	return err_set(err, ERR_INVALID, "there is no command \"%.40s%s%.40s\"; `tesd admin --help` lists them", first ? first : "",
		       second ? " " : "", second ? second : "");
}

int admin_main(struct control *c, struct db_conn *conn, int argc, char **argv)
{
	struct args a = { .c = c, .conn = conn };
	struct err err = { 0 };
	int rc = args_read(argc, argv, &a, &err) < 0 ? 2 : run(&a, &err) < 0 ? (a.usage ? 2 : 1) : 0;

	arena_release(&a.arena);
	if (rc)
		fprintf(stderr, "tesd: %s%s%s\n", err.field, err.field[0] ? " " : "", err.text);
	return rc;
}
