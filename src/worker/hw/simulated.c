#include "../../codec/codec.h"
#include "internal.h"

#define VRAM_MAX_MIB (1 << 24)

/* The same machine and directory give the same ids at each start, others give others. */
static const char *uuid_make(struct detection *d, const char *data_dir, int64_t index)
{
	char hex[SHA256_HEX_SIZE];
	const char *seed = arena_printf(d->arena, "%s\n%s\n%" PRId64, d->inventory.hostname,
					data_dir, index);

	sha256_hex(seed, strlen(seed), hex);
	return arena_printf(d->arena, "GPU-%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
			    hex + 16, hex + 20);
}

static int kind_parse(struct arena *arena, struct slice kind, int64_t *ret_count,
		      char **ret_model, int64_t *ret_vram_mib)
{
	char *text = arena_strndup(arena, kind.ptr, kind.len), *rest, *last;

	*ret_count = strtoll(text, &rest, 10);
	if (rest == text || *ret_count < 1 || *ret_count > DEVICES_MAX || rest[0] != 'x' ||
	    rest[1] != ' ')
		return -1;
	rest += 2;
	last = strrchr(rest, ' ');
	if (!last || last == rest ||
	    int_parse(last + 1, 1, VRAM_MAX_MIB, ret_vram_mib, NULL) < 0)
		return -1;
	*last = '\0';
	*ret_model = rest;
	return utf8_valid(rest, strlen(rest)) && strlen(rest) <= 64 ? 0 : -1;
}

int simulated_add(struct detection *d, const char *data_dir, const char *spec, struct err *err)
{
	struct slice rest = slice_of(spec), kind;

	while (slice_split(&rest, ',', &kind)) {
		int64_t count, vram_mib;
		char *model;

		if (kind_parse(d->arena, slice_trim(kind), &count, &model, &vram_mib) < 0)
			return err_set(
				err, ERR_INVALID,
				"'%.80s' is not a number of simulated GPUs: write it like "
				"'2x Example Model 24576', with 1 to %d devices and the MiB "
				"of one",
				spec, DEVICES_MAX);
		for (int64_t i = 0; i < count; i++) {
			struct device *device = device_add(d);

			if (!device)
				return err_set(
					err, ERR_INVALID,
					"'%.80s': this machine would have more than %d GPUs",
					spec, DEVICES_MAX);
			device->model = model;
			device->vram_mib = vram_mib;
			device->uuid = uuid_make(d, data_dir, device->index);
			device->simulated = true;
		}
	}
	d->inventory.simulated = true;
	return 0;
}

int hw_simulated_check(const char *spec, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct detection any = { .arena = &arena, .inventory.hostname = "any" };

	return str_empty(spec) ? 0 : simulated_add(&any, "/", spec, err);
}
