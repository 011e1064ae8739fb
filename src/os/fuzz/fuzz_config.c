/* A configuration file, with what follows a NUL byte as an environment variable. */
#include "../os.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct settings {
	const char *text;
	int64_t count, size_bytes, timeout_ms, price_uusd, fee_ppm;
	bool flag;
	int choice;
};

static const char *const choices[] = { "one", "two", NULL };

#define AT(member) offsetof(struct settings, member)
static const struct config_key keys[] = {
	{ "a", "text", CONFIG_TEXT, AT(text), "default", .doc = "Text." },
	{ "a", "count", CONFIG_INT, AT(count), "1", -5, 10, .doc = "Count." },
	{ "a", "flag", CONFIG_BOOL, AT(flag), "true", .doc = "Flag." },
	{ "b", "size", CONFIG_SIZE, AT(size_bytes), "1K", .doc = "Size." },
	{ "b", "timeout", CONFIG_DURATION, AT(timeout_ms), "1s", 1, 5000, .doc = "Timeout." },
	{ "b", "price", CONFIG_MONEY, AT(price_uusd), "1", -1, 5000000, .doc = "Price." },
	{ "b", "fee", CONFIG_PPM, AT(fee_ppm), "1%", 0, 1000000, .doc = "Fee." },
	{ "b", "choice", CONFIG_ENUM, AT(choice), "two", .names = choices, .doc = "Choice." },
};
static const struct config_table table = { keys, ARRAY_LEN(keys), sizeof(struct settings) };

static void check(const struct settings *s, const struct err *err, int rc)
{
	if (rc < 0) {
		assert(err->code == ERR_INVALID && err->text[0]);
		assert(utf8_valid(err->text, strlen(err->text)));
		return;
	}
	assert(utf8_valid(s->text, strlen(s->text)));
	assert(s->count >= -5 && s->count <= 10 && s->size_bytes >= 0);
	assert(s->timeout_ms >= 1 && s->timeout_ms <= 5000 && s->price_uusd >= -1);
	assert(s->fee_ppm <= 1000000 && (s->choice == 0 || s->choice == 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *nul = size ? memchr(data, '\0', size) : NULL;
	struct slice text = { (const char *)data,
			      nul ? (size_t)(nul - (const char *)data) : size };
	char *environment[2] = { NULL, NULL };
	struct arena arena = { 0 };
	struct settings s = { 0 };
	struct err err = { 0 };

	if (nul)
		environment[0] =
			arena_printf(&arena, "TES_%.*s", (int)(size - text.len - 1), nul + 1);
	check(&s, &err, config_read(&table, text, "fuzz.conf", environment, &arena, &s, &err));
	arena_release(&arena);
	return 0;
}
