/*
 * Workloads in which one operation on a file fails, for each operation: the first, the second, and
 * so on until there are none of such numbers. Once, or from then on until the workload has ended.
 *
 * Whatever fails, no request is completed twice or never, the running disk reads as it must, and so
 * does what is left when the power fails in the end. Unless a barrier or a change of parents
 * failed, the disk can be used as soon as the cause is gone.
 */
#include <errno.h>

#include "tests/crash/vhd/internal.h"

#define STATES 4
#define MISSED 3 /* numbers in a row, then there is none of a higher one either */

static const struct fault {
	enum crash_op op;
	int code;
	bool lasting;
} faults[] = {
	{ CRASH_READ, -EIO, false },       { CRASH_WRITE, -EIO, false },
	{ CRASH_WRITE, -ENOSPC, true },    { CRASH_ZERO, -EIO, false },
	{ CRASH_ZERO, -ENOSPC, true },     { CRASH_TRUNCATE, -EIO, false },
	{ CRASH_RESERVE, -ENOSPC, false }, { CRASH_RESERVE, -ENOSPC, true },
	{ CRASH_BARRIER, -EIO, false },    { CRASH_BARRIER, -EIO, true },
	{ CRASH_NAME, -ENOSPC, false },    { CRASH_SYNC_NAMES, -EIO, false },
};

/* The cause is gone. */
static bool recovers(struct run *run, bool poisoned)
{
	int rc;

	if (!run->disk)
		return true;
	if (!run_verify(run))
		return false;
	rc = run_write(run, 100, 9);
	if (rc == 0)
		rc = run_flush(run);
	if (rc && !poisoned)
		return run_wrong(run, "the disk cannot be used any more: %d", rc);
	return run_verify(run);
}

/* *failed: the operation was there to fail. */
static bool run_one(struct run *run, const struct fault *fault, unsigned nth, bool *failed)
{
	bool right;

	run->faulty = true;
	crash_fail(run->world, fault->op, nth, fault->code, fault->lasting);
	run_through(run);
	*failed = crash_failed(run->world, fault->op);
	crash_fail(run->world, fault->op, 0, 0, false);
	right = recovers(run, *failed && (fault->op == CRASH_BARRIER || run->workload->reparents));
	run_close(run);
	return right &&
	       crash_explore(run->world, &run->plan,
			     run->workload->judge ? run->workload->judge : judge_disk, run);
}

static bool run_each(const struct workload *workload, const struct fault *fault, uint64_t seed,
		     struct crash_plan *plan, const char *directory)
{
	bool right = true;
	unsigned missed = 0;

	/* Where one seed has no operation of that number, the next may. */
	for (unsigned nth = 1; missed < MISSED && right; nth++) {
		struct run run;
		bool failed;

		run_begin(&run, workload, seed + nth, directory);
		run.plan = *plan;
		run.plan.seed = seed + nth;
		run.plan.states = STATES;
		run.plan.end_only = true;
		right = run_one(&run, fault, nth, &failed);
		if (!right)
			run_wrong(&run, "%s number %u failed%s with %d", crash_op_names[fault->op],
				  nth, fault->lasting ? ", and all after it," : "", fault->code);
		plan->cuts = run.plan.cuts;
		plan->judged = run.plan.judged;
		missed = failed ? 0 : missed + 1;
		run_end(&run);
	}
	return right;
}

bool run_faults(const struct workload *workload, uint64_t seed, struct crash_plan *plan,
		const char *directory)
{
	bool right = true;

	for (unsigned i = 0; i < sizeof(faults) / sizeof(*faults) && right; i++)
		right = run_each(workload, &faults[i], seed, plan, directory);
	return right;
}
