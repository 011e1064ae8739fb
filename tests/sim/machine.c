/* Machines: the container engine, what really happened, and the life and death of the worker process. */
#include "machine.h"

struct machine machines[NODE_MAX];
static struct map *truths;
static VEC(struct truth *) running;
static VEC(struct truth *) started;

/* ---- the truth ----------------------------------------------------------------------------------------- */

struct truth *truth_find(const char *lease)
{
	return truths ? map_find(truths, lease) : NULL;
}

struct truth *truth_get(const char *lease, int machine)
{
	struct truth *t = truth_find(lease);

	if (t)
		return t;
	if (!truths)
		truths = map_new();
	t = xcalloc(1, sizeof(*t));
	snprintf(t->lease, sizeof(t->lease), "%s", lease);
	t->machine = machine;
	t->ready_ms = -1;
	map_put(truths, lease, t);
	return t;
}

bool truth_next(size_t *it, struct truth **ret)
{
	const char *key;
	void *value;

	if (!truths || !map_next(truths, it, &key, &value))
		return false;
	*ret = value;
	return true;
}

void truths_free(void)
{
	size_t it = 0;
	struct truth *t;

	while (truth_next(&it, &t))
		for (int i = 0; i < t->device_count; i++)
			free((char *)t->devices[i]);
	map_free(truths, free);
	truths = NULL;
	vec_release(&running);
	vec_release(&started);
}

void truths_running(struct truth *const **ret, size_t *ret_len)
{
	*ret = running.items;
	*ret_len = running.len;
}

struct truth *truth_started(void)
{
	while (started.len) {
		struct truth *t = started.items[--started.len];

		if (t->running)
			return t;
	}
	return NULL;
}

int64_t truth_run_ms(const struct truth *t)
{
	return t->run_ms + (t->running ? sim.now_ms - t->since_ms : 0);
}

int64_t truth_lines(const struct truth *t)
{
	if (!t->starts || t->exited)
		return t->lines;
	return MIN(1 + truth_run_ms(t) / t->line_every_ms, (int64_t)LINES_MAX);
}

void line_text(const char *lease, int64_t seq, char buf[static 80])
{
	snprintf(buf, 80, "line %" PRId64 " of %s\n", seq, lease);
}

void result_text(const char *lease, int64_t n, char buf[static 160])
{
	snprintf(buf, 160, "result %" PRId64 " of %s", n, lease);
}

/* ---- the engine ------------------------------------------------------------------------------------------- */

int64_t machine_clock(const struct machine *m)
{
	return sim.now_ms + m->skew_ms;
}

struct container *container_find(struct machine *m, const char *lease)
{
	return map_find(m->containers, lease);
}

static int64_t word(const struct text_list *command, size_t i, int64_t def)
{
	struct err ignored = { 0 };
	int64_t ret;

	return i < command->len &&
			       int_parse(command->items[i], -1, INT64_MAX, &ret, &ignored) == 0
		       ? ret
		       : def;
}

/* The command says what it will do: "run <work> <exit status> <line every> <ready after> <results>". */
struct container *container_create(struct machine *m, const struct desired_lease *d)
{
	struct container *c = container_find(m, d->lease);

	if (c)
		return c;
	c = xcalloc(1, sizeof(*c));
	c->truth = truth_get(d->lease, m->number);
	c->generation = d->generation;
	c->state = CONTAINER_CREATED;
	c->created_ms = machine_clock(m);
	c->work_ms = word(&d->command, 1, 1000);
	c->work_exit = word(&d->command, 2, 0);
	c->truth->line_every_ms = word(&d->command, 3, 10000);
	c->ready_after_ms = word(&d->command, 4, 0);
	c->truth->results = word(&d->command, 5, 0);
	c->truth->max_duration_ms = d->max_duration_ms;
	for (size_t i = 0; i < d->devices.len && !c->truth->device_count; i++)
		c->truth->devices[i] = xstrdup(d->devices.items[i]);
	c->truth->device_count = (int)d->devices.len;
	c->truth->live = true;
	map_put(m->containers, d->lease, c);
	return c;
}

struct exit_arg {
	struct machine *m;
	char lease[ID_SIZE];
	unsigned serial;
};

static void work_done(void *arg)
{
	struct exit_arg *x = arg;
	struct container *c = container_find(x->m, x->lease);

	if (c && c->serial == x->serial && c->state == CONTAINER_RUNNING)
		container_end(x->m, c, c->work_exit);
	free(x);
}

/* Runs from now on; ends when its work is done. */
static void run_on(struct machine *m, struct container *c)
{
	struct truth *t = c->truth;

	c->state = CONTAINER_RUNNING;
	t->running = true;
	t->since_ms = sim.now_ms;
	t->run_index = running.len;
	*vec_push(&running) = t;
	*vec_push(&started) = t;
	truths_disturbed = true;
	c->serial++;
	if (c->work_ms < 0)
		return;
	struct exit_arg *x = xcalloc(1, sizeof(*x));

	x->m = m;
	x->serial = c->serial;
	snprintf(x->lease, sizeof(x->lease), "%s", t->lease);
	at(sim.now_ms + MAX(c->work_ms - t->run_ms, 0), work_done, x);
}

static void run_stop(struct container *c)
{
	struct truth *t = c->truth;

	t->run_ms = truth_run_ms(t);
	t->running = false;
	running.items[t->run_index] = running.items[--running.len];
	running.items[t->run_index]->run_index = t->run_index;
	c->serial++;
}

static void process_wake(struct machine *m, const char *lease)
{
	struct task *t = m->up ? task_find(m, lease) : NULL;

	if (t)
		task_wake(t); /* the engine's event */
}

void container_start(struct machine *m, struct container *c)
{
	if (c->state != CONTAINER_CREATED)
		return;
	c->truth->starts++;
	c->started_ms = machine_clock(m);
	run_on(m, c);
	note("%s starts %s", m->name, c->truth->lease);
	process_wake(m, c->truth->lease);
}

void container_pause(struct machine *m, struct container *c, bool resume)
{
	if (resume && c->state == CONTAINER_PAUSED) {
		run_on(m, c);
	} else if (!resume && c->state == CONTAINER_RUNNING) {
		run_stop(c);
		c->state = CONTAINER_PAUSED;
	}
	note("%s %s %s", m->name, resume ? "resumes" : "pauses", c->truth->lease);
}

void container_end(struct machine *m, struct container *c, int64_t exit_code)
{
	struct truth *t = c->truth;

	if (c->state != CONTAINER_RUNNING && c->state != CONTAINER_PAUSED)
		return;
	if (c->state == CONTAINER_RUNNING)
		run_stop(c);
	t->lines = MIN(1 + t->run_ms / t->line_every_ms, (int64_t)LINES_MAX);
	c->state = CONTAINER_EXITED;
	c->finished_ms = machine_clock(m);
	c->exit_code = t->exit_code = exit_code;
	t->exited = true;
	t->live = false;
	t->ended_ms = sim.now_ms;
	note("%s: %s ends with %" PRId64, m->name, t->lease, exit_code);
	process_wake(m, t->lease);
}

void container_remove(struct machine *m, const char *lease)
{
	struct container *c = container_find(m, lease);

	if (!c)
		return;
	if (c->state == CONTAINER_RUNNING || c->state == CONTAINER_PAUSED)
		container_end(m, c, 137);
	c->truth->live = false;
	map_remove(m->containers, lease);
	free(c);
}

void container_status_get(struct machine *m, const char *lease, struct container_status *ret)
{
	const struct container *c = container_find(m, lease);

	*ret = (struct container_status){ .state = CONTAINER_ABSENT };
	if (!c)
		return;
	*ret = (struct container_status){ .state = c->state,
					  .generation = c->generation,
					  .created_ms = c->created_ms,
					  .started_ms = c->started_ms,
					  .finished_ms = c->finished_ms,
					  .exit_code = c->exit_code,
					  .oom_killed = c->exit_code == 138 };
}

/* ---- the disk ------------------------------------------------------------------------------------------------ */

static void saved_free(void *value)
{
	struct saved *s = value;

	arena_release(&s->arena);
	free(s);
}

struct saved *machine_save(struct machine *m, const struct task *t)
{
	struct saved *old = map_find(m->disk, t->id), *s = xcalloc(1, sizeof(*s));

	schema_copy(&journal_type, &t->j, &s->arena, &s->j);
	s->log_seq = t->log_seq;
	s->log_cut = t->log_cut;
	map_put(m->disk, t->id, s);
	if (old)
		saved_free(old);
	return s;
}

void machine_forget(struct machine *m, const char *lease)
{
	struct saved *s = map_remove(m->disk, lease);

	if (s)
		saved_free(s);
}

/* ---- life and death --------------------------------------------------------------------------------------------- */

static void process_again(void *arg)
{
	struct machine *m = arg;

	if (!m->up)
		process_start(m);
}

static void process_kill(struct machine *m, const char *why, int64_t away_ms)
{
	if (!m->up)
		return;
	note("%s: worker killed (%s), away for %" PRId64 " ms", m->name, why, away_ms);
	process_end(m);
	at(sim.now_ms + away_ms, process_again, m);
}

void machine_kill_process(struct machine *m, const char *why)
{
	process_kill(m, why,
		     rng_chance(&sim.luck, 800000)
			     ? rng_in(&sim.luck, 100, 15 * SECOND_MS)
			     : rng_in(&sim.luck, 15 * SECOND_MS, 10 * MINUTE_MS));
}

bool machine_dies(struct machine *m)
{
	if (!strikes(FAULT_PROCESS, &sim.luck, 1500))
		return false;
	happened(HAPPENED_DIE_STEP);
	machine_kill_process(m, "at a step");
	return true;
}

static void reboot(struct machine *m)
{
	size_t it = 0;
	const char *lease;
	void *value;

	machine_kill_process(m, "machine restarts");
	while (map_next(m->containers, &it, &lease, &value)) {
		struct container *c = value;

		c->lost = c->state == CONTAINER_RUNNING || c->state == CONTAINER_PAUSED;
		if (c->lost)
			container_end(m, c, 137);
	}
	if (strikes(FAULT_SKEW, &sim.luck, 500000))
		m->skew_ms = rng_in(&sim.luck, -45 * SECOND_MS, 45 * SECOND_MS);
}

/* A supervisor starts what ended, 100 ms later (systemd's and Docker's first) or 2 s (deploy/systemd). */
static void loop_again(void *arg)
{
	struct machine *m = arg;
	int64_t away_ms = rng_chance(&sim.luck, 700000) ? 100 : 2 * SECOND_MS;
	int64_t life_ms = rng_in(&sim.luck, 1, rng_chance(&sim.luck, 500000) ? 200 : 3 * SECOND_MS);

	if (sim.calm)
		m->deaths_due = 0;
	if (!m->deaths_due)
		return;
	m->deaths_due--;
	process_kill(m, "in a crash loop", away_ms);
	at(sim.now_ms + away_ms + life_ms, loop_again, m);
}

/* What the machine's processes send in it may come at the server in any order, if the network is slow meanwhile. */
static void loop_begin(struct machine *m)
{
	if (m->deaths_due)
		return;
	m->deaths_due = (int)rng_in(&sim.luck, 3, 15);
	if (strikes(FAULT_DELAY, &sim.luck, 700000))
		net_slow(m->node, rng_in(&sim.luck, 10, 60) * SECOND_MS);
	loop_again(m);
}

static void trouble(void *arg)
{
	struct machine *m = arg;

	if (m->up && strikes(FAULT_LOOP, &sim.luck, 8000))
		loop_begin(m);
	if (m->up && strikes(FAULT_PROCESS, &sim.luck, 60000)) {
		happened(HAPPENED_DIE_CHANCE);
		machine_kill_process(m, "by chance");
	}
	if (strikes(FAULT_REBOOT, &sim.luck, 25000))
		reboot(m);
	at(sim.now_ms + 20 * SECOND_MS, trouble, m);
}

void machines_start(void)
{
	static const char *const models[] = { "NVIDIA A100-SXM4-80GB", "NVIDIA L4" };

	crypto_init();
	for (int i = 0; i < sim.o.machines; i++) {
		struct machine *m = &machines[i];

		*m = (struct machine){ .number = i,
				       .node = node_of_machine(i),
				       .containers = map_new(),
				       .disk = map_new() };
		snprintf(m->name, sizeof(m->name), "m%d", i);
		sign_keypair(m->pk, m->sk);
		m->device_count = m->devices_shown = (int)rng_in(&sim.life, 0, 3);
		for (int k = 0; k < m->device_count; k++) {
			snprintf(m->uuids[k], sizeof(m->uuids[k]), "GPU-%02d-%d", i, k);
			m->devices[k] = (struct device){ .index = k,
							 .uuid = m->uuids[k],
							 .model = models[i % 2],
							 .vram_mib = 24576 };
		}
		m->cpu_milli = rng_in(&sim.life, 4, 16) * 1000;
		m->memory_mib = rng_in(&sim.life, 16, 64) * 1024;
		m->price_gpu_uusd_h = rng_in(&sim.life, 1, 20) * 200000;
		m->price_cpu_uusd_h = rng_in(&sim.life, 1, 10) * 10000;
		if (sim.rate_ppm[FAULT_SKEW]) {
			m->skew_ms = rng_in(&sim.luck, -45 * SECOND_MS, 45 * SECOND_MS);
			sim.out->totals.faults[FAULT_SKEW]++;
		}
		at(sim.now_ms + 2 * MINUTE_MS + i, trouble, m);
	}
}

void machines_calm(void)
{
	for (int i = 0; i < sim.o.machines; i++) {
		struct machine *m = &machines[i];

		m->intent = INTENT_OPEN;
		m->devices_shown = m->device_count;
		if (!m->up)
			process_start(m);
		process_inventory_changed(m);
	}
}

void machines_free(void)
{
	for (int i = 0; i < sim.o.machines; i++) {
		struct machine *m = &machines[i];

		if (m->up)
			process_end(m);
		map_free(m->containers, free);
		map_free(m->disk, saved_free);
	}
}

/* ---- what others ask --------------------------------------------------------------------------------------------- */

const char *machine_id(int i)
{
	return machines[i].id;
}

bool machine_is_up(int i)
{
	return machines[i].up;
}

int64_t machine_down_ms(int i)
{
	return machines[i].up ? machines[i].up_ms : sim.now_ms;
}

unsigned machine_epoch(int i)
{
	return machines[i].epoch;
}

bool machine_is_cut(int i, int64_t ms)
{
	return sim.now_ms - machines[i].heard_ms > ms;
}

bool machine_is_told(int i, int64_t ms)
{
	const struct stream *s = machines[i].stream;

	return s && s->open_ms && sim.now_ms - s->open_ms > ms && s->last_ms <= sim.now_ms;
}

const char *machine_boot(int i)
{
	return machines[i].boot_id;
}

const char *machine_session(int i)
{
	return machines[i].session;
}

const uint8_t *machine_key(int i)
{
	return machines[i].sk;
}

bool machine_has(int i, const char *lease)
{
	struct task *t = machines[i].up ? task_find(&machines[i], lease) : NULL;

	return t && !t->j.ended;
}

bool machine_wish(int i, const char *lease, int *ret_desired, bool *ret_ready)
{
	struct task *t = machines[i].up ? task_find(&machines[i], lease) : NULL;
	const struct desired_lease *d = !t ? NULL : t->next ? &t->next->d : t->j.desired;

	if (!d || t->j.ended)
		return false;
	*ret_desired = (int)d->desired;
	*ret_ready = t->j.ready;
	return true;
}

static struct map *by_worker; /* -> struct machine */

void machine_join(int i, const char *worker)
{
	if (!by_worker)
		by_worker = map_new();
	snprintf(machines[i].id, sizeof(machines[i].id), "%s", worker);
	map_put(by_worker, worker, &machines[i]);
}

int machine_find(const char *worker)
{
	const struct machine *m = map_find(by_worker, worker);

	return m ? m->number : -1;
}

size_t machine_lease_count(int i)
{
	return machines[i].up ? map_count(machines[i].tasks) : 0;
}
