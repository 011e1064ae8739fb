/* What the container engine answers, or whoever sits on its socket: inspections, /info, its events, names of images. */
#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int line(void *arg, struct slice text)
{
	assert(text.len <= 100 && !memchr(text.ptr, '\n', text.len));
	++*(size_t *)arg;
	return 0;
}

static void lines(const char *data, size_t size)
{
	size_t count[2] = { 0, 0 };

	for (int way = 0; way < 2; way++) {
		struct line_splitter ls = { .max = 100 };
		size_t step = way ? 3 : MAX(size, 1);

		strbuf_init(&ls.line);
		for (size_t at = 0; at < size; at += step)
			assert(line_split(&ls, data + at, MIN(step, size - at), line, &count[way]) == 0);
		strbuf_release(&ls.line);
	}
	assert(count[0] == count[1]);
}

static void documents(const struct json *doc)
{
	struct runtime rt = { .api_minor = 41, .podman = false };
	struct container_status st;
	struct runtime_info info;
	struct image_want want;
	struct err err = { 0 };
	const char *found;

	status_read(&rt, doc, &st);
	assert(st.generation >= 0 && st.created_ms >= 0 && st.started_ms >= 0 && st.finished_ms >= 0);
	if (info_parse(&rt, doc, "6.1.0", &info, &err) < 0)
		assert(err.code != ERR_NONE && err.text[0]);
	if (image_want_parse(json_text(doc, "Image"), &want, &err) == 0) {
		found = image_digest_find(json_find(doc, "RepoDigests"), &want);
		assert(!found || *found);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = { 0 };
	struct http_result res = { .status = 500, .body = STRBUF_INIT };
	struct json *doc;
	struct err err = { 0 };
	char *text;

	arena_init(&a, 1 << 20);
	lines((const char *)data, size);
	text = arena_strndup(&a, (const char *)data, MIN(size, 1000));
	assert(go_time_ns(text) >= 0);
	strbuf_add(&res.body, data, size);
	assert(docker_words(&res, &a));
	assert(docker_fail(&res, "trying", &err) < 0 && err.text[0] && utf8_valid(err.text, strlen(err.text)));
	strbuf_release(&res.body);
	if (json_parse((struct slice){ (const char *)data, size }, &a, &doc, &err) == 0)
		documents(doc);
	return 0;
}
