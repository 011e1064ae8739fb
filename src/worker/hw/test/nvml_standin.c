/* Stands in for libnvidia-ml.so.1 in tests.  STANDIN_GPUS: how many devices; STANDIN_INIT:
 * what nvmlInit_v2 returns; STANDIN_LOST, STANDIN_MIG: the index of a device that does not
 * answer, that is cut up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct memory {
	unsigned long long total, free, used;
};
struct pci {
	char bus_id_legacy[16];
	unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
	char bus_id[32];
};

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int code);
int nvmlSystemGetDriverVersion(char *text, unsigned size);
int nvmlSystemGetCudaDriverVersion(int *version);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *text, unsigned size);
int nvmlDeviceGetUUID(void *device, char *text, unsigned size);
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory);
int nvmlDeviceGetPciInfo_v3(void *device, struct pci *pci);
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending);

static int setting(const char *name, int otherwise)
{
	const char *value = getenv(name);

	return value ? atoi(value) : otherwise;
}

/* Handles count from 1, so that none is NULL. */
static int index_of(void *device)
{
	return (int)(size_t)device - 1;
}

int nvmlInit_v2(void)
{
	return setting("STANDIN_INIT", 0);
}

int nvmlShutdown(void)
{
	return 0;
}

const char *nvmlErrorString(int code)
{
	return code == 15 ? "GPU is lost" : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
	snprintf(text, size, "535.183.01");
	return 0;
}

int nvmlSystemGetCudaDriverVersion(int *version)
{
	*version = 12020;
	return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	*count = (unsigned)setting("STANDIN_GPUS", 2);
	return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
	if ((int)index == setting("STANDIN_LOST", -1))
		return 15;
	*device = (void *)(size_t)(index + 1);
	return 0;
}

int nvmlDeviceGetName(void *device, char *text, unsigned size)
{
	snprintf(text, size, "NVIDIA GeForce RTX 4090");
	return 0;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned size)
{
	snprintf(text, size, "GPU-00000000-0000-0000-0000-%012d", index_of(device));
	return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
	memset(memory, 0, sizeof(*memory));
	memory->total = 24564ULL << 20;
	return 0;
}

int nvmlDeviceGetPciInfo_v3(void *device, struct pci *pci)
{
	memset(pci, 0, sizeof(*pci));
	snprintf(pci->bus_id, sizeof(pci->bus_id), "00000000:%02X:00.0", index_of(device) + 1);
	return 0;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending)
{
	*current = *pending = index_of(device) == setting("STANDIN_MIG", -1);
	return 0;
}
