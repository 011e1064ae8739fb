#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

bool term_is(int fd)
{
	return isatty(fd) == 1;
}

int term_width(int fd)
{
	struct winsize ws;

	return ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0 ? ws.ws_col : 80;
}

bool term_color(int fd)
{
	const char *term = getenv("TERM");

	return term_is(fd) && str_empty(getenv("NO_COLOR")) && !str_empty(term) &&
	       !str_eq(term, "dumb");
}

enum { CTRL_C = 3, CTRL_D = 4, BACKSPACE = 8, CTRL_U = 21, DELETE = 127 };

/* Reads up to the end of the line without echo.  The terminal's own line editing and signals
 * are off, so that an interrupt cannot leave it mute: the usual keys are handled here. */
static int read_keys(int tty, char *buf, size_t size, struct err *err)
{
	size_t len = 0;
	char c;

	for (;;) {
		ssize_t n = read(tty, &c, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "cannot read from the terminal");
		if (c == CTRL_C || n == 0 || (c == CTRL_D && len == 0))
			return err_set(err, ERR_INVALID, "cancelled: nothing was entered");
		if (c == '\n' || c == '\r' || c == CTRL_D)
			break;
		if (c == CTRL_U) {
			len = 0;
		} else if (c == BACKSPACE || c == DELETE) {
			while (len && ((unsigned char)buf[--len] & 0xc0) == 0x80)
				;
		} else if (len + 1 < size) {
			buf[len++] = c;
		} else {
			return err_set(err, ERR_INVALID, "too long: at most %zu bytes",
				       size - 1);
		}
	}
	buf[len] = '\0';
	return 0;
}

int term_read_secret(const char *prompt, char *buf, size_t size, struct err *err)
{
	cleanup_fd int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios before, mute;
	struct err ignored;
	int rc;

	assert(size > 1);
	if (tty < 0 || tcgetattr(tty, &before) < 0)
		return err_sys(err, errno, "cannot ask for a secret without a terminal");
	mute = before;
	mute.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG);
	mute.c_cc[VMIN] = 1;
	mute.c_cc[VTIME] = 0;
	if (tcsetattr(tty, TCSAFLUSH, &mute) < 0)
		return err_sys(err, errno, "cannot turn off the terminal's echo");
	rc = write_all(tty, prompt, strlen(prompt), err);
	if (rc == 0)
		rc = read_keys(tty, buf, size, err);
	if (rc < 0)
		explicit_bzero(buf, size);
	(void)!write_all(tty, "\n", 1, &ignored);
	tcsetattr(tty, TCSAFLUSH, &before);
	return rc;
}
