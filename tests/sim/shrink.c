/* Histories in processes, and the search for a short one that still fails. */
#include "run.h"

#include "../../src/os/os.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX  64
#define TRIES_MAX 60

static struct outcome *shared_new(void)
{
	struct outcome *p = mmap(NULL, JOBS_MAX * sizeof(*p), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/* One that never comes to its end ends by SIGXCPU: ten times what the slowest take. */
static void cpu_limit(const struct options *o)
{
	rlim_t s = 120 + (rlim_t)(o->duration_ms / MINUTE_MS + 30) * (o->machines + o->customers) / 10;

	(void)setrlimit(RLIMIT_CPU, &(struct rlimit){ s, s + 5 });
}

static pid_t start(const struct options *o, struct outcome *out)
{
	pid_t pid;

	memset(out, 0, sizeof(*out));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		abort();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		cpu_limit(o);
		history_run(o, out);
		fflush(stdout);
		_exit(0);
	}
	return pid;
}

/* The process is over; it may have been its own end. */
static void judge(pid_t pid, struct outcome *out, int status)
{
	char dir[DIR_SIZE];
	struct err ignored = { 0 };

	history_dir(pid, dir);
	(void)!dir_remove(dir, &ignored); /* of one that was ended */
	if (out->done)
		return;
	out->failed = true;
	snprintf(out->check, sizeof(out->check), "process");
	if (WIFSIGNALED(status))
		snprintf(out->failure, sizeof(out->failure), "ended by signal %d (%s)",
			 WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(out->failure, sizeof(out->failure), "ended with status %d",
			 WEXITSTATUS(status));
}

void run_one(const struct options *o, struct outcome *ret)
{
	static struct outcome *shared;
	int status;

	if (!shared)
		shared = shared_new();
	pid_t pid = start(o, shared);

	waitpid(pid, &status, 0);
	judge(pid, shared, status);
	*ret = *shared;
}

bool run_many(const struct options *o, uint64_t first, uint64_t last, int jobs,
	      bool (*done)(void *arg, const struct options *o, const struct outcome *out),
	      void *arg)
{
	struct outcome *shared = shared_new();
	struct {
		pid_t pid;
		struct options o;
	} slots[JOBS_MAX] = { 0 };
	uint64_t next = first;
	bool go = true;
	int running = 0;

	jobs = MIN(MAX(jobs, 1), JOBS_MAX);
	while ((go && next <= last) || running) {
		int i = 0, status;
		pid_t pid;

		if (go && next <= last && running < jobs) {
			while (slots[i].pid)
				i++;
			slots[i].o = *o;
			slots[i].o.seed = next++;
			slots[i].pid = start(&slots[i].o, &shared[i]);
			running++;
			continue;
		}
		pid = waitpid(-1, &status, 0);
		while (slots[i].pid != pid)
			i++;
		slots[i].pid = 0;
		running--;
		judge(pid, &shared[i], status);
		if (go && !done(arg, &slots[i].o, &shared[i])) {
			go = false;
			for (i = 0; i < jobs; i++)
				if (slots[i].pid)
					(void)kill(slots[i].pid, SIGKILL); /* nobody asks any more */
		}
	}
	munmap(shared, JOBS_MAX * sizeof(*shared));
	return go;
}

void options_print(const struct options *o, char *buf, size_t size)
{
	unsigned all = (1u << FAULT_COUNT) - 1;
	int n = snprintf(buf, size,
			 "tes-sim --seed %" PRIu64 " --minutes %g --machines %d --customers %d",
			 o->seed, (double)o->duration_ms / MINUTE_MS, o->machines,
			 o->customers);

	if (o->faults != all)
		n += snprintf(buf + n, size - n, " --faults ");
	for (int f = 0, k = 0; f < FAULT_COUNT && o->faults != all; f++)
		if (o->faults & (1u << f))
			n += snprintf(buf + n, size - n, "%s%s", k++ ? "," : "",
				      fault_words[f]);
	if (o->faults == 0)
		n += snprintf(buf + n, size - n, "none");
	if (o->broken)
		n += snprintf(buf + n, size - n, " --break %s", break_words[o->broken]);
	if (o->store)
		snprintf(buf + n, size - n, " --store %s", o->store);
}

/* ---- shrinking ----------------------------------------------------------------------------------------- */

static bool fails_too(struct options *o, struct outcome *out, const struct options *try,
		      int *tries)
{
	struct outcome got;

	if (++*tries > TRIES_MAX)
		return false;
	run_one(try, &got);
	if (!got.failed || !str_eq(got.check, out->check))
		return false;
	*o = *try;
	*out = got;
	return true;
}

static bool shrink_round(struct options *o, struct outcome *out, int *tries)
{
	struct options try = *o;
	bool better = false;

	/* The history is the same up to where it fails. */
	try.duration_ms = MAX((out->failed_ms / MINUTE_MS + 1) * MINUTE_MS, MINUTE_MS);
	if (try.duration_ms < o->duration_ms)
		better |= fails_too(o, out, &try, tries);
	for (int f = 0; f < FAULT_COUNT; f++) {
		try = *o;
		try.faults &= ~(1u << f);
		if (try.faults != o->faults)
			better |= fails_too(o, out, &try, tries);
	}
	for (int d = o->machines / 2; d > 0; d /= 2) {
		try = *o;
		try.machines = o->machines - d;
		if (try.machines > 0)
			better |= fails_too(o, out, &try, tries);
	}
	for (int d = o->customers / 2; d > 0; d /= 2) {
		try = *o;
		try.customers = o->customers - d;
		if (try.customers > 0)
			better |= fails_too(o, out, &try, tries);
	}
	try = *o;
	try.duration_ms /= 2;
	if (try.duration_ms >= MINUTE_MS)
		better |= fails_too(o, out, &try, tries);
	return better;
}

void shrink(struct options *o, struct outcome *out)
{
	int tries = 0;

	o->trace = false;
	while (shrink_round(o, out, &tries) && tries < TRIES_MAX)
		;
}
