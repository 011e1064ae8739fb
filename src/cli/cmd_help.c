#include "internal.h"

static void json_write_help(const char *text)
{
	cleanup_strbuf struct strbuf quoted = STRBUF_INIT;

	json_write_text(text, &quoted);
	print("{\"help\":%s}\n", quoted.buf);
}

int cmd_help(struct cli *cli, const struct args *args, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	const char *name = args_word(args, 0);
	const struct command *c = name ? command_find(name) : NULL;

	if (name && !c) {
		cli->usage = true;
		return err_set(err, ERR_INVALID,
			       "there is no command \"%.40s\": `tes help` lists them", name);
	}
	if (args_has(args, "man"))
		help_man(&text);
	else if (args_has(args, "markdown"))
		help_markdown(&text);
	else if (c)
		help_command(c, cli->color_out && !cli->json, &text);
	else
		help_overview(cli->color_out && !cli->json, &text);
	if (cli->json)
		json_write_help(text.buf);
	else
		print("%s", text.buf);
	return 0;
}
