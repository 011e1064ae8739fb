#include "internal.h"

static void price_line(const char *label, int64_t rate_uusd_h, int64_t ms)
{
	char amount[40];

	money_text(owed_uusd(rate_uusd_h, ms), amount);
	print("%-20s  %s\n", label, amount);
}

static void quote_print(struct cli *cli, const struct quote *q, const struct quote_request *r)
{
	char span[32], price[40];
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	const void *at;
	const struct field *f;

	price_text(q->rate_uusd_h, price);
	print("%-20s  %s\n%-20s  %s\n", "quote", q->id, "price", price);
	price_line("  a minute", q->rate_uusd_h, MINUTE_MS);
	price_line("  a day", q->rate_uusd_h, DAY_MS);
	if (r->max_duration_s)
		price_line("  at most", q->rate_uusd_h, r->max_duration_s * SECOND_MS);
	f = schema_field(&quote_type, "fee_ppm", q, &at);
	field_format(f, at, &text);
	print("%-20s  %s of it\n", "network fee", text.buf);
	strbuf_reset(&text);
	f = schema_field(&quote_type, "expires_ms", q, &at);
	field_format(f, at, &text);
	duration_format(MAX(q->expires_ms - cli_now(), (int64_t)0) / SECOND_MS * SECOND_MS,
			span);
	print("%-20s  %s, in %s\n%-20s  %s\n", "ends", text.buf, span, "worker", q->worker_id);
	if (q->resources)
		record_print(cli, &resources_type, q->resources);
}

int cmd_quote(struct cli *cli, const struct args *args, struct err *err)
{
	struct quote_request request;
	struct resources *resources = arena_new(&cli->arena, struct resources);
	const char *offer = args_get(args, "offer");
	struct quote quote;

	schema_defaults(&quote_request_type, &request);
	schema_defaults(&resources_type, resources);
	request.resources = resources;
	cli->usage = true;
	if (args_apply(args, cli_now(), &cli->arena, &request, err) < 0)
		return -1;
	if (schema_check(&quote_request_type, &request, err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	cli->usage = false;
	if (offer && offer_ref(cli, offer, &request.offer, err) < 0) {
		snprintf(err->field, sizeof(err->field), "--offer");
		return -1;
	}
	if (remote_call(cli, &(struct remote){ OP_quote_create, .in = &request, .out = &quote },
			err) < 0) {
		args_name_flag(args, err);
		return -1;
	}
	if (cli->json) {
		print_body(cli);
		return 0;
	}
	quote_print(cli, &quote, &request);
	say(cli, "Use it with: tes run --quote %s --image IMAGE ...", quote.id);
	return 0;
}
