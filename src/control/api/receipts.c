/* Receipts: what a worker signs of its leases.  One that is not what it should be is kept as evidence, and need not be sent
 * again either. */
#include "../internal.h"

#define EVIDENCE_PER_HOUR 1000 /* rows kept of one worker */

int evidence_add(struct control *c, struct db_conn *conn, const char *worker_id, const char *lease_id,
			const char *kind, const char *text, const char *payload, struct err *err)
{
	char id[ID_SIZE];
	int64_t lately;

	metrics_count(c, conn, "evidence_total", 1);
	if (db_query_int(conn, "SELECT COUNT(*) FROM evidence WHERE worker_id = $1 AND at_ms > $2",
			 DB_ARGS(DB_TEXT(worker_id), DB_INT(control_now(c) - HOUR_MS)), 0, &lately, err) < 0)
		return -1;
	if (lately >= EVIDENCE_PER_HOUR)
		return 0; /* enough is known; more of the same would only fill the store */
	id_make("ev", control_now(c), &c->random, id);
	return db_exec(conn, "INSERT INTO evidence (id, worker_id, lease_id, kind, text, payload, at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		       DB_ARGS(DB_TEXT(id), DB_TEXT(worker_id), DB_TEXT(lease_id ? lease_id : ""), DB_TEXT(kind), DB_TEXT(text),
			       DB_TEXT(payload), DB_INT(control_now(c))), NULL, err);
}

/* What is wrong with it, with the field: the texts of errors alone leave it out. */
static const char *why_text(const struct err *why, struct arena *a)
{
	return arena_printf(a, "%s%s%s", why->field, why->field[0] ? " " : "", why->text);
}

static bool receipt_signed(const struct worker *w, const struct signed_usage *r)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	uint8_t pk[SIGN_PUBLIC_SIZE], sig[SIGNATURE_SIZE];
	size_t len;

	strbuf_adds(&text, "tes-usage-1\n");
	strbuf_adds(&text, r->payload);
	return hex_parse(w->public_key, pk, sizeof(pk)) == 0 &&
	       base64url_parse(r->signature, sig, sizeof(sig), &len) == 0 && len == sizeof(sig) &&
	       sign_check(text.buf, text.len, pk, sig);
}

int receipt_read(struct control *c, struct db_conn *conn, const struct worker *w, const struct signed_usage *r, struct arena *a,
		 struct usage *ret, bool *ret_good, struct err *err)
{
	struct err why = { 0 };

	*ret_good = false;
	if (!receipt_signed(w, r))
		return evidence_add(c, conn, w->id, NULL, "receipt_signature", "the receipt's signature is not the worker's",
				    r->payload, err);
	if (schema_parse(&usage_type, slice_of(r->payload), FROM_SERVER, a, ret, &why) < 0)
		return evidence_add(c, conn, w->id, NULL, "receipt_malformed", why_text(&why, a), r->payload, err);
	*ret_good = true;
	return 0;
}

/* More time than has passed: noted at the first receipt that says so. */
static int time_note(struct control *c, struct db_conn *conn, const struct usage *u, const struct lease *lease,
		     const struct signed_usage *r, struct arena *a, struct err *err)
{
	int64_t possible_ms = usage_possible_ms(lease, control_now(c));

	if (u->delivered_ms <= possible_ms || lease->claimed_ms > possible_ms)
		return 0;
	return evidence_add(c, conn, u->worker, u->lease, "receipt_time",
			    arena_printf(a, "delivered_ms %" PRId64 " is more than the %" PRId64 " since the lease was made",
					 u->delivered_ms, MAX(control_now(c) - lease->reserved_ms, 0)), r->payload, err);
}

int receipt_take(struct control *c, struct db_conn *conn, const struct worker *w, const struct signed_usage *r,
		 const struct usage *u, struct lease *lease, struct arena *a, const struct receipt **ret, struct err *err)
{
	struct err why = { 0 };
	struct receipt *row;

	*ret = NULL;
	if (!lease)
		return evidence_add(c, conn, w->id, u->lease, "receipt_lease", arena_printf(a, LEASE_MISSING, u->lease), r->payload, err);
	if (usage_check(u, lease, w->id, control_now(c), &why) < 0) {
		if (why.code == ERR_CONFLICT)
			return 0; /* a repeat of the newest */
		return evidence_add(c, conn, w->id, u->lease, "receipt_content", why_text(&why, a), r->payload, err);
	}
	if (lease->state == LEASE_ENDED)
		return 0; /* settled; nothing can be added to a final bill */
	if (time_note(c, conn, u, lease, r, a, err) < 0)
		return -1;
	usage_take(u, lease);
	row = arena_new(a, struct receipt);
	*row = (struct receipt){
		.id = new_id(c, "rc", a), .lease_id = u->lease, .worker_id = u->worker, .payload = r->payload,
		.signature = r->signature, .seq = u->seq, .delivered_ms = u->delivered_ms, .at_ms = u->at_ms,
		.received_ms = control_now(c),
	};
	*ret = row;
	return 0;
}
