/* control: tesd.  Binds the table of operations to handlers, runs the duties, owns the process.
 *
 * Everything takes its clock and its randomness from `struct control`, its store from a connection: the simulator drives
 * the same code with its own.  HTTP is one face (serve.c); control_call is what is behind it.
 */
#ifndef TES_CONTROL_H
#define TES_CONTROL_H

#include "../api/api.h"
#include "../base/base.h"
#include "../blob/blob.h"
#include "../db/db.h"
#include "../model/model.h"

/* tesd.conf; see config.c for the keys, their meaning, defaults and limits. */
struct control_config {
	/* [server] */
	const char *listen_address, *public_url, *tls_cert, *tls_key;
	int64_t listen_port, threads, queue_max, connections_max, connections_per_address_max;
	const char *metrics_token;
	bool trust_forwarded, production; /* production: refuses simulated workers */
	/* [store] */
	const char *database, *blobs, *secret_key_file;
	/* [log] */
	int log_format, log_level;
	/* [network] */
	int64_t fee_ppm, quote_ttl_ms, reservation_ttl_ms, hold_ms, settle_interval_ms, pause_keep_ms, funds_warn_ms;
	int64_t heartbeat_ms, silent_after_ms, grace_ms;
	/* [limits] */
	int64_t logs_max_bytes, results_max_bytes, inputs_max_bytes, logs_keep_ms, results_keep_ms, inputs_keep_ms;
	int64_t workloads_active_max; /* per organisation */
};
int control_config_load(const char *path, struct arena *arena, struct control_config *ret, struct err *err) must_check;
void control_config_print(struct strbuf *out); /* deploy/tesd.conf */

struct control;
/* The store must be migrated.  Clock and randomness are borrowed. */
int control_open(const struct control_config *config, const struct clock *clock, const struct random *rnd, struct db *db,
		 struct blob_store *blobs, struct control **ret, struct err *err) must_check;
void control_close(struct control *c);

/* ---- one operation --------------------------------------------------------------------------------- */

enum caller_kind { CALLER_NOBODY, CALLER_KEY, CALLER_WORKER, CALLER_OPERATOR };
struct caller {
	enum caller_kind kind;
	const char *org_id, *user_id, *key_id, *worker_id, *session_id;
	enum role role;
	unsigned scopes;
	const char *peer, *request_id;
};
struct live; /* a live answer; see live.c */
struct call {
	const struct operation *op;
	struct caller caller;
	const char *params[4];      /* of the path, in order */
	const void *in;             /* of op->in */
	const char *idempotency_key;
	/* OP_UPLOAD: the spooled body; the handler moves it away or leaves it. */
	const char *body_path;
	int64_t body_size;
	const uint8_t *body_sha256;
	const char *header_range, *last_event_id;
	bool wants_stream;          /* follow=true or Accept: text/event-stream */
	int64_t age_ms;             /* how long it has been here when the handler begins */
	struct arena *arena;
	/* answer: one of */
	void *out;                  /* of op->out, zeroed, made by control_call */
	int file_fd;                /* OP_FILE: > 0, taken by the caller, with file_size and file_etag */
	int64_t file_size;
	const char *file_etag, *file_name;
	struct live *stream;      /* OP_STREAM: to be started by the face, or freed */
	bool replayed;              /* the answer of an earlier call with the same idempotency key, in replay_body */
	const char *replay_body;
	int64_t retry_ms;           /* refused for now (ERR_RATE): when to come again; 0: soon */
};
/* By the table: may this caller do this at all? */
int control_authorise(const struct call *call, struct err *err) must_check;
/* Authorises, settles idempotency, runs the handler. */
int control_call(struct control *c, struct db_conn *conn, struct call *call, struct err *err) must_check;

/* ---- duties ---------------------------------------------------------------------------------------- */

/* One round of one duty at now_ms: bounded work, each step its own transaction.  *ret_next_ms: when to come again at the
 * latest (earlier if woken).  A failed round has changed nothing that is not consistent, and is tried again. */
struct duty {
	const char *name;
	int64_t gather_ms; /* what wakes it so soon after its last round began is answered together (hub_wait_duty) */
	int (*round)(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err);
};
extern const struct duty duties[];
extern const size_t duty_count;

/* ---- the process ------------------------------------------------------------------------------------ */

int control_main(int argc, char **argv); /* tesd */

#endif
