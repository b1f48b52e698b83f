/*
 * Every state that a power cut could leave, from the log of a world (world.h).
 *
 * The power is cut right before each instant at which something becomes durable, and at the end.
 * Of the operations that are loose then, any sectors may have reached the medium:
 *
 *	up to `states` states	all of them, sector by sector
 *	few operations		all subsets of whole operations, and random torn ones
 *	else			none, all, all but one, only one, each torn in the middle with and
 *				without the others, the first ones, the last ones; where these are
 *				too many, a random half of `states`; and random torn ones
 *
 * Which they are depends on the seed only, so that a state has a number: "12.3" is state 3 of cut
 * 12, and "12.3/4.0" state 0 of cut 4 of what a judge explored of its own of that.
 */
#ifndef TESTS_CRASH_EXPLORE_H
#define TESTS_CRASH_EXPLORE_H

#include "tests/crash/world.h"

#define CRASH_WHERE 128 /* bytes that the number of a state takes at most */

struct crash_plan {
	uint64_t seed;
	unsigned states;    /* for each cut; 1: only what is durable */
	bool end_only;      /* cut at the end of the log and nowhere else */
	const char *only;   /* NULL: all */
	const char *save;   /* a directory for the files of the only state, or NULL */
	const char *replay; /* how a failure says that it is seen again, before its number */
	char *told; /* CRASH_WHERE bytes, kept true for who survives a crash of the judge; or NULL */
	unsigned long cuts, judged; /* counted */
};

/*
 * Looks at one state, of the instant `at`; does with it what it likes. False, after it has said why
 * on stderr, when something is wrong.
 */
typedef bool crash_judge(struct crash_world *state, uint64_t at, void *arg);

/* False when the judge found something, after saying which state that was. */
bool crash_explore(const struct crash_world *world, struct crash_plan *plan, crash_judge *judge,
		   void *arg);

/* The number of the state that is being looked at: "12.3"; lent. */
const char *crash_explore_where(void);

#endif
