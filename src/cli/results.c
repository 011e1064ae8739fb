/* Downloading results.  The server is not trusted with our file system: paths stay below the
 * folder, and no link in it is followed. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX 2048
#define BLOCK	       65536

bool result_path_valid(const char *path)
{
	struct slice rest = slice_of(path), part;

	if (!path || !*path || *path == '/' || strlen(path) > PATH_BYTES_MAX)
		return false;
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	while (slice_split(&rest, '/', &part))
		if (part.len == 0 || part.len > 255 || slice_is(part, ".") ||
		    slice_is(part, ".."))
			return false;
	return true;
}

/* The folder in which `path` lies, made where it is missing, and the last part of it. */
static int parent_open(int dir_fd, const char *path, int *ret_fd, const char **ret_base,
		       struct err *err)
{
	cleanup_fd int at = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
	const char *slash;

	while ((slash = strchr(path, '/'))) {
		char part[256];
		cleanup_fd int next = -1;

		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		if (mkdirat(at, part, 0755) < 0 && errno != EEXIST)
			return err_sys(err, errno, "cannot make the folder %s", part);
		next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return err_sys(err, errno, "cannot open the folder %s", part);
		close(at);
		at = take_fd(next);
		path = slash + 1;
	}
	*ret_base = path;
	*ret_fd = take_fd(at);
	return 0;
}

/* SHA-256 of what the file holds, and how much that is. */
static int file_sum(int fd, struct sha256 *sum, int64_t *ret_size, struct err *err)
{
	char block[BLOCK];
	int64_t size = 0;
	ssize_t n;

	sha256_init(sum);
	while ((n = read(fd, block, sizeof(block))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "cannot read what is there");
		sha256_update(sum, block, (size_t)n);
		size += n;
	}
	*ret_size = size;
	return 0;
}

static bool sum_is(struct sha256 *sum, const char *hex)
{
	uint8_t bytes[SHA256_SIZE];
	char text[SHA256_HEX_SIZE];

	sha256_final(sum, bytes);
	hex_format(bytes, sizeof(bytes), text);
	return str_eq(text, hex);
}

static int is_there(int parent, const char *base, const struct result *r, bool *ret,
		    struct err *err)
{
	cleanup_fd int fd =
		openat(parent, base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct sha256 sum;
	struct stat st;
	int64_t size;

	*ret = false;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != r->size_bytes)
		return 0;
	if (file_sum(fd, &sum, &size, err) < 0)
		return -1;
	*ret = sum_is(&sum, r->sha256);
	return 0;
}

/* ---- one file ----------------------------------------------------------------------------- */

struct download {
	struct cli *cli;
	const struct result *result;
	int fd;
	struct sha256 sum;
	int64_t at;	/* bytes in the file, all of them in the sum */
	int64_t offset; /* asked for from here */
	bool restarted; /* the server sends it from its beginning: what was there is void */
	int64_t drawn_ms;
	bool drawn;
	struct err err;
};

static void on_status(void *arg, int status)
{
	struct download *d = arg;

	d->restarted = d->offset > 0 && status == 200;
}

static void draw(struct download *d)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT;
	struct err ignored;
	int64_t now = time_monotonic_ms();

	if (!d->cli->tty_err || now - d->drawn_ms < 100)
		return;
	d->drawn_ms = now;
	strbuf_adds(&line, "\r\x1b[K");
	strbuf_add_escaped(&line, d->result->path, strlen(d->result->path));
	strbuf_adds(&line, "  ");
	bar_format(d->at, d->result->size_bytes, term_width(STDERR_FILENO), &line);
	(void)!write_all(STDERR_FILENO, line.buf, line.len, &ignored);
	d->drawn = true;
}

static int on_data(void *arg, const char *p, size_t len)
{
	struct download *d = arg;

	if (d->restarted) {
		if (ftruncate(d->fd, 0) < 0 || lseek(d->fd, 0, SEEK_SET) < 0)
			return err_sys(&d->err, errno, "cannot begin the file again");
		sha256_init(&d->sum);
		d->at = 0;
		d->restarted = false;
	}
	if ((int64_t)len > d->result->size_bytes - d->at)
		return err_set(&d->err, ERR_TOO_LARGE,
			       "the server sends more than the %" PRId64 " bytes it announced",
			       d->result->size_bytes);
	if (write_all(d->fd, p, len, &d->err) < 0)
		return -1;
	sha256_update(&d->sum, p, len);
	d->at += (int64_t)len;
	draw(d);
	return 0;
}

static int fetch_once(struct download *d, struct err *err)
{
	struct cli *cli = d->cli;
	struct remote_head head;
	struct http_result result;
	struct http_call call = {
		.method = HTTP_GET,
		.idle_timeout_ms = 60 * SECOND_MS,
		.on_data = on_data,
		.on_status = on_status,
		.arg = d,
		.cancel = &cli_interrupted,
		.ca_file = cli->ca_file,
	};
	int rc;

	if (remote_head_make(cli, &operations[OP_result_download], d->result->id, NULL, &head,
			     err) < 0)
		return -1;
	d->offset = d->at;
	if (d->at > 0) {
		remote_head_add(&head, "Range",
				arena_printf(&cli->arena, "bytes=%" PRId64 "-", d->at));
		remote_head_add(&head, "If-Range",
				arena_printf(&cli->arena, "\"%s\"", d->result->sha256));
	}
	call.url = head.url;
	call.headers = head.items;
	call.header_count = head.len;
	if (http_call(cli->http, &call, &result, err) < 0) {
		if (d->err.code)
			*err = d->err;
		return -1;
	}
	rc = result.status / 100 == 2
		     ? 0
		     : (api_problem_read(result.status,
					 (struct slice){ result.body.buf, result.body.len },
					 err),
			-1);
	http_result_release(&result);
	if (rc == 0 && d->at < d->result->size_bytes)
		return err_set(err, ERR_UNAVAILABLE,
			       "the download broke off after %" PRId64 " of %" PRId64 " bytes",
			       d->at, d->result->size_bytes);
	return rc;
}

/* A break is resumed where it happened; only tries without a single new byte are counted. */
static int fetch(struct download *d, struct err *err)
{
	int tries = 0;

	while (d->at < d->result->size_bytes) {
		int64_t before = d->at;

		err_clear(err);
		if (fetch_once(d, err) == 0)
			break;
		tries = d->at > before ? 1 : tries + 1;
		if (d->err.code || !remote_may_retry(err) || tries == 5 || !remote_pause(tries))
			return -1;
	}
	return 0;
}

static int part_open(int parent, const char *part, struct download *d, struct err *err)
{
	struct stat st;

	d->fd = openat(parent, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK,
		       0644);
	if (d->fd < 0 || fstat(d->fd, &st) < 0)
		return err_sys(err, errno, "cannot open %s", part);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_CONFLICT, "%.150s is not a file: remove it", part);
	if (st.st_size > d->result->size_bytes && ftruncate(d->fd, 0) < 0)
		return err_sys(err, errno, "cannot empty %s", part);
	return file_sum(d->fd, &d->sum, &d->at, err);
}

static int part_finish(int parent, const char *part, const char *base, struct download *d,
		       struct err *err)
{
	if (!sum_is(&d->sum, d->result->sha256)) {
		unlinkat(parent, part, 0);
		return err_set(
			err, ERR_IO,
			"the bytes do not have the SHA-256 that was announced: try again");
	}
	if (fchmod(d->fd, (mode_t)d->result->mode & 0755) < 0 || fsync(d->fd) < 0)
		return err_sys(err, errno, "cannot finish %s", base);
	if (renameat(parent, part, parent, base) < 0)
		return err_sys(err, errno, "cannot put %s in its place", base);
	return 0;
}

int result_download(struct cli *cli, const struct result *r, int dir_fd, bool *ret_was_there,
		    struct err *err)
{
	struct download d = { .cli = cli, .result = r, .fd = -1 };
	cleanup_strbuf struct strbuf part = STRBUF_INIT;
	cleanup_fd int parent = -1;
	const char *base = NULL;
	int rc;

	if (!result_path_valid(r->path))
		return err_set(err, ERR_INVALID,
			       "the path leads out of the folder: it is not written");
	if (parent_open(dir_fd, r->path, &parent, &base, err) < 0 ||
	    is_there(parent, base, r, ret_was_there, err) < 0)
		return -1;
	if (*ret_was_there)
		return 0;
	strbuf_addf(&part, "%s.part", base);
	rc = part_open(parent, part.buf, &d, err);
	if (rc == 0)
		rc = fetch(&d, err);
	if (rc == 0)
		rc = part_finish(parent, part.buf, base, &d, err);
	if (d.drawn)
		fputs("\r\x1b[K", stderr);
	close_fd_(&d.fd);
	return rc;
}
