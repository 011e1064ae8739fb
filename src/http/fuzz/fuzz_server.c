/* The bytes of one connection against a running server: every answer is one of ours or libmicrohttpd's, and what a
 * handler sees has been checked.  The process must stay within its descriptors and memory. */
#include "../internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void handler(struct http_request *req, struct http_response *res, void *state, void *arg)
{
	const char *id = http_param(req, "id");

	assert(req->path[0] == '/' && !strstr(req->path, "/../") && !strstr(req->path, "//"));
	assert(utf8_valid(req->path, strlen(req->path)));
	for (const char *p = req->path; *p; p++)
		assert((unsigned char)*p >= 0x20 && *p != 0x7f);
	assert(!id || (*id && !strchr(id, '/') && !str_eq(id, "..")));
	assert(req->body_size <= req->route->body_max && (int64_t)req->body.len <= req->body_size);
	assert(req->route->body != HTTP_BODY_NONE || req->body_size == 0);
	if (req->body_path)
		assert(access(req->body_path, F_OK) == 0);
	http_respond_header(res, "X-Echo", req->path);
	http_respond(res, 200, "text/plain", req->body);
}

static void *thread_open(void *arg)
{
	return arg;
}

static void thread_close(void *state) {}

static struct http_server *server(void)
{
	static const struct http_route routes[] = {
		{ HTTP_GET, "/", HTTP_BODY_NONE, 0, NULL, NULL },
		{ HTTP_GET, "/{id}/a", HTTP_BODY_NONE, 0, NULL, NULL },
		{ HTTP_POST, "/j", HTTP_BODY_MEMORY, 256, "application/json", NULL },
		{ HTTP_PUT, "/f/{rest*}", HTTP_BODY_FILE, 256, NULL, NULL },
		{ HTTP_DELETE, "/{id}", HTTP_BODY_NONE, 0, NULL, NULL },
	};
	static struct http_server *s;
	static char something;
	struct err err;

	if (!s && http_server_start(
			  &(struct http_server_config){
				  .address = "127.0.0.1", .pool_threads = 1, .epoll_threads = 1, .queue_max = 64,
				  .connections_max = 256, .connections_per_address_max = 256,
				  .idle_timeout_ms = 1000, .head_max = 2048, .spool_dir = "/tmp", .routes = routes,
				  .route_count = ARRAY_LEN(routes), .handler = handler, .thread_open = thread_open,
				  .thread_close = thread_close, .arg = &something,
			  },
			  &s, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return s;
}

/* Until the server closes, or has been silent for a moment: it may wait for more. */
static void answers_read(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char first[9] = "", buf[4096];
	ssize_t n;
	bool begun = false;

	while (poll(&p, 1, 20) > 0 && (n = read(fd, buf, sizeof(buf))) > 0) {
		if (!begun)
			memcpy(first, buf, MIN((size_t)n, sizeof(first) - 1));
		if (!begun && n >= 8)
			assert(str_starts(first, "HTTP/1."));
		begun = true;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger hard = { .l_onoff = 1 }; /* no connection stays behind, waiting */
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_port = htons((uint16_t)http_server_port(server()));
	if (fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINTR)) {
		perror("cannot connect to the server");
		abort();
	}
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	(void)!send(fd, data, size, MSG_NOSIGNAL);
	answers_read(fd);
	close(fd);
	return 0;
}
