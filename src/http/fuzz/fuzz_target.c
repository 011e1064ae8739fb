/* A request target that is taken has one meaning: no part of it is empty, "." or "..", none
 * holds a slash. */
#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_route routes[] = {
	{ HTTP_GET, "/" },	     { HTTP_GET, "/v1/a" },	 { HTTP_GET, "/v1/{id}" },
	{ HTTP_POST, "/v1/{id}/b" }, { HTTP_GET, "/{x}/{y}/c" }, { HTTP_GET, "/w/{rest*}" },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct router *router;
	struct route_match m;
	struct arena arena;
	struct path path;
	struct err err;
	char *target = xcalloc(1, size + 1);

	memcpy(target, data, size);
	arena_init(&arena, 0);
	if (router_new(routes, ARRAY_LEN(routes), &router, &err))
		abort();
	if (!path_parse(&arena, target, &path, &err)) {
		assert(path.count >= 1 && path.count <= PATH_SEGMENTS_MAX &&
		       path.decoded[0] == '/');
		for (size_t i = 0; i < path.count; i++) {
			const char *s = path.segments[i];

			assert(*s || i + 1 == path.count);
			assert(!str_eq(s, ".") && !str_eq(s, "..") && !strpbrk(s, "/\\"));
			assert(str_starts(path.decoded + path.rest[i], s));
		}
		for (int method = 0; method < HTTP_METHODS; method++) {
			router_match(router, &path, (enum http_method)method, &m);
			assert(!m.route || m.route->method == (enum http_method)method);
			assert(!m.route || m.methods & 1u << method);
		}
	}
	router_free(router);
	arena_release(&arena);
	free(target);
	return 0;
}
