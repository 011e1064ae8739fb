/* The head of a request, looked at before anything else happens with it: what two readers (a
 * proxy in front of us and we) could understand differently is refused, RFC 9112 §11.2.
 */
#include "internal.h"

#include <arpa/inet.h>

/* libmicrohttpd before 1.0 takes bare LF, folded lines and NUL for granted and shows none of
 * them.  It parses in place, though: every CR and LF becomes a NUL and the rest stays where
 * it was.  So the parts of a clean head lie at exactly known distances from each other,
 * which is what `next` follows. */
#define LAYOUT_IS_KNOWN (MHD_VERSION < 0x01000000)

struct head {
	const char *next; /* where the next header's name must be */
	const char *host, *length, *encoding, *content_encoding, *type, *authorization;
	const char *twice; /* a header that must not repeat, and does */
	const char *bad;   /* what is wrong with the form */
};

static bool token_is(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!((s[i] | 0x20) >= 'a' && (s[i] | 0x20) <= 'z') &&
		    !(s[i] >= '0' && s[i] <= '9') && !(s[i] && strchr("!#$%&'*+-.^_`|~", s[i])))
			return false;
	return len > 0;
}

static bool value_is_clean(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
			return false;
	return true;
}

static void single_take(struct head *h, const char **slot, const char *name, const char *value)
{
	if (*slot)
		h->twice = name;
	*slot = value;
}

static enum MHD_Result header_check(void *arg, enum MHD_ValueKind kind, const char *name,
				    size_t name_len, const char *value, size_t value_len)
{
	struct head *h = arg;

	if (!value)
		value = "", value_len = 0;
	if (!token_is(name, name_len))
		h->bad = "a header name must be a token directly followed by ':'";
	else if (!value_is_clean(value, value_len))
		h->bad = "a header value must not contain control characters";
	else if (LAYOUT_IS_KNOWN && name != h->next)
		h->bad = "header lines must end with CR LF and must not be folded";
	if (h->bad)
		return MHD_NO;
	h->next = value + value_len + 2;
	if (strcasecmp(name, "Host") == 0)
		single_take(h, &h->host, "Host", value);
	else if (strcasecmp(name, "Content-Length") == 0)
		single_take(h, &h->length, "Content-Length", value);
	else if (strcasecmp(name, "Transfer-Encoding") == 0)
		single_take(h, &h->encoding, "Transfer-Encoding", value);
	else if (strcasecmp(name, "Content-Encoding") == 0)
		single_take(h, &h->content_encoding, "Content-Encoding", value);
	else if (strcasecmp(name, "Content-Type") == 0)
		single_take(h, &h->type, "Content-Type", value);
	else if (strcasecmp(name, "Authorization") == 0)
		single_take(h, &h->authorization, "Authorization", value);
	return MHD_YES;
}

static bool host_is_valid(const char *host)
{
	for (const char *p = host; *p; p++)
		if (!((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') && !(*p >= '0' && *p <= '9') &&
		    !strchr("-._~:[]", *p))
			return false;
	return *host && strlen(host) <= 255;
}

static int length_check(const struct head *h, bool is_1_1, struct err *err)
{
	size_t digits;

	if (h->encoding && !is_1_1)
		return err_set(err, ERR_INVALID, "Transfer-Encoding: not in HTTP/1.0");
	if (h->encoding && h->length)
		return err_set(
			err, ERR_INVALID,
			"Transfer-Encoding and Content-Length: send one of them, not both");
	if (h->encoding && strcasecmp(h->encoding, "chunked") != 0)
		return err_set(err, ERR_INVALID,
			       "Transfer-Encoding: only 'chunked' is understood");
	if (!h->length)
		return 0;
	digits = strspn(h->length, "0123456789");
	if (!digits || h->length[digits] || digits > 18)
		return err_set(err, ERR_INVALID,
			       "Content-Length '%.40s': must be a number of at most 18 digits",
			       h->length);
	return 0;
}

static int form_check(const struct exchange *ex, const struct head *h, bool is_1_1,
		      const char *end, struct err *err)
{
	if (h->bad)
		return err_set(err, ERR_INVALID, "%s", h->bad);
	if (LAYOUT_IS_KNOWN && end != h->next + 2)
		return err_set(err, ERR_INVALID,
			       "head: lines must end with CR LF and hold no NUL");
	if (h->twice)
		return err_set(err, ERR_INVALID, "%s: must be sent once", h->twice);
	if (is_1_1 && !h->host)
		return err_set(err, ERR_INVALID, "Host: is missing");
	if (h->host && !host_is_valid(h->host))
		return err_set(err, ERR_INVALID,
			       "Host '%.40s': must be a host name with an optional port",
			       h->host);
	if (length_check(h, is_1_1, err))
		return -1;
	return 0;
}

int head_check(struct exchange *ex, const char *method, const char *version, int *ret_status,
	       struct err *err)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		ex->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	struct head h = { .next = version + strlen(version) + 2 };
	bool is_1_1 = str_eq(version, "HTTP/1.1");

	*ret_status = 400;
	if (info && (int64_t)info->header_size > ex->server->config.head_max) {
		*ret_status = 431;
		return err_set(err, ERR_TOO_LARGE,
			       "request head: %zu bytes, the limit is %" PRId64
			       "; send fewer or "
			       "shorter headers",
			       info->header_size, ex->server->config.head_max);
	}
	if (!is_1_1 && !str_eq(version, "HTTP/1.0")) {
		*ret_status = 505;
		return err_set(err, ERR_UNSUPPORTED, "HTTP version '%.16s': use HTTP/1.1",
			       version);
	}
	if (!token_is(method, strlen(method)))
		return err_set(err, ERR_INVALID, "request method: must be a token");
	if (LAYOUT_IS_KNOWN && version != method + strlen(method) + 1 + strlen(ex->target) + 1)
		return err_set(
			err, ERR_INVALID,
			"request line: must be 'METHOD target HTTP/1.1' with single spaces");
	MHD_get_connection_values_n(ex->connection, MHD_HEADER_KIND, header_check, &h);
	if (form_check(ex, &h, is_1_1, info ? method + info->header_size : h.next + 2, err))
		return -1;
	if (h.content_encoding && strcasecmp(h.content_encoding, "identity") != 0) {
		*ret_status = 415;
		return err_set(err, ERR_UNSUPPORTED,
			       "Content-Encoding '%.40s': send the body as it is",
			       h.content_encoding);
	}
	return 0;
}

void peer_format(const struct sockaddr *addr, char ret[static INET6_ADDRSTRLEN])
{
	ret[0] = '\0';
	if (addr && addr->sa_family == AF_INET) {
		inet_ntop(AF_INET, &((const struct sockaddr_in *)addr)->sin_addr, ret,
			  INET6_ADDRSTRLEN);
	} else if (addr && addr->sa_family == AF_INET6) {
		const struct in6_addr *in6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;

		if (IN6_IS_ADDR_V4MAPPED(in6))
			inet_ntop(AF_INET, &in6->s6_addr[12], ret, INET6_ADDRSTRLEN);
		else
			inet_ntop(AF_INET6, in6, ret, INET6_ADDRSTRLEN);
	}
}
