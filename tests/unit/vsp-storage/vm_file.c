/*
 * Definitions of VMs: what people write, and what programs make of it.
 */
#include "vsp-storage/vm_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct vsp_conf *conf_of(const char *text)
{
	struct vsp_conf *conf;
	HV_ERR(err);

	cr_assert_eq(vsp_conf_parse("web.conf", text, strlen(text), &conf, &err), 0, "%s",
		     err.sentence);
	return conf;
}

static struct vsp_vm_file *file_of(const char *text)
{
	struct vsp_vm_file *file;
	HV_ERR(err);

	cr_assert_eq(vsp_vm_file_new(conf_of(text), &file, &err), 0, "%s", err.sentence);
	return file;
}

static void assert_refused(const char *text, const char *sentence)
{
	struct vsp_conf *conf;
	struct vsp_vm_file *file;
	HV_ERR(err);
	int rc = vsp_conf_parse("web.conf", text, strlen(text), &conf, &err);

	if (rc == 0)
		rc = vsp_vm_file_new(conf, &file, &err);
	cr_assert_eq(rc, -EINVAL);
	cr_assert_str_eq(err.sentence, sentence);
}

static void assert_text(const struct vsp_conf *conf, const char *expected)
{
	size_t length;
	char *text = vsp_conf_text(conf, &length);

	cr_assert_str_eq(text, expected);
	cr_assert_eq(length, strlen(expected));
	free(text);
}

Test(vm_file, tells_disks_and_limits)
{
	struct vsp_vm_file *file = file_of("# the web server\n"
					   "iops = 5000\n"
					   "bandwidth=100M\n"
					   "socket-group = kvm\n"
					   "\n"
					   "[disk system]\n"
					   "  file = /vms/my, own # disk.vhd  \n"
					   "\treadonly\n"
					   "[disk data]\n"
					   "cache = writeback\n"
					   "file=/vms/data.vhd\n"
					   "iops = 20\n"
					   "iops-burst = 40");

	cr_assert_eq(file->disk_count, 2);
	cr_assert_eq(file->limits.iops, 5000);
	cr_assert_eq(file->limits.bandwidth, 100 << 20);
	cr_assert_str_eq(file->socket_group, "kvm");
	cr_assert_str_eq(file->disks[0].name, "system");
	cr_assert_str_eq(file->disks[0].path, "/vms/my, own # disk.vhd");
	cr_assert(file->disks[0].device.read_only);
	cr_assert(file->disks[0].device.discard);
	cr_assert_eq(vsp_vm_file_disk(file, "data"), &file->disks[1]);
	cr_assert_eq(file->disks[1].device.cache, VSP_CACHE_WRITEBACK);
	cr_assert_eq(file->disks[1].limits.iops_burst, 40);
	cr_assert_null(vsp_vm_file_disk(file, "swap"));
	vsp_vm_file_free(file);
}

Test(vm_file, an_empty_one_is_a_vm_without_disks)
{
	struct vsp_vm_file *file = file_of("");

	cr_assert_eq(file->disk_count, 0);
	vsp_vm_file_free(file);
}

Test(vm_file, faults_are_told_with_line_and_reason)
{
	assert_refused("speed = 7\n", "web.conf:1: \"speed\" is no setting of a VM");
	assert_refused("\n\niops = many\n", "web.conf:3: \"iops=many\": iops takes a number");
	assert_refused("iops\n", "web.conf:1: \"iops\": a value is missing");
	assert_refused("iops =\n", "web.conf:1: \"iops\": a value is missing");
	assert_refused("iops = 1\niops = 2\n", "web.conf:2: \"iops\" is set twice");
	assert_refused("a disk = b\n", "web.conf:1: \"a disk = b\" is no setting: KEY = VALUE");
	assert_refused("[disk a]\n", "web.conf:1: the disk \"a\" has no file");
	assert_refused("[disk a]\nfile = a.vhd\n",
		       "web.conf:2: \"a.vhd\": a path that begins with '/' is wanted");
	assert_refused("[disk a]\nfile = /a\nparent = b\n",
		       "web.conf:3: \"b\": a path that begins with '/' is wanted");
	assert_refused("[disk a]\nfile = /a\n[disk a]\nfile = /b\n",
		       "web.conf:3: there are two disks of the name \"a\"");
	assert_refused("[disk a]\nfile = /a\ncolour = red\n",
		       "web.conf:3: \"colour\" is no option of a disk");
	assert_refused("[disc a]\n", "web.conf:1: \"[disc a]\" is no section of a VM: [disk NAME]");
	assert_refused("[disk\n", "web.conf:1: \"[disk\" is no section: [NAME]");
	assert_refused("[disk ../a]\n", "web.conf:1: \"../a\" is no name of a disk: letters, "
					"digits, '.', '_', '-', at most 64");
	assert_refused("iops = 1\r\n", "web.conf:1: there is a control character (13)");
}

Test(vm_file, the_last_section_is_looked_at_too)
{
	assert_refused("[disk a]\nfile = /a\n[disk b]\n# nothing\n",
		       "web.conf:4: the disk \"b\" has no file");
}

Test(vm_file, a_large_file_is_refused)
{
	size_t length = VSP_CONF_MAX_BYTES + 1;
	char *text = malloc(length);
	struct vsp_conf *conf;
	HV_ERR(err);

	memset(text, '\n', length);
	cr_assert_eq(vsp_conf_parse("web.conf", text, length, &conf, &err), -E2BIG);
	cr_assert_eq(vsp_conf_parse("web.conf", text, length - 1, &conf, &err), 0);
	vsp_conf_free(conf);
	free(text);
}

Test(vm_file, names_are_safe_in_paths)
{
	char name[VSP_NAME_MAX + 2];
	HV_ERR(err);

	cr_assert_eq(vsp_name_check("VM", "web-1.a_b", &err), 0);
	cr_assert_eq(vsp_name_check("VM", "", NULL), -EINVAL);
	cr_assert_eq(vsp_name_check("VM", ".hidden", NULL), -EINVAL);
	cr_assert_eq(vsp_name_check("VM", "-x", NULL), -EINVAL);
	cr_assert_eq(vsp_name_check("VM", "a/b", NULL), -EINVAL);
	memset(name, 'a', sizeof(name));
	name[VSP_NAME_MAX + 1] = '\0';
	cr_assert_eq(vsp_name_check("VM", name, NULL), -EINVAL);
	name[VSP_NAME_MAX] = '\0';
	cr_assert_eq(vsp_name_check("VM", name, NULL), 0);
}

Test(vm_file, changes_leave_what_people_wrote)
{
	struct vsp_conf *conf = conf_of("# mine\n\niops=1 \n# more\n\n[disk a]\n# its file\n"
					"file =  /a\n\n# about b\n[disk b]\nfile = /b\n");
	HV_ERR(err);

	cr_assert_eq(vsp_conf_set_option(conf, NULL, "iops=7", &err), 0);
	cr_assert_eq(vsp_conf_set_option(conf, "a", "readonly", &err), 0);
	cr_assert_eq(vsp_conf_set_option(conf, "c", "readonly", &err), -ENOENT);
	cr_assert_eq(vsp_conf_remove_disk(conf, "b", &err), 0);
	cr_assert_eq(vsp_conf_remove_disk(conf, "b", NULL), -ENOENT);
	err.code = 0;
	cr_assert_eq(vsp_conf_add_disk(conf, "c=/dir,,x/c.vhd,iops=5,readonly", &err), 0, "%s",
		     err.sentence);
	assert_text(conf, "# mine\n\niops = 7\n# more\n\n[disk a]\n# its file\n"
			  "file =  /a\nreadonly\n\n# about b\n"
			  "\n[disk c]\nfile = /dir,x/c.vhd\niops = 5\nreadonly\n");
	vsp_conf_free(conf);
}

Test(vm_file, a_disk_that_is_added_and_removed_leaves_nothing)
{
	struct vsp_conf *conf = conf_of("iops = 1\n");
	HV_ERR(err);

	cr_assert_eq(vsp_conf_add_disk(conf, "a=/a", &err), 0);
	assert_text(conf, "iops = 1\n\n[disk a]\nfile = /a\n");
	cr_assert_eq(vsp_conf_add_disk(conf, "a=/b", &err), -EEXIST);
	cr_assert_eq(vsp_conf_remove_disk(conf, "a", NULL), 0);
	assert_text(conf, "iops = 1\n");
	vsp_conf_free(conf);
}

Test(vm_file, nothing_is_written_that_would_be_read_otherwise)
{
	static const char *const bad[] = {
		"a=/x\n[disk b]",      "a=/x,iops=1\niops=2", "a=/x\x01", "=/x", "x",
		"a=/x,cache=sometimes"
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vsp_conf *conf = conf_of("");

		cr_assert_neq(vsp_conf_add_disk(conf, bad[i], NULL), 0, "%s", bad[i]);
		vsp_conf_free(conf);
	}
}

Test(vm_file, is_written_and_read_again)
{
	struct vsp_conf *conf = conf_of("# one\n[disk a]\nfile = /a\n"), *again;
	HV_ERR(err);

	for (int i = 0; i < 2; i++) /* anew, then over the old one */
		cr_assert_eq(vsp_conf_write(conf, &err), 0, "%s", err.sentence);
	cr_assert_eq(vsp_conf_read("web.conf", &again, &err), 0);
	assert_text(again, "# one\n[disk a]\nfile = /a\n");
	vsp_conf_free(again);
	vsp_conf_free(conf);
	unlink("web.conf");
	cr_assert_eq(vsp_conf_read("web.conf", &again, &err), -ENOENT);
	err.code = 0;
	cr_assert_eq(vsp_conf_read(".", &again, &err), -EINVAL);
}
