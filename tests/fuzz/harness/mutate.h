/*
 * Mutating inputs of the kind that image.h tells: fields of footers and header, entries of the
 * table, bits of bitmaps, the file's size, the script; then all checksums are set right, mostly.
 */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/* As LLVMFuzzerCustomMutator; bytes mutates plain bytes, as LLVMFuzzerMutate. */
size_t mutate_image(uint8_t *data, size_t size, size_t max, unsigned seed,
		    size_t (*bytes)(uint8_t *data, size_t size, size_t max));

#endif
