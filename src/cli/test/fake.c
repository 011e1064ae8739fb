#include "fake.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct fake {
	const struct step *steps;
	size_t count, done;
	int listener, port;
	pthread_t thread;
	struct strbuf problem; /* the first thing that was not as wanted */
};

/* The whole request: its head, and as much body as that announces. */
static bool request_read(int fd, struct strbuf *out)
{
	char chunk[4096];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
		const char *end, *length;

		strbuf_add(out, chunk, (size_t)n);
		end = strstr(out->buf, "\r\n\r\n");
		if (!end)
			continue;
		length = strcasestr(out->buf, "\r\nContent-Length: ");
		if (!length || length > end ||
		    out->len >= (size_t)(end + 4 - out->buf) + strtoul(length + 18, NULL, 10))
			return true;
	}
	return false;
}

static void *fake_thread(void *arg)
{
	struct fake *f = arg;

	while (f->done < f->count) {
		const struct step *s = &f->steps[f->done];
		struct strbuf request = STRBUF_INIT;
		struct err ignored;
		int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			break;
		if (request_read(fd, &request)) {
			for (size_t i = 0; i < ARRAY_LEN(s->want) && s->want[i]; i++)
				if (!memmem(request.buf, request.len, s->want[i],
					    strlen(s->want[i])) &&
				    !f->problem.len)
					strbuf_addf(&f->problem,
						    "request %zu has no \"%s\":\n%s", f->done,
						    s->want[i], request.buf);
			f->done++;
			(void)!write_all(fd, s->answer, strlen(s->answer), &ignored);
			shutdown(fd, SHUT_WR);
		}
		close(fd);
		strbuf_release(&request);
	}
	return NULL;
}

struct fake *fake_start(const struct step *steps, size_t count)
{
	struct fake *f = xcalloc(1, sizeof(*f));
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);

	f->steps = steps;
	f->count = count;
	strbuf_init(&f->problem);
	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(f->listener, 16), 0);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *)&at, &len), 0);
	f->port = ntohs(at.sin_port);
	assert_int_equal(pthread_create(&f->thread, NULL, fake_thread, f), 0);
	return f;
}

void fake_stop(struct fake *f)
{
	size_t done;

	shutdown(f->listener, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->listener);
	done = f->done;
	if (f->problem.len)
		fail_msg("%s", f->problem.buf);
	if (done != f->count)
		fail_msg("%zu requests of %zu came", done, f->count);
	strbuf_release(&f->problem);
	free(f);
}

static int capture(int fd, char path[static 32])
{
	int kept = dup(fd), file;

	snprintf(path, 32, "/tmp/tes-cli-test-XXXXXX");
	file = mkstemp(path);
	assert_true(file >= 0 && kept >= 0);
	assert_true(dup2(file, fd) >= 0);
	close(file);
	return kept;
}

static void restore(int fd, int kept, const char *path, struct strbuf *ret)
{
	struct err err = { 0 };

	dup2(kept, fd);
	close(kept);
	strbuf_init(ret);
	assert_int_equal(file_read(path, 64 << 20, ret, &err), 0);
	unlink(path);
}

void tes_run(struct fake *f, const char *const *argv, struct outcome *ret)
{
	char out[32], errout[32], url[64];
	int argc = 0, kept_out, kept_err;

	while (argv[argc])
		argc++;
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", f ? f->port : 1);
	setenv("TES_URL", url, 1);
	setenv("TES_KEY", "tes_test", 1);
	fflush(stdout);
	fflush(stderr);
	kept_out = capture(STDOUT_FILENO, out);
	kept_err = capture(STDERR_FILENO, errout);
	ret->status = cli_main(argc, argv);
	fflush(stderr);
	restore(STDOUT_FILENO, kept_out, out, &ret->out);
	restore(STDERR_FILENO, kept_err, errout, &ret->errout);
}

void outcome_release(struct outcome *o)
{
	strbuf_release(&o->out);
	strbuf_release(&o->errout);
}

void expect_text(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, text);
}
