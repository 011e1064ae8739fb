/* Against a real engine: TES_TEST_ENGINE is its socket, with image tes-test/busybox:1
 * (scripts/lib/test-image.sh). */
#include "../../../codec/codec.h"
#include "../runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define IMAGE "tes-test/busybox:1"
#define TEXTS(...)                                            \
	((struct text_list){ (const char *[]){ __VA_ARGS__ }, \
			     ARRAY_LEN(((const char *[]){ __VA_ARGS__ })) })

static struct runtime *rt;
static char worker[ID_SIZE], lease[ID_SIZE];
static bool all; /* what runtime_logs last said */
static const struct resources small = { .cpu_milli = 500, .memory_mib = 64, .disk_mib = 100 };

#define ok(call)                                                                          \
	do {                                                                              \
		struct err *e_ = &err;                                                    \
		if ((call) != 0)                                                          \
			fail_msg("%s: %s: %s", #call, err_code_name(e_->code), e_->text); \
	} while (0)
#define fails(expected, call)                                                             \
	do {                                                                              \
		err_clear(&err);                                                          \
		assert_int_equal((call), -1);                                             \
		if (err.code != (expected))                                               \
			fail_msg("%s: %s: %s", #call, err_code_name(err.code), err.text); \
	} while (0)

static int group_setup(void **state)
{
	const char *socket = getenv("TES_TEST_ENGINE");
	struct err err = { 0 };

	crypto_init();
	id_make("wk", clock_now(&clock_system), &random_system, worker);
	if (runtime_docker_open(socket, worker, &rt, &err) < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	return 0;
}

static int group_teardown(void **state)
{
	cleanup_arena struct arena arena = { 0 };
	struct container_status *list;
	size_t len = 0;

	if (rt && runtime_list(rt, &arena, &list, &len, NULL) == 0) {
		for (size_t i = 0; i < len; i++)
			(void)!runtime_remove(rt, list[i].lease, NULL);
	}
	runtime_close(rt);
	return 0;
}

static int setup(void **state)
{
	id_make("le", clock_now(&clock_system), &random_system, lease);
	return 0;
}

static int teardown(void **state)
{
	return runtime_remove(rt, lease, NULL);
}

/* ---- helpers
 * --------------------------------------------------------------------------------------- */

struct output {
	struct strbuf text; /* "stream:line\n" */
	int64_t at_ns[256];
	size_t len, longest, stop_after;
};

static int collect(void *arg, enum log_stream stream, int64_t at_ns, const char *line,
		   size_t len)
{
	struct output *out = arg;

	assert_true(utf8_valid(line, len));
	assert_true(len <= 64 << 10);
	if (out->len < ARRAY_LEN(out->at_ns))
		out->at_ns[out->len] = at_ns;
	out->len++;
	out->longest = MAX(out->longest, len);
	strbuf_addf(&out->text, "%d:%.*s\n", (int)stream, (int)len, line);
	return out->stop_after && out->len >= out->stop_after;
}

static void output_release(struct output *out)
{
	strbuf_release(&out->text);
}

static struct container_spec spec_of(const char *script)
{
	static const char *items[3];

	items[0] = "sh";
	items[1] = "-c";
	items[2] = script;
	return (struct container_spec){
		.lease = lease,
		.generation = 1,
		.image = IMAGE,
		.command = { items, 3 },
		.resources = &small,
	};
}

static void begin(const struct container_spec *spec)
{
	struct err err = { 0 };

	ok(runtime_create(rt, spec, &err));
	ok(runtime_start(rt, lease, &err));
}

/* Runs to the end; its output and how it ended. */
static void run(const struct container_spec *spec, struct output *out,
		struct container_status *status)
{
	struct err err = { 0 };

	memset(out, 0, sizeof(*out));
	strbuf_init(&out->text);
	begin(spec);
	ok(runtime_logs(rt, lease, 0, true, NULL, collect, out, &all, &err));
	assert_true(all);
	for (int i = 0; i < 500; i++) {
		ok(runtime_status(rt, lease, status, &err));
		if (status->state == CONTAINER_EXITED)
			return;
		usleep(10000);
	}
	fail_msg("the container does not end");
}

static void wait_state(enum container_state wanted)
{
	struct container_status status;
	struct err err = { 0 };

	for (int i = 0; i < 1000; i++) {
		ok(runtime_status(rt, lease, &status, &err));
		if (status.state == wanted)
			return;
		usleep(10000);
	}
	fail_msg("the container is in state %d, not %d", status.state, wanted);
}

/* ---- tests
 * ----------------------------------------------------------------------------------------- */

static void test_info(void **state)
{
	struct runtime_info info;
	struct err err = { 0 };

	ok(runtime_info(rt, &info, &err));
	print_message("# %s %s, data in %s, bridge %s\n", info.engine, info.version,
		      info.root_dir, info.bridge_subnet);
	assert_true(str_eq(info.engine, "docker") || str_eq(info.engine, "podman"));
	assert_true(strchr(info.bridge_subnet, '/') != NULL);
	assert_true(info.memory_limit);
	assert_true(info.root_dir[0] == '/');
	assert_false(info.nvidia || info.cdi);
}

static void test_open_refuses(void **state)
{
	struct runtime *other = NULL;
	struct err err;

	fails(ERR_UNAVAILABLE,
	      runtime_docker_open("/nonexistent/engine.sock", worker, &other, &err));
	assert_non_null(strstr(err.text, "/nonexistent/engine.sock"));
	fails(ERR_INVALID,
	      runtime_docker_open("/nonexistent/engine.sock", "wk_../..", &other, &err));
	assert_null(other);
}

static void test_lifecycle(void **state)
{
	struct container_spec spec =
		spec_of("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done");
	cleanup(output_release) struct output out = { .stop_after = 1 };
	struct container_status status, *list;
	cleanup_arena struct arena arena = { 0 };
	struct err err = { 0 };
	size_t len;

	strbuf_init(&out.text);
	ok(runtime_status(rt, lease, &status, &err));
	assert_int_equal(status.state, CONTAINER_ABSENT);
	ok(runtime_create(rt, &spec, &err));
	ok(runtime_create(rt, &spec, &err));
	spec.generation = 2;
	fails(ERR_CONFLICT, runtime_create(rt, &spec, &err));
	ok(runtime_status(rt, lease, &status, &err));
	assert_int_equal(status.state, CONTAINER_CREATED);
	assert_true(status.created_ms > clock_now(&clock_system) - MINUTE_MS);
	assert_int_equal(status.started_ms, 0);

	ok(runtime_start(rt, lease, &err));
	ok(runtime_start(rt, lease, &err));
	ok(runtime_logs(rt, lease, 0, true, NULL, collect, &out, &all, &err));
	assert_string_equal(out.text.buf, "0:up\n");
	assert_false(all);
	ok(runtime_list(rt, &arena, &list, &len, &err));
	assert_int_equal(len, 1);
	assert_string_equal(list[0].lease, lease);
	assert_int_equal(list[0].generation, 1);
	assert_int_equal(list[0].state, CONTAINER_RUNNING);
	assert_true(list[0].started_ms >= status.created_ms);
	assert_int_equal(list[0].finished_ms, 0);
	assert_true(list[0].address[0] != '\0');

	ok(runtime_pause(rt, lease, &err));
	ok(runtime_pause(rt, lease, &err));
	ok(runtime_status(rt, lease, &status, &err));
	assert_int_equal(status.state, CONTAINER_PAUSED);
	ok(runtime_unpause(rt, lease, &err));
	ok(runtime_unpause(rt, lease, &err));
	ok(runtime_pause(rt, lease, &err));
	ok(runtime_stop(rt, lease, 5000, &err)); /* also while it is frozen */
	ok(runtime_status(rt, lease, &status, &err));
	assert_int_equal(status.state, CONTAINER_EXITED);
	assert_int_equal(status.exit_code, 7);
	assert_false(status.oom_killed);
	assert_true(status.finished_ms >= status.started_ms);
	ok(runtime_stop(rt, lease, 5000, &err));
	ok(runtime_remove(rt, lease, &err));
	ok(runtime_remove(rt, lease, &err));
	ok(runtime_status(rt, lease, &status, &err));
	assert_int_equal(status.state, CONTAINER_ABSENT);
	ok(runtime_stop(rt, lease, 5000, &err));
	fails(ERR_NOT_FOUND, runtime_start(rt, lease, &err));
	fails(ERR_NOT_FOUND, runtime_pause(rt, lease, &err));
}

static void test_stop_kills(void **state)
{
	struct container_spec spec = spec_of("trap '' TERM; while :; do sleep 0.05; done");
	struct container_status status;
	struct err err = { 0 };

	begin(&spec);
	ok(runtime_stop(rt, lease, 1000, &err));
	ok(runtime_status(rt, lease, &status, &err));
	assert_int_equal(status.state, CONTAINER_EXITED);
	assert_int_equal(status.exit_code, 137);
	assert_false(status.oom_killed);
}

static void test_bad_command(void **state)
{
	struct container_spec spec = spec_of("");
	struct err err = { 0 };

	spec.command = TEXTS("/no/such/program");
	ok(runtime_create(rt, &spec, &err));
	fails(ERR_INVALID, runtime_start(rt, lease, &err));
	assert_int_equal(err.sys, ENOENT);
	assert_non_null(strstr(err.text, "/no/such/program"));
}

static void test_bad_image(void **state)
{
	struct container_spec spec = spec_of("true");
	struct err err = { 0 };

	spec.image = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
	fails(ERR_NOT_FOUND, runtime_create(rt, &spec, &err));
}

static void test_hardened(void **state)
{
	struct container_spec spec = spec_of(
		"sed -n 's/^\\(CapBnd\\|NoNewPrivs\\|Seccomp\\):[[:space:]]*/\\1=/p' /proc/self/status;"
		"echo $A-$S; (echo x >/in/file) 2>/dev/null || echo read-only; cat /in/file;"
		"cat /sys/class/net/eth0/address; ulimit -c; df -k /dev/shm | tail -n 1 | awk '{print $2}';"
		"mount -t tmpfs x /tmp 2>/dev/null || echo no-mount; test -e /var/run/docker.sock || echo no-socket");
	struct text_map env = { (struct text_map_item[]){ { "A", "1 \"2\"" } }, 1 };
	struct text_map secrets = { (struct text_map_item[]){ { "S", "k\\" } }, 1 };
	cleanup(output_release) struct output out = { 0 };
	struct container_status status;
	char dir[] = "/tmp/tes-runtime.XXXXXX", file[64];
	int fd;

	strbuf_init(&out.text);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0755), 0);
	snprintf(file, sizeof(file), "%s/file", dir);
	fd = open(file, O_CREAT | O_WRONLY, 0644);
	assert_int_equal(write(fd, "input\n", 6), 6);
	close(fd);
	spec.inputs_dir = dir;
	spec.env = &env;
	spec.secrets = &secrets;
	run(&spec, &out, &status);
	unlink(file);
	rmdir(dir);
	assert_non_null(strstr(out.text.buf, "0:CapBnd=00000000000004eb\n"));
	assert_non_null(strstr(out.text.buf, "0:NoNewPrivs=1\n"));
	assert_non_null(strstr(out.text.buf, "0:Seccomp=2\n"));
	assert_non_null(
		strstr(out.text.buf, "0:1 \"2\"-k\\\n0:read-only\n0:input\n0:06:54:45:"));
	assert_non_null(strstr(out.text.buf, "\n0:0\n0:65536\n0:no-mount\n0:no-socket\n"));
}

static void test_simulated_gpus(void **state)
{
	struct container_spec spec = spec_of("echo $TES_SIMULATED_GPUS");
	cleanup(output_release) struct output out = { 0 };
	struct container_status status;
	struct err err = { 0 };

	strbuf_init(&out.text);
	spec.gpu_uuids = TEXTS("GPU-1", "GPU-2");
	fails(ERR_UNSUPPORTED, runtime_create(rt, &spec, &err));
	spec.gpus_simulated = true;
	run(&spec, &out, &status);
	assert_string_equal(out.text.buf, "0:GPU-1,GPU-2\n");
}

static void test_out_of_memory(void **state)
{
	struct container_spec spec = spec_of("x=0123456789; while :; do x=$x$x; done");
	cleanup(output_release) struct output out = { 0 };
	struct container_status status;

	strbuf_init(&out.text);
	run(&spec, &out, &status);
	assert_true(status.oom_killed);
	assert_int_equal(status.exit_code, 137);
}

static void test_many_processes(void **state)
{
	struct container_spec spec = spec_of(
		"cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null;"
		"cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; exit 0");
	cleanup(output_release) struct output out = { 0 };
	struct container_status status;

	strbuf_init(&out.text);
	run(&spec, &out, &status);
	assert_non_null(strstr(out.text.buf, "0:4096\n0:50000"));
}

static void test_logs(void **state)
{
	struct container_spec spec = spec_of(
		"echo one; sleep 0.01; echo two >&2; sleep 0.01; printf 'a\\377b\\n'; sleep 0.01;"
		"head -c 100000 /dev/zero | tr '\\0' x; echo; sleep 0.01; printf end");
	cleanup(output_release) struct output out = { 0 }, rest = { 0 };
	struct container_status status;
	struct err err = { 0 };

	strbuf_init(&out.text);
	strbuf_init(&rest.text);
	run(&spec, &out, &status);
	assert_int_equal(out.len, 6);
	assert_true(str_starts(out.text.buf, "0:one\n1:two\n0:a\xef\xbf\xbd"
					     "b\n0:xxx"));
	assert_string_equal(out.text.buf + out.text.len - 6, "0:end\n");
	assert_int_equal(out.longest, 65536);
	assert_int_equal(out.at_ns[3], out.at_ns[4]);
	for (size_t i = 1; i < out.len; i++)
		assert_true(out.at_ns[i] >= out.at_ns[i - 1]);
	assert_true(out.at_ns[0] / 1000000 >= status.started_ms - 1000);

	/* From any line on again. */
	for (size_t from = 0; from < out.len; from++) {
		size_t expected = 0;

		for (size_t i = 0; i < out.len; i++)
			expected += out.at_ns[i] >= out.at_ns[from];
		rest.len = 0;
		strbuf_reset(&rest.text);
		ok(runtime_logs(rt, lease, out.at_ns[from], false, NULL, collect, &rest, &all, &err));
		assert_int_equal(rest.len, expected);
		assert_string_equal(rest.text.buf, out.text.buf + out.text.len - rest.text.len);
	}
}

/* Reading is the same each time, whether followed or not, also where all lines have one time
 * stamp. */
static void test_logs_again(void **state)
{
	struct container_spec spec =
		spec_of("for i in $(seq 300); do echo $i; echo $i >&2; done; printf last");
	struct container_status status;
	cleanup(output_release) struct output out = { 0 }, again = { 0 };
	struct err err = { 0 };

	strbuf_init(&out.text);
	strbuf_init(&again.text);
	run(&spec, &out, &status);
	assert_int_equal(out.len, 601);
	for (int follow = 0; follow < 2; follow++) {
		strbuf_reset(&again.text);
		ok(runtime_logs(rt, lease, 0, follow, NULL, collect, &again, &all, &err));
		assert_int_equal(all, follow);
		assert_string_equal(again.text.buf, out.text.buf);
	}
}

static void *cancel_soon(void *arg)
{
	usleep(300000);
	__atomic_store_n((volatile int *)arg, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void test_logs_cancel(void **state)
{
	struct container_spec spec = spec_of("echo begin; printf half; sleep 60");
	cleanup(output_release) struct output out = { 0 };
	volatile int cancel = 0;
	struct err err = { 0 };
	pthread_t thread;

	strbuf_init(&out.text);
	begin(&spec);
	pthread_create(&thread, NULL, cancel_soon, (void *)&cancel);
	ok(runtime_logs(rt, lease, 0, true, &cancel, collect, &out, &all, &err));
	pthread_join(thread, NULL);
	assert_false(all);
	assert_string_equal(out.text.buf, "0:begin\n");
}

static void test_exec(void **state)
{
	struct container_spec spec = spec_of("sleep 60");
	struct err err = { 0 };
	int status = -1;
	int64_t start;

	begin(&spec);
	ok(runtime_exec(rt, lease, &TEXTS("sh", "-c", "yes | head -n 100000; exit 3"), 20000,
			&status, &err));
	assert_int_equal(status, 3);
	ok(runtime_exec(rt, lease, &TEXTS("true"), 20000, &status, &err));
	assert_int_equal(status, 0);
	start = time_monotonic_ms();
	fails(ERR_TIMEOUT,
	      runtime_exec(rt, lease, &TEXTS("sh", "-c", "exec sleep 31"), 500, &status, &err));
	assert_true(time_monotonic_ms() - start < 5000);
	ok(runtime_exec(rt, lease, &TEXTS("sh", "-c", "! ps -o args | grep -q '^sleep 31'"),
			20000, &status, &err));
	assert_int_equal(status, 0);
	ok(runtime_stop(rt, lease, 0, &err));
	fails(ERR_CONFLICT, runtime_exec(rt, lease, &TEXTS("true"), 20000, &status, &err));
}

static void test_copy_out(void **state)
{
	struct container_spec spec = spec_of("mkdir /out/dir; echo result >/out/dir/file");
	cleanup(output_release) struct output out = { 0 };
	struct container_status status;
	struct err err = { 0 };
	char head[512], path[] = "/tmp/tes-runtime.XXXXXX";
	int fd = mkstemp(path);

	strbuf_init(&out.text);
	unlink(path);
	run(&spec, &out, &status);
	fails(ERR_NOT_FOUND, runtime_copy_out(rt, lease, "/out/none", fd, 1 << 20, &err));
	fails(ERR_TOO_LARGE, runtime_copy_out(rt, lease, "/out/dir/file", fd, 1000, &err));
	assert_int_equal(ftruncate(fd, 0), 0);
	lseek(fd, 0, SEEK_SET);
	ok(runtime_copy_out(rt, lease, "/out/dir/file", fd, 1 << 20, &err));
	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	assert_string_equal(head, "file");
	assert_memory_equal(head + 257, "ustar", 5);
	assert_int_equal(pread(fd, head, sizeof(head), 512), sizeof(head));
	assert_string_equal(head, "result\n");
	close(fd);
}

static void test_disk(void **state)
{
	struct container_spec spec = spec_of(
		"dd if=/dev/zero of=/tmp/big bs=1M count=8 2>/dev/null; mkdir -p /var/tmp/d;"
		"cd /var/tmp/d; for i in $(seq 1000); do : >$i; done; echo done");
	cleanup(output_release) struct output out = { 0 };
	struct container_status status;
	struct err err = { 0 };
	int64_t bytes = 0;

	strbuf_init(&out.text);
	run(&spec, &out, &status);
	ok(runtime_disk_used(rt, lease, &bytes, &err));
	print_message("# %" PRId64 " bytes\n", bytes);
	assert_true(bytes >= (8 << 20) && bytes < (10 << 20));
}

/* A removed file that is still open takes room too. */
static void test_disk_hidden(void **state)
{
	struct container_spec spec = spec_of(
		"exec 3>/tmp/hidden; rm /tmp/hidden; dd if=/dev/zero bs=1M count=8 >&3 2>/dev/null;"
		"echo done; sleep 60");
	cleanup(output_release) struct output out = { .stop_after = 1 };
	struct err err = { 0 };
	int64_t bytes = 0;

	strbuf_init(&out.text);
	begin(&spec);
	ok(runtime_logs(rt, lease, 0, true, NULL, collect, &out, &all, &err));
	ok(runtime_disk_used(rt, lease, &bytes, &err));
	assert_true(bytes >= (8 << 20) && bytes < (10 << 20));
	ok(runtime_stop(rt, lease, 0, &err));
	ok(runtime_disk_used(rt, lease, &bytes, &err));
	assert_true(bytes < (1 << 20));
}

/* A thread that listens; what it was told. */
struct listener {
	int cancel;
	pthread_t thread;
	pthread_mutex_t lock;
	int of_lease, of_nobody; /* those of other tests' leases come first */
	int rc;
	struct err err;
};

static void on_event(void *arg, const char *of)
{
	struct listener *l = arg;

	pthread_mutex_lock(&l->lock);
	l->of_lease += of && strcmp(of, lease) == 0;
	l->of_nobody += !of;
	pthread_mutex_unlock(&l->lock);
}

static void *listener_main(void *arg)
{
	struct listener *l = arg;

	l->rc = runtime_events(rt, &l->cancel, on_event, l, &l->err);
	return NULL;
}

static void listen_start(struct listener *l)
{
	*l = (struct listener){ .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_create(&l->thread, NULL, listener_main, l);
}

static void listen_end(struct listener *l)
{
	__atomic_store_n(&l->cancel, 1, __ATOMIC_RELAXED);
	pthread_join(l->thread, NULL);
	if (l->rc != 0)
		fail_msg("%s", l->err.text);
	assert_int_equal(l->of_nobody, 0);
}

static int events_of_lease(struct listener *l)
{
	int ret;

	pthread_mutex_lock(&l->lock);
	ret = l->of_lease;
	pthread_mutex_unlock(&l->lock);
	return ret;
}

/* True once there are more than `n`. */
static bool event_awaited(struct listener *l, int n)
{
	for (int i = 0; i < 2000; i++) {
		if (events_of_lease(l) > n)
			return true;
		usleep(10000);
	}
	return false;
}

static void test_events(void **state)
{
	struct container_spec spec = spec_of("sleep 0.5");
	struct container_status status = { 0 };
	struct listener l;
	struct err err = { 0 };
	int seen = 0;

	ok(runtime_create(rt, &spec, &err)); /* before anybody listens: it counts all the same */
	listen_start(&l);
	assert_true(event_awaited(&l, 0));
	ok(runtime_start(rt, lease, &err));
	/* Of its start and of its end, each after it can be seen. */
	while (status.state != CONTAINER_EXITED) {
		assert_true(event_awaited(&l, seen));
		seen = events_of_lease(&l);
		ok(runtime_status(rt, lease, &status, &err));
		assert_true(seen < 40);
	}
	assert_true(seen >= 3);
	listen_end(&l);
	/* What happens between two calls is not lost, and nothing is told twice. */
	ok(runtime_remove(rt, lease, &err));
	listen_start(&l);
	assert_true(event_awaited(&l, 0));
	listen_end(&l);
	listen_start(&l);
	usleep(300000);
	listen_end(&l);
	assert_int_equal(l.of_lease, 0);
}

static int image_of(const char *name, const char *allow_local, struct image_got *ret,
		    struct err *err)
{
	struct image_request req = { .image = name, .allow_local = allow_local };

	return runtime_image(rt, &req, ret, err);
}

static void test_image_present(void **state)
{
	static const char none[] =
		"sha256:0000000000000000000000000000000000000000000000000000000000000000";
	struct image_got got, again;
	struct err err = { 0 };

	ok(image_of(IMAGE, "lab/*, tes-test/busybox", &got, &err));
	print_message("# %s %s\n", got.image, got.digest);
	assert_true(str_starts(got.image, "sha256:"));
	assert_false(got.pulled);
	/* It never came from a registry; Podman gives it a digest all the same. */
	assert_true(str_eq(got.image, got.digest) ||
		    str_starts(got.digest, "docker.io/tes-test/busybox@sha256:"));
	/* What an attempt resolved, another may name. */
	ok(image_of(got.digest, IMAGE, &again, &err));
	assert_string_equal(got.image, again.image);
	ok(image_of(got.image, IMAGE, &again, &err));
	assert_string_equal(got.image, again.image);
	fails(ERR_FORBIDDEN, image_of(none, IMAGE, &again, &err));
	fails(ERR_INVALID, image_of("a/../b", "*", &again, &err));
	fails(ERR_INVALID, image_of("busybox:1?x=y", "*", &again, &err));
}

static void test_image_is_not_for_leases(void **state)
{
	struct image_got got, again;
	struct err err = { 0 };

	ok(image_of(IMAGE, "*", &got, &err));
	/* No registry has it, or none can be asked. */
	fails(ERR_FORBIDDEN, image_of(IMAGE, NULL, &again, &err));
	assert_non_null(strstr(err.text, "allow_local"));
	fails(ERR_FORBIDDEN, image_of(IMAGE, "tes-test/busybox:2, other/*", &again, &err));
	/* By id it is as unknown as one that is not here. */
	fails(ERR_FORBIDDEN, image_of(got.image, NULL, &again, &err));
}

static void test_start_latency(void **state)
{
	struct container_spec spec = spec_of("true");
	int64_t create_ms[9], start_ms[9];
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(start_ms); i++) {
		int64_t at = time_monotonic_ms();

		ok(runtime_create(rt, &spec, &err));
		create_ms[i] = time_monotonic_ms() - at;
		ok(runtime_start(rt, lease, &err));
		start_ms[i] = time_monotonic_ms() - at - create_ms[i];
		wait_state(CONTAINER_EXITED);
		ok(runtime_remove(rt, lease, &err));
	}
	for (size_t i = 0; i < ARRAY_LEN(start_ms); i++)
		print_message("# create %" PRId64 " ms, start %" PRId64 " ms\n", create_ms[i],
			      start_ms[i]);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_info),	   TEST(test_open_refuses),   TEST(test_lifecycle),
		TEST(test_stop_kills),	   TEST(test_bad_command),    TEST(test_bad_image),
		TEST(test_hardened),	   TEST(test_simulated_gpus), TEST(test_out_of_memory),
		TEST(test_many_processes), TEST(test_logs),	      TEST(test_logs_again),
		TEST(test_logs_cancel),	   TEST(test_exec),	      TEST(test_copy_out),
		TEST(test_disk),	   TEST(test_disk_hidden),    TEST(test_events),
		TEST(test_image_present),  TEST(test_image_is_not_for_leases),
		TEST(test_start_latency),
	};

	if (!getenv("TES_TEST_ENGINE")) {
		puts("1..0 # SKIP TES_TEST_ENGINE names no engine's socket");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
