/* Where an image's registry stands.  The engine asks it from the machine itself, outside the jail
 * of workloads: a customer who may name any registry would reach the provider's own network. */
#include "internal.h"

#include "../jail/jail.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <strings.h>

/* "host", "host:port", "[::1]:port": without the port, and the brackets if `bare`. */
static struct slice host_of(struct slice domain, bool bare)
{
	const char *end = domain.len && domain.ptr[0] == '[' ? memchr(domain.ptr, ']', domain.len)
							     : memchr(domain.ptr, ':', domain.len);

	if (!end)
		return domain;
	if (*end == ':')
		return (struct slice){ domain.ptr, (size_t)(end - domain.ptr) };
	return bare ? (struct slice){ domain.ptr + 1, (size_t)(end - domain.ptr) - 1 }
		    : (struct slice){ domain.ptr, (size_t)(end - domain.ptr) + 1 };
}

static bool same(struct slice a, struct slice b)
{
	return a.len == b.len && strncasecmp(a.ptr, b.ptr, a.len) == 0;
}

bool registry_is_listed(const char *list, struct slice domain)
{
	struct slice rest = slice_of(list ? list : ""), item;

	while (slice_split(&rest, ',', &item)) {
		item = slice_trim(item);
		if (item.len && (slice_is(item, "*") || same(item, domain) ||
				 same(item, host_of(domain, false))))
			return true;
	}
	return false;
}

static const uint8_t *bytes_of(const struct sockaddr *a, size_t *ret_len)
{
	bool ipv4 = a->sa_family == AF_INET;

	*ret_len = ipv4 ? sizeof(struct in_addr) : sizeof(struct in6_addr);
	return ipv4 ? (const uint8_t *)&((const struct sockaddr_in *)(const void *)a)->sin_addr
		    : ((const struct sockaddr_in6 *)(const void *)a)->sin6_addr.s6_addr;
}

/* This machine or a neighbour of it: at home, devices have public IPv6 addresses too. */
static bool is_near(const struct sockaddr *address, const struct ifaddrs *own)
{
	size_t len;
	const uint8_t *a = bytes_of(address, &len);

	for (; own; own = own->ifa_next) {
		const uint8_t *b, *mask;
		size_t i = 0;

		if (!own->ifa_addr || !own->ifa_netmask ||
		    own->ifa_addr->sa_family != address->sa_family)
			continue;
		b = bytes_of(own->ifa_addr, &len);
		/* A netmask's family is not always filled in. */
		mask = address->sa_family == AF_INET
			       ? (const uint8_t *)&((const struct sockaddr_in *)(const void *)
							    own->ifa_netmask)
					 ->sin_addr
			       : ((const struct sockaddr_in6 *)(const void *)own->ifa_netmask)
					 ->sin6_addr.s6_addr;
		while (i < len && ((a[i] ^ b[i]) & mask[i]) == 0)
			i++;
		if (i == len && mask[0] != 0)
			return true;
	}
	return false;
}

static bool all_are_public(const struct addrinfo *list)
{
	struct ifaddrs *own = NULL;
	bool ret = true;

	if (getifaddrs(&own) < 0)
		own = NULL;
	for (; list && ret; list = list->ai_next)
		ret = jail_address_is_public(list->ai_addr) && !is_near(list->ai_addr, own);
	if (own)
		freeifaddrs(own);
	return ret;
}

int registry_check(struct slice domain, const char *private_registries, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	struct slice host;
	char name[256];
	bool ok;
	int rc;

	/* Docker's own: the engine knows where it is, whatever the name says. */
	if (domain.len == 0 || slice_is(domain, "docker.io") || slice_is(domain, "index.docker.io") ||
	    registry_is_listed(private_registries, domain))
		return 0;
	host = host_of(domain, true);
	if (host.len >= sizeof(name))
		return err_set_field(err, "image", "the registry's name '%.*s…' is too long", 100,
				     host.ptr);
	snprintf(name, sizeof(name), "%.*s", (int)host.len, host.ptr);
	rc = getaddrinfo(name, NULL, &hints, &list);
	if (rc != 0)
		return err_set(err, ERR_UNAVAILABLE, "the registry %.100s cannot be found: %s", name,
			       gai_strerror(rc));
	ok = all_are_public(list);
	freeaddrinfo(list);
	return ok ? 0
		  : err_set(err, ERR_UNSUPPORTED,
			    "the registry %.80s is on the provider's own network, which is closed to "
			    "leases ([images] private_registries): use a public one",
			    name);
}
