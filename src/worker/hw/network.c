#include "../../os/os.h"
#include "internal.h"

/* Name of the interface of the default route with the lowest metric; empty if there is none.
 * /proc/net/route: Iface Destination Gateway Flags RefCnt Use Metric Mask …, addresses in
 * hexadecimal. */
static void default_interface(char ret[static 32])
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct slice rest, line;
	unsigned best = UINT32_MAX;

	*ret = '\0';
	if (file_read("/proc/net/route", 4 << 20, &text, NULL) < 0)
		return;
	rest = (struct slice){ text.buf, text.len };
	while (slice_split(&rest, '\n', &line)) {
		char name[32], row[256];
		unsigned destination, flags, metric, mask;

		snprintf(row, sizeof(row), "%.*s", (int)line.len, line.ptr);
		if (sscanf(row, "%31s %x %*s %x %*s %*s %u %x", name, &destination, &flags,
			   &metric, &mask) != 5)
			continue;
		if (destination == 0 && mask == 0 && metric < best) {
			best = metric;
			memcpy(ret, name, sizeof(name));
		}
	}
}

void network_detect(struct detection *d)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	char name[32], path[96];
	int64_t mbit = 0;

	d->inventory.net_down_kbps = d->inventory.net_up_kbps = 0;
	default_interface(name);
	if (!*name) {
		problem_add(
			d,
			"There is no default route: this machine has no way to the internet.");
		return;
	}
	snprintf(path, sizeof(path), "/sys/class/net/%s/speed", name);
	/* Virtual interfaces have no speed: reading fails, or gives -1. */
	if (file_read(path, 64, &text, NULL) == 0)
		mbit = strtoll(text.buf, NULL, 10);
	if (mbit > 0 && mbit < 10000000)
		d->inventory.net_down_kbps = d->inventory.net_up_kbps = mbit * 1000;
}
