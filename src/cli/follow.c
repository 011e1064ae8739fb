/* A workload's output and state, live. */
#include "internal.h"

#include <unistd.h>

#define QUIET_MS (3 * SECOND_MS) /* without news, until what is pending is explained */

struct follower {
	struct cli *cli;
	const struct follow *what;
	struct progress_view view;
	struct output out, errout;
};

/* Status lines share the terminal with the container's output: they begin on a line of their own. */
static int line_finish(struct follower *f, struct err *err)
{
	struct output *o[] = { &f->out, &f->errout };

	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		if (o[i]->safe && o[i]->mid_line && f->cli->tty_err)
			output_add(o[i], "\n");
		if (output_flush(o[i], err) < 0)
			return -1;
	}
	return 0;
}

static int on_log(struct follower *f, const struct log_entry *e, struct err *err)
{
	struct output *to = e->stream == LOG_STDOUT ? &f->out : &f->errout;
	struct output *other = to == &f->out ? &f->errout : &f->out;

	progress_clear(&f->view);
	/* What was written first must be seen first, where both are the same terminal. */
	if (output_flush(other, err) < 0)
		return -1;
	if (e->stream == LOG_SYSTEM && to->mid_line)
		output_add(to, "\n");
	output_add(to, e->text ? e->text : "");
	if (e->stream == LOG_SYSTEM && to->mid_line)
		output_add(to, "\n");
	return to->pending.len > 65536 ? output_flush(to, err) : 0;
}

/* {"event":"log","data":{…}}, one a line. */
static void add_json(struct output *o, const char *event, struct slice data)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT;

	strbuf_addf(&line, "{\"event\":\"%s\",\"data\":", event);
	strbuf_add(&line, data.ptr, data.len);
	strbuf_adds(&line, "}\n");
	output_add(o, line.buf);
}

/* It has been waiting for a while: say why. */
static int explain_pending(struct follower *f)
{
	struct explanation why;
	struct err ignored = { 0 };

	if (f->view.state == WORKLOAD_PENDING && f->what->status && !f->cli->json &&
	    remote_call(f->cli,
			&(struct remote){ OP_workload_explain, .param = f->what->workload,
					  .out = &why, .once = true },
			&ignored) == 0 &&
	    !str_empty(why.summary) && why.matching == 0)
		say(f->cli, "still pending: %s (tes explain %s)", why.summary,
		    f->what->workload);
	return 0;
}

static int on_event(void *arg, const char *event, struct slice data, struct err *err)
{
	struct follower *f = arg;
	cleanup_arena struct arena arena = { 0 };
	struct log_entry entry;
	struct progress progress;
	bool log = str_eq(event, "log"), state = str_eq(event, "state");

	if (str_eq(event, STREAM_QUIET))
		return explain_pending(f);
	if (str_eq(event, STREAM_LOST)) {
		progress_clear(&f->view);
		if (line_finish(f, err) < 0)
			return -1;
		say(f->cli, "the connection to %s is lost; trying again (Ctrl-C ends this)",
		    f->cli->url);
		return 0;
	}
	if (str_eq(event, STREAM_PAUSE))
		return output_flush(&f->out, err) < 0 || output_flush(&f->errout, err) < 0 ? -1
											   : 0;
	if (str_eq(event, "end"))
		return line_finish(f, err) < 0 ? -1 : 1;
	if ((log &&
	     schema_parse(&log_entry_type, data, FROM_SERVER, &arena, &entry, err) < 0) ||
	    (state &&
	     schema_parse(&progress_type, data, FROM_SERVER, &arena, &progress, err) < 0))
		return err_wrap(err, "the server sent an event that cannot be read");
	if (f->cli->json && (log || state))
		add_json(&f->out, event, data);
	else if (log)
		return on_log(f, &entry, err);
	else if (state && f->what->status) {
		if (line_finish(f, err) < 0)
			return -1;
		progress_show(&f->view, &progress);
	}
	return 0;
}

int follow_run(struct cli *cli, const struct follow *what, enum follow_end *ret,
	       struct err *err)
{
	struct follower f = {
		.cli = cli,
		.what = what,
		.out = { .fd = STDOUT_FILENO, .safe = cli->tty_out, .pending = STRBUF_INIT },
		.errout = { .fd = STDERR_FILENO, .safe = cli->tty_err, .pending = STRBUF_INIT },
	};
	const struct log_query query = { .follow = true,
					 .since_ms = what->since_ms,
					 .limit = 1000 };
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err ignored;
	int rc;

	schema_write_query(&log_query_type, &query, &cli->arena, &text);
	progress_init(&f.view, cli);
	rc = print_flush(err);
	if (rc == 0)
		rc = stream_read(cli,
				 &(struct stream_want){ OP_workload_logs, what->workload,
							text.buf, QUIET_MS },
				 on_event, &f, ret, err);
	progress_clear(&f.view);
	(void)!line_finish(&f, &ignored);
	strbuf_release(&f.out.pending);
	strbuf_release(&f.errout.pending);
	return rc;
}

/* ---- to the end --------------------------------------------------------------------------- */

static void say_end(struct cli *cli, const struct workload *w)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT;
	char cost[40], span[32];

	money_text(w->charged_uusd, cost);
	strbuf_adds(&line, workload_state_names[w->state]);
	if (w->started_ms && w->ended_ms) {
		int64_t ms = MAX(w->ended_ms - w->started_ms, (int64_t)0);

		if (ms < MINUTE_MS)
			snprintf(span, sizeof(span), "%.1fs", (double)ms / SECOND_MS);
		else
			duration_format(ms / SECOND_MS * SECOND_MS, span);
		strbuf_addf(&line, " after %s", span);
	}
	if (w->exit_code >= 0)
		strbuf_addf(&line, ", exit status %" PRId64, w->exit_code);
	strbuf_addf(&line, ", %s", cost);
	/* An exit status says it all, unless something else brought it about. */
	if (w->state != WORKLOAD_SUCCEEDED && !str_empty(w->reason_text) &&
	    !str_eq(w->reason_text, lease_reason_text(REASON_EXITED_WITH_ERROR)))
		strbuf_addf(&line, ": %s", w->reason_text);
	say(cli, "%s", line.buf);
	if (w->spec && w->spec->outputs.len && w->state == WORKLOAD_SUCCEEDED)
		say(cli, "results: tes results %s -o DIR", w->id);
	else if (w->state == WORKLOAD_FAILED)
		say(cli, "details: tes show %s", w->id);
}

int end_status(const struct workload *w)
{
	if (w->exit_code >= 0)
		return (int)w->exit_code;
	return w->state == WORKLOAD_SUCCEEDED ? 0 : EXIT_NO_STATUS;
}

int wait_for_end(struct cli *cli, const char *workload, struct err *err)
{
	enum follow_end end;
	struct workload w;

	if (follow_run(cli, &(struct follow){ .workload = workload, .status = true }, &end,
		       err) < 0)
		return -1;
	if (end == FOLLOW_DETACHED) {
		say(cli, "Detached; it goes on. Output: tes logs -f %s; stop it: tes stop %s",
		    workload, workload);
		return EXIT_DETACHED;
	}
	if (remote_call(cli, &(struct remote){ OP_workload_show, .param = workload, .out = &w },
			err) < 0)
		return -1;
	if (cli->json)
		print("{\"event\":\"workload\",\"data\":%s}\n", cli->body.buf);
	else
		say_end(cli, &w);
	return end_status(&w);
}
