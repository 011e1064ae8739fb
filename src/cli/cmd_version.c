#include "internal.h"

int cmd_version(struct cli *cli, const struct args *args, struct err *err)
{
	struct version server;
	struct err why = { 0 };
	bool known =
		remote_call(cli,
			    &(struct remote){ OP_meta_version, .out = &server, .once = true },
			    &why) == 0;

	(void)args;
	(void)err;
	if (cli->json) {
		print("{\"version\":\"" TES_VERSION "\",\"server\":%s}\n",
		      known ? cli->body.buf : "null");
		return 0;
	}
	print("tes " TES_VERSION "\n");
	if (known)
		print("tesd %s at %s\n", safe_text(&cli->arena, server.version), cli->url);
	else
		say(cli, "The server's version is not known: %s", why.text);
	return 0;
}
