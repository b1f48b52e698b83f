/*
 * Private to tests/crash/: what a world consists of, and its log.
 *
 *	bytes.c		contents, shared between states
 *	stage.c		the order of what happens at the same time
 *	world.c		files and names; the log
 *	file.c		struct hv_file on top
 *	mount.c		and paths on top of that
 *	cut.c		which operations a power cut may take back
 *	explore.c	which states are looked at
 *	history.c	what a disk may read as (knows nothing of worlds)
 */
#ifndef TESTS_CRASH_LOG_H
#define TESTS_CRASH_LOG_H

#include "tests/crash/bytes.h"
#include "tests/crash/world.h"

#define CRASH_IN_FLIGHT UINT64_MAX

struct crash_entry {
	enum crash_op op;
	unsigned node;           /* the file; of CRASH_NAME: what the name stands for from now on */
	uint64_t offset, length; /* of a truncation: offset is the size */
	uint8_t *data;
	char *name; /* of CRASH_NAME: the name; of CRASH_SYNC_NAMES: the directory */
	char *gone; /* of a renaming: the old name, which goes in the same instant */
	bool fua;
	uint64_t submitted, completed; /* instants */
	uint64_t lost;                 /* when a barrier that should have covered it failed */
	int result;
};

#define CRASH_NO_NODE UINT32_MAX

struct crash_name {
	char *name;
	unsigned node;
};

struct crash_node {
	struct crash_bytes bytes;
	uint64_t changed; /* the instant; 0: in the beginning */
};

/* Contents and names, without the past. */
struct crash_state {
	struct crash_node *nodes;
	unsigned node_count;
	struct crash_name *names;
	unsigned name_count;
};

struct crash_world {
	struct crash_stage *stage;
	struct crash_mount *mount; /* where it is shown, or NULL */
	unsigned users;            /* open files, and the owner */
	struct crash_state now, start;
	struct crash_entry **log; /* in the order of submission */
	size_t log_length, log_limit;
	struct {
		unsigned in, failed;
		int code;
		bool lasting;
	} faults[CRASH_OPS];
};

void crash_world_drop(struct crash_world *world); /* one user less */

struct crash_state crash_state_copy(const struct crash_state *state);
void crash_state_done(struct crash_state *state);
unsigned crash_state_find(const struct crash_state *state, const char *name);

/* All of the entry; bytes of write and zero only within [start, end) of it. */
void crash_state_apply(struct crash_state *state, const struct crash_entry *entry, uint64_t start,
		       uint64_t end);

/* A world that is in this state, which is taken over, on the same stage. */
struct crash_world *crash_world_of(struct crash_stage *stage, struct crash_state state);

/* An operation as it is submitted: logged, its data copied. */
struct crash_entry *crash_log(struct crash_world *world, enum crash_op op, unsigned node);

/* As it completes: applied, unless it is to fail, or fails with `code`. Returns the result. */
int crash_complete(struct crash_world *world, struct crash_entry *entry, int code);

/* Did it change anything that a power cut might take back? */
bool crash_entry_changes(const struct crash_entry *entry);

/* Is the first a barrier or syncing of names that is good for the second, if the time is right? */
bool crash_entry_concerns(const struct crash_entry *barrier, const struct crash_entry *entry);

/* Shall this operation fail? 0 or -errno. */
int crash_fault(struct crash_world *world, enum crash_op op);

/* A name of the world stands for another file now, or for none; in mount.c. */
void crash_mount_update(struct crash_mount *mount, const char *name, unsigned node);

/* The world is gone. */
void crash_mount_forget(struct crash_mount *mount);

/* The node of one of our files. */
unsigned crash_file_node(const struct hv_file *file);

/* A file for a node, counted as a user of the world. */
struct hv_file *crash_file_new(struct crash_world *world, unsigned node, const char *name,
			       bool writable);

/* "disk.vhd", or "(nameless)": what the file is called now; lent. */
const char *crash_node_name(const struct crash_world *world, unsigned node);

#endif
