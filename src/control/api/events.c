/* What happened and who did it: the organisation's part of the hash-chained log. */
#include "../internal.h"

struct tail_state {
	char org_id[ID_SIZE], subject[64];
	int64_t after;
};

static int events_after(struct db_conn *conn, const struct tail_state *s, int64_t limit, struct arena *a,
			struct event **ret, size_t *ret_len, struct err *err)
{
	return db_select(conn, &event_type, "events",
			 "WHERE org_id = $1 AND seq > $2 AND ($3 = '' OR subject = $3) ORDER BY seq LIMIT $4",
			 DB_ARGS(DB_TEXT(s->org_id), DB_INT(s->after), DB_TEXT(s->subject), DB_INT(limit)), a, (void **)ret, ret_len,
			 err);
}

static int tail_pull(struct live *st, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct tail_state *s = st->state;
	struct event *events;
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	size_t len = 0;

	do {
		if (events_after(conn, s, 200, a, &events, &len, err) < 0)
			return -1;
		for (size_t i = 0; i < len; i++) {
			char id[24];

			strbuf_reset(&text);
			schema_write(&event_type, &events[i], &text);
			snprintf(id, sizeof(id), "%" PRId64, events[i].seq);
			if (!live_push(st, "event", id, (struct slice){ text.buf, text.len }))
				return 1;
			s->after = events[i].seq;
		}
	} while (len == 200);
	return 0;
}

int op_event_list(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct event_query *q = call->in;
	struct event_page *out = call->out;
	struct tail_state s = { .after = q->after };
	struct event *items;

	snprintf(s.org_id, sizeof(s.org_id), "%s", call->caller.org_id);
	snprintf(s.subject, sizeof(s.subject), "%s", q->subject ? q->subject : "");
	if (call->last_event_id && int_parse(call->last_event_id, 0, INT64_MAX, &s.after, err) < 0)
		return err_set_field(err, "Last-Event-ID", "\"%.40s\" is not a number of an event", call->last_event_id);
	if (q->follow || call->wants_stream) {
		struct tail_state *state = xmalloc(sizeof(*state));

		*state = s;
		call->stream = live_new(c, "org", s.org_id, tail_pull, state, free);
		return 0;
	}
	if (events_after(conn, &s, q->limit, call->arena, &items, &out->items.len, err) < 0)
		return -1;
	out->items.items = items;
	out->next = out->items.len ? items[out->items.len - 1].seq : s.after;
	return 0;
}
