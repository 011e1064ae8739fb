/* Who: organisations, people, their membership, keys and join tokens. */
#include "internal.h"

#define EMAIL_MAX_BYTES	   254
#define SECRET_MAX_BYTES   128
#define PASSWORD_MAX_BYTES 1024
#define SCOPES_MAX	   16
#define SCOPE_MAX_BYTES	   32

int scopes_parse(const char *const *names, size_t len, unsigned *ret, struct err *err)
{
	unsigned scopes = 0;

	for (size_t i = 0; i < len; i++) {
		size_t bit = 0;

		while (scope_names[bit] && !str_eq(scope_names[bit], names[i]))
			bit++;
		if (!scope_names[bit]) {
			char field[48];

			snprintf(field, sizeof(field), "scopes[%zu]", i);
			return err_set_field(
				err, field,
				"'%.40s' is not a scope: use workloads:read, workloads:write, "
				"billing:read, workers:read, workers:write, org:read or "
				"org:write",
				names[i] ? names[i] : "");
		}
		scopes |= 1U << bit;
	}
	*ret = scopes;
	return 0;
}

static int check_scopes(const struct text_list *scopes, struct err *err)
{
	unsigned unused;

	return scopes_parse(scopes->items, scopes->len, &unused, err);
}

/* Not RFC 5322: something before one '@', something behind it, no blanks. The proof is a
 * mail that arrives. */
static int check_email(const char *email, struct err *err)
{
	const char *at = email ? strchr(email, '@') : NULL;

	if (!email)
		return 0;
	if (!at || at == email || !at[1] || strchr(at + 1, '@') ||
	    strpbrk(email, " \t\n<>\",;"))
		return err_set_field(
			err, "email",
			"'%.80s' is not a mail address: write it like name@example.org", email);
	return 0;
}

static const struct field org_fields[] = {
	FIELD_ID(struct org, id, "or", COLUMN_SET, "The organisation."),
	FIELD_TEXT(struct org, name, 1, NAME_MAX_BYTES, FIELD_SQL | FIELD_REQUIRED | FIELD_LINE,
		   "Its name."),
	FIELD_TIME(struct org, created_ms, COLUMN, "When it was made."),
	FIELD_MONEY(
		struct org, balance_warn_uusd, FIELD_SQL,
		"Warn when the balance falls below this, in millionths of a dollar; 0: only "
		"when it is about to run out."),
};
TYPE(org, org, "An organisation: owns workloads, workers, keys and money.");

static const struct field user_fields[] = {
	FIELD_ID(struct user, id, "us", COLUMN_SET, "The person."),
	FIELD_TEXT(struct user, email, 3, EMAIL_MAX_BYTES,
		   FIELD_SQL | FIELD_REQUIRED | FIELD_LINE, "Mail address, the name at login."),
	FIELD_TEXT(struct user, password_hash, 0, 128, COLUMN | FIELD_HIDDEN | FIELD_LINE,
		   "argon2id hash of the password."),
	FIELD_TIME(struct user, created_ms, COLUMN, "When the account was made."),
};
static int user_check(const void *value, struct err *err)
{
	return check_email(((const struct user *)value)->email, err);
}
TYPE_CHECK(user, user, user_check, "A person.");

static const struct field member_fields[] = {
	FIELD_ID(struct member, org_id, "or", COLUMN_SET, "The organisation."),
	FIELD_ID(struct member, user_id, "us", COLUMN_SET, "The person."),
	FIELD_TEXT(struct member, email, 0, EMAIL_MAX_BYTES, FIELD_OUT | FIELD_LINE,
		   "The person's mail address."),
	FIELD_ENUM(struct member, role, role_names, ROLE_VIEWER, FIELD_SQL,
		   "What the person may do; a role contains those before it."),
	FIELD_TIME(struct member, created_ms, COLUMN, "When the person became a member."),
};
TYPE(member, member, "A person's membership of an organisation.");

static const struct field api_key_fields[] = {
	FIELD_ID(struct api_key, id, "ak", COLUMN_SET, "The key, not its secret."),
	FIELD_ID(struct api_key, org_id, "or", COLUMN_SET,
		 "The organisation that the key acts for."),
	FIELD_ID(struct api_key, user_id, "us", COLUMN_NULL,
		 "Who made it; its rights end with the membership."),
	FIELD_TEXT(struct api_key, name, 0, NAME_MAX_BYTES, FIELD_SQL | FIELD_LINE,
		   "What it is for, for people."),
	FIELD_TEXT(struct api_key, hash, HEX32_BYTES, HEX32_BYTES,
		   COLUMN | FIELD_HIDDEN | FIELD_LINE, "SHA-256 of the secret, hexadecimal."),
	FIELD_TEXT(struct api_key, secret, 0, SECRET_MAX_BYTES, FIELD_OUT | FIELD_LINE,
		   "The secret; only in the answer that makes the key, stored nowhere."),
	FIELD_ENUM(struct api_key, role, role_names, ROLE_DEVELOPER, FIELD_SQL,
		   "The most it may do; the member's role limits it further."),
	FIELD_TEXTS(struct api_key, scopes, SCOPES_MAX, SCOPE_MAX_BYTES, FIELD_SQL,
		    "The parts of the API that it may use."),
	FIELD_TIME(struct api_key, created_ms, COLUMN, "When it was made."),
	FIELD_TIME(struct api_key, expires_ms, COLUMN, "When it ends; absent: never."),
	FIELD_TIME(struct api_key, revoked_ms, COLUMN,
		   "When it was revoked; absent: it was not."),
	FIELD_TIME(struct api_key, used_ms, COLUMN, "When it was last used, to the hour."),
};
static int api_key_check(const void *value, struct err *err)
{
	return check_scopes(&((const struct api_key *)value)->scopes, err);
}
TYPE_CHECK(api_key, api_key, api_key_check, "A key to the API.");

static const struct field join_token_fields[] = {
	FIELD_ID(struct join_token, id, "jt", COLUMN_SET, "The token, not its secret."),
	FIELD_ID(struct join_token, org_id, "or", COLUMN_SET,
		 "The provider that the worker will belong to."),
	FIELD_TEXT(struct join_token, hash, HEX32_BYTES, HEX32_BYTES,
		   COLUMN | FIELD_HIDDEN | FIELD_LINE, "SHA-256 of the secret, hexadecimal."),
	FIELD_TEXT(struct join_token, secret, 0, SECRET_MAX_BYTES, FIELD_OUT | FIELD_LINE,
		   "The secret; only in the answer that makes the token, stored nowhere."),
	FIELD_TIME(struct join_token, created_ms, COLUMN, "When it was made."),
	FIELD_TIME(struct join_token, expires_ms, COLUMN, "After this it joins nobody."),
	FIELD_TIME(struct join_token, used_ms, COLUMN, "When it was used; it works once."),
	FIELD_ID(struct join_token, worker_id, "wk", COLUMN_NULL, "The worker that used it."),
};
TYPE(join_token, join_token, "Links a new worker to its provider, once.");

static const struct field login_fields[] = {
	FIELD_TEXT(struct login, email, 3, EMAIL_MAX_BYTES, FIELD_REQUIRED | FIELD_LINE,
		   "Mail address."),
	FIELD_TEXT(struct login, password, 1, PASSWORD_MAX_BYTES, FIELD_REQUIRED | FIELD_SECRET,
		   "Password."),
	FIELD_TEXT(struct login, org, 0, NAME_MAX_BYTES, FIELD_LINE,
		   "Id or name of the organisation; absent: the only one."),
	FIELD_TEXT(struct login, key_name, 0, NAME_MAX_BYTES, FIELD_LINE,
		   "Name of the key that the login makes, for people."),
};
static int login_check(const void *value, struct err *err)
{
	return check_email(((const struct login *)value)->email, err);
}
TYPE_CHECK(login, login, login_check, "Exchanges a password for an API key.");

static const struct field key_request_fields[] = {
	FIELD_TEXT(struct key_request, name, 1, NAME_MAX_BYTES, FIELD_REQUIRED | FIELD_LINE,
		   "What the key is for, for people."),
	FIELD_ENUM(struct key_request, role, role_names, ROLE_DEVELOPER, 0,
		   "The most that it may do."),
	FIELD_TEXTS(struct key_request, scopes, SCOPES_MAX, SCOPE_MAX_BYTES, 0,
		    "The parts of the API that it may use; empty: all that the role allows."),
	FIELD_INT(struct key_request, expires_s, 0, DURATION_S_MAX, 0, 0,
		  "Seconds until it ends; 0: never."),
};
static int key_request_check(const void *value, struct err *err)
{
	const struct key_request *k = value;

	if (k->role == ROLE_NONE)
		return err_set_field(
			err, "role",
			"'none' lets a key do nothing: use viewer, developer, admin or owner");
	return check_scopes(&k->scopes, err);
}
TYPE_CHECK(key_request, key_request, key_request_check, "Makes an API key.");

static const struct field join_token_request_fields[] = {
	FIELD_INT(struct join_token_request, expires_s, 60, 366 * INT64_C(86400), 86400, 0,
		  "Seconds until the token ends."),
};
TYPE(join_token_request, join_token_request, "Makes a join token.");

static const struct field whoami_fields[] = {
	FIELD_ID(struct whoami, org_id, "or", FIELD_OUT,
		 "The organisation that the key acts for."),
	FIELD_TEXT(struct whoami, org_name, 0, NAME_MAX_BYTES, FIELD_OUT | FIELD_LINE,
		   "Its name."),
	FIELD_ID(struct whoami, user_id, "us", FIELD_OUT, "The person behind the key."),
	FIELD_TEXT(struct whoami, email, 0, EMAIL_MAX_BYTES, FIELD_OUT | FIELD_LINE,
		   "The person's mail address."),
	FIELD_ID(struct whoami, key_id, "ak", FIELD_OUT, "The key."),
	FIELD_ENUM(struct whoami, role, role_names, ROLE_NONE, FIELD_OUT,
		   "What the key may do at most."),
	FIELD_TEXTS(struct whoami, scopes, SCOPES_MAX, SCOPE_MAX_BYTES, FIELD_OUT,
		    "The parts of the API that it may use."),
};
TYPE(whoami, whoami, "Who the caller is.");

static const struct field api_key_page_fields[] = {
	FIELD_LIST(struct api_key_page, items, &api_key_type, 10000, FIELD_OUT,
		   "The keys, newest first."),
};
TYPE(api_key_page, api_key_page, "API keys of an organisation.");

static const struct field member_page_fields[] = {
	FIELD_LIST(struct member_page, items, &member_type, 10000, FIELD_OUT, "The members."),
};
TYPE(member_page, member_page, "Members of an organisation.");

static const struct field version_fields[] = {
	FIELD_TEXT(struct version, version, 0, 64, OUT_SET | FIELD_LINE,
		   "Version of the server."),
	FIELD_TEXT(struct version, protocol, 0, 32, OUT_SET | FIELD_LINE,
		   "Version of the worker protocol."),
	FIELD_BOOL(struct version, production, FIELD_OUT,
		   "False on networks that take simulated workers and demo credit."),
};
TYPE(version, version, "What answers.");

const struct type nothing_type = { .name = "nothing",
				   .size = sizeof(struct nothing),
				   .doc = "An empty object." };
