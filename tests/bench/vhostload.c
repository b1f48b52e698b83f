/*
 * A load for vhost-user-blk: a front end that keeps its rings full and takes answers in batches, so
 * that the back end is what is measured and not a guest.
 *
 *	vhostload --socket PATH --pattern randread --size 4K --depth 64 --seconds 4
 *
 * Tells requests per second, their latency, and what the process at the other end of the socket
 * spent on them: its CPU time, and so requests per second of a core. By default it looks for
 * answers without end, which takes a core of its own; --sleep waits to be interrupted instead.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hvcore/histogram.h"
#include "hvcore/json.h"
#include "hvcore/option.h"
#include "hvcore/program.h"
#include "tests/support/must.h"
#include "tests/support/vhost_client.h"

#define RING_SIZE 1024
#define SECTOR 512
#define SIZE_MAX_BYTES (1u << 20)
#define LATENCY_EVERY 16 /* requests of which one is timed: a clock is not free */
#define WAIT_MS 10000

struct options {
	const char *socket, *pattern;
	uint64_t size_bytes, depth, rings, seconds;
	bool sleep, inflight, json;
};

static const struct options defaults = {
	.pattern = "randread", .size_bytes = 4096, .depth = 64, .rings = 1, .seconds = 4
};

struct load {
	const struct options *options;
	struct vhost_client *client;
	bool writes, random;
	uint64_t span, next; /* in units of a request */
	uint64_t done, state;
	uint64_t started_ns[VHOST_CLIENT_RINGS][RING_SIZE]; /* by slot; 0: not timed */
	struct hv_histogram latency_ns;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* CPU time of a process with all its threads, so far. */
static uint64_t cpu_ns(pid_t pid)
{
	uint64_t sum = 0, spent;
	struct dirent *entry;
	char path[300];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, entry->d_name);
		file = fopen(path, "r");
		if (file && fscanf(file, "%lu", &spent) == 1)
			sum += spent;
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return sum;
}

static pid_t peer_of(int socket)
{
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);

	must(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0, "no peer");
	return peer.pid;
}

static uint64_t next_sector(struct load *load)
{
	uint64_t unit;

	if (load->random) {
		load->state ^= load->state << 13;
		load->state ^= load->state >> 7;
		load->state ^= load->state << 17;
		unit = load->state % load->span;
	} else {
		unit = load->next++ % load->span;
	}
	return unit * (load->options->size_bytes / SECTOR);
}

/* Each slot has memory of its own; the client takes the slot freed last, so that few are used. */
static uint8_t *data_of(const struct load *load, const struct vhost_client_ring *ring,
			unsigned slot)
{
	must(slot < load->options->depth, "slot %u of %lu", slot, load->options->depth);
	return load->client->memory + VHOST_CLIENT_DATA +
	       (ring->index * load->options->depth + slot) * load->options->size_bytes;
}

static void fill(struct load *load, struct vhost_client_ring *ring)
{
	uint32_t type = load->writes ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;

	while (ring->in_flight < load->options->depth) {
		uint8_t *data = data_of(load, ring, ring->free_slots[ring->free_count - 1]);
		unsigned slot = vhost_client_prepare(ring, type, next_sector(load), data,
						     (uint32_t)load->options->size_bytes);

		load->started_ns[ring->index][slot] =
			(load->done + slot) % LATENCY_EVERY ? 0 : now_ns();
	}
	vhost_client_notify(ring);
}

static void take(struct load *load, struct vhost_client_ring *ring, int slot)
{
	uint64_t started = load->started_ns[ring->index][slot];

	must(vhost_client_status(ring, (unsigned)slot) == VIRTIO_BLK_S_OK, "a request failed");
	if (started)
		hv_histogram_add(&load->latency_ns, now_ns() - started);
	load->done++;
}

static void reap_and_fill(struct load *load, struct vhost_client_ring *ring)
{
	unsigned count = 0, most = (unsigned)load->options->depth;
	int slot;

	if (load->options->sleep) {
		slot = vhost_client_wait(ring, WAIT_MS);
		must(slot >= 0, "no answer within %d s", WAIT_MS / 1000);
		take(load, ring, slot);
		count++;
	}
	while (count < most && (slot = vhost_client_reap(ring)) >= 0) {
		take(load, ring, slot);
		count++;
	}
	if (count)
		fill(load, ring);
}

static void work_until(struct load *load, uint64_t end_ns)
{
	do {
		for (int i = 0; i < 64; i++)
			for (unsigned ring = 0; ring < load->client->ring_count; ring++)
				reap_and_fill(load, &load->client->rings[ring]);
	} while (now_ns() < end_ns);
}

static void drain(struct load *load)
{
	for (unsigned i = 0; i < load->client->ring_count; i++) {
		struct vhost_client_ring *ring = &load->client->rings[i];

		while (ring->in_flight)
			must(vhost_client_wait(ring, WAIT_MS) >= 0, "no answer");
	}
}

static void report(const struct load *load, double elapsed, double cpu)
{
	const struct options *options = load->options;
	double iops = (double)load->done / elapsed, million = (double)load->done / 1e6;
	struct hv_json *json;

	if (!options->json) {
		printf("%.0f/s, %.1f us mean, %.1f us p99; %.2f CPU s per million, %.0f/s of a core\n",
		       iops, hv_histogram_mean(&load->latency_ns) / 1e3,
		       (double)hv_histogram_percentile(&load->latency_ns, 99) / 1e3,
		       million > 0 ? cpu / million : 0, cpu > 0 ? (double)load->done / cpu : 0);
		return;
	}
	json = hv_json_object();
	hv_json_set_number(json, "iops", (uint64_t)iops);
	hv_json_set_number(json, "mean_ns", (uint64_t)hv_histogram_mean(&load->latency_ns));
	hv_json_set_number(json, "p99_ns", hv_histogram_percentile(&load->latency_ns, 99));
	hv_json_set_number(json, "cpu_ns_per_request",
			   load->done ? (uint64_t)(cpu * 1e9 / (double)load->done) : 0);
	hv_json_set_number(json, "iops_per_core",
			   cpu > 0 ? (uint64_t)((double)load->done / cpu) : 0);
	hv_json_print(json, stdout);
	hv_json_free(json);
}

/* Options and the disk: what can be asked for. */

static int check(const struct options *options, struct hv_err *err)
{
	if (!options->socket)
		return hv_fail(err, -EINVAL, "--socket is missing");
	if (!options->depth || options->depth > RING_SIZE)
		return hv_fail(err, -EINVAL, "--depth is from 1 to %u", RING_SIZE);
	if (!options->rings || options->rings > VHOST_CLIENT_RINGS)
		return hv_fail(err, -EINVAL, "--rings is from 1 to %u", VHOST_CLIENT_RINGS);
	if (!options->size_bytes || options->size_bytes % SECTOR ||
	    options->size_bytes > SIZE_MAX_BYTES)
		return hv_fail(err, -EINVAL, "--size is a multiple of %u, at most 1M", SECTOR);
	return 0;
}

static void find_span(struct load *load)
{
	struct virtio_blk_config config;

	vhost_client_config(load->client, &config);
	load->span = config.capacity * SECTOR / load->options->size_bytes;
	must(load->span, "the disk is smaller than a request");
}

static void measure(struct load *load)
{
	uint64_t begin, cpu_begin, span = load->options->seconds * 1000000000u;
	pid_t peer = peer_of(load->client->socket);

	for (unsigned i = 0; i < load->client->ring_count; i++)
		fill(load, &load->client->rings[i]);
	work_until(load, now_ns() + span / 8);
	load->done = 0;
	load->latency_ns = (struct hv_histogram){ 0 };
	begin = now_ns();
	cpu_begin = cpu_ns(peer);
	work_until(load, begin + span);
	report(load, (double)(now_ns() - begin) / 1e9, (double)(cpu_ns(peer) - cpu_begin) / 1e9);
	drain(load);
}

static int run(void *arg, int operand_count, char **operands)
{
	const struct options *options = arg;
	struct vhost_client_options how = {
		.memory_bytes =
			VHOST_CLIENT_DATA + options->rings * options->depth * options->size_bytes,
		.ring_count = (unsigned)options->rings,
		.ring_size = RING_SIZE,
		.inflight = options->inflight,
	};
	static struct load load;
	HV_ERR(err);

	(void)operand_count;
	(void)operands;
	if (check(options, &err))
		return hv_program_usage("vhostload", NULL, "%s", err.sentence);
	load.options = options;
	load.random = !strncmp(options->pattern, "rand", 4);
	load.writes = !!strstr(options->pattern, "write");
	load.state = 88172645463325252u;
	load.client = vhost_client_new(options->socket, &how);
	find_span(&load);
	measure(&load);
	vhost_client_free(load.client);
	return hv_program_flush("vhostload");
}

static const struct hv_option table[] = {
	{ .name = "socket",
	  .kind = HV_OPTION_STRING,
	  .argument = "PATH",
	  .help = "where the back end listens",
	  .offset = offsetof(struct options, socket) },
	{ .name = "pattern",
	  .kind = HV_OPTION_STRING,
	  .argument = "PATTERN",
	  .choices = "read|write|randread|randwrite",
	  .help = "what is asked for (default: randread)",
	  .offset = offsetof(struct options, pattern) },
	{ .name = "size",
	  .kind = HV_OPTION_SIZE,
	  .argument = "SIZE",
	  .help = "of a request (default: 4K)",
	  .offset = offsetof(struct options, size_bytes) },
	{ .name = "depth",
	  .kind = HV_OPTION_NUMBER,
	  .argument = "N",
	  .help = "requests in flight in each ring (default: 64)",
	  .offset = offsetof(struct options, depth) },
	{ .name = "rings",
	  .kind = HV_OPTION_NUMBER,
	  .argument = "N",
	  .help = "how many rings (default: 1)",
	  .offset = offsetof(struct options, rings) },
	{ .name = "seconds",
	  .kind = HV_OPTION_NUMBER,
	  .argument = "N",
	  .help = "how long (default: 4)",
	  .offset = offsetof(struct options, seconds) },
	{ .name = "sleep",
	  .kind = HV_OPTION_FLAG,
	  .help = "wait to be interrupted for answers",
	  .offset = offsetof(struct options, sleep) },
	{ .name = "inflight",
	  .kind = HV_OPTION_FLAG,
	  .help = "with in-flight tracking, as QEMU",
	  .offset = offsetof(struct options, inflight) },
	{ .name = "json",
	  .kind = HV_OPTION_FLAG,
	  .help = "print the result as JSON",
	  .offset = offsetof(struct options, json) },
	{ 0 },
};

static const struct hv_command command = {
	.name = "vhostload",
	.synopsis = "--socket PATH [OPTION]...",
	.help = "measures a vhost-user-blk back end",
	.options = table,
	.options_size = sizeof(struct options),
	.run = run,
	.defaults = &defaults,
};

static const struct hv_program program = { .name = "vhostload",
					   .summary = "measures a vhost-user-blk back end",
					   .version = HVKIT_VERSION,
					   .command = &command };

int main(int argc, char **argv)
{
	return hv_program_run(&program, argc, argv);
}
