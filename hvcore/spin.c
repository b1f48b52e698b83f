/*
 * The window grows when sleep was so short that looking would have found the work, and is halved by
 * each sleep that was not. It is no longer than sleeping and waking would cost (whoever looks so
 * long in vain pays twice, and never more), plus what a larger share allows for speed's sake. The
 * credit is a bucket: it fills with a share of the time that passes, and every look is paid from
 * it, in vain or not. Who was pushed off the processor while looking keeps others from working,
 * perhaps the very ones that are waited for: no credit for a while.
 */
#include "hvcore/spin.h"

#include "hvcore/checked.h"

#define WINDOW_MIN_NS 2000
#define SLEEP_COSTS_NS 10000
#define LONGER_NS_PER_PERCENT 400
#define CREDIT_TIME_NS UINT64_C(20000000) /* credit of so much time is kept */
#define PUSHED_OFF_NS UINT64_C(100000)    /* no window is that long */
#define PENALTY_NS UINT64_C(200000000)

uint64_t hv_spin_begin(struct hv_spin *spin, uint64_t now_ns)
{
	uint64_t passed;

	spin->began_ns = now_ns;
	if (now_ns < spin->credited_ns)
		return 0;
	passed = hv_min_u64(now_ns - spin->credited_ns, CREDIT_TIME_NS);
	spin->credited_ns = now_ns;
	spin->credit_ns = hv_min_u64(spin->credit_ns + passed * spin->percent / 100,
				     CREDIT_TIME_NS * spin->percent / 100);
	return spin->credit_ns >= spin->window_ns ? spin->window_ns : 0;
}

void hv_spin_end(struct hv_spin *spin, uint64_t now_ns)
{
	uint64_t spent = now_ns - spin->began_ns;

	if (spent < PUSHED_OFF_NS) {
		spin->credit_ns -= hv_min_u64(spin->credit_ns, spent);
	} else {
		spin->credit_ns = 0;
		spin->credited_ns = now_ns + PENALTY_NS;
	}
}

void hv_spin_woken(struct hv_spin *spin, uint64_t now_ns)
{
	uint64_t most = SLEEP_COSTS_NS + spin->percent * LONGER_NS_PER_PERCENT;
	uint64_t idle = now_ns - spin->began_ns;

	if (idle <= most)
		spin->window_ns = hv_min_u64(hv_max_u64(spin->window_ns, 2 * idle), most);
	else
		spin->window_ns /= 2;
	if (spin->window_ns < WINDOW_MIN_NS)
		spin->window_ns = 0;
}
