#include "internal.h"

#include <unistd.h>

struct printer {
	struct cli *cli;
	struct output out, errout;
};

static int entries_print(struct printer *p, const struct log_page *page, struct err *err)
{
	for (size_t i = 0; i < page->items.len; i++) {
		const struct log_entry *e = &page->items.items[i];
		struct output *to = e->stream == LOG_STDOUT ? &p->out : &p->errout;

		/* What was written first must be seen first, where both are one terminal. */
		if (output_flush(to == &p->out ? &p->errout : &p->out, err) < 0)
			return -1;
		output_add(to, e->text ? e->text : "");
		if (e->stream == LOG_SYSTEM && to->mid_line)
			output_add(to, "\n");
	}
	return output_flush(&p->out, err) < 0 ? -1 : output_flush(&p->errout, err);
}

/* Page after page, until the present end; each has an arena of its own, because there may be many. */
static int pages_print(struct printer *p, const char *id, struct log_query *query,
		       bool *ret_cut, struct err *err)
{
	for (;;) {
		cleanup_arena struct arena arena = { 0 };
		struct log_page page;

		if (remote_call(p->cli,
				&(struct remote){ OP_workload_logs, .param = id, .in = query,
						  .out = &page, .arena = &arena },
				err) < 0)
			return -1;
		if (p->cli->json)
			print_body(p->cli);
		if (print_flush(err) < 0 || (!p->cli->json && entries_print(p, &page, err) < 0))
			return -1;
		*ret_cut = page.cut;
		if (page.items.len == 0 || page.complete)
			return 0;
		if (page.next <= query->after)
			return err_set(err, ERR_UNAVAILABLE,
				       "the server sends the same page of output again: try later");
		query->after = page.next;
	}
}

static int logs_print(struct cli *cli, const char *id, struct log_query *query, struct err *err)
{
	struct printer p = {
		.cli = cli,
		.out = { .fd = STDOUT_FILENO, .safe = cli->tty_out, .pending = STRBUF_INIT },
		.errout = { .fd = STDERR_FILENO, .safe = cli->tty_err, .pending = STRBUF_INIT },
	};
	bool cut = false;
	int rc = pages_print(&p, id, query, &cut, err);

	if (rc == 0 && p.out.safe && p.out.mid_line) {
		output_add(&p.out, "\n");
		rc = output_flush(&p.out, err);
	}
	if (rc == 0 && cut)
		say(cli, "The limit of logs was reached; what came later was not kept.");
	strbuf_release(&p.out.pending);
	strbuf_release(&p.errout.pending);
	return rc;
}

int cmd_logs(struct cli *cli, const struct args *args, struct err *err)
{
	struct log_query query;
	enum follow_end end;
	const char *id, *lease = args_get(args, "lease");

	schema_defaults(&log_query_type, &query);
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &query, err) < 0)
		return -1;
	if (args_has(args, "follow") && lease)
		return err_set(err, ERR_INVALID,
			       "--follow shows all attempts, --lease one: give one of them");
	cli->usage = false;
	if (workload_ref(cli, args, &id, err) < 0 ||
	    (lease && lease_ref(cli, id, lease, &query.lease, err) < 0))
		return -1;
	if (!args_has(args, "follow"))
		return logs_print(cli, id, &query, err);
	interrupt_catch();
	if (follow_run(cli,
		       &(struct follow){ .workload = id,
					 .since_ms = query.since_ms,
					 .status = cli->tty_err },
		       &end, err) < 0)
		return -1;
	return end == FOLLOW_DETACHED ? EXIT_DETACHED : 0;
}
