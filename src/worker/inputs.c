/* A lease's inputs: tar archives, checked against their digests and unpacked below its
 * directory. */
#include "internal.h"

#include "helper/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARCHIVE_MORE  (64 << 10) /* that an archive may be larger than what is in it */
#define LEFT_MIN      (INT64_C(1) << 20) /* of the lease's disk, that stays for its container */
#define FETCH_IDLE_MS (60 * SECOND_MS)

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

	if (helper_unpack(f->fd, dir, f->left, cancel, &took, err) < 0)
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
