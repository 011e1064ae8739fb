#include "internal.h"

/* Also apply's. */
int submitted(struct cli *cli, const struct workload *w, bool wait, struct err *err)
{
	char price[40];

	price_text(w->max_price_uusd_h, price);
	if (wait) {
		say(cli, "%s (%s), at most %s", w->id, w->name ? w->name : "", price);
		return wait_for_end(cli, w->id, err);
	}
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	print("%s\n", w->id);
	if (cli->tty_err)
		say(cli,
		    "It costs at most %s while it runs. Output: tes logs -f %s; stop it: tes stop %s",
		    price, w->id, w->id);
	return 0;
}

int cmd_run(struct cli *cli, const struct args *args, struct err *err)
{
	struct workload workload;
	struct job job;
	bool wait = args_has(args, "wait");

	if (wait)
		interrupt_catch();
	if (job_from_args(cli, args, &job, err) < 0)
		return -1;
	if (job_submit(cli, &job, &workload, err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	return submitted(cli, &workload, wait, err);
}
