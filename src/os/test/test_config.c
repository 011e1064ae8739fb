#include "../os.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

enum engine { ENGINE_AUTO, ENGINE_DOCKER };

struct settings {
	const char *listen, *name;
	int64_t port, cache_bytes, timeout_ms, price_uusd, fee_ppm;
	bool verbose;
	enum engine engine;
};

static const char *const engines[] = { "auto", "docker", NULL };

#define AT(member) offsetof(struct settings, member)
static const struct config_key keys[] = {
	{ "server", "listen", CONFIG_TEXT, AT(listen), "127.0.0.1", .doc = "Address." },
	{ "server", "port", CONFIG_INT, AT(port), "8080", 1, 65535, .doc = "Port." },
	{ "server", "name", CONFIG_TEXT, AT(name), NULL, .doc = "Name of the network." },
	{ "server", "verbose", CONFIG_BOOL, AT(verbose), "false", .doc = "Say more." },
	{ "limits", "cache", CONFIG_SIZE, AT(cache_bytes), "64MiB", 1 << 20, 1 << 30,
	  .doc = "Cache." },
	{ "limits", "timeout", CONFIG_DURATION, AT(timeout_ms), "30s", 1000, HOUR_MS,
	  .doc = "Timeout." },
	{ "limits", "price", CONFIG_MONEY, AT(price_uusd), "0.25", .doc = "Price in dollars." },
	{ "limits", "fee", CONFIG_PPM, AT(fee_ppm), "2.5%", 0, 500000, .doc = "Fee." },
	{ "limits", "engine", CONFIG_ENUM, AT(engine), "auto", .names = engines,
	  .doc = "Engine." },
};
static const struct config_table table = { keys, ARRAY_LEN(keys), sizeof(struct settings) };

struct fixture {
	struct arena arena;
	struct settings got;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	arena_init(&f->arena, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	arena_release(&f->arena);
	free(f);
	return 0;
}

static int read_with(struct fixture *f, const char *text, const char *variable)
{
	char *environment[] = { "PATH=/bin", "TES_TOKEN=not ours", (char *)variable, NULL };

	return config_read(&table, slice_of(text), "tes.conf", environment, &f->arena, &f->got,
			   &f->err);
}

/* The text, or the variable, is refused with this message for this field, and nothing is
 * filled. */
static void refused(struct fixture *f, const char *text, const char *variable,
		    const char *field, const char *message)
{
	struct settings before;

	memset(&before, 0x5a, sizeof(before));
	f->got = before;
	if (read_with(f, text, variable) == 0)
		fail_msg("accepted: %s %s", text, variable ? variable : "");
	assert_int_equal(f->err.code, ERR_INVALID);
	assert_string_equal(f->err.text, message);
	assert_string_equal(f->err.field, field);
	assert_memory_equal(&f->got, &before, sizeof(before));
}

static void defaults_and_every_kind(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_with(f, "[server]\nname = mine\n", NULL), 0);
	assert_string_equal(f->got.listen, "127.0.0.1");
	assert_string_equal(f->got.name, "mine");
	assert_int_equal(f->got.port, 8080);
	assert_false(f->got.verbose);
	assert_int_equal(f->got.cache_bytes, 64 << 20);
	assert_int_equal(f->got.timeout_ms, 30000);
	assert_int_equal(f->got.price_uusd, 250000);
	assert_int_equal(f->got.fee_ppm, 25000);
	assert_int_equal(f->got.engine, ENGINE_AUTO);

	assert_int_equal(
		read_with(f,
			  "# comment\r\n\r\n [ limits ] # x\ncache=1GiB # all\n\ttimeout = 5m\n"
			  "price = 3\nfee = 100ppm\nengine = docker\n"
			  "[server]\nverbose = yes\nport = 1\n"
			  "name = \"a # \\\"b\\\" \\\\ \" # c\n[limits]\n[server]\nlisten =",
			  NULL),
		0);
	assert_string_equal(f->got.name, "a # \"b\" \\ ");
	assert_string_equal(f->got.listen, "");
	assert_int_equal(f->got.port, 1);
	assert_true(f->got.verbose);
	assert_int_equal(f->got.cache_bytes, 1 << 30);
	assert_int_equal(f->got.timeout_ms, 300000);
	assert_int_equal(f->got.price_uusd, 3000000);
	assert_int_equal(f->got.fee_ppm, 100);
	assert_int_equal(f->got.engine, ENGINE_DOCKER);
	assert_int_equal(read_with(f, "[server]\nname = a#b", NULL), 0);
	assert_string_equal(f->got.name, "a#b");
}

static void the_environment_wins(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		read_with(f, "[server]\nname = file", "TES_SERVER_NAME=from = outside # all"),
		0);
	assert_string_equal(f->got.name, "from = outside # all");
	/* Even over a value that is wrong. */
	assert_int_equal(read_with(f, "[server]\nname = x\nport = none", "TES_SERVER_PORT=9"),
			 0);
	assert_int_equal(f->got.port, 9);
	assert_int_equal(read_with(f, "", "TES_SERVER_NAME="), 0);
	assert_string_equal(f->got.name, "");
}

static void mistakes_name_file_line_and_remedy(void **state)
{
	struct fixture *f = *state;

	refused(f, "[server]\n\nprot = 1", NULL, "server.prot",
		"tes.conf:3: unknown key 'prot' in [server]: did you mean 'port'?");
	refused(f, "[sever]", NULL, "",
		"tes.conf:1: unknown section [sever]: did you mean [server]?");
	refused(f, "[server]\nzebra = 1", NULL, "server.zebra",
		"tes.conf:2: unknown key 'zebra' in [server]: remove it, or correct its name");
	refused(f, "name = 1", NULL, "",
		"tes.conf:1: a setting before the first section: write [section] above it");
	refused(f, "[server]\njust words", NULL, "",
		"tes.conf:2: 'just words' is not a setting: write key = value");
	refused(f, "[server]\n= 1", NULL, "",
		"tes.conf:2: '= 1' is not a setting: write key = value");
	refused(f, "[server", NULL, "",
		"tes.conf:1: the head of a section has no ']': write [section]");
	refused(f, "[server]\nname = a\nport = 1\n name = b", NULL, "server.name",
		"tes.conf:4: 'name' was already set in line 2: remove one of them");
	refused(f, "[server]\nname = \"a", NULL, "server.name",
		"tes.conf:2: the quotes of 'name' are broken: write \"text\", "
		"and \\\" for a quote in it");
	refused(f, "[server]\nname = \"a\" b", NULL, "server.name",
		"tes.conf:2: the quotes of 'name' are broken: write \"text\", "
		"and \\\" for a quote in it");
	refused(f, "[server]\nname = \xff", NULL, "",
		"tes.conf:2: not UTF-8 text: save the file as UTF-8");
	refused(f, "", NULL, "server.name",
		"tes.conf: 'name' is missing in [server]: set it, "
		"or the variable TES_SERVER_NAME");
}

static void values_are_checked(void **state)
{
	struct fixture *f = *state;

	refused(f, "[server]\nname=x\nport = 70000", NULL, "server.port",
		"tes.conf:3: port: 70000 is out of range: give a whole number from 1 to 65535");
	refused(f, "[server]\nname=x\nverbose = maybe", NULL, "server.verbose",
		"tes.conf:3: verbose: 'maybe' is neither true nor false");
	refused(f, "[server]\nname=x\n[limits]\ncache = 1K", NULL, "limits.cache",
		"tes.conf:4: cache: 1K is out of range: give 1 MiB to 1 GiB");
	refused(f, "[server]\nname=x\n[limits]\ntimeout = 2h", NULL, "limits.timeout",
		"tes.conf:4: timeout: 2h is out of range: give 1s to 1h");
	refused(f, "[server]\nname=x\n[limits]\nprice = -1", NULL, "limits.price",
		"tes.conf:4: price: -1 is negative");
	refused(f, "[server]\nname=x\n[limits]\nfee = 60%", NULL, "limits.fee",
		"tes.conf:4: fee: 60% is out of range: give 0% to 50%");
	refused(f, "[server]\nname=x\n[limits]\nfee = 5", NULL, "limits.fee",
		"tes.conf:4: fee: '5' is not a share: write it like 2.5% or 25000ppm");
	refused(f, "[server]\nname=x\n[limits]\nengine = dokcer", NULL, "limits.engine",
		"tes.conf:4: engine: 'dokcer' is unknown: give auto or docker");
}

static void variables_are_checked(void **state)
{
	struct fixture *f = *state;

	refused(f, "[server]\nname=x", "TES_SERVER_PROT=1", "",
		"unknown environment variable TES_SERVER_PROT: did you mean TES_SERVER_PORT?");
	refused(f, "[server]\nname=x", "TES_SERVER_PORT=x", "server.port",
		"TES_SERVER_PORT: 'x' is not a whole number: give one from 1 to 65535");
	refused(f, "[server]\nname=x", "TES_SERVER_NAME=\xff", "",
		"the environment variable TES_SERVER_NAME is not UTF-8 text");
}

static void nul_bytes_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(config_read(&table, SLICE("[server]\nname = a\0b\n"), "tes.conf", NULL,
				     &f->arena, &f->got, &f->err),
			 -1);
	assert_string_equal(f->err.text, "tes.conf:2: not UTF-8 text: save the file as UTF-8");
}

static void the_printed_file_is_the_defaults(void **state)
{
	struct fixture *f = *state;
	struct settings defaults;
	struct strbuf text, uncommented;
	struct slice rest, line;

	strbuf_init(&text);
	strbuf_init(&uncommented);
	config_print(&table, "Settings of the test.", &text);
	assert_int_equal(read_with(f, text.buf, NULL), 0);
	defaults = f->got;
	rest = slice_of(text.buf);
	while (slice_split(&rest, '\n', &line)) {
		size_t skip_hash = line.len > 1 && line.ptr[0] == '#' && line.ptr[1] != ' ';

		strbuf_add(&uncommented, line.ptr + skip_hash, line.len - skip_hash);
		strbuf_addc(&uncommented, '\n');
	}
	if (read_with(f, uncommented.buf, NULL) < 0)
		fail_msg("%s", f->err.text);
	assert_string_equal(f->got.listen, defaults.listen);
	assert_int_equal(f->got.cache_bytes, defaults.cache_bytes);
	assert_int_equal(f->got.fee_ppm, defaults.fee_ppm);
	assert_non_null(strstr(text.buf, "# Port. 1 to 65535.\n#port = 8080\n"));
	assert_non_null(strstr(text.buf, "# Name of the network. Required.\nname = \n"));
	assert_non_null(strstr(text.buf, "# Engine. auto or docker.\n#engine = auto\n"));
	assert_non_null(strstr(text.buf, "# Fee. 0% to 50%.\n#fee = 2.5%\n"));
	strbuf_release(&text);
	strbuf_release(&uncommented);
}

static void a_file_is_loaded(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/tes-test-config.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, "[server]\nname = x\n", 18, &f->err), 0);
	close(fd);
	setenv("TES_SERVER_PORT", "99", 1);
	assert_int_equal(config_load(&table, path, &f->arena, &f->got, &f->err), 0);
	assert_int_equal(f->got.port, 99);
	setenv("TES_SERVER_NAME", "outside", 1);
	assert_int_equal(config_load(&table, NULL, &f->arena, &f->got, &f->err), 0);
	assert_string_equal(f->got.name, "outside");
	unsetenv("TES_SERVER_PORT");
	unsetenv("TES_SERVER_NAME");
	unlink(path);
	assert_int_equal(config_load(&table, path, &f->arena, &f->got, &f->err), -1);
	assert_int_equal(f->err.code, ERR_NOT_FOUND);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(defaults_and_every_kind, setup, teardown),
		cmocka_unit_test_setup_teardown(the_environment_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(mistakes_name_file_line_and_remedy, setup,
						teardown),
		cmocka_unit_test_setup_teardown(values_are_checked, setup, teardown),
		cmocka_unit_test_setup_teardown(variables_are_checked, setup, teardown),
		cmocka_unit_test_setup_teardown(nul_bytes_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(the_printed_file_is_the_defaults, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_file_is_loaded, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
