/* Runs a fuzz harness over the files of its corpus, for compilers without libFuzzer: the corpus as a plain test. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *dir, const char *name)
{
	char path[4096];
	FILE *f;
	long size;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	if (!f || fseek(f, 0, SEEK_END) < 0 || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) < 0) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(1);
	}
	uint8_t *data = malloc(size ? size : 1); /* exactly as large as the input, so that sanitizers see a read past it */

	if (!data || fread(data, 1, size, f) != (size_t)size)
		exit(1);
	fclose(f);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 1;
}

int main(int argc, char **argv)
{
	struct dirent **names;
	int count = argc > 1 ? scandir(argv[1], &names, NULL, alphasort) : -1, run = 0;

	if (count < 0) {
		fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
		return 1;
	}
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 0; i < count; i++) {
		if (names[i]->d_name[0] != '.')
			run += run_file(argv[1], names[i]->d_name);
		free(names[i]);
	}
	free(names);
	printf("1..1\n%sok 1 - %d inputs\n", run ? "" : "not ", run);
	return run == 0;
}
