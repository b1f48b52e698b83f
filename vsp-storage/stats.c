/*
 * Descriptions and statistics, as JSON. What belongs to a disk is looked at on its loop.
 */
#include "vsp-storage/stats.h"

#include <string.h>

#include "hvcore/clock.h"

/* Descriptions. */

static void show_limits(const struct vsp_limits *limits, struct hv_json *ret)
{
	hv_json_set_number(ret, "iops", limits->iops);
	hv_json_set_number(ret, "iops_burst", limits->iops_burst);
	hv_json_set_number(ret, "bandwidth", limits->bandwidth);
	hv_json_set_number(ret, "bandwidth_burst", limits->bandwidth_burst);
	hv_json_set_number(ret, "iops_min", limits->iops_min);
	hv_json_set_number(ret, "bandwidth_min", limits->bandwidth_min);
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
	hv_json_set_string(ret, "on_error", spec->device.stops ? "stop" : "report");
	hv_json_set_bool(ret, "coalesce", spec->device.coalesce);
	hv_json_set_string(ret, "serial", spec->device.serial);
	hv_json_set_number(ret, "slow_ms", spec->device.slow_ms);
	show_limits(&spec->limits, hv_json_set_object(ret, "limits"));
}

static void show_disk(const struct vsp_vm *vm, const struct vsp_disk *disk, struct hv_json *ret)
{
	const struct vsp_disk_spec *spec = vm->file ? vsp_vm_file_disk(vm->file, disk->name) : NULL;

	hv_json_set_string(ret, "name", disk->name);
	hv_json_set_string(ret, "state", vsp_disk_state_name(disk));
	hv_json_set_string(ret, "fault", vsp_disk_trouble(disk));
	if (disk->loop)
		hv_json_set_number(ret, "loop", disk->loop->number);
	else
		hv_json_set_null(ret, "loop");
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
	const struct vsp_disk *disk;
	struct hv_json *json;
};

static void run_show_disk(void *arg)
{
	const struct shown *shown = arg;

	show_disk(shown->vm, shown->disk, shown->json);
}

void vsp_show_vm(const struct vsp_vm *vm, struct hv_json *ret)
{
	static const struct vsp_limits none;
	struct hv_json *disks;

	hv_json_set_string(ret, "name", vm->name);
	hv_json_set_string(ret, "fault", vm->fault);
	hv_json_set_string(ret, "socket_group", vm->file ? vm->file->socket_group : NULL);
	show_limits(vm->file ? &vm->file->limits : &none, hv_json_set_object(ret, "limits"));
	disks = hv_json_set_array(ret, "disks");
	for (const struct vsp_disk *disk = vm->disks; disk; disk = disk->next) {
		struct shown shown = { .vm = vm, .disk = disk, .json = hv_json_add_object(disks) };

		if (disk->loop)
			vsp_loop_run(disk->loop, run_show_disk, &shown);
		else
			run_show_disk(&shown);
	}
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

bool vsp_stats_next(struct vsp_stats_walk *walk, const struct vsp_vm *only, vsp_visible *visible,
		    void *arg)
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

/* Statistics. */

static void show_latency(const struct hv_histogram *latency, struct hv_json *ret)
{
	hv_json_set_number(ret, "mean", (uint64_t)hv_histogram_mean(latency));
	hv_json_set_number(ret, "p50", hv_histogram_percentile(latency, 50));
	hv_json_set_number(ret, "p99", hv_histogram_percentile(latency, 99));
	hv_json_set_number(ret, "p99_9", hv_histogram_percentile(latency, 99.9));
	hv_json_set_number(ret, "max", latency->max);
}

static void show_counts(uint64_t operations, uint64_t bytes, uint64_t errors, struct hv_json *ret)
{
	hv_json_set_number(ret, "operations", operations);
	hv_json_set_number(ret, "bytes", bytes);
	hv_json_set_number(ret, "errors", errors);
}

static void show_sizes(const struct vsp_op_stats *stats, struct hv_json *ret)
{
	for (unsigned i = 0; i < VSP_SIZES; i++) {
		const struct hv_histogram *latency = &stats[i].latency_ns;
		struct hv_json *size;

		if (!latency->count)
			continue;
		size = hv_json_add_object(ret);
		if (i < VSP_SIZES - 1)
			hv_json_set_number(size, "up_to_bytes", vsp_size_limit(i));
		else
			hv_json_set_null(size, "up_to_bytes");
		show_counts(latency->count, stats[i].bytes, stats[i].errors, size);
		show_latency(latency, hv_json_set_object(size, "latency_ns"));
	}
}

static void show_op(const struct vsp_telemetry *telemetry, enum hv_io_op op, struct hv_json *ret)
{
	struct hv_histogram all = { 0 };

	for (unsigned i = 0; i < VSP_SIZES; i++)
		hv_histogram_merge(&all, &telemetry->stats[op][i].latency_ns);
	show_counts(all.count, vsp_telemetry_bytes(telemetry, op),
		    vsp_telemetry_errors(telemetry, op), ret);
	show_latency(&all, hv_json_set_object(ret, "latency_ns"));
	show_sizes(telemetry->stats[op], hv_json_set_array(ret, "sizes"));
}

static void show_depths(const struct vsp_telemetry *telemetry, struct hv_json *ret)
{
	for (unsigned i = 0; i < VSP_DEPTHS; i++) {
		struct hv_json *depth;

		if (!telemetry->depths[i])
			continue;
		depth = hv_json_add_object(ret);
		if (i < VSP_DEPTHS - 1)
			hv_json_set_number(depth, "up_to", vsp_depth_limit(i));
		else
			hv_json_set_null(depth, "up_to");
		hv_json_set_number(depth, "operations", telemetry->depths[i]);
	}
}

struct shown_stats {
	const struct vsp_stats_walk *walk;
	struct hv_json *json;
};

static void show_stats(void *arg)
{
	const struct shown_stats *shown = arg;
	const struct vsp_disk *disk = shown->walk->disk;
	const struct vsp_telemetry *telemetry = &disk->device->telemetry;
	struct hv_json *ret = shown->json;

	hv_json_set_string(ret, "vm", shown->walk->vm->name);
	hv_json_set_string(ret, "disk", disk->name);
	hv_json_set_number(ret, "in_flight", telemetry->in_flight);
	hv_json_set_number(ret, "held", disk->limits.held_count);
	hv_json_set_number(ret, "delayed", disk->limits.delayed);
	hv_json_set_number(ret, "kept", disk->device->on_error.kept_count);
	hv_json_set_number(ret, "slow", telemetry->slow_count);
	hv_json_set_number(ret, "busy_ns", vsp_telemetry_busy_ns(telemetry, hv_now_ns()));
	hv_json_set_number(ret, "nbd_connections", vsp_nbd_connections(disk->nbd));
	show_depths(telemetry, hv_json_set_array(ret, "queue_depths"));
	for (unsigned op = 0; op < VSP_OPS; op++)
		show_op(telemetry, op, hv_json_set_object(ret, vsp_op_name(op)));
}

void vsp_stats_json(const struct vsp_registry *registry, const struct vsp_vm *only,
		    vsp_visible *visible, void *arg, struct hv_json *ret)
{
	struct hv_json *list = hv_json_set_array(ret, "disks");
	struct vsp_stats_walk walk = { .vm = registry->vms };

	while (vsp_stats_next(&walk, only, visible, arg)) {
		struct shown_stats shown = { .walk = &walk, .json = hv_json_add_object(list) };

		vsp_loop_run(walk.disk->loop, show_stats, &shown);
	}
}

/* The flight recorder. */

static void show_record(const struct vsp_record *record, uint64_t now, struct hv_json *ret)
{
	hv_json_set_string(ret, "operation", vsp_op_name(record->op));
	hv_json_set_number(ret, "offset", record->offset);
	hv_json_set_number(ret, "length", record->length);
	hv_json_set_bool(ret, "fua", record->fua);
	hv_json_set_number(ret, "began_ns_ago", now - record->start_ns);
	hv_json_set_number(ret, "took_ns", record->took_ns);
	hv_json_set_number(ret, "held_ns", record->held_ns);
	hv_json_set_number(ret, "depth", record->depth);
	hv_json_set_string(ret, "error", record->result ? strerror(-record->result) : NULL);
}

/* The oldest first. */
static void show_ring(const struct vsp_record *ring, uint64_t size, uint64_t count, uint64_t now,
		      struct hv_json *ret)
{
	for (uint64_t i = count > size ? count - size : 0; i < count; i++)
		show_record(&ring[i % size], now, hv_json_add_object(ret));
}

struct shown_requests {
	const struct vsp_telemetry *telemetry;
	struct hv_json *json;
};

static void show_requests(void *arg)
{
	const struct shown_requests *shown = arg;
	const struct vsp_telemetry *telemetry = shown->telemetry;
	uint64_t now = hv_now_ns();
	struct hv_json *list;

	show_ring(telemetry->slow, VSP_SLOW_COUNT, telemetry->slow_count, now,
		  hv_json_set_array(shown->json, "slow"));
	show_ring(telemetry->last, VSP_LAST_COUNT, telemetry->last_count, now,
		  hv_json_set_array(shown->json, "last"));
	list = hv_json_set_array(shown->json, "in_flight");
	for (const struct vsp_request *request = telemetry->oldest; request;
	     request = request->newer) {
		struct vsp_record record = vsp_telemetry_record(request, 0, now);

		show_record(&record, now, hv_json_add_object(list));
	}
}

void vsp_show_requests(const struct vsp_disk *disk, struct hv_json *ret)
{
	struct shown_requests shown = { .telemetry = &disk->device->telemetry, .json = ret };

	vsp_loop_run(disk->loop, show_requests, &shown);
}
