/* Where the network's address and the key are kept: ~/.config/tes/config, mode 0600. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define LOGIN_FILE_MAX 65536

static const struct config_key login_keys[] = {
	{ "login", "url", CONFIG_TEXT, offsetof(struct login_file, url), "", 0, 0, NULL,
	  "The network's server." },
	{ "login", "key", CONFIG_TEXT, offsetof(struct login_file, key), "", 0, 0, NULL,
	  "API key." },
	{ "login", "ca_file", CONFIG_TEXT, offsetof(struct login_file, ca_file), "", 0, 0, NULL,
	  "Certificates to trust." },
};
static const struct config_table login_table = { login_keys, ARRAY_LEN(login_keys),
						 sizeof(struct login_file) };

char *login_path(struct arena *arena)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (!str_empty(config) && config[0] == '/')
		return arena_printf(arena, "%s/tes/config", config);
	return arena_printf(arena, "%s/.config/tes/config", str_empty(home) ? "/root" : home);
}

int login_read(const char *path, struct arena *arena, struct login_file *ret, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err why = { 0 };
	struct login_file login;
	/* No variables: TES_URL, TES_KEY and TES_CA_FILE are read by whoever calls. */
	char *const environment[] = { NULL };

	if (file_read(path, LOGIN_FILE_MAX, &text, &why) < 0) {
		if (why.code == ERR_NOT_FOUND || why.sys == ENOTDIR) {
			*ret = (struct login_file){ 0 };
			return 0;
		}
		*err = why;
		return -1;
	}
	if (config_read(&login_table, (struct slice){ text.buf, text.len }, path, environment,
			arena, &login, err) < 0)
		return -1;
	if (!str_empty(login.url) && url_check(login.url, arena, &login.url, err) < 0)
		return err_wrap(err, "%s", path);
	/* The texts must outlive the file's. */
	ret->url = arena_strdup(arena, login.url);
	ret->key = arena_strdup(arena, login.key);
	ret->ca_file = arena_strdup(arena, login.ca_file);
	return 0;
}

int login_write(const char *path, const struct login_file *login, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT, dir = STRBUF_INIT;

	strbuf_adds(&text, "# Written by `tes login`.\n[login]\n");
	if (!str_empty(login->url))
		strbuf_addf(&text, "url = \"%s\"\n", login->url);
	if (!str_empty(login->key))
		strbuf_addf(&text, "key = \"%s\"\n", login->key);
	if (!str_empty(login->ca_file))
		strbuf_addf(&text, "ca_file = \"%s\"\n", login->ca_file);
	strbuf_add(&dir, path, (size_t)(strrchr(path, '/') - path));
	if (dir_make(dir.buf, 0700, err) < 0)
		return -1;
	return file_write_atomic(path, text.buf, text.len, 0600, err);
}

int ca_file_check(const char *path, struct arena *arena, const char **ret, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	char *full;

	if (file_read(path, LOGIN_FILE_MAX * 64, &text, err) < 0)
		return -1;
	full = realpath(path, NULL);
	if (!full || !strstr(text.buf, "-----BEGIN ") || full[strcspn(full, "\"\\\r\n")]) {
		free(full);
		return err_set(err, ERR_INVALID,
			       "%.100s holds no certificates in PEM: they begin with -----BEGIN",
			       path);
	}
	*ret = arena_strdup(arena, full);
	free(full);
	return 0;
}

int url_check(const char *url, struct arena *arena, const char **ret, struct err *err)
{
	size_t len = strlen(url);
	const char *host = strstr(url, "://");

	if ((!str_starts(url, "http://") && !str_starts(url, "https://")) || !host ||
	    !host[3] || host[3] == '/')
		return err_set(err, ERR_INVALID,
			       "`%.80s` is not a URL: write it like https://tes.example.org",
			       url);
	if (url[strcspn(url, " \t\r\n\"\\?#")] || len > 1024)
		return err_set(err, ERR_INVALID,
			       "`%.80s`: a URL of a server has no blanks, quotes, '?' or '#'",
			       url);
	while (url[len - 1] == '/')
		len--;
	*ret = arena_strndup(arena, url, len);
	return 0;
}
