/* Unpacks a customer's archive.
 *
 * Names must stay inside, links are never followed while unpacking, nothing but files, directories
 * and links is made, and everything becomes readable, because it is mounted read-only for any
 * user. */
#include "../../os/os.h"
#include "tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX 1000000
#define ENTRY_BYTES 4096 /* that a name costs, however empty its file is */
#define CHUNK	    65536

struct unpack {
	int root;
	int64_t left; /* bytes of disk that may still be taken */
	};

static void archive_free_(struct archive **a)
{
	if (*a)
		archive_read_free(*a);
}

static const char *entry_path(struct archive_entry *e)
{
	const char *path = archive_entry_pathname_utf8(e);

	return path ? path : archive_entry_pathname(e);
}

/* Opens the directory that holds `path`, making what is missing; *ret_name is the last part (""
 * for the root itself). */
static int parent_open(struct unpack *u, const char *path, char name[static 256],
		       struct err *err)
{
	struct slice rest = slice_of(path), part;
	int dir = dup(u->root);

	name[0] = '\0';
	if (path[0] == '/')
		goto outside;
	while (dir >= 0 && slice_split(&rest, '/', &part)) {
		if (part.len == 0 || slice_is(part, "."))
			continue;
		if (slice_is(part, ".."))
			goto outside;
		if (part.len > 255) {
			close(dir);
			return err_set(err, ERR_INVALID,
				       "the archive has a name of %zu bytes: at most 255",
				       part.len);
		}
		if (name[0]) {
			int next = mkdirat(dir, name, 0755) == 0 || errno == EEXIST
					   ? openat(dir, name,
						    O_DIRECTORY | O_NOFOLLOW | O_RDONLY |
							    O_CLOEXEC)
					   : -1;

			close(dir);
			dir = next;
		}
		memcpy(name, part.ptr, part.len);
		name[part.len] = '\0';
	}
	if (dir < 0)
		return err_sys(err, errno, "cannot unpack '%.100s'", path);
	return dir;
outside:
	if (dir >= 0)
		close(dir);
	return err_set(
		err, ERR_INVALID,
		"the archive has '%.100s', which leads outside: use relative names without \"..\"",
		path);
}

static int room_take(struct unpack *u, int64_t bytes, struct err *err)
{
	u->left -= bytes;
	return u->left < 0 ? err_set(err, ERR_TOO_LARGE,
				     "it is larger than it may be when it is unpacked")
			   : 0;
}

static int file_unpack(struct unpack *u, struct archive *a, struct archive_entry *e, int dir,
		       const char *name, struct err *err)
{
	cleanup_fd int fd = -1;
	char chunk[CHUNK];

	unlinkat(dir, name, 0); /* a later entry of the same name counts */
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(err, errno, "cannot create '%.100s'", name);
	for (;;) {
		la_ssize_t n = archive_read_data(a, chunk, sizeof(chunk));

		if (n < 0)
			return err_set(err, ERR_INVALID, "the archive is damaged: %s",
				       archive_error_string(a));
		if (n == 0)
			break;
		if (room_take(u, n, err) < 0)
			return -1;
		if (write_all(fd, chunk, (size_t)n, err) < 0)
			return -1;
	}
	if (fchmod(fd, (archive_entry_perm(e) & 0777) | 0444) < 0)
		return err_sys(err, errno, "cannot set the mode of '%.100s'", name);
	return 0;
}

static int hardlink_unpack(struct unpack *u, const char *target, int dir, const char *name,
			   struct err *err)
{
	char from[256];
	cleanup_fd int there = parent_open(u, target, from, err);

	if (there < 0)
		return -1;
	unlinkat(dir, name, 0);
	if (linkat(there, from, dir, name, 0) < 0)
		return err_sys(err, errno, "cannot link '%.100s' to '%.100s'", name, target);
	return 0;
}

static int entry_unpack(struct unpack *u, struct archive *a, struct archive_entry *e,
			struct err *err)
{
	const char *path = entry_path(e), *hardlink = archive_entry_hardlink(e), *target;
	char name[256];
	cleanup_fd int dir = -1;

	if (str_empty(path))
		return err_set(err, ERR_INVALID, "the archive has an entry without a name");
	if (room_take(u, ENTRY_BYTES, err) < 0)
		return -1;
	dir = parent_open(u, path, name, err);
	if (dir < 0)
		return -1;
	if (!name[0])
		return 0;
	if (hardlink)
		return hardlink_unpack(u, hardlink, dir, name, err);
	switch (archive_entry_filetype(e)) {
	case AE_IFDIR:
		if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
			return err_sys(err, errno, "cannot create the directory '%.100s'",
				       path);
		return 0;
	case AE_IFREG: return file_unpack(u, a, e, dir, name, err);
	case AE_IFLNK:
		target = archive_entry_symlink(e);
		unlinkat(dir, name, 0);
		if (!target || symlinkat(target, dir, name) < 0)
			return err_sys(err, errno, "cannot create the link '%.100s'", path);
		return 0;
	default:
		return err_set(
			err, ERR_INVALID,
			"the archive has '%.100s', which is neither file, directory nor link",
			path);
	}
}

int tar_unpack(int fd, int dir_fd, int64_t max_bytes, int64_t *ret_bytes, struct err *err)
{
	struct archive *a cleanup(archive_free_) = archive_read_new();
	struct unpack u = { .root = dir_fd, .left = max_bytes };
	struct archive_entry *e;

	archive_read_support_format_tar(a);
	archive_read_support_filter_gzip(a);
	if (archive_read_open_fd(a, fd, CHUNK) != ARCHIVE_OK)
		return err_set(err, ERR_INVALID, "this is not a tar archive: %s",
			       archive_error_string(a));
	for (int n = 0;; n++) {
		int rc = archive_read_next_header(a, &e);

		if (rc == ARCHIVE_EOF) {
			*ret_bytes = max_bytes - u.left;
			return 0;
		}
		if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
			return err_set(err, ERR_INVALID, "the archive is damaged: %s",
				       archive_error_string(a));
		if (n == ENTRIES_MAX)
			return err_set(err, ERR_TOO_LARGE,
				       "the archive has more than %d entries", ENTRIES_MAX);
		if (entry_unpack(&u, a, e, err) < 0)
			return -1;
	}
}
