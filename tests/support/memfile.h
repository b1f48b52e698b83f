/*
 * A file in memory, for tests, which fails when told to. Its requests take effect when they are
 * submitted; where it matters in which order they do, and for power cuts, there is tests/crash/.
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

/* The same bytes in a file of its own. */
struct memfile *memfile_copy(const struct memfile *mem);

/* The nth operation of this kind from now (1: the next) fails with code, once. 0: none. */
void memfile_fail(struct memfile *mem, enum memfile_op op, unsigned nth, int code);

#endif
