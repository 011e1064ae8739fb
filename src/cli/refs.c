/* What a person types in place of an id: a unique beginning of it, as tables show it, or a name.  The server
 * resolves those of workloads; the others are looked for among what it lists. */
#include "internal.h"

struct pick {
	const char *ref, *kind;
	const char *found; /* the first that fits */
	size_t count;
};

static void pick_look(struct pick *p, const char *id, const char *name)
{
	if (!str_eq(name, p->ref) && !(id_prefix_valid(p->ref, p->kind) && str_starts(id, p->ref)))
		return;
	if (p->count++ == 0)
		p->found = id;
}

static int pick_end(const struct pick *p, const char *what, const char *where, const char **ret, struct err *err)
{
	if (p->count > 1)
		return err_set(err, ERR_CONFLICT, "\"%.64s\" stands for %zu %ss: give more of the id", p->ref, p->count,
			       what);
	if (p->count == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no %s \"%.64s\": `%s` lists them", what, p->ref, where);
	*ret = p->found;
	return 0;
}

int offer_ref(struct cli *cli, const char *ref, const char **ret, struct err *err)
{
	struct pick p = { .ref = ref, .kind = "of" };
	struct offer_query query;
	struct offer_page page;

	schema_defaults(&offer_query_type, &query);
	query.limit = 1000;
	if (remote_call(cli, &(struct remote){ OP_offer_list, .in = &query, .out = &page }, err) < 0)
		return -1;
	for (size_t i = 0; i < page.items.len; i++)
		pick_look(&p, page.items.items[i].id, NULL);
	/* One that is not among the first may be there all the same. */
	if (p.count == 0 && id_valid(ref, "of") && page.total > (int64_t)page.items.len)
		return *ret = ref, 0;
	return pick_end(&p, "offer", "tes offers", ret, err);
}

int lease_ref(struct cli *cli, const char *workload, const char *ref, const char **ret, struct err *err)
{
	struct pick p = { .ref = ref, .kind = "le" };
	struct lease_page page;

	if (remote_call(cli, &(struct remote){ OP_workload_leases, .param = workload, .out = &page }, err) < 0)
		return -1;
	for (size_t i = 0; i < page.items.len; i++)
		pick_look(&p, page.items.items[i].id, NULL);
	return pick_end(&p, "attempt", arena_printf(&cli->arena, "tes show %.64s", workload), ret, err);
}

int array_ref(struct cli *cli, const char *ref, const char **ret, struct err *err)
{
	struct array_summary array;

	if (remote_call(cli, &(struct remote){ OP_array_show, .param = ref, .out = &array }, err) < 0)
		return -1;
	*ret = array.id;
	return 0;
}

int key_ref(struct cli *cli, const char *ref, const char **ret, struct err *err)
{
	struct pick p = { .ref = ref, .kind = "ak" };
	struct api_key_page page;

	*ret = ref;
	if (id_valid(ref, "ak"))
		return 0;
	if (remote_call(cli, &(struct remote){ OP_key_list, .out = &page }, err) < 0)
		return -1;
	for (size_t i = 0; i < page.items.len; i++)
		if (!page.items.items[i].revoked_ms)
			pick_look(&p, page.items.items[i].id, page.items.items[i].name);
	return pick_end(&p, "live key", "tes keys", ret, err);
}

int worker_ref(struct cli *cli, const char *ref, const char **ret, struct err *err)
{
	struct pick p = { .ref = ref, .kind = "wk" };
	struct worker_page page;

	if (remote_call(cli, &(struct remote){ OP_worker_list, .out = &page }, err) < 0)
		return -1;
	for (size_t i = 0; i < page.items.len; i++)
		pick_look(&p, page.items.items[i].id, page.items.items[i].name);
	return pick_end(&p, "worker of yours", "tes workers", ret, err);
}

/* Of an event: of any kind; names are those of workloads. */
int subject_ref(struct cli *cli, const char *ref, const char **ret, struct err *err)
{
	struct workload w;

	*ret = ref;
	if (id_valid(ref, NULL))
		return 0;
	if (id_prefix_valid(ref, "wk"))
		return worker_ref(cli, ref, ret, err);
	if (id_prefix_valid(ref, "ak"))
		return key_ref(cli, ref, ret, err);
	if (id_prefix_valid(ref, NULL) && !id_prefix_valid(ref, "wl"))
		return err_set(err, ERR_INVALID, "\"%.64s\" is the beginning of an id: give all of it", ref);
	if (remote_call(cli, &(struct remote){ OP_workload_show, .param = ref, .out = &w }, err) < 0)
		return -1;
	*ret = w.id;
	return 0;
}
