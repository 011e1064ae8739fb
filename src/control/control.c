#include "internal.h"

#include "../os/os.h"

#define SECRET_KEY_SIZE 32

/* Made once, readable by us alone. */
static int secret_key_load(struct control *c, const char *path, struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	char hex[2 * SECRET_KEY_SIZE + 2];

	if (file_read(path, 4096, &text, err) == 0) {
		struct slice s = slice_trim((struct slice){ text.buf, text.len });

		text.buf[s.ptr - text.buf + s.len] = '\0';
		if (hex_parse(s.ptr, c->secret_key, SECRET_KEY_SIZE) < 0)
			return err_set(err, ERR_INVALID, "%s is not a key: 64 hexadecimal digits", path);
		return 0;
	}
	if (err->code != ERR_NOT_FOUND)
		return -1;
	err_clear(err);
	c->random.fill(c->random.arg, c->secret_key, SECRET_KEY_SIZE);
	hex_format(c->secret_key, SECRET_KEY_SIZE, hex);
	hex[2 * SECRET_KEY_SIZE] = '\n';
	return file_write_atomic(path, hex, 2 * SECRET_KEY_SIZE + 1, 0600, err);
}

int control_open(const struct control_config *config, const struct clock *clock, const struct random *rnd, struct db *db,
		 struct blob_store *blobs, struct control **ret, struct err *err)
{
	struct control *c = xcalloc(1, sizeof(*c));

	c->config = *config;
	c->clock = *clock;
	c->random = *rnd;
	c->db = db;
	c->blobs = blobs;
	if (secret_key_load(c, config->secret_key_file, err) < 0) {
		free(c);
		return err_wrap(err, "[store] secret_key_file");
	}
	pthread_mutex_init(&c->admit_lock, NULL);
	c->hub = hub_new();
	c->sessions = sessions_new();
	c->heartbeats = heartbeats_new();
	c->keys = keys_new();
	c->scheduler = scheduler_new();
	c->actives = actives_new();
	c->submissions = submissions_new();
	c->logins = logins_new();
	c->metrics = metrics_new();
	c->started_ms = control_now(c);
	id_make("pr", c->started_ms, rnd, c->instance);
	*ret = c;
	return 0;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	scheduler_free(c->scheduler);
	actives_free(c->actives);
	submissions_free(c->submissions);
	logins_free(c->logins);
	sessions_free(c->sessions);
	keys_free(c->keys);
	heartbeats_free(c->heartbeats);
	metrics_free(c->metrics);
	hub_free(c->hub);
	pthread_mutex_destroy(&c->admit_lock);
	free(c);
}

bool duty_passes_over(struct control *c, const char *duty, const char *id, struct err *err)
{
	if (err->code == ERR_UNAVAILABLE)
		return false;
	metrics_count(c, NULL, "duty_passed_over_total", 1);
	log_err(LOG_ERROR, err, "passed over, and tried again in the next round", "duty", duty, "id", id, NULL);
	err_clear(err);
	return true;
}

const struct duty duties[] = {
	{ "scheduler", 10, scheduler_round },
	{ "faults", 100, faults_round },
	{ "metering", 100, metering_round },
	{ "publisher", 100, publisher_round },
	{ "retention", 0, retention_round },
};
const size_t duty_count = ARRAY_LEN(duties);
