#include "internal.h"

int cmd_balance(struct cli *cli, const struct args *args, struct err *err)
{
	struct balance balance;

	(void)args;
	if (remote_call(cli, &(struct remote){ OP_org_balance, .out = &balance }, err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else
		record_print(cli, &balance_type, &balance);
	return 0;
}
