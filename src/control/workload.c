/* Workloads in the store: finding them, moving their state, their sealed secrets. */
#include "internal.h"

/* An id, a unique prefix of one, or the name of a workload that has not been removed (the newest of that name). */
static int workload_find(struct db_conn *conn, const char *table, const char *org_id, const char *ref, struct arena *a,
			 struct workload *ret, struct err *err)
{
	struct workload *found;
	size_t len;
	int rc;

	if (id_valid(ref, "wl"))
		rc = db_select(conn, &workload_type, table,
			       "WHERE id = $1 AND ($2 = '' OR org_id = $2) AND removed_ms = 0",
			       DB_ARGS(DB_TEXT(ref), DB_TEXT(org_id ? org_id : "")), a, (void **)&found, &len, err);
	else if (id_prefix_valid(ref, "wl"))
		rc = db_select(conn, &workload_type, table,
			       "WHERE id >= $1 AND id < $2 AND ($3 = '' OR org_id = $3) AND removed_ms = 0 ORDER BY id LIMIT 2",
			       DB_ARGS(DB_TEXT(ref), DB_TEXT(arena_printf(a, "%s~", ref)),
				       DB_TEXT(org_id ? org_id : "")), a, (void **)&found, &len, err);
	else
		rc = db_select(conn, &workload_type, table,
			       "WHERE name = $1 AND ($2 = '' OR org_id = $2) AND removed_ms = 0 ORDER BY id DESC LIMIT 1",
			       DB_ARGS(DB_TEXT(ref), DB_TEXT(org_id ? org_id : "")), a, (void **)&found, &len, err);
	if (rc < 0)
		return -1;
	if (len == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no workload \"%.64s\"; `tes ls --all` lists yours", ref);
	if (len > 1)
		return err_set(err, ERR_CONFLICT, "\"%.64s\" is the beginning of several workload ids: give more of it", ref);
	*ret = found[0];
	return 0;
}

int workload_load(struct db_conn *conn, const char *org_id, const char *ref, struct arena *a, struct workload *ret,
		  struct err *err)
{
	return workload_find(conn, "workloads", org_id, ref, a, ret, err);
}

int workload_show(struct db_conn *conn, const char *org_id, const char *ref, struct arena *a, struct workload *ret,
		  struct err *err)
{
	return workload_find(conn, "workloads_now", org_id, ref, a, ret, err);
}

int workload_set_state(struct control *c, struct db_conn *conn, struct workload *w, enum workload_state state,
		       const char *reason, const char *text, const char *actor, struct err *err)
{
	bool changed = w->state != (int)state;
	char kind[40];

	w->state = state;
	w->reason = reason;
	w->reason_text = text;
	w->updated_ms = control_now(c);
	if (workload_state_is_final(state) && !w->ended_ms)
		w->ended_ms = w->updated_ms;
	if (db_update(conn, &workload_type, "workloads", "id", w, err) < 0)
		return -1;
	wake(c, conn, "workload", w->id);
	if (!changed)
		return 0;
	snprintf(kind, sizeof(kind), "workload.%s", workload_state_names[state]);
	return event_append(c, conn, w->org_id, actor, w->id, kind, reason, text, err);
}

/* ---- secrets ---------------------------------------------------------------------------------------- */

bool workload_spec_has_secrets(const struct workload_spec *spec)
{
	return spec->secrets.len > 0 || (spec->registry && spec->registry->secret);
}

/* The whole specification with its secrets, sealed with the server's key. */
int workload_spec_seal(struct control *c, struct db_conn *conn, const char *workload_id,
		       const struct workload_spec *spec, struct arena *a, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	if (!workload_spec_has_secrets(spec))
		return 0;
	schema_write_secret(&workload_spec_type, spec, &text);
	uint8_t *sealed = arena_alloc(a, text.len + SEAL_OVERHEAD);

	seal_make(text.buf, text.len, c->secret_key, sealed);
	return db_exec(conn, "INSERT INTO workload_secrets (workload_id, sealed) VALUES ($1, $2)",
		       DB_ARGS(DB_TEXT(workload_id), DB_BLOB(sealed, text.len + SEAL_OVERHEAD)), NULL, err);
}

int workload_spec_open(struct control *c, struct db_conn *conn, const char *workload_id, struct arena *a,
		       struct workload_spec *ret, struct err *err)
{
	cleanup_rows struct db_rows *rows = NULL;
	struct slice sealed = { 0 };
	struct workload w;
	int rc;

	if (db_query(conn, "SELECT sealed FROM workload_secrets WHERE workload_id = $1", DB_ARGS(DB_TEXT(workload_id)),
		     &rows, err) < 0 || (rc = db_next(rows, err)) < 0)
		return -1;
	if (rc == 0) {
		db_rows_free(take_ptr(rows));
		if (db_get(conn, &workload_type, "workloads", "WHERE id = $1", DB_ARGS(DB_TEXT(workload_id)), a, &w, err) < 0)
			return -1;
		*ret = *w.spec;
		return 0;
	}
	sealed = db_blob(rows, 0, a);
	if (sealed.len < SEAL_OVERHEAD)
		return err_set(err, ERR_INTERNAL, "the sealed secrets of %s are damaged", workload_id);
	uint8_t *text = arena_alloc(a, sealed.len);

	if (seal_open(sealed.ptr, sealed.len, c->secret_key, text) < 0)
		return err_set(err, ERR_INTERNAL,
			       "the secrets of %s were sealed with another key: is [store] secret_key_file the right one?",
			       workload_id);
	return schema_parse(&workload_spec_type, (struct slice){ (char *)text, sealed.len - SEAL_OVERHEAD }, FROM_SERVER,
			    a, ret, err);
}

/* ---- placement ---------------------------------------------------------------------------------------- */

int64_t hold_duration_ms(const struct control *c, const struct workload_spec *spec)
{
	int64_t ms = c->config.hold_ms;

	return spec->max_duration_s ? MIN(ms, spec->max_duration_s * SECOND_MS) : ms;
}

#define TRIED_PPM 999999 /* a worker that has had this workload: only if there is no other */

int64_t hold_amount(int64_t rate_uusd_h, int64_t ms)
{
	return rate_uusd_h ? MAX(owed_uusd(rate_uusd_h, ms), INT64_C(1)) : 0;
}

static int avoids_load(struct db_conn *conn, const struct workload *w, int64_t now_ms, struct arena *a, struct request *ret,
		       struct err *err)
{
	static const char sql[] =
		"SELECT worker_id, weight_ppm, updated_ms FROM avoids WHERE org_id = $1 AND updated_ms > $2"
		" UNION ALL SELECT worker_id, $3, $4 FROM leases WHERE workload_id = $5";
	cleanup_rows struct db_rows *rows = NULL;
	VEC(struct avoid) v = { 0 };
	int rc;

	if (db_query(conn, sql, DB_ARGS(DB_TEXT(w->org_id), DB_INT(now_ms - DAY_MS), DB_INT(TRIED_PPM), DB_INT(now_ms),
					DB_TEXT(w->id)), &rows, err) < 0)
		return -1;
	while ((rc = db_next(rows, err)) > 0) {
		int64_t weight = avoid_weight(db_int(rows, 1), now_ms - db_int(rows, 2));

		if (weight > 0)
			*vec_push(&v) = (struct avoid){ db_text(rows, 0, a), weight };
	}
	if (rc == 0 && v.len) {
		struct avoid *copy = arena_array(a, struct avoid, v.len);

		memcpy(copy, v.items, v.len * sizeof(*copy));
		ret->avoid = copy;
		ret->avoid_len = v.len;
	}
	vec_release(&v);
	return rc;
}

/* A number that differs between workloads and is the same in every run. */
static uint64_t tie_of(const char *id)
{
	uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

	while (*id)
		h = (h ^ (uint8_t)*id++) * UINT64_C(1099511628211);
	return h;
}

int request_of(struct control *c, struct db_conn *conn, const struct workload *w, const struct request *like, int64_t now_ms,
	       struct arena *a, struct request *ret, struct err *err)
{
	struct request r = {
		.want = w->spec->resources,
		.region = w->spec->region,
		.worker = w->attempts == 0 ? w->worker_wanted : NULL, /* a quote binds the first attempt */
		.min_reliability_ppm = w->spec->min_reliability_ppm,
		/* The quote is the price, whatever the worker asks by now (leases_reserve). */
		.max_price_uusd_h = w->attempts == 0 && w->quote_id ? 0 : w->max_price_uusd_h,
		.max_duration_s = w->spec->max_duration_s,
		.tie = tie_of(w->id),
		.now_ms = now_ms,
	};

	if (like) {
		r.avoid = like->avoid;
		r.avoid_len = like->avoid_len;
	} else if (avoids_load(conn, w, now_ms, a, &r, err) < 0) {
		return -1;
	}
	*ret = r;
	return 0;
}
