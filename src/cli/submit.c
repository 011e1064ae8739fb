/* A job on its way to the server: its inputs, then its specification. */
#include "internal.h"

#include <errno.h>
#include <unistd.h>

#define UPLOAD_BAR_MIN (4 << 20) /* smaller ones are there before a bar could be read */

struct upload {
	struct cli *cli;
	const char *name;
	int64_t size, drawn_ms;
	bool drawn;
};

static void on_upload(void *arg, int64_t sent, int64_t received)
{
	struct upload *u = arg;
	cleanup_strbuf struct strbuf line = STRBUF_INIT;
	struct err ignored;
	int64_t now = time_monotonic_ms();

	(void)received;
	if (!u->cli->tty_err || u->size < UPLOAD_BAR_MIN || now - u->drawn_ms < 100)
		return;
	strbuf_adds(&line, "\r\x1b[Kuploading ");
	strbuf_add_escaped(&line, u->name, strlen(u->name));
	strbuf_adds(&line, "  ");
	bar_format(sent, u->size, term_width(STDERR_FILENO), &line);
	(void)!write_all(STDERR_FILENO, line.buf, line.len, &ignored);
	u->drawn = true;
	u->drawn_ms = now;
}

static int upload_once(struct cli *cli, const struct http_call *call, struct input *ret,
		       struct err *err)
{
	struct http_result result;
	int rc;

	if (http_call(cli->http, call, &result, err) < 0)
		return -1;
	if (result.status / 100 == 2)
		rc = schema_parse(&input_type,
				  (struct slice){ result.body.buf, result.body.len },
				  FROM_SERVER, &cli->arena, ret, err);
	else
		rc = (api_problem_read(result.status,
				       (struct slice){ result.body.buf, result.body.len }, err),
		      -1);
	http_result_release(&result);
	return rc;
}

/* Trying again at worst leaves an input that nobody uses; it expires. */
static int input_upload(struct cli *cli, int fd, int64_t size, const char *name,
			struct input *ret, struct err *err)
{
	struct upload u = { .cli = cli, .name = name, .size = size };
	struct remote_head head;
	struct http_call call = {
		.method = HTTP_POST,
		.body_fd = fd,
		.body_fd_size = size,
		.idle_timeout_ms = 60 * SECOND_MS,
		.on_progress = on_upload,
		.arg = &u,
		.cancel = &cli_interrupted,
		.ca_file = cli->ca_file,
	};
	int rc;

	if (remote_head_make(cli, &operations[OP_input_create], NULL, NULL, &head, err) < 0)
		return -1;
	remote_head_add(&head, "Content-Type", "application/x-tar");
	call.url = head.url;
	call.headers = head.items;
	call.header_count = head.len;
	for (int n = 1;; n++) {
		if (lseek(fd, 0, SEEK_SET) < 0)
			return err_sys(err, errno, "cannot read the archive again");
		rc = upload_once(cli, &call, ret, err);
		if (rc == 0 || !remote_may_retry(err) || n == 5 || !remote_pause(n))
			break;
		err_clear(err);
	}
	if (u.drawn)
		fputs("\r\x1b[K", stderr);
	return rc;
}

static int inputs_upload(struct cli *cli, struct job *job, struct err *err)
{
	struct workload_input *items;

	if (job->input_count == 0)
		return 0;
	items = arena_array(&cli->arena, struct workload_input,
			    job->spec.inputs.len + job->input_count);
	for (size_t i = 0; i < job->spec.inputs.len; i++)
		items[i] = job->spec.inputs.items[i];
	for (size_t i = 0; i < job->input_count; i++) {
		cleanup_fd int fd = -1;
		struct input input;
		const char *name;
		int64_t size;

		if (tar_make(job->input_paths[i], &cli->arena, &fd, &size, &name, err) < 0)
			return -1;
		if (input_upload(cli, fd, size, name, &input, err) < 0)
			return err_wrap(err, "uploading %.80s", job->input_paths[i]);
		items[job->spec.inputs.len + i] = (struct workload_input){ input.id, name };
	}
	job->spec.inputs.items = items;
	job->spec.inputs.len += job->input_count;
	return 0;
}

int job_submit(struct cli *cli, struct job *job, struct workload *ret, struct err *err)
{
	if (inputs_upload(cli, job, err) < 0)
		return -1;
	return remote_call(
		cli, &(struct remote){ OP_workload_create, .in = &job->spec, .out = ret }, err);
}
