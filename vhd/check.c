/*
 * Checking a VHD file: the codes of all findings, and the order of the steps. Each step reports
 * what it sees and leaves to the next what can be believed, so that one damaged part hides as
 * little as possible of the others.
 */
#include "vhd/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "vhd/check_internal.h"

static const struct {
	const char *name;
	enum vhd_severity severity;
} codes[CHECK_CODES] = {
	[FOOTER_MISSING] = { "footer-missing", VHD_ERROR },
	[FOOTER_CHECKSUM] = { "footer-checksum", VHD_ERROR },
	[FOOTER_COOKIE] = { "footer-cookie", VHD_ERROR },
	[FOOTER_511] = { "footer-511", VHD_NOTE },
	[FOOTER_DIFFERS] = { "footer-differs", VHD_ERROR },
	[FOOTER_VERSION] = { "footer-version", VHD_ERROR },
	[FOOTER_TYPE] = { "footer-type", VHD_ERROR },
	[FOOTER_FEATURES] = { "footer-features", VHD_NOTE },
	[FOOTER_RESERVED] = { "footer-reserved", VHD_NOTE },
	[FOOTER_SIZE] = { "footer-size", VHD_ERROR },
	[FOOTER_OPEN] = { "footer-open", VHD_ERROR },
	[COPY_MISSING] = { "copy-missing", VHD_ERROR },
	[COPY_CHECKSUM] = { "copy-checksum", VHD_ERROR },
	[UUID_NULL] = { "uuid-null", VHD_NOTE },
	[SAVED_STATE] = { "saved-state", VHD_NOTE },
	[HEADER_OFFSET] = { "header-offset", VHD_ERROR },
	[HEADER_COOKIE] = { "header-cookie", VHD_ERROR },
	[HEADER_CHECKSUM] = { "header-checksum", VHD_ERROR },
	[HEADER_VERSION] = { "header-version", VHD_ERROR },
	[HEADER_BLOCK_SIZE] = { "header-block-size", VHD_ERROR },
	[HEADER_ENTRIES] = { "header-entries", VHD_ERROR },
	[HEADER_NEXT] = { "header-next", VHD_NOTE },
	[HEADER_DERIVED] = { "header-derived", VHD_NOTE },
	[BAT_OFFSET] = { "bat-offset", VHD_ERROR },
	[BAT_TRUNCATED] = { "bat-truncated", VHD_ERROR },
	[BAT_OUTSIDE] = { "bat-outside", VHD_ERROR },
	[BAT_METADATA] = { "bat-metadata", VHD_ERROR },
	[BAT_OVERLAP] = { "bat-overlap", VHD_ERROR },
	[BAT_DUPLICATE] = { "bat-duplicate", VHD_ERROR },
	[BLOCK_TRUNCATED] = { "block-truncated", VHD_ERROR },
	[BLOCK_SHORT] = { "block-short", VHD_NOTE },
	[BLOCK_MISALIGNED] = { "block-misaligned", VHD_NOTE },
	[BITMAP_DATA] = { "bitmap-data", VHD_ERROR },
	[BAT_SCAN] = { "bat-scan", VHD_NOTE },
	[BLOCK_FOUND] = { "block-found", VHD_NOTE },
	[BLOCK_LOST] = { "block-lost", VHD_ERROR },
	[BLOCK_UNUSED] = { "block-unused", VHD_NOTE },
	[BLOCK_AMBIGUOUS] = { "block-ambiguous", VHD_NOTE },
	[BLOCK_UNCLAIMED] = { "block-unclaimed", VHD_LEAK },
	[LEAK_GAP] = { "leak-gap", VHD_LEAK },
	[LEAK_TAIL] = { "leak-tail", VHD_LEAK },
	[LOCATOR_RANGE] = { "locator-range", VHD_ERROR },
	[LOCATOR_TEXT] = { "locator-text", VHD_ERROR },
	[LOCATOR_CODE] = { "locator-code", VHD_NOTE },
	[PARENT_UUID_NULL] = { "parent-uuid-null", VHD_ERROR },
	[PARENT_NAME_EMPTY] = { "parent-name-empty", VHD_NOTE },
	[XEN_BATMAP] = { "xen-batmap", VHD_ERROR },
	[XEN_ENCRYPTED] = { "xen-encrypted", VHD_ERROR },
	[XEN_POISON] = { "xen-poison", VHD_ERROR },
	[XEN_BITMAP_ORDER] = { "xen-bitmap-order", VHD_ERROR },
	[SIZE_GEOMETRY] = { "size-geometry", VHD_NOTE },
	[HOST_SPARSE] = { "host-sparse", VHD_NOTE },
};

static unsigned *counter(struct check *check, enum vhd_severity severity)
{
	switch (severity) {
	case VHD_NOTE:
		return &check->result.notes;
	case VHD_LEAK:
		return &check->result.leaks;
	default:
		return &check->result.errors;
	}
}

static struct check_finding *new_finding(struct check *check)
{
	if (check->finding_count == check->finding_limit) {
		size_t limit = check->finding_limit ? 2 * check->finding_limit : 16;
		void *findings = realloc(check->findings, limit * sizeof(*check->findings));

		if (!findings) {
			check->no_memory = true;
			return NULL;
		}
		check->findings = findings;
		check->finding_limit = limit;
	}
	return &check->findings[check->finding_count++];
}

static void __attribute__((format(printf, 6, 0)))
record(struct check *check, enum vhd_severity severity, enum check_code code, uint64_t offset,
       int64_t block, const char *fmt, va_list ap)
{
	struct check_finding *finding;

	(*counter(check, severity))++;
	check->last = NULL;
	if (check->counts[code]++ >= VHD_CHECK_MAX_TOLD) {
		check->result.untold++;
		return;
	}
	finding = new_finding(check);
	if (!finding)
		return;
	check->last = finding;
	finding->code = code;
	finding->told = (struct vhd_finding){
		.code = codes[code].name,
		.severity = severity,
		.offset = offset,
		.block = block,
	};
	vsnprintf(finding->told.sentence, sizeof(finding->told.sentence), fmt, ap);
}

void vhd_check_report(struct check *check, enum check_code code, uint64_t offset, int64_t block,
		      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record(check, codes[code].severity, code, offset, block, fmt, ap);
	va_end(ap);
}

void vhd_check_report_as(struct check *check, enum vhd_severity severity, enum check_code code,
			 uint64_t offset, int64_t block, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record(check, severity, code, offset, block, fmt, ap);
	va_end(ap);
}

void vhd_check_report_range(struct check *check, uint64_t start, uint64_t length)
{
	if (!check->last)
		return;
	check->last->told.disk_offset = start;
	check->last->told.disk_length = length;
}

bool vhd_check_found_any(const struct check *check, enum check_code first, enum check_code last)
{
	for (enum check_code code = first; code <= last; code++) {
		if (check->counts[code])
			return true;
	}
	return false;
}

/* Windows refuses to attach a VHD whose file is sparse (0xC03A001A). */
static void check_host(struct check *check)
{
	struct stat st;

	if (check->file->block_device || hv_file_stat(check->file, &st))
		return;
	if ((uint64_t)st.st_blocks * 512 >= check->file->size_bytes)
		return;
	vhd_check_report(
		check, HOST_SPARSE, HV_NO_HOST_OFFSET, -1,
		"the file is sparse (%llu of %llu bytes are allocated), and Windows does not attach a sparse VHD",
		(unsigned long long)st.st_blocks * 512,
		(unsigned long long)check->file->size_bytes);
}

/* What another version or type of disk means by its header, nobody knows. */
static bool has_header(const struct vhd_footer *footer)
{
	return footer->version >> 16 == VHD_VERSION >> 16 &&
	       (footer->type == VHD_DYNAMIC || footer->type == VHD_DIFFERENCING);
}

static int look(struct check *check, struct hv_err *err)
{
	int rc = vhd_check_footers(check, err);

	if (rc || !check->footer)
		return rc;
	if (has_header(check->footer)) {
		rc = vhd_check_header(check, err);
		if (rc == 0)
			rc = vhd_check_locators(check, err);
		if (rc == 0)
			rc = vhd_check_bat(check, err);
		if (rc == 0)
			rc = vhd_check_data(check, err);
		if (rc == 0)
			rc = vhd_check_salvage(check, err);
	}
	check_host(check);
	return rc;
}

/* A finding about an entry of the BAT is gone when nothing is wrong with the new one. */
static bool is_mended(const struct check *check, const struct check_finding *finding)
{
	if (finding->code < BAT_OUTSIDE || finding->code > BAT_DUPLICATE)
		return check->plan.mends[finding->code];
	return check->plan.bat && !hv_bit_get(check->plan.bad, (size_t)finding->told.block);
}

/* Findings about entries that are too many to be told count all the same. */
static void settle_untold(struct check *check, bool repaired)
{
	struct vhd_check_result *result = &check->result;

	for (uint32_t block = 0; block < check->layout.block_count; block++) {
		unsigned count = check->untold[block];

		if (hv_bit_get(check->plan.bad, block))
			continue;
		result->repairable += count;
		if (!repaired)
			continue;
		result->repaired += count;
		result->errors -= count;
	}
}

/* Findings that repair is good for; those that it has mended are counted apart. */
static void settle(struct check *check, bool repaired)
{
	struct vhd_check_result *result = &check->result;

	if (check->untold && check->plan.bat)
		settle_untold(check, repaired);
	for (size_t i = 0; i < check->finding_count; i++) {
		struct check_finding *finding = &check->findings[i];

		finding->told.repairable = is_mended(check, finding);
		if (!finding->told.repairable)
			continue;
		result->repairable++;
		if (!repaired)
			continue;
		finding->told.repaired = true;
		result->repaired++;
		(*counter(check, finding->told.severity))--;
		if (finding->code == LEAK_TAIL)
			result->leaked_bytes -= check->tail_bytes;
	}
}

static void tell(const struct check *check)
{
	if (!check->options->found)
		return;
	for (size_t i = 0; i < check->finding_count; i++)
		check->options->found(&check->findings[i].told, check->options->arg);
}

static void check_done(struct check *check)
{
	free(check->findings);
	free(check->header.parent_name);
	free(check->bat);
	free(check->bad);
	free(check->untold);
	free(check->batmap);
	free(check->plan.bat);
	free(check->plan.bad);
	free(check);
}
HV_DEFINE_CLEANUP(struct check, check_done)

int vhd_check(struct hv_file *file, const struct vhd_check_options *options,
	      struct vhd_check_result *ret, struct hv_err *err)
{
	HV_AUTO(check_done) struct check *check = calloc(1, sizeof(*check));
	int rc;

	if (!check)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	check->file = file;
	check->options = options;
	check->cut = -1;
	if (options->repair && (!file->writable || !options->undo_path))
		return hv_fail(err, -EINVAL,
			       "%s: repair needs the file open for writing and an undo file",
			       file->path);
	rc = look(check, err);
	if (rc == 0 && check->no_memory)
		rc = hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	if (rc)
		return rc;
	vhd_check_plan_repair(check);
	if (options->repair)
		rc = vhd_check_repair(check, err);
	settle(check, options->repair && rc == 0);
	tell(check);
	*ret = check->result;
	return rc;
}
