/* The journal of a lease: what it says.  Where it lies: journals.c. */
#include "internal.h"

#define BIG (INT64_C(1) << 62)

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
