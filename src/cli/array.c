/* The workloads of an array together, and waiting for them, one after the other: each stream ends with
 * its workload, and by the time that the slowest has ended the others' are short. */
#include "internal.h"

struct sum {
	size_t succeeded, ended;
	int64_t charged_uusd;
	int status; /* the highest */
};

/* Only what went wrong is worth a line of its own. */
static void end_say(struct cli *cli, size_t index, const struct workload *w)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT;

	if (w->state == WORKLOAD_SUCCEEDED)
		return;
	strbuf_addf(&line, "%zu (%s): %s", index, w->id, workload_state_names[w->state]);
	if (w->exit_code >= 0)
		strbuf_addf(&line, ", exit status %" PRId64, w->exit_code);
	if (!str_empty(w->reason_text) &&
	    !str_eq(w->reason, lease_reason_names[REASON_EXITED_WITH_ERROR]))
		strbuf_addf(&line, ": %s", w->reason_text);
	say(cli, "%s", line.buf);
}

static int end_take(struct cli *cli, size_t index, const char *id, struct sum *sum,
		    struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct workload w;

	if (remote_call(cli,
			&(struct remote){ OP_workload_show, .param = id, .out = &w,
					  .arena = &arena },
			err) < 0)
		return -1;
	sum->ended++;
	sum->succeeded += w.state == WORKLOAD_SUCCEEDED;
	sum->charged_uusd += w.charged_uusd;
	sum->status = MAX(sum->status, end_status(&w));
	if (cli->json)
		print("{\"event\":\"workload\",\"data\":%s}\n", cli->body.buf);
	else
		end_say(cli, index, &w);
	return 0;
}

int array_wait(struct cli *cli, const struct workload_array *array, struct err *err)
{
	struct sum sum = { 0 };
	enum follow_end end;
	char cost[40];

	for (size_t i = 0; i < array->ids.len; i++) {
		const char *id = array->ids.items[i];

		if (follow_run(cli, &(struct follow){ .workload = id }, &end, err) < 0)
			return -1;
		if (end == FOLLOW_DETACHED) {
			say(cli,
			    "Detached; they go on, from number %zu (%s): `tes ls --array %s` lists them",
			    i, id, array->id);
			return EXIT_DETACHED;
		}
		if (end_take(cli, i, id, &sum, err) < 0)
			return -1;
	}
	money_text(sum.charged_uusd, cost);
	if (!cli->json)
		say(cli, "%zu of %zu succeeded, highest exit status %d, %s", sum.succeeded,
		    sum.ended, sum.status, cost);
	return sum.status;
}

bool is_array_ref(const char *ref)
{
	return id_prefix_valid(ref, "ar");
}

int array_show(struct cli *cli, const char *ref, struct err *err)
{
	struct array_summary array;

	if (remote_call(cli, &(struct remote){ OP_array_show, .param = ref, .out = &array }, err) < 0)
		return -1;
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	record_print(cli, &array_summary_type, &array);
	say(cli, "Its workloads: tes ls --all --array %s", array.id);
	return 0;
}

int array_stop(struct cli *cli, const char *ref, struct err *err)
{
	struct array_summary array;

	if (remote_call(cli, &(struct remote){ OP_array_stop, .param = ref, .out = &array }, err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else
		say(cli,
		    "%s: %" PRId64 " stopped, %" PRId64 " stopping, %" PRId64 " had ended before",
		    array.id, array.stopped, array.stopping, array.succeeded + array.failed);
	return 0;
}
