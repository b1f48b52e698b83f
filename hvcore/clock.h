/*
 * The time by which requests are measured and limited.
 */
#ifndef HVCORE_CLOCK_H
#define HVCORE_CLOCK_H

#include <stdint.h>

/* Of CLOCK_MONOTONIC. A test may have a clock of its own by defining this function itself. */
uint64_t hv_now_ns(void);

#endif
