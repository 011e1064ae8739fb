#include "internal.h"

static const struct column columns[] = {
	{ "lease_id", "LEASE", COLUMN_ID },
	{ "worker_id", "WORKER", COLUMN_ID },
	{ "from_ms", "FROM", COLUMN_MS },
	{ "to_ms", "TO", COLUMN_MS },
	{ "seconds", "SECONDS", COLUMN_RIGHT },
	{ "rate_uusd_h", "RATE", COLUMN_RIGHT | COLUMN_RATE },
	{ "amount_uusd", "AMOUNT", COLUMN_RIGHT },
	{ "fee_uusd", "FEE", COLUMN_RIGHT },
	{ "reason", "ENDED", COLUMN_SHRINK },
};

static void bill_print(struct cli *cli, const struct bill *bill)
{
	char total[40], held[40];

	if (bill->lines.len)
		table_print(cli, &bill_line_type, bill->lines.items, bill->lines.len, columns,
			    ARRAY_LEN(columns));
	money_text(bill->total_uusd, total);
	money_text(bill->held_uusd, held);
	print("%stotal  %s%s\n", color_on(cli->color_out, COLOR_BOLD), total,
	      color_off(cli->color_out));
	if (bill->held_uusd)
		print("held   %s, what is not used comes back\n", held);
	if (!bill->final)
		print("It is still running: the total grows.\n");
}

int cmd_bill(struct cli *cli, const struct args *args, struct err *err)
{
	const char *id = args_word(args, 0);
	struct bill_query query;
	struct bill bill;
	struct remote call = { OP_org_bill, .in = &query, .out = &bill };

	schema_defaults(&bill_query_type, &query);
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &query, err) < 0)
		return -1;
	if (schema_check(&bill_query_type, &query, err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	if (id && (query.since_ms || query.until_ms))
		return err_set(
			err, ERR_INVALID,
			"the bill of one workload is shown whole: leave out --since and --until, or the ID");
	cli->usage = false;
	if (id)
		call = (struct remote){ OP_workload_bill, .param = id, .out = &bill };
	if (remote_call(cli, &call, err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else
		bill_print(cli, &bill);
	return 0;
}
