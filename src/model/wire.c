/* What workers and the server tell each other (docs/protocol.md). */
#include "internal.h"

#define LEASES_MAX	     4096
#define RECEIPTS_MAX	     4096
#define KEY_TEXT_BYTES	     64 /* 32 bytes, hexadecimal or base64url */
#define SIGNATURE_TEXT_BYTES 128
#define LOG_TEXT_MAX_BYTES   65536

static const struct field worker_join_fields[] = {
	FIELD_TEXT(struct worker_join, token, 1, 128,
		   FIELD_REQUIRED | FIELD_LINE | FIELD_SECRET, "Join token."),
	FIELD_TEXT(struct worker_join, public_key, HEX32_BYTES, HEX32_BYTES,
		   FIELD_REQUIRED | FIELD_LINE, "The worker's ed25519 key, hexadecimal."),
	FIELD_TEXT(struct worker_join, name, 0, NAME_MAX_BYTES, FIELD_LINE,
		   "Its name, for people; absent: the hostname."),
	FIELD_OBJECT(struct worker_join, inventory, &inventory_type, FIELD_REQUIRED,
		     "What it has and offers."),
};

static int worker_join_check(const void *value, struct err *err)
{
	return check_hex("public_key", ((const struct worker_join *)value)->public_key, 32,
			 err);
}
TYPE_CHECK(worker_join, worker_join, worker_join_check, "A machine joins the network.");

static const struct field worker_joined_fields[] = {
	FIELD_ID(struct worker_joined, worker_id, "wk", OUT_SET,
		 "The worker's id from now on."),
	FIELD_ID(struct worker_joined, org_id, "or", OUT_SET,
		 "The provider that it belongs to."),
};
TYPE(worker_joined, worker_joined, "The machine has joined.");

static const struct field session_request_fields[] = {
	FIELD_ID(struct session_request, worker_id, "wk", FIELD_REQUIRED, "The worker."),
	FIELD_TEXT(struct session_request, exchange_key, 1, KEY_TEXT_BYTES,
		   FIELD_REQUIRED | FIELD_LINE, "Ephemeral X25519 key, hexadecimal."),
	FIELD_TEXT(
		struct session_request, signature, 1, SIGNATURE_TEXT_BYTES,
		FIELD_REQUIRED | FIELD_LINE,
		"ed25519 over \"tes-session-1\", worker, time in ms, exchange key and boot "
		"id, joined by newlines; base64url."),
	FIELD_TEXT(struct session_request, boot_id, 0, 64, FIELD_LINE,
		   "Changes each time that the worker's process starts; absent: an owner's command, which runs no leases."),
	FIELD_TEXT(struct session_request, version, 0, 64, FIELD_LINE,
		   "Version of tes-worker."),
	FIELD_TIME(struct session_request, time_ms, FIELD_REQUIRED,
		   "The worker's clock; at most 60 s off."),
};
TYPE(session_request, session_request, "A worker proves that it has its key.");

static const struct field session_fields[] = {
	FIELD_TEXT(struct session, id, 1, 64, OUT_SET | FIELD_LINE, "The session."),
	FIELD_TEXT(struct session, exchange_key, 1, KEY_TEXT_BYTES, OUT_SET | FIELD_LINE,
		   "The server's ephemeral X25519 key, hexadecimal."),
	FIELD_TIME(struct session, expires_ms, FIELD_OUT, "When a new session is needed."),
	FIELD_INT(struct session, heartbeat_ms, 100, 3600 * SECOND_MS, 10 * SECOND_MS,
		  FIELD_OUT, "Observations are expected this often, in milliseconds."),
	FIELD_TIME(struct session, server_time_ms, FIELD_OUT, "The server's clock."),
};
TYPE(session, session, "Binds a worker's requests to its key.");

static const struct field lease_observation_fields[] = {
	FIELD_ID(struct lease_observation, lease, "le", FIELD_REQUIRED, "The lease."),
	FIELD_INT(struct lease_observation, generation, 1, COUNT_MAX, 1, FIELD_REQUIRED,
		  "Its generation."),
	FIELD_ENUM(struct lease_observation, state, observed_state_names, OBSERVED_ACCEPTED,
		   FIELD_REQUIRED, "What the worker sees of it."),
	FIELD_ENUM(struct lease_observation, reason, lease_reason_names, REASON_NONE, 0,
		   "Why it failed or ended."),
	FIELD_TEXT(struct lease_observation, text, 0, REASON_TEXT_MAX_BYTES, 0,
		   "Detail for people."),
	FIELD_TEXT(struct lease_observation, phase, 0, 128, FIELD_LINE,
		   "What is being done, for people: \"pulling image\"."),
	FIELD_TEXT(struct lease_observation, image_digest, 0,
		   IMAGE_MAX_BYTES + DIGEST_MAX_BYTES, FIELD_LINE,
		   "The image with its digest, name@sha256:…, once it is resolved."),
	FIELD_INT(struct lease_observation, progress_done, 0, COUNT_MAX, 0, 0,
		  "How much of the phase is done, in bytes."),
	FIELD_INT(struct lease_observation, progress_total, 0, COUNT_MAX, 0, 0,
		  "How much the phase has to do, in bytes; 0: unknown."),
	FIELD_INT(struct lease_observation, exit_code, -1, 255, -1, 0,
		  "Exit status of the container; -1: none."),
	FIELD_INT(struct lease_observation, delivered_ms, 0, COUNT_MAX, 0, 0,
		  "Milliseconds that the container has run so far, without pauses."),
	FIELD_BOOL(struct lease_observation, started, 0,
		   "While preparing: the container runs, and is not ready yet."),
};
TYPE(lease_observation, lease_observation, "What a worker sees of one lease.");

static const struct field signed_usage_fields[] = {
	FIELD_TEXT(struct signed_usage, payload, 1, 4096, FIELD_REQUIRED,
		   "JSON text of a usage, byte for byte as it was signed."),
	FIELD_TEXT(struct signed_usage, signature, 86, 86, FIELD_REQUIRED | FIELD_LINE,
		   "ed25519 over \"tes-usage-1\", a newline and the payload; base64url."),
};
TYPE(signed_usage, signed_usage, "A receipt as it comes from a worker.");

static const struct field observation_fields[] = {
	FIELD_TIME(struct observation, at_ms, FIELD_REQUIRED,
		   "When it was made, by the worker's clock."),
	FIELD_INT(struct observation, desired_rev, 0, COUNT_MAX, 0, 0,
		  "The newest change to its desired leases that it has seen."),
	FIELD_TEXT(struct observation, boot_id, 1, 64, FIELD_REQUIRED | FIELD_LINE,
		   "Changes each time that the worker's process starts."),
	FIELD_ENUM(struct observation, intent, worker_intent_names, INTENT_OPEN, 0,
		   "What the worker's owner wishes."),
	FIELD_LIST(struct observation, leases, &lease_observation_type, LEASES_MAX, 0,
		   "All leases that it has, not only those that changed."),
	FIELD_LIST(struct observation, receipts, &signed_usage_type, RECEIPTS_MAX, 0,
		   "Receipts that the server has not yet acknowledged."),
	FIELD_OBJECT(struct observation, inventory, &inventory_type, 0,
		     "When it has changed, and in the first of a session."),
};
TYPE(observation, observation, "What a worker sees: heartbeat, leases, receipts.");

static const struct field observed_fields[] = {
	FIELD_TIME(struct observed, server_time_ms, FIELD_OUT, "The server's clock."),
	FIELD_INT(struct observed, heartbeat_ms, 0, 3600 * SECOND_MS, 10 * SECOND_MS, FIELD_OUT,
		  "The next observation is expected after this many milliseconds."),
	FIELD_INT(struct observed, desired_rev, 0, COUNT_MAX, 0, FIELD_OUT,
		  "The newest change to the worker's desired leases."),
	FIELD_INT(struct observed, receipts_taken, 0, RECEIPTS_MAX, 0, FIELD_OUT,
		  "How many of the receipts, from the first, need not be sent again."),
	FIELD_TEXTS(struct observed, problems, OBSERVED_PROBLEMS_MAX, 512, FIELD_OUT,
		    "What the server found wrong, for the worker's log."),
};
TYPE(observed, observed, "The answer to an observation.");

static const struct field desired_input_fields[] = {
	FIELD_ID(struct desired_input, id, "in", OUT_SET, "The archive."),
	FIELD_TEXT(struct desired_input, name, 1, 255, OUT_SET | FIELD_LINE,
		   "The one file or folder that the archive holds; it appears, read-only, as /in/<name>."),
	FIELD_TEXT(struct desired_input, sha256, HEX32_BYTES, HEX32_BYTES, OUT_SET | FIELD_LINE,
		   "SHA-256 of the archive, hexadecimal."),
	FIELD_INT(struct desired_input, size_bytes, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Size of the archive in bytes."),
};
TYPE(desired_input, desired_input, "Files that a lease reads.");

static const struct field desired_lease_fields[] = {
	FIELD_ID(struct desired_lease, lease, "le", OUT_SET, "The lease."),
	FIELD_ID(struct desired_lease, workload, "wl", FIELD_OUT, "Its workload."),
	FIELD_INT(struct desired_lease, generation, 1, COUNT_MAX, 1, OUT_SET,
		  "Its generation."),
	FIELD_INT(struct desired_lease, rev, 0, COUNT_MAX, 0, FIELD_OUT,
		  "The worker's count of changes when this one last changed."),
	FIELD_ENUM(struct desired_lease, desired, lease_desired_names, DESIRE_NONE, OUT_SET,
		   "run, pause (frozen, data kept), stop, or none: remove what is left."),
	FIELD_TEXT(struct desired_lease, image, 0, IMAGE_MAX_BYTES + DIGEST_MAX_BYTES,
		   FIELD_OUT | FIELD_LINE, "The image to run."),
	FIELD_TEXTS(struct desired_lease, command, COMMAND_MAX, COMMAND_MAX_BYTES, FIELD_OUT,
		    "Command and its arguments; empty: the image's own."),
	FIELD_MAP(struct desired_lease, env, ENV_MAX, ENV_MAX_BYTES, FIELD_OUT,
		  "Environment variables."),
	FIELD_MAP(struct desired_lease, secrets, ENV_MAX, ENV_MAX_BYTES,
		  FIELD_OUT | FIELD_SECRET, "More of them, that stand in no log."),
	FIELD_OBJECT(struct desired_lease, registry, &registry_login_type, FIELD_OUT,
		     "Access to a private image."),
	FIELD_OBJECT(struct desired_lease, resources, &resources_type, FIELD_OUT,
		     "What it gets."),
	FIELD_TEXTS(struct desired_lease, devices, GPUS_MAX, UUID_MAX_BYTES, FIELD_OUT,
		    "Uuids of its GPUs."),
	FIELD_TEXTS(struct desired_lease, outputs, OUTPUTS_MAX, PATH_MAX_BYTES, FIELD_OUT,
		    "Absolute paths in the container, uploaded as results after it ends."),
	FIELD_LIST(struct desired_lease, inputs, &desired_input_type, INPUTS_MAX, FIELD_OUT,
		   "Files that it reads."),
	FIELD_OBJECT(struct desired_lease, ready, &readiness_type, FIELD_OUT,
		     "When it counts as running; absent: as soon as its container runs."),
	FIELD_INT(struct desired_lease, grace_ms, 0, DURATION_MS_MAX, 0, FIELD_OUT,
		  "Without the server for longer than this, in milliseconds, the worker ends "
		  "it."),
	FIELD_TIME(struct desired_lease, prepare_until_ms, FIELD_OUT,
		   "Until when it must run."),
	FIELD_INT(struct desired_lease, max_duration_ms, 0, DURATION_MS_MAX, 0, FIELD_OUT,
		  "Longest running time in milliseconds; 0: no limit."),
	FIELD_INT(struct desired_lease, funded_ms, 0, FUNDED_UNLIMITED, FUNDED_UNLIMITED,
		  FIELD_OUT,
		  "Milliseconds of running that are paid for; there the worker pauses it."),
	FIELD_INT(struct desired_lease, logs_max_bytes, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Bytes of logs that are kept."),
	FIELD_INT(struct desired_lease, results_max_bytes, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Bytes of results that are kept."),
};
TYPE(desired_lease, desired_lease, "One lease as its worker is to have it.");

static const struct field desired_set_fields[] = {
	FIELD_INT(struct desired_set, rev, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Counts the changes to the set."),
	FIELD_LIST(struct desired_set, leases, &desired_lease_type, LEASES_MAX, FIELD_OUT,
		   "All leases that the worker is to have; others it removes."),
};
TYPE(desired_set, desired_set, "The leases that a worker is to have.");

static const struct field log_entry_fields[] = {
	FIELD_INT(struct log_entry, seq, 1, COUNT_MAX, 1, FIELD_REQUIRED,
		  "Number of the entry; counts up from 1 in each lease."),
	FIELD_TIME(struct log_entry, at_ms, FIELD_REQUIRED, "When it was written."),
	FIELD_ENUM(struct log_entry, stream, log_stream_names, LOG_STDOUT, 0,
		   "Where it was written; system: by the worker itself."),
	FIELD_TEXT(struct log_entry, text, 0, LOG_TEXT_MAX_BYTES, FIELD_RAW,
		   "The text, in valid UTF-8; a newline at its end only if one was written."),
};
TYPE(log_entry, log_entry, "A piece of what a container wrote.");

static const struct field log_batch_fields[] = {
	FIELD_ID(struct log_batch, lease, "le", FIELD_REQUIRED, "The lease."),
	FIELD_INT(struct log_batch, generation, 1, COUNT_MAX, 1, FIELD_REQUIRED,
		  "Its generation."),
	FIELD_LIST(struct log_batch, entries, &log_entry_type, 4096, 0,
		   "Entries in the order of their numbers, without a gap; none: only asks how far the logs are stored."),
};

static int log_batch_check(const void *value, struct err *err)
{
	const struct log_batch *b = value;

	for (size_t i = 1; i < b->entries.len; i++)
		if (b->entries.items[i].seq != b->entries.items[i - 1].seq + 1) {
			char field[48];

			snprintf(field, sizeof(field), "entries[%zu].seq", i);
			return err_set_field(err, field,
					     "%" PRId64 " follows %" PRId64
					     ": send entries in order and without a gap",
					     b->entries.items[i].seq,
					     b->entries.items[i - 1].seq);
		}
	return 0;
}
TYPE_CHECK(log_batch, log_batch, log_batch_check, "Log entries of one lease.");

static const struct field log_ack_fields[] = {
	FIELD_INT(struct log_ack, seq, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Everything up to this number is stored."),
	FIELD_BOOL(struct log_ack, cut, FIELD_OUT, "The limit is reached: send no more."),
};
TYPE(log_ack, log_ack, "How far the logs of a lease are stored.");
