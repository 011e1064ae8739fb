/* Shared by the files of runtime only. */
#ifndef TES_WORKER_RUNTIME_INTERNAL_H
#define TES_WORKER_RUNTIME_INTERNAL_H

#include "../../codec/codec.h"
#include "../../http/http.h"
#include "runtime.h"

#include <pthread.h>

struct runtime {
	char socket[256];
	char prefix[16]; /* "/v1.41" */
	int api_minor;	 /* of API version 1.x */
	char worker_id[ID_SIZE];
	struct runtime_info info; /* as of opening; bridge_subnet is not kept */
	bool podman;
	pthread_mutex_t lock;		/* of what follows */
	VEC(struct http_client *) idle; /* clients that no call uses now */
	bool mac_checked;	/* the engine gives containers the address that we ask for */
	int64_t events_since_ns; /* of the thread that listens: earlier ones have been told */
};

#define LABEL_LEASE	 "ai.tes.lease"
#define LABEL_GENERATION "ai.tes.generation"
#define LABEL_WORKER	 "ai.tes.worker"

/* ---- docker.c: calls
 * ------------------------------------------------------------------------------- */

struct docker_call {
	enum http_method method;
	const char *path;  /* with query, after the version */
	struct slice body; /* JSON */
	const char *registry_auth;
	int64_t timeout_ms, idle_timeout_ms;
	int (*on_data)(void *arg, const char *p, size_t len);
	const volatile int *cancel;
	void *arg;
};
#define DOCKER_TIMEOUT_MS (60 * SECOND_MS)

/* 0 whenever the engine answered. */
int docker_send(struct runtime *rt, const struct docker_call *call, struct http_result *ret,
		struct err *err) must_check;
/* What the engine says to an answer of 400 and more. */
const char *docker_words(const struct http_result *res, struct arena *arena);
/* Turns an answer of 400 and more into an error: `doing` and the engine's words. */
int docker_fail(const struct http_result *res, const char *doing, struct err *err);
/* Sends and fails on 400 and more. */
int docker_do(struct runtime *rt, const struct docker_call *call, const char *doing,
	      struct err *err) must_check;
int docker_get(struct runtime *rt, const char *path, const char *doing, struct arena *arena,
	       struct json **ret, struct err *err) must_check;
/* "tes-<lease>"; ERR_INVALID if it is no lease id. */
#define CONTAINER_NAME_SIZE (ID_SIZE + 4)
int container_name(const char *lease, char ret[static CONTAINER_NAME_SIZE],
		   struct err *err) must_check;

/* Does the engine's refusal to start a container say that the customer's command is at fault?
 * ENOENT, EACCES, ENOEXEC; 0: no.  Words that are cut off count by their beginning.  Pure. */
int command_fault(const char *words);

/* Reads the answer to /info; ERR_UNSUPPORTED if the engine is not this machine's own. */
int info_parse(const struct runtime *rt, const struct json *info, const char *kernel,
	       struct runtime_info *ret, struct err *err) must_check;
/* Fills rt->info but bridge_subnet. */
int info_read(struct runtime *rt, struct err *err) must_check;

/* ---- json_get.c: reading what the engine says; absent or of another kind gives the neutral
 * value ----- */

const char *json_text(const struct json *object, const char *name); /* "" */
int64_t json_int(const struct json *object, const char *name);	    /* 0 */
bool json_bool(const struct json *object, const char *name);	    /* false */
const struct json *json_path(const struct json *object, const char *a,
			     const char *b); /* NULL */
/* RFC 3339 as Go writes it; 0 for Go's zero time and what is no time. */
int64_t go_time_ns(const char *s);
/* Cuts a stream into lines; `fn` gets each without its end.  Lines over `max` are dropped. */
struct line_splitter {
	struct strbuf line;
	size_t max;
	bool dropping;
};
typedef int line_fn(void *arg, struct slice line);
int line_split(struct line_splitter *ls, const char *p, size_t len, line_fn *fn, void *arg);

/* ---- image.c
 * ---------------------------------------------------------------------------------------- */

/* What an image's name asks for. */
struct image_want {
	char name[320]; /* with the registry; empty for an image id */
	char tag[129]; /* "latest" if neither tag nor digest is given; may be empty */
	char digest[160]; /* of the image, or its id; may be empty */
	bool id;
};
int image_want_parse(const char *image, struct image_want *ret, struct err *err) must_check;
/* Of the engine's "name@digest" list the one for this name (and digest, if given); NULL if
 * there is none. */
const char *image_digest_find(const struct json *repo_digests, const struct image_want *want);

/* ---- registry.c
 * ---------------------------------------------------------------------------------------- */

/* May the engine ask the registry of an image ("host[:port]"; empty: Docker's)?  Resolves its
 * name.  ERR_UNSUPPORTED: one of its addresses is not public, is this machine's or a neighbour's,
 * and it is not listed; ERR_UNAVAILABLE: nobody knows the name. */
int registry_check(struct slice domain, const char *private_registries,
		   struct err *err) must_check;
/* "host" stands for each of its ports, "*" for every registry.  Pure. */
bool registry_is_listed(const char *list, struct slice domain);

/* ---- pull.c
 * ----------------------------------------------------------------------------------------- */

struct pull_layer {
	char id[72];
	int64_t loaded, load_size, unpacked, unpack_size;
};
struct pull {
	runtime_progress_fn *progress;
	void *arg;
	struct line_splitter lines;
	VEC(struct pull_layer) layers;
	int64_t done, total;
	bool unpacking;
	char error[200]; /* the engine's words, if it failed */
};
#define PULL_LAYERS_MAX 1024
void pull_init(struct pull *p, runtime_progress_fn *progress, void *arg);
void pull_release(struct pull *p);
int pull_feed(struct pull *p, const char *data,
	      size_t len); /* always 0: nothing in there stops a pull */
/* What the words of engine or registry mean. */
enum err_code pull_error_code(const char *words, bool with_login);

/* ---- body.c
 * ----------------------------------------------------------------------------------------- */

/* The body of the request that creates the container of `spec`. */
int create_body(const struct runtime *rt, const struct container_spec *spec, struct strbuf *out,
		struct err *err) must_check;

/* ---- log_demux.c
 * ------------------------------------------------------------------------------------ */

#define LOG_LINE_MAX ((size_t)64 << 10)
/* Takes the engine's multiplexed stream with time stamps apart into lines. */
struct log_demux {
	runtime_log_fn *fn;
	void *arg;
	int64_t since_ns; /* earlier lines are skipped */
	uint8_t head[8];
	size_t head_len;
	uint32_t frame_left; /* bytes of the frame that are still to come */
	bool in_stamp;	     /* within the frame's time stamp */
	char stamp[40];
	size_t stamp_len;
	struct log_demux_line {
		struct strbuf text;
		int64_t at_ns;
		bool open; /* its end has not come yet */
	} lines[2];
};
void log_demux_init(struct log_demux *d, int64_t since_ns, runtime_log_fn *fn, void *arg);
void log_demux_release(struct log_demux *d);
int log_demux_feed(struct log_demux *d, const char *p, size_t len); /* non-zero: fn's */
int log_demux_finish(struct log_demux *d); /* no more will come: lines without an end */

/* ---- status.c, disk.c
 * --------------------------------------------------------------------- */

void status_read(const struct runtime *rt, const struct json *inspect,
		 struct container_status *ret);
/* Does the kernel's log say that it ended processes of this container because its memory was
 * full? */
bool kernel_log_oom(const char *container_id);
/* Query value: containers of this worker, and `more` as further members. */
const char *worker_filter(struct runtime *rt, struct arena *arena, const char *more);
/* Bytes of removed files that processes of a running container still have open; 0 where that
 * cannot be seen. */
int64_t deleted_bytes(const struct json *inspect);
/* Bytes allocated below a directory, without following links; what vanishes meanwhile is not
 * counted. */
int tree_bytes(const char *path, int64_t *ret, struct err *err) must_check;

/* ---- events.c
 * ----------------------------------------------------------------------------------------- */

/* From now on events count. */
void events_start(struct runtime *rt);

#endif
