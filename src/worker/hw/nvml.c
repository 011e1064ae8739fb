/* NVIDIA's management library, by its documented C interface (NVML API reference, "NVML.h"),
 * of which only these few calls are needed; loaded at run time, because it comes with the
 * driver. */
#include "../../os/os.h"
#include "internal.h"

#include <dirent.h>
#include <dlfcn.h>

#define NVML_SUCCESS			   0
#define NVML_ERROR_NOT_SUPPORTED	   3
#define NVML_ERROR_NO_PERMISSION	   4
#define NVML_ERROR_DRIVER_NOT_LOADED	   9
#define NVML_ERROR_LIB_RM_VERSION_MISMATCH 18
#define NVML_TEXT_MAX			   96

typedef void *nvml_device;
struct nvml_memory {
	unsigned long long total, free, used;
};
struct nvml_pci {
	char bus_id_legacy[16];
	unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
	char bus_id[32];
};

struct nvml {
	void *library;
	int (*init)(void);
	int (*shutdown)(void);
	const char *(*error_string)(int);
	int (*driver_version)(char *, unsigned);
	int (*cuda_version)(int *);
	int (*device_count)(unsigned *);
	int (*device_by_index)(unsigned, nvml_device *);
	int (*device_name)(nvml_device, char *, unsigned);
	int (*device_uuid)(nvml_device, char *, unsigned);
	int (*device_memory)(nvml_device, struct nvml_memory *);
	int (*device_pci)(nvml_device, struct nvml_pci *);
	int (*device_mig)(nvml_device, unsigned *, unsigned *); /* NULL in old drivers */
};

/* Display controllers (class 03) of a vendor, as the PCI bus lists them: what a driver
 * should drive. */
static int pci_count(const char *vendor)
{
	DIR *dir = opendir("/sys/bus/pci/devices");
	int count = 0;

	if (!dir)
		return 0;
	for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		cleanup_strbuf struct strbuf text = STRBUF_INIT;
		char path[384];

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", e->d_name);
		if (e->d_name[0] == '.' || file_read(path, 64, &text, NULL) < 0 ||
		    !str_starts(text.buf, vendor))
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", e->d_name);
		if (file_read(path, 64, &text, NULL) == 0 && str_starts(text.buf, "0x03"))
			count++;
	}
	closedir(dir);
	return count;
}

static bool nvml_load(struct nvml *n, const char *library)
{
	const struct {
		const char *name;
		void *at;
		bool optional;
	} symbols[] = {
		{ "nvmlInit_v2", &n->init, false },
		{ "nvmlShutdown", &n->shutdown, false },
		{ "nvmlErrorString", &n->error_string, false },
		{ "nvmlSystemGetDriverVersion", &n->driver_version, false },
		{ "nvmlSystemGetCudaDriverVersion", &n->cuda_version, false },
		{ "nvmlDeviceGetCount_v2", &n->device_count, false },
		{ "nvmlDeviceGetHandleByIndex_v2", &n->device_by_index, false },
		{ "nvmlDeviceGetName", &n->device_name, false },
		{ "nvmlDeviceGetUUID", &n->device_uuid, false },
		{ "nvmlDeviceGetMemoryInfo", &n->device_memory, false },
		{ "nvmlDeviceGetPciInfo_v3", &n->device_pci, false },
		{ "nvmlDeviceGetMigMode", &n->device_mig, true },
	};

	n->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (!n->library)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
		void *symbol = dlsym(n->library, symbols[i].name);

		if (!symbol && !symbols[i].optional)
			return false;
		memcpy(symbols[i].at, &symbol, sizeof(symbol));
	}
	return true;
}

static void start_failed(struct detection *d, const struct nvml *n, int code)
{
	const char *words = n->error_string(code);

	if (code == NVML_ERROR_DRIVER_NOT_LOADED) {
		/* The library may lie about on a machine that never had a GPU. */
		if (pci_count("0x10de") > 0)
			problem_add(
				d, "NVIDIA's kernel driver is not loaded: modprobe nvidia, and "
				   "see dmesg if it fails.");
	} else if (code == NVML_ERROR_LIB_RM_VERSION_MISMATCH) {
		problem_add(
			d,
			"NVIDIA's library and kernel driver are of different versions: reboot "
			"after the driver's update.");
	} else if (code == NVML_ERROR_NO_PERMISSION) {
		problem_add(
			d,
			"NVIDIA's driver refuses access: may this user open /dev/nvidiactl?");
	} else {
		problem_add(d, "NVIDIA's library does not start: %.120s (%d).",
			    words ? words : "no reason", code);
	}
}

static const char *text_of(struct detection *d, const char *s, size_t size)
{
	size_t len = strnlen(s, size);

	return utf8_valid(s, len) ? arena_strndup(d->arena, s, len) : "";
}

static void nvml_device_add(struct detection *d, const struct nvml *n, unsigned index)
{
	char name[NVML_TEXT_MAX] = "", uuid[NVML_TEXT_MAX] = "";
	struct nvml_memory memory = { 0 };
	struct nvml_pci pci = { 0 };
	unsigned mig = 0, mig_pending = 0;
	struct device *device;
	nvml_device handle;
	int rc = n->device_by_index(index, &handle);

	if (rc == NVML_SUCCESS)
		rc = n->device_name(handle, name, sizeof(name));
	if (rc == NVML_SUCCESS)
		rc = n->device_uuid(handle, uuid, sizeof(uuid));
	if (rc == NVML_SUCCESS)
		rc = n->device_memory(handle, &memory);
	if (rc != NVML_SUCCESS || !*uuid) {
		const char *words = n->error_string(rc);

		problem_add(d,
			    "GPU %u does not answer and is left out: %.120s (%d); see dmesg, a "
			    "reset or reboot may help.",
			    index, words ? words : "no reason", rc);
		return;
	}
	if (n->device_pci(handle, &pci) != NVML_SUCCESS)
		*pci.bus_id = '\0';
	if (n->device_mig && n->device_mig(handle, &mig, &mig_pending) == NVML_SUCCESS && mig) {
		problem_add(
			d,
			"GPU %u (%s) is cut up by MIG and is left out: only whole devices are "
			"offered (nvidia-smi -i %u -mig 0).",
			index, text_of(d, name, sizeof(name)), index);
		return;
	}
	device = device_add(d);
	if (!device) {
		problem_add(d, "GPU %u is left out: at most %d are offered.", index,
			    DEVICES_MAX);
		return;
	}
	device->index = index;
	device->model = text_of(d, name, sizeof(name));
	device->uuid = text_of(d, uuid, sizeof(uuid));
	device->pci_bus = text_of(d, pci.bus_id, sizeof(pci.bus_id));
	device->vram_mib = (int64_t)(memory.total >> 20);
}

static void nvml_read(struct detection *d, const struct nvml *n)
{
	char driver[NVML_TEXT_MAX] = "";
	unsigned count = 0;
	int cuda = 0;

	if (n->driver_version(driver, sizeof(driver)) == NVML_SUCCESS)
		d->inventory.gpu_driver = text_of(d, driver, sizeof(driver));
	/* 12020 is 12.2. */
	if (n->cuda_version(&cuda) == NVML_SUCCESS && cuda > 0)
		d->inventory.cuda_version =
			arena_printf(d->arena, "%d.%d", cuda / 1000, cuda % 1000 / 10);
	if (n->device_count(&count) != NVML_SUCCESS) {
		problem_add(d, "NVIDIA's library does not tell how many GPUs there are.");
		return;
	}
	for (unsigned i = 0; i < count; i++)
		nvml_device_add(d, n, i);
}

void nvml_detect(struct detection *d, const char *library)
{
	struct nvml n = { 0 };
	int there, rc;

	if (nvml_load(&n, library)) {
		rc = n.init();
		if (rc == NVML_SUCCESS) {
			nvml_read(d, &n);
			n.shutdown();
		} else {
			start_failed(d, &n, rc);
		}
	} else if (n.library) {
		problem_add(
			d,
			"%s is too old or none of NVIDIA's: a driver of version 450 or later "
			"is needed.",
			library);
	} else if ((there = pci_count("0x10de")) > 0) {
		problem_add(
			d,
			"%d NVIDIA GPU%s left out: %s is not there; install NVIDIA's driver.",
			there, there == 1 ? " is" : "s are", library);
	}
	if (n.library)
		dlclose(n.library);
	there = pci_count("0x1002");
	if (there > 0)
		problem_add(d, "%d AMD GPU%s left out: only NVIDIA's are supported.", there,
			    there == 1 ? " is" : "s are");
}
