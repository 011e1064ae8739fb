/* Backup of a PostgreSQL database by its own pg_dump. */
#include "internal.h"

#include "../os/os.h"

#include <libpq-fe.h>
#include <unistd.h>

#define DUMP_TIMEOUT_MS DAY_MS
#define DUMP_OUTPUT_MAX 4096

/* key='value', quoted as libpq reads it */
static void conninfo_add(struct strbuf *out, const char *key, const char *value)
{
	strbuf_addf(out, "%s='", key);
	for (; *value; value++) {
		if (*value == '\\' || *value == '\'')
			strbuf_addc(out, '\\');
		strbuf_addc(out, *value);
	}
	strbuf_adds(out, "' ");
}

static int passfile_write(const char *path, const char *password, struct err *err)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT;

	strbuf_init(&line);
	strbuf_adds(&line, "*:*:*:*:");
	for (; *password; password++) {
		if (*password == '\\' || *password == ':')
			strbuf_addc(&line, '\\');
		strbuf_addc(&line, *password);
	}
	strbuf_addc(&line, '\n');
	return file_write_atomic(path, line.buf, line.len, 0600, err);
}

/* The URL in the form that pg_dump's command line shows to everybody: its password goes into a
 * file instead. */
static int dump_conninfo(const char *url, const char *passfile, struct strbuf *ret,
			 struct err *err)
{
	char *message = NULL;
	int r = 0;
	PQconninfoOption *options = PQconninfoParse(url, &message);

	if (!options) {
		err_set(err, ERR_INVALID, "database URL is not valid: %.*s",
			postgres_line_len(message), message);
		PQfreemem(message);
		return -1;
	}
	for (PQconninfoOption *o = options; o->keyword && !r; o++) {
		if (!o->val)
			continue;
		if (strcmp(o->keyword, "password")) {
			conninfo_add(ret, o->keyword, o->val);
			continue;
		}
		r = passfile_write(passfile, o->val, err);
		conninfo_add(ret, "passfile", passfile);
	}
	PQconninfoFree(options);
	return r;
}

static int dump_run(const char *conninfo, const char *path, struct err *err)
{
	const char *const argv[] = { "pg_dump", "--format=custom", "--no-password", "--file",
				     path,	"--dbname",	   conninfo,	    NULL };
	cleanup_strbuf struct strbuf out = STRBUF_INIT, errout = STRBUF_INIT;
	int status;

	strbuf_init(&out);
	strbuf_init(&errout);
	if (process_run(argv, (struct slice){ NULL, 0 }, DUMP_OUTPUT_MAX, DUMP_TIMEOUT_MS, &out,
			&errout, &status, err))
		return err_wrap(err, "pg_dump (from the package postgresql-client)");
	if (status)
		return err_set(err, ERR_UNAVAILABLE, "pg_dump ended with status %d: %.*s",
			       status, postgres_line_len(errout.buf), errout.buf);
	return 0;
}

int postgres_dump(const char *url, const char *path, struct err *err)
{
	cleanup_free char *part = NULL;
	cleanup_strbuf struct strbuf conninfo = STRBUF_INIT, passfile = STRBUF_INIT;

	strbuf_init(&conninfo);
	strbuf_init(&passfile);
	if (backup_begin(path, &part, err))
		return -1;
	strbuf_addf(&passfile, "%s.pass", part);
	int r = dump_conninfo(url, passfile.buf, &conninfo, err);
	if (!r)
		r = dump_run(conninfo.buf, part, err);
	unlink(passfile.buf);
	if (!r)
		r = backup_end(part, path, err);
	if (r)
		unlink(part);
	return r;
}
