#include "internal.h"

int cmd_logout(struct cli *cli, const struct args *args, struct err *err)
{
	const char *path = login_path(&cli->arena);
	struct login_file login;

	(void)args;
	if (login_read(path, &cli->arena, &login, err) < 0)
		return -1;
	if (str_empty(login.key)) {
		say(cli, "Nobody was logged in.");
	} else {
		if (login_write(path, &(struct login_file){ login.url, NULL, login.ca_file }, err) < 0)
			return -1;
		say(cli, "The key is forgotten here; `tes keys revoke` would have ended it.");
	}
	if (cli->json)
		print("{}\n");
	return 0;
}
