/*
 * A sector is 64 words: a mark made of the seed, the offset, the generation, a check over these
 * three, and then words computed from the check.
 */
#include "hvcore/stamp.h"

#include <stdbool.h>

#include "hvcore/disk.h"

#define WORDS (HV_SECTOR_SIZE / sizeof(uint64_t))
#define HEAD_WORDS 4
#define MARK UINT64_C(0x7374616d70656421)
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

/* The finalizer of splitmix64: every bit of x changes half of the result's. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint64_t check_of(uint64_t mark, uint64_t offset, uint64_t generation)
{
	return mix(mix(mark + offset) + generation * GOLDEN);
}

static uint64_t filler(uint64_t check, size_t i)
{
	return (check + i) * GOLDEN ^ check >> 32;
}

static void fill_sector(uint64_t *word, uint64_t mark, uint64_t offset, uint64_t generation)
{
	uint64_t check = check_of(mark, offset, generation);

	word[0] = mark;
	word[1] = offset;
	word[2] = generation;
	word[3] = check;
	for (size_t i = HEAD_WORDS; i < WORDS; i++)
		word[i] = filler(check, i);
}

void hv_stamp_fill(void *buf, size_t length, uint64_t offset, uint64_t seed, uint64_t generation)
{
	uint64_t mark = mix(seed ^ MARK), *word = buf;

	for (size_t done = 0; done < length; done += HV_SECTOR_SIZE, word += WORDS)
		fill_sector(word, mark, offset + done, generation);
}

static enum hv_stamp_fault look_at(const uint64_t *word, uint64_t mark, uint64_t offset)
{
	uint64_t check = check_of(mark, word[1], word[2]), differ = 0;

	if (word[3] != check)
		return word[0] == mark ? HV_STAMP_DAMAGED : HV_STAMP_FOREIGN;
	differ = word[0] ^ mark;
	for (size_t i = HEAD_WORDS; i < WORDS; i++)
		differ |= word[i] ^ filler(check, i);
	if (differ)
		return HV_STAMP_DAMAGED;
	return word[1] == offset ? HV_STAMP_OK : HV_STAMP_MISPLACED;
}

/*
 * The sectors are sound, but the one at `found` is not of the generation expected. Do they all
 * agree with each other?
 */
static enum hv_stamp_fault stale_or_torn(const uint64_t *first, size_t length)
{
	for (size_t i = 0; i < length / HV_SECTOR_SIZE; i++) {
		if (first[i * WORDS + 2] != first[2])
			return HV_STAMP_TORN;
	}
	return HV_STAMP_STALE;
}

enum hv_stamp_fault hv_stamp_check(const void *buf, size_t length, uint64_t offset, uint64_t seed,
				   uint64_t generation, struct hv_stamp_finding *ret)
{
	const uint64_t *first = buf, *word = first, *wrong = NULL;
	uint64_t mark = mix(seed ^ MARK);
	uint64_t expected = generation == HV_STAMP_ANY ? first[2] : generation;

	for (size_t done = 0; done < length; done += HV_SECTOR_SIZE, word += WORDS) {
		enum hv_stamp_fault fault = look_at(word, mark, offset + done);

		if (fault) {
			*ret = (struct hv_stamp_finding){ .offset = offset + done,
							  .found_offset = word[1] };
			return fault;
		}
		if (word[2] != expected && !wrong)
			wrong = word;
	}
	if (!wrong)
		return HV_STAMP_OK;
	*ret = (struct hv_stamp_finding){
		.offset = offset + (uint64_t)(wrong - first) * sizeof(*wrong),
		.generation = wrong[2],
		.expected = expected,
	};
	return stale_or_torn(first, length);
}
