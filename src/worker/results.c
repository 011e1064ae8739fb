/* A lease's results: what its container left at the paths that were asked for, streamed out of
 * it as a tar and uploaded file by file.  Nothing is unpacked by name on this machine: names
 * only go into the address of the upload. */
#include "internal.h"

#include "helper/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define UPLOAD_IDLE_MS (60 * SECOND_MS)
#define FILES_MAX      10000

static void note_add(struct strbuf *note, const char *fmt, ...) printf_like(2, 3);
static void note_add(struct strbuf *note, const char *fmt, ...)
{
	va_list ap;

	if (note->len > 300)
		return;
	strbuf_adds(note, note->len ? "; " : "");
	va_start(ap, fmt);
	strbuf_vaddf(note, fmt, ap);
	va_end(ap);
}

struct collect {
	struct link *link;
	const struct desired_lease *d;
	const volatile int *cancel;
	transfer_progress_fn *progress;
	void *arg;
	const char
		*folder; /* where the output stands in the container, without the first '/' */
	int64_t bytes, files;
	bool wanted; /* false: the server takes no more of this lease */
	struct strbuf *note;
};

static int upload(void *arg, const struct tar_file *f, struct err *err)
{
	struct collect *c = arg;
	cleanup_arena struct arena a = { 0 };
	const char *path =
		arena_printf(&a, "%s%s%s", c->folder, c->folder[0] ? "/" : "", f->path);
	struct link_call call = {
		.op = OP_worker_result,
		.params = { c->d->lease, path },
		.body_fd = f->fd,
		.body_size = f->size,
		.body_sha256 = f->sha256,
		.idle_timeout_ms = UPLOAD_IDLE_MS,
		.cancel = c->cancel,
	};

	if (c->files++ >= FILES_MAX)
		return err_set(err, ERR_TOO_LARGE, "there are more than %d files: pack them",
			       FILES_MAX);
	if (link_do(c->link, &call, &a, NULL, err) < 0) {
		if (err->code != ERR_INVALID)
			return err_wrap(err, "%.80s", path);
		note_add(c->note, "%.80s: %s", path,
			 err->text); /* its name is not acceptable: the others may be */
		err_clear(err);
		return 0;
	}
	c->bytes += f->size;
	c->progress(c->arg, c->bytes, 0);
	return 0;
}

/* The engine writes into a pipe on a thread of its own. */
struct copy_out {
	struct runtime *rt;
	const char *lease, *path;
	int fd;
	int64_t max_bytes;
	int rc;
	struct err err;
};

static void *copy_thread(void *arg)
{
	struct copy_out *c = arg;

	c->rc = runtime_copy_out(c->rt, c->lease, c->path, c->fd, c->max_bytes, &c->err);
	close(c->fd);
	return NULL;
}

/* Directory part of an absolute path, without the first '/': "/out" -> "", "/data/out" ->
 * "data". */
static char *folder_of(const char *path, struct arena *a)
{
	const char *end = path + strlen(path);

	while (end > path + 1 && end[-1] == '/')
		end--;
	while (end > path && end[-1] != '/')
		end--;
	while (end > path && end[-1] == '/')
		end--;
	while (path < end && *path == '/')
		path++;
	return arena_strndup(a, path, (size_t)(end - path));
}

static int output_collect(struct collect *c, struct runtime *rt, const char *state_dir,
			  const char *output, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	int64_t left = MAX(c->d->results_max_bytes - c->bytes, 0);
	/* Heads and padding of a tar come on top. */
	struct copy_out copy = { .rt = rt,
				 .lease = c->d->lease,
				 .path = output,
				 .max_bytes = left + left / 8 + (16 << 20) };
	cleanup_fd int spool = state_tmp(state_dir, err);
	struct thread_task thread;
	struct err e = { 0 };
	int ends[2], rc;

	if (spool < 0)
		return -1;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	copy.fd = ends[1];
	thread_task_start(&thread, copy_thread, &copy);
	c->folder = folder_of(output, &a);
	rc = helper_walk(ends[0], spool, left, c->cancel, upload, c, c->note, &e);
	close(ends[0]);
	thread_task_join(&thread);
	/* What went wrong at the source explains the rest. */
	if (copy.rc < 0 && copy.err.code == ERR_NOT_FOUND) {
		note_add(c->note, "%.80s does not exist", output);
		return 0;
	}
	if (copy.rc < 0 && copy.err.code == ERR_TOO_LARGE)
		e = copy.err;
	else if (copy.rc < 0 && rc < 0 && e.code == ERR_UNAVAILABLE)
		e = copy.err;
	if (rc == 0 && copy.rc == 0)
		return 0;
	if (rc == 0)
		e = copy.err;
	*err = e;
	return -1;
}

int results_collect(struct link *link, struct runtime *rt, const char *state_dir,
		    const struct desired_lease *d, const volatile int *cancel,
		    transfer_progress_fn *progress, void *arg, struct strbuf *note,
		    struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct collect c = { .link = link,
			     .d = d,
			     .cancel = cancel,
			     .progress = progress,
			     .arg = arg,
			     .note = note };
	struct link_call done = { .op = OP_worker_results_done, .params = { d->lease } };

	if (!d->outputs.len)
		return 0;
	for (size_t i = 0; i < d->outputs.len; i++) {
		struct err e = { 0 };

		if (output_collect(&c, rt, state_dir, d->outputs.items[i], &e) == 0)
			continue;
		if (e.code != ERR_TOO_LARGE) {
			*err = e;
			return -1;
		}
		note_add(note, "results were cut: %s", e.text);
		break;
	}
	return link_do(link, &done, &a, NULL, err);
}
