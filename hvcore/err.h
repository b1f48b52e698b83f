/*
 * The error sentence. Functions return 0 (or a count) or -errno; those that read untrusted bytes
 * or touch files take a last argument `struct hv_err *err`, which may be NULL, and record one
 * sentence where the fault is first seen: lower case, no full stop, paths and values quoted.
 *
 * -EBADMSG corrupt; -ENOTSUP valid but not ours; -EINVAL the caller's mistake; -ESTALE the parent
 * changed; -EBUSY in use elsewhere; -EROFS; -EOVERFLOW a number that does not fit.
 */
#ifndef HVCORE_ERR_H
#define HVCORE_ERR_H

#include <limits.h>

#include "hvcore/cleanup.h"

/* Room for a sentence that names two paths of any length. */
#define HV_ERR_MAX (2 * PATH_MAX + 512)

struct hv_err {
	int code; /* -errno of the recorded sentence, 0 when there is none */
	char sentence[HV_ERR_MAX];
};

/* Starts empty without touching the whole buffer. */
#define HV_ERR(name)        \
	struct hv_err name; \
	hv_err_clear(&name)

static inline void hv_err_clear(struct hv_err *err)
{
	err->code = 0;
	err->sentence[0] = '\0';
}

/* Records a sentence, unless one is there already, and returns code (a negative errno). */
int hv_fail(struct hv_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, with ": " and the system's words for code appended. */
int hv_fail_errno(struct hv_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* clang's analyzer does not look into err.c, and would follow paths on which a failure is none. */
#ifdef __clang_analyzer__
#define hv_fail(err, code, ...) ((void)(hv_fail)(err, code, __VA_ARGS__), (code))
#define hv_fail_errno(err, code, ...) ((void)(hv_fail_errno)(err, code, __VA_ARGS__), (code))
#endif

/* The recorded sentence, or the system's words for code where nobody recorded one. */
const char *hv_err_text(const struct hv_err *err, int code);

#endif
