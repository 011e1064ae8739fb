/* The publisher: numbers committed events, chains them by hash, and wakes who listens.  One leader does it, in the
 * order of their time and of their making, so that per subject the order is that of its transitions.
 *
 *   hash = SHA-256(prev_hash "\n" id "\n" org_id "\n" actor "\n" subject "\n" kind "\n" reason "\n" text "\n" at_ms "\n" seq)
 */
#include "internal.h"

#define BATCH 500

void event_hash(const struct event *e, char ret[static SHA256_HEX_SIZE])
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	const char *const parts[] = { e->prev_hash, e->id, e->org_id, e->actor, e->subject, e->kind, e->reason, e->text };

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		strbuf_addf(&text, "%s\n", parts[i] ? parts[i] : "");
	strbuf_addf(&text, "%" PRId64 "\n%" PRId64, e->at_ms, e->seq);
	sha256_hex(text.buf, text.len, ret);
}

struct publish_arg {
	struct control *c;
	size_t len;
};

static int chain_tail(struct db_conn *conn, struct arena *a, int64_t *ret_seq, const char **ret_hash, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int rc;

	*ret_seq = 0;
	*ret_hash = "";
	if (db_query(conn, "SELECT seq, hash FROM events WHERE seq IS NOT NULL ORDER BY seq DESC LIMIT 1", DB_NO_ARGS, &rows,
		     err) < 0 || (rc = db_next(rows, err)) < 0)
		return -1;
	if (rc > 0) {
		*ret_seq = db_int(rows, 0);
		*ret_hash = db_text(rows, 1, a);
	}
	return 0;
}

static int publish_tx(struct db_conn *conn, void *arg, struct err *err)
{
	enum { COLUMNS = 4 };
	struct publish_arg *x = arg;
	cleanup_arena struct arena arena = { 0 };
	struct db_value *values, *v;
	struct event *events;
	const char *prev;
	int64_t seq;

	if (chain_tail(conn, &arena, &seq, &prev, err) < 0 ||
	    db_select(conn, &event_type, "events", "WHERE seq IS NULL ORDER BY at_ms, made, id LIMIT $1", DB_ARGS(DB_INT(BATCH)), &arena,
		      (void **)&events, &x->len, err) < 0)
		return -1;
	values = v = arena_array(&arena, struct db_value, x->len * COLUMNS);
	for (size_t i = 0; i < x->len; i++) {
		struct event *e = &events[i];
		char hash[SHA256_HEX_SIZE];

		e->seq = ++seq;
		e->prev_hash = prev;
		event_hash(e, hash);
		prev = arena_strdup(&arena, hash);
		*v++ = DB_TEXT(e->id);
		*v++ = DB_INT(e->seq);
		*v++ = DB_TEXT(e->prev_hash);
		*v++ = DB_TEXT(prev);
		wake(x->c, conn, "org", e->org_id);
	}
	return db_exec_batch(conn, "UPDATE events SET seq = $2, prev_hash = $3, hash = $4 WHERE id = $1", values, COLUMNS, x->len,
			     NULL, err);
}

int publisher_round(struct control *c, struct db_conn *conn, int64_t now_ms, int64_t *ret_next_ms, struct err *err)
{
	struct publish_arg x = { c, 0 };
	int64_t waiting;
	bool leads;

	*ret_next_ms = now_ms + 2 * SECOND_MS;
	if (leader_check(c, conn, "publisher", now_ms, &leads, err) < 0)
		return -1;
	if (!leads)
		return 0;
	if (db_query_int(conn, "SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE seq IS NULL LIMIT 1) t", DB_NO_ARGS, 0, &waiting,
			 err) < 0)
		return -1;
	if (waiting && db_tx(conn, publish_tx, &x, err) < 0)
		return -1;
	if (x.len == BATCH)
		*ret_next_ms = now_ms;
	return 0;
}
