/* Workloads that wait: read once for each generation of their replica, and not kept for ever. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "../../db/test/stores.h"
#include "../internal.h"

#define ORG "or_00000000000000000000000001"
#define ANN "wl_00000000000000000000000001"
#define BOB "wl_00000000000000000000000002"

struct world {
	struct test_store *s;
	struct waiting *waiting;
};

static struct world world_new(void **state)
{
	struct world w = { test_store_get(state), waiting_new() };
	struct err err;
	int applied;

	assert_ok(db_migrate(w.s->db, 1, &applied, &err));
	test_store_run(w.s, "INSERT INTO orgs (id, name, created_ms) VALUES ('" ORG "', 'a', 1);\n"
			    "INSERT INTO workloads (id, org_id, state, spec, max_price_uusd_h, attempts, created_ms)"
			    " VALUES ('" ANN "', '" ORG "', 'pending', '{\"image\":\"a\"}', 1, 0, 1);\n"
			    "INSERT INTO workloads (id, org_id, state, spec, max_price_uusd_h, attempts, created_ms)"
			    " VALUES ('" BOB "', '" ORG "', 'pending', '{\"image\":\"b\"}', 2, 0, 1);\n");
	return w;
}

/* As seen by a round that finds their replicas at these generations; how often the workloads were attempted, by that. */
static void assert_seen(struct world *w, const struct replica *replicas, size_t len, const int64_t *attempts)
{
	cleanup_arena struct arena arena = { 0 };
	const struct workload **found;
	struct err err;

	assert_ok(waiting_find(w->waiting, w->s->conn, replicas, len, &arena, &found, &err));
	for (size_t i = 0; i < len; i++) {
		assert_string_equal(found[i]->id, replicas[i].workload_id);
		assert_string_equal(found[i]->spec->image, str_eq(found[i]->id, ANN) ? "a" : "b");
		assert_int_equal(found[i]->max_price_uusd_h, str_eq(found[i]->id, ANN) ? 1 : 2);
		assert_int_equal(found[i]->attempts, attempts[i]);
	}
}

static void ann_seen(struct world *w, int64_t generation, int64_t attempts)
{
	assert_seen(w, &(struct replica){ .id = "rp_1", .workload_id = ANN, .generation = generation }, 1, &attempts);
}

static void set_attempts(struct world *w, int64_t attempts)
{
	char sql[128];

	snprintf(sql, sizeof(sql), "UPDATE workloads SET attempts = %" PRId64 ";\n", attempts);
	test_store_run(w->s, sql);
}

static void read_once(void **state)
{
	struct world w = world_new(state);

	ann_seen(&w, 0, 0);
	set_attempts(&w, 5); /* as nobody does without a new generation: shows whether it is read again */
	ann_seen(&w, 0, 0);
	assert_seen(&w, (struct replica[]){ { .id = "rp_2", .workload_id = BOB }, { .id = "rp_1", .workload_id = ANN } }, 2,
		    (int64_t[]){ 5, 0 });
	ann_seen(&w, 1, 5);
	set_attempts(&w, 6);
	ann_seen(&w, 1, 5);
	waiting_free(w.waiting);
}

static void forgotten(void **state)
{
	const struct replica bob = { .id = "rp_2", .workload_id = BOB };
	struct world w = world_new(state);

	/* When nobody waits. */
	ann_seen(&w, 0, 0);
	set_attempts(&w, 1);
	assert_seen(&w, NULL, 0, NULL);
	ann_seen(&w, 0, 1);
	/* When much was read since. */
	set_attempts(&w, 2);
	for (int64_t i = 1; i <= 1000; i++)
		assert_seen(&w, &(struct replica){ .id = bob.id, .workload_id = BOB, .generation = i }, 1, (int64_t[]){ 2 });
	ann_seen(&w, 0, 2);
	waiting_free(w.waiting);
}

static void not_there(void **state)
{
	const struct replica lost = { .id = "rp_3", .workload_id = "wl_00000000000000000000000003" };
	struct world w = world_new(state);
	cleanup_arena struct arena arena = { 0 };
	const struct workload **found;
	struct err err;

	assert_fails(waiting_find(w.waiting, w.s->conn, &lost, 1, &arena, &found, &err), ERR_INTERNAL);
	assert_string_equal(err.text, "replica rp_3 has no workload");
	ann_seen(&w, 0, 0);
	waiting_free(w.waiting);
}

int main(void)
{
	const struct CMUnitTest tests[] = { TEST_BOTH(read_once), TEST_BOTH(forgotten), TEST_BOTH(not_there) };

	return test_stores_run("control-waiting", tests, ARRAY_LEN(tests));
}
