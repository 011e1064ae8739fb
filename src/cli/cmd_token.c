#include "internal.h"

int cmd_token(struct cli *cli, const struct args *args, struct err *err)
{
	struct join_token_request request;
	struct join_token token;

	schema_defaults(&join_token_request_type, &request);
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &request, err) < 0)
		return -1;
	cli->usage = false;
	if (remote_call(cli,
			&(struct remote){ OP_join_token_create, .in = &request, .out = &token },
			err) < 0)
		return -1;
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	print("%s\n", token.secret ? token.secret : "");
	say(cli, "It works once. On the machine: tes-worker join %s --token TOKEN", cli->url);
	return 0;
}
