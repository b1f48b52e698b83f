/*
 * See checking.h.
 */
#include "tests/fuzz/harness/checking.h"

#include <errno.h>
#include <string.h>

#include "tests/fuzz/harness/fuzz.h"
#include "vhd/vhd.h"

struct counting {
	struct checked *checked;
	unsigned notes, leaks, errors, repaired, repairable;
};

static void add_error(struct checked *checked, const char *code)
{
	if (checking_has_error(checked, code))
		return;
	fuzz_assert(checked->error_codes < sizeof(checked->errors) / sizeof(checked->errors[0]),
		    "more codes than there are");
	checked->errors[checked->error_codes++] = code;
}

static void found(const struct vhd_finding *finding, void *arg)
{
	struct counting *counting = arg;
	size_t length = strlen(finding->sentence);

	fuzz_assert(length && !strchr(finding->sentence, '\n') &&
			    finding->sentence[length - 1] != '.' &&
			    length < sizeof(finding->sentence) - 1,
		    "%s: not one sentence: '%s'", finding->code, finding->sentence);
	fuzz_assert(finding->repairable || !finding->repaired, "%s: repaired, but not repairable",
		    finding->code);
	counting->repairable += finding->repairable;
	if (finding->repaired) {
		counting->repaired++;
		return;
	}
	counting->notes += finding->severity == VHD_NOTE;
	counting->leaks += finding->severity == VHD_LEAK;
	counting->errors += finding->severity == VHD_ERROR;
	if (finding->severity == VHD_ERROR)
		add_error(counting->checked, finding->code);
}

static void judge_counts(const struct counting *counting)
{
	const struct vhd_check_result *result = &counting->checked->result;

	fuzz_assert(counting->notes + counting->leaks + counting->errors + counting->repaired +
					    result->untold ==
				    result->notes + result->leaks + result->errors +
					    result->repaired &&
			    counting->notes <= result->notes && counting->leaks <= result->leaks &&
			    counting->errors <= result->errors,
		    "%u notes, %u leaks and %u errors were told, %u, %u and %u are counted",
		    counting->notes, counting->leaks, counting->errors, result->notes,
		    result->leaks, result->errors);
	fuzz_assert((counting->repaired == result->repaired &&
		     counting->repairable == result->repairable) ||
			    (result->untold && counting->repaired <= result->repaired &&
			     counting->repairable <= result->repairable),
		    "%u of %u were repaired, %u of %u are counted", counting->repaired,
		    counting->repairable, result->repaired, result->repairable);
}

void checking_run(struct sparse *sparse, const char *undo_path, struct checked *ret)
{
	struct counting counting = { .checked = ret };
	struct vhd_check_options options = { .repair = undo_path != NULL,
					     .data = true,
					     .undo_path = undo_path,
					     .found = found,
					     .arg = &counting };
	HV_ERR(err);

	*ret = (struct checked){ 0 };
	ret->rc = vhd_check(sparse_file(sparse), &options, &ret->result, &err);
	if (ret->rc == 0) {
		judge_counts(&counting);
		return;
	}
	fuzz_judge_failure("vhd_check", ret->rc, &err);
	fuzz_assert(ret->rc == -EINVAL || ret->rc == -ENOTSUP, "vhd_check failed with %d: %s",
		    ret->rc, err.sentence);
}

bool checking_has_error(const struct checked *checked, const char *code)
{
	for (unsigned i = 0; i < checked->error_codes; i++)
		if (!strcmp(checked->errors[i], code))
			return true;
	return false;
}

const char *checking_new_error(const struct checked *earlier, const struct checked *later)
{
	for (unsigned i = 0; i < later->error_codes; i++)
		if (!checking_has_error(earlier, later->errors[i]))
			return later->errors[i];
	return NULL;
}

const char *checking_forbids_writing(const struct checked *checked)
{
	static const char *const codes[] = {
		"header-offset",     "header-cookie",  "header-checksum",  "header-version",
		"header-block-size", "header-entries", "bat-offset",       "bat-outside",
		"bat-metadata",      "bat-overlap",    "bat-duplicate",    "xen-encrypted",
		"xen-poison",        "bat-truncated",  "xen-bitmap-order",
	};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (checking_has_error(checked, codes[i]))
			return codes[i];
	return NULL;
}
