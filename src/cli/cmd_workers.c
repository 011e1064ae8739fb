#include "internal.h"

static const struct column columns[] = {
	{ "id", "ID", COLUMN_ID },
	{ "name", "NAME", COLUMN_SHRINK },
	{ "state", "STATE", COLUMN_STATE },
	{ "intent", "INTENT", 0 },
	{ "used_gpus", "GPUS USED", COLUMN_RIGHT },
	{ "gpus", "OF", COLUMN_RIGHT },
	{ "used_cpu_milli", "CPUS USED", COLUMN_RIGHT | COLUMN_CPUS },
	{ "cpu_milli", "OF", COLUMN_RIGHT | COLUMN_CPUS },
	{ "used_memory_mib", "MEMORY USED", COLUMN_RIGHT },
	{ "memory_mib", "OF", COLUMN_RIGHT },
	{ "reliability_ppm", "RELIABLE", COLUMN_RIGHT },
	{ "seen_ms", "SEEN", COLUMN_RIGHT | COLUMN_AGE },
};

/* By id, a unique beginning of it, or name. */
static int worker_resolve(const struct worker_page *page, const char *ref,
			  const struct worker **ret, struct err *err)
{
	size_t found = 0;

	for (size_t i = 0; i < page->items.len; i++) {
		const struct worker *w = &page->items.items[i];

		if (!str_eq(w->name, ref) &&
		    !(id_prefix_valid(ref, "wk") && str_starts(w->id, ref)))
			continue;
		*ret = w;
		found++;
	}
	if (found == 1)
		return 0;
	return found ? err_set(err, ERR_CONFLICT,
			       "\"%.64s\" stands for %zu workers: give the whole id", ref,
			       found)
		     : err_set(err, ERR_NOT_FOUND,
			       "you have no worker \"%.64s\": `tes workers` lists them", ref);
}

int cmd_workers(struct cli *cli, const struct args *args, struct err *err)
{
	const char *ref = args_word(args, 0);
	struct worker_page page;
	const struct worker *found = NULL;
	struct worker worker;

	if (remote_call(cli, &(struct remote){ OP_worker_list, .out = &page }, err) < 0)
		return -1;
	if (ref &&
	    (worker_resolve(&page, ref, &found, err) < 0 ||
	     remote_call(cli,
			 &(struct remote){ OP_worker_show, .param = found->id, .out = &worker },
			 err) < 0))
		return -1;
	if (cli->json)
		print_body(cli);
	else if (ref)
		record_print(cli, &worker_type, &worker);
	else if (page.items.len == 0)
		say(cli,
		    "You have no workers; `tes token` makes a token with which a machine joins.");
	else
		table_print(cli, &worker_type, page.items.items, page.items.len, columns,
			    ARRAY_LEN(columns));
	return 0;
}
