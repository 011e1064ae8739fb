/* model/internal.h: limits and flags that the description tables share. */
#ifndef TES_MODEL_INTERNAL_H
#define TES_MODEL_INTERNAL_H

#include "model.h"

/* A column that only the server sets, and one that is never absent. */
#define COLUMN	    (FIELD_SQL | FIELD_OUT)
#define COLUMN_SET  (COLUMN | FIELD_REQUIRED)
#define COLUMN_NULL (COLUMN | FIELD_NULL)
/* Output that is computed, not stored. */
#define OUT_SET (FIELD_OUT | FIELD_REQUIRED)

#define COUNT_MAX	(INT64_C(1) << 53) /* what JSON numbers carry exactly everywhere */
#define CPU_MILLI_MAX	INT64_C(1024000)
#define MEMORY_MIB_MAX	(INT64_C(16) << 20)
#define DISK_MIB_MAX	(INT64_C(64) << 20)
#define VRAM_MIB_MAX	(INT64_C(16) << 20)
#define GPUS_MAX	64
#define KBPS_MAX	INT64_C(1000000000000)
#define DURATION_S_MAX	(INT64_C(10) * 366 * 86400) /* ten years */
#define DURATION_MS_MAX (DURATION_S_MAX * SECOND_MS)

#define NAME_MAX_BYTES	      63
#define REGION_MAX_BYTES      32
#define GPU_MODEL_MAX_BYTES   64
#define UUID_MAX_BYTES	      96
#define COMMAND_MAX	      256
#define COMMAND_MAX_BYTES     8192
#define ENV_MAX		      256
#define ENV_MAX_BYTES	      32768
#define INPUTS_MAX	      16
#define OUTPUTS_MAX	      16
#define IMAGE_MAX_BYTES	      255
#define DIGEST_MAX_BYTES      160
#define PATH_MAX_BYTES	      1024
#define REASON_TEXT_MAX_BYTES 1024
#define HEX32_BYTES	      64 /* 32 bytes in hexadecimal */

/* Field checks; all set ERR_INVALID with `field`, the value, the limit and what to do. NULL
 * and "" pass. */
int check_label(const char *field, const char *value, struct err *err) must_check;
int check_hex(const char *field, const char *value, size_t bytes, struct err *err) must_check;

/* The worker is kept from this customer for a while: it failed, whoever is to blame. */
bool lease_reason_avoids(enum lease_reason r);

#endif
