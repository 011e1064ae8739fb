/* The file of journals, whatever a disk has made of it: what is read of it was written as a whole, it can be written
 * again, and what is removed stays away. */
#include "../internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/tes-fuzz-journals-XXXXXX", file[sizeof(dir) + 8];

static void dir_end(void)
{
	unlink(file);
	rmdir(dir);
}

static void file_set(const uint8_t *data, size_t size)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

static struct journals *opened(void)
{
	struct journals *ret;
	struct err err = { 0 };

	if (journals_open(dir, &ret, &err) < 0)
		abort();
	return ret;
}

static void one(struct journals *s, const char *lease)
{
	cleanup_arena struct arena a = { 0 };
	struct journal j, again;
	struct err err = { 0 };

	assert(id_valid(lease, "le"));
	if (journals_load(s, lease, &a, &j, &err) == 0) {
		assert(str_eq(j.desired->lease, lease));
		if (journals_save(s, &j, &err) < 0 || journals_load(s, lease, &a, &again, &err) < 0)
			assert(err.code == ERR_TOO_LARGE);
	} else {
		assert(err.code != ERR_NOT_FOUND);
	}
	err_clear(&err);
	if (journals_remove(s, lease, &err) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = { 0 };
	struct err err = { 0 };
	struct text_list names;
	struct journals *s;

	if (!file[0]) {
		if (!mkdtemp(dir))
			abort();
		snprintf(file, sizeof(file), "%s/journal", dir);
		atexit(dir_end);
	}
	file_set(data, size);
	s = opened();
	if (journals_list(s, &a, &names, &err) < 0)
		abort();
	for (size_t i = 0; i < names.len; i++)
		one(s, names.items[i]);
	journals_close(s);
	s = opened();
	if (journals_list(s, &a, &names, &err) < 0)
		abort();
	assert(names.len == 0);
	journals_close(s);
	return 0;
}
