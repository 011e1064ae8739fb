/* Output on its way from an engine to a server, both of our own making: each line arrives, once and
 * in its place, whoever reads it and whatever fails meanwhile. */
#include "../internal.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#define LEASE	 "le_01jdq3k5v8e4r9t0m2n6p7a1bc"
#define LINES_MAX 20000
#define FIRST_NS INT64_C(1700000000000000000)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */

static struct {
	int lines, line_bytes;
	bool ended;
	int fails;	 /* so many questions are not answered */
	int breaks_at;	 /* once, after so many lines; 0: not */
	int cancel_at;	 /* the lease's wish changes then */
	int readings;
	pthread_t read_on; /* last */
} engine;

static struct {
	int stored, calls;
	int64_t session;
	int fails;
	int goes_back_at, goes_back_to; /* once it has so many, it loses the rest and is started anew */
	bool wrong;
} server;

static struct agent agent;
static struct lease_run lease;

static void line_make(int i, char *buf)
{
	memset(buf, 'x', (size_t)engine.line_bytes);
	buf[snprintf(buf, 16, "line %06d", i)] = ' ';
	buf[engine.line_bytes] = '\0';
}

/* What happens before a line is told; true: the connection breaks. */
static bool line_fault(int i)
{
	bool ret = false;

	pthread_mutex_lock(&lock);
	if (engine.breaks_at && i == engine.breaks_at) {
		engine.breaks_at = 0;
		ret = true;
	}
	if (engine.cancel_at && i == engine.cancel_at) {
		engine.cancel_at = 0;
		__atomic_store_n(&lease.cancel, 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

static bool engine_has_ended(void)
{
	bool ret;

	pthread_mutex_lock(&lock);
	ret = engine.ended;
	pthread_mutex_unlock(&lock);
	return ret;
}

static bool engine_fails(void)
{
	bool ret;

	pthread_mutex_lock(&lock);
	engine.readings++;
	engine.read_on = pthread_self();
	ret = engine.fails > 0;
	engine.fails -= ret;
	pthread_mutex_unlock(&lock);
	return ret;
}

int __wrap_runtime_logs(struct runtime *rt, const char *id, int64_t since_ns, bool follow,
			const volatile int *cancel, runtime_log_fn *fn, void *arg, bool *ret_all,
			struct err *err);
int __wrap_runtime_logs(struct runtime *rt, const char *id, int64_t since_ns, bool follow,
			const volatile int *cancel, runtime_log_fn *fn, void *arg, bool *ret_all,
			struct err *err)
{
	char text[8192];

	*ret_all = false;
	if (engine_fails())
		return err_set(err, ERR_UNAVAILABLE, "the engine is away");
	for (int i = 0; i < engine.lines; i++) {
		int64_t at_ns = FIRST_NS + (int64_t)i / 3 * 1000000;

		if (at_ns < since_ns)
			continue;
		if (line_fault(i))
			return err_set(err, ERR_UNAVAILABLE, "the connection broke");
		if (__atomic_load_n(cancel, __ATOMIC_RELAXED))
			return 0;
		line_make(i, text);
		if (fn(arg, LOG_STDOUT, at_ns, text, strlen(text)))
			return 0;
	}
	while (follow && !engine_has_ended()) {
		if (__atomic_load_n(cancel, __ATOMIC_RELAXED))
			return 0;
		usleep(500);
	}
	*ret_all = follow;
	return 0;
}

/* Lock held. */
static void entry_store(const struct log_entry *e)
{
	char text[8192];
	size_t len;

	if (e->seq <= server.stored)
		return;
	line_make(server.stored, text);
	len = strlen(text);
	text[len++] = '\n';
	text[len] = '\0';
	server.wrong |= e->seq != server.stored + 1 || server.stored >= engine.lines ||
			!str_eq(e->text, text);
	server.stored++;
}

/* Lock held. */
static int batch_take(const struct log_batch *b, struct log_ack *ret, struct err *err)
{
	server.calls++;
	if (server.fails > 0) {
		server.fails--;
		return err_set(err, ERR_UNAVAILABLE, "the server is away");
	}
	if (server.goes_back_at && server.stored >= server.goes_back_at) {
		server.stored = server.goes_back_to;
		server.goes_back_at = 0;
		server.session++;
	}
	if (b->entries.len && b->entries.items[0].seq > server.stored + 1) {
		err_set(err, ERR_INVALID, "there is a gap");
		snprintf(err->field, sizeof(err->field), "entries[0].seq");
		return -1;
	}
	for (size_t i = 0; i < b->entries.len; i++)
		entry_store(&b->entries.items[i]);
	*ret = (struct log_ack){ .seq = server.stored };
	return 0;
}

int __wrap_link_do(struct link *l, const struct link_call *call, struct arena *a, void *ret,
		   struct err *err);
int __wrap_link_do(struct link *l, const struct link_call *call, struct arena *a, void *ret,
		   struct err *err)
{
	int rc;

	pthread_mutex_lock(&lock);
	rc = batch_take(call->in, ret, err);
	pthread_mutex_unlock(&lock);
	return rc;
}

int64_t __wrap_link_session(struct link *l);
int64_t __wrap_link_session(struct link *l)
{
	int64_t ret;

	pthread_mutex_lock(&lock);
	ret = server.session;
	pthread_mutex_unlock(&lock);
	return ret;
}

/* ---- a lease ---- */

static int setup(void **state)
{
	memset(&engine, 0, sizeof(engine));
	memset(&server, 0, sizeof(server));
	memset(&lease, 0, sizeof(lease));
	engine.line_bytes = 64;
	server.session = 1;
	lease.w = &agent;
	pthread_mutex_init(&lease.lock, NULL);
	cond_init_monotonic(&lease.cond);
	return 0;
}

static struct log_pump *pump_from(int lines, bool ended)
{
	struct output_position from = { .seq = lines, .count = lines };

	return log_pump_start(&agent, &lease, LEASE, 1, &from, ended);
}

static struct log_pump *pump(bool ended)
{
	return pump_from(0, ended);
}

static void container_ends(void)
{
	pthread_mutex_lock(&lock);
	engine.ended = true;
	pthread_mutex_unlock(&lock);
}

/* As the lease's thread does, until all is delivered. */
static void flush_all(struct log_pump *p)
{
	container_ends();
	while (true) {
		pthread_mutex_lock(&lease.lock);
		lease.woken = false;
		__atomic_store_n(&lease.cancel, 0, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&lease.lock);
		log_pump_ended(p, &lease.cancel);
		if (log_pump_done(p))
			break;
		lease_wait(&lease, 20);
	}
}

static void all_arrived(struct log_pump *p)
{
	struct output_position at;
	bool cut;

	log_pump_position(p, &at, &cut);
	log_pump_free(p);
	assert_false(server.wrong);
	assert_false(cut);
	assert_int_equal(server.stored, engine.lines);
	assert_int_equal(at.seq, engine.lines);
}

static void a_silent_one_needs_nobody(void **state)
{
	struct log_pump *p = pump(true);

	flush_all(p);
	all_arrived(p);
	assert_int_equal(engine.readings, 1);
	assert_true(pthread_equal(engine.read_on, pthread_self()));
	assert_int_equal(server.calls, 0);
}

static void a_short_one_is_read_here(void **state)
{
	struct log_pump *p = pump(true);

	engine.lines = 3;
	flush_all(p);
	all_arrived(p);
	assert_int_equal(engine.readings, 1);
	assert_true(pthread_equal(engine.read_on, pthread_self()));
}

static void more_than_the_queue_takes(void **state)
{
	static const int line_bytes[] = { 64, 4000 };

	for (size_t i = 0; i < ARRAY_LEN(line_bytes); i++) {
		setup(NULL);
		engine.lines = i ? 1000 : LINES_MAX;
		engine.line_bytes = line_bytes[i];
		server.fails = 1; /* it fills meanwhile */
		struct log_pump *p = pump(true);

		flush_all(p);
		all_arrived(p);
		assert_false(pthread_equal(engine.read_on, pthread_self()));
	}
}

static void a_wish_interrupts_it(void **state)
{
	struct log_pump *p = pump(true);

	engine.lines = 300;
	engine.cancel_at = 100;
	flush_all(p);
	all_arrived(p);
	assert_true(engine.readings > 1);
}

static void an_engine_that_is_away(void **state)
{
	struct log_pump *p = pump(true);

	engine.lines = 300;
	engine.fails = 1;
	engine.breaks_at = 200;
	flush_all(p);
	all_arrived(p);
}

/* At any time: while it is read here, when that has ended, while the reader reads. */
static void a_server_that_goes_back(void **state)
{
	static const int at[] = { 1, 2, 500, 3000, 8000 };

	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		setup(NULL);
		engine.lines = 8001;
		server.goes_back_at = at[i];
		server.goes_back_to = at[i] / 3;
		struct log_pump *p = pump(true);

		flush_all(p);
		all_arrived(p);
	}
}

static void one_that_is_followed(void **state)
{
	for (int ms = 0; ms < 40; ms += 2) {
		setup(NULL);
		engine.lines = 700;
		server.goes_back_at = ms % 3 == 0 ? 600 : 0;
		server.goes_back_to = 10;
		struct log_pump *p = pump(false);

		usleep((useconds_t)ms * 1000);
		log_pump_kick(p);
		flush_all(p);
		all_arrived(p);
	}
}

/* After a restart, of a server that has what it acknowledged, less, or more. */
static void one_that_goes_on(void **state)
{
	static const int stored[] = { 100, 40, 150 };

	for (size_t i = 0; i < 2 * ARRAY_LEN(stored); i++) {
		setup(NULL);
		engine.lines = 300;
		server.stored = stored[i / 2];
		struct log_pump *p = pump_from(100, i % 2);

		flush_all(p);
		all_arrived(p);
	}
}

/* Given up at any moment: nobody reads or sends what is gone. */
static void one_that_is_given_up(void **state)
{
	for (int ms = 0; ms < 30; ms++) {
		setup(NULL);
		engine.lines = ms % 4 * 3000;
		struct log_pump *p = pump(false);

		usleep((useconds_t)ms * 1000);
		if (ms % 2)
			log_pump_ended(p, &lease.cancel);
		log_pump_free(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_silent_one_needs_nobody, setup),
		cmocka_unit_test_setup(a_short_one_is_read_here, setup),
		cmocka_unit_test_setup(more_than_the_queue_takes, setup),
		cmocka_unit_test_setup(a_wish_interrupts_it, setup),
		cmocka_unit_test_setup(an_engine_that_is_away, setup),
		cmocka_unit_test_setup(a_server_that_goes_back, setup),
		cmocka_unit_test_setup(one_that_is_followed, setup),
		cmocka_unit_test_setup(one_that_goes_on, setup),
		cmocka_unit_test_setup(one_that_is_given_up, setup),
	};

	pthread_mutex_init(&agent.lock, NULL);
	cond_init_monotonic(&agent.cond);
	log_init(2, false, LOG_ERROR);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
