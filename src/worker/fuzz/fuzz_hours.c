/* Hours, maintenance windows and shares from the configuration file; the first byte chooses. */
#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t offset(void *arg, int64_t at_ms)
{
	return *(const int64_t *)arg;
}

static void ask(const struct hours *h, const struct hours *m)
{
	int64_t utc = 3 * HOUR_MS, at = INT64_C(1795446606000), until;

	for (int i = 0; i < 8; i++, at += 11 * HOUR_MS) {
		if (hours_available(h, m, at, offset, &utc, &until))
			assert(until == 0 || until > at);
		else
			assert(until == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hours h, always = { .always = true }, never = { 0 };
	struct err err = { 0 };
	char *text;
	int64_t got;

	if (size == 0 || memchr(data, '\0', size))
		return 0;
	text = xcalloc(1, size);
	memcpy(text, data + 1, size - 1);
	if (data[0] % 3 == 0 && hours_parse(text, false, &h, &err) == 0) {
		ask(&h, &never);
	} else if (data[0] % 3 == 1 && hours_parse(text, true, &h, &err) == 0) {
		ask(&always, &h);
	} else if (data[0] % 3 == 2 &&
		   share_parse(text, SHARE_COUNT_MILLI, 8000, &got, &err) == 0) {
		assert(got >= 0 && got <= 8000);
	} else {
		assert(err.text[0] && utf8_valid(err.text, strlen(err.text)));
	}
	free(text);
	return 0;
}
