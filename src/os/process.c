#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* One stream of the child, read until it ends. */
struct stream {
	int read_fd, write_fd;
	struct strbuf text;
};

#define STREAM_INIT                                                \
	{                                                          \
		.read_fd = -1, .write_fd = -1, .text = STRBUF_INIT \
	}

/* Descriptors 0 to 2 are what the child's streams become: ours must not be among them, even in
 * a parent that closed its own. */
static int above_stdio(int *fd)
{
	int high;

	if (*fd > STDERR_FILENO)
		return 0;
	high = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (high < 0)
		return -1;
	close(*fd);
	*fd = high;
	return 0;
}

static void stream_release(struct stream *s)
{
	close_fd_(&s->read_fd);
	close_fd_(&s->write_fd);
	strbuf_release(&s->text);
}

static int stream_open(struct stream *s, struct err *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	s->read_fd = ends[0];
	s->write_fd = ends[1];
	if (above_stdio(&s->read_fd) < 0 || above_stdio(&s->write_fd) < 0 ||
	    fcntl(s->read_fd, F_SETFL, O_NONBLOCK) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	return 0;
}

/* Takes what is there; bytes over max are dropped, so that the child never blocks on a full
 * pipe. */
static void stream_drain(struct stream *s, size_t max)
{
	char chunk[16384];

	/* A child that writes faster than we read must not keep us from looking at the clock.
	 */
	for (int turns = 0; turns < 16 && s->read_fd >= 0; turns++) {
		ssize_t n = read(s->read_fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			close(take_fd(s->read_fd));
			return;
		}
		strbuf_add(&s->text, chunk, MIN((size_t)n, max - s->text.len));
	}
}

/* The child's standard input: a file in memory, so that feeding it can neither block nor raise
 * SIGPIPE. */
static int input_open(struct slice input, int *ret_fd, struct err *err)
{
	cleanup_fd int fd = -1;

	if (!input.ptr)
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	else
		fd = memfd_create("input", MFD_CLOEXEC);
	if (fd < 0 || above_stdio(&fd) < 0)
		return err_sys(err, errno, "cannot open the input of a program");
	if (input.ptr &&
	    (write_all(fd, input.ptr, input.len, err) < 0 || lseek(fd, 0, SEEK_SET) < 0))
		return err_sys(err, errno, "cannot write the input of a program");
	*ret_fd = take_fd(fd);
	return 0;
}

/* A group of its own, so that the deadline reaches what the program started; the signals that
 * we block or ignore as a program's start finds them; no descriptor but the three streams,
 * whoever forgot CLOEXEC. */
static int spawn(const char *const argv[], int in, int out, int errout, pid_t *ret_pid,
		 struct err *err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, defaults;
	int sys;

	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	sigaddset(&defaults, SIGCHLD);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sys = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	sys = sys ? sys : posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	sys = sys ? sys : posix_spawn_file_actions_adddup2(&actions, errout, STDERR_FILENO);
	sys = sys ? sys : posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	sys = sys ? sys
		  : posix_spawnp(ret_pid, argv[0], &actions, &attr, (char *const *)argv,
				 environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	/* EACCES also means that a directory of PATH may not be searched. */
	if (sys == ENOENT || sys == EACCES) {
		err_set(err, ERR_NOT_FOUND,
			"the program %s is not installed, not in PATH or not executable",
			argv[0]);
		if (err)
			err->sys = sys;
		return -1;
	}
	return sys ? err_sys(err, sys, "cannot start %s", argv[0]) : 0;
}

/* Collects both streams until the child has ended; then takes what is left, without waiting for
 * grandchildren that keep the pipes open. */
static int collect(struct stream *out, struct stream *errout, int pidfd, size_t max,
		   int64_t deadline_ms, struct err *err)
{
	for (;;) {
		struct pollfd fds[3] = {
			{ .fd = out->read_fd, .events = POLLIN },
			{ .fd = errout->read_fd, .events = POLLIN },
			{ .fd = pidfd, .events = POLLIN },
		};
		int64_t left_ms = deadline_ms - time_monotonic_ms();
		int n;

		if (left_ms <= 0)
			return err_set(err, ERR_TIMEOUT, "did not end in time and was killed");
		n = poll(fds, ARRAY_LEN(fds), (int)MIN(left_ms, HOUR_MS));
		if (n < 0 && errno != EINTR)
			return err_sys(err, errno, "cannot wait for a program");
		stream_drain(out, max);
		stream_drain(errout, max);
		if (n > 0 && fds[2].revents)
			return 0;
	}
}

static int reap(pid_t pid, const char *name, int *ret_status, struct err *err)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return err_sys(err, errno, "cannot learn how %s ended", name);
	}
	*ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return 0;
}

static int run(const char *const argv[], struct slice input, size_t max, int64_t deadline_ms,
	       struct stream *out, struct stream *errout, int *ret_status, struct err *err)
{
	cleanup_fd int in = -1, pidfd = -1;
	struct err ignored;
	int status, rc;
	pid_t pid;

	if (stream_open(out, err) < 0 || stream_open(errout, err) < 0 ||
	    input_open(input, &in, err) < 0 ||
	    spawn(argv, in, out->write_fd, errout->write_fd, &pid, err) < 0)
		return -1;
	close(take_fd(out->write_fd));
	close(take_fd(errout->write_fd));

	pidfd = pidfd_open(pid, 0);
	rc = pidfd < 0 ? err_sys(err, errno, "cannot watch a program")
		       : collect(out, errout, pidfd, max, deadline_ms, err);
	if (rc < 0) {
		kill(-pid, SIGKILL);
		(void)!reap(pid, argv[0], &status, &ignored);
		return err_wrap(err, "%s", argv[0]);
	}
	if (reap(pid, argv[0], &status, err) < 0)
		return -1;
	*ret_status = status;
	return 0;
}

static void hand_over(struct strbuf *ret, struct strbuf *text)
{
	if (!ret)
		return;
	strbuf_release(ret);
	*ret = *text;
	strbuf_init(text);
}

int process_run(const char *const argv[], struct slice input, size_t max, int64_t timeout_ms,
		struct strbuf *ret_out, struct strbuf *ret_errout, int *ret_status,
		struct err *err)
{
	int64_t deadline_ms = time_monotonic_ms() + timeout_ms;
	cleanup(stream_release) struct stream out = STREAM_INIT, errout = STREAM_INIT;

	assert(argv[0] && timeout_ms > 0);
	if (run(argv, input, max, deadline_ms, &out, &errout, ret_status, err) < 0)
		return -1;
	hand_over(ret_out, &out.text);
	hand_over(ret_errout, &errout.text);
	return 0;
}
