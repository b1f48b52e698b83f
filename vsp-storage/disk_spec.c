/*
 * Disks by their description.
 */
#include "vsp-storage/disk_spec.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "snapshot/chain.h"
#include "vsp-storage/null_disk.h"

#define MAX_SLOW_MS 86400000u /* a day */

static int no_memory(struct hv_err *err)
{
	return hv_fail(err, -ENOMEM, "not enough memory");
}

static int replace(char **text, const char *value, struct hv_err *err)
{
	char *copy = strdup(value);

	if (!copy)
		return no_memory(err);
	free(*text);
	*text = copy;
	return 0;
}

/* Options. */

static int bad_value(const char *name, const char *value, const char *choices, struct hv_err *err)
{
	return hv_fail(err, -EINVAL, "\"%s=%s\": %s takes %s", name, value, name, choices);
}

static int set_switch(bool *ret, const char *name, const char *value, struct hv_err *err)
{
	if (strcmp(value, "on") && strcmp(value, "off"))
		return bad_value(name, value, "on or off", err);
	*ret = !strcmp(value, "on");
	return 0;
}

static int set_read_only(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	return set_switch(&spec->device.read_only, "readonly", value, err);
}

static int set_discard(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	return set_switch(&spec->device.discard, "discard", value, err);
}

static int set_coalesce(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	return set_switch(&spec->device.coalesce, "coalesce", value, err);
}

static int set_cache(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	static const char *const names[] = {
		[VSP_CACHE_NONE] = "none", [VSP_CACHE_WRITEBACK] = "writeback", [VSP_CACHE_UNSAFE] = "unsafe"
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(value, names[i])) {
			spec->device.cache = i;
			return 0;
		}
	}
	return bad_value("cache", value, "none, writeback or unsafe", err);
}

/* Guests show it, and scripts make file names of it. */
static int set_serial(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	if (strlen(value) >= VSP_SERIAL_SIZE)
		return hv_fail(err, -EINVAL, "\"serial=%s\": a serial has at most %d characters",
			       value, VSP_SERIAL_SIZE - 1);
	for (const char *c = value; *c; c++)
		if (!isgraph((unsigned char)*c))
			return hv_fail(err, -EINVAL,
				       "a serial has printable ASCII characters and no spaces");
	memset(spec->device.serial, 0, VSP_SERIAL_SIZE);
	memcpy(spec->device.serial, value, strlen(value));
	return 0;
}

static int set_sector(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	if (strcmp(value, "512") && strcmp(value, "4096"))
		return bad_value("sector", value, "512 or 4096", err);
	spec->device.sector_bytes = !strcmp(value, "512") ? 512 : 4096;
	return 0;
}

static int set_format(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	if (strcmp(value, "raw") && strcmp(value, "vhd"))
		return bad_value("format", value, "raw or vhd", err);
	return replace(&spec->format, value, err);
}

static int set_parent(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	return replace(&spec->parent, value, err);
}

static int set_slow_ms(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	unsigned long ms = strtoul(value, NULL, 10);

	if (!*value || value[strspn(value, "0123456789")] || ms > MAX_SLOW_MS)
		return bad_value("slow-ms", value, "milliseconds, up to a day; 0 for never", err);
	spec->device.slow_ms = (uint32_t)ms;
	return 0;
}

static int set_on_error(struct vsp_disk_spec *spec, const char *value, struct hv_err *err)
{
	if (strcmp(value, "report") && strcmp(value, "stop"))
		return bad_value("on-error", value, "report or stop", err);
	spec->device.stops = !strcmp(value, "stop");
	return 0;
}

static const struct {
	const char *name;
	int (*set)(struct vsp_disk_spec *spec, const char *value, struct hv_err *err);
	const char *without; /* the value of the name alone; NULL: it needs one */
} options[] = {
	{ "readonly", set_read_only, "on" }, { "cache", set_cache, NULL },
	{ "discard", set_discard, "on" },    { "serial", set_serial, NULL },
	{ "sector", set_sector, NULL },      { "format", set_format, NULL },
	{ "parent", set_parent, NULL },      { "slow-ms", set_slow_ms, NULL },
	{ "on-error", set_on_error, NULL },  { "coalesce", set_coalesce, NULL },
};

int vsp_disk_spec_set(struct vsp_disk_spec *spec, const char *option, struct hv_err *err)
{
	size_t name_length = strcspn(option, "=");
	const char *value = option[name_length] ? option + name_length + 1 : NULL;
	HV_AUTO(free) char *name = strndup(option, name_length);
	int rc;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (strlen(options[i].name) != name_length ||
		    strncmp(options[i].name, option, name_length) != 0)
			continue;
		if (!value)
			value = options[i].without;
		if (!value)
			return hv_fail(err, -EINVAL, "\"%s\": a value is missing", option);
		return options[i].set(spec, value, err);
	}
	rc = name ? vsp_limits_set(&spec->limits, name, value, err) : no_memory(err);
	if (rc != -ENOENT)
		return rc;
	return hv_fail(err, -EINVAL, "\"%.*s\" is no option of a disk", (int)name_length, option);
}

/* The text. */

char *vsp_disk_spec_word(char **text)
{
	char *word = *text, *out = word, *in = word;

	if (!word)
		return NULL;
	while (*in && (*in != ',' || in[1] == ',')) {
		if (*in == ',')
			in++;
		*out++ = *in++;
	}
	*text = *in ? in + 1 : NULL;
	*out = '\0';
	return word;
}

size_t vsp_disk_spec_name_length(const char *word)
{
	size_t length = 0;

	while (isalnum((unsigned char)word[length]) ||
	       (word[length] && strchr("._-", word[length])))
		length++;
	return word[length] == '=' ? length : 0;
}

int vsp_disk_spec_parse(const char *text, struct vsp_disk_spec *ret, struct hv_err *err)
{
	HV_AUTO(free) char *copy = strdup(text);
	char *rest = copy, *word = vsp_disk_spec_word(&rest);
	size_t length;
	int rc = 0;

	if (!word)
		return no_memory(err);
	length = vsp_disk_spec_name_length(word);
	free(ret->name);
	free(ret->path);
	ret->name = strndup(word, length);
	ret->path = strdup(length ? word + length + 1 : word);
	if (!ret->name || !ret->path)
		return no_memory(err);
	if (!*ret->path)
		return hv_fail(err, -EINVAL, "\"%s\": the disk's file is missing", text);
	while (rc == 0 && (word = vsp_disk_spec_word(&rest)))
		rc = vsp_disk_spec_set(ret, word, err);
	return rc;
}

void vsp_disk_spec_done(struct vsp_disk_spec *spec)
{
	free(spec->name);
	free(spec->path);
	free(spec->format);
	free(spec->parent);
	*spec = (struct vsp_disk_spec){ 0 };
}

/* Comparing. */

bool vsp_disk_spec_is_mild(const char *option)
{
	HV_AUTO(free) char *name = strndup(option, strcspn(option, "="));
	struct vsp_limits limits;

	return name && (!strcmp(name, "slow-ms") || !strcmp(name, "on-error") ||
			!strcmp(name, "coalesce") || vsp_limits_set(&limits, name, "0", NULL) == 0);
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

bool vsp_disk_spec_same(const struct vsp_disk_spec *a, const struct vsp_disk_spec *b)
{
	const struct vsp_device_options *x = &a->device, *y = &b->device;

	return same(a->path, b->path) && same(a->format, b->format) && same(a->parent, b->parent) &&
	       x->read_only == y->read_only && x->cache == y->cache && x->discard == y->discard &&
	       !strcmp(x->serial, y->serial) && x->sector_bytes == y->sector_bytes;
}

/* Opening. */

/* Do the filesystem's extents make zeros, without writing them? */
static bool zeroes_fast(const char *path)
{
	static const unsigned long known[] = { 0xef53 /* ext4 */, 0x58465342 /* XFS */,
					       0x9123683e /* Btrfs */, 0x01021994 /* tmpfs */ };
	struct statfs fs;
	struct stat st;

	if (stat(path, &st) || !S_ISREG(st.st_mode) || statfs(path, &fs))
		return false;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if ((unsigned long)fs.f_type == known[i])
			return true;
	return false;
}

int vsp_disk_spec_open(const struct vsp_disk_spec *spec, struct hv_loop *loop, struct hv_disk **ret,
		       struct hv_err *err)
{
	struct snap_open_options how = { .format = spec->format, .parent_path = spec->parent };

	if (vsp_is_null_disk(spec->path))
		return vsp_null_disk_open(spec->path, loop, ret, err);
	if (!spec->device.read_only)
		how.flags |= SNAP_OPEN_WRITE;
	if (spec->device.cache == VSP_CACHE_NONE)
		how.flags |= SNAP_OPEN_DIRECT;
	return snap_open(spec->path, &how, loop, ret, err);
}

int vsp_disk_spec_device(const struct vsp_disk_spec *spec, struct hv_disk *disk,
			 struct vsp_device **ret, struct hv_err *err)
{
	struct vsp_device_options device = spec->device;

	device.fast_zero = zeroes_fast(spec->path);
	return vsp_device_new(disk, &device, ret, err);
}
