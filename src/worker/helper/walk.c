/* Goes through the tar that an engine makes of a container's files. */
#include "tar.h"

#include <archive.h>
#include <archive_entry.h>

#define CHUNK 65536

static void archive_free_(struct archive **a)
{
	if (*a)
		archive_read_free(*a);
}

static int file_walk(struct archive *a, const struct tar_sink *sink, void *arg, struct err *err)
{
	char chunk[CHUNK];

	for (;;) {
		la_ssize_t n = archive_read_data(a, chunk, sizeof(chunk));

		if (n < 0)
			return err_set(err, ERR_UNAVAILABLE,
				       "the engine's archive is damaged: %s",
				       archive_error_string(a));
		if (n == 0)
			return sink->end(arg, err);
		if (sink->data(arg, chunk, (size_t)n, err) < 0)
			return -1;
	}
}

int tar_walk(int fd, const struct tar_sink *sink, void *arg, int64_t *ret_left_out,
	     struct err *err)
{
	struct archive *a cleanup(archive_free_) = archive_read_new();
	struct archive_entry *e;
	int64_t left_out = 0;

	archive_read_support_format_tar(a);
	if (archive_read_open_fd(a, fd, CHUNK) != ARCHIVE_OK)
		return err_set(err, ERR_UNAVAILABLE, "the engine's archive cannot be read: %s",
			       archive_error_string(a));
	for (;;) {
		int rc = archive_read_next_header(a, &e);
		const char *path;

		if (rc == ARCHIVE_EOF)
			break;
		if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
			return err_set(err, ERR_UNAVAILABLE,
				       "the engine's archive is damaged: %s",
				       archive_error_string(a));
		if (archive_entry_filetype(e) == AE_IFDIR)
			continue;
		if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e)) {
			left_out++;
			continue;
		}
		path = archive_entry_pathname_utf8(e);
		if (sink->begin(arg, path ? path : "", archive_entry_perm(e) & 0777, err) < 0 ||
		    file_walk(a, sink, arg, err) < 0)
			return -1;
	}
	*ret_left_out = left_out;
	return 0;
}
