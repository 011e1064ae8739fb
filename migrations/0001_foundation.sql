-- The first schema.  Column types are BIGINT, TEXT and BYTEA only, so that SQLite and PostgreSQL take the same text; a
-- column is named as the member of the struct that it stores (src/model/model.h).
--
-- Times and durations are milliseconds, money is millionths of a currency, truth values are 0 or 1, enums are their
-- names, objects, lists and maps are JSON text.  Absent is NULL for ids, 0 for times and '' for other texts.
-- A fillfactor (of PostgreSQL; migrate.c leaves it out for SQLite) leaves room in the pages of tables whose rows change
-- soon in columns that no index has, so that the new version of a row needs no index entries.
-- The CHECKs and unique indexes are the last guard of what the code promises: no capacity given twice, no device leased
-- twice, no second attempt beside a living one, no account below its limit, nothing billed that was not delivered.

-- who

CREATE TABLE orgs (
	id TEXT NOT NULL PRIMARY KEY,
	name TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	balance_warn_uusd BIGINT NOT NULL DEFAULT 0 CONSTRAINT orgs_balance_warn CHECK (balance_warn_uusd >= 0)
);
CREATE UNIQUE INDEX orgs_by_name ON orgs (name);

CREATE TABLE users (
	id TEXT NOT NULL PRIMARY KEY,
	email TEXT NOT NULL,
	password_hash TEXT NOT NULL DEFAULT '',
	created_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_by_email ON users (email);

CREATE TABLE memberships (
	org_id TEXT NOT NULL REFERENCES orgs (id),
	user_id TEXT NOT NULL REFERENCES users (id),
	role TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	PRIMARY KEY (org_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id);

CREATE TABLE api_keys (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES orgs (id),
	user_id TEXT REFERENCES users (id),
	name TEXT NOT NULL DEFAULT '',
	hash TEXT NOT NULL,
	role TEXT NOT NULL,
	scopes TEXT NOT NULL DEFAULT '[]',
	created_ms BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL DEFAULT 0,
	revoked_ms BIGINT NOT NULL DEFAULT 0,
	used_ms BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX api_keys_by_hash ON api_keys (hash);
CREATE INDEX api_keys_by_org ON api_keys (org_id, created_ms);

-- the pool

CREATE TABLE workers (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES orgs (id),
	name TEXT NOT NULL DEFAULT '',
	public_key TEXT NOT NULL,
	state TEXT NOT NULL,
	intent TEXT NOT NULL,
	blocked BIGINT NOT NULL DEFAULT 0 CONSTRAINT workers_blocked CHECK (blocked IN (0, 1)),
	blocked_why TEXT NOT NULL DEFAULT '',
	inventory TEXT,
	cpu_milli BIGINT NOT NULL DEFAULT 0,
	memory_mib BIGINT NOT NULL DEFAULT 0,
	disk_mib BIGINT NOT NULL DEFAULT 0,
	gpus BIGINT NOT NULL DEFAULT 0,
	used_cpu_milli BIGINT NOT NULL DEFAULT 0,
	used_memory_mib BIGINT NOT NULL DEFAULT 0,
	used_disk_mib BIGINT NOT NULL DEFAULT 0,
	used_gpus BIGINT NOT NULL DEFAULT 0,
	joined_ms BIGINT NOT NULL DEFAULT 0,
	seen_ms BIGINT NOT NULL DEFAULT 0,
	offline_since_ms BIGINT NOT NULL DEFAULT 0,
	boot_id TEXT NOT NULL DEFAULT '',
	desired_rev BIGINT NOT NULL DEFAULT 0,
	uptime_ppm BIGINT NOT NULL DEFAULT 0 CONSTRAINT workers_uptime CHECK (uptime_ppm BETWEEN 0 AND 1000000),
	reliability_ppm BIGINT NOT NULL DEFAULT 0
		CONSTRAINT workers_reliability CHECK (reliability_ppm BETWEEN 0 AND 1000000),
	leases_ok BIGINT NOT NULL DEFAULT 0 CONSTRAINT workers_leases_ok CHECK (leases_ok >= 0),
	leases_failed BIGINT NOT NULL DEFAULT 0 CONSTRAINT workers_leases_failed CHECK (leases_failed >= 0),
	updated_ms BIGINT NOT NULL DEFAULT 0,
	simulated BIGINT NOT NULL DEFAULT 0 CONSTRAINT workers_simulated CHECK (simulated IN (0, 1)),
	CONSTRAINT workers_offered
		CHECK (cpu_milli >= 0 AND memory_mib >= 0 AND disk_mib >= 0 AND gpus >= 0),
	-- Not "used <= offered": an owner may offer less while leases run. Whoever claims checks that, in the same UPDATE.
	CONSTRAINT workers_used
		CHECK (used_cpu_milli >= 0 AND used_memory_mib >= 0 AND used_disk_mib >= 0 AND used_gpus >= 0)
) WITH (fillfactor = 60);
CREATE INDEX workers_by_org ON workers (org_id, joined_ms);
CREATE INDEX workers_by_seen ON workers (seen_ms) WHERE state = 'online';
CREATE INDEX workers_offline ON workers (id) WHERE state = 'offline';
CREATE UNIQUE INDEX workers_by_key ON workers (public_key) WHERE state <> 'left';

-- A device belongs to one worker of the network: its uuid cannot be shown by a second one.
CREATE TABLE worker_devices (
	uuid TEXT NOT NULL PRIMARY KEY,
	worker_id TEXT NOT NULL REFERENCES workers (id),
	model TEXT NOT NULL DEFAULT '',
	vram_mib BIGINT NOT NULL DEFAULT 0,
	seen_ms BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX worker_devices_by_worker ON worker_devices (worker_id);

-- Seconds online of the seconds expected, by day since 1970 UTC: what uptime is computed from.
CREATE TABLE worker_days (
	worker_id TEXT NOT NULL REFERENCES workers (id),
	day BIGINT NOT NULL,
	online_s BIGINT NOT NULL DEFAULT 0,
	expected_s BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (worker_id, day),
	CONSTRAINT worker_days_online CHECK (online_s >= 0 AND online_s <= expected_s)
);
CREATE INDEX worker_days_by_day ON worker_days (day);

CREATE TABLE join_tokens (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES orgs (id),
	hash TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL,
	used_ms BIGINT NOT NULL DEFAULT 0,
	worker_id TEXT REFERENCES workers (id)
);
CREATE UNIQUE INDEX join_tokens_by_hash ON join_tokens (hash);

-- A customer and a worker that did not get on.
CREATE TABLE avoids (
	org_id TEXT NOT NULL REFERENCES orgs (id),
	worker_id TEXT NOT NULL REFERENCES workers (id),
	weight_ppm BIGINT NOT NULL CONSTRAINT avoids_weight CHECK (weight_ppm BETWEEN 0 AND 1000000),
	updated_ms BIGINT NOT NULL,
	PRIMARY KEY (org_id, worker_id)
);

-- work

CREATE TABLE quotes (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES orgs (id),
	worker_id TEXT NOT NULL REFERENCES workers (id),
	resources TEXT NOT NULL,
	rate_uusd_h BIGINT NOT NULL CONSTRAINT quotes_rate CHECK (rate_uusd_h >= 0),
	fee_ppm BIGINT NOT NULL CONSTRAINT quotes_fee CHECK (fee_ppm BETWEEN 0 AND 1000000),
	created_ms BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL,
	used_by TEXT
);
CREATE INDEX quotes_by_org ON quotes (org_id, created_ms);
CREATE INDEX quotes_by_expiry ON quotes (expires_ms);

CREATE TABLE workloads (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES orgs (id),
	name TEXT NOT NULL DEFAULT '',
	state TEXT NOT NULL,
	reason TEXT NOT NULL DEFAULT '',
	reason_text TEXT NOT NULL DEFAULT '',
	spec TEXT NOT NULL,
	image_pinned TEXT NOT NULL DEFAULT '',
	max_price_uusd_h BIGINT NOT NULL CONSTRAINT workloads_max_price CHECK (max_price_uusd_h >= 0),
	quote_id TEXT REFERENCES quotes (id),
	worker_wanted TEXT REFERENCES workers (id),
	attempts BIGINT NOT NULL DEFAULT 0 CONSTRAINT workloads_attempts CHECK (attempts >= 0),
	exit_code BIGINT NOT NULL DEFAULT -1,
	created_ms BIGINT NOT NULL,
	started_ms BIGINT NOT NULL DEFAULT 0,
	ended_ms BIGINT NOT NULL DEFAULT 0,
	removed_ms BIGINT NOT NULL DEFAULT 0,
	charged_uusd BIGINT NOT NULL DEFAULT 0 CONSTRAINT workloads_charged CHECK (charged_uusd >= 0),
	lease_id TEXT,
	worker_id TEXT,
	array_id TEXT,
	array_index BIGINT NOT NULL DEFAULT 0,
	updated_ms BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 60);
-- Ids begin with the time: their order is that of creation.
CREATE INDEX workloads_by_org ON workloads (org_id, id);
CREATE INDEX workloads_by_name ON workloads (name, id);
CREATE INDEX workloads_living ON workloads (org_id, id) WHERE ended_ms = 0;
CREATE INDEX workloads_by_array ON workloads (org_id, array_id, array_index) WHERE array_id IS NOT NULL;
CREATE INDEX workloads_removed ON workloads (removed_ms) WHERE removed_ms > 0;
CREATE INDEX workloads_by_end ON workloads (ended_ms) WHERE ended_ms > 0;

-- The secrets of a workload's specification, sealed with the server's key and read only for its worker.
CREATE TABLE workload_secrets (
	workload_id TEXT NOT NULL PRIMARY KEY REFERENCES workloads (id) DEFERRABLE INITIALLY DEFERRED,
	sealed BYTEA NOT NULL
);

CREATE TABLE replicas (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES orgs (id),
	workload_id TEXT NOT NULL REFERENCES workloads (id),
	number BIGINT NOT NULL CONSTRAINT replicas_number CHECK (number >= 0),
	state TEXT NOT NULL,
	generation BIGINT NOT NULL DEFAULT 0 CONSTRAINT replicas_generation CHECK (generation >= 0),
	retries_left BIGINT NOT NULL DEFAULT 0 CONSTRAINT replicas_retries_left CHECK (retries_left >= 0),
	not_before_ms BIGINT NOT NULL DEFAULT 0,
	lease_id TEXT,
	hold_id TEXT,
	created_ms BIGINT NOT NULL,
	updated_ms BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX replicas_by_workload ON replicas (workload_id, number);
CREATE INDEX replicas_pending ON replicas (id) WHERE state = 'pending';
CREATE INDEX replicas_backing_off ON replicas (not_before_ms) WHERE state = 'pending' AND not_before_ms > 0;

-- What the replica and the worker refer to, the lease repeats without asking again whether it exists; nor does it ask for
-- these two, which the transaction that makes it has updated, and counted (control/reserve.c).
CREATE TABLE leases (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL,
	provider_org_id TEXT NOT NULL,
	workload_id TEXT NOT NULL,
	replica_id TEXT NOT NULL,
	worker_id TEXT NOT NULL,
	generation BIGINT NOT NULL CONSTRAINT leases_generation CHECK (generation >= 1),
	state TEXT NOT NULL,
	desired TEXT NOT NULL,
	reason TEXT NOT NULL,
	reason_text TEXT NOT NULL DEFAULT '',
	resources TEXT NOT NULL,
	devices TEXT NOT NULL DEFAULT '[]',
	image TEXT NOT NULL DEFAULT '',
	image_digest TEXT NOT NULL DEFAULT '',
	rate_uusd_h BIGINT NOT NULL CONSTRAINT leases_rate CHECK (rate_uusd_h >= 0),
	fee_ppm BIGINT NOT NULL DEFAULT 0 CONSTRAINT leases_fee CHECK (fee_ppm BETWEEN 0 AND 1000000),
	quote_id TEXT REFERENCES quotes (id),
	reserved_ms BIGINT NOT NULL DEFAULT 0,
	reserved_until_ms BIGINT NOT NULL DEFAULT 0,
	prepare_until_ms BIGINT NOT NULL DEFAULT 0,
	ready_timeout_ms BIGINT NOT NULL DEFAULT 0,
	ready_until_ms BIGINT NOT NULL DEFAULT 0,
	accepted_ms BIGINT NOT NULL DEFAULT 0,
	running_ms BIGINT NOT NULL DEFAULT 0,
	stopping_ms BIGINT NOT NULL DEFAULT 0,
	ended_ms BIGINT NOT NULL DEFAULT 0,
	max_duration_ms BIGINT NOT NULL DEFAULT 0,
	grace_ms BIGINT NOT NULL DEFAULT 0,
	phase TEXT NOT NULL DEFAULT '',
	progress_done BIGINT NOT NULL DEFAULT 0,
	progress_total BIGINT NOT NULL DEFAULT 0,
	exit_code BIGINT NOT NULL DEFAULT -1,
	unreachable_since_ms BIGINT NOT NULL DEFAULT 0,
	observed_at_ms BIGINT NOT NULL DEFAULT 0,
	observed_ms BIGINT NOT NULL DEFAULT 0,
	claimed_ms BIGINT NOT NULL DEFAULT 0,
	claimed_seq BIGINT NOT NULL DEFAULT 0,
	claimed_final BIGINT NOT NULL DEFAULT 0 CONSTRAINT leases_claimed_final CHECK (claimed_final IN (0, 1)),
	billed_ms BIGINT NOT NULL DEFAULT 0,
	billed_uusd BIGINT NOT NULL DEFAULT 0,
	fee_uusd BIGINT NOT NULL DEFAULT 0,
	settled_at_ms BIGINT NOT NULL DEFAULT 0,
	funded_ms BIGINT NOT NULL DEFAULT 0,
	paused_ms BIGINT NOT NULL DEFAULT 0,
	hold_id TEXT,
	logs_seq BIGINT NOT NULL DEFAULT 0,
	logs_bytes BIGINT NOT NULL DEFAULT 0,
	logs_cut BIGINT NOT NULL DEFAULT 0 CONSTRAINT leases_logs_cut CHECK (logs_cut IN (0, 1)),
	logs_expired BIGINT NOT NULL DEFAULT 0 CONSTRAINT leases_logs_expired CHECK (logs_expired IN (0, 1)),
	results_done BIGINT NOT NULL DEFAULT 0 CONSTRAINT leases_results_done CHECK (results_done IN (0, 1)),
	desired_rev BIGINT NOT NULL DEFAULT 0,
	deadline_ms BIGINT NOT NULL DEFAULT 0,
	updated_ms BIGINT NOT NULL DEFAULT 0,
	CONSTRAINT leases_observed CHECK (observed_ms >= 0 AND claimed_ms >= 0 AND claimed_seq >= 0 AND funded_ms >= 0),
	CONSTRAINT leases_billed
		CHECK (billed_ms >= 0 AND billed_ms <= claimed_ms AND billed_ms <= observed_ms
		       AND billed_uusd >= 0 AND fee_uusd >= 0 AND fee_uusd <= billed_uusd)
);
-- No generation of a replica twice; and a workload's leases.
CREATE UNIQUE INDEX leases_by_workload ON leases (workload_id, replica_id, generation);
CREATE UNIQUE INDEX leases_living_by_replica ON leases (replica_id) WHERE state <> 'ended';
CREATE INDEX leases_living_by_worker ON leases (worker_id, desired_rev) WHERE state <> 'ended';
CREATE INDEX leases_ended_by_worker ON leases (worker_id, desired_rev) WHERE state = 'ended';
CREATE INDEX leases_by_state ON leases (state, settled_at_ms);
CREATE INDEX leases_by_deadline ON leases (deadline_ms) WHERE state <> 'ended' AND deadline_ms <> 0;
CREATE INDEX leases_with_logs ON leases (ended_ms) WHERE state = 'ended' AND logs_bytes > 0 AND logs_expired = 0;
CREATE INDEX leases_billed_by_org ON leases (org_id, reserved_ms) WHERE billed_uusd > 0;
CREATE INDEX leases_running_by_org ON leases (org_id) WHERE state = 'running';

-- Workloads with what they have cost up to now, the running lease included.  To be read only.
CREATE VIEW workloads_now AS
SELECT id, org_id, name, state, reason, reason_text, spec, image_pinned, max_price_uusd_h, quote_id, worker_wanted, attempts,
	exit_code, created_ms, started_ms, ended_ms, removed_ms,
	charged_uusd + CASE WHEN ended_ms > 0 OR lease_id IS NULL THEN 0 ELSE CAST(COALESCE((
		SELECT SUM(l.billed_uusd) FROM leases l WHERE l.workload_id = workloads.id AND l.state <> 'ended'
	), 0) AS BIGINT) END AS charged_uusd,
	lease_id, worker_id, array_id, array_index, updated_ms
FROM workloads;

-- The guard against leasing a device twice: one row while a lease, of that worker, holds it.  The lease was made in the
-- same transaction (control/reserve.c).
CREATE TABLE device_claims (
	worker_id TEXT NOT NULL,
	device_uuid TEXT NOT NULL,
	lease_id TEXT NOT NULL,
	PRIMARY KEY (worker_id, device_uuid)
);

CREATE TABLE inputs (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES orgs (id),
	sha256 TEXT NOT NULL,
	size_bytes BIGINT NOT NULL CONSTRAINT inputs_size CHECK (size_bytes >= 0),
	created_ms BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX inputs_by_org ON inputs (org_id, created_ms);
CREATE INDEX inputs_by_expiry ON inputs (expires_ms);

CREATE TABLE results (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES orgs (id),
	workload_id TEXT NOT NULL REFERENCES workloads (id),
	lease_id TEXT NOT NULL REFERENCES leases (id),
	path TEXT NOT NULL,
	sha256 TEXT NOT NULL,
	size_bytes BIGINT NOT NULL CONSTRAINT results_size CHECK (size_bytes >= 0),
	mode BIGINT NOT NULL DEFAULT 420,
	created_ms BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX results_by_lease ON results (lease_id, path);
CREATE INDEX results_by_workload ON results (workload_id);
CREATE INDEX results_by_expiry ON results (expires_ms);

CREATE TABLE receipts (
	id TEXT NOT NULL PRIMARY KEY,
	lease_id TEXT NOT NULL REFERENCES leases (id),
	worker_id TEXT NOT NULL REFERENCES workers (id),
	payload TEXT NOT NULL,
	signature TEXT NOT NULL,
	seq BIGINT NOT NULL,
	delivered_ms BIGINT NOT NULL,
	at_ms BIGINT NOT NULL,
	received_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX receipts_by_lease ON receipts (lease_id, seq);

-- What a worker sent that cannot be true.  lease_id is what it named, which may not exist.
CREATE TABLE evidence (
	id TEXT NOT NULL PRIMARY KEY,
	worker_id TEXT NOT NULL REFERENCES workers (id),
	lease_id TEXT,
	kind TEXT NOT NULL,
	text TEXT NOT NULL DEFAULT '',
	payload TEXT NOT NULL DEFAULT '',
	at_ms BIGINT NOT NULL
);
CREATE INDEX evidence_by_worker ON evidence (worker_id, at_ms);

-- money

CREATE TABLE accounts (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT REFERENCES orgs (id),
	name TEXT NOT NULL,
	currency TEXT NOT NULL,
	debits_pending BIGINT NOT NULL DEFAULT 0,
	debits_posted BIGINT NOT NULL DEFAULT 0,
	credits_pending BIGINT NOT NULL DEFAULT 0,
	credits_posted BIGINT NOT NULL DEFAULT 0,
	debits_must_not_exceed_credits BIGINT NOT NULL DEFAULT 0
		CONSTRAINT accounts_debits_flag CHECK (debits_must_not_exceed_credits IN (0, 1)),
	credits_must_not_exceed_debits BIGINT NOT NULL DEFAULT 0
		CONSTRAINT accounts_credits_flag CHECK (credits_must_not_exceed_debits IN (0, 1)),
	created_ms BIGINT NOT NULL,
	-- How many transfers it takes part in, and the newest of them: see transfers.
	transfers BIGINT NOT NULL DEFAULT 0 CONSTRAINT accounts_transfers CHECK (transfers >= 0),
	last_transfer TEXT,
	CONSTRAINT accounts_sums
		CHECK (debits_pending >= 0 AND debits_posted >= 0 AND credits_pending >= 0 AND credits_posted >= 0),
	CONSTRAINT accounts_debits_limit
		CHECK (debits_must_not_exceed_credits = 0 OR debits_pending + debits_posted <= credits_posted),
	CONSTRAINT accounts_credits_limit
		CHECK (credits_must_not_exceed_debits = 0 OR credits_pending + credits_posted <= debits_posted)
) WITH (fillfactor = 60) WITHOUT ROWID;
CREATE UNIQUE INDEX accounts_of_org ON accounts (org_id, name, currency) WHERE org_id IS NOT NULL;
CREATE UNIQUE INDEX accounts_of_network ON accounts (name, currency) WHERE org_id IS NULL;

-- Never updated, never deleted.  The transfers of an account are a chain: each has a number on either side, and names the
-- one before it there; the account names the newest.  So a transfer is written at the end of the table and nowhere else,
-- where an index by account would touch a page of its own for each side; and one that is missing is noticed.
-- Whoever writes a transfer has in the same transaction read the hold that it ends, and made both accounts or updated and
-- counted them (ledger/post.c): a foreign key would search for each again, and on PostgreSQL write a lock into its row.
-- The audit looks for a transfer without.
CREATE TABLE transfers (
	id TEXT NOT NULL PRIMARY KEY,
	debit_account TEXT NOT NULL,
	credit_account TEXT NOT NULL,
	pending_id TEXT,
	code TEXT NOT NULL DEFAULT '',
	subject TEXT NOT NULL DEFAULT '',
	text TEXT NOT NULL DEFAULT '',
	kind TEXT NOT NULL,
	amount BIGINT NOT NULL CONSTRAINT transfers_amount CHECK (amount >= 0),
	created_ms BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL DEFAULT 0,
	debit_number BIGINT NOT NULL,
	credit_number BIGINT NOT NULL,
	debit_prev TEXT,
	credit_prev TEXT,
	CONSTRAINT transfers_accounts CHECK (debit_account <> credit_account),
	CONSTRAINT transfers_pending CHECK ((pending_id IS NULL) = (kind IN ('posted', 'pending'))),
	CONSTRAINT transfers_chain
		CHECK (debit_number > 0 AND credit_number > 0
		       AND (debit_prev IS NULL) = (debit_number = 1) AND (credit_prev IS NULL) = (credit_number = 1))
);
-- Where to enter a long chain, for a period that is long past (ledger/statement.c).
CREATE INDEX transfers_marks_debit ON transfers (debit_account, created_ms) WHERE debit_number % 256 = 0;
CREATE INDEX transfers_marks_credit ON transfers (credit_account, created_ms) WHERE credit_number % 256 = 0;
-- A hold ends once: posted, voided or expired.
CREATE UNIQUE INDEX transfers_by_pending ON transfers (pending_id) WHERE pending_id IS NOT NULL;
CREATE INDEX transfers_by_expiry ON transfers (expires_ms) WHERE expires_ms > 0;

-- what happened

-- seq is NULL until the publisher numbers the event and chains its hash: the table is its own outbox.
CREATE TABLE events (
	id TEXT NOT NULL PRIMARY KEY,
	org_id TEXT,
	actor TEXT NOT NULL DEFAULT '',
	subject TEXT NOT NULL DEFAULT '',
	kind TEXT NOT NULL,
	reason TEXT NOT NULL DEFAULT '',
	text TEXT NOT NULL DEFAULT '',
	seq BIGINT,
	at_ms BIGINT NOT NULL,
	-- Counts the events of one process, for the order of those of one millisecond.
	made BIGINT NOT NULL DEFAULT 0,
	prev_hash TEXT,
	hash TEXT
);
CREATE UNIQUE INDEX events_by_seq ON events (seq) WHERE seq IS NOT NULL;
CREATE INDEX events_unnumbered ON events (at_ms, made, id) WHERE seq IS NULL;
CREATE INDEX events_by_org ON events (org_id, seq) WHERE seq IS NOT NULL;

-- The answer to a request that may be sent again.
CREATE TABLE idempotency (
	org_id TEXT NOT NULL REFERENCES orgs (id),
	key TEXT NOT NULL,
	operation TEXT NOT NULL,
	request_hash TEXT NOT NULL,
	status BIGINT NOT NULL,
	response TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	PRIMARY KEY (org_id, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_ms);

CREATE TABLE settings (
	key TEXT NOT NULL PRIMARY KEY,
	value TEXT NOT NULL
);

-- Who does which duty of the control plane: held for a while, renewed, taken over when it has expired.
CREATE TABLE leaders (
	role TEXT NOT NULL PRIMARY KEY,
	holder TEXT NOT NULL,
	epoch BIGINT NOT NULL,
	until_ms BIGINT NOT NULL
);
