/*
 * The target as libFuzzer calls it. Linked by clang with -fsanitize=fuzzer only.
 */
#include <stdlib.h>

#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/mutate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_target.run(data, size);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	if (fuzz_target.image)
		return mutate_image(data, size, max, seed, LLVMFuzzerMutate);
	size = LLVMFuzzerMutate(data, size, max);
	if (fuzz_target.mend && seed % 8)
		fuzz_target.mend(data, size);
	return size;
}
