/*
 * vhdmount --list: the tree without a mount.
 */
#include "fuse-mount/list.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "fuse-mount/names.h"
#include "hvcore/describe.h"
#include "hvcore/program.h"
#include "hvcore/size.h"
#include "hvcore/utf.h"

#define MAX_NOTES 8
#define MAX_OVERLAPS 8
#define MAX_NAME_COLUMNS 56
#define SIZE_COLUMNS 10

/* What is worth saying about a volume, besides its content. */
struct notes {
	unsigned count;
	char *text[MAX_NOTES]; /* NULL: no memory was left for it */
};

static void free_notes(struct notes *notes)
{
	for (unsigned i = 0; i < notes->count; i++)
		free(notes->text[i]);
}

__attribute__((format(printf, 2, 3))) static void note(struct notes *notes, const char *fmt, ...)
{
	char *text;
	va_list ap;

	if (notes->count == MAX_NOTES)
		return;
	va_start(ap, fmt);
	notes->text[notes->count++] = vasprintf(&text, fmt, ap) < 0 ? NULL : text;
	va_end(ap);
}

static bool overlap(const struct fm_node *a, const struct fm_node *b)
{
	return a->length && b->length && a->offset < b->offset + b->length &&
	       b->offset < a->offset + a->length;
}

static void note_overlaps(struct notes *notes, const struct fm_node *volume)
{
	const struct fm_node *root = volume->parent;
	char list[MAX_OVERLAPS * sizeof(", p4294967295") + sizeof(", ...")] = "", *end = list;
	unsigned count = 0;

	for (unsigned i = 0; i < root->child_count && count <= MAX_OVERLAPS; i++) {
		const struct fm_node *other = root->children[i];

		if (!other->partition || other == volume || !overlap(volume, other))
			continue;
		end = stpcpy(end, count ? ", " : "");
		if (count++ < MAX_OVERLAPS)
			end += sprintf(end, "p%u", other->partition->number);
		else
			strcpy(end, "...");
	}
	if (count)
		note(notes, "overlaps %s", list);
}

static void note_partition(struct notes *notes, const struct fm_node *volume)
{
	if (volume->partition->cut)
		note(notes, "%s the end of the disk",
		     volume->length ? "reaches past" : "lies beyond");
	else if (!volume->length)
		note(notes, "empty");
	note_overlaps(notes, volume);
}

static void note_disk(struct notes *notes, const struct hv_probe *probe)
{
	if (!strcmp(probe->table, "PMBR"))
		note(notes, "a protective MBR whose GPT is gone");
	else if (*probe->table)
		note(notes, "%s partition table%s", probe->table,
		     probe->partition_count ? "" : " without partitions");
	else
		note(notes, "no partition table");
	if (probe->has_unreadable)
		note(notes, "not all of what was looked at can be read");
	if (probe->has_more_partitions)
		note(notes, "more than %d partitions, of which the rest is not shown",
		     HV_PROBE_PARTITIONS);
	for (unsigned i = 0; i < probe->partition_count; i++)
		if (probe->partitions[i].container)
			note(notes, "p%u is an extended partition, not shown itself",
			     probe->partitions[i].number);
}

static void take_notes(struct notes *notes, const struct fm_node *node,
		       const struct hv_probe *probe)
{
	if (node->kind != FM_VOLUME)
		return;
	if (node->partition)
		note_partition(notes, node);
	else
		note_disk(notes, probe);
}

/* In the words of people; the types are libblkid's. */
static const char *type_words(const char *type)
{
	static const struct {
		const char *type, *words;
	} known[] = {
		{ "", "nothing known" },
		{ "LVM1_member", "LVM physical volume" },
		{ "LVM2_member", "LVM physical volume" },
		{ "linux_raid_member", "RAID member" },
		{ "crypto_LUKS", "LUKS, encrypted" },
		{ "BitLocker", "BitLocker, encrypted" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(type, known[i].type))
			return known[i].words;
	return type;
}

static void print_content(FILE *out, const struct hv_signature *content)
{
	char label[FM_NAME_SIZE];

	if (content->ambivalent)
		fprintf(out, "several signatures%s%s", *content->several ? ": " : "",
			content->several);
	else
		fputs(type_words(content->type), out);
	if (fm_safe_name(content->label, label))
		fprintf(out, " '%s'", label);
}

/* What stands in the last column. */
static void print_what(FILE *out, const struct fm_node *node, const struct hv_probe *probe)
{
	__attribute__((cleanup(free_notes))) struct notes notes = { 0 };
	const char *separator = "";

	if (node->kind == FM_LINK)
		fprintf(out, "-> %s", node->target);
	if (node->content &&
	    (node->partition || *node->content->type || node->content->ambivalent)) {
		print_content(out, node->content);
		separator = "; ";
	}
	take_notes(&notes, node, probe);
	for (unsigned i = 0; i < notes.count; i++, separator = "; ")
		fprintf(out, "%s%s", separator, notes.text[i] ? notes.text[i] : "...");
}

static size_t columns_of(const char *name)
{
	size_t columns = 0;

	for (; *name; name += hv_utf8_length(name))
		columns++;
	return columns;
}

/* A directory is not printed itself: what is in it has its name. */
static char *path_of(const struct fm_node *node)
{
	const char *directory = node->parent->name;
	char *path;

	if (asprintf(&path, "%s%s%s", directory, *directory ? "/" : "", node->name) < 0)
		return NULL;
	return path;
}

/* The nodes to be printed, in their order; index goes on, from 0. NULL: no more. */
static const struct fm_node *next_shown(const struct fm_tree *tree, uint64_t *index)
{
	const struct fm_node *node;

	while ((node = fm_tree_get(tree, ++*index)))
		if (node->kind != FM_DIRECTORY && !node->parent->hidden)
			return node;
	return NULL;
}

static uint64_t size_of(const struct fm_node *node)
{
	return node->kind == FM_TEXT ? node->text_bytes : node->length;
}

static void print_row(FILE *out, const struct fm_node *node, const struct hv_probe *probe,
		      size_t width)
{
	HV_AUTO(free) char *path = path_of(node), *what = NULL, *harmless = NULL;
	char size[HV_SIZE_TEXT_SIZE] = "";
	size_t columns = path ? columns_of(path) : 0, length;
	FILE *text = open_memstream(&what, &length);

	if (text) {
		print_what(text, node, probe);
		fclose(text);
	}
	harmless = what ? hv_harmless(what) : NULL;
	if (node->kind == FM_VOLUME || node->kind == FM_TEXT)
		hv_size_format(size_of(node), size);
	fprintf(out, "%s%*s  ", path ? path : "...", columns < width ? (int)(width - columns) : 0,
		"");
	if (harmless && *harmless)
		fprintf(out, "%-*s  %s\n", SIZE_COLUMNS, size, harmless);
	else
		fprintf(out, "%s\n", size);
}

static size_t name_columns(const struct fm_tree *tree)
{
	const struct fm_node *node;
	size_t width = 0;

	for (uint64_t i = 0; (node = next_shown(tree, &i));) {
		HV_AUTO(free) char *path = path_of(node);
		size_t columns = path ? columns_of(path) : 0;

		if (columns > width && columns <= MAX_NAME_COLUMNS)
			width = columns;
	}
	return width;
}

static void describe_node(struct hv_json *json, const struct fm_node *node,
			  const struct hv_probe *probe)
{
	static const char *const kinds[] = {
		[FM_DIRECTORY] = "directory", [FM_LINK] = "link",   [FM_TEXT] = "text",
		[FM_VOLUME] = "volume",       [FM_FILES] = "files",
	};
	__attribute__((cleanup(free_notes))) struct notes notes = { 0 };
	HV_AUTO(free) char *path = path_of(node);
	struct hv_json *list;

	hv_json_set_string(json, "path", path);
	hv_json_set_string(json, "kind", kinds[node->kind]);
	if (node->kind == FM_LINK) {
		hv_json_set_string(json, "target", node->target);
		return;
	}
	if (node->partition)
		hv_describe_partition(json, node->partition);
	else if (node->content)
		hv_describe_signature(json, node->content);
	if (node->content)
		hv_json_set_string(json, "several",
				   *node->content->several ? node->content->several : NULL);
	hv_json_set_number(json, "offset", node->offset);
	hv_json_set_number(json, "length", size_of(node));
	list = hv_json_set_array(json, "notes");
	take_notes(&notes, node, probe);
	for (unsigned i = 0; i < notes.count; i++)
		hv_json_add_string(list, notes.text[i]);
}

static int list_json(const struct fm_tree *tree, const struct hv_probe *probe, FILE *out)
{
	HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();
	struct hv_json *list = hv_json_set_array(json, "entries");
	const struct fm_node *node;

	for (uint64_t i = 0; (node = next_shown(tree, &i));)
		describe_node(hv_json_add_object(list), node, probe);
	return hv_json_print(json, out);
}

int fm_list(const struct fm_tree *tree, const struct hv_probe *probe, bool json, FILE *out)
{
	const struct fm_node *node;
	size_t width;

	if (json)
		return list_json(tree, probe, out);
	width = name_columns(tree);
	for (uint64_t i = 0; (node = next_shown(tree, &i));)
		print_row(out, node, probe, width);
	return 0;
}
