/*
 * vspctl qemu-args: how to give a VM's disks to QEMU, or to libvirt.
 */
#include <stddef.h>
#include <string.h>

#include "vsp-storage/ctl.h"

#define RECONNECT_SECONDS 60 /* requests wait so long for a vspd that is started anew */

struct qemu_options {
	struct ctl_common common;
	bool libvirt;
};

struct disk {
	const char *name, *socket, *serial;
	bool read_only, discard;
};

static struct disk disk_of(const struct hv_json *json)
{
	struct disk disk = { .name = hv_json_get_string(json, "name"),
			     .socket = hv_json_get_string(json, "nbd_socket"),
			     .serial = hv_json_get_string(json, "serial") };

	hv_json_get_bool(json, "readonly", &disk.read_only);
	hv_json_get_bool(json, "discard", &disk.discard);
	return disk;
}

/* In a list of QEMU's, a comma is written twice. */
static void print_value(const char *text)
{
	for (; *text; text++)
		printf(*text == ',' ? ",," : "%c", *text);
}

static void print_qemu(const struct disk *disk)
{
	printf("-blockdev driver=nbd,node-name=%s,server.type=unix,server.path=", disk->name);
	print_value(disk->socket);
	printf(",export=%s,reconnect-delay=%d%s%s\n", disk->name, RECONNECT_SECONDS,
	       disk->discard ? ",discard=unmap" : "", disk->read_only ? ",read-only=on" : "");
	printf("-device virtio-blk-pci,drive=%s", disk->name);
	if (disk->serial && *disk->serial) {
		printf(",serial=");
		print_value(disk->serial);
	}
	putchar('\n');
}

static void print_xml(const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&'\"", *text))
			printf("&#%d;", *text);
		else
			putchar(*text);
	}
}

static void print_libvirt(const struct disk *disk, size_t index)
{
	printf("<disk type='network' device='disk'>\n"
	       "  <driver name='qemu' type='raw'%s/>\n"
	       "  <source protocol='nbd' name='%s'>\n"
	       "    <host transport='unix' socket='",
	       disk->discard ? " discard='unmap'" : "", disk->name);
	print_xml(disk->socket);
	printf("'/>\n    <reconnect delay='%d'/>\n  </source>\n", RECONNECT_SECONDS);
	/* vda ... vdz, vdaa ... */
	if (index < 26)
		printf("  <target dev='vd%c' bus='virtio'/>\n", (char)('a' + index));
	else
		printf("  <target dev='vd%c%c' bus='virtio'/>\n", (char)('a' + index / 26 - 1),
		       (char)('a' + index % 26));
	if (disk->serial && *disk->serial) {
		printf("  <serial>");
		print_xml(disk->serial);
		printf("</serial>\n");
	}
	printf("%s</disk>\n", disk->read_only ? "  <readonly/>\n" : "");
}

static int print_disks(const struct qemu_options *options, struct hv_json *vm)
{
	struct hv_json *disks = hv_json_get_array(vm, "disks");
	int status = HV_PROGRAM_DONE;

	for (size_t i = 0; i < hv_json_count(disks); i++) {
		struct disk disk = disk_of(hv_json_object_at(disks, i));

		if (!disk.name || !disk.socket)
			status = ctl_fail(-1, "disk \"%s\" is not being served",
					  disk.name ? disk.name : "");
		else if (options->libvirt)
			print_libvirt(&disk, i);
		else
			print_qemu(&disk);
	}
	return status;
}

static int run_qemu_args(void *arg, int count, char **operands)
{
	const struct qemu_options *options = arg;
	HV_AUTO(hv_json_free) struct hv_json *answer = NULL;
	struct hv_json *result;
	int status = ctl_ask(&options->common, ctl_request("vm.show", operands[0], NULL), &answer,
			     &result);

	(void)count;
	if (status)
		return status;
	if (options->common.json)
		return hv_program_print_json("vspctl", result);
	return print_disks(options, result);
}

static const struct hv_option table[] = {
	{ .name = "libvirt",
	  .kind = HV_OPTION_FLAG,
	  .help = "as elements of a libvirt domain",
	  .offset = offsetof(struct qemu_options, libvirt) },
	CTL_COMMON_OPTIONS(struct qemu_options),
	{ 0 },
};

const struct hv_command ctl_qemu_args = {
	.name = "qemu-args",
	.synopsis = "VM [--libvirt]",
	.help = "print the options by which QEMU gets a VM's disks",
	.options = table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct qemu_options),
	.run = run_qemu_args,
};
