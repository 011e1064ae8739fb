#include "internal.h"

static void event_print(struct cli *cli, const struct event *e)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT, safe = STRBUF_INIT;
	char at[32];

	time_format(e->at_ms, at);
	strbuf_addf(&line, "%s  %-20s  %s  %s", at, e->kind ? e->kind : "",
		    e->subject ? e->subject : "",
		    e->text && *e->text ? e->text
		    : e->reason		? e->reason
					: "");
	if (!str_empty(e->actor) && !str_eq(e->actor, "system"))
		strbuf_addf(&line, "  (%s)", e->actor);
	strbuf_add_escaped(&safe, line.buf, line.len);
	(void)cli;
	print("%s\n", safe.buf);
}

static int on_event(void *arg, const char *event, struct slice data, struct err *err)
{
	struct cli *cli = arg;
	cleanup_arena struct arena arena = { 0 };
	struct event e;

	if (str_eq(event, STREAM_PAUSE))
		return print_flush(err);
	if (str_eq(event, STREAM_LOST))
		say(cli, "the connection to %s is lost; trying again (Ctrl-C ends this)",
		    cli->url);
	if (!str_eq(event, "event"))
		return 0;
	if (schema_parse(&event_type, data, FROM_SERVER, &arena, &e, err) < 0)
		return err_wrap(err, "the server sent an event that cannot be read");
	if (cli->json)
		print_json(cli, data);
	else
		event_print(cli, &e);
	return 0;
}

int cmd_events(struct cli *cli, const struct args *args, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct event_query query;
	struct event_page page;
	const char *subject = args_get(args, "subject");
	enum follow_end end;

	schema_defaults(&event_query_type, &query);
	query.follow = args_has(args, "follow");
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &query, err) < 0)
		return -1;
	cli->usage = false;
	if (subject && subject_ref(cli, subject, &query.subject, err) < 0)
		return -1;
	if (query.follow) {
		interrupt_catch();
		schema_write_query(&event_query_type, &query, &cli->arena, &text);
		if (stream_read(cli, &(struct stream_want){ OP_event_list, NULL, text.buf, 0 },
				on_event, cli, &end, err) < 0)
			return -1;
		return end == FOLLOW_DETACHED ? EXIT_DETACHED : 0;
	}
	if (remote_call(cli, &(struct remote){ OP_event_list, .in = &query, .out = &page },
			err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	for (size_t i = 0; !cli->json && i < page.items.len; i++)
		event_print(cli, &page.items.items[i]);
	if (page.items.len == (size_t)query.limit)
		say(cli, "There may be more: --after %" PRId64 " goes on.", page.next);
	return 0;
}
