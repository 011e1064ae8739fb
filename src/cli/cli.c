/* From the command line to a command, and from its error to an exit status. */
#include "internal.h"

#include <signal.h>
#include <unistd.h>

#define URL_DEFAULT "http://127.0.0.1:7370"

volatile int cli_interrupted;

static void on_interrupt(int signal)
{
	(void)signal;
	if (cli_interrupted)
		_exit(EXIT_DETACHED); /* twice: at once */
	cli_interrupted = 1;
}

void interrupt_catch(void)
{
	struct sigaction action = { .sa_handler = on_interrupt };

	sigaction(SIGINT, &action, NULL);
}

int64_t cli_now(void)
{
	return clock_now(&clock_system);
}

/* The environment wins over the login file, so that a key never has to be written down.  The
 * file's key goes to the file's server only. */
static int session_open(struct cli *cli, struct err *err)
{
	struct login_file login = { 0 };
	const char *url = getenv("TES_URL"), *key = getenv("TES_KEY"), *ca = getenv("TES_CA_FILE");

	if (!str_empty(url) && url_check(url, &cli->arena, &url, err) < 0)
		return err_wrap(err, "TES_URL");
	if ((str_empty(url) || str_empty(key) || str_empty(ca)) &&
	    login_read(login_path(&cli->arena), &cli->arena, &login, err) < 0)
		return -1;
	if (str_empty(login.url))
		login.url = URL_DEFAULT;
	cli->url = str_empty(url) ? login.url : url;
	if (str_empty(key) && str_eq(cli->url, login.url))
		key = login.key;
	cli->key = str_empty(key) ? NULL : key;
	if (str_empty(ca) && str_eq(cli->url, login.url))
		ca = login.ca_file;
	cli->ca_file = str_empty(ca) ? NULL : ca;
	if (cli->ca_file && ca_file_check(ca, &cli->arena, &cli->ca_file, err) < 0)
		return err_wrap(err, "certificates to trust");
	if (cli->key && cli->key[strcspn(cli->key, "\r\n")])
		return err_set(err, ERR_INVALID,
			       "TES_KEY holds a line end: it is not an API key");
	return 0;
}

static void cli_init(struct cli *cli)
{
	*cli = (struct cli){
		.tty_out = term_is(STDOUT_FILENO),
		.tty_err = term_is(STDERR_FILENO),
		.color_out = term_color(STDOUT_FILENO),
		.color_err = term_color(STDERR_FILENO),
	};
	strbuf_init(&cli->body);
	id_make("ik", cli_now(), &random_system, cli->request_key);
	signal(SIGPIPE, SIG_IGN);
}

static void cli_release(struct cli *cli)
{
	http_client_free(cli->http);
	strbuf_release(&cli->body);
	arena_release(&cli->arena);
}

static int command_run(struct cli *cli, const struct command *c, const struct args *args)
{
	struct err err = { 0 };
	int status;

	cli->json = args_has(args, "json");
	if (args_has(args, "help")) {
		cleanup_strbuf struct strbuf text = STRBUF_INIT;

		help_command(c, cli->color_out, &text);
		print("%s", text.buf);
		status = 0;
	} else {
		bool offline = c->run == cmd_help || c->run == cmd_completion;

		status = !offline && session_open(cli, &err) < 0 ? -1 : c->run(cli, args, &err);
	}
	/* Also after an error: what was found before it may be of use. */
	struct err flush = { 0 };

	if (print_flush(&flush) < 0 && status >= 0) {
		err = flush;
		status = -1;
	}
	if (status >= 0)
		return status;
	say_error(cli, &err);
	return cli->usage ? EXIT_USAGE : EXIT_FAILURE;
}

static int unknown_command(struct cli *cli, const char *name)
{
	VEC(const char *) names = { 0 };
	struct err err = { 0 };
	const char *near;

	for (const struct command *c = commands; c->name; c++)
		*vec_push(&names) = c->name;
	near = nearest_name(name, names.items, names.len);
	vec_release(&names);
	if (near)
		err_set(&err, ERR_INVALID,
			"there is no command \"%.40s\"; did you mean `tes %s`?", name, near);
	else
		err_set(&err, ERR_INVALID,
			"there is no command \"%.40s\": `tes help` lists them", name);
	say_error(cli, &err);
	return EXIT_USAGE;
}

static int dispatch(struct cli *cli, size_t len, const char *const *argv)
{
	const char *name = len ? argv[0] : "help";
	const struct command *c;
	struct args args;
	struct err err = { 0 };
	int status;

	if (str_eq(name, "--help") || str_eq(name, "-h"))
		name = "help";
	if (str_eq(name, "--version"))
		name = "version";
	c = command_find(name);
	if (!c && name[0] == '-') {
		err_set(&err, ERR_INVALID, "flags stand after the command: tes COMMAND %.40s",
			name);
		say_error(cli, &err);
		return EXIT_USAGE;
	}
	if (!c)
		return unknown_command(cli, name);
	if (args_parse(c, argv + 1, len ? len - 1 : 0, &args, &err) < 0) {
		say_error(cli, &err);
		return EXIT_USAGE;
	}
	status = command_run(cli, c, &args);
	args_release(&args);
	return status;
}

int cli_main(int argc, const char *const *argv)
{
	struct cli cli;
	int status;

	cli_init(&cli);
	status = dispatch(&cli, argc > 0 ? (size_t)argc - 1 : 0, argv + 1);
	cli_release(&cli);
	return status;
}
