#include "internal.h"

int cmd_stop(struct cli *cli, const struct args *args, struct err *err)
{
	const char *id = args_word(args, 0);
	struct workload workload;

	if (is_array_ref(id))
		return array_stop(cli, id, err);
	if (remote_call(cli,
			&(struct remote){ OP_workload_stop, .param = id, .out = &workload },
			err) < 0)
		return -1;
	if (cli->json)
		print_body(cli);
	else
		say(cli, "%s is %s: %s", workload.id, workload_state_names[workload.state],
		    workload.reason_text ? workload.reason_text : "");
	return 0;
}
