/* A tar of a customer, once as an input that is unpacked, once as results that are read file by
 * file. */
#include "../../../os/os.h"
#include "../tar.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_begin(void *arg, const char *path, unsigned mode, struct err *err)
{
	bool *open = arg;

	assert(!*open && path && mode <= 0777);
	*open = true;
	return 0;
}

static int on_data(void *arg, const char *p, size_t len, struct err *err)
{
	const bool *open = arg;

	return *open && len && len <= TAR_FRAME_MAX ? 0 : err_set(err, ERR_INTERNAL, "odd");
}

static int on_end(void *arg, struct err *err)
{
	bool *open = arg;

	assert(*open);
	*open = false;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct tar_sink sink = { on_begin, on_data, on_end };
	char dir[] = "/tmp/tes-fuzz-archive-XXXXXX";
	struct err err = { 0 };
	int64_t done;
	bool open_file = false;
	cleanup_fd int fd = memfd_create("tar", MFD_CLOEXEC);
	cleanup_fd int root = -1;

	if (fd < 0 || !mkdtemp(dir) || write_all(fd, data, size, &err) < 0)
		abort();
	root = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (lseek(fd, 0, SEEK_SET) == 0 && tar_unpack(fd, root, 1 << 18, &done, &err) < 0)
		assert(err.text[0] && utf8_valid(err.text, strlen(err.text)));
	err_clear(&err);
	if (dir_remove(dir, &err) < 0)
		abort(); /* what was unpacked is nothing but files, directories and links */
	if (lseek(fd, 0, SEEK_SET) == 0 && tar_walk(fd, &sink, &open_file, &done, &err) < 0)
		assert(err.text[0] && utf8_valid(err.text, strlen(err.text)) &&
		       err.code != ERR_INTERNAL);
	return 0;
}
