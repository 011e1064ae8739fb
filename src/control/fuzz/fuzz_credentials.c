/* What a request's head carries beside its target: an API key, a place in a stream of logs, the address that asks to log
 * in.  The first byte chooses. */
#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void key_check(const char *text, struct arena *a)
{
	const char *id, *secret;

	if (auth_key_split(text, a, &id, &secret) < 0)
		return;
	assert(id_valid(id, "ak") && strlen(secret) <= 64);
	assert(str_eq(arena_printf(a, "tes_%s_%s", id + 3, secret), text));
}

static void place_check(const char *text, struct arena *a)
{
	int64_t generation, offset, again[2];

	if (log_place_parse(text, &generation, &offset) < 0)
		return;
	assert(generation >= 0 && offset >= 0);
	text = arena_printf(a, "%" PRId64 ".%" PRId64, generation, offset);
	assert(log_place_parse(text, &again[0], &again[1]) == 0 && again[0] == generation && again[1] == offset);
}

/* Whatever an address and an e-mail are, there are no more looks at passwords than the budget has. */
static void login_check(const char *text, struct arena *a)
{
	struct logins *l = logins_new();
	struct err err = { 0 };
	int64_t retry_ms = 0;
	int let = 0;

	for (int i = 0; i < LOGIN_BURST + 2; i++)
		if (login_enter(l, text, arena_printf(a, "%d %s", i, text), HOUR_MS, &retry_ms, &err) == 0) {
			login_leave(l, text, text, false);
			let++;
		} else {
			assert(err.code == ERR_RATE && retry_ms > 0);
		}
	assert(let == LOGIN_BURST);
	logins_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const checks[])(const char *text, struct arena *a) = { key_check, place_check, login_check };
	cleanup_arena struct arena a = { 0 };

	if (!size)
		return 0;
	arena_init(&a, 0);
	checks[data[0] % ARRAY_LEN(checks)](arena_strndup(&a, (const char *)data + 1, size - 1), &a);
	return 0;
}
