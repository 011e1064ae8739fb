#include "../../../codec/codec.h"
#include "../hw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define NO_LIBRARY "/nonexistent/libnvidia-ml.so.1"

static struct arena arena;
static struct inventory inv;
static struct text_list problems;
static struct err err;

static int setup(void **state)
{
	static const char *const settings[] = { "STANDIN_GPUS", "STANDIN_INIT", "STANDIN_LOST",
						"STANDIN_MIG" };

	crypto_init();
	arena_init(&arena, 0);
	memset(&inv, 0, sizeof(inv));
	memset(&problems, 0, sizeof(problems));
	err_clear(&err);
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		unsetenv(settings[i]);
	hw_set_nvml_path(NO_LIBRARY);
	return 0;
}

static int teardown(void **state)
{
	arena_release(&arena);
	return 0;
}

static bool problem_has(const char *words)
{
	for (size_t i = 0; i < problems.len; i++)
		if (strstr(problems.items[i], words))
			return true;
	return false;
}

static void test_machine(void **state)
{
	assert_int_equal(hw_detect("/", NULL, &arena, &inv, &problems, &err), 0);
	assert_true(inv.cpu_threads >= 1);
	assert_true(inv.memory_mib >= 64);
	assert_true(inv.disk_mib >= 1);
	assert_true(*inv.hostname && *inv.os && *inv.kernel && *inv.arch && *inv.cpu_model &&
		    *inv.version);
	assert_int_equal(inv.devices.len, 0);
	assert_false(inv.simulated);
	print_message("# %s, %s, %s %s, %s: %d threads, %d MiB, %d MiB disk, %d kbit/s\n",
		      inv.hostname, inv.os, inv.kernel, inv.arch, inv.cpu_model,
		      (int)inv.cpu_threads, (int)inv.memory_mib, (int)inv.disk_mib,
		      (int)inv.net_down_kbps);
}

/* What the owner set is left alone. */
static void test_keeps(void **state)
{
	inv.price_gpu_uusd_h = 250000;
	inv.region = "eu";
	inv.engine = "docker";
	assert_int_equal(hw_detect("/", "", &arena, &inv, &problems, &err), 0);
	assert_int_equal(inv.price_gpu_uusd_h, 250000);
	assert_string_equal(inv.region, "eu");
	assert_string_equal(inv.engine, "docker");
}

static void test_no_data_dir(void **state)
{
	assert_int_equal(hw_detect("/nonexistent/data", NULL, &arena, &inv, &problems, &err),
			 0);
	assert_int_equal(inv.disk_mib, 0);
	assert_true(problem_has("/nonexistent/data"));
}

static void test_gpus(void **state)
{
	hw_set_nvml_path(NVML_STANDIN);
	assert_int_equal(hw_detect("/", NULL, &arena, &inv, &problems, &err), 0);
	assert_int_equal(inv.devices.len, 2);
	assert_string_equal(inv.gpu_driver, "535.183.01");
	assert_string_equal(inv.cuda_version, "12.2");
	assert_int_equal(inv.devices.items[1].index, 1);
	assert_string_equal(inv.devices.items[1].model, "NVIDIA GeForce RTX 4090");
	assert_string_equal(inv.devices.items[1].uuid,
			    "GPU-00000000-0000-0000-0000-000000000001");
	assert_string_equal(inv.devices.items[1].pci_bus, "00000000:02:00.0");
	assert_int_equal(inv.devices.items[1].vram_mib, 24564);
	assert_false(inv.devices.items[1].simulated || inv.simulated);
}

static void test_gpu_lost(void **state)
{
	hw_set_nvml_path(NVML_STANDIN);
	setenv("STANDIN_GPUS", "4", 1);
	setenv("STANDIN_LOST", "1", 1);
	setenv("STANDIN_MIG", "2", 1);
	assert_int_equal(hw_detect("/", NULL, &arena, &inv, &problems, &err), 0);
	assert_int_equal(inv.devices.len, 2);
	assert_int_equal(inv.devices.items[1].index, 3);
	assert_true(problem_has("GPU 1 does not answer and is left out: GPU is lost"));
	assert_true(problem_has("GPU 2 (NVIDIA GeForce RTX 4090) is cut up by MIG"));
}

static void test_too_many_gpus(void **state)
{
	hw_set_nvml_path(NVML_STANDIN);
	setenv("STANDIN_GPUS", "66", 1);
	assert_int_equal(hw_detect("/", NULL, &arena, &inv, &problems, &err), 0);
	assert_int_equal(inv.devices.len, 64);
	assert_true(problem_has("GPU 65 is left out"));
}

static void test_driver_mismatch(void **state)
{
	hw_set_nvml_path(NVML_STANDIN);
	setenv("STANDIN_INIT", "18", 1);
	assert_int_equal(hw_detect("/", NULL, &arena, &inv, &problems, &err), 0);
	assert_int_equal(inv.devices.len, 0);
	assert_true(problem_has("reboot"));
	setenv("STANDIN_INIT", "999", 1);
	assert_int_equal(hw_detect("/", NULL, &arena, &inv, &problems, &err), 0);
	assert_true(problem_has("Unknown Error (999)"));
}

static void test_other_library(void **state)
{
	hw_set_nvml_path("libc.so.6");
	assert_int_equal(hw_detect("/", NULL, &arena, &inv, &problems, &err), 0);
	assert_int_equal(inv.devices.len, 0);
	assert_true(problem_has("none of NVIDIA's"));
}

static void test_simulated(void **state)
{
	char first[64];

	hw_set_nvml_path(NVML_STANDIN);
	assert_int_equal(hw_detect("/", "2x Sim 4090 Ti 24576, 1x Sim A100 81920", &arena, &inv,
				   &problems, &err),
			 0);
	assert_int_equal(inv.devices.len, 5);
	assert_true(inv.simulated);
	assert_false(inv.devices.items[1].simulated);
	assert_true(inv.devices.items[2].simulated);
	assert_string_equal(inv.devices.items[3].model, "Sim 4090 Ti");
	assert_int_equal(inv.devices.items[3].vram_mib, 24576);
	assert_int_equal(inv.devices.items[4].vram_mib, 81920);
	assert_string_not_equal(inv.devices.items[3].uuid, inv.devices.items[2].uuid);
	snprintf(first, sizeof(first), "%s", inv.devices.items[2].uuid);
	assert_int_equal(hw_detect("/", "1x Other 1", &arena, &inv, &problems, &err), 0);
	assert_string_equal(inv.devices.items[2].uuid, first);
	assert_int_equal(hw_detect("/tmp", "1x Other 1", &arena, &inv, &problems, &err), 0);
	assert_string_not_equal(inv.devices.items[2].uuid, first);
}

static void test_simulated_refused(void **state)
{
	static const char *const bad[] = { "2",
					   "2x",
					   "2x ",
					   "2x 24576",
					   "2x Model",
					   "2x Model -1",
					   "0x Model 1",
					   "65x Model 1",
					   "Model 1",
					   "2 x Model 1",
					   "2x Model 99999999999",
					   "2x Model 1,",
					   "64x A 1,1x B 1",
					   "2x M\xff 1" };
	const struct inventory before = inv;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(hw_detect("/", bad[i], &arena, &inv, &problems, &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_memory_equal(&before, &inv, sizeof(inv));
	}
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_machine),	    TEST(test_keeps),
		TEST(test_no_data_dir),	    TEST(test_gpus),
		TEST(test_gpu_lost),	    TEST(test_too_many_gpus),
		TEST(test_driver_mismatch), TEST(test_other_library),
		TEST(test_simulated),	    TEST(test_simulated_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
