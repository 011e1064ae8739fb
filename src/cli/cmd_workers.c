#include "internal.h"

static const struct column columns[] = {
	{ "id", "ID", COLUMN_ID },
	{ "name", "NAME", COLUMN_SHRINK },
	{ "state", "STATE", COLUMN_STATE },
	{ "intent", "INTENT", 0 },
	{ "used_gpus", "GPUS USED", COLUMN_RIGHT },
	{ "gpus", "OF", COLUMN_RIGHT },
	{ "used_cpu_milli", "CPUS USED", COLUMN_RIGHT | COLUMN_CPUS },
	{ "cpu_milli", "OF", COLUMN_RIGHT | COLUMN_CPUS },
	{ "used_memory_mib", "MEMORY USED", COLUMN_RIGHT },
	{ "memory_mib", "OF", COLUMN_RIGHT },
	{ "reliability_ppm", "RELIABLE", COLUMN_RIGHT },
	{ "seen_ms", "SEEN", COLUMN_RIGHT | COLUMN_AGE },
};

int cmd_workers(struct cli *cli, const struct args *args, struct err *err)
{
	const char *ref = args_word(args, 0), *id;
	struct worker_page page;
	struct worker worker;

	if (ref && (worker_ref(cli, ref, &id, err) < 0 ||
		    remote_call(cli, &(struct remote){ OP_worker_show, .param = id, .out = &worker },
				err) < 0))
		return -1;
	if (!ref &&
	    remote_call(cli, &(struct remote){ OP_worker_list, .out = &page }, err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else if (ref)
		record_print(cli, &worker_type, &worker);
	else if (page.items.len == 0)
		say(cli,
		    "You have no workers; `tes token` makes a token with which a machine joins.");
	else
		table_print(cli, &worker_type, page.items.items, page.items.len, columns,
			    ARRAY_LEN(columns));
	return 0;
}
