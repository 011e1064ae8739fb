/* blob: bytes too large for the main store, by key.  Embedded default: files under a directory
 * (S3 and HDFS stand behind the same interface later).  Keys are our own ("logs/le_…",
 * "results/rs_…"): 1 to 200 of [a-z0-9_/.-], no empty part between slashes, none that begins
 * with '.', no "..". Thread-safe; two writers of one key must take turns (the later one wins
 * whole, but appends mix).
 *
 * A full disk is ERR_UNAVAILABLE: nothing was changed, and it may go better later.
 */
#ifndef TES_BLOB_H
#define TES_BLOB_H

#include "../base/base.h"

struct blob_store;

/* "file:/var/lib/tes/blobs": makes the directory, and removes what a crash left in its
 * spool. */
int blob_open(const char *url, struct blob_store **ret, struct err *err) must_check;
void blob_close(struct blob_store *b);

/* Writing: to a temporary name; commit makes it visible under the key, durably and whole; free
 * without commit drops it. */
struct blob_writer;
int blob_write_start(struct blob_store *b, const char *key, struct blob_writer **ret,
		     struct err *err) must_check;
int blob_write(struct blob_writer *w, const void *p, size_t len, struct err *err) must_check;
int blob_write_commit(struct blob_writer *w, struct err *err) must_check;
void blob_writer_free(struct blob_writer *w);
/* Takes over a finished file on the same file system (an upload spooled by http). */
int blob_put_file(struct blob_store *b, const char *key, const char *path,
		  struct err *err) must_check;

/* Appending, for logs: the caller keeps the committed length elsewhere (in the main store);
 * what lies beyond it is the tail of an append whose commit never came, and is cut before
 * writing at `at`. Durable when it returns.  ERR_INTERNAL if less than `at` is there. */
int blob_append(struct blob_store *b, const char *key, int64_t at, const void *p, size_t len,
		struct err *err) must_check;

/* ERR_NOT_FOUND if there is no such blob. */
int blob_size(struct blob_store *b, const char *key, int64_t *ret, struct err *err) must_check;
/* Adds at most `max` bytes to *ret; none beyond the end.  For logs: read no further than the
 * committed length. */
int blob_read(struct blob_store *b, const char *key, int64_t at, size_t max, struct strbuf *ret,
	      struct err *err) must_check;
int blob_read_fd(struct blob_store *b, const char *key, int *ret_fd, int64_t *ret_size,
		 struct err *err) must_check;
int blob_delete(struct blob_store *b, const char *key,
		struct err *err) must_check;	  /* missing is fine */
const char *blob_spool_dir(struct blob_store *b); /* for uploads, same file system */

#endif
