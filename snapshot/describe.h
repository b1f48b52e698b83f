/*
 * Everything that the files of a disk say, without judging it (that is the check's work): a disk
 * whose parent is missing is described as far as it goes. Nothing is read but metadata. The members
 * of the JSON are those of `vhdtool info`, listed in its manual.
 */
#ifndef SNAPSHOT_DESCRIBE_H
#define SNAPSHOT_DESCRIBE_H

#include "hvcore/describe.h"
#include "snapshot/chain.h"

/*
 * Describes the leaf, every layer if asked for, and whether the chain is complete. No layer has
 * been stacked yet (snap_chain_stack). 0, or -errno with a sentence.
 */
int snap_describe_chain(const struct hv_description *out, const struct snap_chain *chain,
			bool every_layer, struct hv_err *err);

#endif
