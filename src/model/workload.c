/* What a customer wants to run, and what became of it: specifications, workloads, replicas. */
#include "internal.h"

#define RETRIES_MAX 100

static const struct field registry_login_fields[] = {
	FIELD_TEXT(struct registry_login, username, 1, 255, FIELD_REQUIRED | FIELD_LINE,
		   "User at the registry."),
	FIELD_TEXT(struct registry_login, secret, 1, 8192,
		   FIELD_REQUIRED | FIELD_SECRET | FIELD_LINE,
		   "Password or token; taken in, never shown."),
};
TYPE(registry_login, registry_login, "Access to a private image.");

static const struct field workload_input_fields[] = {
	FIELD_ID(struct workload_input, id, "in", FIELD_REQUIRED,
		 "A tar archive uploaded before."),
	FIELD_TEXT(struct workload_input, name, 1, 255, FIELD_REQUIRED | FIELD_LINE,
		   "File or folder that the archive holds; it appears, read-only, as /in/<name>."),
};

static int workload_input_check(const void *value, struct err *err)
{
	const char *name = ((const struct workload_input *)value)->name;

	if (strchr(name, '/') || str_eq(name, ".") || str_eq(name, ".."))
		return err_set_field(err, "name",
				     "'%.64s' is not the name of a file: leave out the '/', and "
				     "it is neither \".\" nor \"..\"",
				     name);
	return 0;
}
TYPE_CHECK(workload_input, workload_input, workload_input_check,
	   "Files that a workload reads.");

static const struct field readiness_fields[] = {
	FIELD_TEXTS(struct readiness, command, COMMAND_MAX, COMMAND_MAX_BYTES, FIELD_REQUIRED,
		    "Run in the container until it ends with status 0: then the workload is "
		    "ready."),
	FIELD_INT(struct readiness, timeout_s, 1, 86400, 300, 0,
		  "Seconds from the container's start until it must be ready."),
};

static int readiness_check(const void *value, struct err *err)
{
	if (((const struct readiness *)value)->command.len == 0)
		return err_set_field(err, "command",
				     "is empty: name a command, or leave ready out");
	return 0;
}
TYPE_CHECK(readiness, readiness, readiness_check, "When a workload counts as running.");

static const struct field workload_spec_fields[] = {
	FIELD_ENUM(struct workload_spec, kind, workload_kind_names, WORKLOAD_JOB, 0,
		   "job: runs to its end; instance: stays until it is stopped."),
	FIELD_TEXT(struct workload_spec, name, 0, NAME_MAX_BYTES, FIELD_LINE,
		   "Its name, of a-z, 0-9 and '-'; absent: made from the id."),
	FIELD_TEXT(struct workload_spec, image, 1, IMAGE_MAX_BYTES, FIELD_REQUIRED | FIELD_LINE,
		   "Container image, like docker.io/library/debian:12."),
	FIELD_TEXTS(struct workload_spec, command, COMMAND_MAX, COMMAND_MAX_BYTES, 0,
		    "Command and its arguments; empty: the image's own."),
	FIELD_MAP(struct workload_spec, env, ENV_MAX, ENV_MAX_BYTES, 0,
		  "Environment variables."),
	FIELD_MAP(struct workload_spec, secrets, ENV_MAX, ENV_MAX_BYTES, FIELD_SECRET,
		  "Environment variables that are stored encrypted and never shown."),
	FIELD_OBJECT(struct workload_spec, registry, &registry_login_type, 0,
		     "Access to a private image."),
	FIELD_OBJECT(struct workload_spec, resources, &resources_type, 0,
		     "What each replica gets."),
	FIELD_LIST(struct workload_spec, inputs, &workload_input_type, INPUTS_MAX, 0,
		   "Files that it reads, under /in."),
	FIELD_TEXTS(struct workload_spec, outputs, OUTPUTS_MAX, PATH_MAX_BYTES, 0,
		    "Absolute paths in the container, kept as results after it ends."),
	FIELD_TEXT(struct workload_spec, region, 0, REGION_MAX_BYTES, FIELD_LINE,
		   "Where it may run; absent: anywhere."),
	FIELD_ID(struct workload_spec, quote, "qt", 0,
		 "Runs at this quote's price on its worker; excludes max_price_uusd_h."),
	FIELD_PPM(struct workload_spec, min_reliability_ppm, 0,
		  "Reliability of the worker in millionths, at least."),
	FIELD_MONEY(
		struct workload_spec, max_price_uusd_h, 0,
		"Highest price of one replica, all of it, in millionths of a dollar an hour; "
		"0: the best offer's when it is submitted."),
	FIELD_INT(struct workload_spec, max_duration_s, 0, DURATION_S_MAX, 0, 0,
		  "Longest running time in seconds; 0: no limit."),
	FIELD_INT(struct workload_spec, prepare_timeout_s, 10, 7 * INT64_C(86400), 1800, 0,
		  "Seconds that pulling the image and unpacking the inputs may take."),
	FIELD_INT(struct workload_spec, retries, 0, RETRIES_MAX, 3, 0,
		  "How often another worker is tried when one fails."),
	FIELD_OBJECT(struct workload_spec, ready, &readiness_type, 0,
		     "When it counts as running; absent: as soon as its container runs."),
};

static int check_env(const char *field, const struct text_map *env, struct err *err)
{
	for (size_t i = 0; i < env->len; i++) {
		const char *name = env->items[i].key;
		size_t len = strlen(name);

		if (len == 0 || (name[0] >= '0' && name[0] <= '9') ||
		    strspn(name,
			   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") !=
			    len)
			return err_set_field(
				err, field,
				"'%.64s' is not the name of a variable: use letters, digits "
				"and '_', no digit first",
				name);
	}
	return 0;
}

/* Absolute, and staying where it says: no "..", so that collecting it cannot leave the
 * container's file system. */
static bool output_path_valid(const char *path)
{
	struct slice rest = slice_of(path), part;

	if (path[0] != '/' || path[1] == '\0' || strpbrk(path, "\n\t"))
		return false;
	while (slice_split(&rest, '/', &part))
		if (slice_is(part, "..") || slice_is(part, "."))
			return false;
	return true;
}

static int check_outputs(const struct text_list *outputs, struct err *err)
{
	for (size_t i = 0; i < outputs->len; i++) {
		char field[48];

		snprintf(field, sizeof(field), "outputs[%zu]", i);
		if (!output_path_valid(outputs->items[i]))
			return err_set_field(
				err, field,
				"'%.100s': write an absolute path below '/' without '.' or "
				"'..'",
				outputs->items[i]);
		for (size_t j = 0; j < i; j++)
			if (str_eq(outputs->items[i], outputs->items[j]))
				return err_set_field(
					err, field,
					"'%.100s' stands here twice: name each path once",
					outputs->items[i]);
	}
	return 0;
}

static int check_inputs(const struct workload_spec *s, struct err *err)
{
	for (size_t i = 0; i < s->inputs.len; i++)
		for (size_t j = 0; j < i; j++)
			if (str_eq(s->inputs.items[i].name, s->inputs.items[j].name)) {
				char field[48];

				snprintf(field, sizeof(field), "inputs[%zu].name", i);
				return err_set_field(
					err, field,
					"'%.64s' stands here twice: /in/%.64s can hold one of "
					"them",
					s->inputs.items[i].name, s->inputs.items[i].name);
			}
	return 0;
}

static int workload_spec_check(const void *value, struct err *err)
{
	const struct workload_spec *s = value;
	struct image_ref ref;
	struct err inner = { 0 };

	if (image_parse(s->image, &ref, &inner) < 0)
		return err_set_field(err, "image", "%s", inner.text);
	if (check_label("name", s->name, err) < 0 ||
	    check_label("region", s->region, err) < 0 || check_env("env", &s->env, err) < 0 ||
	    check_env("secrets", &s->secrets, err) < 0 || check_inputs(s, err) < 0 ||
	    check_outputs(&s->outputs, err) < 0)
		return -1;
	for (size_t i = 0; i < s->secrets.len; i++)
		if (text_map_find(&s->env, s->secrets.items[i].key))
			return err_set_field(err, "secrets",
					     "'%.64s' is also in env: give it once",
					     s->secrets.items[i].key);
	if (!str_empty(s->quote) && s->max_price_uusd_h > 0)
		return err_set_field(err, "max_price_uusd_h",
				     "a quote has its own price: leave out either quote or "
				     "max_price_uusd_h");
	return 0;
}
TYPE_CHECK(workload_spec, workload_spec, workload_spec_check, "Something to run.");

/* ---- arrays -------------------------------------------------------------------------------- */

static const struct field array_request_fields[] = {
	FIELD_INT(struct array_request, count, 1, ARRAY_MAX, 1, FIELD_REQUIRED,
		  "How many workloads: all of them are made, or none."),
	FIELD_OBJECT(
		struct array_request, spec, &workload_spec_type, FIELD_REQUIRED,
		"Each one's specification, without quote. To its env is added TES_ARRAY_INDEX, from 0 to "
		"count - 1; its name, if it has one, is followed by '-' and that number."),
};

static int array_name_check(const struct array_request *r, struct err *err)
{
	char last[24];

	snprintf(last, sizeof(last), "-%" PRId64, r->count - 1);
	if (!str_empty(r->spec->name) && strlen(r->spec->name) + strlen(last) > NAME_MAX_BYTES)
		return err_set_field(
			err, "spec.name",
			"'%.64s' has %zu characters; with \"%s\" at its end it may have %zu",
			r->spec->name, strlen(r->spec->name), last,
			NAME_MAX_BYTES - strlen(last));
	return 0;
}

/* Each is stored with its specification: a small request must not fill the store. */
static int array_bytes_check(const struct array_request *r, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	schema_write_secret(&workload_spec_type, r->spec, &text);
	if ((int64_t)text.len * r->count > ARRAY_BYTES_MAX)
		return err_set_field(
			err, "count",
			"is %" PRId64
			": so many specifications of %zu bytes are more than %d MiB; "
			"ask for %" PRId64 " at most, or give what is large as an input",
			r->count, text.len, (int)(ARRAY_BYTES_MAX >> 20),
			ARRAY_BYTES_MAX / (int64_t)text.len);
	return 0;
}

static int array_request_check(const void *value, struct err *err)
{
	const struct array_request *r = value;
	const struct workload_spec *s = r->spec;

	if (!str_empty(s->quote))
		return err_set_field(
			err, "spec.quote",
			"a quote is for one workload: leave it out, and give max_price_uusd_h");
	if (text_map_find(&s->env, ARRAY_INDEX_VARIABLE))
		return err_set_field(err, "spec.env",
				     "has " ARRAY_INDEX_VARIABLE
				     ", which each workload is given: leave it out");
	if (text_map_find(&s->secrets, ARRAY_INDEX_VARIABLE))
		return err_set_field(err, "spec.secrets",
				     "has " ARRAY_INDEX_VARIABLE
				     ", which each workload is given: leave it out");
	if (s->env.len >= ENV_MAX)
		return err_set_field(
			err, "spec.env",
			"has %zu entries; %d are allowed, as each workload is given one more",
			s->env.len, ENV_MAX - 1);
	return array_name_check(r, err) < 0 ? -1 : array_bytes_check(r, err);
}
TYPE_CHECK(array_request, array_request, array_request_check,
	   "Many workloads of one specification.");

static const struct field workload_array_fields[] = {
	FIELD_ID(struct workload_array, id, "ar", FIELD_OUT, "The array."),
	FIELD_TEXTS(struct workload_array, ids, ARRAY_MAX, ID_LEN, FIELD_OUT,
		    "The workloads, in the order of their numbers."),
	FIELD_MONEY(
		struct workload_array, max_price_uusd_h, FIELD_OUT,
		"The highest price that each will ever be placed at, in millionths of a dollar "
		"an hour."),
};
TYPE(workload_array, workload_array, "The workloads of an array.");

#define FIELD_STATE_COUNT(member, text) \
	FIELD_INT(struct array_summary, member, 0, ARRAY_MAX, 0, FIELD_OUT, text)
static const struct field array_summary_fields[] = {
	FIELD_ID(struct array_summary, id, "ar", FIELD_OUT, "The array."),
	FIELD_STATE_COUNT(count, "Its workloads, all together."),
	FIELD_STATE_COUNT(pending, "Those that wait for a worker."),
	FIELD_STATE_COUNT(preparing, "Those that have one and do not run yet."),
	FIELD_STATE_COUNT(running, "Those that run."),
	FIELD_STATE_COUNT(paused, "Those that are out of funds."),
	FIELD_STATE_COUNT(stopping, "Those that were told to stop."),
	FIELD_STATE_COUNT(succeeded, "Those that ended with status 0."),
	FIELD_STATE_COUNT(failed, "Those that ended otherwise."),
	FIELD_STATE_COUNT(stopped, "Those that were stopped."),
	FIELD_INT(struct array_summary, exit_code, -1, 255, -1, FIELD_OUT,
		  "The highest exit status of those that have ended; -1: none has one."),
	FIELD_MONEY(struct array_summary, charged_uusd, FIELD_OUT,
		    "Charged so far for all of them, in millionths of a dollar."),
	FIELD_TIME(struct array_summary, created_ms, FIELD_OUT, "When it was submitted."),
	FIELD_TIME(struct array_summary, ended_ms, FIELD_OUT,
		   "When the last of them ended; 0: some have not."),
};
TYPE(array_summary, array_summary, "How the workloads of an array stand.");

void array_spec(const struct array_request *r, int64_t index, struct arena *a,
		struct workload_spec *ret)
{
	const struct text_map *env = &r->spec->env;
	struct text_map_item *items = arena_array(a, struct text_map_item, env->len + 1);

	for (size_t i = 0; i < env->len; i++)
		items[i] = env->items[i];
	items[env->len] = (struct text_map_item){ ARRAY_INDEX_VARIABLE,
						  arena_printf(a, "%" PRId64, index) };
	*ret = *r->spec;
	ret->env = (struct text_map){ items, env->len + 1 };
	if (!str_empty(ret->name))
		ret->name = arena_printf(a, "%s-%" PRId64, ret->name, index);
}

/* ---- workloads ------------------------------------------------------------------------------- */

static const struct field workload_fields[] = {
	FIELD_ID(struct workload, id, "wl", COLUMN_SET, "The workload."),
	FIELD_ID(struct workload, org_id, "or", COLUMN_SET | FIELD_FIXED, "Who pays for it."),
	FIELD_TEXT(struct workload, name, 0, NAME_MAX_BYTES, COLUMN | FIELD_FIXED | FIELD_LINE,
		   "Its name."),
	FIELD_ENUM(struct workload, state, workload_state_names, WORKLOAD_PENDING, COLUMN,
		   "Where it stands."),
	FIELD_TEXT(struct workload, reason, 0, 64, COLUMN | FIELD_LINE, "Why, for programs."),
	FIELD_TEXT(struct workload, reason_text, 0, REASON_TEXT_MAX_BYTES, COLUMN,
		   "Why, for people."),
	FIELD_OBJECT(struct workload, spec, &workload_spec_type, COLUMN_SET | FIELD_FIXED,
		     "What was submitted, without secrets."),
	FIELD_TEXT(
		struct workload, image_pinned, 0, IMAGE_MAX_BYTES + DIGEST_MAX_BYTES,
		COLUMN | FIELD_LINE,
		"The image with its digest, once the first worker has resolved it; retries run "
		"the same one."),
	FIELD_MONEY(
		struct workload, max_price_uusd_h, COLUMN | FIELD_FIXED,
		"The highest price that it will ever be placed at, in millionths of a dollar "
		"an hour."),
	FIELD_ID(struct workload, quote_id, "qt", COLUMN_NULL | FIELD_FIXED,
		 "The quote that it uses."),
	FIELD_ID(struct workload, worker_wanted, "wk", COLUMN_NULL | FIELD_FIXED,
		 "The quote's worker."),
	FIELD_INT(struct workload, attempts, 0, COUNT_MAX, 0, COLUMN, "Leases made so far."),
	FIELD_INT(struct workload, exit_code, -1, 255, -1, COLUMN,
		  "Exit status of its container; -1: none."),
	FIELD_TIME(struct workload, created_ms, COLUMN | FIELD_FIXED, "When it was submitted."),
	FIELD_TIME(struct workload, started_ms, COLUMN, "When it first ran."),
	FIELD_TIME(struct workload, ended_ms, COLUMN, "When it ended."),
	FIELD_TIME(struct workload, removed_ms, COLUMN, "When it was removed from the list."),
	FIELD_MONEY(struct workload, charged_uusd, COLUMN,
		    "Charged so far, in millionths of a dollar."),
	FIELD_ID(struct workload, lease_id, "le", COLUMN_NULL, "The current or last lease."),
	FIELD_ID(struct workload, worker_id, "wk", COLUMN_NULL, "The worker of that lease."),
	FIELD_ID(struct workload, array_id, "ar", COLUMN_NULL | FIELD_FIXED,
		 "The array that it is part of."),
	FIELD_INT(struct workload, array_index, 0, ARRAY_MAX - 1, 0, COLUMN | FIELD_FIXED,
		  "Its number in that array, from 0."),
	FIELD_TIME(struct workload, updated_ms, COLUMN, "When this record last changed."),
};
TYPE(workload, workload, "Something that runs, or ran.");

static const struct field workload_progress_fields[] = {
	FIELD_ID(struct workload, id, "wl", COLUMN_SET, "The workload."),
	FIELD_ENUM(struct workload, state, workload_state_names, WORKLOAD_PENDING, COLUMN,
		   "Where it stands."),
	FIELD_TEXT(struct workload, reason, 0, 64, COLUMN | FIELD_LINE, "Why, for programs."),
	FIELD_TEXT(struct workload, reason_text, 0, REASON_TEXT_MAX_BYTES, COLUMN,
		   "Why, for people."),
	FIELD_TEXT(
		struct workload, image_pinned, 0, IMAGE_MAX_BYTES + DIGEST_MAX_BYTES,
		COLUMN | FIELD_LINE,
		"The image with its digest, once the first worker has resolved it; retries run "
		"the same one."),
	FIELD_INT(struct workload, exit_code, -1, 255, -1, COLUMN,
		  "Exit status of its container; -1: none."),
	FIELD_TIME(struct workload, started_ms, COLUMN, "When it first ran."),
	FIELD_TIME(struct workload, ended_ms, COLUMN, "When it ended."),
	FIELD_MONEY(struct workload, charged_uusd, COLUMN,
		    "Charged so far, in millionths of a dollar."),
	FIELD_TIME(struct workload, updated_ms, COLUMN, "When this record last changed."),
};
TYPE(workload_progress, workload, "What a workload's lease moves of it.");

static const struct field workload_query_fields[] = {
	FIELD_ENUM(struct workload_query, state, workload_state_names, -1, 0,
		   "In this state; absent: in any."),
	FIELD_TEXT(struct workload_query, name, 0, NAME_MAX_BYTES, FIELD_LINE,
		   "With this name."),
	FIELD_ID(struct workload_query, array, "ar", 0, "Of this array."),
	FIELD_BOOL(struct workload_query, all, 0,
		   "Also those that have ended; else only the living and the recent."),
	FIELD_INT(struct workload_query, limit, 1, 1000, 50, 0,
		  "Workloads on one page, at most."),
	FIELD_TEXT(struct workload_query, cursor, 0, 256, FIELD_LINE,
		   "The `next` of the page before."),
};
TYPE(workload_query, workload_query, "Which workloads to list.");

static const struct field workload_page_fields[] = {
	FIELD_LIST(struct workload_page, items, &workload_type, 1000, FIELD_OUT,
		   "The workloads, newest first."),
	FIELD_TEXT(struct workload_page, next, 0, 256, FIELD_OUT | FIELD_LINE,
		   "Cursor of the next page; absent: this is the last."),
};
TYPE(workload_page, workload_page, "Workloads of an organisation.");

static const struct field replica_fields[] = {
	FIELD_ID(struct replica, id, "rp", COLUMN_SET, "The replica."),
	FIELD_ID(struct replica, org_id, "or", COLUMN_SET | FIELD_FIXED, "Who pays for it."),
	FIELD_ID(struct replica, workload_id, "wl", COLUMN_SET | FIELD_FIXED,
		 "The workload that it is part of."),
	FIELD_INT(struct replica, number, 0, 100000, 0, COLUMN | FIELD_FIXED,
		  "Number in its workload, from 0."),
	FIELD_ENUM(struct replica, state, replica_state_names, REPLICA_PENDING, COLUMN,
		   "Where it stands."),
	FIELD_INT(struct replica, generation, 0, COUNT_MAX, 0, COLUMN,
		  "Leases made so far; each carries its own number."),
	FIELD_INT(struct replica, retries_left, 0, RETRIES_MAX, 0, COLUMN,
		  "How often another worker may still be tried."),
	FIELD_TIME(struct replica, not_before_ms, COLUMN, "Not placed before this moment."),
	FIELD_ID(struct replica, lease_id, "le", COLUMN_NULL, "The current or last lease."),
	FIELD_ID(struct replica, hold_id, "tr", COLUMN_NULL,
		 "The hold that stands for it until a lease takes over."),
	FIELD_TIME(struct replica, created_ms, COLUMN | FIELD_FIXED, "When it was made."),
	FIELD_TIME(struct replica, updated_ms, COLUMN, "When this record last changed."),
};
TYPE(replica, replica, "One instance of a workload.");

bool workload_state_is_final(enum workload_state s)
{
	switch (s) {
	case WORKLOAD_PENDING:
	case WORKLOAD_PREPARING:
	case WORKLOAD_RUNNING:
	case WORKLOAD_PAUSED:
	case WORKLOAD_STOPPING: return false;
	case WORKLOAD_SUCCEEDED:
	case WORKLOAD_FAILED:
	case WORKLOAD_STOPPED: return true;
	}
	return true;
}
