/* Job files: YAML with the fields of a workload_spec, in the forms of people.
 *
 * The document is rewritten into what the description of workload_spec reads ("memory: 2GiB" ->
 * resources.memory_mib: 2048), keeping the lines, and then read by it: limits, required fields and
 * checks are those of the API.  The short names are those of the flags of `tes run`. */
#include "internal.h"

struct reader {
	const char *dir;
	secret_fn *secret;
	void *secret_arg;
	struct arena *arena;
	struct err *err;
	struct job *job;
};

static int refuse(struct reader *r, const char *field, int line, const char *why)
{
	return err_set_field(r->err, field, "%.180s (line %d)", why, line);
}

/* ---- short names ------------------------------------------------------------------------------ */

/* "gpu-model" and "gpu_model". */
static bool same_name(const char *flag, const char *key)
{
	for (; *flag && *key; flag++, key++)
		if (*flag != *key && !(*flag == '-' && *key == '_'))
			return false;
	return !*flag && !*key;
}

/* The flag of `run` that sets one field, as the job file calls it; NULL: nothing short. */
static const struct flag *short_find(const char *key)
{
	const struct command *run = command_find("run");
	struct flag_walk w = { 0 };
	const struct flag *f;

	while ((f = flag_next(run, &w)))
		if (f->field && !f->many && same_name(f->name, key))
			return f;
	return NULL;
}

static int unknown_key(struct reader *r, const char *key, int line)
{
	VEC(const char *) names = { 0 };
	const struct command *run = command_find("run");
	struct flag_walk w = { 0 };
	const struct flag *f;
	const char *near;
	char why[160];

	for (size_t i = 0; i < workload_spec_type.count; i++)
		*vec_push(&names) = workload_spec_type.fields[i].name;
	*vec_push(&names) = "array";
	while ((f = flag_next(run, &w)))
		if (f->field && !f->many) {
			char *name = arena_strdup(r->arena, f->name);

			for (char *p = name; *p; p++)
				*p = *p == '-' ? '_' : *p;
			*vec_push(&names) = name;
		}
	near = nearest_name(key, names.items, names.len);
	vec_release(&names);
	snprintf(why, sizeof(why), "unknown field `%.40s`%s%s%s", key,
		 near ? "; did you mean `" : ": `tes apply --help` names them",
		 near ? near : "", near ? "`?" : "");
	return refuse(r, key, line, why);
}

void job_name_field(const char *file, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	const struct command *run = command_find("run");
	char field[sizeof(err->field)];
	struct flag_walk w = { 0 };
	const struct flag *f;

	snprintf(field, sizeof(field), "%s", err->field);
	while (field[0] && (f = flag_next(run, &w)))
		if (f->field && !f->many &&
		    str_eq(field_path(&workload_spec_type, f->field, &arena), err->field)) {
			snprintf(field, sizeof(field), "%s", f->name);
			for (char *p = field; *p; p++)
				*p = *p == '-' ? '_' : *p;
		}
	err->field[0] = '\0';
	if (field[0])
		err_wrap(err, "%s", field);
	err_wrap(err, "%s", file);
}

/* ---- the document that is made -------------------------------------------------------------------- */

struct object {
	int line;
	VEC(struct json_member) members;
};

static void object_release(struct object *o)
{
	vec_release(&o->members);
}

static int object_add(struct reader *r, struct object *o, const char *name, const char *shown,
		      const struct json *value)
{
	for (size_t i = 0; i < o->members.len; i++)
		if (str_eq(o->members.items[i].name, name))
			return refuse(r, shown, value->line,
				      "is given twice, under two names: give it once");
	*vec_push(&o->members) = (struct json_member){ name, *value };
	return 0;
}

static struct json object_json(struct reader *r, const struct object *o)
{
	struct json j = { .kind = JSON_OBJECT, .line = o->line };

	j.member_count = o->members.len;
	j.members = arena_array(r->arena, struct json_member, o->members.len + 1);
	if (o->members.len)
		memcpy(j.members, o->members.items, o->members.len * sizeof(*j.members));
	return j;
}

/* ---- values ------------------------------------------------------------------------------------------ */

static const char *scalar_text(struct reader *r, const struct json *in)
{
	switch (in->kind) {
	case JSON_TEXT: return in->text;
	case JSON_INT: return arena_printf(r->arena, "%" PRId64, in->integer);
	case JSON_REAL: return arena_printf(r->arena, "%.15g", in->real);
	case JSON_BOOL: return in->boolean ? "true" : "false";
	case JSON_NULL:
	case JSON_ARRAY:
	case JSON_OBJECT: return NULL;
	}
	return NULL;
}

/* What a person wrote for the field at `path`, as the number that the API takes. */
static int number_make(struct reader *r, enum value_kind kind, const char *path,
		       const char *key, const struct json *in, struct json *ret)
{
	struct workload_spec scratch;
	const char *text = scalar_text(r, in);
	struct err why = { 0 };
	const void *at;

	if (!text)
		return refuse(r, key, in->line,
			      "one value is wanted here, not a list or an object");
	schema_defaults(&workload_spec_type, &scratch);
	if (value_convert(kind, text, 0, r->arena, &text, &why) < 0 ||
	    schema_set(&workload_spec_type, path, text, r->arena, &scratch, &why) < 0)
		return refuse(r, key, in->line, why.text);
	if (!schema_field(&workload_spec_type, path, &scratch, &at) || !at)
		return refuse(r, key, in->line, "cannot be set");
	*ret = (struct json){ .kind = JSON_INT,
			      .line = in->line,
			      .integer = *(const int64_t *)at };
	return 0;
}

static bool is_number(const struct field *f)
{
	return f->kind == KIND_INT || f->kind == KIND_MONEY || f->kind == KIND_PPM;
}

/* A short name: its value goes to the spec or to its resources. */
static int short_read(struct reader *r, const struct flag *flag, const char *key,
		      const struct json *in, struct object *spec, struct object *resources)
{
	const char *path = field_path(&workload_spec_type, flag->field, r->arena);
	const struct field *f = schema_field(&workload_spec_type, path, NULL, NULL);
	bool below = str_starts(path, "resources.");
	struct json value = *in;

	if (is_number(f) && number_make(r, flag->kind, path, key, in, &value) < 0)
		return -1;
	return object_add(r, below ? resources : spec, f->name, key, &value);
}

/* The lists of names become maps of names to values from elsewhere. */
static int secrets_read(struct reader *r, const struct json *in, struct object *spec)
{
	struct object map = { .line = in->line };
	struct json value;
	int rc = 0;

	if (in->kind != JSON_ARRAY)
		return object_add(r, spec, "secrets", "secrets", in);
	for (size_t i = 0; rc == 0 && i < in->count; i++) {
		const struct json *item = &in->items[i];
		struct err why = { 0 };

		value = (struct json){ .kind = JSON_TEXT, .line = item->line };
		if (item->kind != JSON_TEXT)
			rc = refuse(r, "secrets", item->line,
				    "is a list of the names of variables");
		else if (r->secret(r->secret_arg, item->text, &value.text, &why) < 0)
			rc = refuse(r, "secrets", item->line, why.text);
		else
			rc = object_add(r, &map, item->text, "secrets", &value);
	}
	value = object_json(r, &map);
	object_release(&map);
	return rc < 0 ? -1 : object_add(r, spec, "secrets", "secrets", &value);
}

/* Paths are uploaded later; what was uploaded before is named by its id. */
static int inputs_read(struct reader *r, const struct json *in, struct object *spec)
{
	struct json list = { .kind = JSON_ARRAY, .line = in->line };

	if (in->kind != JSON_ARRAY)
		return refuse(r, "inputs", in->line, "is a list of files and folders");
	list.items = arena_array(r->arena, struct json, in->count + 1);
	for (size_t i = 0; i < in->count; i++) {
		const struct json *item = &in->items[i];

		if (item->kind != JSON_TEXT) {
			list.items[list.count++] = *item;
			continue;
		}
		if (r->job->input_count == JOB_INPUTS_MAX)
			return refuse(r, "inputs", item->line,
				      "has more than 16 entries: put them into one folder");
		r->job->input_paths[r->job->input_count++] =
			item->text[0] == '/' || !*r->dir
				? item->text
				: arena_printf(r->arena, "%s/%s", r->dir, item->text);
	}
	return object_add(r, spec, "inputs", "inputs", &list);
}

/* {command, timeout: 5m} */
static int ready_read(struct reader *r, const struct json *in, struct object *spec)
{
	struct object ready = { .line = in->line };
	struct json value;
	int rc = 0;

	if (in->kind != JSON_OBJECT)
		return object_add(r, spec, "ready", "ready", in);
	for (size_t i = 0; rc == 0 && i < in->member_count; i++) {
		const struct json_member *m = &in->members[i];
		const char *name = m->name;

		value = m->value;
		if (str_eq(name, "timeout")) {
			name = "timeout_s";
			rc = number_make(r, VALUE_DURATION, "ready.timeout_s", "ready.timeout",
					 &m->value, &value);
		}
		if (rc == 0)
			rc = object_add(r, &ready, name, "ready", &value);
	}
	value = object_json(r, &ready);
	object_release(&ready);
	return rc < 0 ? -1 : object_add(r, spec, "ready", "ready", &value);
}

/* {username}: the password is never in the file's place, unless somebody insists. */
static int registry_read(struct reader *r, const struct json *in, struct object *spec)
{
	struct object login = { .line = in->line };
	struct json value = { .kind = JSON_TEXT, .line = in->line };
	struct err why = { 0 };
	int rc = 0;

	if (in->kind != JSON_OBJECT || json_find(in, "secret"))
		return object_add(r, spec, "registry", "registry", in);
	for (size_t i = 0; i < in->member_count; i++)
		*vec_push(&login.members) = in->members[i];
	if (r->secret(r->secret_arg, "TES_REGISTRY_PASSWORD", &value.text, &why) < 0)
		rc = refuse(r, "registry", in->line, why.text);
	else
		rc = object_add(r, &login, "secret", "registry", &value);
	value = object_json(r, &login);
	object_release(&login);
	return rc < 0 ? -1 : object_add(r, spec, "registry", "registry", &value);
}

/* How many of it: not of the specification, but of what is asked for. */
static int array_read(struct reader *r, const struct json *in)
{
	const char *text = scalar_text(r, in);
	struct err why = { 0 };

	if (!text)
		return refuse(r, "array", in->line, "is the number of workloads to make");
	if (r->job->array)
		return refuse(r, "array", in->line, "is given twice: give it once");
	if (job_array_set(text, r->arena, r->job, &why) < 0)
		return refuse(r, "array", in->line, why.text);
	return 0;
}

/* ---- the whole ------------------------------------------------------------------------------------------ */

/* `resources:` may hold short names too. */
static int resources_read(struct reader *r, const struct json *in, struct object *resources)
{
	if (in->kind != JSON_OBJECT)
		return refuse(r, "resources", in->line,
			      "is an object with cpus, memory, disk and so on");
	for (size_t i = 0; i < in->member_count; i++) {
		const struct json_member *m = &in->members[i];
		const struct flag *flag = short_find(m->name);
		const char *path =
			flag ? field_path(&workload_spec_type, flag->field, r->arena) : "";

		if (!str_starts(path, "resources.")) {
			if (object_add(r, resources, m->name, m->name, &m->value) < 0)
				return -1;
		} else if (short_read(r, flag, m->name, &m->value, NULL, resources) < 0) {
			return -1;
		}
	}
	return 0;
}

static int member_read(struct reader *r, const struct json_member *m, struct object *spec,
		       struct object *resources)
{
	const struct flag *flag = short_find(m->name);

	if (str_eq(m->name, "resources"))
		return resources_read(r, &m->value, resources);
	if (m->value.kind == JSON_NULL)
		return 0;
	if (str_eq(m->name, "array"))
		return array_read(r, &m->value);
	if (str_eq(m->name, "secrets"))
		return secrets_read(r, &m->value, spec);
	if (str_eq(m->name, "inputs"))
		return inputs_read(r, &m->value, spec);
	if (str_eq(m->name, "ready"))
		return ready_read(r, &m->value, spec);
	if (str_eq(m->name, "registry"))
		return registry_read(r, &m->value, spec);
	if (flag)
		return short_read(r, flag, m->name, &m->value, spec, resources);
	if (!schema_field(&workload_spec_type, m->name, NULL, NULL) || strpbrk(m->name, ".["))
		return unknown_key(r, m->name, m->value.line);
	return object_add(r, spec, m->name, m->name, &m->value);
}

static int document_read(struct reader *r, const struct json *in, struct json *ret)
{
	struct object spec = { .line = in->line }, resources = { .line = in->line };
	struct json value;
	int rc = 0;

	if (in->kind != JSON_OBJECT)
		return refuse(r, "", in->line,
			      "a job file holds fields, such as `image: debian:12`");
	for (size_t i = 0; rc == 0 && i < in->member_count; i++)
		rc = member_read(r, &in->members[i], &spec, &resources);
	value = object_json(r, &resources);
	if (rc == 0)
		rc = object_add(r, &spec, "resources", "resources", &value);
	*ret = object_json(r, &spec);
	object_release(&spec);
	object_release(&resources);
	return rc;
}

int job_from_yaml(struct slice text, const char *dir, secret_fn *secret, void *arg,
		  struct arena *arena, struct job *ret, struct err *err)
{
	struct job job = { .input_count = 0 };
	struct reader r = { dir, secret, arg, arena, err, &job };
	struct json *in, spec;

	if (yaml_parse(text, arena, &in, err) < 0 || document_read(&r, in, &spec) < 0 ||
	    schema_read(&workload_spec_type, &spec, FROM_CLIENT, arena, &job.spec, err) < 0 ||
	    (job.array && job_check(&job, err) < 0))
		return -1;
	*ret = job;
	return 0;
}
