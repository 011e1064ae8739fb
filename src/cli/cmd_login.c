#include "internal.h"

#include <unistd.h>

#define PASSWORD_BYTES 1025

/* One line from standard input, or typed without echo. */
static int secret_read(struct cli *cli, const char *prompt, bool from_stdin, const char **ret,
		       struct err *err)
{
	char text[PASSWORD_BYTES];

	if (!from_stdin) {
		if (term_read_secret(prompt, text, sizeof(text), err) < 0)
			return -1;
	} else {
		if (!fgets(text, sizeof(text), stdin))
			return err_set(err, ERR_INVALID,
				       "standard input is empty: a line was wanted");
		text[strcspn(text, "\r\n")] = '\0';
	}
	*ret = arena_strdup(&cli->arena, text);
	explicit_bzero(text, sizeof(text));
	return **ret ? 0 : err_set(err, ERR_INVALID, "nothing was entered");
}

static int key_by_email(struct cli *cli, const struct args *args, const char *email,
			struct err *err)
{
	char host[64] = "";
	struct login login = { .email = email, .org = args_get(args, "org") };
	struct api_key key;

	if (secret_read(cli, "Password: ", !term_is(STDIN_FILENO), &login.password, err) < 0)
		return -1;
	(void)!gethostname(host, sizeof(host) - 1);
	login.key_name =
		arena_printf(&cli->arena, "login on %.40s", *host ? host : "a machine");
	if (remote_call(cli, &(struct remote){ OP_user_login, .in = &login, .out = &key },
			err) < 0)
		return -1;
	if (str_empty(key.secret))
		return err_set(err, ERR_INTERNAL, "%s sent no key", cli->url);
	cli->key = key.secret;
	return 0;
}

static int key_find(struct cli *cli, const struct args *args, struct err *err)
{
	const char *key = args_get(args, "key"), *email = args_get(args, "email");

	if (key && email) {
		cli->usage = true;
		return err_set(err, ERR_INVALID,
			       "--key and --email are two ways to one thing: give one of them");
	}
	cli->key = NULL; /* an old one must not go to a new server */
	if (email)
		return key_by_email(cli, args, email, err);
	if (!key || str_eq(key, "-"))
		return secret_read(cli, "API key: ", key || !term_is(STDIN_FILENO), &cli->key,
				   err);
	cli->key = key;
	return 0;
}

static bool is_loopback(const char *url)
{
	return str_starts(url, "http://127.") || str_starts(url, "http://localhost") ||
	       str_starts(url, "http://[::1]");
}

int cmd_login(struct cli *cli, const struct args *args, struct err *err)
{
	const char *url = args_get(args, "url"), *path = login_path(&cli->arena);
	const char *ca = args_get(args, "ca-file");
	struct whoami who;

	if (url && url_check(url, &cli->arena, &cli->url, err) < 0) {
		cli->usage = true;
		return err_wrap(err, "--url");
	}
	if (ca && ca_file_check(ca, &cli->arena, &cli->ca_file, err) < 0)
		return err_wrap(err, "--ca-file");
	if (key_find(cli, args, err) < 0)
		return -1;
	if (cli->key[strcspn(cli->key, "\r\n\" \t\\")])
		return err_set(
			err, ERR_INVALID,
			"this is not an API key: they begin with tes_ and hold no blanks or quotes");
	if (remote_call(cli, &(struct remote){ OP_user_whoami, .out = &who }, err) < 0 ||
	    login_write(path, &(struct login_file){ cli->url, cli->key, cli->ca_file }, err) < 0)
		return -1;
	if (str_starts(cli->url, "http://") && !is_loopback(cli->url))
		say(cli,
		    "Careful: %s is not encrypted; whoever is on the way can read your key.",
		    cli->url);
	if (!str_empty(getenv("TES_URL")) || !str_empty(getenv("TES_KEY")))
		say(cli, "TES_URL or TES_KEY is set: they win over what was kept now.");
	if (cli->json)
		print_body(cli);
	else
		say(cli, "Logged in to %s for %s%s%s.", cli->url,
		    who.org_name ? who.org_name : who.org_id,
		    str_empty(who.email) ? "" : " as ", str_empty(who.email) ? "" : who.email);
	return 0;
}
