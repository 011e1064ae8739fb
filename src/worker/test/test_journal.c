#include "../internal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LEASE "le_01jdq3k5v8e4r9t0m2n6p7a1bc"

static char dir[] = "/tmp/tes-journal-XXXXXX";

static int setup(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
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

static void keeps_everything(void **state)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_free char *path = lease_dir(dir, LEASE, "journal.json");
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

	assert_int_equal(journal_save(dir, &j, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	if (journal_load(dir, LEASE, &a, &back, &err) < 0)
		fail_msg("%s", err.text);
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
	assert_int_equal(journal_list(dir, &a, &names, &err), 0);
	assert_int_equal(names.len, 1);
	assert_string_equal(names.items[0], LEASE);
}

static void write_raw(const char *path, const char *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

/* Whatever a disk makes of the file: an error, or the journal; never half of one. */
static void torn_files(void **state)
{
	cleanup_free char *path = lease_dir(dir, LEASE, "journal.json");
	cleanup_strbuf struct strbuf whole = STRBUF_INIT;
	struct desired_lease d = desired();
	struct journal j = { .desired = &d, .exit_code = -1 };
	struct err err = { 0 };
	int taken = 0;

	assert_int_equal(journal_save(dir, &j, &err), 0);
	assert_int_equal(file_read(path, 1 << 20, &whole, &err), 0);
	for (size_t len = 0; len < whole.len; len++) {
		cleanup_arena struct arena a = { 0 };
		struct journal back;

		write_raw(path, whole.buf, len);
		err = (struct err){ 0 };
		if (journal_load(dir, LEASE, &a, &back, &err) == 0)
			taken++;
		else
			assert_true(err.code != ERR_NOT_FOUND && err.text[0]);
	}
	assert_int_equal(taken, 0);
	/* Of another lease. */
	cleanup_arena struct arena a = { 0 };
	cleanup_free char *other = lease_dir(dir, "le_01jdq3k5v8e4r9t0m2n6p7a1bd", NULL);
	cleanup_free char *other_path =
		lease_dir(dir, "le_01jdq3k5v8e4r9t0m2n6p7a1bd", "journal.json");
	struct journal back;

	assert_int_equal(dir_make(other, 0700, &err), 0);
	write_raw(other_path, whole.buf, whole.len);
	err = (struct err){ 0 };
	assert_int_equal(journal_load(dir, "le_01jdq3k5v8e4r9t0m2n6p7a1bd", &a, &back, &err),
			 -1);
	err = (struct err){ 0 };
	assert_int_equal(journal_load(dir, "le_01jdq3k5v8e4r9t0m2n6p7a1bf", &a, &back, &err),
			 -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(journal_remove(dir, LEASE, &err), 0);
	assert_int_equal(journal_remove(dir, LEASE, &err), 0);
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
		cmocka_unit_test(torn_files),
		cmocka_unit_test(a_stop_keeps_the_specification),
		cmocka_unit_test(identities),
	};

	crypto_init();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
