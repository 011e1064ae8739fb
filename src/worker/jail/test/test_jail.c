/* The namespace tests need root, iproute2 and nftables; they are left out without.  Everything happens in namespaces of their own,
 * network and mounts, which vanish with the process:
 *
 *   workload a (jailed)   10.99.0.2 ─┐
 *   workload b (jailed)   10.99.0.3 ─┤ bridge 10.99.0.1 [host] 9.9.9.1 ── 9.9.9.9 [world], 192.168.77.1,
 *   workload c (loosened) 10.99.0.4 ─┤                                          169.254.169.254, 10.255.255.53
 *   owner's own           10.99.0.5 ─┘
 */
#include "../../../codec/codec.h"
#include "../../../os/os.h"
#include "../internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static bool have_namespaces;
static int host_ns = -1;

/* ---- pure
 * ------------------------------------------------------------------------------------------ */

static void test_mac(void **state)
{
	char mac[JAIL_MAC_SIZE], other[JAIL_MAC_SIZE];

	jail_mac("le_01jdq3k5v8e4r9t0m2n6p7a1bc", false, mac);
	assert_int_equal(strlen(mac), 17);
	assert_true(str_starts(mac, "06:54:45:"));
	assert_true(jail_mac_is(mac));
	jail_mac("le_01jdq3k5v8e4r9t0m2n6p7a1bd", false, other);
	assert_string_not_equal(mac, other);
	jail_mac("le_01jdq3k5v8e4r9t0m2n6p7a1bc", true, other);
	assert_true(str_starts(other, "0a:54:45:"));
	assert_string_equal(mac + 3, other + 3);
	assert_true(jail_mac_is(other));
	assert_false(jail_mac_is("02:42:ac:11:00:02"));
	assert_false(jail_mac_is(""));
	assert_false(jail_mac_is("06:54:45:"));
}

static void test_resolvers(void **state)
{
	cleanup_strbuf struct strbuf ipv4 = STRBUF_INIT, ipv6 = STRBUF_INIT;

	resolvers_read(
		SLICE("# nameserver 1.1.1.1\nnameserver 10.0.0.1\nnameserver\t192.168.1.1 trailing\r\nsearch x\n"
		      "nameserver 127.0.0.53\nnameserver ::1\nnameserver fd00::1%eth0\nnameserver 10.0.0.1\n"
		      "nameserver 1.2.3.4; } drop\nnameserver $(x)\nnameserver\nnameserver999 8.8.8.8\nnameserver 2001:db8::53"),
		&ipv4, &ipv6);
	assert_string_equal(ipv4.buf, "10.0.0.1, 192.168.1.1");
	assert_string_equal(ipv6.buf, "fd00::1, 2001:db8::53");
	resolvers_read(SLICE("nameserver 10.0.0.1\nnameserver 9.9.9.9\n"), &ipv4, &ipv6);
	assert_string_equal(ipv4.buf, "10.0.0.1, 192.168.1.1, 9.9.9.9");
}

static bool is_public(const char *text)
{
	struct sockaddr_in ipv4 = { .sin_family = AF_INET };
	struct sockaddr_in6 ipv6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1)
		return jail_address_is_public((const struct sockaddr *)&ipv4);
	assert_int_equal(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
	return jail_address_is_public((const struct sockaddr *)&ipv6);
}

static void test_public_addresses(void **state)
{
	static const char *const public[] = {
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
		"126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255",
		"169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111",
		"2a02:8109::1", "2001:1::1", "2003::1", "64:ff9b::101:101",
	};
	static const char *const closed[] = {
		"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0",
		"100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.255.254",
		"168.63.129.16", "169.254.0.0", "169.254.169.254", "172.16.0.0", "172.31.255.255",
		"192.0.0.192", "192.0.2.1", "192.168.0.0", "192.168.1.5", "192.168.255.255",
		"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
		"239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1",
		"::ffff:127.0.0.1", "::ffff:1.1.1.1", "64:ff9b::192.168.1.5", "64:ff9b::127.0.0.1",
		"64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:c0a8:105::1",
		"fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "febf::1", "fec0::1", "ff02::1",
	};
	const struct sockaddr other = { .sa_family = AF_UNIX };

	for (size_t i = 0; i < ARRAY_LEN(public); i++)
		if (!is_public(public[i]))
			fail_msg("%s is taken for closed", public[i]);
	for (size_t i = 0; i < ARRAY_LEN(closed); i++)
		if (is_public(closed[i]))
			fail_msg("%s is taken for public", closed[i]);
	assert_false(jail_address_is_public(&other));
}

/* ---- in namespaces
 * --------------------------------------------------------------------------------- */

static int ip(const char *arguments)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT, errout = STRBUF_INIT;
	cleanup_free char *line = xstrdup(arguments);
	const char *argv[24] = { "ip" };
	size_t argc = 1;
	int status = 0;
	struct err err = { 0 };

	for (char *save, *word = strtok_r(line, " ", &save); word && argc < ARRAY_LEN(argv) - 1;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	if (process_run(argv, (struct slice){ 0 }, 4096, 10000, &out, &errout, &status, &err) <
		    0 ||
	    status != 0) {
		print_message("# ip %s: %s%s\n", arguments, errout.buf, err.text);
		return -1;
	}
	return 0;
}

static int file_put(const char *path, const char *text)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

static int workload_add(const char *name, const char *mac, int number)
{
	char command[256];

#define IP(...)                                                  \
	do {                                                     \
		snprintf(command, sizeof(command), __VA_ARGS__); \
		if (ip(command) < 0)                             \
			return -1;                               \
	} while (0)
	IP("netns add %s", name);
	IP("link add v%s type veth peer name eth0 address %s netns %s", name, mac, name);
	IP("link set v%s master br0 up", name);
	IP("-n %s link set lo up", name);
	IP("-n %s link set eth0 up", name);
	IP("-n %s addr add 10.99.0.%d/24 dev eth0", name, number);
	IP("-n %s addr add fd99::%d/64 dev eth0 nodad", name, number);
	IP("-n %s route add default via 10.99.0.1", name);
	IP("-n %s route add default via fd99::1", name);
	return 0;
}

static int world_build(void)
{
	static const char *const commands[] = {
		"link set lo up",
		"link add br0 type bridge",
		"addr add 10.99.0.1/24 dev br0",
		"addr add fd99::1/64 dev br0 nodad",
		"link set br0 up",
		"netns add world",
		"link add up0 type veth peer name eth0 netns world",
		"addr add 9.9.9.1/24 dev up0",
		"addr add 2620:fe::1/64 dev up0 nodad",
		"link set up0 up",
		"-n world link set lo up",
		"-n world link set eth0 up",
		"-n world addr add 9.9.9.9/24 dev eth0",
		"-n world addr add 192.168.77.1/32 dev eth0",
		"-n world addr add 169.254.169.254/32 dev eth0",
		"-n world addr add 10.255.255.53/32 dev eth0",
		"-n world addr add 2620:fe::9/64 dev eth0 nodad",
		"-n world addr add fd77::1/128 dev eth0 nodad",
		"route add 192.168.77.1 via 9.9.9.9",
		"route add 169.254.169.254 via 9.9.9.9",
		"route add 10.255.255.53 via 9.9.9.9",
		"route add fd77::1 via 2620:fe::9",
		"-n world route add 10.99.0.0/24 via 9.9.9.1",
		"-n world route add fd99::/64 via 2620:fe::1",
	};
	char jailed[JAIL_MAC_SIZE], neighbour[JAIL_MAC_SIZE], loosened[JAIL_MAC_SIZE];

	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (ip(commands[i]) < 0)
			return -1;
	jail_mac("le_a", false, jailed);
	jail_mac("le_b", false, neighbour);
	jail_mac("le_c", true, loosened);
	if (workload_add("a", jailed, 2) < 0 || workload_add("b", neighbour, 3) < 0 ||
	    workload_add("c", loosened, 4) < 0 ||
	    workload_add("own", "02:42:0a:63:00:05", 5) < 0)
		return -1;
	return file_put("/proc/sys/net/ipv4/ip_forward", "1") < 0 ||
			       file_put("/proc/sys/net/ipv6/conf/all/forwarding", "1") < 0
		       ? -1
		       : 0;
}

static void prepare(void)
{
	crypto_init();
	if (geteuid() != 0 || unshare(CLONE_NEWNS | CLONE_NEWNET) < 0 ||
	    mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return;
	if (mount("tmpfs", "/mnt", "tmpfs", 0, NULL) < 0 ||
	    file_put("/mnt/resolv.conf", "nameserver 10.255.255.53\n") < 0 ||
	    mount("/mnt/resolv.conf", "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0)
		return;
	/* Of the host's names none is seen, and ours vanish with the mount. */
	if ((mkdir("/run/netns", 0755) < 0 && errno != EEXIST) ||
	    mount("tmpfs", "/run/netns", "tmpfs", 0, NULL) < 0)
		return;
	/* /sys and /proc/sys/net follow the namespace; nothing to do. */
	host_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	have_namespaces = host_ns >= 0 && world_build() == 0;
}

static int group_teardown(void **state)
{
	return jail_remove(NULL);
}

/* A socket that belongs to a namespace; "" is the host's. */
static int socket_in(const char *ns, int family, int type)
{
	char path[64];
	int fd, sock;

	snprintf(path, sizeof(path), "/run/netns/%s", ns);
	fd = *ns ? open(path, O_RDONLY | O_CLOEXEC) : dup(host_ns);
	assert_true(fd >= 0);
	assert_int_equal(setns(fd, CLONE_NEWNET), 0);
	sock = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(setns(host_ns, CLONE_NEWNET), 0);
	close(fd);
	assert_true(sock >= 0);
	return sock;
}

static socklen_t address_make(const char *text, int port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &ipv4->sin_addr) == 1) {
		ipv4->sin_family = AF_INET;
		ipv4->sin_port = htons((uint16_t)port);
		return sizeof(*ipv4);
	}
	assert_int_equal(inet_pton(AF_INET6, text, &ipv6->sin6_addr), 1);
	ipv6->sin6_family = AF_INET6;
	ipv6->sin6_port = htons((uint16_t)port);
	return sizeof(*ipv6);
}

static int listen_in(const char *ns, int port)
{
	struct sockaddr_storage address;
	socklen_t len = address_make("::", port, &address);
	int sock = socket_in(ns, AF_INET6, SOCK_STREAM), off = 0, on = 1;

	setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(sock, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(sock, 64), 0);
	return sock;
}

/* 0 if a TCP connection comes about, else errno (ETIMEDOUT after half a second). */
static int reach(const char *ns, const char *to, int port)
{
	struct sockaddr_storage address;
	socklen_t len = address_make(to, port, &address);
	cleanup_fd int sock = socket_in(ns, address.ss_family, SOCK_STREAM);
	struct pollfd p = { .fd = sock, .events = POLLOUT };
	int error = 0;
	socklen_t error_len = sizeof(error);

	if (connect(sock, (struct sockaddr *)&address, len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	if (poll(&p, 1, 500) == 0)
		return ETIMEDOUT;
	getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &error_len);
	return error;
}

/* IPv6 takes its time to find neighbours. */
#define reaches(ns, to, port)                                               \
	do {                                                                \
		int error_ = -1;                                            \
		for (int tries_ = 0; tries_ < 5 && error_ != 0; tries_++)   \
			error_ = reach(ns, to, port);                       \
		if (error_ != 0)                                            \
			fail_msg("%s to %s: %s", ns, to, strerror(error_)); \
	} while (0)
/* All of these addresses listen, see test_open_without: it is the jail that says no. */
#define refused(ns, to, port)                                               \
	do {                                                                \
		int error_ = reach(ns, to, port);                           \
		if (error_ != ECONNREFUSED)                                 \
			fail_msg("%s to %s: %s", ns, to, strerror(error_)); \
	} while (0)

static int open_sockets[16];
static size_t open_count;

static int setup(void **state)
{
	for (const char **ns = (const char *[]){ "", "world", "a", "b", "c", "own", NULL }; *ns;
	     ns++) {
		open_sockets[open_count++] = listen_in(*ns, 7777);
		open_sockets[open_count++] = listen_in(*ns, 53);
	}
	return 0;
}

static int teardown(void **state)
{
	while (open_count > 0)
		close(open_sockets[--open_count]);
	return 0;
}

/* Without the jail all of it is open: else the other tests prove nothing. */
static void test_open_without(void **state)
{
	assert_int_equal(jail_remove(NULL), 0);
	for (const char **to =
		     (const char *[]){ "9.9.9.9", "192.168.77.1", "169.254.169.254",
				       "10.99.0.1", "9.9.9.1", "10.99.0.3", "10.99.0.5",
				       "10.255.255.53", "2620:fe::9", "fd77::1", "2620:fe::1",
				       "fd99::1", "fd99::3", NULL };
	     *to; to++)
		reaches("a", *to, 7777);
}

static void test_jailed(void **state)
{
	struct err err = { 0 };

	if (jail_apply(&err) < 0)
		fail_msg("%s", err.text);
	reaches("a", "9.9.9.9", 7777);
	reaches("a", "2620:fe::9", 7777);
	refused("a", "192.168.77.1", 7777);
	refused("a", "169.254.169.254", 7777);
	refused("a", "10.255.255.53", 7777);
	refused("a", "fd77::1", 7777);
	/* the host, by each of its addresses */
	refused("a", "10.99.0.1", 7777);
	refused("a", "9.9.9.1", 7777);
	refused("a", "fd99::1", 7777);
	refused("a", "2620:fe::1", 7777);
	refused("a", "10.99.0.1", 53);
	/* only DNS, only to the host's resolver */
	reaches("a", "10.255.255.53", 53);
	refused("a", "192.168.77.1", 53);
}

static void test_neighbours(void **state)
{
	struct err err = { 0 };

	assert_int_equal(jail_apply(&err), 0);
	/* On the bridge nothing is even answered. */
	assert_int_not_equal(reach("a", "10.99.0.3", 7777), 0);
	assert_int_not_equal(reach("a", "fd99::3", 7777), 0);
	assert_int_not_equal(reach("a", "10.99.0.5", 7777), 0);
	assert_int_not_equal(reach("c", "10.99.0.3", 7777), 0);
	assert_int_not_equal(reach("own", "10.99.0.2", 7777), 0);
	/* Nor the long way round, through the host. */
	for (const char **ns = (const char *[]){ "a", "c", NULL }; *ns; ns++) {
		char command[96];

		snprintf(command, sizeof(command), "-n %s route add 10.99.0.3/32 via 10.99.0.1",
			 *ns);
		assert_int_equal(ip(command), 0);
		refused(*ns, "10.99.0.3", 7777);
		snprintf(command, sizeof(command), "-n %s route del 10.99.0.3/32", *ns);
		assert_int_equal(ip(command), 0);
	}
}

/* The host reaches its workloads (readiness, tunnels), and they answer. */
static void test_answers(void **state)
{
	assert_int_equal(jail_apply(NULL), 0);
	reaches("", "10.99.0.2", 7777);
	reaches("", "fd99::2", 7777);
	reaches("world", "10.99.0.2", 7777);
}

static void test_loosened(void **state)
{
	assert_int_equal(jail_apply(NULL), 0);
	reaches("c", "9.9.9.9", 7777);
	reaches("c", "192.168.77.1", 7777);
	reaches("c", "fd77::1", 7777);
	refused("c", "169.254.169.254", 7777);
	refused("c", "10.99.0.1", 7777);
	refused("c", "9.9.9.1", 7777);
}

/* What the owner runs on the same bridge is not our business. */
static void test_owner_untouched(void **state)
{
	assert_int_equal(jail_apply(NULL), 0);
	reaches("own", "192.168.77.1", 7777);
	reaches("own", "169.254.169.254", 7777);
	reaches("own", "10.99.0.1", 7777);
	reaches("", "10.99.0.5", 7777);
}

/* A datagram goes where a connection does not. */
static void test_datagrams(void **state)
{
	struct sockaddr_storage address, to;
	cleanup_fd int receiver = -1, sender = -1;
	struct pollfd p = { .events = POLLIN };
	char got[8] = "";
	socklen_t len;

	assert_int_equal(jail_apply(NULL), 0);
	receiver = socket_in("world", AF_INET, SOCK_DGRAM);
	sender = socket_in("a", AF_INET, SOCK_DGRAM);
	len = address_make("0.0.0.0", 53, &address);
	assert_int_equal(bind(receiver, (struct sockaddr *)&address, len), 0);
	len = address_make("192.168.77.1", 53, &to);
	assert_int_equal(sendto(sender, "no", 2, 0, (struct sockaddr *)&to, len), 2);
	len = address_make("10.255.255.53", 53, &to);
	assert_int_equal(sendto(sender, "yes", 3, 0, (struct sockaddr *)&to, len), 3);
	p.fd = receiver;
	assert_int_equal(poll(&p, 1, 2000), 1);
	assert_int_equal(recv(receiver, got, sizeof(got), 0), 3);
	assert_string_equal(got, "yes");
	assert_int_equal(poll(&p, 1, 100), 0);
}

static void test_check(void **state)
{
	struct err err = { 0 };
	const char *const flush[] = { "nft",	    "flush",  "chain", "inet",
				      "tes_worker", "jailed", NULL };
	const char *const delete[] = { "nft", "delete", "table", "bridge", "tes_worker", NULL };
	cleanup_strbuf struct strbuf out = STRBUF_INIT, errout = STRBUF_INIT;
	int status = -1;

	assert_int_equal(jail_apply(&err), 0);
	assert_int_equal(jail_apply(&err), 0);
	reaches("a", "9.9.9.9", 7777); /* counters are no change */
	refused("a", "192.168.77.1", 7777);
	if (jail_check(&err) < 0)
		fail_msg("%s", err.text);

	assert_int_equal(process_run(flush, (struct slice){ 0 }, 4096, 10000, &out, &errout,
				     &status, &err),
			 0);
	assert_int_equal(status, 0);
	assert_int_equal(jail_check(&err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	assert_int_equal(jail_apply(&err), 0);
	assert_int_equal(jail_check(&err), 0);

	assert_int_equal(process_run(delete, (struct slice){ 0 }, 4096, 10000, &out, &errout,
				     &status, &err),
			 0);
	assert_int_equal(jail_check(&err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	assert_int_equal(jail_apply(&err), 0);

	assert_int_equal(file_put("/mnt/resolv.conf", "nameserver 192.168.77.1\n"), 0);
	assert_int_equal(jail_check(&err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	assert_non_null(strstr(err.text, "resolvers"));
	assert_int_equal(jail_apply(&err), 0);
	reaches("a", "192.168.77.1", 53);
	refused("a", "10.255.255.53", 53);
	assert_int_equal(file_put("/mnt/resolv.conf", "nameserver 10.255.255.53\n"), 0);
}

static void test_remove(void **state)
{
	struct err err = { 0 };

	assert_int_equal(jail_apply(&err), 0);
	assert_int_equal(jail_remove(&err), 0);
	assert_int_equal(jail_remove(&err), 0);
	assert_int_equal(jail_check(&err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	reaches("a", "192.168.77.1", 7777);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest pure[] = {
		cmocka_unit_test(test_mac),
		cmocka_unit_test(test_resolvers), cmocka_unit_test(test_public_addresses),
	};
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_mac), cmocka_unit_test(test_resolvers),
		TEST(test_open_without),    TEST(test_jailed),
		TEST(test_neighbours),	    TEST(test_answers),
		TEST(test_loosened),	    TEST(test_owner_untouched),
		TEST(test_datagrams),	    TEST(test_check),
		TEST(test_remove),
	};

	prepare();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (have_namespaces)
		return cmocka_run_group_tests(all, NULL, group_teardown);
	print_message("# left out what needs root, iproute2 and nftables\n");
	return cmocka_run_group_tests(pure, NULL, NULL);
}
