/*
 * Stamped sectors: whatever a disk may give back wrong is told apart.
 */
#include "hvcore/stamp.h"

#include <criterion/criterion.h>
#include <string.h>

#define SECTOR 512
#define SECTORS 8
#define LENGTH (SECTORS * SECTOR)
#define OFFSET UINT64_C(0x123456789000)
#define SEED 77

static uint64_t memory[LENGTH / 8], other[LENGTH / 8];
static struct hv_stamp_finding finding;

static uint8_t *sector(uint64_t *of, int n)
{
	return (uint8_t *)of + n * SECTOR;
}

static enum hv_stamp_fault check(uint64_t generation)
{
	return hv_stamp_check(memory, LENGTH, OFFSET, SEED, generation, &finding);
}

static void fill(void)
{
	hv_stamp_fill(memory, LENGTH, OFFSET, SEED, 5);
}

TestSuite(stamp, .init = fill);

Test(stamp, what_was_filled_is_well)
{
	cr_assert_eq(check(5), HV_STAMP_OK);
	cr_assert_eq(check(HV_STAMP_ANY), HV_STAMP_OK);
}

Test(stamp, any_part_is_well_by_itself)
{
	cr_assert_eq(hv_stamp_check(sector(memory, 3), SECTOR, OFFSET + 3 * SECTOR, SEED, 5,
				    &finding),
		     HV_STAMP_OK);
}

Test(stamp, every_flipped_bit_is_found)
{
	for (size_t bit = 0; bit < LENGTH * 8; bit++) {
		enum hv_stamp_fault fault;

		sector(memory, 0)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		fault = check(5);
		cr_assert_eq(fault, HV_STAMP_DAMAGED, "bit %zu: %d", bit, fault);
		cr_assert_eq(finding.offset, OFFSET + bit / 8 / SECTOR * SECTOR);
		sector(memory, 0)[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

Test(stamp, zeros_and_other_seeds_are_foreign)
{
	memset(sector(memory, 6), 0, SECTOR);
	cr_assert_eq(check(5), HV_STAMP_FOREIGN);
	cr_assert_eq(finding.offset, OFFSET + 6 * SECTOR);
	fill();
	cr_assert_eq(hv_stamp_check(memory, LENGTH, OFFSET, SEED + 1, 5, &finding),
		     HV_STAMP_FOREIGN);
	cr_assert_eq(finding.offset, OFFSET);
}

Test(stamp, sectors_that_changed_places_are_misplaced)
{
	memcpy(sector(memory, 2), sector(memory, 7), SECTOR);
	cr_assert_eq(check(5), HV_STAMP_MISPLACED);
	cr_assert_eq(finding.offset, OFFSET + 2 * SECTOR);
	cr_assert_eq(finding.found_offset, OFFSET + 7 * SECTOR);
}

Test(stamp, an_older_write_is_stale)
{
	cr_assert_eq(check(6), HV_STAMP_STALE);
	cr_assert_eq(finding.offset, OFFSET);
	cr_assert_eq(finding.generation, 5);
	cr_assert_eq(finding.expected, 6);
}

static void mix_in_older(int from, int count)
{
	hv_stamp_fill(other, LENGTH, OFFSET, SEED, 4);
	fill();
	memcpy(sector(memory, from), sector(other, from), (size_t)count * SECTOR);
}

Test(stamp, a_mixture_of_writes_is_torn)
{
	mix_in_older(7, 1);
	cr_assert_eq(check(5), HV_STAMP_TORN);
	cr_assert_eq(finding.offset, OFFSET + 7 * SECTOR);
	cr_assert_eq(finding.generation, 4);
	cr_assert_eq(finding.expected, 5);
	cr_assert_eq(check(HV_STAMP_ANY), HV_STAMP_TORN);
	mix_in_older(0, 1);
	cr_assert_eq(check(5), HV_STAMP_TORN);
	cr_assert_eq(finding.offset, OFFSET);
	cr_assert_eq(check(HV_STAMP_ANY), HV_STAMP_TORN);
}

Test(stamp, a_mixture_that_holds_nothing_expected_is_torn)
{
	mix_in_older(2, 3);
	cr_assert_eq(check(6), HV_STAMP_TORN);
}
