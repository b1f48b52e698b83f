/*
 * What is told about VMs and disks: as JSON, and as text for Prometheus. What has to be looked for
 * in a disk that is served is looked for on its loop. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_STATS_H
#define VSP_STORAGE_STATS_H

#include <stdio.h>

#include "hvcore/json.h"
#include "vsp-storage/registry.h"

/* Definition and state. */
void vsp_show_vm(const struct vsp_vm *vm, struct hv_json *ret);

/* Adds an object for the VM's fault and for each disk's. */
void vsp_show_faults(const struct vsp_vm *vm, struct hv_json *array);

/* May whoever asks look at that VM? */
typedef bool vsp_visible(void *arg, const char *vm);

/* Of one VM, or of all where that is NULL, but for those that are not visible. */
void vsp_stats_json(const struct vsp_registry *registry, const struct vsp_vm *only,
		    vsp_visible *visible, void *arg, struct hv_json *ret);
void vsp_stats_prometheus(const struct vsp_registry *registry, const struct vsp_vm *only,
			  vsp_visible *visible, void *arg, FILE *out);

#endif
