/* A lease's inputs: tar archives, checked against their digests and unpacked below its
 * directory.
 *
 * Archives come from customers: names must stay inside, links are never followed while
 * unpacking, nothing but files, directories and links is made, and everything becomes readable,
 * because it is mounted read-only for any user. */
#include "internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX   1000000
#define ENTRY_BYTES   4096	   /* that a name costs, however empty its file is */
#define ARCHIVE_MORE  (64 << 10) /* that an archive may be larger than what is in it */
#define LEFT_MIN      (INT64_C(1) << 20) /* of the lease's disk, that stays for its container */
#define FETCH_IDLE_MS (60 * SECOND_MS)
#define CHUNK	      65536

struct unpack {
	int root;
	int64_t left; /* bytes of disk that may still be taken */
	const volatile int *cancel;
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
		if (u->cancel && __atomic_load_n(u->cancel, __ATOMIC_RELAXED))
			return err_set(err, ERR_TIMEOUT, "cancelled");
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

int tar_unpack(int fd, const char *dir, int64_t max_bytes, const volatile int *cancel,
	       int64_t *ret_bytes, struct err *err)
{
	struct archive *a cleanup(archive_free_) = archive_read_new();
	cleanup_fd int root = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	struct unpack u = { .root = root, .left = max_bytes, .cancel = cancel };
	struct archive_entry *e;

	if (root < 0)
		return err_sys(err, errno, "cannot open %s", dir);
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

/* ---- fetching ---- */

struct fetch {
	int fd;
	struct sha256 hash;
	int64_t done, max;
	int64_t left; /* of the lease's disk */
	int64_t before, total; /* of all inputs */
	transfer_progress_fn *progress;
	void *arg;
	struct err err;
};

static int on_data(void *arg, const char *p, size_t len)
{
	struct fetch *f = arg;

	f->done += (int64_t)len;
	if (f->done > f->max)
		return err_set(&f->err, ERR_INVALID,
			       "more than the %" PRId64 " bytes that it should have came",
			       f->max);
	sha256_update(&f->hash, p, len);
	if (write_all(f->fd, p, len, &f->err) < 0)
		return -1;
	f->progress(f->arg, f->before + f->done, f->total);
	return 0;
}

static int input_fetch(struct link *link, const struct desired_lease *d,
		       const struct desired_input *in, struct fetch *f,
		       const volatile int *cancel, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct link_call call = {
		.op = OP_worker_input,
		.params = { d->lease, in->id },
		.idle_timeout_ms = FETCH_IDLE_MS,
		.on_data = on_data,
		.cancel = cancel,
		.arg = f,
	};
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];

	if (in->size_bytes > f->left + ARCHIVE_MORE)
		return err_set(err, ERR_TOO_LARGE, "it is larger than it may be");
	if (ftruncate(f->fd, 0) < 0 || lseek(f->fd, 0, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot keep input %s", in->name);
	sha256_init(&f->hash);
	f->done = 0;
	f->max = in->size_bytes ? in->size_bytes : f->left + ARCHIVE_MORE;
	if (link_do(link, &call, &a, NULL, err) < 0) {
		if (f->err.code)
			*err = f->err;
		return -1;
	}
	sha256_final(&f->hash, digest);
	hex_format(digest, sizeof(digest), hex);
	if (!str_eq(hex, in->sha256))
		return err_set(err, ERR_INVALID, "it came with sha256 %s, but %s was announced",
			       hex, in->sha256);
	if (lseek(f->fd, 0, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot read it back");
	return 0;
}

static bool name_is_plain(const char *name)
{
	return !str_empty(name) && !strchr(name, '/') && !str_eq(name, ".") &&
	       !str_eq(name, "..");
}

static int input_place(const char *dir, const struct desired_input *in, struct fetch *f,
		       const volatile int *cancel, struct err *err)
{
	cleanup_free char *made = path_join(dir, in->name);
	int64_t took;

	if (tar_unpack(f->fd, dir, f->left, cancel, &took, err) < 0)
		return -1;
	f->left -= took;
	if (faccessat(AT_FDCWD, made, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(
			err, ERR_INVALID,
			"the archive does not hold '%.100s': its one top entry bears the input's name",
			in->name);
	return 0;
}

static int too_large(const struct desired_lease *d, const struct desired_input *in,
		     struct err *err)
{
	err_clear(err);
	return err_set(err, ERR_TOO_LARGE,
		       "input %.60s does not fit into the %" PRId64
		       " MiB of disk that were asked for: inputs count within them, unpacked",
		       in->name, d->resources->disk_mib);
}

int inputs_fetch(struct link *link, const char *state_dir, const struct desired_lease *d,
		 const volatile int *cancel, transfer_progress_fn *progress, void *arg,
		 int64_t *ret_bytes, struct err *err)
{
	cleanup_free char *dir = lease_dir(state_dir, d->lease, "in");
	int64_t room = (d->resources->disk_mib << 20) - LEFT_MIN;
	struct fetch f = { .left = room, .progress = progress, .arg = arg };
	cleanup_fd int fd = -1;

	*ret_bytes = 0;
	if (!d->inputs.len)
		return 0;
	if (dir_remove(dir, err) < 0 || dir_make(dir, 0755, err) < 0)
		return -1;
	if (chmod(dir, 0755) < 0)
		return err_sys(err, errno, "cannot set the mode of %s", dir);
	fd = state_tmp(state_dir, err);
	if (fd < 0)
		return -1;
	f.fd = fd;
	for (size_t i = 0; i < d->inputs.len; i++)
		f.total += d->inputs.items[i].size_bytes;
	for (size_t i = 0; i < d->inputs.len; i++) {
		const struct desired_input *in = &d->inputs.items[i];

		if (!name_is_plain(in->name))
			return err_set(err, ERR_INVALID, "'%.60s' is no name for an input",
				       in->name ? in->name : "");
		if (input_fetch(link, d, in, &f, cancel, err) < 0 ||
		    input_place(dir, in, &f, cancel, err) < 0)
			return err->code == ERR_TOO_LARGE ? too_large(d, in, err)
							  : err_wrap(err, "input %s", in->name);
		f.before += f.done;
	}
	*ret_bytes = room - f.left;
	return 0;
}
