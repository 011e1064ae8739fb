/* A server with a handful of routes, and raw sockets to talk to it, for the tests of http. */
#ifndef TES_HTTP_FIXTURE_H
#define TES_HTTP_FIXTURE_H

#include "../http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

typedef void reply_fn(struct http_request *req, struct http_response *res); /* http_route.arg */

struct fixture {
	struct http_server *server;
	int port;
	char spool[64];
};

/* What a test changes before fixture_start. */
struct http_server_config fixture_config(void);
int fixture_start(struct fixture *f, struct http_server_config *config);
void fixture_stop(struct fixture *f);
const char *fixture_url(const struct fixture *f, const char *target); /* static buffer */
size_t fixture_spooled(const struct fixture *f); /* files in the spool directory */

/* The handlers wait here while it is closed. */
void gate_close(void);
void gate_open(void);
int gate_waiting(void);

/* The newest stream that a handler made; the test owns the reference. */
struct http_stream *stream_take(void);

int raw_connect(const struct fixture *f);
void raw_send(int fd, const char *text, size_t len);
/* Reads until the peer closes, `until` has come (may be NULL), or timeout_ms is over; false
 * for the last. */
bool raw_read(int fd, struct strbuf *ret, const char *until, int timeout_ms);
/* Connects, sends, reads to the end. */
void raw_exchange(const struct fixture *f, const char *text, size_t len, struct strbuf *ret);

#define WAIT_FOR(condition)                                        \
	do {                                                       \
		int64_t until_ = time_monotonic_ms() + 20000;      \
		while (!(condition)) {                             \
			assert_true(time_monotonic_ms() < until_); \
			usleep(2000);                              \
		}                                                  \
	} while (0)

#endif
