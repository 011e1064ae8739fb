/* Images that a registry gave for a lease: so that what is named by digest need not be asked for
 * again, and so that a registry which is away stops nobody.  An image stands here under what was
 * asked for and the login that got it: who has no right to it finds nothing. */
#include "internal.h"

static char *images_path(const char *state_dir)
{
	return path_join(state_dir, "images");
}

static void key_make(const char *image, const struct registry_login *login,
		     char ret[static SHA256_HEX_SIZE])
{
	/* With the zero bytes: no two of them run together. */
	const char *const parts[] = { image, login ? login->username : "",
				      login ? login->secret : "" };
	struct sha256 hash;
	uint8_t digest[SHA256_SIZE];

	sha256_init(&hash);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		const char *part = parts[i] ? parts[i] : "";

		sha256_update(&hash, part, strlen(part) + 1);
	}
	sha256_final(&hash, digest);
	hex_format(digest, sizeof(digest), ret);
}

static bool line_parse(struct slice line, struct image_known *ret)
{
	struct slice key;

	if (!slice_split(&line, ' ', &key) || key.len != SHA256_HEX_SIZE - 1 || !line.ptr ||
	    line.len == 0 || line.len >= sizeof(ret->id))
		return false;
	snprintf(ret->key, sizeof(ret->key), "%.*s", (int)key.len, key.ptr);
	snprintf(ret->id, sizeof(ret->id), "%.*s", (int)line.len, line.ptr);
	return true;
}

void images_load(struct images_known *k, const char *state_dir)
{
	cleanup_free char *path = images_path(state_dir);
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err ignored = { 0 };
	struct slice rest, line;

	pthread_mutex_init(&k->lock, NULL);
	k->count = 0;
	if (file_read(path, 1 << 20, &text, &ignored) < 0)
		return;
	rest = (struct slice){ text.buf, text.len };
	while (k->count < IMAGES_KNOWN_MAX && slice_split(&rest, '\n', &line))
		if (line_parse(line, &k->items[k->count]))
			k->count++;
}

static size_t position(const struct images_known *k, const char *key)
{
	size_t i = 0;

	while (i < k->count && !str_eq(k->items[i].key, key))
		i++;
	return i;
}

bool images_find(struct images_known *k, const char *image, const struct registry_login *login,
		 char ret[static 80])
{
	char key[SHA256_HEX_SIZE];
	size_t i;
	bool found;

	key_make(image, login, key);
	pthread_mutex_lock(&k->lock);
	i = position(k, key);
	found = i < k->count;
	if (found)
		snprintf(ret, 80, "%s", k->items[i].id);
	pthread_mutex_unlock(&k->lock);
	return found;
}

int images_remember(struct images_known *k, const char *state_dir, const char *image,
		    const struct registry_login *login, const char *id, struct err *err)
{
	cleanup_free char *path = images_path(state_dir);
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct image_known fresh;
	size_t i;
	int rc;

	if (str_copy(fresh.id, sizeof(fresh.id), id) < 0)
		return err_set(err, ERR_INVALID, "the image's id '%.100s' is too long", id);
	key_make(image, login, fresh.key);
	pthread_mutex_lock(&k->lock);
	i = position(k, fresh.key);
	if (i == k->count)
		i = k->count < IMAGES_KNOWN_MAX ? k->count++ : IMAGES_KNOWN_MAX - 1;
	memmove(&k->items[1], &k->items[0], i * sizeof(k->items[0]));
	k->items[0] = fresh;
	for (i = 0; i < k->count; i++)
		strbuf_addf(&text, "%s %s\n", k->items[i].key, k->items[i].id);
	rc = file_write_atomic(path, text.buf, text.len, 0600, err);
	pthread_mutex_unlock(&k->lock);
	return rc;
}
