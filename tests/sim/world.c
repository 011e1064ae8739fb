/* Time, chance, the order of things, and the course of one history. */
#include "sim.h"

#include <unistd.h>

struct sim sim;

const char *const fault_words[] = {
#define F(name, word, text) word,
	FAULTS(F)
#undef F
		NULL,
};
const char *const fault_texts[] = {
#define F(name, word, text) text,
	FAULTS(F)
#undef F
		NULL,
};
const char *const happening_texts[] = {
#define H(name, text) text,
	HAPPENINGS(H)
#undef H
};
const char *const break_words[] = { "none",
#define B(name, word, text) word,
				    BREAKS(B)
#undef B
					    NULL };
const char *const break_texts[] = { "",
#define B(name, word, text) text,
				    BREAKS(B)
#undef B
					    NULL };

/* ---- chance: splitmix64 (Steele, Lea, Flood 2014) ---------------------------------------------------- */

uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int64_t rng_in(struct rng *r, int64_t low, int64_t high)
{
	assert(low <= high);
	return low + (int64_t)(rng_next(r) % (uint64_t)(high - low + 1));
}

bool rng_chance(struct rng *r, int64_t ppm)
{
	return (int64_t)(rng_next(r) % 1000000) < ppm;
}

static struct rng rng_for(uint64_t seed, uint64_t purpose)
{
	struct rng r = { .state = seed * UINT64_C(0x2545f4914f6cdd1d) + purpose };

	rng_next(&r);
	return r;
}

static void life_fill(void *arg, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)arg;
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(rng_next(&sim.life) >> 24);
}

struct random sim_random(void)
{
	return (struct random){ .fill = life_fill };
}

bool strikes(enum fault f, struct rng *r, int64_t ppm)
{
	if (sim.calm || !sim.rate_ppm[f])
		return false;
	if (!rng_chance(r, ppm * sim.rate_ppm[f] / 1000000))
		return false;
	sim.out->totals.faults[f]++;
	return true;
}

int sim_scale(void)
{
	return MAX(sim.o.machines / 30, 1);
}

void happened(enum happening h)
{
	sim.out->totals.happened[h]++;
}

bool is_broken(enum breakage b)
{
	return sim.o.broken == b;
}

/* ---- what happened ------------------------------------------------------------------------------------ */

static struct sha256 told;

void note(const char *fmt, ...)
{
	char line[1200];
	va_list ap;
	int head = snprintf(line, sizeof(line), "%10.3f ",
			    (double)(sim.now_ms - sim.start_ms) / 1000),
	    len;

	va_start(ap, fmt);
	len = vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap);
	va_end(ap);
	len = MIN(head + len, (int)sizeof(line) - 2);
	line[len++] = '\n';
	sha256_update(&told, line, len);
	if (sim.o.trace)
		fwrite(line, 1, len, stdout);
}

void broken(const char *check, const char *fmt, ...)
{
	va_list ap;

	if (sim.out->failed)
		return;
	sim.out->failed = true;
	sim.out->failed_ms = sim.now_ms - sim.start_ms;
	snprintf(sim.out->check, sizeof(sim.out->check), "%s", check);
	va_start(ap, fmt);
	vsnprintf(sim.out->failure, sizeof(sim.out->failure), fmt, ap);
	va_end(ap);
	note("BROKEN %s: %s", check, sim.out->failure);
}

/* ---- timers: a binary heap by time, then by order of setting ------------------------------------------------ */

struct timer {
	int64_t at_ms;
	uint64_t number;
	void (*fn)(void *arg);
	void *arg;
};
static VEC(struct timer) timers;
static uint64_t timer_number;

static bool earlier(const struct timer *a, const struct timer *b)
{
	return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->number < b->number;
}

static void swap(size_t a, size_t b)
{
	struct timer t = timers.items[a];

	timers.items[a] = timers.items[b];
	timers.items[b] = t;
}

static void sift_up(size_t i)
{
	for (; i && earlier(&timers.items[i], &timers.items[(i - 1) / 2]); i = (i - 1) / 2)
		swap(i, (i - 1) / 2);
}

static void sift_down(size_t i)
{
	for (;;) {
		size_t least = i;

		for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < timers.len; k++)
			if (earlier(&timers.items[k], &timers.items[least]))
				least = k;
		if (least == i)
			return;
		swap(i, least);
		i = least;
	}
}

void at(int64_t at_ms, void (*fn)(void *arg), void *arg)
{
	*vec_push(&timers) = (struct timer){ MAX(at_ms, sim.now_ms), timer_number++, fn, arg };
	sift_up(timers.len - 1);
}

static struct timer timer_take(size_t i)
{
	struct timer t = timers.items[i];

	timers.items[i] = timers.items[--timers.len];
	if (i < timers.len) {
		sift_down(i);
		sift_up(i);
	}
	return t;
}

bool timer_steal(void (*fn)(void *arg), int64_t by_ms, void **ret_arg)
{
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < timers.len; i++)
		if (timers.items[i].fn == fn && timers.items[i].at_ms <= by_ms &&
		    (best == SIZE_MAX || earlier(&timers.items[i], &timers.items[best])))
			best = i;
	if (best == SIZE_MAX)
		return false;
	*ret_arg = timer_take(best).arg;
	return true;
}

/* Until then, or until something is broken. */
static void run_until(int64_t end_ms)
{
	while (!sim.out->failed && timers.len && timers.items[0].at_ms <= end_ms) {
		struct timer t = timer_take(0);

		sim.now_ms = t.at_ms;
		sim.out->totals.steps++;
		t.fn(t.arg);
		check_step();
	}
	if (!sim.out->failed)
		sim.now_ms = end_ms;
}

/* ---- one history ------------------------------------------------------------------------------------------- */

#define START_MS INT64_C(1800000000000)
#define CONVERGE_MS \
	(6 * MINUTE_MS) /* grace, a stop and a few heartbeats, in which all must agree again */
#define SETTLE_MS (30 * SECOND_MS) /* what disagrees now because it has just changed must agree after that */
#define END_MS (25 * MINUTE_MS) /* until the last lease must have ended */

/* Each history has some kinds of faults, more or less often: some faults hide what others would show. */
static void faults_choose(void)
{
	struct rng r = rng_for(sim.o.seed, 7);

	for (int f = 0; f < FAULT_COUNT; f++) {
		static const int64_t rates[] = { 0, 300000, 1000000, 1000000, 3000000 };
		int64_t rate = rates[rng_in(&r, 0, ARRAY_LEN(rates) - 1)];

		sim.rate_ppm[f] = sim.o.faults & (1u << f) ? rate : 0;
	}
}

static void audit_again(void *arg)
{
	check_audit();
	at(sim.now_ms + 7 * MINUTE_MS, audit_again, arg);
}

static void faults_end(void)
{
	note("calm");
	sim.calm = true;
	net_heal();
	server_calm();
	machines_calm();
	people_calm();
}

static void course(void)
{
	people_start();
	liar_start();
	at(sim.now_ms + 5 * MINUTE_MS, audit_again, NULL);
	run_until(sim.start_ms + sim.o.duration_ms);
	if (sim.out->failed)
		return;
	faults_end();
	run_until(sim.now_ms + CONVERGE_MS);
	if (sim.out->failed)
		return;
	check_converged(false);
	run_until(sim.now_ms + SETTLE_MS);
	if (sim.out->failed)
		return;
	check_converged(true);
	people_stop_all();
	for (int64_t end_ms = sim.now_ms + END_MS; !sim.out->failed && sim.now_ms < end_ms;) {
		run_until(sim.now_ms + MINUTE_MS);
		if (people_idle())
			break;
	}
	sim.over = true;
	if (!sim.out->failed)
		run_until(sim.now_ms + 2 * MINUTE_MS);
	if (!sim.out->failed)
		check_end();
}

void history_run(const struct options *o, struct outcome *out)
{
	uint8_t hash[SHA256_SIZE];

	*out = (struct outcome){ 0 };
	sim = (struct sim){
		.o = *o,
		.out = out,
		.now_ms = START_MS,
		.start_ms = START_MS,
		.calm = true,
		.life = rng_for(o->seed, 1),
		.net = rng_for(o->seed, 2),
		.luck = rng_for(o->seed, 3),
		.ids = rng_for(o->seed, 4),
	};
	sha256_init(&told);
	faults_choose();
	check_start();
	if (server_start() < 0)
		broken("setup", "the server could not be started");
	net_start();
	machines_start();
	if (!out->failed && people_setup() < 0)
		broken("setup", "the network could not be set up");
	sim.calm = false;
	if (!out->failed)
		course();
	out->totals.simulated_ms = sim.now_ms - sim.start_ms;
	people_free();
	server_stop();
	machines_free();
	truths_free();
	check_free();
	vec_release(&timers); /* what their arguments hold goes with the process */
	sha256_final(&told, hash);
	hex_format(hash, sizeof(hash), out->digest);
	out->done = true;
}
