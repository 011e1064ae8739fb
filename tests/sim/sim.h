/* sim: the real control plane under a virtual clock, with simulated machines, people and faults.
 *
 * One process runs one history at a time, on one thread; `sim` is its whole state.  Everything that happens is a
 * timer's function, run in the order of time (and of setting, where times are equal).  All chance comes from generators
 * seeded by the history's number, each for one purpose, so that one number gives one history, byte for byte; what
 * happens is written down by note(), and the SHA-256 of that text names the history.
 */
#ifndef TES_SIM_H
#define TES_SIM_H

#include "../../src/base/base.h"
#include "../../src/codec/codec.h"
#include "../../src/model/model.h"

#include <sys/types.h>

/* ---- what is asked for ------------------------------------------------------------------------------ */

/* clang-format off */
#define FAULTS(F) \
	F(LOSS, "loss", "messages lost, requests and answers") \
	F(DUP, "dup", "messages doubled") \
	F(DELAY, "delay", "messages late, and so out of order") \
	F(PARTITION, "partition", "an end cut off from the server") \
	F(STREAM, "stream", "streams of events broken") \
	F(CRASH, "crash", "server killed at a statement or commit") \
	F(DOWNTIME, "downtime", "server stopped in order, and away for a while") \
	F(STORE, "store", "statements and commits that the store refuses") \
	F(RACE, "race", "requests served between two transactions of a duty") \
	F(PROCESS, "process", "worker process killed, its containers run on") \
	F(LOOP, "loop", "worker process that ends soon after each start, so many times in a row") \
	F(REBOOT, "reboot", "machine restarted, its containers end") \
	F(SKEW, "skew", "clocks of workers that are off") \
	F(PREPARE, "prepare", "images that cannot be pulled, or not in time") \
	F(OWNER, "owner", "drain, pause, other prices, devices taken away, blocked") \
	F(LIAR, "liar", "receipts and observations that are not true")
/* What else the faults came to, counted to show that it really happens. */
#define HAPPENINGS(H) \
	H(KILL_STATEMENT, "server killed at a statement") \
	H(KILL_BEFORE, "server killed before a commit took effect") \
	H(KILL_AFTER, "server killed after a commit took effect") \
	H(FAIL_STATEMENT, "statements that failed") \
	H(FAIL_COMMIT, "commits that failed") \
	H(FAIL_UNKNOWN, "commits of unknown outcome") \
	H(DIE_STEP, "worker killed between two steps") \
	H(DIE_CHANCE, "worker killed at any time") \
	H(REQUEST_ORDER, "requests out of order") \
	H(SESSION_ORDER, "sessions that a process asked for, opened after its successor's") \
	H(ANSWER_ORDER, "answers out of order") \
	H(REQUEST_OLD, "requests too late to be taken") \
	H(ANSWER_LATE, "answers later than anybody waits") \
	H(CUT_SHORT, "short partitions") \
	H(CUT_LONG, "partitions of a minute and more") \
	H(SLOW, "networks of one node that were slow for a while")
#define BREAKS(B) \
	B(GENERATION, "generation", "observations of another generation are believed") \
	B(BILL_TWICE, "bill-twice", "each charge is posted twice") \
	B(NO_HOLD, "no-hold", "leases start without money held for them") \
	B(EARLY_RELEASE, "early-release", "capacity is given back when a lease is told to stop") \
	B(EARLY_ANNOUNCE, "early-announce", "events are written apart from what they tell of") \
	B(NO_FENCE, "no-fence", "a worker that is cut off does not end its leases") \
	B(RERUN, "rerun", "a worker that restarts runs its leases again") \
	B(RECEIPT_ORDER, "receipt-order", "older receipts replace newer ones") \
	B(UNSIGNED, "unsigned", "signatures of receipts are not checked") \
	B(NO_GRACE, "no-grace", "a silent worker's leases are given up at once") \
	B(LOG_APPEND, "log-append", "output is appended without looking where") \
	B(IDEMPOTENCY, "idempotency", "idempotency keys are forgotten") \
	B(LEAK, "leak", "capacity of ended leases is not given back") \
	B(UNFUNDED, "unfunded", "a worker does not pause at the end of what is paid for") \
	B(DEAF_STOP, "deaf-stop", "a worker ignores that it is told to stop") \
	B(OLD_SESSION, "old-session", "a worker that is told that another process runs does not open a new session") \
	B(NO_REASON, "no-reason", "leases end and do not say why") \
	B(NO_CLAIM, "no-claim", "devices are not claimed for the lease that gets them") \
	B(CHAIN, "chain", "the publisher numbers events in an order of its own")
/* clang-format on */

enum fault {
#define F(name, word, text) FAULT_##name,
	FAULTS(F)
#undef F
		FAULT_COUNT
};
enum happening {
#define H(name, text) HAPPENED_##name,
	HAPPENINGS(H)
#undef H
		HAPPENED_COUNT
};
enum breakage {
	BREAK_NONE,
#define B(name, word, text) BREAK_##name,
	BREAKS(B)
#undef B
		BREAK_COUNT
};
extern const char *const fault_words[], *const fault_texts[], *const happening_texts[],
	*const break_words[], *const break_texts[];

struct options {
	uint64_t seed;
	int64_t duration_ms; /* of the time with faults */
	int machines, customers;
	unsigned faults; /* bits by enum fault */
	enum breakage broken;
	const char *
		store; /* NULL: SQLite in memory; else a PostgreSQL URL whose schema "public" is replaced */
	bool trace;
};

/* What a history came to; in memory that parent and child share. */
struct totals {
	int64_t simulated_ms, steps, commits, calls, leases, ran, workloads, transfers, events,
		lines, results, retries;
	int64_t audits, checks, refused_devices;
	int64_t faults[FAULT_COUNT], happened[HAPPENED_COUNT], ends[REASON_RESUMED + 1];
};
struct outcome {
	struct totals totals;
	bool done, failed;
	int64_t failed_ms;
	char check[40], failure[700], digest[SHA256_HEX_SIZE];
};

/* ---- the history ------------------------------------------------------------------------------------- */

struct rng {
	uint64_t state;
};
uint64_t rng_next(struct rng *r);
int64_t rng_in(struct rng *r, int64_t low, int64_t high); /* both ends included */
bool rng_chance(struct rng *r, int64_t ppm);
struct random sim_random(void); /* for ids that are not the server's */

#define DIR_SIZE 96
struct sim {
	struct options o;
	int64_t now_ms, start_ms;
	bool calm; /* no more faults */
	bool over; /* people do nothing any more */
	struct rng life, net, luck,
		ids; /* what people do, what the network does, what breaks, the server's own */
	int64_t rate_ppm[FAULT_COUNT]; /* of this history; 0: this kind does not happen */
	struct outcome *out;
	char dir[DIR_SIZE];
};
extern struct sim sim;

/* Where the process of a history keeps what it must: in memory, if that is to be had. */
void history_dir(pid_t pid, char ret[static DIR_SIZE]);
void history_run(const struct options *o, struct outcome *out);

/* Set a timer.  `arg` is the function's to free. */
void at(int64_t at_ms, void (*fn)(void *arg), void *arg);
/* Takes out the next timer of this function that is due by then; false if there is none. */
bool timer_steal(void (*fn)(void *arg), int64_t by_ms, void **ret_arg);
void note(const char *fmt, ...) printf_like(1, 2);
/* A checker found something: the history ends here. */
void broken(const char *check, const char *fmt, ...) printf_like(2, 3);
/* Does this kind of fault strike now, at `ppm` times its rate in this history?  Counts it. */
bool strikes(enum fault f, struct rng *r, int64_t ppm);
void happened(enum happening h);
bool is_broken(enum breakage b);
/* How many times as many machines as a plain history has: what is drawn once for all of them is drawn so often, and what
 * is asked by all of them is asked less often. */
int sim_scale(void);

/* ---- the network (net.c) ------------------------------------------------------------------------------- */

enum { NODE_OPERATOR, NODE_FIRST }; /* then customers, then machines */
#define MACHINES_MAX 100000
#define NODE_MAX     (MACHINES_MAX + 32)
int node_of_customer(int i);
int node_of_machine(int i);
void net_start(void);
bool net_is_cut(int node);
void net_slow(int node, int64_t ms); /* for so long, each message is late, and so most are out of order */
void net_heal(void);

/* A call from a node to the server.  Exactly one of its answers, or a time-out, is told to `done`, unless the caller's
 * *epoch_now has moved on from `epoch` (it has crashed). */
struct rpc {
	int op; /* enum operation_id */
	int node;
	bool is_worker;
	char caller[ID_SIZE]; /* organisation or worker; empty: nobody */
	char *params[2], *body, *key, *last_event_id, *upload;
	size_t upload_len;
	char session[ID_SIZE]; /* in which it is asked; workers only */
	void (*done)(struct rpc *r, const struct err *err, struct slice answer);
	void *arg;
	const unsigned *epoch_now;
	unsigned epoch;
	bool quiet; /* setting up: no faults, no delay */
	int64_t sent_ms, number; /* number: in the order of sending */
	bool settled;
	int refs;
};
struct rpc *rpc_new(int op, int node, const char *caller, bool is_worker);
/* Body from a described value, with its secrets. */
struct type;
void rpc_body(struct rpc *r, const struct type *t, const void *value);
void net_call(struct rpc *r);			       /* takes it */
void rpc_refuse(struct rpc *r, const struct err *err); /* takes it, and answers at once */

/* One connection of an event stream.  The server's end pushes; the client's end is told in order, until it breaks. */
struct stream {
	size_t place, open_place; /* among all, and among those that the server has open */
	int node;
	unsigned id;
	void (*event)(void *arg, unsigned id, const char *event, const char *mark,
		      struct slice data);
	void (*closed)(void *arg, unsigned id);
	void *arg;
	void *live, *listener; /* the server's */
	bool gone, pull_set, told;
	int refs;
	int64_t open_ms; /* when the server had opened it; 0: not yet */
	int64_t last_ms; /* when the last that was pushed arrives */
};
/* Opens the stream of operation r->op; `r->done` tells an error only. */
struct stream *net_stream(struct rpc *r,
			  void (*event)(void *, unsigned, const char *, const char *,
					struct slice),
			  void (*closed)(void *, unsigned), void *arg);
void stream_push(struct stream *s, const char *event, const char *mark, struct slice data);
void stream_break(struct stream *s,
		  int64_t noticed_ms); /* from either side; the client notices after so long */
void stream_unref(struct stream *s);

/* ---- the server (server.c) -------------------------------------------------------------------------------- */

struct db;
struct db_conn;
int server_start(void);
void server_stop(void); /* at the end */
bool server_is_up(void);
bool server_has_session(const char *id);
/* Runs one call.  -1: `err`; an answer that a crash cut off is ERR_UNAVAILABLE. */
int server_call(struct rpc *r, struct strbuf *answer, struct err *err);
int server_stream(struct rpc *r, struct stream *s, struct err *err);
void server_stream_drop(struct stream *s);
void server_calm(void); /* up, and faults over */
struct control;
/* The operator's own commands, on the store: made again until they are done. */
int operator_deposit(const char *org, int64_t number, int64_t amount, struct err *err);
int operator_command(int argc, const char *const *argv);
struct db_conn *checker_conn(void);
void checker_begin(void); /* statements between these never fail */
void checker_end(void);
extern bool server_in_duty;
/* What has been written since the last check, as far as checkers care. */
enum { WROTE_ACCOUNTS = 1, WROTE_LEASES = 2, WROTE_CAPACITY = 4, WROTE_ANYTHING = 7 };
extern unsigned server_wrote;
extern bool server_write_explained; /* this one is of leases that check_lease_changed was told of */
void server_serve_between(void); /* from a duty, between two transactions */
struct blob_store;
struct blob_store *server_blobs(void);
const struct control_config *server_config(void);
void duty_woken(const char *name);

/* ---- machines (machine.c, process.c, lease.c) -------------------------------------------------------------- */

/* What really happened to a lease on its machine, whatever anybody says of it. */
struct truth {
	char lease[ID_SIZE];
	int machine;
	int starts;
	bool running, live, exited, killed;
	int64_t run_ms,
		since_ms; /* running, without pauses: up to since_ms, and since then if it runs */
	int64_t ready_ms; /* of run_ms when it became ready; -1: it did not */
	int64_t exit_code, ended_ms;
	int64_t lines; /* written, when it ended */
	int64_t line_every_ms;
	int64_t results;
	int64_t funded_ms; /* the most that the server told */
	int64_t max_duration_ms;
	int64_t hush_ms;     /* since then its worker process knows that it is not to run; 0: it may */
	unsigned hush_epoch; /* that process */
	bool delivered; /* the worker had all output and results acknowledged */
	const char *devices[8];
	int device_count;
	const struct seen *seen; /* the checkers', once it has run */
	size_t run_index;	 /* among those that run */
};
struct truth *truth_find(const char *lease);
struct truth *truth_get(const char *lease, int machine);
bool truth_next(size_t *it, struct truth **ret);
void truths_running(struct truth *const **ret, size_t *ret_len);
struct truth *truth_started(void); /* began to run since the last time; NULL: none more */
void truths_free(void);
int64_t truth_run_ms(const struct truth *t);
int64_t truth_lines(const struct truth *t);
#define LINES_MAX 60
void line_text(const char *lease, int64_t seq, char buf[static 80]);
void result_text(const char *lease, int64_t n, char buf[static 160]);

void machines_start(void);
void machines_calm(void); /* all up, all open */
void machines_free(void);
const char *machine_id(int i);
bool machine_is_up(int i);		/* its process */
unsigned machine_epoch(int i);		/* counts its processes */
int64_t machine_down_ms(int i);		/* when its process was last seen down; now, if it is */
bool machine_is_cut(int i, int64_t ms); /* from the server, at some time in the last ms */
bool machine_is_told(int i, int64_t ms); /* its stream has been open for ms, and nothing in it is on its way */
const char *machine_boot(int i);
const char *machine_session(int i); /* empty: none */
const uint8_t *machine_key(int i); /* ed25519 secret */
/* Leases that the process has and that have not ended there. */
bool machine_has(int i, const char *lease);
/* The wish that the process knows of a lease that it has, and whether it has done all that it can for it. */
bool machine_wish(int i, const char *lease, int *ret_desired, bool *ret_ready);
void machine_join(int i, const char *worker);
int machine_find(const char *worker); /* -1: none */
size_t machine_lease_count(int i);

/* ---- people (people.c, liar.c) ------------------------------------------------------------------------------ */

int people_setup(void); /* organisations, money, machines joined */
void people_start(void);
void people_calm(void); /* finish what was begun */
void people_stop_all(void);
bool people_idle(void);
void people_free(void);
void people_check(void);
const char *customer_org(int i);
const char *provider_org(void);
void liar_start(void);
void liar_check(void);

/* ---- checkers (check.c, check_end.c) ------------------------------------------------------------------------- */

void check_start(void);
void check_lease_changed(const char *id);
extern bool truths_disturbed; /* what runs may be wrong sooner than was thought: all that run are looked at */
void check_step(void);	/* after each step in which something was committed */
void check_audit(void); /* everything that can be said at any time */
void check_converged(bool again); /* again: what disagrees now and did before is broken */
void check_end(void);
void check_free(void);

#endif
