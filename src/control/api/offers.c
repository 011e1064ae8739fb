/* Offers and quotes. */
#include "../internal.h"

int op_offer_list(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	return scheduler_offers(c, conn, call->in, call->arena, call->out, err);
}

/* "of_…" and "wk_…" of a worker share their last 26 characters. */
static const char *worker_of_offer(const char *offer, struct arena *a)
{
	return offer ? arena_printf(a, "wk_%s", offer + 3) : NULL;
}

int op_quote_create(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct quote_request *in = call->in;
	struct quote *out = call->out;
	struct resources *want = arena_new(call->arena, struct resources);
	struct explanation why;
	struct placement best;
	bool found;
	struct request r = {
		.region = in->region, .worker = worker_of_offer(in->offer, call->arena),
		.min_reliability_ppm = in->min_reliability_ppm, .max_price_uusd_h = in->max_price_uusd_h,
		.max_duration_s = in->max_duration_s, .now_ms = control_now(c),
	};

	if (in->resources)
		*want = *in->resources;
	else
		schema_defaults(&resources_type, want);
	r.want = want;
	if (scheduler_best(c, conn, &r, &best, &found, err) < 0)
		return -1;
	if (!found) {
		if (scheduler_explain(c, conn, &r, call->arena, &why, err) < 0)
			return -1;
		return err_set(err, ERR_CONFLICT, "no offer matches: %s", why.summary);
	}
	*out = (struct quote){
		.id = new_id(c, "qt", call->arena), .org_id = call->caller.org_id,
		.worker_id = arena_strdup(call->arena, best.worker_id), .resources = want, .rate_uusd_h = best.rate_uusd_h,
		.fee_ppm = c->config.fee_ppm, .created_ms = control_now(c),
		.expires_ms = control_now(c) + c->config.quote_ttl_ms,
	};
	return db_insert(conn, &quote_type, "quotes", out, err);
}

int op_quote_show(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	(void)c;
	if (db_get(conn, &quote_type, "quotes", "WHERE id = $1 AND org_id = $2",
		   DB_ARGS(DB_TEXT(call->params[0]), DB_TEXT(call->caller.org_id)), call->arena, call->out, err) == 0)
		return 0;
	if (err->code != ERR_NOT_FOUND)
		return -1;
	err_clear(err);
	return err_set(err, ERR_NOT_FOUND, "there is no quote \"%.40s\"", call->params[0]);
}
