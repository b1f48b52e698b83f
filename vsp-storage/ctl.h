/*
 * What the commands of vspctl share: asking vspd, and showing what it says. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_CTL_H
#define VSP_STORAGE_CTL_H

#include "hvcore/json.h"
#include "hvcore/option.h"
#include "hvcore/program.h"

/* The first member of every command's options. */
struct ctl_common {
	const char *socket;
	bool json;
};

#define CTL_COMMON_OPTIONS(type)                                                         \
	{ .name = "json",                                                                \
	  .kind = HV_OPTION_FLAG,                                                        \
	  .help = "print the answer as JSON",                                            \
	  .offset = offsetof(type, common.json) },                                       \
	{                                                                                \
		.name = "socket", .kind = HV_OPTION_STRING, .argument = "PATH",          \
		.help = "vspd's control socket", .offset = offsetof(type, common.socket) \
	}

/* For commands without options of their own. */
struct ctl_plain_options {
	struct ctl_common common;
};
extern const struct hv_option ctl_plain_options[];

/*
 * Sends the request, which is taken over, and waits for the answer: its result (an object) in *ret.
 * An exit status; what is wrong has been said then.
 */
int ctl_ask(const struct ctl_common *common, struct hv_json *request, struct hv_json **answer,
	    struct hv_json **result);

/* The same for what needs no answer but done: prints the result with --json, nothing without. */
int ctl_do(const struct ctl_common *common, struct hv_json *request);

/* {"command": command}, with "vm" and "disk" where they are not NULL. */
struct hv_json *ctl_request(const char *command, const char *vm, const char *disk);

/* Sends the request, and prints every line of what comes until vspd ends. */
int ctl_listen(const struct ctl_common *common, struct hv_json *request,
	       void (*print)(struct hv_json *line));

/* Text of a member made harmless for terminals, "-" where there is none; malloc'ed. */
char *ctl_text(const struct hv_json *object, const char *key);

/* "512 B", "-" where there is none. */
const char *ctl_size(const struct hv_json *object, const char *key, char text[24]);

int ctl_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

extern const struct hv_command ctl_vm_add, ctl_vm_list, ctl_vm_show, ctl_vm_remove, ctl_vm_set;
extern const struct hv_command ctl_disk_attach, ctl_disk_detach, ctl_disk_resize, ctl_disk_set,
	ctl_disk_resume;
extern const struct hv_command ctl_stats, ctl_requests, ctl_qemu_args, ctl_drain, ctl_events,
	ctl_reload, ctl_shutdown;

#endif
