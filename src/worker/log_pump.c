/* Carries a container's output to the server: one thread reads from the engine into a bounded
 * queue, one, there from the first line, sends batches.  What ends before the reader has begun is
 * read by the lease's own thread.  The first line goes at once, then at most a batch every
 * SEND_EVERY_MS.  An entry leaves the queue when the server has it, so nothing is lost, and a
 * repeat is recognised there by its number.
 *
 * A server that went back to an older copy of its store has less than it acknowledged.  Such a
 * one has been started anew, so with each new session it is asked how far it has got, and what
 * the engine still has from there is read and sent again. */
#include "internal.h"

#define SEND_EVERY_MS  50
#define BATCH_ENTRIES  500
#define BATCH_BYTES    ((size_t)256 << 10)
#define QUEUE_BYTES    ((size_t)1 << 20)
#define QUEUE_ENTRIES  8192
#define LINE_MAX_BYTES ((size_t)65536) /* of one entry's text */
#define REREAD_MS      100
/* The reader begins so long after the order to start the container.  By then an engine that takes
 * its time is busy with that and lets the question wait until it is done: a container that ends
 * at once would otherwise keep us waiting for its whole teardown.  With one that is quicker,
 * short jobs need no reader. */
#define START_WAIT_MS 15
#define LOOK_EVERY_MS 200
#define LOST                                                                              \
	"[tes] output is lost here: the server has gone back to an older copy of its store, " \
	"and the machine no longer has it"

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
	struct thread_task reader, sender;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int cancel, cancel_reader; /* of what the two are waiting for */
	bool stopping, ended, read_all, cut, kicked, finished;
	bool sending; /* the sender is there: since the first line, many jobs have none */
	bool reading_here; /* the lease's thread reads */
	bool full;	   /* it stopped: there is more than the queue takes */
	bool behind;	     /* the server is, at server_seq: the reader is to go back */
	int64_t server_seq;
	int64_t session;     /* in which the server was last heard to have all that is acked */
	struct output_cursor cursor;
	struct output_position acked;
	struct pump_entry *queue; /* of QUEUE_ENTRIES, there with the sender */
	size_t head, count, bytes;
};

static void entry_drop(struct log_pump *p)
{
	struct pump_entry *e = &p->queue[p->head];

	p->bytes -= e->weight;
	free(take_ptr(e->text));
	p->head = (p->head + 1) % QUEUE_ENTRIES;
	p->count--;
}

static void queue_clear(struct log_pump *p)
{
	while (p->count)
		entry_drop(p);
}

static void acked_take(struct log_pump *p, int64_t seq)
{
	while (p->count && p->queue[p->head].after.seq <= seq) {
		p->acked = p->queue[p->head].after;
		entry_drop(p);
	}
}

/* The reader is of no use where it is. */
static void reader_interrupt(struct log_pump *p)
{
	__atomic_store_n(&p->cancel_reader, 1, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&p->cond);
}

static bool over(const struct log_pump *p)
{
	return p->stopping || p->cut;
}

static void *reader_thread(void *arg);
static void *sender_thread(void *arg);

/* At once, if it has not begun.  Called with the lock held. */
static void reader_need(struct log_pump *p)
{
	if (thread_task_cancel(&p->reader))
		thread_task_start(&p->reader, reader_thread, p);
}

/* Called with the lock held. */
static void sender_need(struct log_pump *p)
{
	if (p->sending)
		return;
	p->queue = xreallocarray(NULL, QUEUE_ENTRIES, sizeof(*p->queue));
	thread_task_start(&p->sender, sender_thread, p);
	p->sending = true;
}

/* ---- reading ---- */

static size_t json_weight(const char *s, size_t len)
{
	size_t weight = 80;

	for (size_t i = 0; i < len; i++)
		weight += (unsigned char)s[i] < 0x20 ? 6 : s[i] == '"' || s[i] == '\\' ? 2 : 1;
	return weight;
}

static void queue_add(struct log_pump *p, enum log_stream stream, int64_t at_ms, const char *line,
		      size_t len, bool whole)
{
	struct pump_entry *e;

	sender_need(p);
	e = &p->queue[(p->head + p->count) % QUEUE_ENTRIES];
	*e = (struct pump_entry){ .text = xmalloc(len + 2),
				  .len = len,
				  .weight = json_weight(line, len),
				  .stream = stream,
				  .at_ms = MAX(at_ms, 1),
				  .after = p->cursor.at };
	memcpy(e->text, line, len);
	if (whole)
		e->text[e->len++] = '\n';
	e->text[e->len] = '\0';
	p->bytes += e->weight;
	if (p->count++ == 0 || p->count == BATCH_ENTRIES)
		pthread_cond_broadcast(&p->cond);
}

static bool has_room(const struct log_pump *p, size_t weight)
{
	return p->count < QUEUE_ENTRIES && (!p->count || p->bytes + weight <= QUEUE_BYTES);
}

static int on_line(void *arg, enum log_stream stream, int64_t at_ns, const char *line,
		   size_t len)
{
	struct log_pump *p = arg;
	size_t weight = json_weight(line, len);
	/* What is cut at the engine's limit continues in the next entry: no line end there. */
	bool whole = len < LINE_MAX_BYTES - 4;
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	while (!over(p) && !p->behind && !p->reading_here && !has_room(p, weight))
		pthread_cond_wait(&p->cond, &p->lock);
	p->full = !has_room(p, weight);
	if (over(p) || p->behind || p->full)
		rc = 1;
	else if (output_cursor_take(&p->cursor, at_ns))
		queue_add(p, stream, at_ns / 1000000, line, len, whole);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

struct delivered {
	struct output_cursor cursor;
	int64_t lines;
};

static int on_line_again(void *arg, enum log_stream stream, int64_t at_ns, const char *line,
			 size_t len)
{
	struct delivered *d = arg;

	if (output_cursor_take(&d->cursor, at_ns))
		return 1; /* what was delivered is a beginning: here it ends */
	d->lines++;
	return 0;
}

/* Whether a failed look at the engine says that there is nothing (any more): a container that is
 * gone has no output, and some engines are told to keep none. */
static bool is_final(enum err_code code)
{
	return code != ERR_UNAVAILABLE && code != ERR_TIMEOUT;
}

/* Numbers what the engine still has so that it follows what the server has, and goes on from
 * there.  Called with the lock held; -1: the engine does not say now. */
static int go_back(struct log_pump *p, struct err *err)
{
	struct delivered d = { .lines = 0 };
	int64_t missing = p->acked.seq - p->server_seq;
	bool all;
	int rc;

	output_cursor_init(&d.cursor, &p->acked);
	pthread_mutex_unlock(&p->lock);
	rc = runtime_logs(agent_runtime(p->w), p->lease, 0, false, &p->cancel, on_line_again, &d,
			  &all, err);
	pthread_mutex_lock(&p->lock);
	if (rc < 0 && (over(p) || !is_final(err->code)))
		return -1;
	p->behind = false;
	p->acked = (struct output_position){ .seq = p->server_seq,
					     .count = MAX(d.lines - missing, 0) };
	/* The words take a number of their own. */
	p->acked.seq += missing > d.lines;
	output_cursor_init(&p->cursor, &p->acked);
	if (missing > d.lines)
		queue_add(p, LOG_SYSTEM, now_ms_get(), LOST, strlen(LOST), true);
	pthread_cond_broadcast(&p->cond);
	log_line(LOG_WARN, "the server has less output than it acknowledged: sending it again", "lease",
		 p->lease, "lost", missing > d.lines ? "some" : NULL, NULL);
	return 0;
}

/* What is new, to the end, or while it is written. */
static int read_on(struct log_pump *p, bool last, const volatile int *cancel, struct err *err)
{
	int64_t since_ns = p->cursor.at.since_ns;
	bool all = false;
	int rc;

	p->kicked = p->full = false;
	output_cursor_rewind(&p->cursor);
	pthread_mutex_unlock(&p->lock);
	rc = runtime_logs(agent_runtime(p->w), p->lease, since_ns, !last, cancel, on_line, p, &all,
			  err);
	if (rc == 0 && !last)
		lease_wake(p->l); /* it seems to have ended */
	pthread_mutex_lock(&p->lock);
	if (!p->behind && !p->full &&
	    (all || (last && (rc == 0 ? !__atomic_load_n(cancel, __ATOMIC_RELAXED)
				      : is_final(err->code))))) {
		p->read_all = true;
		pthread_cond_broadcast(&p->cond);
	}
	return rc;
}

/* Read to the end of what is there; again and again until the container has ended before the
 * reading began or was followed to its end, and once more if the server turns out to be behind. */
static void *reader_thread(void *arg)
{
	struct log_pump *p = arg;
	struct backoff backoff = { 0 };
	bool told = false;

	pthread_mutex_lock(&p->lock);
	while (!over(p) && !p->finished) {
		bool back = p->behind, last = p->ended;
		struct err err = { 0 };
		int rc;

		if (p->read_all && !back) {
			if (!p->sending && !told) {
				told = true;
				pthread_mutex_unlock(&p->lock);
				lease_wake(p->l); /* all is done */
				pthread_mutex_lock(&p->lock);
			} else {
				pthread_cond_wait(&p->cond, &p->lock);
			}
			continue;
		}
		p->read_all = false;
		__atomic_store_n(&p->cancel_reader, 0, __ATOMIC_RELAXED);
		rc = back ? go_back(p, &err) : read_on(p, last, &p->cancel_reader, &err);
		if (over(p) || p->read_all || (back ? rc == 0 : p->behind || p->kicked))
			continue;
		if (rc < 0)
			cond_wait_until(&p->cond, &p->lock,
					time_monotonic_ms() + backoff_next(&backoff));
		else if (!p->ended)
			cond_wait_until(&p->cond, &p->lock, time_monotonic_ms() + REREAD_MS);
	}
	pthread_mutex_unlock(&p->lock);
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

/* The server lacks what comes before. */
static bool is_gap(const struct err *err)
{
	return err->code == ERR_INVALID && str_eq(err->field, "entries[0].seq");
}

/* The server does not want this lease's output (any more). */
static bool is_refusal(enum err_code code)
{
	return code == ERR_NOT_FOUND || code == ERR_CONFLICT || code == ERR_GONE ||
	       code == ERR_TOO_LARGE;
}

/* Sends `n` entries, or asks how far the server has got (0). */
static int batch_send(struct log_pump *p, struct log_entry *entries, size_t n,
		      struct log_ack *ret, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct log_batch batch = { .lease = p->lease, .generation = p->generation };
	struct link_call call = { .op = OP_worker_logs, .in = &batch, .cancel = &p->cancel };

	batch.entries.items = entries;
	batch.entries.len = n;
	if (link_do(p->w->link, &call, &a, ret, err) == 0)
		return 0;
	if (err->code != ERR_INVALID || is_gap(err))
		return -1;
	for (size_t i = 0; i < n; i++)
		text_clean((char *)entries[i].text);
	err_clear(err);
	return link_do(p->w->link, &call, &a, ret, err);
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

static bool asking_due(struct log_pump *p)
{
	return p->acked.seq > 0 && p->session != link_session(p->w->link);
}

/* Called with the lock held; false: refused, it is over. */
static bool failure_take(struct log_pump *p, const struct err *err)
{
	if (is_gap(err)) {
		p->session = 0; /* ask where it is */
		return true;
	}
	if (!is_refusal(err->code) && err->code != ERR_INVALID)
		return true;
	log_err(err->code == ERR_INVALID ? LOG_ERROR : LOG_WARN, err,
		"the server takes no output of this lease, the rest is dropped", "lease", p->lease,
		NULL);
	return false;
}

static void end_early(struct log_pump *p)
{
	p->cut = true;
	__atomic_store_n(&p->cancel, 1, __ATOMIC_RELAXED);
	queue_clear(p);
	reader_interrupt(p);
}

/* One batch, or (of no entries) the question how far the server has got. */
static void send_once(struct log_pump *p, struct log_entry *entries, size_t n,
		      struct backoff *backoff)
{
	struct err err = { 0 };
	struct log_ack ack = { 0 };
	int64_t session = link_session(p->w->link);
	size_t waiting;
	int rc;

	pthread_mutex_unlock(&p->lock);
	rc = batch_send(p, entries, n, &ack, &err);
	pthread_mutex_lock(&p->lock);
	if (rc < 0) {
		if (!failure_take(p, &err))
			end_early(p);
		else
			wait_for_server(p, backoff_next(backoff));
		return;
	}
	p->session = session;
	if (ack.cut) {
		end_early(p);
	} else if (ack.seq < p->acked.seq) {
		p->behind = true;
		p->server_seq = ack.seq;
		queue_clear(p);
		reader_interrupt(p);
		if (!p->reading_here)
			reader_need(p);
	} else {
		waiting = p->count;
		acked_take(p, ack.seq);
		pthread_cond_broadcast(&p->cond);
		if (n && p->count == waiting)
			wait_for_server(p, backoff_next(backoff));
		else
			backoff->ms = 0;
	}
}

static void *sender_thread(void *arg)
{
	struct log_pump *p = arg;
	struct log_entry *entries = xcalloc(BATCH_ENTRIES, sizeof(*entries));
	struct backoff backoff = { 0 };
	int64_t sent_ms = 0;

	pthread_mutex_lock(&p->lock);
	while (!over(p)) {
		if (p->behind) {
			pthread_cond_wait(&p->cond, &p->lock);
			continue;
		}
		if (asking_due(p)) {
			send_once(p, NULL, 0, &backoff);
			continue;
		}
		if (!p->count) {
			if (p->read_all)
				break;
			pthread_cond_wait(&p->cond, &p->lock);
			continue;
		}
		/* Let some gather, but do not let them wait for long. */
		while (!p->stopping && !p->read_all && p->count < BATCH_ENTRIES &&
		       p->bytes < BATCH_BYTES && time_monotonic_ms() < sent_ms + SEND_EVERY_MS)
			cond_wait_until(&p->cond, &p->lock, sent_ms + SEND_EVERY_MS);
		sent_ms = time_monotonic_ms();
		send_once(p, entries, batch_take(p, entries), &backoff);
	}
	p->finished = true;
	pthread_cond_broadcast(&p->cond);
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
	pthread_mutex_lock(&p->lock);
	if (from->seq) /* to ask how far the server is */
		sender_need(p);
	if (!ended)
		thread_task_start_in(&p->reader, START_WAIT_MS, reader_thread, p);
	pthread_mutex_unlock(&p->lock);
	return p;
}

/* By the lease's own thread: it has nothing else to do, and no other has to be woken.  Only where
 * nothing was sent yet, so that nobody can be behind.  Called with the lock held. */
static void read_here(struct log_pump *p, const volatile int *cancel)
{
	struct err err = { 0 };

	if (p->sending || !thread_task_cancel(&p->reader))
		return;
	p->reading_here = true;
	if (read_on(p, true, cancel, &err) < 0 && !p->read_all)
		log_err(LOG_WARN, &err, "a lease's output cannot be read now, trying again",
			"lease", p->lease, NULL);
	p->reading_here = false;
}

void log_pump_ended(struct log_pump *p, const volatile int *cancel)
{
	pthread_mutex_lock(&p->lock);
	p->ended = true;
	if (!p->read_all)
		read_here(p, cancel);
	if (!p->read_all && !over(p))
		reader_need(p);
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

void log_pump_look(struct log_pump *p)
{
	pthread_mutex_lock(&p->lock);
	if (asking_due(p))
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
	ret = p->finished || (p->read_all && !p->sending);
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
	reader_interrupt(p);
	pthread_mutex_unlock(&p->lock);
	if (!thread_task_cancel(&p->reader))
		thread_task_join(&p->reader);
	if (p->sending)
		thread_task_join(&p->sender);
	queue_clear(p);
	free(p->queue);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
