#include "internal.h"

#include "../../os/os.h"

#include <unistd.h>

#define NFT_TIMEOUT_MS (20 * SECOND_MS)
#define NFT_OUTPUT_MAX ((size_t)1 << 20)

/* Below the directory of the program that runs: as it is built, and as unit tests are. */
static const char *const beside[] = { "helper", "src/worker/helper" };

char *helper_path(const char *name)
{
	char self[4096], *end;
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[MAX(len, 0)] = '\0';
	end = strrchr(self, '/');
	for (size_t i = 0; end && i < ARRAY_LEN(beside); i++) {
		cleanup_free char *folder = NULL;
		char *path;

		*end = '\0';
		folder = path_join(self, beside[i]);
		path = path_join(folder, name);
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return path_join(HELPER_DIR, name);
}

int helper_nft(const char *commands, bool list, struct strbuf *ret_out, struct err *err)
{
	cleanup_free char *path = helper_path("tes-worker-nft");
	cleanup_strbuf struct strbuf out = STRBUF_INIT, complaint = STRBUF_INIT;
	/* One by one: libnftables fills its cache for one family a command. */
	const char *const argv[] = { path, list ? "list table inet tes_worker" : NULL,
				     "list table bridge tes_worker", NULL };
	struct slice words, line = { "", 0 };
	struct err e = { 0 };
	int status = -1;

	if (process_run(argv, slice_of(commands ? commands : ""), NFT_OUTPUT_MAX, NFT_TIMEOUT_MS, &out,
			&complaint, &status, &e) < 0)
		return err_set(err, ERR_UNSUPPORTED, "%s", e.text);
	if (status == 0) {
		strbuf_add(ret_out, out.buf, out.len);
		return 0;
	}
	/* The lines below the first only point at the place. */
	words = (struct slice){ complaint.buf, complaint.len };
	slice_split(&words, '\n', &line);
	return err_set(err, status == 1 ? ERR_INVALID : ERR_UNSUPPORTED, "%.*s", (int)line.len,
		       line.ptr);
}
