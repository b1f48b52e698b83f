/*
 * vspd: serves disks to virtual machines and NBD clients. This is its command line; direct.h serves
 * what is named there, daemon.h the VMs of the configuration directory.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/log.h"
#include "hvcore/option.h"
#include "vsp-storage/confine.h"
#include "vsp-storage/daemon.h"
#include "vsp-storage/direct.h"
#include "vsp-storage/loops.h"

#define MMAP_FROM (256 << 10)

enum { VSPD_DONE = 0, VSPD_FAILED = 1, VSPD_USAGE = 2 };

struct options {
	const char **disks, **nbd, **vhost_user;
	bool inetd, read_only;
	const char *cache, *discard, *serial, *sector, *format, *parent, *loops, *pidfile, *sandbox;
	const char *config_dir, *runtime_dir, *audit_log;
	uint64_t poll_percent;
	const char *tls_certs, *tls_psk, *tls;
};

static const struct options option_defaults = { .poll_percent = 10 };

static int failed(const struct hv_err *err, int code)
{
	fprintf(stderr, "vspd: %s\n", hv_err_text(err, code));
	return VSPD_FAILED;
}

static int usage(const struct hv_err *err, int code)
{
	failed(err, code);
	fprintf(stderr, "try vspd --help\n");
	return VSPD_USAGE;
}

/* Disks. */

/* What --cache and its like say of all disks, as options of each. */
static int set_defaults(struct vsp_disk_spec *spec, const struct options *options,
			struct hv_err *err)
{
	const struct {
		const char *name, *value;
	} defaults[] = {
		{ "readonly", options->read_only ? "on" : NULL },
		{ "cache", options->cache },
		{ "discard", options->discard },
		{ "serial", options->serial },
		{ "sector", options->sector },
		{ "format", options->format },
		{ "parent", options->parent },
	};
	char option[PATH_MAX + 16];
	int rc = 0;

	spec->device = (struct vsp_device_options)VSP_DEVICE_DEFAULTS;
	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]) && rc == 0; i++) {
		if (!defaults[i].value)
			continue;
		if ((size_t)snprintf(option, sizeof(option), "%s=%s", defaults[i].name,
				     defaults[i].value) >= sizeof(option))
			return hv_fail(err, -ENAMETOOLONG, "--%s: the value is too long",
				       defaults[i].name);
		rc = vsp_disk_spec_set(spec, option, err);
	}
	return rc;
}

static int parse_disks(const struct options *options, struct vsp_disk_spec *specs,
		       struct hv_err *err)
{
	for (size_t i = 0; options->disks[i]; i++) {
		int rc = set_defaults(&specs[i], options, err);

		if (rc == 0)
			rc = vsp_disk_spec_parse(options->disks[i], &specs[i], err);
		if (rc)
			return rc;
	}
	return 0;
}

/* Credentials without a mode are meant to be used. */
static int judge_tls(const struct options *options, struct hv_err *err)
{
	const char *mode = options->tls;

	if (options->tls_certs && options->tls_psk)
		return hv_fail(err, -EINVAL, "--tls-certs and --tls-psk exclude each other");
	if (mode && strcmp(mode, "off") && !options->tls_certs && !options->tls_psk)
		return hv_fail(err, -EINVAL, "--tls=%s needs --tls-certs or --tls-psk", mode);
	return 0;
}

/* Without --disk, the VMs of the configuration directory. */
static int run_daemon(const struct options *options)
{
	struct vsp_daemon_options daemon = { .config_dir = options->config_dir,
					     .runtime_dir = options->runtime_dir,
					     .audit_log = options->audit_log,
					     .pidfile = options->pidfile,
					     .poll_percent = (unsigned)options->poll_percent };
	HV_ERR(err);
	int rc = vsp_loops_parse(options->loops, &daemon.loops, &err);

	if (rc)
		return usage(&err, rc);
	if (options->nbd || options->inetd || options->tls_certs || options->tls_psk)
		return usage(&err, hv_fail(&err, -EINVAL, "no disk: give --disk FILE"));
	rc = vsp_daemon_run(&daemon, &err);
	return rc ? failed(&err, rc) : VSPD_DONE;
}

static int run_direct(const struct options *options, struct vsp_disk_spec *specs, size_t count)
{
	struct vsp_direct_options direct = { .disks = specs,
					     .disk_count = count,
					     .nbd = options->nbd,
					     .vhost_user = options->vhost_user,
					     .inetd = options->inetd,
					     .tls_certs = options->tls_certs,
					     .tls_psk = options->tls_psk,
					     .tls = options->tls,
					     .pidfile = options->pidfile,
					     .poll_percent = (unsigned)options->poll_percent };
	HV_ERR(err);
	int rc = vsp_loops_parse(options->loops, &direct.loops, &err);

	if (rc == 0)
		rc = judge_tls(options, &err);
	if (rc == 0)
		rc = parse_disks(options, specs, &err);
	if (rc)
		return usage(&err, rc);
	rc = vsp_direct_run(&direct, &err);
	return rc ? failed(&err, rc) : VSPD_DONE;
}

static int run(void *arg, int operand_count, char **operands)
{
	const struct options *options = arg;
	struct vsp_disk_spec *specs;
	size_t count = 0;
	int status, rc;
	HV_ERR(err);

	(void)operand_count;
	(void)operands;
	if (options->poll_percent > 100)
		return usage(&err, hv_fail(&err, -EINVAL, "--poll is from 0 to 100 percent"));
	if (!options->sandbox || !strcmp(options->sandbox, "on")) {
		rc = vsp_confine(&err);
		if (rc)
			return failed(&err, rc);
	}
	while (options->disks && options->disks[count])
		count++;
	if (!count)
		return run_daemon(options);
	specs = calloc(count, sizeof(*specs));
	if (!specs)
		return failed(&err, -ENOMEM);
	status = run_direct(options, specs, count);
	for (size_t i = 0; i < count; i++)
		vsp_disk_spec_done(&specs[i]);
	free(specs);
	return status;
}

static const struct hv_option table[] = {
	{ .name = "disk",
	  .letter = 'd',
	  .kind = HV_OPTION_STRINGS,
	  .argument = "[NAME=]FILE[,OPTION...]",
	  .help = "a disk to serve; may be given several times",
	  .offset = offsetof(struct options, disks) },
	{ .name = "nbd",
	  .kind = HV_OPTION_STRINGS,
	  .argument = "ADDRESS",
	  .help = "serve NBD on unix:PATH, tcp:HOST:PORT or - (standard input)",
	  .offset = offsetof(struct options, nbd) },
	{ .name = "vhost-user",
	  .kind = HV_OPTION_STRINGS,
	  .argument = "[NAME=]PATH",
	  .help = "serve a disk to a virtual machine on this Unix socket",
	  .offset = offsetof(struct options, vhost_user) },
	{ .name = "tls",
	  .kind = HV_OPTION_STRING,
	  .argument = "MODE",
	  .choices = "required|on|off",
	  .help = "NBD clients: all have to use TLS, those of Unix sockets may, or none can",
	  .offset = offsetof(struct options, tls) },
	{ .name = "tls-certs",
	  .kind = HV_OPTION_STRING,
	  .argument = "DIR",
	  .help = "certificates for TLS: ca-cert.pem, server-cert.pem, server-key.pem",
	  .offset = offsetof(struct options, tls_certs) },
	{ .name = "tls-psk",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "pre-shared keys for TLS, lines USER:KEY",
	  .offset = offsetof(struct options, tls_psk) },
	{ .name = "inetd",
	  .kind = HV_OPTION_FLAG,
	  .help = "serve one NBD client on standard input, then end",
	  .offset = offsetof(struct options, inetd) },
	{ .name = "read-only",
	  .letter = 'r',
	  .kind = HV_OPTION_FLAG,
	  .help = "open disks read-only",
	  .offset = offsetof(struct options, read_only) },
	{ .name = "cache",
	  .kind = HV_OPTION_STRING,
	  .argument = "MODE",
	  .choices = "none|writeback|unsafe",
	  .help = "bypass the page cache (default), use it, or ignore flushes, too",
	  .offset = offsetof(struct options, cache) },
	{ .name = "discard",
	  .kind = HV_OPTION_STRING,
	  .argument = "on|off",
	  .choices = "on|off",
	  .help = "give back space that clients discard (default: on)",
	  .offset = offsetof(struct options, discard) },
	{ .name = "serial",
	  .kind = HV_OPTION_STRING,
	  .argument = "TEXT",
	  .help = "serial number, up to 20 characters",
	  .offset = offsetof(struct options, serial) },
	{ .name = "sector-size",
	  .kind = HV_OPTION_STRING,
	  .argument = "N",
	  .choices = "512|4096",
	  .help = "logical sector size shown to guests (default: 512)",
	  .offset = offsetof(struct options, sector) },
	{ .name = "format",
	  .kind = HV_OPTION_STRING,
	  .argument = "FMT",
	  .choices = "raw|vhd",
	  .help = "format of the disks (default: found by looking)",
	  .offset = offsetof(struct options, format) },
	{ .name = "parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "where the parent of a differencing disk is",
	  .offset = offsetof(struct options, parent) },
	{ .name = "loops",
	  .kind = HV_OPTION_STRING,
	  .argument = "N",
	  .help = "threads that do I/O (default: one for each processor)",
	  .offset = offsetof(struct options, loops) },
	{ .name = "config-dir",
	  .kind = HV_OPTION_STRING,
	  .argument = "DIR",
	  .help = "without --disk: serve the VMs of DIR/vms/NAME.conf",
	  .offset = offsetof(struct options, config_dir) },
	{ .name = "runtime-dir",
	  .kind = HV_OPTION_STRING,
	  .argument = "DIR",
	  .help = "likewise: where sockets are",
	  .offset = offsetof(struct options, runtime_dir) },
	{ .name = "audit-log",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "likewise: where changes are recorded",
	  .offset = offsetof(struct options, audit_log) },
	{ .name = "poll",
	  .kind = HV_OPTION_NUMBER,
	  .argument = "PERCENT",
	  .help = "of a processor, to look for requests before sleeping (default: 10)",
	  .offset = offsetof(struct options, poll_percent) },
	{ .name = "sandbox",
	  .kind = HV_OPTION_STRING,
	  .argument = "on|off",
	  .choices = "on|off",
	  .help = "do without privileges and system calls that are not needed (default: on)",
	  .offset = offsetof(struct options, sandbox) },
	{ .name = "pidfile",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "write the process id there once clients can connect",
	  .offset = offsetof(struct options, pidfile) },
	{ 0 },
};

static const struct hv_command command = {
	.name = "vspd",
	.synopsis = "--disk [NAME=]FILE[,OPTION...] [--vhost-user PATH] [--nbd ADDRESS] [OPTIONS]",
	.help = "serves virtual disks",
	.details =
		"Options of one disk stand after its file, with commas: readonly, cache=MODE,\n"
		"discard=on|off, serial=TEXT, sector=N, format=FMT, parent=FILE, on-error=report|stop, ...\n"
		"SIGTERM and SIGINT end it cleanly.",
	.options = table,
	.options_size = sizeof(struct options),
	.run = run,
	.defaults = &option_defaults,
};

static const struct hv_program program = {
	.name = "vspd",
	.summary = "serves virtual disks",
	.version = HVKIT_VERSION,
	.command = &command,
};

int main(int argc, char **argv)
{
	hv_log_set_level(HV_LOG_WARN);
	/* What clients made us allocate goes back to the system when they have gone. */
	mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
	return hv_program_run(&program, argc, argv);
}
