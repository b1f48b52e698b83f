/*
 * Statistics in Prometheus' text format, version 0.0.4: all of one metric together, counters end in
 * _total, units are seconds and bytes. Names of VMs and disks are safe in labels.
 */
#include <inttypes.h>

#include "hvcore/clock.h"

#include "vsp-storage/stats.h"

/* Upper bounds of the buckets of latency, in nanoseconds. */
static const uint64_t bounds_ns[] = { 50000,     100000,     250000,     500000,
				      1000000,   2500000,    5000000,    10000000,
				      25000000,  50000000,   100000000,  250000000,
				      500000000, 1000000000, 2500000000, 10000000000 };

/* One line: metric, labels of the disk and more of them, value. */

static void line(const struct vsp_stats_walk *walk, const char *name, const char *more, FILE *out)
{
	fprintf(out, "hvkit_disk_%s{vm=\"%s\",disk=\"%s\"%s} ", name, walk->vm->name,
		walk->disk->name, more);
}

static void whole(const struct vsp_stats_walk *walk, const char *name, const char *more,
		  uint64_t value, FILE *out)
{
	line(walk, name, more, out);
	fprintf(out, "%" PRIu64 "\n", value);
}

static void seconds(const struct vsp_stats_walk *walk, const char *name, const char *more,
		    double ns, FILE *out)
{
	line(walk, name, more, out);
	fprintf(out, "%.9f\n", ns / 1e9);
}

/* By operation. */

static void by_op(const struct vsp_stats_walk *walk, const char *name,
		  uint64_t (*get)(const struct vsp_telemetry *, enum hv_io_op), FILE *out)
{
	for (unsigned op = 0; op < VSP_OPS; op++) {
		char label[32];

		snprintf(label, sizeof(label), ",op=\"%s\"", vsp_op_name(op));
		whole(walk, name, label, get(&walk->disk->device->telemetry, op), out);
	}
}

static void operations(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	by_op(walk, name, vsp_telemetry_operations, out);
}

static void bytes(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	by_op(walk, name, vsp_telemetry_bytes, out);
}

static void errors(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	by_op(walk, name, vsp_telemetry_errors, out);
}

/* Histograms. */

/* A bucket of ours counts where all of it fits. */
static void one_latency(const struct vsp_stats_walk *walk, const struct hv_histogram *histogram,
			const char *label, FILE *out)
{
	struct hv_histogram_bucket bucket = { 0 };
	char with_bound[96];
	uint64_t total = 0;
	size_t at = 0;
	bool more = hv_histogram_next(histogram, &at, &bucket);

	for (size_t i = 0; i < sizeof(bounds_ns) / sizeof(bounds_ns[0]); i++) {
		for (; more && bucket.last <= bounds_ns[i];
		     more = hv_histogram_next(histogram, &at, &bucket))
			total += bucket.count;
		snprintf(with_bound, sizeof(with_bound), "%s,le=\"%g\"", label,
			 (double)bounds_ns[i] / 1e9);
		whole(walk, "latency_seconds_bucket", with_bound, total, out);
	}
	snprintf(with_bound, sizeof(with_bound), "%s,le=\"+Inf\"", label);
	whole(walk, "latency_seconds_bucket", with_bound, histogram->count, out);
	seconds(walk, "latency_seconds_sum", label, histogram->sum, out);
	whole(walk, "latency_seconds_count", label, histogram->count, out);
}

/* Of operations and sizes that there were. */
static void latency(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	(void)name;
	for (unsigned op = 0; op < VSP_OPS; op++)
		for (unsigned i = 0; i < VSP_SIZES; i++) {
			const struct vsp_op_stats *stats =
				&walk->disk->device->telemetry.stats[op][i];
			char label[64], size[24] = "+Inf";

			if (!stats->latency_ns.count)
				continue;
			if (i < VSP_SIZES - 1)
				snprintf(size, sizeof(size), "%" PRIu64, vsp_size_limit(i));
			snprintf(label, sizeof(label), ",op=\"%s\",up_to_bytes=\"%s\"",
				 vsp_op_name(op), size);
			one_latency(walk, &stats->latency_ns, label, out);
		}
}

static void queue_depth(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	const struct vsp_telemetry *telemetry = &walk->disk->device->telemetry;
	uint64_t total = 0;

	(void)name;
	for (unsigned i = 0; i < VSP_DEPTHS; i++) {
		char label[32] = ",le=\"+Inf\"";

		total += telemetry->depths[i];
		if (i < VSP_DEPTHS - 1)
			snprintf(label, sizeof(label), ",le=\"%" PRIu64 "\"", vsp_depth_limit(i));
		whole(walk, "queue_depth_bucket", label, total, out);
	}
	whole(walk, "queue_depth_sum", "", telemetry->depth_sum, out);
	whole(walk, "queue_depth_count", "", total, out);
}

/* Single values. */

static void busy(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	seconds(walk, name, "",
		(double)vsp_telemetry_busy_ns(&walk->disk->device->telemetry, hv_now_ns()), out);
}

static void oldest(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	const struct vsp_request *request = walk->disk->device->telemetry.oldest;

	seconds(walk, name, "", request ? (double)(hv_now_ns() - request->start_ns) : 0, out);
}

static void in_flight(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	whole(walk, name, "", walk->disk->device->telemetry.in_flight, out);
}

static void held(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	whole(walk, name, "", walk->disk->limits.held_count, out);
}

static void delayed(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	whole(walk, name, "", walk->disk->limits.delayed, out);
}

static void slow(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	whole(walk, name, "", walk->disk->device->telemetry.slow_count, out);
}

static void stopped(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	whole(walk, name, "", walk->disk->device->on_error.code != 0, out);
}

static void size(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	whole(walk, name, "", walk->disk->device->size_bytes, out);
}

static void connections(const struct vsp_stats_walk *walk, const char *name, FILE *out)
{
	whole(walk, name, "", vsp_nbd_connections(walk->disk->nbd), out);
}

static const struct {
	const char *name, *type, *help;
	void (*print)(const struct vsp_stats_walk *walk, const char *name, FILE *out);
} metrics[] = {
	{ "operations_total", "counter", "Requests completed.", operations },
	{ "bytes_total", "counter", "Bytes of requests completed without an error.", bytes },
	{ "errors_total", "counter", "Requests completed with an error.", errors },
	{ "latency_seconds", "histogram", "From arrival to completion, by operation and size.",
	  latency },
	{ "queue_depth", "histogram", "Requests in flight when one came, itself included.",
	  queue_depth },
	{ "busy_seconds_total", "counter", "Time with anything in flight.", busy },
	{ "oldest_request_seconds", "gauge", "Since when the oldest request is in flight.",
	  oldest },
	{ "in_flight", "gauge", "Requests being worked on.", in_flight },
	{ "held", "gauge", "Requests that wait because of limits.", held },
	{ "delayed_total", "counter", "Requests that had to wait because of limits.", delayed },
	{ "slow_total", "counter", "Requests that took as long as slow-ms or longer.", slow },
	{ "stopped", "gauge", "1 while the disk has stopped on an error.", stopped },
	{ "size_bytes", "gauge", "Size of the disk.", size },
	{ "nbd_connections", "gauge", "NBD clients.", connections },
};

/* The loop of a disk prints one metric of it. */

struct printed {
	const struct vsp_stats_walk *walk;
	size_t metric;
	FILE *out;
};

static void print(void *arg)
{
	const struct printed *printed = arg;

	metrics[printed->metric].print(printed->walk, metrics[printed->metric].name, printed->out);
}

void vsp_stats_prometheus(const struct vsp_registry *registry, const struct vsp_vm *only,
			  vsp_visible *visible, void *arg, FILE *out)
{
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
		struct vsp_stats_walk walk = { .vm = registry->vms };

		fprintf(out, "# HELP hvkit_disk_%s %s\n# TYPE hvkit_disk_%s %s\n", metrics[i].name,
			metrics[i].help, metrics[i].name, metrics[i].type);
		while (vsp_stats_next(&walk, only, visible, arg)) {
			struct printed printed = { .walk = &walk, .metric = i, .out = out };

			vsp_loop_run(walk.disk->loop, print, &printed);
		}
	}
}
