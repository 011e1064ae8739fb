/* The words by which enums go over every border (JSON, SQL, command line), in the order of
 * their values. */
#include "internal.h"

const char *const role_names[] = { "none", "viewer", "developer", "admin", "owner", NULL };

const char *const scope_names[] = { "workloads:read", "workloads:write",
				    "billing:read",   "workers:read",
				    "workers:write",  "org:read",
				    "org:write",      NULL };

const char *const worker_state_names[] = { "online", "offline", "left", NULL };
const char *const worker_intent_names[] = { "open", "paused", "draining", NULL };

const char *const offer_sort_names[] = {
	"price", "reliability", "vram", "gpus", "network", NULL
};

const char *const workload_kind_names[] = { "job", "instance", NULL };
const char *const workload_state_names[] = { "pending", "preparing", "running",
					     "paused",	"stopping",  "succeeded",
					     "failed",	"stopped",   NULL };

const char *const replica_state_names[] = { "pending", "leased", "ended", NULL };

const char *const lease_state_names[] = { "reserved", "preparing", "running", "paused",
					  "stopping", "ended",	   NULL };
const char *const lease_desired_names[] = { "run", "pause", "stop", "none", NULL };

const char *const observed_state_names[] = {
	"accepted", "preparing", "running", "paused", "exited", "failed", "gone", NULL,
};

const char *const log_stream_names[] = { "stdout", "stderr", "system", NULL };

const char *const transfer_kind_names[] = {
	"posted", "pending", "post", "void", "expire", NULL
};
