/* What surrounds a store's own way of copying: a private file beside the target, made durable,
 * then put in place. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <unistd.h>

/* Makes "<path>.part", which the caller fills, and unlinks if it fails. */
int backup_begin(const char *path, char **ret_part_path, struct err *err)
{
	cleanup_strbuf struct strbuf part = STRBUF_INIT;

	strbuf_init(&part);
	strbuf_addf(&part, "%s.part", path);
	if (unlink(part.buf) && errno != ENOENT)
		return err_sys(err, errno, "left-over %.120s cannot be removed", part.buf);
	cleanup_fd int fd = open(part.buf, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(err, errno, "backup file %.120s cannot be made", part.buf);
	*ret_part_path = strbuf_take(&part);
	return 0;
}

static int path_sync(const char *path, int flags, struct err *err)
{
	cleanup_fd int fd = open(path, flags | O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd))
		return err_sys(err, errno, "%.120s cannot be written to disk", path);
	return 0;
}

int backup_end(const char *part_path, const char *path, struct err *err)
{
	if (path_sync(part_path, 0, err))
		return -1;
	if (rename(part_path, path))
		return err_sys(err, errno, "backup cannot be renamed to %.120s", path);

	cleanup_free char *copy = xstrdup(path);
	return path_sync(dirname(copy), O_DIRECTORY, err);
}
