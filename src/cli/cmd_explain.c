#include "internal.h"

static const struct column columns[] = {
	{ "constraint", "CONSTRAINT", 0 },
	{ "wanted", "WANTED", COLUMN_SHRINK },
	{ "best", "NEAREST", COLUMN_SHRINK },
	{ "excluded", "EXCLUDED", COLUMN_RIGHT },
	{ "change", "WHAT WOULD HELP", COLUMN_SHRINK },
};

int cmd_explain(struct cli *cli, const struct args *args, struct err *err)
{
	struct explanation why;
	const char *id;

	if (workload_ref(cli, args, &id, err) < 0 ||
	    remote_call(cli, &(struct remote){ OP_workload_explain, .param = id, .out = &why },
			err) < 0)
		return -1;
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	print("%s\n%" PRId64 " offer%s looked at, %" PRId64 " match%s.\n",
	      safe_text(&cli->arena, why.summary ? why.summary : ""), why.offers,
	      why.offers == 1 ? "" : "s", why.matching, why.matching == 1 ? "es" : "");
	if (why.lines.len) {
		print("\n");
		table_print(cli, &explain_line_type, why.lines.items, why.lines.len, columns,
			    ARRAY_LEN(columns));
	}
	return 0;
}
