/* A lease's results: what its container left at the paths that were asked for, streamed out of
 * it as a tar and uploaded file by file.  Nothing is unpacked by name on this machine: names
 * only go into the address of the upload. */
#include "internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define CHUNK	       65536
#define UPLOAD_IDLE_MS (60 * SECOND_MS)
#define FILES_MAX      10000

static void archive_free_(struct archive **a)
{
	if (*a)
		archive_read_free(*a);
}

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

/* ---- a tar, file by file ---- */

static int file_spool(struct archive *a, int fd, int64_t max_bytes, const volatile int *cancel,
		      struct tar_file *f, struct err *err)
{
	struct sha256 hash;
	char chunk[CHUNK];

	if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot empty a temporary file");
	sha256_init(&hash);
	for (;;) {
		la_ssize_t n = archive_read_data(a, chunk, sizeof(chunk));

		if (n < 0)
			return err_set(err, ERR_UNAVAILABLE,
				       "the engine's archive is damaged: %s",
				       archive_error_string(a));
		if (n == 0)
			break;
		f->size += n;
		if (f->size > max_bytes)
			return err_set(err, ERR_TOO_LARGE, "the limit of results is reached");
		if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
			return err_set(err, ERR_TIMEOUT, "cancelled");
		sha256_update(&hash, chunk, (size_t)n);
		if (write_all(fd, chunk, (size_t)n, err) < 0)
			return -1;
	}
	sha256_final(&hash, f->sha256);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot read a temporary file");
	return 0;
}

static bool path_is_plain(const char *path)
{
	struct slice rest = slice_of(path), part;

	if (str_empty(path) || path[0] == '/' || !utf8_valid(path, strlen(path)))
		return false;
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p < 0x20)
			return false;
	while (slice_split(&rest, '/', &part))
		if (part.len == 0 || slice_is(part, ".") || slice_is(part, ".."))
			return false;
	return true;
}

int tar_each_file(int fd, const char *spool_dir, int64_t max_bytes, const volatile int *cancel,
		  tar_file_fn *fn, void *arg, struct strbuf *note, struct err *err)
{
	struct archive *a cleanup(archive_free_) = archive_read_new();
	cleanup_fd int spool = state_tmp(spool_dir, err);
	struct archive_entry *e;
	int64_t left = max_bytes;
	int links = 0, odd = 0;

	if (spool < 0)
		return -1;
	archive_read_support_format_tar(a);
	if (archive_read_open_fd(a, fd, CHUNK) != ARCHIVE_OK)
		return err_set(err, ERR_UNAVAILABLE, "the engine's archive cannot be read: %s",
			       archive_error_string(a));
	for (;;) {
		int rc = archive_read_next_header(a, &e);
		struct tar_file file = { .fd = spool };

		if (rc == ARCHIVE_EOF)
			break;
		if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
			return err_set(err, ERR_UNAVAILABLE,
				       "the engine's archive is damaged: %s",
				       archive_error_string(a));
		file.path = archive_entry_pathname_utf8(e);
		file.mode = archive_entry_perm(e) & 0777;
		if (archive_entry_filetype(e) == AE_IFDIR)
			continue;
		if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e)) {
			links++;
			continue;
		}
		if (!path_is_plain(file.path)) {
			odd++;
			continue;
		}
		if (file_spool(a, spool, left, cancel, &file, err) < 0)
			return -1;
		left -= file.size;
		if (fn(arg, &file, err) < 0)
			return -1;
	}
	if (links)
		note_add(note, "%d links and special files were left out of the results",
			 links);
	if (odd)
		note_add(
			note,
			"%d files with names that are not plain UTF-8 were left out of the results",
			odd);
	return 0;
}

/* ---- collecting ---- */

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
	pthread_t thread;
	struct err e = { 0 };
	int ends[2], rc;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	copy.fd = ends[1];
	if (thread_start(&thread, copy_thread, &copy) != 0) {
		close(ends[0]);
		close(ends[1]);
		return err_set(err, ERR_UNAVAILABLE, "cannot start a thread");
	}
	c->folder = folder_of(output, &a);
	rc = tar_each_file(ends[0], state_dir, left, c->cancel, upload, c, c->note, &e);
	close(ends[0]);
	pthread_join(thread, NULL);
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
