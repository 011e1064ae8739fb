/* Completion scripts, from the table of commands. */
#include "internal.h"

static void words_add(const char *const *words, struct strbuf *out)
{
	for (size_t i = 0; words[i]; i++)
		strbuf_addf(out, "%s%s", i ? " " : "", words[i]);
}

static void command_names(struct strbuf *out)
{
	for (const struct command *c = commands; c->name; c++)
		strbuf_addf(out, "%s%s", c == commands ? "" : " ", c->name);
}

/* What the first word of a command may be, where the table knows it. */
static void first_words(const struct command *c, struct strbuf *out)
{
	if (str_eq(c->name, "help"))
		command_names(out);
	else if (c->choices)
		words_add(c->choices, out);
}

/* ---- bash --------------------------------------------------------------------------------------- */

static void bash_command(const struct command *c, struct strbuf *out)
{
	struct flag_walk w = { 0 };
	const struct flag *f;

	strbuf_addf(out, "\t%s)\n\t\twords=\"", c->name);
	first_words(c, out);
	strbuf_adds(out, "\"\n\t\tflags=\"");
	while ((f = flag_next(c, &w)))
		strbuf_addf(out, " --%s", f->name);
	strbuf_adds(out, "\"\n\t\tcase $prev in\n");
	for (w = (struct flag_walk){ 0 }; (f = flag_next(c, &w));) {
		if (f->kind == VALUE_NONE)
			continue;
		strbuf_addf(out, "\t\t--%s", f->name);
		if (f->letter)
			strbuf_addf(out, "|-%c", f->letter);
		strbuf_adds(out, ") ");
		if (f->choices) {
			strbuf_adds(out, "values=\"");
			words_add(f->choices, out);
			strbuf_adds(out, "\"");
		} else if (f->kind == VALUE_FILE || f->kind == VALUE_DIR) {
			strbuf_addf(out, "COMPREPLY=($(compgen -%c -- \"$cur\")); return",
				    f->kind == VALUE_DIR ? 'd' : 'f');
		} else {
			strbuf_adds(out, "return");
		}
		strbuf_adds(out, " ;;\n");
	}
	strbuf_adds(out, "\t\tesac ;;\n");
}

static void bash_write(struct strbuf *out)
{
	strbuf_adds(
		out,
		"# bash completion of tes; made by `tes completion bash`\n_tes() {\n"
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words='' flags='' values='' i\n"
		"\t# \"--sort=p\" comes as three words.\n"
		"\t[ \"$cur\" != = ] || cur=''\n"
		"\tif [ \"$COMP_CWORD\" -gt 2 ] && [ \"${COMP_WORDS[COMP_CWORD]}\" = = ]; then prev=${COMP_WORDS[COMP_CWORD-1]}\n"
		"\telif [ \"$COMP_CWORD\" -gt 3 ] && [ \"$prev\" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
		"\tCOMPREPLY=()\n\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n\t\tCOMPREPLY=($(compgen -W \"");
	command_names(out);
	strbuf_adds(
		out,
		"\" -- \"$cur\"))\n\t\treturn\n\tfi\n"
		"\tfor ((i = 2; i < COMP_CWORD; i++)); do\n\t\tif [ \"${COMP_WORDS[i]}\" = -- ]; then\n"
		"\t\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n\t\t\treturn\n\t\tfi\n\tdone\n\tcase ${COMP_WORDS[1]} in\n");
	for (const struct command *c = commands; c->name; c++)
		bash_command(c, out);
	strbuf_adds(
		out,
		"\tesac\n\tif [ -n \"$values\" ]; then\n\t\tCOMPREPLY=($(compgen -W \"$values\" -- \"$cur\"))\n"
		"\telif [[ $cur == -* ]]; then\n\t\tCOMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n"
		"\telif [ \"$COMP_CWORD\" -eq 2 ]; then\n\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n\tfi\n}\n"
		"complete -F _tes tes\n");
}

/* ---- zsh ------------------------------------------------------------------------------------------ */

/* In single quotes, where _arguments and _describe give ':' and '[' a meaning. */
static void zsh_text(const char *text, struct strbuf *out)
{
	for (; *text; text++) {
		if (*text == '\'')
			strbuf_adds(out, "'\\''");
		else if (strchr("[]:\\", *text))
			strbuf_addf(out, "\\%c", *text);
		else
			strbuf_addc(out, *text);
	}
}

static void zsh_flag(const struct flag *f, struct strbuf *out)
{
	strbuf_addf(out, " \\\n\t\t\t'%s--%s%s[", f->many ? "*" : "", f->name,
		    f->kind == VALUE_NONE ? "" : "=");
	zsh_text(f->doc, out);
	strbuf_addc(out, ']');
	if (f->kind != VALUE_NONE) {
		strbuf_addc(out, ':');
		zsh_text(f->arg, out);
		strbuf_addc(out, ':');
		if (f->choices) {
			strbuf_addc(out, '(');
			words_add(f->choices, out);
			strbuf_addc(out, ')');
		} else if (f->kind == VALUE_FILE || f->kind == VALUE_DIR) {
			strbuf_adds(out, f->kind == VALUE_DIR ? "_files -/" : "_files");
		}
	}
	strbuf_addc(out, '\'');
}

static void zsh_write(struct strbuf *out)
{
	strbuf_adds(
		out,
		"#compdef tes\n# zsh completion of tes; made by `tes completion zsh`\n_tes() {\n"
		"\tlocal -a commands=(\n");
	for (const struct command *c = commands; c->name; c++) {
		strbuf_addf(out, "\t\t'%s:", c->name);
		zsh_text(c->doc, out);
		strbuf_adds(out, "'\n");
	}
	strbuf_adds(
		out,
		"\t)\n\tif (( CURRENT == 2 )); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n"
		"\tlocal command=$words[2]\n\tshift words\n\t(( CURRENT-- ))\n\tcase $command in\n");
	for (const struct command *c = commands; c->name; c++) {
		cleanup_strbuf struct strbuf first = STRBUF_INIT;
		struct flag_walk w = { 0 };
		const struct flag *f;

		strbuf_addf(out, "\t\t%s) _arguments -s", c->name);
		while ((f = flag_next(c, &w)))
			zsh_flag(f, out);
		first_words(c, &first);
		if (first.len)
			strbuf_addf(out, " \\\n\t\t\t'1:word:(%s)'", first.buf);
		if (c->words == WORDS_COMMAND)
			strbuf_adds(out, " \\\n\t\t\t'*:::command:_normal'");
		strbuf_adds(out, " ;;\n");
	}
	strbuf_adds(out, "\tesac\n}\n_tes \"$@\"\n");
}

/* ---- fish ------------------------------------------------------------------------------------------ */

static void fish_text(const char *text, struct strbuf *out)
{
	strbuf_addc(out, '\'');
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			strbuf_addc(out, '\\');
		strbuf_addc(out, *text);
	}
	strbuf_addc(out, '\'');
}

static void fish_flag(const struct command *c, const struct flag *f, struct strbuf *out)
{
	strbuf_addf(out, "complete -c tes -n '__fish_seen_subcommand_from %s' -l %s", c->name,
		    f->name);
	if (f->letter)
		strbuf_addf(out, " -s %c", f->letter);
	if (f->kind == VALUE_FILE || f->kind == VALUE_DIR)
		strbuf_adds(out, " -r -F");
	else if (f->kind != VALUE_NONE)
		strbuf_adds(out, " -x");
	if (f->choices) {
		strbuf_adds(out, " -a '");
		words_add(f->choices, out);
		strbuf_addc(out, '\'');
	}
	strbuf_adds(out, " -d ");
	fish_text(f->doc, out);
	strbuf_addc(out, '\n');
}

static void fish_write(struct strbuf *out)
{
	strbuf_adds(
		out,
		"# fish completion of tes; made by `tes completion fish`\ncomplete -c tes -f\n");
	for (const struct command *c = commands; c->name; c++) {
		cleanup_strbuf struct strbuf first = STRBUF_INIT;
		struct flag_walk w = { 0 };
		const struct flag *f;

		strbuf_addf(out, "complete -c tes -n __fish_use_subcommand -a %s -d ", c->name);
		fish_text(c->doc, out);
		strbuf_addc(out, '\n');
		first_words(c, &first);
		if (first.len)
			strbuf_addf(
				out,
				"complete -c tes -n '__fish_seen_subcommand_from %s' -a '%s'\n",
				c->name, first.buf);
		while ((f = flag_next(c, &w)))
			fish_flag(c, f, out);
	}
}

int completion_write(const char *shell, struct strbuf *out, struct err *err)
{
	if (str_eq(shell, "bash"))
		bash_write(out);
	else if (str_eq(shell, "zsh"))
		zsh_write(out);
	else if (str_eq(shell, "fish"))
		fish_write(out);
	else
		return err_set(err, ERR_INVALID,
			       "`%.40s` is not a shell that is known: bash, zsh or fish",
			       shell);
	return 0;
}
