#include "../../os/os.h"
#include "internal.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The value after `key` and `sep` at the start of a line, trimmed; empty if there is none. */
static struct slice value_find(struct slice text, const char *key, char sep)
{
	struct slice line, name;

	while (slice_split(&text, '\n', &line)) {
		if (!memchr(line.ptr, sep, line.len) || !slice_split(&line, sep, &name) ||
		    !slice_is(slice_trim(name), key))
			continue;
		return slice_trim(line);
	}
	return (struct slice){ "", 0 };
}

static const char *value_read(struct detection *d, const char *path, const char *key, char sep)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct slice value;

	if (file_read(path, 4 << 20, &text, NULL) < 0)
		return NULL;
	value = value_find((struct slice){ text.buf, text.len }, key, sep);
	if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
		value = (struct slice){ value.ptr + 1, value.len - 2 };
	return value.len > 0 && utf8_valid(value.ptr, value.len)
		       ? arena_strndup(d->arena, value.ptr, value.len)
		       : NULL;
}

static const char *line_read(struct detection *d, const char *path)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct slice line;

	if (file_read(path, 64 << 10, &text, NULL) < 0)
		return NULL;
	/* The device tree ends its texts with a zero byte. */
	line = slice_trim(slice_of(text.buf));
	return line.len > 0 && utf8_valid(line.ptr, line.len)
		       ? arena_strndup(d->arena, line.ptr, line.len)
		       : NULL;
}

static void cpu_detect(struct detection *d)
{
	struct inventory *inv = &d->inventory;
	cpu_set_t allowed;

	inv->cpu_model = value_read(d, "/proc/cpuinfo", "model name", ':');
	if (!inv->cpu_model) /* ARM */
		inv->cpu_model = line_read(d, "/sys/firmware/devicetree/base/model");
	if (!inv->cpu_model)
		inv->cpu_model = inv->arch;
	/* Those that are online; not what this process may use: its containers run
	 * elsewhere. */
	inv->cpu_threads = sysconf(_SC_NPROCESSORS_ONLN);
	if (inv->cpu_threads < 1)
		inv->cpu_threads = sched_getaffinity(0, sizeof(allowed), &allowed) == 0
					   ? CPU_COUNT(&allowed)
					   : 0;
	if (inv->cpu_threads < 1)
		problem_add(
			d,
			"The number of CPU threads cannot be read from /sys: is it mounted?");
}

static void memory_detect(struct detection *d)
{
	const char *total = value_read(d, "/proc/meminfo", "MemTotal", ':');
	int64_t kib = total ? strtoll(total, NULL, 10) : 0;

	d->inventory.memory_mib = kib / 1024;
	if (kib < 1024)
		problem_add(d, "The size of memory cannot be read from /proc/meminfo: is /proc "
			       "mounted?");
}

static void disk_detect(struct detection *d, const char *data_dir)
{
	int64_t free_bytes, total_bytes;
	struct err err = { 0 };

	d->inventory.disk_mib = 0;
	if (disk_free_bytes(data_dir, &free_bytes, &total_bytes, &err) < 0)
		problem_add(d, "The space for containers is unknown: %s.", err.text);
	else
		d->inventory.disk_mib = free_bytes >> 20;
}

void machine_detect(struct detection *d, const char *data_dir)
{
	struct inventory *inv = &d->inventory;
	struct utsname uts;
	char host[256] = "";

	if (gethostname(host, sizeof(host) - 1) < 0)
		problem_add(d, "The name of this host cannot be read.");
	inv->hostname = arena_strdup(d->arena, utf8_valid(host, strlen(host)) ? host : "");
	uname(&uts);
	inv->kernel = arena_strdup(d->arena, uts.release);
	inv->arch = arena_strdup(d->arena, uts.machine);
	inv->os = value_read(d, "/etc/os-release", "PRETTY_NAME", '=');
	if (!inv->os)
		inv->os = "Linux";
	cpu_detect(d);
	memory_detect(d);
	disk_detect(d, data_dir);
}
