#include "internal.h"

int cmd_run(struct cli *cli, const struct args *args, struct err *err)
{
	struct submitted submitted;
	struct job job;
	bool wait = args_has(args, "wait");

	if (wait)
		interrupt_catch();
	if (job_from_args(cli, args, &job, err) < 0)
		return -1;
	if (job_submit(cli, &job, &submitted, err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	return job_submitted(cli, &job, &submitted, wait, err);
}
