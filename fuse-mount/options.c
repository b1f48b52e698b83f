/*
 * The option table, and the words of -o: mount(8) hands over what it found in /etc/fstab, a part of
 * which is ours under the same names, a part for libfuse and the kernel, and a part for nobody.
 */
#include "fuse-mount/options.h"

#include <errno.h>
#include <fnmatch.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/size.h"

#define FLAG(member_name, letter_, name_, help_)                                               \
	{                                                                                      \
		.name = (name_), .letter = (letter_), .kind = HV_OPTION_FLAG, .help = (help_), \
		.offset = offsetof(struct fm_options, member_name)                             \
	}
#define STRING(member_name, letter_, name_, argument_, help_)                   \
	{                                                                       \
		.name = (name_), .letter = (letter_), .kind = HV_OPTION_STRING, \
		.argument = (argument_), .help = (help_),                       \
		.offset = offsetof(struct fm_options, member_name)              \
	}

const struct hv_option fm_option_table[] = {
	FLAG(list, 'l', "list", "print what would be shown, and mount nothing"),
	FLAG(json, 0, "json", "with --list: as JSON"),
	FLAG(unmount, 'u', "unmount", "take the mount at DIR away, and all that is mounted in it"),
	FLAG(rw, 'w', "rw", "write into the disk"),
	STRING(overlay, 0, "overlay", "FILE",
	       "writes go into FILE, a differencing VHD, and the disk stays as it is"),
	FLAG(kernel, 0, "kernel", "let the kernel read filesystems that nothing else can read"),
	FLAG(kernel_cache, 0, "kernel-cache",
	     "the kernel keeps what was read of disk.raw, for small reads"),
	FLAG(allow_other, 0, "allow-other", "other users may look into it, too"),
	STRING(uid_text, 0, "uid", "N", "whose the files are (default: whoever mounts)"),
	STRING(gid_text, 0, "gid", "N", "likewise, the group"),
	STRING(window, 0, "offset-limit", "OFFSET[:LENGTH]", "show a part of the disk only"),
	{ .name = "from",
	  .kind = HV_OPTION_STRING,
	  .argument = "FMT",
	  .choices = "raw|vhd",
	  .help = "format of the disk (default: found by looking)",
	  .offset = offsetof(struct fm_options, format) },
	STRING(parent, 0, "parent", "FILE", "where the parent of a differencing disk is"),
	FLAG(force_share, 'U', "force-share", "open even if another program writes to it"),
	{ .name = "options",
	  .letter = 'o',
	  .kind = HV_OPTION_STRINGS,
	  .argument = "OPT[,OPT...]",
	  .help = "mount options, as from /etc/fstab",
	  .offset = offsetof(struct fm_options, mount_options) },
	FLAG(foreground, 'f', "foreground", "do not become a daemon"),
	FLAG(verbose, 'v', "verbose", "say how the disk is served, and what goes wrong"),
	FLAG(debug, 'd', "debug", "say every request, in the foreground"),
	{ .name = NULL },
};

/*
 * What mount(8) keeps for itself, what is so anyway, and what it says of every mount unless told
 * otherwise: nobody has asked to write into a disk because there is an "rw".
 */
static const char *const ignored[] = {
	"auto",     "noauto", "user",    "nouser", "users", "owner",     "group",
	"defaults", "nofail", "_netdev", "loop",   "x-*",   "comment=*", "nosuid",
	"nodev",    "suid",   "dev",     "ro",     "rw",    "sync",      "async",
};

static bool is_ignored(const char *word)
{
	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		if (fnmatch(ignored[i], word, 0) == 0)
			return true;
	return false;
}

static int append(char **list, const char *word, struct hv_err *err)
{
	char *longer = NULL;

	if (asprintf(&longer, "%s%s%s", *list ? *list : "", *list ? "," : "", word) < 0)
		return hv_fail(err, -ENOMEM, "not enough memory");
	free(*list);
	*list = longer;
	return 0;
}

/* "allow_other" is --allow-other: is word the name of the option, and perhaps "=" with a value? */
static bool names(const struct hv_option *option, const char *word)
{
	const char *name = option->name;

	for (; *name; name++, word++)
		if (*name != *word && !(*name == '-' && *word == '_'))
			return false;
	return option->kind == HV_OPTION_FLAG ? !*word : *word == '=';
}

/* Those that tell what to do, rather than how, are no mount options. */
static const struct hv_option *find_option(const char *word)
{
	for (const struct hv_option *o = fm_option_table; o->name; o++) {
		bool act = !strcmp(o->name, "list") || !strcmp(o->name, "json") ||
			   !strcmp(o->name, "unmount") || !strcmp(o->name, "options");

		if (!act && !is_ignored(word) && names(o, word))
			return o;
		if (!strcmp(o->name, "rw") && !strcmp(word, "write"))
			return o;
	}
	return NULL;
}

static int take_word(struct fm_options *options, char *word, struct hv_err *err)
{
	const struct hv_option *option = find_option(word);
	char *member = (char *)options + (option ? option->offset : 0);
	const char *value = strchr(word, '=');

	if (!option)
		return is_ignored(word) ? 0 : append(&options->more, word, err);
	if (option->kind == HV_OPTION_FLAG) {
		*(bool *)member = true;
		return 0;
	}
	if (option->choices && strcmp(value + 1, "raw") && strcmp(value + 1, "vhd"))
		return hv_fail(err, -EINVAL, "mount option '%s' takes one of %s", word,
			       option->choices);
	*(const char **)member = value + 1;
	return 0;
}

static int parse_id(const char *what, const char *text, uid_t own, uid_t *ret, struct hv_err *err)
{
	char *end;
	unsigned long long number;

	*ret = own;
	if (!text)
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || *end || !*text || *text == '-' || number >= UINT32_MAX)
		return hv_fail(err, -EINVAL, "'%s' is no %s", text, what);
	*ret = (uid_t)number;
	return 0;
}

static int parse_window(struct fm_options *options, struct hv_err *err)
{
	HV_AUTO(free) char *text = options->window ? strdup(options->window) : NULL;
	char *length = text ? strchr(text, ':') : NULL;
	int rc;

	if (!text)
		return 0;
	if (length)
		*length++ = '\0';
	rc = hv_size_parse(text, &options->window_offset, err);
	if (rc == 0 && length)
		rc = hv_size_parse(length, &options->window_bytes, err);
	if (rc)
		return rc;
	if (options->window_offset % 512 || options->window_bytes % 512 ||
	    (length && !options->window_bytes))
		return hv_fail(err, -EINVAL,
			       "'%s' is no part of a disk: offset and length are multiples of 512",
			       options->window);
	return 0;
}

static int refuse_contradictions(const struct fm_options *options, struct hv_err *err)
{
	if (options->list + options->unmount > 1)
		return hv_fail(err, -EINVAL, "--list and --unmount exclude each other");
	if (options->rw && options->overlay)
		return hv_fail(err, -EINVAL,
			       "--rw and --overlay exclude each other: writes go to one place");
	if (options->rw && options->force_share)
		return hv_fail(err, -EINVAL, "--rw and --force-share exclude each other");
	if (options->kernel_cache && (options->rw || options->overlay))
		return hv_fail(err, -EINVAL, "--kernel-cache is for disks that are not written");
	if (options->json && !options->list)
		return hv_fail(err, -EINVAL, "--json goes with --list only");
	if (options->kernel && geteuid() != 0)
		return hv_fail(err, -EINVAL, "--kernel is for root only");
	return 0;
}

int fm_options_settle(struct fm_options *options, struct hv_err *err)
{
	int rc = 0;

	for (const char **list = options->mount_options; list && *list && rc == 0; list++) {
		/* Of argv, which is ours to cut up; values stay where they are. */
		char *words = (char *)(uintptr_t)*list, *word;

		while (rc == 0 && (word = strsep(&words, ",")))
			if (*word)
				rc = take_word(options, word, err);
	}
	if (rc == 0)
		rc = refuse_contradictions(options, err);
	if (rc == 0)
		rc = parse_id("user id", options->uid_text, getuid(), &options->uid, err);
	if (rc == 0)
		rc = parse_id("group id", options->gid_text, getgid(), &options->gid, err);
	if (rc == 0)
		rc = parse_window(options, err);
	return rc;
}
