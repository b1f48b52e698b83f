/*
 * Configuration files that people edit, and that a program changes without disturbing what people
 * wrote: comments, order and spacing stay.
 *
 *	# a comment has a line of its own
 *	key = value
 *
 *	[section]
 *	key = value with spaces, "quotes" and # signs taken as they are
 *	key
 *
 * Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_CONF_H
#define VSP_STORAGE_CONF_H

#include <stdbool.h>
#include <stddef.h>

#include "hvcore/cleanup.h"
#include "hvcore/err.h"

#define VSP_CONF_MAX_BYTES (64u << 10)
#define VSP_CONF_MAX_LINE (PATH_MAX + 256)

enum vsp_conf_kind {
	VSP_CONF_OTHER,   /* empty, or a comment */
	VSP_CONF_SECTION, /* key is its name */
	VSP_CONF_SETTING, /* value is NULL where there is no '=' */
};

struct vsp_conf_line {
	enum vsp_conf_kind kind;
	char *text; /* as it stands in the file */
	char *key, *value;
};

/* Read-only for everybody else; line n of the file is lines[n - 1]. */
struct vsp_conf {
	char *path; /* for sentences */
	struct vsp_conf_line *lines;
	size_t count;
};

/* -EINVAL with "PATH:LINE: reason"; -E2BIG. An empty text is a file without settings. */
int vsp_conf_parse(const char *path, const char *text, size_t length, struct vsp_conf **ret,
		   struct hv_err *err);

/* Likewise; -errno of opening, -EINVAL for what is no regular file. */
int vsp_conf_read(const char *path, struct vsp_conf **ret, struct hv_err *err);

/* At conf->path, atomically: there is the old file or the new one at every instant. */
int vsp_conf_write(const struct vsp_conf *conf, struct hv_err *err);

void vsp_conf_free(struct vsp_conf *conf);
HV_DEFINE_CLEANUP(struct vsp_conf, vsp_conf_free)

/* The whole text; malloc'ed, NULL without memory. */
char *vsp_conf_text(const struct vsp_conf *conf, size_t *length);

/*
 * Changes the setting of that key in a section ("": before the first), or appends it there; a
 * section that is not there is made. value may be NULL. -EINVAL for text that would not be read
 * again as it is.
 */
int vsp_conf_set(struct vsp_conf *conf, const char *section, const char *key, const char *value,
		 struct hv_err *err);

/* Removes a setting. -EINVAL: there is none. */
int vsp_conf_unset(struct vsp_conf *conf, const char *section, const char *key, struct hv_err *err);

/* Removes a section with its settings; comments behind the last of them stay. */
void vsp_conf_remove_section(struct vsp_conf *conf, const char *section);

/* Records "PATH:LINE: " and the cause's sentence. */
int vsp_conf_fail(const struct vsp_conf *conf, size_t line, int code, const struct hv_err *cause,
		  struct hv_err *err);

#endif
