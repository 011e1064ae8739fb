/* The tar format as POSIX.1-2001 has it (ustar headers; a pax header in front where a name, a link or a size does
 * not fit).  Written here because it is little, and because the library for it would take longer to load than the
 * whole program to run. */
#include "internal.h"

#include <sys/stat.h>

struct tar_head {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type,
		link[100];
	char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155],
		rest[12];
};
static_assert(sizeof(struct tar_head) == TAR_BLOCK, "a block");

/* Octal digits and a NUL; the caller knows that it fits. */
static void octal_set(char *at, size_t size, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "%0*" PRIo64, (int)size - 1, v);
	memcpy(at, text, size);
}

static void text_set(char *at, size_t size, const char *text)
{
	memcpy(at, text, MIN(strlen(text), size));
}

static void head_add(const char *name, char type, mode_t mode, int64_t size, int64_t mtime_s,
		     const char *link, struct strbuf *out)
{
	struct tar_head h = { .magic = "ustar", .version = { '0', '0' }, .type = type };
	unsigned sum = 0;

	text_set(h.name, sizeof(h.name), name);
	text_set(h.link, sizeof(h.link), link);
	octal_set(h.mode, sizeof(h.mode), mode & 0777);
	octal_set(h.uid, sizeof(h.uid), 0);
	octal_set(h.gid, sizeof(h.gid), 0);
	octal_set(h.size, sizeof(h.size), size < TAR_SIZE_PLAIN_MAX ? (uint64_t)size : 0);
	octal_set(h.mtime, sizeof(h.mtime),
		  (uint64_t)MIN(MAX(mtime_s, (int64_t)0), (int64_t)INT32_MAX));
	memset(h.checksum, ' ', sizeof(h.checksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((const unsigned char *)&h)[i];
	octal_set(h.checksum, 7, sum);
	strbuf_add(out, &h, sizeof(h));
}

/* "<length> key=value\n", where the length counts its own digits. */
static void record_add(const char *key, const char *value, struct strbuf *out)
{
	size_t rest = strlen(key) + strlen(value) + 3, len = rest + 1;

	while (len != rest + (size_t)snprintf(NULL, 0, "%zu", len))
		len = rest + (size_t)snprintf(NULL, 0, "%zu", len);
	strbuf_addf(out, "%zu %s=%s\n", len, key, value);
}

void tar_pad(int64_t size, struct strbuf *out)
{
	static const char zeros[TAR_BLOCK];

	if (size % TAR_BLOCK)
		strbuf_add(out, zeros, (size_t)(TAR_BLOCK - size % TAR_BLOCK));
}

void tar_entry(const struct tar_entry *e, struct strbuf *out)
{
	cleanup_strbuf struct strbuf records = STRBUF_INIT;
	const char *link = e->link ? e->link : "";
	char type = S_ISDIR(e->mode) ? '5' : S_ISLNK(e->mode) ? '2' : '0';
	char size[24];

	if (strlen(e->name) > sizeof(((struct tar_head *)0)->name))
		record_add("path", e->name, &records);
	if (strlen(link) > sizeof(((struct tar_head *)0)->link))
		record_add("linkpath", link, &records);
	if (e->size >= TAR_SIZE_PLAIN_MAX) {
		snprintf(size, sizeof(size), "%" PRId64, e->size);
		record_add("size", size, &records);
	}
	if (records.len) {
		head_add("pax", 'x', 0644, (int64_t)records.len, e->mtime_s, "", out);
		strbuf_add(out, records.buf, records.len);
		tar_pad((int64_t)records.len, out);
	}
	head_add(e->name, type, e->mode, type == '0' ? e->size : 0, e->mtime_s, link, out);
}

void tar_end(struct strbuf *out)
{
	static const char zeros[2 * TAR_BLOCK];

	strbuf_add(out, zeros, sizeof(zeros));
}
