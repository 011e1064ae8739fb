/* http: server (libmicrohttpd) and client (libcurl).  Knows nothing of jobs.
 */
#ifndef TES_HTTP_H
#define TES_HTTP_H

#include "../base/base.h"
#include "../os/os.h"

enum http_method { HTTP_GET, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE };
extern const char *const http_method_names[]; /* NULL-ended */

/* ---- server
 * -------------------------------------------------------------------------------- */

/* libmicrohttpd's epoll threads parse; the head is checked (one Host, Content-Length xor
 * Transfer-Encoding, clean lines, known path and method, size) before anything else happens
 * with it; a body is collected in memory up to the route's limit, or spooled to a file; then
 * the connection is suspended and queued.  A fixed pool of threads runs the handlers as
 * straight-line code.  The queue is bounded: over it 503 with Retry-After at once.
 *
 * A HEAD is handled as the GET of its path, and its answer sent without the body. */
struct http_server;
struct http_request;
struct http_response;

enum http_body { HTTP_BODY_NONE, HTTP_BODY_MEMORY, HTTP_BODY_FILE };

struct http_route {
	enum http_method method;
	/* "/v1/workloads/{id}/logs"; {name} matches one segment that is not empty, {name*}
	 * the rest, empty or not.  Literal text goes before {name}, that before {name*}. */
	const char *path;
	enum http_body body;
	int64_t body_max;	  /* bytes; over it 413 before the rest is read */
	const char *content_type; /* of the body ("application/json"); else 415; NULL: any */
	void *arg;		  /* for the handler */
};

/* Runs on a pool thread.  `thread_state` is what thread_open made for that thread (its database
 * connection).  Fills the response; never fails: a handler answers its own errors. */
typedef void http_handler_fn(struct http_request *req, struct http_response *res,
			     void *thread_state, void *server_arg);

/* What it points to must live until http_server_stop. */
struct http_server_config {
	const char *address;		/* "127.0.0.1", "::" (both families), "0.0.0.0" */
	int port;			/* 0: any free one, see http_server_port */
	const char *tls_cert, *tls_key; /* PEM files; both or neither */
	int pool_threads, epoll_threads;
	int queue_max;	     /* requests waiting for a thread */
	int connections_max; /* and as many event streams beside them */
	int connections_per_address_max;
	/* Without a byte for so long a connection ends.  A head must be complete within it,
	 * a body come at 1 KiB/s after it: that ends slow-loris clients. */
	int64_t idle_timeout_ms;
	int64_t keepalive_ms;  /* between comment lines on event streams; 0: 15 s */
	int64_t head_max;      /* bytes of head, 1024 to 65536; 431 over it */
	const char *spool_dir; /* for HTTP_BODY_FILE */
	bool trust_forwarded;  /* peer: the last X-Forwarded-For entry (behind nginx) */
	const struct http_route *routes;
	size_t route_count;
	http_handler_fn *handler; /* one for all routes; req->route tells which */
	/* For requests that match no route or are malformed: writes the body of an error
	 * response, on any thread.  NULL: plain text. */
	void (*problem)(int status, const char *detail, struct strbuf *ret_body,
			void *server_arg);
	const char *problem_type; /* "application/problem+json" */
	/* NULL from it: the server does not start.  Called, as its counterpart, on the
	 * thread itself. */
	/* Before a body is spooled to a file: 0 lets it in, else the status of the refusal, with its reason in `detail`. Runs on
	 * an epoll thread, where everybody waits: look, do not work. NULL: all are let in. */
	int (*admit)(const struct http_request *head, char detail[static 232], void *server_arg);
	void *(*thread_open)(void *server_arg);
	void (*thread_close)(void *thread_state);
	void *arg;
};

int http_server_start(const struct http_server_config *config, struct http_server **ret,
		      struct err *err) must_check;
int http_server_port(const struct http_server *s);
/* Stops accepting, ends streams, works the queue off for at most grace_ms, answers what is
 * left of it with 503, waits for the handlers that still run, frees.  NULL is fine. */
void http_server_stop(struct http_server *s, int64_t grace_ms);

struct http_server_stats {
	int64_t requests, responses_5xx, queue_len, queue_full, connections, streams;
};
void http_server_stats(const struct http_server *s, struct http_server_stats *ret);

/* The request, valid while the handler runs. */
struct http_request {
	const struct http_route *route;
	enum http_method method;
	const char *target; /* path and query as sent (for signatures) */
	const char *path;   /* decoded; free of "//", ".", ".." and control characters */
	struct slice query; /* raw, without '?' */
	struct slice body;  /* HTTP_BODY_MEMORY */
	const char
		*body_path; /* HTTP_BODY_FILE: rename it away to keep it, else it is removed */
	int64_t body_size;
	uint8_t body_sha256[32]; /* of the body as received (any body kind) */
	const char *peer;	 /* address, after X-Forwarded-For if trusted */
	int64_t begun_ms;	 /* monotonic: when its head began to come */
	const char *request_id;	 /* made by the server; also sent as X-Request-Id */
	struct arena *arena;	 /* for the handler's values */
};
/* {name} of the route, decoded; NULL if it has none of that name. */
const char *http_param(const struct http_request *req, const char *name);
/* Case-insensitive; NULL if absent.  The bytes as sent: without control characters, but not
 * always valid UTF-8. */
const char *http_header(const struct http_request *req, const char *name);

/* The response.  One of: body in memory (copied), file, stream; the last call counts. */
void http_respond(struct http_response *res, int status, const char *content_type,
		  struct slice body);
/* Control characters in the value become spaces. */
void http_respond_header(struct http_response *res, const char *name, const char *value);
/* Takes the descriptor; answers Range (206, 416) with If-Range, and If-None-Match (304).
 * etag: with or without its quotes, or NULL. */
void http_respond_file_take(struct http_response *res, int fd, int64_t size,
			    const char *content_type, const char *etag,
			    const struct http_request *req);

/* Server-sent events.  The handler returns after http_respond_stream; the connection then
 * belongs to the stream, and any thread may push until it is closed.  Bytes wait in a
 * bounded buffer: a push that would exceed it returns false, the stream ends, and the client
 * resumes with Last-Event-ID.  A client that goes away is noticed at once (over TLS: with
 * the next push or comment line). */
struct http_stream;
/* One reference is the caller's. */
struct http_stream *http_respond_stream(struct http_response *res, size_t buffer_max);
/* event and id without line ends, or NULL; false: closed or full. */
bool http_stream_push(struct http_stream *st, const char *event, const char *id,
		      struct slice data);
/* Between these two, events go out together: at the second, or when there is much of them. */
void http_stream_cork(struct http_stream *st);
void http_stream_uncork(struct http_stream *st);
bool http_stream_closed(const struct http_stream *st);
void http_stream_finish(struct http_stream *st); /* sends what is buffered, then ends */
void http_stream_unref(struct http_stream *st);	 /* alone ends nothing */

/* ---- client
 * -------------------------------------------------------------------------------- */

/* Blocking; used by one thread at a time; keeps its connections.  Redirects are not
 * followed. */
struct http_client;
struct http_client *http_client_new(void);
void http_client_free(struct http_client *c);

struct http_header_item {
	const char *name, *value;
};
struct http_call {
	enum http_method method;
	const char
		*url; /* "http://…"; with unix_socket the host part is only the Host header */
	const char *unix_socket; /* path, or NULL */
	const char *ca_file;	 /* NULL: the system's */
	const struct http_header_item *headers;
	size_t header_count;
	struct slice body; /* sent if ptr is not NULL */
	int body_fd;	   /* > 0 with body_fd_size: sent from its current position instead */
	int64_t body_fd_size;
	int64_t timeout_ms;	 /* whole call; 0: none (streams) */
	int64_t idle_timeout_ms; /* no byte for so long: ERR_TIMEOUT; 0: none */
	size_t response_max;	 /* collected bytes, 0: 1 MiB; over it ERR_TOO_LARGE */
	/* If set, body bytes of a 2xx go here instead of ret->body, without a limit; a
	 * return other than 0 ends the call with ERR_IO. */
	int (*on_data)(void *arg, const char *p, size_t len);
	void (*on_status)(void *arg,
			  int status); /* before the first byte of body; may be NULL */
	void (*on_progress)(void *arg, int64_t sent,
			    int64_t received); /* bodies; may be NULL */
	/* Looked at every 200 ms; != 0 ends the call with ERR_TIMEOUT; may be NULL. */
	const volatile int *cancel;
	void *arg;
};
struct http_result {
	int status;
	struct strbuf body;
	char content_type[96];
	char etag[96]; /* with its quotes */
	char retry_after[32];
	char location[256];
};
/* 0 whenever a whole answer came back, whatever its status; the caller then releases *ret.
 * ERR_UNAVAILABLE if the peer could not be reached or broke off. */
int http_call(struct http_client *c, const struct http_call *call, struct http_result *ret,
	      struct err *err) must_check;
void http_result_release(struct http_result *r);

/* Splits a byte stream into server-sent events (WHATWG HTML §9.2.6).  A return of `fn` other
 * than 0 stops and is returned by _feed; so is -1 for an event larger than event_max bytes.
 * `id` is the last one seen, "" before the first. */
struct sse_parser;
typedef int sse_event_fn(void *arg, const char *event, const char *id, struct slice data);
struct sse_parser *sse_parser_new(size_t event_max, sse_event_fn *fn, void *arg);
int sse_parser_feed(struct sse_parser *p, const char *data, size_t len);
void sse_parser_free(struct sse_parser *p);

#endif
