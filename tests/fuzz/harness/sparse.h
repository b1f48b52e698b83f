/*
 * A sparse file in memory, of any size: what was never written takes none. Holes are told as by a
 * filesystem with blocks of 4 KiB. Two findings are made here: a write to a file that is open for
 * reading, and more written than any input of ours can want.
 */
#ifndef TESTS_FUZZ_SPARSE_H
#define TESTS_FUZZ_SPARSE_H

#include "hvcore/file.h"

struct sparse;

struct sparse *sparse_new(uint64_t size_bytes, bool writable);

/* Of the same contents. */
struct sparse *sparse_copy(const struct sparse *sparse, bool writable);

/* Lent; hv_file_close frees the sparse file, unless it is kept. */
struct hv_file *sparse_file(struct sparse *sparse);

/* One more hv_file_close is needed until it is freed: so a file outlives the disk that it is. */
struct sparse *sparse_keep(struct sparse *sparse);

/* Past all checks: never fails, and never changes the size. */
void sparse_peek(const struct sparse *sparse, uint64_t offset, void *buf, size_t length);
void sparse_poke(struct sparse *sparse, uint64_t offset, const void *buf, size_t length);

/* The first byte that differs, or UINT64_MAX; a size that differs counts as a byte. */
uint64_t sparse_difference(const struct sparse *a, const struct sparse *b);

/* How often the file was changed. */
unsigned sparse_changes(const struct sparse *sparse);

static inline void sparse_free(struct sparse *sparse)
{
	if (sparse)
		hv_file_close(sparse_file(sparse));
}
HV_DEFINE_CLEANUP(struct sparse, sparse_free)

#endif
