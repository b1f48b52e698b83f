/*
 * Progress of long work on a terminal: percent, amount, rate and time left on one line of standard
 * error, redrawn at most five times a second and removed at the end. Where standard error is no
 * terminal, or quiet is set, nothing is printed.
 */
#ifndef HVCORE_PROGRESS_H
#define HVCORE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct hv_progress {
	const char *label; /* lent */
	uint64_t total_bytes;
	bool active;
	double started, drawn; /* seconds of CLOCK_MONOTONIC */
};

void hv_progress_start(struct hv_progress *progress, const char *label, uint64_t total_bytes,
		       bool quiet);
void hv_progress_update(struct hv_progress *progress, uint64_t done_bytes);
void hv_progress_end(struct hv_progress *progress);

/* Seconds of CLOCK_MONOTONIC, for rates. */
double hv_now(void);

#endif
