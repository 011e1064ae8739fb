/* model: the nouns, their descriptions, and their legal transitions.  Pure: no I/O, no clock, no randomness.
 *
 * Every struct that crosses a border (JSON, SQL, command line) has its description (`<noun>_type`) here; adding a field
 * is adding a member and a row.  Units end the names.  Ids: base.h; kinds:
 *   or organisation  us user  ak api key  wk worker  jt join token  qt quote  wl workload  rp replica  le lease
 *   in input  rs result  rc receipt  ev event  ac account  tr transfer
 */
#ifndef TES_MODEL_H
#define TES_MODEL_H

#include "../base/base.h"
#include "../schema/schema.h"

/* ---- who ----------------------------------------------------------------------------------------- */

/* A role contains all that stand before it. */
enum role { ROLE_NONE, ROLE_VIEWER, ROLE_DEVELOPER, ROLE_ADMIN, ROLE_OWNER };
extern const char *const role_names[];

/* What an API key may do, at most; the member's role limits it further. */
enum scope {
	SCOPE_WORKLOADS_READ = 1 << 0,
	SCOPE_WORKLOADS_WRITE = 1 << 1,
	SCOPE_BILLING_READ = 1 << 2,
	SCOPE_WORKERS_READ = 1 << 3,
	SCOPE_WORKERS_WRITE = 1 << 4,
	SCOPE_ORG_READ = 1 << 5,
	SCOPE_ORG_WRITE = 1 << 6,
	SCOPE_ALL = (1 << 7) - 1,
};
extern const char *const scope_names[]; /* "workloads:read", …, in the order of the bits, NULL-ended */
int scopes_parse(const char *const *names, size_t len, unsigned *ret, struct err *err) must_check;

struct org {
	const char *id, *name;
	int64_t created_ms;
	int64_t balance_warn_uusd; /* warn when the balance falls below this */
};
struct user {
	const char *id, *email, *password_hash;
	int64_t created_ms;
};
struct member {
	const char *org_id, *user_id, *email;
	int role;
	int64_t created_ms;
};
struct api_key {
	const char *id, *org_id, *user_id, *name;
	const char *hash;      /* SHA-256 of the secret, hex; the secret has 256 random bits, so no slow hash is needed */
	const char *secret;    /* shown once, when made: "tes_<id without ak_>_<43 characters>" */
	int role;
	struct text_list scopes;
	int64_t created_ms, expires_ms, revoked_ms, used_ms;
};
struct join_token {
	const char *id, *org_id, *hash, *secret;
	int64_t created_ms, expires_ms, used_ms;
	const char *worker_id; /* who used it */
};
extern const struct type org_type, user_type, member_type, api_key_type, join_token_type;

/* ---- what a machine has, what a workload wants ---------------------------------------------------- */

struct resources {
	int64_t cpu_milli;  /* thousandths of a hardware thread */
	int64_t memory_mib, disk_mib;
	int64_t gpus;       /* whole devices */
	const char *gpu_model;
	int64_t vram_mib;   /* of each device, at least */
};
extern const struct type resources_type;

struct device {
	int64_t index;
	const char *uuid, *model; /* as NVML names them */
	int64_t vram_mib;
	const char *pci_bus;
	bool simulated;
};
/* What a worker detected, and what its owner gives away. */
struct inventory {
	const char *hostname, *os, *kernel, *arch, *cpu_model, *engine, *engine_version, *version;
	int64_t cpu_threads, memory_mib, disk_mib;             /* of the machine */
	const char *gpu_driver, *cuda_version;
	LIST(struct device) devices;                           /* offered ones only */
	int64_t net_down_kbps, net_up_kbps;                    /* link speed as the kernel names it; 0: unknown */
	int64_t offered_cpu_milli, offered_memory_mib, offered_disk_mib;
	int64_t price_gpu_uusd_h, price_cpu_uusd_h, price_gib_uusd_h; /* per device; per 1000 cpu_milli; per GiB of memory */
	const char *region;
	int64_t lease_min_s;     /* shortest lease the owner wants: a max_duration below it does not match */
	int64_t lease_max_s;     /* 0: any */
	int64_t available_until_ms; /* end of today's hours or start of the next maintenance window; 0: open end */
	bool available;          /* inside its hours, outside maintenance */
	bool private_routes;     /* workloads may reach private address ranges */
	bool simulated;
	const char *problem;     /* why it cannot run anything now ("engine does not answer"); NULL: fine */
};
extern const struct type device_type, inventory_type;

enum worker_state { WORKER_ONLINE, WORKER_OFFLINE, WORKER_LEFT };
enum worker_intent { INTENT_OPEN, INTENT_PAUSED, INTENT_DRAINING }; /* the owner's wish */
extern const char *const worker_state_names[], *const worker_intent_names[];
struct worker {
	const char *id, *org_id, *name;
	const char *public_key;  /* ed25519, hex */
	int state, intent;
	bool blocked;            /* by the operator */
	const char *blocked_why;
	const struct inventory *inventory;
	/* Capacity as offered and what active leases hold of it.  A CHECK in the store keeps 0 <= used; whoever claims
	 * some checks used <= offered in the same UPDATE.  A new inventory may shrink what is offered below what is used:
	 * then nothing is placed until it fits. */
	int64_t cpu_milli, memory_mib, disk_mib, gpus;
	int64_t used_cpu_milli, used_memory_mib, used_disk_mib, used_gpus;
	int64_t joined_ms, seen_ms, offline_since_ms;
	const char *boot_id;     /* of the worker process */
	int64_t desired_rev;     /* counts every change to its desired leases */
	int64_t uptime_ppm, reliability_ppm; /* observed; see reliability() */
	int64_t leases_ok, leases_failed;
	int64_t updated_ms;
	bool simulated;
};
extern const struct type worker_type;
/* Rows of it: how the worker stands, without what it offers. */
extern const struct type worker_standing_type;

/* Observed reliability in ppm: uptime over 30 days times the share of leases that the worker did not fail, with a prior
 * of 3 good outcomes of 5, so that a newcomer stands at 60% and earns the rest. */
int64_t reliability(int64_t uptime_ppm, int64_t leases_ok, int64_t leases_failed);

/* ---- offers and quotes ---------------------------------------------------------------------------- */

/* What one worker could give to one request, now. */
struct offer {
	const char *id;          /* "of_…": stable for a worker */
	const char *worker_id, *region, *gpu_model, *cpu_model;
	int64_t gpus, gpus_free, vram_mib, cpu_milli_free, memory_mib_free, disk_mib_free;
	int64_t price_gpu_uusd_h, price_cpu_uusd_h, price_gib_uusd_h;
	int64_t price_uusd_h;    /* of what was asked for, all of it, per hour */
	int64_t uptime_ppm, reliability_ppm;
	int64_t net_down_kbps, net_up_kbps;
	int64_t available_until_ms, lease_min_s;
	const char *cuda_version, *gpu_driver;
	bool simulated;
};
enum offer_sort { OFFER_SORT_PRICE, OFFER_SORT_RELIABILITY, OFFER_SORT_VRAM, OFFER_SORT_GPUS, OFFER_SORT_NETWORK };
extern const char *const offer_sort_names[];
struct offer_query {
	int64_t gpus, vram_mib, cpu_milli, memory_mib, disk_mib, max_price_uusd_h, min_reliability_ppm, max_duration_s;
	const char *gpu_model, *region;
	int sort;
	int64_t limit;
	const char *cursor;
};
struct offer_page { LIST(struct offer) items; const char *next; int64_t total; };
extern const struct type offer_type, offer_query_type, offer_page_type;

/* µUSD per hour for `want` at these unit prices, rounded up once; false if it overflows. */
bool price_of(const struct resources *want, int64_t gpu_uusd_h, int64_t cpu_uusd_h, int64_t gib_uusd_h, int64_t *ret) must_check;

struct quote_request { const struct resources *resources; const char *offer, *region; int64_t min_reliability_ppm, max_price_uusd_h, max_duration_s; };
struct quote {
	const char *id, *org_id, *worker_id;
	const struct resources *resources;
	int64_t rate_uusd_h, fee_ppm;
	int64_t created_ms, expires_ms;
	const char *used_by; /* workload */
};
extern const struct type quote_request_type, quote_type;

/* ---- workloads ------------------------------------------------------------------------------------ */

enum workload_kind { WORKLOAD_JOB, WORKLOAD_INSTANCE }; /* services and clusters join here */
enum workload_state {
	WORKLOAD_PENDING,    /* no lease yet, or between two */
	WORKLOAD_PREPARING,  /* has a lease that is not running yet */
	WORKLOAD_RUNNING,
	WORKLOAD_PAUSED,     /* out of funds, data kept */
	WORKLOAD_STOPPING,
	WORKLOAD_SUCCEEDED,
	WORKLOAD_FAILED,
	WORKLOAD_STOPPED,    /* by the customer */
};
extern const char *const workload_kind_names[], *const workload_state_names[];
bool workload_state_is_final(enum workload_state s);

struct registry_login { const char *username, *secret; };
struct workload_input { const char *id, *name; };  /* uploaded before: a tar of one file or folder of that name, read-only as /in/<name> */
struct readiness { struct text_list command; int64_t timeout_s; };
struct workload_spec {
	int kind;
	const char *name, *image;
	struct text_list command;
	struct text_map env, secrets;
	const struct registry_login *registry;
	const struct resources *resources;
	LIST(struct workload_input) inputs;
	struct text_list outputs;            /* absolute paths in the container, collected after it ends */
	const char *region, *quote;
	int64_t min_reliability_ppm;
	int64_t max_price_uusd_h;            /* for one replica, all of it; 0: the best offer's at submission */
	int64_t max_duration_s;              /* of running; 0: none */
	int64_t prepare_timeout_s;
	int64_t retries;
	const struct readiness *ready;       /* NULL: ready when it runs */
};
extern const struct type registry_login_type, workload_input_type, readiness_type, workload_spec_type;

/* "[domain/]path[:tag][@digest]", cut up; a part that is not there is empty. Grammar: image.c. */
struct image_ref { struct slice domain, path, tag, digest; };
int image_parse(const char *image, struct image_ref *ret, struct err *err) must_check;

/* Many workloads of one specification, each with its number: from `name`, "name-<number>", and in its environment. */
#define ARRAY_MAX 1000                    /* workloads of one array */
#define ARRAY_BYTES_MAX (INT64_C(16) << 20) /* of their specifications, all together */
#define ARRAY_INDEX_VARIABLE "TES_ARRAY_INDEX"
struct array_request { int64_t count; const struct workload_spec *spec; };
struct workload_array { const char *id; struct text_list ids; int64_t max_price_uusd_h; };
/* How its workloads stand, added up; removed ones count on. */
struct array_summary {
	const char *id;
	int64_t count, pending, preparing, running, paused, stopping, succeeded, failed, stopped;
	int64_t exit_code;                   /* the highest; -1: none yet */
	int64_t charged_uusd, created_ms, ended_ms /* of the last; 0: some live */;
};
extern const struct type array_request_type, workload_array_type, array_summary_type;
/* The specification of number `index`, which borrows from the request's. */
void array_spec(const struct array_request *r, int64_t index, struct arena *a, struct workload_spec *ret);

struct lease;
struct workload {
	const char *id, *org_id, *name;
	int state;
	const char *reason, *reason_text;    /* of the last change, kept */
	const struct workload_spec *spec;    /* without secrets */
	const char *image_pinned;            /* "name@sha256:…" once the first preparation has resolved it */
	int64_t max_price_uusd_h;            /* the frozen cap */
	const char *quote_id, *worker_wanted; /* a quote binds to its worker while it lasts */
	int64_t attempts, exit_code;
	int64_t created_ms, started_ms, ended_ms, removed_ms;
	int64_t charged_uusd;
	const char *lease_id, *worker_id;    /* the current or last one */
	const char *array_id;                /* NULL: of none */
	int64_t array_index;
	int64_t updated_ms;
};
struct workload_query { int state /* -1: any */; const char *name, *array; bool all; int64_t limit; const char *cursor; };
struct workload_page { LIST(struct workload) items; const char *next; };
extern const struct type workload_type, workload_query_type, workload_page_type;
/* Rows of it: what moves with its lease. */
extern const struct type workload_progress_type;

enum replica_state { REPLICA_PENDING, REPLICA_LEASED, REPLICA_ENDED };
extern const char *const replica_state_names[];
struct replica {
	const char *id, *org_id, *workload_id;
	int64_t number;          /* 0 … replicas - 1 */
	int state;
	int64_t generation;      /* attempts made; a lease carries the number of its own: the fencing token */
	int64_t retries_left;
	int64_t not_before_ms;   /* backoff */
	const char *lease_id;
	const char *hold_id;     /* the pending transfer that stands for it until a lease takes over */
	int64_t created_ms, updated_ms;
};
extern const struct type replica_type;

/* ---- leases --------------------------------------------------------------------------------------- */

/*
 *   RESERVED --accepted--> PREPARING --running--> RUNNING <--pause, resume--> PAUSED
 *
 *   any of these       --stop, time out------------> STOPPING
 *   these or STOPPING  --exited, failed, gone, lost-> ENDED
 *
 * RESERVED has a time to live; PREPARING a limit; RUNNING is "running and reachable": billing counts from there.
 * STOPPING: told to stop, its container may still run, results may still come.  ENDED is final and keeps its reason.
 * A worker that is silent leaves the state alone (unreachable_since_ms says so) until its grace is over.
 */
enum lease_state { LEASE_RESERVED, LEASE_PREPARING, LEASE_RUNNING, LEASE_PAUSED, LEASE_STOPPING, LEASE_ENDED };
extern const char *const lease_state_names[];

/* What the server wants of the lease; the worker converges to it. */
enum lease_desired { DESIRE_RUN, DESIRE_PAUSE, DESIRE_STOP, DESIRE_NONE };
extern const char *const lease_desired_names[];

enum lease_reason {
	REASON_NONE,
	REASON_PLACED,                  /* reserved */
	REASON_ACCEPTED, REASON_READY,
	/* ends */
	REASON_COMPLETED,               /* exit status 0 */
	REASON_EXITED_WITH_ERROR,
	REASON_OUT_OF_MEMORY,
	REASON_DISK_LIMIT_EXCEEDED,
	REASON_IMAGE_PULL_FAILED,
	REASON_IMAGE_NOT_ALLOWED,       /* on the worker, but not for leases */
	REASON_REGISTRY_NOT_ALLOWED,    /* on the worker's own network */
	REASON_INPUT_FAILED,
	REASON_CREATE_FAILED,
	REASON_NEVER_READY,
	REASON_PREPARATION_TIMEOUT,
	REASON_RESERVATION_EXPIRED,     /* the worker never took it */
	REASON_REFUSED_BY_WORKER,
	REASON_WORKER_LOST,             /* silent for longer than the grace */
	REASON_CONTAINER_LOST,          /* the worker is back, its container is not */
	REASON_STOPPED_BY_CUSTOMER,
	REASON_MAX_DURATION_EXCEEDED,
	REASON_DRAINED_BY_PROVIDER,
	REASON_BLOCKED_BY_OPERATOR,
	REASON_OUT_OF_FUNDS,
	REASON_RESUMED,
};
extern const char *const lease_reason_names[];
const char *lease_reason_text(enum lease_reason r); /* a sentence for people */
bool lease_reason_retries(enum lease_reason r);     /* another worker could do better */
bool lease_reason_blames_worker(enum lease_reason r); /* counts against reliability, and makes the pair avoided */

struct lease {
	const char *id, *org_id, *provider_org_id, *workload_id, *replica_id, *worker_id;
	int64_t generation;
	int state, desired, reason;
	const char *reason_text;
	const struct resources *resources;
	struct text_list devices;            /* uuids */
	const char *image;                   /* as to be run; pinned if known */
	const char *image_digest;            /* as the worker resolved it: "name@sha256:…" */
	int64_t rate_uusd_h, fee_ppm;        /* frozen */
	const char *quote_id;
	int64_t reserved_ms, reserved_until_ms, prepare_until_ms, accepted_ms, running_ms, stopping_ms, ended_ms;
	int64_t ready_timeout_ms;            /* from the container's start; 0: none */
	int64_t ready_until_ms;              /* once it has started */
	int64_t max_duration_ms;             /* of delivered time; 0: none */
	int64_t grace_ms;                    /* how long a silence is borne on both sides */
	const char *phase;                   /* "pulling image", for people */
	int64_t progress_done, progress_total;
	int64_t exit_code;                   /* -1: none */
	int64_t unreachable_since_ms;        /* 0: reachable */
	/* Metering: see meter_observe and meter_billable_ms. */
	int64_t observed_at_ms;              /* last observation of it by the server */
	int64_t observed_ms;                 /* time that observations allow it to have run */
	int64_t claimed_ms, claimed_seq;     /* total delivered by the newest receipt */
	bool claimed_final;                  /* that receipt said to be the last */
	int64_t billed_ms, billed_uusd, fee_uusd; /* settled so far */
	int64_t settled_at_ms;
	int64_t funded_ms;                   /* delivered time that is paid for; there the worker pauses by itself */
	int64_t paused_ms;                   /* since when it is paused */
	const char *hold_id;
	int64_t logs_seq, logs_bytes;        /* received */
	bool logs_cut;
	bool logs_expired;                   /* deleted after their time; the numbers above stay */
	bool results_done;
	int64_t desired_rev;
	int64_t deadline_ms;                 /* lease_deadline_ms of this state, for an index */
	int64_t updated_ms;
};
extern const struct type lease_type;
/* Rows of it: what an event without effects may have moved, and a receipt. */
extern const struct type lease_metering_type;

enum lease_event_kind {
	/* from the worker's observations */
	LEASE_EVENT_ACCEPTED,
	LEASE_EVENT_PROGRESS,
	LEASE_EVENT_RUNNING,      /* the container runs and is ready */
	LEASE_EVENT_PAUSED,       /* it is frozen */
	LEASE_EVENT_EXITED,       /* ended by itself: exit_code, reason; results are in */
	LEASE_EVENT_FAILED,       /* never ran: reason */
	LEASE_EVENT_GONE,         /* stopped as desired, cleaned up; also the answer to a lease that it does not have */
	/* from the server */
	LEASE_EVENT_STOP,         /* reason: customer, duration, drain, operator, funds */
	LEASE_EVENT_PAUSE,        /* out of funds */
	LEASE_EVENT_RESUME,
	LEASE_EVENT_SILENT,       /* the worker missed its heartbeats */
	LEASE_EVENT_HEARD,        /* and is back */
	LEASE_EVENT_TICK,         /* time passes: expiry of reservation, preparation, grace, duration, stop */
};
struct lease_event {
	enum lease_event_kind kind;
	int64_t generation;       /* 0: the server's own, always current */
	enum lease_reason reason;
	const char *text;         /* detail for people, may be NULL */
	const char *phase, *image_digest;
	int64_t progress_done, progress_total, exit_code;
	bool started;             /* PROGRESS: the container runs, and is not ready yet */
	int64_t age_ms;           /* how long ago it came: a busy store is no reason to pay less */
	int64_t heard_ms;         /* TICK: when the worker was last heard, whatever it said */
	int64_t delivered_ms;     /* RUNNING, PAUSED, EXITED: how long it has run, so that running_ms is not late; or 0 */
};
enum lease_effect {
	EFFECT_CHANGED = 1 << 0,  /* something worth storing */
	EFFECT_DESIRE = 1 << 1,   /* push the desired lease to the worker */
	EFFECT_ANNOUNCE = 1 << 2, /* an event for the outside: state or reason changed */
	EFFECT_RELEASE = 1 << 3,  /* give back capacity and devices */
	EFFECT_SETTLE = 1 << 4,   /* last settlement, release the hold */
	EFFECT_RETRY = 1 << 5,    /* the replica may go to another worker */
	EFFECT_AVOID = 1 << 6,    /* remember that this pair failed */
	EFFECT_BLAME = 1 << 7,    /* count against the worker */
	EFFECT_CREDIT = 1 << 8,   /* count for the worker */
};
struct lease_change {
	struct lease lease;       /* as it is to be stored; borrows the texts of `lease` and `event` */
	unsigned effects;
};
#define LEASE_READY_SLACK_MS (5 * SECOND_MS) /* for a worker to say itself that it was never ready */
#define LEASE_STOP_GRACE_MS (60 * SECOND_MS) /* from STOPPING to giving a reachable worker up */
/* Decide what `event` does to `lease` at `now_ms`.  Pure: the caller commits `*ret` and then acts on its effects.
 * Observations may be lost, doubled, late or out of order: one that no longer applies has no effects and is no error.
 * Even then the metering of `ret->lease` has moved (meter_observe); the caller stores that when it suits it.
 * ERR_CONFLICT if the event belongs to another generation, or for a PAUSE of a lease that does not run yet. */
int lease_apply(const struct lease *lease, const struct lease_event *event, int64_t now_ms,
		struct lease_change *ret, struct err *err) must_check;
/* The next moment at which LEASE_EVENT_TICK does something if nothing else happens before; 0: none. */
int64_t lease_deadline_ms(const struct lease *lease);

/* ---- metering ------------------------------------------------------------------------------------- */

/* What a worker signs: cumulative, so that a lost receipt costs nothing and a doubled one changes nothing. The signed
 * bytes are "tes-usage-1\n" and the JSON text exactly as sent. */
struct usage {
	const char *lease, *worker;
	int64_t generation, seq;        /* seq counts up from 1 per lease */
	int64_t delivered_ms;           /* total running (not paused) time of the container so far */
	int64_t gpus, cpu_milli, memory_mib;
	int64_t at_ms;
	bool final;
};
struct receipt {
	const char *id, *lease_id, *worker_id, *payload, *signature; /* payload: the usage as signed; signature: base64url */
	int64_t seq, delivered_ms, at_ms, received_ms;
};
extern const struct type usage_type, receipt_type;
/* Checks a receipt's content against its lease at `now_ms`: own lease, generation, no more devices or resources than
 * leased, not from the future (30 s), seq and delivered time never falling, nothing after the final one.  ERR_CONFLICT
 * for a repeat of the newest and for an older one that came late (ignore both), ERR_INVALID else: evidence. */
int usage_check(const struct usage *u, const struct lease *lease, const char *worker_id, int64_t now_ms, struct err *err) must_check;
/* Makes a checked receipt the lease's newest. */
/* The most that a lease can have run by now: what is claimed beyond it is not refused, for a clock may have been set, but
 * it is noted (and never paid: see meter_billable_ms). */
int64_t usage_possible_ms(const struct lease *lease, int64_t now_ms);
void usage_take(const struct usage *u, struct lease *lease);

/* The server saw the lease at now_ms.  If it may have run since the last look (it was accepted before, and the silence
 * between was no longer than its grace), that time becomes billable as far as receipts claim it.  lease_apply does it
 * for each event from a worker, before the event takes effect; a second call for the same moment changes nothing. */
void meter_observe(struct lease *lease, int64_t now_ms);
/* Time that receipts and observations both support, within what was funded and the maximal duration. */
int64_t meter_billable_ms(const struct lease *lease);
/* floor(rate × whole seconds / 3600): of the total, so that rounding never accumulates. */
int64_t owed_uusd(int64_t rate_uusd_h, int64_t delivered_ms);
int64_t fee_of(int64_t owed, int64_t fee_ppm); /* floor */
/* How many milliseconds of `rate` the amount buys, in whole seconds; FUNDED_UNLIMITED for rate 0, and at most that. */
#define FUNDED_UNLIMITED (INT64_C(1) << 53)
int64_t funded_ms(int64_t amount_uusd, int64_t rate_uusd_h);

/* ---- what workers and the server tell each other --------------------------------------------------- */

struct worker_join { const char *token, *public_key, *name; const struct inventory *inventory; };
struct worker_joined { const char *worker_id, *org_id; };
/* The worker signs "tes-session-1\n<worker>\n<time_ms>\n<exchange key>\n<boot id>" with its ed25519 key; both ends then derive the
 * same MAC key (codec.h, exchange_shared), which never crosses the wire. */
struct session_request { const char *worker_id, *exchange_key, *signature, *boot_id, *version; int64_t time_ms; };
struct session { const char *id, *exchange_key; int64_t expires_ms, heartbeat_ms, server_time_ms; };

enum observed_state { OBSERVED_ACCEPTED, OBSERVED_PREPARING, OBSERVED_RUNNING, OBSERVED_PAUSED, OBSERVED_EXITED, OBSERVED_FAILED, OBSERVED_GONE };
extern const char *const observed_state_names[];
struct lease_observation {
	const char *lease;
	int64_t generation;
	int state, reason;
	const char *text, *phase, *image_digest;
	int64_t progress_done, progress_total, exit_code;
	int64_t delivered_ms;
	bool started;                /* preparing: the container runs, and is not ready yet */
};
struct signed_usage { const char *payload, *signature; };
struct observation {
	int64_t at_ms, desired_rev;
	const char *boot_id;
	int intent;
	LIST(struct lease_observation) leases;     /* all that it has, not only changes */
	LIST(struct signed_usage) receipts;
	const struct inventory *inventory;         /* when it changed, and in the first of a session */
};
#define OBSERVED_PROBLEMS_MAX 64
struct observed { int64_t server_time_ms, heartbeat_ms, desired_rev, receipts_taken; struct text_list problems; };

struct desired_input { const char *id, *name, *sha256; int64_t size_bytes; };
/* One lease as the worker is to have it.  Carries the workload's secrets: only ever sent to the worker that holds it. */
struct desired_lease {
	const char *lease, *workload;
	int64_t generation, rev;
	int desired;
	const char *image;
	struct text_list command;
	struct text_map env, secrets;
	const struct registry_login *registry;
	const struct resources *resources;
	struct text_list devices, outputs;
	LIST(struct desired_input) inputs;
	const struct readiness *ready;
	int64_t grace_ms, prepare_until_ms, max_duration_ms, funded_ms, logs_max_bytes, results_max_bytes;
};
/* First event of every stream ("sync"): the whole set.  Then one "lease" event for each change. */
struct desired_set { int64_t rev; LIST(struct desired_lease) leases; };
struct log_entry { int64_t seq, at_ms; int stream; const char *text; };
enum log_stream { LOG_STDOUT, LOG_STDERR, LOG_SYSTEM };
extern const char *const log_stream_names[];
struct log_batch { const char *lease; int64_t generation; LIST(struct log_entry) entries; };
struct log_ack { int64_t seq; bool cut; }; /* everything up to seq is stored; cut: the limit is reached, send no more */
struct intent_request { int intent; bool leave; };
extern const struct type worker_join_type, worker_joined_type, session_request_type, session_type, lease_observation_type,
	signed_usage_type, observation_type, observed_type, desired_input_type, desired_lease_type, desired_set_type,
	log_entry_type, log_batch_type, log_ack_type, intent_request_type;

/* ---- what customers see ---------------------------------------------------------------------------- */

struct log_query { int64_t since_ms, after, limit; bool follow; const char *lease; };
struct log_page { LIST(struct log_entry) items; int64_t next; bool complete, cut; const char *lease; };
struct input { const char *id, *org_id, *sha256; int64_t size_bytes, created_ms, expires_ms; };
struct result { const char *id, *org_id, *workload_id, *lease_id, *path, *sha256; int64_t size_bytes, mode, created_ms, expires_ms; };
struct result_list { LIST(struct result) items; bool complete; const char *note; };
struct bill_line {
	const char *lease_id, *worker_id, *reason;
	int64_t from_ms, to_ms, seconds, rate_uusd_h, amount_uusd, fee_uusd; /* the fee is part of the amount */
	const char *receipt_id; /* the newest that supports it */
};
struct bill { const char *workload_id; LIST(struct bill_line) lines; int64_t total_uusd, held_uusd; bool final; };
struct balance {
	int64_t posted_uusd, held_uusd, available_uusd, rate_uusd_h;
	int64_t exhausted_ms; /* when the money runs out at this rate; 0: nothing runs */
	int64_t earned_uusd;  /* as a provider, payable */
};
struct bill_query { int64_t since_ms, until_ms; };
/* Why a workload has no lease: for every constraint the offers that it excluded, in order; each offer counts once. */
struct explain_line { const char *constraint, *wanted, *best; int64_t excluded; const char *change; };
struct explanation { const char *workload_id, *summary; int64_t offers, matching; LIST(struct explain_line) lines; };
struct event {
	const char *id, *org_id, *actor, *subject, *kind, *reason, *text;
	int64_t seq, at_ms;
	int64_t made;                /* counts the events of one process, for the order of those of one millisecond */
	const char *prev_hash, *hash;
};
struct event_page { LIST(struct event) items; int64_t next; };
struct event_query { int64_t after, limit; const char *subject; bool follow; };
struct lease_page { LIST(struct lease) items; };
struct worker_page { LIST(struct worker) items; };
struct api_key_page { LIST(struct api_key) items; };
struct member_page { LIST(struct member) items; };
struct login { const char *email, *password, *org, *key_name; };
struct key_request { const char *name; int role; struct text_list scopes; int64_t expires_s; };
struct join_token_request { int64_t expires_s; };
struct whoami { const char *org_id, *org_name, *user_id, *email, *key_id; int role; struct text_list scopes; };
struct version { const char *version, *protocol; bool production; };
struct nothing { char unused; };
extern const struct type log_query_type, log_page_type, input_type, result_type, result_list_type, bill_line_type, bill_type,
	balance_type, bill_query_type, explain_line_type, explanation_type, event_type, event_page_type, event_query_type,
	lease_page_type, worker_page_type, api_key_page_type, member_page_type, login_type, key_request_type,
	join_token_request_type, whoami_type, version_type, nothing_type;

/* ---- ledger nouns (rules in ledger/) ---------------------------------------------------------------- */

struct account {
	const char *id, *org_id, *name;     /* name: "customer", "provider", "escrow:<lease>", "fee", "external" */
	const char *currency;
	int64_t debits_pending, debits_posted, credits_pending, credits_posted;
	bool debits_must_not_exceed_credits, credits_must_not_exceed_debits;
	int64_t created_ms;
	int64_t transfers;         /* the chain of its transfers: how many, and the newest */
	const char *last_transfer;
};
struct transfer {
	const char *id, *debit_account, *credit_account, *pending_id, *code, *subject, *text;
	int kind;
	int64_t amount, created_ms, expires_ms;
	int64_t debit_number, credit_number;   /* in the chain of either account, from 1 */
	const char *debit_prev, *credit_prev;  /* the one before it there */
};
struct transfer_page { LIST(struct transfer) items; };
extern const struct type account_type, transfer_type, transfer_page_type;
extern const char *const transfer_kind_names[]; /* of ledger.h's enum transfer_kind */

#endif
