/* tes-worker-nft [COMMAND…]: runs the nftables commands of its standard input, all or none, then
 * each of its arguments, and prints what they list.  Ends with 1 where one is refused, with 2
 * where libnftables does not start. */
#include "../../base/base.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <unistd.h>

#define COMMANDS_MAX ((size_t)1 << 20)

static int input_read(struct strbuf *ret)
{
	char chunk[16384];
	ssize_t n;

	while ((n = read(STDIN_FILENO, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || ret->len + (size_t)n > COMMANDS_MAX)
			return -1;
		strbuf_add(ret, chunk, (size_t)n);
	}
	return 0;
}

static int run(struct nft_ctx *nft, const char *commands)
{
	if (nft_run_cmd_from_buffer(nft, commands) != 0) {
		fputs(nft_ctx_get_error_buffer(nft), stderr);
		return -1;
	}
	fputs(nft_ctx_get_output_buffer(nft), stdout);
	return 0;
}

int main(int argc, char **argv)
{
	cleanup_strbuf struct strbuf commands = STRBUF_INIT;
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	int rc = 0;

	if (!nft || nft_ctx_buffer_output(nft) != 0 || nft_ctx_buffer_error(nft) != 0 ||
	    input_read(&commands) < 0) {
		fprintf(stderr, "libnftables does not start: is nftables in the kernel?\n");
		return 2;
	}
	nft_ctx_output_set_flags(nft, NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_NUMERIC_ALL);
	if (commands.len)
		rc = run(nft, commands.buf);
	for (int i = 1; rc == 0 && i < argc; i++)
		rc = run(nft, argv[i]);
	nft_ctx_free(nft);
	return rc == 0 && fflush(stdout) == 0 ? 0 : 1;
}
