/* The whole command line, one row a command and one row a flag. */
#include "internal.h"

#define END                  \
	{                    \
		.name = NULL \
	}

/* clang-format off */

const struct flag common_flags[] = {
	{ "json", 0, VALUE_NONE, false, NULL, NULL, NULL, "Print JSON, as the server sends it, for programs." },
	{ "help", 'h', VALUE_NONE, false, NULL, NULL, NULL, "Show how the command is used." },
	END,
};

/* What is wanted, and at which price: of offers, quote and run. */
static const struct flag want_flags[] = {
	{ "gpus", 0, VALUE_NUMBER, false, "N", "gpus", NULL, "Whole GPUs." },
	{ "gpu-model", 0, VALUE_TEXT, false, "MODEL", "gpu_model", NULL, "GPU model as NVML names it." },
	{ "vram", 0, VALUE_GIB, false, "GiB", "vram_mib", NULL, "Memory of each GPU, at least." },
	{ "cpus", 0, VALUE_CPUS, false, "N", "cpu_milli", NULL, "Hardware threads; 0.5 is half of one." },
	{ "memory", 0, VALUE_SIZE, false, "SIZE", "memory_mib", NULL, "Memory, such as 4GiB." },
	{ "disk", 0, VALUE_SIZE, false, "SIZE", "disk_mib", NULL, "Disk for the container's own files, such as 20GiB." },
	{ "region", 0, VALUE_TEXT, false, "REGION", "region", NULL, "Only there." },
	{ "max-price", 0, VALUE_MONEY, false, "DOLLARS", "max_price_uusd_h", NULL, "Highest price for an hour of all of it." },
	{ "max-duration", 0, VALUE_DURATION, false, "TIME", "max_duration_s", NULL, "Longest running time, such as 2h30m." },
	{ "min-reliability", 0, VALUE_PPM, false, "PERCENT", "min_reliability_ppm", NULL, "Observed reliability of the worker, at least, such as 99%." },
	END,
};

static const struct flag login_flags[] = {
	{ "url", 0, VALUE_TEXT, false, "URL", NULL, NULL, "The network's server." },
	{ "key", 0, VALUE_TEXT, false, "KEY", NULL, NULL, "API key; \"-\" reads it from standard input. Neither --key nor --email: it is asked for." },
	{ "email", 0, VALUE_TEXT, false, "EMAIL", NULL, NULL, "Make a key with mail address and password; the password is asked for, or read from standard input." },
	{ "org", 0, VALUE_TEXT, false, "ORG", NULL, NULL, "Organisation, for members of several." },
	{ "ca-file", 0, VALUE_FILE, false, "FILE", NULL, NULL, "Certificates to trust, in PEM, where the server's comes from an authority of your own." },
	END,
};
static const struct flag offers_flags[] = {
	{ "sort", 0, VALUE_TEXT, false, "BY", "sort", offer_sort_names, "What comes first: price, reliability, vram, gpus or network." },
	{ "limit", 0, VALUE_NUMBER, false, "N", "limit", NULL, "Offers to show, at most." },
	END,
};
static const struct flag quote_flags[] = {
	{ "offer", 0, VALUE_TEXT, false, "OFFER", NULL, NULL, "From this offer; else from the best." },
	END,
};
static const struct flag run_flags[] = {
	{ "image", 0, VALUE_TEXT, false, "IMAGE", "image", NULL, "Container image, such as docker.io/library/debian:12." },
	{ "name", 0, VALUE_TEXT, false, "NAME", "name", NULL, "Its name, of a-z, 0-9 and '-'." },
	{ "array", 0, VALUE_NUMBER, false, "N", NULL, NULL, "Make N workloads of it, 1 to 1000: all or none. Each finds its number, from 0, in TES_ARRAY_INDEX, and NAME becomes NAME-NUMBER." },
	{ "env", 'e', VALUE_TEXT, true, "K=V|K", NULL, NULL, "Environment variable; K alone takes the value from your own environment." },
	{ "secret", 0, VALUE_TEXT, true, "K[=V]", NULL, NULL, "Environment variable that is stored encrypted and never shown; K alone takes the value from your own environment, or asks." },
	{ "in", 0, VALUE_FILE, true, "FILE|DIR", NULL, NULL, "Upload it; it appears, read-only, in /in under its own name." },
	{ "out", 0, VALUE_TEXT, true, "PATH", "outputs[]", NULL, "Absolute path in the container that is kept as a result." },
	{ "retries", 0, VALUE_NUMBER, false, "N", "retries", NULL, "How often another worker is tried when one fails." },
	{ "quote", 0, VALUE_TEXT, false, "QUOTE", "quote", NULL, "Run at this quote's price, on its worker, with its resources." },
	{ "instance", 0, VALUE_NONE, false, NULL, NULL, NULL, "Stays until it is stopped, instead of a job that runs to its end." },
	{ "registry-user", 0, VALUE_TEXT, false, "USER", NULL, NULL, "User at the image's registry; the password comes from TES_REGISTRY_PASSWORD, or is asked for." },
	{ "prepare-timeout", 0, VALUE_DURATION, false, "TIME", "prepare_timeout_s", NULL, "How long getting the image and the inputs may take." },
	{ "wait", 'w', VALUE_NONE, false, NULL, NULL, NULL, "Show its output until it has ended, and end with its exit status (of an array: the highest)." },
	END,
};
static const struct flag apply_flags[] = {
	{ "file", 'f', VALUE_FILE, false, "FILE", NULL, NULL, "The job, in YAML; \"-\" reads standard input." },
	{ "wait", 'w', VALUE_NONE, false, NULL, NULL, NULL, "Show its output until it has ended, and end with its exit status (of an array: the highest)." },
	END,
};
static const struct flag ls_flags[] = {
	{ "all", 'a', VALUE_NONE, false, NULL, NULL, NULL, "Also what ended more than a day ago." },
	{ "state", 0, VALUE_TEXT, false, "STATE", "state", workload_state_names, "Only in this state." },
	{ "name", 0, VALUE_TEXT, false, "NAME", "name", NULL, "Only with this name." },
	{ "array", 0, VALUE_TEXT, false, "ID", NULL, NULL, "Only those of this array." },
	{ "limit", 0, VALUE_NUMBER, false, "N", "limit", NULL, "Workloads to show, at most." },
	END,
};
static const struct flag logs_flags[] = {
	{ "follow", 'f', VALUE_NONE, false, NULL, NULL, NULL, "Go on until it has ended." },
	{ "since", 0, VALUE_SINCE, false, "TIME", "since_ms", NULL, "Only what is newer: 10m, a day or a time." },
	{ "lease", 0, VALUE_TEXT, false, "LEASE", NULL, NULL, "Of this attempt; else of the last." },
	END,
};
static const struct flag results_flags[] = {
	{ "output", 'o', VALUE_DIR, false, "DIR", NULL, NULL, "Download into this folder." },
	END,
};
static const struct flag bill_flags[] = {
	{ "since", 0, VALUE_SINCE, false, "TIME", "since_ms", NULL, "Only what began later: 7d, a day or a time." },
	{ "until", 0, VALUE_SINCE, false, "TIME", "until_ms", NULL, "Only what began before." },
	END,
};
static const struct flag events_flags[] = {
	{ "follow", 'f', VALUE_NONE, false, NULL, NULL, NULL, "Go on with what happens from now on." },
	{ "subject", 0, VALUE_TEXT, false, "ID", NULL, NULL, "Only about this workload, lease, worker or key." },
	{ "limit", 0, VALUE_NUMBER, false, "N", "limit", NULL, "Events to show, at most." },
	{ "after", 0, VALUE_NUMBER, false, "NUMBER", "after", NULL, "Only those with a higher number." },
	END,
};
static const struct flag keys_flags[] = {
	{ "role", 0, VALUE_TEXT, false, "ROLE", "role", role_names + ROLE_VIEWER, "create: the most that it may do." },
	{ "scope", 0, VALUE_TEXT, true, "SCOPE", "scopes[]", scope_names, "create: a part of the API that it may use; none: all that the role allows." },
	{ "expires", 0, VALUE_DURATION, false, "TIME", "expires_s", NULL, "create: when it ends, such as 30d; else never." },
	END,
};
static const struct flag token_flags[] = {
	{ "expires", 0, VALUE_DURATION, false, "TIME", "expires_s", NULL, "When it ends, such as 1h; else after a day." },
	END,
};
static const struct flag help_flags[] = {
	{ "man", 0, VALUE_NONE, false, NULL, NULL, NULL, "The manual page, in roff." },
	{ "markdown", 0, VALUE_NONE, false, NULL, NULL, NULL, "The same as Markdown." },
	END,
};

static const char *const shell_names[] = { "bash", "zsh", "fish", NULL };
static const char *const keys_actions[] = { "create", "revoke", NULL };

const struct command commands[] = {
	{ "login", "[--url URL] [--key KEY | --email EMAIL]", "Say which network to use, and prove who you are.",
	  "The key is checked, then kept in ~/.config/tes/config (XDG_CONFIG_HOME), readable by you alone. TES_URL, TES_KEY and TES_CA_FILE win over that file.",
	  WORDS_NONE, { login_flags }, NULL, NULL, cmd_login },
	{ "logout", "", "Forget the key.", "The key itself stays valid: `tes keys revoke` ends it.", WORDS_NONE, { NULL }, NULL, NULL, cmd_logout },
	{ "whoami", "", "Show who the key belongs to and what it may do.", NULL, WORDS_NONE, { NULL }, NULL, NULL, cmd_whoami },
	{ "offers", "[FLAGS]", "List what there is to rent, the cheapest first.", NULL, WORDS_NONE, { want_flags, offers_flags }, NULL, &offer_query_type, cmd_offers },
	{ "quote", "[FLAGS]", "Freeze a price for a while.", "`tes run --quote` uses it, once, before it ends.", WORDS_NONE, { want_flags, quote_flags }, NULL, &quote_request_type, cmd_quote },
	{ "run", "--image IMAGE [FLAGS] [-- COMMAND...]", "Run a container.",
	  "Prints the id of the new workload. With --wait it shows placement, preparation and output instead, and its exit status is the container's (125 if there is none); Ctrl-C then detaches, and the workload goes on.\n\n"
	  "With --array it prints an id for each workload, in the order of their numbers. With --wait as well it shows the output of each in that order, and its exit status is the highest of all (125 stands for one that has none).\n\n"
	  "Without --max-price the price is at most that of the best offer at this moment. Without a COMMAND the image's own is run.",
	  WORDS_COMMAND, { run_flags, want_flags }, NULL, &workload_spec_type, cmd_run },
	{ "apply", "-f FILE", "Run what a job file describes.",
	  "The file is YAML with the fields of `tes run`: image, command, env, cpus, memory, disk, gpus, gpu_model, vram, inputs, outputs, max_price, max_duration, retries, array and so on. `secrets` lists names; their values come from your own environment, or are asked for. Paths of inputs are relative to the file.",
	  WORDS_NONE, { apply_flags }, NULL, NULL, cmd_apply },
	{ "ls", "[--all] [--array ID]", "List your workloads, the newest first.", NULL, WORDS_NONE, { ls_flags }, NULL, &workload_query_type, cmd_ls },
	{ "show", "[ID]", "Show a workload and its attempts, or how the workloads of an array stand.", "Without ID: the newest. An ID may be shortened, or be a name.", WORDS_OPTIONAL, { NULL }, NULL, NULL, cmd_show },
	{ "logs", "[ID] [-f]", "Show a workload's output.", "Its standard error goes to standard error. Without ID: the newest.", WORDS_OPTIONAL, { logs_flags }, NULL, &log_query_type, cmd_logs },
	{ "explain", "[ID]", "Say why a workload does not run: which constraint excluded how many offers.", "Without ID: the newest.", WORDS_OPTIONAL, { NULL }, NULL, NULL, cmd_explain },
	{ "stop", "ID", "Stop a workload, or all of an array; logs and results stay.", NULL, WORDS_ONE, { NULL }, NULL, NULL, cmd_stop },
	{ "rm", "ID", "Remove an ended workload with its logs and results.", NULL, WORDS_ONE, { NULL }, NULL, NULL, cmd_rm },
	{ "results", "[ID] [-o DIR]", "List or download the files that a workload left.",
	  "A download that broke off goes on where it ended; every file is checked against its SHA-256. Without ID: the newest.", WORDS_OPTIONAL, { results_flags }, NULL, NULL, cmd_results },
	{ "bill", "[ID] [--since TIME] [--until TIME]", "Show what was charged, line by line, to the second.",
	  "Each amount is rate * seconds / 3600, rounded down. Without ID: everything in the time given.", WORDS_OPTIONAL, { bill_flags }, NULL, &bill_query_type, cmd_bill },
	{ "balance", "", "Show the money: there, held and free, and when it runs out.", NULL, WORDS_NONE, { NULL }, NULL, NULL, cmd_balance },
	{ "events", "[-f]", "Show what happened and who did it.", NULL, WORDS_NONE, { events_flags }, NULL, &event_query_type, cmd_events },
	{ "keys", "[create NAME | revoke ID]", "List, make or revoke API keys.", "The secret of a new key is shown once.", WORDS_OPTIONAL, { keys_flags }, keys_actions, &key_request_type, cmd_keys },
	{ "members", "", "List the organisation's people and their roles.", NULL, WORDS_NONE, { NULL }, NULL, NULL, cmd_members },
	{ "workers", "[ID]", "List your own workers, or show one.", NULL, WORDS_OPTIONAL, { NULL }, NULL, NULL, cmd_workers },
	{ "token", "", "Make a token with which one new worker joins: `tes-worker join URL --token TOKEN`.", NULL, WORDS_NONE, { token_flags }, NULL, &join_token_request_type, cmd_token },
	{ "completion", "bash|zsh|fish", "Print the completion script of a shell.",
	  "bash: `source <(tes completion bash)`; zsh: `tes completion zsh > \"${fpath[1]}/_tes\"`; fish: `tes completion fish > ~/.config/fish/completions/tes.fish`.",
	  WORDS_ONE, { NULL }, shell_names, NULL, cmd_completion },
	{ "help", "[COMMAND]", "Show how a command is used.", NULL, WORDS_OPTIONAL, { help_flags }, NULL, NULL, cmd_help },
	{ "version", "", "Show the versions of this program and of the server.", NULL, WORDS_NONE, { NULL }, NULL, NULL, cmd_version },
	{ .name = NULL },
};

/* clang-format on */

const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (str_eq(c->name, name))
			return c;
	return NULL;
}

const struct flag *flag_next(const struct command *c, struct flag_walk *w)
{
	while (!w->common) {
		const struct flag *list = c ? c->flags[w->list] : NULL;

		if (list && list[w->index].name)
			return &list[w->index++];
		w->index = 0;
		w->common = !list || ++w->list == ARRAY_LEN(c->flags);
	}
	return common_flags[w->index].name ? &common_flags[w->index++] : NULL;
}
