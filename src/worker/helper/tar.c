/* tes-worker-tar: reads one archive from its standard input.
 *
 *   tes-worker-tar unpack DIR MAX   into a directory
 *   tes-worker-tar walk             its regular files, to the standard output
 *
 * Archives are what strangers made.  Before it looks at one, it gives up every capability, new
 * privileges, memory beyond MEMORY_MAX, and, where the kernel has Landlock, every file but those
 * below DIR. */
#include "../../os/os.h"
#include "tar.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEMORY_MAX    ((rlim_t)512 << 20)
#define FILES_MAX     64
#define LANDLOCK_LEAST 2 /* before, a hard link could not lead to another folder */

static int limit(int what, rlim_t value, struct err *err)
{
	const struct rlimit r = { value, value };

	return setrlimit(what, &r) < 0 ? err_sys(err, errno, "cannot limit resource %d", what) : 0;
}

/* dir < 0: no file at all. */
static int landlock(int dir, struct err *err)
{
	const uint64_t inside = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
				LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
				LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
				LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER;
	const struct landlock_ruleset_attr attr = {
		.handled_access_fs = inside | LANDLOCK_ACCESS_FS_EXECUTE |
				     LANDLOCK_ACCESS_FS_REMOVE_DIR |
				     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK |
				     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK,
	};
	struct landlock_path_beneath_attr beneath = { .allowed_access = inside,
						      .parent_fd = dir };
	cleanup_fd int rules = -1;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) <
	    LANDLOCK_LEAST)
		return 0; /* this kernel has none */
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rules < 0 ||
	    (dir >= 0 && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH,
				 &beneath, 0) < 0) ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return err_sys(err, errno, "cannot close off the file system");
	return 0;
}

static int harden(int dir, struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { 0 };

	if (limit(RLIMIT_CORE, 0, err) < 0 || limit(RLIMIT_NOFILE, FILES_MAX, err) < 0)
		return -1;
#ifndef __SANITIZE_ADDRESS__ /* whose shadow is larger */
	if (limit(RLIMIT_AS, MEMORY_MAX, err) < 0)
		return -1;
#endif
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || landlock(dir, err) < 0)
		return err_wrap(err, "cannot give up privileges");
	if (syscall(SYS_capset, &head, none) < 0)
		return err_sys(err, errno, "cannot give up capabilities");
	return 0;
}

/* ---- frames ---- */

static int frame_send(enum tar_frame_kind kind, const void *p, size_t len, struct err *err)
{
	const struct tar_frame frame = { (uint32_t)kind, (uint32_t)len };

	assert(len <= TAR_FRAME_MAX);
	return write_all(STDOUT_FILENO, &frame, sizeof(frame), err) < 0 ||
			       (len && write_all(STDOUT_FILENO, p, len, err) < 0)
		       ? -1
		       : 0;
}

static int on_begin(void *arg, const char *path, unsigned mode, struct err *err)
{
	char payload[4 + 4096];
	const uint32_t mode32 = mode;
	size_t len = strlen(path);

	/* No path of a file system is longer: an empty one is left out by who reads. */
	if (len > sizeof(payload) - sizeof(mode32))
		len = 0;
	memcpy(payload, &mode32, sizeof(mode32));
	memcpy(payload + sizeof(mode32), path, len);
	return frame_send(TAR_FRAME_FILE, payload, sizeof(mode32) + len, err);
}

static int on_data(void *arg, const char *p, size_t len, struct err *err)
{
	return frame_send(TAR_FRAME_DATA, p, len, err);
}

static int on_end(void *arg, struct err *err)
{
	return frame_send(TAR_FRAME_END, NULL, 0, err);
}

static int fail_send(const struct err *why)
{
	char payload[4 + sizeof(why->text)];
	const uint32_t code = why->code;
	size_t len = strlen(why->text);
	struct err err = { 0 };

	memcpy(payload, &code, sizeof(code));
	memcpy(payload + sizeof(code), why->text, len);
	return frame_send(TAR_FRAME_FAIL, payload, sizeof(code) + len, &err) < 0 ? 2 : 1;
}

int main(int argc, char **argv)
{
	static const struct tar_sink sink = { on_begin, on_data, on_end };
	bool unpack = argc == 4 && str_eq(argv[1], "unpack");
	int64_t max_bytes = 0, done = 0;
	cleanup_fd int dir = -1;
	struct err err = { 0 };
	int rc;

	if (!unpack && !(argc == 2 && str_eq(argv[1], "walk"))) {
		fprintf(stderr, "usage: tes-worker-tar unpack DIR MAX | walk\n");
		return 2;
	}
	if (unpack) {
		dir = open(argv[2], O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		if (dir < 0)
			err_sys(&err, errno, "cannot open %s", argv[2]);
		else if (int_parse(argv[3], 0, INT64_MAX, &max_bytes, &err) == 0)
			err_clear(&err);
		if (err.code)
			return fail_send(&err);
	}
	rc = harden(dir, &err);
	if (rc == 0)
		rc = unpack ? tar_unpack(STDIN_FILENO, dir, max_bytes, &done, &err)
			    : tar_walk(STDIN_FILENO, &sink, NULL, &done, &err);
	if (rc < 0)
		return fail_send(&err);
	return frame_send(TAR_FRAME_DONE, &done, sizeof(done), &err) < 0 ? 2 : 0;
}
