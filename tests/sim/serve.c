/* What is asked of the server: operations as the network brings them, streams, and the operator's commands. */
#include "server.h"

#include "../../src/os/os.h"

#include <fcntl.h>
#include <unistd.h>

#define LOOK_AGAIN_MS \
	(10 *         \
	 SECOND_MS) /* of streams; tesd looks every second, which costs a simulation too much */

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static int spool(const struct rpc *r, struct call *call, char *path, size_t size,
		 uint8_t hash[static SHA256_SIZE], struct err *err)
{
	static unsigned number;
	struct sha256 s;

	snprintf(path, size, "%s/up%u", blob_spool_dir(server.blobs), ++number);
	sha256_init(&s);
	sha256_update(&s, r->upload, r->upload_len);
	sha256_final(&s, hash);
	call->body_path = path;
	call->body_size = r->upload_len;
	call->body_sha256 = hash;
	return file_write_atomic(path, r->upload, r->upload_len, 0600, err);
}

static void caller_fill(const struct rpc *r, struct caller *ret)
{
	*ret = (struct caller){ .kind = CALLER_NOBODY,
				.peer = "192.0.2.1",
				.request_id = "sim" };
	if (!r->caller[0])
		return;
	if (r->is_worker) {
		ret->kind = CALLER_WORKER;
		ret->worker_id = r->caller;
		ret->session_id = r->session;
		return;
	}
	ret->kind = CALLER_KEY;
	ret->org_id = r->caller;
	ret->key_id = "ak_sim";
	ret->role = ROLE_OWNER;
	ret->scopes = ~0u;
}

static int input_fill(const struct rpc *r, struct call *call, struct err *err)
{
	const struct type *t = call->op->in;
	void *in = arena_alloc(call->arena, MAX(t->size, 1));

	call->in = in;
	if (!r->body || t == &nothing_type) {
		schema_defaults(t, in);
		return 0;
	}
	if (schema_parse(t, slice_of(r->body), FROM_CLIENT, call->arena, in, err) < 0) {
		broken("wire", "%s refuses %s: %s %s", call->op->name, r->body, err->field,
		       err->text);
		return -1;
	}
	return 0;
}

/* An answer that cannot be explained by anything that we did to the server. */
static void failure_judge(const struct rpc *r, const struct call *call, const struct err *err)
{
	if (err->code == ERR_INTERNAL || err->code == ERR_IO ||
	    (r->is_worker && err->code == ERR_INVALID && call->op->id != OP_worker_logs))
		broken("answer", "%s of %s: %s: %s %s", call->op->name, r->caller,
		       err_code_name(err->code), err->field, err->text);
}

static int call_run(struct rpc *r, struct call *call, struct arena *a, struct err *err)
{
	char path[200];
	uint8_t hash[SHA256_SIZE];

	*call = (struct call){ .op = &operations[r->op],
			       .arena = a,
			       .idempotency_key = r->key,
			       .file_fd = -1,
			       .last_event_id = r->last_event_id,
			       .params = { r->params[0], r->params[1] } };
	caller_fill(r, &call->caller);
	if (input_fill(r, call, err) < 0 ||
	    (r->upload && spool(r, call, path, sizeof(path), hash, err) < 0))
		return -1;
	sim.out->totals.calls++;
	server_enter();
	int rc = control_call(server.control, server.conns[server.depth > 1], call, err);

	if (server.crashing)
		rc = err_set(err, ERR_UNAVAILABLE, "connection reset");
	if (r->upload)
		(void)unlink(path);
	note("%s %s %s: %s%s%s", call->op->name, r->caller,
	     r->params[0] ? r->params[0]
	     : r->key	  ? r->key
			  : "",
	     rc < 0 ? err_code_name(err->code) : "ok", rc < 0 ? ": " : "",
	     rc < 0 ? err->text : "");
	if (rc < 0)
		failure_judge(r, call, err);
	return rc; /* the caller leaves */
}

static void file_take(const struct call *call, struct strbuf *answer)
{
	char part[4096];
	ssize_t n;

	while ((n = read(call->file_fd, part, sizeof(part))) > 0)
		strbuf_add(answer, part, n);
	if ((int64_t)answer->len != call->file_size)
		broken("files", "%s gives %zu bytes of %" PRId64, call->op->name, answer->len,
		       call->file_size);
}

int server_call(struct rpc *r, struct strbuf *answer, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct call call;
	int depth = server.depth, rc = call_run(r, &call, &arena, err);

	if (rc == 0 && call.replayed)
		strbuf_adds(answer, call.replay_body);
	else if (rc == 0 && call.op->out != &nothing_type && !call.stream && call.file_fd <= 0)
		(call.op->flags & OP_SECRETS ? schema_write_secret
					     : schema_write)(call.op->out, call.out, answer);
	if (rc == 0 && call.file_fd > 0)
		file_take(&call, answer);
	live_free(call.stream);
	close_fd_(&call.file_fd);
	if (server.depth > depth)
		server_leave();
	return rc;
}

/* ---- streams ------------------------------------------------------------------------------------------------------ */

static bool sink(void *arg, const char *event, const char *id, struct slice data)
{
	struct stream *s = arg;

	stream_push(s, event, id, data);
	return !s->gone;
}

static void pull(void *arg)
{
	struct stream *s = arg;
	cleanup_arena struct arena arena = { 0 };
	struct err err = { 0 };
	int rc;

	s->pull_set = false;
	if (s->gone || !s->live || !server_is_up()) {
		stream_unref(s);
		return;
	}
	server_enter();
	rc = ((struct live *)s->live)->pull(s->live, server.conns[0], &arena, &err);
	if (rc < 0)
		note("stream %u cannot be read: %s", s->id, err.text);
	if (rc != 0 && !server.crashing)
		stream_break(s, rng_in(&sim.luck, 0, 100));
	server_leave();
	stream_unref(s);
}

static void woken(void *arg)
{
	struct stream *s = arg;

	if (s->pull_set)
		return;
	s->pull_set = true;
	s->refs++;
	at(sim.now_ms + rng_in(&sim.luck, 0, 3), pull, s);
}

static void look_again(void *arg)
{
	struct stream *s = arg;

	if (s->gone || !s->live) {
		stream_unref(s);
		return;
	}
	woken(s);
	at(sim.now_ms + LOOK_AGAIN_MS * MIN(sim_scale(), 6), look_again, s);
}

int server_stream(struct rpc *r, struct stream *s, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct call call;
	int depth = server.depth, rc = call_run(r, &call, &arena, err);

	if (rc == 0) {
		struct live *live = take_ptr(call.stream);

		s->open_ms = sim.now_ms;
		s->open_place = server.streams.len;
		*vec_push(&server.streams) = s;
		s->live = live;
		live->sink = sink;
		live->sink_arg = s;
		s->listener = hub_listen(server.control->hub, live->topic, woken, s);
		woken(s);
		s->refs++;
		at(sim.now_ms + LOOK_AGAIN_MS * MIN(sim_scale(), 6), look_again, s);
	} else {
		live_free(call.stream);
	}
	if (server.depth > depth)
		server_leave();
	return rc;
}

void server_stream_drop(struct stream *s)
{
	if (s->open_place < server.streams.len && server.streams.items[s->open_place] == s) {
		struct stream *last = server.streams.items[--server.streams.len];

		server.streams.items[s->open_place] = last;
		last->open_place = s->open_place;
	}
	hub_unlisten(take_ptr(s->listener));
	live_free(take_ptr(s->live));
}

/* ---- the operator ------------------------------------------------------------------------------------------------------ */

struct deposit {
	const char *org;
	int64_t number, amount;
};

static int deposit_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct deposit *d = arg;
	char id[ID_SIZE];

	ledger_id("deposit", d->org, d->number, id);
	return ledger_deposit(conn, d->org, id, d->amount, "sim", sim.now_ms, err);
}

int operator_deposit(const char *org, int64_t number, int64_t amount, struct err *err)
{
	struct deposit d = { org, number, amount };

	if (!server_is_up())
		return err_set(err, ERR_UNAVAILABLE, "the server is down");
	server_enter();
	int rc = db_tx(server.conns[0], deposit_tx, &d, err);

	note("deposit %" PRId64 " of %" PRId64 " for %s: %s", number, amount, org,
	     rc < 0 ? err->text : "ok");
	server_leave();
	return rc;
}

int operator_command(int argc, const char *const *argv)
{
	int saved[2], null, rc;
	char *copy[8];

	if (!server_is_up())
		return -1;
	null = open("/dev/null", O_WRONLY);
	saved[0] = dup(STDOUT_FILENO);
	saved[1] = dup(STDERR_FILENO);
	for (int i = 0; i < argc; i++)
		copy[i] = (char *)argv[i];
	fflush(stdout);
	dup2(null, STDOUT_FILENO); /* what it prints is for people */
	dup2(null, STDERR_FILENO);
	server_enter();
	rc = admin_main(server.control, server.conns[0], argc, copy);
	fflush(stdout);
	dup2(saved[0], STDOUT_FILENO);
	dup2(saved[1], STDERR_FILENO);
	close(saved[0]);
	close(saved[1]);
	close(null);
	note("tesd admin %s %s %s: %d", argv[0], argv[1], argc > 2 ? argv[2] : "", rc);
	server_leave();
	return rc;
}
