/*
 * Files, names and the log. An operation changes the world when it completes, so that the order of
 * completion is the order in which a reader would see changes; the log keeps the order of
 * submission.
 */
#include "tests/crash/world.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "tests/crash/log.h"

const char *const crash_op_names[CRASH_OPS] = {
	"read", "reserve", "write", "zero", "truncate", "barrier", "name", "sync-names",
};

/* States. */

struct crash_state crash_state_copy(const struct crash_state *state)
{
	struct crash_state copy = *state;

	copy.nodes = crash_alloc(state->node_count * sizeof(*copy.nodes));
	copy.names = crash_alloc(state->name_count * sizeof(*copy.names));
	for (unsigned i = 0; i < state->node_count; i++)
		copy.nodes[i] = (struct crash_node){ crash_bytes_copy(&state->nodes[i].bytes),
						     state->nodes[i].changed };
	for (unsigned i = 0; i < state->name_count; i++)
		copy.names[i] =
			(struct crash_name){ strdup(state->names[i].name), state->names[i].node };
	return copy;
}

void crash_state_done(struct crash_state *state)
{
	for (unsigned i = 0; i < state->node_count; i++)
		crash_bytes_done(&state->nodes[i].bytes);
	for (unsigned i = 0; i < state->name_count; i++)
		free(state->names[i].name);
	free(state->nodes);
	free(state->names);
	*state = (struct crash_state){ 0 };
}

unsigned crash_state_find(const struct crash_state *state, const char *name)
{
	for (unsigned i = 0; i < state->name_count; i++) {
		if (!strcmp(state->names[i].name, name))
			return state->names[i].node;
	}
	return CRASH_NO_NODE;
}

static unsigned add_node(struct crash_state *state)
{
	unsigned count = state->node_count + 1;

	state->nodes = crash_realloc(state->nodes, count * sizeof(*state->nodes));
	state->nodes[count - 1] = (struct crash_node){ 0 };
	state->node_count = count;
	return count - 1;
}

static void set_name(struct crash_state *state, const char *name, unsigned node)
{
	unsigned at = 0;

	while (at < state->name_count && strcmp(state->names[at].name, name))
		at++;
	if (at == state->name_count) {
		state->names = crash_realloc(state->names, (at + 1) * sizeof(*state->names));
		state->names[at].name = strdup(name);
		state->name_count++;
	}
	state->names[at].node = node;
}

static void touch(struct crash_node *node, const struct crash_entry *entry)
{
	bool ended = entry->completed != CRASH_IN_FLIGHT;

	node->changed = hv_max_u64(node->changed, ended ? entry->completed : entry->submitted);
}

void crash_state_apply(struct crash_state *state, const struct crash_entry *entry, uint64_t start,
		       uint64_t end)
{
	switch (entry->op) {
	case CRASH_WRITE:
	case CRASH_ZERO:
		crash_bytes_write(&state->nodes[entry->node].bytes,
				  entry->data ? entry->data + start : NULL, end - start,
				  entry->offset + start);
		touch(&state->nodes[entry->node], entry);
		break;
	case CRASH_TRUNCATE:
		crash_bytes_truncate(&state->nodes[entry->node].bytes, entry->offset);
		touch(&state->nodes[entry->node], entry);
		break;
	case CRASH_NAME:
		if (entry->gone)
			set_name(state, entry->gone, CRASH_NO_NODE);
		set_name(state, entry->name, entry->node);
		break;
	default:
		break;
	}
}

/* The log. */

struct crash_entry *crash_log(struct crash_world *world, enum crash_op op, unsigned node)
{
	struct crash_entry *entry = crash_alloc(sizeof(*entry));

	entry->op = op;
	entry->node = node;
	entry->submitted = crash_stage_tick(world->stage);
	entry->completed = entry->lost = CRASH_IN_FLIGHT;
	if (world->log_length == world->log_limit) {
		world->log_limit = 2 * world->log_limit + 64;
		world->log = crash_realloc(world->log, world->log_limit * sizeof(*world->log));
	}
	world->log[world->log_length++] = entry;
	return entry;
}

int crash_fault(struct crash_world *world, enum crash_op op)
{
	if (!world->faults[op].in || --world->faults[op].in)
		return 0;
	if (world->faults[op].lasting)
		world->faults[op].in = 1;
	world->faults[op].failed++;
	return world->faults[op].code;
}

static bool in_directory(const char *directory, const char *name)
{
	const char *slash = strrchr(name, '/');
	size_t length = slash ? (size_t)(slash - name) : 0;

	return strlen(directory) == length && !strncmp(directory, name, length);
}

bool crash_entry_concerns(const struct crash_entry *barrier, const struct crash_entry *entry)
{
	if (barrier->op == CRASH_SYNC_NAMES)
		return entry->op == CRASH_NAME && in_directory(barrier->name, entry->name);
	return barrier->op == CRASH_BARRIER && entry->op != CRASH_NAME &&
	       entry->node == barrier->node;
}

/* What a failed barrier should have covered may be gone for good. */
static void lose(struct crash_world *world, const struct crash_entry *barrier)
{
	for (size_t i = 0; i < world->log_length; i++) {
		struct crash_entry *entry = world->log[i];

		if (entry->completed != CRASH_IN_FLIGHT && entry->lost == CRASH_IN_FLIGHT &&
		    crash_entry_concerns(barrier, entry))
			entry->lost = barrier->completed;
	}
}

/* A failed write has changed some sectors, from its start on; nothing else that failed has done. */
static void fail_entry(struct crash_world *world, struct crash_entry *entry)
{
	uint64_t sectors = entry->length / HV_SECTOR_SIZE;

	lose(world, entry);
	entry->length = crash_stage_random(world->stage, sectors + 1) * HV_SECTOR_SIZE;
}

bool crash_entry_changes(const struct crash_entry *entry)
{
	return entry->op == CRASH_WRITE || entry->op == CRASH_ZERO ||
	       (!entry->result && (entry->op == CRASH_TRUNCATE || entry->op == CRASH_NAME));
}

int crash_complete(struct crash_world *world, struct crash_entry *entry, int code)
{
	entry->result = code ? code : crash_fault(world, entry->op);
	entry->completed = crash_stage_tick(world->stage);
	if (entry->result)
		fail_entry(world, entry);
	if (!crash_entry_changes(entry))
		return entry->result;
	crash_state_apply(&world->now, entry, 0, entry->length);
	if (world->mount && entry->op == CRASH_NAME) {
		if (entry->gone)
			crash_mount_update(world->mount, entry->gone, CRASH_NO_NODE);
		crash_mount_update(world->mount, entry->name, entry->node);
	}
	return entry->result;
}

static void drop_log(struct crash_world *world)
{
	for (size_t i = 0; i < world->log_length; i++) {
		struct crash_entry *entry = world->log[i];

		assert(entry->completed != CRASH_IN_FLIGHT);
		free(entry->data);
		free(entry->name);
		free(entry->gone);
		free(entry);
	}
	world->log_length = 0;
}

void crash_forget(struct crash_world *world)
{
	drop_log(world);
	crash_state_done(&world->start);
	world->start = crash_state_copy(&world->now);
}

size_t crash_logged(const struct crash_world *world)
{
	return world->log_length;
}

void crash_fail(struct crash_world *world, enum crash_op op, unsigned nth, int code, bool lasting)
{
	world->faults[op].in = nth;
	world->faults[op].failed = 0;
	world->faults[op].code = code;
	world->faults[op].lasting = lasting;
}

unsigned crash_failed(const struct crash_world *world, enum crash_op op)
{
	return world->faults[op].failed;
}

/* Worlds. */

struct crash_world *crash_world_of(struct crash_stage *stage, struct crash_state state)
{
	struct crash_world *world = crash_alloc(sizeof(*world));

	world->stage = stage;
	world->users = 1;
	world->now = state;
	world->start = crash_state_copy(&state);
	return world;
}

struct crash_world *crash_world_new(struct crash_stage *stage)
{
	return crash_world_of(stage, (struct crash_state){ 0 });
}

struct crash_world *crash_world_copy(const struct crash_world *world)
{
	return crash_world_of(world->stage, crash_state_copy(&world->now));
}

void crash_world_drop(struct crash_world *world)
{
	if (--world->users)
		return;
	if (world->mount)
		crash_mount_forget(world->mount);
	drop_log(world);
	free(world->log);
	crash_state_done(&world->now);
	crash_state_done(&world->start);
	free(world);
}

void crash_world_free(struct crash_world *world)
{
	if (world)
		crash_world_drop(world);
}

const char *crash_node_name(const struct crash_world *world, unsigned node)
{
	for (unsigned i = 0; i < world->now.name_count; i++) {
		if (world->now.names[i].node == node)
			return world->now.names[i].name;
	}
	return "(nameless)";
}

/* Names. */

bool crash_exists(struct crash_world *world, const char *name)
{
	return crash_state_find(&world->now, name) != CRASH_NO_NODE;
}

int crash_create(struct crash_world *world, const char *name, bool replace, struct hv_file **ret,
		 struct hv_err *err)
{
	if (!replace && crash_exists(world, name))
		return hv_fail(err, -EEXIST, "%s: exists already", name);
	*ret = crash_file_new(world, add_node(&world->now), name, true);
	return 0;
}

int crash_open(struct crash_world *world, const char *name, unsigned flags, struct hv_file **ret,
	       struct hv_err *err)
{
	unsigned node = crash_state_find(&world->now, name);

	if (node == CRASH_NO_NODE)
		return hv_fail_errno(err, -ENOENT, "%s", name);
	*ret = crash_file_new(world, node, name, flags & HV_FILE_WRITE);
	return 0;
}

int crash_rename(struct crash_world *world, const char *from, const char *to, struct hv_err *err)
{
	unsigned node = crash_state_find(&world->now, from);
	struct crash_entry *entry;
	int rc;

	if (node == CRASH_NO_NODE)
		return hv_fail_errno(err, -ENOENT, "%s", from);
	entry = crash_log(world, CRASH_NAME, node);
	entry->name = strdup(to);
	entry->gone = strdup(from);
	rc = crash_complete(world, entry, 0);
	return rc ? hv_fail_errno(err, rc, "%s: cannot rename", from) : 0;
}

int crash_unlink(struct crash_world *world, const char *name, struct hv_err *err)
{
	struct crash_entry *entry;
	int rc;

	if (!crash_exists(world, name))
		return hv_fail_errno(err, -ENOENT, "%s", name);
	entry = crash_log(world, CRASH_NAME, CRASH_NO_NODE);
	entry->name = strdup(name);
	rc = crash_complete(world, entry, 0);
	return rc ? hv_fail_errno(err, rc, "%s: cannot remove", name) : 0;
}

int crash_sync_names(struct crash_world *world, const char *directory, struct hv_err *err)
{
	struct crash_entry *entry = crash_log(world, CRASH_SYNC_NAMES, CRASH_NO_NODE);
	int rc;

	entry->name = strdup(directory);
	rc = crash_complete(world, entry, 0);
	return rc ? hv_fail_errno(err, rc, "%s: cannot sync", directory) : 0;
}

int crash_save(struct crash_world *world, const char *directory, struct hv_err *err)
{
	for (unsigned i = 0; i < world->now.name_count; i++) {
		const struct crash_name *name = &world->now.names[i];
		struct crash_bytes *bytes;
		HV_AUTO(free) uint8_t *all = NULL;
		HV_AUTO(hv_file_close) struct hv_file *file = NULL;
		HV_AUTO(free) char *path = NULL;
		int rc;

		if (name->node == CRASH_NO_NODE)
			continue;
		bytes = &world->now.nodes[name->node].bytes;
		all = crash_alloc(bytes->size);
		crash_bytes_read(bytes, all, bytes->size, 0);
		if (asprintf(&path, "%s/%s", directory, name->name) < 0)
			return -ENOMEM;
		rc = hv_file_create(path, HV_FILE_WRITE, true, NULL, &file, err);
		if (rc == 0)
			rc = hv_file_pwrite(file, all, bytes->size, 0, err);
		if (rc == 0)
			rc = hv_file_publish(file, err);
		if (rc)
			return rc;
	}
	return 0;
}
