/* The journal of a lease: a small file, replaced as a whole, that says how far it has come. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_MAX ((size_t)16 << 20)
#define BIG	    (INT64_C(1) << 62)

/* clang-format off */
#define INT(m, d) FIELD_INT(struct journal, m, 0, BIG, 0, 0, d)
#define BOOL(m, d) FIELD_BOOL(struct journal, m, 0, d)
static const struct field journal_fields[] = {
	FIELD_OBJECT(struct journal, desired, &desired_lease_type, FIELD_REQUIRED, "What the server wants of it."),
	FIELD_TEXT(struct journal, image, 0, 1024, 0, "As the engine takes it."),
	FIELD_TEXT(struct journal, image_digest, 0, 1024, 0, "As it is pinned."),
	BOOL(prepared, "Image and inputs are here."),
	INT(inputs_bytes, "What the inputs take of its disk."),
	BOOL(created, "A container may exist."),
	BOOL(started, "It was started, once and for all."),
	BOOL(ready, "It became ready."),
	INT(started_ms, "By the engine."),
	INT(finished_ms, "By the engine."),
	INT(base_ms, "Delivered time counts from here."),
	INT(paused_total_ms, "Pauses that are over."),
	INT(pause_at_ms, "The present pause."),
	INT(resume_at_ms, "Its end."),
	INT(delivered_ms, "Claimed at least so much."),
	INT(receipt_seq, "Numbers up to here may have been used."),
	INT(log_seq, "Acknowledged output."),
	INT(log_since_ns, "Where to read on."),
	INT(log_count, "Lines from there that are done."),
	BOOL(log_cut, "The server takes no more."),
	BOOL(logs_done, "All output is delivered."),
	BOOL(results_done, "All results are delivered."),
	FIELD_ENUM(struct journal, end_state, observed_state_names, OBSERVED_ACCEPTED, 0, "How it ended; accepted: it has not."),
	FIELD_ENUM(struct journal, end_reason, lease_reason_names, REASON_NONE, 0, "Why."),
	FIELD_TEXT(struct journal, end_text, 0, 1024, 0, "For people."),
	FIELD_INT(struct journal, exit_code, -1, 255, -1, 0, "Exit status."),
	BOOL(ended, "Everything is delivered."),
	INT(final_seq, "Number of the final receipt."),
	BOOL(removed, "Container and inputs are gone."),
};
/* clang-format on */
TYPE(journal, journal, "What a worker knows of one lease.");

char *lease_dir(const char *state_dir, const char *lease, const char *name)
{
	cleanup_strbuf struct strbuf path = STRBUF_INIT;

	strbuf_addf(&path, "%s/leases/%s%s%s", state_dir, lease, name ? "/" : "",
		    name ? name : "");
	return strbuf_take(&path);
}

int journal_save(const char *state_dir, const struct journal *j, struct err *err)
{
	cleanup_free char *dir = lease_dir(state_dir, j->desired->lease, NULL);
	cleanup_free char *path = lease_dir(state_dir, j->desired->lease, "journal.json");
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	int rc;

	schema_write_secret(&journal_type, j, &text);
	rc = file_write_atomic(path, text.buf, text.len, 0600, err);
	if (rc < 0 && err && err->sys == ENOENT) {
		err_clear(err);
		rc = dir_make(dir, 0700, err);
		if (rc == 0)
			rc = file_write_atomic(path, text.buf, text.len, 0600, err);
	}
	if (text.len)
		explicit_bzero(text.buf, text.len);
	return rc < 0 ? err_wrap(err, "journal of %s", j->desired->lease) : 0;
}

int journal_load(const char *state_dir, const char *lease, struct arena *a, struct journal *ret,
		 struct err *err)
{
	cleanup_free char *path = lease_dir(state_dir, lease, "journal.json");
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct journal j;

	if (file_read(path, JOURNAL_MAX, &text, err) < 0)
		return -1;
	if (schema_parse(&journal_type, (struct slice){ text.buf, text.len }, FROM_SERVER, a,
			 &j, err) < 0)
		return err_wrap(err, "%s", path);
	if (!j.desired || !str_eq(j.desired->lease, lease))
		return err_set(err, ERR_INVALID, "%s is not the journal of %s", path, lease);
	*ret = j;
	return 0;
}

int journal_remove(const char *state_dir, const char *lease, struct err *err)
{
	cleanup_free char *dir = lease_dir(state_dir, lease, NULL);

	return dir_remove(dir, err);
}

int journal_list(const char *state_dir, struct arena *a, struct text_list *ret, struct err *err)
{
	cleanup_free char *path = path_join(state_dir, "leases");
	VEC(const char *) names = { 0 };
	DIR *dir = opendir(path);
	struct dirent *e;

	if (!dir && errno != ENOENT)
		return err_sys(err, errno, "cannot read %s", path);
	while (dir && (e = readdir(dir)))
		if (id_valid(e->d_name, "le"))
			*vec_push(&names) = arena_strdup(a, e->d_name);
	if (dir)
		closedir(dir);
	ret->items = arena_array(a, const char *, names.len + 1);
	ret->len = names.len;
	if (names.len)
		memcpy(ret->items, names.items, names.len * sizeof(*names.items));
	vec_release(&names);
	return 0;
}

void desired_merge(const struct desired_lease *have, const struct desired_lease *want,
		   struct arena *a, struct desired_lease *ret)
{
	struct desired_lease merged = *want;

	if (have && (want->desired == DESIRE_STOP || want->desired == DESIRE_NONE)) {
		merged = *have;
		merged.desired = want->desired;
		merged.rev = want->rev;
		merged.funded_ms = want->funded_ms;
		merged.max_duration_ms = want->max_duration_ms;
		merged.grace_ms = want->grace_ms;
	}
	schema_copy(&desired_lease_type, &merged, a, ret);
}
