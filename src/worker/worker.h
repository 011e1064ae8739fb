/* worker: tes-worker, the program on a provider's machine.
 *
 * It holds what the server desires (stream.c), converges to it with one thread a lease
 * (lease.c, act.c; decisions in reconcile.c, which is pure), and reports what it sees
 * (observe.c).  What must survive `kill -9` and a reboot is in one journal a lease (journal.c);
 * containers belong to the engine and outlive this process.
 */
#ifndef TES_WORKER_H
#define TES_WORKER_H

#include "../base/base.h"

enum log_format { LOG_FORMAT_PLAIN, LOG_FORMAT_JSON };
enum log_level_choice { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARN, LEVEL_ERROR };

/* The configuration file; texts are checked by config_open. */
struct worker_config {
	const char *name, *state_dir, *region, *ca_file;
	const char *engine_socket; /* "auto": Docker's, then Podman's */
	const char *share_cpus, *share_memory, *share_disk, *share_gpus;
	int64_t price_gpu_uusd_h, price_cpu_uusd_h, price_gib_uusd_h;
	const char *hours, *maintenance;
	int64_t lease_min_ms, lease_max_ms;
	const char *images_allow_local; /* patterns: see image_is_listed */
	const char *images_private_registries; /* "host[:port], …" */
	bool private_routes, jail_required;
	const char *gpu_simulated;
	int log_format, log_level;
};

/* Loads and checks everything; path NULL: the default file if it is there, else defaults. */
int config_open(const char *path, struct arena *arena, struct worker_config *ret,
		struct err *err) must_check;
void config_describe(struct strbuf *out); /* the commented file with all defaults */

/* The commands; each returns the process's exit status. */
struct command_args {
	const struct worker_config *config;
	const char *config_path; /* for reloading; may be NULL */
	const char *url, *token; /* of join */
	const char *image;	 /* of check: run a container of it; or NULL */
	bool json;
};
int command_run(const struct command_args *args);
int command_join(const struct command_args *args);
int command_drain(const struct command_args *args);
int command_pause(const struct command_args *args);
int command_resume(const struct command_args *args);
int command_leave(const struct command_args *args);
int command_hwdetect(const struct command_args *args);
int command_check(const struct command_args *args);

#endif
