/* helper: small programs beside tes-worker, started for one task each.
 *
 * They hold what tes-worker itself does not want in its memory: large libraries that are needed
 * for a moment, and archives of strangers while they are taken apart.  They are looked for below
 * the folder of the program that runs, then where an installation puts them.  Callable from any
 * thread; calls block.
 */
#ifndef TES_WORKER_HELPER_H
#define TES_WORKER_HELPER_H

#include "../../base/base.h"
#include "../../codec/codec.h"

/* Lets libnftables run these commands, all or none (tes-worker-nft; NULL: none), then adds to
 * ret_out the tables of our name.  ERR_INVALID: it refuses one, with the first line of its
 * complaint; ERR_UNSUPPORTED: it cannot be asked. */
int helper_nft(const char *commands, bool list, struct strbuf *ret_out,
	       struct err *err) must_check;

/* Unpacks a tar into a directory (tes-worker-tar): regular files, directories and links that stay
 * inside; nothing else.  ret_bytes: what they take of max_bytes, which is ERR_TOO_LARGE if it is
 * more; ERR_INVALID says what is wrong with the archive. */
int helper_unpack(int fd, const char *dir, int64_t max_bytes, const volatile int *cancel,
		  int64_t *ret_bytes, struct err *err) must_check;

/* Calls fn for each regular file of a tar, with a descriptor at its beginning and its digest.
 * `note` tells what was left out. */
struct tar_file {
	const char *path;
	int fd;
	int64_t size;
	unsigned mode;
	uint8_t sha256[SHA256_SIZE];
};
typedef int tar_file_fn(void *arg, const struct tar_file *file, struct err *err);
/* spool: an empty file to keep one after the other in. */
int helper_walk(int fd, int spool, int64_t max_bytes, const volatile int *cancel, tar_file_fn *fn,
		void *arg, struct strbuf *note, struct err *err) must_check;

#endif
