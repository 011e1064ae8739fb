/* What a person sees between submission and the first line of output. */
#include "internal.h"

#include <unistd.h>

#define BAR_CELLS     24
#define DRAW_EVERY_MS 100
#define SAY_EVERY_MS \
	(10 * SECOND_MS) /* how often progress makes a line where there is no terminal */

static const struct field progress_fields[] = {
	FIELD_ENUM(struct progress, state, workload_state_names, WORKLOAD_PENDING, 0,
		   "State of the workload."),
	FIELD_TEXT(struct progress, reason, 0, 1024, FIELD_RAW, "Why, for programs."),
	FIELD_TEXT(struct progress, reason_text, 0, 4096, FIELD_RAW, "Why, for people."),
	FIELD_TEXT(struct progress, lease, 0, 64, FIELD_RAW, "The attempt."),
	FIELD_TEXT(struct progress, worker, 0, 64, FIELD_RAW, "Its worker."),
	FIELD_TEXT(struct progress, region, 0, 256, FIELD_RAW, "Where that stands."),
	FIELD_TEXT(struct progress, phase, 0, 1024, FIELD_RAW, "What is being prepared."),
	FIELD_INT(struct progress, exit_code, -1, 255, -1, 0, "Exit status, or -1."),
	FIELD_MONEY(struct progress, rate_uusd_h, 0, "Its price."),
	FIELD_INT(struct progress, progress_done, 0, INT64_MAX, 0, 0, "Bytes done."),
	FIELD_INT(struct progress, progress_total, 0, INT64_MAX, 0, 0,
		  "Bytes in all; 0: unknown."),
	FIELD_BOOL(struct progress, unreachable, 0, "The worker does not answer."),
};
const struct type progress_type = {
	.name = "progress",
	.size = sizeof(struct progress),
	.fields = progress_fields,
	.count = ARRAY_LEN(progress_fields),
	.doc = "What a stream of logs says of the workload's state.",
};

void bar_format(int64_t done, int64_t total, int width, struct strbuf *out)
{
	char a[24], b[24];
	int64_t part = total > 0 ? MIN(MAX(done, (int64_t)0), total) : 0;
	double share = total > 0 ? (double)part / (double)total : 0;
	int filled = (int)(share * BAR_CELLS);

	size_format(done, a);
	size_format(total, b);
	if (total <= 0) {
		strbuf_addf(out, "%s", a);
		return;
	}
	if (width >= 60) {
		strbuf_addc(out, '[');
		for (int i = 0; i < BAR_CELLS; i++)
			strbuf_addc(out, i < filled ? '#' : '-');
		strbuf_adds(out, "] ");
	}
	strbuf_addf(out, "%3d%%  %s of %s", (int)(share * 100), a, b);
}

void progress_init(struct progress_view *v, struct cli *cli)
{
	*v = (struct progress_view){ .cli = cli, .state = -1 };
}

void progress_clear(struct progress_view *v)
{
	struct err ignored;

	if (v->bar_shown)
		(void)!write_all(STDERR_FILENO, "\r\x1b[K", 4, &ignored);
	v->bar_shown = false;
}

/* A line, unless it is the one that was said last. */
static void say_new(struct progress_view *v, const char *line)
{
	if (str_eq(line, v->said))
		return;
	progress_clear(v);
	snprintf(v->said, sizeof(v->said), "%s", line);
	v->said_ms = time_monotonic_ms();
	say(v->cli, "%s", line);
}

static void show_placement(struct progress_view *v, const struct progress *p)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT;
	char price[40];

	if (str_empty(p->lease) || str_empty(p->worker) || str_eq(p->lease, v->lease))
		return;
	price_text(p->rate_uusd_h, price);
	strbuf_addf(&line, "placed on %s", p->worker);
	if (!str_empty(p->region))
		strbuf_addf(&line, " in %s", p->region);
	strbuf_addf(&line, " at %s", price);
	say_new(v, line.buf);
	snprintf(v->lease, sizeof(v->lease), "%s", p->lease);
	v->over = false;
}

static void bar_draw(struct progress_view *v, const char *phase, const struct progress *p)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT;
	struct err ignored;
	size_t width = (size_t)term_width(STDERR_FILENO);

	strbuf_adds(&line, "\r\x1b[K");
	strbuf_add_escaped(&line, phase, MIN(strlen(phase), width / 3));
	if (p->progress_done || p->progress_total) {
		strbuf_adds(&line, "  ");
		bar_format(p->progress_done, p->progress_total, (int)width, &line);
	}
	(void)!write_all(STDERR_FILENO, line.buf, MIN(line.len, width + 3), &ignored);
	v->bar_shown = true;
	v->drawn_ms = time_monotonic_ms();
}

static void show_preparation(struct progress_view *v, const struct progress *p)
{
	const char *phase = str_empty(p->phase) ? "preparing" : p->phase;
	int64_t now = time_monotonic_ms();
	cleanup_strbuf struct strbuf line = STRBUF_INIT;
	bool done = p->progress_total > 0 && p->progress_done >= p->progress_total;

	if (v->cli->tty_err) {
		if (done || !v->bar_shown || now - v->drawn_ms >= DRAW_EVERY_MS)
			bar_draw(v, phase, p);
		return;
	}
	strbuf_addf(&line, "%s", phase);
	if (str_starts(v->said, line.buf) && now - v->said_ms < SAY_EVERY_MS)
		return;
	if (p->progress_total > 0) {
		strbuf_adds(&line, ": ");
		bar_format(p->progress_done, p->progress_total, 0, &line);
	}
	say_new(v, line.buf);
}

static void show_reason(struct progress_view *v, const char *what, const struct progress *p)
{
	char line[512];

	snprintf(line, sizeof(line), "%s%s%s", what, str_empty(p->reason_text) ? "" : ": ",
		 str_empty(p->reason_text) ? "" : p->reason_text);
	say_new(v, line);
}

void progress_show(struct progress_view *v, const struct progress *p)
{
	bool changed = v->state != p->state;
	bool was_unreachable = v->unreachable;

	v->state = p->state;
	v->unreachable = p->unreachable;
	if (p->unreachable && !was_unreachable)
		say_new(v,
			"the worker does not answer; the workload has its grace time, and may go on");
	else if (was_unreachable && !p->unreachable)
		say_new(v, "the worker is back");
	switch ((enum workload_state)p->state) {
	case WORKLOAD_PENDING:
		show_reason(v, v->lease[0] ? "trying again" : "pending", p);
		v->over = v->lease[0] != '\0';
		break;
	case WORKLOAD_PREPARING:
		if (v->over && (str_empty(p->lease) || str_eq(p->lease, v->lease)))
			break;
		show_placement(v, p);
		show_preparation(v, p);
		break;
	case WORKLOAD_RUNNING:
		show_placement(v, p);
		progress_clear(v);
		if (changed)
			say_new(v, "running");
		break;
	case WORKLOAD_PAUSED: show_reason(v, "paused", p); break;
	case WORKLOAD_STOPPING:
		if (changed)
			show_reason(v, "stopping", p);
		break;
	case WORKLOAD_SUCCEEDED:
	case WORKLOAD_FAILED:
	case WORKLOAD_STOPPED:
		show_placement(v, p);
		progress_clear(v);
		break;
	}
}
