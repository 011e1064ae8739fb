/* The files backend: <root>/data/<key> holds blobs, <root>/spool what is not finished yet.  A
 * blob is seen whole or not at all: data is on the disk before its name is, and the name before
 * we say so.
 */
#include "blob.h"
#include "../os/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KEY_MAX	      200
#define SPOOL_STALE_S (24 * 3600) /* what is older was left by a crash */

struct blob_store {
	char *root, *data, *spool;
};

struct blob_writer {
	struct blob_store *store;
	char *key, *path;
	int fd;
};

/* ---- keys ---- */

static int key_check(const char *key, struct err *err)
{
	size_t len = strlen(key);

	if (!len || len > KEY_MAX)
		return err_set(err, ERR_INVALID, "blob key: %zu characters, must be 1 to %d",
			       len, KEY_MAX);
	if (strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_/.-") != len)
		return err_set(err, ERR_INVALID,
			       "blob key '%.80s': only a-z 0-9 _ / . - are allowed", key);
	if (key[0] == '/' || key[len - 1] == '/' || strstr(key, "//"))
		return err_set(err, ERR_INVALID,
			       "blob key '%.80s': has an empty part between slashes", key);
	if (key[0] == '.' || strstr(key, "/.") || strstr(key, ".."))
		return err_set(err, ERR_INVALID,
			       "blob key '%.80s': no part may begin with '.' or contain '..'",
			       key);
	return 0;
}

static int key_path(const struct blob_store *b, const char *key, char **ret, struct err *err)
{
	if (key_check(key, err))
		return -1;
	*ret = path_join(b->data, key);
	return 0;
}

/* A disk that is full may have room again: that is not the caller's fault and not a broken
 * store. */
static int full_is_unavailable(struct err *err)
{
	if (err->sys == ENOSPC || err->sys == EDQUOT)
		err->code = ERR_UNAVAILABLE;
	return -1;
}

static int parent_sync(const char *path, struct err *err)
{
	cleanup_free char *parent = xstrdup(path);

	*strrchr(parent, '/') = '\0';
	return dir_sync(parent, err);
}

/* Makes the directories between `data` and the file, each one's name durable. */
static int parents_make(const struct blob_store *b, const char *path, struct err *err)
{
	cleanup_free char *dir = xstrdup(path);

	for (char *p = dir + strlen(b->data) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		if (mkdir(dir, 0700)) {
			if (errno == EEXIST)
				continue;
			err_sys(err, errno, "cannot make '%s'", dir);
			return full_is_unavailable(err);
		}
		if (parent_sync(dir, err))
			return -1;
	}
	return 0;
}

/* ---- the store ---- */

/* Removes what a crash left; what is younger may belong to another process of this store. */
static void spool_sweep(const struct blob_store *b)
{
	DIR *dir = opendir(b->spool);
	time_t oldest = time(NULL) - SPOOL_STALE_S;
	struct dirent *entry;
	struct stat st;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (!fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
		    S_ISREG(st.st_mode) && st.st_mtime < oldest)
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
}

int blob_open(const char *url, struct blob_store **ret, struct err *err)
{
	struct blob_store *b;

	if (!str_starts(url, "file:/"))
		return err_set(err, ERR_INVALID, "blob store '%.100s': must be file:/DIRECTORY",
			       url);
	b = xcalloc(1, sizeof(*b));
	b->root = xstrdup(url + strlen("file:"));
	b->data = path_join(b->root, "data");
	b->spool = path_join(b->root, "spool");
	if (dir_make(b->data, 0700, err) || dir_make(b->spool, 0700, err) ||
	    dir_sync(b->root, err)) {
		err_wrap(err, "blob store");
		blob_close(b);
		return -1;
	}
	spool_sweep(b);
	*ret = b;
	return 0;
}

void blob_close(struct blob_store *b)
{
	if (!b)
		return;
	free(b->root);
	free(b->data);
	free(b->spool);
	free(b);
}

const char *blob_spool_dir(struct blob_store *b)
{
	return b->spool;
}

/* ---- writing ---- */

int blob_write_start(struct blob_store *b, const char *key, struct blob_writer **ret,
		     struct err *err)
{
	struct blob_writer *w;
	cleanup_free char *path = path_join(b->spool, "write-XXXXXX");
	int fd;

	if (key_check(key, err))
		return -1;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0) {
		err_sys(err, errno, "cannot make '%s'", path);
		return full_is_unavailable(err);
	}
	w = xcalloc(1, sizeof(*w));
	w->store = b;
	w->key = xstrdup(key);
	w->path = take_ptr(path);
	w->fd = fd;
	*ret = w;
	return 0;
}

int blob_write(struct blob_writer *w, const void *p, size_t len, struct err *err)
{
	if (!write_all(w->fd, p, len, err))
		return 0;
	err_wrap(err, "writing blob '%s'", w->key);
	return full_is_unavailable(err);
}

int blob_write_commit(struct blob_writer *w, struct err *err)
{
	return blob_put_file(w->store, w->key, w->path, err);
}

void blob_writer_free(struct blob_writer *w)
{
	if (!w)
		return;
	close(w->fd);
	unlink(w->path); /* gone already after a commit */
	free(w->path);
	free(w->key);
	free(w);
}

int blob_put_file(struct blob_store *b, const char *key, const char *path, struct err *err)
{
	cleanup_free char *target = NULL;
	cleanup_fd int fd = -1;

	if (key_path(b, key, &target, err))
		return -1;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot open '%s'", path);
	if (fsync(fd)) {
		err_sys(err, errno, "cannot write '%s' to the disk", path);
		return full_is_unavailable(err);
	}
	if (parents_make(b, target, err))
		return -1;
	if (rename(path, target)) {
		err_sys(err, errno, "cannot move '%s' to '%s'", path, target);
		return full_is_unavailable(err);
	}
	return parent_sync(target, err);
}

/* Opens for appending; a file that had to be made is durable by name before anything is
 * written to it. */
static int append_open(struct blob_store *b, const char *path, bool may_create, int *ret_fd,
		       struct err *err)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && may_create) {
		if (parents_make(b, path, err))
			return -1;
		fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0 && parent_sync(path, err))
			return -1;
	}
	if (fd < 0) {
		err_sys(err, errno, "cannot open '%s'", path);
		return full_is_unavailable(err);
	}
	*ret_fd = take_fd(fd);
	return 0;
}

int blob_append(struct blob_store *b, const char *key, int64_t at, const void *p, size_t len,
		struct err *err)
{
	cleanup_free char *path = NULL;
	cleanup_fd int fd = -1;
	struct stat st;

	if (at < 0)
		return err_set(err, ERR_INVALID, "blob '%.80s': cannot append at %" PRId64, key,
			       at);
	if (key_path(b, key, &path, err) || append_open(b, path, at == 0, &fd, err))
		return -1;
	if (fstat(fd, &st))
		return err_sys(err, errno, "cannot stat '%s'", path);
	if (st.st_size < at)
		return err_set(err, ERR_INTERNAL,
			       "blob '%.80s': holds %" PRId64 " bytes where %" PRId64
			       " were committed; restore it from a backup",
			       key, (int64_t)st.st_size, at);
	if (st.st_size > at && ftruncate(fd, at))
		return err_sys(err, errno, "cannot cut '%s' to %" PRId64 " bytes", path, at);
	if (lseek(fd, at, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot seek in '%s'", path);
	if (!file_append_sync(fd, p, len, err))
		return 0;
	/* Half an append is of no use; if the cut fails too, the next append makes it. */
	if (ftruncate(fd, at))
		err_wrap(err, "and cannot cut the tail");
	err_wrap(err, "appending to blob '%.80s'", key);
	return full_is_unavailable(err);
}

/* ---- reading ---- */

int blob_read_fd(struct blob_store *b, const char *key, int *ret_fd, int64_t *ret_size,
		 struct err *err)
{
	cleanup_free char *path = NULL;
	cleanup_fd int fd = -1;
	struct stat st;

	if (key_path(b, key, &path, err))
		return -1;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_set(err, ERR_NOT_FOUND, "there is no blob '%.80s'", key);
	if (fd < 0 || fstat(fd, &st))
		return err_sys(err, errno, "cannot open '%s'", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_NOT_FOUND, "there is no blob '%.80s'", key);
	*ret_fd = take_fd(fd);
	*ret_size = st.st_size;
	return 0;
}

int blob_size(struct blob_store *b, const char *key, int64_t *ret, struct err *err)
{
	cleanup_fd int fd = -1;

	return blob_read_fd(b, key, &fd, ret, err);
}

int blob_read(struct blob_store *b, const char *key, int64_t at, size_t max, struct strbuf *ret,
	      struct err *err)
{
	cleanup_fd int fd = -1;
	size_t len_before = ret->len;
	char piece[16384];
	int64_t size;

	if (at < 0)
		return err_set(err, ERR_INVALID, "blob '%.80s': cannot read at %" PRId64, key,
			       at);
	if (blob_read_fd(b, key, &fd, &size, err))
		return -1;
	while (max) {
		ssize_t n = pread(fd, piece, MIN(sizeof(piece), max), at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int failure = errno;

			ret->len = len_before;
			ret->buf[len_before] = '\0';
			return err_sys(err, failure, "cannot read blob '%.80s'", key);
		}
		if (!n)
			break;
		strbuf_add(ret, piece, (size_t)n);
		at += n;
		max -= (size_t)n;
	}
	return 0;
}

int blob_delete(struct blob_store *b, const char *key, struct err *err)
{
	cleanup_free char *path = NULL;

	if (key_path(b, key, &path, err))
		return -1;
	if (unlink(path) && errno != ENOENT && errno != ENOTDIR)
		return err_sys(err, errno, "cannot remove '%s'", path);
	return 0;
}
