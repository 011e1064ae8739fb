#include "../internal.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

static const struct column columns[] = {
	{ "id", "ID", COLUMN_ID },
	{ "name", "NAME", COLUMN_SHRINK },
	{ "state", "STATE", COLUMN_STATE },
	{ "exit_code", "EXIT", COLUMN_RIGHT | COLUMN_EXIT },
	{ "charged_uusd", "CHARGED", COLUMN_RIGHT },
	{ "created_ms", "AGE", COLUMN_RIGHT | COLUMN_AGE },
};

static void test_table(void **state)
{
	struct strbuf out = STRBUF_INIT;
	struct workload w[2];

	for (size_t i = 0; i < 2; i++)
		schema_defaults(&workload_type, &w[i]);
	w[0].id = "wl_01m84fa0f3fnarwttn33yg8adz";
	w[0].name = "a-long-name-that-shrinks";
	w[0].state = WORKLOAD_RUNNING;
	w[0].exit_code = -1;
	w[0].charged_uusd = 1234;
	w[0].created_ms = 1000;
	w[1] = w[0];
	w[1].id = "wl_01m84fa0fdft0vbcq86ya1nkq2";
	w[1].name = "b\x1b[31m";
	w[1].state = WORKLOAD_FAILED;
	w[1].exit_code = 3;
	table_format(&workload_type, w, 2, columns, ARRAY_LEN(columns), 1000 + 3 * HOUR_MS, 0,
		     false, &out);
	assert_string_equal(
		out.buf,
		"ID             NAME                      STATE    EXIT    CHARGED  AGE\n"
		"wl_01m84fa0f3  a-long-name-that-shrinks  running     -  $0.001234   3h\n"
		"wl_01m84fa0fd  b?[31m                    failed      3  $0.001234   3h\n");
	strbuf_reset(&out);
	table_format(&workload_type, w, 1, columns, ARRAY_LEN(columns), 1000, 55, true, &out);
	assert_non_null(strstr(out.buf, "a-long-name…"));
	assert_non_null(strstr(out.buf, "\x1b[32mrunning\x1b[0m"));
	strbuf_release(&out);
}

static void test_ids(void **state)
{
	const char *ids[] = { "wl_0000000000aa", "wl_0000000000ab", "wl_1", "-" };

	assert_int_equal(id_shown_len(ids[0], ids, 4), 15);
	assert_int_equal(id_shown_len(ids[2], ids, 4), 4);
	assert_int_equal(id_shown_len(ids[0], ids, 1), ID_SHOWN_MIN);
}

static void test_record(void **state)
{
	struct strbuf out = STRBUF_INIT;
	struct resources r;
	struct balance b = { .posted_uusd = 25000000, .rate_uusd_h = 120000 };

	schema_defaults(&resources_type, &r);
	r.cpu_milli = 1500;
	record_format(&resources_type, &r, false, &out);
	assert_string_equal(
		out.buf,
		"cpu                   1.500\nmemory                1 GiB\ndisk                  10 GiB\n");
	strbuf_reset(&out);
	record_format(&balance_type, &b, false, &out);
	assert_non_null(strstr(out.buf, "posted                $25.00\n"));
	assert_non_null(strstr(out.buf, "rate                  $0.12/h\n"));
	assert_non_null(strstr(out.buf, "held                  $0.00\n"));
	assert_null(strstr(out.buf, "exhausted"));
	strbuf_release(&out);
}

static void test_amounts(void **state)
{
	char text[40];

	price_text(120000, text);
	assert_string_equal(text, "$0.12/h");
	money_text(-1, text);
	assert_string_equal(text, "-$0.000001");
	span_text(90 * SECOND_MS, text);
	assert_string_equal(text, "90s");
	span_text(3 * DAY_MS + 1, text);
	assert_string_equal(text, "3d");
	span_text(-5, text);
	assert_string_equal(text, "0s");
}

static void test_bar(void **state)
{
	struct strbuf out = STRBUF_INIT;

	bar_format(1 << 20, 4 << 20, 80, &out);
	assert_string_equal(out.buf, "[######------------------]  25%  1 MiB of 4 MiB");
	strbuf_reset(&out);
	bar_format(9 << 20, 4 << 20, 20, &out);
	assert_string_equal(out.buf, "100%  9 MiB of 4 MiB");
	strbuf_reset(&out);
	bar_format(1 << 20, 0, 80, &out);
	assert_string_equal(out.buf, "1 MiB");
	strbuf_release(&out);
}

/* What reaches a terminal cannot steer it; what reaches a pipe is as it was. */
static void test_output(void **state)
{
	struct err err = { 0 };
	char got[256] = "";
	int fds[2];

	for (int safe = 0; safe < 2; safe++) {
		struct output o = { .safe = safe, .pending = STRBUF_INIT };

		assert_int_equal(pipe(fds), 0);
		o.fd = fds[1];
		output_add(&o, "a\x1b]0;title\a\tb\r\n");
		assert_false(o.mid_line);
		output_add(&o, "\xc2\x9b"
			       "31mc");
		assert_true(o.mid_line);
		assert_int_equal(output_flush(&o, &err), 0);
		close(fds[1]);
		memset(got, 0, sizeof(got));
		assert_true(read(fds[0], got, sizeof(got) - 1) > 0);
		close(fds[0]);
		strbuf_release(&o.pending);
		assert_string_equal(got, safe ? "a\\x1b]0;title\\x07\tb\r\n\\u009b31mc"
					      : "a\x1b]0;title\a\tb\r\n\xc2\x9b"
						"31mc");
	}
}

static void test_result_paths(void **state)
{
	static const char *const good[] = { "a", "a/b", "model.bin", "..a/b..", "a b" };
	static const char *const bad[] = { "",	 "/a",	"../a", "a/../b", "a//b",
					   "a/", "./a", "a/.",	"a\nb",	  "a\x1b" };

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(result_path_valid(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(result_path_valid(bad[i]));
	assert_false(result_path_valid(NULL));
}

static void test_documents(void **state)
{
	static const char *const shells[] = { "bash", "zsh", "fish" };
	struct strbuf out = STRBUF_INIT;
	struct err err = { 0 };

	help_man(&out);
	assert_true(str_starts(out.buf, ".TH TES 1"));
	for (const struct command *c = commands; c->name; c++) {
		struct strbuf text = STRBUF_INIT, head = STRBUF_INIT;

		help_command(c, false, &text);
		assert_non_null(strstr(text.buf, c->name));
		assert_non_null(strstr(text.buf, "--json"));
		strbuf_addf(&head, ".SS tes %s ", c->name);
		assert_non_null(strstr(out.buf, head.buf));
		strbuf_release(&head);
		strbuf_release(&text);
	}
	for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
		strbuf_reset(&out);
		assert_int_equal(completion_write(shells[i], &out, &err), 0);
		assert_non_null(strstr(out.buf, "min-reliability"));
	}
	strbuf_reset(&out);
	help_markdown(&out);
	assert_non_null(strstr(out.buf, "| `-e, --env K=V\\|K ...` |"));
	strbuf_release(&out);
	assert_int_equal(completion_write("csh", &out, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),	     cmocka_unit_test(test_ids),
		cmocka_unit_test(test_record),	     cmocka_unit_test(test_amounts),
		cmocka_unit_test(test_bar),	     cmocka_unit_test(test_output),
		cmocka_unit_test(test_result_paths), cmocka_unit_test(test_documents),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
