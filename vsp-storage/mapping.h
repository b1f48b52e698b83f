/*
 * Memory that somebody else shares with us, by a file descriptor, and may take away at any time.
 *
 * A file can be made shorter while it is mapped; touching what is gone raises SIGBUS. Sealing would
 * prevent that, but only some front ends seal their memory, and a page can be lost to a hardware
 * fault or to a lack of huge pages as well. So the first mapping installs a handler: a fault inside
 * one of our mappings puts private memory of zeros in place of that whole mapping, marks it as lost,
 * and the access goes on. Whoever uses the mapping looks at vsp_mapping_lost when it has finished a
 * batch, and ends the guest's session. A SIGBUS elsewhere kills the process, as without us.
 *
 * Mappings are made and ended by any thread; the handler takes no lock.
 */
#ifndef VSP_STORAGE_MAPPING_H
#define VSP_STORAGE_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hvcore/err.h"

struct vsp_mapping {
	void *start; /* of the range asked for; NULL: not mapped */
	size_t length;
	void *base; /* what munmap wants */
	size_t base_length;
	unsigned slot; /* the handler's */
};

/*
 * Maps [offset, offset + length) of a file, for reading and writing, shared. -EINVAL for a range
 * that wraps, is empty or is not wholly inside the file, and for what is not a file at all; -ENOMEM
 * or -ENOBUFS when there is no room for another one. The descriptor may be closed afterwards.
 */
int vsp_mapping_new(int fd, uint64_t offset, uint64_t length, struct vsp_mapping *ret,
		    struct hv_err *err);

/* Of a mapping that is all zero: nothing. */
void vsp_mapping_done(struct vsp_mapping *mapping);

/* Has any mapping of this process been lost since then? Cheap; *seen is the caller's, zero first. */
bool vsp_mapping_any_lost(unsigned *seen);
bool vsp_mapping_lost(const struct vsp_mapping *mapping);

#endif
