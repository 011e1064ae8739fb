#include "../model.h"

#include <setjmp.h>

#include <cmocka.h>

#define HEX64	 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define A50	 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NAME_250 A50 A50 A50 A50 A50

/* From the tests of github.com/distribution/reference, and what is special here. */
static const struct {
	const char *image, *domain, *path, *tag, *digest;
} good[] = {
	{ "debian", "", "debian", "", "" },
	{ "debian:12", "", "debian", "12", "" },
	{ "library/debian", "", "library/debian", "", "" },
	{ "test.com/repo:tag", "test.com", "repo", "tag", "" },
	{ "test:5000/repo", "test:5000", "repo", "", "" },
	{ "test:5000/repo:tag", "test:5000", "repo", "tag", "" },
	{ "test:5000/repo@sha256:" HEX64, "test:5000", "repo", "", "sha256:" HEX64 },
	{ "test:5000/repo:tag@sha256:" HEX64, "test:5000", "repo", "tag", "sha256:" HEX64 },
	{ "localhost/a", "localhost", "a", "", "" },
	{ "localhost:5000/a", "localhost:5000", "a", "", "" },
	{ "Uppercase/lowercase:tag", "Uppercase", "lowercase", "tag", "" },
	{ "192.168.1.1:5000/a", "192.168.1.1:5000", "a", "", "" },
	{ "[2001:db8::1]/repo", "[2001:db8::1]", "repo", "", "" },
	{ "[2001:db8::1]:5000/repo:tag", "[2001:db8::1]:5000", "repo", "tag", "" },
	{ "sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com", "bar/baz/quux",
	  "some-long-tag", "" },
	{ "b.gcr.io/test.example.com/my-app:test.example.com", "b.gcr.io",
	  "test.example.com/my-app", "test.example.com", "" },
	{ "foo_bar.com:8080", "", "foo_bar.com", "8080", "" },
	{ "foo/foo_bar.com:8080", "", "foo/foo_bar.com", "8080", "" },
	{ "xn--7o8h.com/myimage:xn--7o8h.com", "xn--7o8h.com", "myimage", "xn--7o8h.com", "" },
	{ "x/a__b---c.d", "", "x/a__b---c.d", "", "" },
	{ "a@sha512+b64:" HEX64, "", "a", "", "sha512+b64:" HEX64 },
	{ NAME_250, "", NAME_250, "", "" },
};

static const char *const bad[] = {
	"",
	":tag",
	"@sha256:" HEX64,
	"repo@sha256:abc",
	"validname@invaliddigest:0123",
	"validname@" HEX64,
	"Uppercase:tag",
	"test:5000/Uppercase/lowercase:tag",
	"lowercase:",
	"a//b",
	"/a",
	"a/",
	"a:b:c",
	"a:-tag",
	"a:.tag",
	"aa/asdf$$^/aa",
	"-a",
	"a-",
	"a..b",
	"a___b",
	"a._b",
	"test.com/-a",
	"-test.com/a",
	"test-.com/a",
	"test..com/a",
	"test.com./a",
	"test.com:/a",
	"test.com:port/a",
	"test.com:123456/a",
	"[2001:db8::1/repo",
	"2001:db8::1/repo",
	"[]/repo",
	"[fe80::1%eth0]/repo",
	"[2001:db8::1]x/repo",
	"[2001:db8::1]:/repo",
	"a__b---c.d/e",
	"a b",
	"a\nb",
	"a\tb",
	"../a",
	"a/../b",
	"a@b@sha256:" HEX64,
	"a@sha256:" HEX64 "0",
	"https://test.com/a",
	"a@SHA256:ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789",
	"a@:" HEX64,
	"a@1:" HEX64,
	NAME_250 "aaaaaa",
	"a:" A50 A50 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static void test_good(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct image_ref ref;
		struct err err;

		if (image_parse(good[i].image, &ref, &err) < 0)
			fail_msg("%s: %s", good[i].image, err.text);
		assert_true(slice_is(ref.domain, good[i].domain));
		assert_true(slice_is(ref.path, good[i].path));
		assert_true(slice_is(ref.tag, good[i].tag));
		assert_true(slice_is(ref.digest, good[i].digest));
	}
}

static void test_bad(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct image_ref ref, before;
		struct err err = { 0 };

		memset(&before, 0x5a, sizeof(before));
		ref = before;
		if (image_parse(bad[i], &ref, &err) == 0)
			fail_msg("taken: '%s'", bad[i]);
		assert_int_equal(err.code, ERR_INVALID);
		assert_memory_equal(&ref, &before, sizeof(ref));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
