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

int event_append(struct control *c, struct db_conn *conn, const char *org_id, const char *actor, const char *subject,
		 const char *kind, const char *reason, const char *text, struct err *err)
{
	char id[ID_SIZE];

	id_make("ev", control_now(c), &c->random, id);
	if (db_exec(conn,
		    "INSERT INTO events (id, org_id, actor, subject, kind, reason, text, at_ms, made)"
		    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		    DB_ARGS(DB_TEXT(id), DB_TEXT(org_id), DB_TEXT(actor), DB_TEXT(subject), DB_TEXT(kind),
			    DB_TEXT(reason ? reason : ""), DB_TEXT(text ? text : ""), DB_INT(control_now(c)), DB_INT(atomic_fetch_add(&c->events_made, 1))), NULL,
		    err) < 0)
		return -1;
	wake(c, conn, "duty", "publisher");
	return 0;
}
