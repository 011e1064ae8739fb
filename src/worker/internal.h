/* worker's privates.
 *
 * Threads of `run`: main (signals), stream (desired leases), observe (heartbeats), engine (its
 * events), care (the jail, what is left over, the inventory), and for each lease one that acts
 * and, while its container runs, two that carry its output: those of leases are used again
 * (threads.c).  All block; what must end early looks at a cancel flag.
 * Locks, in this order: agent.lock, lease_run.lock, log_pump.lock.  None is held across a call
 * that blocks.
 */
#ifndef TES_WORKER_INTERNAL_H
#define TES_WORKER_INTERNAL_H

#include "worker.h"

#include "../api/api.h"
#include "../codec/codec.h"
#include "../http/http.h"
#include "../model/model.h"
#include "../os/os.h"
#include "../schema/schema.h"
#include "runtime/runtime.h"

#include <pthread.h>

/* ---- identity and state directory (state.c) ---- */

/*   key          ed25519 secret key, hexadecimal, 0600
 *   worker.json  who this worker is and which server it belongs to
 *   boot         of the process that runs now: its owner's commands are no second worker
 *   lock         held by `run`
 *   heard        its time: when the server last answered an observation
 *   journal      of all leases
 *   leases/<id>/ in/: inputs, of leases with some */
struct identity {
	char worker_id[ID_SIZE], org_id[ID_SIZE];
	char server[512]; /* "https://host[:port]" */
	char name[72];
	int intent;
	char boot_id[ID_SIZE];
	uint8_t pk[SIGN_PUBLIC_SIZE], sk[SIGN_SECRET_SIZE];
};
/* ERR_NOT_FOUND: not joined yet. */
int identity_load(const char *state_dir, struct identity *ret, struct err *err) must_check;
int identity_save(const char *state_dir, const struct identity *id, struct err *err) must_check;
int identity_forget(const char *state_dir, struct err *err) must_check;
/* The key that is there, or a new one. */
int identity_key(const char *state_dir, struct identity *ret, struct err *err) must_check;
/* Checks that nobody else can read the key. */
int identity_check(const char *state_dir, struct err *err) must_check;
int state_boot_write(const char *state_dir, const char *boot_id, struct err *err) must_check;
/* Only the owner's wish, which its commands may have changed. */
int identity_intent(const char *state_dir, int *ret, struct err *err) must_check;
/* An unnamed file in `dir`. */
int state_tmp(const char *dir, struct err *err) must_check;
void state_boot_read(const char *state_dir, char ret[static ID_SIZE]);

/* ---- images that were pulled for leases (images.c) ---- */

/*   images       one line each: what was asked for (hashed, with its login) and the image's id */
#define IMAGES_KNOWN_MAX 256
struct images_known {
	pthread_mutex_t lock;
	struct image_known {
		char key[SHA256_HEX_SIZE], id[80];
	} items[IMAGES_KNOWN_MAX]; /* newest first */
	size_t count;
};
/* A file that cannot be read is one that knows nothing: images are pulled again. */
void images_load(struct images_known *k, const char *state_dir);
/* Id of what the image was when it was last pulled with this login; false: never. */
bool images_find(struct images_known *k, const char *image, const struct registry_login *login,
		 char ret[static 80]);
int images_remember(struct images_known *k, const char *state_dir, const char *image,
		    const struct registry_login *login, const char *id,
		    struct err *err) must_check;

/* ---- link: signed calls to the server (link.c) ---- */

struct link;
/* Borrows id and ca_file (NULL: the system's). */
struct link *link_new(const struct identity *id, const char *ca_file);
void link_free(struct link *l);

struct link_call {
	enum operation_id op;
	const char *params[2];
	const void *in; /* of the operation's input type; NULL: no body */
	int body_fd;	/* > 0: the body, from its beginning */
	int64_t body_size;
	const uint8_t *body_sha256;
	const char *last_event_id;	     /* or NULL */
	int64_t timeout_ms, idle_timeout_ms; /* 0: 30 s for the whole call */
	int (*on_data)(void *arg, const char *p, size_t len);
	void (*on_status)(void *arg, int status);
	const volatile int *cancel;
	void *arg;
};
/* Opens a session where there is none or the server no longer knows it.  0 for 2xx, with the
 * output (of the operation's type, in `a`) in `ret` unless that is NULL; else the server's
 * problem, or ERR_UNAVAILABLE, ERR_TIMEOUT. */
int link_do(struct link *l, const struct link_call *call, struct arena *a, void *ret,
	    struct err *err) must_check;
/* Opens a session: how far the server's clock is ahead of ours. */
int link_probe(struct link *l, int64_t *ret_skew_ms, struct err *err) must_check;
int64_t link_session(
	struct link *l); /* number of the present session: changes with each new one */
void link_session_end(struct link *l); /* the next call opens a new one */
int64_t link_heartbeat_ms(
	struct link *l); /* as the server asked for when the session was opened */
void link_clock_set(struct link *l, int64_t server_time_ms); /* as of now */
int64_t link_now(struct link *l); /* our clock, put right by the server's */
/* Without identity or session: for joining. */
int link_join(const char *server, const char *ca_file, const struct worker_join *in,
	      struct arena *a, struct worker_joined *ret, struct err *err) must_check;

/* Delays between attempts: 0.2 to 10 s, doubling, of which a random half. */
struct backoff {
	int64_t ms;
};
int64_t backoff_next(struct backoff *b);

/* ---- availability and inventory (hours.c, inventory.c) ---- */

/* "22:00-08:00", "mon-fri 22:00-08:00, sat 00:00-24:00" in local time; "" or "always": always.
 * Maintenance: "sun 03:00-04:00, 2026-12-24T00:00-2026-12-27T08:00". */
struct hours_span {
	int64_t from_min, to_min;
}; /* minutes of the week, Monday 00:00 = 0; to may pass the week's end */
struct hours_once {
	int64_t from_min, to_min;
}; /* minutes since 1970, local time */
#define HOURS_MAX 32
struct hours {
	struct hours_span weekly[HOURS_MAX];
	struct hours_once once[HOURS_MAX];
	size_t weekly_count, once_count;
	bool always;
};
int hours_parse(const char *text, bool is_maintenance, struct hours *ret,
		struct err *err) must_check;
/* Local time is UTC plus offset_ms(at): asked for each instant, so that a change of summer time
 * falls where it does. */
typedef int64_t utc_offset_fn(void *arg, int64_t at_ms);
int64_t utc_offset_system(void *arg, int64_t at_ms);
/* Is `at_ms` within hours and outside maintenance, and until when (0: no end within a week)? */
bool hours_available(const struct hours *hours, const struct hours *maintenance, int64_t at_ms,
		     utc_offset_fn *offset, void *arg, int64_t *ret_until_ms);

/* "80%" of total, or an absolute value, as parsed by `unit`; at most total. */
enum share_unit { SHARE_COUNT_MILLI, SHARE_BYTES_MIB };
int share_parse(const char *text, enum share_unit unit, int64_t total, int64_t *ret,
		struct err *err) must_check;
/* Keeps of inv's devices what "all", "none", "2", "50%" or a list of uuids says. */
int gpus_share(const char *text, struct inventory *inv, struct err *err) must_check;
struct disk_before {
	int64_t known_mib, used_by_leases_mib;
};
/* Detects the machine and applies the owner's shares, prices and times.  engine, problem, disk
 * may be NULL. */
int inventory_make(const struct worker_config *config, const struct runtime_info *engine,
		   const char *problem, int64_t now_ms, const struct disk_before *disk,
		   struct arena *a, struct inventory *ret, struct text_list *ret_problems,
		   struct err *err) must_check;

/* ---- one lease ---- */

/* What must survive this process, with what its pointers borrow (journal.c).  Times are of our
 * clock. */
struct journal {
	const struct desired_lease
		*desired; /* the last that carried a specification, with today's wishes */
	const char *image, *image_digest; /* resolved; NULL: not yet */
	bool prepared;			  /* image and inputs are here */
	int64_t inputs_bytes;		  /* that the inputs take of the lease's disk */
	bool created;			  /* a container may exist: set before it is made */
	bool started;			  /* it was started, once and for all */
	bool ready;
	int64_t started_ms, finished_ms; /* by the engine */
	int64_t base_ms; /* delivered time counts from here: start, or readiness */
	int64_t paused_total_ms;
	int64_t pause_at_ms,
		resume_at_ms; /* written before the engine is asked to: see meter_settle */
	int64_t delivered_ms; /* claimed or final, whichever is more: never falls */
	int64_t receipt_seq;  /* numbers up to here may have been used */
	int64_t log_seq, log_since_ns,
		log_count; /* acknowledged output: see struct output_position */
	bool log_cut, logs_done, results_done;
	int end_state; /* enum observed_state: EXITED, FAILED, GONE; ACCEPTED: has not ended */
	int end_reason;
	const char *end_text;
	int64_t exit_code;
	bool ended; /* output and results are delivered: say so until the server has it */
	int64_t final_seq; /* of the final receipt */
	bool removed;	   /* container and inputs are gone */
};
extern const struct type journal_type;

/* The file that holds them (journals.c).  Calls may come from any thread, those of one lease from
 * one. */
struct journals;
int journals_open(const char *state_dir, struct journals **ret, struct err *err) must_check;
void journals_close(struct journals *s);
/* Survives a power failure when it returns 0; else the one before it counts. */
int journals_save(struct journals *s, const struct journal *j, struct err *err) must_check;
/* ERR_NOT_FOUND: there is none; ERR_INVALID: there was one, and it cannot be read. */
int journals_load(struct journals *s, const char *lease, struct arena *a, struct journal *ret,
		  struct err *err) must_check;
/* And the lease's directory. */
int journals_remove(struct journals *s, const char *lease, struct err *err) must_check;
/* Leases with a journal or a directory, in `a`. */
int journals_list(struct journals *s, struct arena *a, struct text_list *ret,
		  struct err *err) must_check;
char *lease_dir(const char *state_dir, const char *lease,
		const char *name); /* malloc'd; name may be NULL */

/* Takes over wishes: a stop carries no specification, and keeps the one that is there. */
void desired_merge(const struct desired_lease *have, const struct desired_lease *want,
		   struct arena *a, struct desired_lease *ret);

/* ---- metering (meter.c): pure ---- */

/* Settles pauses by what the engine says now; true if the journal changed. */
bool meter_settle(struct journal *j, const struct container_status *st, int64_t now_ms);
/* Delivered so far, of a container that was seen in state `st` at now_ms. */
int64_t meter_delivered_ms(const struct journal *j, const struct container_status *st,
			   int64_t now_ms);
/* Signs one receipt. */
void receipt_make(const struct usage *u, const uint8_t sk[static SIGN_SECRET_SIZE],
		  struct arena *a, struct signed_usage *ret);

/* ---- reconcile (reconcile.c): pure ---- */

enum lease_action {
	ACT_WAIT,    /* nothing to do before wake_ms (0: before something happens) */
	ACT_PREPARE, /* image and inputs */
	ACT_CREATE,
	ACT_START,
	ACT_PROBE, /* run the readiness command once */
	ACT_READY, /* it is */
	ACT_PAUSE,
	ACT_RESUME,
	ACT_END,     /* decided: end_state, reason; what follows brings it about */
	ACT_STOP,    /* the container still runs */
	ACT_FLUSH,   /* deliver the output */
	ACT_COLLECT, /* deliver the results */
	ACT_FINISH,  /* the end is complete: make it known */
	ACT_REMOVE,  /* container and inputs */
	ACT_FORGET,  /* the journal too: nothing is left */
};
struct lease_view {
	enum lease_desired want;
	int64_t funded_ms, max_duration_ms, grace_ms;
	bool has_ready;
	int64_t ready_timeout_ms;
	const struct journal *journal;
	enum container_state container;
	int64_t started_ms;
	int64_t delivered_ms;
	int64_t silent_ms; /* since the server last answered */
	bool disk_exceeded;
};
struct lease_decision {
	enum lease_action action;
	int64_t wake_ms;
	enum observed_state end_state;
	enum lease_reason reason;
};
/* As far as the journal and the engine's last word tell; the caller adds what it alone knows. */
struct lease_view lease_view_of(const struct journal *j, const struct container_status *status,
				int64_t silent_ms);
struct lease_decision reconcile_next(const struct lease_view *v, int64_t now_ms);

/* ---- output (log_pump.c) ---- */

/* Where in the engine's output we are: the first `count` lines with time stamps of since_ns and
 * later are done, and the last of them has number seq.  since_ns lies at least a moment before
 * the newest line, because the engine may write stdout and stderr slightly out of order. */
struct output_position {
	int64_t seq, since_ns, count;
};
struct log_pump;
struct agent;
struct lease_run;
struct log_pump *log_pump_start(struct agent *w, struct lease_run *l, const char *lease,
				int64_t generation, const struct output_position *from,
				bool ended);
/* The container has ended: read to the end, then be done.  What a short one has written is read
 * before it returns, as far as `cancel` lets it. */
void log_pump_ended(struct log_pump *p, const volatile int *cancel);
void log_pump_look(struct log_pump *p); /* now and then: the server may have gone back */
void log_pump_kick(struct log_pump *p); /* it has been started: look again at once */
bool log_pump_done(struct log_pump *p); /* everything is acknowledged, or not wanted */
void log_pump_position(struct log_pump *p, struct output_position *ret, bool *ret_cut);
void log_pump_free(struct log_pump *p); /* stops it where it is; NULL is fine */

/* The position as lines go by: pure, for log_pump.c and its test. */
struct output_cursor {
	struct output_position at;	   /* what a resumption would use */
	int64_t next_since_ns, next_count; /* takes over once it is old enough */
	int64_t newest_ns;
	int64_t skip; /* lines still to be skipped after a resumption */
};
void output_cursor_init(struct output_cursor *c, const struct output_position *from);
/* Reading begins again at c->at. */
void output_cursor_rewind(struct output_cursor *c);
/* A line comes; false: it was there before. */
bool output_cursor_take(struct output_cursor *c, int64_t at_ns);

/* ---- inputs and results (inputs.c, results.c) ---- */

typedef void transfer_progress_fn(void *arg, int64_t done, int64_t total);
/* Fetches, checks and unpacks all inputs below the lease's directory.  They count within its
 * disk: ret_bytes is what they take of it, ERR_TOO_LARGE if that is too much. */
int inputs_fetch(struct link *link, const char *state_dir, const struct desired_lease *d,
		 const volatile int *cancel, transfer_progress_fn *progress, void *arg,
		 int64_t *ret_bytes, struct err *err) must_check;
/* Uploads the regular files below the lease's outputs.  `note` tells what was left out. */
int results_collect(struct link *link, struct runtime *rt, const char *state_dir,
		    const struct desired_lease *d, const volatile int *cancel,
		    transfer_progress_fn *progress, void *arg, struct strbuf *note,
		    struct err *err) must_check;

/* ---- threads (threads.c) ---- */

int thread_start(pthread_t *ret, void *(*fn)(void *), void *arg);
/* The same for what ends soon, on a thread that was used before where there is one.  What is
 * started stays where it is until it was joined, or cancelled. */
struct thread_task {
	void *(*fn)(void *arg);
	void *arg;
	enum { TASK_NONE, TASK_DELAYED, TASK_RUNS, TASK_ENDED } state;
	int64_t due_ms;
	struct thread_task *next;
};
void thread_task_start(struct thread_task *t, void *(*fn)(void *), void *arg);
void thread_task_start_in(struct thread_task *t, int64_t delay_ms, void *(*fn)(void *),
			  void *arg);
bool thread_task_cancel(struct thread_task *t); /* true: it was not started, and will not be */
void thread_task_join(struct thread_task *t);

/* ---- the running worker ---- */

/* A lease as one process has it.  Only its own thread changes journal, status and texts, under
 * the lock; others read them under it, and hand over wishes in `next`. */
struct lease_run {
	struct agent *w;
	char id[ID_SIZE];
	struct thread_task thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int cancel;	      /* ends a blocking step: the wish has changed, or we stop */
	bool woken;
	bool made; /* its container, just now: the engine need not be asked */
	struct lease_run *next_finished;
	struct arena arena;   /* of journal and its texts; begun anew with each wish */
	struct journal j;
	struct desired_box *next; /* newest wish, not yet taken over */
	struct container_status status;
	int64_t seen_ms; /* when status was read */
	char phase[64], note[232];
	int64_t progress_done, progress_total, progress_told_ms;
	bool disk_exceeded;
	int64_t disk_next_ms, disk_used_bytes, saved_ms;
	int tries;
	struct log_pump *pump;
	int64_t receipt_next, receipt_sent_ms, receipt_delivered_ms;
	bool ending;	 /* it has its last number: no other receipt comes any more */
	bool final_told; /* the server has the final receipt */
};
struct desired_box {
	struct arena arena;
	struct desired_lease d;
};

struct agent {
	const struct worker_config *config;
	const char *state_dir, *config_path;
	struct identity id;
	struct link *link;
	pthread_mutex_t lock;
	pthread_cond_t cond;	  /* of the observe, engine and stream threads */
	pthread_cond_t care_cond; /* of the care thread */
	volatile int stopping;
	int exit_status;

	struct runtime *rt; /* NULL until the engine has answered once; then for good */
	struct runtime_info engine;
	char problem[232];  /* why nothing can run now; empty: fine */
	struct map *leases; /* id -> struct lease_run */
	size_t unended;	    /* of them: their end is still to be told */
	struct lease_run *finished; /* no longer among them, to be freed */
	size_t finished_count;
	struct journals *journals;
	struct images_known images;
	int64_t desired_rev;
	bool synced, orphans_due;
	int stream_cancel;
	int64_t stream_behind_ms; /* since when the server counts more changes than came */

	int64_t due_ms;	    /* monotonic: by when the server is to hear what is new; INT64_MAX: nothing is */
	int64_t changed_ms; /* when it was last said that something is to be told at once */
	int64_t heard_ms; /* when the server last answered, monotonic */
	int64_t heartbeat_ms;
	bool engine_away;
	int64_t engine_gone_ms,
		engine_back_ms; /* the last time that it did not answer; wall clock */
	struct arena inventory_arena;
	struct inventory inventory; /* as last made */
	bool inventory_changed;
	pthread_mutex_t jail_lock, inventory_lock;
	int64_t jail_checked_ms, jail_tried_ms; /* when it last was as it should be, or was tried */
};

/* lease.c: the set of leases */
int agent_recover(struct agent *w, struct err *err) must_check;	   /* from the journals */
void agent_desire(struct agent *w, const struct desired_set *set); /* the whole set */
void agent_desire_one(struct agent *w, const struct desired_lease *d);
void agent_wake_lease(struct agent *w, const char *id); /* NULL: all */
/* By its own thread, the last that it does: nothing is left of it. */
void agent_lease_finished(struct lease_run *l);
#define REAP_COUNT 64		  /* so many are worth waking somebody */
void agent_reap(struct agent *w); /* frees those that are finished */
void agent_leases_stop(struct agent *w); /* ends their threads, not their containers */
void lease_wake(struct lease_run *l);
/* What to report of it; texts in `a`.  False: nothing (not known well enough, or the server is
 * done with it). */
bool lease_observe(struct lease_run *l, struct arena *a, struct lease_observation *ret);
/* What the receipt that goes with it is to say, but when; false: none. */
bool lease_usage(struct lease_run *l, struct arena *a, struct usage *ret);
/* Does it fit beside the others, by what the owner offers?  ERR_FORBIDDEN says what does not;
 * ERR_RATE: it will when those that are ending are gone. */
int agent_fits(struct agent *w, struct lease_run *l, struct err *err) must_check;

/* lease_thread.c */
void *lease_thread(void *arg);
/* Stores the journal, called by its own thread without the lock. A disk that is full does not
 * stop a lease: it is logged. */
void lease_save(struct lease_run *l);
/* The end is complete: nobody is told of it before it is stored.  final_seq 0: no receipt. */
void lease_save_end(struct lease_run *l, int64_t final_seq);
/* Carries its output, from where it stands; ended: there will be no more. */
void lease_pump_start(struct lease_run *l, bool ended);
void lease_phase(struct lease_run *l, const char *phase, int64_t done, int64_t total);
void lease_wait(struct lease_run *l, int64_t wait_ms); /* or until woken */
/* The end is decided here and not by reconcile_next: preparing failed. */
void lease_fail(struct lease_run *l, enum lease_reason reason, const char *doing,
		const struct err *err);
/* act.c: one step each, without the lock */
void lease_act(struct lease_run *l, const struct lease_decision *d);

/* stream.c, observe.c, engine.c */
void *stream_thread(void *arg);
void *observe_thread(void *arg);
void *engine_thread(void *arg);
void *care_thread(void *arg);
void observe_soon(struct agent *w);
void observe_later(struct agent *w); /* what need not be known at once: progress */
void observe_end(struct agent *w); /* of a lease that was one of w->unended */
/* Makes sure that the packet filter is what it should be; ERR_FORBIDDEN if it cannot be and is
 * required. */
int agent_jail_ensure(struct agent *w, int64_t max_age_ms, struct err *err) must_check;
/* The same, and it is this machine's problem while it fails, no longer. */
void agent_jail_care(struct agent *w, int64_t max_age_ms);
void agent_inventory_refresh(struct agent *w);
bool agent_device_is_simulated(struct agent *w, const char *uuid);
int64_t system_boot_ms(void);
void agent_problem_set(struct agent *w, const char *problem); /* NULL: fine */
bool agent_has_problem(struct agent *w);
/* worker_id NULL: a passing one, for looking around. */
int engine_open(const char *socket, const char *worker_id, struct runtime **ret,
		struct err *err) must_check;
void agent_stop(struct agent *w, int exit_status);
/* On cond with w->lock held; false when the time is over. */
bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t monotonic_ms);
void cond_init_monotonic(pthread_cond_t *cond);

static inline bool agent_stopping(const struct agent *w)
{
	return __atomic_load_n(&w->stopping, __ATOMIC_ACQUIRE);
}
/* May be another one after SIGHUP; what it names stays. */
static inline const struct worker_config *agent_config(const struct agent *w)
{
	return __atomic_load_n(&w->config, __ATOMIC_ACQUIRE);
}
static inline struct runtime *agent_runtime(const struct agent *w)
{
	return __atomic_load_n(&w->rt, __ATOMIC_ACQUIRE);
}

static inline int64_t now_ms_get(void)
{
	return clock_now(&clock_system);
}

#endif
