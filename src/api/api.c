#include "api.h"

const struct operation operations[OPERATION_COUNT] = {
#define OPERATION(nm, fn, mt, pt, i, o, rl, sc, fl, sm) \
	[OP_##fn] = { .id = OP_##fn, .name = nm, .method = mt, .path = pt, .in = &i##_type, .out = &o##_type, \
		      .role = rl, .scope = sc, .flags = fl, .summary = sm },
#include "operations.def"
#undef OPERATION
};

const struct operation *operation_find(const char *name)
{
	for (size_t i = 0; i < OPERATION_COUNT; i++)
		if (str_eq(operations[i].name, name))
			return &operations[i];
	return NULL;
}

char *operation_path(const struct operation *op, const char *const *params, size_t len, struct arena *a)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	size_t used = 0;

	for (const char *p = op->path; *p; p++) {
		if (*p != '{') {
			strbuf_addc(&out, *p);
			continue;
		}
		const char *end = strchr(p, '}');
		bool rest = end[-1] == '*';

		assert(used < len);
		struct slice value = slice_of(params[used++]), part;
		bool first = true;
		if (!rest)
			strbuf_adds(&out, url_escape(a, params[used - 1]));
		while (rest && slice_split(&value, '/', &part)) {
			strbuf_addf(&out, "%s%s", first ? "" : "/",
				    url_escape(a, arena_strndup(a, part.ptr, part.len)));
			first = false;
		}
		p = end;
	}
	assert(used == len);
	return arena_strdup(a, out.buf);
}

void request_mac(const uint8_t key[static 32], const char *session, const char *method, const char *target,
		 int64_t time_ms, int64_t nonce, const uint8_t body_sha256[static 32], uint8_t ret[static MAC_SIZE])
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	char hex[SHA256_HEX_SIZE];

	hex_format(body_sha256, SHA256_SIZE, hex);
	strbuf_addf(&text, "tes-request-1\n%s\n%s\n%s\n%" PRId64 "\n%" PRId64 "\n%s", session, method, target,
		    time_ms, nonce, hex);
	mac_make(text.buf, text.len, key, ret);
}

void session_sign_text(const char *worker_id, int64_t time_ms, const char *exchange_key,
		       const char *boot_id, struct strbuf *out)
{
	strbuf_reset(out);
	strbuf_addf(out, "tes-session-1\n%s\n%" PRId64 "\n%s\n%s", worker_id, time_ms, exchange_key,
		    boot_id ? boot_id : "");
}
