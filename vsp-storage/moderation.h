/*
 * Interrupt moderation: whether a guest gets more done when it is interrupted less often.
 *
 * To hold back an answer costs whoever waits for it the time that it is held. A guest that has
 * enough to do meanwhile gains: it is interrupted once for several answers, hands over several
 * requests at once, and need not tell of each. Which of the two a guest is cannot be seen from
 * outside, so it is tried: windows of some 10 ms with and without holding take turns, and answers
 * are held only where the guest has got clearly more requests done with it. One that waits for each
 * answer loses one window in some seconds to that. (Linux does the like for network interfaces:
 * DIM, lib/dim/.)
 *
 * One for each ring; all zero at first. Times are nanoseconds of any clock that goes forward.
 */
#ifndef VSP_STORAGE_MODERATION_H
#define VSP_STORAGE_MODERATION_H

#include <stdbool.h>
#include <stdint.h>

struct vsp_moderation {
	uint64_t hold_ns; /* for how long an answer is to be held back now, at most; 0: not at all */

	/* The rest is private. */
	bool holds;         /* what the last trial has found */
	unsigned step;      /* windows of a trial that have begun; 0: there is none */
	double rate;        /* per second, by the last trial, in what it has found */
	uint64_t began_ns;  /* the window; 0: none has */
	uint64_t completed; /* in it */
	uint64_t trial_ns;  /* when the next trial begins */
	uint64_t pause_ns;  /* from one to the next */
	struct {
		uint64_t completed, ns;
	} without, with; /* in the windows of the trial */
};

/* So many requests have been answered since the last call. Sets hold_ns. */
void vsp_moderation_count(struct vsp_moderation *moderation, unsigned completed, uint64_t now_ns);

#endif
