#include "internal.h"

#include <strings.h>

void pull_init(struct pull *p, runtime_progress_fn *progress, void *arg)
{
	*p = (struct pull){ .progress = progress, .arg = arg, .lines.max = 64 << 10 };
	strbuf_init(&p->lines.line);
}

void pull_release(struct pull *p)
{
	strbuf_release(&p->lines.line);
	vec_release(&p->layers);
}

static struct pull_layer *layer_find(struct pull *p, const char *id)
{
	struct pull_layer *layer;

	for (size_t i = 0; i < p->layers.len; i++) {
		if (str_eq(p->layers.items[i].id, id))
			return &p->layers.items[i];
	}
	if (p->layers.len >= PULL_LAYERS_MAX)
		return NULL;
	layer = vec_push(&p->layers);
	if (str_copy(layer->id, sizeof(layer->id), id) < 0)
		p->layers.len--;
	return *layer->id ? layer : NULL;
}

/* The sum over the layers known so far; unpacking counts from when all of them are loaded. */
static void report(struct pull *p)
{
	int64_t loaded = 0, load_size = 0, unpacked = 0, unpack_size = 0, done, total;
	bool unpacking;

	for (size_t i = 0; i < p->layers.len; i++) {
		const struct pull_layer *l = &p->layers.items[i];

		if (!add_checked(loaded, l->loaded, &loaded) ||
		    !add_checked(load_size, l->load_size, &load_size) ||
		    !add_checked(unpacked, l->unpacked, &unpacked) ||
		    !add_checked(unpack_size, l->unpack_size, &unpack_size))
			return;
	}
	unpacking = unpack_size > 0 && loaded >= load_size;
	done = unpacking ? unpacked : loaded;
	total = unpacking ? MAX(unpack_size, load_size) : load_size;
	if (done == p->done && total == p->total && unpacking == p->unpacking)
		return;
	p->done = done;
	p->total = total;
	p->unpacking = unpacking;
	if (p->progress)
		p->progress(p->arg, unpacking ? "unpacking image" : "pulling image", done,
			    total);
}

static int pull_line(void *arg, struct slice line)
{
	struct pull *p = arg;
	cleanup_arena struct arena arena = { 0 };
	struct json *j;
	struct pull_layer *layer;
	const struct json *detail;
	const char *status;
	int64_t current, total;

	if (json_parse(line, &arena, &j, NULL) < 0)
		return 0;
	if (*json_text(j, "error"))
		snprintf(p->error, sizeof(p->error), "%s", json_text(j, "error"));
	status = json_text(j, "status");
	detail = json_find(j, "progressDetail");
	current = detail ? MAX(json_int(detail, "current"), 0) : 0;
	total = detail ? MAX(json_int(detail, "total"), 0) : 0;
	if (!*json_text(j, "id") || str_starts(status, "Pulling from"))
		return 0;
	layer = layer_find(p, json_text(j, "id"));
	if (!layer)
		return 0;
	if (str_eq(status, "Downloading")) {
		layer->loaded = current;
		layer->load_size = MAX(total, current);
	} else if (str_eq(status, "Download complete") ||
		   str_eq(status, "Verifying Checksum")) {
		layer->loaded = layer->load_size;
	} else if (str_eq(status, "Extracting")) {
		layer->loaded = layer->load_size;
		layer->unpacked = current;
		layer->unpack_size = MAX(total, current);
	} else if (str_eq(status, "Pull complete")) {
		layer->loaded = layer->load_size;
		layer->unpacked = layer->unpack_size;
	}
	report(p);
	return 0;
}

int pull_feed(struct pull *p, const char *data, size_t len)
{
	return line_split(&p->lines, data, len, pull_line, p);
}

enum err_code pull_error_code(const char *words, bool with_login)
{
	static const struct {
		const char *words;
		enum err_code code;
	} known[] = {
		/* A private repository without a login looks like one that does not exist,
		 * by design of the registries. */
		{ "repository does not exist or may require", ERR_NOT_FOUND },
		{ "requested access to the resource is denied", ERR_NOT_FOUND },
		{ "unauthorized", ERR_UNAUTHENTICATED },
		{ "authentication required", ERR_UNAUTHENTICATED },
		{ "no basic auth credentials", ERR_UNAUTHENTICATED },
		{ "incorrect username or password", ERR_UNAUTHENTICATED },
		{ "denied", ERR_UNAUTHENTICATED },
		{ "manifest unknown", ERR_NOT_FOUND },
		{ "name unknown", ERR_NOT_FOUND },
		{ "not found", ERR_NOT_FOUND },
		{ "no such image", ERR_NOT_FOUND },
		{ "does not exist", ERR_NOT_FOUND },
		{ "no matching manifest", ERR_NOT_FOUND },
		{ "timeout", ERR_TIMEOUT },
		{ "deadline exceeded", ERR_TIMEOUT },
		{ "no space left", ERR_IO },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strcasestr(words, known[i].words))
			return i < 2 && with_login ? ERR_UNAUTHENTICATED : known[i].code;
	}
	return ERR_UNAVAILABLE;
}
