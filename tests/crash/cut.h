/*
 * Private to tests/crash/: one instant at which the power may fail, and what it may take back.
 *
 * A loose entry is one whose effect is not promised at that instant: it was in flight, or complete
 * but not covered by a barrier. Each of its units, the sectors of a write, may have reached the
 * medium or not. Entries are applied in the order of their completion, those in flight last, so
 * that a sector written more than once can show any version that nothing durable has replaced.
 */
#ifndef TESTS_CRASH_CUT_H
#define TESTS_CRASH_CUT_H

#include "tests/crash/log.h"

struct crash_loose {
	const struct crash_entry *entry;
	size_t first, count; /* units of all loose entries are numbered through */
};

struct crash_cut {
	uint64_t at;
	const struct crash_entry **order; /* all that changed something */
	size_t count, settled;            /* the first `settled` are durable, and part of base */
	struct crash_state base;
	struct crash_loose *loose;
	size_t loose_count, units;
};

void crash_cut_make(const struct crash_world *world, uint64_t at, struct crash_cut *ret);
void crash_cut_done(struct crash_cut *cut);

/* The state in which those units reached the medium whose byte in chosen is not 0. */
struct crash_state crash_cut_state(const struct crash_cut *cut, const uint8_t *chosen);

/*
 * The instants worth looking at: those right before something becomes durable, and the end. What
 * can be found at any other can be found at the next of these. The caller frees *ret.
 */
size_t crash_cut_instants(const struct crash_world *world, uint64_t **ret);

/* Tells on stderr what is loose, and what of it was chosen. */
void crash_cut_describe(const struct crash_world *world, const struct crash_cut *cut,
			const uint8_t *chosen);

#endif
