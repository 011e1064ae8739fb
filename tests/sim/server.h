/* The server's inside: what runs it (server.c) and what is asked of it (serve.c). */
#ifndef TES_SIM_SERVER_H
#define TES_SIM_SERVER_H

#include "sim.h"

#include "../../src/control/internal.h"

#define DUTY_MAX 8

struct server {
	struct control_config config;
	struct db *db;
	struct db_conn *conns
		[2]; /* of a call or duty, and of calls between the transactions of a duty */
	struct db_conn *checks;
	struct blob_store *blobs;
	struct control *control;
	unsigned incarnation;
	bool crashing; /* killed: no statement succeeds until the stack has unwound */
	int depth;     /* of calls */
	bool checking;
	struct {
		int64_t due_ms;
		unsigned serial;
		int failures;
	} duties[DUTY_MAX];
	VEC(struct stream *) streams; /* open */
	char secret_path[128];
};
extern struct server server;

/* Around all that runs inside of it: a crash takes effect once nobody is inside any more. */
void server_enter(void);
void server_leave(void);

#endif
