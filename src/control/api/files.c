/* Inputs and results: bytes on their way in and out, by way of the blob store. */
#include "../internal.h"

#include <sys/stat.h>
#include <unistd.h>

struct insert_arg {
	const struct type *type;
	const char *table;
	const void *row;
	const char *replace_sql; /* run first; may be NULL */
	struct db_args replace_args;
};

static int insert_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct insert_arg *x = arg;

	if (x->replace_sql && db_exec(conn, x->replace_sql, x->replace_args, NULL, err) < 0)
		return -1;
	return db_insert(conn, x->type, x->table, x->row, err);
}

/* ---- inputs ----------------------------------------------------------------------------------------------- */

int op_input_create(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct input *out = call->out;
	char hex[SHA256_HEX_SIZE];
	struct insert_arg x = { &input_type, "inputs", out, NULL, DB_NO_ARGS };

	if (call->body_size == 0)
		return err_set(err, ERR_INVALID, "the body is empty: send a tar archive");
	hex_format(call->body_sha256, SHA256_SIZE, hex);
	out->id = new_id(c, "in", call->arena);
	out->org_id = call->caller.org_id;
	out->sha256 = arena_strdup(call->arena, hex);
	out->size_bytes = call->body_size;
	out->created_ms = control_now(c);
	out->expires_ms = out->created_ms + c->config.inputs_keep_ms;
	if (blob_put_file(c->blobs, arena_printf(call->arena, "inputs/%s", out->id), call->body_path, err) < 0)
		return -1;
	return db_tx(conn, insert_tx, &x, err);
}

/* A file to be answered; the descriptor is the call's. */
static int file_answer(struct control *c, struct call *call, const char *key, const char *sha256, struct err *err)
{
	if (blob_read_fd(c->blobs, key, &call->file_fd, &call->file_size, err) < 0)
		return -1;
	call->file_etag = arena_printf(call->arena, "\"%s\"", sha256);
	return 0;
}

int op_worker_input(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct lease lease;
	struct workload w;
	struct input in;

	if (lease_load(conn, call->params[0], call->arena, &lease, err) < 0)
		return -1;
	if (!str_eq(lease.worker_id, call->caller.worker_id) || lease.state == LEASE_ENDED)
		return err_set(err, ERR_NOT_FOUND, "this worker has no such lease");
	if (workload_load(conn, NULL, lease.workload_id, call->arena, &w, err) < 0)
		return -1;
	for (size_t i = 0; i < w.spec->inputs.len; i++) {
		if (!str_eq(w.spec->inputs.items[i].id, call->params[1]))
			continue;
		if (db_get(conn, &input_type, "inputs", "WHERE id = $1", DB_ARGS(DB_TEXT(call->params[1])), call->arena, &in,
			   err) < 0)
			return -1;
		return file_answer(c, call, arena_printf(call->arena, "inputs/%s", in.id), in.sha256, err);
	}
	return err_set(err, ERR_NOT_FOUND, "lease %s has no input %s", lease.id, call->params[1]);
}

/* ---- results ------------------------------------------------------------------------------------------------ */

/* A relative path that cannot leave the directory into which somebody will download it. */
static int path_check(const char *path, struct err *err)
{
	struct slice rest = slice_of(path), part;

	if (!*path || strlen(path) > 512 || path[0] == '/')
		return err_set_field(err, "path", "has %zu characters; a relative path of 1 to 512 is needed", strlen(path));
	while (slice_split(&rest, '/', &part))
		if (part.len == 0 || slice_is(part, ".") || slice_is(part, ".."))
			return err_set_field(err, "path", "\"%.100s\" has an empty part, \".\" or \"..\"", path);
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p < 0x20)
			return err_set_field(err, "path", "has a control character");
	return 0;
}

static int result_limit(struct control *c, struct db_conn *conn, const struct lease *lease, const struct result *r,
			struct err *err)
{
	int64_t there, count;
	char max[24];

	if (db_query_int(conn, "SELECT COALESCE(SUM(size_bytes), 0) FROM results WHERE lease_id = $1 AND path <> $2",
			 DB_ARGS(DB_TEXT(lease->id), DB_TEXT(r->path)), 0, &there, err) < 0 ||
	    db_query_int(conn, "SELECT COUNT(*) FROM results WHERE lease_id = $1", DB_ARGS(DB_TEXT(lease->id)), 0, &count, err) < 0)
		return -1;
	size_format(c->config.results_max_bytes, max);
	if (there + r->size_bytes > c->config.results_max_bytes)
		return err_set(err, ERR_TOO_LARGE, "the results of this lease would pass the limit of %s: keep fewer or smaller files", max);
	if (count >= 10000)
		return err_set(err, ERR_TOO_LARGE, "this lease has %" PRId64 " result files, the most allowed: pack them", count);
	return 0;
}

int op_worker_result(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct result *out = call->out, *same;
	struct lease lease;
	char hex[SHA256_HEX_SIZE];
	size_t len;

	if (lease_load(conn, call->params[0], call->arena, &lease, err) < 0)
		return -1;
	if (!str_eq(lease.worker_id, call->caller.worker_id) || lease.state == LEASE_ENDED)
		return err_set(err, ERR_NOT_FOUND, "this worker has no such lease");
	if (path_check(call->params[1], err) < 0 ||
	    db_select(conn, &result_type, "results", "WHERE lease_id = $1 AND path = $2",
		      DB_ARGS(DB_TEXT(lease.id), DB_TEXT(call->params[1])), call->arena, (void **)&same, &len, err) < 0)
		return -1;
	hex_format(call->body_sha256, SHA256_SIZE, hex);
	if (len && str_eq(same->sha256, hex)) {
		*out = *same; /* sent again */
		return 0;
	}
	*out = (struct result){
		.id = new_id(c, "rs", call->arena), .org_id = lease.org_id, .workload_id = lease.workload_id,
		.lease_id = lease.id, .path = call->params[1], .sha256 = arena_strdup(call->arena, hex),
		.size_bytes = call->body_size, .mode = 0644, .created_ms = control_now(c),
		.expires_ms = control_now(c) + c->config.results_keep_ms,
	};
	struct insert_arg x = { &result_type, "results", out, "DELETE FROM results WHERE lease_id = $1 AND path = $2",
				DB_ARGS(DB_TEXT(lease.id), DB_TEXT(out->path)) };

	if (result_limit(c, conn, &lease, out, err) < 0 ||
	    blob_put_file(c->blobs, arena_printf(call->arena, "results/%s", out->id), call->body_path, err) < 0)
		return -1;
	if (db_tx(conn, insert_tx, &x, err) < 0)
		return -1;
	if (len) {
		struct err ignored = { 0 };

		/* Nobody can name the old bytes any more; failing to delete them costs space only. */
		(void)!blob_delete(c->blobs, arena_printf(call->arena, "results/%s", same->id), &ignored);
	}
	return 0;
}

int op_worker_results_done(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct lease lease;

	if (lease_load(conn, call->params[0], call->arena, &lease, err) < 0)
		return -1;
	if (!str_eq(lease.worker_id, call->caller.worker_id))
		return err_set(err, ERR_NOT_FOUND, "this worker has no such lease");
	if (lease.results_done)
		return 0;
	lease.results_done = true;
	wake(c, conn, "workload", lease.workload_id);
	return lease_store(c, conn, &lease, err);
}

int op_workload_results(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct result_list *out = call->out;
	struct workload w;
	void *items;
	int64_t done;

	if (workload_load(conn, call->caller.org_id, call->params[0], call->arena, &w, err) < 0 ||
	    db_select(conn, &result_type, "results",
		      "WHERE workload_id = $1 AND lease_id = $2 AND expires_ms > $3 ORDER BY path",
		      DB_ARGS(DB_TEXT(w.id), DB_TEXT(w.lease_id ? w.lease_id : ""), DB_INT(control_now(c))), call->arena, &items,
		      &out->items.len, err) < 0 ||
	    db_query_int(conn, "SELECT results_done FROM leases WHERE id = $1", DB_ARGS(DB_TEXT(w.lease_id ? w.lease_id : "")), 0,
			 &done, err) < 0)
		return -1;
	out->items.items = items;
	out->complete = done || workload_state_is_final(w.state);
	out->note = !out->complete ? "the workload has not delivered its results yet" :
		    out->items.len == 0 && w.spec->outputs.len == 0 ? "it was submitted without --out: there is nothing to keep" : NULL;
	return 0;
}

int op_result_download(struct control *c, struct db_conn *conn, struct call *call, struct err *err)
{
	struct result r;

	if (db_get(conn, &result_type, "results", "WHERE id = $1 AND org_id = $2",
		   DB_ARGS(DB_TEXT(call->params[0]), DB_TEXT(call->caller.org_id)), call->arena, &r, err) < 0) {
		if (err->code != ERR_NOT_FOUND)
			return -1;
		err_clear(err);
		return err_set(err, ERR_NOT_FOUND, "there is no result \"%.40s\"; results are kept for a time: see the workload",
			       call->params[0]);
	}
	return file_answer(c, call, arena_printf(call->arena, "results/%s", r.id), r.sha256, err);
}
