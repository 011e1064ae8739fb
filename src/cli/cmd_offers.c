#include "internal.h"

static const struct column columns[] = {
	{ "id", "OFFER", COLUMN_ID },
	{ "price_uusd_h", "PRICE", COLUMN_RIGHT | COLUMN_RATE },
	{ "gpus_free", "GPUS", COLUMN_RIGHT },
	{ "gpu_model", "MODEL", COLUMN_SHRINK },
	{ "vram_mib", "VRAM", COLUMN_RIGHT | COLUMN_MIB },
	{ "cpu_milli_free", "CPUS", COLUMN_RIGHT | COLUMN_CPUS },
	{ "memory_mib_free", "MEMORY", COLUMN_RIGHT | COLUMN_MIB },
	{ "disk_mib_free", "DISK", COLUMN_RIGHT | COLUMN_MIB },
	{ "reliability_ppm", "RELIABLE", COLUMN_RIGHT },
	{ "region", "REGION", COLUMN_SHRINK },
	{ "simulated", "SIMULATED", 0 }, /* where there are such offers */
};

static bool any_simulated(const struct offer_page *page)
{
	for (size_t i = 0; i < page->items.len; i++)
		if (page->items.items[i].simulated)
			return true;
	return false;
}

int cmd_offers(struct cli *cli, const struct args *args, struct err *err)
{
	struct offer_query query;
	struct offer_page page;

	schema_defaults(&offer_query_type, &query);
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &query, err) < 0)
		return -1;
	cli->usage = false;
	if (remote_call(cli, &(struct remote){ OP_offer_list, .in = &query, .out = &page },
			err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	if (page.items.len == 0) {
		say(cli, "No offer matches now: `tes quote` with the same flags says what would have to change.");
		return 0;
	}
	table_print(cli, &offer_type, page.items.items, page.items.len, columns,
		    ARRAY_LEN(columns) - !any_simulated(&page));
	if (page.total > (int64_t)page.items.len)
		say(cli, "%" PRId64 " offers match; these are the first %zu (--limit).",
		    page.total, page.items.len);
	return 0;
}
