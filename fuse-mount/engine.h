/*
 * Inside fuse-mount/: a disk that is written, with a thread for its loop. The calls may come from
 * any other thread and return when their work is done; many are under way at once. Offsets and
 * lengths are of any number of bytes and lie inside the disk; what is less than a sector is read,
 * changed and written. 0 or -errno; the sentence of a failure goes to the log.
 */
#ifndef FUSE_MOUNT_ENGINE_H
#define FUSE_MOUNT_ENGINE_H

#include "hvcore/disk.h"

struct fm_engine;

/* Takes over the disk and its loop. */
int fm_engine_new(struct hv_disk *disk, struct fm_engine **ret, struct hv_err *err);

/* Nothing may be under way. What has not been flushed may be lost. */
void fm_engine_free(struct fm_engine *engine);
HV_DEFINE_CLEANUP(struct fm_engine, fm_engine_free)

int fm_engine_read(struct fm_engine *engine, void *buf, uint64_t offset, uint64_t length);
int fm_engine_write(struct fm_engine *engine, const void *buf, uint64_t offset, uint64_t length);
/* Zeros; with discard, space is given back where that can be done. */
int fm_engine_zero(struct fm_engine *engine, uint64_t offset, uint64_t length, bool discard);
int fm_engine_flush(struct fm_engine *engine);
/* As fm_map_seek. */
int fm_engine_seek(struct fm_engine *engine, uint64_t offset, uint64_t end, bool data,
		   uint64_t *ret);

#endif
