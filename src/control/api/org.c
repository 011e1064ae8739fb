/* People, keys and the organisation's own workers; events. */
#include "../internal.h"

/* ---- login ------------------------------------------------------------------------------------------------- */

static int member_find(struct db_conn *conn, const struct login *in, const char *user_id, struct arena *a,
		       struct member *ret, struct err *err)
{
	struct member *items;
	size_t len;

	if (db_select(conn, &member_type, "memberships",
		      "WHERE user_id = $1 AND ($2 = '' OR org_id = $2 OR org_id IN (SELECT id FROM orgs WHERE name = $2))"
		      " ORDER BY created_ms LIMIT 2",
		      DB_ARGS(DB_TEXT(user_id), DB_TEXT(in->org ? in->org : "")), a, (void **)&items, &len, err) < 0)
		return -1;
	if (len == 0)
		return err_set_field(err, "org", "you are not a member of %s", in->org ? in->org : "any organisation");
	if (len > 1 && !in->org)
		return err_set_field(err, "org", "you are a member of several organisations: say which");
	*ret = items[0];
	return 0;
}

struct key_arg {
	struct control *c;
	struct api_key *key;
	const char *actor;
};

static int key_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct key_arg *x = arg;

	if (db_insert(conn, &api_key_type, "api_keys", x->key, err) < 0)
		return -1;
	return event_append(x->c, conn, x->key->org_id, x->actor, x->key->id, "key.created", "created",
			    x->key->name ? x->key->name : "", err);
}

void scopes_all(struct arena *a, struct text_list *ret)
{
	size_t n = 0;

	while (scope_names[n])
		n++;
	ret->items = arena_array(a, const char *, n);
	ret->len = n;
	for (size_t i = 0; i < n; i++)
		ret->items[i] = scope_names[i];
}

int op_user_login(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct login *in = call->in;
	struct api_key *out = call->out;
	struct user *users;
	struct member m = { 0 };
	size_t len;
	bool good;
	struct key_arg x = { c, out, NULL };
	/* As slow for an unknown address as for a known one: nobody learns who has an account. */
	static const char nobody[] = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b5dWRWJTmaaJObG";

	if (db_select(conn, &user_type, "users", "WHERE email = $1", DB_ARGS(DB_TEXT(in->email)), call->arena, (void **)&users,
		      &len, err) < 0)
		return -1;
	if (login_enter(c->logins, call->caller.peer, in->email, control_now(c), &call->retry_ms, err) < 0)
		return -1;
	good = password_check(in->password, len ? users->password_hash : nobody) && len;
	login_leave(c->logins, call->caller.peer, in->email, good);
	if (!good)
		return err_set(err, ERR_UNAUTHENTICATED, "e-mail or password is wrong");
	if (member_find(conn, in, users->id, call->arena, &m, err) < 0)
		return -1;
	auth_key_make(c, call->arena, out);
	out->org_id = m.org_id;
	out->user_id = users->id;
	out->name = in->key_name ? in->key_name : "login";
	out->role = m.role;
	scopes_all(call->arena, &out->scopes);
	x.actor = users->id;
	return db_tx(conn, key_tx, &x, err);
}

int op_user_whoami(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct whoami *out = call->out;
	struct org org;
	struct user user = { 0 };
	size_t n = 0;

	(void)c;
	if (db_get(conn, &org_type, "orgs", "WHERE id = $1", DB_ARGS(DB_TEXT(call->caller.org_id)), call->arena, &org, err) < 0)
		return -1;
	if (call->caller.user_id && db_get(conn, &user_type, "users", "WHERE id = $1", DB_ARGS(DB_TEXT(call->caller.user_id)),
					   call->arena, &user, err) < 0)
		return -1;
	*out = (struct whoami){ .org_id = org.id, .org_name = org.name, .user_id = user.id, .email = user.email,
				.key_id = call->caller.key_id, .role = call->caller.role };
	scopes_all(call->arena, &out->scopes);
	for (size_t i = 0; i < out->scopes.len; i++)
		if (call->caller.scopes & (1u << i))
			out->scopes.items[n++] = scope_names[i];
	out->scopes.len = n;
	return 0;
}

int op_meta_version(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct version *out = call->out;

	(void)conn;
	(void)err;
	*out = (struct version){ .version = TES_VERSION, .protocol = API_PROTOCOL, .production = c->config.production };
	return 0;
}

/* ---- keys ---------------------------------------------------------------------------------------------------- */

int op_key_create(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct key_request *in = call->in;
	struct api_key *out = call->out;
	struct key_arg x = { c, out, caller_actor(&call->caller) };
	unsigned scopes = call->caller.scopes;

	if (in->role > (int)call->caller.role)
		return err_set_field(err, "role", "%s is more than yours, %s: nobody gives what they do not have",
				     role_names[in->role], role_names[call->caller.role]);
	if (in->scopes.len && scopes_parse(in->scopes.items, in->scopes.len, &scopes, err) < 0)
		return -1;
	if (scopes & ~call->caller.scopes)
		return err_set_field(err, "scopes", "go beyond this key's own: nobody gives what they do not have");
	auth_key_make(c, call->arena, out);
	out->org_id = call->caller.org_id;
	out->user_id = call->caller.user_id;
	out->name = in->name;
	out->role = in->role ? in->role : (int)call->caller.role;
	out->expires_ms = in->expires_s ? out->created_ms + in->expires_s * SECOND_MS : 0;
	out->scopes = in->scopes;
	if (!in->scopes.len) {
		size_t n = 0;

		scopes_all(call->arena, &out->scopes);
		for (size_t i = 0; i < out->scopes.len; i++)
			if (scopes & (1u << i))
				out->scopes.items[n++] = scope_names[i];
		out->scopes.len = n;
	}
	return key_tx(conn, &x, err);
}

int op_key_list(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct api_key_page *out = call->out;
	void *items;

	(void)c;
	if (db_select(conn, &api_key_type, "api_keys", "WHERE org_id = $1 ORDER BY created_ms DESC LIMIT 1000",
		      DB_ARGS(DB_TEXT(call->caller.org_id)), call->arena, &items, &out->items.len, err) < 0)
		return -1;
	out->items.items = items;
	return 0;
}

int op_key_revoke(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	int64_t changed;

	if (db_exec(conn, "UPDATE api_keys SET revoked_ms = $3 WHERE id = $1 AND org_id = $2 AND revoked_ms = 0",
		    DB_ARGS(DB_TEXT(call->params[0]), DB_TEXT(call->caller.org_id), DB_INT(control_now(c))), &changed, err) < 0)
		return -1;
	if (!changed)
		return err_set(err, ERR_NOT_FOUND, "there is no live key \"%.40s\"", call->params[0]);
	keys_changed(c, conn);
	return event_append(c, conn, call->caller.org_id, caller_actor(&call->caller), call->params[0], "key.revoked", "revoked",
			    "", err);
}

int op_org_members(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct member_page *out = call->out;
	void *items;

	(void)c;
	if (db_select(conn, &member_type, "memberships", "WHERE org_id = $1 ORDER BY created_ms LIMIT 1000",
		      DB_ARGS(DB_TEXT(call->caller.org_id)), call->arena, &items, &out->items.len, err) < 0)
		return -1;
	out->items.items = items;
	for (size_t i = 0; i < out->items.len; i++) {
		struct user u;

		if (db_get(conn, &user_type, "users", "WHERE id = $1", DB_ARGS(DB_TEXT(out->items.items[i].user_id)), call->arena,
			   &u, err) < 0)
			return -1;
		out->items.items[i].email = u.email;
	}
	return 0;
}

/* ---- providers ------------------------------------------------------------------------------------------------- */

/* Also the operator's (admin.c): makes a token and its row. */
int join_token_make(struct control *c, struct db_conn *conn, const char *org_id, int64_t ttl_ms, const char *actor,
		    struct arena *a, struct join_token *ret, struct err *err)
{
	uint8_t bytes[32];
	char hash[SHA256_HEX_SIZE];

	c->random.fill(c->random.arg, bytes, sizeof(bytes));
	ret->id = new_id(c, "jt", a);
	ret->org_id = org_id;
	ret->secret = arena_printf(a, "tesjoin_%s", base64url_format(a, bytes, sizeof(bytes)));
	sha256_hex(ret->secret, strlen(ret->secret), hash);
	ret->hash = arena_strdup(a, hash);
	ret->created_ms = control_now(c);
	ret->expires_ms = ret->created_ms + ttl_ms;
	if (db_insert(conn, &join_token_type, "join_tokens", ret, err) < 0)
		return -1;
	return event_append(c, conn, org_id, actor, ret->id, "join_token.created", "created", "", err);
}

int op_join_token_create(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct join_token_request *in = call->in;

	return join_token_make(c, conn, call->caller.org_id, in->expires_s * SECOND_MS, caller_actor(&call->caller),
			       call->arena, call->out, err);
}

int op_worker_list(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct worker_page *out = call->out;
	void *items;

	(void)c;
	if (db_select(conn, &worker_type, "workers", "WHERE org_id = $1 AND state <> 'left' ORDER BY joined_ms LIMIT 10000",
		      DB_ARGS(DB_TEXT(call->caller.org_id)), call->arena, &items, &out->items.len, err) < 0)
		return -1;
	out->items.items = items;
	return 0;
}

int op_worker_show(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	(void)c;
	if (db_get(conn, &worker_type, "workers", "WHERE id = $1 AND org_id = $2",
		   DB_ARGS(DB_TEXT(call->params[0]), DB_TEXT(call->caller.org_id)), call->arena, call->out, err) == 0)
		return 0;
	if (err->code != ERR_NOT_FOUND)
		return -1;
	err_clear(err);
	return err_set(err, ERR_NOT_FOUND, "this organisation has no worker \"%.40s\"", call->params[0]);
}
