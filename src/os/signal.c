#include "os.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void wanted_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void signals_block(void)
{
	sigset_t set;
	int rc;

	wanted_signals(&set);
	rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
	assert(rc == 0);
	signal(SIGPIPE, SIG_IGN);
}

int signals_wait(void)
{
	sigset_t set;
	int sig;

	wanted_signals(&set);
	while (sigwait(&set, &sig) != 0)
		;
	return sig;
}

void notify_service(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	cleanup_fd int fd = -1;
	socklen_t len;

	if (str_empty(path) || (path[0] != '/' && path[0] != '@') ||
	    str_copy(to.sun_path, sizeof(to.sun_path), path) < 0)
		return;
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	else
		len++;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
			      len);
}
