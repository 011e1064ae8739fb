/* Streams of events, begun again with Last-Event-ID where they broke. */
#include "internal.h"

#define EVENT_MAX	   ((size_t)4 << 20)
#define IDLE_MS		   (45 * SECOND_MS) /* the server sends a comment every 15 s */
#define GIVE_UP_MS	   (15 * MINUTE_MS) /* without a byte from the server, once there were some */
#define TRIES_BEFORE_FIRST 5
#define TRIES_UNTIL_SAID   3

struct reader {
	struct cli *cli;
	const struct stream_want *want;
	struct sse_parser *parser;
	struct strbuf last_id;
	stream_fn *fn;
	void *arg;
	struct err *err;
	int rc;		  /* of fn: 1 the end, -1 err is set */
	int64_t quiet_ms; /* 0: STREAM_QUIET has been told */
	bool heard;	  /* on this connection */
	bool ever_heard;
	bool at_once; /* we broke it off ourselves */
};

static int on_event(void *arg, const char *event, const char *id, struct slice data)
{
	struct reader *r = arg;

	r->rc = r->fn(r->arg, event, data, r->err);
	if (r->rc == 0 && *id) {
		strbuf_reset(&r->last_id);
		strbuf_adds(&r->last_id, id);
	}
	return r->rc;
}

static int on_data(void *arg, const char *p, size_t len)
{
	struct reader *r = arg;

	r->heard = r->ever_heard = true;
	if (sse_parser_feed(r->parser, p, len) != 0 && r->rc == 0)
		r->rc = err_set(r->err, ERR_TOO_LARGE,
				"the server sent an event of more than %zu bytes", EVENT_MAX);
	if (r->rc == 0)
		r->rc = r->fn(r->arg, STREAM_PAUSE, SLICE(""), r->err);
	return r->rc;
}

/* One connection, to its end: a break is no error, but stands in *why. */
static int connection_read(struct reader *r, struct err *why, struct err *err)
{
	struct cli *cli = r->cli;
	struct remote_head head;
	struct http_result result;
	struct http_call call = {
		.method = HTTP_GET,
		.idle_timeout_ms = r->quiet_ms ? r->quiet_ms : IDLE_MS,
		.on_data = on_data,
		.arg = r,
		.cancel = &cli_interrupted,
		.ca_file = cli->ca_file,
	};
	int rc;

	if (remote_head_make(cli, &operations[r->want->op], r->want->param, r->want->query,
			     &head, err) < 0)
		return -1;
	remote_head_add(&head, "Accept", "text/event-stream");
	if (r->last_id.len)
		remote_head_add(&head, "Last-Event-ID", r->last_id.buf);
	call.url = head.url;
	call.headers = head.items;
	call.header_count = head.len;
	r->parser = sse_parser_new(EVENT_MAX, on_event, r);
	r->heard = false;
	rc = http_call(cli->http, &call, &result, why);
	sse_parser_free(r->parser);
	if (rc == 0) {
		if (result.status / 100 != 2)
			api_problem_read(result.status,
					 (struct slice){ result.body.buf, result.body.len },
					 why);
		http_result_release(&result);
	}
	return 0;
}

/* 0 if the stream is to be begun again, 1 at its end. */
static int connect_once(struct reader *r, struct err *err)
{
	struct err why = { 0 };

	if (connection_read(r, &why, err) < 0)
		return -1;
	if (r->rc != 0)
		return r->rc;
	if (r->quiet_ms && why.code == ERR_TIMEOUT && r->heard && !cli_interrupted) {
		r->quiet_ms = 0;
		r->at_once = true;
		return r->fn(r->arg, STREAM_QUIET, SLICE(""), err);
	}
	*err = why;
	return why.code == ERR_NONE || remote_may_retry(&why) ? 0 : -1;
}

static int read_all(struct reader *r, struct err *err)
{
	int64_t heard_ms = time_monotonic_ms();
	int rc, tries = 0;

	while ((rc = connect_once(r, err)) == 0 && !cli_interrupted) {
		if (r->heard) {
			heard_ms = time_monotonic_ms();
			tries = 0;
		}
		tries++;
		if (r->ever_heard ? time_monotonic_ms() - heard_ms > GIVE_UP_MS
				  : tries >= TRIES_BEFORE_FIRST)
			return err->code ? -1
					 : err_set(err, ERR_UNAVAILABLE,
						   "%s ends the stream at once", r->cli->url);
		if (tries == TRIES_UNTIL_SAID && r->fn(r->arg, STREAM_LOST, SLICE(""), err) < 0)
			return -1;
		if (!r->at_once && !remote_pause(tries))
			return 0;
		r->at_once = false;
		err_clear(err);
	}
	return rc;
}

int stream_read(struct cli *cli, const struct stream_want *want, stream_fn *fn, void *arg,
		enum follow_end *ret, struct err *err)
{
	struct reader r = {
		.cli = cli,
		.want = want,
		.fn = fn,
		.arg = arg,
		.err = err,
		.last_id = STRBUF_INIT,
		.quiet_ms = want->quiet_ms,
	};
	int rc = read_all(&r, err);

	strbuf_release(&r.last_id);
	if (rc < 0 && !cli_interrupted)
		return -1;
	err_clear(err);
	*ret = rc == 1 ? FOLLOW_ENDED : FOLLOW_DETACHED;
	return 0;
}
