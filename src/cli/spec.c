/* What is to be run, from the flags of `tes run`. */
#include "internal.h"

#define SECRET_MAX 8192

/* ---- secrets and variables ---------------------------------------------------------------- */

int secret_get(void *arg, const char *name, const char **ret, struct err *err)
{
	struct arena *arena = arg;
	const char *value = getenv(name);
	char typed[SECRET_MAX];
	char prompt[160];
	struct err why = { 0 };

	if (value) {
		*ret = value;
		return 0;
	}
	snprintf(prompt, sizeof(prompt), "Value of the secret %.100s: ", name);
	if (term_read_secret(prompt, typed, sizeof(typed), &why) < 0)
		return err_set(err, ERR_INVALID,
			       "%.100s is not in the environment: export it, or be asked on a terminal (%s)",
			       name, why.text);
	*ret = arena_strdup(arena, typed);
	explicit_bzero(typed, sizeof(typed));
	return 0;
}

/* "K=V", or K with its value from elsewhere, as one entry of a map. */
static int pair_set(struct cli *cli, const char *field, const char *text,
		    struct workload_spec *spec, struct err *err)
{
	bool secret = str_eq(field, "secrets");
	const char *value;

	if (!strchr(text, '=')) {
		if (secret && secret_get(&cli->arena, text, &value, err) < 0)
			return -1;
		if (!secret && !(value = getenv(text)))
			return err_set(
				err, ERR_INVALID,
				"%.100s is not in your environment: give --env %.100s=VALUE",
				text, text);
		text = arena_printf(&cli->arena, "%s=%s", text, value);
	}
	return schema_set(&workload_spec_type, field, text, &cli->arena, spec, err);
}

static int registry_set(struct cli *cli, const char *user, struct workload_spec *spec,
			struct err *err)
{
	struct registry_login *login = arena_new(&cli->arena, struct registry_login);

	login->username = user;
	if (secret_get(&cli->arena, "TES_REGISTRY_PASSWORD", &login->secret, err) < 0)
		return -1;
	spec->registry = login;
	return 0;
}

/* ---- from flags ------------------------------------------------------------------------------- */

static int input_add(struct job *job, const char *path, struct err *err)
{
	if (job->input_count == JOB_INPUTS_MAX)
		return err_set(err, ERR_INVALID,
			       "more than %d inputs are not taken: put them into one folder",
			       JOB_INPUTS_MAX);
	job->input_paths[job->input_count++] = path;
	return 0;
}

/* Flags that schema_set alone cannot do. */
static int special_flags(struct cli *cli, const struct args *args, struct job *job,
			 struct err *err)
{
	for (size_t i = 0; i < args->flags.len; i++) {
		const char *name = args->flags.items[i].flag->name,
			   *text = args->flags.items[i].text;
		int rc = 0;

		if (str_eq(name, "env"))
			rc = pair_set(cli, "env", text, &job->spec, err);
		else if (str_eq(name, "secret"))
			rc = pair_set(cli, "secrets", text, &job->spec, err);
		else if (str_eq(name, "in"))
			rc = input_add(job, text, err);
		else if (str_eq(name, "registry-user"))
			rc = registry_set(cli, text, &job->spec, err);
		else if (str_eq(name, "array"))
			rc = job_array_set(text, &cli->arena, job, err);
		else if (str_eq(name, "instance"))
			job->spec.kind = WORKLOAD_INSTANCE;
		if (rc < 0) {
			snprintf(err->field, sizeof(err->field), "--%s", name);
			return -1;
		}
	}
	return 0;
}

/* A quote stands for certain resources: they are the start, not the defaults. */
static int quote_resources(struct cli *cli, const char *id, struct workload_spec *spec,
			   struct err *err)
{
	struct quote quote;

	if (!id_valid(id, "qt"))
		return err_set(err, ERR_INVALID,
			       "\"%.40s\" is not a full id: copy what `tes quote` has printed",
			       id);
	if (remote_call(cli, &(struct remote){ OP_quote_show, .param = id, .out = &quote },
			err) < 0)
		return -1;
	spec->resources = quote.resources;
	return 0;
}

static int resources_default(struct cli *cli, struct workload_spec *spec)
{
	struct resources *r;

	if (spec->resources)
		return 0;
	r = arena_new(&cli->arena, struct resources);
	schema_defaults(&resources_type, r);
	spec->resources = r;
	return 0;
}

int job_from_args(struct cli *cli, const struct args *args, struct job *ret, struct err *err)
{
	struct job job = { .input_count = 0 };
	const char *quote = args_get(args, "quote");

	schema_defaults(&workload_spec_type, &job.spec);
	if (quote && quote_resources(cli, quote, &job.spec, err) < 0)
		return err_wrap(err, "--quote");
	resources_default(cli, &job.spec);
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &job.spec, err) < 0 ||
	    special_flags(cli, args, &job, err) < 0)
		return -1;
	job.spec.command.items = (const char **)args->rest;
	job.spec.command.len = args->rest_len;
	if (job_check(&job, err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	cli->usage = false;
	*ret = job;
	return 0;
}
