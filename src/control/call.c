/* One operation, whoever asks: authorisation by the table, idempotency, transaction, handler. */
#include "internal.h"

static operation_fn *const handlers[OPERATION_COUNT] = {
#define OPERATION(name, fn, method, path, in, out, role, scope, flags, summary) [OP_##fn] = op_##fn,
#include "../api/operations.def"
#undef OPERATION
};

int control_authorise(const struct call *call, struct err *err)
{
	const struct operation *op = call->op;
	const struct caller *who = &call->caller;

	if (op->flags & OP_WORKER) {
		if (who->kind != CALLER_WORKER)
			return err_set(err, ERR_UNAUTHENTICATED, "%s is for workers, in a session", op->name);
		return 0;
	}
	if (op->flags & OP_PUBLIC)
		return 0;
	if (who->kind == CALLER_NOBODY || who->kind == CALLER_WORKER)
		return err_set(err, ERR_UNAUTHENTICATED,
			       "%s needs an API key: send \"Authorization: Bearer tes_…\"; `tes login` gets one", op->name);
	if (who->role < op->role)
		return err_set(err, ERR_FORBIDDEN, "%s needs the role %s, this key has %s: ask an owner of the organisation",
			       op->name, role_names[op->role], role_names[who->role]);
	if ((who->scopes & op->scope) != op->scope) {
		for (size_t i = 0; scope_names[i]; i++)
			if (op->scope & ~who->scopes & (1u << i))
				return err_set(err, ERR_FORBIDDEN,
					       "%s needs the scope %s, which this key does not have: make one that does",
					       op->name, scope_names[i]);
	}
	return 0;
}

/* ---- idempotency ------------------------------------------------------------------------------------ */

#define IDEMPOTENCY_KEY_MAX 128

void call_hash(const struct call *call, char ret[static SHA256_HEX_SIZE])
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	strbuf_addf(&text, "%s\n", call->op->name);
	for (size_t i = 0; i < ARRAY_LEN(call->params) && call->params[i]; i++)
		strbuf_addf(&text, "%s\n", call->params[i]);
	schema_write_secret(call->op->in, call->in, &text);
	sha256_hex(text.buf, text.len, ret);
}

int call_replay_find(struct db_conn *conn, struct call *call, const char *hash, bool *ret_found, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	int rc;

	*ret_found = false;
	if (db_query(conn, "SELECT request_hash, response FROM idempotency WHERE org_id = $1 AND key = $2",
		     DB_ARGS(DB_TEXT(call->caller.org_id), DB_TEXT(call->idempotency_key)), &rows, err) < 0 ||
	    (rc = db_next(rows, err)) < 0)
		return -1;
	if (rc == 0)
		return 0;
	if (!str_eq(db_text(rows, 0, call->arena), hash))
		return err_set(err, ERR_CONFLICT,
			       "Idempotency-Key \"%.40s\" was used for another request: use a new key for a new request",
			       call->idempotency_key);
	call->replay_body = db_text(rows, 1, call->arena);
	call->replayed = true;
	*ret_found = true;
	return 0;
}

int call_replay_keep(struct control *c, struct db_conn *conn, struct call *call, const char *hash, struct err *err)
{
	cleanup_strbuf struct strbuf body = STRBUF_INIT;

	schema_write(call->op->out, call->out, &body);
	if (db_exec(conn,
		    "INSERT INTO idempotency (org_id, key, operation, request_hash, status, response, created_ms)"
		    " VALUES ($1, $2, $3, $4, 200, $5, $6)",
		    DB_ARGS(DB_TEXT(call->caller.org_id), DB_TEXT(call->idempotency_key), DB_TEXT(call->op->name),
			    DB_TEXT(hash), DB_TEXT(body.buf), DB_INT(control_now(c))), NULL, err) < 0) {
		if (err->code == ERR_CONFLICT)
			err->code = ERR_RETRY; /* the same key at the same time: look again and find its answer */
		return -1;
	}
	return 0;
}

/* ---- running it -------------------------------------------------------------------------------------- */

struct run_arg {
	struct control *c;
	struct call *call;
};

static int run(struct db_conn *conn, void *arg, struct err *err)
{
	struct run_arg *r = arg;
	struct call *call = r->call;
	/* Who opens their own transaction settle it in there. */
	bool once = call->idempotency_key && (call->op->flags & (OP_IDEMPOTENT | OP_OWN_TX)) == OP_IDEMPOTENT, found = false;
	char hash[SHA256_HEX_SIZE];

	call->out = arena_alloc(call->arena, MAX(call->op->out->size, 1));
	if (once) {
		call_hash(call, hash);
		if (call_replay_find(conn, call, hash, &found, err) < 0)
			return -1;
		if (found)
			return 0;
	}
	if (handlers[call->op->id](r->c, conn, call, err) < 0)
		return -1;
	return once ? call_replay_keep(r->c, conn, call, hash, err) : 0;
}

int control_call(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct run_arg arg = { c, call };

	if (control_authorise(call, err) < 0)
		return -1;
	if (call->idempotency_key && (strlen(call->idempotency_key) > IDEMPOTENCY_KEY_MAX || !*call->idempotency_key))
		return err_set_field(err, "Idempotency-Key", "has %zu characters; 1 to %d are allowed",
				     strlen(call->idempotency_key), IDEMPOTENCY_KEY_MAX);
	if (call->op->flags & OP_OWN_TX)
		return run(conn, &arg, err);
	if (call->op->flags & OP_ONE_READ)
		return db_read_one(conn, run, &arg, err);
	if (call->op->method == GET)
		return db_read(conn, run, &arg, err);
	return db_tx(conn, run, &arg, err);
}
