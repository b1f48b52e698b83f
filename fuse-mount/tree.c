/*
 * What the mounted directory shows. Nodes are appended to an array that is large enough from the
 * start, so that they can point to each other while it fills; the lists of children come last.
 */
#include "fuse-mount/tree.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse-mount/names.h"
#include "hvcore/checked.h"

/* The root, disk.raw, info.json, five directories; two links, files and volume of the bare disk. */
#define FIXED_NODES 12
/* File, three links, files and volume. */
#define NODES_PER_PARTITION 6
#define STRINGS_PER_NODE 2

struct fm_tree {
	const struct hv_probe *probe;
	struct fm_node *nodes; /* ino - 1 is the index */
	unsigned node_count;
	struct fm_node **children; /* of all directories, one after the other */
	char **strings;            /* names, targets, texts */
	unsigned string_count;
	bool failed; /* no memory for a string */
};

/* Takes text over, which is NULL when no memory was left. */
static const char *keep(struct fm_tree *tree, char *text)
{
	if (!text) {
		tree->failed = true;
		return "";
	}
	tree->strings[tree->string_count++] = text;
	return text;
}

static struct fm_node *add(struct fm_tree *tree, struct fm_node *parent, enum fm_kind kind,
			   const char *name)
{
	struct fm_node *node = &tree->nodes[tree->node_count++];

	assert(node);
	*node = (struct fm_node){
		.ino = tree->node_count,
		.kind = kind,
		.name = keep(tree, strdup(name)),
		.parent = parent ? parent : node,
	};
	return node;
}

static void add_text(struct fm_tree *tree, const char *name, const char *text)
{
	struct fm_node *node = add(tree, tree->nodes, FM_TEXT, name);

	node->text = keep(tree, strdup(text));
	node->text_bytes = strlen(node->text);
}

static void add_disk(struct fm_tree *tree, uint64_t size_bytes)
{
	struct fm_node *node = add(tree, tree->nodes, FM_VOLUME, "disk.raw");

	node->length = size_bytes;
	node->content = &tree->probe->whole;
}

static bool is_shown(const struct hv_probe *probe, unsigned index)
{
	if (probe->partitions[index].container)
		return false;
	for (unsigned i = 0; i < index; i++)
		if (probe->partitions[i].number == probe->partitions[index].number)
			return false;
	return true;
}

static void add_partitions(struct fm_tree *tree, uint64_t size_bytes)
{
	const struct hv_probe *probe = tree->probe;

	for (unsigned i = 0; i < probe->partition_count; i++) {
		const struct hv_partition *partition = &probe->partitions[i];
		char name[FM_NAME_SIZE];
		struct fm_node *node;

		if (!is_shown(probe, i))
			continue;
		fm_partition_name(partition, name);
		node = add(tree, tree->nodes, FM_VOLUME, name);
		node->offset = hv_min_u64(partition->offset, size_bytes);
		node->length = hv_min_u64(partition->length, size_bytes - node->offset);
		node->partition = partition;
		node->content = &partition->content;
	}
}

/* While the lists of children are not there yet. */
static struct fm_node *find_added(struct fm_tree *tree, const struct fm_node *parent,
				  const char *name)
{
	for (unsigned i = 1; i < tree->node_count; i++)
		if (tree->nodes[i].parent == parent && !strcmp(tree->nodes[i].name, name))
			return &tree->nodes[i];
	return NULL;
}

static struct fm_node *need_directory(struct fm_tree *tree, const char *name)
{
	struct fm_node *directory = find_added(tree, tree->nodes, name);

	return directory ? directory : add(tree, tree->nodes, FM_DIRECTORY, name);
}

/* text is a label or UUID of volume, or NULL. */
static void add_link(struct fm_tree *tree, const char *directory_name, const char *text,
		     const struct fm_node *volume)
{
	char name[FM_NAME_SIZE], *target = NULL;
	struct fm_node *directory, *link;

	if (!text || !fm_safe_name(text, name))
		return;
	directory = need_directory(tree, directory_name);
	if (find_added(tree, directory, name) && volume->partition)
		snprintf(name + strlen(name), sizeof(name) - strlen(name), "-p%u",
			 volume->partition->number);
	if (find_added(tree, directory, name))
		return;
	if (asprintf(&target, "../%s", volume->name) < 0)
		target = NULL;
	link = add(tree, directory, FM_LINK, name);
	link->target = keep(tree, target);
}

static const char *label_of(const struct fm_node *volume)
{
	return volume->content->label;
}

static const char *uuid_of(const struct fm_node *volume)
{
	return volume->content->uuid;
}

static const char *partuuid_of(const struct fm_node *volume)
{
	return volume->partition ? volume->partition->uuid : NULL;
}

static bool has_files(const struct fm_node *volume)
{
	return !strcmp(volume->content->usage, "filesystem");
}

/* In a directory, the files (or what their reader reads) of a volume. */
static void add_filesystem(struct fm_tree *tree, const char *directory_name, enum fm_kind kind,
			   const struct fm_node *volume)
{
	struct fm_node *node, *directory;
	char name[16] = "disk";

	if (!has_files(volume))
		return;
	directory = need_directory(tree, directory_name);
	if (volume->partition)
		snprintf(name, sizeof(name), "p%u", volume->partition->number);
	node = add(tree, directory, kind, name);
	node->offset = volume->offset;
	node->length = volume->length;
	node->partition = volume->partition;
	node->content = volume->content;
}

/* One directory after the other, so that numbers and listings keep together. */
static void add_directories(struct fm_tree *tree)
{
	static const struct {
		const char *name;
		const char *(*text_of)(const struct fm_node *volume);
	} links[] = {
		{ "by-label", label_of },
		{ "by-uuid", uuid_of },
		{ "by-partuuid", partuuid_of },
	};
	const struct fm_node *end = tree->nodes + tree->node_count, *volume;
	struct fm_node *volumes;

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		for (volume = tree->nodes; volume < end; volume++)
			if (volume->kind == FM_VOLUME)
				add_link(tree, links[i].name, links[i].text_of(volume), volume);
	for (volume = tree->nodes; volume < end; volume++)
		if (volume->kind == FM_VOLUME)
			add_filesystem(tree, "files", FM_FILES, volume);
	for (volume = tree->nodes; volume < end; volume++)
		if (volume->kind == FM_VOLUME)
			add_filesystem(tree, ".volumes", FM_VOLUME, volume);
	volumes = find_added(tree, tree->nodes, ".volumes");
	if (volumes)
		volumes->hidden = true;
}

static void list_children(struct fm_tree *tree)
{
	struct fm_node **next = tree->children;

	for (unsigned i = 0; i < tree->node_count; i++) {
		struct fm_node *directory = &tree->nodes[i];

		if (directory->kind != FM_DIRECTORY)
			continue;
		directory->children = next;
		for (unsigned j = 1; j < tree->node_count; j++)
			if (tree->nodes[j].parent == directory)
				*next++ = &tree->nodes[j];
		directory->child_count = (unsigned)(next - directory->children);
	}
}

int fm_tree_new(const struct hv_probe *probe, uint64_t size_bytes, const char *info_text,
		struct fm_tree **ret, struct hv_err *err)
{
	size_t most = FIXED_NODES + (size_t)probe->partition_count * NODES_PER_PARTITION;
	HV_AUTO(fm_tree_free) struct fm_tree *tree = calloc(1, sizeof(*tree));

	if (tree) {
		tree->probe = probe;
		tree->nodes = calloc(most, sizeof(*tree->nodes));
		tree->children = calloc(most, sizeof(struct fm_node *));
		tree->strings = calloc(most * STRINGS_PER_NODE, sizeof(char *));
	}
	if (!tree || !tree->nodes || !tree->children || !tree->strings)
		return hv_fail_errno(err, -ENOMEM, "cannot list what is on the disk");
	add(tree, NULL, FM_DIRECTORY, "");
	add_disk(tree, size_bytes);
	if (info_text)
		add_text(tree, "info.json", info_text);
	add_partitions(tree, size_bytes);
	add_directories(tree);
	list_children(tree);
	if (tree->failed)
		return hv_fail_errno(err, -ENOMEM, "cannot list what is on the disk");
	*ret = hv_steal(tree);
	return 0;
}

void fm_tree_free(struct fm_tree *tree)
{
	if (!tree)
		return;
	for (unsigned i = 0; i < tree->string_count; i++)
		free(tree->strings[i]);
	free(tree->strings);
	free(tree->children);
	free(tree->nodes);
	free(tree);
}

const struct fm_node *fm_tree_get(const struct fm_tree *tree, uint64_t ino)
{
	return ino && ino <= tree->node_count ? &tree->nodes[ino - 1] : NULL;
}

const struct fm_node *fm_tree_find(const struct fm_node *directory, const char *name)
{
	for (unsigned i = 0; i < directory->child_count; i++)
		if (!strcmp(directory->children[i]->name, name))
			return directory->children[i];
	return NULL;
}
