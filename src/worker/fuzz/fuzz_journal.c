/* A journal from the disk, or (first byte '!') a lease as a server sends it: what is read must lead to an end, whatever
 * the engine says about the container. */
#include "../internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_MS INT64_C(1795446606000)

static void decide(struct journal *j)
{
	static const int64_t times[] = { 0, NOW_MS - HOUR_MS, NOW_MS, NOW_MS + DAY_MS };

	for (int state = CONTAINER_ABSENT; state <= CONTAINER_EXITED; state++) {
		for (size_t i = 0; i < ARRAY_LEN(times); i++) {
			struct container_status st = { .state = (enum container_state)state, .started_ms = times[i],
						       .finished_ms = times[(i + 1) % ARRAY_LEN(times)] };
			struct journal copy = *j;
			struct lease_view v = {
				.want = (enum lease_desired)j->desired->desired, .funded_ms = j->desired->funded_ms,
				.max_duration_ms = j->desired->max_duration_ms, .grace_ms = j->desired->grace_ms,
				.has_ready = j->desired->ready, .journal = &copy, .container = st.state,
				.started_ms = st.started_ms, .silent_ms = times[i] ? HOUR_MS : 0,
				.ready_timeout_ms = j->desired->ready ? j->desired->ready->timeout_s * SECOND_MS : 0,
			};

			meter_settle(&copy, &st, NOW_MS);
			v.delivered_ms = meter_delivered_ms(&copy, &st, NOW_MS);
			assert(v.delivered_ms >= j->delivered_ms);
			struct lease_decision d = reconcile_next(&v, NOW_MS);

			assert(d.action <= ACT_FORGET);
			/* Never two runs of one lease. */
			assert(!j->started || (d.action != ACT_CREATE && d.action != ACT_PREPARE));
			assert(!j->ended || (d.action != ACT_CREATE && d.action != ACT_START));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool sent = size && data[0] == '!';
	struct slice text = { (const char *)data + sent, size - sent };
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct desired_lease d, merged;
	struct journal j = { .exit_code = -1 }, again;
	struct err err = { 0 };

	arena_init(&a, 8 << 20);
	if (sent && schema_parse(&desired_lease_type, text, FROM_SERVER, &a, &d, &err) == 0) {
		assert(id_valid(d.lease, "le"));
		desired_merge(NULL, &d, &a, &merged);
		j.desired = &merged;
	} else if (sent || schema_parse(&journal_type, text, FROM_SERVER, &a, &j, &err) < 0) {
		assert(err.code != ERR_NONE && err.text[0]);
		return 0;
	}
	if (!j.desired || !j.desired->lease)
		return 0;
	decide(&j);
	schema_write_secret(&journal_type, &j, &out);
	if (schema_parse(&journal_type, (struct slice){ out.buf, out.len }, FROM_SERVER, &a, &again, &err) < 0)
		assert(err.code == ERR_TOO_LARGE);
	return 0;
}
