/*
 * Disks as people write them.
 */
#include "vsp-storage/disk_spec.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct vsp_disk_spec spec;

static void setup(void)
{
	spec = (struct vsp_disk_spec){ 0 };
}

static void teardown(void)
{
	vsp_disk_spec_done(&spec);
}

TestSuite(disk_spec, .init = setup, .fini = teardown);

static void parses(const char *text, const char *name, const char *path)
{
	HV_ERR(err);

	cr_assert_eq(vsp_disk_spec_parse(text, &spec, &err), 0, "%s: %s", text, err.sentence);
	cr_assert_str_eq(spec.name, name);
	cr_assert_str_eq(spec.path, path);
}

static void fails(const char *text, const char *words)
{
	HV_ERR(err);

	cr_assert_eq(vsp_disk_spec_parse(text, &spec, &err), -EINVAL, "%s", text);
	cr_assert_not_null(strstr(err.sentence, words), "%s: %s", text, err.sentence);
}

Test(disk_spec, names_and_paths)
{
	parses("a.vhd", "", "a.vhd");
	parses("/x/a.vhd", "", "/x/a.vhd");
	parses("system=/vms/web.vhd", "system", "/vms/web.vhd");
	parses("data-1.2_x=d", "data-1.2_x", "d");
	parses("./a=b.vhd", "", "./a=b.vhd");
	parses("/x/a=b", "", "/x/a=b");
	parses("x=a=b", "x", "a=b");
	parses("a,,b.vhd", "", "a,b.vhd");
	parses("a,,,readonly", "", "a,");
	cr_assert(spec.device.read_only);
}

Test(disk_spec, options)
{
	parses("s=a.vhd,cache=unsafe,serial=ABC-1,sector=4096,discard=off,format=raw,parent=p,,q",
	       "s", "a.vhd");
	cr_assert_eq(spec.device.cache, VSP_CACHE_UNSAFE);
	cr_assert_str_eq(spec.device.serial, "ABC-1");
	cr_assert_eq(spec.device.sector_bytes, 4096);
	cr_assert_not(spec.device.discard);
	cr_assert_not(spec.device.read_only);
	cr_assert_str_eq(spec.format, "raw");
	cr_assert_str_eq(spec.parent, "p,q");
	parses("a.vhd,readonly=off,discard,cache=none", "", "a.vhd");
	cr_assert(spec.device.discard);
	cr_assert_eq(spec.device.cache, VSP_CACHE_NONE);
}

Test(disk_spec, coalescing)
{
	spec.device.coalesce = true;
	parses("a.vhd", "", "a.vhd");
	cr_assert(spec.device.coalesce);
	parses("a.vhd,coalesce=off", "", "a.vhd");
	cr_assert_not(spec.device.coalesce);
	cr_assert(vsp_disk_spec_is_mild("coalesce=on"), "nobody has to come again for it");
	fails("a.vhd,coalesce=50us", "on or off");
}

Test(disk_spec, what_becomes_of_errors)
{
	parses("a.vhd", "", "a.vhd");
	cr_assert_not(spec.device.stops);
	parses("a.vhd,on-error=stop", "", "a.vhd");
	cr_assert(spec.device.stops);
	parses("a.vhd,on-error=report", "", "a.vhd");
	cr_assert_not(spec.device.stops);
	cr_assert(vsp_disk_spec_is_mild("on-error=stop"), "operators may");
}

Test(disk_spec, mistakes)
{
	fails("a.vhd,on-error", "missing");
	fails("a.vhd,on-error=ignore", "report or stop");
	fails("", "file is missing");
	fails("x=", "file is missing");
	fails("a,", "no option");
	fails("a,colour=red", "\"colour\"");
	fails("a,cache", "value is missing");
	fails("a,cache=fast", "none, writeback or unsafe");
	fails("a,readonly=maybe", "on or off");
	fails("a,sector=1024", "512 or 4096");
	fails("a,format=qcow2", "raw or vhd");
	fails("a,serial=123456789012345678901", "20");
	fails("a,serial=a b", "spaces");
}
