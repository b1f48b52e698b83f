/*
 * The clock; alone in its file, so that a program that defines hv_now_ns is linked without it.
 */
#include "hvcore/clock.h"

#include <time.h>

uint64_t hv_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
