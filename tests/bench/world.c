#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define BATCH 500
#define MODELS 10
#define CREDIT_UUSD (INT64_C(1000000) * 1000 * 1000)

static const struct {
	const char *model;
	int64_t vram_mib;
} models[MODELS] = {
	{ "NVIDIA GeForce RTX 3090", 24576 }, { "NVIDIA GeForce RTX 4090", 24576 }, { "NVIDIA GeForce RTX 5090", 32768 },
	{ "NVIDIA RTX A6000", 49152 },	      { "NVIDIA L40S", 49152 },		    { "NVIDIA A100-SXM4-40GB", 40960 },
	{ "NVIDIA A100-SXM4-80GB", 81920 },   { "NVIDIA H100 80GB HBM3", 81920 },   { "NVIDIA H200", 144384 },
	{ "Tesla T4", 16384 },
};
static const char *const regions[] = { "eu-de", "eu-fi", "us-east", "ap-sg" };

double world_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double world_cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void world_want(int64_t n, struct resources *ret, const char **ret_region)
{
	size_t kind = (size_t)n % WORLD_KINDS;

	*ret = (struct resources){ .cpu_milli = 2000, .memory_mib = 8192, .disk_mib = 10240, .gpus = 1 + n % 7 / 6 };
	*ret_region = regions[n % 2 ? kind / MODELS : (size_t)n / 2 % ARRAY_LEN(regions)];
	if (n % 2)
		ret->gpu_model = models[kind % MODELS].model;
	else
		ret->vram_mib = models[kind % MODELS].vram_mib;
}

/* ---- machines ---------------------------------------------------------------------------------------- */

struct making {
	struct control *c;
	const struct world_spec *spec;
	struct world *world;
	FILE *keys;
	int64_t from, to; /* of this transaction */
};

/* Which of its worker's leases lease n is, from 1; 0 for none. */
static int64_t lease_number(const struct making *m, int64_t n)
{
	return n < 0 ? 0 : n / m->spec->workers + 1;
}

static void inventory_fill(int64_t n, struct arena *a, struct inventory *ret)
{
	size_t kind = (size_t)n % WORLD_KINDS;
	struct device *devices = arena_array(a, struct device, WORLD_GPUS);

	for (int64_t i = 0; i < WORLD_GPUS; i++)
		devices[i] = (struct device){
			.index = i,
			.uuid = arena_printf(a, "GPU-bench-%" PRId64 "-%" PRId64, n, i),
			.model = models[kind % MODELS].model,
			.vram_mib = models[kind % MODELS].vram_mib,
			.pci_bus = arena_printf(a, "0000:%02" PRIx64 ":00.0", i + 1),
			.simulated = true,
		};
	*ret = (struct inventory){
		.hostname = arena_printf(a, "bench-%" PRId64, n), .os = "Debian GNU/Linux 12", .kernel = "6.1.0",
		.arch = "x86_64", .cpu_model = "Simulated CPU", .engine = "simulated", .engine_version = "1",
		.version = TES_VERSION, .cpu_threads = 64, .memory_mib = 1 << 19, .disk_mib = 1 << 22,
		.gpu_driver = "550.54", .cuda_version = "12.4", .devices = { devices, WORLD_GPUS },
		.offered_cpu_milli = 64000, .offered_memory_mib = 1 << 19, .offered_disk_mib = 1 << 22,
		.price_gpu_uusd_h = 200000 + (int64_t)kind * 25000, .price_cpu_uusd_h = 5000, .price_gib_uusd_h = 1000,
		.region = regions[kind / MODELS], .available = true, .simulated = true,
	};
}

static int worker_make(struct making *m, struct db_conn *conn, int64_t n, struct arena *a, struct err *err)
{
	uint8_t pk[SIGN_PUBLIC_SIZE], *sk = m->world->keys[n];
	char public_hex[2 * SIGN_PUBLIC_SIZE + 1], secret_hex[2 * SIGN_SECRET_SIZE + 1];
	struct inventory inv;
	int64_t now = control_now(m->c);
	struct worker w = {
		.id = new_id(m->c, "wk", a), .org_id = m->world->provider, .name = arena_printf(a, "bench-%" PRId64, n),
		.public_key = public_hex, .state = WORKER_ONLINE, .intent = INTENT_OPEN, .joined_ms = now, .seen_ms = now,
		.boot_id = "bench", .desired_rev = lease_number(m, m->spec->leases - 1 - n), .uptime_ppm = 1000000, .reliability_ppm = reliability(1000000, n % 50, 0),
		.leases_ok = n % 50, .updated_ms = now,
	};

	sign_keypair(pk, sk);
	hex_format(pk, sizeof(pk), public_hex);
	hex_format(sk, SIGN_SECRET_SIZE, secret_hex);
	inventory_fill(n, a, &inv);
	if (worker_inventory_take(m->c, &w, &inv, err) < 0 || db_insert(conn, &worker_type, "workers", &w, err) < 0 ||
	    worker_devices_store(conn, w.id, &inv, err) < 0)
		return -1;
	snprintf(m->world->workers[n], ID_SIZE, "%s", w.id);
	if (m->keys)
		fprintf(m->keys, "%s %s\n", w.id, secret_hex);
	return 0;
}

static int workers_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct making *m = arg;
	cleanup_arena struct arena arena = { 0 };

	for (int64_t n = m->from; n < m->to; n++)
		if (worker_make(m, conn, n, &arena, err) < 0)
			return -1;
	return 0;
}

/* ---- leases ------------------------------------------------------------------------------------------ */

static void lease_fill(struct making *m, int64_t n, struct arena *a, struct workload *w, struct replica *r, struct lease *l)
{
	int64_t now = control_now(m->c);
	struct workload_spec *spec = arena_new(a, struct workload_spec);
	struct resources *want = arena_new(a, struct resources);
	const char *worker = m->world->workers[n % m->world->worker_count];

	*want = (struct resources){ .cpu_milli = 1000, .memory_mib = 1024, .disk_mib = 1024 };
	schema_defaults(&workload_spec_type, spec);
	spec->image = "docker.io/library/debian:12";
	spec->resources = want;
	*w = (struct workload){
		.id = new_id(m->c, "wl", a), .org_id = m->world->customer, .name = "bench", .state = WORKLOAD_RUNNING,
		.reason = "ready", .reason_text = "runs", .spec = spec, .max_price_uusd_h = 10000, .attempts = 1,
		.exit_code = -1, .created_ms = now, .started_ms = now, .worker_id = worker, .updated_ms = now,
	};
	*r = (struct replica){ .id = new_id(m->c, "rp", a), .org_id = w->org_id, .workload_id = w->id,
			       .state = REPLICA_LEASED, .generation = 1, .created_ms = now, .updated_ms = now };
	*l = (struct lease){
		.id = new_id(m->c, "le", a), .org_id = w->org_id, .provider_org_id = m->world->provider,
		.workload_id = w->id, .replica_id = r->id, .worker_id = worker, .generation = 1, .state = LEASE_RUNNING,
		.desired = DESIRE_RUN, .reason = REASON_READY, .resources = want, .image = spec->image,
		.rate_uusd_h = 6000, .fee_ppm = 30000, .reserved_ms = now, .accepted_ms = now, .running_ms = now,
		.grace_ms = m->c->config.grace_ms, .exit_code = -1, .observed_at_ms = now, .settled_at_ms = now,
		.funded_ms = HOUR_MS, .desired_rev = lease_number(m, n), .updated_ms = now,
	};
	w->lease_id = r->lease_id = l->id;
	snprintf(m->world->leases[n], ID_SIZE, "%s", l->id);
}

static int leases_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct making *m = arg;
	cleanup_arena struct arena arena = { 0 };
	size_t len = (size_t)(m->to - m->from);
	struct workload *workloads = arena_array(&arena, struct workload, len);
	struct replica *replicas = arena_array(&arena, struct replica, len);
	struct lease *leases = arena_array(&arena, struct lease, len);

	for (size_t i = 0; i < len; i++)
		lease_fill(m, m->from + (int64_t)i, &arena, &workloads[i], &replicas[i], &leases[i]);
	if (db_insert_many(conn, &workload_type, "workloads", workloads, len, err) < 0 ||
	    db_insert_many(conn, &replica_type, "replicas", replicas, len, err) < 0)
		return -1;
	return db_insert_many(conn, &lease_type, "leases", leases, len, err);
}

/* ---- organisations --------------------------------------------------------------------------------------- */

static int orgs_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct making *m = arg;
	cleanup_arena struct arena arena = { 0 };
	int64_t now = control_now(m->c);
	struct org orgs[] = { { new_id(m->c, "or", &arena), "customer", now, 0 },
			      { new_id(m->c, "or", &arena), "provider", now, 0 } };
	struct api_key key = { 0 };
	char id[ID_SIZE];

	auth_key_make(m->c, &arena, &key);
	key.org_id = orgs[0].id;
	key.name = "bench";
	key.role = ROLE_OWNER;
	scopes_all(&arena, &key.scopes);
	ledger_id("bench-deposit", orgs[0].id, 0, id);
	snprintf(m->world->customer, ID_SIZE, "%s", orgs[0].id);
	snprintf(m->world->provider, ID_SIZE, "%s", orgs[1].id);
	snprintf(m->world->secret, sizeof(m->world->secret), "%s", key.secret);
	return db_insert(conn, &org_type, "orgs", &orgs[0], err) < 0 || db_insert(conn, &org_type, "orgs", &orgs[1], err) < 0 ||
			       db_insert(conn, &api_key_type, "api_keys", &key, err) < 0 ||
			       ledger_deposit(conn, orgs[0].id, id, CREDIT_UUSD, "bench", now, err) < 0 ?
		       -1 :
		       0;
}

static int in_batches(struct making *m, struct db_conn *conn, db_tx_fn *fn, int64_t count, struct err *err)
{
	for (int64_t n = 0; n < count; n += BATCH) {
		m->from = n;
		m->to = MIN(n + BATCH, count);
		if (db_tx(conn, fn, m, err) < 0)
			return -1;
	}
	return 0;
}

int world_make(struct control *c, const struct world_spec *spec, struct world *ret, struct err *err)
{
	struct making m = { .c = c, .spec = spec, .world = ret };
	struct db_conn *conn;
	int rc;

	*ret = (struct world){
		.worker_count = spec->workers,
		.workers = xcalloc((size_t)MAX(spec->workers, 1), ID_SIZE),
		.keys = xcalloc((size_t)MAX(spec->workers, 1), SIGN_SECRET_SIZE),
		.leases = xcalloc((size_t)MAX(spec->leases, 1), ID_SIZE),
	};
	if (db_conn_open(c->db, &conn, err) < 0)
		return -1;
	if (spec->keys_path && !(m.keys = fopen(spec->keys_path, "we"))) {
		db_conn_close(conn);
		return err_sys(err, errno, "%s", spec->keys_path);
	}
	rc = db_tx(conn, orgs_tx, &m, err) < 0 || in_batches(&m, conn, workers_tx, spec->workers, err) < 0 ||
			     in_batches(&m, conn, leases_tx, spec->leases, err) < 0 ?
		     -1 :
		     0;
	if (m.keys)
		fclose(m.keys);
	db_conn_close(conn);
	return rc;
}

void world_release(struct world *w)
{
	free(w->workers);
	free(w->keys);
	free(w->leases);
}

/* ---- the control code over a store ------------------------------------------------------------------------- */

int world_control_open(const char *database, const char *dir, const struct clock *clock, struct world_control *ret,
		       struct err *err)
{
	struct world_control *w = ret;
	int applied;

	*w = (struct world_control){ 0 };
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_sys(err, errno, "%s", dir);
	if (control_config_load(NULL, &w->arena, &w->config, err) < 0)
		return -1;
	w->config.database = database;
	w->config.blobs = arena_printf(&w->arena, "file:%s/blobs", dir);
	w->config.secret_key_file = arena_printf(&w->arena, "%s/secret.key", dir);
	w->config.workloads_active_max = INT64_MAX;
	if (db_open(database, &w->db, err) < 0 || db_migrate(w->db, clock_now(clock), &applied, err) < 0 ||
	    blob_open(w->config.blobs, &w->blobs, err) < 0 ||
	    control_open(&w->config, clock, &random_system, w->db, w->blobs, &w->c, err) < 0) {
		world_control_close(w);
		return -1;
	}
	return 0;
}

void world_control_close(struct world_control *w)
{
	control_close(w->c);
	if (w->blobs)
		blob_close(w->blobs);
	db_close(w->db);
	arena_release(&w->arena);
}
