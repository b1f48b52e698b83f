/*
 * Fuzz target: the tree of vhdmount. The input becomes what libblkid might have found on a disk:
 * names and labels of any bytes, partitions anywhere. The tree has to be sound all the same, and a
 * listing of it must not drive a terminal.
 */
#include "fuse-mount/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse-mount/list.h"
#include "hvcore/utf.h"
#include "tests/fuzz/harness/fuzz.h"

#define MAX_PARTITIONS 6

/* What is left of the input; zeros follow it. */
struct input {
	const uint8_t *data;
	size_t size;
};

static void take(struct input *in, void *out, size_t size)
{
	size_t there = size < in->size ? size : in->size;

	memset(out, 0, size);
	if (there)
		memcpy(out, in->data, there);
	in->data += there;
	in->size -= there;
}

static uint8_t take_byte(struct input *in)
{
	uint8_t byte;

	take(in, &byte, sizeof(byte));
	return byte;
}

/* A number of some interest: small, or near the top. */
static uint64_t take_number(struct input *in)
{
	uint8_t shift = take_byte(in);
	uint64_t number = (uint64_t)take_byte(in) << (shift & 63);

	return shift & 64 ? UINT64_MAX - number : number;
}

/* Up to a byte of zero, and cut where text ends. */
static void take_text(struct input *in, char *text, size_t size)
{
	size_t used = 0;

	for (char c; used + 1 < size && (c = (char)take_byte(in));)
		text[used++] = c;
	text[used] = '\0';
}

static void take_signature(struct input *in, struct hv_signature *ret)
{
	static const char *const types[] = { "", "ext4", "LVM2_member", "crypto_LUKS", "swap" };
	uint8_t choice = take_byte(in);

	if (choice & 0x80)
		take_text(in, ret->type, sizeof(ret->type));
	else
		strcpy(ret->type, types[choice % 5]);
	if (choice & 0x40)
		strcpy(ret->usage, "filesystem");
	ret->ambivalent = choice & 0x20;
	take_text(in, ret->label, sizeof(ret->label));
	take_text(in, ret->uuid, sizeof(ret->uuid));
	if (ret->ambivalent)
		take_text(in, ret->several, sizeof(ret->several));
}

static void take_partition(struct input *in, struct hv_partition *ret)
{
	uint8_t flags = take_byte(in);

	ret->number = flags & 0x80 ? (unsigned)take_number(in) : (flags & 7);
	ret->cut = flags & 0x40;
	ret->container = flags & 0x20;
	ret->offset = take_number(in);
	ret->length = take_number(in);
	take_text(in, ret->name, sizeof(ret->name));
	take_text(in, ret->uuid, sizeof(ret->uuid));
	take_signature(in, &ret->content);
}

static void judge_name(const struct fm_node *node)
{
	const char *name = node->name;

	fuzz_assert(*name && strlen(name) <= 255, "a name of %zu bytes", strlen(name));
	fuzz_assert(hv_utf8_valid(name), "a name that is no UTF-8");
	fuzz_assert(strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/'),
		    "a name that leads elsewhere: '%s'", name);
	fuzz_assert(*name != '.' || node->hidden, "a name that ls does not list: '%s'", name);
	for (const char *p = name; *p; p++)
		fuzz_assert((unsigned char)*p >= ' ' && *p != 0x7f, "a control character");
}

static void judge_link(const struct fm_tree *tree, const struct fm_node *node)
{
	const struct fm_node *target;

	fuzz_assert(!strncmp(node->target, "../", 3), "a link to '%s'", node->target);
	target = fm_tree_find(fm_tree_get(tree, 1), node->target + 3);
	fuzz_assert(node->parent->parent == fm_tree_get(tree, 1), "a link that is too deep");
	fuzz_assert(target && target->kind == FM_VOLUME, "a link to nowhere: '%s'", node->target);
}

static void judge_node(const struct fm_tree *tree, const struct fm_node *node, uint64_t size_bytes)
{
	fuzz_assert(node->kind == FM_DIRECTORY || !node->child_count, "children of a file");
	fuzz_assert(node->ino == 1 || node->kind != FM_DIRECTORY || node->child_count,
		    "an empty directory '%s'", node->name);
	for (unsigned i = 0; i < node->child_count; i++) {
		fuzz_assert(node->children[i]->parent == node, "a child of somebody else");
		fuzz_assert(fm_tree_find(node, node->children[i]->name) == node->children[i],
			    "two of one name: '%s'", node->children[i]->name);
	}
	fuzz_assert(node->offset <= size_bytes && node->length <= size_bytes - node->offset,
		    "'%s' reaches past the end", node->name);
	if (node->ino != 1)
		judge_name(node);
	if (node->kind == FM_LINK)
		judge_link(tree, node);
}

static void judge(const struct fm_tree *tree, uint64_t size_bytes)
{
	const struct fm_node *node;
	uint64_t count = 0, children = 0;

	while ((node = fm_tree_get(tree, count + 1))) {
		fuzz_assert(node->ino == ++count, "the numbers have a gap");
		children += node->child_count;
		judge_node(tree, node, size_bytes);
	}
	fuzz_assert(children == count - 1, "%llu of %llu nodes are listed",
		    (unsigned long long)children, (unsigned long long)count - 1);
}

static void judge_list(const struct fm_tree *tree, const struct hv_probe *probe)
{
	for (int json = 0; json < 2; json++) {
		char *text;
		size_t length;
		FILE *out = open_memstream(&text, &length);

		fuzz_assert(fm_list(tree, probe, json, out) == 0, "the list fails");
		fclose(out);
		fuzz_assert(hv_utf8_valid(text), "a list that is no UTF-8");
		for (const char *p = text; *p; p++)
			fuzz_assert((unsigned char)*p >= ' ' || *p == '\n', "a control character");
		free(text);
	}
}

static void run(const uint8_t *data, size_t size)
{
	struct hv_partition partitions[MAX_PARTITIONS] = { 0 };
	struct hv_probe probe = { .partitions = partitions };
	struct input in = { data, size };
	uint64_t size_bytes = take_number(&in);
	struct fm_tree *tree;

	probe.partition_count = take_byte(&in) % (MAX_PARTITIONS + 1);
	take_text(&in, probe.table, sizeof(probe.table));
	take_signature(&in, &probe.whole);
	for (unsigned i = 0; i < probe.partition_count; i++)
		take_partition(&in, &partitions[i]);
	fuzz_assert(fm_tree_new(&probe, size_bytes, NULL, &tree, NULL) == 0, "no tree");
	judge(tree, size_bytes);
	judge_list(tree, &probe);
	fm_tree_free(tree);
}

const struct fuzz_target fuzz_target = { .run = run };
