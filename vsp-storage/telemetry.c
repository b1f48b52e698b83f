/*
 * Counting.
 */
#include "vsp-storage/telemetry.h"

#include <assert.h>

#include "vsp-storage/device.h"

#define SIZE_SHIFT 12 /* the first class of lengths; each one is four times the one before */

static_assert((VSP_LAST_COUNT & (VSP_LAST_COUNT - 1)) == 0, "a power of two");
static_assert((VSP_SLOW_COUNT & (VSP_SLOW_COUNT - 1)) == 0, "a power of two");

const char *vsp_op_name(enum hv_io_op op)
{
	static const char *const names[VSP_OPS] = {
		[HV_READ] = "read",       [HV_WRITE] = "write", [HV_ZERO] = "zero",
		[HV_DISCARD] = "discard", [HV_FLUSH] = "flush",
	};

	return names[op];
}

/* Classes. */

static unsigned bits_of(uint64_t value)
{
	return value ? 64 - (unsigned)__builtin_clzll(value) : 0;
}

static unsigned size_class(uint64_t length)
{
	unsigned class = length ? (bits_of((length - 1) >> SIZE_SHIFT) + 1) / 2 : 0;

	return class < VSP_SIZES ? class : VSP_SIZES - 1;
}

static unsigned depth_class(unsigned depth)
{
	unsigned class = bits_of(depth - 1);

	return class < VSP_DEPTHS ? class : VSP_DEPTHS - 1;
}

uint64_t vsp_size_limit(unsigned class)
{
	return class < VSP_SIZES - 1 ? UINT64_C(1) << (SIZE_SHIFT + 2 * class) : UINT64_MAX;
}

uint64_t vsp_depth_limit(unsigned class)
{
	return class < VSP_DEPTHS - 1 ? UINT64_C(1) << class : UINT64_MAX;
}

/* Requests in flight. */

static void link_in(struct vsp_telemetry *telemetry, struct vsp_request *request)
{
	request->newer = NULL;
	request->older = telemetry->newest;
	if (telemetry->newest)
		telemetry->newest->newer = request;
	else
		telemetry->oldest = request;
	telemetry->newest = request;
}

static void unlink_from(struct vsp_telemetry *telemetry, struct vsp_request *request)
{
	if (request->older)
		request->older->newer = request->newer;
	else
		telemetry->oldest = request->newer;
	if (request->newer)
		request->newer->older = request->older;
	else
		telemetry->newest = request->older;
}

/* A request comes and ends. */

void vsp_telemetry_begin(struct vsp_telemetry *telemetry, struct vsp_request *request)
{
	if (!telemetry->in_flight++)
		telemetry->busy_since_ns = request->start_ns;
	request->depth = telemetry->in_flight;
	request->held_ns = 0;
	telemetry->depths[depth_class(request->depth)]++;
	telemetry->depth_sum += request->depth;
	link_in(telemetry, request);
}

struct vsp_record vsp_telemetry_record(const struct vsp_request *request, int result, uint64_t now)
{
	return (struct vsp_record){
		.start_ns = request->start_ns,
		.took_ns = now - request->start_ns,
		.held_ns = request->held_ns,
		.offset = request->offset,
		.length = request->length,
		.result = result,
		.depth = request->depth,
		.op = (uint8_t)request->op,
		.fua = request->flags & HV_IO_FUA,
	};
}

bool vsp_telemetry_end(struct vsp_telemetry *telemetry, struct vsp_request *request, int result,
		       uint64_t now)
{
	struct vsp_op_stats *stats = &telemetry->stats[request->op][size_class(request->length)];
	uint64_t took = now - request->start_ns;
	struct vsp_record *record = &telemetry->last[telemetry->last_count++ % VSP_LAST_COUNT];

	hv_histogram_add(&stats->latency_ns, took);
	if (result == 0)
		stats->bytes += request->length;
	else
		stats->errors++;
	*record = vsp_telemetry_record(request, result, now);
	unlink_from(telemetry, request);
	if (!--telemetry->in_flight)
		telemetry->busy_ns += now - telemetry->busy_since_ns;
	if (!telemetry->slow_ns || took - request->held_ns < telemetry->slow_ns)
		return false;
	telemetry->slow[telemetry->slow_count++ % VSP_SLOW_COUNT] = *record;
	return true;
}

/* Sums. */

uint64_t vsp_telemetry_operations(const struct vsp_telemetry *telemetry, enum hv_io_op op)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < VSP_SIZES; i++)
		sum += telemetry->stats[op][i].latency_ns.count;
	return sum;
}

uint64_t vsp_telemetry_bytes(const struct vsp_telemetry *telemetry, enum hv_io_op op)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < VSP_SIZES; i++)
		sum += telemetry->stats[op][i].bytes;
	return sum;
}

uint64_t vsp_telemetry_errors(const struct vsp_telemetry *telemetry, enum hv_io_op op)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < VSP_SIZES; i++)
		sum += telemetry->stats[op][i].errors;
	return sum;
}

uint64_t vsp_telemetry_busy_ns(const struct vsp_telemetry *telemetry, uint64_t now)
{
	return telemetry->busy_ns + (telemetry->in_flight ? now - telemetry->busy_since_ns : 0);
}
