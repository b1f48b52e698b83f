/*
 * Token buckets, and guarantees.
 */
#include "vsp-storage/meter.h"

#include "hvcore/checked.h"
#include "hvcore/clock.h"

#define SECOND_NS 1e9
#define BURST_SECONDS 0.1
#define VERDICT_NS UINT64_C(25000000)
#define JUDGED_REQUESTS 8 /* as many of them should have been done before there is a verdict */

/* Buckets. */

static void fill(struct vsp_bucket *bucket, uint64_t now)
{
	if (now <= bucket->filled_ns)
		return;
	bucket->level += bucket->rate * (double)(now - bucket->filled_ns) / SECOND_NS;
	if (bucket->level > bucket->size)
		bucket->level = bucket->size;
	bucket->filled_ns = now;
}

static double wait_for(struct vsp_bucket *bucket, double amount, uint64_t now)
{
	double missing;

	if (!bucket->rate)
		return 0;
	fill(bucket, now);
	missing = (amount < bucket->size ? amount : bucket->size) - bucket->level;
	return missing > 0 ? missing / bucket->rate * SECOND_NS : 0;
}

static void bucket_set(struct vsp_bucket *bucket, uint64_t rate, uint64_t burst, uint64_t now)
{
	bool limited = bucket->rate != 0;

	fill(bucket, now);
	bucket->rate = (double)rate;
	bucket->size = burst ? (double)burst : bucket->rate * BURST_SECONDS;
	if (bucket->size < 1)
		bucket->size = 1;
	if (!limited || bucket->level > bucket->size)
		bucket->level = bucket->size;
}

/* More than the limit is not guaranteed. */
static double at_most(uint64_t guarantee, uint64_t limit)
{
	return (double)(limit && limit < guarantee ? limit : guarantee);
}

void vsp_meter_set(struct vsp_meter *meter, const struct vsp_limits *limits)
{
	uint64_t now = hv_now_ns();

	bucket_set(&meter->operations, limits->iops, limits->iops_burst, now);
	bucket_set(&meter->bytes, limits->bandwidth, limits->bandwidth_burst, now);
	meter->guarantee.iops = at_most(limits->iops_min, limits->iops);
	meter->guarantee.bandwidth = at_most(limits->bandwidth_min, limits->bandwidth);
}

bool vsp_meter_is_limited(const struct vsp_meter *meter)
{
	return meter->operations.rate || meter->bytes.rate;
}

bool vsp_meter_is_guaranteed(const struct vsp_meter *meter)
{
	return meter->guarantee.iops || meter->guarantee.bandwidth;
}

double vsp_meter_bytes(const struct vsp_request *request)
{
	bool counts = request->op == HV_READ || request->op == HV_WRITE;

	return counts ? (double)request->length : 0;
}

double vsp_meter_wait(struct vsp_meter *meter, const struct vsp_request *request, uint64_t now)
{
	double operations = wait_for(&meter->operations, 1, now);
	double bytes = wait_for(&meter->bytes, vsp_meter_bytes(request), now);

	return operations > bytes ? operations : bytes;
}

void vsp_meter_take(struct vsp_meter *meter, const struct vsp_request *request)
{
	meter->operations.level -= 1;
	meter->bytes.level -= vsp_meter_bytes(request);
}

void vsp_meter_give_back(struct vsp_meter *meter, const struct vsp_request *request)
{
	meter->operations.level += 1;
	meter->bytes.level += vsp_meter_bytes(request);
}

/* Guarantees. */

static uint64_t since(uint64_t then, uint64_t now)
{
	return now > then ? now - then : 0;
}

void vsp_meter_begin(struct vsp_meter *meter, uint64_t now)
{
	if (!meter->guarantee.present++)
		meter->guarantee.busy_since_ns = now;
}

void vsp_meter_end(struct vsp_meter *meter, const struct vsp_request *request, uint64_t now)
{
	struct vsp_guarantee *guarantee = &meter->guarantee;

	guarantee->operations++;
	guarantee->bytes += vsp_meter_bytes(request);
	vsp_meter_forget(meter, 1, now);
}

/* A VM's meter may hear of the end of requests that came before it began to count. */
void vsp_meter_forget(struct vsp_meter *meter, unsigned count, uint64_t now)
{
	struct vsp_guarantee *guarantee = &meter->guarantee;

	count = (unsigned)hv_min_u64(count, guarantee->present);
	guarantee->present -= count;
	if (count && !guarantee->present)
		guarantee->busy_ns += since(guarantee->busy_since_ns, now);
}

/* What was done as a part of what should have been; the better of both. */
static double part(const struct vsp_guarantee *guarantee, double seconds)
{
	double operations = 0, bytes = 0;

	if (guarantee->iops)
		operations = guarantee->operations / (guarantee->iops * seconds);
	if (guarantee->bandwidth)
		bytes = guarantee->bytes / (guarantee->bandwidth * seconds);
	return operations > bytes ? operations : bytes;
}

static enum vsp_verdict judge(struct vsp_guarantee *guarantee, uint64_t now)
{
	uint64_t going_on = guarantee->present ? since(guarantee->busy_since_ns, now) : 0;
	double seconds = (double)(guarantee->busy_ns + going_on) / SECOND_NS, done;

	if (!guarantee->iops && !guarantee->bandwidth)
		return VSP_UNKNOWN;
	if (seconds < 1 && guarantee->operations < JUDGED_REQUESTS &&
	    guarantee->iops * seconds < JUDGED_REQUESTS)
		return VSP_UNKNOWN;
	done = part(guarantee, seconds);
	guarantee->busy_ns = 0;
	guarantee->busy_since_ns = now;
	guarantee->operations = guarantee->bytes = 0;
	return done < 1.02 ? VSP_SHORT : done < 1.25 ? VSP_ENOUGH : VSP_PLENTY;
}

enum vsp_verdict vsp_meter_judge(struct vsp_meter *meter, uint64_t now)
{
	if (now >= meter->guarantee.judged_ns + VERDICT_NS) {
		meter->guarantee.verdict = judge(&meter->guarantee, now);
		meter->guarantee.judged_ns = now;
	}
	return meter->guarantee.verdict;
}
