/* The short commands: what this machine is, joining, and its owner's wishes. */
#include "internal.h"

#include "hw/hw.h"

#include <ctype.h>
#include <unistd.h>

static int failed(const struct err *err, bool json)
{
	if (json) {
		cleanup_strbuf struct strbuf out = STRBUF_INIT;

		api_problem(err, NULL, &out);
		puts(out.buf);
	}
	fprintf(stderr, "tes-worker: %s\n", err->text);
	return 1;
}

/* ---- hwdetect ---- */

static void problems_print(const struct text_list *problems, FILE *to)
{
	for (size_t i = 0; i < problems->len; i++)
		fprintf(to, "note: %s\n", problems->items[i]);
}

static void row_print(const char *name, const char *value)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	if (str_empty(value))
		return;
	strbuf_add_escaped(&text, value, strlen(value));
	printf("%-14s %s\n", name, text.buf);
}

static void size_row(const char *name, int64_t mib, int64_t offered_mib)
{
	char has[24], offers[24];

	size_format(mib << 20, has);
	size_format(offered_mib << 20, offers);
	printf("%-14s %s, offered %s\n", name, has, offers);
}

static void inventory_print(const struct inventory *inv)
{
	char price[32], until[32];

	row_print("hostname", inv->hostname);
	row_print("system", inv->os);
	row_print("kernel", inv->kernel);
	row_print("engine", inv->engine);
	printf("%-14s %s, %" PRId64 " threads, offered %.3g\n", "cpu",
	       inv->cpu_model ? inv->cpu_model : "", inv->cpu_threads,
	       (double)inv->offered_cpu_milli / 1000);
	size_row("memory", inv->memory_mib, inv->offered_memory_mib);
	size_row("disk", inv->disk_mib, inv->offered_disk_mib);
	row_print("gpu driver", inv->gpu_driver);
	for (size_t i = 0; i < inv->devices.len; i++) {
		const struct device *d = &inv->devices.items[i];

		printf("%-14s %s, %" PRId64 " MiB, %s%s\n", "gpu", d->model, d->vram_mib,
		       d->uuid, d->simulated ? ", simulated" : "");
	}
	if (!inv->devices.len)
		row_print("gpu", "none on offer");
	if (inv->net_down_kbps)
		printf("%-14s %" PRId64 " Mbit/s\n", "network", inv->net_down_kbps / 1000);
	money_format(inv->price_gpu_uusd_h, price);
	printf("%-14s $%s", "price an hour", price);
	money_format(inv->price_cpu_uusd_h, price);
	printf(" a GPU, $%s a hardware thread", price);
	money_format(inv->price_gib_uusd_h, price);
	printf(", $%s a GiB of memory\n", price);
	time_format(inv->available_until_ms, until);
	printf("%-14s %s%s%s\n", "available", inv->available ? "yes" : "not now",
	       inv->available_until_ms ? ", until " : "", inv->available_until_ms ? until : "");
}

/* The engine only adds its name here: its absence is no failure. */
static bool engine_look(const struct worker_config *c, struct runtime_info *ret)
{
	struct runtime *rt;
	struct err ignored = { 0 };
	bool there;

	if (engine_open(c->engine_socket, NULL, &rt, &ignored) < 0)
		return false;
	there = runtime_info(rt, ret, &ignored) == 0;
	runtime_close(rt);
	return there;
}

int command_hwdetect(const struct command_args *args)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct runtime_info engine;
	struct inventory inv;
	struct text_list problems;
	struct err err = { 0 };
	bool there = engine_look(args->config, &engine);

	if (inventory_make(args->config, there ? &engine : NULL, NULL, now_ms_get(), NULL, &a,
			   &inv, &problems, &err) < 0)
		return failed(&err, args->json);
	if (args->json) {
		schema_write(&inventory_type, &inv, &out);
		puts(out.buf);
	} else {
		inventory_print(&inv);
	}
	problems_print(&problems, stderr);
	return 0;
}

/* ---- join ---- */

static int url_check(const char *url, char ret[static 512], struct err *err)
{
	const char *host = str_starts(url, "https://")	? url + 8
			   : str_starts(url, "http://") ? url + 7
							: NULL;
	size_t len = strlen(url);

	if (len && url[len - 1] == '/')
		len--;
	if (!host || !*host || memchr(host, '/', (size_t)(url + len - host)) ||
	    strpbrk(host, "?#@ "))
		return err_set(
			err, ERR_INVALID,
			"'%.100s' is not the address of a server: write https://host or https://host:port",
			url);
	if (len >= 512)
		return err_set(err, ERR_INVALID, "the address has %zu characters, at most 511",
			       len);
	snprintf(ret, 512, "%.*s", (int)len, url);
	return 0;
}

static int join(const struct command_args *args, struct identity *id, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	const struct worker_config *c = args->config;
	struct worker_joined out = { 0 };
	struct inventory inv;
	struct text_list problems;
	struct runtime_info engine;
	char hex[2 * SIGN_PUBLIC_SIZE + 1];
	bool there = engine_look(c, &engine);
	struct worker_join in = { .token = args->token, .public_key = hex, .inventory = &inv };

	if (identity_load(c->state_dir, id, err) == 0)
		return err_set(
			err, ERR_CONFLICT,
			"this machine is already worker %s of %s: tes-worker leave, or use another state_dir",
			id->worker_id, id->server);
	if (err->code != ERR_NOT_FOUND)
		return -1;
	err_clear(err);
	if (url_check(args->url, id->server, err) < 0 ||
	    dir_make(c->state_dir, 0700, err) < 0 || identity_key(c->state_dir, id, err) < 0 ||
	    inventory_make(c, there ? &engine : NULL, NULL, now_ms_get(), NULL, &a, &inv,
			   &problems, err) < 0)
		return -1;
	hex_format(id->pk, sizeof(id->pk), hex);
	in.name = str_empty(c->name) ? inv.hostname : c->name;
	if (link_join(id->server, c->ca_file, &in, &a, &out, err) < 0)
		return err_wrap(err, "joining %s", id->server);
	if (!out.worker_id ||
	    str_copy(id->worker_id, sizeof(id->worker_id), out.worker_id) < 0 ||
	    str_copy(id->org_id, sizeof(id->org_id), out.org_id ? out.org_id : "") < 0)
		return err_set(err, ERR_UNAVAILABLE,
			       "joining %s: the server's answer names no worker", id->server);
	snprintf(id->name, sizeof(id->name), "%.71s", in.name ? in.name : "");
	return identity_save(c->state_dir, id, err);
}

int command_join(const struct command_args *args)
{
	struct identity id = { 0 };
	struct err err = { 0 };

	if (join(args, &id, &err) < 0)
		return failed(&err, args->json);
	if (args->json)
		printf("{\"worker_id\":\"%s\",\"org_id\":\"%s\",\"server\":\"%s\"}\n",
		       id.worker_id, id.org_id, id.server);
	else
		printf("This machine is worker %s of %s.  Next: tes-worker check, then tes-worker run.\n",
		       id.worker_id, id.server);
	explicit_bzero(&id, sizeof(id));
	return 0;
}

/* ---- the owner's wishes ---- */

static int intent_send(const struct command_args *args, const struct intent_request *in,
		       struct identity *id, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct link_call call = { .op = OP_worker_intent, .in = in };
	struct link *link;
	int rc;

	if (identity_load(args->config->state_dir, id, err) < 0)
		return -1;
	/* As the process that runs, if one does: this is no second worker. */
	state_boot_read(args->config->state_dir, id->boot_id);
	link = link_new(id, args->config->ca_file);
	rc = link_do(link, &call, &a, NULL, err);
	link_free(link);
	return rc;
}

static int intent_command(const struct command_args *args, int intent, const char *told)
{
	struct intent_request in = { .intent = intent };
	struct identity id = { 0 };
	struct err err = { 0 };

	if (intent_send(args, &in, &id, &err) < 0)
		return failed(&err, args->json);
	id.intent = intent;
	if (identity_save(args->config->state_dir, &id, &err) < 0)
		return failed(&err, args->json);
	if (args->json)
		printf("{\"worker_id\":\"%s\",\"intent\":\"%s\"}\n", id.worker_id,
		       worker_intent_names[intent]);
	else
		printf("%s: %s\n", id.worker_id, told);
	explicit_bzero(&id, sizeof(id));
	return 0;
}

int command_drain(const struct command_args *args)
{
	return intent_command(args, INTENT_DRAINING,
			      "takes no new leases, and hands back those that it has");
}

int command_pause(const struct command_args *args)
{
	return intent_command(args, INTENT_PAUSED,
			      "takes no new leases; those that it has go on");
}

int command_resume(const struct command_args *args)
{
	return intent_command(args, INTENT_OPEN, "takes leases");
}

int command_leave(const struct command_args *args)
{
	struct intent_request in = { .intent = INTENT_DRAINING, .leave = true };
	struct identity id = { 0 };
	struct err err = { 0 };

	if (intent_send(args, &in, &id, &err) < 0 && err.code != ERR_GONE)
		return failed(&err, args->json);
	err_clear(&err);
	if (identity_forget(args->config->state_dir, &err) < 0)
		return failed(&err, args->json);
	if (args->json)
		printf("{\"worker_id\":\"%s\",\"left\":true}\n", id.worker_id);
	else
		printf("%s has left %s; its key is removed.\n", id.worker_id, id.server);
	explicit_bzero(&id, sizeof(id));
	return 0;
}
