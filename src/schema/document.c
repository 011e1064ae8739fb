/* The descriptions for others to read: OpenAPI 3.1 schemas and Markdown tables. */
#include "internal.h"

static void see(const struct type *t, struct type_set *seen)
{
	for (size_t i = 0; i < seen->v.len; i++)
		if (seen->v.items[i] == t)
			return;
	*vec_push(&seen->v) = t;
}

/* One property of an OpenAPI object, being written: `"key":value` pairs with commas between. */
static void add_key(struct strbuf *out, const char *key)
{
	if (out->buf[out->len - 1] != '{')
		strbuf_addc(out, ',');
	json_write_text(key, out);
	strbuf_addc(out, ':');
}

static void add_text(struct strbuf *out, const char *key, const char *text)
{
	add_key(out, key);
	json_write_text(text, out);
}

static void add_int(struct strbuf *out, const char *key, int64_t v)
{
	add_key(out, key);
	strbuf_addf(out, "%" PRId64, v);
}

static void add_ref(struct strbuf *out, const struct type *t, struct type_set *seen)
{
	see(t, seen);
	add_key(out, "$ref");
	strbuf_addf(out, "\"#/components/schemas/%s\"", t->name);
}

/* The alphabet is that of base.h's ids: Crockford's base 32, lower case. */
static void add_id(struct strbuf *out, const struct field *f)
{
	add_text(out, "type", "string");
	add_key(out, "pattern");
	strbuf_addf(out, "\"^%s_[0-9a-hjkmnp-tv-z]{26}$\"", f->prefix ? f->prefix : "[a-z]{2}");
}

static void add_number(struct strbuf *out, const struct field *f)
{
	add_text(out, "type", "integer");
	add_text(out, "format", "int64");
	add_int(out, "minimum", f->min);
	add_int(out, "maximum", f->max);
	if (!(f->flags & (FIELD_REQUIRED | FIELD_OUT)) && f->def >= f->min && f->def <= f->max)
		add_int(out, "default", f->def);
}

static void add_enum(struct strbuf *out, const struct field *f)
{
	add_text(out, "type", "string");
	add_key(out, "enum");
	strbuf_addc(out, '[');
	for (int i = 0; f->names[i]; i++) {
		if (i > 0)
			strbuf_addc(out, ',');
		json_write_text(f->names[i], out);
	}
	strbuf_addc(out, ']');
	if (!(f->flags & (FIELD_REQUIRED | FIELD_OUT)) && f->def >= 0 &&
	    f->def < names_count(f->names))
		add_text(out, "default", f->names[f->def]);
}

/* Lengths here count characters, our limits bytes: a text that passes here may still be too
 * long for us. */
static void add_text_kind(struct strbuf *out, int64_t min, int64_t max)
{
	add_text(out, "type", "string");
	if (min > 0)
		add_int(out, "minLength", 1);
	add_int(out, "maxLength", max);
}

static void add_list(struct strbuf *out, const struct field *f, struct type_set *seen)
{
	add_text(out, "type", "array");
	if (f->min > 0)
		add_int(out, "minItems", f->min);
	add_int(out, "maxItems", f->max);
	add_key(out, "items");
	strbuf_addc(out, '{');
	if (f->type)
		add_ref(out, f->type, seen);
	else
		add_text_kind(out, 0, f->item_max);
	strbuf_addc(out, '}');
}

static void add_map(struct strbuf *out, const struct field *f)
{
	add_text(out, "type", "object");
	add_int(out, "maxProperties", f->max);
	add_key(out, "propertyNames");
	strbuf_addf(out, "{\"minLength\":1,\"maxLength\":%d}", MAP_KEY_MAX);
	add_key(out, "additionalProperties");
	strbuf_addc(out, '{');
	add_text_kind(out, 0, f->item_max);
	strbuf_addc(out, '}');
}

static void add_property(struct strbuf *out, const struct field *f, struct type_set *seen)
{
	strbuf_addc(out, '{');
	switch (f->kind) {
	case KIND_TEXT: add_text_kind(out, f->min, f->max); break;
	case KIND_ID: add_id(out, f); break;
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM: add_number(out, f); break;
	case KIND_BOOL: add_text(out, "type", "boolean"); break;
	case KIND_ENUM: add_enum(out, f); break;
	case KIND_TIME:
		add_text(out, "type", "integer");
		add_text(out, "format", "int64");
		break;
	case KIND_OBJECT: add_ref(out, f->type, seen); break;
	case KIND_LIST: add_list(out, f, seen); break;
	case KIND_MAP: add_map(out, f); break;
	}
	if (!str_empty(f->doc))
		add_text(out, "description", f->doc);
	if (f->flags & (FIELD_OUT | FIELD_SECRET)) {
		add_key(out, f->flags & FIELD_OUT ? "readOnly" : "writeOnly");
		strbuf_adds(out, "true");
	}
	strbuf_addc(out, '}');
}

void schema_openapi(const struct type *t, struct type_set *seen, struct strbuf *out)
{
	bool required = false;

	strbuf_addc(out, '{');
	add_text(out, "type", "object");
	if (!str_empty(t->doc))
		add_text(out, "description", t->doc);
	add_key(out, "properties");
	strbuf_addc(out, '{');
	for (size_t i = 0; i < t->count; i++) {
		if (t->fields[i].flags & FIELD_HIDDEN)
			continue;
		add_key(out, t->fields[i].name);
		add_property(out, &t->fields[i], seen);
	}
	strbuf_addc(out, '}');
	for (size_t i = 0; i < t->count; i++) {
		if (!(t->fields[i].flags & FIELD_REQUIRED) || t->fields[i].flags & FIELD_HIDDEN)
			continue;
		if (required) {
			strbuf_addc(out, ',');
		} else {
			add_key(out, "required");
			strbuf_addc(out, '[');
		}
		required = true;
		json_write_text(t->fields[i].name, out);
	}
	strbuf_adds(out, required ? "]" : "");
	add_key(out, "additionalProperties");
	strbuf_adds(out, "false}");
}

/* ---- Markdown ---------------------------------------------------------------------------- */

static void markdown_kind(const struct field *f, struct strbuf *out)
{
	switch (f->kind) {
	case KIND_TEXT: strbuf_adds(out, "text"); break;
	case KIND_ID: strbuf_addf(out, "id `%s_…`", f->prefix ? f->prefix : ""); break;
	case KIND_INT: strbuf_adds(out, "integer"); break;
	case KIND_BOOL: strbuf_adds(out, "true or false"); break;
	case KIND_ENUM: strbuf_adds(out, "name"); break;
	case KIND_TIME: strbuf_adds(out, "time (ms since 1970 UTC; RFC 3339 text is taken too)"); break;
	case KIND_MONEY: strbuf_adds(out, "money (millionths)"); break;
	case KIND_PPM: strbuf_adds(out, "parts per million"); break;
	case KIND_OBJECT: strbuf_addf(out, "[%s](#%s)", f->type->name, f->type->name); break;
	case KIND_LIST:
		if (f->type)
			strbuf_addf(out, "list of [%s](#%s)", f->type->name, f->type->name);
		else
			strbuf_adds(out, "list of texts");
		break;
	case KIND_MAP: strbuf_adds(out, "map of texts"); break;
	}
}

static void markdown_limits(const struct field *f, struct strbuf *out)
{
	switch (f->kind) {
	case KIND_TEXT:
		strbuf_addf(out, "%" PRId64 " … %" PRId64 " bytes", f->min, f->max);
		break;
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM:
		strbuf_addf(out, "%" PRId64 " … %" PRId64, f->min, f->max);
		if (!(f->flags & (FIELD_REQUIRED | FIELD_OUT)) && f->def >= f->min &&
		    f->def <= f->max)
			strbuf_addf(out, "; default %" PRId64, f->def);
		break;
	case KIND_ENUM:
		names_join(f->names, out);
		if (!(f->flags & (FIELD_REQUIRED | FIELD_OUT)) && f->def >= 0 &&
		    f->def < names_count(f->names))
			strbuf_addf(out, "; default %s", f->names[f->def]);
		break;
	case KIND_LIST:
	case KIND_MAP:
		strbuf_addf(out, "at most %" PRId64, f->max);
		if (!f->type)
			strbuf_addf(out, ", of %" PRId64 " bytes each", f->item_max);
		break;
	case KIND_ID:
	case KIND_BOOL:
	case KIND_TIME:
	case KIND_OBJECT: break;
	}
}

static void markdown_doc(const char *doc, struct strbuf *out)
{
	for (; doc && *doc; doc++) {
		if (*doc == '|')
			strbuf_addc(out, '\\');
		strbuf_addc(out, *doc == '\n' ? ' ' : *doc);
	}
}

void schema_markdown(const struct type *t, struct strbuf *out)
{
	strbuf_adds(out, "| field | kind | limits | meaning |\n|---|---|---|---|\n");
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		if (f->flags & FIELD_HIDDEN)
			continue;
		strbuf_addf(out, "| `%s`%s%s%s | ", f->name,
			    f->flags & FIELD_REQUIRED ? " required" : "",
			    f->flags & FIELD_OUT ? " (output)" : "",
			    f->flags & FIELD_SECRET ? " (secret)" : "");
		markdown_kind(f, out);
		strbuf_adds(out, " | ");
		markdown_limits(f, out);
		strbuf_adds(out, " | ");
		markdown_doc(f->doc, out);
		strbuf_adds(out, " |\n");
	}
}
