/* hw: what this machine is: CPU, memory, disk, network, GPUs (NVML by dlopen).  Read-only;
 * reports what it could not read. hw_detect blocks (NVML takes a second or two to start) and
 * is for one thread at a time.
 */
#ifndef TES_WORKER_HW_H
#define TES_WORKER_HW_H

#include "../../base/base.h"
#include "../../model/model.h"

/* Fills the detected members of `ret` (not engine, prices, shares and times).  disk_mib is
 * what the file system of `data_dir` still takes.  What could not be read is empty or 0 and
 * stands as a sentence, with what to do, in `ret_problems`.  `simulated_gpus` (NULL or
 * empty: none), "2x Some Model 24576" with the MiB of each, adds devices marked simulated,
 * for demos and tests; more kinds after commas.  ERR_INVALID if that is not understood. */
int hw_detect(const char *data_dir, const char *simulated_gpus, struct arena *arena,
	      struct inventory *ret, struct text_list *ret_problems,
	      struct err *err) must_check;
/* Whether hw_detect would understand it. */
int hw_simulated_check(const char *simulated_gpus, struct err *err) must_check;
/* Library to load instead of libnvidia-ml.so.1 (NULL: that one again); tests build a
 * stand-in. */
void hw_set_nvml_path(const char *path);

#endif
