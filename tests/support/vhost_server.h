/*
 * A vhost-user server in a process of its own, which can be killed and started again, over a disk
 * in shared memory that answers when it is told to.
 */
#ifndef TESTS_VHOST_SERVER_H
#define TESTS_VHOST_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vsp-storage/device.h"

#define SERVER_DISK_BYTES (4u << 20)
#define SERVER_LOG_MAX 4096

struct server_request {
	enum hv_io_op op;
	unsigned flags;
	uint64_t offset, length;
};

/* Seen by both processes, and by the next server. */
struct server_shared {
	atomic_bool holds; /* requests wait */
	atomic_uint held;  /* how many do */
	atomic_uint logged;
	struct server_request log[SERVER_LOG_MAX]; /* in the order in which they came to the disk */
	atomic_int fails;         /* result of all requests; 0: what they deserve */
	atomic_ullong size_bytes; /* another one: the disk is resized */
	uint8_t bytes[SERVER_DISK_BYTES];
	uint8_t other[SERVER_DISK_BYTES]; /* of a second disk, served on "other" */
};

extern struct server_shared *server_shared;

/* In an empty directory of the test's own, which is its current one; sockets "disk" and "other". */
void server_init(void);
/* The server ends by itself, without a leak, unless it has been killed. */
void server_done(void);

void server_start(const struct vsp_device_options *options);
void server_kill(void);
void server_stop(void);

/* Waits until so many requests are held. */
void server_wait_held(unsigned count);
void server_release(void);

/* What the server has logged holds these words; waits for it. */
void server_expect_log(const char *words);

#endif
