/* Archives of customers, also hostile ones. */
#include "../../../os/os.h"
#include "../helper.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/tes-archive-XXXXXX";
static char *to;

static int setup(void **state)
{
	if (!mkdtemp(base))
		return -1;
	to = path_join(base, "to");
	return 0;
}

static int teardown(void **state)
{
	struct err err = { 0 };

	free(to);
	return dir_remove(base, &err);
}

/* ---- a tar by hand: libarchive would not write what is hostile ---- */

struct tar_member {
	const char *name;
	char type;
	const char *content, *link;
	unsigned mode;
};

static void tar_add(struct strbuf *tar, const struct tar_member *m)
{
	char head[512] = { 0 };
	size_t len = m->content ? strlen(m->content) : 0;
	unsigned sum = 0;

	snprintf(head, 100, "%s", m->name);
	snprintf(head + 100, 8, "%07o", (m->mode ? m->mode : 0644) & 07777);
	snprintf(head + 108, 8, "%07o", 0);
	snprintf(head + 116, 8, "%07o", 0);
	snprintf(head + 124, 12, "%011o", (unsigned)len & 07777777);
	snprintf(head + 136, 12, "%011o", 0);
	memset(head + 148, ' ', 8);
	head[156] = m->type;
	if (m->link)
		snprintf(head + 157, 100, "%s", m->link);
	memcpy(head + 257,
	       "ustar\0"
	       "00",
	       8);
	for (size_t i = 0; i < sizeof(head); i++)
		sum += (unsigned char)head[i];
	snprintf(head + 148, 8, "%06o", sum);
	strbuf_add(tar, head, sizeof(head));
	strbuf_add(tar, m->content ? m->content : "", len);
	while (tar->len % 512)
		strbuf_addc(tar, '\0');
}

static int tar_file(const struct tar_member *members, size_t n)
{
	cleanup_strbuf struct strbuf tar = STRBUF_INIT;
	static const char zeros[1024];
	struct err err = { 0 };
	int fd = open(base, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	for (size_t i = 0; i < n; i++)
		tar_add(&tar, &members[i]);
	strbuf_add(&tar, zeros, sizeof(zeros));
	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, tar.buf, tar.len, &err), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static int64_t took; /* of the last */

static int unpack(const struct tar_member *members, size_t n, int64_t max, struct err *err)
{
	cleanup_fd int fd = tar_file(members, n);

	*err = (struct err){ 0 };
	assert_int_equal(dir_remove(to, err), 0);
	assert_int_equal(dir_make(to, 0755, err), 0);
	return helper_unpack(fd, to, max, NULL, &took, err);
}

static const char *content(const char *name, struct strbuf *sb)
{
	cleanup_free char *path = path_join(to, name);
	struct err err = { 0 };

	strbuf_reset(sb);
	if (file_read(path, 1 << 20, sb, &err) < 0)
		fail_msg("%s", err.text);
	return sb->buf;
}

static unsigned mode(const char *name)
{
	cleanup_free char *path = path_join(to, name);
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode;
}

static void unpacks(void **state)
{
	static const struct tar_member members[] = {
		{ "./", '5', .mode = 0755 },
		{ "./dir/", '5', .mode = 0700 },
		{ "./dir/file", '0', "hello", .mode = 04711 },
		{ "deep/er/x", '0', "x" },
		{ "link", '2', .link = "dir/file" },
		{ "hard", '1', .link = "dir/file" },
		{ "twice", '0', "first" },
		{ "twice", '0', "second" },
		{ "abs", '2', .link = "/etc/passwd" },
	};
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;
	struct err err;

	if (unpack(members, ARRAY_LEN(members), 1 << 20, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(content("dir/file", &sb), "hello");
	assert_string_equal(content("deep/er/x", &sb), "x");
	assert_string_equal(content("hard", &sb), "hello");
	assert_string_equal(content("twice", &sb), "second");
	assert_int_equal(mode("dir/file"),
			 S_IFREG | 0755); /* readable by anybody, and not set-user-id */
	assert_int_equal(mode("dir"), S_IFDIR | 0755);
	assert_true(S_ISLNK(mode("abs")));
}

static void refuses(void **state)
{
	/* clang-format off */
	static const struct { const char *what; struct tar_member m[3]; size_t n; } bad[] = {
		{ "absolute", { { "/etc/x", '0', "x" } }, 1 },
		{ "up", { { "../x", '0', "x" } }, 1 },
		{ "up inside", { { "a/../../x", '0', "x" } }, 1 },
		{ "through a link", { { "l", '2', .link = "/tmp" }, { "l/tes-archive-escape", '0', "x" } }, 2 },
		{ "through a link upwards", { { "l", '2', .link = ".." }, { "l/tes-archive-escape", '0', "x" } }, 2 },
		{ "hard link outside", { { "h", '1', .link = "../../etc/passwd" } }, 1 },
		{ "hard link absolute", { { "h", '1', .link = "/etc/passwd" } }, 1 },
		{ "hard link through a link", { { "l", '2', .link = "/etc" }, { "h", '1', .link = "l/passwd" } }, 2 },
		{ "device", { { "d", '3' } }, 1 },
		{ "pipe", { { "p", '6' } }, 1 },
		{ "too large", { { "big", '0', "0123456789012345678901234567890123456789" } }, 1 },
	};
	/* clang-format on */
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		/* Each name costs a block. */
		if (unpack(bad[i].m, bad[i].n, (int64_t)bad[i].n * 4096 + 30, &err) == 0)
			fail_msg("%s was taken", bad[i].what);
		assert_true(err.text[0]);
		assert_int_equal(err.code == ERR_TOO_LARGE, str_eq(bad[i].what, "too large"));
		assert_int_equal(access("/tmp/tes-archive-escape", F_OK), -1);
	}
}

static void writing_through_a_link_replaces_it(void **state)
{
	static const struct tar_member members[] = {
		{ "l", '2', .link = "/tmp/tes-archive-victim" }, { "l", '0', "x" }
	};
	struct err err;

	assert_int_equal(unpack(members, ARRAY_LEN(members), 1 << 20, &err), 0);
	assert_int_equal(took, 2 * 4096 + 1);
	assert_true(S_ISREG(mode("l")));
	assert_int_equal(access("/tmp/tes-archive-victim", F_OK), -1);
}

static void names_take_room_too(void **state)
{
	static const struct tar_member members[] = { { "a", '0' }, { "b", '5' }, { "c", '0' } };
	struct err err;

	assert_int_equal(unpack(members, ARRAY_LEN(members), 2 * 4096, &err), -1);
	assert_int_equal(err.code, ERR_TOO_LARGE);
	assert_int_equal(unpack(members, ARRAY_LEN(members), 3 * 4096, &err), 0);
}

static void no_tar(void **state)
{
	cleanup_fd int fd = open(base, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct err err = { 0 };

	assert_int_equal(write_all(fd, "this is not a tar archive, is it?", 33, &err), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(dir_make(to, 0755, &err), 0);
	assert_int_equal(helper_unpack(fd, to, 100, NULL, &took, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
}

/* ---- results ---- */

struct seen {
	char names[512];
	int64_t bytes;
};

static int see(void *arg, const struct tar_file *f, struct err *err)
{
	struct seen *s = arg;
	char text[64] = "";
	uint8_t digest[SHA256_SIZE];
	struct sha256 hash;
	ssize_t n = read(f->fd, text, sizeof(text) - 1);

	assert_int_equal(n, f->size);
	sha256_init(&hash);
	sha256_update(&hash, text, (size_t)n);
	sha256_final(&hash, digest);
	assert_memory_equal(digest, f->sha256, SHA256_SIZE);
	s->bytes += f->size;
	snprintf(s->names + strlen(s->names), sizeof(s->names) - strlen(s->names), "%s=%s;",
		 f->path, text);
	return 0;
}

static void each_file(void **state)
{
	static const struct tar_member members[] = {
		{ "out/", '5' },	   { "out/a", '0', "one" },
		{ "out/b/c", '0', "" },	   { "out/l", '2', .link = "/etc/passwd" },
		{ "out/../x", '0', "no" }, { "out/bad\xff", '0', "no" },
		{ "out/n\nl", '0', "no" }, { "out/z", '0', "two" },
	};
	cleanup_fd int fd = tar_file(members, ARRAY_LEN(members));
	cleanup_strbuf struct strbuf note = STRBUF_INIT;
	cleanup_fd int spool = open(base, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct seen s = { 0 };
	struct err err = { 0 };

	if (helper_walk(fd, spool, 100, NULL, see, &s, &note, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(s.names, "out/a=one;out/b/c=;out/z=two;");
	assert_non_null(strstr(note.buf, "1 links"));
	assert_non_null(strstr(note.buf, "3 files"));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	s = (struct seen){ 0 };
	assert_int_equal(helper_walk(fd, spool, 4, NULL, see, &s, &note, &err), -1);
	assert_int_equal(err.code, ERR_TOO_LARGE);
	assert_string_equal(s.names, "out/a=one;out/b/c=;");
}

static void cancelled(void **state)
{
	static const struct tar_member members[] = { { "a", '0', "x" } };
	cleanup_fd int fd = tar_file(members, 1);
	volatile int cancel = 1;
	struct err err = { 0 };

	assert_int_equal(dir_make(to, 0755, &err), 0);
	assert_int_equal(helper_unpack(fd, to, 1 << 20, &cancel, &took, &err), -1);
	assert_int_equal(err.code, ERR_TIMEOUT);
}

/* As root too: what reads archives has no capability and, by Landlock, no other directory. */
static void gives_up_what_it_has(void **state)
{
	static const struct tar_member members[] = { { "a", '0', "x" } };
	cleanup_fd int fd = tar_file(members, 1);
	struct err err = { 0 };

	if (geteuid() != 0)
		skip();
	assert_int_equal(dir_remove(to, &err), 0);
	assert_int_equal(dir_make(to, 0755, &err), 0);
	/* Somebody else's: only CAP_DAC_OVERRIDE would write here. */
	assert_int_equal(chown(to, 12345, 12345), 0);
	assert_int_equal(helper_unpack(fd, to, 1 << 20, NULL, &took, &err), -1);
	assert_int_equal(err.code, ERR_IO);
	assert_int_equal(chown(to, 0, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unpacks),
		cmocka_unit_test(refuses),
		cmocka_unit_test(writing_through_a_link_replaces_it),
		cmocka_unit_test(names_take_room_too),
		cmocka_unit_test(no_tar),
		cmocka_unit_test(each_file),
		cmocka_unit_test(cancelled),
		cmocka_unit_test(gives_up_what_it_has),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
