#include "internal.h"

int cmd_whoami(struct cli *cli, const struct args *args, struct err *err)
{
	struct whoami who;

	(void)args;
	if (remote_call(cli, &(struct remote){ OP_user_whoami, .out = &who }, err) < 0)
		return -1;
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	print("%-20s  %s\n", "server", cli->url);
	record_print(cli, &whoami_type, &who);
	return 0;
}
