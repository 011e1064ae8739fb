/* The addresses that are not the public internet: one table for the packet filter and for names
 * that others give us. */
#include "internal.h"

#include <arpa/inet.h>

/* IANA's special-purpose registries (RFC 6890), multicast, and the metadata services that
 * clouds keep at public addresses.  168.63.129.16 is Azure's; Alibaba's 100.100.100.200 and
 * Oracle's 192.0.0.192 lie in ranges below. */
const char closed_ipv4[] =
	"0.0.0.0/8, 127.0.0.0/8, 168.63.129.16/32, 169.254.0.0/16, 192.0.0.0/24, 224.0.0.0/4, "
	"240.0.0.0/4";
const char private_ipv4[] =
	"10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.0.2.0/24, "
	"192.168.0.0/16, 198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24";
/* 64:ff9b:1::/48, 2001::/32 and 2002::/16 carry IPv4 addresses inside, which may be private.
 * fd00:ec2::/32 is Amazon's metadata. */
const char closed_ipv6[] =
	"::/96, ::ffff:0:0/96, 64:ff9b:1::/48, 100::/64, 2001::/32, 2002::/16, "
	"fd00:ec2::/32, fe80::/10, ff00::/8";
const char private_ipv6[] = "2001:db8::/32, fc00::/7, fec0::/10";

/* Of the address's first bits, so many as the range says. */
static bool in_range(const uint8_t *address, const uint8_t *range, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	return memcmp(address, range, whole) == 0 &&
	       (rest == 0 || ((address[whole] ^ range[whole]) >> (8 - rest)) == 0);
}

static bool in_ranges(int family, const uint8_t *address, const char *ranges)
{
	struct slice rest = slice_of(ranges), item, base;

	while (slice_split(&rest, ',', &item)) {
		char text[INET6_ADDRSTRLEN];
		uint8_t range[16];
		unsigned bits = 0;

		item = slice_trim(item);
		slice_split(&item, '/', &base);
		assert(base.len < sizeof(text));
		memcpy(text, base.ptr, base.len);
		text[base.len] = '\0';
		for (size_t i = 0; i < item.len; i++)
			bits = bits * 10 + (unsigned)(item.ptr[i] - '0');
		if (inet_pton(family, text, range) != 1)
			assert(!"a range that is none");
		if (in_range(address, range, bits))
			return true;
	}
	return false;
}

static bool ipv4_is_public(const uint8_t *address)
{
	return !in_ranges(AF_INET, address, closed_ipv4) &&
	       !in_ranges(AF_INET, address, private_ipv4);
}

bool jail_address_is_public(const struct sockaddr *address)
{
	/* NAT64 (RFC 6052): the last four bytes are the address that it leads to. */
	static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
	const uint8_t *bytes;

	if (address->sa_family == AF_INET)
		return ipv4_is_public(
			(const uint8_t *)&((const struct sockaddr_in *)(const void *)address)->sin_addr);
	if (address->sa_family != AF_INET6)
		return false;
	bytes = ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr;
	if (in_range(bytes, nat64, 96))
		return ipv4_is_public(bytes + 12);
	return !in_ranges(AF_INET6, bytes, closed_ipv6) &&
	       !in_ranges(AF_INET6, bytes, private_ipv6);
}
