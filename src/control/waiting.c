/* Workloads whose replicas wait, kept in memory while they do: where room is short each round looks at the same ones again.
 * Belongs to the thread of the scheduler's duty.
 *
 * What was asked for never changes, and what an attempt leaves behind (that it was made, the image that it pinned) comes with
 * a new generation of the replica.  So what is kept with its generation is as good as read anew, whoever wrote. */
#include "internal.h"

#define KEPT_MAX 1000 /* reads, of which some may be out of date */

struct kept {
	int64_t generation; /* of the replica, when the workload was read */
	struct workload *workload;
};

struct waiting {
	struct map *kept; /* workload id -> struct kept */
	struct arena arena; /* all of them */
	size_t read;
};

struct waiting *waiting_new(void)
{
	struct waiting *w = xcalloc(1, sizeof(*w));

	w->kept = map_new();
	return w;
}

void waiting_free(struct waiting *w)
{
	if (!w)
		return;
	map_free(w->kept, NULL);
	arena_release(&w->arena);
	free(w);
}

/* All at once: those that were placed need not be told from those that still wait. */
static void forget(struct waiting *w)
{
	map_free(w->kept, NULL);
	arena_release(&w->arena);
	w->kept = map_new();
	w->read = 0;
}

static struct kept *kept_find(const struct waiting *w, const struct replica *r)
{
	struct kept *k = map_find(w->kept, r->workload_id);

	return k && k->generation == r->generation ? k : NULL;
}

static size_t missing_find(const struct waiting *w, const struct replica *replicas, size_t len, const char **ret_ids)
{
	size_t missing = 0;

	for (size_t i = 0; i < len; i++)
		if (!kept_find(w, &replicas[i]))
			ret_ids[missing++] = replicas[i].workload_id;
	return missing;
}

static int missing_read(struct waiting *w, struct db_conn *conn, const char *const *ids, size_t len, struct err *err)
{
	struct workload *read;
	size_t count;

	if (db_select_in(conn, &workload_type, "workloads", "id", ids, len, &w->arena, (void **)&read, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		struct kept *k = arena_new(&w->arena, struct kept);

		k->generation = -1; /* until its replica says which */
		k->workload = &read[i];
		map_put(w->kept, read[i].id, k);
	}
	w->read += count;
	return 0;
}

int waiting_find(struct waiting *w, struct db_conn *conn, const struct replica *replicas, size_t len, struct arena *a,
		 const struct workload ***ret, struct err *err)
{
	const struct workload **found = arena_array(a, const struct workload *, len + 1);
	const char **missing = arena_array(a, const char *, len + 1);
	size_t missing_len = missing_find(w, replicas, len, missing);

	if (w->read + missing_len > KEPT_MAX || len == 0) {
		forget(w);
		missing_len = missing_find(w, replicas, len, missing);
	}
	if (missing_read(w, conn, missing, missing_len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++) {
		struct kept *k = map_find(w->kept, replicas[i].workload_id);

		if (!k)
			return err_set(err, ERR_INTERNAL, "replica %s has no workload", replicas[i].id);
		k->generation = replicas[i].generation;
		found[i] = k->workload;
	}
	*ret = found;
	return 0;
}
