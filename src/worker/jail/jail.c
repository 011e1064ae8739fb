#include "../../codec/codec.h"
#include "../../os/os.h"
#include "../helper/helper.h"
#include "internal.h"

#include <pthread.h>
#include <strings.h>
#include <unistd.h>

/* One call at a time: what is written and what is compared belong together. */
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

static int nft(const char *commands, const char *doing, bool list, struct strbuf *ret_out,
	       struct err *err)
{
	struct err e = { 0 };

	if (helper_nft(commands, list, ret_out, &e) == 0)
		return 0;
	if (e.code == ERR_UNSUPPORTED)
		return err_set(err, ERR_UNSUPPORTED, "the packet filter cannot be asked: %s",
			       e.text);
	if (geteuid() != 0)
		return err_set(
			err, ERR_UNSUPPORTED,
			"the packet filter refuses %s: run as root, or with CAP_NET_ADMIN (%s)",
			doing, e.text);
	return err_set(err, ERR_UNSUPPORTED,
		       "the packet filter refuses %s: does the kernel have nftables? (%s)",
		       doing, e.text);
}

/* NULL if one of the tables is not there. */
static char *listing_get(void)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	struct err ignored = { 0 };

	return helper_nft(NULL, true, &out, &ignored) == 0 ? strbuf_take(&out) : NULL;
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

static int apply(struct err *err)
{
	cleanup_free char *rules = rules_make();
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	if (nft(rules, "the jail's rules", true, &out, err) < 0)
		return -1;
	free(applied_rules);
	free(applied_listing);
	applied_rules = take_ptr(rules);
	applied_listing = strbuf_take(&out);
	return 0;
}

static int erase(struct err *err)
{
	static const char commands[] =
		"add table inet tes_worker\ndelete table inet tes_worker\n"
		"add table bridge tes_worker\ndelete table bridge tes_worker\n";
	cleanup_strbuf struct strbuf out = STRBUF_INIT;

	return nft(commands, "to remove the jail's rules", false, &out, err);
}

static int check(struct err *err)
{
	cleanup_free char *rules = rules_make();
	cleanup_free char *listing = listing_get();

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

static int locked(int (*fn)(struct err *err), struct err *err)
{
	int rc;

	pthread_mutex_lock(&lock);
	rc = fn(err);
	pthread_mutex_unlock(&lock);
	return rc;
}

int jail_apply(struct err *err)
{
	return locked(apply, err);
}

int jail_remove(struct err *err)
{
	return locked(erase, err);
}

int jail_check(struct err *err)
{
	return locked(check, err);
}
