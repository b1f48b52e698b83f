/*
 * The trials.
 */
#include "vsp-storage/moderation.h"

#include "hvcore/checked.h"

#define MS UINT64_C(1000000)
#define WINDOW_NS (10 * MS)  /* of a trial */
#define WINDOW_COUNT 16      /* fewer say too little: the window goes on */
#define BETWEEN_NS (50 * MS) /* a window between trials; the longest of all */
#define WINDOWS 8            /* of a trial */
#define RATE_MIN 1000.0      /* below, interrupts are no burden */
#define REQUESTS_PER_HOLD 4
#define HOLD_MIN_NS UINT64_C(20000)
#define HOLD_MAX_NS UINT64_C(400000)
#define PAUSE_MIN_NS (50 * MS)
#define PAUSE_MAX_NS (12800 * MS)
#define GAIN_TO_BEGIN 1.1 /* what holding has to gain, for windows differ by themselves */
#define GAIN_TO_GO_ON 1.03
#define HOPELESS 0.8   /* and what ends a trial at once */
#define OTHER_LOAD 2.0 /* so much faster or slower is another load than the one tried */

static double rate_of(uint64_t completed, uint64_t ns)
{
	return ns ? (double)completed * 1e9 / (double)ns : 0;
}

/* Several requests' time at the rate that the guest has by itself. */
static uint64_t hold_at(double rate)
{
	uint64_t ns = (uint64_t)(REQUESTS_PER_HOLD * 1e9 / rate);

	return hv_min_u64(hv_max_u64(ns, HOLD_MIN_NS), HOLD_MAX_NS);
}

static void settle(struct vsp_moderation *moderation, bool holds, double rate, uint64_t pause_ns,
		   uint64_t now_ns)
{
	moderation->holds = holds;
	moderation->hold_ns = holds ? hold_at(rate) : 0;
	moderation->step = 0;
	moderation->pause_ns = pause_ns;
	moderation->trial_ns = now_ns + pause_ns;
}

/* Nothing is known of what the guest does now. */
static void forget(struct vsp_moderation *moderation, uint64_t now_ns)
{
	moderation->rate = 0;
	settle(moderation, false, 0, PAUSE_MIN_NS, now_ns);
}

static void judge(struct vsp_moderation *moderation, double without, double with, uint64_t now_ns)
{
	double gain = moderation->holds ? GAIN_TO_GO_ON : GAIN_TO_BEGIN;
	bool holds = with >= without * gain;
	uint64_t pause_ns = PAUSE_MIN_NS;

	if (with < without * HOPELESS)
		pause_ns = hv_min_u64(4 * moderation->pause_ns, PAUSE_MAX_NS);
	else if (holds == moderation->holds)
		pause_ns = hv_min_u64(2 * moderation->pause_ns, PAUSE_MAX_NS);
	moderation->rate = holds ? with : without;
	settle(moderation, holds, without, pause_ns, now_ns);
}

static void begin_trial(struct vsp_moderation *moderation)
{
	moderation->step = 1;
	moderation->hold_ns = 0;
	moderation->without.completed = moderation->without.ns = 0;
	moderation->with.completed = moderation->with.ns = 0;
}

/* Odd steps are without. */
static void go_on_with_trial(struct vsp_moderation *moderation, uint64_t ns, uint64_t now_ns)
{
	bool held = moderation->step % 2 == 0;
	double without, with;

	if (held) {
		moderation->with.completed += moderation->completed;
		moderation->with.ns += ns;
	} else {
		moderation->without.completed += moderation->completed;
		moderation->without.ns += ns;
	}
	without = rate_of(moderation->without.completed, moderation->without.ns);
	with = rate_of(moderation->with.completed, moderation->with.ns);
	if (held && (moderation->step == WINDOWS || with < without * HOPELESS)) {
		judge(moderation, without, with, now_ns);
		return;
	}
	moderation->step++;
	moderation->hold_ns = held ? 0 : hold_at(without);
}

static bool is_other_load(const struct vsp_moderation *moderation, double rate)
{
	return moderation->rate &&
	       (rate > moderation->rate * OTHER_LOAD || rate * OTHER_LOAD < moderation->rate);
}

static void end_window(struct vsp_moderation *moderation, uint64_t ns, uint64_t now_ns)
{
	double rate = rate_of(moderation->completed, ns);

	if (rate < RATE_MIN || (!moderation->step && is_other_load(moderation, rate)))
		forget(moderation, now_ns);
	else if (moderation->step)
		go_on_with_trial(moderation, ns, now_ns);
	else if (now_ns >= moderation->trial_ns)
		begin_trial(moderation);
}

/* For a window of a trial, that is. */
static bool is_enough(const struct vsp_moderation *moderation, uint64_t ns)
{
	return moderation->step && ns >= WINDOW_NS && moderation->completed >= WINDOW_COUNT;
}

void vsp_moderation_count(struct vsp_moderation *moderation, unsigned completed, uint64_t now_ns)
{
	uint64_t ns = now_ns - moderation->began_ns;

	moderation->completed += completed;
	if (!moderation->began_ns)
		forget(moderation, now_ns);
	else if (ns >= BETWEEN_NS || is_enough(moderation, ns))
		end_window(moderation, ns, now_ns);
	else
		return;
	moderation->began_ns = now_ns;
	moderation->completed = 0;
}
