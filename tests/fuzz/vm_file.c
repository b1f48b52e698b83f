/*
 * Fuzz target: definitions of VMs. The input is the text of the file. What was read is written
 * again as it was; what is changed in it can be read again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/harness/fuzz.h"
#include "vsp-storage/vm_file.h"

static struct vsp_conf *parse(const char *text, size_t length, struct hv_err *err)
{
	struct vsp_conf *conf = NULL;
	int rc = vsp_conf_parse("vm", text, length, &conf, err);

	fuzz_assert(!rc == !!conf, "vsp_conf_parse: %d", rc);
	fuzz_assert(rc == 0 || rc == -EINVAL || rc == -E2BIG, "vsp_conf_parse: %d", rc);
	fuzz_assert(rc == 0 || !strncmp(err->sentence, "vm:", 3), "'%s'", err->sentence);
	return conf;
}

/* The text, parsed once more. */
static struct vsp_conf *again(const struct vsp_conf *conf)
{
	HV_ERR(err);
	size_t length;
	char *text = vsp_conf_text(conf, &length);
	struct vsp_conf *ret = parse(text, length, &err);

	fuzz_assert(ret || length > VSP_CONF_MAX_BYTES, "not read again: %s", err.sentence);
	free(text);
	return ret;
}

static void change(struct vsp_conf *conf)
{
	struct vsp_conf *copy = again(conf);
	struct vsp_vm_file *file;
	HV_ERR(err);
	int rc;

	if (!copy)
		return;
	rc = vsp_conf_add_disk(copy, "fuzz=/fuzz,iops=7", &err);
	fuzz_assert(rc == 0 || rc == -EEXIST, "adding a disk: %s", err.sentence);
	if (rc || vsp_vm_file_new(hv_steal(copy), &file, &err)) {
		fuzz_assert(rc || !strncmp(err.sentence, "vm:", 3) || err.code == -E2BIG, "'%s'",
			    err.sentence);
		vsp_conf_free(copy);
		return;
	}
	fuzz_assert(vsp_vm_file_disk(file, "fuzz")->limits.iops == 7, "the disk is another");
	vsp_vm_file_free(file);
}

static void run(const uint8_t *data, size_t size)
{
	HV_ERR(err);
	struct vsp_conf *conf = parse((const char *)data, size, &err), *copy;
	struct vsp_vm_file *file = NULL;

	if (!conf)
		return;
	change(conf);
	copy = again(conf);
	vsp_conf_free(conf);
	if (copy && vsp_vm_file_new(copy, &file, &err))
		fuzz_assert(err.code == -EINVAL, "'%s'", err.sentence);
	vsp_vm_file_free(file);
}

const struct fuzz_target fuzz_target = { .run = run };
