#include "fake.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define WL   "wl_01m84fa0f3fnarwttn33yg8adz"
#define SPEC "\"spec\":{\"image\":\"debian:12\",\"resources\":{}}"
#define WORKLOAD(state, exit)                                                               \
	"{\"id\":\"" WL                                                                     \
	"\",\"org_id\":\"or_01m84fa0f3fnarwttn33yg8adz\",\"name\":\"j\",\"state\":\"" state \
	"\",\"exit_code\":" exit ",\"max_price_uusd_h\":500000," SPEC "}"

#define START(steps) fake_start(steps, ARRAY_LEN(steps))

static void test_submit(void **state)
{
	static const struct step steps[] = {
		{ { "POST /v1/workloads HTTP/1.1", "Authorization: Bearer tes_test",
		    "Idempotency-Key: ik_",
		    "\"image\":\"debian:12\",\"command\":[\"sh\",\"-c\",\"echo hi\"],\"env\":{\"A\":\"1\"},\"secrets\":{\"S\":\"x\"}" },
		  JSON_HEAD("201 Created") WORKLOAD("pending", "-1") },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "run", "--image", "debian:12", "--env", "A=1", "--secret", "S=x", "--", "sh",
	    "-c", "echo hi");
	assert_int_equal(o.status, 0);
	assert_string_equal(o.out.buf, WL "\n");
	assert_string_equal(o.errout.buf, "");
	outcome_release(&o);
	fake_stop(f);
}

/* The answer was lost: the same key goes again, and makes no second workload. */
static void test_submit_again(void **state)
{
	static const struct step steps[] = {
		{ { "POST /v1/workloads", "Idempotency-Key: ik_" }, "" },
		{ { "POST /v1/workloads", "Idempotency-Key: ik_" },
		  JSON_HEAD(
			  "503 Service Unavailable") "{\"code\":\"unavailable\",\"detail\":\"busy\"}" },
		{ { "POST /v1/workloads", "Idempotency-Key: ik_" },
		  JSON_HEAD("201 Created") WORKLOAD("pending", "-1") },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "run", "--image", "debian:12", "--json");
	assert_int_equal(o.status, 0);
	assert_string_equal(o.out.buf, WORKLOAD("pending", "-1") "\n");
	outcome_release(&o);
	fake_stop(f);
}

static void test_problem(void **state)
{
	static const struct step steps[] = {
		{ { "POST /v1/workloads" },
		  JSON_HEAD(
			  "422 Unprocessable") "{\"code\":\"invalid\",\"detail\":\"too many\\u001b[31m\",\"field\":\"resources.gpus\"}" },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "run", "--image", "debian:12", "--gpus", "3");
	assert_int_equal(o.status, 1);
	assert_string_equal(o.out.buf, "");
	expect_text(o.errout.buf, "tes: --gpus: too many");
	assert_null(strchr(o.errout.buf, '\x1b'));
	outcome_release(&o);
	fake_stop(f);
}

static void test_usage(void **state)
{
	struct outcome o;

	TES(NULL, &o, "run", "--image", "debian:12", "--gpus", "many");
	assert_int_equal(o.status, 2);
	expect_text(o.errout.buf, "--gpus: ");
	outcome_release(&o);
	TES(NULL, &o, "lss");
	assert_int_equal(o.status, 2);
	expect_text(o.errout.buf, "did you mean `tes ls`?");
	outcome_release(&o);
	TES(NULL, &o, "run");
	assert_int_equal(o.status, 2);
	expect_text(o.errout.buf, "--image: is required");
	outcome_release(&o);
	TES(NULL, &o, "logs", "--help");
	assert_int_equal(o.status, 0);
	expect_text(o.out.buf, "--since TIME");
	outcome_release(&o);
}

/* What is wrong is told by the flag, in the words in which it was given. */
static void test_usage_words(void **state)
{
	static const struct {
		const char *flag, *value, *said;
	} cases[] = {
		{ "--memory", "1KiB", "--memory: 1KiB is less than 16 MiB, the least allowed" },
		{ "--cpus", "0", "--cpus: 0 is less than 0.01, the least allowed" },
		{ "--gpus", "-1", "--gpus: -1 is less than 0, the least allowed" },
		{ "--gpus", "many", "give one from 0 to 64" },
		{ "--min-reliability", "101%", "101% is more than 100%, the most allowed" },
		{ "--env", "1A=3", "tes: --env: '1A' is not the name of a variable" },
		{ "--quote", "qt_01", "tes: --quote: \"qt_01\" is not a full id" },
	};
	struct outcome o;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		TES(NULL, &o, "run", "--image", "debian:12", cases[i].flag, cases[i].value);
		assert_int_not_equal(o.status, 0);
		expect_text(o.errout.buf, cases[i].said);
		outcome_release(&o);
	}
	TES(NULL, &o, "--json", "ls");
	assert_int_equal(o.status, 2);
	expect_text(o.errout.buf, "flags stand after the command: tes COMMAND --json");
	outcome_release(&o);
}

#define ULID "01m84fa0f3fnarwttn33yg8adz"
#define OFFER(id) "{\"id\":\"of_" id "\",\"worker_id\":\"wk_" id "\",\"price_uusd_h\":1}"
#define OFFERS "{\"items\":[" OFFER(ULID) "," OFFER("01m84fa0f3fnarwttn33yg8adx") "],\"total\":2}"

/* Tables show the beginnings of ids; what they show can be given back. */
static void test_beginnings(void **state)
{
	static const struct step steps[] = {
		{ { "GET /v1/offers?" }, JSON_HEAD("200 OK") OFFERS },
		{ { "POST /v1/quotes", "\"offer\":\"of_" ULID "\"" },
		  JSON_HEAD("201 Created") "{\"id\":\"qt_" ULID "\",\"org_id\":\"or_" ULID
					   "\",\"worker_id\":\"wk_" ULID "\",\"resources\":{}}" },
		{ { "GET /v1/offers?" }, JSON_HEAD("200 OK") OFFERS },
		{ { "GET /v1/offers?" }, JSON_HEAD("200 OK") OFFERS },
		{ { "GET /v1/workloads/wl_01m8 HTTP" }, JSON_HEAD("200 OK") WORKLOAD("failed", "7") },
		{ { "GET /v1/events?", "subject=" WL }, JSON_HEAD("200 OK") "{\"items\":[],\"next\":0}" },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "quote", "--offer", "of_01m84fa0f3fnarwttn33yg8adz", "--json");
	assert_int_equal(o.status, 0);
	outcome_release(&o);
	TES(f, &o, "quote", "--offer", "of_01m84");
	assert_int_equal(o.status, 1);
	expect_text(o.errout.buf, "--offer: \"of_01m84\" stands for 2 offers: give more of the id");
	outcome_release(&o);
	TES(f, &o, "quote", "--offer", "of_02");
	assert_int_equal(o.status, 1);
	expect_text(o.errout.buf, "--offer: there is no offer \"of_02\": `tes offers` lists them");
	outcome_release(&o);
	TES(f, &o, "events", "--subject", "wl_01m8");
	assert_int_equal(o.status, 0);
	outcome_release(&o);
	fake_stop(f);
}

#define EVENT(id, name, data) "id: " id "\nevent: " name "\ndata: " data "\n\n"
#define STATE_PREPARING(done)                                                                                                             \
	"{\"state\":\"preparing\",\"reason\":\"accepted\",\"reason_text\":\"x\",\"exit_code\":-1,\"lease\":\"le_1\",\"worker\":\"wk_1\"," \
	"\"region\":\"eu-1\",\"rate_uusd_h\":120000,\"phase\":\"pulling image\",\"progress_done\":" done                                  \
	",\"progress_total\":100}"

/* The stream breaks in the middle of an event; nothing is lost and nothing shown twice. */
static void test_wait(void **state)
{
	static const struct step steps[] = {
		{ { "POST /v1/workloads" },
		  JSON_HEAD("201 Created") WORKLOAD("pending", "-1") },
		{ { "GET /v1/workloads/" WL "/logs?follow=true", "Accept: text/event-stream" },
		  STREAM_HEAD EVENT(
			  "0.0", "state",
			  "{\"state\":\"pending\",\"reason\":\"submitted\",\"reason_text\":\"waiting\",\"exit_code\":-1}")
			  EVENT("1.0", "state", STATE_PREPARING("10")) EVENT(
				  "1.0", "state",
				  STATE_PREPARING(
					  "20")) EVENT("1.0", "state",
						       "{\"state\":\"running\",\"reason\":\"ready\",\"exit_code\":-1,\"lease\":\"le_1\",\"worker\":\"wk_1\",\"rate_uusd_h\":120000}")
				  EVENT("1.90", "log",
					"{\"seq\":1,\"at_ms\":5,\"stream\":\"stdout\",\"text\":\"one\\n\"}") "id: 1.180\nevent: log\ndata: {\"seq\":2," },
		{ { "GET /v1/workloads/" WL "/logs?follow=true", "Last-Event-ID: 1.90" }, "" },
		{ { "Last-Event-ID: 1.90" },
		  JSON_HEAD("503 Busy") "{\"code\":\"unavailable\",\"detail\":\"busy\"}" },
		{ { "Last-Event-ID: 1.90" },
		  STREAM_HEAD EVENT(
			  "1.180", "log",
			  "{\"seq\":2,\"at_ms\":6,\"stream\":\"stdout\",\"text\":\"two\\n\"}")
			  EVENT("1.270", "log",
				"{\"seq\":3,\"at_ms\":7,\"stream\":\"stderr\",\"text\":\"three\"}")
				  EVENT("", "end", "{}") },
		{ { "GET /v1/workloads/" WL " HTTP" },
		  JSON_HEAD("200 OK") WORKLOAD("failed", "7") },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "run", "--image", "debian:12", "--wait");
	assert_int_equal(o.status, 7);
	assert_string_equal(o.out.buf, "one\ntwo\n");
	expect_text(o.errout.buf,
		    "pending: waiting\nplaced on wk_1 in eu-1 at $0.12/h\npulling image: ");
	expect_text(o.errout.buf, "\nrunning\n");
	expect_text(o.errout.buf, "three");
	expect_text(o.errout.buf, "failed, exit status 7");
	outcome_release(&o);
	fake_stop(f);
}

#define STATE_OF(lease)                                                                       \
	"{\"state\":\"preparing\",\"exit_code\":-1,\"lease\":\"" lease "\",\"worker\":\"wk_" lease \
	"\",\"rate_uusd_h\":120000}"

/* What still comes of an attempt that is over does not look like a new one. */
static void test_wait_for_another_attempt(void **state)
{
	static const struct step steps[] = {
		{ { "POST /v1/workloads" },
		  JSON_HEAD("201 Created") WORKLOAD("pending", "-1") },
		{ { "/logs?follow=true" },
		  STREAM_HEAD EVENT("1", "state", STATE_OF("1")) EVENT(
			  "2", "state",
			  "{\"state\":\"pending\",\"reason_text\":\"no image\",\"exit_code\":-1}")
			  EVENT("3", "state", STATE_OF("1")) EVENT("4", "state", STATE_OF("2"))
				  EVENT("", "end", "{}") },
		{ { "GET /v1/workloads/" WL " HTTP" },
		  JSON_HEAD("200 OK") WORKLOAD("succeeded", "0") },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "run", "--image", "debian:12", "--wait");
	assert_int_equal(o.status, 0);
	expect_text(o.errout.buf, "placed on wk_1 at $0.12/h\npreparing\ntrying again: no image\n"
				  "placed on wk_2 at $0.12/h\npreparing\nsucceeded");
	outcome_release(&o);
	fake_stop(f);
}

static void test_wait_without_status(void **state)
{
	static const struct step steps[] = {
		{ { "POST /v1/workloads" },
		  JSON_HEAD("201 Created") WORKLOAD("pending", "-1") },
		{ { "/logs?follow=true" }, STREAM_HEAD EVENT("", "end", "{}") },
		{ { "GET /v1/workloads/" WL " HTTP" },
		  JSON_HEAD("200 OK") WORKLOAD("stopped", "-1") },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "run", "--image", "debian:12", "--wait", "--json");
	assert_int_equal(o.status, 125);
	assert_string_equal(
		o.out.buf, "{\"event\":\"workload\",\"data\":" WORKLOAD("stopped", "-1") "}\n");
	outcome_release(&o);
	fake_stop(f);
}

#define WL_OF(n) "wl_01m84fa0f3fnarwttn33yg8ad" n
#define END_OF(n, state, exit)                                                          \
	"{\"id\":\"" WL_OF(                                                             \
		n) "\",\"org_id\":\"or_01m84fa0f3fnarwttn33yg8adz\",\"state\":\"" state \
		   "\",\"exit_code\":" exit ",\"charged_uusd\":100," SPEC "}"
#define ARRAY_MADE                                                  \
	"{\"ids\":[\"" WL_OF("0") "\",\"" WL_OF("1") "\",\"" WL_OF( \
		"2") "\"],\"max_price_uusd_h\":500000}"

static void test_array(void **state)
{
	static const struct step steps[] = {
		{ { "POST /v1/arrays HTTP/1.1", "Idempotency-Key: ik_", "\"count\":3",
		    "\"spec\":{" },
		  JSON_HEAD("201 Created") ARRAY_MADE },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "run", "--image", "debian:12", "--array", "3");
	assert_int_equal(o.status, 0);
	assert_string_equal(o.out.buf, WL_OF("0") "\n" WL_OF("1") "\n" WL_OF("2") "\n");
	outcome_release(&o);
	fake_stop(f);
}

/* The output of each, by number; the highest status of all. */
static void test_array_wait(void **state)
{
	static const struct step steps[] = {
		{ { "POST /v1/arrays" }, JSON_HEAD("201 Created") ARRAY_MADE },
		{ { "GET /v1/workloads/" WL_OF("0") "/logs?follow=true" },
		  STREAM_HEAD EVENT(
			  "1.90", "log",
			  "{\"seq\":1,\"at_ms\":5,\"stream\":\"stdout\",\"text\":\"zero\\n\"}")
			  EVENT("", "end", "{}") },
		{ { "GET /v1/workloads/" WL_OF("0") " HTTP" },
		  JSON_HEAD("200 OK") END_OF("0", "succeeded", "0") },
		{ { "GET /v1/workloads/" WL_OF("1") "/logs?follow=true" },
		  STREAM_HEAD EVENT("", "end", "{}") },
		{ { "GET /v1/workloads/" WL_OF("1") " HTTP" },
		  JSON_HEAD("200 OK") END_OF("1", "failed", "9") },
		{ { "GET /v1/workloads/" WL_OF("2") "/logs?follow=true" },
		  STREAM_HEAD EVENT(
			  "1.90", "log",
			  "{\"seq\":1,\"at_ms\":5,\"stream\":\"stdout\",\"text\":\"two\\n\"}")
			  EVENT("", "end", "{}") },
		{ { "GET /v1/workloads/" WL_OF("2") " HTTP" },
		  JSON_HEAD("200 OK") END_OF("2", "failed", "3") },
	};
	struct fake *f = START(steps);
	struct outcome o;

	TES(f, &o, "run", "--image", "debian:12", "--array", "3", "--wait");
	assert_int_equal(o.status, 9);
	assert_string_equal(o.out.buf, "zero\ntwo\n");
	expect_text(o.errout.buf, "3 workloads, each at most $0.50/h\n");
	expect_text(o.errout.buf, "1 (" WL_OF("1") "): failed, exit status 9\n2 (" WL_OF(
					  "2") "): failed, exit status 3\n");
	expect_text(o.errout.buf, "1 of 3 succeeded, highest exit status 9, $0.0003\n");
	outcome_release(&o);
	fake_stop(f);
}

/* What the server refuses is told by the flag that asked for it. */
static void test_array_refused(void **state)
{
	static const struct {
		const char *answer, *said;
	} cases[] = {
		{ JSON_HEAD(
			  "429 Too Many") "{\"code\":\"forbidden\",\"field\":\"count\",\"detail\":\"is too many\"}",
		  "tes: --array: is too many" },
		{ JSON_HEAD(
			  "422 No") "{\"code\":\"invalid\",\"field\":\"spec.max_price_uusd_h\",\"detail\":\"is not given\"}",
		  "tes: --max-price: is not given" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct step steps[] = { { { "POST /v1/arrays" }, cases[i].answer } };
		struct fake *f = START(steps);
		struct outcome o;

		TES(f, &o, "run", "--image", "debian:12", "--array", "3");
		assert_int_equal(o.status, 1);
		expect_text(o.errout.buf, cases[i].said);
		outcome_release(&o);
		fake_stop(f);
	}
	struct outcome o;

	TES(NULL, &o, "run", "--image", "debian:12", "--array", "1001");
	assert_int_equal(o.status, EXIT_USAGE);
	expect_text(o.errout.buf, "--array: 1001 is more than 1000");
	outcome_release(&o);
}

#define BYTES(status, more) \
	"HTTP/1.1 " status "\r\nContent-Length: 20\r\n" more "Connection: close\r\n\r\n"

static char dir[32];

static int dir_setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/tes-cli-dir-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int dir_teardown(void **state)
{
	struct err err = { 0 };

	return dir_remove(dir, &err);
}

static const char *answer_results(const char *path, const char *content)
{
	static struct strbuf text;
	char sum[SHA256_HEX_SIZE];

	crypto_init();
	sha256_hex(content, strlen(content), sum);
	strbuf_release(&text);
	strbuf_init(&text);
	strbuf_addf(
		&text,
		JSON_HEAD(
			"200 OK") "{\"items\":[{\"id\":\"rs_01m84fa0f3fnarwttn33yg8adz\",\"org_id\":\"or_01m84fa0f3fnarwttn33yg8adz\","
				  "\"workload_id\":\"" WL
				  "\",\"lease_id\":\"le_01m84fa0f3fnarwttn33yg8adz\",\"path\":\"%s\",\"sha256\":\"%s\",\"size_bytes\":%zu}],\"complete\":true}",
		path, sum, strlen(content));
	return text.buf;
}

static void test_download(void **state)
{
	const struct step steps[] = {
		{ { "GET /v1/workloads/j/results HTTP" },
		  answer_results("sub/model.bin", "0123456789abcdefghij") },
		{ { "GET /v1/results/rs_01m84fa0f3fnarwttn33yg8adz HTTP" },
		  BYTES("200 OK", "") "01234567" },
		{ { "Range: bytes=8-", "If-Range: \"" }, "" },
		{ { "Range: bytes=8-" },
		  "HTTP/1.1 206 Partial\r\nContent-Length: 12\r\nContent-Range: bytes 8-19/20\r\nConnection: close\r\n\r\n89abcdefghij" },
	};
	const struct step again[] = { steps[0] };
	struct fake *f = START(steps);
	struct strbuf path = STRBUF_INIT, got = STRBUF_INIT;
	struct err err = { 0 };
	struct outcome o;

	TES(f, &o, "results", "j", "-o", dir);
	assert_int_equal(o.status, 0);
	expect_text(o.out.buf, "sub/model.bin\n");
	expect_text(o.errout.buf, "20 B  sha256 checked");
	outcome_release(&o);
	fake_stop(f);
	strbuf_addf(&path, "%s/sub/model.bin", dir);
	assert_int_equal(file_read(path.buf, 100, &got, &err), 0);
	assert_string_equal(got.buf, "0123456789abcdefghij");
	strbuf_adds(&path, ".part");
	assert_int_equal(access(path.buf, F_OK), -1);

	f = START(again);
	TES(f, &o, "results", "j", "-o", dir);
	assert_int_equal(o.status, 0);
	expect_text(o.errout.buf, "it was there");
	outcome_release(&o);
	fake_stop(f);
	strbuf_release(&path);
	strbuf_release(&got);
}

static void test_download_hostile(void **state)
{
	const char *good = "0123456789abcdefghij";
	struct strbuf link = STRBUF_INIT;
	struct outcome o;

	{
		const struct step steps[] = { { { "/results" },
						answer_results("../escape", good) } };
		struct fake *f = START(steps);

		TES(f, &o, "results", "j", "-o", dir);
		assert_int_equal(o.status, 1);
		expect_text(o.errout.buf, "leads out of the folder");
		outcome_release(&o);
		fake_stop(f);
	}
	{
		const struct step steps[] = { { { "/results" }, answer_results("a", good) },
					      { { "GET /v1/results" },
						BYTES("200 OK", "") "9876543210abcdefghij" } };
		struct fake *f = START(steps);

		TES(f, &o, "results", "j", "-o", dir);
		assert_int_equal(o.status, 1);
		expect_text(o.errout.buf, "SHA-256");
		outcome_release(&o);
		fake_stop(f);
	}
	{
		const struct step steps[] = { { { "/results" },
						answer_results("link/b", good) } };
		struct fake *f = START(steps);

		strbuf_addf(&link, "%s/link", dir);
		assert_int_equal(symlink("/tmp", link.buf), 0);
		TES(f, &o, "results", "j", "-o", dir);
		assert_int_equal(o.status, 1);
		expect_text(o.errout.buf, "cannot open the folder link");
		outcome_release(&o);
		fake_stop(f);
	}
	strbuf_release(&link);
}

static void test_login(void **state)
{
	static const struct step steps[] = {
		{ { "GET /v1/whoami", "Authorization: Bearer tes_new" },
		  JSON_HEAD(
			  "200 OK") "{\"org_id\":\"or_01m84fa0f3fnarwttn33yg8adz\",\"org_name\":\"acme\",\"role\":\"owner\"}" },
	};
	struct fake *f = START(steps);
	struct login_file login;
	struct arena arena = { 0 };
	struct err err = { 0 };
	struct outcome o;
	struct stat st;

	setenv("XDG_CONFIG_HOME", dir, 1);
	TES(f, &o, "login", "--key", "tes_new");
	assert_int_equal(o.status, 0);
	expect_text(o.errout.buf, "for acme");
	outcome_release(&o);
	fake_stop(f);
	assert_int_equal(stat(login_path(&arena), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(login_read(login_path(&arena), &arena, &login, &err), 0);
	assert_string_equal(login.key, "tes_new");
	assert_true(str_starts(login.url, "http://127.0.0.1:"));
	arena_release(&arena);
}

/* A folder becomes an archive that holds what is in it; a second one is the same. */
static void test_archive(void **state)
{
	struct arena arena = { 0 };
	struct err err = { 0 };
	struct strbuf path = STRBUF_INIT;
	const char *name, *listing[] = { "tar", "-tvf", "/dev/stdin", NULL };
	char sums[2][SHA256_HEX_SIZE], *bytes;
	int64_t size;
	int fd;

	crypto_init();
	strbuf_addf(&path, "%s/in/%0120d", dir, 7);
	assert_int_equal(dir_make(path.buf, 0755, &err), 0);
	strbuf_adds(&path, "/file");
	assert_int_equal(file_write_atomic(path.buf, "content", 7, 0755, &err), 0);
	strbuf_adds(&path, "link");
	assert_int_equal(symlink("file", path.buf), 0);
	strbuf_reset(&path);
	strbuf_addf(&path, "%s/in/", dir);
	for (size_t i = 0; i < 2; i++) {
		if (tar_make(path.buf, &arena, &fd, &size, &name, &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(name, "in");
		bytes = xmalloc((size_t)size);
		assert_int_equal(read(fd, bytes, (size_t)size), size);
		assert_int_equal(size % 512, 0);
		sha256_hex(bytes, (size_t)size, sums[i]);
		if (i == 0) {
			struct strbuf out = STRBUF_INIT, errout = STRBUF_INIT;
			int status;

			assert_int_equal(
				process_run(listing, (struct slice){ bytes, (size_t)size },
					    65536, 10000, &out, &errout, &status, &err),
				0);
			assert_int_equal(status, 0);
			assert_string_equal(errout.buf, "");
			expect_text(out.buf, " in\n");
			expect_text(out.buf, " in/0000");
			expect_text(out.buf, "0000007/file\n");
			expect_text(out.buf, "0000007/filelink -> file\n");
			expect_text(out.buf, "-rwxr-xr-x");
			strbuf_release(&out);
			strbuf_release(&errout);
		}
		free(bytes);
		close(fd);
	}
	assert_string_equal(sums[0], sums[1]);
	strbuf_reset(&path);
	strbuf_addf(&path, "%s/in/out", dir);
	assert_int_equal(symlink("../../etc", path.buf), 0);
	strbuf_reset(&path);
	strbuf_addf(&path, "%s/in", dir);
	assert_int_equal(tar_make(path.buf, &arena, &fd, &size, &name, &err), -1);
	expect_text(err.text, "leads out of the folder");
	strbuf_release(&path);
	arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_submit),
		cmocka_unit_test(test_submit_again),
		cmocka_unit_test(test_problem),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_usage_words),
		cmocka_unit_test(test_beginnings),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_wait_for_another_attempt),
		cmocka_unit_test(test_wait_without_status),
		cmocka_unit_test(test_array),
		cmocka_unit_test(test_array_wait),
		cmocka_unit_test(test_array_refused),
		cmocka_unit_test_setup_teardown(test_download, dir_setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_download_hostile, dir_setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_login, dir_setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_archive, dir_setup, dir_teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
