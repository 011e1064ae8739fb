/* api: the table of operations: what the public interface is.  REST, the command line, the worker and OpenAPI read it;
 * control/ binds a handler to each row, cli/ and worker/ call rows by name.  No I/O.
 */
#ifndef TES_API_H
#define TES_API_H

#include "../base/base.h"
#include "../model/model.h"
#include "../schema/schema.h"

enum operation_method { GET, POST, PUT, DELETE };
enum operation_flags {
	OP_PUBLIC = 1 << 0,     /* needs no key (one is honoured if sent) */
	OP_WORKER = 1 << 1,     /* a worker's session; nobody else */
	OP_IDEMPOTENT = 1 << 2, /* honours the header Idempotency-Key: one effect, the same answer */
	OP_CREATED = 1 << 3,    /* 201 */
	OP_STREAM = 1 << 4,     /* may answer text/event-stream */
	OP_FILE = 1 << 5,       /* answers bytes */
	OP_UPLOAD = 1 << 6,     /* takes bytes */
	OP_SECRETS = 1 << 7,    /* its output carries secrets, to the one who needs them */
	OP_OWN_TX = 1 << 8,     /* the handler opens its own transaction, if any, after what needs none */
	OP_ONE_READ = 1 << 9,   /* a GET that asks the store once: one statement is a snapshot by itself */
};

/* Every operation by a number, in the order of the table. */
enum operation_id {
#define OPERATION(name, fn, method, path, in, out, role, scope, flags, summary) OP_##fn,
#include "operations.def"
#undef OPERATION
	OPERATION_COUNT
};

struct operation {
	enum operation_id id;
	const char *name;
	enum operation_method method;
	const char *path;
	const struct type *in, *out;
	enum role role;      /* the least role that may; ROLE_NONE with OP_PUBLIC or OP_WORKER */
	unsigned scope;      /* the key needs it; 0: any key */
	unsigned flags;
	const char *summary;
};
extern const struct operation operations[OPERATION_COUNT];
const struct operation *operation_find(const char *name);

/* Limits of the interface, in one place (docs/protocol.md states them). */
#define API_BODY_MAX (1 << 20)                          /* bytes of a JSON body */
#define API_UPLOAD_MAX (INT64_C(10) << 30)              /* bytes of one input or result */
#define API_CLOCK_SKEW_MS (60 * SECOND_MS)              /* a signed request's time may be off by this */
#define API_PROTOCOL "1"

/* "/v1/workloads/{id}" and {"wl_…"} -> "/v1/workloads/wl_…", values escaped; {path*} keeps its slashes. */
char *operation_path(const struct operation *op, const char *const *params, size_t len, struct arena *a);

/* The bytes that a worker's MAC covers: "tes-request-1\n<session>\n<METHOD>\n<target>\n<time_ms>\n<nonce>\n<sha256 of the body, hex>".
 * Sent as headers TES-Session, TES-Time, TES-Nonce (a counter, from 1, never reused in a session) and TES-MAC (hex). */
void request_mac(const uint8_t key[static 32], const char *session, const char *method, const char *target,
		 int64_t time_ms, int64_t nonce, const uint8_t body_sha256[static 32], uint8_t ret[static MAC_SIZE]);
/* What a worker signs to open a session. */
void session_sign_text(const char *worker_id, int64_t time_ms, const char *exchange_key, const char *boot_id /* NULL: "" */,
		       struct strbuf *out);

/* RFC 9457 problem, with members `code` (err_code_name), `field` and `request_id`. */
int api_status(enum err_code code);
void api_problem(const struct err *err, const char *request_id, struct strbuf *out);
/* The other way round, for clients: fills err from a problem body (or from the status alone). */
void api_problem_read(int status, struct slice body, struct err *err);

/* OpenAPI 3.1 of the whole table. */
void api_openapi(const char *server_url, struct strbuf *out);

#endif
