/* The state directory: who this worker is. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct identity_file {
	const char *worker_id, *org_id, *server, *name;
	int intent;
};
/* clang-format off */
static const struct field identity_file_fields[] = {
	FIELD_ID(struct identity_file, worker_id, "wk", FIELD_REQUIRED, "This worker."),
	FIELD_ID(struct identity_file, org_id, "or", 0, "The provider that it belongs to."),
	FIELD_TEXT(struct identity_file, server, 1, 511, FIELD_REQUIRED | FIELD_LINE, "Its server."),
	FIELD_TEXT(struct identity_file, name, 0, 71, FIELD_LINE, "Its name, for people."),
	FIELD_ENUM(struct identity_file, intent, worker_intent_names, INTENT_OPEN, 0, "What its owner wishes."),
};
/* clang-format on */
static TYPE(identity_file, identity_file, "Who a worker is.");

static int file_load(const char *state_dir, struct arena *a, struct identity_file *ret,
		     struct err *err)
{
	cleanup_free char *path = path_join(state_dir, "worker.json");
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	if (file_read(path, 64 << 10, &text, err) < 0) {
		if (err->code == ERR_NOT_FOUND) {
			err_clear(err);
			return err_set(
				err, ERR_NOT_FOUND,
				"this machine has not joined a network: tes-worker join URL --token T");
		}
		return -1;
	}
	if (schema_parse(&identity_file_type, (struct slice){ text.buf, text.len }, FROM_SERVER,
			 a, ret, err) < 0)
		return err_wrap(err, "%s", path);
	return 0;
}

int identity_intent(const char *state_dir, int *ret, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct identity_file f;

	if (file_load(state_dir, &a, &f, err) < 0)
		return -1;
	*ret = f.intent;
	return 0;
}

int identity_load(const char *state_dir, struct identity *ret, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct identity id = { 0 };
	struct identity_file f;

	if (file_load(state_dir, &a, &f, err) < 0)
		return -1;
	if (!f.worker_id || !f.server ||
	    str_copy(id.worker_id, sizeof(id.worker_id), f.worker_id) < 0 ||
	    str_copy(id.org_id, sizeof(id.org_id), f.org_id ? f.org_id : "") < 0 ||
	    str_copy(id.server, sizeof(id.server), f.server) < 0 ||
	    str_copy(id.name, sizeof(id.name), f.name ? f.name : "") < 0)
		return err_set(err, ERR_INVALID,
			       "%s/worker.json does not say who this worker is: join again",
			       state_dir);
	id.intent = f.intent;
	if (identity_key(state_dir, &id, err) < 0)
		return -1;
	*ret = id;
	return 0;
}

int identity_save(const char *state_dir, const struct identity *id, struct err *err)
{
	cleanup_free char *path = path_join(state_dir, "worker.json");
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct identity_file f = {
		.worker_id = id->worker_id,
		.org_id = id->org_id[0] ? id->org_id : NULL,
		.server = id->server,
		.name = id->name,
		.intent = id->intent,
	};

	schema_write(&identity_file_type, &f, &text);
	strbuf_addc(&text, '\n');
	return file_write_atomic(path, text.buf, text.len, 0600, err);
}

int identity_forget(const char *state_dir, struct err *err)
{
	static const char *const names[] = { "worker.json", "key", "heard", "boot" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		cleanup_free char *path = path_join(state_dir, names[i]);

		if (unlink(path) < 0 && errno != ENOENT)
			return err_sys(err, errno, "cannot remove %s", path);
	}
	return 0;
}

static int key_make(const char *path, struct identity *ret, struct err *err)
{
	char hex[2 * SIGN_SECRET_SIZE + 2];
	int rc;

	sign_keypair(ret->pk, ret->sk);
	hex_format(ret->sk, SIGN_SECRET_SIZE, hex);
	hex[2 * SIGN_SECRET_SIZE] = '\n';
	rc = file_write_atomic(path, hex, 2 * SIGN_SECRET_SIZE + 1, 0600, err);
	explicit_bzero(hex, sizeof(hex));
	return rc;
}

int identity_key(const char *state_dir, struct identity *ret, struct err *err)
{
	cleanup_free char *path = path_join(state_dir, "key");
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err e = { 0 };
	int rc;

	if (file_read(path, 4096, &text, &e) < 0) {
		if (e.code == ERR_NOT_FOUND)
			return key_make(path, ret, err);
		*err = e;
		return -1;
	}
	if (text.len && text.buf[text.len - 1] == '\n')
		text.buf[--text.len] = '\0';
	rc = hex_parse(text.buf, ret->sk, SIGN_SECRET_SIZE);
	explicit_bzero(text.buf, text.len);
	if (rc < 0)
		return err_set(
			err, ERR_INVALID,
			"%s is not a key of tes-worker: restore it, or remove it and join again",
			path);
	/* An ed25519 secret key ends with the public one (RFC 8032, as libsodium keeps it). */
	memcpy(ret->pk, ret->sk + SIGN_SECRET_SIZE - SIGN_PUBLIC_SIZE, SIGN_PUBLIC_SIZE);
	return identity_check(state_dir, err);
}

int identity_check(const char *state_dir, struct err *err)
{
	cleanup_free char *path = path_join(state_dir, "key");
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	if (st.st_mode & 077)
		return err_set(
			err, ERR_FORBIDDEN,
			"%s has mode %04o: others can use this worker's key; chmod 600 it",
			path, (unsigned)st.st_mode & 07777);
	return 0;
}

int state_boot_write(const char *state_dir, const char *boot_id, struct err *err)
{
	cleanup_free char *path = path_join(state_dir, "boot");

	return file_write_atomic(path, boot_id, strlen(boot_id), 0600, err);
}

void state_boot_read(const char *state_dir, char ret[static ID_SIZE])
{
	cleanup_free char *path = path_join(state_dir, "boot");
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err ignored = { 0 };

	if (file_read(path, 256, &text, &ignored) < 0 || !id_valid(text.buf, "bt"))
		id_make("bt", clock_now(&clock_system), &random_system, ret);
	else
		snprintf(ret, ID_SIZE, "%s", text.buf);
}

int state_tmp(const char *dir, struct err *err)
{
	cleanup_free char *path = path_join(dir, "tmp.XXXXXX");
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	/* Not every file system knows unnamed files. */
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot create a temporary file in %s", dir);
	unlink(path);
	return fd;
}
