#include "internal.h"

int cmd_completion(struct cli *cli, const struct args *args, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	if (completion_write(args_word(args, 0), &text, err) < 0) {
		cli->usage = true;
		return -1;
	}
	if (cli->json) {
		print("{\"script\":");
		cleanup_strbuf struct strbuf quoted = STRBUF_INIT;

		json_write_text(text.buf, &quoted);
		print("%s}\n", quoted.buf);
	} else {
		print("%s", text.buf);
	}
	return 0;
}
