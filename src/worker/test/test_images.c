#include "../internal.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/tes-images-XXXXXX";

static int setup(void **state)
{
	crypto_init();
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return dir_remove(dir, NULL);
}

static void remember(struct images_known *k, const char *image,
		     const struct registry_login *login, const char *id)
{
	struct err err = { 0 };

	if (images_remember(k, dir, image, login, id, &err) < 0)
		fail_msg("%s", err.text);
}

static void only_who_pulled_it(void **state)
{
	const struct registry_login ann = { "ann", "1" }, ann_old = { "ann", "0" },
				    joined = { "ann1", "" };
	struct images_known k = { 0 }, again = { 0 };
	char id[80];

	images_load(&k, dir);
	assert_false(images_find(&k, "r.example/a:1", NULL, id));
	remember(&k, "r.example/a:1", &ann, "sha256:aa");
	remember(&k, "r.example/b:1", NULL, "sha256:bb");
	remember(&k, "r.example/a:1", &ann, "sha256:cc");
	assert_int_equal(k.count, 2);
	/* And after a restart. */
	images_load(&again, dir);
	assert_int_equal(again.count, 2);
	assert_true(images_find(&again, "r.example/a:1", &ann, id));
	assert_string_equal(id, "sha256:cc");
	assert_true(images_find(&again, "r.example/b:1", NULL, id));
	assert_string_equal(id, "sha256:bb");
	assert_false(images_find(&again, "r.example/a:1", NULL, id));
	assert_false(images_find(&again, "r.example/a:1", &ann_old, id));
	assert_false(images_find(&again, "r.example/a:1", &joined, id));
	assert_false(images_find(&again, "r.example/b:1", &ann, id));
}

static void the_oldest_goes(void **state)
{
	struct images_known k = { 0 };
	char name[32], id[80];

	images_load(&k, dir);
	for (int i = 0; i <= IMAGES_KNOWN_MAX; i++) {
		snprintf(name, sizeof(name), "many:%d", i);
		remember(&k, name, NULL, name);
	}
	assert_int_equal(k.count, IMAGES_KNOWN_MAX);
	assert_false(images_find(&k, "many:0", NULL, id));
	assert_true(images_find(&k, "many:1", NULL, id));
	assert_true(images_find(&k, name, NULL, id));
	assert_string_equal(id, name);
}

static void damaged(void **state)
{
	static const char text[] = "short sha256:aa\n\n \nno newline";
	cleanup_free char *path = path_join(dir, "images");
	struct images_known k = { 0 };

	assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, NULL), 0);
	images_load(&k, dir);
	assert_int_equal(k.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_who_pulled_it),
		cmocka_unit_test(the_oldest_goes),
		cmocka_unit_test(damaged),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
