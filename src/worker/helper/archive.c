/* Our end of tes-worker-tar.  Its word is checked like a stranger's: what it reads may have taken
 * it over. */
#include "../../os/os.h"
#include "internal.h"
#include "tar.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_EVERY_MS 200 /* at the cancel flag */

struct child {
	pid_t pid;
	int out;
	const volatile int *cancel;
};

static int child_start(struct child *c, const char *const words[], int in, struct err *err)
{
	cleanup_free char *path = helper_path("tes-worker-tar");
	const char *const argv[] = { path, words[0], words[1], words[1] ? words[2] : NULL, NULL };
	static char *const no_environment[] = { NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, defaults;
	int ends[2], sys;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&actions);
	sys = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	sys = sys ? sys : posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	sys = sys ? sys : posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	sys = sys ? sys
		  : posix_spawn(&c->pid, path, &actions, &attr, (char *const *)argv,
				no_environment);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	close(ends[1]);
	if (sys) {
		close(ends[0]);
		return err_sys(err, sys, "cannot start %s", path);
	}
	c->out = ends[0];
	return 0;
}

/* Ends it, if it has not ended. */
static void child_end(struct child *c)
{
	kill(c->pid, SIGKILL);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(take_fd(c->out));
}

static int child_read(struct child *c, void *p, size_t len, struct err *err)
{
	for (size_t got = 0; got < len;) {
		struct pollfd fd = { .fd = c->out, .events = POLLIN };
		ssize_t n;

		if (c->cancel && __atomic_load_n(c->cancel, __ATOMIC_RELAXED))
			return err_set(err, ERR_TIMEOUT, "cancelled");
		if (poll(&fd, 1, LOOK_EVERY_MS) <= 0)
			continue;
		n = read(c->out, (char *)p + got, len - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, ERR_UNAVAILABLE,
				       "tes-worker-tar ended in the middle of an archive");
		got += (size_t)n;
	}
	return 0;
}

static int frame_odd(struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "tes-worker-tar does not say what it should");
}

/* payload: TAR_FRAME_MAX + 1 bytes, ended by a zero.  A failure of its own is -1. */
static int frame_get(struct child *c, struct tar_frame *ret, char *payload, struct err *err)
{
	uint32_t code;

	if (child_read(c, ret, sizeof(*ret), err) < 0)
		return -1;
	if (ret->len > TAR_FRAME_MAX)
		return frame_odd(err);
	if (child_read(c, payload, ret->len, err) < 0)
		return -1;
	payload[ret->len] = '\0';
	if (ret->kind != TAR_FRAME_FAIL)
		return 0;
	if (ret->len < sizeof(code) || !utf8_valid(payload + sizeof(code), ret->len - sizeof(code)))
		return frame_odd(err);
	memcpy(&code, payload, sizeof(code));
	switch ((int)code) {
	case ERR_INVALID:
	case ERR_TOO_LARGE:
	case ERR_UNAVAILABLE:
	case ERR_IO: return err_set(err, code, "%s", payload + sizeof(code));
	}
	return err_set(err, ERR_UNAVAILABLE, "%s", payload + sizeof(code));
}

static int done_get(const struct tar_frame *frame, const char *payload, int64_t max, int64_t *ret,
		    struct err *err)
{
	if (frame->kind != TAR_FRAME_DONE || frame->len != sizeof(*ret))
		return frame_odd(err);
	memcpy(ret, payload, sizeof(*ret));
	return *ret < 0 || *ret > max ? frame_odd(err) : 0;
}

int helper_unpack(int fd, const char *dir, int64_t max_bytes, const volatile int *cancel,
		  int64_t *ret_bytes, struct err *err)
{
	cleanup_free char *payload = xmalloc(TAR_FRAME_MAX + 1);
	struct child c = { .cancel = cancel };
	struct tar_frame frame;
	char max[24];
	int rc;

	snprintf(max, sizeof(max), "%" PRId64, max_bytes);
	if (child_start(&c, (const char *const[]){ "unpack", dir, max }, fd, err) < 0)
		return -1;
	rc = frame_get(&c, &frame, payload, err);
	if (rc == 0)
		rc = done_get(&frame, payload, max_bytes, ret_bytes, err);
	child_end(&c);
	return rc;
}

/* ---- walking ---- */

struct walk {
	int spool;
	int64_t left;
	bool open, odd; /* within a file; one that is left out */
	int64_t odds;
	char path[TAR_FRAME_MAX + 1];
	struct tar_file file;
	struct sha256 hash;
	tar_file_fn *fn;
	void *arg;
};

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

static int file_begin(struct walk *w, const struct tar_frame *frame, const char *payload,
		      struct err *err)
{
	uint32_t mode;

	if (w->open || frame->len < sizeof(mode))
		return frame_odd(err);
	memcpy(&mode, payload, sizeof(mode));
	snprintf(w->path, sizeof(w->path), "%s", payload + sizeof(mode));
	w->open = true;
	w->odd = !path_is_plain(w->path);
	w->odds += w->odd;
	w->file = (struct tar_file){ .path = w->path, .fd = w->spool, .mode = mode & 0777 };
	sha256_init(&w->hash);
	if (ftruncate(w->spool, 0) < 0 || lseek(w->spool, 0, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot empty a temporary file");
	return 0;
}

static int file_data(struct walk *w, const struct tar_frame *frame, const char *payload,
		     struct err *err)
{
	if (!w->open)
		return frame_odd(err);
	if (w->odd)
		return 0;
	w->file.size += frame->len;
	if (w->file.size > w->left)
		return err_set(err, ERR_TOO_LARGE, "the limit of results is reached");
	sha256_update(&w->hash, payload, frame->len);
	return write_all(w->spool, payload, frame->len, err);
}

static int file_end(struct walk *w, struct err *err)
{
	if (!w->open)
		return frame_odd(err);
	w->open = false;
	if (w->odd)
		return 0;
	sha256_final(&w->hash, w->file.sha256);
	w->left -= w->file.size;
	if (lseek(w->spool, 0, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot read a temporary file");
	return w->fn(w->arg, &w->file, err);
}

static int frames_take(struct walk *w, struct child *c, int64_t *ret_left_out, struct err *err)
{
	cleanup_free char *payload = xmalloc(TAR_FRAME_MAX + 1);
	struct tar_frame frame;
	int rc;

	for (;;) {
		if (frame_get(c, &frame, payload, err) < 0)
			return -1;
		switch (frame.kind) {
		case TAR_FRAME_FILE: rc = file_begin(w, &frame, payload, err); break;
		case TAR_FRAME_DATA: rc = file_data(w, &frame, payload, err); break;
		case TAR_FRAME_END: rc = file_end(w, err); break;
		default:
			return w->open ? frame_odd(err)
				       : done_get(&frame, payload, INT64_MAX, ret_left_out, err);
		}
		if (rc < 0)
			return -1;
	}
}

int helper_walk(int fd, int spool, int64_t max_bytes, const volatile int *cancel, tar_file_fn *fn,
		void *arg, struct strbuf *note, struct err *err)
{
	cleanup_free struct walk *w = xcalloc(1, sizeof(*w));
	struct child c = { .cancel = cancel };
	int64_t left_out = 0;
	int rc;

	*w = (struct walk){ .spool = spool, .left = max_bytes, .fn = fn, .arg = arg };
	if (child_start(&c, (const char *const[]){ "walk", NULL }, fd, err) < 0)
		return -1;
	rc = frames_take(w, &c, &left_out, err);
	child_end(&c);
	if (rc < 0)
		return -1;
	if (left_out)
		strbuf_addf(note,
			    "%s%" PRId64 " links and special files were left out of the results",
			    note->len ? "; " : "", left_out);
	if (w->odds)
		strbuf_addf(note,
			    "%s%" PRId64
			    " files with names that are not plain UTF-8 were left out of the results",
			    note->len ? "; " : "", w->odds);
	return 0;
}
