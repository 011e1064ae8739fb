/* A job on its way to the server: its inputs, then its specification, or an array of it. */
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

/* The fields of an array's request, by the names that a job has for them. */
static int array_field(struct err *err)
{
	if (str_eq(err->field, "count"))
		snprintf(err->field, sizeof(err->field), "array");
	else if (str_starts(err->field, "spec."))
		memmove(err->field, err->field + strlen("spec."),
			strlen(err->field + strlen("spec.")) + 1);
	return -1;
}

int job_array_set(const char *text, struct arena *arena, struct job *job, struct err *err)
{
	struct array_request request = { 0 };

	if (schema_set(&array_request_type, "count", text, arena, &request, err) < 0)
		return array_field(err);
	job->array = request.count;
	return 0;
}

int job_check(const struct job *job, struct err *err)
{
	const struct array_request array = { job->array, &job->spec };

	if (!job->array)
		return schema_check(&workload_spec_type, &job->spec, err);
	return schema_check(&array_request_type, &array, err) < 0 ? array_field(err) : 0;
}

int job_submit(struct cli *cli, struct job *job, struct submitted *ret, struct err *err)
{
	const struct array_request array = { job->array, &job->spec };

	if (inputs_upload(cli, job, err) < 0)
		return -1;
	if (!job->array)
		return remote_call(cli,
				   &(struct remote){ OP_workload_create, .in = &job->spec,
						     .out = &ret->workload },
				   err);
	if (remote_call(cli,
			&(struct remote){ OP_array_create, .in = &array, .out = &ret->array },
			err) < 0)
		return array_field(err);
	return 0;
}

/* ---- what is said of it ------------------------------------------------------------------------ */

static int one_submitted(struct cli *cli, const struct workload *w, bool wait, struct err *err)
{
	char price[40];

	price_text(w->max_price_uusd_h, price);
	if (wait) {
		say(cli, "%s (%s), at most %s", w->id, w->name ? w->name : "", price);
		return wait_for_end(cli, w->id, err);
	}
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	print("%s\n", w->id);
	if (cli->tty_err)
		say(cli,
		    "It costs at most %s while it runs. Output: tes logs -f %s; stop it: tes stop %s",
		    price, w->id, w->id);
	return 0;
}

static int array_submitted(struct cli *cli, const struct workload_array *array, bool wait,
			   struct err *err)
{
	char price[40];

	price_text(array->max_price_uusd_h, price);
	if (wait) {
		say(cli, "%s: %zu workloads, each at most %s", array->id, array->ids.len, price);
		return array_wait(cli, array, err);
	}
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	for (size_t i = 0; i < array->ids.len; i++)
		print("%s\n", array->ids.items[i]);
	if (cli->tty_err)
		say(cli,
		    "Each costs at most %s while it runs. Output: tes logs -f ID; how they stand: tes show %s; stop all: tes stop %s",
		    price, array->id, array->id);
	return 0;
}

int job_submitted(struct cli *cli, const struct job *job, const struct submitted *s, bool wait,
		  struct err *err)
{
	return job->array ? array_submitted(cli, &s->array, wait, err)
			  : one_submitted(cli, &s->workload, wait, err);
}
