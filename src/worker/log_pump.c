/* Carries a container's output to the server: one thread reads from the engine into a bounded
 * queue, one, there from the first line, sends batches. The first line goes at once, then at most a batch every
 * SEND_EVERY_MS.  An entry leaves the queue when the server has it, so nothing is lost, and a
 * repeat is recognised there by its number. */
#include "internal.h"

#define SEND_EVERY_MS  50
#define BATCH_ENTRIES  500
#define BATCH_BYTES    ((size_t)256 << 10)
#define QUEUE_BYTES    ((size_t)1 << 20)
#define QUEUE_ENTRIES  8192
#define LINE_MAX_BYTES ((size_t)65536) /* of one entry's text */
#define REREAD_MS      100
/* The reader is started just before the container.  By the time that it asks, the engine is
 * busy starting it and lets the question wait until that is done: a container that ends at once
 * would otherwise keep us waiting for its whole teardown. */
#define START_WAIT_MS 15
#define LOOK_EVERY_MS 200

struct pump_entry {
	char *text;
	size_t len, weight; /* weight: bytes as JSON, about */
	int64_t at_ms;
	enum log_stream stream;
	struct output_position after; /* once it is acknowledged */
};

struct log_pump {
	struct agent *w;
	struct lease_run *l;
	char lease[ID_SIZE];
	int64_t generation;
	pthread_t reader, sender;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int cancel; /* of what the two are waiting for */
	bool stopping, ended, read_all, cut, kicked;
	bool sending; /* the sender is there: since the first line, many jobs have none */
	struct output_cursor cursor;
	struct output_position acked;
	struct pump_entry queue[QUEUE_ENTRIES];
	size_t head, count, bytes;
};

static void entry_drop(struct log_pump *p)
{
	struct pump_entry *e = &p->queue[p->head];

	p->bytes -= e->weight;
	p->acked = e->after;
	free(take_ptr(e->text));
	p->head = (p->head + 1) % QUEUE_ENTRIES;
	p->count--;
}

static void *sender_thread(void *arg);

/* ---- reading ---- */

static size_t json_weight(const char *s, size_t len)
{
	size_t weight = 80;

	for (size_t i = 0; i < len; i++)
		weight += (unsigned char)s[i] < 0x20 ? 6 : s[i] == '"' || s[i] == '\\' ? 2 : 1;
	return weight;
}

static int on_line(void *arg, enum log_stream stream, int64_t at_ns, const char *line,
		   size_t len)
{
	struct log_pump *p = arg;
	struct pump_entry *e;
	size_t weight = json_weight(line, len);
	/* What is cut at the engine's limit continues in the next entry: no line end there. */
	bool whole = len < LINE_MAX_BYTES - 4;
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	while (!p->stopping && !p->cut &&
	       (p->count == QUEUE_ENTRIES || (p->count && p->bytes + weight > QUEUE_BYTES)))
		pthread_cond_wait(&p->cond, &p->lock);
	if (p->stopping || p->cut) {
		rc = 1;
	} else if (output_cursor_take(&p->cursor, at_ns)) {
		e = &p->queue[(p->head + p->count) % QUEUE_ENTRIES];
		*e = (struct pump_entry){ .text = xmalloc(len + 2),
					  .len = len,
					  .weight = weight,
					  .stream = stream,
					  .at_ms = MAX(at_ns / 1000000, 1),
					  .after = p->cursor.at };
		memcpy(e->text, line, len);
		if (whole)
			e->text[e->len++] = '\n';
		e->text[e->len] = '\0';
		p->bytes += weight;
		if (p->count++ == 0 || p->count == BATCH_ENTRIES)
			pthread_cond_broadcast(&p->cond);
		if (!p->sending && thread_start(&p->sender, sender_thread, p) != 0)
			abort(); /* no threads: nothing works on this machine */
		p->sending = true;
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* Read to the end of what is there; again and again until the container has ended before the
 * reading began. */
static void *reader_thread(void *arg)
{
	struct log_pump *p = arg;
	struct backoff backoff = { 0 };

	pthread_mutex_lock(&p->lock);
	if (!p->ended)
		cond_wait_until(&p->cond, &p->lock, time_monotonic_ms() + START_WAIT_MS);
	while (!p->stopping && !p->cut) {
		bool last = p->ended;
		struct err err = { 0 };
		int rc;

		p->kicked = false;
		output_cursor_rewind(&p->cursor);
		pthread_mutex_unlock(&p->lock);
		rc = runtime_logs(agent_runtime(p->w), p->lease, p->cursor.at.since_ns, !last,
				  &p->cancel, on_line, p, &err);
		if (rc == 0 && !last)
			lease_wake(p->l); /* it seems to have ended */
		pthread_mutex_lock(&p->lock);
		/* A container that is gone has no output any more, and some engines are told to
		 * keep none. */
		if (last &&
		    (rc == 0 || (err.code != ERR_UNAVAILABLE && err.code != ERR_TIMEOUT)))
			break;
		if (!p->ended && !p->kicked && !p->stopping && !p->cut)
			cond_wait_until(&p->cond, &p->lock,
					time_monotonic_ms() +
						(rc < 0 ? backoff_next(&backoff) : REREAD_MS));
		else if (rc < 0 && !p->stopping && !p->cut)
			cond_wait_until(&p->cond, &p->lock,
					time_monotonic_ms() + backoff_next(&backoff));
	}
	p->read_all = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	lease_wake(p->l);
	return NULL;
}

/* ---- sending ---- */

/* Some servers take no control characters. */
static void text_clean(char *s)
{
	for (; *s; s++)
		if (((unsigned char)*s < 0x20 && *s != '\n' && *s != '\t') || *s == 0x7f)
			*s = '?';
}

/* Called with the lock held; the entries stay where they are until they are acknowledged. */
static size_t batch_take(struct log_pump *p, struct log_entry *entries)
{
	size_t n = 0, bytes = 0;

	while (n < p->count && n < BATCH_ENTRIES) {
		const struct pump_entry *e = &p->queue[(p->head + n) % QUEUE_ENTRIES];

		if (n && bytes + e->weight > BATCH_BYTES)
			break;
		bytes += e->weight;
		entries[n++] = (struct log_entry){ .seq = e->after.seq,
						   .at_ms = e->at_ms,
						   .stream = e->stream,
						   .text = e->text };
	}
	return n;
}

/* The server does not want this lease's output (any more). */
static bool is_refusal(enum err_code code)
{
	return code == ERR_NOT_FOUND || code == ERR_CONFLICT || code == ERR_GONE ||
	       code == ERR_TOO_LARGE;
}

/* Sends `n` entries; returns what the server has, or -1. */
static int64_t batch_send(struct log_pump *p, struct log_entry *entries, size_t n,
			  bool *ret_cut, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct log_batch batch = { .lease = p->lease, .generation = p->generation };
	struct log_ack ack = { 0 };
	struct link_call call = { .op = OP_worker_logs, .in = &batch, .cancel = &p->cancel };

	batch.entries.items = entries;
	batch.entries.len = n;
	if (link_do(p->w->link, &call, &a, &ack, err) < 0) {
		if (err->code != ERR_INVALID)
			return -1;
		for (size_t i = 0; i < n; i++)
			text_clean((char *)entries[i].text);
		err_clear(err);
		if (link_do(p->w->link, &call, &a, &ack, err) < 0)
			return -1;
	}
	*ret_cut = ack.cut;
	return ack.seq;
}

/* A while, or until the server has answered a heartbeat: then it is back. */
static void wait_for_server(struct log_pump *p, int64_t wait_ms)
{
	int64_t heard = __atomic_load_n(&p->w->heard_ms, __ATOMIC_RELAXED),
		now = time_monotonic_ms(), until = now + wait_ms;

	while (!p->cut && !p->stopping && now < until &&
	       heard == __atomic_load_n(&p->w->heard_ms, __ATOMIC_RELAXED)) {
		cond_wait_until(&p->cond, &p->lock, MIN(until, now + LOOK_EVERY_MS));
		now = time_monotonic_ms();
	}
}

static void send_once(struct log_pump *p, struct log_entry *entries, struct backoff *backoff)
{
	struct err err = { 0 };
	bool cut = false;
	int64_t acked;
	size_t n = batch_take(p, entries), taken;

	pthread_mutex_unlock(&p->lock);
	acked = batch_send(p, entries, n, &cut, &err);
	pthread_mutex_lock(&p->lock);
	if (acked < 0 && is_refusal(err.code)) {
		log_err(LOG_WARN, &err, "the server takes no output", "lease", p->lease, NULL);
		cut = true;
	} else if (acked < 0 && err.code == ERR_INVALID) {
		log_err(LOG_ERROR, &err, "the server refuses output, the rest is dropped",
			"lease", p->lease, NULL);
		cut = true;
	}
	taken = p->count;
	while (p->count && p->queue[p->head].after.seq <= acked)
		entry_drop(p);
	taken -= p->count;
	if (cut) {
		p->cut = true;
		__atomic_store_n(&p->cancel, 1, __ATOMIC_RELAXED);
		while (p->count)
			entry_drop(p);
	}
	pthread_cond_broadcast(&p->cond);
	if (taken == 0)
		wait_for_server(p, backoff_next(backoff));
	else
		backoff->ms = 0;
}

static void *sender_thread(void *arg)
{
	struct log_pump *p = arg;
	struct log_entry *entries = xcalloc(BATCH_ENTRIES, sizeof(*entries));
	struct backoff backoff = { 0 };
	int64_t sent_ms = 0;

	pthread_mutex_lock(&p->lock);
	while (!p->stopping && !p->cut && !(p->read_all && !p->count)) {
		if (!p->count) {
			pthread_cond_wait(&p->cond, &p->lock);
			continue;
		}
		/* Let some gather, but do not let them wait for long. */
		while (!p->stopping && !p->read_all && p->count < BATCH_ENTRIES &&
		       p->bytes < BATCH_BYTES && time_monotonic_ms() < sent_ms + SEND_EVERY_MS)
			cond_wait_until(&p->cond, &p->lock, sent_ms + SEND_EVERY_MS);
		sent_ms = time_monotonic_ms();
		send_once(p, entries, &backoff);
	}
	pthread_mutex_unlock(&p->lock);
	lease_wake(p->l);
	free(entries);
	return NULL;
}

/* ---- from outside ---- */

struct log_pump *log_pump_start(struct agent *w, struct lease_run *l, const char *lease,
				int64_t generation, const struct output_position *from,
				bool ended)
{
	struct log_pump *p = xcalloc(1, sizeof(*p));

	p->w = w;
	p->l = l;
	p->generation = generation;
	p->acked = *from;
	p->ended = ended;
	snprintf(p->lease, sizeof(p->lease), "%s", lease);
	output_cursor_init(&p->cursor, from);
	pthread_mutex_init(&p->lock, NULL);
	cond_init_monotonic(&p->cond);
	if (thread_start(&p->reader, reader_thread, p) != 0)
		abort(); /* no threads: nothing works on this machine */
	return p;
}

void log_pump_ended(struct log_pump *p)
{
	pthread_mutex_lock(&p->lock);
	p->ended = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

void log_pump_kick(struct log_pump *p)
{
	pthread_mutex_lock(&p->lock);
	p->kicked = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

bool log_pump_done(struct log_pump *p)
{
	bool ret;

	pthread_mutex_lock(&p->lock);
	ret = p->cut || (p->read_all && !p->count);
	pthread_mutex_unlock(&p->lock);
	return ret;
}

void log_pump_position(struct log_pump *p, struct output_position *ret, bool *ret_cut)
{
	pthread_mutex_lock(&p->lock);
	*ret = p->acked;
	*ret_cut = p->cut;
	pthread_mutex_unlock(&p->lock);
}

void log_pump_free(struct log_pump *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	__atomic_store_n(&p->cancel, 1, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->reader, NULL);
	if (p->sending)
		pthread_join(p->sender, NULL);
	while (p->count)
		entry_drop(p);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
