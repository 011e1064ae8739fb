/* tes-worker's command line. */
#include "worker.h"

#include "../codec/codec.h"

#include <getopt.h>
#include <malloc.h>

#define ARENAS_MAX 4 /* of malloc: 0.02 MiB each while nothing runs */

struct command {
	const char *name, *arguments;
	int (*run)(const struct command_args
			   *args); /* NULL: handled here, without a configuration */
	const char *summary;
};

/* clang-format off */
static const struct command commands[] = {
	{ "hwdetect", "", command_hwdetect, "What this machine would offer." },
	{ "check", "[--image IMAGE]", command_check, "Can this machine run workloads?  Every failure names its cause and the next step." },
	{ "join", "URL --token T", command_join, "Make a key and join a network." },
	{ "run", "", command_run, "Take leases and run them, until SIGTERM; containers outlive it." },
	{ "drain", "", command_drain, "Take no new leases and hand back those that are here." },
	{ "pause", "", command_pause, "Take no new leases; those that are here go on." },
	{ "resume", "", command_resume, "Take leases again, after drain or pause." },
	{ "leave", "", command_leave, "Leave the network for good, once drained." },
	{ "config", "", NULL, "Print a commented configuration file with all defaults." },
	{ "version", "", NULL, "Print the version." },
};
/* clang-format on */

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' }, { "token", required_argument, NULL, 't' },
	{ "image", required_argument, NULL, 'i' },  { "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },	    { "version", no_argument, NULL, 'v' },
	{ NULL },
};

static void help(const struct command *c, FILE *to)
{
	if (c) {
		fprintf(to, "usage: tes-worker [-c FILE] %s%s%s [--json]\n\n%s\n", c->name,
			c->arguments[0] ? " " : "", c->arguments, c->summary);
		return;
	}
	fputs("usage: tes-worker [-c FILE] COMMAND [--json]\n\nRents out this machine to a TES AI network.\n\n",
	      to);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fputs("\n  -c, --config FILE   configuration (/etc/tes/tes-worker.conf if it is there)\n"
	      "  --json              for programs\n"
	      "  --help              of a command: tes-worker COMMAND --help\n",
	      to);
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (str_eq(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int usage(const char *text, const char *value)
{
	fprintf(stderr, "tes-worker: %s%s; see tes-worker --help\n", text, value);
	return 2;
}

static int without_config(const struct command *c, bool json)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	if (str_eq(c->name, "config"))
		config_describe(&out);
	else
		strbuf_addf(&out, json ? "{\"version\":\"%s\"}\n" : "tes-worker %s\n",
			    TES_VERSION);
	fputs(out.buf, stdout);
	return 0;
}

static int with_config(const struct command *c, struct command_args *args)
{
	static const enum log_level levels[] = { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
	cleanup_arena struct arena a = { 0 };
	struct worker_config config;
	struct err err = { 0 };

	if (config_open(args->config_path, &a, &config, &err) < 0) {
		fprintf(stderr, "tes-worker: %s\n", err.text);
		return 2;
	}
	args->config = &config;
	crypto_init();
	log_init(2, config.log_format == LOG_FORMAT_JSON, levels[config.log_level]);
	return c->run(args);
}

int main(int argc, char **argv)
{
	struct command_args args = { 0 };
	const struct command *c;
	bool want_help = false;
	int opt;

	/* Many threads that mostly wait, but those of leases that start together would wait for
	 * each other in a single one. */
	mallopt(M_ARENA_MAX, ARENAS_MAX);
	opterr = 0;
	while ((opt = getopt_long(argc, argv, "c:jh", options, NULL)) != -1) {
		switch (opt) {
		case 'c': args.config_path = optarg; break;
		case 't': args.token = optarg; break;
		case 'i': args.image = optarg; break;
		case 'j': args.json = true; break;
		case 'h': want_help = true; break;
		case 'v': return without_config(command_find("version"), args.json);
		default: return usage("unknown option or missing value: ", argv[optind - 1]);
		}
	}
	c = optind < argc ? command_find(argv[optind]) : NULL;
	if (want_help) {
		help(c, stdout);
		return 0;
	}
	if (optind == argc) {
		help(NULL, stderr);
		return 2;
	}
	if (!c)
		return usage("there is no command ", argv[optind]);
	optind++;
	if (c->run == command_join) {
		args.url = optind < argc ? argv[optind++] : NULL;
		if (!args.url || !args.token)
			return usage(
				"join needs the server's address and a token: tes-worker join URL --token T",
				"");
	}
	if (optind < argc)
		return usage("too many arguments: ", argv[optind]);
	return c->run ? with_config(c, &args) : without_config(c, args.json);
}
