#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const struct column columns[] = {
	{ "path", "FILE", 0 },
	{ "size_bytes", "SIZE", COLUMN_RIGHT },
	{ "sha256", "SHA-256", 0 },
	{ "expires_ms", "KEPT UNTIL", 0 },
};

static int download_all(struct cli *cli, const struct result_list *list, const char *dir,
			struct err *err)
{
	cleanup_fd int fd = -1;

	if (dir_make(dir, 0755, err) < 0)
		return -1;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot open %s", dir);
	interrupt_catch();
	crypto_init();
	for (size_t i = 0; i < list->items.len; i++) {
		const struct result *r = &list->items.items[i];
		const char *path = safe_text(&cli->arena, r->path);
		char size[24];
		bool there;

		if (result_download(cli, r, fd, &there, err) < 0)
			return cli_interrupted
				       ? err_set(err, ERR_TIMEOUT,
						 "interrupted; the same command goes on where it ended")
				       : err_wrap(err, "%s", path);
		size_format(r->size_bytes, size);
		if (!cli->json)
			print("%s  %s/%s\n", r->sha256, dir, path);
		say(cli, "%s/%s  %s  sha256 checked%s", dir, path, size,
		    there ? "; it was there" : "");
	}
	return 0;
}

int cmd_results(struct cli *cli, const struct args *args, struct err *err)
{
	struct result_list list;
	const char *id, *dir = args_get(args, "output");

	if (workload_ref(cli, args, &id, err) < 0 ||
	    remote_call(cli, &(struct remote){ OP_workload_results, .param = id, .out = &list },
			err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	if (dir && download_all(cli, &list, dir, err) < 0)
		return -1;
	if (!dir && !cli->json && list.items.len)
		table_print(cli, &result_type, list.items.items, list.items.len, columns,
			    ARRAY_LEN(columns));
	if (!str_empty(list.note))
		say(cli, "%s", list.note);
	else if (list.items.len == 0)
		say(cli, "There are no results.");
	else if (!dir && cli->tty_err)
		say(cli, "Download them: tes results %s -o DIR", id);
	return 0;
}
