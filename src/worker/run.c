/* `tes-worker run`: starts the threads, waits for a signal, ends them.  Containers stay with
 * the engine. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void cond_init_monotonic(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t monotonic_ms)
{
	struct timespec ts = { .tv_sec = monotonic_ms / 1000,
			       .tv_nsec = monotonic_ms % 1000 * 1000000 };

	return pthread_cond_timedwait(cond, lock, &ts) != ETIMEDOUT;
}

void agent_stop(struct agent *w, int exit_status)
{
	pthread_mutex_lock(&w->lock);
	if (!agent_stopping(w)) {
		w->exit_status = exit_status;
		__atomic_store_n(&w->stopping, 1, __ATOMIC_RELEASE);
		__atomic_store_n(&w->stream_cancel, 1, __ATOMIC_RELAXED);
		pthread_cond_broadcast(&w->cond);
		pthread_cond_broadcast(&w->care_cond);
		kill(getpid(), SIGTERM); /* wakes the main thread */
	}
	pthread_mutex_unlock(&w->lock);
}

/* How long the server has been silent for when this process starts. */
static int64_t heard_before_ms(const char *state_dir)
{
	cleanup_free char *path = path_join(state_dir, "heard");
	struct stat st;

	if (stat(path, &st) < 0)
		return 0;
	return MAX(now_ms_get() - ((int64_t)st.st_mtim.tv_sec * SECOND_MS +
				   st.st_mtim.tv_nsec / 1000000),
		   0);
}

static void agent_init(struct agent *w, const struct command_args *args)
{
	w->config = args->config;
	w->config_path = args->config_path;
	w->state_dir = args->config->state_dir;
	w->leases = map_new();
	w->heartbeat_ms = 10 * SECOND_MS;
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_init(&w->jail_lock, NULL);
	pthread_mutex_init(&w->inventory_lock, NULL);
	cond_init_monotonic(&w->cond);
	cond_init_monotonic(&w->care_cond);
	id_make("bt", now_ms_get(), &random_system, w->id.boot_id);
}

/* What the configuration alone does not tell: whether it fits this machine. */
static int machine_check(const struct worker_config *c, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct inventory inv;
	struct text_list problems;

	if (inventory_make(c, NULL, NULL, now_ms_get(), NULL, &a, &inv, &problems, err) < 0)
		return -1;
	for (size_t i = 0; i < problems.len; i++)
		log_line(LOG_INFO, "hardware", "note", problems.items[i], NULL);
	return 0;
}

static int agent_open(struct agent *w, int *ret_lock, struct err *err)
{
	cleanup_free char *lock = path_join(w->state_dir, "lock");
	char boot_id[ID_SIZE];
	struct err e = { 0 };

	memcpy(boot_id, w->id.boot_id, sizeof(boot_id));
	if (identity_load(w->state_dir, &w->id, err) < 0 ||
	    file_lock(lock, ret_lock, err) < 0 || machine_check(w->config, err) < 0 ||
	    journals_open(w->state_dir, &w->journals, err) < 0)
		return -1;
	memcpy(w->id.boot_id, boot_id, sizeof(boot_id));
	/* A full disk must not end the leases that are here: only the owner's commands miss it. */
	if (state_boot_write(w->state_dir, boot_id, &e) < 0)
		log_err(LOG_ERROR, &e, "the state directory cannot be written", NULL);
	w->heard_ms = time_monotonic_ms() - heard_before_ms(w->state_dir);
	images_load(&w->images, w->state_dir);
	w->link = link_new(&w->id, agent_config(w)->ca_file);
	return 0;
}

/* New prices, shares and hours; what needs a restart is said. */
static void reload(struct agent *w)
{
	struct arena *arena = xcalloc(
		1, sizeof(*arena)); /* lives as long as the process: texts of it are borrowed */
	struct worker_config *fresh = xcalloc(1, sizeof(*fresh));
	struct err err = { 0 };

	if (config_open(w->config_path, arena, fresh, &err) < 0) {
		log_err(LOG_ERROR, &err, "the new configuration is wrong, the old one stays",
			NULL);
		arena_release(arena);
		free(arena);
		free(fresh);
		return;
	}
	if (!str_eq(fresh->state_dir, agent_config(w)->state_dir) ||
	    !str_eq(fresh->engine_socket, agent_config(w)->engine_socket))
		log_line(LOG_WARN,
			 "state_dir and [engine] socket are taken over at the next start",
			 NULL);
	__atomic_store_n(&w->config, fresh, __ATOMIC_RELEASE);
	log_line(LOG_INFO, "configuration read again", NULL);
	agent_inventory_refresh(w);
}

static void wait_for_signal(struct agent *w)
{
	while (!agent_stopping(w)) {
		int sig = signals_wait();

		if (agent_stopping(w))
			break;
		if (sig == SIGHUP) {
			reload(w);
			continue;
		}
		log_line(LOG_INFO, "stopping; containers go on", NULL);
		break;
	}
}

static void agent_run(struct agent *w)
{
	static void *(*const threads[])(void *) = { engine_thread, care_thread, stream_thread,
						    observe_thread };
	pthread_t ids[ARRAY_LEN(threads)];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		if (thread_start(&ids[i], threads[i], w) != 0)
			abort(); /* no threads: nothing works on this machine */
	notify_service("READY=1");
	wait_for_signal(w);
	notify_service("STOPPING=1");
	agent_stop(w, 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(ids[i], NULL);
	agent_leases_stop(w);
}

int command_run(const struct command_args *args)
{
	struct agent *w = xcalloc(1, sizeof(*w));
	cleanup_fd int lock = -1;
	struct err err = { 0 };
	int ret;

	agent_init(w, args);
	if (agent_open(w, &lock, &err) < 0) {
		log_err(LOG_ERROR, &err, "tes-worker does not start", NULL);
		return 1;
	}
	signals_block();
	log_line(LOG_INFO, "tes-worker starts", "version", TES_VERSION, "worker",
		 w->id.worker_id, "server", w->id.server, NULL);
	agent_inventory_refresh(w);
	if (agent_recover(w, &err) < 0) {
		log_err(LOG_ERROR, &err, "tes-worker does not start", NULL);
		return 1;
	}
	agent_run(w);
	ret = w->exit_status;
	runtime_close(w->rt);
	link_free(w->link);
	journals_close(w->journals);
	arena_release(&w->inventory_arena);
	map_free(w->leases, NULL);
	explicit_bzero(&w->id, sizeof(w->id));
	free(w);
	return ret;
}
