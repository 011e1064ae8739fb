/* Where in a container's output we are, in terms that survive a restart: the engine can be
 * asked for lines from a time stamp on, and gives them in the order in which it wrote them.
 * What was delivered is a beginning of that order, so a time stamp and the number of delivered
 * lines that carry it or a later one say exactly where to go on.  The time stamp lies
 * SETTLED_NS behind the newest line: within that the engine may write its two streams out of
 * order. */
#include "internal.h"

#define SETTLED_NS (2 * INT64_C(1000000000))

void output_cursor_init(struct output_cursor *c, const struct output_position *from)
{
	*c = (struct output_cursor){ .at = *from,
				     .next_since_ns = from->since_ns,
				     .next_count = from->count,
				     .newest_ns = from->since_ns - 1 };
	output_cursor_rewind(c);
}

void output_cursor_rewind(struct output_cursor *c)
{
	c->skip = c->at.count;
}

bool output_cursor_take(struct output_cursor *c, int64_t at_ns)
{
	if (at_ns < c->at.since_ns)
		return false;
	if (c->skip) {
		c->skip--;
		c->newest_ns = MAX(c->newest_ns, at_ns);
		return false;
	}
	c->at.seq++;
	c->at.count++;
	if (at_ns >= c->next_since_ns)
		c->next_count++;
	c->newest_ns = MAX(c->newest_ns, at_ns);
	if (c->newest_ns - c->next_since_ns >= SETTLED_NS) {
		c->at.since_ns = c->next_since_ns;
		c->at.count = c->next_count;
		/* No line so far is as new as this. */
		c->next_since_ns = c->newest_ns + 1;
		c->next_count = 0;
	}
	return true;
}
