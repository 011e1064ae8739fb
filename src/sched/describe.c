/* What explain says about a constraint: what was wanted, what an offer has, and what to
 * change. */
#include "internal.h"

static void add_size(struct strbuf *out, int64_t mib)
{
	char buf[24];

	if (mib < INT64_MAX >> 20) {
		size_format(mib << 20, buf);
		strbuf_adds(out, buf);
	} else {
		strbuf_addf(out, "%" PRId64 " MiB", mib);
	}
}

static void add_duration(struct strbuf *out, int64_t seconds)
{
	char buf[32];
	int64_t ms;

	if (seconds == INT64_MAX || !mul_checked(seconds, SECOND_MS, &ms)) {
		strbuf_adds(out, "an open end");
		return;
	}
	duration_format(ms, buf);
	strbuf_adds(out, buf);
}

/* A number with a point, without the zeros at its end. */
static void add_decimal(struct strbuf *out, const char *text)
{
	size_t len = strlen(text);

	while (text[len - 1] == '0')
		len--;
	strbuf_add(out, text, len - (text[len - 1] == '.'));
}

static void add_cpus(struct strbuf *out, int64_t milli)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64 ".%03" PRId64, milli / 1000, milli % 1000);
	add_decimal(out, text);
	strbuf_adds(out, milli == 1000 ? " cpu" : " cpus");
}

static void add_ppm(struct strbuf *out, int64_t ppm)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64 ".%04" PRId64, ppm / 10000, ppm % 10000);
	add_decimal(out, text);
	strbuf_addc(out, '%');
}

static void add_price(struct strbuf *out, int64_t uusd_h)
{
	char buf[32];

	money_format(uusd_h, buf);
	strbuf_addf(out, "$%s/h", buf);
}

static void add_time(struct strbuf *out, int64_t ms)
{
	char buf[32];

	if (ms == INT64_MAX) {
		strbuf_adds(out, "an open end");
		return;
	}
	time_format(ms, buf);
	strbuf_adds(out, buf);
}

static const char *or_none(const char *s)
{
	return str_empty(s) ? "none" : s;
}

/* The longest duration that ends before the shelf closes; may be 0 or less. */
static int64_t seconds_left(const struct shelf *s, int64_t now_ms)
{
	return (s->has[DIM_UNTIL] - now_ms) / SECOND_MS;
}

/* Of constraints that the customer has no say in: what is needed, and what to wait for. */
static const struct {
	const char *wanted, *wait;
} fixed[CONSTRAINT_COUNT] = {
	[CONSTRAINT_STATE] = { "online", "wait until the worker is back" },
	[CONSTRAINT_BLOCKED] = { "not blocked by the operator",
				 "wait until the operator unblocks the worker" },
	[CONSTRAINT_INTENT] = { "open to new leases",
				"wait until the worker's owner takes leases again" },
	[CONSTRAINT_HOURS] = { "inside the owner's hours, outside maintenance",
			       "wait until the owner's hours begin" },
	[CONSTRAINT_PROBLEM] = { "able to run leases",
				 "wait until the worker's owner has mended it" },
	[CONSTRAINT_CAPACITY] = { "offering at least what its leases hold",
				  "wait until leases on the worker end" },
	[CONSTRAINT_AVOIDED] = { "no recent failure of your workloads",
				 "wait: a failure counts half as much every hour" },
};

/* Of a worker's CPU, memory or disk. */
static void add_share(struct strbuf *out, enum constraint c, int64_t amount)
{
	if (c == CONSTRAINT_CPU)
		add_cpus(out, amount);
	else
		add_size(out, amount);
}

static int64_t share_total(const struct pool_worker *w, enum constraint c)
{
	if (c == CONSTRAINT_CPU)
		return w->cpu_milli;
	return c == CONSTRAINT_MEMORY ? w->memory_mib : w->disk_mib;
}

void constraint_wanted(enum constraint c, const struct ask *a, struct strbuf *out)
{
	switch (c) {
	case CONSTRAINT_STATE:
	case CONSTRAINT_BLOCKED:
	case CONSTRAINT_INTENT:
	case CONSTRAINT_HOURS:
	case CONSTRAINT_PROBLEM:
	case CONSTRAINT_CAPACITY:
	case CONSTRAINT_AVOIDED: strbuf_adds(out, fixed[c].wanted); return;
	case CONSTRAINT_REGION: strbuf_adds(out, a->r->region); return;
	case CONSTRAINT_GPU_MODEL: strbuf_adds(out, a->want.gpu_model); return;
	case CONSTRAINT_VRAM: add_size(out, a->want.vram_mib); return;
	case CONSTRAINT_WORKER: strbuf_addf(out, "%s, as in the quote", a->r->worker); return;
	case CONSTRAINT_GPUS: strbuf_addf(out, "%" PRId64, a->want.gpus); return;
	case CONSTRAINT_CPU:
	case CONSTRAINT_MEMORY:
	case CONSTRAINT_DISK: add_share(out, c, a->need[filters[c].dim]); return;
	case CONSTRAINT_RELIABILITY: add_ppm(out, a->r->min_reliability_ppm); return;
	case CONSTRAINT_UNTIL: add_time(out, a->need[DIM_UNTIL]); return;
	case CONSTRAINT_LEASE_MAX: add_duration(out, a->need[DIM_LEASE_MAX]); return;
	case CONSTRAINT_LEASE_MIN: add_duration(out, -a->need[DIM_LEASE_MIN]); return;
	case CONSTRAINT_PRICE: add_price(out, a->price_max); return;
	case CONSTRAINT_COUNT: break;
	}
	abort();
}

static void best_price(const struct shelf *s, const struct ask *a, struct strbuf *out)
{
	int64_t price;

	if (ask_price(a, s->price, &price))
		add_price(out, price);
	else
		strbuf_adds(out, "more than can be counted");
}

void constraint_best(enum constraint c, const struct shelf *s, const struct ask *a,
		     struct strbuf *out)
{
	const struct pool_worker *w = s->worker;

	switch (c) {
	case CONSTRAINT_STATE: strbuf_adds(out, worker_state_names[w->state]); return;
	case CONSTRAINT_BLOCKED: strbuf_adds(out, "blocked"); return;
	case CONSTRAINT_INTENT: strbuf_adds(out, worker_intent_names[w->intent]); return;
	case CONSTRAINT_HOURS: strbuf_adds(out, "outside of them, or in maintenance"); return;
	case CONSTRAINT_PROBLEM: strbuf_adds(out, w->problem); return;
	case CONSTRAINT_CAPACITY: strbuf_adds(out, "offering less"); return;
	case CONSTRAINT_REGION: strbuf_adds(out, or_none(s->kind->region)); return;
	case CONSTRAINT_GPU_MODEL: strbuf_adds(out, or_none(s->kind->model)); return;
	case CONSTRAINT_VRAM: add_size(out, s->kind->vram_mib); return;
	case CONSTRAINT_WORKER: strbuf_adds(out, w->id); return;
	case CONSTRAINT_GPUS:
		strbuf_addf(out, "%" PRId64 " free of %" PRId64, s->has[DIM_GPUS],
			    w->groups[s->group].total);
		return;
	case CONSTRAINT_CPU:
	case CONSTRAINT_MEMORY:
	case CONSTRAINT_DISK:
		add_share(out, c, s->has[filters[c].dim]);
		strbuf_adds(out, " free of ");
		add_share(out, c, share_total(w, c));
		return;
	case CONSTRAINT_RELIABILITY: add_ppm(out, s->has[DIM_RELIABILITY]); return;
	case CONSTRAINT_UNTIL: add_time(out, s->has[DIM_UNTIL]); return;
	case CONSTRAINT_LEASE_MAX: add_duration(out, s->has[DIM_LEASE_MAX]); return;
	case CONSTRAINT_LEASE_MIN: add_duration(out, -s->has[DIM_LEASE_MIN]); return;
	case CONSTRAINT_PRICE: best_price(s, a, out); return;
	case CONSTRAINT_AVOIDED: strbuf_adds(out, "failed for you a short time ago"); return;
	case CONSTRAINT_COUNT: break;
	}
	abort();
}

/* ---- what to change ---- */

static void change_text(struct strbuf *out, const char *field, const char *value)
{
	if (str_empty(value))
		strbuf_addf(out, "leave %s out", field);
	else
		strbuf_addf(out, "ask for %s \"%s\"", field, value);
}

static void change_gpus(const struct shelf *s, const struct ask *a, struct strbuf *out)
{
	if (s->worker->groups[s->group].total >= a->want.gpus)
		strbuf_adds(out, "wait until leases end, or ");
	if (s->has[DIM_GPUS] > 0)
		strbuf_addf(out, "ask for at most %" PRId64 " gpus", s->has[DIM_GPUS]);
	else
		strbuf_adds(out, "ask for no gpus");
}

static void change_share(enum constraint c, const struct shelf *s, struct strbuf *out)
{
	int64_t has = s->has[filters[c].dim];

	if (has <= 0) {
		strbuf_adds(out, "wait until leases end");
		return;
	}
	strbuf_adds(out, "ask for at most ");
	if (c == CONSTRAINT_CPU)
		add_cpus(out, has);
	else
		strbuf_addf(out, "%" PRId64 " MiB of %s", has, filters[c].name);
}

static void change_until(const struct shelf *s, const struct ask *a, struct strbuf *out)
{
	int64_t left = seconds_left(s, a->r->now_ms);

	if (left <= 0) {
		strbuf_adds(out, "wait until the owner's hours begin anew");
		return;
	}
	strbuf_adds(out, "set max_duration to at most ");
	add_duration(out, left);
}

static void change_price(const struct shelf *s, const struct ask *a, struct strbuf *out)
{
	int64_t price;

	if (!ask_price(a, s->price, &price)) {
		strbuf_adds(out, "ask for less");
		return;
	}
	strbuf_adds(out, "set max_price to at least ");
	add_price(out, price);
}

void constraint_change(enum constraint c, const struct shelf *s, const struct ask *a,
		       struct strbuf *out)
{
	switch (c) {
	case CONSTRAINT_STATE:
	case CONSTRAINT_BLOCKED:
	case CONSTRAINT_INTENT:
	case CONSTRAINT_HOURS:
	case CONSTRAINT_PROBLEM:
	case CONSTRAINT_CAPACITY:
	case CONSTRAINT_AVOIDED: strbuf_adds(out, fixed[c].wait); return;
	case CONSTRAINT_REGION: change_text(out, "region", s->kind->region); return;
	case CONSTRAINT_GPU_MODEL: change_text(out, "gpu_model", s->kind->model); return;
	case CONSTRAINT_VRAM:
		if (s->kind->vram_mib == 0)
			strbuf_adds(out, "leave vram out");
		else
			strbuf_addf(out, "ask for at most %" PRId64 " MiB of vram", s->kind->vram_mib);
		return;
	case CONSTRAINT_WORKER:
		strbuf_adds(out, "leave the quote out, or take a new one");
		return;
	case CONSTRAINT_GPUS: change_gpus(s, a, out); return;
	case CONSTRAINT_CPU:
	case CONSTRAINT_MEMORY:
	case CONSTRAINT_DISK: change_share(c, s, out); return;
	case CONSTRAINT_RELIABILITY:
		strbuf_adds(out, "accept a min_reliability of ");
		add_ppm(out, s->has[DIM_RELIABILITY]);
		return;
	case CONSTRAINT_UNTIL: change_until(s, a, out); return;
	case CONSTRAINT_LEASE_MAX:
		strbuf_adds(out, "set max_duration to at most ");
		add_duration(out, s->has[DIM_LEASE_MAX]);
		return;
	case CONSTRAINT_LEASE_MIN:
		strbuf_adds(out, "set max_duration to at least ");
		add_duration(out, -s->has[DIM_LEASE_MIN]);
		return;
	case CONSTRAINT_PRICE: change_price(s, a, out); return;
	case CONSTRAINT_COUNT: break;
	}
	abort();
}

int64_t constraint_nearness(enum constraint c, const struct shelf *s, const struct ask *a)
{
	int64_t price;

	if (filters[c].dim != DIM_NONE)
		return s->has[filters[c].dim];
	switch (c) {
	case CONSTRAINT_VRAM: return s->kind->vram_mib;
	case CONSTRAINT_PRICE: return ask_price(a, s->price, &price) ? -price : INT64_MIN;
	case CONSTRAINT_GPU_MODEL:
	case CONSTRAINT_REGION: return s->has[DIM_GPUS];
	case CONSTRAINT_STATE:
	case CONSTRAINT_BLOCKED:
	case CONSTRAINT_INTENT:
	case CONSTRAINT_HOURS:
	case CONSTRAINT_PROBLEM:
	case CONSTRAINT_CAPACITY:
	case CONSTRAINT_WORKER:
	case CONSTRAINT_GPUS:
	case CONSTRAINT_CPU:
	case CONSTRAINT_MEMORY:
	case CONSTRAINT_DISK:
	case CONSTRAINT_RELIABILITY:
	case CONSTRAINT_UNTIL:
	case CONSTRAINT_LEASE_MAX:
	case CONSTRAINT_LEASE_MIN:
	case CONSTRAINT_AVOIDED:
	case CONSTRAINT_COUNT: break;
	}
	return 0;
}

bool constraint_relax(enum constraint c, const struct shelf *s, struct request *r,
		      struct resources *want)
{
	const struct ask a = { .r = r, .want = *want };

	switch (c) {
	case CONSTRAINT_STATE:
	case CONSTRAINT_BLOCKED:
	case CONSTRAINT_INTENT:
	case CONSTRAINT_HOURS:
	case CONSTRAINT_PROBLEM:
	case CONSTRAINT_CAPACITY:
	case CONSTRAINT_AVOIDED: return false;
	case CONSTRAINT_REGION:
		r->region = str_empty(s->kind->region) ? NULL : s->kind->region;
		return true;
	case CONSTRAINT_GPU_MODEL:
		want->gpu_model = str_empty(s->kind->model) ? NULL : s->kind->model;
		return true;
	case CONSTRAINT_VRAM: want->vram_mib = s->kind->vram_mib; return true;
	case CONSTRAINT_WORKER: r->worker = NULL; return true;
	case CONSTRAINT_GPUS:
		want->gpus = s->has[DIM_GPUS];
		if (!want->gpus) {
			want->gpu_model = NULL;
			want->vram_mib = 0;
		}
		return true;
	case CONSTRAINT_CPU: want->cpu_milli = s->has[DIM_CPU]; return want->cpu_milli > 0;
	case CONSTRAINT_MEMORY:
		want->memory_mib = s->has[DIM_MEMORY];
		return want->memory_mib > 0;
	case CONSTRAINT_DISK: want->disk_mib = s->has[DIM_DISK]; return want->disk_mib > 0;
	case CONSTRAINT_RELIABILITY:
		r->min_reliability_ppm = s->has[DIM_RELIABILITY];
		return true;
	case CONSTRAINT_UNTIL:
		r->max_duration_s = seconds_left(s, r->now_ms);
		return r->max_duration_s > 0;
	case CONSTRAINT_LEASE_MAX: r->max_duration_s = s->has[DIM_LEASE_MAX]; return true;
	case CONSTRAINT_LEASE_MIN: r->max_duration_s = -s->has[DIM_LEASE_MIN]; return true;
	case CONSTRAINT_PRICE:
		return ask_price(&a, s->price, &r->max_price_uusd_h) && r->max_price_uusd_h > 0;
	case CONSTRAINT_COUNT: break;
	}
	abort();
}
