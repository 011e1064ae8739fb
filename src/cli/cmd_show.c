#include "internal.h"

static const struct column lease_columns[] = {
	{ "generation", "ATTEMPT", COLUMN_RIGHT },
	{ "id", "LEASE", 0 },
	{ "worker_id", "WORKER", COLUMN_ID },
	{ "state", "STATE", COLUMN_STATE },
	{ "reason", "REASON", 0 },
	{ "rate_uusd_h", "RATE", COLUMN_RIGHT | COLUMN_RATE },
	{ "billed_ms", "BILLED", COLUMN_RIGHT },
	{ "billed_uusd", "CHARGED", COLUMN_RIGHT },
	{ "reason_text", "WHY", COLUMN_SHRINK },
};

int cmd_show(struct cli *cli, const struct args *args, struct err *err)
{
	struct workload workload;
	struct lease_page leases;
	const char *id = args_word(args, 0);

	if (is_array_ref(id))
		return array_show(cli, id, err);
	if (workload_ref(cli, args, &id, err) < 0 ||
	    remote_call(cli,
			&(struct remote){ OP_workload_show, .param = id, .out = &workload },
			err) < 0)
		return -1;
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	if (remote_call(cli,
			&(struct remote){ OP_workload_leases, .param = workload.id,
					  .out = &leases },
			err) < 0)
		return -1;
	record_print(cli, &workload_type, &workload);
	if (leases.items.len) {
		print("\n");
		table_print(cli, &lease_type, leases.items.items, leases.items.len,
			    lease_columns, ARRAY_LEN(lease_columns));
	}
	if (workload.state == WORKLOAD_PENDING)
		say(cli, "Why it waits: tes explain %s", workload.id);
	return 0;
}
