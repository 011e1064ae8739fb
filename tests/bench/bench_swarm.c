/* Fifteen thousand machines on one: opens a session and a stream of desired leases for each, for real, and then sends
 * their heartbeats, spread evenly over the interval.
 *
 *   bench-swarm PORT KEYS_FILE INTERVAL_MS SECONDS SERVER_PID
 *
 * Prints what the server's process used meanwhile, by /proc.  A stream is a connection; heartbeats share a few
 * connections that are kept, as behind a proxy: one process may hold 20,000 descriptors here, and the server is one. */
#include "../../src/api/api.h"
#include "../../src/model/model.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINES 64	 /* connections that carry heartbeats */
#define HEAD_MAX 4096

struct machine {
	char id[ID_SIZE], session[ID_SIZE];
	uint8_t sk[SIGN_SECRET_SIZE], key[32];
	int64_t nonce;
	int fd; /* of its stream */
	bool synced;
};

/* A connection with one heartbeat under way. */
struct line {
	int fd;
	bool busy;
	int64_t sent_ns;
	char buf[HEAD_MAX];
	size_t len;
};

static struct machine *machines;
static size_t machine_count;
static struct line lines[LINES];
static int epoll_fd;
static struct sockaddr_in server;
static int64_t synced, refused, broken;
static int64_t *latencies;
static size_t latency_count, latency_max;

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "bench-swarm: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void keys_read(const char *path)
{
	FILE *f = fopen(path, "re");
	char id[ID_SIZE], hex[2 * SIGN_SECRET_SIZE + 1];

	if (!f)
		die(path);
	while (fscanf(f, "%31s %128s", id, hex) == 2) {
		machines = xrealloc(machines, (machine_count + 1) * sizeof(*machines));
		struct machine *m = &machines[machine_count++];

		*m = (struct machine){ .fd = -1 };
		snprintf(m->id, sizeof(m->id), "%s", id);
		if (hex_parse(hex, m->sk, sizeof(m->sk)) < 0)
			die("a key is malformed");
	}
	fclose(f);
}

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof(server)) < 0)
		die("connect");
	return fd;
}

static void write_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0)
			die("write");
		p += n;
		len -= (size_t)n;
	}
}

/* The complete answer in buf, if it is there: its length, else 0. */
static size_t answer_length(const char *buf, size_t len, const char **ret_body)
{
	const char *end = memmem(buf, len, "\r\n\r\n", 4), *length;

	if (!end)
		return 0;
	length = strcasestr(buf, "content-length:");
	size_t total = (size_t)(end + 4 - buf) + (length && length < end ? (size_t)atol(length + 15) : 0);

	*ret_body = end + 4;
	return len >= total ? total : 0;
}

/* ---- sessions ---------------------------------------------------------------------------------------- */

static void session_request(struct machine *m, const char *exchange, struct strbuf *out)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf text = STRBUF_INIT, body = STRBUF_INIT;
	uint8_t signature[SIGNATURE_SIZE];
	struct session_request in = { .worker_id = m->id, .exchange_key = exchange, .boot_id = "bench", .version = "bench",
				      .time_ms = clock_now(&clock_system) };

	session_sign_text(in.worker_id, in.time_ms, exchange, in.boot_id, &text);
	sign_make(text.buf, text.len, m->sk, signature);
	in.signature = base64url_format(&a, signature, sizeof(signature));
	schema_write_input(&session_request_type, &in, &body);
	strbuf_addf(out, "POST /v1/worker/session HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		    body.len);
	strbuf_add(out, body.buf, body.len);
}

static void session_open(int fd, struct machine *m)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	uint8_t pk[EXCHANGE_SIZE], sk[EXCHANGE_SIZE], theirs[EXCHANGE_SIZE];
	char hex[2 * EXCHANGE_SIZE + 1], buf[HEAD_MAX] = "";
	const char *body;
	struct session answer;
	struct err err = { 0 };
	size_t len = 0, total;

	exchange_keypair(pk, sk);
	hex_format(pk, sizeof(pk), hex);
	session_request(m, hex, &out);
	write_all(fd, out.buf, out.len);
	while (!(total = answer_length(buf, len, &body))) {
		ssize_t n = read(fd, buf + len, sizeof(buf) - 1 - len);

		if (n <= 0)
			die("reading the answer to a session");
		len += (size_t)n;
		buf[len] = '\0';
	}
	if (schema_parse(&session_type, (struct slice){ body, (size_t)(buf + total - body) }, FROM_SERVER, &a, &answer, &err) < 0 ||
	    !answer.id || hex_parse(answer.exchange_key, theirs, sizeof(theirs)) < 0 ||
	    exchange_shared(sk, pk, theirs, true, m->key) < 0) {
		fprintf(stderr, "bench-swarm: no session: %s\n", buf);
		exit(1);
	}
	snprintf(m->session, sizeof(m->session), "%s", answer.id);
}

static void request_write(struct machine *m, const char *method, const char *target, const char *body, struct strbuf *out)
{
	uint8_t sha[SHA256_SIZE], mac[MAC_SIZE];
	char hex[2 * MAC_SIZE + 1];
	int64_t now = clock_now(&clock_system);
	struct sha256 hash;

	sha256_init(&hash);
	sha256_update(&hash, body, strlen(body));
	sha256_final(&hash, sha);
	request_mac(m->key, m->session, method, target, now, ++m->nonce, sha, mac);
	hex_format(mac, sizeof(mac), hex);
	strbuf_addf(out, "%s %s HTTP/1.1\r\nHost: bench\r\nTES-Session: %s\r\nTES-Time: %" PRId64 "\r\nTES-Nonce: %" PRId64
		    "\r\nTES-MAC: %s\r\n", method, target, m->session, now, m->nonce, hex);
	if (*body)
		strbuf_addf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
	strbuf_addf(out, "\r\n%s", body);
}

/* ---- streams --------------------------------------------------------------------------------------------- */

static void watch(int fd, void *what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

static void stream_open(struct machine *m)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	m->fd = dial();
	request_write(m, "GET", "/v1/worker/desired", "", &out);
	write_all(m->fd, out.buf, out.len);
	fcntl(m->fd, F_SETFL, O_NONBLOCK);
	watch(m->fd, m);
}

static void stream_read(struct machine *m)
{
	char buf[8192];
	ssize_t n = read(m->fd, buf, sizeof(buf) - 1);

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		broken++;
		close(m->fd);
		m->fd = -1;
		return;
	}
	if (n < 0 || m->synced)
		return;
	buf[n] = '\0';
	if (strstr(buf, "event: sync")) {
		m->synced = true;
		synced++;
	}
}

/* ---- heartbeats -------------------------------------------------------------------------------------------- */

static void beat_send(struct line *l, struct machine *m, int64_t due_ns)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	char body[160];

	snprintf(body, sizeof(body), "{\"at_ms\":%" PRId64 ",\"boot_id\":\"bench\",\"leases\":[],\"receipts\":[]}",
		 clock_now(&clock_system));
	request_write(m, "POST", "/v1/worker/observed", body, &out);
	l->busy = true;
	l->len = 0;
	l->sent_ns = due_ns; /* when it was due: waiting for a connection counts */
	write_all(l->fd, out.buf, out.len);
}

static void line_read(struct line *l)
{
	const char *body;
	ssize_t n = read(l->fd, l->buf + l->len, sizeof(l->buf) - 1 - l->len);

	if (n == 0)
		die("a heartbeat's connection was closed");
	if (n < 0)
		return;
	l->len += (size_t)n;
	l->buf[l->len] = '\0';
	if (!answer_length(l->buf, l->len, &body))
		return;
	l->busy = false;
	if (strncmp(l->buf, "HTTP/1.1 200", 12) != 0) {
		if (!refused++)
			fprintf(stderr, "bench-swarm: first refusal: %s\n", l->buf);
		return;
	}
	if (latency_count < latency_max)
		latencies[latency_count++] = now_ns(CLOCK_MONOTONIC) - l->sent_ns;
}

static bool is_line(const void *p)
{
	return (const char *)p >= (const char *)lines && (const char *)p < (const char *)(lines + LINES);
}

static void poll_events(int timeout_ms)
{
	struct epoll_event events[256];
	int n = epoll_wait(epoll_fd, events, ARRAY_LEN(events), timeout_ms);

	for (int i = 0; i < n; i++) {
		void *what = events[i].data.ptr;

		if (is_line(what))
			line_read(what);
		else
			stream_read(what);
	}
}

static void beats_run(int64_t interval_ms, int64_t seconds)
{
	double step_ns = (double)interval_ms * 1e6 / (double)machine_count;
	int64_t start = now_ns(CLOCK_MONOTONIC), end = start + seconds * INT64_C(1000000000);
	size_t sent = 0;

	latency_max = (size_t)((double)seconds * 1e9 / step_ns) + 1;
	latencies = xcalloc(latency_max, sizeof(*latencies));
	while (now_ns(CLOCK_MONOTONIC) < end) {
		int64_t now = now_ns(CLOCK_MONOTONIC);

		for (int i = 0; i < LINES && start + (int64_t)((double)sent * step_ns) <= now; i++)
			if (!lines[i].busy) {
				beat_send(&lines[i], &machines[sent % machine_count], start + (int64_t)((double)sent * step_ns));
				sent++;
			}
		poll_events(1);
	}
	for (int64_t grace = now_ns(CLOCK_MONOTONIC) + 2000000000; latency_count < sent && now_ns(CLOCK_MONOTONIC) < grace;)
		poll_events(10);
}

/* ---- the server's use ------------------------------------------------------------------------------------------- */

static double cpu_seconds(const char *pid)
{
	char path[64], buf[1024] = "";
	unsigned long user = 0, sys = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	if (!(f = fopen(path, "re")) || !fgets(buf, sizeof(buf), f))
		die(path);
	fclose(f);
	sscanf(strrchr(buf, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static long rss_kib(const char *pid)
{
	char path[64], line[256];
	long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	if (!(f = fopen(path, "re")))
		die(path);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	if (argc != 6) {
		fprintf(stderr, "usage: bench-swarm PORT KEYS_FILE INTERVAL_MS SECONDS SERVER_PID\n");
		return 2;
	}
	crypto_init();
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	server = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	keys_read(argv[2]);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	long before = rss_kib(argv[5]);
	int64_t start = now_ns(CLOCK_MONOTONIC);
	int fd = dial();

	for (size_t i = 0; i < machine_count; i++)
		session_open(fd, &machines[i]);
	close(fd);
	double opening = (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9;

	start = now_ns(CLOCK_MONOTONIC);
	for (size_t i = 0; i < machine_count; i++) {
		stream_open(&machines[i]);
		if (i % 64 == 63)
			poll_events(0);
	}
	for (int64_t until = now_ns(CLOCK_MONOTONIC) + INT64_C(60000000000);
	     synced < (int64_t)machine_count && now_ns(CLOCK_MONOTONIC) < until;)
		poll_events(100);
	double connecting = (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9;

	for (int i = 0; i < LINES; i++) {
		lines[i].fd = dial();
		watch(lines[i].fd, &lines[i]);
	}
	beats_run(atoi(argv[3]), 2); /* not counted: both ends warm up */
	latency_count = 0;
	refused = 0;
	free(latencies);
	double cpu = cpu_seconds(argv[5]);

	start = now_ns(CLOCK_MONOTONIC);
	beats_run(atoi(argv[3]), atoi(argv[4]));
	double seconds = (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9;

	cpu = cpu_seconds(argv[5]) - cpu;
	long after = rss_kib(argv[5]);

	qsort(latencies, latency_count, sizeof(*latencies), by_value);
	printf("machines=%zu synced=%" PRId64 " broken=%" PRId64 " refused=%" PRId64 " opening_s=%.2f connecting_s=%.2f\n",
	       machine_count, synced, broken, refused, opening, connecting);
	printf("heartbeats=%zu rate=%.0f p50_ms=%.2f p99_ms=%.2f cpu_percent=%.1f rss_before_kib=%ld rss_kib=%ld kib_each=%.2f\n",
	       latency_count, (double)latency_count / seconds, latency_count ? (double)latencies[latency_count / 2] / 1e6 : 0,
	       latency_count ? (double)latencies[latency_count * 99 / 100] / 1e6 : 0, cpu / seconds * 100, before, after,
	       (double)(after - before) / (double)machine_count);
	return synced == (int64_t)machine_count && !broken && !refused ? 0 : 1;
}
