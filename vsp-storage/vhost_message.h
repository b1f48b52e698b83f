/*
 * vhost-user messages on a socket that does not block: collected with their descriptors, and sent.
 * Inside vsp-storage.
 */
#ifndef VSP_STORAGE_VHOST_MESSAGE_H
#define VSP_STORAGE_VHOST_MESSAGE_H

#include "hvcore/err.h"
#include "vsp-storage/vhost_wire.h"

#define VSP_MESSAGE_FDS_MAX VHOST_TABLE_REGIONS_MAX

/* All zero: nothing has been received. */
struct vsp_message {
	struct vhost_header header;
	union vhost_payload payload;
	int fds[VSP_MESSAGE_FDS_MAX]; /* -1: taken by somebody */
	unsigned fd_count;
	size_t received; /* bytes so far, header included */
};

/*
 * 1: there is a whole message; 0: not yet. -ECONNRESET when the other side has gone (no sentence is
 * recorded when that happens between two messages), -EBADMSG for what is no message.
 */
int vsp_message_receive(int socket, struct vsp_message *message, struct hv_err *err);

/* The descriptor at index, which is now the caller's; -1 when there is none. */
int vsp_message_take_fd(struct vsp_message *message, unsigned index);

/* Closes what nobody has taken, and makes ready for the next one. */
void vsp_message_done(struct vsp_message *message);

/* fd: -1, or goes along. -EAGAIN: the other side does not read what we send. */
int vsp_message_send(int socket, uint32_t request, uint32_t flags, const void *payload,
		     uint32_t size, int fd, struct hv_err *err);

#endif
