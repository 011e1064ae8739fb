/* Why a request has no offer: every offer is counted with the first constraint that it
 * fails. */
#include "internal.h"

/* What one shelf fails: how many constraints, and the first of them. */
static size_t failures(const struct ask *a, const struct shelf *s, enum constraint *ret_first)
{
	size_t count = 0;

	for (size_t c = 0; c < CONSTRAINT_COUNT; c++)
		if (!filter_passes(&filters[c], a, s) && !count++)
			*ret_first = (enum constraint)c;
	return count;
}

/* Makes every change that the shelf needs.  False if the customer cannot make one of them, or
 * they contradict. */
static bool relax_all(const struct ask *a, const struct shelf *s)
{
	struct request r = *a->r;
	struct resources want = a->want;
	struct ask relaxed;

	r.want = &want;
	for (size_t c = 0; c < CONSTRAINT_COUNT; c++) {
		ask_init(&relaxed, &r);
		if (!filter_passes(&filters[c], &relaxed, s) &&
		    !constraint_relax((enum constraint)c, s, &r, &want))
			return false;
	}
	ask_init(&relaxed, &r);
	return filters_pass(FILTER_WORKER, &relaxed, s);
}

static bool can_relax(enum constraint c, const struct ask *a, const struct shelf *s)
{
	struct request r = *a->r;
	struct resources want = a->want;

	r.want = &want;
	return constraint_relax(c, s, &r, &want);
}

static bool nearer(enum constraint c, const struct ask *a, const struct shelf *s,
		   const struct shelf *than)
{
	return !than || constraint_nearness(c, s, a) > constraint_nearness(c, than, a);
}

void explain_count(const struct pool *p, const struct ask *a, struct explain_counts *ret)
{
	size_t fewest = SIZE_MAX;

	*ret = (struct explain_counts){ 0 };
	for (size_t i = 1; i < p->shelves.len; i++) {
		const struct shelf *s = pool_shelf(p, (uint32_t)i);
		enum constraint first = CONSTRAINT_COUNT;
		struct explain_count *of;
		size_t count;

		if (!s->worker)
			continue;
		ret->offers++;
		count = failures(a, s, &first);
		if (!count) {
			ret->matching++;
			continue;
		}
		of = &ret->of[first];
		of->excluded++;
		if (nearer(first, a, s, of->nearest))
			of->nearest = s;
		if (count == 1 && nearer(first, a, s, of->alone) &&
		    (!can_relax(first, a, s) || relax_all(a, s)))
			of->alone = s;
		if (count < fewest && relax_all(a, s)) {
			fewest = count;
			ret->closest = s;
		}
	}
}

static const char *summary(const struct ask *a, const struct explain_counts *n,
			   struct arena *arena)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	bool single = false;
	const char *sep = "";

	if (!n->offers)
		return "No worker has joined this network yet.";
	if (n->matching)
		return arena_printf(arena, "%" PRId64 " of %" PRId64 " offers match.",
				    n->matching, n->offers);
	strbuf_addf(&out, "None of %" PRId64 " offers matches.", n->offers);
	for (size_t c = 0; c < CONSTRAINT_COUNT; c++)
		single |= n->of[c].alone != NULL;
	if (single) {
		strbuf_adds(&out, " One of these changes is enough: ");
		for (size_t c = 0; c < CONSTRAINT_COUNT; c++) {
			if (!n->of[c].alone)
				continue;
			strbuf_adds(&out, sep);
			constraint_change((enum constraint)c, n->of[c].alone, a, &out);
			sep = "; ";
		}
		strbuf_addc(&out, '.');
	} else if (n->closest) {
		strbuf_addf(&out,
			    " No single change is enough; all of these are, for worker %s: ",
			    n->closest->worker->id);
		for (size_t c = 0; c < CONSTRAINT_COUNT; c++) {
			if (filter_passes(&filters[c], a, n->closest))
				continue;
			strbuf_adds(&out, sep);
			constraint_change((enum constraint)c, n->closest, a, &out);
			sep = "; ";
		}
		strbuf_addc(&out, '.');
	}
	return arena_strndup(arena, out.buf, out.len);
}

static const char *say(void (*what)(enum constraint, const struct shelf *, const struct ask *,
				    struct strbuf *),
		       enum constraint c, const struct shelf *s, const struct ask *a,
		       struct arena *arena)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	what(c, s, a, &out);
	return arena_strndup(arena, out.buf, out.len);
}

static void say_wanted(enum constraint c, const struct shelf *s, const struct ask *a,
		       struct strbuf *out)
{
	constraint_wanted(c, a, out);
}

void pool_explain(const struct pool *p, const struct request *r, struct arena *arena,
		  struct explanation *ret)
{
	struct explain_counts n;
	struct ask a;

	ask_init(&a, r);
	explain_count(p, &a, &n);
	ret->offers = n.offers;
	ret->matching = n.matching;
	ret->summary = summary(&a, &n, arena);
	ret->lines.items = arena_array(arena, struct explain_line, CONSTRAINT_COUNT);
	ret->lines.len = 0;
	for (size_t i = 0; i < CONSTRAINT_COUNT; i++) {
		enum constraint c = (enum constraint)i;
		struct explain_line *line = &ret->lines.items[ret->lines.len];

		if (!n.of[c].excluded)
			continue;
		line->constraint = filters[c].name;
		line->excluded = n.of[c].excluded;
		line->wanted = say(say_wanted, c, NULL, &a, arena);
		line->best = say(constraint_best, c, n.of[c].nearest, &a, arena);
		line->change = n.of[c].alone
				       ? say(constraint_change, c, n.of[c].alone, &a, arena)
				       : NULL;
		ret->lines.len++;
	}
}
