#include "internal.h"

static const char *nvml_path;

void hw_set_nvml_path(const char *path)
{
	nvml_path = path;
}

void problem_add(struct detection *d, const char *fmt, ...)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	va_list ap;

	if (d->problem_count == PROBLEMS_MAX)
		return;
	va_start(ap, fmt);
	strbuf_vaddf(&text, fmt, ap);
	va_end(ap);
	d->problems[d->problem_count++] = arena_strdup(d->arena, text.buf);
}

struct device *device_add(struct detection *d)
{
	struct device *device;

	if (d->inventory.devices.len == DEVICES_MAX)
		return NULL;
	device = &d->devices[d->inventory.devices.len];
	*device = (struct device){ .index = (int64_t)d->inventory.devices.len++ };
	return device;
}

int hw_detect(const char *data_dir, const char *simulated_gpus, struct arena *arena,
	      struct inventory *ret, struct text_list *ret_problems, struct err *err)
{
	struct detection *d = arena_new(arena, struct detection);

	d->arena = arena;
	d->inventory = *ret;
	d->inventory.devices.items = d->devices;
	d->inventory.devices.len = 0;
	d->inventory.gpu_driver = d->inventory.cuda_version = NULL;
	d->inventory.version = TES_VERSION;
	machine_detect(d, data_dir);
	network_detect(d);
	nvml_detect(d, nvml_path ? nvml_path : "libnvidia-ml.so.1");
	if (!str_empty(simulated_gpus) && simulated_add(d, data_dir, simulated_gpus, err) < 0)
		return -1;
	*ret = d->inventory;
	*ret_problems = (struct text_list){ d->problems, d->problem_count };
	return 0;
}
