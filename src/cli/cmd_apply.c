#include "internal.h"

#include <unistd.h>

#define JOB_FILE_MAX (1 << 20)

/* From standard input: no folder, so that paths of inputs are relative to where we are. */
static int file_load(const char *path, struct strbuf *text, struct err *err)
{
	return file_read(str_eq(path, "-") ? "/dev/stdin" : path, JOB_FILE_MAX, text, err);
}

int cmd_apply(struct cli *cli, const struct args *args, struct err *err)
{
	const char *path = args_get(args, "file"), *slash;
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct submitted submitted;
	struct job job;

	if (!path) {
		cli->usage = true;
		return err_set(err, ERR_INVALID, "which job? tes apply -f job.yaml");
	}
	if (args_has(args, "wait"))
		interrupt_catch();
	slash = strrchr(path, '/');
	if (file_load(path, &text, err) < 0)
		return -1;
	if (job_from_yaml((struct slice){ text.buf, text.len },
			  slash ? arena_strndup(&cli->arena, path,
						(size_t)(slash - path) + (slash == path))
				: "",
			  secret_get, &cli->arena, &cli->arena, &job, err) < 0) {
		job_name_field(path, err);
		return -1;
	}
	if (job_submit(cli, &job, &submitted, err) < 0) {
		if (err->field[0])
			job_name_field(path, err);
		return -1;
	}
	return job_submitted(cli, &job, &submitted, args_has(args, "wait"), err);
}
