#include "../os.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

/* A page of ours that nothing touches but this test: constant data, as it is in the program's file. */
#define PAGES 64
static const struct {
	char page[PAGES][4096];
} constant __attribute__((aligned(4096))) = { .page = { [PAGES - 1] = "the end" } };
static char written[4096] __attribute__((aligned(4096))) = "as in the file";

/* How many of the pages are in this process's memory: bit 63 of /proc/self/pagemap. */
static int resident(const void *from, int pages)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), count = 0;

	assert_true(fd >= 0);
	for (int i = 0; i < pages; i++) {
		uint64_t entry;

		assert_int_equal(pread(fd, &entry, sizeof(entry), (off_t)(((uintptr_t)from / 4096 + (uintptr_t)i) * sizeof(entry))),
				 sizeof(entry));
		count += entry >> 63;
	}
	close(fd);
	return count;
}

static int touch(void)
{
	int sum = 0;

	for (int i = 0; i < PAGES; i++)
		sum += *(const volatile char *)constant.page[i];
	return sum;
}

static void constants_are_given_back_and_come_again(void **state)
{
	assert_int_equal(touch(), 't');
	assert_int_equal(resident(&constant, PAGES), PAGES);
	memory_give_back();
	/* What lies beside them may have been used meanwhile, and the system maps some pages around each. */
	assert_in_range(resident(&constant, PAGES), 0, PAGES / 2);
	assert_string_equal(constant.page[PAGES - 1], "the end");
}

static void what_was_written_stays(void **state)
{
	char *heap = xstrdup("on the heap");

	snprintf(written, sizeof(written), "changed");
	memory_give_back();
	assert_string_equal(written, "changed");
	assert_string_equal(heap, "on the heap");
	free(heap);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(constants_are_given_back_and_come_again),
		cmocka_unit_test(what_was_written_stays),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
