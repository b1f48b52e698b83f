/*
 * vspctl qemu-args: how to give a VM's disks to QEMU, or to libvirt.
 *
 * Over vhost-user, unless NBD is asked for: then the guest's memory has to be shared, and all of
 * these options, those of memory included, belong together.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vsp-storage/ctl.h"
#include "vsp-storage/ctl_describe.h"

#define RECONNECT_SECONDS 1 /* how often a vspd that is started anew is looked for */
#define NBD_WAIT_SECONDS 60 /* requests wait so long for one */
#define MEMORY_UNIT (1u << 20)
#define MEMORY_DEFAULT (UINT64_C(1) << 30)
#define QUEUES_MAX 64

struct qemu_options {
	struct ctl_common common;
	bool libvirt, nbd;
	uint64_t memory_bytes, queues;
};

struct disk {
	const char *name, *socket, *serial;
	bool read_only, discard;
};

static struct disk disk_of(const struct hv_json *json, bool nbd)
{
	const char *socket = nbd ? "nbd_socket" : "vhost_socket";
	struct disk disk = { .name = hv_json_get_string(json, "name"),
			     .socket = hv_json_get_string(json, socket),
			     .serial = hv_json_get_string(json, "serial") };

	hv_json_get_bool(json, "readonly", &disk.read_only);
	hv_json_get_bool(json, "discard", &disk.discard);
	return disk;
}

/* QEMU. */

__attribute__((format(printf, 3, 4))) static void add(struct hv_json *arguments, const char *option,
						      const char *fmt, ...)
{
	HV_AUTO(free) char *value = NULL;
	va_list list;

	va_start(list, fmt);
	if (vasprintf(&value, fmt, list) < 0)
		value = NULL;
	va_end(list);
	hv_json_add_string(arguments, option);
	hv_json_add_string(arguments, value);
}

static void add_memory(struct hv_json *arguments, uint64_t bytes)
{
	uint64_t mib = bytes / MEMORY_UNIT;

	add(arguments, "-m", "%" PRIu64 "M", mib);
	add(arguments, "-object", "memory-backend-memfd,id=vsp-memory,size=%" PRIu64 "M,share=on",
	    mib);
	add(arguments, "-machine", "memory-backend=vsp-memory");
}

static void add_vhost(struct hv_json *arguments, const struct disk *disk, uint64_t queues)
{
	HV_AUTO(free) char *socket = ctl_doubled(disk->socket);

	add(arguments, "-chardev", "socket,id=vsp-%s,path=%s,reconnect=%d", disk->name, socket,
	    RECONNECT_SECONDS);
	add(arguments, "-device", "vhost-user-blk-pci,id=%s,chardev=vsp-%s,num-queues=%" PRIu64,
	    disk->name, disk->name, queues);
}

/* The names of QEMU's nodes are short, so that they have none of the disk's. */
static void add_nbd(struct hv_json *arguments, const struct disk *disk, size_t index,
		    uint64_t queues)
{
	HV_AUTO(free) char *socket = ctl_doubled(disk->socket);
	HV_AUTO(free) char *serial = ctl_doubled(disk->serial ? disk->serial : "");

	add(arguments, "-blockdev",
	    "driver=nbd,node-name=vsp%zu,server.type=unix,server.path=%s,export=%s,"
	    "reconnect-delay=%d%s%s",
	    index, socket, disk->name, NBD_WAIT_SECONDS, disk->discard ? ",discard=unmap" : "",
	    disk->read_only ? ",read-only=on" : "");
	add(arguments, "-device", "virtio-blk-pci,id=%s,drive=vsp%zu,num-queues=%" PRIu64 "%s%s",
	    disk->name, index, queues, serial && *serial ? ",serial=" : "", serial ? serial : "");
}

/* For a shell: quoted where that is needed. */
static void print_word(const char *word)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789,._/=:@%+-";

	if (!word[strspn(word, plain)]) {
		fputs(word, stdout);
		return;
	}
	putchar('\'');
	for (; *word; word++)
		printf(*word == '\'' ? "'\\''" : "%c", *word);
	putchar('\'');
}

static void print_qemu(const struct hv_json *arguments)
{
	for (size_t i = 0; i + 1 < hv_json_count(arguments); i += 2) {
		printf("%s ", hv_json_string_at(arguments, i));
		print_word(hv_json_string_at(arguments, i + 1));
		putchar('\n');
	}
}

/* libvirt. */

static void print_xml(const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&'\"", *text))
			printf("&#%d;", *text);
		else
			putchar(*text);
	}
}

/* vda ... vdz, vdaa ... */
static void print_target(size_t index)
{
	if (index < 26)
		printf("  <target dev='vd%c' bus='virtio'/>\n", (char)('a' + index));
	else
		printf("  <target dev='vd%c%c' bus='virtio'/>\n", (char)('a' + index / 26 - 1),
		       (char)('a' + index % 26));
}

static void print_libvirt_memory(void)
{
	printf("<memoryBacking>\n"
	       "  <source type='memfd'/>\n"
	       "  <access mode='shared'/>\n"
	       "</memoryBacking>\n");
}

/* The disk itself says whether it is read-only, and what its serial is. */
static void print_libvirt_vhost(const struct disk *disk, size_t index, uint64_t queues)
{
	printf("<disk type='vhostuser' device='disk' snapshot='no'>\n"
	       "  <driver name='qemu' type='raw' queues='%" PRIu64 "'/>\n"
	       "  <source type='unix' path='",
	       queues);
	print_xml(disk->socket);
	printf("'>\n    <reconnect enabled='yes' timeout='%d'/>\n  </source>\n", RECONNECT_SECONDS);
	print_target(index);
	printf("</disk>\n");
}

static void print_libvirt_nbd(const struct disk *disk, size_t index, uint64_t queues)
{
	printf("<disk type='network' device='disk'>\n"
	       "  <driver name='qemu' type='raw' queues='%" PRIu64 "'%s/>\n"
	       "  <source protocol='nbd' name='%s'>\n"
	       "    <host transport='unix' socket='",
	       queues, disk->discard ? " discard='unmap'" : "", disk->name);
	print_xml(disk->socket);
	printf("'/>\n    <reconnect delay='%d'/>\n  </source>\n", NBD_WAIT_SECONDS);
	print_target(index);
	if (disk->read_only)
		printf("  <readonly/>\n");
	if (disk->serial && *disk->serial) {
		printf("  <serial>");
		print_xml(disk->serial);
		printf("</serial>\n");
	}
	printf("</disk>\n");
}

/* The command. */

static int check_served(struct hv_json *disks, bool nbd)
{
	for (size_t i = 0; i < hv_json_count(disks); i++) {
		struct disk disk = disk_of(hv_json_object_at(disks, i), nbd);

		if (!disk.name || !disk.socket)
			return ctl_fail(-1, "disk \"%s\" is not being served",
					disk.name ? disk.name : "");
	}
	return HV_PROGRAM_DONE;
}

static void print_libvirt(const struct qemu_options *options, struct hv_json *disks)
{
	if (!options->nbd)
		print_libvirt_memory();
	for (size_t i = 0; i < hv_json_count(disks); i++) {
		struct disk disk = disk_of(hv_json_object_at(disks, i), options->nbd);

		if (options->nbd)
			print_libvirt_nbd(&disk, i, options->queues);
		else
			print_libvirt_vhost(&disk, i, options->queues);
	}
}

static int print_arguments(const struct qemu_options *options, struct hv_json *disks)
{
	HV_AUTO(hv_json_free) struct hv_json *result = hv_json_object();
	struct hv_json *arguments = hv_json_set_array(result, "arguments");

	if (!options->nbd)
		add_memory(arguments, options->memory_bytes);
	for (size_t i = 0; i < hv_json_count(disks); i++) {
		struct disk disk = disk_of(hv_json_object_at(disks, i), options->nbd);

		if (options->nbd)
			add_nbd(arguments, &disk, i, options->queues);
		else
			add_vhost(arguments, &disk, options->queues);
	}
	if (options->common.json)
		return hv_program_print_json("vspctl", result);
	print_qemu(arguments);
	return HV_PROGRAM_DONE;
}

static int check_options(const struct qemu_options *options)
{
	if (options->libvirt && options->common.json)
		return hv_program_usage("vspctl", "qemu-args", "--libvirt prints XML, not JSON");
	if (!options->queues || options->queues > QUEUES_MAX)
		return hv_program_usage("vspctl", "qemu-args", "--queues takes 1 to %d",
					QUEUES_MAX);
	if (!options->memory_bytes || options->memory_bytes % MEMORY_UNIT)
		return hv_program_usage("vspctl", "qemu-args",
					"--memory takes a multiple of 1M, and not 0");
	return HV_PROGRAM_DONE;
}

static int run_qemu_args(void *arg, int count, char **operands)
{
	const struct qemu_options *options = arg;
	HV_AUTO(hv_json_free) struct hv_json *answer = NULL;
	struct hv_json *result, *disks;
	int status = check_options(options);

	(void)count;
	if (status == HV_PROGRAM_DONE)
		status = ctl_ask(&options->common, ctl_request("vm.show", operands[0], NULL),
				 &answer, &result);
	if (status)
		return status;
	disks = hv_json_get_array(result, "disks");
	status = check_served(disks, options->nbd);
	if (status)
		return status;
	if (!options->libvirt)
		return print_arguments(options, disks);
	print_libvirt(options, disks);
	return HV_PROGRAM_DONE;
}

static const struct hv_option table[] = {
	{ .name = "memory",
	  .letter = 'm',
	  .kind = HV_OPTION_SIZE,
	  .argument = "SIZE",
	  .help = "the VM's memory, which vspd has to share (default: 1G)",
	  .offset = offsetof(struct qemu_options, memory_bytes) },
	{ .name = "queues",
	  .kind = HV_OPTION_NUMBER,
	  .argument = "N",
	  .help = "queues of each disk: best one per processor of the VM (default: 1)",
	  .offset = offsetof(struct qemu_options, queues) },
	{ .name = "nbd",
	  .kind = HV_OPTION_FLAG,
	  .help = "over NBD instead of vhost-user: slower, leaves memory alone",
	  .offset = offsetof(struct qemu_options, nbd) },
	{ .name = "libvirt",
	  .kind = HV_OPTION_FLAG,
	  .help = "as elements of a libvirt domain",
	  .offset = offsetof(struct qemu_options, libvirt) },
	CTL_COMMON_OPTIONS(struct qemu_options),
	{ 0 },
};

static const struct qemu_options defaults = { .memory_bytes = MEMORY_DEFAULT, .queues = 1 };

const struct hv_command ctl_qemu_args = {
	.name = "qemu-args",
	.synopsis = "VM [--memory SIZE] [--queues N] [--nbd] [--libvirt]",
	.help = "print the options by which QEMU gets a VM's disks",
	.details = "qemu-system-x86_64 $(vspctl qemu-args VM --memory 4G) ...",
	.options = table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct qemu_options),
	.defaults = &defaults,
	.run = run_qemu_args,
};
