/* Event streams.
 *
 * Fifteen thousand of them are suspended most of the time.  libmicrohttpd walks through all its
 * suspended connections whenever one is resumed, and keeps a memory pool for each; so a stream
 * leaves it: the socket is duplicated, libmicrohttpd closes its own descriptor (MHD_USE_TURBO:
 * without shutting the socket down), and the stream thread watches the duplicate.  Whoever
 * pushes writes to the socket at once; only what does not fit waits in the buffer.
 *
 * Over TLS that cannot be, as the session belongs to libmicrohttpd: there the connection is
 * suspended while the buffer is empty, and resumed by a push.
 *
 * The stream thread alone closes sockets and takes these streams off the server's list; others
 * mark a stream closed and shut its socket down, which wakes the stream thread.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bytes unacknowledged for so long end the connection. */
#define PEER_GONE_MS 60000
/* So much may a client send into a stream, where nobody reads it. */
#define UNEXPECTED_MAX (64 << 10)
/* The kernel would grow its own part of the buffer to megabytes. */
#define SEND_BYTES (64 << 10)
/* So much does not wait for the rest. */
#define CORKED_MAX (16 << 10)
#define TICK_MS	   1000

struct http_stream {
	struct http_server *server;	 /* not to be touched once closed */
	struct http_stream *prev, *next; /* under server->streams_lock */
	_Atomic int refs;
	pthread_mutex_t lock; /* everything below */
	int fd;		      /* -1 before the response begins, after its end, and over TLS */
	struct MHD_Connection *connection; /* over TLS, while the response is being sent */
	bool suspended;			   /* connection, by us */
	bool closed;			   /* takes no more */
	bool finishing;			   /* ends when the buffer is empty */
	bool waits_writable;
	bool corked;
	size_t unexpected;
	char *buf;
	size_t start, len, max;
	int64_t keepalive_ms; /* monotonic: the next comment line */
	int64_t progress_ms;  /* monotonic: when bytes last went */
};

struct http_stream *stream_new(struct http_server *s, size_t buffer_max)
{
	struct http_stream *st = xcalloc(1, sizeof(*st));

	st->server = s;
	st->refs = 2;
	st->fd = -1;
	st->max = buffer_max;
	pthread_mutex_init(&st->lock, NULL);
	return st;
}

void http_stream_unref(struct http_stream *st)
{
	if (!st || atomic_fetch_sub(&st->refs, 1) > 1)
		return;
	assert(st->fd < 0);
	pthread_mutex_destroy(&st->lock);
	free(st->buf);
	free(st);
}

bool http_stream_closed(const struct http_stream *st)
{
	struct http_stream *mutable = (struct http_stream *)st;
	bool closed;

	pthread_mutex_lock(&mutable->lock);
	closed = st->closed;
	pthread_mutex_unlock(&mutable->lock);
	return closed;
}

/* ---- with the stream's lock held ---- */

static void buffer_drop(struct http_stream *st, size_t len)
{
	st->start += len;
	st->len -= len;
	if (!st->len) {
		free(take_ptr(st->buf));
		st->start = 0;
	}
}

static void buffer_add(struct http_stream *st, const char *p, size_t len)
{
	if (st->start) {
		memmove(st->buf, st->buf + st->start, st->len);
		st->start = 0;
	}
	st->buf = xrealloc(st->buf, st->len + len);
	memcpy(st->buf + st->len, p, len);
	st->len += len;
}

static void stream_wake_closed(struct http_stream *st)
{
	if (st->fd >= 0)
		shutdown(st->fd, SHUT_RDWR);
	if (st->suspended) {
		st->suspended = false;
		MHD_resume_connection(st->connection);
	}
}

static void stream_close(struct http_stream *st)
{
	if (st->closed)
		return;
	st->closed = true;
	buffer_drop(st, st->len);
	stream_wake_closed(st);
}

static void writable_wait(struct http_stream *st, bool wait)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | (wait ? EPOLLOUT : 0),
				  .data.ptr = st };

	if (st->waits_writable == wait)
		return;
	st->waits_writable = wait;
	epoll_ctl(st->server->stream_epoll, EPOLL_CTL_MOD, st->fd, &ev);
}

/* Gets the buffer on its way. */
static void stream_flush(struct http_stream *st)
{
	if (st->suspended && st->len) {
		st->suspended = false;
		MHD_resume_connection(st->connection);
	}
	while (st->fd >= 0 && st->len) {
		ssize_t n =
			send(st->fd, st->buf + st->start, st->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			writable_wait(st, true);
			return;
		}
		if (n < 0) {
			stream_close(st);
			return;
		}
		st->progress_ms = time_monotonic_ms();
		buffer_drop(st, (size_t)n);
	}
	if (st->fd >= 0)
		writable_wait(st, false);
	if (st->finishing && !st->len && !st->closed && (st->fd >= 0 || st->suspended)) {
		st->closed = true;
		stream_wake_closed(st);
	}
}

/* ---- any thread ---- */

static void field_add(struct strbuf *sb, const char *name, const char *value)
{
	if (!value)
		return;
	assert(!strpbrk(value, "\r\n"));
	strbuf_addf(sb, "%s: %s\n", name, value);
}

static void event_format(struct strbuf *sb, const char *event, const char *id,
			 struct slice data)
{
	const char *p = data.len ? data.ptr : "", *end = p + data.len, *line;

	field_add(sb, "id", id);
	field_add(sb, "event", event);
	do {
		for (line = p; p < end && *p != '\n' && *p != '\r'; p++)
			;
		strbuf_adds(sb, "data: ");
		strbuf_add(sb, line, (size_t)(p - line));
		strbuf_addc(sb, '\n');
		if (p < end && p[0] == '\r' && p + 1 < end && p[1] == '\n')
			p++;
	} while (p++ < end);
	strbuf_addc(sb, '\n');
}

bool http_stream_push(struct http_stream *st, const char *event, const char *id,
		      struct slice data)
{
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;
	bool taken = false;

	event_format(&sb, event, id, data);
	pthread_mutex_lock(&st->lock);
	if (!st->finishing && st->len + sb.len > st->max) {
		stream_close(st);
	} else if (!st->finishing && !st->closed) {
		buffer_add(st, sb.buf, sb.len);
		if (!st->corked || st->len > CORKED_MAX)
			stream_flush(st);
		taken = !st->closed;
	}
	pthread_mutex_unlock(&st->lock);
	return taken;
}

void http_stream_cork(struct http_stream *st)
{
	pthread_mutex_lock(&st->lock);
	st->corked = true;
	pthread_mutex_unlock(&st->lock);
}

void http_stream_uncork(struct http_stream *st)
{
	pthread_mutex_lock(&st->lock);
	st->corked = false;
	stream_flush(st);
	pthread_mutex_unlock(&st->lock);
}

void http_stream_finish(struct http_stream *st)
{
	pthread_mutex_lock(&st->lock);
	st->finishing = true;
	stream_flush(st);
	pthread_mutex_unlock(&st->lock);
}

void stream_abort(struct http_stream *st)
{
	pthread_mutex_lock(&st->lock);
	stream_close(st);
	pthread_mutex_unlock(&st->lock);
}

/* ---- entering and leaving the server's list ---- */

/* With streams_lock held; the list takes a reference. */
static void stream_link(struct http_stream *st)
{
	struct http_server *s = st->server;

	st->next = s->streams;
	if (st->next)
		st->next->prev = st;
	s->streams = st;
	s->stream_count++;
	atomic_fetch_add(&st->refs, 1);
}

/* Drops the list's reference. */
static void stream_unlink(struct http_stream *st)
{
	struct http_server *s = st->server;

	pthread_mutex_lock(&s->streams_lock);
	if (st->prev)
		st->prev->next = st->next;
	else
		s->streams = st->next;
	if (st->next)
		st->next->prev = st->prev;
	s->stream_count--;
	pthread_mutex_unlock(&s->streams_lock);
	http_stream_unref(st);
}

static int socket_copy(int fd)
{
	unsigned gone_ms = PEER_GONE_MS;
	int on = 1, off = 0, send_bytes = SEND_BYTES, copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return -1;
	setsockopt(copy, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
	setsockopt(copy, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(copy, IPPROTO_TCP, TCP_USER_TIMEOUT, &gone_ms, sizeof(gone_ms));
	setsockopt(copy, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
	return copy;
}

int stream_adopt(struct http_stream *st, int fd, struct strbuf *head)
{
	struct http_server *s = st->server;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = st };
	cleanup_fd int copy = socket_copy(fd);

	if (copy < 0)
		return -1;
	/* The stream thread may see the first event at once, and must then find the stream
	 * complete and in the list: it takes both locks to retire it. */
	pthread_mutex_lock(&s->streams_lock);
	pthread_mutex_lock(&st->lock);
	st->fd = copy;
	if (s->streams_closed || epoll_ctl(s->stream_epoll, EPOLL_CTL_ADD, copy, &ev)) {
		st->fd = -1;
		pthread_mutex_unlock(&st->lock);
		pthread_mutex_unlock(&s->streams_lock);
		return -1;
	}
	copy = -1; /* the stream's from now on */
	st->progress_ms = time_monotonic_ms();
	st->keepalive_ms = st->progress_ms + s->config.keepalive_ms;
	if (st->len)
		strbuf_add(head, st->buf + st->start, st->len);
	buffer_drop(st, st->len);
	buffer_add(st, head->buf, head->len);
	if (st->closed) { /* the handler pushed more than fits: an empty stream, to resume */
		st->closed = false;
		st->finishing = true;
	}
	stream_flush(st);
	pthread_mutex_unlock(&st->lock);
	stream_link(st);
	pthread_mutex_unlock(&s->streams_lock);
	return 0;
}

static ssize_t stream_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	struct http_stream *st = arg;
	ssize_t n;

	pthread_mutex_lock(&st->lock);
	n = (ssize_t)MIN(st->len, max);
	if (n) {
		memcpy(buf, st->buf + st->start, (size_t)n);
		buffer_drop(st, (size_t)n);
	} else if (st->finishing || st->closed) {
		st->closed = true;
		n = MHD_CONTENT_READER_END_OF_STREAM;
	} else {
		/* A push from now on waits for the lock, finds `suspended` and resumes. */
		st->suspended = true;
		MHD_suspend_connection(st->connection);
	}
	pthread_mutex_unlock(&st->lock);
	return n;
}

static void stream_reply_free(void *arg)
{
	struct http_stream *st = arg;

	pthread_mutex_lock(&st->lock);
	st->closed = true;
	st->connection = NULL;
	st->suspended = false;
	buffer_drop(st, st->len);
	pthread_mutex_unlock(&st->lock);
	stream_unlink(st);
}

struct MHD_Response *stream_reply(struct http_stream *st, struct MHD_Connection *connection)
{
	struct http_server *s = st->server;
	struct MHD_Response *reply;
	bool open;

	pthread_mutex_lock(&s->streams_lock);
	open = !s->streams_closed;
	if (open) {
		pthread_mutex_lock(&st->lock);
		st->connection = connection;
		st->keepalive_ms = time_monotonic_ms() + s->config.keepalive_ms;
		pthread_mutex_unlock(&st->lock);
		stream_link(st);
	}
	pthread_mutex_unlock(&s->streams_lock);
	if (!open)
		return NULL;
	reply = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1024, stream_read, st,
						  stream_reply_free);
	assert(reply);
	return reply;
}

/* ---- the stream thread ---- */

static void stream_retire(struct http_stream *st)
{
	int fd;

	pthread_mutex_lock(&st->lock);
	st->closed = true;
	buffer_drop(st, st->len);
	fd = take_fd(st->fd);
	assert(fd >= 0);
	pthread_mutex_unlock(&st->lock);
	epoll_ctl(st->server->stream_epoll, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
	stream_unlink(st);
}

static void stream_event(struct http_stream *st, uint32_t events)
{
	char scratch[4096];
	ssize_t n = 1;

	if (events & EPOLLIN) {
		n = recv(st->fd, scratch, sizeof(scratch), MSG_DONTWAIT);
		st->unexpected += n > 0 ? (size_t)n : 0;
	}
	if ((events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) || !n ||
	    st->unexpected > UNEXPECTED_MAX) {
		stream_retire(st);
		return;
	}
	if (events & EPOLLOUT) {
		pthread_mutex_lock(&st->lock);
		stream_flush(st);
		pthread_mutex_unlock(&st->lock);
	}
}

static void stream_tick(struct http_stream *st, int64_t now)
{
	pthread_mutex_lock(&st->lock);
	if (st->fd >= 0 && st->len &&
	    now - st->progress_ms > st->server->config.idle_timeout_ms) {
		stream_close(st);
	} else if (!st->closed && now >= st->keepalive_ms) {
		st->keepalive_ms = now + st->server->config.keepalive_ms;
		if (!st->len)
			buffer_add(st, ":\n\n", 3);
		stream_flush(st);
	}
	pthread_mutex_unlock(&st->lock);
}

static void streams_tick(struct http_server *s, int64_t now)
{
	pthread_mutex_lock(&s->streams_lock);
	for (struct http_stream *st = s->streams; st; st = st->next)
		stream_tick(st, now);
	pthread_mutex_unlock(&s->streams_lock);
}

static void *streams_run(void *arg)
{
	struct http_server *s = arg;
	int64_t now = time_monotonic_ms(), tick_ms = now + TICK_MS;
	struct epoll_event events[256];

	while (!s->streams_quit) {
		int n = epoll_wait(s->stream_epoll, events, ARRAY_LEN(events),
				   (int)MAX(tick_ms - now, 0));

		for (int i = 0; i < n; i++)
			if (events[i].data.ptr)
				stream_event(events[i].data.ptr, events[i].events);
		now = time_monotonic_ms();
		if (now < tick_ms)
			continue;
		tick_ms = now + TICK_MS;
		streams_tick(s, now);
		conns_expire(s, now);
	}
	return NULL;
}

int streams_start(struct http_server *s, struct err *err)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int rc;

	s->stream_epoll = epoll_create1(EPOLL_CLOEXEC);
	s->stream_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stream_epoll < 0 || s->stream_wake < 0 ||
	    epoll_ctl(s->stream_epoll, EPOLL_CTL_ADD, s->stream_wake, &ev))
		return err_sys(err, errno, "http: cannot make what event streams need");
	rc = pthread_create(&s->stream_thread, NULL, streams_run, s);
	if (rc)
		return err_sys(err, rc, "http: cannot start the thread of event streams");
	s->stream_thread_started = true;
	return 0;
}

void streams_finish(struct http_server *s)
{
	pthread_mutex_lock(&s->streams_lock);
	s->streams_closed = true;
	for (struct http_stream *st = s->streams; st; st = st->next)
		http_stream_finish(st);
	pthread_mutex_unlock(&s->streams_lock);
}

void streams_stop(struct http_server *s)
{
	struct http_stream *st, *next;
	uint64_t one = 1;

	s->streams_quit = true;
	if (s->stream_thread_started) {
		while (write(s->stream_wake, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(s->stream_thread, NULL);
	}
	pthread_mutex_lock(&s->streams_lock);
	for (st = s->streams; st; st = st->next)
		stream_abort(st);
	st = s->streams;
	pthread_mutex_unlock(&s->streams_lock);
	/* Those over TLS leave when libmicrohttpd ends their connections. */
	for (; st && !s->config.tls_cert; st = next) {
		next = st->next;
		stream_retire(st);
	}
	close_fd_(&s->stream_epoll);
	close_fd_(&s->stream_wake);
}
