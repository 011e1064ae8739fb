/* What checkers share: reading the store without being disturbed, and what was seen of each lease. */
#ifndef TES_SIM_CHECK_H
#define TES_SIM_CHECK_H

#include "sim.h"

#include "../../src/blob/blob.h"
#include "../../src/control/control.h"
#include "../../src/db/db.h"
#include "../../src/ledger/ledger.h"
#include "people.h"

/* Of one lease, as last seen in the store. */
struct seen {
	char id[ID_SIZE], worker[ID_SIZE], replica[ID_SIZE], workload[ID_SIZE];
	int64_t generation, claimed_ms, billed_ms, billed_uusd, funded_max_ms, running_ms,
		updated_ms;
	int64_t cpu_milli, memory_mib, disk_mib, gpus, claims;
	bool ended, now; /* now: among those of this look */
	int64_t ended_seen_ms;
};
void check_all(void);
struct seen *seen_find(const char *lease);
bool seen_next(size_t *it, struct seen **ret);

/* One row at a time: false at the end or if the history is broken by it.  Begin with it->rows NULL. */
struct look {
	struct db_rows *rows;
	struct arena arena;
};
bool look_row(struct look *l, const char *sql, struct db_args args);
const char *look_text(struct look *l, int column);
int64_t look_int(struct look *l, int column);
void look_end(struct look *l);
int64_t look_number(const char *sql, struct db_args args);

#endif
