/*
 * Disks and options as vspctl's user writes them, for vspd. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_CTL_DESCRIBE_H
#define VSP_STORAGE_CTL_DESCRIBE_H

#include "hvcore/json.h"

/* The description NAME=FILE[,OPTION...], with FILE as vspd finds it, whose directory is another. */
void ctl_add_disk(struct hv_json *array, const char *description);

/* Commas written twice, as vspd and QEMU want it; malloc'ed. */
char *ctl_doubled(const char *text);

/* "options": [...] */
void ctl_add_options(struct hv_json *request, int count, char **options);

#endif
