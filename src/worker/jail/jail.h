/* jail: the packet filter around workloads, in tables of its own ("tes_worker", families
 * inet and bridge), through libnftables in a process of its own.
 *
 * Workloads share the engine's default bridge with whatever else the owner runs (a network
 * of their own would cost each start 60 ms for Docker's name server, and a network for each
 * lease more).  They are told apart by the hardware address that jail_mac makes and
 * runtime_create sets before the container exists: rules hold from its first packet, and
 * nobody else's containers are touched.  A workload cannot change or forge its address: it
 * has neither NET_ADMIN nor NET_RAW.
 *
 * Workloads reach the public internet; not private, link-local, carrier, multicast or
 * metadata addresses (IPv4 and IPv6), not the host, not each other and not the owner's
 * containers.  Exempt are answers to connections made to them, and DNS to the resolvers of
 * the host's resolv.conf.  With private routes allowed only the link-local, metadata and
 * multicast ranges stay closed, and the host and the neighbours as ever.
 *
 * One table serves all workers of a machine.  Applying is atomic and idempotent; the tables
 * are replaced whole, so a crash leaves no stale rule, and rules outlive the worker as its
 * containers do.  Callable from any thread.
 */
#ifndef TES_WORKER_JAIL_H
#define TES_WORKER_JAIL_H

#include "../../base/base.h"

#include <sys/socket.h>

/* 06:54:45:xx:xx:xx, or 0a:54:45:xx:xx:xx with private routes; the rest is a digest of the
 * lease id. */
#define JAIL_MAC_SIZE 18
void jail_mac(const char *lease, bool private_routes, char ret[static JAIL_MAC_SIZE]);
bool jail_mac_is(const char *mac); /* one of those? */

/* Outside all ranges that the jail closes: private, loopback, link-local, carrier, multicast,
 * metadata and reserved ones, and IPv6 ranges that lead to such IPv4 addresses.  False for what
 * is neither IPv4 nor IPv6.  Pure. */
bool jail_address_is_public(const struct sockaddr *address);

/* ERR_UNSUPPORTED where there is no nftables or no permission: the caller decides whether it
 * runs workloads then (default: no). */
int jail_apply(struct err *err) must_check;
int jail_remove(struct err *err) must_check; /* fine if there is nothing */
/* Are the tables what jail_apply would make now?  ERR_CONFLICT: somebody changed or removed
 * them, or the host's resolvers are others since; apply again. */
int jail_check(struct err *err) must_check;

#endif
