#include "internal.h"

#include <time.h>
#include <unistd.h>

void response_release(struct http_response *res)
{
	free(take_ptr(res->body));
	if (res->fd >= 0)
		close(take_fd(res->fd));
	if (res->stream) {
		stream_abort(res->stream);
		http_stream_unref(take_ptr(res->stream));
	}
	res->kind = RESPONSE_NONE;
	res->content_type = NULL;
}

void http_respond(struct http_response *res, int status, const char *content_type,
		  struct slice body)
{
	response_release(res);
	res->kind = RESPONSE_MEMORY;
	res->status = status;
	res->content_type = arena_strdup(&res->exchange->arena, content_type);
	if (body.len) {
		res->body = xmalloc(body.len);
		memcpy(res->body, body.ptr, body.len);
	}
	res->body_len = body.len;
}

void http_respond_header(struct http_response *res, const char *name, const char *value)
{
	struct arena *a = &res->exchange->arena;
	struct response_header *h = arena_new(a, struct response_header), **at = &res->headers;
	char *clean = arena_strdup(a, value);

	/* A value from outside must not begin a new line. */
	for (char *p = clean; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	h->name = arena_strdup(a, name);
	h->value = clean;
	while (*at)
		at = &(*at)->next;
	*at = h;
}

static bool etag_listed(const char *list, const char *etag)
{
	size_t len = strlen(etag);

	if (str_eq(list, "*"))
		return true;
	for (const char *p = strstr(list, etag); p; p = strstr(p + 1, etag))
		if (!p[len] || p[len] == ',' || p[len] == ' ')
			return true;
	return false;
}

void http_respond_file_take(struct http_response *res, int fd, int64_t size,
			    const char *content_type, const char *etag,
			    const struct http_request *req)
{
	const char *range = http_header(req, "Range"), *if_range = http_header(req, "If-Range");
	const char *none_match = http_header(req, "If-None-Match");
	struct arena *a = &res->exchange->arena;
	int64_t at = 0, len = size;
	enum range_kind kind = RANGE_ALL;

	response_release(res);
	if (etag && etag[0] != '"')
		etag = arena_printf(a, "\"%s\"", etag);
	if (etag)
		http_respond_header(res, "ETag", etag);
	http_respond_header(res, "Accept-Ranges", "bytes");
	if (etag && none_match && etag_listed(none_match, etag)) {
		close(fd);
		res->kind = RESPONSE_MEMORY;
		res->status = 304;
		return;
	}
	if (range && (!if_range || str_eq(if_range, etag)))
		kind = range_parse(range, size, &at, &len);
	if (kind == RANGE_BAD) {
		close(fd);
		response_problem(res->exchange, 416, "Range: lies beyond the end of the file");
		http_respond_header(res, "Content-Range",
				    arena_printf(a, "bytes */%" PRId64, size));
		return;
	}
	if (kind == RANGE_PART)
		http_respond_header(res, "Content-Range",
				    arena_printf(a, "bytes %" PRId64 "-%" PRId64 "/%" PRId64,
						 at, at + len - 1, size));
	res->kind = RESPONSE_FILE;
	res->status = kind == RANGE_PART ? 206 : 200;
	res->content_type = arena_strdup(a, content_type);
	res->fd = fd;
	res->at = at;
	res->len = len;
}

struct http_stream *http_respond_stream(struct http_response *res, size_t buffer_max)
{
	struct http_stream *st = stream_new(res->exchange->server, buffer_max);

	response_release(res);
	res->kind = RESPONSE_STREAM;
	res->status = 200;
	res->stream = st;
	return st;
}

static const char *allow_format(struct exchange *ex)
{
	const char *allow = "";

	for (int i = 0; i < HTTP_METHODS; i++)
		if (ex->match.methods & 1u << i)
			allow = arena_printf(&ex->arena, "%s%s%s%s", allow, *allow ? ", " : "",
					     http_method_names[i],
					     i == HTTP_GET ? ", HEAD" : "");
	return allow;
}

void response_problem(struct exchange *ex, int status, const char *detail)
{
	const struct http_server_config *config = &ex->server->config;
	cleanup_strbuf struct strbuf body = STRBUF_INIT;
	char *text = arena_strdup(&ex->arena, detail);

	/* It may quote a header, or have been cut within a character. */
	for (char *p = text; !utf8_valid(text, strlen(text)) && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	if (config->problem)
		config->problem(status, text, &body, config->arg);
	else
		strbuf_addf(&body, "%s\n", text);
	http_respond(&ex->res, status, config->problem ? config->problem_type : "text/plain",
		     (struct slice){ body.buf, body.len });
	if (status == 405)
		http_respond_header(&ex->res, "Allow", allow_format(ex));
	if (status == 503)
		http_respond_header(&ex->res, "Retry-After", "1");
}

static void stream_head_build(struct exchange *ex)
{
	struct strbuf *sb = &ex->stream_head;
	time_t now = (time_t)(clock_now(&clock_system) / 1000);
	char date[64];
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	strbuf_addf(sb, "HTTP/1.1 200 OK\r\nDate: %s\r\nConnection: close\r\n", date);
	for (struct response_header *h = ex->res.headers; h; h = h->next)
		strbuf_addf(sb, "%s: %s\r\n", h->name, h->value);
	strbuf_adds(sb, "\r\n");
}

static struct MHD_Response *reply_make(struct http_response *res)
{
	size_t len = res->body_len;

	if (res->kind == RESPONSE_FILE && res->len)
		return MHD_create_response_from_fd_at_offset64(
			(uint64_t)res->len, take_fd(res->fd), (uint64_t)res->at);
	if (res->kind != RESPONSE_MEMORY || !len)
		return MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
	return MHD_create_response_from_buffer(len, take_ptr(res->body), MHD_RESPMEM_MUST_FREE);
}

void response_build(struct exchange *ex)
{
	struct http_response *res = &ex->res;

	if (res->kind == RESPONSE_NONE)
		response_problem(ex, 500, "the operation gave no answer");
	if (res->kind == RESPONSE_STREAM) {
		res->content_type = "text/event-stream";
		http_respond_header(res, "Cache-Control", "no-store");
		http_respond_header(res, "X-Accel-Buffering",
				    "no"); /* nginx would hold events back */
	}
	if (res->content_type)
		http_respond_header(res, "Content-Type", res->content_type);
	http_respond_header(res, "X-Request-Id", ex->request_id);
	exchange_body_release(ex);
	if (res->kind == RESPONSE_STREAM && !ex->is_head) {
		ex->stream = take_ptr(res->stream);
		stream_head_build(ex);
		return; /* the headers are still needed over TLS */
	}
	ex->reply = reply_make(res);
	assert(ex->reply);
	for (struct response_header *h = res->headers; h; h = h->next)
		MHD_add_response_header(ex->reply, h->name, h->value);
	response_release(res);
	res->headers = NULL;
	arena_release(&ex->arena);
	arena_init(&ex->arena, 0);
}
