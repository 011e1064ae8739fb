/* The blocking client.  Each call runs the one easy handle in the client's own multi handle,
 * which keeps connections between calls and, unlike curl_easy_perform, lets us look at
 * deadlines and the cancel flag every 200 ms.
 */
#include "http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define RESPONSE_MAX_DEFAULT ((size_t)1 << 20)
#define CONNECT_TIMEOUT_MS   30000
#define POLL_MS		     200
#define CONNECTIONS_KEPT     4

const char *const http_method_names[] = { "GET", "POST", "PUT", "PATCH", "DELETE", NULL };

struct http_client {
	CURLM *multi;
	CURL *easy;
};

/* One call under way. */
struct transfer {
	const struct http_call *call;
	CURL *easy;
	struct http_result result;
	int64_t active_ms; /* monotonic, of the last byte in either direction */
	int64_t sent, received;
	int64_t body_at, body_sent;
	bool status_told, too_large, refused;
	bool head_ended; /* curl takes an end in the middle of a head for its end */
	int read_errno;
};

static void global_init(void)
{
	curl_global_init(CURL_GLOBAL_ALL);
}

struct http_client *http_client_new(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http_client *c = xcalloc(1, sizeof(*c));

	pthread_once(&once, global_init);
	c->multi = curl_multi_init();
	c->easy = curl_easy_init();
	if (!c->multi || !c->easy)
		abort();
	curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
	return c;
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->easy);
	curl_multi_cleanup(c->multi);
	free(c);
}

void http_result_release(struct http_result *r)
{
	strbuf_release(&r->body);
	memset(r, 0, sizeof(*r));
	strbuf_init(&r->body);
}

/* ---- callbacks ---- */

static void status_tell(struct transfer *t)
{
	long status = 0;

	if (t->status_told)
		return;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	t->result.status = (int)status;
	t->status_told = true;
	if (t->call->on_status)
		t->call->on_status(t->call->arg, t->result.status);
}

static size_t on_body(char *p, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * count,
	       max = t->call->response_max ? t->call->response_max : RESPONSE_MAX_DEFAULT;

	status_tell(t);
	if (t->call->on_data && t->result.status / 100 == 2) {
		t->refused = t->call->on_data(t->call->arg, p, len) != 0;
		return t->refused ? CURL_WRITEFUNC_ERROR : len;
	}
	t->too_large = t->result.body.len + len > max;
	if (t->too_large)
		return CURL_WRITEFUNC_ERROR;
	strbuf_add(&t->result.body, p, len);
	return len;
}

static void header_keep(char *dst, size_t size, struct slice value)
{
	size_t len = MIN(value.len, size - 1);

	memcpy(dst, value.ptr, len);
	dst[len] = '\0';
}

static size_t on_header(char *p, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	struct slice line = { p, size * count }, name = { 0 };
	struct http_result *r = &t->result;

	if (line.len >= 5 &&
	    memcmp(p, "HTTP/", 5) ==
		    0) { /* after an interim answer the final one begins anew */
		t->head_ended = false;
		r->content_type[0] = r->etag[0] = r->retry_after[0] = r->location[0] = '\0';
		return line.len;
	}
	if (p[0] == '\r' || p[0] == '\n')
		t->head_ended = true;
	if (!memchr(p, ':', line.len) || !slice_split(&line, ':', &name))
		return size * count;
	line = slice_trim(line);
	if (name.len == 12 && strncasecmp(name.ptr, "Content-Type", 12) == 0)
		header_keep(r->content_type, sizeof(r->content_type), line);
	else if (name.len == 4 && strncasecmp(name.ptr, "ETag", 4) == 0)
		header_keep(r->etag, sizeof(r->etag), line);
	else if (name.len == 11 && strncasecmp(name.ptr, "Retry-After", 11) == 0)
		header_keep(r->retry_after, sizeof(r->retry_after), line);
	else if (name.len == 8 && strncasecmp(name.ptr, "Location", 8) == 0)
		header_keep(r->location, sizeof(r->location), line);
	return size * count;
}

static size_t on_read(char *p, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len = (size_t)MIN((int64_t)(size * count), t->call->body_fd_size - t->body_sent);
	ssize_t n;

	do
		n = read(t->call->body_fd, p, len);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		t->read_errno = errno;
		return CURL_READFUNC_ABORT;
	}
	t->body_sent += n;
	return (size_t)n;
}

/* A kept connection turned out to be dead: the body is sent again from its start. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct transfer *t = arg;

	if (origin != SEEK_SET || t->body_at < 0 ||
	    lseek(t->call->body_fd, t->body_at + offset, SEEK_SET) < 0)
		return CURL_SEEKFUNC_FAIL;
	t->body_sent = offset;
	return CURL_SEEKFUNC_OK;
}

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
		       curl_off_t up)
{
	struct transfer *t = arg;

	if (down == t->received && up == t->sent)
		return 0;
	t->received = down;
	t->sent = up;
	t->active_ms = time_monotonic_ms();
	if (t->call->on_progress)
		t->call->on_progress(t->call->arg, up, down);
	return 0;
}

/* ---- one call ---- */

static struct curl_slist *headers_make(const struct http_call *call)
{
	struct curl_slist *list = NULL;
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;
	bool typed = false;

	for (size_t i = 0; i < call->header_count; i++) {
		const struct http_header_item *h = &call->headers[i];

		assert(!strpbrk(h->name, "\r\n:") && !strpbrk(h->value, "\r\n"));
		typed |= strcasecmp(h->name, "Content-Type") == 0;
		strbuf_reset(&sb);
		/* curl takes "Name:" for a wish to leave the header out, "Name;" for an
		 * empty one. */
		strbuf_addf(&sb, *h->value ? "%s: %s" : "%s;", h->name, h->value);
		list = curl_slist_append(list, sb.buf);
	}
	if (!typed)
		list = curl_slist_append(list, "Content-Type:");
	return list;
}

static void body_set(CURL *easy, struct transfer *t)
{
	const struct http_call *call = t->call;

	if (call->body_fd > 0) {
		t->body_at = lseek(call->body_fd, 0, SEEK_CUR);
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)call->body_fd_size);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(easy, CURLOPT_READDATA, t);
		curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(easy, CURLOPT_SEEKDATA, t);
	} else if (call->body.ptr || call->method == HTTP_POST || call->method == HTTP_PUT ||
		   call->method == HTTP_PATCH) {
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
				 call->body.ptr ? call->body.ptr : "");
	}
}

static void options_set(CURL *easy, struct transfer *t, struct curl_slist *headers, char *error)
{
	const struct http_call *call = t->call;
	int64_t connect_ms = call->timeout_ms ? MIN(call->timeout_ms, CONNECT_TIMEOUT_MS)
					      : CONNECT_TIMEOUT_MS;

	curl_easy_reset(easy);
	body_set(easy, t);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, http_method_names[call->method]);
	curl_easy_setopt(easy, CURLOPT_URL, call->url);
	curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, call->unix_socket);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_PROXY, call->unix_socket ? "" : NULL);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "tes/" TES_VERSION);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
	if (call->ca_file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, call->ca_file);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, t);
}

/* Runs to the end: 0 with curl's own result, or -1 with err set by a limit of ours. */
static int transfer_run(struct http_client *c, struct transfer *t, CURLcode *ret_code,
			struct err *err)
{
	const struct http_call *call = t->call;
	int poll_ms = call->cancel || call->idle_timeout_ms ? POLL_MS : 1000;
	int running = 1, left;
	CURLMsg *msg;

	t->active_ms = time_monotonic_ms();
	for (;;) {
		if (curl_multi_perform(c->multi, &running))
			return err_set(err, ERR_INTERNAL, "%s: the HTTP client failed",
				       call->url);
		if (!running)
			break;
		if (call->cancel && __atomic_load_n(call->cancel, __ATOMIC_RELAXED))
			return err_set(err, ERR_TIMEOUT, "%s: cancelled", call->url);
		if (call->idle_timeout_ms &&
		    time_monotonic_ms() - t->active_ms > call->idle_timeout_ms)
			return err_set(err, ERR_TIMEOUT, "%s: nothing came for %" PRId64 " ms",
				       call->url, call->idle_timeout_ms);
		curl_multi_poll(c->multi, NULL, 0, poll_ms, NULL);
	}
	*ret_code = CURLE_OK;
	while ((msg = curl_multi_info_read(c->multi, &left)))
		if (msg->msg == CURLMSG_DONE)
			*ret_code = msg->data.result;
	return 0;
}

static int code_to_err(const struct transfer *t, CURLcode code, const char *error,
		       struct err *err)
{
	const struct http_call *call = t->call;
	const char *what = *error ? error : curl_easy_strerror(code);

	if (t->too_large)
		return err_set(err, ERR_TOO_LARGE, "%s: the answer is larger than %zu bytes",
			       call->url,
			       call->response_max ? call->response_max : RESPONSE_MAX_DEFAULT);
	if (t->refused)
		return err_set(err, ERR_IO, "%s: the received bytes could not be kept",
			       call->url);
	if (t->read_errno)
		return err_sys(err, t->read_errno, "%s: cannot read what is to be sent",
			       call->url);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return err_set(err, ERR_TIMEOUT, "%s: %s", call->url, what);
	if (code == CURLE_URL_MALFORMAT)
		return err_set(err, ERR_INVALID,
			       "'%s': must be a URL that begins with http:// or https://",
			       call->url);
	return err_set(err, ERR_UNAVAILABLE, "%s: %s", call->url, what);
}

int http_call(struct http_client *c, const struct http_call *call, struct http_result *ret,
	      struct err *err)
{
	struct transfer t = { .call = call, .easy = c->easy, .body_at = -1 };
	struct curl_slist *headers;
	char error[CURL_ERROR_SIZE] = "";
	CURLcode code = CURLE_OK;
	int rc;

	if (!str_starts(call->url, "http://") && !str_starts(call->url, "https://"))
		return code_to_err(&t, CURLE_URL_MALFORMAT, error, err);
	headers = headers_make(call);
	strbuf_init(&t.result.body);
	options_set(c->easy, &t, headers, error);
	curl_multi_add_handle(c->multi, c->easy);
	rc = transfer_run(c, &t, &code, err);
	curl_multi_remove_handle(c->multi, c->easy);
	if (!rc && code)
		rc = code_to_err(&t, code, error, err);
	if (!rc && !t.head_ended)
		rc = code_to_err(&t, CURLE_PARTIAL_FILE, "the answer ended within its head",
				 err);
	if (!rc) {
		status_tell(&t);
		*ret = t.result;
	} else {
		strbuf_release(&t.result.body);
	}
	curl_easy_reset(c->easy); /* nothing of this frame may stay behind in it */
	curl_slist_free_all(headers);
	return rc;
}
