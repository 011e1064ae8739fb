/* The journals of all leases, in one file of slots.  A record is the whole journal of a lease;
 * it begins at a slot and takes as many as it needs, the rest of the last one is zero:
 *
 *   "tes-journal-1 " sum " " lease " " number " " length "\n" JSON
 *
 * The sum is 16 hexadecimal digits of the SHA-256 of what follows it.  Numbers count up: of a
 * lease's records the one with the highest counts.  A new record goes to free slots, and the
 * one before it is zeroed only once the new one has been flushed; so at each moment one is
 * whole.  No line of JSON holds a line end, so that no customer's text is taken for a record.
 *
 * No file is made, renamed or removed for a lease, and those who save at the same time share
 * one flush: whoever comes while another flushes waits for the next one, which is for all of
 * them.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOT	       4096
#define RECORD_MAX     (16 << 20)
#define FILE_BYTES_MAX ((size_t)1 << 30)
#define MAGIC	       "tes-journal-1 "
#define MAGIC_LEN      (sizeof(MAGIC) - 1)
#define SUM_LEN	       16

struct kept {
	size_t slot, slots;
	int64_t number;
	bool damaged; /* there was one; what it said is lost */
};

/* One that has written while another flushes. */
struct waiter {
	struct waiter *next;
	pthread_cond_t woken;
	enum { WAITS, FLUSHED, LEADS } state;
};

struct journals {
	char *state_dir;
	int fd;
	pthread_mutex_t lock; /* of what follows */
	struct map *kept; /* lease -> struct kept */
	VEC(bool) used;	  /* slots */
	int64_t number;	  /* of the last record */
	bool flushing;
	struct waiter *waiting; /* for the next flush */
	int64_t failures; /* of flushes */
	int failed_errno;
};

/* ---- slots ---- */

static size_t slots_of(size_t bytes)
{
	return (bytes + SLOT - 1) / SLOT;
}

/* Lock held. */
static size_t slots_take(struct journals *s, size_t n)
{
	size_t at = 0, run = 0;

	while (run < n) {
		if (at + run == s->used.len)
			*vec_push(&s->used) = false;
		if (s->used.items[at + run]) {
			at += run + 1;
			run = 0;
		} else {
			run++;
		}
	}
	for (size_t i = 0; i < n; i++)
		s->used.items[at + i] = true;
	return at;
}

/* Lock held. */
static void slots_give(struct journals *s, size_t slot, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s->used.items[slot + i] = false;
}

static int slots_write(const struct journals *s, size_t slot, const char *data, size_t len,
		       struct err *err)
{
	off_t at = (off_t)slot * SLOT;

	while (len) {
		ssize_t n = pwrite(s->fd, data, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? errno : EIO, "cannot write %s/journal",
				       s->state_dir);
		data += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Not flushed: what may come back after a power failure is older than what counts, or a lease
 * that the server has ended. */
static void slots_zero(const struct journals *s, size_t slot, size_t n)
{
	static const char zero[SLOT];
	struct err err = { 0 };

	for (size_t i = 0; i < n; i++)
		if (slots_write(s, slot + i, zero, SLOT, &err) < 0) {
			log_err(LOG_ERROR, &err, "what a lease's journal said stays on the disk",
				NULL);
			return;
		}
}

/* ---- records ---- */

static void sum_make(const char *body, size_t len, char ret[static SUM_LEN + 1])
{
	char hex[SHA256_HEX_SIZE];

	sha256_hex(body, len, hex);
	snprintf(ret, SUM_LEN + 1, "%.*s", SUM_LEN, hex);
}

/* Whole slots. */
static void record_make(const struct journal *j, int64_t number, struct strbuf *out)
{
	cleanup_strbuf struct strbuf json = STRBUF_INIT, body = STRBUF_INIT;
	static const char zero[SLOT];
	char sum[SUM_LEN + 1];

	schema_write_secret(&journal_type, j, &json);
	strbuf_addf(&body, "%s %" PRId64 " %zu\n", j->desired->lease, number, json.len);
	strbuf_add(&body, json.buf, json.len);
	sum_make(body.buf, body.len, sum);
	strbuf_addf(out, MAGIC "%s ", sum);
	strbuf_add(out, body.buf, body.len);
	strbuf_add(out, zero, slots_of(out->len) * SLOT - out->len);
	explicit_bzero(json.buf, json.len);
	explicit_bzero(body.buf, body.len);
}

struct record {
	char lease[ID_SIZE];
	int64_t number;
	size_t slots;
	struct slice json;
};
enum record_read { RECORD_NONE, RECORD_DAMAGED, RECORD_WHOLE };

static bool word_take(struct slice *head, char *ret, size_t size)
{
	struct slice word;

	if (!slice_split(head, ' ', &word) || word.len >= size)
		return false;
	memcpy(ret, word.ptr, word.len);
	ret[word.len] = '\0';
	return true;
}

/* What begins with `text`.  Of a damaged one there is the lease, and one slot as far as can be
 * told. */
static enum record_read record_read(struct slice text, struct record *ret)
{
	struct slice rest = text, head;
	char sum[SUM_LEN + 1], expected[SUM_LEN + 1], number[24], length[24];
	const char *body;
	size_t slots;
	int64_t len;

	*ret = (struct record){ .slots = 1 };
	if (text.len < SLOT || memcmp(text.ptr, MAGIC, MAGIC_LEN) != 0 ||
	    !slice_split(&rest, '\n', &head) || !rest.ptr)
		return RECORD_NONE;
	head = (struct slice){ head.ptr + MAGIC_LEN, head.len - MAGIC_LEN };
	if (!word_take(&head, sum, sizeof(sum)))
		return RECORD_NONE;
	body = head.ptr;
	if (!word_take(&head, ret->lease, sizeof(ret->lease)) || !id_valid(ret->lease, "le"))
		return RECORD_NONE;
	if (!word_take(&head, number, sizeof(number)) ||
	    !word_take(&head, length, sizeof(length)) ||
	    int_parse(number, 1, INT64_MAX / 2, &ret->number, NULL) < 0 ||
	    int_parse(length, 0, RECORD_MAX, &len, NULL) < 0 || (size_t)len > rest.len)
		return RECORD_DAMAGED;
	ret->json = (struct slice){ rest.ptr, (size_t)len };
	sum_make(body, (size_t)(rest.ptr + len - body), expected);
	slots = slots_of((size_t)(rest.ptr + len - text.ptr));
	if (!str_eq(sum, expected) || slots * SLOT > text.len)
		return RECORD_DAMAGED;
	ret->slots = slots;
	return RECORD_WHOLE;
}

/* ---- opening ---- */

static void kept_set(struct journals *s, const char *lease, const struct kept *fresh)
{
	struct kept *have = map_find(s->kept, lease);

	if (!have) {
		have = xcalloc(1, sizeof(*have));
		map_put(s->kept, lease, have);
	}
	*have = *fresh;
}

static void slots_drop(struct journals *s, size_t slot, size_t n)
{
	slots_zero(s, slot, n);
	slots_give(s, slot, n);
}

/* Of two records of a lease, the newer one; one that is damaged only if there is no other: then
 * something was written that must not be forgotten. */
static void record_keep(struct journals *s, size_t slot, const struct record *r, bool damaged)
{
	struct kept fresh = { .slot = slot,
			      .slots = r->slots,
			      .number = damaged ? 0 : r->number,
			      .damaged = damaged };
	const struct kept *have = map_find(s->kept, r->lease);

	for (size_t i = 0; i < r->slots; i++)
		s->used.items[slot + i] = true;
	s->number = MAX(s->number, fresh.number);
	if (have && have->number >= fresh.number) {
		slots_drop(s, slot, r->slots);
		return;
	}
	if (have)
		slots_drop(s, have->slot, have->slots);
	kept_set(s, r->lease, &fresh);
}

static void records_find(struct journals *s, struct slice text)
{
	size_t slots = slots_of(text.len), step;

	for (size_t i = 0; i < slots; i++)
		*vec_push(&s->used) = false;
	for (size_t at = 0; at < slots; at += step) {
		size_t from = at * SLOT;
		struct record r;
		enum record_read what = record_read(
			(struct slice){ text.ptr + from, text.len - from }, &r);

		step = r.slots;
		if (what == RECORD_NONE && text.ptr[from])
			slots_zero(s, at, 1); /* the rest of one that was cut off */
		if (what != RECORD_NONE)
			record_keep(s, at, &r, what == RECORD_DAMAGED);
	}
}

static int file_open(struct journals *s, struct err *err)
{
	cleanup_free char *path = path_join(s->state_dir, "journal");
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	s->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->fd < 0)
		return err_sys(err, errno, "cannot open %s", path);
	if (dir_sync(s->state_dir, err) < 0)
		return -1;
	/* What a process that was killed has written, and we are about to count on. */
	if (fdatasync(s->fd) < 0)
		return err_sys(err, errno, "cannot sync %s", path);
	if (file_read(path, FILE_BYTES_MAX, &text, err) < 0)
		return -1;
	records_find(s, (struct slice){ text.buf, text.len });
	explicit_bzero(text.buf, text.len);
	return 0;
}

int journals_open(const char *state_dir, struct journals **ret, struct err *err)
{
	struct journals *s = xcalloc(1, sizeof(*s));

	s->state_dir = xstrdup(state_dir);
	s->kept = map_new();
	s->fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	if (file_open(s, err) < 0) {
		journals_close(s);
		return -1;
	}
	*ret = s;
	return 0;
}

void journals_close(struct journals *s)
{
	if (!s)
		return;
	close_fd_(&s->fd);
	map_free(s->kept, free);
	vec_release(&s->used);
	pthread_mutex_destroy(&s->lock);
	free(s->state_dir);
	free(s);
}

/* ---- saving ---- */

/* Lock held. */
static void waiter_wake(struct waiter *w, int state)
{
	w->state = state;
	pthread_cond_signal(&w->woken); /* it is the only one there */
}

/* Lock held, but not during the flush.  It is for all that wait when it begins; of those that
 * come meanwhile one does the next.  After one that failed nobody waits on. */
static void flush_lead(struct journals *s)
{
	struct waiter *mine = take_ptr(s->waiting), *next;
	int sys;

	s->flushing = true;
	pthread_mutex_unlock(&s->lock);
	sys = fdatasync(s->fd) < 0 ? errno : 0;
	pthread_mutex_lock(&s->lock);
	for (; mine; mine = next) {
		next = mine->next;
		waiter_wake(mine, FLUSHED);
	}
	if (sys) {
		s->failures++;
		s->failed_errno = sys;
	}
	while (sys && (next = s->waiting)) {
		s->waiting = next->next;
		waiter_wake(next, FLUSHED);
	}
	next = s->waiting;
	s->flushing = next != NULL; /* whoever comes before it has begun waits for it too */
	if (next) {
		s->waiting = next->next;
		waiter_wake(next, LEADS);
	}
}

/* Lock held. */
static void flush_wait(struct journals *s, struct waiter *me)
{
	*me = (struct waiter){ .next = s->waiting, .woken = PTHREAD_COND_INITIALIZER };
	s->waiting = me;
	while (me->state == WAITS)
		pthread_cond_wait(&me->woken, &s->lock);
	pthread_cond_destroy(&me->woken);
}

/* What this thread has written is on the disk when it returns: by the next flush that begins,
 * whoever does it.  `failures` were there before it wrote: one more, whoever's, may have dropped
 * what it wrote, and the kernel says so only once; the next flush has nothing left to write and
 * succeeds. */
static int flush(struct journals *s, int64_t failures, struct err *err)
{
	struct waiter me = { .state = LEADS };
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (s->failures == failures) {
		if (s->flushing)
			flush_wait(s, &me);
		if (me.state == LEADS)
			flush_lead(s);
	}
	if (s->failures != failures)
		rc = err_sys(err, s->failed_errno, "cannot sync %s/journal", s->state_dir);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int journals_save(struct journals *s, const struct journal *j, struct err *err)
{
	const char *lease = j->desired->lease;
	cleanup_strbuf struct strbuf record = STRBUF_INIT;
	struct kept fresh = { 0 }, before = { 0 };
	const struct kept *have;
	int64_t failures;
	int rc;

	pthread_mutex_lock(&s->lock);
	fresh.number = ++s->number;
	failures = s->failures;
	pthread_mutex_unlock(&s->lock);
	record_make(j, fresh.number, &record);
	fresh.slots = record.len / SLOT;
	pthread_mutex_lock(&s->lock);
	fresh.slot = slots_take(s, fresh.slots);
	pthread_mutex_unlock(&s->lock);
	rc = slots_write(s, fresh.slot, record.buf, record.len, err);
	explicit_bzero(record.buf, record.len);
	if (rc == 0)
		rc = flush(s, failures, err);
	/* One that may or may not be there: the one before it counts. */
	if (rc < 0)
		before = fresh;
	pthread_mutex_lock(&s->lock);
	if (rc == 0) {
		have = map_find(s->kept, lease);
		if (have)
			before = *have;
		kept_set(s, lease, &fresh);
	}
	pthread_mutex_unlock(&s->lock);
	slots_zero(s, before.slot, before.slots);
	pthread_mutex_lock(&s->lock);
	slots_give(s, before.slot, before.slots);
	pthread_mutex_unlock(&s->lock);
	return rc < 0 ? err_wrap(err, "journal of %s", lease) : 0;
}

int journals_load(struct journals *s, const char *lease, struct arena *a, struct journal *ret,
		  struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	const struct kept *kept;
	struct record r;
	struct journal j;
	int rc;

	pthread_mutex_lock(&s->lock);
	kept = map_find(s->kept, lease);
	for (size_t i = 0; kept && !kept->damaged && i < kept->slots; i++) {
		char slot[SLOT];

		if (pread(s->fd, slot, SLOT, (off_t)(kept->slot + i) * SLOT) == SLOT)
			strbuf_add(&text, slot, SLOT);
	}
	pthread_mutex_unlock(&s->lock);
	if (!kept)
		return err_set(err, ERR_NOT_FOUND, "%s has no journal", lease);
	if (record_read((struct slice){ text.buf, text.len }, &r) != RECORD_WHOLE)
		return err_set(err, ERR_INVALID, "the journal of %s is damaged", lease);
	rc = schema_parse(&journal_type, r.json, FROM_SERVER, a, &j, err);
	explicit_bzero(text.buf, text.len);
	if (rc < 0)
		return err_wrap(err, "the journal of %s", lease);
	if (!j.desired || !str_eq(j.desired->lease, lease))
		return err_set(err, ERR_INVALID, "the journal of %s is another lease's", lease);
	*ret = j;
	return 0;
}

int journals_remove(struct journals *s, const char *lease, struct err *err)
{
	cleanup_free char *dir = lease_dir(s->state_dir, lease, NULL);
	struct kept *kept;

	pthread_mutex_lock(&s->lock);
	kept = map_remove(s->kept, lease);
	pthread_mutex_unlock(&s->lock);
	if (kept) {
		slots_zero(s, kept->slot, kept->slots);
		pthread_mutex_lock(&s->lock);
		slots_give(s, kept->slot, kept->slots);
		pthread_mutex_unlock(&s->lock);
		free(kept);
	}
	return dir_remove(dir, err);
}

int journals_list(struct journals *s, struct arena *a, struct text_list *ret, struct err *err)
{
	cleanup_free char *path = path_join(s->state_dir, "leases");
	VEC(const char *) names = { 0 };
	DIR *dir = opendir(path);
	struct dirent *e;
	size_t it = 0;
	const char *lease;
	void *value;

	if (!dir && errno != ENOENT)
		return err_sys(err, errno, "cannot read %s", path);
	pthread_mutex_lock(&s->lock);
	while (map_next(s->kept, &it, &lease, &value))
		*vec_push(&names) = arena_strdup(a, lease);
	while (dir && (e = readdir(dir)))
		if (id_valid(e->d_name, "le") && !map_find(s->kept, e->d_name))
			*vec_push(&names) = arena_strdup(a, e->d_name);
	pthread_mutex_unlock(&s->lock);
	if (dir)
		closedir(dir);
	ret->items = arena_array(a, const char *, names.len + 1);
	ret->len = names.len;
	if (names.len)
		memcpy(ret->items, names.items, names.len * sizeof(*names.items));
	vec_release(&names);
	return 0;
}
