/* The server: the real control plane on a real store, with a clock and chance of ours, that can be killed at any statement
 * and any commit.  What a crash leaves behind is the store and the blobs; everything in memory goes. */
#include "server.h"

#include "../../src/os/os.h"

#include <sys/stat.h>
#include <unistd.h>

struct server server;
bool server_in_duty;

bool server_is_up(void)
{
	return server.control && !server.crashing;
}

bool server_has_session(const char *id)
{
	return session_is_live(server.control, id);
}

struct blob_store *server_blobs(void)
{
	return server.blobs;
}

const struct control_config *server_config(void)
{
	return &server.config;
}

struct db_conn *checker_conn(void)
{
	return server.checks;
}

void checker_begin(void)
{
	server.checking = true;
}

void checker_end(void)
{
	server.checking = false;
}

/* ---- its clock, its chance, its bad luck ------------------------------------------------------------------ */

static int64_t clock_read(void *arg)
{
	(void)arg;
	return sim.now_ms;
}
static const struct clock clock_virtual = { .now_ms = clock_read };

static void chance_fill(void *arg, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)arg;
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(rng_next(&sim.ids) >> 24);
}
static const struct random chance_seeded = { .fill = chance_fill };

unsigned server_wrote;
bool server_write_explained;

/* What a statement writes, as far as checkers care; of one that is not understood, anything. */
static void write_note(const char *sql)
{
	static const char *const verbs[] = { "UPDATE ", "INSERT INTO ", "DELETE FROM " };
	static const struct {
		const char *table;
		unsigned wrote;
	} tables[] = { { "accounts", WROTE_ACCOUNTS }, { "leases", WROTE_LEASES },
		       { "device_claims", WROTE_CAPACITY }, { "workers", WROTE_CAPACITY } };

	if (str_starts(sql, "SELECT ") || str_eq(sql, "COMMIT"))
		return;
	for (size_t v = 0; v < ARRAY_LEN(verbs); v++) {
		const char *table = sql + strlen(verbs[v]);

		if (!str_starts(sql, verbs[v]))
			continue;
		for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
			size_t len = strlen(tables[i].table);

			if (!strncmp(table, tables[i].table, len) && strchr(" (", table[len]) &&
			    !(tables[i].wrote == WROTE_LEASES && server_write_explained) &&
			    (!str_eq(tables[i].table, "workers") || strstr(sql, "used_")))
				server_wrote |= tables[i].wrote;
		}
		return;
	}
	server_wrote = WROTE_ANYTHING;
}

/* As often in time as in a network of the usual size. */
static int64_t rate(int64_t ppm)
{
	return MAX(ppm / sim_scale(), 1);
}

static enum err_code store_fault(void *arg, int64_t number, const char *sql)
{
	bool commit = str_eq(sql, "COMMIT");

	(void)arg;
	(void)number;
	if (server.checking)
		return ERR_NONE;
	if (server.crashing)
		return ERR_UNAVAILABLE;
	write_note(sql);
	sim.out->totals.commits += commit;
	if (commit && strikes(FAULT_CRASH, &sim.luck, rate(700))) {
		bool before = rng_chance(&sim.luck, 500000);

		happened(before ? HAPPENED_KILL_BEFORE : HAPPENED_KILL_AFTER);
		note("server killed %s a commit", before ? "before" : "after");
		server.crashing = true;
		return before ? ERR_UNAVAILABLE : ERR_TIMEOUT;
	}
	if (strikes(FAULT_CRASH, &sim.luck, rate(40))) {
		happened(HAPPENED_KILL_STATEMENT);
		note("server killed at: %.60s", sql);
		server.crashing = true;
		return ERR_UNAVAILABLE;
	}
	if (!strikes(FAULT_STORE, &sim.luck, rate(commit ? 3000 : 300)))
		return ERR_NONE;
	note("the store fails at: %.60s", sql);
	if (commit && rng_chance(&sim.luck, 300000)) {
		happened(HAPPENED_FAIL_UNKNOWN);
		return ERR_TIMEOUT;
	}
	happened(commit ? HAPPENED_FAIL_COMMIT : HAPPENED_FAIL_STATEMENT);
	return rng_chance(&sim.luck, 400000) ? ERR_RETRY : ERR_UNAVAILABLE;
}

/* ---- up and down --------------------------------------------------------------------------------------------- */

static void duty_due(void *arg);

static void duty_set(size_t i, int64_t at_ms)
{
	server.duties[i].due_ms = at_ms;
	server.duties[i].serial++;
	at(at_ms, duty_due, (void *)(uintptr_t)(i | server.duties[i].serial << 4));
}

void duty_woken(const char *name)
{
	for (size_t i = 0; i < duty_count && server.control; i++)
		if (str_eq(duties[i].name, name)) {
			int64_t soon = sim.now_ms + rng_in(&sim.luck, 1, 30);

			if (server.duties[i].due_ms > soon)
				duty_set(i, soon);
		}
}

static int up(void)
{
	struct err err = { 0 };

	if (control_open(&server.config, &clock_virtual, &chance_seeded, server.db,
			 server.blobs, &server.control, &err) < 0) {
		broken("server", "cannot start: %s", err.text);
		return -1;
	}
	server.incarnation++;
	note("server is up, the %u. time", server.incarnation);
	for (size_t i = 0; i < duty_count; i++) {
		server.duties[i].failures = 0;
		duty_set(i, sim.now_ms + rng_in(&sim.luck, 0, 100));
	}
	return 0;
}

static void up_again(void *arg)
{
	(void)arg;
	if (!server.control)
		up();
}

static void down(void)
{
	while (server.streams.len)
		stream_break(server.streams.items[server.streams.len - 1], rng_in(&sim.luck, 0, 2 * SECOND_MS));
	control_close(take_ptr(server.control));
	server.crashing = false;
	for (size_t i = 0; i < DUTY_MAX; i++)
		server.duties[i].serial++;
}

/* Once nobody is inside of it any more. */
static void crash_finish(void)
{
	if (!server.crashing || server.depth)
		return;
	int64_t away = rng_chance(&sim.luck, 800000)
			       ? rng_in(&sim.luck, 200, 20 * SECOND_MS)
			       : rng_in(&sim.luck, 20 * SECOND_MS, 8 * MINUTE_MS);

	down();
	note("server is down for %" PRId64 " ms", away);
	at(sim.now_ms + away, up_again, NULL);
}

static void stop_again(void *arg)
{
	if (server_is_up() && strikes(FAULT_DOWNTIME, &sim.luck, 250000)) {
		struct err err = { 0 };
		int64_t away =
			rng_in(&sim.luck, SECOND_MS,
			       rng_chance(&sim.luck, 300000) ? 15 * MINUTE_MS : MINUTE_MS);

		server.checking = true;
		(void)!leader_release(server.control, server.conns[0], &err);
		server.checking = false;
		down();
		note("server is stopped for %" PRId64 " ms", away);
		at(sim.now_ms + away, up_again, NULL);
	}
	at(sim.now_ms + rng_in(&sim.luck, 3 * MINUTE_MS, 8 * MINUTE_MS), stop_again, arg);
}

void server_calm(void)
{
	if (!server.control)
		up();
}

void server_enter(void)
{
	server.depth++;
}

void server_leave(void)
{
	server.depth--;
	crash_finish();
}

/* ---- duties --------------------------------------------------------------------------------------------------------- */

static void duty_due(void *arg)
{
	size_t i = (uintptr_t)arg & 15;
	int64_t next = sim.now_ms + SECOND_MS;
	struct err err = { 0 };

	if (!server_is_up() || (uintptr_t)arg >> 4 != server.duties[i].serial)
		return;
	server.duties[i].due_ms = INT64_MAX;
	server_enter();
	server_in_duty = true;
	int rc = duties[i].round(server.control, server.conns[0], sim.now_ms, &next, &err);

	server_in_duty = false;
	if (rc < 0) {
		/* As main.c does. */
		server.duties[i].failures = MIN(server.duties[i].failures + 1, 6);
		next = sim.now_ms + (SECOND_MS << (server.duties[i].failures - 1));
		note("duty %s failed: %s", duties[i].name, err.text);
		if (err.code != ERR_UNAVAILABLE && err.code != ERR_RETRY)
			broken("duty", "%s: %s: %s", duties[i].name, err_code_name(err.code),
			       err.text);
	} else {
		server.duties[i].failures = 0;
	}
	if (server.duties[i].due_ms > next) /* else woken meanwhile */
		duty_set(i, next);
	server_leave();
}

/* ---- start and end -------------------------------------------------------------------------------------------------------- */

/* Of every history anew, within what people choose. */
static void config_fill(struct control_config *c)
{
	bool is_large = sim_scale() > 10;

	snprintf(server.secret_path, sizeof(server.secret_path), "%s/secret", sim.dir);
	*c = (struct control_config){
		.listen_address = "127.0.0.1",
		.public_url = "http://127.0.0.1",
		.secret_key_file = server.secret_path,
		.fee_ppm = rng_in(&sim.life, 0, 3) * 25000,
		.quote_ttl_ms = 5 * MINUTE_MS,
		.reservation_ttl_ms = rng_in(&sim.life, 15, 60) * SECOND_MS,
		.hold_ms = rng_in(&sim.life, 4, 10) * MINUTE_MS,
		.settle_interval_ms = rng_in(&sim.life, 30, 120) * SECOND_MS,
		.pause_keep_ms = rng_in(&sim.life, 5, 20) * MINUTE_MS,
		.funds_warn_ms = 30 * MINUTE_MS,
		.heartbeat_ms = rng_in(&sim.life, 5, 10) * SECOND_MS * (is_large ? 6 : 1),
		.grace_ms = rng_in(&sim.life, 60, 300) * SECOND_MS,
		.logs_max_bytes = rng_chance(&sim.life, 200000) ? 4096 : 1 << 20,
		.results_max_bytes = 1 << 20,
		.inputs_max_bytes = 1 << 20,
		.logs_keep_ms = 30 * DAY_MS,
		.results_keep_ms = 30 * DAY_MS,
		.inputs_keep_ms = 30 * DAY_MS,
		.workloads_active_max = 1000,
	};
	if (is_large)
		c->grace_ms = MAX(c->grace_ms, 4 * c->heartbeat_ms);
	c->silent_after_ms = 4 * c->heartbeat_ms;
}

static int store_wipe(struct db_conn *conn, void *arg, struct err *err)
{
	(void)arg;
	return db_exec(conn, "DROP SCHEMA public CASCADE", DB_NO_ARGS, NULL, err) < 0 ||
			       db_exec(conn, "CREATE SCHEMA public", DB_NO_ARGS, NULL, err) < 0
		       ? -1
		       : 0;
}

static int store_open(struct err *err)
{
	char file[160];
	const char *url = sim.o.store ? sim.o.store : file;
	int applied;

	snprintf(file, sizeof(file), "sqlite:%s/tes.db?synchronous=off", sim.dir);

	if (sim.o.store) {
		struct db_conn *conn;
		int rc;

		if (db_open(url, &server.db, err) < 0 ||
		    db_conn_open(server.db, &conn, err) < 0)
			return -1;
		rc = db_tx(conn, store_wipe, NULL, err);
		db_conn_close(conn);
		db_close(take_ptr(server.db));
		if (rc < 0)
			return -1;
	}
	if (db_open(url, &server.db, err) < 0 ||
	    db_migrate(server.db, sim.now_ms, &applied, err) < 0 ||
	    db_conn_open(server.db, &server.conns[0], err) < 0 ||
	    db_conn_open(server.db, &server.conns[1], err) < 0)
		return -1;
	return db_conn_open(server.db, &server.checks, err);
}

void history_dir(pid_t pid, char ret[static DIR_SIZE])
{
	const char *shm = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");

	snprintf(ret, DIR_SIZE, "%.60s/tes-sim-%d", shm ? shm : "/tmp", (int)pid);
}

int server_start(void)
{
	char url[160];
	struct err err = { 0 };

	memset(&server, 0, sizeof(server));
	history_dir(getpid(), sim.dir);
	(void)!dir_remove(sim.dir, &err); /* of a process of the same number, long ago */
	err = (struct err){ 0 };
	if (mkdir(sim.dir, 0700) < 0)
		return -1;
	config_fill(&server.config);
	snprintf(url, sizeof(url), "file:%s/blobs", sim.dir);
	if (store_open(&err) < 0 || blob_open(url, &server.blobs, &err) < 0) {
		broken("setup", "%s", err.text);
		return -1;
	}
	assert(duty_count <= DUTY_MAX);
	db_set_fault(server.db, store_fault, NULL);
	at(sim.now_ms + MINUTE_MS, stop_again, NULL);
	return up();
}

void server_stop(void)
{
	struct err ignored = { 0 };

	if (server.control)
		down();
	for (size_t i = 0; i < ARRAY_LEN(server.conns); i++)
		db_conn_close(server.conns[i]);
	db_conn_close(server.checks);
	if (server.blobs)
		blob_close(server.blobs);
	db_close(server.db);
	(void)!dir_remove(sim.dir, &ignored);
}
