#include "internal.h"

/* A tree by path segments; a literal child is tried before {name}, that before {name*}. */
struct node {
	char *literal;		     /* NULL for the two kinds of parameter */
	VEC(struct node *) children; /* literals, sorted */
	struct node *param, *rest;
	const struct http_route *routes[HTTP_METHODS];
};

struct router {
	struct node root;
};

static void node_release(struct node *n)
{
	for (size_t i = 0; i < n->children.len; i++) {
		node_release(n->children.items[i]);
		free(n->children.items[i]);
	}
	vec_release(&n->children);
	if (n->param)
		node_release(n->param);
	if (n->rest)
		node_release(n->rest);
	free(n->param);
	free(n->rest);
	free(n->literal);
}

/* The child with this literal, or NULL; *ret_at: where it is or belongs. */
static struct node *child_find(const struct node *n, struct slice literal, size_t *ret_at)
{
	size_t lo = 0, hi = n->children.len;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const char *s = n->children.items[mid]->literal;
		int order = strncmp(s, literal.ptr, literal.len);

		if (!order)
			order = s[literal.len] != '\0';
		if (!order) {
			*ret_at = mid;
			return n->children.items[mid];
		}
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_at = lo;
	return NULL;
}

static struct node *child_get(struct node *n, struct slice literal)
{
	size_t at;
	struct node *child = child_find(n, literal, &at);

	if (child)
		return child;
	child = xcalloc(1, sizeof(*child));
	child->literal = xcalloc(1, literal.len + 1);
	memcpy(child->literal, literal.ptr, literal.len);
	vec_push(&n->children);
	memmove(&n->children.items[at + 1], &n->children.items[at],
		(n->children.len - 1 - at) * sizeof(n->children.items[0]));
	n->children.items[at] = child;
	return child;
}

static struct node *param_get(struct node **slot)
{
	if (!*slot)
		*slot = xcalloc(1, sizeof(**slot));
	return *slot;
}

static int route_add(struct router *r, const struct http_route *route, struct err *err)
{
	struct slice path = slice_of(route->path), part;
	struct node *n = &r->root;
	size_t params = 0;
	bool ended = false;

	if (!path.len || path.ptr[0] != '/')
		return err_set(err, ERR_INVALID, "route '%s': must begin with '/'",
			       path.ptr ? path.ptr : "");
	path.ptr++, path.len--;
	while (!ended) {
		const char *slash = path.len ? memchr(path.ptr, '/', path.len) : NULL;

		part = (struct slice){ path.ptr,
				       slash ? (size_t)(slash - path.ptr) : path.len };
		ended = !slash;
		path.ptr += part.len + 1, path.len -= part.len + !ended;
		if (part.len < 3 || part.ptr[0] != '{' || part.ptr[part.len - 1] != '}') {
			n = child_get(n, part);
			continue;
		}
		if (++params > ROUTE_PARAMS_MAX)
			return err_set(err, ERR_INVALID, "route '%s': more than %d parameters",
				       route->path, ROUTE_PARAMS_MAX);
		if (part.ptr[part.len - 2] != '*')
			n = param_get(&n->param);
		else if (ended)
			n = param_get(&n->rest);
		else
			return err_set(err, ERR_INVALID, "route '%s': {name*} must come last",
				       route->path);
	}
	assert((unsigned)route->method < HTTP_METHODS);
	if (n->routes[route->method])
		return err_set(err, ERR_INVALID, "route %s '%s': is there twice",
			       http_method_names[route->method], route->path);
	n->routes[route->method] = route;
	return 0;
}

int router_new(const struct http_route *routes, size_t count, struct router **ret,
	       struct err *err)
{
	struct router *r = xcalloc(1, sizeof(*r));

	for (size_t i = 0; i < count; i++) {
		if (route_add(r, &routes[i], err)) {
			router_free(r);
			return -1;
		}
	}
	*ret = r;
	return 0;
}

void router_free(struct router *r)
{
	if (!r)
		return;
	node_release(&r->root);
	free(r);
}

static bool node_take(const struct node *n, enum http_method method, struct route_match *m)
{
	for (int i = 0; i < HTTP_METHODS; i++)
		if (n->routes[i])
			m->methods |= 1u << i;
	m->route = n->routes[method];
	return m->route;
}

/* Depth is bounded by PATH_SEGMENTS_MAX and by the depth of the table. */
static bool node_match(const struct node *n, const struct path *path, size_t at,
		       enum http_method method, struct route_match *m)
{
	size_t params = m->param_count, ignored;
	const struct node *child;

	if (at == path->count)
		return node_take(n, method, m);
	child = child_find(n, slice_of(path->segments[at]), &ignored);
	if (child && node_match(child, path, at + 1, method, m))
		return true;
	if (n->param && path->segments[at][0]) {
		m->params[m->param_count++] = path->segments[at];
		if (node_match(n->param, path, at + 1, method, m))
			return true;
		m->param_count = params;
	}
	if (n->rest) {
		m->params[m->param_count++] = path->decoded + path->rest[at];
		if (node_take(n->rest, method, m))
			return true;
		m->param_count = params;
	}
	return false;
}

void router_match(const struct router *r, const struct path *path, enum http_method method,
		  struct route_match *ret)
{
	memset(ret, 0, sizeof(*ret));
	node_match(&r->root, path, 0, method, ret);
}

int route_param_index(const struct http_route *route, const char *name)
{
	size_t len = strlen(name);
	int index = 0;

	for (const char *p = strstr(route->path, "/{"); p; p = strstr(p + 1, "/{"), index++) {
		const char *end = p + 2 + len;

		if (strncmp(p + 2, name, len) == 0 &&
		    (*end == '}' || (end[0] == '*' && end[1] == '}')))
			return index;
	}
	return -1;
}
