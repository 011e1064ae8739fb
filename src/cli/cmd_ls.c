#include "internal.h"

static const struct column columns[] = {
	{ "id", "ID", COLUMN_ID },
	{ "name", "NAME", COLUMN_SHRINK },
	{ "state", "STATE", COLUMN_STATE },
	{ "reason", "REASON", COLUMN_SHRINK },
	{ "spec.image", "IMAGE", COLUMN_SHRINK },
	{ "exit_code", "EXIT", COLUMN_RIGHT | COLUMN_EXIT },
	{ "charged_uusd", "CHARGED", COLUMN_RIGHT },
	{ "created_ms", "AGE", COLUMN_RIGHT | COLUMN_AGE },
};

int cmd_ls(struct cli *cli, const struct args *args, struct err *err)
{
	struct workload_query query;
	struct workload_page page;

	schema_defaults(&workload_query_type, &query);
	query.all = args_has(args, "all");
	if (args_has(args, "array") && array_ref(cli, args_get(args, "array"), &query.array, err) < 0)
		return -1;
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &query, err) < 0)
		return -1;
	cli->usage = false;
	if (remote_call(cli, &(struct remote){ OP_workload_list, .in = &query, .out = &page },
			err) < 0)
		return -1;
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	if (page.items.len == 0) {
		say(cli, "No workloads%s; `tes run` makes one.",
		    query.all ? "" : " of the last day (--all shows older ones)");
		return 0;
	}
	table_print(cli, &workload_type, page.items.items, page.items.len, columns,
		    ARRAY_LEN(columns));
	if (!str_empty(page.next))
		say(cli, "There are more: --limit shows up to 1000.");
	return 0;
}
