/*
 * A timer that elapses once, on a loop that serves. All of it happens on the loop's thread.
 */
#ifndef HVCORE_TIMER_H
#define HVCORE_TIMER_H

#include <stdint.h>

#include "hvcore/loop.h"

struct hv_timer {
	struct hv_watch watch; /* all of it is the timer's own */
	struct hv_loop *loop;
	void (*elapsed)(struct hv_timer *timer);
};

/* Not set yet. The caller keeps the struct, which was all zero, until hv_timer_close. */
int hv_timer_open(struct hv_timer *timer, struct hv_loop *loop,
		  void (*elapsed)(struct hv_timer *timer), struct hv_err *err);

/* elapsed is called once, in ns from now (CLOCK_MONOTONIC), whatever was set before; 0: never. */
void hv_timer_set(struct hv_timer *timer, uint64_t ns);

/* elapsed is not called again. Of what is all zero, or was not opened: nothing. */
void hv_timer_close(struct hv_timer *timer);

#endif
