/*
 * The server's process: one loop, two disks, each on a socket of its own.
 */
#include "tests/support/vhost_server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hvcore/iov.h"
#include "hvcore/log.h"
#include "tests/support/must.h"
#include "vsp-storage/vhost.h"

#define HELD_MAX 1024
#define TICK_MS 2

struct server_shared *server_shared;

static pid_t process;
static char directory[] = "/tmp/hvkit-vhost-XXXXXX";

struct shared_disk {
	struct hv_disk base;
	uint8_t *bytes;
	struct hv_io *held[HELD_MAX];
	unsigned held_count;
};

static volatile sig_atomic_t stops;

static void carry_out(struct shared_disk *disk, struct hv_io *io)
{
	int result = server_shared->fails;
	uint8_t *at = disk->bytes + io->offset;

	if (result == 0 && io->op == HV_READ)
		hv_iov_scatter(io->iov, io->iov_count, 0, at, io->length);
	else if (result == 0 && io->op == HV_WRITE)
		hv_iov_gather(io->iov, io->iov_count, 0, at, io->length);
	else if (result == 0 && io->op != HV_FLUSH)
		memset(at, 0, io->length);
	hv_loop_finish(disk->base.loop, io, result);
}

static void shared_submit(struct hv_disk *base, struct hv_io *io)
{
	struct shared_disk *disk = (struct shared_disk *)base;
	unsigned index = server_shared->logged;

	if (disk->bytes == server_shared->bytes && index < SERVER_LOG_MAX) {
		server_shared->log[index] =
			(struct server_request){ io->op, io->flags, io->offset, io->length };
		server_shared->logged = index + 1;
	}
	if (server_shared->holds && disk->bytes == server_shared->bytes) {
		disk->held[disk->held_count++] = io;
		server_shared->held = disk->held_count;
	} else {
		carry_out(disk, io);
	}
}

static void shared_close(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops shared_ops = { .format = "shared",
					       .submit = shared_submit,
					       .close = shared_close };

static struct shared_disk *shared_disk_new(struct hv_loop *loop, uint8_t *bytes)
{
	struct shared_disk *disk = calloc(1, sizeof(*disk));

	disk->base = (struct hv_disk){ .ops = &shared_ops,
				       .loop = loop,
				       .path = "shared",
				       .size_bytes = SERVER_DISK_BYTES / 2,
				       .writable = true };
	disk->bytes = bytes;
	return disk;
}

static struct vsp_device *serve(struct shared_disk *disk, const struct vsp_device_options *options,
				const char *path)
{
	struct vsp_device *device;
	HV_ERR(err);

	must(vsp_device_new(&disk->base, options, &device, &err) == 0, "%s", err.sentence);
	must(vsp_vhost_serve(device, path, NULL, &err) == 0, "%s", err.sentence);
	return device;
}

static void look_at_orders(struct shared_disk *disk, struct vsp_device *device)
{
	if (server_shared->size_bytes && disk->base.size_bytes != server_shared->size_bytes) {
		disk->base.size_bytes = server_shared->size_bytes;
		vsp_device_resized(device);
	}
	if (server_shared->holds)
		return;
	for (unsigned i = 0; i < disk->held_count; i++)
		carry_out(disk, disk->held[i]);
	disk->held_count = 0;
	server_shared->held = 0;
}

static void stop(int number)
{
	(void)number;
	stops = 1;
}

static void run(const struct vsp_device_options *options)
{
	const struct vsp_device_options defaults = { .discard = true };
	struct vsp_device *device, *other;
	struct shared_disk *disk;
	struct hv_loop *loop;
	HV_ERR(err);

	hv_log_set_level(HV_LOG_INFO);
	signal(SIGTERM, stop);
	must(hv_loop_new(&loop, &err) == 0, "%s", err.sentence);
	disk = shared_disk_new(loop, server_shared->bytes);
	device = serve(disk, options ? options : &defaults, "disk");
	other = serve(shared_disk_new(loop, server_shared->other), &defaults, "other");
	while (!stops) {
		hv_loop_serve(loop, TICK_MS);
		look_at_orders(disk, device);
	}
	vsp_device_dismiss(device);
	vsp_device_dismiss(other);
	while (!vsp_device_is_idle(device) || !vsp_device_is_idle(other)) {
		hv_loop_serve(loop, TICK_MS);
		look_at_orders(disk, device);
	}
	vsp_device_free(device);
	vsp_device_free(other);
	hv_loop_free(loop);
}

void server_init(void)
{
	must(mkdtemp(directory) && chdir(directory) == 0, "no directory");
	server_shared = mmap(NULL, sizeof(*server_shared), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(server_shared != MAP_FAILED, "no memory");
}

void server_start(const struct vsp_device_options *options)
{
	must(!process, "the server runs already");
	process = fork();
	if (process)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(freopen("log", "a", stderr), "no log");
	setvbuf(stderr, NULL, _IONBF, 0);
	run(options);
	_exit(0); /* no look for leaks: it would take the thread that forked for one of this process
		   */
}

void server_kill(void)
{
	kill(process, SIGKILL);
	must(waitpid(process, NULL, 0) == process, "no server");
	process = 0;
}

static void print_log(void)
{
	FILE *log = fopen("log", "r");
	char line[512];

	while (log && fgets(line, sizeof(line), log))
		fputs(line, stderr);
	if (log)
		fclose(log);
}

void server_stop(void)
{
	int status;

	kill(process, SIGTERM);
	must(waitpid(process, &status, 0) == process, "no server");
	process = 0;
	if (status)
		print_log();
	must(status == 0, "the server ended with %#x", status);
}

void server_done(void)
{
	if (process)
		server_stop();
	remove("disk");
	remove("other");
	remove("log");
	must(chdir("/") == 0 && rmdir(directory) == 0, "%s is not empty", directory);
}

void server_wait_held(unsigned count)
{
	for (int i = 0; i < 2500 && server_shared->held < count; i++)
		usleep(2000);
	must(server_shared->held == count, "%u requests are held instead of %u",
	     server_shared->held, count);
}

void server_release(void)
{
	server_shared->holds = false;
}

static bool log_has(const char *words)
{
	FILE *log = fopen("log", "r");
	char line[4096];
	bool has = false;

	while (log && !has && fgets(line, sizeof(line), log))
		has = strstr(line, words);
	if (log)
		fclose(log);
	return has;
}

void server_expect_log(const char *words)
{
	for (int i = 0; i < 1000; i++) {
		if (log_has(words))
			return;
		usleep(5000);
	}
	print_log();
	must(false, "nothing in the log says \"%s\"", words);
}
