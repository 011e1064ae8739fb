/* Job files. */
#include "../internal.h"

static int secret(void *arg, const char *name, const char **ret, struct err *err)
{
	(void)arg;
	if (strlen(name) % 2)
		return err_set(err, ERR_INVALID, "%s is not there", name);
	*ret = "hush";
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct job job;
	struct err err = { 0 };

	arena_init(&arena, 64 << 20);
	if (job_from_yaml((struct slice){ (const char *)data, size }, "dir", secret, NULL,
			  &arena, &job, &err) == 0) {
		struct err again = { 0 };

		assert(schema_check(&workload_spec_type, &job.spec, &again) == 0);
		assert(job.input_count <= JOB_INPUTS_MAX);
	} else {
		assert(err.code != ERR_NONE && err.text[0]);
	}
	arena_release(&arena);
	return 0;
}
