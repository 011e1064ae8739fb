/* cli: the program `tes`.  One file per subcommand (cmd_*.c), all described in one table
 * (table.c), from which come the parsing of flags, --help, completion, the man page and
 * docs/cli.md.  One thread, blocking.
 *
 * Standard output carries what was asked for and nothing else; everything said to a person
 * (status, hints, errors) goes to standard error.
 */
#ifndef TES_CLI_INTERNAL_H
#define TES_CLI_INTERNAL_H

#include "../api/api.h"
#include "../base/base.h"
#include "../codec/codec.h"
#include "../http/http.h"
#include "../model/model.h"
#include "../os/os.h"
#include "../schema/schema.h"

struct cli;

/* ---- the table of commands (table.c) ----------------------------------------------------- */

/* How the text after a flag is understood; value_convert has the rules. */
enum value_kind {
	VALUE_NONE, /* a switch */
	VALUE_TEXT,
	VALUE_NUMBER,
	VALUE_CPUS,	/* "0.5"; the field counts thousandths */
	VALUE_SIZE,	/* needs a unit: "4GiB" */
	VALUE_GIB,	/* a plain number counts GiB */
	VALUE_MONEY,	/* dollars */
	VALUE_DURATION, /* needs a unit: "10m" */
	VALUE_PPM,	/* "99%" */
	VALUE_SINCE,	/* "10m" ago, a day or a time */
	VALUE_FILE,
	VALUE_DIR,
};

struct flag {
	const char *name; /* "gpu-model"; NULL ends a list of flags */
	char letter;	  /* of the short form, or 0 */
	enum value_kind kind;
	bool many;		    /* may be given several times */
	const char *arg;	    /* what help calls the value: "GiB" */
	const char *field;	    /* that it sets in the command's input, or NULL */
	const char *const *choices; /* NULL-ended, or NULL */
	const char *doc;
};

enum command_words {
	WORDS_NONE,
	WORDS_OPTIONAL, /* at most words_max */
	WORDS_ONE,	/* exactly one */
	WORDS_COMMAND,	/* only what stands after "--" */
};

struct args;
struct command {
	const char *name;  /* NULL ends the table */
	const char *args;  /* "[ID]", for the line of usage */
	const char *doc;   /* one sentence */
	const char *about; /* more, in paragraphs; or NULL */
	enum command_words words;
	const struct flag *flags[3]; /* lists, NULL-ended */
	const char *const *choices;  /* for the first word, or NULL */
	const struct type *type;     /* that the fields of its flags belong to, or NULL */
	/* The exit status, or -1 with err set. */
	int (*run)(struct cli *cli, const struct args *args, struct err *err);
};
extern const struct command commands[];
extern const struct flag common_flags[]; /* of every command */
const struct command *command_find(const char *name);
/* Walks the flags of c, then the common ones: `struct flag_walk w = { 0 }; while ((f =
 * flag_next(c, &w)))`. */
struct flag_walk {
	size_t list, index;
	bool common;
};
const struct flag *flag_next(const struct command *c, struct flag_walk *w);

/* ---- arguments (args.c) ------------------------------------------------------------------- */

#define EXIT_USAGE     2
#define EXIT_NO_STATUS 125 /* --wait: it ended without a container's exit status */
#define EXIT_DETACHED  130 /* Ctrl-C */

struct arg {
	const struct flag *flag;
	const char *text; /* NULL for a switch */
};
struct args {
	const struct command *command;
	VEC(struct arg) flags;
	VEC(const char *) words; /* plain words before "--" */
	const char *const *rest; /* what stands after "--" */
	size_t rest_len;
};
/* argv without the program's name and the command's.  ERR_INVALID: wrong usage. */
int args_parse(const struct command *c, const char *const *argv, size_t len, struct args *ret,
	       struct err *err) must_check;
void args_release(struct args *a);
bool args_has(const struct args *a, const char *flag);
const char *args_get(const struct args *a, const char *flag); /* the last one's text, or NULL */
const char *args_word(const struct args *a, size_t i);	      /* NULL if there are fewer */
/* The text as schema_set takes it for the flag's field. */
int value_convert(enum value_kind kind, const char *text, int64_t now_ms, struct arena *arena,
		  const char **ret, struct err *err) must_check;
/* The path of `field` in `type`: itself, or below its resources. */
const char *field_path(const struct type *type, const char *field, struct arena *arena);
/* Sets the fields of all flags that have one.  Errors name the flag. */
int args_apply(const struct args *a, int64_t now_ms, struct arena *arena, void *value,
	       struct err *err) must_check;
/* Puts the flag's name in place of the field's: "resources.gpus" -> "--gpus". */
void args_name_flag(const struct args *a, struct err *err);
/* The nearest of the names, or NULL if none is near. */
const char *nearest_name(const char *text, const char *const *names, size_t len);

/* ---- the session (cli.c) ------------------------------------------------------------------ */

struct cli {
	struct arena arena;
	struct http_client *http;
	const char *url, *key; /* key NULL: not logged in */
	const char *ca_file;   /* certificates to trust; NULL: the system's */
	bool json;
	bool tty_out, tty_err;
	bool color_out, color_err;
	bool usage;		   /* the error is one of usage: exit status 2 */
	struct strbuf body;	   /* the last answer, as the server sent it */
	char request_key[ID_SIZE]; /* Idempotency-Key of this run of the program */
};
int cli_main(int argc, const char *const *argv);
int64_t cli_now(void);
/* Set by Ctrl-C once interrupt_catch was called; http calls look at it. */
extern volatile int cli_interrupted;
void interrupt_catch(void);

/* ---- login file (login_file.c) ------------------------------------------------------------ */

struct login_file {
	const char *url, *key, *ca_file;
};
char *login_path(struct arena *arena); /* ~/.config/tes/config */
/* Absent: both empty. */
int login_read(const char *path, struct arena *arena, struct login_file *ret,
	       struct err *err) must_check;
int login_write(const char *path, const struct login_file *login, struct err *err) must_check;
/* A file of certificates that can be read; its absolute path. */
int ca_file_check(const char *path, struct arena *arena, const char **ret,
		  struct err *err) must_check;
/* A base URL as it is stored: http(s), no '/' at its end. */
int url_check(const char *url, struct arena *arena, const char **ret,
	      struct err *err) must_check;

/* ---- calls to the server (remote.c) -------------------------------------------------------- */

struct remote {
	enum operation_id op;
	const char *param;   /* the path's parameter, or NULL */
	const void *in;	     /* of the operation's input type, or NULL */
	void *out;	     /* of its output type, or NULL */
	bool once;	     /* never tried again */
	struct arena *arena; /* for the answer; NULL: the session's */
};
/* The answer's bytes stay in cli->body.  Errors of connection are tried again where that is
 * safe: reading, and what carries an Idempotency-Key. */
int remote_call(struct cli *cli, const struct remote *r, struct err *err) must_check;
/* For calls that remote_call does not fit: streams, uploads, downloads. */
#define REMOTE_HEADERS_MAX 6
struct remote_head {
	struct http_header_item items[REMOTE_HEADERS_MAX];
	size_t len;
	const char *url;
};
int remote_head_make(struct cli *cli, const struct operation *op, const char *param,
		     const char *query, struct remote_head *ret, struct err *err) must_check;
void remote_head_add(struct remote_head *h, const char *name, const char *value);
/* Whether another try may help: the server was not reached, or said that it is busy. */
bool remote_may_retry(const struct err *err);
/* The pause before try `n` (from 1); false if Ctrl-C came meanwhile. */
bool remote_pause(int n);
/* The id or name that was given, or the newest workload's id (which is said). */
int workload_ref(struct cli *cli, const struct args *args, const char **ret,
		 struct err *err) must_check;

/* ---- references (refs.c) -------------------------------------------------------------------- */

/* The full id of what a unique beginning, or a name, stands for. */
int offer_ref(struct cli *cli, const char *ref, const char **ret, struct err *err) must_check;
int lease_ref(struct cli *cli, const char *workload, const char *ref, const char **ret,
	      struct err *err) must_check;
int array_ref(struct cli *cli, const char *ref, const char **ret, struct err *err) must_check;
int key_ref(struct cli *cli, const char *ref, const char **ret, struct err *err) must_check;
int worker_ref(struct cli *cli, const char *ref, const char **ret, struct err *err) must_check;
int subject_ref(struct cli *cli, const char *ref, const char **ret, struct err *err) must_check;

/* ---- printing (print.c, table_print.c) ------------------------------------------------------ */

enum color { COLOR_NONE, COLOR_BOLD, COLOR_DIM, COLOR_RED, COLOR_GREEN, COLOR_YELLOW };
const char *color_on(bool colored, enum color c);
const char *color_off(bool colored);
enum color state_color(const char *state);
/* Text of others, made safe for a terminal. */
const char *safe_text(struct arena *arena, const char *text);
/* A line on standard error. */
void say(struct cli *cli, const char *fmt, ...) printf_like(2, 3);
void say_error(struct cli *cli, const struct err *err);
/* Standard output, buffered; print_flush reports what could not be written. */
void print(const char *fmt, ...) printf_like(1, 2);
int print_flush(struct err *err) must_check;
/* The server's own JSON and a line end; on a terminal nothing in it can steer that. */
void print_json(struct cli *cli, struct slice json);
void print_body(struct cli *cli);		      /* cli->body */
void price_text(int64_t uusd_h, char buf[static 40]); /* "$0.12/h" */
void money_text(int64_t uusd, char buf[static 40]);   /* "$0.000123" */
void span_text(int64_t ms, char buf[static 32]);      /* "3m", "2h", "5d": for tables */

enum column_flags {
	COLUMN_ID = 1 << 0, /* shortened to what is unique in the table */
	COLUMN_RIGHT = 1 << 1,
	COLUMN_STATE = 1 << 2,	/* coloured by its word */
	COLUMN_AGE = 1 << 3,	/* a time as how long ago */
	COLUMN_SHRINK = 1 << 4, /* cut where the terminal is too narrow */
	COLUMN_CPUS = 1 << 5,	/* thousandths as "1.5" */
	COLUMN_RATE = 1 << 6,	/* money an hour */
	COLUMN_EXIT = 1 << 7,	/* an exit status; -1: none */
	COLUMN_MIB = 1 << 8,	/* MiB as a size; 0: none */
	COLUMN_MS = 1 << 9,	/* a time to the millisecond */
};
struct column {
	const char *field; /* path in the type of the items */
	const char *head;
	unsigned flags;
};
#define ID_SHOWN_MIN 10 /* characters of an id in a table, at least */
/* Rows of a described type; `width` 0: as wide as it comes. */
void table_format(const struct type *type, const void *items, size_t len,
		  const struct column *columns, size_t column_count, int64_t now_ms, int width,
		  bool colored, struct strbuf *out);
void table_print(struct cli *cli, const struct type *type, const void *items, size_t len,
		 const struct column *columns, size_t column_count);
/* "label  value" lines for everything that is there. */
void record_format(const struct type *type, const void *value, bool colored,
		   struct strbuf *out);
void record_print(struct cli *cli, const struct type *type, const void *value);
/* How many characters of `id` set it apart from the others, at least ID_SHOWN_MIN. */
size_t id_shown_len(const char *id, const char *const *ids, size_t len);

/* ---- output of containers (output.c) ---------------------------------------------------------- */

/* One of the two standard streams, for text that containers wrote.  Escapes of a terminal are
 * made visible where it is one; else bytes pass as they are. */
struct output {
	int fd;
	bool safe;     /* it is a terminal */
	bool mid_line; /* what was written last did not end its line */
	struct strbuf pending;
};
void output_add(struct output *o, const char *text);
int output_flush(struct output *o, struct err *err) must_check;

/* ---- specifications (spec.c, jobfile.c, submit.c, tar.c) ------------------------------------------------ */

#define JOB_INPUTS_MAX 16
struct job {
	struct workload_spec spec;
	int64_t array; /* so many of it; 0: one, and no array */
	const char *input_paths[JOB_INPUTS_MAX];
	size_t input_count;
};
/* From flags of `run`. */
int job_from_args(struct cli *cli, const struct args *args, struct job *ret,
		  struct err *err) must_check;
/* From a YAML file; input paths are relative to `dir`.  `secret` finds the value of one. */
typedef int secret_fn(void *arg, const char *name, const char **ret, struct err *err);
int job_from_yaml(struct slice text, const char *dir, secret_fn *secret, void *arg,
		  struct arena *arena, struct job *ret, struct err *err) must_check;
/* Puts what a job file calls the error's field in its place, and "FILE: " before all of it. */
void job_name_field(const char *file, struct err *err);
/* From our own environment, else asked for on the terminal. */
int secret_get(void *arena, const char *name, const char **ret, struct err *err);
/* The number of an array's workloads, from text. */
int job_array_set(const char *text, struct arena *arena, struct job *job,
		  struct err *err) must_check;
/* By the rules of the interface; errors name the fields as the specification does, or "array". */
int job_check(const struct job *job, struct err *err) must_check;
/* What became of a job: one workload, or those of an array. */
struct submitted {
	struct workload workload;
	struct workload_array array;
};
/* Uploads the inputs, submits; fills `ret`. */
int job_submit(struct cli *cli, struct job *job, struct submitted *ret,
	       struct err *err) must_check;
/* What `run` and `apply` say of it, and the exit status. */
int job_submitted(struct cli *cli, const struct job *job, const struct submitted *s, bool wait,
		  struct err *err) must_check;
/* The tar archive of a file or folder, in an unlinked temporary file; ret_name: what it is called below /in. */
int tar_make(const char *path, struct arena *arena, int *ret_fd, int64_t *ret_size,
	     const char **ret_name, struct err *err) must_check;

/* tar_write.c: the format alone.  An entry is its head, then `size` bytes of a file, then tar_pad. */
#define TAR_BLOCK	   512
#define TAR_SIZE_PLAIN_MAX (INT64_C(1) << 33) /* eleven octal digits */
struct tar_entry {
	const char *name, *link; /* link: where a symbolic link leads, else NULL */
	mode_t mode;		 /* with its type */
	int64_t size, mtime_s;
};
void tar_entry(const struct tar_entry *e, struct strbuf *out);
void tar_pad(int64_t size, struct strbuf *out);
void tar_end(struct strbuf *out);

/* ---- following (follow.c, progress.c) -------------------------------------------------------------- */

/* What the stream of a workload says of its state. */
struct progress {
	int state;
	const char *reason, *reason_text, *lease, *worker, *region, *phase;
	int64_t exit_code, rate_uusd_h, progress_done, progress_total;
	bool unreachable;
};
extern const struct type progress_type;
/* Shows it on standard error: a bar on a terminal, else a line for what is new. */
struct progress_view {
	struct cli *cli;
	bool bar_shown;
	int64_t drawn_ms, said_ms; /* monotonic */
	char said[640];		   /* the last line */
	char lease[ID_SIZE];	   /* whose placement was told */
	bool over;		   /* that attempt is; what still comes of it is old news */
	int state;		   /* -1: none yet */
	bool unreachable;
};
void progress_init(struct progress_view *v, struct cli *cli);
void progress_show(struct progress_view *v, const struct progress *p);
void progress_clear(struct progress_view *v); /* before other text is written */
/* "[####----]  45%  120.0 MiB of 260.0 MiB" */
void bar_format(int64_t done, int64_t total, int width, struct strbuf *out);

enum follow_end { FOLLOW_ENDED, FOLLOW_DETACHED };
struct follow {
	const char *workload;
	int64_t since_ms;
	bool status; /* tell state and progress too */
};
/* Until the workload has ended or Ctrl-C. */
int follow_run(struct cli *cli, const struct follow *f, enum follow_end *ret,
	       struct err *err) must_check;
/* Follows it and says how it ended; the exit status of `--wait`. */
int wait_for_end(struct cli *cli, const char *workload, struct err *err) must_check;
/* The exit status that a workload stands for, once it has ended. */
int end_status(const struct workload *w);
/* Shows the output of each in turn, then how they ended; the exit status of `--wait`.  (array.c) */
int array_wait(struct cli *cli, const struct workload_array *array, struct err *err) must_check;
/* An array's id or the beginning of one, which no workload's is. */
bool is_array_ref(const char *ref);
int array_show(struct cli *cli, const char *ref, struct err *err) must_check;
int array_stop(struct cli *cli, const char *ref, struct err *err) must_check;
/* A stream of `op`, begun again where it broke; fn returning 1 ends it, -1 fails with err.  Besides
 * the server's events there are STREAM_PAUSE (this is all for now: flush), STREAM_LOST, and, once,
 * if nothing came for quiet_ms (0: never), STREAM_QUIET; only then fn may call the server. */
#define STREAM_PAUSE ""
#define STREAM_QUIET "quiet"
#define STREAM_LOST  "lost" /* the connection is away for a while */
typedef int stream_fn(void *arg, const char *event, struct slice data, struct err *err);
struct stream_want {
	enum operation_id op;
	const char *param, *query;
	int64_t quiet_ms;
};
int stream_read(struct cli *cli, const struct stream_want *want, stream_fn *fn, void *arg,
		enum follow_end *ret, struct err *err) must_check;

/* ---- results (results.c) ------------------------------------------------------------------------- */

/* Relative, below the folder, no control characters: what a server may make us write. */
bool result_path_valid(const char *path);
int result_download(struct cli *cli, const struct result *r, int dir_fd, bool *ret_was_there,
		    struct err *err) must_check;

/* ---- documents (help.c, completion.c) --------------------------------------------------------------- */

void help_overview(bool colored, struct strbuf *out);
void help_command(const struct command *c, bool colored, struct strbuf *out);
void help_man(struct strbuf *out);
void help_markdown(struct strbuf *out);
int completion_write(const char *shell, struct strbuf *out, struct err *err) must_check;

/* ---- the commands -------------------------------------------------------------------------------------- */

int cmd_login(struct cli *cli, const struct args *args, struct err *err);
int cmd_logout(struct cli *cli, const struct args *args, struct err *err);
int cmd_whoami(struct cli *cli, const struct args *args, struct err *err);
int cmd_offers(struct cli *cli, const struct args *args, struct err *err);
int cmd_quote(struct cli *cli, const struct args *args, struct err *err);
int cmd_run(struct cli *cli, const struct args *args, struct err *err);
int cmd_apply(struct cli *cli, const struct args *args, struct err *err);
int cmd_ls(struct cli *cli, const struct args *args, struct err *err);
int cmd_show(struct cli *cli, const struct args *args, struct err *err);
int cmd_logs(struct cli *cli, const struct args *args, struct err *err);
int cmd_explain(struct cli *cli, const struct args *args, struct err *err);
int cmd_stop(struct cli *cli, const struct args *args, struct err *err);
int cmd_rm(struct cli *cli, const struct args *args, struct err *err);
int cmd_results(struct cli *cli, const struct args *args, struct err *err);
int cmd_bill(struct cli *cli, const struct args *args, struct err *err);
int cmd_balance(struct cli *cli, const struct args *args, struct err *err);
int cmd_events(struct cli *cli, const struct args *args, struct err *err);
int cmd_keys(struct cli *cli, const struct args *args, struct err *err);
int cmd_members(struct cli *cli, const struct args *args, struct err *err);
int cmd_workers(struct cli *cli, const struct args *args, struct err *err);
int cmd_token(struct cli *cli, const struct args *args, struct err *err);
int cmd_completion(struct cli *cli, const struct args *args, struct err *err);
int cmd_help(struct cli *cli, const struct args *args, struct err *err);
int cmd_version(struct cli *cli, const struct args *args, struct err *err);

#endif
