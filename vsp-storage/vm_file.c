/*
 * Definitions of VMs.
 */
#include "vsp-storage/vm_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISK_PREFIX "disk "

static int no_memory(struct hv_err *err)
{
	return hv_fail(err, -ENOMEM, "not enough memory");
}

int vsp_name_check(const char *what, const char *name, struct hv_err *err)
{
	size_t length = 0;

	while (isalnum((unsigned char)name[length]) ||
	       (length && name[length] && strchr("._-", name[length])))
		length++;
	if (length && !name[length] && length <= VSP_NAME_MAX)
		return 0;
	return hv_fail(err, -EINVAL,
		       "\"%s\" is no name of a %s: letters, digits, '.', '_', '-', at most %d",
		       name, what, VSP_NAME_MAX);
}

/* Settings, each once. */

static bool is_again(const struct vsp_conf *conf, size_t index)
{
	const char *key = conf->lines[index].key;

	while (index-- && conf->lines[index].kind != VSP_CONF_SECTION)
		if (conf->lines[index].kind == VSP_CONF_SETTING &&
		    !strcmp(conf->lines[index].key, key))
			return true;
	return false;
}

static int take_vm_setting(struct vsp_vm_file *file, const struct vsp_conf_line *line,
			   struct hv_err *err)
{
	int rc;

	if (!strcmp(line->key, "socket-group") && line->value) {
		file->socket_group = strdup(line->value);
		return file->socket_group ? 0 : no_memory(err);
	}
	rc = vsp_limits_set(&file->limits, line->key, line->value, err);
	if (rc != -ENOENT)
		return rc;
	return hv_fail(err, -EINVAL, "\"%s\" is no setting of a VM", line->key);
}

static int take_disk_setting(struct vsp_disk_spec *disk, const struct vsp_conf_line *line,
			     struct hv_err *err)
{
	HV_AUTO(free) char *option = NULL;
	bool file = !strcmp(line->key, "file");

	if ((file || !strcmp(line->key, "parent")) && line->value && *line->value != '/')
		return hv_fail(err, -EINVAL, "\"%s\": a path that begins with '/' is wanted",
			       line->value);
	if (file && line->value) {
		disk->path = strdup(line->value);
		return disk->path ? 0 : no_memory(err);
	}
	if (asprintf(&option, line->value ? "%s=%s" : "%s", line->key, line->value) < 0)
		return no_memory(err);
	return vsp_disk_spec_set(disk, option, err);
}

/* Sections. */

static int take_section(struct vsp_vm_file *file, const char *section, struct hv_err *err)
{
	const char *name = section + strlen(DISK_PREFIX);
	struct vsp_disk_spec *disk;
	int rc;

	if (strncmp(section, DISK_PREFIX, strlen(DISK_PREFIX)) != 0)
		return hv_fail(err, -EINVAL, "\"[%s]\" is no section of a VM: [disk NAME]",
			       section);
	rc = vsp_name_check("disk", name, err);
	if (rc)
		return rc;
	if (vsp_vm_file_disk(file, name))
		return hv_fail(err, -EINVAL, "there are two disks of the name \"%s\"", name);
	if (file->disk_count == VSP_VM_MAX_DISKS)
		return hv_fail(err, -EINVAL, "a VM has at most %d disks", VSP_VM_MAX_DISKS);
	disk = &file->disks[file->disk_count++];
	*disk = (struct vsp_disk_spec){ .name = strdup(name), .device = VSP_DEVICE_DEFAULTS };
	return disk->name ? 0 : no_memory(err);
}

/* Is the disk that ends before line complete? */
static int end_section(const struct vsp_vm_file *file, struct hv_err *err)
{
	const struct vsp_disk_spec *disk;

	if (!file->disk_count)
		return 0;
	disk = &file->disks[file->disk_count - 1];
	return disk->path ? 0 : hv_fail(err, -EINVAL, "the disk \"%s\" has no file", disk->name);
}

static int take_line(struct vsp_vm_file *file, size_t index, struct hv_err *err)
{
	const struct vsp_conf_line *line = &file->conf->lines[index];
	int rc;

	switch (line->kind) {
	case VSP_CONF_OTHER:
		return 0;
	case VSP_CONF_SECTION:
		rc = end_section(file, err);
		return rc ? rc : take_section(file, line->key, err);
	case VSP_CONF_SETTING:
		if (is_again(file->conf, index))
			return hv_fail(err, -EINVAL, "\"%s\" is set twice", line->key);
		if (!file->disk_count)
			return take_vm_setting(file, line, err);
		return take_disk_setting(&file->disks[file->disk_count - 1], line, err);
	}
	return 0;
}

int vsp_vm_file_new(struct vsp_conf *conf, struct vsp_vm_file **ret, struct hv_err *err)
{
	HV_AUTO(vsp_vm_file_free) struct vsp_vm_file *file = calloc(1, sizeof(*file));
	HV_ERR(cause);
	int rc;

	if (!file || !(file->disks = calloc(VSP_VM_MAX_DISKS, sizeof(*file->disks)))) {
		vsp_conf_free(conf);
		return no_memory(err);
	}
	file->conf = conf;
	for (size_t i = 0; i < conf->count; i++) {
		rc = take_line(file, i, &cause);
		if (rc)
			return vsp_conf_fail(conf, i + 1, rc, &cause, err);
	}
	rc = end_section(file, &cause);
	if (rc)
		return vsp_conf_fail(conf, conf->count, rc, &cause, err);
	*ret = hv_steal(file);
	return 0;
}

void vsp_vm_file_free(struct vsp_vm_file *file)
{
	if (!file)
		return;
	for (size_t i = 0; i < file->disk_count; i++)
		vsp_disk_spec_done(&file->disks[i]);
	free(file->disks);
	free(file->socket_group);
	vsp_conf_free(file->conf);
	free(file);
}

struct vsp_disk_spec *vsp_vm_file_disk(const struct vsp_vm_file *file, const char *name)
{
	for (size_t i = 0; i < file->disk_count; i++)
		if (!strcmp(file->disks[i].name, name))
			return &file->disks[i];
	return NULL;
}

/* Changing the text. */

static bool has_disk(const struct vsp_conf *conf, const char *section)
{
	for (size_t i = 0; i < conf->count; i++)
		if (conf->lines[i].kind == VSP_CONF_SECTION && !strcmp(conf->lines[i].key, section))
			return true;
	return false;
}

/* Of the section of that disk; NULL, which is no section, without memory. */
static char *section_of(const char *disk)
{
	char *section = NULL;

	return asprintf(&section, DISK_PREFIX "%s", disk) < 0 ? NULL : section;
}

static int set_word(struct vsp_conf *conf, const char *section, char *word, struct hv_err *err)
{
	char *value = strchr(word, '=');

	if (value)
		*value++ = '\0';
	if (value && !*value)
		return vsp_conf_unset(conf, section, word, err);
	return vsp_conf_set(conf, section, word, value, err);
}

int vsp_conf_add_disk(struct vsp_conf *conf, const char *text, struct hv_err *err)
{
	HV_AUTO(free) char *copy = strdup(text), *section = NULL;
	struct vsp_disk_spec spec = { 0 };
	char *rest = copy, *word;
	int rc = copy ? vsp_disk_spec_parse(text, &spec, err) : no_memory(err);

	if (rc == 0 && !*spec.name)
		rc = hv_fail(err, -EINVAL, "\"%s\": the disk has no name: NAME=FILE", text);
	if (rc == 0)
		rc = vsp_name_check("disk", spec.name, err);
	if (rc == 0 && !(section = section_of(spec.name)))
		rc = no_memory(err);
	if (rc == 0 && has_disk(conf, section))
		rc = hv_fail(err, -EEXIST, "there is a disk \"%s\" already", spec.name);
	if (rc == 0)
		rc = vsp_conf_set(conf, section, "file", spec.path, err);
	vsp_disk_spec_word(&rest);
	while (rc == 0 && (word = vsp_disk_spec_word(&rest)))
		rc = set_word(conf, section, word, err);
	vsp_disk_spec_done(&spec);
	return rc;
}

int vsp_conf_remove_disk(struct vsp_conf *conf, const char *name, struct hv_err *err)
{
	HV_AUTO(free) char *section = section_of(name);

	if (!section)
		return no_memory(err);
	if (!has_disk(conf, section))
		return hv_fail(err, -ENOENT, "there is no disk \"%s\"", name);
	vsp_conf_remove_section(conf, section);
	return 0;
}

int vsp_conf_set_option(struct vsp_conf *conf, const char *disk, const char *option,
			struct hv_err *err)
{
	HV_AUTO(free) char *section = disk ? section_of(disk) : strdup("");
	HV_AUTO(free) char *word = strdup(option);

	if (!section || !word)
		return no_memory(err);
	if (disk && !has_disk(conf, section))
		return hv_fail(err, -ENOENT, "there is no disk \"%s\"", disk);
	return set_word(conf, section, word, err);
}
