/*
 * What disks are taken through before the power fails. run.h tells how to add a workload.
 */
#include <errno.h>

#include "tests/crash/vhd/care.h"
#include "tests/crash/vhd/chain.h"
#include "tests/crash/vhd/parent.h"
#include "tests/crash/vhd/reshape.h"
#include "tests/crash/vhd/run.h"

#define SMALL (512u << 10)
#define LARGE (2u << 20)

/* Batches of requests of all kinds, which need new blocks all the time; a flush now and then. */
static int storm(struct run *run)
{
	int rc = 0;

	for (int i = 0; i < 10 && rc == 0; i++) {
		rc = run_batch(run);
		if (rc == 0 && run_random(run, 3) == 0)
			rc = run_flush(run);
	}
	return rc;
}

/* The same without caring what fails: for runs in which something shall. */
static int stubborn_storm(struct run *run)
{
	int rc = 0;

	for (int i = 0; i < 5; i++) {
		int result = run_batch(run);

		rc = rc ? rc : result;
		result = run_flush(run);
		rc = rc ? rc : result;
		if (i != 2)
			continue;
		run_close(run);
		/* After a failed barrier nobody knows what the medium has: not to be opened again. */
		if (crash_failed(run->world, CRASH_BARRIER))
			return -EIO;
		result = run_open(run, 0);
		rc = rc ? rc : result;
	}
	return rc;
}

/* A sector or two in one block after the other: extensions grow, and run ahead of need. */
static int fill(struct run *run)
{
	uint64_t block = run->shape.block_bytes / HV_SECTOR_SIZE;
	int rc = 0;

	for (uint64_t at = 0; at < run->shape.sectors && rc == 0; at += block) {
		run_submit(run, HV_WRITE, at + run_random(run, block - 2), 2, 0);
		if (run_random(run, 9) == 0)
			run_submit(run, HV_FLUSH, 0, 0, 0);
		if (run_random(run, 5) == 0)
			rc = run_wait(run);
	}
	return rc ? rc : run_wait(run);
}

/* Zeros over what is there, what is not, and what is only in the parent. */
static int zeros(struct run *run)
{
	int rc = 0;

	for (int i = 0; i < 8 && rc == 0; i++) {
		for (uint64_t n = run_random(run, 3); n < 4; n++)
			run_submit(run, run_random(run, 4) ? HV_ZERO : HV_WRITE,
				   run_random(run, run->shape.sectors),
				   1 + run_random(run, run_random(run, 3) ? 20 : 2500),
				   run_random(run, 4) ? 0 : HV_IO_FUA);
		rc = run_wait(run);
		if (rc == 0 && run_random(run, 2))
			rc = run_flush(run);
	}
	return rc;
}

/* Opened and closed: with and without a flush, with something and nothing written. */
static int sessions(struct run *run)
{
	int rc = 0;

	for (int i = 0; i < 3 && rc == 0; i++) {
		for (uint64_t n = run_random(run, 4); n && rc == 0; n--)
			rc = run_batch(run);
		if (rc == 0 && run_random(run, 2))
			rc = run_flush(run);
		run_close(run);
		if (rc == 0)
			rc = run_open(run, 0);
	}
	return rc;
}

/* clang-format off */
#define DYNAMIC(block, sectors_, flags_) \
	{ .type = VHD_DYNAMIC, .block_bytes = (block), .sectors = (sectors_), .flags = (flags_) }
#define CHILD(block, sectors_, flags_) \
	{ .type = VHD_DIFFERENCING, .block_bytes = (block), .sectors = (sectors_), .flags = (flags_) }
#define FIXED(sectors_, flags_) \
	{ .type = VHD_FIXED, .block_bytes = SMALL, .sectors = (sectors_), .flags = (flags_) }
#define FOREIGN (SHAPE_FOREIGN | SHAPE_FILLED)
#define JUNK (SHAPE_JUNK | SHAPE_FILLED)

const struct workload workloads[] = {
	{ "fixed",           FIXED(3000, 0),                      .run = storm },
	{ "dynamic",         DYNAMIC(SMALL, 8296, 0),             .run = storm },
	{ "dynamic-2m",      DYNAMIC(LARGE, 10000, 0),            .run = storm },
	{ "dynamic-foreign", DYNAMIC(SMALL, 6100, FOREIGN),       .run = storm },
	{ "dynamic-junk",    DYNAMIC(SMALL, 6100, JUNK),          .run = storm },
	{ "child",           CHILD(SMALL, 8296, 0),               .run = storm },
	{ "child-2m",        CHILD(LARGE, 10000, 0),              .run = storm },
	{ "child-foreign",   CHILD(SMALL, 6100, FOREIGN),         .run = storm },
	{ "child-junk",      CHILD(SMALL, 6100, JUNK),            .run = storm },
	{ "dynamic-fill",    DYNAMIC(SMALL, 30 * 1024 + 5, 0),    .run = fill },
	{ "child-fill",      CHILD(SMALL, 30 * 1024 + 5, 0),      .run = fill },
	{ "dynamic-zero",    DYNAMIC(SMALL, 6100, SHAPE_FILLED),  .run = zeros },
	{ "child-zero",      CHILD(SMALL, 6100, SHAPE_FILLED),    .run = zeros },
	{ "dynamic-again",   DYNAMIC(SMALL, 4200, 0),             .run = sessions, .levels = 2 },
	{ "child-again",     CHILD(SMALL, 4200, FOREIGN),         .run = sessions, .levels = 2 },
	{ "create-fixed",    FIXED(3000, SHAPE_EMPTY),            .run = care_create,
								  .judge = care_judge_new },
	{ "create-dynamic",  DYNAMIC(SMALL, 8296, SHAPE_EMPTY),   .run = care_create,
								  .judge = care_judge_new },
	{ "create-child",    CHILD(SMALL, 4200, SHAPE_EMPTY),     .run = care_create,
								  .judge = care_judge_new },
	{ "convert",         DYNAMIC(SMALL, 8296, SHAPE_EMPTY),   .run = care_convert,
								  .judge = care_judge_new,
								  .seeds = 4, .faults = true },
	{ "repair-dynamic",  DYNAMIC(SMALL, 4200, SHAPE_FILLED),  .run = care_repair,
								  .judge = care_judge_repair,
								  .seeds = CARE_DAMAGES },
	{ "repair-child",    CHILD(SMALL, 4200, SHAPE_FILLED),    .run = care_repair,
								  .judge = care_judge_repair,
								  .seeds = CARE_DAMAGES },
	{ "undo",            DYNAMIC(SMALL, 4200, SHAPE_FILLED),  .run = care_undo,
								  .judge = care_judge_repair,
								  .seeds = CARE_DAMAGES },
	{ "dynamic-discard", DYNAMIC(SMALL, 6100, SHAPE_FILLED),  .run = reshape_discard, .seeds = 2 },
	{ "child-discard",   CHILD(SMALL, 6100, SHAPE_FILLED),    .run = reshape_discard, .seeds = 2 },
	{ "foreign-discard", DYNAMIC(SMALL, 6100, FOREIGN),       .run = reshape_discard },
	{ "dynamic-reuse",   DYNAMIC(SMALL, 6100, SHAPE_FILLED),  .run = reshape_reuse, .seeds = 3 },
	{ "dynamic-resize",  DYNAMIC(SMALL, 6100, SHAPE_FILLED),  .run = reshape_size, .resizes = true },
	{ "child-resize",    CHILD(SMALL, 6100, SHAPE_FILLED),    .run = reshape_size, .resizes = true },
	{ "fixed-grow",      FIXED(3000, 0),                      .run = reshape_table, .resizes = true },
	{ "dynamic-table",   DYNAMIC(SMALL, 4200, SHAPE_FILLED),  .run = reshape_table, .resizes = true },
	{ "child-table",     CHILD(SMALL, 4200, SHAPE_FILLED),    .run = reshape_table, .resizes = true },
	{ "dynamic-compact", DYNAMIC(SMALL, 6100, SHAPE_FILLED),  .run = reshape_compact, .seeds = 2 },
	{ "child-compact",   CHILD(SMALL, 6100, SHAPE_FILLED),    .run = reshape_compact, .seeds = 2 },
	{ "foreign-compact", DYNAMIC(SMALL, 6100, FOREIGN),       .run = reshape_compact },
	{ "rebase",          CHILD(SMALL, 3500, SHAPE_CHAIN),     .run = chain_rebase,
								  .judge = chain_judge_rebase,
								  .levels = 2, .seeds = CHAIN_KINDS,
								  .faults = true },
	{ "merge",           CHILD(SMALL, 3500, SHAPE_CHAIN),     .run = chain_merge,
								  .judge = chain_judge_merge,
								  .levels = 2, .seeds = CHAIN_KINDS,
								  .faults = true },
	{ "child-reparent",  CHILD(SMALL, 4200, SHAPE_FILLED),    .run = parent_change,
								  .judge = parent_judge,
								  .seeds = 3, .faults = true,
								  .reparents = true },
	{ "foreign-reparent", CHILD(SMALL, 4200, FOREIGN),        .run = parent_change,
								  .judge = parent_judge,
								  .reparents = true },
	{ "stubborn-dynamic", DYNAMIC(SMALL, 5200, SHAPE_FILLED), .run = stubborn_storm,
								  .faults = true },
	{ "stubborn-child",  CHILD(SMALL, 5200, JUNK),            .run = stubborn_storm,
								  .faults = true },
	{ .name = NULL },
};
/* clang-format on */
