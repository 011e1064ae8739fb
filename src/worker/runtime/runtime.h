/* runtime: what runs containers.  Docker's engine API (Docker and Podman) stands behind it;
 * a Kubernetes runtime fits too.
 *
 * Calls block and may be made from any thread; each takes a `cancel` flag where it can last.
 * Everything that the runtime makes carries the labels "ai.tes.lease" and
 * "ai.tes.generation" (and "ai.tes.worker"), so that after a crash runtime_list finds it and
 * runtime_remove cleans it up.  Idempotent: creating what exists finds it, removing what is
 * gone succeeds.
 */
#ifndef TES_WORKER_RUNTIME_H
#define TES_WORKER_RUNTIME_H

#include "../../base/base.h"
#include "../../model/model.h"

/* Output that the engine keeps of one container, in files that take turns: a flood costs the
 * host no more disk, and a reader may be so far behind.  What is older is lost, on Docker file
 * by file; Podman has one file of the whole size and begins it anew. */
#define RUNTIME_LOG_FILE_MIB 64
#define RUNTIME_LOG_FILES    4

struct runtime;

struct runtime_info {
	char engine[32], version[32]; /* "docker" "20.10.24", "podman" "4.3.1" */
	char root_dir[256];	      /* where its data lies: disk space */
	bool cdi, nvidia;	      /* how GPUs can be handed over */
	bool seccomp, pids_limit, memory_limit, swap_limit, cpu_limit;
	bool storage_limit;	/* the engine enforces disk_mib; else see runtime_disk_used */
	char bridge_subnet[64]; /* of the default bridge, which workloads share: see jail.h */
};

struct container_spec {
	const char *lease;
	int64_t generation;
	const char *image;	  /* resolved: id or name@digest */
	struct text_list command; /* as `docker run` takes it; empty: the image's own */
	const struct text_map *env, *secrets; /* both become environment variables */
	const struct resources *resources;
	struct text_list gpu_uuids; /* simulated ones are passed as TES_SIMULATED_GPUS only */
	bool gpus_simulated;
	const char *inputs_dir; /* host directory, mounted read-only at /in; NULL: none */
	bool private_routes;	/* see jail.h */
};

enum container_state {
	CONTAINER_ABSENT,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_PAUSED,
	CONTAINER_EXITED
};
struct container_status {
	char lease[ID_SIZE], id[72];
	int64_t generation;
	enum container_state state;
	int64_t created_ms, started_ms, finished_ms;
	int64_t exit_code;
	bool oom_killed;
	char address[48]; /* on the bridge, while it runs */
	char error[200];  /* the engine's words */
};

/* ERR_UNAVAILABLE: nothing there; ERR_FORBIDDEN: no permission; ERR_UNSUPPORTED: too old,
 * without root, or on another machine. */
int runtime_docker_open(const char *socket, const char *worker_id, struct runtime **ret,
			struct err *err) must_check;
void runtime_close(struct runtime *rt);
int runtime_info(struct runtime *rt, struct runtime_info *ret, struct err *err) must_check;
/* Whether it answers on a new connection: Docker ends that first when it goes down, then its
 * containers; on connections that are there it answers to the last. */
enum runtime_presence {
	RUNTIME_GONE,	/* nobody listens */
	RUNTIME_SILENT, /* somebody does and says nothing: it hangs, or it goes down and systemd keeps
			 * its socket */
	RUNTIME_THERE,
};
enum runtime_presence runtime_presence(struct runtime *rt);

typedef void runtime_progress_fn(void *arg, const char *phase, int64_t done, int64_t total);
/* An image as a lease names it.  What the machine has by itself is its owner's: it is used only
 * where allow_local lists it.  Everything else goes through a registry, so that a private image
 * never stands in for a public one of the same name, and whoever has no right to an image does
 * not get it because somebody else had. */
struct image_request {
	const char *image;
	const struct registry_login *login; /* or NULL */
	const char *allow_local; /* patterns with commas, as image_is_listed; NULL: none */
	/* "host[:port]" with commas: registries that may be asked though they are not on the
	 * public internet; NULL: none, "*": all. */
	const char *private_registries;
	/* Image id of an earlier pull of this image with this login, or NULL: used without
	 * asking if it is named by digest, and while the registry does not answer. */
	const char *known;
	const volatile int *cancel;
	runtime_progress_fn *progress;
	void *arg;
};
struct image_got {
	char image[320];  /* what container_spec.image takes */
	char digest[320]; /* "name@sha256:…", or the image id */
	bool pulled;	  /* a registry gave it now */
};
/* Makes the image present and resolves it.  ERR_FORBIDDEN: the machine has it, and it is not
 * for leases.  ERR_UNSUPPORTED: the image would have to come from a registry on this machine's
 * own network.  ERR_NOT_FOUND, ERR_UNAUTHENTICATED (registry), ERR_UNAVAILABLE, ERR_TIMEOUT carry
 * the engine's words. */
int runtime_image(struct runtime *rt, const struct image_request *req, struct image_got *ret,
		  struct err *err) must_check;
/* Does one of the patterns (shell's, "*" goes over "/"; separated by commas) match the name, with
 * or without its tag?  Docker's own registry may be left out of both.  Pure. */
bool image_is_listed(const char *patterns, const char *image);

/* Hardened: no new privileges, all capabilities dropped but CHOWN DAC_OVERRIDE FOWNER SETGID
 * SETUID KILL NET_BIND_SERVICE (what ordinary images need to start), seccomp default, pids
 * limit 4096, memory without swap, cpu quota, read-only /in, no host namespaces, no engine
 * socket, the hardware address that the jail knows, restart policy no.  /dev/shm may take half
 * of the memory.  ERR_CONFLICT: there is one of another generation, remove it first. */
int runtime_create(struct runtime *rt, const struct container_spec *spec,
		   struct err *err) must_check;
/* ERR_INVALID: the command cannot be run in this image; err->sys says why: ENOENT (not there),
 * EACCES or ENOEXEC (not executable).  The container stays as created. */
int runtime_start(struct runtime *rt, const char *lease, struct err *err) must_check;
int runtime_pause(struct runtime *rt, const char *lease, struct err *err) must_check;
int runtime_unpause(struct runtime *rt, const char *lease, struct err *err) must_check;
/* TERM, then KILL. */
int runtime_stop(struct runtime *rt, const char *lease, int64_t grace_ms,
		 struct err *err) must_check;
/* And its volumes. */
int runtime_remove(struct runtime *rt, const char *lease, struct err *err) must_check;
/* What is not there is CONTAINER_ABSENT. */
int runtime_status(struct runtime *rt, const char *lease, struct container_status *ret,
		   struct err *err) must_check;
/* All containers of this worker, of whatever lease. */
int runtime_list(struct runtime *rt, struct arena *arena, struct container_status **ret,
		 size_t *ret_len, struct err *err) must_check;
/* Something happened to the container of this lease; NULL: the engine does not say of which. */
typedef void runtime_event_fn(void *arg, const char *lease);
/* Tells what happens to our containers until cancel (0), or until the engine goes away or ends
 * the stream: ERR_UNAVAILABLE.  Begins where the call before ended (at first: at opening), as
 * far as the engine remembers: look at all containers before each call.  For one thread. */
int runtime_events(struct runtime *rt, const volatile int *cancel, runtime_event_fn *fn,
		   void *arg, struct err *err) must_check;

/* Output from `since_ns` (engine time stamps, inclusive: the caller drops what it has),
 * following until the container ends or cancel (0 too).  To follow may begin before
 * runtime_start, and should: Docker holds back who asks while a container that ran for a
 * moment only is being put away, 0.1 s.  Lines of more than 64 KiB come in pieces of one
 * time stamp; invalid UTF-8 and NUL are replaced by U+FFFD.  The order is the same each
 * time; a time stamp may stand on many lines (Podman's are in whole seconds), and those of
 * the two streams may cross a little.  fn returning non-zero ends the call with 0.  ret_all: it
 * was followed to the end of the container, and there is no more. */
typedef int runtime_log_fn(void *arg, enum log_stream stream, int64_t at_ns, const char *line,
			   size_t len);
int runtime_logs(struct runtime *rt, const char *lease, int64_t since_ns, bool follow,
		 const volatile int *cancel, runtime_log_fn *fn, void *arg, bool *ret_all,
		 struct err *err) must_check;

/* Bytes that the container occupies on disk: its layer, volumes that the image declares, and
 * removed files that it has open.  Walks its files (2.5 µs each while they are in memory):
 * ask more often while the file system's free space falls.  ERR_TOO_LARGE if it has nested
 * directories so deep that nobody can tell: take it for exceeded.  ERR_UNSUPPORTED where the
 * engine cannot say. */
int runtime_disk_used(struct runtime *rt, const char *lease, int64_t *ret_bytes,
		      struct err *err) must_check;
/* Runs a command in a running container; what it writes is dropped.  At the timeout it is
 * killed (ERR_TIMEOUT).  ERR_CONFLICT: the container does not run. */
int runtime_exec(struct runtime *rt, const char *lease, const struct text_list *command,
		 int64_t timeout_ms, int *ret_status, struct err *err) must_check;
/* Streams a tar of `path` out of the container, running or ended, to `fd`; ERR_NOT_FOUND if
 * there is no such path, ERR_TOO_LARGE over max_bytes (what came so far has been written). */
int runtime_copy_out(struct runtime *rt, const char *lease, const char *path, int fd,
		     int64_t max_bytes, struct err *err) must_check;

#endif
