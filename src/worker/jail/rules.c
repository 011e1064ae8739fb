#include "internal.h"

#include <arpa/inet.h>

#define JAILED	 "ether saddr & ff:ff:ff:00:00:00 == 06:54:45:00:00:00"
#define LOOSENED "ether saddr & ff:ff:ff:00:00:00 == 0a:54:45:00:00:00"
#define TO_WORKLOAD \
	"ether daddr & ff:ff:ff:00:00:00 == { 06:54:45:00:00:00, 0a:54:45:00:00:00 }"
#define FROM_WORKLOAD \
	"ether saddr & ff:ff:ff:00:00:00 == { 06:54:45:00:00:00, 0a:54:45:00:00:00 }"

static bool list_has(const struct strbuf *list, const char *item)
{
	struct slice rest = { list->buf, list->len }, piece;

	while (slice_split(&rest, ',', &piece)) {
		if (slice_is(slice_trim(piece), item))
			return true;
	}
	return false;
}

static void list_add(struct strbuf *list, const char *item)
{
	if (list_has(list, item))
		return;
	if (list->len > 0)
		strbuf_adds(list, ", ");
	strbuf_adds(list, item);
}

static void resolver_add(struct slice address, struct strbuf *ret_ipv4, struct strbuf *ret_ipv6)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr ipv6;
	struct in_addr ipv4;
	struct slice zone = address;

	if (!slice_split(&zone, '%', &address) || address.len >= sizeof(text))
		return;
	memcpy(text, address.ptr, address.len);
	text[address.len] = '\0';
	if (inet_pton(AF_INET, text, &ipv4) == 1) {
		if (ntohl(ipv4.s_addr) >> 24 != 127 && ipv4.s_addr != INADDR_ANY)
			list_add(ret_ipv4, inet_ntop(AF_INET, &ipv4, text, sizeof(text)));
	} else if (inet_pton(AF_INET6, text, &ipv6) == 1) {
		if (!IN6_IS_ADDR_LOOPBACK(&ipv6) && !IN6_IS_ADDR_UNSPECIFIED(&ipv6))
			list_add(ret_ipv6, inet_ntop(AF_INET6, &ipv6, text, sizeof(text)));
	}
}

void resolvers_read(struct slice resolv_conf, struct strbuf *ret_ipv4, struct strbuf *ret_ipv6)
{
	struct slice line;

	while (slice_split(&resolv_conf, '\n', &line)) {
		static const char word[] = "nameserver";
		size_t word_len = sizeof(word) - 1, len = 0;

		line = slice_trim(line);
		if (line.len <= word_len || memcmp(line.ptr, word, word_len) != 0 ||
		    (line.ptr[word_len] != ' ' && line.ptr[word_len] != '\t'))
			continue;
		line = slice_trim((struct slice){ line.ptr + word_len, line.len - word_len });
		while (len < line.len && line.ptr[len] != ' ' && line.ptr[len] != '\t')
			len++;
		resolver_add((struct slice){ line.ptr, len }, ret_ipv4, ret_ipv6);
	}
}

static void set_write(struct strbuf *out, const char *name, const char *type,
		      const char *elements)
{
	strbuf_addf(out, "\tset %s {\n\t\ttype %s; flags interval; auto-merge;\n", name, type);
	if (!str_empty(elements))
		strbuf_addf(out, "\t\telements = { %s }\n", elements);
	strbuf_adds(out, "\t}\n");
}

#define DNS(family)                               \
	"\t\t" family " daddr @resolvers_" family \
	" meta l4proto { tcp, udp } th dport 53 accept\n"

/* The hooks run before the engine's own (priority 0).  To accept there ends only our chain,
 * to reject is final. */
static const char chains[] =
	/* Not to drop: a workload that asks for a closed address should be told so, not
	 * hang. */
	"\tchain refuse {\n"
	"\t\tcounter\n"
	"\t\tmeta l4proto tcp reject with tcp reset\n"
	"\t\treject with icmpx admin-prohibited\n"
	"\t}\n"
	"\tchain jailed {\n"
	"\t\tct state established,related accept\n"
	/* Back through the interface where it came in: the neighbours. */
	"\t\tfib daddr . iif oif exists goto refuse\n" DNS("ip")
		DNS("ip6") "\t\tip daddr @closed_ip goto refuse\n"
			   "\t\tip6 daddr @closed_ip6 goto refuse\n"
			   "\t\tip daddr @private_ip goto refuse\n"
			   "\t\tip6 daddr @private_ip6 goto refuse\n"
			   "\t}\n"
			   "\tchain loosened {\n"
			   "\t\tct state established,related accept\n"
			   "\t\tfib daddr . iif oif exists goto refuse\n" DNS("ip") DNS(
				   "ip6") "\t\tip daddr @closed_ip goto refuse\n"
					  "\t\tip6 daddr @closed_ip6 goto refuse\n"
					  "\t}\n"
					  "\tchain host {\n"
					  "\t\tct state established,related accept\n" DNS("ip")
						  DNS("ip6")
	/* Without neighbour discovery there is no way to an IPv6 router. */
	"\t\ticmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } "
	"accept\n"
	"\t\tgoto refuse\n"
	"\t}\n"
	"\tchain forward {\n"
	"\t\ttype filter hook forward priority filter - 10; policy accept;\n"
	"\t\t" JAILED " goto jailed\n"
	"\t\t" LOOSENED " goto loosened\n"
	"\t}\n"
	"\tchain input {\n"
	"\t\ttype filter hook input priority filter - 10; policy accept;\n"
	"\t\t" FROM_WORKLOAD " goto host\n"
	"\t}\n";

void rules_write(const char *resolvers_ipv4, const char *resolvers_ipv6, struct strbuf *out)
{
	/* Adding first makes the deletion succeed where there is none. */
	strbuf_adds(out, "add table inet tes_worker\ndelete table inet tes_worker\n"
			 "add table bridge tes_worker\ndelete table bridge tes_worker\n"
			 "table inet tes_worker {\n");
	set_write(out, "closed_ip", "ipv4_addr", closed_ipv4);
	set_write(out, "closed_ip6", "ipv6_addr", closed_ipv6);
	set_write(out, "private_ip", "ipv4_addr", private_ipv4);
	set_write(out, "private_ip6", "ipv6_addr", private_ipv6);
	set_write(out, "resolvers_ip", "ipv4_addr", resolvers_ipv4);
	set_write(out, "resolvers_ip6", "ipv6_addr", resolvers_ipv6);
	strbuf_adds(out, chains);
	/* What stays on the bridge never comes to the hooks above. */
	strbuf_adds(out, "}\ntable bridge tes_worker {\n\tchain forward {\n"
			 "\t\ttype filter hook forward priority filter; policy accept;\n"
			 "\t\t" FROM_WORKLOAD " counter drop\n"
			 "\t\t" TO_WORKLOAD " counter drop\n"
			 "\t}\n}\n");
}
