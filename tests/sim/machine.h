/* A provider's machine: its containers, its disk, and the worker process that comes and goes on it. */
#ifndef TES_SIM_MACHINE_H
#define TES_SIM_MACHINE_H

#include "sim.h"

#include "../../src/worker/internal.h"

struct container {
	struct truth *truth;
	int64_t generation;
	enum container_state state;
	int64_t created_ms, started_ms,
		finished_ms; /* by the machine's clock, as the engine tells them */
	int64_t exit_code;
	bool lost; /* ended with the machine */
	int64_t work_ms, work_exit,
		ready_after_ms; /* what it will do; work_ms < 0: it never ends by itself */
	unsigned serial;	/* of its timers */
};

/* One lease in the worker process, as lease_thread.c has it. */
struct task {
	struct machine *m;
	char id[ID_SIZE];
	struct arena arena; /* of the journal; begun anew with each wish */
	struct journal j;
	struct desired_box *next;
	struct container_status status;
	bool status_known;
	int64_t seen_ms, saved_ms;
	bool busy; /* a step that lasts is under way */
	unsigned serial, busy_serial;
	char phase[32];
	int64_t progress_done;
	int64_t receipt_next, receipt_sent_ms, receipt_delivered_ms;
	bool final_told;
	int64_t log_seq; /* acknowledged */
	bool log_cut, log_busy, log_done;
	int64_t results_sent;
	size_t inputs_got;
	bool finished;
};
/* What of a lease is on disk. */
struct saved {
	struct arena arena;
	struct journal j;
	int64_t log_seq;
	bool log_cut;
};

struct machine {
	int number, node;
	char id[ID_SIZE], name[24];
	uint8_t pk[SIGN_PUBLIC_SIZE], sk[SIGN_SECRET_SIZE];
	int64_t skew_ms; /* of its clock */
	/* what outlives the process */
	struct map *containers; /* lease -> struct container */
	struct map *disk;	/* lease -> struct saved */
	int64_t heard_saved_ms;
	int intent;
	bool blocked; /* by the operator, who may not have done it yet */
	struct device devices[4];
	char uuids[4][40];
	int device_count, devices_shown;
	int64_t cpu_milli, memory_mib, price_gpu_uusd_h, price_cpu_uusd_h;
	/* the process */
	bool up;
	unsigned epoch; /* counts processes: what was begun by an older one is dropped */
	char boot_id[ID_SIZE];
	char session[ID_SIZE]; /* empty: none */
	bool session_busy;
	int64_t offset_ms; /* of the server's clock against ours */
	struct map *tasks; /* lease -> struct task */
	int64_t desired_rev, heard_ms, heartbeat_ms;
	bool synced, dirty, observing, inventory_due;
	unsigned observe_serial;
	int64_t observe_backoff_ms, stream_backoff_ms, behind_ms;
	struct stream *stream;
	char stream_mark[48];
	bool stream_opening;
	int64_t up_ms; /* when the process started */
	int deaths_due; /* of a crash loop */
};

/* machine.c */
extern struct machine machines[];
int64_t machine_clock(const struct machine *m); /* wall clock */
struct container *container_find(struct machine *m, const char *lease);
struct container *container_create(struct machine *m, const struct desired_lease *d);
void container_start(struct machine *m, struct container *c);
void container_pause(struct machine *m, struct container *c, bool resume);
void container_end(struct machine *m, struct container *c, int64_t exit_code);
void container_remove(struct machine *m, const char *lease);
void container_status_get(struct machine *m, const char *lease, struct container_status *ret);
void machine_kill_process(struct machine *m, const char *why); /* and starts it again later */
/* True with chance: the process dies here. */
bool machine_dies(struct machine *m);
struct saved *machine_save(struct machine *m, const struct task *t);
void machine_forget(struct machine *m, const char *lease);

/* process.c */
void process_start(struct machine *m);
void process_end(struct machine *m);
void process_observe_soon(struct machine *m);
void process_inventory_changed(struct machine *m);
void inventory_fill(struct machine *m, struct inventory *ret);
/* A call in the process's session, which is opened where there is none. */
struct rpc *process_rpc(struct machine *m, int op,
			void (*done)(struct rpc *, const struct err *, struct slice),
			void *arg);
void process_call(struct machine *m, struct rpc *r);
/* The answer to r: its session has ended there. */
void process_session_refused(struct machine *m, const struct rpc *r);

/* task.c */
void task_recover(struct machine *m, const char *lease, const struct saved *saved);
void tasks_desire(struct machine *m, const struct desired_set *set);
void tasks_desire_one(struct machine *m, const struct desired_lease *d);
void task_free(void *task);
void task_wake(struct task *t);
struct task *task_find(struct machine *m, const char *lease);
bool task_observe(struct task *t, struct arena *a, struct lease_observation *ret);
bool task_receipt(struct task *t, struct arena *a, struct signed_usage *ret, bool *ret_final);

/* task_act.c */
void task_act(struct task *t, const struct lease_decision *d);
void task_pump(struct task *t); /* carries output on */
void task_save(struct task *t);
void task_step_in(struct task *t, int64_t ms);

#endif
