#include "internal.h"

int cmd_rm(struct cli *cli, const struct args *args, struct err *err)
{
	if (remote_call(cli,
			&(struct remote){ OP_workload_remove, .param = args_word(args, 0) },
			err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else
		say(cli, "%s is removed; its bill stays.", args_word(args, 0));
	return 0;
}
