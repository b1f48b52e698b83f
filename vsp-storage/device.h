/*
 * A disk as transports serve it: the request core, which knows no transport.
 *
 * A device has one struct hv_disk and belongs to its loop and that loop's thread, as do all
 * transports that serve it: no lock is taken, and nothing is allocated per request. Whatever comes
 * from a guest or a client is checked here, once: bounds, access. Several transports may serve one
 * device: it is one disk, so a flush on one of them covers the completed writes of all.
 */
#ifndef VSP_STORAGE_DEVICE_H
#define VSP_STORAGE_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/disk.h"
#include "vsp-storage/on_error.h"
#include "vsp-storage/telemetry.h"

#define VSP_SERIAL_SIZE 21 /* with the NUL; as long as virtio-blk's */

enum vsp_cache {
	VSP_CACHE_NONE,      /* O_DIRECT */
	VSP_CACHE_WRITEBACK, /* the host's page cache */
	VSP_CACHE_UNSAFE,    /* likewise, and a flush is answered at once: for throw-away disks */
};

struct vsp_device_options {
	bool read_only;
	enum vsp_cache cache;
	bool discard;   /* HV_DISCARD gives space back; without it, it only makes zeros */
	bool fast_zero; /* zeros cost less than writing them */
	bool stops;     /* on an error of the storage: on_error.h */
	bool coalesce;  /* interrupts of a guest that gains by it: moderation.h */
	char serial[VSP_SERIAL_SIZE];
	uint32_t sector_bytes; /* logical, as shown to guests: 512 or 4096; 0: 512 */
	uint32_t slow_ms;      /* from when on a request is slow and logged; 0: none is */
};

#define VSP_DEVICE_DEFAULTS                                         \
	{                                                           \
		.discard = true, .coalesce = true, .slow_ms = 10000 \
	}

struct vsp_client;
struct vsp_qos_member;

/* Transports read the first part; the rest is the core's. */
struct vsp_device {
	struct hv_loop *loop;
	struct hv_disk *disk;
	uint64_t size_bytes;
	bool read_only, discard, fast_zero;
	bool coalesce; /* may change at any time */
	bool lent;     /* the disk is not here */
	enum vsp_cache cache;
	char serial[VSP_SERIAL_SIZE];
	uint32_t sector_bytes;
	struct vsp_telemetry telemetry; /* in_flight: requests submitted and not done */

	struct vsp_client *clients;
	struct vsp_qos_member *limits;   /* of rate; NULL: none */
	unsigned changing;               /* changes that are with the disk */
	struct vsp_request *alone;       /* the unaligned change that runs or waits to */
	struct vsp_request_queue behind; /* changes that came after it */
	struct vsp_on_error on_error;
	struct hv_err err;       /* of the latest failure */
	uint64_t logged_ns;      /* when one was logged last */
	uint64_t slow_logged_ns; /* likewise a slow request */
};

/* Takes the disk over, also when it fails. */
int vsp_device_new(struct hv_disk *disk, const struct vsp_device_options *options,
		   struct vsp_device **ret, struct hv_err *err);

/* Another slow_ms, from now on. */
void vsp_device_set_slow(struct vsp_device *device, uint32_t slow_ms);

/*
 * Lends the disk to whoever drives another loop: nothing is in flight, and nothing is submitted
 * (vsp_qos_pause) until that one has given it back with hv_disk_move, and vsp_device_take_back was
 * called. Extents are told as data meanwhile.
 */
void vsp_device_lend(struct vsp_device *device, struct hv_loop *loop);
void vsp_device_take_back(struct vsp_device *device);

/* hv_disk_extent, of a disk that may be lent. */
int vsp_device_extent(struct vsp_device *device, uint64_t offset, uint64_t length, unsigned flags,
		      struct hv_extent *ret);

/* Nothing is attached and nothing in flight. What was not flushed may be lost. */
void vsp_device_free(struct vsp_device *device);
HV_DEFINE_CLEANUP(struct vsp_device, vsp_device_free)

/*
 * A request: the transport's, who recycles it. It fills in of io: op, flags, offset, length, iov
 * and iov_count; and done. All of that stays as it is until done is called, but for io.
 */
struct vsp_request {
	struct hv_io io;
	/*
	 * Once, from hv_loop_turn, never inside submit; result is 0 or -errno. -ECANCELED only for
	 * whom vsp_on_error_give_back was asked for.
	 */
	void (*done)(struct vsp_request *request, int result);

	/* The rest is the core's. */
	struct vsp_device *device;
	struct vsp_request *next;
	struct vsp_request *older, *newer; /* in flight */
	uint64_t start_ns, held_ns;        /* hv_now_ns when it came; how long limits held it */
	uint64_t offset, length;           /* as submitted: layers below change those of io */
	enum hv_io_op op;
	unsigned flags;
	unsigned depth; /* requests in flight when it came, itself included */
	bool changing;  /* counted as such by the device */
	bool governed;  /* by qos.c, which hears of its end */
	bool refused;   /* by the core itself */
};

/*
 * Any offset and length: what is no multiple of a sector is read, changed and written at the edges,
 * with no other change meanwhile. Any length for HV_ZERO and HV_DISCARD, which are done in pieces.
 * -ENOSPC for a write past the disk's end, -EINVAL for anything else past it; -EROFS.
 */
void vsp_device_submit(struct vsp_device *device, struct vsp_request *request);

/* For qos.c and on_error.c: the request may go now; it has ended. */
void vsp_device_admit(struct vsp_device *device, struct vsp_request *request);
void vsp_device_finish(struct vsp_device *device, struct vsp_request *request, int result);

/* Whoever serves a device hears of what happens to it, on its loop. */
struct vsp_client {
	void (*resized)(struct vsp_client *client);
	/*
	 * The device is to go away: take no new requests, finish those in flight, and call
	 * vsp_device_detach, at once or later.
	 */
	void (*detach)(struct vsp_client *client);
	/*
	 * A request has failed and is kept, perhaps one of this client; may be NULL. Who is about
	 * to leave has his given back: see vsp_on_error_give_back.
	 */
	void (*kept)(struct vsp_client *client);
	struct vsp_client *next; /* the device's */
};

void vsp_device_attach(struct vsp_device *device, struct vsp_client *client);
void vsp_device_detach(struct vsp_device *device, struct vsp_client *client);

/* Calls detach of all clients. The device may be freed when vsp_device_is_idle says so. */
void vsp_device_dismiss(struct vsp_device *device);

/* Is nothing attached and nothing in flight? */
bool vsp_device_is_idle(const struct vsp_device *device);

/* The disk has another size: takes it over and calls resized of all clients. */
void vsp_device_resized(struct vsp_device *device);

#endif
