/* What crosses the interface, by the table of operations.  The first byte chooses the operation (or a receipt), the
 * second how the rest comes: as a client's input, as a query, as a server's answer, as a problem. */
#include "../api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void input(const struct type *t, struct slice text, bool query)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct err err = { 0 };
	void *value, *again;

	arena_init(&a, 4 << 20);
	value = arena_alloc(&a, MAX(t->size, 1));
	again = arena_alloc(&a, MAX(t->size, 1));
	if ((query ? schema_parse_query(t, text, &a, value, &err) :
		     schema_parse(t, text, FROM_CLIENT, &a, value, &err)) < 0) {
		assert(err.code != ERR_NONE && err.text[0] && utf8_valid(err.text, strlen(err.text)));
		assert(utf8_valid(err.field, strlen(err.field)));
		return;
	}
	/* What was taken keeps its limits, and is taken again after it was written. */
	assert(schema_check(t, value, &err) == 0);
	schema_write_input(t, value, &out);
	if (schema_parse(t, (struct slice){ out.buf, out.len }, FROM_CLIENT, &a, again, &err) < 0)
		assert(err.code == ERR_TOO_LARGE); /* both together fill the arena */
}

static void answer(const struct type *t, struct slice text)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct err err = { 0 };
	void *value;

	arena_init(&a, 4 << 20);
	value = arena_alloc(&a, MAX(t->size, 1));
	if (schema_parse(t, text, FROM_SERVER, &a, value, &err) == 0)
		schema_write(t, value, &out);
	else
		assert(err.code != ERR_NONE && err.text[0]);
}

static void problem(int status, struct slice text)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct err err = { 0 };

	api_problem_read(status, text, &err);
	assert(err.code != ERR_NONE && err.text[0] && utf8_valid(err.text, strlen(err.text)));
	api_problem(&err, NULL, &out);
	assert(utf8_valid(out.buf, out.len));
}

static void receipt(struct slice text)
{
	cleanup_arena struct arena a = { 0 };
	struct resources resources = { .gpus = 1, .cpu_milli = 1000, .memory_mib = 1024 };
	struct lease lease = { .id = "le_00000000000000000000000000", .worker_id = "wk_00000000000000000000000000",
			       .generation = 1, .resources = &resources };
	struct usage u;
	struct err err = { 0 };

	arena_init(&a, 4 << 20);
	if (schema_parse(&usage_type, text, FROM_SERVER, &a, &u, &err) < 0 ||
	    usage_check(&u, &lease, lease.worker_id, INT64_C(1795446606000), &err) < 0) {
		assert(err.code != ERR_NONE && err.text[0]);
		return;
	}
	usage_take(&u, &lease);
	assert(lease.claimed_ms >= 0 && lease.claimed_seq >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct operation *op;
	struct slice rest;

	if (size < 2)
		return 0;
	rest = (struct slice){ (const char *)data + 2, size - 2 };
	if (data[0] >= OPERATION_COUNT) {
		receipt(rest);
		return 0;
	}
	op = &operations[data[0]];
	switch (data[1] % 4) {
	case 0: input(op->in, rest, false); break;
	case 1: input(op->in, rest, true); break;
	case 2: answer(op->out, rest); break;
	case 3: problem(300 + data[0] * 5, rest); break;
	}
	return 0;
}
