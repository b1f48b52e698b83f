/*
 * Inside fuse-mount/: one running reader, the first that comes up of those that are installed. It
 * is a FUSE server like any other, and we are its kernel: over a socket it gets requests in the
 * protocol of <linux/fuse.h> and answers them. Nothing is mounted for it.
 *
 * A thread of its own starts the reader, sends, receives and watches: a reader that leaves a
 * request unanswered for a minute is killed. When it ends, everything under way fails.
 */
#ifndef FUSE_MOUNT_PROCESS_H
#define FUSE_MOUNT_PROCESS_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fuse-mount/reader.h"
#include "hvcore/err.h"

struct fm_process;

/* A request. Of message, the caller fills what follows the header. */
struct fm_call {
	struct fm_call *next;
	/*
	 * Is called once, by any thread, without locks: 0 and the answer behind its header, or
	 * -errno. Frees the call. NULL: there is no answer to this request.
	 */
	void (*done)(struct fm_call *call, int code, const void *body, size_t length);
	void *context;
	struct timespec deadline;
	size_t length; /* of message */
	union {
		struct fuse_in_header header;
		uint8_t message[1];
	};
};

/* No request and no answer carries more data. */
#define FM_CALL_DATA (128u << 10)

/* A call with room for arguments of length bytes, which are at fm_call_arguments. NULL: no memory. */
struct fm_call *fm_call_new(uint32_t opcode, uint64_t node, size_t length);
void *fm_call_arguments(struct fm_call *call);

struct fm_process_options {
	const char *type; /* of the filesystem */
	const char *name; /* of the volume; both are copied */
	int directory_fd; /* where the volume lies, as the file NAME; lent */
	bool write;
	uid_t uid; /* who runs it, when we are root */
	gid_t gid;
};

int fm_process_new(const struct fm_process_options *options, struct fm_process **ret,
		   struct hv_err *err);

/* Calls wait while the reader starts. */
void fm_process_send(struct fm_process *process, struct fm_call *call);

/* Is it gone? *failed: before it had begun to serve. */
bool fm_process_ended(struct fm_process *process, bool *failed);

/* Do its files have owners of their own? Known when a call has been answered. */
bool fm_process_owners(struct fm_process *process);

/* Has the reader write back what it holds and end, within seconds; then frees. */
void fm_process_free(struct fm_process *process);

#endif
