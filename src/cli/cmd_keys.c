#include "internal.h"

static const struct column columns[] = {
	{ "id", "ID", COLUMN_ID },
	{ "name", "NAME", COLUMN_SHRINK },
	{ "role", "ROLE", 0 },
	{ "scopes", "SCOPES", COLUMN_SHRINK },
	{ "created_ms", "MADE", COLUMN_RIGHT | COLUMN_AGE },
	{ "used_ms", "USED", COLUMN_RIGHT | COLUMN_AGE },
	{ "expires_ms", "ENDS", 0 },
	{ "revoked_ms", "REVOKED", 0 },
};

static int keys_list(struct cli *cli, struct err *err)
{
	struct api_key_page page;

	if (remote_call(cli, &(struct remote){ OP_key_list, .out = &page }, err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else
		table_print(cli, &api_key_type, page.items.items, page.items.len, columns,
			    ARRAY_LEN(columns));
	return 0;
}

static int key_create(struct cli *cli, const struct args *args, const char *name,
		      struct err *err)
{
	struct key_request request;
	struct api_key key;

	schema_defaults(&key_request_type, &request);
	request.name = name;
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &request, err) < 0 ||
	    schema_check(&key_request_type, &request, err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	cli->usage = false;
	if (remote_call(cli, &(struct remote){ OP_key_create, .in = &request, .out = &key },
			err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	print("%s\n", key.secret ? key.secret : "");
	say(cli, "This is the only time that it is shown. It is %s; `tes keys revoke` ends it.",
	    key.id);
	return 0;
}

static int key_revoke(struct cli *cli, const char *ref, struct err *err)
{
	const char *id;

	if (key_ref(cli, ref, &id, err) < 0 ||
	    remote_call(cli, &(struct remote){ OP_key_revoke, .param = id }, err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else
		say(cli, "%s is revoked.", id);
	return 0;
}

int cmd_keys(struct cli *cli, const struct args *args, struct err *err)
{
	const char *action = args_word(args, 0), *what = args_word(args, 1);

	if (!action)
		return keys_list(cli, err);
	cli->usage = true;
	if (!str_eq(action, "create") && !str_eq(action, "revoke"))
		return err_set(err, ERR_INVALID,
			       "\"%.40s\" is no action: tes keys [create NAME | revoke ID]",
			       action);
	if (!what)
		return err_set(err, ERR_INVALID, "which one? tes keys %s",
			       str_eq(action, "create") ? "create NAME" : "revoke ID");
	cli->usage = false;
	return str_eq(action, "create") ? key_create(cli, args, what, err)
					: key_revoke(cli, what, err);
}
