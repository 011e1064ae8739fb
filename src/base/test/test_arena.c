#include "../base.h"

#include <setjmp.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void pieces_are_zeroed_aligned_and_apart(void **state)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 17, 1000, 5000, 100000, 3, 2000000, 64 };
	unsigned char *pieces[ARRAY_LEN(sizes) * 20];
	cleanup_arena struct arena a = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		size_t size = sizes[i % ARRAY_LEN(sizes)];

		pieces[i] = arena_alloc(&a, size);
		assert_int_equal((uintptr_t)pieces[i] % 16, 0);
		for (size_t k = 0; k < size; k++)
			assert_int_equal(pieces[i][k], 0);
		memset(pieces[i], (int)i & 0xff, size);
	}
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		for (size_t k = 0; k < sizes[i % ARRAY_LEN(sizes)]; k++)
			assert_int_equal(pieces[i][k], i & 0xff);
	}
	assert_true(a.used >= 20 * 2100000);
}

static void strings_are_copied(void **state)
{
	cleanup_arena struct arena a = { 0 };
	char text[] = "hello";
	int *numbers;

	assert_null(arena_strdup(&a, NULL));
	assert_string_equal(arena_strdup(&a, text), "hello");
	assert_string_equal(arena_strndup(&a, text, 4), "hell");
	assert_string_equal(arena_strndup(&a, NULL, 0), "");
	assert_string_equal(arena_printf(&a, "%s-%05d", text, 42), "hello-00042");
	numbers = arena_array(&a, int, 3);
	assert_int_equal(numbers[0] + numbers[1] + numbers[2], 0);
	assert_non_null(arena_new(&a, struct err));
}

static void is_empty_after_release(void **state)
{
	struct arena a;

	arena_init(&a, 100);
	arena_alloc(&a, 96);
	arena_release(&a);
	arena_alloc(&a, 96); /* the cap counts anew */
	arena_release(&a);
	arena_release(&a);
}

static bool aborts(size_t cap, size_t count, size_t size)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct arena a;
		int null = open("/dev/null", O_WRONLY);

		signal(SIGABRT, SIG_DFL); /* cmocka catches it */
		dup2(null, STDERR_FILENO);
		arena_init(&a, cap);
		arena_alloc_array(&a, count, size);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void over_the_cap_aborts(void **state)
{
	assert_false(aborts(4096, 1, 4096));
	assert_true(aborts(4096, 1, 4097));
	assert_true(aborts(0, SIZE_MAX / 2, 3));
	assert_true(aborts(0, 1, ARENA_CAP_DEFAULT + 1));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_are_zeroed_aligned_and_apart),
		cmocka_unit_test(strings_are_copied),
		cmocka_unit_test(is_empty_after_release),
		cmocka_unit_test(over_the_cap_aborts),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
