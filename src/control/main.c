/* tesd: the process.  One thread a duty, a pool for HTTP, a few for streams; all end on SIGTERM. */
#include "internal.h"

#include "../os/os.h"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

/* glibc would make eight for each processor, and keep what each has ever held. */
#define ARENAS_MAX 4

static const char help[] =
	"tesd: the server of a TES AI network\n"
	"\n"
	"tesd run [-c FILE]            run the server (migrates the store first)\n"
	"tesd check-config [-c FILE]   check the configuration and exit\n"
	"tesd migrate [-c FILE]        bring the store up to date\n"
	"tesd backup FILE [-c FILE]    copy the store, while it is in use\n"
	"tesd openapi                  print the OpenAPI description of the interface\n"
	"tesd config                   print a commented configuration with all defaults\n"
	"tesd admin … [-c FILE]        the operator's commands; `tesd admin --help`\n"
	"tesd version\n"
	"\n"
	"FILE is $TES_CONFIG or /etc/tes/tesd.conf if left out, and may be missing: every key has a default, and\n"
	"TES_<SECTION>_<KEY> in the environment wins.\n";

static int fail(const struct err *err)
{
	fprintf(stderr, "tesd: %s%s%s\n", err->field, err->field[0] ? " " : "", err->text);
	return 1;
}

static int fail_usage(const struct err *err)
{
	fail(err);
	return 2;
}

/* Takes "-c FILE" out of the arguments. */
static int config_path(int *argc, char **argv, const char **ret, struct err *err)
{
	static const char standard[] = "/etc/tes/tesd.conf";
	const char *path = getenv("TES_CONFIG");

	for (int i = 1; i < *argc; i++) {
		if (!str_eq(argv[i], "-c") && !str_eq(argv[i], "--config"))
			continue;
		if (i + 1 == *argc)
			return err_set(err, ERR_INVALID, "%s needs a file: -c FILE", argv[i]);
		path = argv[i + 1];
		memmove(&argv[i], &argv[i + 2], (*argc - i - 1) * sizeof(*argv));
		*argc -= 2;
		break;
	}
	*ret = path ? path : access(standard, F_OK) == 0 ? standard : NULL;
	return 0;
}

/* What is not understood is refused: a server that started without the file meant by a mistyped "-c" would make a
 * store of its own. */
static int words_check(int argc, char **argv, struct err *err)
{
	const char *what = argv[1];
	int max = str_eq(what, "backup") ? 3 : 2;

	if (str_eq(what, "admin"))
		return 0; /* it reads its own */
	for (int i = 2; i < argc; i++)
		if (i >= max || argv[i][0] == '-')
			return err_set(err, ERR_INVALID, "tesd %s does not take \"%.60s\"; `tesd --help` shows what it takes", what,
				       argv[i]);
	return argc < max ? err_set(err, ERR_INVALID, "say where to: tesd backup FILE") : 0;
}

/* ---- duties ------------------------------------------------------------------------------------------------------ */

struct duty_thread {
	struct control *c;
	const struct duty *duty;
	struct db_conn *conn;
	pthread_t thread;
	bool started;
};

#define STANDBY_LOOK_MS SECOND_MS /* at a leader that may have died */

static void *duty_run(void *arg)
{
	struct duty_thread *d = arg;
	int64_t now = control_now(d->c), next = now;
	int failures = 0;

	while (hub_wait_duty(d->c->hub, d->duty->name, duty_wait_ms(now, next, control_now(d->c)), d->duty->gather_ms)) {
		struct err err = { 0 };

		now = control_now(d->c);
		next = now + SECOND_MS;
		if (d->duty->round(d->c, d->conn, now, &next, &err) == 0) {
			failures = 0;
			if (!leader_was(d->c, d->duty->name))
				next = MIN(next, now + STANDBY_LOOK_MS);
			continue;
		}
		/* What the store refused is tried again, more slowly each time. */
		failures = MIN(failures + 1, 6);
		next = now + (SECOND_MS << (failures - 1));
		metrics_count(d->c, NULL, "duty_failures_total", 1);
		log_err(LOG_ERROR, &err, "a duty failed and will be tried again", "duty", d->duty->name, NULL);
	}
	return NULL;
}

static int duties_start(struct control *c, struct duty_thread *threads, struct err *err)
{
	for (size_t i = 0; i < duty_count; i++) {
		threads[i] = (struct duty_thread){ .c = c, .duty = &duties[i] };
		if (db_conn_open(c->db, &threads[i].conn, err) < 0)
			return -1;
		if (pthread_create(&threads[i].thread, NULL, duty_run, &threads[i]) != 0)
			return err_set(err, ERR_UNAVAILABLE, "cannot start a thread");
		threads[i].started = true;
	}
	return 0;
}

static void duties_stop(struct control *c, struct duty_thread *threads)
{
	hub_stop(c->hub);
	for (size_t i = 0; i < duty_count; i++)
		if (threads[i].started)
			pthread_join(threads[i].thread, NULL);
	for (size_t i = 0; i < duty_count; i++)
		if (threads[i].conn)
			db_conn_close(threads[i].conn);
}

/* ---- run ----------------------------------------------------------------------------------------------------------- */

static int serve(struct control *c, struct err *err)
{
	struct duty_thread *threads = xcalloc(duty_count, sizeof(*threads));
	char port[16];
	int rc = -1, sig;
	struct db_conn *conn = NULL;

	if (db_conn_open(c->db, &conn, err) < 0 || live_threads_start(c, 2, err) < 0 || duties_start(c, threads, err) < 0 ||
	    serve_start(c, err) < 0)
		goto out;
	snprintf(port, sizeof(port), "%d", http_server_port(c->server));
	log_line(LOG_INFO, "ready", "address", c->config.listen_address, "port", port, "store",
		 db_is_postgres(c->db) ? "postgresql" : "sqlite", "version", TES_VERSION, NULL);
	notify_service("READY=1");
	memory_give_back();
	do
		sig = signals_wait();
	while (sig == SIGHUP);
	log_line(LOG_INFO, "stopping", NULL);
	notify_service("STOPPING=1");
	rc = 0;
out:
	/* Streams are ended first: a server that stops waits for its connections. */
	live_threads_stop(c);
	serve_stop(c);
	duties_stop(c, threads);
	if (conn) {
		struct err ignored = { 0 };

		if (leader_release(c, conn, &ignored) < 0)
			log_err(LOG_WARN, &ignored, "could not give leadership back", NULL);
		db_conn_close(conn);
	}
	free(threads);
	return rc;
}

struct process {
	int lock_fd; /* 0: none */
	struct control_config config;
	struct arena arena;
	struct db *db;
	struct blob_store *blobs;
	struct control *control;
};

static void process_close(struct process *p)
{
	control_close(p->control);
	if (p->blobs)
		blob_close(p->blobs);
	if (p->db)
		db_close(p->db);
	if (p->lock_fd > 0)
		close(p->lock_fd);
	arena_release(&p->arena);
}

/* The directory of a "sqlite:PATH" may not be there yet at a first start. */
static int store_dir_make(const char *url, struct err *err)
{
	char *path, *slash;
	int rc = 0;

	if (!str_starts(url, "sqlite:/"))
		return 0;
	path = xstrdup(url + strlen("sqlite:"));
	slash = strrchr(path, '/');
	if (slash && slash != path) {
		*slash = '\0';
		rc = dir_make(path, 0700, err);
	}
	free(path);
	return rc;
}

static int process_open(struct process *p, bool migrate, struct err *err)
{
	int applied = 0;

	if (store_dir_make(p->config.database, err) < 0 || db_open(p->config.database, &p->db, err) < 0)
		return err_wrap(err, "[store] database");
	if (migrate && db_migrate(p->db, clock_now(&clock_system), &applied, err) < 0)
		return -1;
	if (applied) {
		char text[16];

		snprintf(text, sizeof(text), "%d", applied);
		log_line(LOG_INFO, "store migrated", "migrations", text, NULL);
	}
	if (blob_open(p->config.blobs, &p->blobs, err) < 0)
		return err_wrap(err, "[store] blobs");
	return control_open(&p->config, &clock_system, &random_system, p->db, p->blobs, &p->control, err);
}

/* SQLite is one process's: it takes over at once from one that was killed, and refuses to be the second. */
static int alone(struct process *p, struct err *err)
{
	cleanup_strbuf struct strbuf path = STRBUF_INIT;
	struct db_conn *conn;
	int rc;

	if (db_is_postgres(p->db) || !str_starts(p->config.database, "sqlite:/"))
		return 0;
	strbuf_adds(&path, p->config.database + strlen("sqlite:"));
	path.len = strcspn(path.buf, "?");
	path.buf[path.len] = '\0';
	strbuf_adds(&path, ".lock");
	if (file_lock(path.buf, &p->lock_fd, err) < 0)
		return err_wrap(err, "another tesd runs on this store");
	if (db_conn_open(p->db, &conn, err) < 0)
		return -1;
	rc = leader_take_over(conn, err);
	db_conn_close(conn);
	return rc;
}

static int pending_check(struct db_conn *conn, struct err *err)
{
	int pending;

	if (db_migrations_pending(conn, &pending, err) < 0)
		return -1;
	return pending ? err_set(err, ERR_CONFLICT, "the store lacks %d migrations: run `tesd migrate` first", pending) : 0;
}

static int command_admin(struct process *p, int argc, char **argv, struct err *err)
{
	struct db_conn *conn;
	int rc;

	if (db_conn_open(p->db, &conn, err) < 0)
		return fail(err);
	rc = pending_check(conn, err) < 0 ? fail(err) : admin_main(p->control, conn, argc, argv);
	db_conn_close(conn);
	return rc;
}

static int command(struct process *p, int argc, char **argv)
{
	struct err err = { 0 };
	const char *what = argv[1];

	if (str_eq(what, "check-config")) {
		puts("the configuration is fine");
		return 0;
	}
	if (str_eq(what, "run")) {
		signals_block();
		mallopt(M_ARENA_MAX, ARENAS_MAX);
	}
	if (process_open(p, str_eq(what, "run") || str_eq(what, "migrate"), &err) < 0)
		return fail(&err);
	if (str_eq(what, "migrate")) {
		puts("the store is up to date");
		return 0;
	}
	if (str_eq(what, "backup")) {
		return db_backup(p->db, argv[2], &err) < 0 ? fail(&err) : (puts("done"), 0);
	}
	if (str_eq(what, "admin"))
		return command_admin(p, argc - 2, argv + 2, &err);
	return alone(p, &err) < 0 || serve(p->control, &err) < 0 ? fail(&err) : 0;
}

static int print_and_free(struct strbuf *out)
{
	puts(out->buf);
	strbuf_release(out);
	return 0;
}

static bool is_command(const char *s)
{
	static const char *const names[] = { "run", "check-config", "migrate", "backup", "admin", "openapi", "config", "version",
					     "--version" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(s, names[i]))
			return true;
	return false;
}

/* Of commands that need no configuration; false: it is another. */
static bool command_plain(const char *what, struct strbuf *out)
{
	if (str_eq(what, "version") || str_eq(what, "--version"))
		strbuf_adds(out, "tesd " TES_VERSION);
	else if (str_eq(what, "openapi"))
		api_openapi("http://127.0.0.1:7370", out);
	else if (str_eq(what, "config"))
		control_config_print(out);
	return out->len > 0;
}

int control_main(int argc, char **argv)
{
	struct process p = { 0 };
	struct err err = { 0 };
	struct strbuf out = STRBUF_INIT;
	const char *path = NULL, *what;
	int rc = config_path(&argc, argv, &path, &err);
	const char *last = argv[argc - 1];

	what = argc > 1 ? argv[1] : "--help";
	crypto_init();
	if (rc < 0)
		return fail_usage(&err);
	if (argc < 2 || str_eq(what, "help") || str_eq(last, "--help") || str_eq(last, "-h"))
		return fputs(str_eq(what, "admin") ? admin_help : help, stdout) < 0;
	if (!is_command(what))
		err_set(&err, ERR_INVALID, "there is no command \"%.60s\"; `tesd --help` lists them", what);
	if (!is_command(what) || words_check(argc, argv, &err) < 0)
		return fail_usage(&err);
	if (str_eq(what, "admin") && argc == 2) {
		fputs(admin_help, stderr);
		return 2;
	}
	if (command_plain(what, &out))
		return print_and_free(&out);
	if (control_config_load(path, &p.arena, &p.config, &err) < 0) {
		arena_release(&p.arena);
		err.field[0] = '\0'; /* the text names file, line and key */
		return fail(&err);
	}
	log_init(STDERR_FILENO, p.config.log_format == 1, p.config.log_level);
	rc = command(&p, argc, argv);
	process_close(&p);
	return rc;
}
