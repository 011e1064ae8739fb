/* Logs: workers append, customers read and follow.
 *
 * One blob a lease, a line a JSON object {"seq","at_ms","stream","text"}.  The lease's row says how many bytes and up to
 * which number are there; it is claimed before the bytes are written and commits after they are durable, so that a crash
 * between the two leaves a tail that the next append cuts, and the worker, who had no answer, sends again.  Sequence
 * numbers make repeats harmless. */
#include "../internal.h"

#define CHUNK_MAX (1 << 20)

static const char *log_key(const char *lease_id, struct arena *a)
{
	return arena_printf(a, "logs/%s", lease_id);
}

static void line_write(const struct log_entry *e, struct strbuf *out)
{
	schema_write(&log_entry_type, e, out);
	strbuf_addc(out, '\n');
}

/* ---- appending -------------------------------------------------------------------------------------------- */

/* What is new of the batch, up to the limit. Numbers must follow each other: a gap would be a lost line. */
static int lines_collect(const struct control *c, const struct log_batch *in, struct lease *lease, struct strbuf *out,
			 struct err *err)
{
	for (size_t i = 0; i < in->entries.len && !lease->logs_cut; i++) {
		const struct log_entry *e = &in->entries.items[i];
		size_t before = out->len;

		if (e->seq <= lease->logs_seq)
			continue;
		if (e->seq != lease->logs_seq + 1) {
			char field[48];

			snprintf(field, sizeof(field), "entries[%zu].seq", i);
			return err_set_field(err, field, "is %" PRId64 ", %" PRId64 " comes next: send from there", e->seq,
					     lease->logs_seq + 1);
		}
		line_write(e, out);
		if (lease->logs_bytes + (int64_t)out->len > c->config.logs_max_bytes) {
			char size[24];
			struct log_entry cut = { .seq = e->seq, .at_ms = e->at_ms, .stream = LOG_SYSTEM };

			out->len = before;
			out->buf[before] = '\0';
			size_format(c->config.logs_max_bytes, size);
			cut.text = size;
			cleanup_strbuf struct strbuf text = STRBUF_INIT;

			strbuf_addf(&text, "[tes] the log limit of %s is reached: what follows is not kept", size);
			cut.text = text.buf;
			line_write(&cut, out);
			lease->logs_cut = true;
		}
		lease->logs_seq = e->seq;
	}
	return 0;
}

int op_worker_logs(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct log_batch *in = call->in;
	struct log_ack *out = call->out;
	struct lease lease;
	int64_t at;
	cleanup_strbuf struct strbuf lines = STRBUF_INIT;

	if (lease_load(conn, in->lease, call->arena, &lease, err) < 0)
		return -1;
	if (!str_eq(lease.worker_id, call->caller.worker_id))
		return err_set_field(err, "lease", "%s is another worker's", in->lease);
	if (lease.generation != in->generation)
		return err_set(err, ERR_CONFLICT, "generation %" PRId64 " is not the present one", in->generation);
	if (lease.logs_expired) { /* the workload was removed, or long ago: nothing is kept any more */
		out->seq = in->entries.len ? in->entries.items[in->entries.len - 1].seq : lease.logs_seq;
		out->cut = true;
		return 0;
	}
	if (lines_collect(c, in, &lease, &lines, err) < 0)
		return -1;
	out->seq = lease.logs_seq;
	out->cut = lease.logs_cut;
	if (lines.len == 0)
		return 0;
	at = lease.logs_bytes;
	lease.logs_bytes += lines.len;
	wake(c, conn, "workload", lease.workload_id);
	/* The row first: whoever read it before somebody else's append ends here, and does not cut what that one
	 * committed. */
	if (lease_store(c, conn, &lease, err) < 0)
		return -1;
	return blob_append(c->blobs, log_key(lease.id, call->arena), at, lines.buf, lines.len, err);
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

/* A place in a workload's output: attempt by attempt, byte by byte. Its text is "<generation>.<offset>". */
struct place {
	int64_t generation, offset;
};

static void place_format(const struct place *p, char buf[static 48])
{
	snprintf(buf, 48, "%" PRId64 ".%" PRId64, p->generation, p->offset);
}

int log_place_parse(const char *text, int64_t *ret_generation, int64_t *ret_offset)
{
	struct slice rest = slice_of(text), part;
	struct err ignored = { 0 };
	char a[24], b[24];

	if (!slice_split(&rest, '.', &part) || part.len >= sizeof(a) || rest.len >= sizeof(b))
		return -1;
	snprintf(a, sizeof(a), "%.*s", (int)part.len, part.ptr);
	snprintf(b, sizeof(b), "%.*s", (int)rest.len, rest.ptr);
	return int_parse(a, 0, INT64_MAX, ret_generation, &ignored) < 0 ||
	       int_parse(b, 0, INT64_MAX, ret_offset, &ignored) < 0 ? -1 : 0;
}

/* The attempt at or after p->generation; false if there is none yet. */
static int attempt_find(struct db_conn *conn, const char *workload_id, const struct place *p, struct arena *a,
			struct lease *ret, bool *ret_found, struct err *err)
{
	struct lease *items;
	size_t len;

	if (db_select(conn, &lease_type, "leases", "WHERE workload_id = $1 AND generation >= $2 ORDER BY generation LIMIT 1",
		      DB_ARGS(DB_TEXT(workload_id), DB_INT(p->generation)), a, (void **)&items, &len, err) < 0)
		return -1;
	*ret_found = len > 0;
	if (len)
		*ret = items[0];
	return 0;
}

typedef int entry_fn(void *arg, const struct log_entry *e, const struct place *after, struct slice raw);

/* Whole lines from p on, at most `max` bytes of them; moves p behind what was taken. fn returning 1 stops. */
static int lines_read(struct control *c, const struct lease *lease, struct place *p, entry_fn *fn, void *arg,
		      struct arena *a, bool *ret_more, struct err *err)
{
	cleanup_strbuf struct strbuf chunk = STRBUF_INIT;
	size_t max = MIN((int64_t)CHUNK_MAX, lease->logs_bytes - p->offset);

	*ret_more = false;
	if (lease->logs_bytes <= p->offset || lease->logs_expired)
		return 0;
	if (blob_read(c->blobs, log_key(lease->id, a), p->offset, max, &chunk, err) < 0)
		return -1;
	struct slice rest = { chunk.buf, chunk.len };
	const char *end;

	while ((end = memchr(rest.ptr, '\n', rest.len))) {
		struct slice line = { rest.ptr, end - rest.ptr };
		struct log_entry e;
		int rc;

		if (schema_parse(&log_entry_type, line, FROM_SERVER, a, &e, err) < 0)
			return err_wrap(err, "the log of %s is damaged at %" PRId64, lease->id, p->offset);
		p->offset += line.len + 1;
		if ((rc = fn(arg, &e, p, line)) != 0)
			return rc;
		rest = (struct slice){ end + 1, rest.len - line.len - 1 };
	}
	*ret_more = p->offset < lease->logs_bytes;
	return 0;
}

/* ---- a page -------------------------------------------------------------------------------------------------- */

struct page_state {
	VEC(struct log_entry) items;
	int64_t since_ms, limit;
};

static int page_entry(void *arg, const struct log_entry *e, const struct place *after, struct slice raw)
{
	struct page_state *s = arg;

	(void)after;
	(void)raw;
	if (e->at_ms >= s->since_ms)
		*vec_push(&s->items) = *e;
	return s->items.len >= (size_t)s->limit;
}

/* `after` counts bytes of the chosen attempt: the newest, or the one named by `lease`. */
static int page_lease(struct db_conn *conn, const struct workload *w, const struct log_query *q, struct arena *a,
		      struct lease *ret, bool *ret_found, struct err *err)
{
	struct lease *items;
	size_t len;

	if (db_select(conn, &lease_type, "leases",
		      "WHERE workload_id = $1 AND ($2 = '' OR id = $2) ORDER BY generation DESC LIMIT 1",
		      DB_ARGS(DB_TEXT(w->id), DB_TEXT(q->lease ? q->lease : "")), a, (void **)&items, &len, err) < 0)
		return -1;
	*ret_found = len > 0;
	if (len)
		*ret = items[0];
	else if (q->lease)
		return err_set(err, ERR_NOT_FOUND, "%s is not a lease of %s", q->lease, w->id);
	return 0;
}

static int logs_page(struct control *c, struct db_conn *conn, struct call *call, const struct workload *w, struct err *err)
{
	const struct log_query *q = call->in;
	struct log_page *out = call->out;
	struct page_state s = { .since_ms = q->since_ms, .limit = q->limit };
	struct place p = { 0, q->after };
	struct lease lease;
	bool found, more = true;
	int rc = 0;

	if (page_lease(conn, w, q, call->arena, &lease, &found, err) < 0)
		return -1;
	if (!found) {
		out->complete = workload_state_is_final(w->state);
		return 0;
	}
	if (lease.logs_expired)
		return err_set(err, ERR_GONE, "the logs of %s were deleted after their time", lease.id);
	while (rc == 0 && more)
		rc = lines_read(c, &lease, &p, page_entry, &s, call->arena, &more, err);
	if (rc >= 0) {
		out->items.items = arena_array(call->arena, struct log_entry, s.items.len + 1);
		out->items.len = s.items.len;
		if (s.items.len)
			memcpy(out->items.items, s.items.items, s.items.len * sizeof(*s.items.items));
		out->next = p.offset;
		out->cut = lease.logs_cut;
		out->lease = lease.id;
		out->complete = lease.state == LEASE_ENDED && p.offset >= lease.logs_bytes;
	}
	vec_release(&s.items);
	return rc < 0 ? -1 : 0;
}

/* ---- following -------------------------------------------------------------------------------------------------- */

struct follow_state {
	char workload_id[ID_SIZE];
	struct place place;
	int64_t since_ms;
	char last_state[600];
	char lease_id[ID_SIZE], region[64]; /* where that lease runs */
	struct live *st;
};

static int follow_entry(void *arg, const struct log_entry *e, const struct place *after, struct slice raw)
{
	struct follow_state *s = arg;
	char id[48];

	if (e->at_ms < s->since_ms)
		return 0;
	place_format(after, id);
	return live_push(s->st, "log", id, raw) ? 0 : 1;
}

/* State, reason and preparation progress, whenever they change: what a person who follows wants to see between lines. */
static bool follow_status(struct follow_state *s, const struct workload *w, const struct lease *lease)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	char id[48];

	strbuf_addf(&text, "{\"state\":\"%s\",\"reason\":", workload_state_names[w->state]);
	json_write_text(w->reason, &text);
	strbuf_adds(&text, ",\"reason_text\":");
	json_write_text(w->reason_text, &text);
	strbuf_addf(&text, ",\"exit_code\":%" PRId64, w->exit_code);
	if (lease) {
		strbuf_addf(&text, ",\"lease\":\"%s\",\"worker\":\"%s\",\"region\":", lease->id, lease->worker_id);
		json_write_text(s->region[0] ? s->region : NULL, &text);
		strbuf_addf(&text, ",\"rate_uusd_h\":%" PRId64 ",\"phase\":", lease->rate_uusd_h);
		json_write_text(lease->state == LEASE_PREPARING ? lease->phase : NULL, &text);
		strbuf_addf(&text, ",\"progress_done\":%" PRId64 ",\"progress_total\":%" PRId64 ",\"unreachable\":%s",
			    lease->progress_done, lease->progress_total, lease->unreachable_since_ms ? "true" : "false");
	}
	strbuf_addc(&text, '}');
	if (text.len < sizeof(s->last_state) && str_eq(text.buf, s->last_state))
		return true;
	snprintf(s->last_state, sizeof(s->last_state), "%s", text.buf);
	place_format(&s->place, id);
	return live_push(s->st, "state", id, (struct slice){ text.buf, text.len });
}

/* One pass; 1 when the stream is complete: the workload has ended and everything was sent. */
static int follow_once(struct live *st, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct follow_state *s = st->state;
	struct workload w;
	struct lease lease;
	bool found, more = true;
	int rc = 0;

	s->st = st;
	if (workload_load(conn, NULL, s->workload_id, a, &w, err) < 0 ||
	    attempt_find(conn, w.id, &s->place, a, &lease, &found, err) < 0)
		return -1;
	if (found && !str_eq(s->lease_id, lease.id)) {
		struct worker worker;

		if (worker_load(conn, lease.worker_id, a, &worker, err) < 0)
			return -1;
		snprintf(s->lease_id, sizeof(s->lease_id), "%s", lease.id);
		snprintf(s->region, sizeof(s->region), "%s",
			 worker.inventory && worker.inventory->region ? worker.inventory->region : "");
	}
	if (!follow_status(s, &w, found ? &lease : NULL))
		return 1;
	if (!found)
		return workload_state_is_final(w.state);
	if (lease.generation != s->place.generation)
		s->place = (struct place){ lease.generation, 0 };
	while (rc == 0 && more)
		rc = lines_read(st->c, &lease, &s->place, follow_entry, s, a, &more, err);
	if (rc != 0)
		return rc;
	if (lease.state != LEASE_ENDED)
		return 0;
	if (w.lease_id && !str_eq(w.lease_id, lease.id)) {
		s->place = (struct place){ lease.generation + 1, 0 }; /* there is a later attempt */
		return follow_once(st, conn, a, err);
	}
	return workload_state_is_final(w.state);
}

struct follow_arg {
	struct live *st;
	struct arena *a;
	int rc;
};

static int follow_read(struct db_conn *conn, void *arg, struct err *err)
{
	struct follow_arg *x = arg;

	x->rc = follow_once(x->st, conn, x->a, err);
	return x->rc < 0 ? -1 : 0;
}

static int follow_pull(struct live *st, struct db_conn *conn, struct arena *a, struct err *err)
{
	struct follow_arg x = { st, a, 0 };

	if (db_read(conn, follow_read, &x, err) < 0)
		return -1;
	if (x.rc == 1)
		(void)live_push(st, "end", "", SLICE("{}"));
	return x.rc;
}

int op_workload_logs(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct log_query *q = call->in;
	struct workload w;
	struct follow_state *s;

	if (workload_load(conn, call->caller.org_id, call->params[0], call->arena, &w, err) < 0)
		return -1;
	if (!q->follow && !call->wants_stream)
		return logs_page(c, conn, call, &w, err);
	s = xcalloc(1, sizeof(*s));
	snprintf(s->workload_id, sizeof(s->workload_id), "%s", w.id);
	s->since_ms = q->since_ms;
	if (call->last_event_id && log_place_parse(call->last_event_id, &s->place.generation, &s->place.offset) < 0) {
		free(s);
		return err_set_field(err, "Last-Event-ID", "\"%.40s\" is not an id of this stream: leave it out to begin anew",
				     call->last_event_id);
	}
	call->stream = live_new(c, "workload", w.id, follow_pull, s, free);
	return 0;
}
