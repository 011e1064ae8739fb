#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int file_read(const char *path, size_t max, struct strbuf *ret, struct err *err)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;
	char chunk[16384];

	if (fd < 0)
		return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "%s does not exist", path)
				       : err_sys(err, errno, "cannot open %s", path);
	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "cannot read %s", path);
		if (n == 0)
			break;
		if ((size_t)n > max - sb.len)
			return err_set(err, ERR_TOO_LARGE,
				       "%s is larger than the limit of %zu bytes", path, max);
		strbuf_add(&sb, chunk, (size_t)n);
	}
	strbuf_release(ret);
	*ret = sb;
	strbuf_init(&sb);
	return 0;
}

int write_all(int fd, const void *data, size_t len, struct err *err)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd waiting = { .fd = fd, .events = POLLOUT };

			poll(&waiting, 1, -1);
			continue;
		}
		if (n < 0)
			return err_sys(err, errno, "cannot write");
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The directory that holds path, in buf. */
static int parent_of(const char *path, char *buf, size_t size, struct err *err)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	if (!slash)
		return str_copy(buf, size, ".");
	if (len == 0)
		return str_copy(buf, size, "/");
	if (len >= size)
		return err_set(err, ERR_INVALID, "path of %zu bytes is too long: at most %zu",
			       len, size - 1);
	memcpy(buf, path, len);
	buf[len] = '\0';
	return 0;
}

static int fill_and_rename(int fd, const char *tmp, const char *path, const void *data,
			   size_t len, mode_t mode, struct err *err)
{
	if (fchmod(fd, mode) < 0)
		return err_sys(err, errno, "cannot set the mode of %s", tmp);
	if (write_all(fd, data, len, err) < 0)
		return err_wrap(err, "%s", tmp);
	if (fsync(fd) < 0)
		return err_sys(err, errno, "cannot sync %s", tmp);
	if (rename(tmp, path) < 0)
		return err_sys(err, errno, "cannot rename %s to %s", tmp, path);
	return 0;
}

int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
		      struct err *err)
{
	char parent[4096], tmp[4096];
	cleanup_fd int fd = -1;

	if (parent_of(path, parent, sizeof(parent), err) < 0)
		return -1;
	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.tmp.XXXXXX", path) >= sizeof(tmp))
		return err_set(err, ERR_INVALID, "path is too long: at most %zu bytes",
			       sizeof(tmp) - 12);
	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot create %s", tmp);
	if (fill_and_rename(fd, tmp, path, data, len, mode, err) < 0) {
		unlink(tmp);
		return -1;
	}
	return dir_sync(parent, err);
}

int file_append_sync(int fd, const void *data, size_t len, struct err *err)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0)
		return err_sys(err, errno, "cannot find the end of the file");
	if (write_all(fd, data, len, err) == 0) {
		if (fdatasync(fd) == 0)
			return 0;
		err_sys(err, errno, "cannot sync");
	}
	/* Half a record must not stay.  If even this fails, the reader's own check has to find
	 * it. */
	if (ftruncate(fd, end) < 0)
		err_wrap(err, "cannot undo a partial write");
	return -1;
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int dir_make(const char *path, mode_t mode, struct err *err)
{
	cleanup_free char *copy = xstrdup(path);

	for (char *at = copy + 1; copy[0]; at++) {
		char end = *at;

		if (end != '/' && end != '\0')
			continue;
		*at = '\0';
		if (mkdir(copy, mode) < 0 && !(errno == EEXIST && is_dir(copy))) {
			int sys = errno == EEXIST ? ENOTDIR : errno;

			return err_sys(err, sys, "cannot create the directory %s", copy);
		}
		if (end == '\0')
			return 0;
		*at = '/';
	}
	return err_set(err, ERR_INVALID, "cannot create a directory without a name");
}

int dir_sync(const char *path, struct err *err)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open the directory %s", path);
	if (fsync(fd) < 0)
		return err_sys(err, errno, "cannot sync the directory %s", path);
	return 0;
}

int file_lock(const char *path, int *ret_fd, struct err *err)
{
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	char pid[16] = "";

	if (fd < 0)
		return err_sys(err, errno, "cannot open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_sys(err, errno, "cannot lock %s", path);
		if (pread(fd, pid, sizeof(pid) - 1, 0) <= 0)
			pid[0] = '\0';
		pid[strspn(pid, "0123456789")] = '\0';
		return err_set(err, ERR_CONFLICT,
			       "%s is locked by another process%s%s: stop it, or use another "
			       "directory",
			       path, pid[0] ? ", pid " : "", pid);
	}
	/* Only for the message above; the lock is the flock. */
	if (ftruncate(fd, 0) == 0)
		dprintf(fd, "%d\n", (int)getpid());
	*ret_fd = take_fd(fd);
	return 0;
}

char *path_join(const char *a, const char *b)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, a);
	if (sb.len && sb.buf[sb.len - 1] != '/' && b[0] != '/')
		strbuf_addc(&sb, '/');
	if (sb.len && sb.buf[sb.len - 1] == '/' && b[0] == '/')
		b++;
	strbuf_adds(&sb, b);
	return strbuf_take(&sb);
}

int disk_free_bytes(const char *path, int64_t *ret_free, int64_t *ret_total, struct err *err)
{
	struct statvfs st;
	int64_t available, total;

	if (statvfs(path, &st) < 0)
		return err_sys(err, errno, "cannot tell how much of the disk of %s is free",
			       path);
	if (!mul_checked((int64_t)st.f_bavail, (int64_t)st.f_frsize, &available) ||
	    !mul_checked((int64_t)st.f_blocks, (int64_t)st.f_frsize, &total))
		return err_set(err, ERR_UNSUPPORTED, "the disk of %s tells an impossible size",
			       path);
	if (ret_free)
		*ret_free = available;
	if (ret_total)
		*ret_total = total;
	return 0;
}
