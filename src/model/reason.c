/* Why a lease stands where it stands: the word, the sentence, and what follows from it. */
#include "internal.h"

/* In the order of the enum: value, word, whether another worker could do better, whether the
 * worker is to blame, sentence. Blame is only for what no customer can bring about by what
 * it submits: else a wrong image would cost workers their name. */
/* clang-format off */
#define REASONS(R) \
	R(REASON_NONE, "none", false, false, \
	  "Nothing has happened yet.") \
	R(REASON_PLACED, "placed", false, false, \
	  "Reserved on a worker that is now asked to take it.") \
	R(REASON_ACCEPTED, "accepted", false, false, \
	  "The worker has taken it and prepares it.") \
	R(REASON_READY, "ready", false, false, \
	  "It runs and can be reached.") \
	R(REASON_COMPLETED, "completed", false, false, \
	  "Its command ended with status 0.") \
	R(REASON_EXITED_WITH_ERROR, "exited_with_error", false, false, \
	  "Its command ended with a status other than 0.") \
	R(REASON_OUT_OF_MEMORY, "out_of_memory", false, false, \
	  "It needed more memory than it asked for, and was ended.") \
	R(REASON_DISK_LIMIT_EXCEEDED, "disk_limit_exceeded", false, false, \
	  "It needed more than the disk that it asked for, and was ended.") \
	R(REASON_IMAGE_PULL_FAILED, "image_pull_failed", true, false, \
	  "The worker could not get the image.") \
	R(REASON_IMAGE_NOT_ALLOWED, "image_not_allowed", true, false, \
	  "The worker has an image of this name that its owner does not let others use.") \
	R(REASON_REGISTRY_NOT_ALLOWED, "registry_not_allowed", true, false, \
	  "The image's registry is on the worker's own network, which its owner has not opened.") \
	R(REASON_INPUT_FAILED, "input_failed", true, false, \
	  "The worker could not get or unpack an input.") \
	R(REASON_CREATE_FAILED, "create_failed", true, false, \
	  "The worker could not start the container.") \
	R(REASON_NEVER_READY, "never_ready", true, false, \
	  "It ran, but did not become ready in time.") \
	R(REASON_PREPARATION_TIMEOUT, "preparation_timeout", true, false, \
	  "Getting the image and the inputs took too long.") \
	R(REASON_RESERVATION_EXPIRED, "reservation_expired", true, true, \
	  "The worker did not take it in time.") \
	R(REASON_REFUSED_BY_WORKER, "refused_by_worker", true, true, \
	  "The worker refused it.") \
	R(REASON_WORKER_LOST, "worker_lost", true, true, \
	  "The worker was silent for longer than its grace time.") \
	R(REASON_CONTAINER_LOST, "container_lost", true, true, \
	  "The worker is there, but the container is not.") \
	R(REASON_STOPPED_BY_CUSTOMER, "stopped_by_customer", false, false, \
	  "Stopped as its owner asked.") \
	R(REASON_MAX_DURATION_EXCEEDED, "max_duration_exceeded", false, false, \
	  "It ran for as long as its max_duration allows.") \
	R(REASON_DRAINED_BY_PROVIDER, "drained_by_provider", true, false, \
	  "The worker's owner takes the machine out of service.") \
	R(REASON_BLOCKED_BY_OPERATOR, "blocked_by_operator", true, false, \
	  "The network's operator has blocked the worker.") \
	R(REASON_OUT_OF_FUNDS, "out_of_funds", false, false, \
	  "The money for it has run out.") \
	R(REASON_RESUMED, "resumed", false, false, \
	  "There is money again: it goes on.")
/* clang-format on */

static const struct reason {
	enum lease_reason value;
	bool retries, blames;
	const char *text;
} reasons[] = {
#define R(value, word, retries, blames, text) { value, retries, blames, text },
	REASONS(R)
#undef R
};

const char *const lease_reason_names[] = {
#define R(value, word, retries, blames, text) word,
	REASONS(R)
#undef R
		NULL,
};

static const struct reason *reason_get(enum lease_reason r)
{
	assert((size_t)r < ARRAY_LEN(reasons) && reasons[r].value == r);
	return &reasons[r];
}

const char *lease_reason_text(enum lease_reason r)
{
	return reason_get(r)->text;
}

bool lease_reason_retries(enum lease_reason r)
{
	return reason_get(r)->retries;
}

bool lease_reason_blames_worker(enum lease_reason r)
{
	return reason_get(r)->blames;
}

bool lease_reason_avoids(enum lease_reason r)
{
	/* These two take the worker out of the pool anyway, and say nothing about how it and
	 * the customer get on. */
	return reason_get(r)->retries && r != REASON_DRAINED_BY_PROVIDER &&
	       r != REASON_BLOCKED_BY_OPERATOR;
}
