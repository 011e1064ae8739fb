/* Heartbeats: what this worker sees, at once when something changed, else as often as the
 * server asks for. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Changes go into one message with those that follow at once, until nothing has changed for a
 * moment, or nothing is left that could: what starts together ends together, and is told in one. */
#define QUIET_MS  4
#define GATHER_MS 20 /* but none waits longer */
/* How far a lease has got with its preparation is news for people only, and most of it is over
 * before anybody could read it. */
#define LATER_MS 100

/* w->lock held. */
static void due_by(struct agent *w, int64_t due_ms)
{
	if (w->due_ms <= due_ms)
		return;
	w->due_ms = due_ms;
	pthread_cond_broadcast(&w->cond);
}

void observe_soon(struct agent *w)
{
	pthread_mutex_lock(&w->lock);
	w->changed_ms = time_monotonic_ms();
	due_by(w, w->changed_ms);
	pthread_mutex_unlock(&w->lock);
}

void observe_later(struct agent *w)
{
	pthread_mutex_lock(&w->lock);
	due_by(w, time_monotonic_ms() + LATER_MS);
	pthread_mutex_unlock(&w->lock);
}

void observe_end(struct agent *w)
{
	pthread_mutex_lock(&w->lock);
	w->changed_ms = time_monotonic_ms();
	w->unended--;
	due_by(w, w->changed_ms);
	if (!w->unended)
		pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

/* What was in the message, to be settled when it has arrived. */
struct sent {
	int64_t session;
	bool inventory;
	VEC(struct usage) receipts; /* texts are the message's */
	int64_t desired_rev, asked_ms;
};

static void sent_release(struct sent *s)
{
	vec_release(&s->receipts);
}

/* Called with w->lock held: the set of leases and desired_rev belong together. */
static void observation_fill(struct agent *w, struct arena *a, struct observation *ret,
			     struct sent *sent)
{
	size_t it = 0, n = map_count(w->leases);
	const char *id;
	void *value;

	ret->leases.items = arena_array(a, struct lease_observation, n + 1);
	while (map_next(w->leases, &it, &id, &value)) {
		struct lease_run *l = value;
		struct usage u;

		if (!lease_observe(l, a, &ret->leases.items[ret->leases.len]))
			continue;
		ret->leases.len++;
		if (lease_usage(l, a, &u))
			*vec_push(&sent->receipts) = u;
	}
	ret->desired_rev = sent->desired_rev = w->synced ? w->desired_rev : 0;
	if (sent->inventory) {
		struct inventory *inv = arena_new(a, struct inventory);

		schema_copy(&inventory_type, &w->inventory, a, inv);
		ret->inventory = inv;
		w->inventory_changed = false;
	}
}

/* Without the lock: a signature takes its time. */
static void receipts_sign(struct agent *w, struct arena *a, struct observation *ret,
			  struct sent *sent)
{
	size_t n = sent->receipts.len;

	ret->receipts.items = arena_array(a, struct signed_usage, n + 1);
	ret->receipts.len = n;
	for (size_t i = 0; i < n; i++) {
		sent->receipts.items[i].at_ms = link_now(w->link);
		receipt_make(&sent->receipts.items[i], w->id.sk, a, &ret->receipts.items[i]);
	}
}

static void finals_told(struct agent *w, const struct sent *sent)
{
	for (size_t i = 0; i < sent->receipts.len; i++) {
		const struct usage *u = &sent->receipts.items[i];
		struct lease_run *l = u->final ? map_find(w->leases, u->lease) : NULL;

		if (!l)
			continue;
		pthread_mutex_lock(&l->lock);
		l->final_told = true;
		pthread_mutex_unlock(&l->lock);
	}
}

/* The silence counts from the question, not from its answer: that may have been long on its
 * way, and the server counts from the question too.  The file's modification time outlives this
 * process: a worker that is started again and again is fenced all the same. */
static void heard(struct agent *w, int64_t asked_ms)
{
	cleanup_free char *path = path_join(w->state_dir, "heard");
	int64_t at_ms = now_ms_get() - (time_monotonic_ms() - asked_ms);
	const struct timespec at = { .tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000 };
	const struct timespec times[2] = { at, at };

	__atomic_store_n(&w->heard_ms, asked_ms, __ATOMIC_RELAXED);
	if (utimensat(AT_FDCWD, path, times, 0) < 0 && errno == ENOENT) {
		int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		close_fd_(&fd);
	}
}

static void answer_take(struct agent *w, const struct observed *out, const struct sent *sent,
			int64_t *session_told)
{
	heard(w, sent->asked_ms);
	link_clock_set(w->link, out->server_time_ms);
	for (size_t i = 0; i < out->problems.len; i++)
		log_line(LOG_WARN, "the server sees a problem", "problem",
			 out->problems.items[i], NULL);
	pthread_mutex_lock(&w->lock);
	w->heartbeat_ms = out->heartbeat_ms ? out->heartbeat_ms : w->heartbeat_ms;
	pthread_cond_broadcast(&w->cond); /* whoever waits for the server */
	if (sent->inventory)
		*session_told = sent->session;
	finals_told(w, sent);
	/* The stream has missed something, or the server's store is an older one. */
	if (w->synced &&
	    (out->desired_rev < sent->desired_rev || out->desired_rev > w->desired_rev)) {
		if (w->stream_behind_ms == 0) {
			w->stream_behind_ms = time_monotonic_ms();
		} else if (out->desired_rev < sent->desired_rev ||
			   time_monotonic_ms() - w->stream_behind_ms > 5 * SECOND_MS) {
			w->stream_behind_ms = 0;
			__atomic_store_n(&w->stream_cancel, 1, __ATOMIC_RELAXED);
		}
	} else {
		w->stream_behind_ms = 0;
	}
	pthread_mutex_unlock(&w->lock);
}

/* As the owner's commands left it. */
static int intent_read(struct agent *w)
{
	struct err ignored = { 0 };
	int ret;

	return identity_intent(w->state_dir, &ret, &ignored) < 0 ? w->id.intent : ret;
}

static int observe(struct agent *w, int64_t *session_told, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct sent sent cleanup(sent_release) = { .session = link_session(w->link),
						   .asked_ms = time_monotonic_ms() };
	struct observation in = { .at_ms = link_now(w->link),
				  .boot_id = w->id.boot_id,
				  .intent = intent_read(w) };
	struct observed out = { 0 };
	struct link_call call = { .op = OP_worker_observe, .in = &in, .cancel = &w->stopping };

	pthread_mutex_lock(&w->lock);
	w->due_ms = INT64_MAX;
	sent.inventory = w->inventory.hostname && (w->inventory_changed || !sent.session ||
						   sent.session != *session_told);
	observation_fill(w, &a, &in, &sent);
	pthread_mutex_unlock(&w->lock);
	receipts_sign(w, &a, &in, &sent);
	if (link_do(w->link, &call, &a, &out, err) < 0) {
		pthread_mutex_lock(&w->lock);
		w->due_ms = 0;
		w->inventory_changed |= sent.inventory;
		pthread_mutex_unlock(&w->lock);
		return -1;
	}
	if (!sent.session)
		sent.session = link_session(w->link);
	answer_take(w, &out, &sent, session_told);
	return 0;
}

/* Waits for the next reason to observe; w->lock held. */
static void wait_for_reason(struct agent *w, int64_t sent_ms)
{
	int64_t latest_ms, until_ms;

	while (!agent_stopping(w) &&
	       time_monotonic_ms() < (until_ms = MIN(w->due_ms, sent_ms + w->heartbeat_ms)))
		cond_wait_until(&w->cond, &w->lock, until_ms);
	latest_ms = time_monotonic_ms() + GATHER_MS;
	while (!agent_stopping(w) && w->unended &&
	       time_monotonic_ms() < (until_ms = MIN(w->changed_ms + QUIET_MS, latest_ms)))
		cond_wait_until(&w->cond, &w->lock, until_ms);
}

/* What no waiting will mend. */
static void failure_take(struct agent *w, const struct err *err, bool *told)
{
	if (err->code == ERR_GONE || err->code == ERR_NOT_FOUND) {
		log_err(LOG_ERROR, err, "the server no longer knows this worker", NULL);
		agent_stop(w, 3);
		return;
	}
	if (!*told)
		log_err(LOG_WARN, err, "the server cannot be reached", "server", w->id.server,
			NULL);
	*told = true;
}

void *observe_thread(void *arg)
{
	struct agent *w = arg;
	struct backoff backoff = { 0 };
	int64_t sent_ms = 0, session_told = 0;
	bool told = false;

	pthread_mutex_lock(&w->lock);
	while (!agent_stopping(w)) {
		struct err err = { 0 };
		int rc;

		wait_for_reason(w, sent_ms);
		if (agent_stopping(w))
			break;
		sent_ms = time_monotonic_ms();
		pthread_mutex_unlock(&w->lock);
		rc = observe(w, &session_told, &err);
		if (rc == 0 && told)
			log_line(LOG_INFO, "the server is back", "server", w->id.server, NULL);
		if (rc == 0)
			told = false;
		else if (!agent_stopping(w))
			failure_take(w, &err, &told);
		pthread_mutex_lock(&w->lock);
		if (rc == 0) {
			backoff.ms = 0;
		} else {
			int64_t until = time_monotonic_ms() + backoff_next(&backoff);

			/* Somebody else runs with our key: do not take turns with it
			 * quickly. */
			if (err.code == ERR_CONFLICT) {
				until += 30 * SECOND_MS;
				/* Or an older process's request for a session came late: a
				 * new session says that it is this one that runs. */
				link_session_end(w->link);
			}
			while (!agent_stopping(w) && cond_wait_until(&w->cond, &w->lock, until))
				;
		}
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}
