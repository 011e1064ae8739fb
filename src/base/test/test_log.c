#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

/* Where the log goes in these tests. */
struct target {
	FILE *file;
	char text[65536];
};

static int setup(void **state)
{
	struct target *t = xcalloc(1, sizeof(*t));

	t->file = tmpfile();
	*state = t;
	return t->file ? 0 : -1;
}

static int teardown(void **state)
{
	struct target *t = *state;

	log_init(STDERR_FILENO, false, LOG_INFO);
	fclose(t->file);
	free(t);
	return 0;
}

/* What was written, without the time at the start of each line. */
static const char *written(struct target *t)
{
	ssize_t n = pread(fileno(t->file), t->text, sizeof(t->text) - 1, 0);

	assert_true(n >= 0);
	t->text[n] = '\0';
	return t->text;
}

static void plain_lines(void **state)
{
	struct target *t = *state;
	const char *text;

	log_init(fileno(t->file), false, LOG_INFO);
	log_line(LOG_DEBUG, "not this", NULL);
	log_line(LOG_INFO, "lease placed", "lease", "le_1", "none", NULL, "why", "two words",
		 "empty", "", NULL);
	text = written(t);
	assert_int_equal(text[4], '-');
	assert_int_equal(text[23], 'Z');
	assert_string_equal(text + 24,
			    " info lease placed lease=le_1 why=\"two words\" empty=\"\"\n");
}

static void plain_lines_cannot_be_forged(void **state)
{
	struct target *t = *state;
	const char *text;

	log_init(fileno(t->file), false, LOG_INFO);
	log_line(LOG_WARN, "bad\nname", "name", "x\n2026 info \x1b[2J\" a=\"b\\", "b",
		 "\xff\xe2\x80\xae", NULL);
	text = written(t);
	assert_string_equal(text + 24,
			    " warn bad\\nname name=\"x\\n2026 info \\x1b[2J\\\" a=\\\"b\\\\\" "
			    "b=\\xff\\u202e\n");
}

static void json_lines(void **state)
{
	struct target *t = *state;
	const char *text;

	log_init(fileno(t->file), true, LOG_DEBUG);
	log_line(LOG_DEBUG, "a \"b\"", "k", "x\n\x01\\\xff é", "none", NULL, NULL);
	text = written(t);
	assert_memory_equal(text, "{\"at\":\"", 7);
	assert_string_equal(text + 31, "\",\"level\":\"debug\",\"message\":\"a \\\"b\\\"\","
				       "\"k\":\"x\\n\\u0001\\\\\\ufffd é\"}\n");
}

static void errors_bring_code_and_field(void **state)
{
	struct target *t = *state;
	const char *text;
	struct err err;

	log_init(fileno(t->file), false, LOG_INFO);
	err_set_field(&err, "gpus", "9 is too many");
	log_err(LOG_ERROR, &err, "no start", "file", "x", NULL);
	err_set(&err, ERR_GONE, "late");
	log_err(LOG_ERROR, &err, "no start", NULL);
	text = written(t);
	assert_non_null(strstr(
		text,
		"Z error no start file=x code=invalid field=gpus error=\"9 is too many\"\n"));
	assert_non_null(strstr(text, "Z error no start code=gone error=late\n"));
}

static void long_values_are_cut(void **state)
{
	struct target *t = *state;
	char value[9000];
	const char *text;

	log_init(fileno(t->file), false, LOG_INFO);
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	log_line(LOG_INFO, "m", "k", value, NULL);
	text = written(t);
	assert_true(strlen(text) < 4200);
	assert_non_null(strstr(text, "xxx…\n"));
}

static void levels_have_names(void **state)
{
	enum log_level level = LOG_DEBUG;

	assert_int_equal(log_level_parse("warn", &level), 0);
	assert_int_equal(level, LOG_WARN);
	assert_int_equal(log_level_parse("loud", &level), -1);
	assert_int_equal(level, LOG_WARN);
}

static void *write_many(void *arg)
{
	for (int i = 0; i < 200; i++)
		log_line(LOG_INFO, "line", "from", arg, NULL);
	return NULL;
}

static void threads_write_whole_lines(void **state)
{
	struct target *t = *state;
	pthread_t threads[4];
	struct slice rest, line;
	size_t count = 0;

	log_init(fileno(t->file), false, LOG_INFO);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, "thread"), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	rest = slice_of(written(t));
	while (slice_split(&rest, '\n', &line) && line.len) {
		assert_int_equal(line.len,
				 strlen("2026-11-23T13:58:00.123Z info line from=thread"));
		count++;
	}
	assert_int_equal(count, 800);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(plain_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(plain_lines_cannot_be_forged, setup, teardown),
		cmocka_unit_test_setup_teardown(json_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(errors_bring_code_and_field, setup, teardown),
		cmocka_unit_test_setup_teardown(long_values_are_cut, setup, teardown),
		cmocka_unit_test(levels_have_names),
		cmocka_unit_test_setup_teardown(threads_write_whole_lines, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
