/* tar: archives of strangers, read with libarchive; linked into tes-worker-tar and tests only. */
#ifndef TES_WORKER_HELPER_TAR_H
#define TES_WORKER_HELPER_TAR_H

#include "../../base/base.h"

/* Unpacks into a directory: regular files, directories and links that stay inside; nothing else.
 * ret_bytes: what they take of max_bytes, a block for each name included; ERR_TOO_LARGE. */
int tar_unpack(int fd, int dir_fd, int64_t max_bytes, int64_t *ret_bytes,
	       struct err *err) must_check;

/* Told of each regular file: its beginning, its bytes, its end.  The path is as the archive has
 * it, "" if that is no text.  -1 ends the walk. */
struct tar_sink {
	int (*begin)(void *arg, const char *path, unsigned mode, struct err *err);
	int (*data)(void *arg, const char *p, size_t len, struct err *err);
	int (*end)(void *arg, struct err *err);
};
/* ret_left_out: links and special files. */
int tar_walk(int fd, const struct tar_sink *sink, void *arg, int64_t *ret_left_out,
	     struct err *err) must_check;

/* ---- what tes-worker-tar writes to its standard output, in the machine's byte order ---- */

enum tar_frame_kind {
	TAR_FRAME_FILE = 1, /* mode (uint32), path without its end */
	TAR_FRAME_DATA,
	TAR_FRAME_END,
	TAR_FRAME_DONE, /* int64: ret_bytes or ret_left_out; the last */
	TAR_FRAME_FAIL, /* enum err_code (uint32), text without its end; the last */
};
struct tar_frame {
	uint32_t kind, len; /* of what follows */
};
#define TAR_FRAME_MAX ((size_t)65536)

#endif
