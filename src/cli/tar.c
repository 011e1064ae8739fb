/* Inputs as tar archives: one file, or one folder with everything in it, under the name by which it
 * will appear in /in.  The same files make the same archive: sorted, without owners. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64
#define BLOCK	  65536

struct packer {
	int fd;
	struct strbuf pending;
	struct err *err;
};

static int pending_write(struct packer *p)
{
	int rc = write_all(p->fd, p->pending.buf, p->pending.len, p->err);

	strbuf_reset(&p->pending);
	return rc < 0 ? err_wrap(p->err, "the temporary archive") : 0;
}

static int pack_head(struct packer *p, const char *name, const char *link,
		     const struct stat *st)
{
	tar_entry(&(struct tar_entry){ .name = name,
				       .link = link,
				       .mode = st->st_mode,
				       .size = S_ISREG(st->st_mode) ? st->st_size : 0,
				       .mtime_s = st->st_mtim.tv_sec },
		  &p->pending);
	return p->pending.len > BLOCK ? pending_write(p) : 0;
}

static int pack_content(struct packer *p, int fd, const char *path, int64_t size)
{
	char block[BLOCK];
	int64_t left = size;

	while (left > 0) {
		ssize_t n = read(fd, block, (size_t)MIN(left, (int64_t)sizeof(block)));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(p->err, errno, "cannot read %s", path);
		if (n == 0)
			return err_set(p->err, ERR_CONFLICT,
				       "%.150s became shorter while it was read: try again",
				       path);
		strbuf_add(&p->pending, block, (size_t)n);
		if (p->pending.len > BLOCK && pending_write(p) < 0)
			return -1;
		left -= n;
	}
	tar_pad(size, &p->pending);
	return 0;
}

/* A link is kept as a link, and must not lead out of the folder that is packed: `depth` folders stand between it
 * and the top. */
static bool link_stays(const char *target, int depth)
{
	struct slice rest = slice_of(target), part;

	if (target[0] == '/' || !target[0])
		return false;
	while (slice_split(&rest, '/', &part)) {
		if (slice_is(part, ".."))
			depth--;
		else if (part.len && !slice_is(part, "."))
			depth++;
		if (depth < 0)
			return false;
	}
	return true;
}

static int pack_link(struct packer *p, int dir, const char *base, const char *name,
		     const char *path, const struct stat *st, int depth)
{
	char target[4096];
	ssize_t n = readlinkat(dir, base, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys(p->err, errno, "cannot read the link %s", path);
	target[n] = '\0';
	if (!link_stays(target, depth))
		return err_set(
			p->err, ERR_INVALID,
			"the link %.80s leads out of the folder, to %.60s: put a copy in its place",
			path, target);
	return pack_head(p, name, target, st);
}

static int pack_file(struct packer *p, int dir, const char *base, const char *name,
		     const char *path)
{
	cleanup_fd int fd = openat(dir, base, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(p->err, errno, "cannot open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(p->err, ERR_INVALID, "%.150s is neither a file nor a folder",
			       path);
	return pack_head(p, name, NULL, &st) < 0 ? -1 : pack_content(p, fd, path, st.st_size);
}

struct names {
	VEC(char *) v;
};

static void names_release(struct names *n)
{
	for (size_t i = 0; i < n->v.len; i++)
		free(n->v.items[i]);
	vec_release(&n->v);
}

/* Takes fd. */
static int names_read(int fd, const char *path, struct names *ret, struct err *err)
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	int sys;

	if (!d) {
		sys = errno;
		close(fd);
		return err_sys(err, sys, "cannot list %s", path);
	}
	while ((errno = 0, e = readdir(d)))
		if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, ".."))
			*vec_push(&ret->v) = xstrdup(e->d_name);
	sys = errno;
	closedir(d);
	if (sys)
		return err_sys(err, sys, "cannot list %s", path);
	if (ret->v.len)
		qsort(ret->v.items, ret->v.len, sizeof(char *), text_order);
	return 0;
}

static int pack_dir(struct packer *p, int parent, const char *base, const char *name,
		    const char *path, int depth);

/* depth: folders between this and the top one of the archive. */
static int pack_any(struct packer *p, int dir, const char *base, const char *name,
		    const char *path, int depth)
{
	struct stat st;

	if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(p->err, errno, "cannot look at %s", path);
	if (S_ISLNK(st.st_mode))
		return pack_link(p, dir, base, name, path, &st, depth);
	if (S_ISDIR(st.st_mode))
		return pack_dir(p, dir, base, name, path, depth + 1);
	return pack_file(p, dir, base, name, path);
}

static int pack_dir(struct packer *p, int parent, const char *base, const char *name,
		    const char *path, int depth)
{
	cleanup_fd int fd = openat(parent, base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names names = { 0 };
	struct stat st;
	int rc;

	if (depth > DEPTH_MAX)
		return err_set(p->err, ERR_INVALID,
			       "%.100s: more than %d folders inside each other", path,
			       DEPTH_MAX);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(p->err, errno, "cannot open %s", path);
	rc = pack_head(p, name, NULL, &st);
	if (rc == 0)
		rc = names_read(fcntl(fd, F_DUPFD_CLOEXEC, 0), path, &names, p->err);
	for (size_t i = 0; rc == 0 && i < names.v.len; i++) {
		cleanup_free char *inner = path_join(name, names.v.items[i]);
		cleanup_free char *shown = path_join(path, names.v.items[i]);

		rc = pack_any(p, fd, names.v.items[i], inner, shown, depth);
	}
	names_release(&names);
	return rc;
}

/* ---- the archive --------------------------------------------------------------------------------- */

static int temporary_open(int *ret, struct err *err)
{
	const char *dir = getenv("TMPDIR");
	cleanup_strbuf struct strbuf path = STRBUF_INIT;

	strbuf_addf(&path, "%s/tes-input-XXXXXX", str_empty(dir) ? "/tmp" : dir);
	*ret = mkostemp(path.buf, O_CLOEXEC);
	if (*ret < 0)
		return err_sys(err, errno, "cannot make a temporary file in %s (TMPDIR)",
			       str_empty(dir) ? "/tmp" : dir);
	unlink(path.buf);
	return 0;
}

static int name_of(const char *path, struct arena *arena, const char **ret, struct err *err)
{
	cleanup_free char *real = realpath(path, NULL);
	const char *base;

	if (!real)
		return err_sys(err, errno, "cannot find %s", path);
	/* A link is called what it was called, not what it leads to. */
	base = strrchr(path, '/');
	base = base ? base + 1 : path;
	if (!*base || str_eq(base, ".") || str_eq(base, ".."))
		base = strrchr(real, '/') + 1;
	if (!*base)
		return err_set(err, ERR_INVALID,
			       "%.100s is the whole machine: name a folder in it", path);
	*ret = arena_strdup(arena, base);
	return 0;
}

static int pack(struct packer *p, const char *path, const char *name)
{
	struct stat st;

	/* What was named on the command line may itself be a link. */
	cleanup_free char *real = realpath(path, NULL);

	if (!real || stat(real, &st) < 0)
		return err_sys(p->err, errno, "cannot find %s", path);
	if (S_ISDIR(st.st_mode))
		return pack_dir(p, AT_FDCWD, real, name, path, 0);
	return pack_file(p, AT_FDCWD, real, name, path);
}

int tar_make(const char *path, struct arena *arena, int *ret_fd, int64_t *ret_size,
	     const char **ret_name, struct err *err)
{
	cleanup_fd int fd = -1;
	struct packer p = { .pending = STRBUF_INIT, .err = err };
	struct stat st;
	int rc;

	if (name_of(path, arena, ret_name, err) < 0 || temporary_open(&fd, err) < 0)
		return -1;
	p.fd = fd;
	rc = pack(&p, path, *ret_name);
	if (rc == 0) {
		tar_end(&p.pending);
		rc = pending_write(&p);
	}
	strbuf_release(&p.pending);
	if (rc < 0)
		return -1;
	if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot read the archive of %s", path);
	*ret_size = st.st_size;
	*ret_fd = take_fd(fd);
	return 0;
}
