#include "../os.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

static void a_file_is_no_terminal(void **state)
{
	cleanup_fd int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_false(term_is(fd));
	assert_false(term_color(fd));
	assert_int_equal(term_width(fd), 80);
}

static void a_terminal_has_width_and_colors(void **state)
{
	struct winsize size = { .ws_col = 133, .ws_row = 40 };
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), tty;

	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	tty = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(term_is(tty));
	ioctl(master, TIOCSWINSZ, &size);
	assert_int_equal(term_width(tty), 133);
	setenv("TERM", "xterm", 1);
	unsetenv("NO_COLOR");
	assert_true(term_color(tty));
	setenv("NO_COLOR", "1", 1);
	assert_false(term_color(tty));
	unsetenv("NO_COLOR");
	setenv("TERM", "dumb", 1);
	assert_false(term_color(tty));
	unsetenv("TERM");
	assert_false(term_color(tty));
	close(tty);
	close(master);
}

/* Runs term_read_secret in a session whose terminal is ours, types `keys` at its prompt, and
 * compares; 0 if it gave `want` (NULL: refused), showed none of it and left the echo as it
 * was. */
static int ask(const char *keys, const char *want)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), status;
	char shown[256] = "", *at = shown;
	struct termios modes;
	pid_t pid;
	int tty;

	if (grantpt(master) < 0 || unlockpt(master) < 0)
		return 90;
	tty = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	pid = fork();
	if (pid == 0) {
		char secret[8] = "old";
		struct err err;
		int rc;

		setsid();
		ioctl(tty, TIOCSCTTY, 0);
		rc = term_read_secret("Secret: ", secret, sizeof(secret), &err);
		if (!want)
			_exit(rc == -1 ? 0 : 1);
		_exit(rc == 0 && str_eq(secret, want) ? 0 : 2);
	}
	/* At the prompt the echo is already off. */
	while (!strstr(shown, "Secret: ") && at < shown + sizeof(shown) - 1) {
		ssize_t n = read(master, at, 1);

		if (n <= 0)
			break;
		at += n;
	}
	if (write(master, keys, strlen(keys)) < 0)
		return 91;
	waitpid(pid, &status, 0);
	tcgetattr(tty, &modes);
	fcntl(master, F_SETFL, O_NONBLOCK);
	while (at < shown + sizeof(shown) - 1 && read(master, at, 1) == 1)
		at++;
	*at = '\0';
	close(tty);
	close(master);
	if (!(modes.c_lflag & ECHO) || !(modes.c_lflag & ICANON))
		return 92;
	if (!str_eq(shown, "Secret: \r\n"))
		return 93;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 94;
}

static void secrets_are_read_unseen(void **state)
{
	assert_int_equal(ask("abc\n", "abc"), 0);
	assert_int_equal(ask("abc\r", "abc"), 0);
	assert_int_equal(ask("ab\x7fx\n", "ax"), 0);
	assert_int_equal(ask("é\x7fx\n", "x"), 0);
	assert_int_equal(ask("\x7f\x7f\n", ""), 0);
	assert_int_equal(ask("abc\x15yz\n", "yz"), 0);
	assert_int_equal(ask("1234567\n", "1234567"), 0);
	assert_int_equal(ask("abc\x03", NULL), 0);
	assert_int_equal(ask("\x04", NULL), 0);
	assert_int_equal(ask("12345678", NULL), 0);
}

static void signals_are_waited_for(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		bool ok = true;

		signals_block();
		raise(SIGPIPE);
		raise(SIGHUP);
		ok = ok && signals_wait() == SIGHUP;
		raise(SIGTERM);
		ok = ok && signals_wait() == SIGTERM;
		kill(getpid(), SIGINT);
		ok = ok && signals_wait() == SIGINT;
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void notified(const char *name, socklen_t len)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char text[32] = "";

	memcpy(at.sun_path, name, strlen(name) + 1);
	if (name[0] == '@')
		at.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&at,
			      (socklen_t)offsetof(struct sockaddr_un, sun_path) + len),
			 0);
	setenv("NOTIFY_SOCKET", name, 1);
	notify_service("READY=1");
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(recv(fd, text, sizeof(text) - 1, 0), 7);
	assert_string_equal(text, "READY=1");
}

static void systemd_is_notified(void **state)
{
	char name[64];

	notify_service("READY=1"); /* nobody there */
	snprintf(name, sizeof(name), "@tes-test-notify-%d", (int)getpid());
	notified(name, (socklen_t)strlen(name));
	snprintf(name, sizeof(name), "/tmp/tes-test-notify-%d", (int)getpid());
	notified(name, (socklen_t)strlen(name) + 1);
	unlink(name);
	setenv("NOTIFY_SOCKET", "relative", 1);
	notify_service("READY=1");
	unsetenv("NOTIFY_SOCKET");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_no_terminal),
		cmocka_unit_test(a_terminal_has_width_and_colors),
		cmocka_unit_test(secrets_are_read_unseen),
		cmocka_unit_test(signals_are_waited_for),
		cmocka_unit_test(systemd_is_notified),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
