#include "../internal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LEASE "le_01jdq3k5v8e4r9t0m2n6p7a1bc"
#define OTHER "le_01jdq3k5v8e4r9t0m2n6p7a1bf"

static char dir[] = "/tmp/tes-journal-XXXXXX", file[sizeof(dir) + 8];

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof(file), "%s/journal", dir);
	return 0;
}

static int teardown(void **state)
{
	struct err err = { 0 };

	return dir_remove(dir, &err);
}

static const char *command[] = { "sh", "-c", "echo \"hi\"\n" }, *outputs[] = { "/out" };
static struct text_map_item env[] = { { "A", "1" } }, secrets[] = { { "TOKEN", "s3cret" } };
static const struct resources resources = {
	.cpu_milli = 500, .memory_mib = 128, .disk_mib = 256, .gpus = 0
};
static const struct registry_login registry = { "user", "passw0rd" };
static struct desired_input inputs[] = {
	{ .id = "in_01jdq3k5v8e4r9t0m2n6p7a1bc",
	  .name = "data",
	  .size_bytes = 7,
	  .sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
};

static struct desired_lease desired(void)
{
	struct desired_lease d = {
		.lease = LEASE,
		.workload = "wl_01jdq3k5v8e4r9t0m2n6p7a1bc",
		.generation = 3,
		.rev = 17,
		.desired = DESIRE_RUN,
		.image = "docker.io/library/debian:12",
		.resources = &resources,
		.registry = &registry,
		.grace_ms = 60000,
		.funded_ms = 90000,
		.max_duration_ms = 5000,
		.logs_max_bytes = 1 << 20,
		.results_max_bytes = 1 << 30,
	};

	d.command = (struct text_list){ command, 3 };
	d.outputs = (struct text_list){ outputs, 1 };
	d.env = (struct text_map){ env, 1 };
	d.secrets = (struct text_map){ secrets, 1 };
	d.inputs.items = inputs;
	d.inputs.len = 1;
	return d;
}

#define ok(call)                                           \
	do {                                               \
		if ((call) != 0)                           \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)

static struct journals *opened(void)
{
	struct journals *ret;
	struct err err = { 0 };

	ok(journals_open(dir, &ret, &err));
	return ret;
}

static void keeps_everything(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct journals *s = opened();
	struct desired_lease d = desired();
	struct journal j = {
		.desired = &d,
		.image = "sha256:1",
		.image_digest = "x@sha256:2",
		.prepared = true,
		.created = true,
		.started = true,
		.ready = true,
		.started_ms = 1700000000001,
		.base_ms = 1700000000002,
		.paused_total_ms = 3,
		.pause_at_ms = 1700000000004,
		.delivered_ms = 5,
		.receipt_seq = 600,
		.log_seq = 7,
		.log_since_ns = 1700000000000000008,
		.log_count = 9,
		.log_cut = true,
		.end_state = OBSERVED_EXITED,
		.end_reason = REASON_EXITED_WITH_ERROR,
		.end_text = "ended",
		.exit_code = 3,
		.ended = true,
		.final_seq = 401,
	};
	struct journal back;
	struct text_list names;
	struct err err = { 0 };
	struct stat st;

	ok(journals_save(s, &j, &err));
	journals_close(s);
	s = opened();
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	ok(journals_load(s, LEASE, &a, &back, &err));
	assert_string_equal(back.image, "sha256:1");
	assert_int_equal(back.log_since_ns, j.log_since_ns);
	assert_int_equal(back.receipt_seq, 600);
	assert_int_equal(back.exit_code, 3);
	assert_int_equal(back.end_reason, REASON_EXITED_WITH_ERROR);
	assert_true(back.ended && back.log_cut && back.started && !back.removed);
	assert_string_equal(back.desired->secrets.items[0].value, "s3cret");
	assert_string_equal(back.desired->registry->secret, "passw0rd");
	assert_string_equal(back.desired->command.items[2], command[2]);
	assert_string_equal(back.desired->inputs.items[0].name, "data");
	assert_int_equal(back.desired->funded_ms, 90000);
	ok(journals_list(s, &a, &names, &err));
	assert_int_equal(names.len, 1);
	assert_string_equal(names.items[0], LEASE);
	ok(journals_remove(s, LEASE, &err));
	journals_close(s);
}

/* ---- the file ---- */

static void save(struct journals *s, const char *lease, int64_t exit_code)
{
	struct desired_lease d = desired();
	struct journal j = { .desired = &d, .exit_code = exit_code };
	struct err err = { 0 };

	d.lease = lease;
	ok(journals_save(s, &j, &err));
}

#define NONE	-2
#define DAMAGED -3

/* Its exit code, after the file was opened anew. */
static int64_t loaded(const char *lease)
{
	cleanup_arena struct arena a = { 0 };
	struct journals *s = opened();
	struct err err = { 0 };
	struct journal back;
	int rc = journals_load(s, lease, &a, &back, &err);

	journals_close(s);
	if (rc == 0)
		return back.exit_code;
	assert_true(err.text[0]);
	return err.code == ERR_NOT_FOUND ? NONE : DAMAGED;
}

static void file_is(struct strbuf *ret)
{
	struct err err = { 0 };

	ok(file_read(file, 16 << 20, ret, &err));
}

static void file_set(const char *data, size_t len)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static size_t file_size(void)
{
	struct stat st;

	assert_int_equal(stat(file, &st), 0);
	return (size_t)st.st_size;
}

/* What two saves leave if the power fails before the first one's slot is zeroed, and in which
 * order they lie. */
static void two_records(struct strbuf *ret, bool newer_first)
{
	cleanup_strbuf struct strbuf first = STRBUF_INIT, both = STRBUF_INIT;
	struct journals *s;

	assert_int_equal(unlink(file), 0);
	s = opened();
	save(s, LEASE, 1);
	file_is(&first);
	save(s, LEASE, 2);
	journals_close(s);
	file_is(&both);
	assert_int_equal(both.len, 2 * first.len);
	assert_int_equal(both.buf[0], '\0');
	strbuf_reset(ret);
	if (newer_first)
		strbuf_add(ret, both.buf + first.len, first.len);
	strbuf_add(ret, first.buf, first.len);
	if (!newer_first)
		strbuf_add(ret, both.buf + first.len, first.len);
}

static void the_newest_counts(void **state)
{
	cleanup_strbuf struct strbuf both = STRBUF_INIT, after = STRBUF_INIT;

	for (int newer_first = 0; newer_first < 2; newer_first++) {
		two_records(&both, newer_first);
		file_set(both.buf, both.len);
		assert_int_equal(loaded(LEASE), 2);
		/* The other one is gone for good. */
		file_is(&after);
		assert_int_equal(after.buf[newer_first ? both.len / 2 : 0], '\0');
		assert_int_equal(loaded(LEASE), 2);
	}
}

/* Whatever a disk makes of it: a journal as it was saved once, or none, or one that is known to
 * be damaged; never half of one. */
static void torn(void **state)
{
	cleanup_strbuf struct strbuf both = STRBUF_INIT;
	size_t len, slot;
	int damaged = 0;

	two_records(&both, false);
	slot = both.len / 2;
	len = strnlen(both.buf, slot);
	for (size_t at = 0; at < len; at++) {
		both.buf[slot + at] ^= 1;
		file_set(both.buf, both.len);
		assert_int_equal(loaded(LEASE), 1);
		both.buf[slot + at] ^= 1;
	}
	for (size_t at = 0; at < len; at++) {
		int64_t got;

		both.buf[at] ^= 1;
		file_set(both.buf, slot);
		got = loaded(LEASE);
		assert_true(got == DAMAGED || got == NONE);
		damaged += got == DAMAGED;
		both.buf[at] ^= 1;
	}
	/* All but those that hit the head, where the lease stands. */
	assert_in_range(damaged, len - 100, len);
	for (size_t cut = 0; cut < slot; cut += 7) {
		file_set(both.buf, cut);
		assert_int_equal(loaded(LEASE), NONE);
		file_set(both.buf, slot + cut);
		assert_int_equal(loaded(LEASE), 1);
	}
	/* The rest of a larger one; it does not come back when the file is opened again. */
	file_set(both.buf + 1, both.len - 1);
	assert_int_equal(loaded(LEASE), NONE);
	assert_int_equal(loaded(LEASE), NONE);
}

/* One that is damaged is not forgotten before its lease is. */
static void damage_is_kept(void **state)
{
	cleanup_strbuf struct strbuf both = STRBUF_INIT;
	struct journals *s;
	struct err err = { 0 };

	two_records(&both, false);
	both.buf[200] ^= 1;
	file_set(both.buf, both.len / 2);
	assert_int_equal(loaded(LEASE), DAMAGED);
	assert_int_equal(loaded(LEASE), DAMAGED);
	s = opened();
	save(s, OTHER, 5);
	ok(journals_remove(s, LEASE, &err));
	journals_close(s);
	assert_int_equal(loaded(LEASE), NONE);
	assert_int_equal(loaded(OTHER), 5);
}

static void does_not_grow(void **state)
{
	struct journals *s;
	struct err err = { 0 };
	size_t few;

	unlink(file);
	s = opened();
	for (int i = 0; i < 3; i++)
		save(s, LEASE, i);
	few = file_size();
	for (int i = 0; i < 300; i++) {
		save(s, LEASE, i % 256);
		save(s, OTHER, i % 256);
		ok(journals_remove(s, OTHER, &err));
	}
	assert_true(file_size() <= few * 2);
	journals_close(s);
	assert_int_equal(loaded(LEASE), 299 % 256);
	assert_int_equal(loaded(OTHER), NONE);
}

/* More than a slot, beside small ones. */
static void large_ones(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct desired_lease d = desired();
	struct journal j = { .desired = &d, .exit_code = 9 }, back;
	struct err err = { 0 };
	struct journals *s;
	char *value = malloc(30001);

	memset(value, 'x', 30000);
	value[30000] = '\0';
	struct text_map_item item = { "A", value };

	d.env = (struct text_map){ &item, 1 };
	s = opened();
	save(s, OTHER, 4);
	for (int i = 0; i < 3; i++)
		ok(journals_save(s, &j, &err));
	save(s, OTHER, 5);
	journals_close(s);
	assert_int_equal(loaded(OTHER), 5);
	s = opened();
	ok(journals_load(s, LEASE, &a, &back, &err));
	assert_string_equal(back.desired->env.items[0].value, value);
	ok(journals_remove(s, LEASE, &err));
	ok(journals_remove(s, OTHER, &err));
	journals_close(s);
	free(value);
}

/* A disk that was full, or a file that was copied: all of its words, but not its last slot. */
static void a_large_one_cut_off(void **state)
{
	cleanup_strbuf struct strbuf first = STRBUF_INIT, after = STRBUF_INIT;
	char value[6001];
	struct text_map_item item = { "A", value };
	struct desired_lease d = desired();
	struct journal j = { .desired = &d, .exit_code = 9 };
	struct err err = { 0 };
	struct journals *s;

	memset(value, 'x', 6000);
	value[6000] = '\0';
	d.env = (struct text_map){ &item, 1 };
	unlink(file);
	s = opened();
	save(s, LEASE, 1);
	file_is(&first);
	ok(journals_save(s, &j, &err));
	journals_close(s);
	assert_int_equal(loaded(LEASE), 9);
	file_is(&after);
	assert_int_equal(after.len, first.len + 2 * 4096);
	strbuf_add(&first, after.buf + first.len, strnlen(after.buf + first.len, 2 * 4096));
	file_set(first.buf, first.len);
	assert_int_equal(loaded(LEASE), 1);
	assert_int_equal(loaded(LEASE), 1);
}

static void leaves_nothing(void **state)
{
	cleanup_free char *inputs_dir = lease_dir(dir, LEASE, "in");
	cleanup_free char *only_inputs = lease_dir(dir, OTHER, "in");
	cleanup_strbuf struct strbuf after = STRBUF_INIT;
	cleanup_arena struct arena a = { 0 };
	struct journals *s = opened();
	struct text_list names;
	struct err err = { 0 };

	save(s, LEASE, 1);
	save(s, LEASE, 2);
	ok(dir_make(inputs_dir, 0700, &err));
	ok(dir_make(only_inputs, 0700, &err));
	ok(journals_list(s, &a, &names, &err));
	assert_int_equal(names.len, 2);
	for (size_t i = 0; i < names.len; i++)
		ok(journals_remove(s, names.items[i], &err));
	ok(journals_remove(s, LEASE, &err));
	ok(journals_list(s, &a, &names, &err));
	assert_int_equal(names.len, 0);
	assert_int_equal(access(inputs_dir, F_OK), -1);
	assert_int_equal(access(only_inputs, F_OK), -1);
	journals_close(s);
	file_is(&after);
	for (size_t i = 0; i < after.len; i++)
		assert_int_equal(after.buf[i], '\0');
}

/* ---- flushes ---- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int flushes, flush_fails;

/* Does not go to the disk: no test takes the power away, and a file is opened thousands of times. */
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	__atomic_add_fetch(&flushes, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	if (flush_fails) {
		flush_fails--;
		errno = EIO;
		return -1;
	}
	return 0;
}

#define SAVERS 20

struct saver {
	struct journals *s;
	char lease[ID_SIZE];
	pthread_t thread;
};

static void *saver_main(void *arg)
{
	struct saver *saver = arg;

	save(saver->s, saver->lease, 7);
	return NULL;
}

static size_t records_there(void)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	size_t n = 0;

	file_is(&text);
	for (size_t at = 0; at < text.len; at += 4096)
		n += text.buf[at] != '\0';
	return n;
}

static void savers_share_a_flush(void **state)
{
	struct saver savers[SAVERS];
	struct journals *s;

	unlink(file);
	s = opened();
	flushes = 0;
	pthread_mutex_lock(&gate); /* the first flush takes its time */
	for (int i = 0; i < SAVERS; i++) {
		savers[i].s = s;
		id_make("le", 1700000000000 + i, &random_system, savers[i].lease);
		pthread_create(&savers[i].thread, NULL, saver_main, &savers[i]);
	}
	while (records_there() < SAVERS)
		usleep(1000);
	pthread_mutex_unlock(&gate);
	for (int i = 0; i < SAVERS; i++)
		pthread_join(savers[i].thread, NULL);
	journals_close(s);
	/* The first one's, one for all who came meanwhile; who was late may need another. */
	assert_in_range(flushes, 2, SAVERS / 2);
	for (int i = 0; i < SAVERS; i++)
		assert_int_equal(loaded(savers[i].lease), 7);
}

static void a_flush_that_fails(void **state)
{
	struct desired_lease d = desired();
	struct journal j = { .desired = &d, .exit_code = 2 };
	struct err err = { 0 };
	struct journals *s;

	unlink(file);
	s = opened();
	save(s, LEASE, 1);
	flush_fails = 1;
	assert_int_equal(journals_save(s, &j, &err), -1);
	assert_int_equal(err.sys, EIO);
	assert_int_equal(flush_fails, 0);
	assert_int_equal(loaded(LEASE), 1);
	j.exit_code = 3;
	ok(journals_save(s, &j, &err));
	assert_int_equal(loaded(LEASE), 3);
	journals_close(s);
}

/* A process that was killed may have written what is not on the disk: before that is, the record
 * before it must stay. */
static void nothing_is_given_up_unflushed(void **state)
{
	cleanup_strbuf struct strbuf both = STRBUF_INIT, after = STRBUF_INIT;
	struct journals *s;
	struct err err = { 0 };

	two_records(&both, false);
	file_set(both.buf, both.len);
	flush_fails = 1;
	assert_int_equal(journals_open(dir, &s, &err), -1);
	assert_int_equal(err.sys, EIO);
	file_is(&after);
	assert_int_equal(after.len, both.len);
	assert_memory_equal(after.buf, both.buf, both.len);
	assert_int_equal(loaded(LEASE), 2);
}

static void *failing_main(void *arg)
{
	struct saver *saver = arg;
	struct desired_lease d = desired();
	struct journal j = { .desired = &d, .exit_code = 2 };
	struct err err = { 0 };

	d.lease = saver->lease;
	return journals_save(saver->s, &j, &err) < 0 && err.sys == EIO ? saver : NULL;
}

/* Linux gives up what it could not write, and says so once: to all whose record was there. */
static void a_failure_is_everybodys(void **state)
{
	struct saver savers[SAVERS];
	struct journals *s;
	void *failed;

	unlink(file);
	s = opened();
	flushes = 0;
	flush_fails = 1;
	pthread_mutex_lock(&gate);
	for (int i = 0; i < SAVERS; i++) {
		savers[i].s = s;
		id_make("le", 1700000000000 + i, &random_system, savers[i].lease);
		pthread_create(&savers[i].thread, NULL, failing_main, &savers[i]);
	}
	while (records_there() < SAVERS)
		usleep(1000);
	pthread_mutex_unlock(&gate);
	for (int i = 0; i < SAVERS; i++) {
		pthread_join(savers[i].thread, &failed);
		assert_ptr_equal(failed, &savers[i]);
	}
	assert_int_equal(records_there(), 0);
	save(s, LEASE, 3);
	journals_close(s);
	assert_int_equal(loaded(LEASE), 3);
}

static void a_stop_keeps_the_specification(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct desired_lease d = desired(), merged;
	struct desired_lease stop = { .lease = LEASE,
				      .generation = 3,
				      .rev = 20,
				      .desired = DESIRE_STOP,
				      .funded_ms = 5,
				      .grace_ms = 6 };

	desired_merge(&d, &stop, &a, &merged);
	assert_int_equal(merged.desired, DESIRE_STOP);
	assert_int_equal(merged.rev, 20);
	assert_int_equal(merged.funded_ms, 5);
	assert_string_equal(merged.outputs.items[0], "/out");
	assert_int_equal(merged.resources->memory_mib, 128);
	desired_merge(NULL, &stop, &a, &merged);
	assert_int_equal(merged.desired, DESIRE_STOP);
	assert_null(merged.resources);
}

static void identities(void **state)
{
	struct identity id = { .worker_id = "wk_01jdq3k5v8e4r9t0m2n6p7a1bc",
			       .server = "https://tes.example",
			       .name = "box",
			       .intent = INTENT_PAUSED },
			back;
	struct err err = { 0 };
	char boot[ID_SIZE], again[ID_SIZE];
	cleanup_free char *key = path_join(dir, "key");

	assert_int_equal(identity_load(dir, &back, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	err = (struct err){ 0 };
	assert_int_equal(identity_key(dir, &id, &err), 0);
	assert_int_equal(identity_save(dir, &id, &err), 0);
	assert_int_equal(identity_load(dir, &back, &err), 0);
	assert_memory_equal(back.sk, id.sk, SIGN_SECRET_SIZE);
	assert_memory_equal(back.pk, id.pk, SIGN_PUBLIC_SIZE);
	assert_int_equal(back.intent, INTENT_PAUSED);
	assert_string_equal(back.server, "https://tes.example");
	state_boot_read(dir, boot);
	assert_int_equal(state_boot_write(dir, boot, &err), 0);
	state_boot_read(dir, again);
	assert_string_equal(boot, again);
	/* A key that others can read is refused. */
	assert_int_equal(chmod(key, 0644), 0);
	assert_int_equal(identity_load(dir, &back, &err), -1);
	assert_int_equal(err.code, ERR_FORBIDDEN);
	assert_int_equal(identity_forget(dir, &err), 0);
	assert_int_equal(access(key, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_everything),
		cmocka_unit_test(the_newest_counts),
		cmocka_unit_test(torn),
		cmocka_unit_test(damage_is_kept),
		cmocka_unit_test(does_not_grow),
		cmocka_unit_test(large_ones),
		cmocka_unit_test(a_large_one_cut_off),
		cmocka_unit_test(leaves_nothing),
		cmocka_unit_test(savers_share_a_flush),
		cmocka_unit_test(a_flush_that_fails),
		cmocka_unit_test(nothing_is_given_up_unflushed),
		cmocka_unit_test(a_failure_is_everybodys),
		cmocka_unit_test(a_stop_keeps_the_specification),
		cmocka_unit_test(identities),
	};

	crypto_init();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
