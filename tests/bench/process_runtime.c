/* A runtime that starts plain processes, for a build of tes-worker that only scripts/bench makes: it shows what our own
 * part of a job costs, without a container engine's.  Nothing is isolated; images are ignored; output is kept in memory. */
#include "../../src/worker/runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (1 << 20)
#define LOOK_MS 100 /* a cancel flag wakes nobody */

extern char **environ;

struct process {
	struct container_status status;
	char **argv;
	pid_t pid;
	int pidfd, output;
};

struct runtime {
	pthread_mutex_t lock;
	struct map *processes; /* lease -> struct process */
	int epoll;
};

static int64_t now_ms(void)
{
	return clock_now(&clock_system);
}

static void process_free(void *value)
{
	struct process *p = value;

	for (size_t i = 0; p->argv && p->argv[i]; i++)
		free(p->argv[i]);
	free(p->argv);
	close_fd_(&p->pidfd);
	close_fd_(&p->output);
	free(p);
}

int runtime_docker_open(const char *socket, const char *worker_id, struct runtime **ret, struct err *err)
{
	struct runtime *rt = xcalloc(1, sizeof(*rt));

	pthread_mutex_init(&rt->lock, NULL);
	rt->processes = map_new();
	rt->epoll = epoll_create1(EPOLL_CLOEXEC);
	*ret = rt;
	return 0;
}

void runtime_close(struct runtime *rt)
{
	if (!rt)
		return;
	map_free(rt->processes, process_free);
	close(rt->epoll);
	free(rt);
}

int runtime_info(struct runtime *rt, struct runtime_info *ret, struct err *err)
{
	*ret = (struct runtime_info){ .engine = "processes", .version = "1", .root_dir = "/", .pids_limit = true,
				      .memory_limit = true, .cpu_limit = true, .storage_limit = true };
	return 0;
}

enum runtime_presence runtime_presence(struct runtime *rt)
{
	return RUNTIME_THERE;
}

int runtime_image(struct runtime *rt, const struct image_request *req, struct image_got *ret, struct err *err)
{
	*ret = (struct image_got){ 0 };
	snprintf(ret->image, sizeof(ret->image), "%s", req->image);
	snprintf(ret->digest, sizeof(ret->digest), "%s", req->image);
	return 0;
}

int runtime_create(struct runtime *rt, const struct container_spec *spec, struct err *err)
{
	struct process *p = xcalloc(1, sizeof(*p));

	snprintf(p->status.lease, sizeof(p->status.lease), "%s", spec->lease);
	snprintf(p->status.id, sizeof(p->status.id), "%s", spec->lease);
	p->status.generation = spec->generation;
	p->status.state = CONTAINER_CREATED;
	p->status.created_ms = now_ms();
	p->pidfd = p->output = -1;
	p->argv = xcalloc(spec->command.len + 1, sizeof(*p->argv));
	for (size_t i = 0; i < spec->command.len; i++)
		p->argv[i] = xstrdup(spec->command.items[i]);
	pthread_mutex_lock(&rt->lock);
	if (map_find(rt->processes, spec->lease))
		process_free(p);
	else
		map_put(rt->processes, spec->lease, p);
	pthread_mutex_unlock(&rt->lock);
	return 0;
}

/* Lock held. */
static struct process *process_find(struct runtime *rt, const char *lease, struct err *err)
{
	struct process *p = map_find(rt->processes, lease);

	if (!p)
		err_set(err, ERR_NOT_FOUND, "no process of lease %s", lease);
	return p;
}

/* Where PATH has it: a look at each folder costs less than an attempt to execute there. */
static int program_find(const char *name, char ret[static PATH_MAX])
{
	const char *at = getenv("PATH"), *end;

	if (strchr(name, '/') || !at)
		return snprintf(ret, PATH_MAX, "%s", name) < PATH_MAX ? 0 : ENAMETOOLONG;
	for (; *at; at = *end ? end + 1 : end) {
		end = strchrnul(at, ':');
		if (snprintf(ret, PATH_MAX, "%.*s/%s", (int)(end - at), at, name) < PATH_MAX && access(ret, X_OK) == 0)
			return 0;
	}
	return ENOENT;
}

/* With our signals neither blocked nor ignored. */
static int program_spawn(const char *path, char **argv, int output, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	rc = posix_spawn(ret, path, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return rc;
}

/* Lock held: it runs. */
static void process_started(struct runtime *rt, struct process *p, pid_t pid, int output)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };

	p->pid = pid;
	p->output = output;
	p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	p->status.state = CONTAINER_RUNNING;
	p->status.started_ms = now_ms();
	ev.data.fd = p->pidfd;
	epoll_ctl(rt->epoll, EPOLL_CTL_ADD, p->pidfd, &ev);
}

int runtime_start(struct runtime *rt, const char *lease, struct err *err)
{
	char path[PATH_MAX];
	struct process *p;
	pid_t pid;
	int rc, output;
	bool created;

	pthread_mutex_lock(&rt->lock);
	p = process_find(rt, lease, err);
	created = p && p->status.state == CONTAINER_CREATED;
	pthread_mutex_unlock(&rt->lock);
	if (!created)
		return p ? 0 : -1;
	/* Without the lock, so that several start at the same time: only its lease's thread, which calls, removes it. */
	rc = p->argv[0] ? program_find(p->argv[0], path) : ENOENT;
	output = memfd_create("output", MFD_CLOEXEC);
	rc = rc ? rc : program_spawn(path, p->argv, output, &pid);
	if (rc) {
		close(output);
		return err_sys(err, rc, "cannot start the command");
	}
	pthread_mutex_lock(&rt->lock);
	process_started(rt, p, pid, output);
	pthread_mutex_unlock(&rt->lock);
	return 0;
}

/* Lock held: has it ended? */
static void process_look(struct process *p)
{
	int status;

	if (p->status.state != CONTAINER_RUNNING || waitpid(p->pid, &status, WNOHANG) != p->pid)
		return;
	p->status.state = CONTAINER_EXITED;
	p->status.finished_ms = now_ms();
	p->status.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	close(take_fd(p->pidfd));
}

static int process_signal(struct runtime *rt, const char *lease, int signal)
{
	struct process *p;

	pthread_mutex_lock(&rt->lock);
	p = map_find(rt->processes, lease);
	if (p)
		process_look(p);
	if (p && p->status.state == CONTAINER_RUNNING)
		kill(p->pid, signal);
	pthread_mutex_unlock(&rt->lock);
	return 0;
}

int runtime_pause(struct runtime *rt, const char *lease, struct err *err)
{
	return process_signal(rt, lease, SIGSTOP);
}

int runtime_unpause(struct runtime *rt, const char *lease, struct err *err)
{
	return process_signal(rt, lease, SIGCONT);
}

int runtime_stop(struct runtime *rt, const char *lease, int64_t grace_ms, struct err *err)
{
	return process_signal(rt, lease, SIGKILL);
}

int runtime_remove(struct runtime *rt, const char *lease, struct err *err)
{
	struct process *p;

	process_signal(rt, lease, SIGKILL);
	pthread_mutex_lock(&rt->lock);
	p = map_remove(rt->processes, lease);
	if (p && p->status.state == CONTAINER_RUNNING)
		waitpid(p->pid, NULL, 0);
	if (p)
		process_free(p);
	pthread_mutex_unlock(&rt->lock);
	return 0;
}

int runtime_status(struct runtime *rt, const char *lease, struct container_status *ret, struct err *err)
{
	struct process *p;

	pthread_mutex_lock(&rt->lock);
	p = map_find(rt->processes, lease);
	if (p)
		process_look(p);
	*ret = p ? p->status : (struct container_status){ .state = CONTAINER_ABSENT };
	pthread_mutex_unlock(&rt->lock);
	return 0;
}

int runtime_list(struct runtime *rt, struct arena *arena, struct container_status **ret, size_t *ret_len, struct err *err)
{
	size_t it = 0, n = 0;
	const char *key;
	void *value;

	pthread_mutex_lock(&rt->lock);
	*ret = arena_array(arena, struct container_status, map_count(rt->processes) + 1);
	while (map_next(rt->processes, &it, &key, &value))
		(*ret)[n++] = ((struct process *)value)->status;
	*ret_len = n;
	pthread_mutex_unlock(&rt->lock);
	return 0;
}

/* Which lease's process is it?  The descriptor may have been closed since. */
static bool process_of(struct runtime *rt, int pidfd, char ret[static ID_SIZE])
{
	size_t it = 0;
	const char *key;
	void *value;
	bool found = false;

	pthread_mutex_lock(&rt->lock);
	while (!found && map_next(rt->processes, &it, &key, &value)) {
		found = ((struct process *)value)->pidfd == pidfd;
		if (found)
			snprintf(ret, ID_SIZE, "%s", key);
	}
	pthread_mutex_unlock(&rt->lock);
	return found;
}

int runtime_events(struct runtime *rt, const volatile int *cancel, runtime_event_fn *fn, void *arg, struct err *err)
{
	struct epoll_event events[64];
	char lease[ID_SIZE];

	while (!cancel || !__atomic_load_n(cancel, __ATOMIC_RELAXED)) {
		int n = epoll_wait(rt->epoll, events, ARRAY_LEN(events), LOOK_MS);

		for (int i = 0; i < n; i++)
			if (process_of(rt, events[i].data.fd, lease))
				fn(arg, lease);
	}
	return 0;
}

/* Until it has ended. */
static void process_await(struct runtime *rt, const char *lease, const volatile int *cancel)
{
	struct pollfd ended = { .fd = -1, .events = POLLIN };
	bool started = true;

	while (started && ended.fd < 0 && !__atomic_load_n(cancel, __ATOMIC_RELAXED)) {
		struct process *p;

		pthread_mutex_lock(&rt->lock);
		p = map_find(rt->processes, lease);
		started = p && p->status.state != CONTAINER_EXITED;
		if (started && p->pidfd >= 0)
			ended.fd = fcntl(p->pidfd, F_DUPFD_CLOEXEC, 0);
		pthread_mutex_unlock(&rt->lock);
		if (started && ended.fd < 0)
			usleep(1000); /* it is about to be started */
	}
	while (ended.fd >= 0 && !__atomic_load_n(cancel, __ATOMIC_RELAXED) && poll(&ended, 1, LOOK_MS) == 0)
		;
	close_fd_(&ended.fd);
}

/* All its lines, once it has ended. */
static void output_tell(int fd, int64_t at_ms, runtime_log_fn *fn, void *arg)
{
	struct stat st = { 0 };
	size_t size = fd >= 0 && fstat(fd, &st) == 0 ? MIN((size_t)st.st_size, OUTPUT_MAX) : 0;
	char *text = xmalloc(size + 1);
	ssize_t len = size ? pread(fd, text, size, 0) : 0;

	for (char *p = text, *end = text + MAX(len, 0), *line; p < end;) {
		line = p;
		p = memchr(p, '\n', (size_t)(end - p));
		p = p ? p : end;
		if (fn(arg, LOG_STDOUT, at_ms * 1000000, line, (size_t)(p - line)))
			break;
		p++;
	}
	free(text);
}

int runtime_logs(struct runtime *rt, const char *lease, int64_t since_ns, bool follow, const volatile int *cancel,
		 runtime_log_fn *fn, void *arg, bool *ret_all, struct err *err)
{
	struct process *p;
	int fd = -1;
	int64_t at_ms = 0;

	if (follow)
		process_await(rt, lease, cancel);
	pthread_mutex_lock(&rt->lock);
	p = map_find(rt->processes, lease);
	if (p)
		process_look(p);
	*ret_all = follow && p && p->status.state == CONTAINER_EXITED;
	if (p && p->output >= 0) {
		fd = fcntl(p->output, F_DUPFD_CLOEXEC, 0);
		at_ms = p->status.started_ms;
	}
	pthread_mutex_unlock(&rt->lock);
	output_tell(fd, at_ms, fn, arg);
	close_fd_(&fd);
	return 0;
}

int runtime_exec(struct runtime *rt, const char *lease, const struct text_list *command, int64_t timeout_ms, int *ret_status,
		 struct err *err)
{
	return err_set(err, ERR_UNSUPPORTED, "plain processes have nothing to run a command in");
}

int runtime_disk_used(struct runtime *rt, const char *lease, int64_t *ret_bytes, struct err *err)
{
	return err_set(err, ERR_UNSUPPORTED, "plain processes have no disk of their own");
}

int runtime_copy_out(struct runtime *rt, const char *lease, const char *path, int fd, int64_t max_bytes, struct err *err)
{
	return err_set(err, ERR_UNSUPPORTED, "plain processes have no files of their own");
}
