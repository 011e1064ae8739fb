#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* One descriptor a level.  Programs do not nest deeper; whoever does has something to hide. */
#define DEPTH_MAX 512
/* What a file costs beside its blocks: inode and name.  Thus a flood of empty files is seen. */
#define FILE_BYTES 512

static DIR *dir_open(int parent, const char *name)
{
	cleanup_fd int fd =
		openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (dir)
		(void)take_fd(fd);
	return dir;
}

static bool is_dot(const char *name)
{
	return str_eq(name, ".") || str_eq(name, "..");
}

/* The next entry's bytes; a directory goes on the stack. */
static int entry_add(DIR **stack, size_t *depth, const char *name, int64_t *bytes,
		     struct err *err)
{
	struct stat st;
	DIR *dir;

	if (fstatat(dirfd(stack[*depth - 1]), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT
			       ? 0
			       : err_sys(err, errno, "cannot look at a file of the container");
	*bytes += (int64_t)st.st_blocks * 512 /
			  (S_ISDIR(st.st_mode) ? 1 : MAX((int64_t)st.st_nlink, 1)) +
		  FILE_BYTES;
	if (!S_ISDIR(st.st_mode))
		return 0;
	if (*depth == DEPTH_MAX)
		return err_set(err, ERR_TOO_LARGE,
			       "the container has directories in more than %d levels",
			       DEPTH_MAX);
	dir = dir_open(dirfd(stack[*depth - 1]), name);
	if (!dir)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
			       ? 0
			       : err_sys(err, errno,
					 "cannot look into a directory of the container");
	stack[(*depth)++] = dir;
	return 0;
}

int tree_bytes(const char *path, int64_t *ret, struct err *err)
{
	cleanup_free DIR **stack = xcalloc(DEPTH_MAX, sizeof(*stack));
	size_t depth = 0;
	int64_t bytes = 0;
	int rc = 0;

	stack[0] = dir_open(AT_FDCWD, path);
	if (!stack[0])
		return err_sys(err, errno, "cannot look into %s", path);
	depth = 1;
	while (depth > 0 && rc == 0) {
		const struct dirent *e = readdir(stack[depth - 1]);

		if (!e)
			closedir(stack[--depth]);
		else if (!is_dot(e->d_name))
			rc = entry_add(stack, &depth, e->d_name, &bytes, err);
	}
	while (depth > 0)
		closedir(stack[--depth]);
	if (rc == 0)
		*ret = bytes;
	return rc;
}

/* Volumes that the image declares. */
static int volumes_bytes(const struct json *inspect, int64_t *bytes, struct err *err)
{
	const struct json *mounts = json_find(inspect, "Mounts");

	for (size_t i = 0; mounts && mounts->kind == JSON_ARRAY && i < mounts->count; i++) {
		int64_t volume;

		if (!str_eq(json_text(&mounts->items[i], "Type"), "volume"))
			continue;
		if (tree_bytes(json_text(&mounts->items[i], "Source"), &volume, err) < 0)
			return -1;
		*bytes += volume;
	}
	return 0;
}

int runtime_disk_used(struct runtime *rt, const char *lease, int64_t *ret_bytes,
		      struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	char name[CONTAINER_NAME_SIZE];
	struct json *inspect;
	const char *upper;
	int64_t bytes;

	if (container_name(lease, name, err) < 0 ||
	    docker_get(rt, arena_printf(&arena, "/containers/%s/json", name),
		       "looking at the container", &arena, &inspect, err) < 0)
		return -1;
	/* The container's own layer, where storage is by overlay and in reach: blocks
	 * instead of the engine's sum of lengths, and without its detour. */
	upper = json_text(json_path(inspect, "GraphDriver", "Data"), "UpperDir");
	if (*upper && access(upper, R_OK | X_OK) == 0) {
		if (tree_bytes(upper, &bytes, err) < 0)
			return -1;
	} else {
		if (docker_get(rt, arena_printf(&arena, "/containers/%s/json?size=1", name),
			       "measuring the container", &arena, &inspect, err) < 0)
			return -1;
		if (!json_find(inspect, "SizeRw"))
			return err_set(err, ERR_UNSUPPORTED,
				       "%s does not say how much a container has written",
				       rt->info.engine);
		bytes = json_int(inspect, "SizeRw");
	}
	if (volumes_bytes(inspect, &bytes, err) < 0)
		return -1;
	*ret_bytes = bytes + deleted_bytes(inspect);
	return 0;
}
