/* Help, manual page and Markdown, from the table of commands. */
#include "internal.h"

static const char about[] =
	"Rents computing power: runs containers on other people's machines, pays for them by the second, and brings their output and results back.";

/* clang-format off */
static const struct { const char *command, *doc; } examples[] = {
	{ "tes login --url https://tes.example.org --email me@example.org", "Asks for the password and keeps a key." },
	{ "tes offers --gpus 1 --vram 24 --sort price", "What one GPU with 24 GiB costs." },
	{ "tes run --image debian:12 --wait -- echo hello", "Runs a command and shows its output." },
	{ "tes run --image me/train:1 --gpus 1 --in data --out /out --max-price 0.50 --max-duration 2h -- python3 train.py", "Prints an id; data is /in/data there." },
	{ "tes apply -f job.yaml --wait", "The same from a file." },
	{ "tes logs -f ID", "Its output, live; also after a break." },
	{ "tes explain ID", "Why it does not run yet." },
	{ "tes results ID -o out", "Downloads what it left, checked." },
	{ "tes bill ID", "What it cost, to the second." },
	{ "tes ls --json | jq -r '.items[].id'", "For programs." },
};
/* clang-format on */

#define DOC_WIDTH 92

/* ---- on the terminal ------------------------------------------------------------------------ */

/* Words of `text`, indented and wrapped; the first line begins at `column`. */
static void wrap(const char *text, int indent, int column, struct strbuf *out)
{
	int at = column;

	while (*text) {
		int len = (int)strcspn(text, " \n");

		if (at > indent && at + 1 + len > DOC_WIDTH) {
			strbuf_addf(out, "\n%*s", indent, "");
			at = indent;
		} else if (at > indent) {
			strbuf_addc(out, ' ');
			at++;
		}
		strbuf_add(out, text, (size_t)len);
		at += len;
		text += len;
		if (*text == '\n') {
			strbuf_addf(out, "\n%*s", indent, "");
			at = indent;
		}
		if (*text)
			text++;
	}
	strbuf_addc(out, '\n');
}

static void flag_name(const struct flag *f, struct strbuf *out)
{
	if (f->letter)
		strbuf_addf(out, "-%c, ", f->letter);
	strbuf_addf(out, "--%s", f->name);
	if (f->arg)
		strbuf_addf(out, " %s", f->arg);
	if (f->many)
		strbuf_adds(out, " ...");
}

void help_overview(bool colored, struct strbuf *out)
{
	strbuf_addf(out, "%stes%s COMMAND [FLAGS]\n\n", color_on(colored, COLOR_BOLD),
		    color_off(colored));
	wrap(about, 0, 0, out);
	strbuf_adds(out, "\nCommands:\n");
	for (const struct command *c = commands; c->name; c++) {
		strbuf_addf(out, "  %s%-11s%s ", color_on(colored, COLOR_BOLD), c->name,
			    color_off(colored));
		wrap(c->doc, 14, 14, out);
	}
	strbuf_adds(
		out,
		"\n`tes COMMAND --help` shows its flags; every command takes --json.\n"
		"TES_URL, TES_KEY and TES_CA_FILE win over what `tes login` has kept; NO_COLOR turns colours off.\n");
}

void help_command(const struct command *c, bool colored, struct strbuf *out)
{
	struct flag_walk w = { 0 };
	const struct flag *f;

	strbuf_addf(out, "%stes %s%s%s%s\n\n", color_on(colored, COLOR_BOLD), c->name,
		    color_off(colored), *c->args ? " " : "", c->args);
	wrap(c->doc, 0, 0, out);
	if (c->about) {
		strbuf_addc(out, '\n');
		wrap(c->about, 0, 0, out);
	}
	strbuf_adds(out, "\nFlags:\n");
	while ((f = flag_next(c, &w))) {
		cleanup_strbuf struct strbuf name = STRBUF_INIT;

		flag_name(f, &name);
		strbuf_addf(out, "  %s%-26s%s", color_on(colored, COLOR_BOLD), name.buf,
			    color_off(colored));
		if (name.len > 26)
			strbuf_addf(out, "\n%28s", "");
		strbuf_adds(out, "  ");
		wrap(f->doc, 30, 30, out);
	}
}

/* ---- roff ---------------------------------------------------------------------------------------- */

static void roff_add(const char *text, struct strbuf *out)
{
	for (bool line_start = true; *text; line_start = *text++ == '\n') {
		if (line_start && (*text == '.' || *text == '\''))
			strbuf_adds(out, "\\&");
		if (*text == '\n' && text[1] == '\n')
			strbuf_adds(out, "\n.PP"); /* an empty line ends the paragraph */
		else if (*text == '-')
			strbuf_adds(out, "\\-");
		else if (*text == '\\')
			strbuf_adds(out, "\\e");
		else if (*text != '\n' || text[-1] != '\n')
			strbuf_addc(out, *text);
		else
			strbuf_addc(out, '\n');
	}
	strbuf_addc(out, '\n');
}

static void man_flag(const struct flag *f, struct strbuf *out)
{
	cleanup_strbuf struct strbuf name = STRBUF_INIT;

	flag_name(f, &name);
	strbuf_adds(out, ".TP\n.B ");
	roff_add(name.buf, out);
	roff_add(f->doc, out);
}

static void man_examples(struct strbuf *out)
{
	strbuf_adds(out, ".SH EXAMPLES\n");
	for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
		strbuf_adds(out, ".TP\n.B ");
		roff_add(examples[i].command, out);
		roff_add(examples[i].doc, out);
	}
}

static void man_tail(struct strbuf *out)
{
	strbuf_adds(
		out,
		".SH EXIT STATUS\n0: done. 1: it failed, and the reason is on standard error. 2: wrong usage.\n"
		".PP\nWith \\-\\-wait: the container's exit status; 125 if it ended without one; 130 after Ctrl\\-C.\n"
		".SH ENVIRONMENT\n.TP\n.B TES_URL\nThe network's server.\n.TP\n.B TES_KEY\nAPI key.\n.TP\n.B TES_CA_FILE\nCertificates to trust, in PEM.\n"
		".TP\n.B TES_REGISTRY_PASSWORD\nPassword for \\-\\-registry\\-user.\n"
		".TP\n.B XDG_CONFIG_HOME\nWhere tes/config lies; else ~/.config.\n"
		".TP\n.B NO_COLOR\nTurns colours off.\n.TP\n.B TMPDIR\nWhere inputs are packed before they are sent.\n"
		".SH FILES\n.TP\n.B ~/.config/tes/config\nWritten by tes login; readable by its owner alone.\n"
		".SH SEE ALSO\n.BR tesd (8),\n.BR tes\\-worker (8)\n");
}

void help_man(struct strbuf *out)
{
	strbuf_adds(out, ".TH TES 1 \"\" \"TES AI " TES_VERSION
			 "\" \"TES AI\"\n.SH NAME\ntes \\- rents computing power\n"
			 ".SH SYNOPSIS\n.B tes\n.I COMMAND\n.RI [ FLAGS ]\n.SH DESCRIPTION\n");
	roff_add(about, out);
	strbuf_adds(out, ".SH COMMANDS\n");
	for (const struct command *c = commands; c->name; c++) {
		struct flag_walk w = { 0 };
		const struct flag *f;

		strbuf_addf(out, ".SS tes %s ", c->name);
		roff_add(c->args, out);
		roff_add(c->doc, out);
		if (c->about) {
			strbuf_adds(out, ".PP\n");
			roff_add(c->about, out);
		}
		while ((f = flag_next(c, &w)) && !w.common)
			man_flag(f, out);
	}
	strbuf_adds(out, ".SS Flags of every command\n");
	for (const struct flag *f = common_flags; f->name; f++)
		man_flag(f, out);
	man_examples(out);
	man_tail(out);
}

/* ---- Markdown --------------------------------------------------------------------------------------- */

static void cell_add(const char *text, struct strbuf *out)
{
	for (; *text; text++) {
		if (*text == '|')
			strbuf_addc(out, '\\');
		strbuf_addc(out, *text);
	}
}

static void markdown_flag(const struct flag *f, struct strbuf *out)
{
	cleanup_strbuf struct strbuf name = STRBUF_INIT;

	flag_name(f, &name);
	strbuf_adds(out, "| `");
	cell_add(name.buf, out);
	strbuf_adds(out, "` | ");
	cell_add(f->doc, out);
	strbuf_adds(out, " |\n");
}

static void markdown_command(const struct command *c, struct strbuf *out)
{
	struct flag_walk w = { 0 };
	const struct flag *f;
	bool any = false;

	strbuf_addf(out, "\n## tes %s\n\n    tes %s%s%s\n\n%s\n", c->name, c->name,
		    *c->args ? " " : "", c->args, c->doc);
	if (c->about)
		strbuf_addf(out, "\n%s\n", c->about);
	while ((f = flag_next(c, &w)) && !w.common) {
		if (!any)
			strbuf_adds(out, "\n| flag | meaning |\n|---|---|\n");
		any = true;
		markdown_flag(f, out);
	}
}

static const char markdown_rules[] =
	"Standard output carries what was asked for; status, hints and errors go to standard error.\n"
	"The exit status is 0, 1 after an error, 2 after wrong usage; with `--wait` it is the\n"
	"container's, 125 if it ended without one, 130 after Ctrl-C.\n"
	"\n"
	"`TES_URL`, `TES_KEY` and `TES_CA_FILE` win over what `tes login` has kept in `~/.config/tes/config`.\n"
	"An ID may be shortened to a unique beginning; the name of a workload does as well.\n"
	"\n"
	"`run`, `apply` and `quote` carry an `Idempotency-Key`: when the connection breaks they are sent\n"
	"again, and take effect once. Streams and downloads go on where they broke.\n"
	"\n"
	"With `--json` a command prints what the server sent, on one line; `run --wait` and `logs -f`\n"
	"print one object a line: `{\"event\":\"log\",\"data\":{...}}`, `state`, and `run --wait` at the\n"
	"end `workload`.\n";

void help_markdown(struct strbuf *out)
{
	strbuf_addf(out, "# tes\n\n<!-- Made by `tes help --markdown`. -->\n\n%s\n\n```sh\n",
		    about);
	for (size_t i = 0; i < ARRAY_LEN(examples); i++)
		strbuf_addf(out, "# %s\n%s\n", examples[i].doc, examples[i].command);
	strbuf_addf(out, "```\n\n%s", markdown_rules);
	strbuf_adds(out, "\nEvery command takes:\n\n| flag | meaning |\n|---|---|\n");
	for (const struct flag *f = common_flags; f->name; f++)
		markdown_flag(f, out);
	for (const struct command *c = commands; c->name; c++)
		markdown_command(c, out);
}
