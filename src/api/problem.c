#include "api.h"

/* The one table from errors to HTTP. */
static const struct {
	enum err_code code;
	int status;
	const char *title;
} statuses[] = {
	{ ERR_NONE, 200, "OK" },
	{ ERR_INVALID, 422, "The request has a field that is not valid" },
	{ ERR_UNAUTHENTICATED, 401, "Who you are is not proved" },
	{ ERR_FUNDS, 402, "Not enough money" },
	{ ERR_FORBIDDEN, 403, "Not allowed" },
	{ ERR_NOT_FOUND, 404, "Not found" },
	{ ERR_CONFLICT, 409, "The state does not allow it" },
	{ ERR_GONE, 410, "No longer there" },
	{ ERR_TOO_LARGE, 413, "Too large" },
	{ ERR_RATE, 429, "Too many requests" },
	{ ERR_UNSUPPORTED, 415, "Not supported" },
	{ ERR_RETRY, 503, "Try again" },
	{ ERR_UNAVAILABLE, 503, "Not available now; nothing was changed" },
	{ ERR_TIMEOUT, 504, "Took too long" },
	{ ERR_IO, 500, "The server could not do it" },
	{ ERR_INTERNAL, 500, "The server has a fault" },
};

int api_status(enum err_code code)
{
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].code == code)
			return statuses[i].status;
	return 500;
}

void api_problem(const struct err *err, const char *request_id, struct strbuf *out)
{
	const char *title = "The server has a fault";

	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].code == err->code)
			title = statuses[i].title;
	strbuf_reset(out);
	strbuf_addf(out, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\",\"detail\":", title,
		    api_status(err->code), err_code_name(err->code));
	json_write_text(err->text, out);
	if (err->field[0]) {
		strbuf_adds(out, ",\"field\":");
		json_write_text(err->field, out);
	}
	if (request_id) {
		strbuf_adds(out, ",\"request_id\":");
		json_write_text(request_id, out);
	}
	strbuf_addc(out, '}');
}

static enum err_code code_of(int status, const char *name)
{
	for (size_t i = 1; name && i < ARRAY_LEN(statuses); i++)
		if (str_eq(err_code_name(statuses[i].code), name))
			return statuses[i].code;
	for (size_t i = 1; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].status == status)
			return statuses[i].code;
	return status >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
}

static const char *member_text(const struct json *doc, const char *name)
{
	const struct json *v = json_find(doc, name);

	return v && v->kind == JSON_TEXT ? v->text : NULL;
}

void api_problem_read(int status, struct slice body, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct json *doc = NULL;
	struct err ignored = { 0 };

	if (json_parse(body, &arena, &doc, &ignored) < 0)
		doc = NULL;
	const char *detail = doc ? member_text(doc, "detail") : NULL;
	const char *field = doc ? member_text(doc, "field") : NULL;

	bool says_why = !str_empty(detail);

	err_set(err, code_of(status, doc ? member_text(doc, "code") : NULL), "%s",
		says_why ? detail : "the server answered without saying why");
	if (!says_why)
		err_wrap(err, "status %d", status);
	if (field) {
		struct err clean;

		err_set_field(&clean, field, "%s", field); /* it may hold what steers a terminal */
		memcpy(err->field, clean.field, sizeof(err->field));
	}
}
