/* os: files, processes, terminal, configuration files, signals.
 *
 * Thin and blocking; callable from any thread unless said otherwise.  Errors carry errno in
 * err->sys.  Every descriptor made here is close-on-exec.
 */
#ifndef TES_OS_H
#define TES_OS_H

#include "../base/base.h"

#include <sys/types.h>

/* ---- files ---- */

/* Reads a whole file into ret, which must be initialised; ERR_NOT_FOUND, ERR_TOO_LARGE over
 * max. */
int file_read(const char *path, size_t max, struct strbuf *ret, struct err *err) must_check;
/* Writes through a temporary file, fsync and rename: after a crash the old content or the new
 * one. */
int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
		      struct err *err) must_check;
/* Appends all of it, then fdatasync; after an error the file has its old length.  One writer at
 * a time. */
int file_append_sync(int fd, const void *data, size_t len, struct err *err) must_check;
int write_all(int fd, const void *data, size_t len, struct err *err) must_check;
/* With parents, like mkdir -p. */
int dir_make(const char *path, mode_t mode, struct err *err) must_check;
/* With content, however deep; missing is fine; follows no link and crosses no mount
 * (ERR_CONFLICT). */
int dir_remove(const char *path, struct err *err) must_check;
int dir_sync(const char *path, struct err *err) must_check;
/* Exclusive flock, held as long as the descriptor is open; else ERR_CONFLICT naming the file
 * and who holds it. */
int file_lock(const char *path, int *ret_fd, struct err *err) must_check;
char *path_join(const char *a, const char *b); /* malloc'd; one '/' between them */
/* ret_free: what others than root may still use.  Either may be NULL. */
int disk_free_bytes(const char *path, int64_t *ret_free, int64_t *ret_total,
		    struct err *err) must_check;

/* ---- processes ---- */

/* Runs a program (no shell; found in PATH, else ERR_NOT_FOUND), feeds `input` (ptr NULL:
 * /dev/null), collects at most max bytes each of stdout and stderr (what is over is dropped;
 * ret_out and ret_errout may be NULL, else initialised), kills it and its process group at the
 * deadline (ERR_TIMEOUT).  It inherits the environment, no other descriptor and no blocked
 * signal.  Returns when the program itself has ended, even if its children keep the streams
 * open.  ret_status: exit status, or 128 + signal. */
int process_run(const char *const argv[], struct slice input, size_t max, int64_t timeout_ms,
		struct strbuf *ret_out, struct strbuf *ret_errout, int *ret_status,
		struct err *err) must_check;

/* ---- memory ---- */

/* Gives the system back what only the start of the program needed: free heap, and the pages of
 * programs and libraries that are as they are in their files, most of which only the loader has
 * read.  They stay in the page cache; what is used again is mapped again, without reading. */
void memory_give_back(void);

/* ---- configuration ---- */

/* "key = value" lines under "[section]" heads; '#' begins a comment at the start of a line or
 * after a blank.  A value in double quotes keeps blanks and '#'; in it, \" and \\ stand for
 * themselves.  The same keys come from the environment as TES_<SECTION>_<KEY>, which wins;
 * variables of a known section that name no key are refused, those of other sections are
 * somebody else's.  A program states every key that it knows; everything is checked before
 * anything starts, and the first error names file, line, key, value and limit (err->field:
 * "section.key"). */
enum config_kind {
	CONFIG_TEXT,
	CONFIG_INT,
	CONFIG_BOOL,
	CONFIG_SIZE,
	CONFIG_DURATION,
	CONFIG_MONEY,
	CONFIG_ENUM,
	CONFIG_PPM, /* as ppm_parse reads it: "2.5%", "25000ppm" */
};
struct config_key {
	const char *section, *key;
	enum config_kind kind;
	/* Of a const char * (TEXT; lives as long as the arena and the table), an int64_t (INT,
	 * SIZE in bytes, DURATION in ms, MONEY in µUSD, PPM), a bool or an int (ENUM: the index
	 * of its name). */
	size_t offset;
	const char *def;          /* default, as text; NULL: required; "" is an empty text */
	int64_t min, max;         /* numbers: inclusive, as stored; both 0: not negative */
	const char *const *names; /* ENUM: NULL-ended */
	const char *doc;          /* one sentence, with unit */
};
struct config_table {
	const struct config_key *keys;
	size_t count, size; /* size of the struct that is filled */
	/* What no key alone can say, of the filled struct; NULL: nothing.  Sets err->field. */
	int (*check)(const void *filled, struct err *err);
};
/* Fills `ret` (of t->size bytes, first zeroed; texts allocated from arena).  path NULL:
 * defaults and environment only. */
int config_load(const struct config_table *t, const char *path, struct arena *arena, void *ret,
		struct err *err) must_check;
/* The same from text in memory and from variables ("NAME=value", NULL-ended), for tests; name
 * is for messages. */
int config_read(const struct config_table *t, struct slice text, const char *name,
		char *const *environment, struct arena *arena, void *ret,
		struct err *err) must_check;
/* The commented file with all defaults, as shipped in deploy/. */
void config_print(const struct config_table *t, const char *heading, struct strbuf *out);

/* ---- terminal ---- */

bool term_is(int fd);
int term_width(int fd); /* 80 if unknown */
bool term_color(int fd); /* a terminal, NO_COLOR unset, TERM not dumb */
/* Asks on /dev/tty, without echo.  ERR_INVALID if cancelled (^C) or too long. */
int term_read_secret(const char *prompt, char *buf, size_t size, struct err *err) must_check;

/* ---- signals ---- */

/* Blocks SIGTERM/SIGINT/SIGHUP in all threads (call before starting any) and ignores SIGPIPE;
 * signals_wait returns the one that came. */
void signals_block(void);
int signals_wait(void);
/* systemd's notification protocol (NOTIFY_SOCKET): "READY=1" … does nothing where there is
 * none. */
void notify_service(const char *state);

#endif
