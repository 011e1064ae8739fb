#include "../os.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#define LONG_MS (60 * SECOND_MS)

/* What a run gave; the texts are released by the caller. */
struct result {
	struct strbuf out, errout;
	int status;
	struct err err;
};

static int run_in(struct result *r, const char *script, struct slice input, size_t max,
		  int64_t timeout_ms)
{
	const char *const argv[] = { "sh", "-c", script, NULL };

	r->status = -1;
	strbuf_init(&r->out);
	strbuf_init(&r->errout);
	return process_run(argv, input, max, timeout_ms, &r->out, &r->errout, &r->status,
			   &r->err);
}

static void result_release(struct result *r)
{
	strbuf_release(&r->out);
	strbuf_release(&r->errout);
}

static const struct slice no_input;

static void streams_and_status(void **state)
{
	cleanup(result_release) struct result r = { 0 };

	assert_int_equal(run_in(&r, "cat; echo no >&2; exit 3", SLICE("hello"), 100, LONG_MS),
			 0);
	assert_int_equal(r.status, 3);
	assert_string_equal(r.out.buf, "hello");
	assert_string_equal(r.errout.buf, "no\n");
}

static void a_signal_shows_in_the_status(void **state)
{
	cleanup(result_release) struct result r = { 0 };

	assert_int_equal(run_in(&r, "kill -TERM $$", no_input, 100, LONG_MS), 0);
	assert_int_equal(r.status, 128 + SIGTERM);
}

/* More than a pipe holds, both ways, at once. */
static void much_input_and_output(void **state)
{
	enum { SIZE = 3 << 20 };
	cleanup(result_release) struct result r = { 0 };
	cleanup_free char *input = xcalloc(1, SIZE);

	memset(input, 'x', SIZE);
	assert_int_equal(
		run_in(&r, "tee /dev/stderr", (struct slice){ input, SIZE }, SIZE, LONG_MS), 0);
	assert_int_equal(r.out.len, SIZE);
	assert_int_equal(r.errout.len, SIZE);
	assert_memory_equal(r.out.buf, input, SIZE);
}

static void output_over_the_limit_is_dropped(void **state)
{
	cleanup(result_release) struct result r = { 0 };

	assert_int_equal(
		run_in(&r, "head -c 1000000 /dev/zero; echo end >&2", no_input, 10, LONG_MS),
		0);
	assert_int_equal(r.status, 0);
	assert_int_equal(r.out.len, 10);
	assert_string_equal(r.errout.buf, "end\n");
}

static void unread_input_is_fine(void **state)
{
	cleanup(result_release) struct result r = { 0 };
	cleanup_free char *input = xcalloc(1, 1 << 20);

	assert_int_equal(
		run_in(&r, "exec <&-; exit 0", (struct slice){ input, 1 << 20 }, 10, LONG_MS),
		0);
	assert_int_equal(r.status, 0);
}

static void the_deadline_kills_the_whole_group(void **state)
{
	cleanup(result_release) struct result r = { 0 };
	int64_t start_ms = time_monotonic_ms();
	pid_t child;
	int tries;

	strbuf_init(&r.out);
	/* Both streams of the grandchild are the program's own. */
	assert_int_equal(run_in(&r, "sleep 1000 & echo $! > /tmp/tes-test-process.$PPID; yes",
				no_input, 10, 300),
			 -1);
	assert_int_equal(r.err.code, ERR_TIMEOUT);
	assert_non_null(strstr(r.err.text, "sh: "));
	assert_int_equal(r.status, -1);
	assert_int_equal(r.out.len, 0);
	assert_true(time_monotonic_ms() - start_ms < 30 * SECOND_MS);
	{
		char path[64];
		struct strbuf text;
		int64_t pid = 0;

		strbuf_init(&text);
		snprintf(path, sizeof(path), "/tmp/tes-test-process.%d", (int)getpid());
		assert_int_equal(file_read(path, 100, &text, &r.err), 0);
		text.buf[strcspn(text.buf, "\n")] = '\0';
		assert_int_equal(int_parse(text.buf, 1, INT32_MAX, &pid, &r.err), 0);
		child = (pid_t)pid;
		strbuf_release(&text);
		unlink(path);
	}
	/* It is init's to reap: gone or a zombie soon. */
	for (tries = 0; tries < 1000; tries++) {
		char path[64];
		struct strbuf text;
		bool dead;

		strbuf_init(&text);
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)child);
		dead = file_read(path, 4096, &text, &r.err) < 0 || strstr(text.buf, ") Z ");
		strbuf_release(&text);
		if (dead)
			break;
		usleep(10000);
	}
	assert_true(tries < 1000);
}

static void grandchildren_do_not_keep_us(void **state)
{
	cleanup(result_release) struct result r = { 0 };
	int64_t start_ms = time_monotonic_ms(), pid;

	assert_int_equal(run_in(&r, "sleep 1000 & echo $!", no_input, 100, LONG_MS), 0);
	assert_true(time_monotonic_ms() - start_ms < 30 * SECOND_MS);
	r.out.buf[strcspn(r.out.buf, "\n")] = '\0';
	assert_int_equal(int_parse(r.out.buf, 1, INT32_MAX, &pid, &r.err), 0);
	kill((pid_t)pid, SIGKILL);
}

static void a_missing_program_is_not_found(void **state)
{
	const char *const argv[] = { "tes-no-such-program", NULL };
	struct err err;
	int status = 77;

	assert_int_equal(process_run(argv, no_input, 10, LONG_MS, NULL, NULL, &status, &err),
			 -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_true(err.sys == ENOENT || err.sys == EACCES);
	assert_non_null(strstr(err.text, "tes-no-such-program"));
	assert_int_equal(status, 77);
}

/* Nothing leaks into the child: neither descriptors nor the signal mask; and none of ours are
 * lost. */
static void the_child_starts_clean(void **state)
{
	cleanup(result_release) struct result r = { 0 };
	int leaked = dup(STDERR_FILENO), before, after;
	sigset_t mask, old;

	fcntl(leaked, F_SETFD, 0);
	sigfillset(&mask);
	sigdelset(&mask, SIGSEGV);
	sigdelset(&mask, SIGABRT);
	pthread_sigmask(SIG_BLOCK, &mask, &old);
	signal(SIGPIPE, SIG_IGN);
	before = dup(STDERR_FILENO);
	close(before);
	assert_int_equal(run_in(&r,
				"ls /proc/self/fd | tr '\\n' ' '; "
				"grep SigBlk /proc/self/status; "
				"grep -c 'SigIgn.*0000$' /proc/self/status",
				no_input, 1000, LONG_MS),
			 0);
	after = dup(STDERR_FILENO);
	close(after);
	close(leaked);
	signal(SIGPIPE, SIG_DFL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	/* 3 is the directory that ls itself has open; SIGPIPE is the 13th bit. */
	assert_string_equal(r.out.buf, "0 1 2 3 SigBlk:\t0000000000000000\n1\n");
	assert_int_equal(before, after);
}

/* A parent without standard streams, as a careless supervisor starts it. */
static void closed_standard_streams(void **state)
{
	int saved[3];
	struct result r;
	int rc;

	for (int i = 0; i < 3; i++) {
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		close(i);
	}
	rc = run_in(&r, "cat; echo err >&2", SLICE("in"), 100, LONG_MS);
	for (int i = 0; i < 3; i++) {
		dup2(saved[i], i);
		close(saved[i]);
	}
	assert_int_equal(rc, 0);
	assert_string_equal(r.out.buf, "in");
	assert_string_equal(r.errout.buf, "err\n");
	result_release(&r);
}

int main(void)
{
	signal(SIGHUP, SIG_DFL); /* what started the tests may have it ignored */
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_and_status),
		cmocka_unit_test(a_signal_shows_in_the_status),
		cmocka_unit_test(much_input_and_output),
		cmocka_unit_test(output_over_the_limit_is_dropped),
		cmocka_unit_test(unread_input_is_fine),
		cmocka_unit_test(the_deadline_kills_the_whole_group),
		cmocka_unit_test(grandchildren_do_not_keep_us),
		cmocka_unit_test(a_missing_program_is_not_found),
		cmocka_unit_test(the_child_starts_clean),
		cmocka_unit_test(closed_standard_streams),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
