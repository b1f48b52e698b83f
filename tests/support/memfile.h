/*
 * A file in memory, for tests: records every write and barrier, fails when told to, and rebuilds
 * what a power cut could have left.
 */
#ifndef TESTS_MEMFILE_H
#define TESTS_MEMFILE_H

#include "hvcore/file.h"

enum memfile_op { MEM_WRITE, MEM_ZERO, MEM_TRUNCATE, MEM_BARRIER, MEM_OPS };

struct memfile;

/* An empty file. hv_file_close frees it. */
struct memfile *memfile_new(struct hv_loop *loop);
struct hv_file *memfile_file(struct memfile *mem);

/* From now on hv_file_close leaves it alone, so that what closing did can be looked at. */
void memfile_keep(struct memfile *mem);
void memfile_free(struct memfile *mem); /* of a kept one */

/* The same bytes in a file of its own, with an empty log. */
struct memfile *memfile_copy(const struct memfile *mem);

/* The nth operation of this kind from now (1: the next) fails with code, once. 0: none. */
void memfile_fail(struct memfile *mem, enum memfile_op op, unsigned nth, int code);

/* How many operations have been logged. */
size_t memfile_log_length(const struct memfile *mem);

/* From now on nothing of the past is in the log: the file is durable as it is. */
void memfile_forget(struct memfile *mem);

/*
 * What a power cut after the first `length` operations could leave: everything up to the last
 * barrier among them, and of the rest each sector or not, by the caller's dice (0 or 1).
 */
struct memfile *memfile_after_cut(const struct memfile *mem, size_t length, int (*dice)(void *arg),
				  void *arg);

/* The file right before the last truncation among the first `length` operations; NULL: none. */
struct memfile *memfile_before_truncate(const struct memfile *mem, size_t length);

#endif
