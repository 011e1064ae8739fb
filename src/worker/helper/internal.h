/* Shared by the files of helper only. */
#ifndef TES_WORKER_HELPER_INTERNAL_H
#define TES_WORKER_HELPER_INTERNAL_H

#include "helper.h"

/* malloc'd; where it belongs if it is nowhere. */
char *helper_path(const char *name);

#endif
