/* The files backend: whole blobs, appends with crash tails, keys that must be refused. */
#include "../../os/os.h"
#include "../blob.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];
static struct blob_store *store;
static struct err err;

static int setup(void **state)
{
	char url[80];

	snprintf(root, sizeof(root), "/tmp/tes-blob-XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(url, sizeof(url), "file:%s", root);
	assert_int_equal(blob_open(url, &store, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	blob_close(store);
	return dir_remove(root, &err);
}

static void expect_content(const char *key, const char *want)
{
	struct strbuf got;
	int64_t size;

	strbuf_init(&got);
	assert_int_equal(blob_read(store, key, 0, 1 << 20, &got, &err), 0);
	assert_string_equal(got.buf, want);
	assert_int_equal(blob_size(store, key, &size, &err), 0);
	assert_int_equal(size, strlen(want));
	strbuf_release(&got);
}

static void expect_missing(const char *key)
{
	int64_t size;

	err_clear(&err);
	assert_int_equal(blob_size(store, key, &size, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_write(void **state)
{
	struct blob_writer *w;

	assert_int_equal(blob_write_start(store, "results/rs_1", &w, &err), 0);
	assert_int_equal(blob_write(w, "hello ", 6, &err), 0);
	assert_int_equal(blob_write(w, "world", 5, &err), 0);
	expect_missing("results/rs_1");
	assert_int_equal(blob_write_commit(w, &err), 0);
	blob_writer_free(w);
	expect_content("results/rs_1", "hello world");
}

static void test_write_replaces(void **state)
{
	struct blob_writer *w;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(blob_write_start(store, "a/b/c", &w, &err), 0);
		assert_int_equal(blob_write(w, i ? "new" : "old!", i ? 3 : 4, &err), 0);
		assert_int_equal(blob_write_commit(w, &err), 0);
		blob_writer_free(w);
	}
	expect_content("a/b/c", "new");
}

static void test_write_dropped(void **state)
{
	struct blob_writer *w;

	assert_int_equal(blob_write_start(store, "dropped", &w, &err), 0);
	assert_int_equal(blob_write(w, "x", 1, &err), 0);
	blob_writer_free(w);
	expect_missing("dropped");
	assert_int_equal(rmdir(blob_spool_dir(store)), 0); /* empty: nothing stayed behind */
	assert_int_equal(mkdir(blob_spool_dir(store), 0700), 0);
}

static void spool_file(const char *name, const char *text, char *ret_path, size_t size)
{
	snprintf(ret_path, size, "%s/%s", blob_spool_dir(store), name);
	assert_int_equal(file_write_atomic(ret_path, text, strlen(text), 0600, &err), 0);
}

static void test_put_file(void **state)
{
	char path[128];

	spool_file("upload-1", "uploaded", path, sizeof(path));
	assert_int_equal(blob_put_file(store, "inputs/in_1", path, &err), 0);
	assert_int_equal(access(path, F_OK), -1);
	expect_content("inputs/in_1", "uploaded");
	assert_int_equal(blob_put_file(store, "inputs/in_2", path, &err), -1);
	expect_missing("inputs/in_2");
}

static void test_append(void **state)
{
	assert_int_equal(blob_append(store, "logs/le_1", 0, "one\n", 4, &err), 0);
	assert_int_equal(blob_append(store, "logs/le_1", 4, "two\n", 4, &err), 0);
	expect_content("logs/le_1", "one\ntwo\n");
}

static void test_append_cuts_tail(void **state)
{
	assert_int_equal(blob_append(store, "logs/le_2", 0, "one\n", 4, &err), 0);
	/* The commit of this one never came. */
	assert_int_equal(blob_append(store, "logs/le_2", 4, "lost and longer\n", 16, &err), 0);
	assert_int_equal(blob_append(store, "logs/le_2", 4, "two\n", 4, &err), 0);
	expect_content("logs/le_2", "one\ntwo\n");
	assert_int_equal(blob_append(store, "logs/le_2", 0, "anew", 4, &err), 0);
	expect_content("logs/le_2", "anew");
}

static void test_append_beyond_end(void **state)
{
	assert_int_equal(blob_append(store, "logs/le_3", 0, "one\n", 4, &err), 0);
	assert_int_equal(blob_append(store, "logs/le_3", 5, "x", 1, &err), -1);
	assert_int_equal(err.code, ERR_INTERNAL);
	expect_content("logs/le_3", "one\n");
	assert_int_equal(blob_append(store, "logs/le_none", 5, "x", 1, &err), -1);
	expect_missing("logs/le_none");
	assert_int_equal(blob_append(store, "logs/le_3", -1, "x", 1, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
}

static void test_read_parts(void **state)
{
	struct strbuf got;

	strbuf_init(&got);
	assert_int_equal(blob_append(store, "p", 0, "0123456789", 10, &err), 0);
	assert_int_equal(blob_read(store, "p", 3, 4, &got, &err), 0);
	assert_string_equal(got.buf, "3456");
	strbuf_reset(&got);
	assert_int_equal(blob_read(store, "p", 8, 100, &got, &err), 0);
	assert_string_equal(got.buf, "89");
	strbuf_reset(&got);
	assert_int_equal(blob_read(store, "p", 100, 100, &got, &err), 0);
	assert_int_equal(got.len, 0);
	assert_int_equal(blob_read(store, "p", -1, 100, &got, &err), -1);
	strbuf_release(&got);
}

static void test_delete(void **state)
{
	assert_int_equal(blob_append(store, "d/e", 0, "x", 1, &err), 0);
	assert_int_equal(blob_delete(store, "d/e", &err), 0);
	assert_int_equal(blob_delete(store, "d/e", &err), 0);
	assert_int_equal(blob_delete(store, "d/e/f/g", &err), 0);
	expect_missing("d/e");
	expect_missing("d"); /* a directory is no blob */
}

static void test_bad_keys(void **state)
{
	char longest[202];
	const char *const keys[] = {
		"",	   "/etc/passwd", "a/../b", "..",   ".",    "a/.",
		".hidden", "a/.hidden",	  "a//b",   "a/",   "A",    "a b",
		"a\nb",	   "a\\b",	  "é",	    "a%2e", "a..b", longest
	};
	struct blob_writer *w;
	struct strbuf got;
	int64_t size;
	int fd;

	strbuf_init(&got);
	memset(longest, 'a', sizeof(longest));
	longest[201] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		assert_int_equal(blob_write_start(store, keys[i], &w, &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_int_equal(blob_append(store, keys[i], 0, "x", 1, &err), -1);
		assert_int_equal(blob_put_file(store, keys[i], "/dev/null", &err), -1);
		assert_int_equal(blob_size(store, keys[i], &size, &err), -1);
		assert_int_equal(blob_read(store, keys[i], 0, 1, &got, &err), -1);
		assert_int_equal(blob_read_fd(store, keys[i], &fd, &size, &err), -1);
		assert_int_equal(blob_delete(store, keys[i], &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
	}
	longest[200] = '\0';
	assert_int_equal(blob_append(store, longest, 0, "x", 1, &err), 0);
	strbuf_release(&got);
}

static void test_links_are_not_followed(void **state)
{
	char path[128];
	int64_t size;
	int fd;

	snprintf(path, sizeof(path), "%s/data/link", root);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(blob_read_fd(store, "link", &fd, &size, &err), -1);
	assert_int_equal(blob_append(store, "link", 0, "x", 1, &err), -1);
}

static void test_full_disk(void **state)
{
	struct blob_writer *w;
	char path[128];

	if (access("/dev/full", W_OK))
		skip();
	snprintf(path, sizeof(path), "%s/data/full", root);
	assert_int_equal(blob_write_start(store, "full", &w, &err), 0);
	/* The writer's descriptor is the newest one; a device without room takes its place. */
	int full = open("/dev/full", O_WRONLY);
	assert_true(full >= 0);
	assert_int_equal(dup2(full, full - 1), full - 1);
	close(full);
	assert_int_equal(blob_write(w, "x", 1, &err), -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
	blob_writer_free(w);
	expect_missing("full");
}

static void test_open(void **state)
{
	struct blob_store *b = NULL;
	char url[128], path[128], young[128];
	struct timeval old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };

	assert_int_equal(blob_open("s3://bucket", &b, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_int_equal(blob_open("file:relative", &b, &err), -1);
	assert_int_equal(blob_open("file:/dev/null/x", &b, &err), -1);
	assert_null(b);
	spool_file("upload-old", "x", path, sizeof(path));
	spool_file("upload-young", "x", young, sizeof(young));
	assert_int_equal(utimes(path, old), 0);
	snprintf(url, sizeof(url), "file:%s", root);
	assert_int_equal(blob_open(url, &b, &err), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(young, F_OK), 0);
	blob_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_replaces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_append, setup, teardown),
		cmocka_unit_test_setup_teardown(test_append_cuts_tail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_append_beyond_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_delete, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_are_not_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
