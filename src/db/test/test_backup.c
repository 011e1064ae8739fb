/* A backup taken while others write is a moment of the database, whole. */
#include "stores.h"

#include "../../os/os.h"
#include "../internal.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

/* The sum over both is 0 at every moment; log counts the transfers. */
static const char tables[] =
	"CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL);\n"
	"CREATE TABLE log (n BIGINT PRIMARY KEY, note TEXT NOT NULL);\n"
	"INSERT INTO account (id, balance) VALUES (1, 0), (2, 0);\n";

static int transfer(struct db_conn *c, void *arg, struct err *err)
{
	int64_t n = *(int64_t *)arg;
	char note[400];

	memset(note, 'x', sizeof(note) - 1);
	note[sizeof(note) - 1] = '\0';
	if (db_exec(c, "UPDATE account SET balance = balance - 1 WHERE id = 1", DB_NO_ARGS,
		    NULL, err) ||
	    db_exec(c, "INSERT INTO log (n, note) VALUES ($1, $2)",
		    DB_ARGS(DB_INT(n), DB_TEXT(note)), NULL, err))
		return -1;
	return db_exec(c, "UPDATE account SET balance = balance + 1 WHERE id = 2", DB_NO_ARGS,
		       NULL, err);
}

struct writer {
	pthread_t id;
	struct db *db;
	atomic_bool stop;
	atomic_int_fast64_t done;
	bool failed;
};

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	struct db_conn *c;
	struct err err;

	if (db_conn_open(w->db, &c, &err)) {
		w->failed = true;
		return NULL;
	}
	while (!w->stop && !w->failed) {
		int64_t n = w->done + 1;
		if (db_tx(c, transfer, &n, &err))
			w->failed = true;
		else
			w->done = n;
	}
	db_conn_close(c);
	return NULL;
}

/* Opens the backup as a store: the file itself, or a new schema of the server that it is
 * restored into. */
static void backup_open(struct test_store *s, const char *path, struct test_store *ret)
{
	struct err err;

	*ret = *s;
	if (db_is_postgres(s->db)) {
		const char *const argv[] = { "pg_restore", "--clean", "--dbname",
					     s->url,	   path,      NULL };
		cleanup_strbuf struct strbuf out = STRBUF_INIT, errout = STRBUF_INIT;
		int status;
		strbuf_init(&out);
		strbuf_init(&errout);
		assert_ok(process_run(argv, SLICE(""), 4096, 60000, &out, &errout, &status,
				      &err));
		if (status)
			fail_msg("%s", errout.buf);
	} else {
		snprintf(ret->url, sizeof(ret->url), "sqlite:%s", path);
	}
	assert_ok(db_open(ret->url, &ret->db, &err));
	assert_ok(db_conn_open(ret->db, &ret->conn, &err));
}

static void assert_whole(struct test_store *s, int64_t least, int64_t most)
{
	int64_t logged = test_store_int(s, "SELECT count(*) FROM log");

	assert_true(logged >= least && logged <= most);
	assert_int_equal(test_store_int(s, "SELECT max(n) FROM log"), logged);
	assert_int_equal(test_store_int(s, "SELECT balance FROM account WHERE id = 1"),
			 -logged);
	assert_int_equal(test_store_int(s, "SELECT balance FROM account WHERE id = 2"), logged);
}

static void while_writing(void **state)
{
	struct test_store *s = test_store_get(state);
	char dir[] = "/tmp/tes-backup-XXXXXX", path[64], command[128];
	struct writer writer = { .db = s->db };
	struct test_store copy;
	struct stat st;
	struct err err;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/tes.backup", dir);
	test_store_run(s, tables);
	assert_int_equal(pthread_create(&writer.id, NULL, writer_main, &writer), 0);
	while (writer.done < 200 && !writer.failed)
		usleep(1000);
	int64_t before = writer.done, after;
	assert_ok(db_backup(s->db, path, &err));
	after = writer.done + 1;
	/* The second replaces the first. */
	assert_ok(db_backup(s->db, path, &err));
	before = after - 1;
	after = writer.done + 1;
	writer.stop = true;
	pthread_join(writer.id, NULL);
	assert_false(writer.failed);
	assert_true(after > before);

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	backup_open(s, path, &copy);
	assert_whole(&copy, before, after);
	db_conn_close(copy.conn);
	db_close(copy.db);
	snprintf(command, sizeof(command), "test \"$(ls %s)\" = tes.backup && rm -r %s", dir,
		 dir);
	assert_int_equal(system(command), 0);
}

static void refusals(void **state)
{
	struct test_store *s = test_store_get(state);
	char dir[] = "/tmp/tes-backup-XXXXXX", url[64];
	struct err err;
	struct db *db;

	assert_fails(db_backup(s->db, "/nonexistent/directory/file", &err), ERR_IO);
	assert_non_null(mkdtemp(dir));
	snprintf(url, sizeof(url), "sqlite:%s/db", dir);
	assert_ok(db_open(url, &db, &err));
	assert_fails(db_backup(db, url + strlen("sqlite:"), &err), ERR_INVALID);
	db_close(db);
	assert_int_equal(unlink(url + strlen("sqlite:")), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { TEST_BOTH(while_writing), TEST_BOTH(refusals) };

	return test_stores_run("db-backup", tests, ARRAY_LEN(tests));
}
