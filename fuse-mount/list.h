/*
 * vhdmount --list: the tree without a mount. Inside fuse-mount/.
 */
#ifndef FUSE_MOUNT_LIST_H
#define FUSE_MOUNT_LIST_H

#include <stdio.h>

#include "fuse-mount/tree.h"

/*
 * Prints every node that a listing shows, with its size, what is there, and what is odd about it,
 * or one JSON object with the same. tree has been made of probe. 0, -ENOMEM or -EIO (JSON only: who
 * prints text looks at out when it is flushed).
 */
int fm_list(const struct fm_tree *tree, const struct hv_probe *probe, bool json, FILE *out);

#endif
