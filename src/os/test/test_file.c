#include "../os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A directory of its own for each test. */
struct place {
	char dir[64];
	struct strbuf text;
	struct err err;
};

static int setup(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));

	strbuf_init(&p->text);
	snprintf(p->dir, sizeof(p->dir), "/tmp/tes-test-file.XXXXXX");
	*state = p;
	return mkdtemp(p->dir) ? 0 : -1;
}

static int teardown(void **state)
{
	struct place *p = *state;
	int rc = dir_remove(p->dir, &p->err);

	strbuf_release(&p->text);
	free(p);
	return rc;
}

/* A path in the directory; good until the next but three calls. */
static const char *in(const struct place *p, const char *name)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", p->dir, name);
	return path;
}

static size_t entries(const char *dir)
{
	size_t count = 0;
	char command[600];
	FILE *list;
	int c;

	snprintf(command, sizeof(command), "ls -A '%s'", dir);
	list = popen(command, "r");
	while ((c = getc(list)) != EOF)
		count += c == '\n';
	pclose(list);
	return count;
}

static void written_is_read(void **state)
{
	struct place *p = *state;
	struct stat st;

	assert_int_equal(file_write_atomic(in(p, "f"), "a\0b", 3, 0640, &p->err), 0);
	assert_int_equal(file_read(in(p, "f"), 3, &p->text, &p->err), 0);
	assert_int_equal(p->text.len, 3);
	assert_memory_equal(p->text.buf, "a\0b", 4);
	assert_int_equal(stat(in(p, "f"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(file_write_atomic(in(p, "f"), "", 0, 0600, &p->err), 0);
	assert_int_equal(file_read(in(p, "f"), 0, &p->text, &p->err), 0);
	assert_string_equal(p->text.buf, "");
	assert_int_equal(entries(p->dir), 1);
}

static void a_failed_write_leaves_nothing(void **state)
{
	struct place *p = *state;

	assert_int_equal(dir_make(in(p, "d/full"), 0755, &p->err), 0);
	/* A directory that is not empty cannot be replaced by a file. */
	assert_int_equal(file_write_atomic(in(p, "d"), "x", 1, 0600, &p->err), -1);
	assert_int_equal(p->err.code, ERR_IO);
	assert_int_equal(entries(p->dir), 1);
	assert_int_equal(file_write_atomic(in(p, "no/such"), "x", 1, 0600, &p->err), -1);
	assert_int_equal(p->err.sys, ENOENT);
}

static void reading_has_a_limit(void **state)
{
	struct place *p = *state;

	strbuf_adds(&p->text, "old");
	assert_int_equal(file_write_atomic(in(p, "f"), "12345", 5, 0600, &p->err), 0);
	assert_int_equal(file_read(in(p, "f"), 4, &p->text, &p->err), -1);
	assert_int_equal(p->err.code, ERR_TOO_LARGE);
	assert_int_equal(file_read(in(p, "g"), 4, &p->text, &p->err), -1);
	assert_int_equal(p->err.code, ERR_NOT_FOUND);
	assert_int_equal(file_read(p->dir, 4, &p->text, &p->err), -1);
	assert_int_equal(p->err.sys, EISDIR);
	assert_string_equal(p->text.buf, "old");
	assert_int_equal(file_read("/proc/self/status", 1 << 20, &p->text, &p->err), 0);
	assert_non_null(strstr(p->text.buf, "Pid:"));
}

static void append_is_whole_or_undone(void **state)
{
	struct place *p = *state;
	cleanup_fd int fd = open(in(p, "f"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct rlimit before, small = { .rlim_cur = 6, .rlim_max = RLIM_INFINITY };

	assert_int_equal(file_append_sync(fd, "1234\n", 5, &p->err), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	small.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_FSIZE, &small); /* a full disk after one more byte */
	assert_int_equal(file_append_sync(fd, "5678\n", 5, &p->err), -1);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(p->err.sys, EFBIG);
	assert_int_equal(file_append_sync(fd, "9\n", 2, &p->err), 0);
	assert_int_equal(file_read(in(p, "f"), 100, &p->text, &p->err), 0);
	assert_string_equal(p->text.buf, "1234\n9\n");
}

static void directories_are_made_with_parents(void **state)
{
	struct place *p = *state;

	assert_int_equal(dir_make(in(p, "a/b//c/"), 0755, &p->err), 0);
	assert_int_equal(dir_make(in(p, "a/b/c"), 0755, &p->err), 0);
	assert_int_equal(dir_sync(in(p, "a/b/c"), &p->err), 0);
	assert_int_equal(file_write_atomic(in(p, "f"), "", 0, 0600, &p->err), 0);
	assert_int_equal(dir_make(in(p, "f/x"), 0755, &p->err), -1);
	assert_int_equal(p->err.sys, ENOTDIR);
	assert_int_equal(dir_make(in(p, "f"), 0755, &p->err), -1);
	assert_int_equal(dir_make("", 0755, &p->err), -1);
	assert_int_equal(p->err.code, ERR_INVALID);
}

static void remove_does_not_follow_links(void **state)
{
	struct place *p = *state;

	assert_int_equal(dir_make(in(p, "keep/sub"), 0755, &p->err), 0);
	assert_int_equal(dir_make(in(p, "gone/sub"), 0755, &p->err), 0);
	assert_int_equal(symlink("../keep", in(p, "gone/link")), 0);
	assert_int_equal(symlink("../../keep", in(p, "gone/sub/link")), 0);
	assert_int_equal(symlink("nowhere", in(p, "gone/broken")), 0);
	assert_int_equal(mkfifo(in(p, "gone/fifo"), 0600), 0);
	assert_int_equal(chmod(in(p, "gone/sub"), 0), 0);
	assert_int_equal(dir_remove(in(p, "gone"), &p->err), 0);
	assert_int_equal(access(in(p, "gone"), F_OK), -1);
	assert_int_equal(access(in(p, "keep/sub"), F_OK), 0);
	assert_int_equal(symlink("keep", in(p, "link")), 0);
	assert_int_equal(dir_remove(in(p, "link"), &p->err), 0);
	assert_int_equal(access(in(p, "keep/sub"), F_OK), 0);
	assert_int_equal(dir_remove(in(p, "link"), &p->err), 0); /* missing is fine */
	assert_int_equal(dir_remove(in(p, "keep/sub/no/such"), &p->err), 0);
}

/* Deeper than PATH_MAX, than DEPTH_MAX and than our descriptors. */
static void remove_reaches_any_depth(void **state)
{
	struct place *p = *state;
	struct rlimit before, few;
	int at;

	assert_int_equal(dir_make(in(p, "deep"), 0755, &p->err), 0);
	at = open(in(p, "deep"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(at, "directory", 0755), 0);
		assert_true(i % 10 || mkdirat(at, ".removing.0", 0755) == 0);
		next = openat(at, "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	close(at);
	getrlimit(RLIMIT_NOFILE, &before);
	few = (struct rlimit){ .rlim_cur = 128, .rlim_max = before.rlim_max };
	setrlimit(RLIMIT_NOFILE, &few);
	if (dir_remove(in(p, "deep"), &p->err) < 0)
		fail_msg("%s", p->err.text);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(entries(p->dir), 0);
}

static void remove_stops_at_mounts(void **state)
{
	struct place *p = *state;
	int status;
	pid_t pid;

	assert_int_equal(dir_make(in(p, "outside"), 0755, &p->err), 0);
	assert_int_equal(dir_make(in(p, "tree/mounted"), 0755, &p->err), 0);
	assert_int_equal(file_write_atomic(in(p, "outside/f"), "", 0, 0600, &p->err), 0);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount(in(p, "outside"), in(p, "tree/mounted"), NULL, MS_BIND, NULL) < 0)
			_exit(77);
		_exit(dir_remove(in(p, "tree"), &p->err) == -1 && p->err.code == ERR_CONFLICT
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) == 77)
		skip(); /* not allowed to mount here */
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(access(in(p, "outside/f"), F_OK), 0);
}

static void a_lock_excludes_and_names_its_holder(void **state)
{
	struct place *p = *state;
	int fd = -1, other = -7;
	char pid[32];

	assert_int_equal(file_lock(in(p, "lock"), &fd, &p->err), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(file_lock(in(p, "lock"), &other, &p->err), -1);
	assert_int_equal(other, -7);
	assert_int_equal(p->err.code, ERR_CONFLICT);
	snprintf(pid, sizeof(pid), "pid %d:", (int)getpid());
	assert_non_null(strstr(p->err.text, pid));
	assert_non_null(strstr(p->err.text, "/lock"));
	close(fd);
	assert_int_equal(file_lock(in(p, "lock"), &other, &p->err), 0);
	close(other);
}

static void paths_are_joined_with_one_slash(void **state)
{
	static const char *const cases[][3] = { { "a", "b", "a/b" },  { "a/", "b", "a/b" },
						{ "a", "/b", "a/b" }, { "a/", "/b", "a/b" },
						{ "", "b", "b" },     { "/", "b", "/b" },
						{ "", "/b", "/b" } };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_free char *path = path_join(cases[i][0], cases[i][1]);

		assert_string_equal(path, cases[i][2]);
	}
}

static void disks_have_room(void **state)
{
	struct place *p = *state;
	int64_t room = -1, total = -1;

	assert_int_equal(disk_free_bytes(p->dir, &room, &total, &p->err), 0);
	assert_true(room >= 0 && total > 0 && room <= total);
	assert_int_equal(disk_free_bytes(in(p, "no"), &room, NULL, &p->err), -1);
	assert_int_equal(p->err.sys, ENOENT);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(written_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(a_failed_write_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(reading_has_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(append_is_whole_or_undone, setup, teardown),
		cmocka_unit_test_setup_teardown(directories_are_made_with_parents, setup,
						teardown),
		cmocka_unit_test_setup_teardown(remove_does_not_follow_links, setup, teardown),
		cmocka_unit_test_setup_teardown(remove_reaches_any_depth, setup, teardown),
		cmocka_unit_test_setup_teardown(remove_stops_at_mounts, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lock_excludes_and_names_its_holder, setup,
						teardown),
		cmocka_unit_test(paths_are_joined_with_one_slash),
		cmocka_unit_test_setup_teardown(disks_have_room, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
