#include "internal.h"

static const struct column columns[] = {
	{ "email", "EMAIL", 0 },
	{ "role", "ROLE", 0 },
	{ "user_id", "USER", COLUMN_ID },
	{ "created_ms", "SINCE", 0 },
};

int cmd_members(struct cli *cli, const struct args *args, struct err *err)
{
	struct member_page page;

	(void)args;
	if (remote_call(cli, &(struct remote){ OP_org_members, .out = &page }, err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else
		table_print(cli, &member_type, page.items.items, page.items.len, columns,
			    ARRAY_LEN(columns));
	return 0;
}
