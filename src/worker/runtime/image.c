#include "internal.h"

/* A registry or a disk that does nothing for so long will not any more. */
#define PULL_IDLE_MS (15 * MINUTE_MS)

int image_want_parse(const char *image, struct image_want *ret, struct err *err)
{
	struct image_want want = { 0 };
	struct image_ref ref;

	if (str_starts(image, "sha256:") && strlen(image) == 7 + 64 &&
	    strspn(image + 7, "0123456789abcdef") == 64) {
		memcpy(want.digest, image, 7 + 64 + 1);
		want.id = true;
		*ret = want;
		return 0;
	}
	if (image_parse(image, &ref, err) < 0)
		return -1;
	if (ref.digest.len >= sizeof(want.digest) || ref.tag.len >= sizeof(want.tag) ||
	    ref.domain.len + 1 + ref.path.len >= sizeof(want.name))
		return err_set_field(err, "image", "'%.100s…' is too long", image);
	snprintf(want.name, sizeof(want.name), "%.*s%s%.*s", (int)ref.domain.len,
		 ref.domain.ptr, ref.domain.len ? "/" : "", (int)ref.path.len, ref.path.ptr);
	snprintf(want.tag, sizeof(want.tag), "%.*s", (int)ref.tag.len, ref.tag.ptr);
	snprintf(want.digest, sizeof(want.digest), "%.*s", (int)ref.digest.len, ref.digest.ptr);
	if (!*want.tag && !*want.digest)
		memcpy(want.tag, "latest", sizeof("latest"));
	*ret = want;
	return 0;
}

/* Docker leaves its own registry's name out, Podman does not. */
static struct slice familiar(struct slice name)
{
	static const char *const prefixes[] = { "docker.io/", "index.docker.io/", "library/" };

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		size_t len = strlen(prefixes[i]);

		if (name.len > len && memcmp(name.ptr, prefixes[i], len) == 0)
			name = (struct slice){ name.ptr + len, name.len - len };
	}
	return name;
}

const char *image_digest_find(const struct json *repo_digests, const struct image_want *want)
{
	const char *found = NULL;

	if (!repo_digests || repo_digests->kind != JSON_ARRAY)
		return NULL;
	for (size_t i = 0; i < repo_digests->count; i++) {
		struct slice digest = slice_of(repo_digests->items[i].kind == JSON_TEXT
						       ? repo_digests->items[i].text
						       : ""),
			     name;

		if (!slice_split(&digest, '@', &name) || !digest.ptr)
			continue;
		if (!slice_eq(familiar(name), familiar(slice_of(want->name))))
			continue;
		if (slice_is(digest, want->digest))
			return repo_digests->items[i].text;
		/* An image may be known by several; the newest is last. */
		if (!*want->digest)
			found = repo_digests->items[i].text;
	}
	return found;
}

/* 1 if it is there, 0 if not. */
static int image_find(struct runtime *rt, const struct image_want *want,
		      char ret_image[static 320], char ret_digest[static 320], struct err *err)
{
	cleanup_strbuf struct strbuf path = STRBUF_INIT;
	cleanup_arena struct arena arena = { 0 };
	struct json *image;
	const char *id, *digest;
	struct err e = { 0 };

	if (want->id)
		strbuf_addf(&path, "/images/%s/json", want->digest);
	else if (*want->digest)
		strbuf_addf(&path, "/images/%s@%s/json", want->name, want->digest);
	else
		strbuf_addf(&path, "/images/%s:%s/json", want->name, want->tag);
	if (docker_get(rt, path.buf, "looking for the image", &arena, &image, &e) < 0) {
		if (e.code == ERR_NOT_FOUND)
			return 0;
		*err = e;
		return -1;
	}
	id = json_text(image, "Id");
	digest = image_digest_find(json_find(image, "RepoDigests"), want);
	if (!*id || strlen(id) >= 320 - 7 || (digest && strlen(digest) >= 320))
		return err_set(err, ERR_UNAVAILABLE,
			       "the engine has image %.100s without a usable id: '%.100s'",
			       want->name, id);
	/* A bare hexadecimal id could be taken for a name. */
	snprintf(ret_image, 320, "%s%s", strchr(id, ':') ? "" : "sha256:", id);
	snprintf(ret_digest, 320, "%s", digest ? digest : ret_image);
	return 1;
}

/* X-Registry-Auth: JSON in base64url, with the padding that ours leaves out. */
static char *login_encode(struct arena *arena, const struct registry_login *login,
			  const char *name)
{
	cleanup_strbuf struct strbuf json = STRBUF_INIT;
	char registry[256] = "https://index.docker.io/v1/", *text;
	struct image_ref ref;

	if (image_parse(name, &ref, NULL) == 0 && ref.domain.len > 0 &&
	    !slice_is(ref.domain, "docker.io"))
		snprintf(registry, sizeof(registry), "%.*s", (int)ref.domain.len,
			 ref.domain.ptr);
	strbuf_adds(&json, "{\"username\":");
	json_write_text(login->username ? login->username : "", &json);
	strbuf_adds(&json, ",\"password\":");
	json_write_text(login->secret ? login->secret : "", &json);
	strbuf_adds(&json, ",\"serveraddress\":");
	json_write_text(registry, &json);
	strbuf_addc(&json, '}');
	text = base64url_format(arena, json.buf, json.len);
	explicit_bzero(json.buf, json.len);
	return arena_printf(arena, "%s%s", text, &"==="[(strlen(text) + 3) % 4]);
}

/* Docker answers some failures by status, others in the stream after 200. */
static int pull_fail(const char *name, const char *words, bool with_login, struct err *err)
{
	return err_set(err, pull_error_code(words, with_login), "cannot pull %.100s: %s", name,
		       words);
}

static int pull_on_data(void *arg, const char *p, size_t len)
{
	return pull_feed(arg, p, len);
}

static int image_pull(struct runtime *rt, const struct image_want *want,
		      const struct registry_login *login, const volatile int *cancel,
		      struct pull *pull, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };
	struct docker_call call = {
		.method = HTTP_POST,
		.idle_timeout_ms = PULL_IDLE_MS,
		.on_data = pull_on_data,
		.cancel = cancel,
		.arg = pull,
	};

	call.path = arena_printf(&arena, "/images/create?fromImage=%s&tag=%s",
				 url_escape(&arena, want->name),
				 url_escape(&arena, *want->digest ? want->digest : want->tag));
	if (login)
		call.registry_auth = login_encode(&arena, login, want->name);
	if (docker_send(rt, &call, &res, err) < 0)
		return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED)
			       ? err_set(err, ERR_TIMEOUT, "pulling %.100s was cancelled",
					 want->name)
			       : err_wrap(err, "cannot pull %.100s", want->name);
	if (res.status >= 400)
		return pull_fail(want->name, docker_words(&res, &arena), login, err);
	if (*pull->error)
		return pull_fail(want->name, pull->error, login, err);
	return 0;
}

int runtime_image(struct runtime *rt, const char *image, const struct registry_login *login,
		  const volatile int *cancel, runtime_progress_fn *progress, void *arg,
		  char ret_image[static 320], char ret_digest[static 320], struct err *err)
{
	struct image_want want;
	struct pull pull;
	int found, rc;

	if (image_want_parse(image, &want, err) < 0)
		return -1;
	found = image_find(rt, &want, ret_image, ret_digest, err);
	if (found != 0)
		return found < 0 ? -1 : 0;
	if (want.id)
		return err_set(
			err, ERR_NOT_FOUND,
			"there is no image with the id %s on this worker, and an id cannot be "
			"pulled: "
			"name the image",
			want.digest);
	pull_init(&pull, progress, arg);
	rc = image_pull(rt, &want, login, cancel, &pull, err);
	pull_release(&pull);
	if (rc < 0)
		return -1;
	found = image_find(rt, &want, ret_image, ret_digest, err);
	if (found < 0)
		return -1;
	if (found == 0)
		return err_set(err, ERR_NOT_FOUND,
			       "the engine pulled %.100s, but does not have it now", image);
	return 0;
}
