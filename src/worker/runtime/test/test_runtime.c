/* What needs no engine: its words in, our values out. */
#include "../../../os/os.h"
#include "../internal.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LEASE "le_01jdq3k5v8e4r9t0m2n6p7a1bc"
#define TEXTS(...)                                            \
	((struct text_list){ (const char *[]){ __VA_ARGS__ }, \
			     ARRAY_LEN(((const char *[]){ __VA_ARGS__ })) })

static struct arena arena;

static int setup(void **state)
{
	crypto_init();
	arena_init(&arena, 0);
	return 0;
}

static int teardown(void **state)
{
	arena_release(&arena);
	return 0;
}

static struct json *parse(const char *text)
{
	struct json *j = NULL;

	assert_int_equal(json_parse(slice_of(text), &arena, &j, NULL), 0);
	return j;
}

/* ---- images
 * ---------------------------------------------------------------------------------------- */

static void test_image_want(void **state)
{
	static const struct {
		const char *image, *name, *tag, *digest;
		bool id;
	} good[] = {
		{ "busybox", "busybox", "latest", "", false },
		{ "busybox:1.36", "busybox", "1.36", "", false },
		{ "localhost:5000/a/b", "localhost:5000/a/b", "latest", "", false },
		{ "ghcr.io/a/b:c@sha256:" HEX64, "ghcr.io/a/b", "c", "sha256:" HEX64, false },
		{ "a@sha256:" HEX64, "a", "", "sha256:" HEX64, false },
		{ "sha256:" HEX64, "", "", "sha256:" HEX64, true },
	};
	static const char *const bad[] = { "",	    "A",   "a/../b", "/a",	    "a b",
					   "a?x=1", "a#b", "a:b:c",  "a@sha256:12", "a%2e",
					   "a\n" };
	struct image_want want;
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (image_want_parse(good[i].image, &want, &err) < 0)
			fail_msg("%s: %s", good[i].image, err.text);
		assert_string_equal(want.name, good[i].name);
		assert_string_equal(want.tag, good[i].tag);
		assert_string_equal(want.digest, good[i].digest);
		assert_int_equal(want.id, good[i].id);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(image_want_parse(bad[i], &want, &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
	}
}

static void test_image_digest(void **state)
{
	const struct json *list = parse(
		"[\"other@sha256:1\",\"docker.io/library/busybox@sha256:2\",\"busybox@sha256:3\",7,\"busybox\",\"@\"]");
	struct image_want want = { .name = "busybox" };

	assert_string_equal(image_digest_find(list, &want), "busybox@sha256:3");
	memcpy(want.digest, "sha256:2", 9);
	assert_string_equal(image_digest_find(list, &want),
			    "docker.io/library/busybox@sha256:2");
	memcpy(want.digest, "sha256:9", 9);
	assert_null(image_digest_find(list, &want));
	memcpy(want.name, "ghcr.io", 8);
	assert_null(image_digest_find(list, &want));
	assert_null(image_digest_find(parse("null"), &want));
	assert_null(image_digest_find(NULL, &want));
}

struct heard {
	struct strbuf text;
};

static void hear(void *arg, const char *phase, int64_t done, int64_t total)
{
	struct heard *h = arg;

	strbuf_addf(&h->text, "%c%" PRId64 "/%" PRId64 " ", phase[0], done, total);
}

static void test_pull_progress(void **state)
{
	static const char stream[] =
		"{\"status\":\"Pulling from a\",\"id\":\"1\"}\r\n"
		"{\"status\":\"Already exists\",\"progressDetail\":{},\"id\":\"l0\"}\r\n"
		"{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"l1\"}\r\n"
		"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":10,\"total\":100},\"id\":\"l1\"}\r\n"
		"not json\r\n"
		"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":20,\"total\":50},\"id\":\"l2\"}\r\n"
		"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":-5,\"total\":9223372036854775807},\"id\":\"l3\"}\r\n"
		"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":0,\"total\":0},\"id\":\"l3\"}\r\n"
		"{\"status\":\"Download complete\",\"progressDetail\":{},\"id\":\"l2\"}\r\n"
		"{\"status\":\"Extracting\",\"progressDetail\":{\"current\":50,\"total\":100},\"id\":\"l1\"}\r\n"
		"{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"l1\"}\r\n";
	struct heard heard;
	struct pull pull;

	/* However the bytes are cut. */
	for (size_t step = 1; step < 200; step += 7) {
		strbuf_init(&heard.text);
		pull_init(&pull, hear, &heard);
		for (size_t at = 0; at < sizeof(stream) - 1; at += step)
			assert_int_equal(pull_feed(&pull, stream + at,
						   MIN(step, sizeof(stream) - 1 - at)),
					 0);
		assert_string_equal(heard.text.buf,
				    "p10/100 p30/150 p60/150 u50/150 u100/150 ");
		assert_string_equal(pull.error, "");
		pull_release(&pull);
		strbuf_release(&heard.text);
	}
}

static void test_pull_error(void **state)
{
	static const char stream[] =
		"{\"errorDetail\":{\"message\":\"x\"},\"error\":\"unauthorized: authentication required\"}\n";
	struct pull pull;

	pull_init(&pull, NULL, NULL);
	assert_int_equal(pull_feed(&pull, stream, sizeof(stream) - 1), 0);
	assert_string_equal(pull.error, "unauthorized: authentication required");
	assert_int_equal(pull_error_code(pull.error, false), ERR_UNAUTHENTICATED);
	pull_release(&pull);
	assert_int_equal(
		pull_error_code(
			"pull access denied for x, repository does not exist or may require 'docker login'",
			false),
		ERR_NOT_FOUND);
	assert_int_equal(
		pull_error_code(
			"pull access denied for x, repository does not exist or may require 'docker login'",
			true),
		ERR_UNAUTHENTICATED);
	assert_int_equal(pull_error_code("manifest unknown: manifest unknown", false),
			 ERR_NOT_FOUND);
	assert_int_equal(pull_error_code("net/http: TLS handshake timeout", false),
			 ERR_TIMEOUT);
	assert_int_equal(pull_error_code("dial tcp: connection refused", false),
			 ERR_UNAVAILABLE);
	assert_int_equal(pull_error_code("write /x: no space left on device", false), ERR_IO);
}

/* ---- logs
 * ------------------------------------------------------------------------------------------ */

struct got {
	struct strbuf text;
	int lines, stop_after;
};

static int take(void *arg, enum log_stream stream, int64_t at_ns, const char *line, size_t len)
{
	struct got *got = arg;

	assert_true(len <= LOG_LINE_MAX && utf8_valid(line, len));
	strbuf_addf(&got->text, "%d@%" PRId64 " ", (int)stream, at_ns);
	if (len > 100)
		strbuf_addf(&got->text, "(%zu)", len);
	else
		strbuf_add(&got->text, line, len);
	strbuf_addc(&got->text, '\n');
	return ++got->lines == got->stop_after;
}

static void frame(struct strbuf *out, int stream, const char *content, size_t len)
{
	const char head[8] = {
		(char)stream,	  0,	    0, 0, (char)(len >> 24), (char)(len >> 16),
		(char)(len >> 8), (char)len
	};

	strbuf_add(out, head, sizeof(head));
	strbuf_add(out, content, len);
}

#define FRAME(out, stream, lit) frame(out, stream, lit, sizeof(lit) - 1)

static void test_demux(void **state)
{
	static const char expected[] =
		"0@1000000001 one\n1@2000000000 err\n0@3000000000 part and rest\n0@5000000000 \n0@6000000000 a\n"
		"0@6000000000 b\n0@7000000000 \xef\xbf\xbd\xef\xbf\xbdz\n0@0 no stamp\n";
	cleanup_strbuf struct strbuf stream = STRBUF_INIT;

	FRAME(&stream, 1, "1970-01-01T00:00:01.000000001Z one\n");
	FRAME(&stream, 2, "1970-01-01T00:00:02Z err\n");
	FRAME(&stream, 1, "1970-01-01T00:00:03.000000000Z part");
	FRAME(&stream, 2, "");
	FRAME(&stream, 1, "1970-01-01T01:00:04.000000000+01:00  and rest\n");
	FRAME(&stream, 1, "1970-01-01T00:00:05.000Z \n");
	FRAME(&stream, 1, "1970-01-01T00:00:06Z a\nb\n");
	FRAME(&stream, 1, "1970-01-01T00:00:07Z \xff\0z\n");
	FRAME(&stream, 1, "never no stamp");
	for (size_t step = 1; step < 60; step++) {
		struct got got = { 0 };
		struct log_demux d;

		strbuf_init(&got.text);
		log_demux_init(&d, 0, take, &got);
		for (size_t at = 0; at < stream.len; at += step)
			assert_int_equal(
				log_demux_feed(&d, stream.buf + at, MIN(step, stream.len - at)),
				0);
		assert_int_equal(log_demux_finish(&d), 0);
		assert_string_equal(got.text.buf, expected);
		log_demux_release(&d);
		strbuf_release(&got.text);
	}
}

static void test_demux_since(void **state)
{
	cleanup_strbuf struct strbuf stream = STRBUF_INIT;
	struct got got = { .stop_after = 2 };
	struct log_demux d;

	strbuf_init(&got.text);
	FRAME(&stream, 1, "1970-01-01T00:00:01Z one\n");
	FRAME(&stream, 1, "1970-01-01T00:00:02Z two\n");
	FRAME(&stream, 1, "1970-01-01T00:00:03Z three\n");
	FRAME(&stream, 1, "1970-01-01T00:00:04Z four\n");
	log_demux_init(&d, 2000000000, take, &got);
	assert_int_equal(log_demux_feed(&d, stream.buf, stream.len), 1);
	assert_string_equal(got.text.buf, "0@2000000000 two\n0@3000000000 three\n");
	log_demux_release(&d);
	strbuf_release(&got.text);
}

/* Long lines come in pieces, no character is cut, and memory stays bounded whatever the
 * frame says. */
static void test_demux_long(void **state)
{
	cleanup_strbuf struct strbuf stream = STRBUF_INIT, content = STRBUF_INIT;
	struct got got = { 0 };
	struct log_demux d;

	strbuf_init(&got.text);
	strbuf_adds(&content, "1970-01-01T00:00:01Z ");
	for (int i = 0; i < 70000; i++)
		strbuf_adds(&content, "\xe2\x82\xac");
	strbuf_addc(&content, '\n');
	frame(&stream, 1, content.buf, content.len);
	log_demux_init(&d, 0, take, &got);
	assert_int_equal(log_demux_feed(&d, stream.buf, stream.len), 0);
	assert_string_equal(
		got.text.buf,
		"0@1000000000 (65535)\n0@1000000000 (65535)\n0@1000000000 (65535)\n0@1000000000 (13395)\n");
	assert_true(d.lines[0].text.cap < 4 * LOG_LINE_MAX);
	log_demux_release(&d);
	strbuf_release(&got.text);
}

static void test_go_time(void **state)
{
	assert_int_equal(go_time_ns("0001-01-01T00:00:00Z"), 0);
	assert_int_equal(go_time_ns(""), 0);
	assert_int_equal(go_time_ns("yesterday"), 0);
	assert_int_equal(go_time_ns("2026-11-23T14:18:35.953530063Z"),
			 INT64_C(1795443515953530063));
	assert_int_equal(go_time_ns("2026-11-23T14:18:35.9Z"), INT64_C(1795443515900000000));
	assert_int_equal(go_time_ns("2026-11-23T15:18:35.000000001+01:00"),
			 INT64_C(1795443515000000001));
}

/* ---- containers
 * ------------------------------------------------------------------------------------ */

static const struct resources some = { .cpu_milli = 1500,
				       .memory_mib = 1024,
				       .disk_mib = 2048 };

static struct json *body_of(const struct runtime *rt, const struct container_spec *spec)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct err err = { 0 };

	if (create_body(rt, spec, &out, &err) < 0)
		fail_msg("%s", err.text);
	return parse(out.buf);
}

static const char *texts_of(const struct json *list)
{
	char *all = arena_strdup(&arena, "");

	for (size_t i = 0; list && i < list->count; i++)
		all = arena_printf(&arena, "%s%s%s", all, i ? " " : "", list->items[i].text);
	return all;
}

static void test_body(void **state)
{
	const struct runtime rt = { .api_minor = 41,
				    .worker_id = "wk_01jdq3k5v8e4r9t0m2n6p7a1bc",
				    .info.swap_limit = true };
	struct text_map env = { (struct text_map_item[]){ { "A", "1" } }, 1 },
			secrets = { (struct text_map_item[]){ { "S", "\"\n" } }, 1 };
	const struct container_spec spec = { .lease = LEASE,
					     .generation = 3,
					     .image = "sha256:" HEX64,
					     .command = TEXTS("sh", "-c"),
					     .env = &env,
					     .secrets = &secrets,
					     .resources = &some,
					     .inputs_dir = "/var/lib/in" };
	const struct json *body = body_of(&rt, &spec), *host = json_find(body, "HostConfig"),
			  *mount;

	assert_string_equal(json_text(body, "Image"), "sha256:" HEX64);
	assert_string_equal(texts_of(json_find(body, "Cmd")), "sh -c");
	assert_string_equal(texts_of(json_find(body, "Env")), "A=1 S=\"\n");
	assert_string_equal(json_text(json_find(body, "Labels"), "ai.tes.lease"), LEASE);
	assert_string_equal(json_text(json_find(body, "Labels"), "ai.tes.generation"), "3");
	assert_string_equal(json_text(json_find(body, "Labels"), "ai.tes.worker"),
			    rt.worker_id);
	assert_true(str_starts(json_text(body, "MacAddress"), "06:54:45:"));
	assert_string_equal(texts_of(json_find(host, "CapDrop")), "ALL");
	assert_string_equal(texts_of(json_find(host, "CapAdd")),
			    "CHOWN DAC_OVERRIDE FOWNER SETGID SETUID KILL NET_BIND_SERVICE");
	assert_string_equal(texts_of(json_find(host, "SecurityOpt")), "no-new-privileges");
	assert_false(json_bool(host, "Privileged"));
	assert_string_equal(json_text(host, "NetworkMode"), "bridge");
	assert_string_equal(json_text(host, "IpcMode"), "private");
	assert_int_equal(json_int(host, "Memory"), 1 << 30);
	assert_int_equal(json_int(host, "MemorySwap"), 1 << 30);
	assert_int_equal(json_int(host, "NanoCpus"), 1500000000);
	assert_int_equal(json_int(host, "PidsLimit"), 4096);
	assert_int_equal(json_int(host, "ShmSize"), 1 << 29);
	assert_string_equal(json_text(json_path(host, "LogConfig", "Config"), "max-size"),
			    "64m");
	assert_string_equal(json_text(json_path(host, "LogConfig", "Config"), "max-file"), "4");
	mount = &json_find(host, "Mounts")->items[0];
	assert_string_equal(json_text(mount, "Source"), "/var/lib/in");
	assert_string_equal(json_text(mount, "Target"), "/in");
	assert_true(json_bool(mount, "ReadOnly"));
	assert_null(json_find(host, "StorageOpt"));
	assert_null(json_find(host, "DeviceRequests"));
	assert_null(json_find(host, "Binds"));
}

static void test_body_variants(void **state)
{
	struct runtime rt = { .api_minor = 44 };
	struct container_spec spec = {
		.lease = LEASE, .image = "x", .resources = &some, .private_routes = true
	};
	const struct json *body = body_of(&rt, &spec), *bridge;

	assert_null(json_find(body, "Cmd"));
	assert_null(json_find(body, "MacAddress"));
	bridge = json_find(json_path(body, "NetworkingConfig", "EndpointsConfig"), "bridge");
	assert_true(str_starts(json_text(bridge, "MacAddress"), "0a:54:45:"));
	assert_null(json_path(body, "HostConfig", "MemorySwap"));

	rt.podman = true;
	rt.info.storage_limit = true;
	body = body_of(&rt, &spec);
	assert_non_null(
		json_find(json_path(body, "NetworkingConfig", "EndpointsConfig"), "podman"));
	assert_string_equal(json_text(json_path(body, "HostConfig", "StorageOpt"), "size"),
			    "2147483648");
	assert_string_equal(json_text(json_path(body, "HostConfig", "LogConfig"), "Type"),
			    "k8s-file");
}

static void test_body_gpus(void **state)
{
	struct runtime rt = { .api_minor = 41 };
	struct container_spec spec = { .lease = LEASE,
				       .image = "x",
				       .resources = &some,
				       .gpu_uuids = TEXTS("GPU-1", "GPU-2") };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	const struct json *request;
	struct err err = { 0 };

	assert_int_equal(create_body(&rt, &spec, &out, &err), -1);
	assert_int_equal(err.code, ERR_UNSUPPORTED);

	rt.info.cdi = true;
	request = &json_path(body_of(&rt, &spec), "HostConfig", "DeviceRequests")->items[0];
	assert_string_equal(json_text(request, "Driver"), "cdi");
	assert_string_equal(texts_of(json_find(request, "DeviceIDs")),
			    "nvidia.com/gpu=GPU-1 nvidia.com/gpu=GPU-2");

	rt.info.nvidia = true;
	request = &json_path(body_of(&rt, &spec), "HostConfig", "DeviceRequests")->items[0];
	assert_string_equal(json_text(request, "Driver"), "nvidia");
	assert_string_equal(texts_of(json_find(request, "DeviceIDs")), "GPU-1 GPU-2");
	assert_string_equal(texts_of(&json_find(request, "Capabilities")->items[0]),
			    "gpu compute utility");

	spec.gpus_simulated = true;
	assert_null(json_path(body_of(&rt, &spec), "HostConfig", "DeviceRequests"));
	assert_string_equal(texts_of(json_find(body_of(&rt, &spec), "Env")),
			    "TES_SIMULATED_GPUS=GPU-1,GPU-2");
}

static void test_status(void **state)
{
	const struct runtime rt = { 0 };
	struct container_status status;

	status_read(
		&rt,
		parse("{\"Id\":\"" HEX64
		      "\",\"Created\":\"2026-11-23T14:18:35.953530063Z\",\"State\":{\"Status\":\"exited\","
		      "\"ExitCode\":137,\"OOMKilled\":true,\"Error\":\"boo\",\"StartedAt\":\"2026-11-23T14:18:36Z\","
		      "\"FinishedAt\":\"2026-11-23T14:18:37Z\"},\"Config\":{\"Labels\":{\"ai.tes.lease\":\"" LEASE
		      "\","
		      "\"ai.tes.generation\":\"4\"}},\"NetworkSettings\":{\"Networks\":{\"bridge\":{\"IPAddress\":\"172.17.0.2\"}}}}"),
		&status);
	assert_string_equal(status.id, HEX64);
	assert_string_equal(status.lease, LEASE);
	assert_int_equal(status.generation, 4);
	assert_int_equal(status.state, CONTAINER_EXITED);
	assert_int_equal(status.exit_code, 137);
	assert_true(status.oom_killed);
	assert_string_equal(status.error, "boo");
	assert_string_equal(status.address, "172.17.0.2");
	assert_int_equal(status.finished_ms - status.started_ms, 1000);
	assert_int_equal(status.created_ms, INT64_C(1795443515953));
	/* What is missing is neutral. */
	status_read(&rt, parse("{\"State\":{\"Status\":\"running\"}}"), &status);
	assert_int_equal(status.state, CONTAINER_RUNNING);
	assert_int_equal(status.generation, 0);
	status_read(&rt, parse("[]"), &status);
	assert_int_equal(status.state, CONTAINER_EXITED);
}

static void test_info(void **state)
{
	const struct runtime rt = { .socket = "/x.sock" };
	struct runtime_info info = { 0 };
	struct err err = { 0 };

	assert_int_equal(
		info_parse(
			&rt,
			parse("{\"KernelVersion\":\"6.1\",\"DockerRootDir\":\"/var/lib/docker\",\"MemoryLimit\":true,"
			      "\"SecurityOptions\":[\"name=apparmor\",\"name=seccomp,profile=default\"]}"),
			"6.1", &info, &err),
		0);
	assert_true(info.seccomp && info.memory_limit);
	assert_false(info.pids_limit || info.cpu_limit || info.swap_limit || info.nvidia ||
		     info.cdi);
	assert_string_equal(info.root_dir, "/var/lib/docker");
	assert_int_equal(info_parse(&rt, parse("{\"KernelVersion\":\"5.15-desktop\"}"), "6.1",
				    &info, &err),
			 -1);
	assert_int_equal(err.code, ERR_UNSUPPORTED);
	assert_int_equal(info_parse(&rt, parse("{\"KernelVersion\":\"6.1\",\"Rootless\":true}"),
				    "6.1", &info, &err),
			 -1);
	assert_int_equal(err.code, ERR_UNSUPPORTED);
	assert_int_equal(
		info_parse(
			&rt,
			parse("{\"KernelVersion\":\"6.1\",\"SecurityOptions\":[\"name=rootless\"]}"),
			"6.1", &info, &err),
		-1);
	assert_int_equal(
		info_parse(
			&rt,
			parse("{\"KernelVersion\":\"6.1\",\"SecurityOptions\":[\"name=seccomp,profile=unconfined\"]}"),
			"6.1", &info, &err),
		0);
	assert_false(info.seccomp);
}

static void test_container_name(void **state)
{
	char name[CONTAINER_NAME_SIZE];
	struct err err = { 0 };

	assert_int_equal(container_name(LEASE, name, &err), 0);
	assert_string_equal(name, "tes-" LEASE);
	assert_int_equal(container_name("le_../../../../etc/passwd/../x", name, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_int_equal(container_name("wk_01jdq3k5v8e4r9t0m2n6p7a1bc", name, &err), -1);
}

static void test_tree_bytes(void **state)
{
	char dir[] = "/tmp/tes-tree.XXXXXX", path[96];
	char block[65536] = { 1 };
	struct err err = { 0 };
	int64_t bytes = 0, more = 0;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(tree_bytes(dir, &bytes, &err), 0);
	assert_true(bytes < 8192);
	snprintf(path, sizeof(path), "%s/a", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/a/file", dir);
	assert_int_equal(file_write_atomic(path, block, sizeof(block), 0600, &err), 0);
	snprintf(path, sizeof(path), "%s/a/link", dir);
	assert_int_equal(symlink("/", path), 0);
	assert_int_equal(tree_bytes(dir, &bytes, &err), 0);
	assert_true(bytes >= (int64_t)sizeof(block) && bytes < 1 << 20);
	/* A sparse file takes no room. */
	snprintf(path, sizeof(path), "%s/sparse", dir);
	assert_int_equal(file_write_atomic(path, "", 0, 0600, &err), 0);
	assert_int_equal(truncate(path, 1 << 30), 0);
	assert_int_equal(tree_bytes(dir, &more, &err), 0);
	assert_true(more < bytes + 65536);
	assert_int_equal(dir_remove(dir, &err), 0);
	assert_int_equal(tree_bytes(dir, &bytes, &err), -1);
}

static void test_tree_depth(void **state)
{
	char dir[] = "/tmp/tes-tree.XXXXXX";
	char cwd[4096];
	struct err err = { 0 };
	int64_t bytes;

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	for (int i = 0; i < 600; i++)
		assert_true(mkdir("d", 0700) == 0 && chdir("d") == 0);
	assert_int_equal(chdir(cwd), 0);
	assert_int_equal(tree_bytes(dir, &bytes, &err), -1);
	assert_int_equal(err.code, ERR_TOO_LARGE);
	assert_int_equal(dir_remove(dir, &err), 0);
}

static void test_image_is_listed(void **state)
{
	static const struct {
		const char *patterns, *image;
		bool listed;
	} cases[] = {
		{ NULL, "a:1", false },
		{ "", "a:1", false },
		{ " , ,", "a:1", false },
		{ "a", "a", true },
		{ "a", "a:1", true },
		{ "a", "ab:1", false },
		{ "a:1", "a:1", true },
		{ "a:1", "a:2", false },
		{ "a:1", "a", false },
		{ "x, a:*", "a:2", true },
		{ "lab/*", "lab/deep/x:1", true },
		{ "lab/*", "other/lab/x:1", false },
		{ "*", "r.example:5000/x/y@sha256:00", true },
		{ "r.example:5000/x", "r.example:5000/x", true },
		{ "r.example:5000/x", "r.example:5000/x@sha256:00", true },
		{ "busybox", "docker.io/library/busybox:1", true },
		{ "docker.io/library/busybox:1", "busybox:1", true },
		{ "tes/x:1", "localhost/tes/x:1", true },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (image_is_listed(cases[i].patterns, cases[i].image) != cases[i].listed)
			fail_msg("'%s' and '%s'", cases[i].patterns ? cases[i].patterns : "-",
				 cases[i].image);
}

static void test_command_fault(void **state)
{
	static const struct {
		const char *words;
		int fault;
	} cases[] = {
		{ "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \"nope\": executable file not found in $PATH: unknown",
		  ENOENT },
		{ "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/no/such/program\": stat /no/such/program: no such file or directory: unknown",
		  ENOENT },
		{ "unable to start container process: exec: \"/a/very/long/na", ENOENT },
		{ "unable to start container process: exec: \"/etc/passwd\": permission denied: unknown",
		  EACCES },
		{ "unable to start container process: exec: \"/tmp\": is a directory: unknown",
		  EACCES },
		{ "starting container process caused \"exec: \\\"x\\\": executable file not found\"",
		  ENOENT },
		{ "crun: executable file `nope` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found",
		  ENOENT },
		{ "crun: open executable: Permission denied: OCI permission denied", EACCES },
		/* The machine's own. */
		{ "OCI runtime create failed: unable to retrieve OCI runtime error (open /run/x/log.json: no such file or directory): exec: \"runc\": executable file not found in $PATH: unknown",
		  0 },
		{ "unable to start container process: error during container init: error running hook #0: error running hook: exec: \"nvidia-container-toolkit\": executable file not found in $PATH",
		  0 },
		{ "unable to start container process: error during container init: error mounting \"/x\" to rootfs at \"/in\": stat /x: no such file or directory: unknown",
		  0 },
		{ "starting the container: the container engine does not answer", 0 },
		{ "", 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (command_fault(cases[i].words) != cases[i].fault)
			fail_msg("%zu: %d for %s", i, command_fault(cases[i].words), cases[i].words);
}

static void test_registry_is_listed(void **state)
{
	static const struct {
		const char *list, *domain;
		bool listed;
	} cases[] = {
		{ NULL, "nas.lan", false },
		{ "", "nas.lan", false },
		{ " , ", "nas.lan", false },
		{ "nas.lan", "nas.lan", true },
		{ "other, NAS.lan", "nas.LAN:5000", true },
		{ "nas.lan:5000", "nas.lan:5000", true },
		{ "nas.lan:5000", "nas.lan", false },
		{ "nas.lan:5000", "nas.lan:5001", false },
		{ "nas.lan", "nas.lan.example", false },
		{ "nas.lan", "my.nas.lan", false },
		{ "[fd00::5]", "[fd00::5]:5000", true },
		{ "[fd00::5]:5000", "[fd00::5]:5000", true },
		{ "[fd00::5]:5000", "[fd00::5]", false },
		{ "[fd00::5]", "[fd00::6]:5000", false },
		{ "*", "127.0.0.1:1", true },
		{ "*.lan", "nas.lan", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (registry_is_listed(cases[i].list, slice_of(cases[i].domain)) != cases[i].listed)
			fail_msg("%zu: '%s' and %s", i, cases[i].list, cases[i].domain);
}

/* An address of this machine that is on no list of ranges, if it has one. */
static void own_address(char ret[static INET6_ADDRSTRLEN + 2])
{
	struct ifaddrs *list = NULL;

	snprintf(ret, INET6_ADDRSTRLEN + 2, "127.0.0.1");
	assert_int_equal(getifaddrs(&list), 0);
	for (const struct ifaddrs *i = list; i; i = i->ifa_next)
		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET)
			getnameinfo(i->ifa_addr, sizeof(struct sockaddr_in), ret, INET6_ADDRSTRLEN,
				    NULL, 0, NI_NUMERICHOST);
	freeifaddrs(list);
}

static void test_registry_check(void **state)
{
	static const char *const closed[] = {
		"localhost", "localhost:5000", "127.0.0.1:5000", "127.1:80", "192.168.1.5:5000",
		"10.0.0.1", "172.17.0.1:2375", "100.64.0.1", "169.254.169.254", "0.0.0.0:80",
		"[::1]:5000", "[fd00::5]", "[fe80::1]:80", "[::ffff:7f00:1]:80",
		"[64:ff9b::c0a8:105]:5000", "2130706433:80",
	};
	static const char *const open[] = { "", "docker.io", "1.1.1.1", "1.1.1.1:5000",
					    "[2606:4700:4700::1111]:443" };
	char own[INET6_ADDRSTRLEN + 2];
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(closed); i++) {
		struct slice domain = slice_of(closed[i]);

		err_clear(&err);
		if (registry_check(domain, "nas.lan", &err) == 0)
			fail_msg("%s may be asked", closed[i]);
		assert_string_equal(err_code_name(err.code), err_code_name(ERR_UNSUPPORTED));
		assert_non_null(strstr(err.text, "private_registries"));
		err_clear(&err);
		assert_int_equal(registry_check(domain, closed[i], &err), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(open); i++)
		if (registry_check(slice_of(open[i]), NULL, &err) < 0)
			fail_msg("%s: %s", open[i], err.text);
	own_address(own);
	assert_int_equal(registry_check(slice_of(own), NULL, &err), -1);
	err_clear(&err);
	/* RFC 2606: there is none, and there will be none. */
	assert_int_equal(registry_check(SLICE("registry.invalid:5000"), NULL, &err), -1);
	assert_string_equal(err_code_name(err.code), err_code_name(ERR_UNAVAILABLE));
}

static void *answer_one(void *arg)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
	const int *listener = arg;
	char request[1024];
	int fd;

	/* The first is only looked at. */
	for (int i = 0; i < 2; i++) {
		fd = accept(*listener, NULL, NULL);
		if (read(fd, request, sizeof(request)) > 0 && write(fd, answer, sizeof(answer) - 1) < 0)
			abort();
		close(fd);
	}
	return NULL;
}

/* An engine that hangs, or whose socket somebody else keeps, neither passes for one that is there nor
 * for one that has gone; and it does not hold us up. */
static void test_presence(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/tes-runtime-XXXXXX";
	struct runtime rt = { 0 };
	struct rlimit files, none;
	enum runtime_presence short_of_files;
	pthread_t thread;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), waiting[8];
	size_t n = 0;

	assert_non_null(mkdtemp(dir));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", dir);
	snprintf(rt.socket, sizeof(rt.socket), "%s", address.sun_path);
	assert_int_equal(runtime_presence(&rt), RUNTIME_GONE);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(runtime_presence(&rt), RUNTIME_GONE);
	assert_int_equal(listen(listener, 4), 0);
	assert_int_equal(pthread_create(&thread, NULL, answer_one, &listener), 0);
	assert_int_equal(runtime_presence(&rt), RUNTIME_THERE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(runtime_presence(&rt), RUNTIME_SILENT);
	do {
		assert_true(n < ARRAY_LEN(waiting));
		waiting[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	} while (connect(waiting[n++], (struct sockaddr *)&address, sizeof(address)) == 0);
	assert_int_equal(errno, EAGAIN);
	alarm(10);
	assert_int_equal(runtime_presence(&rt), RUNTIME_SILENT);
	alarm(0);
	while (n)
		close(waiting[--n]);
	close(listener);
	assert_int_equal(runtime_presence(&rt), RUNTIME_GONE);
	/* We are short of descriptors: that says nothing of the engine. */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	none = (struct rlimit){ 0, files.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	short_of_files = runtime_presence(&rt);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	assert_int_equal(short_of_files, RUNTIME_SILENT);
	unlink(address.sun_path);
	rmdir(dir);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_image_is_listed),
		cmocka_unit_test(test_command_fault),
		cmocka_unit_test(test_registry_is_listed),
		cmocka_unit_test(test_registry_check),
		cmocka_unit_test(test_presence),
		TEST(test_image_want),	  TEST(test_image_digest),   TEST(test_pull_progress),
		TEST(test_pull_error),	  TEST(test_demux),	     TEST(test_demux_since),
		TEST(test_demux_long),	  TEST(test_go_time),	     TEST(test_body),
		TEST(test_body_variants), TEST(test_body_gpus),	     TEST(test_status),
		TEST(test_info),	  TEST(test_container_name), TEST(test_tree_bytes),
		TEST(test_tree_depth),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
