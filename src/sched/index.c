/* The treaps of the kinds.  Order of a treap: prices, then the more reliable, then the fuller,
 * then the hash; so of those with one price list the first that fits is the best.  Between
 * price lists, bounds decide. The heap order comes from the hash, so the shape depends on the
 * set of workers alone. */
#include "internal.h"

static struct shelf *at(const struct pool *p, uint32_t index)
{
	return &p->shelves.items[index];
}

static int order(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

/* Everything but the hash: 0 means that nobody would mind which. */
static int compare_rank(const struct shelf *a, const struct shelf *b)
{
	/* The price with the fewest different values first: then most subtrees differ in one
	 * price alone, and the bound is tight. */
	static const enum price prices[PRICE_COUNT] = { PRICE_CPU, PRICE_GIB, PRICE_GPU };
	int c;

	for (size_t i = 0; i < PRICE_COUNT; i++)
		if ((c = order(a->price[prices[i]], b->price[prices[i]])))
			return c;
	if ((c = order(b->has[DIM_RELIABILITY], a->has[DIM_RELIABILITY])))
		return c;
	for (size_t i = DIM_GPUS; i <= DIM_MEMORY; i++)
		if ((c = order(a->has[i], b->has[i])))
			return c;
	return 0;
}

static int compare(const struct shelf *a, const struct shelf *b)
{
	int c = compare_rank(a, b);

	if (c)
		return c;
	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return order((intptr_t)a, (intptr_t)b);
}

/* Independent of the order by hash, or a run of equals would become a list. */
static uint64_t priority(const struct shelf *s)
{
	uint64_t h = s->hash;

	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}

static void pull(const struct pool *p, struct shelf *s)
{
	const struct shelf *l = at(p, s->left), *r = at(p, s->right);

	for (size_t i = 0; i < DIM_COUNT; i++)
		s->most[i] = MAX(s->has[i], MAX(l->most[i], r->most[i]));
	for (size_t i = 0; i < PRICE_COUNT; i++)
		s->least[i] = MIN(s->price[i], MIN(l->least[i], r->least[i]));
}

/* What is before `key` to *l, the rest to *r. */
static void split(const struct pool *p, uint32_t root, const struct shelf *key, uint32_t *l,
		  uint32_t *r)
{
	struct shelf *s = at(p, root);

	if (!root) {
		*l = *r = 0;
		return;
	}
	if (compare(s, key) < 0) {
		split(p, s->right, key, &s->right, r);
		*l = root;
	} else {
		split(p, s->left, key, l, &s->left);
		*r = root;
	}
	pull(p, s);
}

static uint32_t merge(const struct pool *p, uint32_t l, uint32_t r)
{
	struct shelf *a = at(p, l), *b = at(p, r);

	if (!l || !r)
		return l ? l : r;
	if (priority(a) > priority(b)) {
		a->right = merge(p, a->right, r);
		pull(p, a);
		return l;
	}
	b->left = merge(p, l, b->left);
	pull(p, b);
	return r;
}

static uint32_t insert(const struct pool *p, uint32_t root, uint32_t index)
{
	struct shelf *s = at(p, root), *add = at(p, index);

	if (!root || priority(add) > priority(s)) {
		split(p, root, add, &add->left, &add->right);
		pull(p, add);
		return index;
	}
	if (compare(add, s) < 0)
		s->left = insert(p, s->left, index);
	else
		s->right = insert(p, s->right, index);
	pull(p, s);
	return root;
}

static uint32_t erase(const struct pool *p, uint32_t root, uint32_t index)
{
	struct shelf *s = at(p, root);

	assert(root);
	if (root == index)
		return merge(p, s->left, s->right);
	if (compare(at(p, index), s) < 0)
		s->left = erase(p, s->left, index);
	else
		s->right = erase(p, s->right, index);
	pull(p, s);
	return root;
}

void index_insert(struct pool *p, uint32_t shelf)
{
	struct shelf *s = at(p, shelf);

	assert(!s->indexed);
	s->kind->root = insert(p, s->kind->root, shelf);
	s->indexed = true;
}

void index_erase(struct pool *p, uint32_t shelf)
{
	struct shelf *s = at(p, shelf);

	assert(s->indexed);
	s->kind->root = erase(p, s->kind->root, shelf);
	s->indexed = false;
}

/* ---- search ---- */

struct search {
	const struct pool *p;
	const struct ask *a;
	struct choice best;
	int64_t best_reliability;
	int64_t price
		[PRICE_COUNT]; /* the last price list that was asked for, and what it came to */
	int64_t total;
	bool total_fits, total_known;
};

double index_bound(const struct ask *a, const struct shelf *s)
{
	double sum = 0;

	for (size_t i = 0; i < PRICE_COUNT; i++)
		sum += a->weight[i] * (double)s->least[i];
	/* Three products and sums, each within 2^-53 of the exact one. */
	return sum * (1 - 1e-14);
}

static bool search_price(struct search *s, const int64_t price[static PRICE_COUNT],
			 int64_t *ret)
{
	if (!s->total_known || memcmp(s->price, price, sizeof(s->price)) != 0) {
		memcpy(s->price, price, sizeof(s->price));
		s->total_fits = ask_price(s->a, price, &s->total);
		s->total_known = true;
	}
	*ret = s->total;
	return s->total_fits;
}

/* Could the subtree hold something that fits and is better than the best so far? */
static bool search_may(struct search *s, const struct shelf *top)
{
	int64_t price, enough = 1;

	for (size_t i = 0; i < DIM_COUNT; i++)
		enough &= top->most[i] >= s->a->need[i];
	if (!enough || index_bound(s->a, top) > (double)s->best.counts_as)
		return false;
	if (!search_price(s, top->least, &price))
		return false;
	return price < s->best.counts_as ||
	       (price == s->best.counts_as && top->most[DIM_RELIABILITY] > s->best_reliability);
}

static void search_consider(struct search *s, uint32_t index)
{
	const struct shelf *shelf = at(s->p, index);
	int64_t price;

	for (size_t i = 0; i < DIM_COUNT; i++)
		if (shelf->has[i] < s->a->need[i])
			return;
	if (!search_price(s, shelf->price, &price) || price > s->best.counts_as ||
	    (price == s->best.counts_as && shelf->has[DIM_RELIABILITY] <= s->best_reliability))
		return;
	/* Those that are avoided compete later, at the price that they count as. */
	if (s->a->r->avoid_len && ask_avoid_ppm(s->a, shelf->worker))
		return;
	if (!filters_pass(FILTER_OFFER, s->a, shelf))
		return;
	s->best = (struct choice){ .shelf = index, .price = price, .counts_as = price };
	s->best_reliability = shelf->has[DIM_RELIABILITY];
}

/* In order, so that of equal prices the fullest comes first; but the right side first where it
 * may be cheaper. */
static void search_subtree(struct search *s, uint32_t root)
{
	const struct shelf *top = at(s->p, root);
	uint32_t l = top->left, r = top->right;

	if (!root || !search_may(s, top))
		return;
	if (l && r && index_bound(s->a, at(s->p, r)) < index_bound(s->a, at(s->p, l))) {
		search_subtree(s, r);
		search_consider(s, root);
		search_subtree(s, l);
	} else {
		search_subtree(s, l);
		search_consider(s, root);
		search_subtree(s, r);
	}
}

void index_search(const struct pool *p, const struct kind *k, const struct ask *a,
		  struct choice *best)
{
	struct search s = { .p = p, .a = a, .best = *best, .best_reliability = -1 };

	if (best->shelf)
		s.best_reliability = at(p, best->shelf)->has[DIM_RELIABILITY];
	search_subtree(&s, k->root);
	*best = s.best;
}

/* The first at or after `key` in order, 0 if none. */
static uint32_t lower_bound(const struct pool *p, uint32_t root, const struct shelf *key)
{
	uint32_t found = 0;

	while (root) {
		const struct shelf *s = at(p, root);
		int c = compare_rank(s, key);

		if (c > 0 || (c == 0 && s->hash >= key->hash)) {
			found = root;
			root = s->left;
		} else {
			root = s->right;
		}
	}
	return found;
}

uint32_t index_spread(const struct pool *p, const struct ask *a, uint32_t shelf, uint64_t tie)
{
	const struct shelf *first = at(p, shelf);
	struct shelf key = *first;
	uint32_t next;

	if (key.hash == UINT64_MAX)
		return shelf;
	key.hash++;
	next = lower_bound(p, first->kind->root, &key);
	if (!next || compare_rank(at(p, next), first) != 0)
		return shelf;
	/* Equals may still differ in what the order does not look at: try a few from there
	 * on. */
	key.hash = tie * UINT64_C(0x9e3779b97f4a7c15);
	for (int tries = 0; tries < 8; tries++) {
		const struct shelf *s;

		next = lower_bound(p, first->kind->root, &key);
		if (!next || compare_rank(at(p, next), first) != 0)
			break;
		s = at(p, next);
		if (filters_pass(FILTER_OFFER, a, s) && !ask_avoid_ppm(a, s->worker))
			return next;
		if (s->hash == UINT64_MAX)
			break;
		key.hash = s->hash + 1;
	}
	return shelf;
}
