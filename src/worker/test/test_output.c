/* Output is resumed exactly: against an engine that writes two streams slightly out of order,
 * and crashes at any line. */
#include "../internal.h"

#include <setjmp.h>

#include <cmocka.h>

#define SECOND_NS INT64_C(1000000000)
#define LINES	  4000

static int64_t lines[LINES]; /* time stamps, in the order of the engine's file */

static uint32_t seed;
static uint32_t next_random(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static void lines_make(uint32_t s)
{
	int64_t at = 1700000000 * SECOND_NS;

	seed = s;
	for (int i = 0; i < LINES; i++) {
		at += next_random(4) == 0
			      ? 0
			      : next_random(30000000); /* also several with one time stamp */
		lines[i] = at - (next_random(10) == 0 ? next_random(900000000) : 0);
	}
}

/* Reads from the position on, as runtime_logs does, at most `n` new lines; each must be the
 * next. */
static void read_on(struct output_cursor *c, int *done, int n)
{
	output_cursor_rewind(c);
	int64_t since = c->at.since_ns;

	for (int i = 0; i < LINES && n > 0; i++) {
		if (lines[i] < since)
			continue;
		if (!output_cursor_take(c, lines[i]))
			continue;
		if (i != *done)
			fail_msg("line %d came where line %d was due (seed)", i, *done);
		assert_int_equal(c->at.seq, i + 1);
		++*done;
		n--;
	}
}

static void resumes_exactly(void **state)
{
	for (uint32_t s = 1; s <= 20; s++) {
		struct output_position saved = { 0 };
		struct output_cursor c;
		int done = 0, saved_done = 0;

		lines_make(s);
		output_cursor_init(&c, &saved);
		while (done < LINES) {
			read_on(&c, &done, 1 + (int)next_random(200));
			switch (next_random(3)) {
			case 0: /* the connection to the engine broke */ break;
			case 1: /* acknowledged and stored */
				saved = c.at;
				saved_done = done;
				break;
			case 2: /* we were killed: what was not stored is read again, with the same numbers */
				output_cursor_init(&c, &saved);
				done = saved_done;
				break;
			}
		}
	}
}

static void rereads_little(void **state)
{
	struct output_position start = { 0 };
	struct output_cursor c;

	output_cursor_init(&c, &start);
	for (int64_t i = 0; i < 100000; i++) {
		assert_true(output_cursor_take(&c, 1700000000 * SECOND_NS + i * 1000000));
		assert_true(c.at.count <= 4100);
	}
	assert_int_equal(c.at.seq, 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(resumes_exactly),
					    cmocka_unit_test(rereads_little) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
