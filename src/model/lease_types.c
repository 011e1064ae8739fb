/* The lease and what is metered of it, described. The machine that moves it is in lease.c,
 * the arithmetic in meter.c. */
#include "internal.h"

/* What is metered of it; also stored by itself. */
#define LEASE_METERED \
	FIELD_TIME(struct lease, observed_at_ms, COLUMN, "When the server last saw it."), \
	FIELD_INT(struct lease, observed_ms, 0, COUNT_MAX, 0, COLUMN, \
		  "Milliseconds that it may have run by what the server saw."), \
	FIELD_INT(struct lease, claimed_ms, 0, COUNT_MAX, 0, COLUMN, \
		  "Milliseconds that it ran by the newest receipt."), \
	FIELD_INT(struct lease, claimed_seq, 0, COUNT_MAX, 0, COLUMN, \
		  "Number of the newest receipt."), \
	FIELD_BOOL(struct lease, claimed_final, COLUMN, "That receipt is the last.")

static const struct field lease_fields[] = {
	FIELD_ID(struct lease, id, "le", COLUMN_SET, "The lease."),
	FIELD_ID(struct lease, org_id, "or", COLUMN_SET | FIELD_FIXED,
		 "The customer, who pays for it."),
	FIELD_ID(struct lease, provider_org_id, "or", COLUMN_SET | FIELD_FIXED,
		 "The provider, who is paid for it."),
	FIELD_ID(struct lease, workload_id, "wl", COLUMN_SET | FIELD_FIXED, "The workload."),
	FIELD_ID(struct lease, replica_id, "rp", COLUMN_SET | FIELD_FIXED,
		 "The replica that it runs."),
	FIELD_ID(struct lease, worker_id, "wk", COLUMN_SET | FIELD_FIXED,
		 "The worker that runs it."),
	FIELD_INT(struct lease, generation, 1, COUNT_MAX, 1, COLUMN | FIELD_FIXED,
		  "Number of the attempt; what another generation says is refused."),
	FIELD_ENUM(struct lease, state, lease_state_names, LEASE_RESERVED, COLUMN,
		   "Where it stands."),
	FIELD_ENUM(struct lease, desired, lease_desired_names, DESIRE_RUN, COLUMN,
		   "What the server wants of it."),
	FIELD_ENUM(struct lease, reason, lease_reason_names, REASON_NONE, COLUMN,
		   "Why it stands there, for programs."),
	FIELD_TEXT(struct lease, reason_text, 0, REASON_TEXT_MAX_BYTES, COLUMN,
		   "Why it stands there, for people."),
	FIELD_OBJECT(struct lease, resources, &resources_type, COLUMN_SET | FIELD_FIXED,
		     "What it holds."),
	FIELD_TEXTS(struct lease, devices, GPUS_MAX, UUID_MAX_BYTES, COLUMN | FIELD_FIXED,
		    "Uuids of its GPUs."),
	FIELD_TEXT(struct lease, image, 0, IMAGE_MAX_BYTES + DIGEST_MAX_BYTES,
		   COLUMN | FIELD_FIXED | FIELD_LINE,
		   "The image to run, with its digest if it is known."),
	FIELD_TEXT(struct lease, image_digest, 0, IMAGE_MAX_BYTES + DIGEST_MAX_BYTES,
		   COLUMN | FIELD_LINE,
		   "The image with its digest, name@sha256:…, as the worker resolved it."),
	FIELD_MONEY(struct lease, rate_uusd_h, COLUMN | FIELD_FIXED,
		    "The frozen price of all of it, in millionths of a dollar an hour."),
	FIELD_PPM(struct lease, fee_ppm, COLUMN | FIELD_FIXED,
		  "The network's share of the price, in millionths."),
	FIELD_ID(struct lease, quote_id, "qt", COLUMN_NULL | FIELD_FIXED,
		 "The quote that froze the price."),
	FIELD_TIME(struct lease, reserved_ms, COLUMN | FIELD_FIXED, "When it was placed."),
	FIELD_TIME(struct lease, reserved_until_ms, COLUMN | FIELD_FIXED,
		   "Until when the worker must have taken it."),
	FIELD_TIME(struct lease, prepare_until_ms, COLUMN | FIELD_FIXED,
		   "Until when it must run."),
	FIELD_INT(
		struct lease, ready_timeout_ms, 0, DURATION_MS_MAX, 0, COLUMN | FIELD_FIXED,
		"Milliseconds from the container's start until it must be ready; 0: no limit."),
	FIELD_TIME(struct lease, ready_until_ms, COLUMN,
		   "Until when it must be ready; absent: no limit, or not started."),
	FIELD_TIME(struct lease, accepted_ms, COLUMN, "When the worker took it."),
	FIELD_TIME(struct lease, running_ms, COLUMN, "Since when it runs and can be reached."),
	FIELD_TIME(struct lease, stopping_ms, COLUMN, "When it was told to stop."),
	FIELD_TIME(struct lease, ended_ms, COLUMN, "When it ended."),
	FIELD_INT(struct lease, max_duration_ms, 0, DURATION_MS_MAX, 0, COLUMN | FIELD_FIXED,
		  "Longest running time in milliseconds; 0: no limit."),
	FIELD_INT(struct lease, grace_ms, 0, DURATION_MS_MAX, 0, COLUMN | FIELD_FIXED,
		  "How long a silence is borne, in milliseconds."),
	FIELD_TEXT(struct lease, phase, 0, 128, COLUMN | FIELD_LINE,
		   "What the worker is doing, for people."),
	FIELD_INT(struct lease, progress_done, 0, COUNT_MAX, 0, COLUMN,
		  "How much of the phase is done, in bytes."),
	FIELD_INT(struct lease, progress_total, 0, COUNT_MAX, 0, COLUMN,
		  "How much the phase has to do, in bytes; 0: unknown."),
	FIELD_INT(struct lease, exit_code, -1, 255, -1, COLUMN,
		  "Exit status of its container; -1: none."),
	FIELD_TIME(struct lease, unreachable_since_ms, COLUMN,
		   "Since when its worker is silent; absent: it is not."),
	LEASE_METERED,
	FIELD_INT(struct lease, billed_ms, 0, COUNT_MAX, 0, COLUMN,
		  "Milliseconds settled so far."),
	FIELD_MONEY(struct lease, billed_uusd, COLUMN,
		    "Charged so far, in millionths of a dollar."),
	FIELD_MONEY(struct lease, fee_uusd, COLUMN,
		    "The network's part of it, in millionths of a dollar."),
	FIELD_TIME(struct lease, settled_at_ms, COLUMN, "When it was last settled."),
	FIELD_INT(struct lease, funded_ms, 0, FUNDED_UNLIMITED, 0, COLUMN,
		  "Milliseconds of running that are paid for; there it pauses."),
	FIELD_TIME(struct lease, paused_ms, COLUMN,
		   "Since when it is paused; absent: it is not."),
	FIELD_ID(struct lease, hold_id, "tr", COLUMN_NULL, "The hold that pays for it."),
	FIELD_INT(struct lease, logs_seq, 0, COUNT_MAX, 0, COLUMN,
		  "Number of the last log entry received."),
	FIELD_INT(struct lease, logs_bytes, 0, COUNT_MAX, 0, COLUMN, "Bytes of logs received."),
	FIELD_BOOL(struct lease, logs_cut, COLUMN,
		   "The limit of logs was reached; what came later is lost."),
	FIELD_BOOL(struct lease, logs_expired, COLUMN,
		   "The logs were deleted after their time, or with the workload."),
	FIELD_BOOL(struct lease, results_done, COLUMN, "All results are in."),
	FIELD_INT(struct lease, desired_rev, 0, COUNT_MAX, 0, COLUMN,
		  "The worker's count of changes when this one last changed."),
	FIELD_TIME(struct lease, deadline_ms, COLUMN,
		   "When the server will act if nothing is heard until then."),
	FIELD_TIME(struct lease, updated_ms, COLUMN, "When this record last changed."),
};
TYPE(lease, lease, "One replica on one worker at one frozen price.");

static const struct field lease_metering_fields[] = {
	FIELD_ID(struct lease, id, "le", COLUMN_SET, "The lease."),
	LEASE_METERED,
	FIELD_TIME(struct lease, deadline_ms, COLUMN,
		   "When the server will act if nothing is heard until then."),
	FIELD_TIME(struct lease, updated_ms, COLUMN, "When this record last changed."),
};
TYPE(lease_metering, lease, "What is metered of a lease.");

static const struct field lease_page_fields[] = {
	FIELD_LIST(struct lease_page, items, &lease_type, 10000, FIELD_OUT,
		   "The leases, newest first."),
};
TYPE(lease_page, lease_page, "Leases of a workload.");

static const struct field usage_fields[] = {
	FIELD_ID(struct usage, lease, "le", FIELD_REQUIRED, "The lease."),
	FIELD_ID(struct usage, worker, "wk", FIELD_REQUIRED, "The worker that signs."),
	FIELD_INT(struct usage, generation, 1, COUNT_MAX, 1, FIELD_REQUIRED,
		  "The lease's generation."),
	FIELD_INT(struct usage, seq, 1, COUNT_MAX, 1, FIELD_REQUIRED,
		  "Number of the receipt; counts up from 1 in each lease."),
	FIELD_INT(struct usage, delivered_ms, 0, COUNT_MAX, 0, FIELD_REQUIRED,
		  "Milliseconds that the container has run so far, without pauses."),
	FIELD_INT(struct usage, gpus, 0, GPUS_MAX, 0, 0, "GPUs in use."),
	FIELD_INT(struct usage, cpu_milli, 0, CPU_MILLI_MAX, 0, 0,
		  "CPU given, in thousandths of a hardware thread."),
	FIELD_INT(struct usage, memory_mib, 0, MEMORY_MIB_MAX, 0, 0, "Memory given, in MiB."),
	FIELD_TIME(struct usage, at_ms, FIELD_REQUIRED, "When it was measured."),
	FIELD_BOOL(struct usage, final, 0, "The container has ended: no more will come."),
};
TYPE(usage, usage, "What a worker has delivered to a lease so far: the content of a receipt.");

static const struct field receipt_fields[] = {
	FIELD_ID(struct receipt, id, "rc", COLUMN_SET, "The receipt."),
	FIELD_ID(struct receipt, lease_id, "le", COLUMN_SET, "The lease."),
	FIELD_ID(struct receipt, worker_id, "wk", COLUMN_SET, "The worker that signed it."),
	FIELD_TEXT(struct receipt, payload, 1, 4096, COLUMN_SET,
		   "The usage, byte for byte as it was signed."),
	FIELD_TEXT(struct receipt, signature, 86, 86, COLUMN_SET | FIELD_LINE,
		   "ed25519 over \"tes-usage-1\", a newline and the payload; base64url."),
	FIELD_INT(struct receipt, seq, 1, COUNT_MAX, 1, COLUMN, "Its number in the lease."),
	FIELD_INT(struct receipt, delivered_ms, 0, COUNT_MAX, 0, COLUMN,
		  "Milliseconds delivered so far."),
	FIELD_TIME(struct receipt, at_ms, COLUMN, "When the worker made it."),
	FIELD_TIME(struct receipt, received_ms, COLUMN, "When the server took it."),
};
TYPE(receipt, receipt, "Signed usage.");
