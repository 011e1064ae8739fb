#include "internal.h"

#include <fnmatch.h>

/* A registry or a disk that does nothing for so long will not any more. */
#define PULL_IDLE_MS	    (15 * MINUTE_MS)
#define REGISTRY_TIMEOUT_MS (60 * SECOND_MS)

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

/* Cuts the first of a list with commas off `rest`; blanks around it do not count. */
static bool pattern_next(struct slice *rest, char ret[static 320])
{
	struct slice part;

	while (slice_split(rest, ',', &part)) {
		part = slice_trim(part);
		if (part.len == 0 || part.len >= 320)
			continue;
		part = familiar(part);
		snprintf(ret, 320, "%.*s", (int)part.len, part.ptr);
		return true;
	}
	return false;
}

bool image_is_listed(const char *patterns, const char *image)
{
	struct slice rest = slice_of(patterns ? patterns : ""),
		     name = familiar(slice_of(image));
	char full[512], bare[512], pattern[320], *end;

	/* Podman's word for what came from no registry. */
	if (str_starts(name.ptr, "localhost/"))
		name = slice_of(name.ptr + strlen("localhost/"));
	if (name.len == 0 || name.len >= sizeof(full))
		return false;
	snprintf(full, sizeof(full), "%s", name.ptr);
	snprintf(bare, sizeof(bare), "%s", name.ptr);
	end = strchr(bare, '@');
	if (end)
		*end = '\0';
	end = strrchr(bare, ':');
	if (end && !strchr(end, '/'))
		*end = '\0';
	while (pattern_next(&rest, pattern))
		if (fnmatch(pattern, full, 0) == 0 || fnmatch(pattern, bare, 0) == 0)
			return true;
	return false;
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

/* What the engine has under a name. */
struct image_found {
	char image[320], digest[320];
	bool listed; /* one of its names here is in the list that was asked with */
};

static void found_names(struct image_found *f, const struct json *tags, const char *patterns)
{
	for (size_t i = 0; tags && tags->kind == JSON_ARRAY && i < tags->count; i++)
		if (tags->items[i].kind == JSON_TEXT)
			f->listed |= image_is_listed(patterns, tags->items[i].text);
}

/* 1 if it is there, 0 if not.  by_id: look for this one, whatever the name stands for now; or
 * NULL. */
static int image_find(struct runtime *rt, const struct image_want *want, const char *by_id,
		      const char *patterns, struct image_found *ret, struct err *err)
{
	cleanup_strbuf struct strbuf path = STRBUF_INIT;
	cleanup_arena struct arena arena = { 0 };
	struct json *image;
	const char *id, *digest;
	struct err e = { 0 };

	if (by_id || want->id)
		strbuf_addf(&path, "/images/%s/json", by_id ? by_id : want->digest);
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
	*ret = (struct image_found){ 0 };
	/* A bare hexadecimal id could be taken for a name. */
	snprintf(ret->image, 320, "%s%s", strchr(id, ':') ? "" : "sha256:", id);
	snprintf(ret->digest, 320, "%s", digest ? digest : ret->image);
	found_names(ret, json_find(image, "RepoTags"), patterns);
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

/* The name in full: Podman would take a short one for an image of its own that nobody
 * published. */
static int want_qualify(const struct image_want *want, struct image_want *ret, struct err *err)
{
	struct image_ref ref;

	*ret = *want;
	if (image_parse(want->name, &ref, err) < 0)
		return -1;
	if (ref.domain.len)
		return 0;
	if (snprintf(ret->name, sizeof(ret->name), "docker.io/%s%s",
		     strchr(want->name, '/') ? "" : "library/",
		     want->name) >= (int)sizeof(ret->name))
		return err_set_field(err, "image", "'%.100s…' is too long", want->name);
	return 0;
}

/* May it be used as it is here, without asking a registry?  What a digest or an id names is
 * the same wherever it came from; a tag is this machine's own word. */
static bool is_free(const struct image_request *req, const struct image_want *want,
		    const struct image_found *found)
{
	if (image_is_listed(req->allow_local, req->image))
		return true;
	if (!*want->digest)
		return false;
	return found->listed || (req->known && str_eq(req->known, found->image));
}

/* The registry does not let us have it: what was pulled from it before may be used again. */
static int pull_again(struct runtime *rt, const struct image_request *req,
		      const struct image_want *want, const struct image_found *here,
		      struct image_found *ret, struct err *err)
{
	bool away = err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT;
	char words[sizeof(err->text)];
	struct err e = { 0 };

	if (err->code == ERR_UNSUPPORTED)
		return -1; /* never asked, and what is here is nobody's business */
	if (req->cancel && __atomic_load_n(req->cancel, __ATOMIC_RELAXED))
		return -1;
	if (away && req->known && image_find(rt, want, req->known, NULL, ret, &e) > 0)
		return 0;
	if (!here)
		return -1;
	snprintf(words, sizeof(words), "%s", err->text);
	err_clear(err);
	return err_set(err, ERR_FORBIDDEN,
		       "%.60s is here, but is not for leases ([images] allow_local), and no "
		       "registry gives it: %s",
		       req->image, words);
}

/* Does the registry let this login have it? */
static int registry_ask(struct runtime *rt, const struct image_request *req,
			const struct image_want *want, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	cleanup(http_result_release) struct http_result res = { .body = STRBUF_INIT };
	struct docker_call call = { .method = HTTP_GET,
				    .timeout_ms = REGISTRY_TIMEOUT_MS,
				    .cancel = req->cancel };

	call.path = arena_printf(&arena, "/distribution/%s@%s/json", want->name, want->digest);
	if (req->login)
		call.registry_auth = login_encode(&arena, req->login, want->name);
	if (docker_send(rt, &call, &res, err) < 0)
		return err_wrap(err, "cannot ask for %.100s", want->name);
	return res.status >= 400
		       ? pull_fail(want->name, docker_words(&res, &arena), req->login, err)
		       : 0;
}

/* here: there is one already, which the registry shall confirm. */
static int pull_fresh(struct runtime *rt, const struct image_request *req,
		      const struct image_want *want, bool here, struct image_found *ret,
		      struct err *err)
{
	struct image_want full;
	struct pull pull;
	struct image_ref ref;
	int found, rc;

	if (image_parse(want->name, &ref, err) < 0 ||
	    registry_check(ref.domain, req->private_registries, err) < 0)
		return -1;
	if (want_qualify(want, &full, err) < 0)
		return -1;
	/* Docker takes what it has by a digest without asking anybody; Podman asks. */
	if (here && *want->digest && !rt->podman && registry_ask(rt, req, &full, err) < 0)
		return -1;
	pull_init(&pull, req->progress, req->arg);
	rc = image_pull(rt, &full, req->login, req->cancel, &pull, err);
	pull_release(&pull);
	if (rc < 0)
		return -1;
	found = image_find(rt, &full, NULL, NULL, ret, err);
	if (found == 0)
		return err_set(err, ERR_NOT_FOUND,
			       "the engine pulled %.100s, but does not have it now",
			       req->image);
	return found < 0 ? -1 : 0;
}

int runtime_image(struct runtime *rt, const struct image_request *req, struct image_got *ret,
		  struct err *err)
{
	struct image_want want;
	struct image_found here, got;
	struct image_got out = { 0 };
	int found;

	if (image_want_parse(req->image, &want, err) < 0)
		return -1;
	found = image_find(rt, &want, NULL, req->allow_local, &here, err);
	if (found < 0)
		return -1;
	if (found && is_free(req, &want, &here)) {
		got = here;
	} else if (want.id) {
		/* Whether it is here is nobody's business. */
		return err_set(err, ERR_FORBIDDEN,
			       "%.80s is an image's id, which cannot be pulled and is not for "
			       "leases here ([images] allow_local): name the image",
			       want.digest);
	} else if (pull_fresh(rt, req, &want, found, &got, err) == 0) {
		out.pulled = true;
	} else if (pull_again(rt, req, &want, found ? &here : NULL, &got, err) < 0) {
		return -1;
	}
	snprintf(out.image, sizeof(out.image), "%s", got.image);
	snprintf(out.digest, sizeof(out.digest), "%s", got.digest);
	*ret = out;
	return 0;
}
