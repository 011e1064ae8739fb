/* Pulls from a registry of our own on loopback (Debian's docker-registry) into a real
 * engine: TES_TEST_ENGINE is its socket.  Skips where one of the two is missing, or the
 * engine refuses a registry without TLS (Podman does unless its registries.conf says
 * otherwise). */
#include "../../../os/os.h"
#include "../internal.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define REGISTRY    "/usr/bin/docker-registry"
#define LAYER_BYTES (12 << 20)

static struct runtime *rt;
static char dir[] = "/tmp/tes-registry.XXXXXX", name[64], image[80], worker[ID_SIZE];
static int port;
static pid_t registry = -1;
static const struct registry_login login = { "tes", "secret" },
				   wrong_login = { "tes", "wrong" };

#define fails(expected, call)                                                          \
	do {                                                                           \
		err_clear(&err);                                                       \
		assert_int_equal((call), -1);                                          \
		print_message("# %s\n", err.text);                                     \
		assert_string_equal(err_code_name(err.code), err_code_name(expected)); \
	} while (0)

static int free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&address, len) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return -1;
	return ntohs(address.sin_port);
}

static void registry_stop(void)
{
	if (registry > 0) {
		kill(registry, SIGKILL);
		waitpid(registry, NULL, 0);
	}
	registry = -1;
}

static int registry_start(void)
{
	/* "secret", as htpasswd -B writes it. */
	static const char users[] =
		"tes:$2y$05$r/08KUkxL/90cKqxnle9FeGdta/2tfaYP.YP/oWLuDqlbEYTE7Lw.\n";
	char config[640], path[96], url[64];
	struct http_client *client;
	struct http_result res = { 0 };
	int rc = -1;

	snprintf(path, sizeof(path), "%s/htpasswd", dir);
	if (file_write_atomic(path, users, strlen(users), 0600, NULL) < 0)
		return -1;
	snprintf(
		config, sizeof(config),
		"version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\n"
		"http: {addr: '127.0.0.1:%d'}\nauth: {htpasswd: {realm: test, path: %s}}\n",
		dir, port, path);
	snprintf(path, sizeof(path), "%s/config.yml", dir);
	if (file_write_atomic(path, config, strlen(config), 0600, NULL) < 0)
		return -1;
	registry = fork();
	if (registry == 0) {
		int fd = open("/dev/null", O_RDWR);

		dup2(fd, 1);
		dup2(fd, 2);
		execl(REGISTRY, REGISTRY, "serve", path, (char *)NULL);
		_exit(127);
	}
	client = http_client_new();
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/v2/", port);
	for (int i = 0; i < 100 && rc < 0; i++) {
		struct http_call call = { .url = url, .timeout_ms = 1000 };

		rc = http_call(client, &call, &res, NULL);
		if (rc < 0)
			usleep(100000);
		else
			http_result_release(&res);
	}
	http_client_free(client);
	return rc;
}

/* ---- an image that nobody has
 * ---------------------------------------------------------------------- */

static int tar_make(const char *path)
{
	cleanup_fd int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	cleanup_free char *content = xmalloc(LAYER_BYTES);
	char head[512] = "blob";
	unsigned sum = 0;

	snprintf(head + 100, 8, "0000644");
	snprintf(head + 124, 12, "%011o", LAYER_BYTES);
	snprintf(head + 136, 12, "00000000000");
	head[156] = '0';
	memcpy(head + 257, "ustar\00000", 8);
	memset(head + 148, ' ', 8);
	for (size_t i = 0; i < sizeof(head); i++)
		sum += (unsigned char)head[i];
	snprintf(head + 148, 8, "%06o", sum);
	random_system.fill(NULL, content, LAYER_BYTES);
	if (write_all(fd, head, sizeof(head), NULL) < 0 ||
	    write_all(fd, content, LAYER_BYTES, NULL) < 0)
		return -1;
	memset(content, 0, 1024);
	return write_all(fd, content, 1024, NULL);
}

static int engine(enum http_method method, const char *path, const char *auth, int body_fd,
		  int64_t body_size)
{
	struct http_header_item headers[] = { { "Content-Type", "application/x-tar" },
					      { "X-Registry-Auth", auth } };
	struct http_client *client = http_client_new();
	cleanup_strbuf struct strbuf url = STRBUF_INIT;
	struct http_call call = { .method = method,
				  .unix_socket = rt->socket,
				  .headers = headers,
				  .header_count = auth ? 2 : 1,
				  .body_fd = body_fd,
				  .body_fd_size = body_size,
				  .timeout_ms = 60000 };
	struct http_result res = { 0 };
	struct err err = { 0 };
	int rc;

	strbuf_addf(&url, "http://engine%s%s", rt->prefix, path);
	call.url = url.buf;
	rc = http_call(client, &call, &res, &err);
	if (rc == 0 && (res.status >= 400 || strstr(res.body.buf, "\"error\""))) {
		print_message("# %s: %.300s\n", path, res.body.buf);
		rc = -1;
	}
	http_result_release(&res);
	http_client_free(client);
	return rc;
}

static int image_make(void)
{
	/* {"username":"tes","password":"secret"} */
	static const char auth[] = "eyJ1c2VybmFtZSI6InRlcyIsInBhc3N3b3JkIjoic2VjcmV0In0=";
	char path[256], tar[64];
	struct stat st;
	cleanup_fd int fd = -1;

	snprintf(tar, sizeof(tar), "%s/image.tar", dir);
	if (tar_make(tar) < 0 || stat(tar, &st) < 0)
		return -1;
	fd = open(tar, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/images/create?fromSrc=-&repo=%s:1", name);
	if (engine(HTTP_POST, path, NULL, fd, st.st_size) < 0)
		return -1;
	snprintf(path, sizeof(path), "/images/%s/push?tag=1&tlsVerify=false", name);
	if (engine(HTTP_POST, path, auth, 0, 0) < 0)
		return -1;
	snprintf(path, sizeof(path), "/images/%s:1?force=1", name);
	return engine(HTTP_DELETE, path, NULL, 0, 0);
}

/* Why the tests cannot run here; NULL if they can. */
static const char *prepare(void)
{
	const char *socket = getenv("TES_TEST_ENGINE");
	struct err err = { 0 };

	crypto_init();
	id_make("wk", clock_now(&clock_system), &random_system, worker);
	if (!socket)
		return "TES_TEST_ENGINE names no engine's socket";
	if (access(REGISTRY, X_OK) != 0)
		return "there is no " REGISTRY;
	if (!mkdtemp(dir) || runtime_docker_open(socket, worker, &rt, &err) < 0)
		return "the engine does not answer";
	port = free_port();
	snprintf(name, sizeof(name), "127.0.0.1:%d/tes-test/blob", port);
	snprintf(image, sizeof(image), "%s:1", name);
	if (registry_start() < 0)
		return "the registry does not start";
	return image_make() < 0 ? "the engine takes no registry without TLS" : NULL;
}

static int group_teardown(void **state)
{
	registry_stop();
	runtime_close(rt);
	return dir_remove(dir, NULL);
}

/* ---- tests, in order
 * ------------------------------------------------------------------------------- */

struct progress {
	int calls;
	int64_t done, total, peak;
	char phases[256];
};

static void on_progress(void *arg, const char *phase, int64_t done, int64_t total)
{
	struct progress *p = arg;

	assert_true(done >= 0 && done <= total);
	p->calls++;
	p->done = done;
	p->total = total;
	p->peak = MAX(p->peak, total);
	if (!strstr(p->phases, phase))
		strncat(p->phases, phase, sizeof(p->phases) - strlen(p->phases) - 1);
}

static int image_of(const char *image_name, const struct registry_login *as, const char *known,
		    struct image_got *ret, struct err *err)
{
	struct image_request req = { .image = image_name,
				     .login = as,
				     .private_registries = "127.0.0.1",
				     .known = known };

	return runtime_image(rt, &req, ret, err);
}

static void test_refused(void **state)
{
	struct image_got got = { 0 };
	char other[96];
	struct err err = { 0 };

	fails(ERR_UNAUTHENTICATED, image_of(image, NULL, NULL, &got, &err));
	fails(ERR_UNAUTHENTICATED, image_of(image, &wrong_login, NULL, &got, &err));
	snprintf(other, sizeof(other), "%s:none", name);
	fails(ERR_NOT_FOUND, image_of(other, &login, NULL, &got, &err));
	snprintf(other, sizeof(other), "%s-none:1", name);
	fails(ERR_NOT_FOUND, image_of(other, &login, NULL, &got, &err));
	assert_string_equal(got.image, "");
	assert_string_equal(got.digest, "");
}

/* Nobody listed it: nothing is asked, whatever is here. */
static void test_on_the_own_network(void **state)
{
	struct image_request req = { .image = image, .login = &login };
	struct image_got got = { 0 };
	struct err err = { 0 };

	fails(ERR_UNSUPPORTED, runtime_image(rt, &req, &got, &err));
	assert_non_null(strstr(err.text, "private_registries"));
	assert_null(strstr(err.text, "is here"));
	assert_string_equal(got.image, "");
}

static void test_cancelled(void **state)
{
	volatile int cancel = 1;
	struct image_request req = { .image = image,
				     .login = &login,
				     .private_registries = "127.0.0.1",
				     .cancel = &cancel };
	struct image_got got;
	struct err err = { 0 };

	fails(ERR_TIMEOUT, runtime_image(rt, &req, &got, &err));
}

static struct image_got first;

static void test_pull(void **state)
{
	struct progress p = { 0 };
	struct image_request req = {
		.image = image,
		.login = &login,
		.private_registries = "127.0.0.1",
		.progress = on_progress,
		.arg = &p,
	};
	struct err err = { 0 };

	if (runtime_image(rt, &req, &first, &err) < 0)
		fail_msg("%s", err.text);
	print_message("# %s %s: %d calls, %" PRId64 " of %" PRId64 " bytes, %s\n", first.image,
		      first.digest, p.calls, p.done, p.total, p.phases);
	assert_true(first.pulled);
	assert_true(str_starts(first.image, "sha256:"));
	assert_true(str_starts(first.digest, name));
	assert_non_null(strstr(first.digest, "@sha256:"));
	/* Podman only tells how far it is once a second. */
	if (p.calls > 0 || !rt->podman) {
		assert_int_equal(p.done, p.total);
		assert_true(p.peak >= LAYER_BYTES && p.peak < LAYER_BYTES + (1 << 20));
	}
}

/* That somebody was given it makes it nobody else's. */
static void test_here_is_not_yours(void **state)
{
	struct image_got got;
	struct err err = { 0 };

	fails(ERR_FORBIDDEN, image_of(image, NULL, NULL, &got, &err));
	fails(ERR_FORBIDDEN, image_of(image, &wrong_login, NULL, &got, &err));
	fails(ERR_FORBIDDEN, image_of(first.digest, NULL, NULL, &got, &err));
	fails(ERR_FORBIDDEN, image_of(first.image, NULL, NULL, &got, &err));
	/* A tag is asked for again, whatever is here. */
	if (image_of(image, &login, first.image, &got, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(got.pulled);
	assert_string_equal(got.image, first.image);
	/* A digest that was given before need not be. */
	if (image_of(first.digest, &login, first.image, &got, &err) < 0)
		fail_msg("%s", err.text);
	assert_false(got.pulled);
	assert_string_equal(got.digest, first.digest);
}

/* The owner's own image of a public name does not stand in for it. */
static void test_own_image_of_the_same_name(void **state)
{
	char path[384];
	struct image_request req = { .image = image, .login = &login, .allow_local = name };
	struct image_got got;
	struct err err = { 0 };

	snprintf(path, sizeof(path), "/images/%s/tag?repo=%s&tag=1", "tes-test/busybox:1", name);
	assert_int_equal(engine(HTTP_POST, path, NULL, 0, 0), 0);
	if (runtime_image(rt, &req, &got, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_not_equal(got.image, first.image); /* listed: as it is */
	if (image_of(image, &login, NULL, &got, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(got.image, first.image);
}

static void test_registry_gone(void **state)
{
	struct image_got got;
	char other[96];
	struct err err = { 0 };

	registry_stop();
	snprintf(other, sizeof(other), "%s:2", name);
	fails(ERR_UNAVAILABLE, image_of(other, &login, NULL, &got, &err));
	/* What it gave before is used meanwhile. */
	for (const char **by = (const char *[]){ image, first.digest, NULL }; *by; by++) {
		if (image_of(*by, &login, first.image, &got, &err) < 0)
			fail_msg("%s: %s", *by, err.text);
		assert_false(got.pulled);
		assert_string_equal(got.image, first.image);
		assert_string_equal(got.digest, first.digest);
	}
	fails(ERR_FORBIDDEN, image_of(image, NULL, NULL, &got, &err));
}

static void test_pull_by_digest(void **state)
{
	struct image_got got;
	char path[384];
	struct err err = { 0 };

	snprintf(path, sizeof(path), "/images/%s:1?force=1", name);
	assert_int_equal(engine(HTTP_DELETE, path, NULL, 0, 0), 0);
	assert_int_equal(registry_start(), 0);
	/* Known from before, but gone since. */
	if (image_of(first.digest, &login, first.image, &got, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(got.pulled);
	assert_string_equal(got.digest, first.digest);
	snprintf(path, sizeof(path), "/images/%s?force=1", got.image);
	engine(HTTP_DELETE, path, NULL, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),	       cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_on_the_own_network),
		cmocka_unit_test(test_pull),	       cmocka_unit_test(test_here_is_not_yours),
		cmocka_unit_test(test_on_the_own_network),
		cmocka_unit_test(test_own_image_of_the_same_name),
		cmocka_unit_test(test_registry_gone),  cmocka_unit_test(test_pull_by_digest),
	};

	const char *missing = prepare();

	if (missing) {
		printf("1..0 # SKIP %s\n", missing);
		return group_teardown(NULL);
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, group_teardown);
}
