/* tes-sim: runs histories, says what they covered, and what broke. */
#include "run.h"

#include "../../src/api/api.h"

#include <getopt.h>
#include <unistd.h>

static const char help[] =
	"tes-sim: the control plane in a deterministic simulation with faults\n"
	"\n"
	"  --seed N            one history (default 1)\n"
	"  --seeds A..B        many, in parallel processes\n"
	"  --minutes M, --days D   simulated time with faults, of each (default 45 minutes)\n"
	"  --machines N        (default 5)      --customers N   (default 3)\n"
	"  --faults LIST       only these kinds; \"none\" for none; see --list\n"
	"  --break NAME        break the code on purpose; see --list\n"
	"  --mutations A..B    every break in turn: each must be caught within these seeds\n"
	"  --repeat            run each seed twice and compare the histories\n"
	"  --jobs N            processes at a time (default: as many as there are processors)\n"
	"  --store URL         a PostgreSQL database, whose schema \"public\" is REPLACED, instead of SQLite\n"
	"  --no-shrink         do not look for a shorter history when one fails\n"
	"  --trace             print the history\n"
	"  --tap               print results as TAP\n"
	"  --list              kinds of faults, and ways to break the code\n";

#define FAULTS_ALL  ((1u << FAULT_COUNT) - 1)
#define COVER_SEEDS 40

struct command {
	struct options o;
	uint64_t first, last;
	int jobs;
	bool many, mutations, repeat, tap, no_shrink;
	/* so far */
	struct totals totals;
	int64_t passed, failed, mismatch;
	char digest[SHA256_HEX_SIZE];
	struct options failed_o;
	struct outcome failed_out;
};

static void totals_add(struct totals *sum, const struct totals *t)
{
	int64_t *a = (int64_t *)sum;
	const int64_t *b = (const int64_t *)t;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(*a); i++)
		a[i] += b[i];
}

static void totals_print(const struct command *c)
{
	const struct totals *t = &c->totals;
	const char *mark = c->tap ? "# " : "";
	int64_t faults = 0;

	for (int f = 0; f < FAULT_COUNT; f++)
		faults += t->faults[f];
	printf("%s%" PRId64 " histories: %.1f simulated days, %" PRId64 " steps, %" PRId64
	       " calls, %" PRId64 " commits\n",
	       mark, c->passed + c->failed, (double)t->simulated_ms / DAY_MS, t->steps,
	       t->calls, t->commits);
	printf("%s%" PRId64 " workloads, %" PRId64 " leases (%" PRId64 " ran, %" PRId64
	       " were retries), %" PRId64 " transfers, %" PRId64 " events, %" PRId64
	       " lines, %" PRId64 " results\n",
	       mark, t->workloads, t->leases, t->ran, t->retries, t->transfers, t->events,
	       t->lines, t->results);
	printf("%s%" PRId64 " checks, %" PRId64 " audits; %" PRId64
	       " leases refused by a worker for lack of room\n",
	       mark, t->checks, t->audits, t->refused_devices);
	printf("%s%" PRId64 " faults:", mark, faults);
	for (int f = 0; f < FAULT_COUNT; f++)
		printf(" %s %" PRId64, fault_words[f], t->faults[f]);
	printf("\n%samong them:", mark);
	for (int h = 0; h < HAPPENED_COUNT; h++)
		printf("%s %s %" PRId64, h ? "," : "", happening_texts[h], t->happened[h]);
	printf("\n%sends:", mark);
	for (size_t r = 0; r < ARRAY_LEN(t->ends); r++)
		if (t->ends[r])
			printf(" %s %" PRId64, lease_reason_names[r], t->ends[r]);
	printf("\n");
}

static void replay_print(const struct command *c)
{
	char line[400];

	options_print(&c->failed_o, line, sizeof(line));
	printf("%s  replay: %s --trace\n", c->tap ? "# " : "", line);
}

static bool history_done(void *arg, const struct options *o, const struct outcome *out)
{
	struct command *c = arg;

	totals_add(&c->totals, &out->totals);
	if (!out->failed) {
		c->passed++;
		return true;
	}
	c->failed++;
	c->failed_o = *o;
	c->failed_out = *out;
	if (!c->mutations) {
		printf("%sseed %" PRIu64 " failed at %" PRId64 " s: %s: %s\n", c->tap ? "# " : "", o->seed,
		       out->failed_ms / 1000, out->check, out->failure);
		replay_print(c);
		fflush(stdout);
	}
	return !c->o.broken && c->failed < 5;
}

static void failure_print(struct command *c)
{
	char line[400];

	if (c->no_shrink)
		return;
	shrink(&c->failed_o, &c->failed_out);
	options_print(&c->failed_o, line, sizeof(line));
	printf("%sshortest found: %s --trace\n%s  fails at %" PRId64 " s: %s: %s\n",
	       c->tap ? "# " : "", line, c->tap ? "# " : "", c->failed_out.failed_ms / 1000,
	       c->failed_out.check, c->failed_out.failure);
}

/* Faults that are not there find nothing: so many seeds have met each kind of them. */
static bool covers(const struct command *c)
{
	const struct totals *t = &c->totals;
	const char *missing = NULL;

	if (c->passed < COVER_SEEDS || c->o.faults != FAULTS_ALL || c->o.broken)
		return true;
	for (int f = 0; f < FAULT_COUNT; f++)
		missing = t->faults[f] ? missing : fault_texts[f];
	for (int h = 0; h < HAPPENED_COUNT; h++)
		missing = t->happened[h] ? missing : happening_texts[h];
	if (missing)
		printf("%snever happened: %s\n", c->tap ? "# " : "", missing);
	return !missing;
}

static int seeds(struct command *c)
{
	char name[80];
	bool good = run_many(&c->o, c->first, c->last, c->jobs, history_done, c) && !c->failed;

	snprintf(name, sizeof(name), "seeds %" PRIu64 " to %" PRIu64, c->first, c->last);
	totals_print(c);
	if (!good)
		failure_print(c);
	good = good && covers(c);
	if (c->tap)
		printf("1..1\n%s 1 - %s\n", good ? "ok" : "not ok", name);
	return good ? 0 : 1;
}

static int mutations(struct command *c)
{
	int missed = 0, number = 0;

	if (c->tap)
		printf("1..%d\n", BREAK_COUNT - 1);
	for (int b = BREAK_NONE + 1; b < BREAK_COUNT; b++) {
		c->o.broken = b;
		number++;
		c->passed = c->failed = 0;
		run_many(&c->o, c->first, c->last, c->jobs, history_done, c);
		missed += !c->failed;
		printf("%s%s%d - %s: %s", c->tap ? (c->failed ? "ok " : "not ok ") : "",
		       c->tap ? "" : "mutation ", number, break_words[b], break_texts[b]);
		if (c->failed)
			printf(": caught after %" PRId64 " histories, seed %" PRIu64
			       " by \"%s\"\n%s  %s\n",
			       c->passed + c->failed, c->failed_o.seed, c->failed_out.check,
			       c->tap ? "#" : " ", c->failed_out.failure), replay_print(c);
		else
			printf(": NOT caught in %" PRId64 " histories\n", c->passed);
		fflush(stdout);
	}
	return missed ? 1 : 0;
}

static int repeat(struct command *c)
{
	int different = 0;

	if (!c->many)
		c->first = c->last = c->o.seed;
	if (c->tap)
		printf("1..%" PRIu64 "\n", c->last - c->first + 1);
	for (c->o.seed = c->first; c->o.seed <= c->last; c->o.seed++) {
		struct outcome a, b;

		run_one(&c->o, &a);
		run_one(&c->o, &b);
		bool same = str_eq(a.digest, b.digest) && a.done && b.done;

		different += !same;
		if (c->tap)
			printf("%s %" PRIu64 " - seed %" PRIu64 " is one history, byte for byte\n",
			       same ? "ok" : "not ok", c->o.seed - c->first + 1, c->o.seed);
		printf("%sseed %" PRIu64 ": %s and %s\n", c->tap ? "# " : "", c->o.seed, a.digest, b.digest);
		fflush(stdout);
	}
	return different ? 1 : 0;
}

static int one(struct command *c)
{
	struct outcome out;

	run_one(&c->o, &out);
	printf("history %s\n", out.digest);
	history_done(c, &c->o, &out);
	totals_print(c);
	if (out.failed && !c->o.trace)
		failure_print(c);
	return out.failed ? 1 : 0;
}

/* ---- options ------------------------------------------------------------------------------------------------ */

static int wrong(const char *option, const char *value)
{
	fprintf(stderr, "tes-sim: %s does not take \"%s\"; see --help\n", option, value);
	exit(2);
}

static int64_t number(const char *option, const char *value, int64_t low, int64_t high)
{
	struct err err = { 0 };
	int64_t n;

	if (int_parse(value, low, high, &n, &err) < 0)
		wrong(option, value);
	return n;
}

static void range_read(struct command *c, const char *option, char *value)
{
	char *dots = strstr(value, "..");

	if (!dots)
		wrong(option, value);
	*dots = '\0';
	c->first = number(option, value, 0, INT64_MAX);
	c->last = number(option, dots + 2, c->first, INT64_MAX);
}

static unsigned faults_read(char *list)
{
	unsigned ret = 0;

	for (char *word = strtok_r(list, ",", &list); word; word = strtok_r(NULL, ",", &list)) {
		int f = 0;

		while (f < FAULT_COUNT && !str_eq(fault_words[f], word))
			f++;
		if (f == FAULT_COUNT && !str_eq(word, "none"))
			wrong("--faults", word);
		ret |= f < FAULT_COUNT ? 1u << f : 0;
	}
	return ret;
}

static enum breakage break_read(const char *word)
{
	int b = 0;

	while (b < BREAK_COUNT && !str_eq(break_words[b], word))
		b++;
	return b < BREAK_COUNT ? b : wrong("--break", word);
}

static int list(void)
{
	for (int f = 0; f < FAULT_COUNT; f++)
		printf("fault %-14s %s\n", fault_words[f], fault_texts[f]);
	for (int b = 1; b < BREAK_COUNT; b++)
		printf("break %-14s %s\n", break_words[b], break_texts[b]);
	return 0;
}

static bool option_read(struct command *c, const char *name, char *value)
{
	if (str_eq(name, "seed"))
		c->o.seed = number(name, value, 0, INT64_MAX);
	else if (str_eq(name, "seeds"))
		range_read(c, name, value), c->many = true;
	else if (str_eq(name, "mutations"))
		range_read(c, name, value), c->mutations = true;
	else if (str_eq(name, "minutes"))
		c->o.duration_ms = (int64_t)(strtod(value, NULL) * MINUTE_MS);
	else if (str_eq(name, "days"))
		c->o.duration_ms = (int64_t)(strtod(value, NULL) * DAY_MS);
	else if (str_eq(name, "machines"))
		c->o.machines = (int)number(name, value, 1, MACHINES_MAX);
	else if (str_eq(name, "customers"))
		c->o.customers = (int)number(name, value, 1, 16);
	else if (str_eq(name, "faults"))
		c->o.faults = faults_read(value);
	else if (str_eq(name, "break"))
		c->o.broken = break_read(value);
	else if (str_eq(name, "jobs"))
		c->jobs = (int)number(name, value, 1, 64);
	else if (str_eq(name, "store"))
		c->o.store = value;
	else
		return false;
	return true;
}

static bool flag_read(struct command *c, const char *name)
{
	if (str_eq(name, "repeat"))
		c->repeat = true;
	else if (str_eq(name, "trace"))
		c->o.trace = true;
	else if (str_eq(name, "tap"))
		c->tap = true;
	else if (str_eq(name, "no-shrink"))
		c->no_shrink = true;
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct command c = { .o = { .seed = 1,
				    .duration_ms = 45 * MINUTE_MS,
				    .machines = 5,
				    .customers = 3,
				    .faults = FAULTS_ALL },
			     .jobs = (int)sysconf(_SC_NPROCESSORS_ONLN) };

	for (int i = 1; i < argc; i++) {
		if (str_eq(argv[i], "--help"))
			return fputs(help, stdout) < 0;
		if (str_eq(argv[i], "--list"))
			return list();
		if (!str_starts(argv[i], "--") ||
		    (!flag_read(&c, argv[i] + 2) &&
		     (i + 1 == argc || !option_read(&c, argv[i] + 2, argv[i + 1]))))
			wrong("the command line", argv[i]);
		if (!str_eq(argv[i], "--repeat") && !str_eq(argv[i], "--trace") &&
		    !str_eq(argv[i], "--tap") && !str_eq(argv[i], "--no-shrink"))
			i++;
	}
	if (c.o.store)
		c.jobs = 1;
	crypto_init();
	if (c.mutations)
		return mutations(&c);
	if (c.repeat)
		return repeat(&c);
	return c.many ? seeds(&c) : one(&c);
}
