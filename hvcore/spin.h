/*
 * How long to look for work before sleeping. Inside hvcore.
 *
 * To sleep and be woken costs two switches of context here and a system call on the other side;
 * looking costs a core. So one looks as long as it has been worth while lately, and never for more
 * than a share of all time. Times are nanoseconds of any clock that goes forward.
 *
 *	window = hv_spin_begin(spin, now)	nothing is left to do
 *	look until something is found, or the window is over
 *	hv_spin_end(spin, now)
 *	sleep, if nothing was found
 *	hv_spin_woken(spin, now)
 */
#ifndef HVCORE_SPIN_H
#define HVCORE_SPIN_H

#include <stdint.h>

/* All zero but for percent: nothing is known yet. */
struct hv_spin {
	unsigned percent; /* of time that looking may take; 0: never look */
	uint64_t began_ns;
	uint64_t window_ns;
	uint64_t credit_ns, credited_ns; /* what may be spent; up to when it has been given, or when
					    it will be again */
};

/* For how long to look; 0: sleep at once. */
uint64_t hv_spin_begin(struct hv_spin *spin, uint64_t now_ns);
void hv_spin_end(struct hv_spin *spin, uint64_t now_ns);
void hv_spin_woken(struct hv_spin *spin, uint64_t now_ns);

#endif
