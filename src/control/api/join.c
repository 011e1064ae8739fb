/* A worker's identity: joining with a token, opening sessions, the owner's intent. */
#include "../internal.h"

#define SESSION_TTL_MS (12 * HOUR_MS)

int worker_devices_store(struct db_conn *conn, const char *worker_id, const struct inventory *inv, struct err *err)
{
	if (db_exec(conn, "DELETE FROM worker_devices WHERE worker_id = $1", DB_ARGS(DB_TEXT(worker_id)), NULL, err) < 0)
		return -1;
	for (size_t i = 0; i < inv->devices.len; i++) {
		const struct device *d = &inv->devices.items[i];
		int64_t elsewhere;

		if (db_query_int(conn, "SELECT COUNT(*) FROM worker_devices WHERE uuid = $1", DB_ARGS(DB_TEXT(d->uuid)), 0,
				 &elsewhere, err) < 0)
			return -1;
		if (elsewhere)
			return err_set_field(err, "inventory.devices",
					     "GPU %s is already shown by another worker: a device belongs to one", d->uuid);
		if (db_exec(conn, "INSERT INTO worker_devices (uuid, worker_id, model, vram_mib) VALUES ($1, $2, $3, $4)",
			    DB_ARGS(DB_TEXT(d->uuid), DB_TEXT(worker_id), DB_TEXT(d->model), DB_INT(d->vram_mib)), NULL, err) < 0)
			return -1;
	}
	return 0;
}

/* What the machine says of itself, believed only as far as it can be: production refuses what is simulated. */
int worker_inventory_take(struct control *c, struct worker *w, const struct inventory *inv, struct err *err)
{
	bool simulated = inv->simulated;

	for (size_t i = 0; i < inv->devices.len; i++)
		simulated |= inv->devices.items[i].simulated;
	if (simulated && c->config.production)
		return err_set(err, ERR_FORBIDDEN,
			       "this network is in production and takes no simulated hardware: remove [gpu] simulated");
	w->inventory = inv;
	w->cpu_milli = inv->offered_cpu_milli;
	w->memory_mib = inv->offered_memory_mib;
	w->disk_mib = inv->offered_disk_mib;
	w->gpus = inv->devices.len;
	w->simulated = simulated;
	return 0;
}

/* The token behind the secret, if it may still be spent; ERR_UNAUTHENTICATED. */
static int token_find(struct control *c, struct db_conn *conn, const char *secret, struct arena *a, struct join_token *ret,
		      struct err *err)
{
	char hash[SHA256_HEX_SIZE];
	int64_t now = control_now(c);

	sha256_hex(secret, strlen(secret), hash);
	if (db_get(conn, &join_token_type, "join_tokens", "WHERE hash = $1", DB_ARGS(DB_TEXT(hash)), a, ret, err) < 0) {
		if (err->code != ERR_NOT_FOUND)
			return -1;
		err_clear(err);
		return err_set(err, ERR_UNAUTHENTICATED, "this join token is not known: ask the organisation for a new one");
	}
	if (ret->used_ms)
		return err_set(err, ERR_CONFLICT, "this join token was used by %s: a token is for one worker", ret->worker_id);
	if (ret->expires_ms <= now)
		return err_set(err, ERR_GONE, "this join token has expired: ask the organisation for a new one");
	return 0;
}

static int token_spend(struct control *c, struct db_conn *conn, const struct join_token *t, const char *worker_id, struct err *err)
{
	return db_exec(conn, "UPDATE join_tokens SET used_ms = $2, worker_id = $3 WHERE id = $1",
		       DB_ARGS(DB_TEXT(t->id), DB_INT(control_now(c)), DB_TEXT(worker_id)), NULL, err);
}

int op_worker_join(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct worker_join *in = call->in;
	struct worker_joined *out = call->out;
	struct join_token token;
	uint8_t key[SIGN_PUBLIC_SIZE];
	int64_t now = control_now(c);
	struct worker w = {
		.id = new_id(c, "wk", call->arena), .name = in->name, .public_key = in->public_key, .state = WORKER_OFFLINE,
		.joined_ms = now, .offline_since_ms = now, .updated_ms = now, .uptime_ppm = 1000000,
		.reliability_ppm = reliability(1000000, 0, 0),
	};

	if (hex_parse(in->public_key, key, sizeof(key)) < 0)
		return err_set_field(err, "public_key", "is not an ed25519 public key: 64 lower-case hexadecimal digits");
	if (!in->inventory)
		return err_set_field(err, "inventory", "is missing: say what the machine has");
	if (token_find(c, conn, in->token, call->arena, &token, err) < 0 ||
	    worker_inventory_take(c, &w, in->inventory, err) < 0)
		return -1;
	w.org_id = token.org_id;
	if (db_insert(conn, &worker_type, "workers", &w, err) < 0) {
		if (err->code != ERR_CONFLICT)
			return -1;
		err_clear(err);
		return err_set_field(err, "public_key", "belongs to another worker: each makes a key of its own");
	}
	if (token_spend(c, conn, &token, w.id, err) < 0 || worker_devices_store(conn, w.id, in->inventory, err) < 0 ||
	    event_append(c, conn, w.org_id, w.id, w.id, "worker.joined", "joined", w.name, err) < 0)
		return -1;
	*out = (struct worker_joined){ .worker_id = w.id, .org_id = w.org_id };
	return 0;
}

static int worker_row(struct db_conn *conn, const struct type *t, const char *id, struct arena *a, struct worker *ret,
		      struct err *err)
{
	if (db_get(conn, t, "workers", "WHERE id = $1", DB_ARGS(DB_TEXT(id)), a, ret, err) < 0)
		return err->code == ERR_NOT_FOUND ? (err_clear(err), err_set(err, ERR_NOT_FOUND, "there is no worker %s", id)) : -1;
	return 0;
}

int worker_load(struct db_conn *conn, const char *id, struct arena *a, struct worker *ret, struct err *err)
{
	return worker_row(conn, &worker_type, id, a, ret, err);
}

int worker_standing_load(struct db_conn *conn, const char *id, struct arena *a, struct worker *ret, struct err *err)
{
	return worker_row(conn, &worker_standing_type, id, a, ret, err);
}

static int signature_check(const struct session_request *in, const struct worker *w, struct err *err)
{
	uint8_t pk[SIGN_PUBLIC_SIZE], sig[SIGNATURE_SIZE];
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	size_t len;

	session_sign_text(in->worker_id, in->time_ms, in->exchange_key, in->boot_id, &text);
	if (hex_parse(w->public_key, pk, sizeof(pk)) < 0 ||
	    base64url_parse(in->signature, sig, sizeof(sig), &len) < 0 || len != sizeof(sig) ||
	    !sign_check(text.buf, text.len, pk, sig))
		return err_set(err, ERR_UNAUTHENTICATED, "the signature is not this worker's");
	return 0;
}

int op_worker_session(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct session_request *in = call->in;
	struct session *out = call->out;
	struct worker w;
	int64_t now = control_now(c);
	uint8_t theirs[EXCHANGE_SIZE], pk[EXCHANGE_SIZE], sk[EXCHANGE_SIZE], key[32];
	char hex[2 * EXCHANGE_SIZE + 1];

	if (llabs(in->time_ms - now) > API_CLOCK_SKEW_MS)
		return err_set_field(err, "time_ms", "is off by %" PRId64 " ms, at most %" PRId64 " are allowed: set the machine's clock",
				     in->time_ms - now, (int64_t)API_CLOCK_SKEW_MS);
	if (worker_load(conn, in->worker_id, call->arena, &w, err) < 0 || signature_check(in, &w, err) < 0)
		return -1;
	if (w.state == WORKER_LEFT)
		return err_set(err, ERR_GONE, "worker %s has left the network: join again with a new token", w.id);
	exchange_keypair(pk, sk);
	if (hex_parse(in->exchange_key, theirs, sizeof(theirs)) < 0 ||
	    exchange_shared(sk, theirs, pk, false, key) < 0)
		return err_set_field(err, "exchange_key", "is not an X25519 public key: 64 lower-case hexadecimal digits");
	hex_format(pk, sizeof(pk), hex);
	*out = (struct session){
		.id = new_id(c, "ss", call->arena), .exchange_key = arena_strdup(call->arena, hex),
		.expires_ms = now + SESSION_TTL_MS, .heartbeat_ms = c->config.heartbeat_ms, .server_time_ms = now,
	};
	/* What the store may refuse comes first: a session is not undone. An owner's command has no boot id. */
	if (!str_empty(in->boot_id) && db_exec(conn, "UPDATE workers SET boot_id = $2 WHERE id = $1",
					       DB_ARGS(DB_TEXT(w.id), DB_TEXT(in->boot_id)), NULL, err) < 0)
		return -1;
	heartbeat_changed(c, conn, w.id);
	if (!session_put(c->sessions, out->id, w.id, theirs, key, out->expires_ms))
		return err_set_field(err, "exchange_key", "was used before: make a new one for each session");
	return 0;
}

/* Drain: no new leases, the present ones are asked to end at once; pause: no new ones, the present run on. */
int op_worker_intent(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	const struct intent_request *in = call->in;
	struct worker *w = call->out;
	struct lease *leases;
	size_t len;
	int64_t now = control_now(c);
	struct lease_event stop = { .kind = LEASE_EVENT_STOP, .reason = REASON_DRAINED_BY_PROVIDER };

	if (worker_load(conn, call->caller.worker_id, call->arena, w, err) < 0 ||
	    db_select(conn, &lease_type, "leases", "WHERE worker_id = $1 AND state <> 'ended'", DB_ARGS(DB_TEXT(w->id)),
		      call->arena, (void **)&leases, &len, err) < 0)
		return -1;
	if (in->leave && len)
		return err_set(err, ERR_CONFLICT, "%zu leases are still here: drain first, then leave", len);
	w->intent = in->intent;
	if (in->leave)
		w->state = WORKER_LEFT;
	if (db_exec(conn, "UPDATE workers SET intent = $2, state = $3, updated_ms = $4 WHERE id = $1",
		    DB_ARGS(DB_TEXT(w->id), DB_TEXT(worker_intent_names[w->intent]), DB_TEXT(worker_state_names[w->state]),
			    DB_INT(now)), NULL, err) < 0)
		return -1;
	for (size_t i = 0; in->intent == INTENT_DRAINING && i < len; i++)
		if (lease_transition(c, conn, &leases[i], &stop, w->id, call->arena, err) < 0)
			return -1;
	if (in->leave &&
	    db_exec(conn, "DELETE FROM worker_devices WHERE worker_id = $1", DB_ARGS(DB_TEXT(w->id)), NULL, err) < 0)
		return -1;
	if (in->leave)
		session_drop_worker(c->sessions, w->id);
	heartbeat_changed(c, conn, w->id);
	scheduler_dirty(c, conn, w->id);
	return event_append(c, conn, w->org_id, w->id, w->id, in->leave ? "worker.left" : "worker.intent",
			    in->leave ? "left" : worker_intent_names[in->intent], w->name, err);
}
