/* Inside http: what the server's files share.
 *
 * Threads: libmicrohttpd's epoll threads run the callbacks of request.c; the pool's threads
 * (pool.c) run handlers; one stream thread (stream.c) owns the sockets of event streams and
 * ends connections whose client is too slow.  A request is an exchange: made by an epoll thread
 * when the request line is known, lent to one pool thread while its connection is suspended,
 * freed by an epoll thread when libmicrohttpd is done with it.
 *
 * Locks, never nested except streams_lock -> stream's lock: queue_lock (queue, in_flight),
 * conns_lock (list of connections), streams_lock (list of streams), each stream's own.
 */
#ifndef TES_HTTP_INTERNAL_H
#define TES_HTTP_INTERNAL_H

#include "../codec/codec.h"
#include "http.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#define HTTP_METHODS	  5
#define ROUTE_PARAMS_MAX  8
#define PATH_SEGMENTS_MAX 32
#define KEEPALIVE_MS	  (15 * SECOND_MS)
/* A refused body of at most so many bytes is read and dropped, so that the answer is not
 * lost in a reset. */
#define DRAIN_MAX (INT64_C(1) << 20)
/* A body must come at this rate, after a grace of idle_timeout_ms. */
#define BODY_RATE_MIN_BYTES_S 1024
/* All bodies that are held in memory at one time; over it 503. */
#define BODIES_MEMORY_MAX (INT64_C(512) << 20)

/* ---- path.c: request targets ---- */

struct path {
	struct slice query;
	const char *decoded;			 /* "/a/b c" */
	const char *segments[PATH_SEGMENTS_MAX]; /* decoded; "/" has one, empty */
	size_t rest[PATH_SEGMENTS_MAX];		 /* where segment i begins in `decoded` */
	size_t count;
};
/* Refuses whatever two readers could read differently: "//", ".", "..", %2f, %5c, %00,
 * control characters. */
int path_parse(struct arena *a, const char *target, struct path *ret,
	       struct err *err) must_check;

/* ---- route.c ---- */

struct router;
struct route_match {
	const struct http_route *route; /* NULL: see methods */
	unsigned methods; /* bits of enum http_method that the path knows; 0: no such path */
	const char *params[ROUTE_PARAMS_MAX]; /* borrowed from the path */
	size_t param_count;
};
int router_new(const struct http_route *routes, size_t count, struct router **ret,
	       struct err *err) must_check;
void router_free(struct router *r);
void router_match(const struct router *r, const struct path *path, enum http_method method,
		  struct route_match *ret);
/* -1 if there is none of that name. */
int route_param_index(const struct http_route *route, const char *name);

/* ---- range.c ---- */

enum range_kind { RANGE_ALL, RANGE_PART, RANGE_BAD };
/* RFC 9110 §14.1.2, one range; several, or another unit, get the whole file. */
enum range_kind range_parse(const char *value, int64_t size, int64_t *ret_at, int64_t *ret_len);

/* ---- server.c ---- */

/* One TCP connection, from accept to close. */
struct conn {
	struct conn *prev, *next;
	int fd;
	/* The request under way.  libmicrohttpd 0.9.75 forgets to tell of the end of some
	 * that it refuses itself (a second error after "not enough memory"); then the
	 * connection's end is the exchange's. */
	struct exchange *exchange;
	/* Monotonic; by then what is awaited from the client (head, body) must have come; 0:
	 * nothing is awaited. */
	_Atomic int64_t deadline_ms;
};

struct http_server {
	struct http_server_config config;
	struct MHD_Daemon *daemon;
	struct router *router;
	int port;
	_Atomic bool stopping;

	pthread_mutex_t conns_lock;
	struct conn *conns;
	_Atomic int64_t conn_count;

	pthread_mutex_t queue_lock;
	pthread_cond_t queue_more, queue_idle;
	struct exchange *queue_head, *queue_tail;
	int64_t queue_len, in_flight; /* in_flight: queued, handled or being answered */
	bool queue_closed;	      /* nothing more is handled */
	pthread_t *pool;
	int pool_count, pool_ready;
	bool pool_failed;

	pthread_mutex_t streams_lock;
	struct http_stream *streams;
	_Atomic int64_t stream_count;
	pthread_t stream_thread;
	bool stream_thread_started, streams_closed; /* closed: no new ones */
	_Atomic bool streams_quit;
	int stream_epoll, stream_wake;

	_Atomic int64_t requests, responses_5xx, queue_full, bodies_memory;
};

/* Ends those whose deadline has passed. */
void conns_expire(struct http_server *s, int64_t now_ms);

/* ---- request.c ---- */

enum exchange_state {
	EXCHANGE_HEAD,	   /* waiting for the head */
	EXCHANGE_BODY,	   /* waiting for the body */
	EXCHANGE_HANDLING, /* queued or handled; the connection is suspended */
	EXCHANGE_ANSWERED, /* the response is built, not handed to libmicrohttpd yet */
	EXCHANGE_SENDING,
};

struct response_header {
	struct response_header *next;
	const char *name, *value;
};

enum response_kind { RESPONSE_NONE, RESPONSE_MEMORY, RESPONSE_FILE, RESPONSE_STREAM };

struct http_response {
	struct exchange *exchange;
	int status;
	enum response_kind kind;
	const char *content_type;
	char *body; /* MEMORY; malloc'd */
	size_t body_len;
	int fd; /* FILE */
	int64_t at, len;
	struct http_stream *stream; /* STREAM; one reference */
	struct response_header *headers;
};

struct exchange {
	struct http_request req;
	struct http_response res;
	struct http_server *server;
	struct MHD_Connection *connection;
	struct conn *conn;
	enum exchange_state state;
	struct exchange *queue_next;
	struct arena arena; /* released as soon as the response is built */
	struct route_match match;
	bool is_head, in_flight;

	/* The body, while it comes. */
	int64_t body_started_ms, body_dropped;
	int64_t body_charged; /* to the server's bodies_memory */
	struct strbuf body;
	struct sha256 body_hash;
	int spool_fd;
	char *spool_path;
	int refuse_status; /* not 0: drop the body, then answer so */
	char refuse_detail[232];

	struct MHD_Response *reply; /* built; NULL for a stream */
	struct http_stream *stream;
	struct strbuf stream_head;

	char peer[INET6_ADDRSTRLEN];
	char request_id[ID_SIZE];
	char target[];
};

void exchange_free(struct exchange *ex); /* which is not with the pool */
void *exchange_begin(void *server, const char *uri, struct MHD_Connection *connection);
enum MHD_Result exchange_step(void *server, struct MHD_Connection *connection, const char *url,
			      const char *method, const char *version, const char *data,
			      size_t *data_len, void **exchange);
void exchange_end(void *server, struct MHD_Connection *connection, void **exchange,
		  enum MHD_RequestTerminationCode code);

/* ---- head.c ---- */

/* Checks the head's form; -1 with the status and text to answer. */
int head_check(struct exchange *ex, const char *method, const char *version, int *ret_status,
	       struct err *err) must_check;
void peer_format(const struct sockaddr *addr, char ret[static INET6_ADDRSTRLEN]);

/* ---- pool.c ---- */

int pool_start(struct http_server *s, struct err *err) must_check;
/* Suspends the connection and queues the exchange; false if the queue is full or closed. */
bool pool_submit(struct http_server *s, struct exchange *ex);
void pool_done(struct http_server *s);			  /* one exchange less in flight */
bool pool_drain(struct http_server *s, int64_t grace_ms); /* waits until nothing is in flight */
void pool_stop(struct http_server *s); /* what is still queued is answered with 503 */

/* ---- response.c ---- */

void response_release(struct http_response *res);
/* Builds ex->reply (or ex->stream and its head) from ex->res; consumes ex->res. */
void response_build(struct exchange *ex);
void response_problem(struct exchange *ex, int status, const char *detail);
void exchange_body_release(struct exchange *ex); /* the received body and its spool file */

/* ---- stream.c ---- */

int streams_start(struct http_server *s, struct err *err) must_check;
void streams_finish(struct http_server *s); /* all of them; no new ones from now on */
void streams_stop(struct http_server *s);
struct http_stream *stream_new(struct http_server *s, size_t buffer_max);
/* Takes the connection's socket over from libmicrohttpd (which then closes its own
 * descriptor of it). */
int stream_adopt(struct http_stream *st, int fd, struct strbuf *head) must_check;
/* Over TLS the session belongs to libmicrohttpd, which must keep the connection: a response
 * that it reads from.  NULL when the server takes no more streams. */
struct MHD_Response *stream_reply(struct http_stream *st, struct MHD_Connection *connection);
void stream_abort(struct http_stream *st);

#endif
