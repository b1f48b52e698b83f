/*
 * One run of a workload on a VHD in a world of files (tests/crash/world.h).
 *
 * To add a workload, write a function that takes the disk through something and returns what the
 * first call that failed returned, and give it a row in the table of workloads.c. The row tells the
 * disk that is there before ("disk.vhd", and "parent.vhd" under a child). The function finds it
 * open as run->disk; it may close and open it again (run_close, run_open), make other files, and
 * call whatever is to be tested. Requests go through run_submit, so that the history knows of them.
 * Afterwards the disk is closed, the power is cut everywhere, and judge_disk (or the row's own
 * judge) looks at what is left.
 *
 * A row with `faults` is also run again and again with each single operation failing: so its
 * function must not think that calls succeed.
 */
#ifndef TESTS_CRASH_VHD_RUN_H
#define TESTS_CRASH_VHD_RUN_H

#include "hvcore/disk.h"
#include "tests/crash/explore.h"
#include "tests/crash/history.h"
#include "vhd/vhd.h"

#define DISK "disk.vhd"
#define PARENT "parent.vhd"

enum shape_flags {
	SHAPE_EMPTY = 1 << 0,   /* no disk; the workload makes it */
	SHAPE_FOREIGN = 1 << 1, /* as QEMU and Virtual PC place blocks: payload at any sector */
	SHAPE_JUNK = 1 << 2,    /* something lies between the last block and the footer */
	SHAPE_CHAIN = 1 << 4,   /* "disk.vhd" on other files, found by their paths; see chain.h */
	SHAPE_FILLED = 1 << 3,  /* every other block is there; also of a foreign disk */
};

struct shape {
	enum vhd_type type;
	uint32_t block_bytes, sectors;
	unsigned flags;
};

/* What takes longer hangs: a run without its judges, the judging of one state, one killing. */
#define RUN_SECONDS 60

struct run;

struct workload {
	const char *name;
	struct shape shape;
	int (*run)(struct run *run);
	/* NULL: judge_disk. As crash_judge, with the run. */
	bool (*judge)(struct crash_world *state, uint64_t at, void *run);
	unsigned levels; /* 2: after some cuts it is run again, and cut again */
	unsigned seeds;  /* it takes so many seeds to see all of it; 0: one */
	bool faults;
	bool resizes;   /* the disk may have another size, and a footer ahead of its copy */
	bool reparents; /* a footer ahead of its copy */
};

extern const struct workload workloads[]; /* ends with a row without a name */

struct run {
	const struct workload *workload;
	struct shape shape;
	uint64_t seed, random;
	struct hv_loop *loop;
	struct crash_stage *stage;
	struct crash_world *world;
	struct history *history;
	struct hv_disk *disk; /* open, or NULL */
	struct crash_plan plan;
	unsigned level;
	bool faulty; /* operations are made to fail */

	struct request *requests; /* of this run, newest first */
	unsigned in_flight;
	int result; /* of the first that failed since run_wait */

	/* For workloads and their judges. */
	uint64_t promised_at; /* the instant from which on a new file must be there; 0: none yet */
	struct crash_world *before; /* what was there before a repair */
	uint8_t *contents, *others; /* room for those of the disk, for judges */
	const char *directory;      /* of the real world, for undo files */
	struct crash_mount *mount;  /* of a chain: shows the world that is dealt with */
};

/* run.c */

/* Runs, cuts and judges; false when something was wrong, which has been said. */
bool run_workload(const struct workload *workload, uint64_t seed, struct crash_plan *plan,
		  const char *directory);

/* The same workload once more on what is left of the disk, which holds run->contents. */
bool run_again(struct run *run, struct crash_world *state);

/* Says on stderr what is wrong, and returns false. */
bool run_wrong(const struct run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* For what never fails: ends the program where it does. */
void run_must(const struct run *run, int rc, const struct hv_err *err);

uint64_t run_random(struct run *run, uint64_t bound);

/* requests.c */

/* Opens what is to be called run->disk, with its parent, for writing. */
int run_open(struct run *run, unsigned flags);
void run_close(struct run *run);

/* The same for any disk of a world. */
int run_open_disk(struct run *run, struct crash_world *world, bool writable, unsigned flags,
		  struct hv_disk **ret, struct hv_err *err);

/*
 * In flight from now on: HV_WRITE, HV_FLUSH, or anything that leaves zeros. Sectors beyond the disk
 * are left out. Without a disk nothing is done. Returns the request's number.
 */
uint32_t run_submit(struct run *run, enum hv_io_op op, uint64_t first, uint64_t count,
		    unsigned flags);
bool run_landed(const struct run *run, uint32_t number);
int run_wait(struct run *run); /* until nothing is in flight; the first failure since the last */
int run_flush(struct run *run);
int run_write(struct run *run, uint64_t first, uint64_t count); /* and wait */

/* A few requests of any kind and place, overlapping at times; and wait. */
int run_batch(struct run *run);

/* The running disk reads as it must. */
bool run_verify(struct run *run);
void run_forget_requests(struct run *run);

/* shape.c: makes DISK (and PARENT) in run->world, and what the history begins with. */
void shape_make(struct run *run);

/* judge.c */
bool judge_disk(struct crash_world *state, uint64_t at, void *run);

/* Checked, opened and read into run->contents, which the history must allow at the instant. */
bool judge_look(struct run *run, struct crash_world *state, uint64_t at);

/* Nothing worse than leaks is to be found in that file. */
bool judge_file(struct run *run, struct crash_world *state, const char *name, bool copy_may_lag);

/*
 * The same of the disk; where it gets another size or parent and has not been opened for writing
 * since, the footer's copy may lag behind.
 */
bool judge_check(struct run *run, struct crash_world *state, bool reopened);

/* faults.c: with each single operation failing. */
bool run_faults(const struct workload *workload, uint64_t seed, struct crash_plan *plan,
		const char *directory);

/*
 * kill.c: a process that writes to real files is killed in the midst of it, so many times, or for a
 * few seconds where runs is 0. *ret: how many times.
 */
bool kill_writers(enum vhd_type type, bool direct, uint64_t seed, unsigned runs,
		  const char *directory, unsigned long *ret);

#endif
