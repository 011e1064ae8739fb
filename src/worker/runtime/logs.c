#include "internal.h"

#include <unistd.h>

#define START_POLL_US 10000

/* Engines compare with less than nanoseconds (Podman reads the time as a floating point
 * number): ask from a little earlier, and leave out here what is too early. */
#define SINCE_SLACK_NS INT64_C(1000000)
/* How far the time stamps of the two streams may be apart in the order in which the engine
 * stored them. */
#define STREAM_SKEW_NS INT64_C(1000000000)

static bool is_cancelled(const volatile int *cancel)
{
	return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED);
}

struct log_call {
	struct log_demux demux;
	runtime_log_fn *fn;
	void *arg;
	bool ended; /* by the callback */
	bool tail;  /* second reading: what the first one delivered comes again */
	/* Per stream the time stamp of the last line delivered, how many lines in a row had
	 * it, and how many of them came again. */
	struct {
		int64_t at_ns;
		size_t count, again;
	} last[2];
};

static int log_line_once(void *arg, enum log_stream stream, int64_t at_ns, const char *line,
			 size_t len)
{
	struct log_call *lc = arg;
	typeof(&lc->last[0]) last = &lc->last[stream];

	if (lc->tail &&
	    (at_ns < last->at_ns || (at_ns == last->at_ns && last->again++ < last->count)))
		return 0;
	if (!lc->tail) {
		last->count = at_ns == last->at_ns ? last->count + 1 : 1;
		last->at_ns = at_ns;
	}
	return lc->fn(lc->arg, stream, at_ns, line, len);
}

static int log_data(void *arg, const char *p, size_t len)
{
	struct log_call *lc = arg;

	lc->ended = log_demux_feed(&lc->demux, p, len) != 0;
	return lc->ended;
}

/* One request.  1: read to its end; 0: ended by the callback or by cancel. */
static int log_read(struct runtime *rt, const char *container, struct log_call *lc,
		    int64_t since_ns, bool follow, const volatile int *cancel, struct err *err)
{
	cleanup_strbuf struct strbuf path = STRBUF_INIT;
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };
	struct docker_call call = {
		.method = HTTP_GET, .on_data = log_data, .cancel = cancel, .arg = lc
	};
	int64_t from_ns = MAX(since_ns - SINCE_SLACK_NS, 0);
	int rc;

	strbuf_addf(&path, "/containers/%s/logs?stdout=1&stderr=1&timestamps=1&follow=%d",
		    container, follow);
	if (from_ns > 0)
		strbuf_addf(&path, "&since=%" PRId64 ".%09" PRId64, from_ns / 1000000000,
			    from_ns % 1000000000);
	call.path = path.buf;
	rc = docker_send(rt, &call, &res, err);
	if (lc->ended || is_cancelled(cancel))
		return 0;
	if (rc < 0)
		return err_wrap(err, "reading the output");
	if (res.status >= 400)
		return docker_fail(&res, "reading the output", err);
	return 1;
}

/* A stream that is followed ends with the container, at times before its last lines (Docker
 * 20.10 never gives a last line without a line end): read the end again, and take what has
 * not come yet. */
static int log_tail(struct runtime *rt, const char *container, struct log_call *lc,
		    int64_t since_ns, const volatile int *cancel, struct err *err)
{
	int64_t newest_ns = MAX(lc->last[0].at_ns, lc->last[1].at_ns);

	lc->tail = true;
	log_demux_release(&lc->demux);
	log_demux_init(&lc->demux, since_ns, log_line_once, lc);
	return log_read(rt, container, lc, MAX(newest_ns - STREAM_SKEW_NS, since_ns), false,
			cancel, err);
}

/* Engines end the stream at once if the container has not been started: true after a moment
 * if that is so.  ret_ended: it has run, and runs no more. */
static bool log_await_start(struct runtime *rt, const char *lease, const volatile int *cancel,
			    bool *ret_ended)
{
	struct container_status status;

	if (is_cancelled(cancel) || runtime_status(rt, lease, &status, NULL) < 0)
		return false;
	*ret_ended = status.state == CONTAINER_EXITED;
	if (status.state != CONTAINER_CREATED)
		return false;
	usleep(START_POLL_US);
	return !is_cancelled(cancel);
}

int runtime_logs(struct runtime *rt, const char *lease, int64_t since_ns, bool follow,
		 const volatile int *cancel, runtime_log_fn *fn, void *arg, bool *ret_all,
		 struct err *err)
{
	struct log_call lc = { .fn = fn, .arg = arg };
	char name[CONTAINER_NAME_SIZE];
	bool ended = false;
	int rc;

	*ret_all = false;

	if (container_name(lease, name, err) < 0)
		return -1;
	log_demux_init(&lc.demux, since_ns, log_line_once, &lc);
	do
		rc = log_read(rt, name, &lc, since_ns, follow, cancel, err);
	while (rc == 1 && follow && log_await_start(rt, lease, cancel, &ended));
	if (rc == 1 && follow)
		rc = log_tail(rt, name, &lc, since_ns, cancel, err);
	if (rc == 1) {
		log_demux_finish(&lc.demux);
		*ret_all = ended;
	}
	log_demux_release(&lc.demux);
	return MIN(rc, 0);
}
