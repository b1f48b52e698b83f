/*
 * Statistics and descriptions.
 */
#include "vsp-storage/stats.h"

#include <inttypes.h>
#include <string.h>

static const char *const op_names[VSP_OPS] = {
	[HV_READ] = "read",       [HV_WRITE] = "write", [HV_ZERO] = "zero",
	[HV_DISCARD] = "discard", [HV_FLUSH] = "flush",
};

/* Upper bounds of the buckets that Prometheus gets, in nanoseconds. */
static const uint64_t bounds_ns[] = { 50000,     100000,     250000,     500000,
				      1000000,   2500000,    5000000,    10000000,
				      25000000,  50000000,   100000000,  250000000,
				      500000000, 1000000000, 2500000000, 10000000000 };

/* Descriptions. */

static void show_limits(const struct vsp_limits *limits, struct hv_json *ret)
{
	hv_json_set_number(ret, "iops", limits->iops);
	hv_json_set_number(ret, "iops_burst", limits->iops_burst);
	hv_json_set_number(ret, "bandwidth", limits->bandwidth);
	hv_json_set_number(ret, "bandwidth_burst", limits->bandwidth_burst);
}

static const char *cache_name(enum vsp_cache cache)
{
	static const char *const names[] = {
		[VSP_CACHE_NONE] = "none", [VSP_CACHE_WRITEBACK] = "writeback", [VSP_CACHE_UNSAFE] = "unsafe"
	};

	return names[cache];
}

static void show_spec(const struct vsp_disk_spec *spec, struct hv_json *ret)
{
	hv_json_set_string(ret, "file", spec->path);
	hv_json_set_bool(ret, "readonly", spec->device.read_only);
	hv_json_set_string(ret, "cache", cache_name(spec->device.cache));
	hv_json_set_bool(ret, "discard", spec->device.discard);
	hv_json_set_string(ret, "serial", spec->device.serial);
	show_limits(&spec->limits, hv_json_set_object(ret, "limits"));
}

static void show_disk(const struct vsp_vm *vm, const struct vsp_disk *disk, struct hv_json *ret)
{
	const struct vsp_disk_spec *spec = vm->file ? vsp_vm_file_disk(vm->file, disk->name) : NULL;

	hv_json_set_string(ret, "name", disk->name);
	hv_json_set_string(ret, "state", vsp_disk_state_name(disk->state));
	hv_json_set_string(ret, "fault", disk->fault);
	hv_json_set_string(ret, "vhost_socket", disk->vhost_path);
	hv_json_set_string(ret, "nbd_socket", disk->listener.path);
	if (disk->device) {
		hv_json_set_number(ret, "size_bytes", disk->device->size_bytes);
		hv_json_set_number(ret, "sector_bytes", disk->device->sector_bytes);
		hv_json_set_string(ret, "format", hv_disk_format(disk->device->disk));
		hv_json_set_bool(ret, "vhost_connected",
				 disk->vhost && vsp_vhost_is_connected(disk->vhost));
		hv_json_set_number(ret, "nbd_connections", vsp_nbd_connections(disk->nbd));
	}
	if (spec)
		show_spec(spec, ret);
}

struct shown {
	const struct vsp_vm *vm;
	struct hv_json *disks;
};

static void show_disks(void *arg)
{
	const struct shown *shown = arg;

	for (const struct vsp_disk *disk = shown->vm->disks; disk; disk = disk->next)
		show_disk(shown->vm, disk, hv_json_add_object(shown->disks));
}

void vsp_show_vm(const struct vsp_vm *vm, struct hv_json *ret)
{
	static const struct vsp_limits none;
	struct shown shown = { .vm = vm };

	hv_json_set_string(ret, "name", vm->name);
	hv_json_set_string(ret, "fault", vm->fault);
	hv_json_set_string(ret, "socket_group", vm->file ? vm->file->socket_group : NULL);
	show_limits(vm->file ? &vm->file->limits : &none, hv_json_set_object(ret, "limits"));
	hv_json_set_number(ret, "loop", vm->loop->number);
	shown.disks = hv_json_set_array(ret, "disks");
	vsp_loop_run(vm->loop, show_disks, &shown);
}

static void show_fault(const char *vm, const char *disk, const char *fault, struct hv_json *array)
{
	struct hv_json *object = fault ? hv_json_add_object(array) : NULL;

	if (!fault)
		return;
	hv_json_set_string(object, "vm", vm);
	hv_json_set_string(object, "disk", disk);
	hv_json_set_string(object, "fault", fault);
}

void vsp_show_faults(const struct vsp_vm *vm, struct hv_json *array)
{
	show_fault(vm->name, NULL, vm->fault, array);
	for (const struct vsp_disk *disk = vm->disks; disk; disk = disk->next)
		show_fault(vm->name, disk->name, disk->fault, array);
}

/* Walking. */

struct walk {
	const struct vsp_vm *vm;
	const struct vsp_disk *disk;

	/* What is told about the disk, and where. */
	struct hv_json *json;
	FILE *text;
	unsigned metric;
};

/* The next disk that is open and to be shown. */
static bool next_disk(struct walk *walk, const struct vsp_vm *only, vsp_visible *visible, void *arg)
{
	do {
		if (walk->disk && walk->disk->next) {
			walk->disk = walk->disk->next;
			continue;
		}
		if (walk->disk)
			walk->vm = walk->vm->next;
		while (walk->vm && (!walk->vm->disks || (only && walk->vm != only) ||
				    !visible(arg, walk->vm->name)))
			walk->vm = walk->vm->next;
		walk->disk = walk->vm ? walk->vm->disks : NULL;
	} while (walk->disk && !walk->disk->device);
	return walk->disk;
}

/* JSON. */

static void stats_op(const struct vsp_op_stats *stats, struct hv_json *ret)
{
	const struct hv_histogram *latency = &stats->latency_ns;
	struct hv_json *ns;

	hv_json_set_number(ret, "operations", stats->operations);
	hv_json_set_number(ret, "bytes", stats->bytes);
	hv_json_set_number(ret, "errors", stats->errors);
	ns = hv_json_set_object(ret, "latency_ns");
	hv_json_set_number(ns, "mean", (uint64_t)hv_histogram_mean(latency));
	hv_json_set_number(ns, "p50", hv_histogram_percentile(latency, 50));
	hv_json_set_number(ns, "p99", hv_histogram_percentile(latency, 99));
	hv_json_set_number(ns, "p99_9", hv_histogram_percentile(latency, 99.9));
	hv_json_set_number(ns, "max", latency->max);
}

static void stats_disk(void *arg)
{
	const struct walk *walk = arg;
	const struct vsp_device *device = walk->disk->device;
	struct hv_json *disk = walk->json;

	hv_json_set_string(disk, "vm", walk->vm->name);
	hv_json_set_string(disk, "disk", walk->disk->name);
	hv_json_set_number(disk, "in_flight", device->in_flight);
	hv_json_set_number(disk, "held", walk->disk->limits.held_count);
	hv_json_set_number(disk, "delayed", walk->disk->limits.delayed);
	hv_json_set_number(disk, "nbd_connections", vsp_nbd_connections(walk->disk->nbd));
	for (unsigned op = 0; op < VSP_OPS; op++)
		stats_op(&device->stats[op], hv_json_set_object(disk, op_names[op]));
}

void vsp_stats_json(const struct vsp_registry *registry, const struct vsp_vm *only,
		    vsp_visible *visible, void *arg, struct hv_json *ret)
{
	struct hv_json *list = hv_json_set_array(ret, "disks");
	struct walk walk = { .vm = registry->vms };

	while (next_disk(&walk, only, visible, arg)) {
		walk.json = hv_json_add_object(list);
		vsp_loop_run(walk.vm->loop, stats_disk, &walk);
	}
}

/* Prometheus' text format; names are safe in labels. */

static void labels(const struct walk *walk, FILE *out)
{
	fprintf(out, "{vm=\"%s\",disk=\"%s\"", walk->vm->name, walk->disk->name);
}

static void counter(const char *name, const struct walk *walk, unsigned op, uint64_t value,
		    FILE *out)
{
	fprintf(out, "hvkit_disk_%s", name);
	labels(walk, out);
	fprintf(out, ",op=\"%s\"} %" PRIu64 "\n", op_names[op], value);
}

static void gauge(const char *name, const struct walk *walk, uint64_t value, FILE *out)
{
	fprintf(out, "hvkit_disk_%s", name);
	labels(walk, out);
	fprintf(out, "} %" PRIu64 "\n", value);
}

/* A bucket of ours counts where all of it fits. */
static void latency(const struct walk *walk, unsigned op, FILE *out)
{
	const struct hv_histogram *histogram = &walk->disk->device->stats[op].latency_ns;
	struct hv_histogram_bucket bucket = { 0 };
	uint64_t total = 0;
	size_t at = 0;
	bool more = hv_histogram_next(histogram, &at, &bucket);

	for (size_t i = 0; i < sizeof(bounds_ns) / sizeof(bounds_ns[0]); i++) {
		for (; more && bucket.last <= bounds_ns[i];
		     more = hv_histogram_next(histogram, &at, &bucket))
			total += bucket.count;
		fprintf(out, "hvkit_disk_latency_seconds_bucket");
		labels(walk, out);
		fprintf(out, ",op=\"%s\",le=\"%g\"} %" PRIu64 "\n", op_names[op],
			(double)bounds_ns[i] / 1e9, total);
	}
	fprintf(out, "hvkit_disk_latency_seconds_bucket");
	labels(walk, out);
	fprintf(out, ",op=\"%s\",le=\"+Inf\"} %" PRIu64 "\nhvkit_disk_latency_seconds_sum",
		op_names[op], histogram->count);
	labels(walk, out);
	fprintf(out, ",op=\"%s\"} %.9f\nhvkit_disk_latency_seconds_count", op_names[op],
		histogram->sum / 1e9);
	labels(walk, out);
	fprintf(out, ",op=\"%s\"} %" PRIu64 "\n", op_names[op], histogram->count);
}

enum metric {
	OPERATIONS,
	BYTES,
	ERRORS,
	LATENCY,
	SIZE,
	IN_FLIGHT,
	HELD,
	DELAYED,
	CONNECTIONS,
	METRICS
};

static const struct {
	const char *name, *type, *help;
} metrics[METRICS] = {
	[OPERATIONS] = { "operations_total", "counter", "Requests completed." },
	[BYTES] = { "bytes_total", "counter", "Bytes of requests completed without an error." },
	[ERRORS] = { "errors_total", "counter", "Requests completed with an error." },
	[LATENCY] = { "latency_seconds", "histogram", "From arrival to completion." },
	[SIZE] = { "size_bytes", "gauge", "Size of the disk." },
	[IN_FLIGHT] = { "in_flight", "gauge", "Requests being worked on." },
	[HELD] = { "held", "gauge", "Requests that wait because of limits." },
	[DELAYED] = { "delayed_total", "counter", "Requests that had to wait because of limits." },
	[CONNECTIONS] = { "nbd_connections", "gauge", "NBD clients." },
};

static void metric(void *arg)
{
	const struct walk *walk = arg;
	enum metric what = walk->metric;
	FILE *out = walk->text;
	const struct vsp_disk *disk = walk->disk;
	const struct vsp_op_stats *stats = disk->device->stats;
	const char *name = metrics[what].name;

	for (unsigned op = 0; op < VSP_OPS && what <= LATENCY; op++) {
		if (what == LATENCY)
			latency(walk, op, out);
		else
			counter(name, walk, op,
				what == OPERATIONS ? stats[op].operations :
				what == BYTES      ? stats[op].bytes :
						     stats[op].errors,
				out);
	}
	if (what == SIZE)
		gauge(name, walk, disk->device->size_bytes, out);
	else if (what == IN_FLIGHT)
		gauge(name, walk, disk->device->in_flight, out);
	else if (what == HELD)
		gauge(name, walk, disk->limits.held_count, out);
	else if (what == DELAYED)
		gauge(name, walk, disk->limits.delayed, out);
	else if (what == CONNECTIONS)
		gauge(name, walk, vsp_nbd_connections(disk->nbd), out);
}

void vsp_stats_prometheus(const struct vsp_registry *registry, const struct vsp_vm *only,
			  vsp_visible *visible, void *arg, FILE *out)
{
	for (enum metric what = 0; what < METRICS; what++) {
		struct walk walk = { .vm = registry->vms, .text = out, .metric = what };

		fprintf(out, "# HELP hvkit_disk_%s %s\n# TYPE hvkit_disk_%s %s\n",
			metrics[what].name, metrics[what].help, metrics[what].name,
			metrics[what].type);
		while (next_disk(&walk, only, visible, arg))
			vsp_loop_run(walk.vm->loop, metric, &walk);
	}
}
