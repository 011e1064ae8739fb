/* Shared by the files of jail only. */
#ifndef TES_WORKER_JAIL_INTERNAL_H
#define TES_WORKER_JAIL_INTERNAL_H

#include "jail.h"

/* Ranges as nft(8) reads them, separated by ", ": closed to every workload, and closed to those
 * without private routes (ranges.c). */
extern const char closed_ipv4[], private_ipv4[], closed_ipv6[], private_ipv6[];

/* Adds the addresses of the "nameserver" lines of a resolv.conf, as "1.2.3.4" and "fd00::1"
 * (zones cut off), to the fitting list, separated by ", ", none twice; loopback ones are
 * left out, because no container can use them. */
void resolvers_read(struct slice resolv_conf, struct strbuf *ret_ipv4, struct strbuf *ret_ipv6);
/* The whole ruleset, as nft(8) reads it, replacing what is there. */
void rules_write(const char *resolvers_ipv4, const char *resolvers_ipv6, struct strbuf *out);

#endif
