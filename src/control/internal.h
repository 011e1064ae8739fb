/* control's privates: what handlers and duties share.
 *
 * The rule of this folder: a transition, its transfers and its events are written by one db_tx; what others must know is
 * woken after its commit (wake_*).  Handlers run inside the transaction that control_call opened for them (writes for
 * anything but GET; a read snapshot for GET, or with OP_ONE_READ a single statement), so a handler is straight-line code
 * without locks.
 */
#ifndef TES_CONTROL_INTERNAL_H
#define TES_CONTROL_INTERNAL_H

#include "control.h"

#include "../http/http.h"
#include "../ledger/ledger.h"
#include "../sched/sched.h"

#include <pthread.h>

struct hub;
struct sessions;
struct scheduler;
struct actives;
struct submissions;
struct waiting;
struct keys;
struct heartbeats;
struct logins;

struct control {
	struct control_config config;
	struct clock clock;
	struct random random;
	struct db *db;
	struct blob_store *blobs;
	struct hub *hub;
	struct sessions *sessions;     /* of workers */
	struct heartbeats *heartbeats; /* of idle workers */
	struct keys *keys;             /* that were good a moment ago */
	struct scheduler *scheduler;   /* the pool and its lock */
	struct actives *actives;       /* active.c */
	struct submissions *submissions; /* api/submit.c */
	struct logins *logins;         /* login.c */
	struct http_server *server;    /* NULL in the simulator */
	pthread_mutex_t admit_lock;
	struct db_conn *admit_conn;    /* for looking at keys before an upload is taken */
	uint8_t secret_key[32];        /* seals workload secrets at rest */
	int64_t started_ms;
	char instance[ID_SIZE];        /* of this process, for leadership */
	struct leadership { const char *role; int64_t until_ms; } leads[8]; /* one entry a duty; each its own thread's */
	struct metrics *metrics;
	_Atomic int64_t events_made;
};

static inline int64_t control_now(const struct control *c)
{
	return clock_now(&c->clock);
}
/* An id in the call's arena. */
const char *new_id(struct control *c, const char *kind, struct arena *a);

/* ---- hub: who is to be woken (hub.c) ----------------------------------------------------------------- */

/* Topics: "worker:<id>" its desired leases; "workload:<id>" logs, state; "org:<id>" its events; "duty:<name>". */
struct hub *hub_new(void);
void hub_free(struct hub *h);
void hub_wake(struct hub *h, const char *topic);
/* After the running transaction commits (at once if there is none). */
void wake(struct control *c, struct db_conn *conn, const char *kind, const char *id);
/* `fn` runs on the waking thread: it must only queue. */
struct hub_listener;
struct hub_listener *hub_listen(struct hub *h, const char *topic, void (*fn)(void *arg), void *arg);
void hub_unlisten(struct hub_listener *l);
/* Blocks until "duty:<name>" was woken since the last call, but no less than gather_ms after that call let it go, so that
 * one round answers the wakes of a busy moment and the first one waits for nothing; at most wait_ms.  False when stopping. */
bool hub_wait_duty(struct hub *h, const char *name, int64_t wait_ms, int64_t gather_ms);
/* How long, if the round that began then wants the next at next_ms: not longer than it said, should the clock have been set
 * back while it ran. */
static inline int64_t duty_wait_ms(int64_t began_ms, int64_t next_ms, int64_t now_ms)
{
	return next_ms - MAX(began_ms, now_ms);
}
void hub_stop(struct hub *h);

/* ---- streams (live.c) ------------------------------------------------------------------------------- */

/* A live answer: woken by a topic, a thread of the streams' pool calls `pull`, which reads what is new after the cursor
 * and pushes it.  pull returns 0 (wait for the next wake), 1 (the stream is complete: finish) or -1. */
struct live {
	struct control *c;
	char topic[64];
	int (*pull)(struct live *st, struct db_conn *conn, struct arena *a, struct err *err);
	void (*state_free)(void *state);
	void *state;
	struct http_stream *http;  /* set when started; in the simulator NULL with `sink` set */
	bool (*sink)(void *arg, const char *event, const char *id, struct slice data);
	void *sink_arg;
	struct live_queue *queue; /* live.c's */
	struct hub_listener *listener;
	int refs;
	int64_t look_ms; /* monotonic: to be looked at again by itself */
	bool queued, running, again, closed;
	struct live *next;
};
struct live *live_new(struct control *c, const char *kind, const char *id,
			  int (*pull)(struct live *, struct db_conn *, struct arena *, struct err *), void *state, void (*state_free)(void *));
bool live_push(struct live *st, const char *event, const char *id, struct slice data); /* false: over, stop pulling */
int live_threads_start(struct control *c, int threads, struct err *err) must_check;
void live_threads_stop(struct control *c);
void live_start(struct live *st, struct http_stream *http); /* takes both references */
void live_free(struct live *st);                            /* one never started */

/* ---- who is calling (auth.c, keys.c, session.c) ---------------------------------------------------------- */

/* "Bearer tes_…" -> caller; ERR_UNAUTHENTICATED.  Only reads. */
int auth_key_look(struct control *c, struct db_conn *conn, const char *header, struct arena *a, struct caller *ret, struct err *err) must_check;
/* The same for a request that is served: also notes that the key is used. */
int auth_key(struct control *c, struct db_conn *conn, const char *header, struct arena *a, struct caller *ret, struct err *err) must_check;
int auth_key_split(const char *token, struct arena *a, const char **ret_id, const char **ret_secret) must_check;
void auth_key_make(struct control *c, struct arena *a, struct api_key *ret); /* id, secret, hash */
/* How long a key or a membership that another process has changed may still be honoured here. */
#define KEY_FRESH_MS SECOND_MS
/* A key that was looked up, with its member's role of that moment. */
struct known_key {
	char id[ID_SIZE], org_id[ID_SIZE], user_id[ID_SIZE]; /* user_id "": the organisation's own */
	char hash[SHA256_HEX_SIZE];
	enum role role;
	unsigned scopes;
	int64_t expires_ms, used_ms;
};
struct keys *keys_new(void);
void keys_free(struct keys *k);
/* False: the store is to be asked, and what it says to be put with this time and era: nothing is kept that was read
 * before a change. */
bool keys_find(struct keys *k, const char *id, int64_t monotonic_ms, struct known_key *ret, uint64_t *ret_era);
void keys_put(struct keys *k, const struct known_key *key, int64_t monotonic_ms, uint64_t era);
void keys_empty(struct keys *k);
/* Called inside every transaction that changes or revokes a key, or changes or ends a membership. */
void keys_changed(struct control *c, struct db_conn *conn);
/* Worker sessions live in memory of one process: after its restart workers open new ones. */
struct sessions *sessions_new(void);
void sessions_free(struct sessions *s);
/* false: the worker has a session of that exchange key already, so the request is a copy of an old one. */
bool session_put(struct sessions *s, const char *id, const char *worker_id, const uint8_t exchange_key[static EXCHANGE_SIZE],
		 const uint8_t key[static 32], int64_t expires_ms);
void session_drop_worker(struct sessions *s, const char *worker_id); /* blocked or left */
void sessions_expire(struct sessions *s, int64_t now_ms);
size_t sessions_count(struct sessions *s, const char *worker_id);
#define NONCE_WINDOW 4096 /* nonces below the newest by this much are refused */
struct nonce_window {
	int64_t newest;
	uint64_t seen[NONCE_WINDOW / 64]; /* ring of bits by nonce */
};
bool session_is_live(struct control *c, const char *id); /* NULL: no */
bool nonce_take(struct nonce_window *w, int64_t nonce); /* each once */
/* Checks MAC, time and nonce (nonce_take); fills caller. */
int session_check(struct control *c, const struct http_request *req, struct caller *ret, struct err *err) must_check;

#define LOGINS_AT_ONCE 2 /* passwords being looked at, 64 MiB each */
#define LOGIN_BURST 20 /* logins of one address at its pleasure, */
#define LOGIN_EVERY_MS (6 * SECOND_MS) /* then one each so often */
struct logins *logins_new(void);
void logins_free(struct logins *l);
/* A password may be looked at now, and login_leave follows; or ERR_RATE, and when it may be tried again. */
int login_enter(struct logins *l, const char *peer, const char *email, int64_t now_ms, int64_t *ret_retry_ms, struct err *err) must_check;
void login_leave(struct logins *l, const char *peer, const char *email, bool good);
size_t logins_count(struct logins *l); /* entries: of addresses, and of their guesses */

/* Whether the caller may, by the table; before anything of the input is looked at (call.c). */
int call_authorise(const struct call *call, struct err *err) must_check;

/* ---- idempotency (call.c) -------------------------------------------------------------------------------- */

/* What an Idempotency-Key stands for; its answer, if it was used before (ERR_CONFLICT: for another request); and keeping
 * call->out as its answer (ERR_RETRY: somebody else used the key just now).  Inside the running transaction. */
void call_hash(const struct call *call, char ret[static SHA256_HEX_SIZE]);
int call_replay_find(struct db_conn *conn, struct call *call, const char *hash, bool *ret_found, struct err *err) must_check;
int call_replay_keep(struct control *c, struct db_conn *conn, struct call *call, const char *hash, struct err *err) must_check;

/* ---- events (event.c) ----------------------------------------------------------------------------------- */

/* Appends to the outbox inside the running transaction; the publisher numbers, chains and announces it. */
int event_append(struct control *c, struct db_conn *conn, const char *org_id, const char *actor, const char *subject,
		 const char *kind, const char *reason, const char *text, struct err *err) must_check;
struct event_item { const char *org_id, *actor, *subject, *kind, *reason, *text; };
int events_append(struct control *c, struct db_conn *conn, const struct event_item *items, size_t len, struct err *err) must_check;
const char *caller_actor(const struct caller *caller); /* "us_…", "ak_…", "wk_…", "operator", "anybody" */

/* ---- leases (lease.c, transition.c): the only place that stores a lease ---------------------------------- */

int lease_load(struct db_conn *conn, const char *id, struct arena *a, struct lease *ret, struct err *err) must_check;
/* lease_apply, then everything that follows from it, inside the running transaction: stores the lease, counts up the
 * worker's desired_rev, gives back capacity and device claims, settles and releases the hold, lets the replica retry or
 * end, moves the workload's state, adjusts outcome counts and avoidance, appends the event, wakes who must know.
 * Updates *lease.  ERR_CONFLICT as lease_apply. */
int lease_transition(struct control *c, struct db_conn *conn, struct lease *lease, const struct lease_event *event,
		     const char *actor, struct arena *a, struct err *err) must_check;
/* The same for leases of one worker that lease_apply has moved, all at once. */
struct lease_move {
	struct lease *lease;           /* as it is to be stored */
	unsigned effects;              /* 0: only what is metered has moved (lease_metering_type) */
	const struct lease *before;    /* or NULL: what stands if it cannot be settled, with the others stored all the same */
	const struct receipt *receipt; /* the newest, or NULL */
	bool receipt_replaces;         /* the one that is stored */
	struct err refused;            /* set: why *before stands */
	bool again;                    /* set: its replica waits for another attempt */
};
struct lease_moves {
	struct lease_move **items;     /* each lease once */
	size_t len;
	struct worker *worker;         /* as worker_standing_load reads it; its numbers follow.  Unused without effects */
	bool worker_seen;              /* that it was is stored in any case */
	const char *actor;
};
int lease_moves_store(struct control *c, struct db_conn *conn, const struct lease_moves *m, struct arena *a, struct err *err) must_check;
/* Stores the lease, nothing that follows. */
int lease_store(struct control *c, struct db_conn *conn, struct lease *lease, struct err *err) must_check;
/* New leases for replicas on workers, all or none: claims capacity and devices, moves the holds, inserts, announces.
 * ERR_CONFLICT if capacity or a device is no longer free or a replica no longer pending, ERR_FUNDS if somebody cannot pay;
 * then the transaction is to be given up.  Changes nothing of the plans.  (reserve.c) */
struct lease_plan { const struct workload *workload; const struct replica *replica; const struct placement *placement; };
int leases_reserve(struct control *c, struct db_conn *conn, const struct lease_plan *plans, size_t len, int64_t now_ms, struct arena *a, struct err *err) must_check;
/* Delivered time that so much money, all that was billed included, pays for. */
int64_t lease_funded_by(const struct lease *l, int64_t money_uusd);
/* Settles what is billable now; pauses or renews as the money allows (metering.c calls it on its timer). */
int lease_settle(struct control *c, struct db_conn *conn, struct lease *lease, int64_t now_ms, struct arena *a, struct err *err) must_check;
/* And those that have ended, for good. */
int leases_settle_last(struct control *c, struct db_conn *conn, struct lease *const *leases, size_t len, int64_t now_ms, struct arena *a, struct err *err) must_check;
/* Tells the worker again (more is funded, say) without a change of state, and stores the lease. */
int lease_desired_push(struct control *c, struct db_conn *conn, struct lease *lease, struct err *err) must_check;
/* The lease as its worker is to have it, with secrets. */
int lease_desired_fill(struct control *c, struct db_conn *conn, const struct lease *lease, struct arena *a, struct desired_lease *ret, struct err *err) must_check;

/* ---- receipts (api/receipts.c) ---------------------------------------------------------------------------- */

#define LEASE_MISSING "there is no lease %s"
/* Something that a worker should not have said, kept; lease_id may be NULL. */
int evidence_add(struct control *c, struct db_conn *conn, const char *worker_id, const char *lease_id, const char *kind,
		 const char *text, const char *payload, struct err *err) must_check;
/* A receipt's content; one that is not the worker's, or makes no sense, is evidence.  -1 only if the store fails. */
int receipt_read(struct control *c, struct db_conn *conn, const struct worker *w, const struct signed_usage *r, struct arena *a,
		 struct usage *ret, bool *ret_good, struct err *err) must_check;
/* It against its lease (NULL: there is none): taken into it, with *ret the row to be kept, or a repeat, or evidence. */
int receipt_take(struct control *c, struct db_conn *conn, const struct worker *w, const struct signed_usage *r,
		 const struct usage *u, struct lease *lease, struct arena *a, const struct receipt **ret, struct err *err) must_check;

/* ---- workloads (workload.c) ------------------------------------------------------------------------------- */

int workload_load(struct db_conn *conn, const char *org_id /* NULL: any */, const char *id_or_prefix_or_name, struct arena *a, struct workload *ret, struct err *err) must_check;
/* The same with what the running lease has cost up to now; for answers, not to be stored.  One statement. */
int workload_show(struct db_conn *conn, const char *org_id, const char *ref, struct arena *a, struct workload *ret, struct err *err) must_check;
int workload_set_state(struct control *c, struct db_conn *conn, struct workload *w, enum workload_state state,
		       const char *reason, const char *text, const char *actor, struct err *err) must_check;
/* Stops what is not at its end (api/workloads.c); w is as it stands then. */
int workload_stop(struct control *c, struct db_conn *conn, struct workload *w, const char *actor, struct arena *a, struct err *err) must_check;
/* The specification with its secrets is sealed apart from the row that everybody reads. */
bool workload_spec_has_secrets(const struct workload_spec *spec);
int workload_spec_seal(struct control *c, struct db_conn *conn, const char *workload_id, const struct workload_spec *spec, struct arena *a, struct err *err) must_check;
int workload_spec_open(struct control *c, struct db_conn *conn, const char *workload_id, struct arena *a, struct workload_spec *ret, struct err *err) must_check;
/* For how much running money is held ahead: config's, or the whole of a shorter job. */
int64_t hold_duration_ms(const struct control *c, const struct workload_spec *spec);
/* What is held for that time: at least the smallest unit, unless it is free of charge. */
int64_t hold_amount(int64_t rate_uusd_h, int64_t ms);
/* What the planner is asked for a replica of w.  `like`, or NULL: that of another workload which avoids the same workers,
 * as all of one organisation do that have not been placed yet. */
int request_of(struct control *c, struct db_conn *conn, const struct workload *w, const struct request *like, int64_t now_ms,
	       struct arena *a, struct request *ret, struct err *err) must_check;

struct submissions *submissions_new(void);
void submissions_free(struct submissions *s);
/* ERR_RATE if the organisation may not have so many more active workloads; else they are expected (active.c). */
struct actives *actives_new(void);
void actives_free(struct actives *s);
int active_take(struct control *c, struct db_conn *conn, const char *org_id, int64_t more, struct err *err) must_check;

/* The id of an event of a stream of logs (api/logs.c). */
int log_place_parse(const char *text, int64_t *ret_generation, int64_t *ret_offset) must_check;

/* ---- workers (api/join.c) ----------------------------------------------------------------------------------- */

int worker_load(struct db_conn *conn, const char *id, struct arena *a, struct worker *ret, struct err *err) must_check;
/* The same of worker_standing_type's columns only. */
int worker_standing_load(struct db_conn *conn, const char *id, struct arena *a, struct worker *ret, struct err *err) must_check;
int worker_inventory_take(struct control *c, struct worker *w, const struct inventory *inv, struct err *err) must_check;
int worker_devices_store(struct db_conn *conn, const char *worker_id, const struct inventory *inv, struct err *err) must_check;

/* ---- heartbeats of idle workers (heartbeats.c) --------------------------------------------------------------- */

/* How far the stored time of being seen may lie behind the true one while a worker is idle: that an idle one is gone is
 * noticed up to so much later. */
static inline int64_t seen_lag_ms(const struct control *c)
{
	return c->config.silent_after_ms;
}
struct heartbeats *heartbeats_new(void);
void heartbeats_free(struct heartbeats *h);
size_t heartbeats_count(struct heartbeats *h); /* workers that are in memory */
/* The worker is heard.  True: the store has said a moment ago that this process of it is online and has no lease.  Else it
 * is to be asked, and what it says to be kept with this era: nothing is kept that was read before a change. */
bool heartbeat_find(struct control *c, const char *worker_id, const char *boot_id, int64_t now_ms, int64_t *ret_desired_rev, uint64_t *ret_era);
void heartbeat_keep(struct control *c, const char *worker_id, const char *boot_id, int64_t asked_ms, int64_t desired_rev, int64_t seen_ms, uint64_t era);
/* Called inside every transaction that changes a worker's state, process or desired_rev, and of every heartbeat that is
 * not answered quietly. */
void heartbeat_changed(struct control *c, struct db_conn *conn, const char *worker_id);
/* Stores when they were heard, and asks about them again; of each tesd for its own. */
int heartbeats_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err) must_check;

/* ---- scheduler (scheduler.c) ------------------------------------------------------------------------------- */

struct scheduler *scheduler_new(void);
void scheduler_free(struct scheduler *s);
/* Something about this worker changed in the store (after commit). */
void scheduler_dirty(struct control *c, struct db_conn *conn, const char *worker_id);
/* Reads of the pool for the API, under its lock, at most a second old. */
int scheduler_offers(struct control *c, struct db_conn *conn, const struct offer_query *q, struct arena *a, struct offer_page *ret, struct err *err) must_check;
int scheduler_explain(struct control *c, struct db_conn *conn, const struct request *r, struct arena *a, struct explanation *ret, struct err *err) must_check;
size_t scheduler_sums(struct control *c, struct arena *a, struct pool_sum **ret);
int scheduler_best(struct control *c, struct db_conn *conn, const struct request *r, struct placement *ret, bool *ret_found, struct err *err) must_check;

/* ---- what waits (waiting.c) -------------------------------------------------------------------------------- */

struct waiting *waiting_new(void);
void waiting_free(struct waiting *w);
/* The workload of each of these pending replicas, read together with them or kept from before; until the next call. */
int waiting_find(struct waiting *w, struct db_conn *conn, const struct replica *replicas, size_t len, struct arena *a,
		 const struct workload ***ret, struct err *err) must_check;

/* ---- duties ---------------------------------------------------------------------------------------------- */

/* Leadership through the store: 0 and *ret_leads; the epoch fences. */
int leader_check(struct control *c, struct db_conn *conn, const char *role, int64_t now_ms, bool *ret_leads, struct err *err) must_check;
bool leader_was(struct control *c, const char *role); /* at its last check; of the duty's own thread */
int leader_take_over(struct db_conn *conn, struct err *err) must_check;
int leader_release(struct control *c, struct db_conn *conn, struct err *err) must_check;
void event_hash(const struct event *e, char ret[static SHA256_HEX_SIZE]);
/* After the step for one row failed: false if the store itself does not answer, which ends the round; else that row is
 * logged, counted and left for the next round, and does not hold up those behind it. */
bool duty_passes_over(struct control *c, const char *duty, const char *id, struct err *err);

int scheduler_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err);
int metering_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err);
int faults_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err);
int publisher_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err);
int retention_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err);

/* ---- HTTP face (serve.c), metrics (metrics.c), operator's commands (admin.c) -------------------------------- */

int serve_start(struct control *c, struct err *err) must_check;
void serve_stop(struct control *c);
struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);
int metrics_write(struct control *c, struct db_conn *conn, struct strbuf *out, struct err *err) must_check; /* Prometheus text format 0.0.4 */
/* Counts "lease_transitions_total" and so on: within a transaction of conn (or NULL: there is none) once it is committed. */
void metrics_count(struct control *c, struct db_conn *conn, const char *name, int64_t add);
void metrics_count_label(struct control *c, struct db_conn *conn, const char *name, const char *label, const char *value, int64_t add);
/* `tesd admin …`: argv[0] is the first word after "admin". */
int admin_main(struct control *c, struct db_conn *conn, int argc, char **argv);
extern const char admin_help[];
int join_token_make(struct control *c, struct db_conn *conn, const char *org_id, int64_t ttl_ms, const char *actor,
		    struct arena *a, struct join_token *ret, struct err *err) must_check;
void scopes_all(struct arena *a, struct text_list *ret);

/* ---- handlers ----------------------------------------------------------------------------------------------- */

typedef int operation_fn(struct control *c, struct db_conn *conn, struct call *call, struct err *err);
#define OPERATION(name, fn, method, path, in, out, role, scope, flags, summary) operation_fn op_##fn;
#include "../api/operations.def"
#undef OPERATION

#endif
