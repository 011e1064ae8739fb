#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int check(void *arg, enum log_stream stream, int64_t at_ns, const char *line, size_t len)
{
	size_t *total = arg;

	assert(stream == LOG_STDOUT || stream == LOG_STDERR);
	assert(at_ns >= 0 && len <= LOG_LINE_MAX && utf8_valid(line, len) &&
	       !memchr(line, '\0', len));
	*total += len;
	return 0;
}

/* The first byte says in which steps the rest is fed: the lines must not depend on it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t total[2] = { 0, 0 }, step = size > 0 ? (size_t)data[0] + 1 : 1;

	for (int way = 0; way < 2 && size > 0; way++) {
		struct log_demux d;

		log_demux_init(&d, 0, check, &total[way]);
		for (size_t at = 1; at < size; at += way ? step : size)
			assert(log_demux_feed(&d, (const char *)data + at,
					      MIN(way ? step : size, size - at)) == 0);
		assert(log_demux_finish(&d) == 0);
		log_demux_release(&d);
	}
	assert(total[0] == total[1]);
	return 0;
}
