/* What customers see of their work and their money: logs, files, bills, balances,
 * explanations, events. */
#include "internal.h"

static const struct field log_query_fields[] = {
	FIELD_TIME(struct log_query, since_ms, 0, "Written at this moment or later."),
	FIELD_INT(struct log_query, after, 0, COUNT_MAX, 0, 0,
		  "Only entries with a higher number: the `next` of the page before."),
	FIELD_INT(struct log_query, limit, 1, 10000, 1000, 0, "Entries on one page, at most."),
	FIELD_BOOL(struct log_query, follow, 0,
		   "Goes on as a stream of events until the lease has ended."),
	FIELD_ID(struct log_query, lease, "le", 0,
		 "Of this lease; absent: of the current or last."),
};
TYPE(log_query, log_query, "Which logs to read.");

static const struct field log_page_fields[] = {
	FIELD_LIST(struct log_page, items, &log_entry_type, 10000, FIELD_OUT,
		   "The entries, oldest first."),
	FIELD_INT(struct log_page, next, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Where the next page starts: its `after`."),
	FIELD_BOOL(struct log_page, complete, FIELD_OUT,
		   "The lease has ended and this is the end of its logs."),
	FIELD_BOOL(struct log_page, cut, FIELD_OUT,
		   "The limit of logs was reached; what came later is lost."),
	FIELD_ID(struct log_page, lease, "le", FIELD_OUT, "The lease that wrote them."),
};
TYPE(log_page, log_page, "Logs.");

static const struct field input_fields[] = {
	FIELD_ID(struct input, id, "in", COLUMN_SET, "The archive."),
	FIELD_ID(struct input, org_id, "or", COLUMN_SET, "Whose it is."),
	FIELD_TEXT(struct input, sha256, HEX32_BYTES, HEX32_BYTES, COLUMN_SET | FIELD_LINE,
		   "SHA-256, hexadecimal."),
	FIELD_INT(struct input, size_bytes, 0, COUNT_MAX, 0, COLUMN, "Size in bytes."),
	FIELD_TIME(struct input, created_ms, COLUMN, "When it was uploaded."),
	FIELD_TIME(struct input, expires_ms, COLUMN,
		   "When it is deleted, unless something uses it."),
};
TYPE(input, input, "An uploaded tar archive.");

static const struct field result_fields[] = {
	FIELD_ID(struct result, id, "rs", COLUMN_SET, "The file."),
	FIELD_ID(struct result, org_id, "or", COLUMN_SET, "Whose it is."),
	FIELD_ID(struct result, workload_id, "wl", COLUMN_SET, "The workload that made it."),
	FIELD_ID(struct result, lease_id, "le", COLUMN_SET, "The lease that made it."),
	FIELD_TEXT(struct result, path, 1, PATH_MAX_BYTES * 2, COLUMN_SET | FIELD_LINE,
		   "Where it lay in the container."),
	FIELD_TEXT(struct result, sha256, HEX32_BYTES, HEX32_BYTES, COLUMN_SET | FIELD_LINE,
		   "SHA-256, hexadecimal."),
	FIELD_INT(struct result, size_bytes, 0, COUNT_MAX, 0, COLUMN, "Size in bytes."),
	FIELD_INT(struct result, mode, 0, 07777, 0644, COLUMN,
		  "Permission bits as in chmod(2), decimal."),
	FIELD_TIME(struct result, created_ms, COLUMN, "When it came in."),
	FIELD_TIME(struct result, expires_ms, COLUMN, "When it is deleted."),
};
TYPE(result, result, "A file that a workload left.");

static const struct field result_list_fields[] = {
	FIELD_LIST(struct result_list, items, &result_type, 100000, FIELD_OUT, "The files."),
	FIELD_BOOL(struct result_list, complete, FIELD_OUT,
		   "All are here: the lease has ended and nothing was cut."),
	FIELD_TEXT(struct result_list, note, 0, 512, FIELD_OUT, "What is missing and why."),
};
TYPE(result_list, result_list, "Files that a workload left.");

static const struct field bill_line_fields[] = {
	FIELD_ID(struct bill_line, lease_id, "le", OUT_SET, "The lease."),
	FIELD_ID(struct bill_line, worker_id, "wk", FIELD_OUT, "The worker that served it."),
	FIELD_TEXT(struct bill_line, reason, 0, 64, FIELD_OUT | FIELD_LINE,
		   "Why the lease ended."),
	FIELD_TIME(struct bill_line, from_ms, FIELD_OUT, "Since when it ran."),
	FIELD_TIME(struct bill_line, to_ms, FIELD_OUT, "Until when."),
	FIELD_INT(struct bill_line, seconds, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Whole seconds that are charged."),
	FIELD_MONEY(struct bill_line, rate_uusd_h, FIELD_OUT,
		    "The frozen price in millionths of a dollar an hour."),
	FIELD_MONEY(struct bill_line, amount_uusd, FIELD_OUT,
		    "rate * seconds / 3600, rounded down, in millionths of a dollar."),
	FIELD_MONEY(struct bill_line, fee_uusd, FIELD_OUT,
		    "The network's part of the amount, in millionths of a dollar."),
	FIELD_ID(struct bill_line, receipt_id, "rc", FIELD_OUT,
		 "The newest signed receipt that supports it."),
};
TYPE(bill_line, bill_line, "What one lease cost.");

static const struct field bill_fields[] = {
	FIELD_ID(struct bill, workload_id, "wl", FIELD_OUT,
		 "The workload; absent: all of them."),
	FIELD_LIST(struct bill, lines, &bill_line_type, 100000, FIELD_OUT,
		   "One line a lease, oldest first."),
	FIELD_MONEY(struct bill, total_uusd, FIELD_OUT, "The sum, in millionths of a dollar."),
	FIELD_MONEY(
		struct bill, held_uusd, FIELD_OUT,
		"Held for what still runs, in millionths of a dollar; what is not used comes "
		"back."),
	FIELD_BOOL(struct bill, final, FIELD_OUT,
		   "Nothing runs any more: the sum will not change."),
};
TYPE(bill, bill, "What was charged, and for what.");

static const struct field balance_fields[] = {
	FIELD_MONEY_SIGNED(struct balance, posted_uusd, FIELD_OUT,
			   "The organisation's money, in millionths of a dollar."),
	FIELD_MONEY(struct balance, held_uusd, FIELD_OUT,
		    "The part of it that is held for what runs, in millionths of a dollar."),
	FIELD_MONEY_SIGNED(struct balance, available_uusd, FIELD_OUT,
			   "The part of it that is free, in millionths of a dollar."),
	FIELD_MONEY(struct balance, rate_uusd_h, FIELD_OUT,
		    "What all that runs costs, in millionths of a dollar an hour."),
	FIELD_TIME(struct balance, exhausted_ms, FIELD_OUT,
		   "When the money runs out at this rate; absent: nothing runs."),
	FIELD_MONEY_SIGNED(struct balance, earned_uusd, FIELD_OUT,
			   "Earned as a provider and payable, in millionths of a dollar."),
};
TYPE(balance, balance, "An organisation's money.");

static const struct field bill_query_fields[] = {
	FIELD_TIME(struct bill_query, since_ms, 0, "Leases that ran at this moment or later."),
	FIELD_TIME(struct bill_query, until_ms, 0,
		   "Leases that ran before this moment; absent: until now."),
};

static int bill_query_check(const void *value, struct err *err)
{
	const struct bill_query *q = value;

	if (q->until_ms && q->until_ms < q->since_ms)
		return err_set_field(err, "until_ms", "lies before since_ms: swap them");
	return 0;
}
TYPE_CHECK(bill_query, bill_query, bill_query_check, "Which time to bill.");

static const struct field explain_line_fields[] = {
	FIELD_TEXT(struct explain_line, constraint, 1, 64, OUT_SET | FIELD_LINE,
		   "What was asked for: a field, or a condition on workers."),
	FIELD_TEXT(struct explain_line, wanted, 0, 128, FIELD_OUT | FIELD_LINE,
		   "The value asked for."),
	FIELD_TEXT(struct explain_line, best, 0, 128, FIELD_OUT | FIELD_LINE,
		   "The nearest value on offer."),
	FIELD_INT(struct explain_line, excluded, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Offers that it excluded, of those that the lines before left."),
	FIELD_TEXT(struct explain_line, change, 0, 256, FIELD_OUT | FIELD_LINE,
		   "What would have to change."),
};
TYPE(explain_line, explain_line, "What one constraint excluded.");

static const struct field explanation_fields[] = {
	FIELD_ID(struct explanation, workload_id, "wl", FIELD_OUT, "The workload."),
	FIELD_TEXT(struct explanation, summary, 0, 512, FIELD_OUT,
		   "Why it is not running, in a sentence."),
	FIELD_INT(struct explanation, offers, 0, COUNT_MAX, 0, FIELD_OUT, "Offers looked at."),
	FIELD_INT(struct explanation, matching, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Offers that none of the constraints excluded."),
	FIELD_LIST(struct explanation, lines, &explain_line_type, 64, FIELD_OUT,
		   "The constraints in the order in which they were tried; each offer counts "
		   "once."),
};
TYPE(explanation, explanation, "Why a workload has no lease.");

static const struct field event_fields[] = {
	FIELD_ID(struct event, id, "ev", COLUMN_SET, "The event."),
	FIELD_ID(struct event, org_id, "or", COLUMN_NULL,
		 "Whose it is; absent: the network's."),
	FIELD_TEXT(struct event, actor, 0, 64, COLUMN | FIELD_LINE,
		   "Who did it: the id of a user, key or worker, or \"system\"."),
	FIELD_TEXT(struct event, subject, 0, 64, COLUMN | FIELD_LINE,
		   "The id of what it was done to."),
	FIELD_TEXT(struct event, kind, 1, 64, COLUMN_SET | FIELD_LINE,
		   "What happened, like lease.running."),
	FIELD_TEXT(struct event, reason, 0, 64, COLUMN | FIELD_LINE, "Why, for programs."),
	FIELD_TEXT(struct event, text, 0, REASON_TEXT_MAX_BYTES, COLUMN,
		   "What happened and why, for people."),
	/* NULL until the publisher, after the commit that made the event, gives it its place
	 * in the chain. */
	FIELD_INT(struct event, seq, 0, COUNT_MAX, 0, COLUMN_NULL,
		  "Its place in the chain of all events; 0: not yet numbered."),
	FIELD_TIME(struct event, at_ms, COLUMN, "When it happened."),
	FIELD_INT(struct event, made, 0, COUNT_MAX, 0, FIELD_OUT | FIELD_SQL | FIELD_HIDDEN,
		  "Counts the events of one process, for the order of those of one millisecond."),
	FIELD_TEXT(struct event, prev_hash, 0, HEX32_BYTES, COLUMN_NULL | FIELD_LINE,
		   "Hash of the event before."),
	FIELD_TEXT(struct event, hash, 0, HEX32_BYTES, COLUMN_NULL | FIELD_LINE,
		   "SHA-256 over prev_hash and this event, hexadecimal."),
};
TYPE(event, event, "Something that happened.");

static const struct field event_page_fields[] = {
	FIELD_LIST(struct event_page, items, &event_type, 1000, FIELD_OUT,
		   "The events in their order."),
	FIELD_INT(struct event_page, next, 0, COUNT_MAX, 0, FIELD_OUT,
		  "Where the next page starts: its `after`."),
};
TYPE(event_page, event_page, "Events.");

static const struct field event_query_fields[] = {
	FIELD_INT(struct event_query, after, 0, COUNT_MAX, 0, 0,
		  "Only events with a higher number: the `next` of the page before."),
	FIELD_INT(struct event_query, limit, 1, 1000, 100, 0, "Events on one page, at most."),
	FIELD_TEXT(struct event_query, subject, 0, 64, FIELD_LINE, "Only about this id."),
	FIELD_BOOL(struct event_query, follow, 0, "Goes on as a stream of events."),
};
TYPE(event_query, event_query, "Which events to list.");
