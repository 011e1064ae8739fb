/* A server that answers what a test has written down, connection by connection, and the program run
 * against it in this process. */
#ifndef TES_CLI_FAKE_H
#define TES_CLI_FAKE_H

#include "../internal.h"

/* One request: what must stand in it, and the bytes of the answer, after which the connection ends. */
struct step {
	const char *want[4];
	const char *answer;
};
struct fake;
struct fake *fake_start(const struct step *steps, size_t count);
/* Fails the test if a request was not as wanted, or did not come. */
void fake_stop(struct fake *f);

struct outcome {
	int status;
	struct strbuf out, errout;
};
/* `tes` with these arguments (NULL-ended), TES_URL and TES_KEY set for the server. */
void tes_run(struct fake *f, const char *const *argv, struct outcome *ret);
#define TES(f, ret, ...) tes_run(f, (const char *const[]){ "tes", __VA_ARGS__, NULL }, ret)
void outcome_release(struct outcome *o);
void expect_text(const char *text, const char *part);

#define JSON_HEAD(status) \
	"HTTP/1.1 " status "\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
#define STREAM_HEAD \
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

#endif
