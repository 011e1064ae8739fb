/* A tar of a customer, once as an input that is unpacked, once as results that are read file by
 * file. */
#include "../internal.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int check(void *arg, const struct tar_file *f, struct err *err)
{
	assert(f->path[0] && f->path[0] != '/' && !strstr(f->path, "//"));
	assert(utf8_valid(f->path, strlen(f->path)) && !strstr(f->path, "/../"));
	assert(f->size >= 0 && f->size <= 1 << 16);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char dir[] = "/tmp/tes-fuzz-archive-XXXXXX";
	cleanup_strbuf struct strbuf note = STRBUF_INIT;
	struct err err = { 0 };
	int64_t took;
	cleanup_fd int fd = memfd_create("tar", MFD_CLOEXEC);

	if (fd < 0 || !mkdtemp(dir) || write_all(fd, data, size, &err) < 0)
		abort();
	if (lseek(fd, 0, SEEK_SET) == 0 && tar_unpack(fd, dir, 1 << 18, NULL, &took, &err) < 0)
		assert(err.text[0] && utf8_valid(err.text, strlen(err.text)));
	err_clear(&err);
	if (dir_remove(dir, &err) < 0)
		abort(); /* what was unpacked is nothing but files, directories and links */
	if (lseek(fd, 0, SEEK_SET) == 0 &&
	    tar_each_file(fd, "/tmp", 1 << 16, NULL, check, NULL, &note, &err) < 0)
		assert(err.text[0] && utf8_valid(err.text, strlen(err.text)));
	return 0;
}
