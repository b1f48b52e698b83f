/*
 * Inside vhdtool/: the part of a disk that --offset and --length name.
 */
#ifndef VHDTOOL_RANGE_H
#define VHDTOOL_RANGE_H

#include "hvcore/disk.h"
#include "hvcore/option.h"

struct range_options {
	uint64_t offset;
	const char *length; /* as given; NULL: all the rest */
};

#define RANGE_OPTIONS(type, member)                                             \
	{ .name = "offset",                                                     \
	  .kind = HV_OPTION_SIZE,                                               \
	  .argument = "SIZE",                                                   \
	  .help = "where to begin (default: the start of the disk)",            \
	  .offset = offsetof(type, member.offset) },                            \
	{                                                                       \
		.name = "length", .kind = HV_OPTION_STRING, .argument = "SIZE", \
		.help = "how much (default: up to the end of the disk)",        \
		.offset = offsetof(type, member.length)                         \
	}

struct range {
	uint64_t offset, length; /* bytes, of any granularity */
	bool to_end;             /* length is not known before range_fit */
};

/* Reads the options: 0, or -EINVAL or -EOVERFLOW with a sentence. Nothing is opened. */
int range_parse(const struct range_options *options, struct range *ret, struct hv_err *err);

/* -EINVAL with a sentence for what does not lie inside the disk. */
int range_fit(struct range *range, const struct hv_disk *disk, struct hv_err *err);

#endif
