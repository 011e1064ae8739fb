/* tesd.conf: every key, its default, its limits and its meaning. */
#include "internal.h"

#include "../os/os.h"

#include <arpa/inet.h>

static const char *const log_formats[] = { "plain", "json", NULL };
static const char *const log_levels[] = { "debug", "info", "warn", "error", NULL };

#define KEY(sec, name, knd, member, df, lo, hi, text) \
	{ .section = sec, .key = name, .kind = knd, .offset = offsetof(struct control_config, member), .def = df, .min = lo, .max = hi, .doc = text }

static const struct config_key keys[] = {
	KEY("server", "listen_address", CONFIG_TEXT, listen_address, "127.0.0.1", 0, 0,
	    "Address to listen on; \"::\" for all. Behind nginx leave it as it is."),
	KEY("server", "listen_port", CONFIG_INT, listen_port, "7370", 0, 65535, "Port to listen on; 0 takes any free one."),
	KEY("server", "public_url", CONFIG_TEXT, public_url, "http://127.0.0.1:7370", 0, 0,
	    "Where customers and workers reach this server."),
	KEY("server", "tls_cert", CONFIG_TEXT, tls_cert, "", 0, 0, "Certificate chain in PEM; with tls_key, tesd speaks TLS itself."),
	KEY("server", "tls_key", CONFIG_TEXT, tls_key, "", 0, 0, "Private key of tls_cert in PEM."),
	KEY("server", "threads", CONFIG_INT, threads, "8", 1, 256, "Threads that run operations, each with its connection to the store."),
	KEY("server", "queue_max", CONFIG_INT, queue_max, "1024", 1, 1000000, "Requests that may wait for a thread; more are answered 503."),
	KEY("server", "connections_max", CONFIG_INT, connections_max, "16000", 8, 1000000, "Open connections, workers' streams included."),
	KEY("server", "connections_per_address_max", CONFIG_INT, connections_per_address_max, "0", 0, 1000000,
	    "Of one address; 0: no limit of its own (behind nginx all come from one)."),
	KEY("server", "trust_forwarded", CONFIG_BOOL, trust_forwarded, "no", 0, 0,
	    "Take a caller's address from X-Forwarded-For: only behind a proxy that sets it."),
	KEY("server", "production", CONFIG_BOOL, production, "no", 0, 0, "Refuse simulated hardware. Set it before strangers come."),
	KEY("server", "metrics_token", CONFIG_TEXT, metrics_token, "", 0, 0,
	    "Bearer token for /metrics; empty: /metrics answers this machine only."),
	KEY("store", "database", CONFIG_TEXT, database, "sqlite:/var/lib/tesd/tes.db", 0, 0,
	    "\"sqlite:PATH\", or a PostgreSQL URI (\"postgres://user@host/tes\")."),
	KEY("store", "blobs", CONFIG_TEXT, blobs, "file:/var/lib/tesd/blobs", 0, 0, "Where logs, inputs and results are kept: \"file:DIRECTORY\"."),
	KEY("store", "secret_key_file", CONFIG_TEXT, secret_key_file, "/var/lib/tesd/secret.key", 0, 0,
	    "Key that seals workloads' secrets in the store; made at the first start. Back it up apart from the store."),
	{ .section = "log", .key = "format", .kind = CONFIG_ENUM, .offset = offsetof(struct control_config, log_format), .def = "plain",
	  .names = log_formats, .doc = "plain for people, json for machines." },
	{ .section = "log", .key = "level", .kind = CONFIG_ENUM, .offset = offsetof(struct control_config, log_level), .def = "info",
	  .names = log_levels, .doc = "The least that is logged." },
	KEY("network", "fee", CONFIG_PPM, fee_ppm, "3%", 0, 1000000, "The network's part of every charge; the rest is the provider's."),
	KEY("network", "quote_ttl", CONFIG_DURATION, quote_ttl_ms, "5m", SECOND_MS, DAY_MS, "How long a quote stands."),
	KEY("network", "reservation_ttl", CONFIG_DURATION, reservation_ttl_ms, "30s", SECOND_MS, HOUR_MS,
	    "How long a worker has to take a lease before it goes to another."),
	KEY("network", "hold", CONFIG_DURATION, hold_ms, "10m", 10 * SECOND_MS, DAY_MS,
	    "For how much running ahead the customer's money is held."),
	KEY("network", "settle_interval", CONFIG_DURATION, settle_interval_ms, "1m", SECOND_MS, HOUR_MS, "How often a running lease is settled."),
	KEY("network", "pause_keep", CONFIG_DURATION, pause_keep_ms, "3d", SECOND_MS, 365 * DAY_MS,
	    "How long a lease out of funds stays paused, with its data, before it is destroyed."),
	KEY("network", "funds_warn", CONFIG_DURATION, funds_warn_ms, "30m", 0, 30 * DAY_MS, "Warn when the money lasts for less than this."),
	KEY("network", "heartbeat", CONFIG_DURATION, heartbeat_ms, "5s", 200, 5 * MINUTE_MS, "How often a worker reports."),
	KEY("network", "silent_after", CONFIG_DURATION, silent_after_ms, "20s", 500, HOUR_MS,
	    "A worker not heard for so long is unreachable; its leases go on."),
	KEY("network", "grace", CONFIG_DURATION, grace_ms, "5m", SECOND_MS, DAY_MS,
	    "How long a silence is borne: then the worker stops the lease by itself and the server gives it up."),
	KEY("limits", "logs_max", CONFIG_SIZE, logs_max_bytes, "64MiB", 4096, INT64_C(1) << 40, "Output kept of one lease; it says when it cuts."),
	KEY("limits", "results_max", CONFIG_SIZE, results_max_bytes, "10GiB", 4096, INT64_C(1) << 44, "Result files of one lease, together."),
	KEY("limits", "inputs_max", CONFIG_SIZE, inputs_max_bytes, "10GiB", 4096, INT64_C(1) << 44, "One input."),
	KEY("limits", "logs_keep", CONFIG_DURATION, logs_keep_ms, "30d", MINUTE_MS, 3650 * DAY_MS, "How long logs are kept after the end."),
	KEY("limits", "results_keep", CONFIG_DURATION, results_keep_ms, "30d", MINUTE_MS, 3650 * DAY_MS, "How long results are kept."),
	KEY("limits", "inputs_keep", CONFIG_DURATION, inputs_keep_ms, "7d", MINUTE_MS, 3650 * DAY_MS, "How long inputs are kept."),
	KEY("limits", "workloads_active_max", CONFIG_INT, workloads_active_max, "10000", 1, 10000000,
	    "Workloads of one organisation that have not ended."),
};
static bool is_address(const char *text)
{
	unsigned char any[16];

	return inet_pton(AF_INET, text, any) == 1 || inet_pton(AF_INET6, text, any) == 1;
}

static bool is_url(const char *text)
{
	const char *host = str_starts(text, "http://") ? text + 7 : str_starts(text, "https://") ? text + 8 : "";

	return *host && *host != '/' && !text[strcspn(text, " \t\"\\?#")];
}

/* What can be told before anything starts; the library looks at the rest. */
static int pem_check(const char *key, const char *path, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err why = { 0 };

	if (file_read(path, 1 << 20, &text, &why) < 0)
		return err_set_field(err, key, "%s", why.text);
	return strstr(text.buf, "-----BEGIN ") ? 0 : err_set_field(err, key, "%.100s holds no PEM: it begins with -----BEGIN", path);
}

/* One that is not there yet is made at the first start. */
static int secret_key_check(const char *path, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err why = { 0 };
	unsigned char key[sizeof(((struct control *)NULL)->secret_key)];
	struct slice s;

	if (file_read(path, 4096, &text, &why) < 0)
		return why.code == ERR_NOT_FOUND ? 0 : err_set_field(err, "store.secret_key_file", "%s", why.text);
	s = slice_trim((struct slice){ text.buf, text.len });
	text.buf[s.ptr - text.buf + s.len] = '\0';
	if (hex_parse(s.ptr, key, sizeof(key)) < 0)
		return err_set_field(err, "store.secret_key_file", "%.100s is not a key: 64 hexadecimal digits", path);
	explicit_bzero(key, sizeof(key));
	return 0;
}

static int server_check(const struct control_config *c, struct err *err)
{
	if (!is_address(c->listen_address))
		return err_set_field(err, "server.listen_address", "\"%.60s\" is not an IP address: write it like 127.0.0.1 or ::",
				     c->listen_address);
	if (!is_url(c->public_url))
		return err_set_field(err, "server.public_url", "\"%.60s\" is not a URL: write it like https://tes.example.org",
				     c->public_url);
	if (str_empty(c->tls_cert) != str_empty(c->tls_key))
		return err_set_field(err, str_empty(c->tls_key) ? "server.tls_cert" : "server.tls_key",
				     "tls_cert and tls_key go together: give both or neither");
	if (!str_empty(c->tls_cert) && (pem_check("server.tls_cert", c->tls_cert, err) < 0 ||
					pem_check("server.tls_key", c->tls_key, err) < 0))
		return -1;
	return 0;
}

/* What no key alone can say. */
static int config_check(const void *filled, struct err *err)
{
	const struct control_config *c = filled;

	if (server_check(c, err) < 0)
		return -1;
	if (c->silent_after_ms < 2 * c->heartbeat_ms)
		return err_set_field(err, "network.silent_after", "is %" PRId64 " ms, less than two heartbeats of %" PRId64
				     " ms: one lost message would make a worker unreachable", c->silent_after_ms, c->heartbeat_ms);
	if (c->grace_ms < c->silent_after_ms)
		return err_set_field(err, "network.grace", "is %" PRId64 " ms, less than silent_after (%" PRId64 " ms)", c->grace_ms,
				     c->silent_after_ms);
	if (c->settle_interval_ms * 2 > c->hold_ms)
		return err_set_field(err, "network.settle_interval", "is more than half of hold: a hold would run out between settlements");
	if (!str_starts(c->database, "sqlite:") && !str_starts(c->database, "postgres://") && !str_starts(c->database, "postgresql://"))
		return err_set_field(err, "store.database", "\"%.60s\" is neither sqlite:PATH nor postgres://…", c->database);
	if (!str_starts(c->blobs, "file:"))
		return err_set_field(err, "store.blobs", "\"%.60s\" is not file:DIRECTORY", c->blobs);
	if (secret_key_check(c->secret_key_file, err) < 0)
		return -1;
	if (c->production && str_starts(c->public_url, "http://") && !str_starts(c->public_url, "http://127."))
		return err_set_field(err, "server.public_url", "is not https, and production is set: keys would cross the network in the clear");
	return 0;
}

static const struct config_table table = { keys, ARRAY_LEN(keys), sizeof(struct control_config), config_check };

int control_config_load(const char *path, struct arena *arena, struct control_config *ret, struct err *err)
{
	return config_load(&table, path, arena, ret, err);
}

void control_config_print(struct strbuf *out)
{
	config_print(&table, "tesd.conf: every key with its default. Each can also be given as TES_<SECTION>_<KEY>.", out);
}
