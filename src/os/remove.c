/* Removing a tree that a stranger has filled.  No path is ever resolved twice and no link
 * followed: every step is relative to an open directory.  Names may nest deeper than we have
 * descriptors or stack, so what is DEPTH_MAX down is moved to the top and removed from there.
 */
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 32

struct removal {
	const char *path; /* for messages */
	int top;
	uint64_t mount;
	uint64_t moved; /* directories brought up so far: their names */
};

static int mount_of(int fd, const char *path, uint64_t *ret, struct err *err)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS | STATX_MNT_ID,
		  &stx) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	/* Before Linux 5.8 the device must do, which does not tell bind mounts apart. */
	*ret = stx.stx_mask & STATX_MNT_ID
		       ? stx.stx_mnt_id
		       : (uint64_t)stx.stx_dev_major << 32 | stx.stx_dev_minor;
	return 0;
}

/* A directory that its owner made unreadable is ours to remove all the same. */
static int open_dir(int at, const char *name)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(at, name, flags);
	struct stat st;

	if (fd < 0 && errno == EACCES && fchmodat(at, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
		fd = openat(at, name, flags);
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		fchmod(fd, 0700);
	return fd;
}

static int remove_content(struct removal *r, int dir, int depth, struct err *err);

static int move_up(struct removal *r, int at, const char *name, struct err *err)
{
	char unique[48];

	do {
		snprintf(unique, sizeof(unique), ".removing.%" PRIu64, r->moved++);
	} while (renameat2(at, name, r->top, unique, RENAME_NOREPLACE) < 0 && errno == EEXIST);
	if (faccessat(r->top, unique, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(err, errno, "cannot move %s, deep in %s", name, r->path);
	return 0;
}

static int remove_subdir(struct removal *r, int at, const char *name, int depth,
			 struct err *err)
{
	cleanup_fd int fd = -1;
	uint64_t mount;

	if (depth == DEPTH_MAX)
		return move_up(r, at, name, err);
	fd = open_dir(at, name);
	if (fd < 0)
		return err_sys(err, errno, "cannot open %s in %s", name, r->path);
	if (mount_of(fd, name, &mount, err) < 0)
		return -1;
	if (mount != r->mount)
		return err_set(err, ERR_CONFLICT, "%s in %s is a mount point: unmount it first",
			       name, r->path);
	if (remove_content(r, fd, depth + 1, err) < 0)
		return -1;
	if (unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys(err, errno, "cannot remove %s in %s", name, r->path);
	return 0;
}

static int remove_entry(struct removal *r, int at, const char *name, int depth, struct err *err)
{
	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return 0;
	/* POSIX says EPERM for a directory, Linux EISDIR. */
	if (errno != EISDIR && errno != EPERM)
		return err_sys(err, errno, "cannot remove %s in %s", name, r->path);
	return remove_subdir(r, at, name, depth, err);
}

static bool is_dots(const char *name)
{
	return str_eq(name, ".") || str_eq(name, "..");
}

/* Goes over the directory until it is empty: entries move into the top while it is walked. */
static int remove_content(struct removal *r, int dir, int depth, struct err *err)
{
	int fd = fcntl(dir, F_DUPFD_CLOEXEC, 3), rc = 0;
	DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	size_t seen;

	if (!stream) {
		err_sys(err, errno, "cannot list a directory in %s", r->path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	do {
		seen = 0;
		rewinddir(stream);
		while (rc == 0 && (errno = 0, entry = readdir(stream))) {
			if (is_dots(entry->d_name))
				continue;
			seen++;
			rc = remove_entry(r, dir, entry->d_name, depth, err);
		}
		if (rc == 0 && errno)
			rc = err_sys(err, errno, "cannot list a directory in %s", r->path);
	} while (rc == 0 && seen);
	closedir(stream);
	return rc;
}

int dir_remove(const char *path, struct err *err)
{
	struct removal r = { .path = path };
	cleanup_fd int fd = -1;

	if (unlink(path) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_sys(err, errno, "cannot remove %s", path);
	fd = open_dir(AT_FDCWD, path);
	if (fd < 0)
		return err_sys(err, errno, "cannot open the directory %s", path);
	r.top = fd;
	if (mount_of(fd, path, &r.mount, err) < 0 || remove_content(&r, fd, 0, err) < 0)
		return -1;
	if (rmdir(path) < 0 && errno != ENOENT)
		return err_sys(err, errno, "cannot remove the directory %s", path);
	return 0;
}
