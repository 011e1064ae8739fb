#include "api.h"

static const char *const methods[] = { [GET] = "get", [POST] = "post", [PUT] = "put", [DELETE] = "delete" };

static bool has_fields(const struct type *t)
{
	return t != &nothing_type && t->count > 0;
}

/* One entry of "parameters". */
static void write_parameter(const char *name, struct slice raw_schema, const char *in, const char *doc, bool required,
			    struct strbuf *out)
{
	strbuf_addf(out, "{\"name\":\"%s\",\"in\":\"%s\",\"required\":%s,\"schema\":", name, in,
		    required ? "true" : "false");
	strbuf_add(out, raw_schema.ptr, raw_schema.len);
	strbuf_adds(out, ",\"description\":");
	json_write_text(doc, out);
	strbuf_addc(out, '}');
}

static bool write_path_parameters(const struct operation *op, struct strbuf *out)
{
	bool any = false;

	for (const char *p = strchr(op->path, '{'); p; p = strchr(p + 1, '{')) {
		char name[32];
		size_t len = strcspn(p + 1, "*}");

		snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name) - 1), p + 1);
		if (any)
			strbuf_addc(out, ',');
		write_parameter(name, SLICE("{\"type\":\"string\"}"), "path", "Identifies the object.", true, out);
		any = true;
	}
	return any;
}

static void write_parameters(const struct operation *op, struct strbuf *out)
{
	strbuf_adds(out, "\"parameters\":[");
	bool any = write_path_parameters(op, out);

	for (size_t i = 0; op->method == GET && has_fields(op->in) && i < op->in->count; i++) {
		const struct field *f = &op->in->fields[i];
		const char *type = f->kind == KIND_BOOL ? "{\"type\":\"boolean\"}" :
				   f->kind == KIND_INT || f->kind == KIND_MONEY || f->kind == KIND_PPM ?
				   "{\"type\":\"integer\"}" : "{\"type\":\"string\"}";
		if (f->flags & (FIELD_OUT | FIELD_HIDDEN))
			continue;
		if (any)
			strbuf_addc(out, ',');
		write_parameter(f->name, slice_of(type), "query", f->doc, f->flags & FIELD_REQUIRED, out);
		any = true;
	}
	if (op->flags & OP_IDEMPOTENT) {
		if (any)
			strbuf_addc(out, ',');
		write_parameter("Idempotency-Key", SLICE("{\"type\":\"string\",\"maxLength\":128}"), "header",
				"The same key with the same body has one effect and one answer, for a day.", false, out);
	}
	strbuf_adds(out, "],");
}

static void note_type(struct type_set *seen, const struct type *t)
{
	for (size_t i = 0; i < seen->v.len; i++)
		if (seen->v.items[i] == t)
			return;
	*vec_push(&seen->v) = t;
}

static void write_content(const char *media, const struct type *t, struct type_set *seen, struct strbuf *out)
{
	strbuf_addf(out, "\"content\":{\"%s\":{\"schema\":", media);
	if (t) {
		note_type(seen, t);
		strbuf_addf(out, "{\"$ref\":\"#/components/schemas/%s\"}", t->name);
	} else {
		strbuf_adds(out, "{\"type\":\"string\",\"format\":\"binary\"}");
	}
	strbuf_adds(out, "}}");
}

static void write_responses(const struct operation *op, struct type_set *seen, struct strbuf *out)
{
	strbuf_addf(out, "\"responses\":{\"%s\":{\"description\":\"Done.\"",
		    op->flags & OP_CREATED ? "201" : has_fields(op->out) || op->flags & OP_FILE ? "200" : "204");
	if (op->flags & OP_FILE) {
		strbuf_addc(out, ',');
		write_content("application/octet-stream", NULL, seen, out);
	} else if (has_fields(op->out)) {
		strbuf_addc(out, ',');
		write_content("application/json", op->out, seen, out);
	}
	strbuf_adds(out, "},\"default\":{\"description\":\"A problem (RFC 9457).\","
			 "\"content\":{\"application/problem+json\":{\"schema\":"
			 "{\"$ref\":\"#/components/schemas/problem\"}}}}}");
}

static void write_operation(const struct operation *op, struct type_set *seen, struct strbuf *out)
{
	strbuf_addf(out, "\"%s\":{\"operationId\":\"%s\",\"summary\":", methods[op->method], op->name);
	json_write_text(op->summary, out);
	strbuf_addf(out, ",\"tags\":[\"%.*s\"],", (int)strcspn(op->name, "."), op->name);
	if (op->flags & OP_PUBLIC)
		strbuf_adds(out, "\"security\":[],");
	else if (op->flags & OP_WORKER)
		strbuf_adds(out, "\"security\":[{\"worker\":[]}],");
	else
		strbuf_addf(out, "\"x-role\":\"%s\",", role_names[op->role]);
	write_parameters(op, out);
	if (op->flags & OP_UPLOAD) {
		strbuf_adds(out, "\"requestBody\":{\"required\":true,");
		write_content("application/octet-stream", NULL, seen, out);
		strbuf_adds(out, "},");
	} else if (op->method != GET && has_fields(op->in)) {
		strbuf_adds(out, "\"requestBody\":{\"required\":true,");
		write_content("application/json", op->in, seen, out);
		strbuf_adds(out, "},");
	}
	write_responses(op, seen, out);
	strbuf_addc(out, '}');
}

/* OpenAPI has no "rest of the path" parameter: {path*} is shown as {path}. */
static void write_path(const char *path, struct strbuf *out)
{
	for (; *path; path++)
		if (*path != '*')
			strbuf_addc(out, *path);
}

void api_openapi(const char *server_url, struct strbuf *out)
{
	struct type_set seen = { 0 };
	bool done[OPERATION_COUNT] = { false };
	bool first_path = true;

	strbuf_adds(out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"TES AI\",\"version\":\"" TES_VERSION "\","
			 "\"license\":{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}},\"servers\":[{\"url\":");
	json_write_text(server_url, out);
	strbuf_adds(out, "}],\"security\":[{\"key\":[]}],\"paths\":{");
	for (size_t i = 0; i < OPERATION_COUNT; i++) {
		bool first = true;

		if (done[i])
			continue;
		strbuf_addf(out, "%s\"", first_path ? "" : ",");
		write_path(operations[i].path, out);
		strbuf_adds(out, "\":{");
		for (size_t j = i; j < OPERATION_COUNT; j++) {
			if (!str_eq(operations[i].path, operations[j].path))
				continue;
			if (!first)
				strbuf_addc(out, ',');
			write_operation(&operations[j], &seen, out);
			done[j] = true;
			first = false;
		}
		strbuf_addc(out, '}');
		first_path = false;
	}
	strbuf_adds(out, "},\"components\":{\"securitySchemes\":{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"},"
			 "\"worker\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"TES-MAC\"}},\"schemas\":{"
			 "\"problem\":{\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\"},"
			 "\"title\":{\"type\":\"string\"},\"status\":{\"type\":\"integer\"},"
			 "\"code\":{\"type\":\"string\"},\"detail\":{\"type\":\"string\"},"
			 "\"field\":{\"type\":\"string\"},\"request_id\":{\"type\":\"string\"}}}");
	for (size_t i = 0; i < seen.v.len; i++) { /* grows while nested types are found */
		const struct type *t = seen.v.items[i];

		strbuf_addf(out, ",\"%s\":", t->name);
		schema_openapi(t, &seen, out);
	}
	strbuf_adds(out, "}}}");
	vec_release(&seen.v);
}
