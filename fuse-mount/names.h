/*
 * File names made of what a disk says: labels, UUIDs, partition names. Anybody may have written
 * them. Inside fuse-mount/.
 *
 * A safe name is well-formed UTF-8 of at most 255 bytes without '/', control characters, characters
 * that cannot be seen or turn the direction of text, without a leading '.', and without blanks at
 * its ends. What is not allowed becomes '_'; what is too long is cut between characters.
 */
#ifndef FUSE_MOUNT_NAMES_H
#define FUSE_MOUNT_NAMES_H

#include <stdbool.h>

#include "hvcore/probe.h"

#define FM_NAME_SIZE 256

/* False, with an empty name, when there is nothing in text but blanks. */
bool fm_safe_name(const char *text, char ret[FM_NAME_SIZE]);

/*
 * "p2-root.ext4": the number, a name, and the type of the content. The name is that of the GPT,
 * unless it is one that partitioning tools give by themselves and the content has a label; without
 * a GPT name the label; without either it is left out. The type is libblkid's in small letters, but
 * "lvm", "luks", "raid"; "ambivalent" for several signatures; "raw" for none.
 */
void fm_partition_name(const struct hv_partition *partition, char ret[FM_NAME_SIZE]);

#endif
