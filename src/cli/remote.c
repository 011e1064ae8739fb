/* Operations of the table, called over HTTP. */
#include "internal.h"

#include <poll.h>

#define CALL_TIMEOUT_MS (60 * SECOND_MS)
#define ANSWER_MAX	((size_t)64 << 20)
#define TRIES_MAX	5
#define PAUSE_FIRST_MS	200
#define PAUSE_MAX_MS	5000

static const enum http_method methods[] = {
	[GET] = HTTP_GET,
	[POST] = HTTP_POST,
	[PUT] = HTTP_PUT,
	[DELETE] = HTTP_DELETE,
};

void remote_head_add(struct remote_head *h, const char *name, const char *value)
{
	assert(h->len < REMOTE_HEADERS_MAX);
	h->items[h->len++] = (struct http_header_item){ name, value };
}

int remote_head_make(struct cli *cli, const struct operation *op, const char *param,
		     const char *query, struct remote_head *ret, struct err *err)
{
	const char *path = operation_path(op, &param, param ? 1 : 0, &cli->arena);

	if (!cli->key && !(op->flags & OP_PUBLIC))
		return err_set(
			err, ERR_UNAUTHENTICATED,
			"nobody is logged in to %.80s: `tes login` does it, or set TES_KEY",
			cli->url);
	if (!cli->http)
		cli->http = http_client_new();
	*ret = (struct remote_head){ .len = 0 };
	ret->url = arena_printf(&cli->arena, "%s%s%s%s", cli->url, path,
				str_empty(query) ? "" : "?", str_empty(query) ? "" : query);
	if (cli->key)
		remote_head_add(ret, "Authorization",
				arena_printf(&cli->arena, "Bearer %s", cli->key));
	return 0;
}

bool remote_may_retry(const struct err *err)
{
	return err->code == ERR_UNAVAILABLE || err->code == ERR_RETRY ||
	       err->code == ERR_TIMEOUT || err->code == ERR_RATE;
}

bool remote_pause(int n)
{
	int64_t ms = PAUSE_FIRST_MS;

	for (int i = 1; i < n && ms < PAUSE_MAX_MS; i++)
		ms *= 2;
	if (!cli_interrupted)
		poll(NULL, 0, (int)MIN(ms, (int64_t)PAUSE_MAX_MS));
	return !cli_interrupted;
}

/* Repeating it does no harm: it only reads, the server knows the repeat by its key, or it asks
 * for a state that may have come already. */
static bool is_repeatable(const struct operation *op)
{
	return op->method == GET || (op->flags & OP_IDEMPOTENT) || op->id == OP_workload_stop;
}

/* The client names the whole URL; what a person can change is the server's part of it. */
static int unreachable(struct cli *cli, const char *url, struct err *err)
{
	const char *why = str_starts(err->text, url) ? err->text + strlen(url) : err->text;
	char detail[128];

	if (cli_interrupted)
		return err_set(err, ERR_TIMEOUT, "interrupted before the server answered");
	if (err->code != ERR_UNAVAILABLE)
		return -1;
	snprintf(detail, sizeof(detail), "%s", why + strspn(why, ": "));
	if (strstr(detail, "certificate"))
		return err_set(err, ERR_UNAVAILABLE,
			       "%.60s is not trusted (%s): `tes login --ca-file` or TES_CA_FILE names its authority's certificate",
			       cli->url, detail);
	return err_set(
		err, ERR_UNAVAILABLE,
		"%.60s cannot be reached (%s): is it right? `tes login --url` or TES_URL change it",
		cli->url, detail);
}

static int call_once(struct cli *cli, const struct operation *op, const struct http_call *call,
		     struct err *err)
{
	struct http_result result;

	if (http_call(cli->http, call, &result, err) < 0)
		return unreachable(cli, call->url, err);
	strbuf_release(&cli->body);
	cli->body = result.body;
	if (result.status / 100 == 2)
		return 0;
	if (result.status / 100 == 3)
		return err_set(err, ERR_INVALID,
			       "%s leads to %s: `tes login --url` takes the address itself",
			       cli->url, result.location);
	api_problem_read(result.status, (struct slice){ cli->body.buf, cli->body.len }, err);
	return -1;
}

int remote_call(struct cli *cli, const struct remote *r, struct err *err)
{
	const struct operation *op = &operations[r->op];
	cleanup_strbuf struct strbuf in = STRBUF_INIT;
	struct remote_head head;
	struct http_call call = {
		.method = methods[op->method],
		.timeout_ms = CALL_TIMEOUT_MS,
		.response_max = ANSWER_MAX,
		.cancel = &cli_interrupted,
		.ca_file = cli->ca_file,
	};

	if (r->in && op->method == GET)
		schema_write_query(op->in, r->in, &cli->arena, &in);
	else if (r->in)
		schema_write_input(op->in, r->in, &in);
	if (remote_head_make(cli, op, r->param, op->method == GET ? in.buf : NULL, &head, err) <
	    0)
		return -1;
	if (r->in && op->method != GET) {
		remote_head_add(&head, "Content-Type", "application/json");
		call.body = (struct slice){ in.buf, in.len };
	}
	if (op->flags & OP_IDEMPOTENT)
		remote_head_add(&head, "Idempotency-Key", cli->request_key);
	call.url = head.url;
	call.headers = head.items;
	call.header_count = head.len;
	for (int n = 1; call_once(cli, op, &call, err) < 0; n++) {
		if (r->once || !is_repeatable(op) || !remote_may_retry(err) || n == TRIES_MAX ||
		    !remote_pause(n))
			return -1;
		err_clear(err);
	}
	if (!r->out)
		return 0;
	if (schema_parse(op->out, (struct slice){ cli->body.buf, cli->body.len }, FROM_SERVER,
			 r->arena ? r->arena : &cli->arena, r->out, err) < 0)
		return err_wrap(err, "%s does not speak this version's language", cli->url);
	return 0;
}

int workload_ref(struct cli *cli, const struct args *args, const char **ret, struct err *err)
{
	const struct workload_query query = { .state = -1, .all = true, .limit = 1 };
	struct workload_page page;

	*ret = args_word(args, 0);
	if (*ret)
		return **ret ? 0
			     : err_set(err, ERR_INVALID,
				       "the ID is empty: give an id or a name");
	if (remote_call(cli, &(struct remote){ OP_workload_list, .in = &query, .out = &page },
			err) < 0)
		return -1;
	if (page.items.len == 0)
		return err_set(err, ERR_NOT_FOUND,
			       "you have no workloads yet: `tes run` makes one");
	*ret = page.items.items[0].id;
	if (cli->tty_err)
		say(cli, "The newest workload: %s (%s)", *ret, page.items.items[0].name);
	return 0;
}
