#include "../../codec/codec.h"
#include "../../os/os.h"
#include "internal.h"

#include <nftables/libnftables.h>
#include <pthread.h>
#include <strings.h>
#include <unistd.h>

/* One call at a time: libnftables does not promise that contexts of their own may be used
 * side by side. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* What jail_apply wrote last, and how the kernel listed it right after. */
static char *applied_rules, *applied_listing;

void jail_mac(const char *lease, bool private_routes, char ret[static JAIL_MAC_SIZE])
{
	char hex[SHA256_HEX_SIZE];

	sha256_hex(lease, strlen(lease), hex);
	snprintf(ret, JAIL_MAC_SIZE, "%s:54:45:%.2s:%.2s:%.2s", private_routes ? "0a" : "06",
		 hex, hex + 2, hex + 4);
}

bool jail_mac_is(const char *mac)
{
	return strlen(mac) == JAIL_MAC_SIZE - 1 &&
	       (strncasecmp(mac, "06:54:45:", 9) == 0 || strncasecmp(mac, "0a:54:45:", 9) == 0);
}

/* The first line of nft's complaint; the lines below it only point at the place. */
static int nft_fail(struct nft_ctx *nft, const char *doing, struct err *err)
{
	struct slice words = slice_of(nft_ctx_get_error_buffer(nft)), line = { "", 0 };

	if (words.ptr)
		slice_split(&words, '\n', &line);
	if (geteuid() != 0)
		return err_set(
			err, ERR_UNSUPPORTED,
			"the packet filter refuses %s: run as root, or with CAP_NET_ADMIN "
			"(%.*s)",
			doing, (int)line.len, line.ptr);
	return err_set(err, ERR_UNSUPPORTED,
		       "the packet filter refuses %s: does the kernel have nftables? (%.*s)",
		       doing, (int)line.len, line.ptr);
}

static struct nft_ctx *nft_open(struct err *err)
{
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);

	if (!nft) {
		err_set(err, ERR_UNSUPPORTED,
			"libnftables does not start: is nftables in the kernel?");
		return NULL;
	}
	if (nft_ctx_buffer_output(nft) != 0 || nft_ctx_buffer_error(nft) != 0) {
		nft_ctx_free(nft);
		err_set(err, ERR_UNSUPPORTED, "libnftables has no memory for its output");
		return NULL;
	}
	nft_ctx_output_set_flags(nft, NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_NUMERIC_ALL);
	return nft;
}

/* NULL if one of the tables is not there. */
static char *listing_get(struct nft_ctx *nft)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	if (nft_run_cmd_from_buffer(nft, "list table inet tes_worker") != 0)
		return NULL;
	strbuf_adds(&out, nft_ctx_get_output_buffer(nft));
	if (nft_run_cmd_from_buffer(nft, "list table bridge tes_worker") != 0)
		return NULL;
	strbuf_adds(&out, nft_ctx_get_output_buffer(nft));
	return strbuf_take(&out);
}

/* Engines hand the host's resolvers to containers; where those are systemd-resolved's stub,
 * its upstream ones. */
static char *rules_make(void)
{
	static const char *const files[] = { "/etc/resolv.conf",
					     "/run/systemd/resolve/resolv.conf" };
	cleanup_strbuf struct strbuf ipv4 = STRBUF_INIT, ipv6 = STRBUF_INIT, text = STRBUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		strbuf_reset(&text);
		if (file_read(files[i], 64 << 10, &text, NULL) == 0)
			resolvers_read((struct slice){ text.buf, text.len }, &ipv4, &ipv6);
	}
	strbuf_reset(&text);
	rules_write(ipv4.buf, ipv6.buf, &text);
	return strbuf_take(&text);
}

static int apply(struct nft_ctx *nft, struct err *err)
{
	cleanup_free char *rules = rules_make();

	if (nft_run_cmd_from_buffer(nft, rules) != 0)
		return nft_fail(nft, "the jail's rules", err);
	free(applied_rules);
	free(applied_listing);
	applied_rules = take_ptr(rules);
	applied_listing = listing_get(nft);
	return 0;
}

static int erase(struct nft_ctx *nft, struct err *err)
{
	static const char commands[] =
		"add table inet tes_worker\ndelete table inet tes_worker\n"
		"add table bridge tes_worker\ndelete table bridge tes_worker\n";

	if (nft_run_cmd_from_buffer(nft, commands) != 0)
		return nft_fail(nft, "to remove the jail's rules", err);
	return 0;
}

static int check(struct nft_ctx *nft, struct err *err)
{
	cleanup_free char *rules = rules_make();
	cleanup_free char *listing = listing_get(nft);

	if (!listing)
		return err_set(
			err, ERR_CONFLICT,
			"the tables tes_worker are not in the packet filter: apply them again");
	if (!str_eq(listing, applied_listing))
		return err_set(
			err, ERR_CONFLICT,
			"the tables tes_worker are not as this process wrote them: apply them "
			"again");
	if (!str_eq(rules, applied_rules))
		return err_set(
			err, ERR_CONFLICT,
			"the host's resolvers are others than when the jail was made: apply "
			"it again");
	return 0;
}

static int with_nft(int (*fn)(struct nft_ctx *nft, struct err *err), struct err *err)
{
	struct nft_ctx *nft;
	int rc = -1;

	pthread_mutex_lock(&lock);
	nft = nft_open(err);
	if (nft) {
		rc = fn(nft, err);
		nft_ctx_free(nft);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

int jail_apply(struct err *err)
{
	return with_nft(apply, err);
}

int jail_remove(struct err *err)
{
	return with_nft(erase, err);
}

int jail_check(struct err *err)
{
	return with_nft(check, err);
}
