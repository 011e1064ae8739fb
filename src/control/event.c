/* Events: appended unnumbered with the transition that they tell of (a transactional outbox); the publisher numbers them,
 * chains their hashes and announces them (publisher.c). */
#include "internal.h"

#include <stdatomic.h>

const char *new_id(struct control *c, const char *kind, struct arena *a)
{
	char id[ID_SIZE];

	id_make(kind, control_now(c), &c->random, id);
	return arena_strdup(a, id);
}

const char *caller_actor(const struct caller *caller)
{
	switch (caller->kind) {
	case CALLER_KEY:
		return caller->key_id;
	case CALLER_WORKER:
		return caller->worker_id;
	case CALLER_OPERATOR:
		return "operator";
	case CALLER_NOBODY:
		break;
	}
	return "anybody";
}

int events_append(struct control *c, struct db_conn *conn, const struct event_item *items, size_t len, struct err *err)
{
	enum { COLUMNS = 9 };
	cleanup_arena struct arena arena = { 0 };
	struct db_value *values = arena_array(&arena, struct db_value, len * COLUMNS), *v = values;
	int64_t now = control_now(c);

	for (size_t i = 0; i < len; i++) {
		const struct event_item *e = &items[i];

		*v++ = DB_TEXT(new_id(c, "ev", &arena));
		*v++ = DB_TEXT(e->org_id);
		*v++ = DB_TEXT(e->actor);
		*v++ = DB_TEXT(e->subject);
		*v++ = DB_TEXT(e->kind);
		*v++ = DB_TEXT(e->reason ? e->reason : "");
		*v++ = DB_TEXT(e->text ? e->text : "");
		*v++ = DB_INT(now);
		*v++ = DB_INT(atomic_fetch_add(&c->events_made, 1));
	}
	if (db_exec_batch(conn,
			  "INSERT INTO events (id, org_id, actor, subject, kind, reason, text, at_ms, made)"
			  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
			  values, COLUMNS, len, NULL, err) < 0)
		return -1;
	wake(c, conn, "duty", "publisher");
	return 0;
}

int event_append(struct control *c, struct db_conn *conn, const char *org_id, const char *actor, const char *subject,
		 const char *kind, const char *reason, const char *text, struct err *err)
{
	const struct event_item item = { org_id, actor, subject, kind, reason, text };

	return events_append(c, conn, &item, 1, err);
}
