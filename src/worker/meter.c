/* What a container has delivered: the time that it ran, without pauses, by the engine's own
 * time stamps.
 *
 * Only what the engine confirms is claimed: the state that it told at `now_ms`, asked after
 * that moment.  So a claim never exceeds what the final account will say, and receipts never
 * fall.
 */
#include "internal.h"

/* A pause is written down before the engine is asked for it, and so is its end.  What the
 * engine says afterwards tells which of them came about, also after a crash between the two:
 *   running, pause_at, no resume_at   the pause never happened, or somebody else ended it now
 *   running, pause_at and resume_at   the pause is over
 *   paused, no pause_at               somebody else's pause: it counts from here
 *   paused, resume_at                 the resumption never happened */
bool meter_settle(struct journal *j, const struct container_status *st, int64_t now_ms)
{
	if (st->state == CONTAINER_PAUSED) {
		bool changed = !j->pause_at_ms || j->resume_at_ms;

		if (!j->pause_at_ms)
			j->pause_at_ms = now_ms;
		j->resume_at_ms = 0;
		return changed;
	}
	if (!j->pause_at_ms)
		return false;
	if (st->state == CONTAINER_RUNNING) {
		if (j->resume_at_ms)
			j->paused_total_ms += MAX(j->resume_at_ms - j->pause_at_ms, 0);
		j->pause_at_ms = j->resume_at_ms = 0;
		return true;
	}
	if (st->state == CONTAINER_EXITED && j->resume_at_ms &&
	    st->finished_ms >= j->resume_at_ms) {
		j->paused_total_ms += MAX(j->resume_at_ms - j->pause_at_ms, 0);
		j->pause_at_ms = j->resume_at_ms = 0;
		return true;
	}
	return false;
}

int64_t meter_delivered_ms(const struct journal *j, const struct container_status *st,
			   int64_t now_ms)
{
	int64_t until = now_ms;

	if (!j->base_ms)
		return j->delivered_ms;
	if (st->state == CONTAINER_EXITED)
		until = st->finished_ms;
	else if (st->state != CONTAINER_RUNNING && st->state != CONTAINER_PAUSED)
		return j->delivered_ms;
	/* Frozen, or ended while it was frozen. */
	if (j->pause_at_ms && st->state != CONTAINER_RUNNING)
		until = MIN(until, j->pause_at_ms);
	return MAX(j->delivered_ms, until - j->base_ms - j->paused_total_ms);
}

void receipt_make(const struct usage *u, const uint8_t sk[static SIGN_SECRET_SIZE],
		  struct arena *a, struct signed_usage *ret)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	uint8_t signature[SIGNATURE_SIZE];
	size_t head;

	strbuf_adds(&text, "tes-usage-1\n");
	head = text.len;
	schema_write(&usage_type, u, &text);
	sign_make(text.buf, text.len, sk, signature);
	ret->payload = arena_strdup(a, text.buf + head);
	ret->signature = base64url_format(a, signature, sizeof(signature));
}
