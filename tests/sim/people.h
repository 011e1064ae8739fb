/* Customers, and what owners and the operator do. */
#ifndef TES_SIM_PEOPLE_H
#define TES_SIM_PEOPLE_H

#include "sim.h"

#include "../../src/api/api.h"

enum job_state { JOB_ASKED, JOB_MADE, JOB_REFUSED };
struct job {
	struct customer *customer;
	char key[24], workload[ID_SIZE], input[ID_SIZE];
	char *spec;
	enum job_state state;
	int64_t stop_after_ms; /* after it was made; -1: never */
	int64_t stop_told_ms;  /* when the server had taken the stop */
	int64_t work_ms, exit_code;
	bool remove_asked;
};
#define CUSTOMER_MAX 16
struct customer {
	int number, node;
	char org[ID_SIZE];
	int64_t pace_ms, deposits;
	struct resources quoted;
	VEC(struct job *) jobs;
	struct stream *stream;
	char mark[48];
	int64_t seen_seq, seen_count; /* of its events */
};
extern struct customer customers[];

/* A call with no faults and no delay; -1 is a broken history. */
int quiet_call(int op, const char *caller, const struct type *in_type, const void *in,
	       struct arena *a, void *ret);

bool is_poor(void);
int64_t sum_choose(void); /* of money, for a deposit */

/* owners.c */
int owners_join(void);
void owners_start(void);
void owners_calm(void);

#endif
