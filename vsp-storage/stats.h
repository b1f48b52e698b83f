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

/* Walks the disks that are open and to be shown; a walk begins with vm = registry->vms. */
struct vsp_stats_walk {
	const struct vsp_vm *vm;
	const struct vsp_disk *disk;
};

bool vsp_stats_next(struct vsp_stats_walk *walk, const struct vsp_vm *only, vsp_visible *visible,
		    void *arg);

/* Of one VM, or of all where that is NULL, but for those that are not visible. */
void vsp_stats_json(const struct vsp_registry *registry, const struct vsp_vm *only,
		    vsp_visible *visible, void *arg, struct hv_json *ret);

/* The same in Prometheus' text format (metrics.c). */
void vsp_stats_prometheus(const struct vsp_registry *registry, const struct vsp_vm *only,
			  vsp_visible *visible, void *arg, FILE *out);

/* "slow", "last" and "in_flight" of an open disk: its flight recorder, and what is under way. */
void vsp_show_requests(const struct vsp_disk *disk, struct hv_json *ret);

#endif
