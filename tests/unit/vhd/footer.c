/*
 * Footers: encoding, decoding, what is wrong with them, and the size they mean.
 */
#include "vhd/footer.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <string.h>

#include "tests/crash/world.h"

static struct vhd_footer sample(void)
{
	struct vhd_footer footer = {
		.features = VHD_FEATURE_RESERVED,
		.version = VHD_VERSION,
		.data_offset = 512,
		.timestamp = 0x12345678,
		.creator = "win ",
		.creator_version = 0x000a0000,
		.creator_os = "Wi2k",
		.original_bytes = 4194304,
		.current_bytes = 4194304,
		.geometry = { 120, 4, 17 },
		.type = VHD_DYNAMIC,
		.uuid = { { 0xde, 0xad, 0xbe, 0xef, 5 } },
		.saved_state = 0,
	};

	return footer;
}

static unsigned faults_of(const struct vhd_disk_footer *disk)
{
	struct vhd_footer footer;

	return vhd_footer_decode(disk, &footer);
}

static void reseal(struct vhd_disk_footer *disk)
{
	disk->checksum = hv_be32_make(
		vhd_checksum(disk, sizeof(*disk), offsetof(struct vhd_disk_footer, checksum)));
}

Test(footer, lies_on_disk_as_the_specification_says)
{
	struct vhd_footer footer = sample();
	struct vhd_disk_footer disk;
	uint8_t raw[512];

	vhd_footer_encode(&footer, &disk);
	memcpy(raw, &disk, sizeof(raw));
	cr_assert_arr_eq(raw, "conectix\0\0\0\2\0\1\0\0\0\0\0\0\0\0\2\0\x12\x34\x56\x78win ", 32);
	cr_assert_arr_eq(raw + 40, "\0\0\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\x78\4\x11\0\0\0\3", 24);
	cr_assert_arr_eq(raw + 68, "\xde\xad\xbe\xef\5", 5);
	for (size_t i = 84; i < sizeof(raw); i++)
		cr_assert_eq(raw[i], 0);
}

Test(footer, is_the_same_after_encoding_and_decoding)
{
	struct vhd_footer footer = sample(), back;
	struct vhd_disk_footer disk;

	vhd_footer_encode(&footer, &disk);
	cr_assert_eq(vhd_footer_decode(&disk, &back), 0);
	footer.checksum = back.checksum;
	cr_assert_eq(footer.current_bytes, back.current_bytes);
	cr_assert_eq(footer.timestamp, back.timestamp);
	cr_assert(hv_guid_equal(&footer.uuid, &back.uuid));
	cr_assert_arr_eq(footer.creator, back.creator, 4);
	cr_assert_eq(back.geometry.cylinders, 120);
}

Test(footer, any_changed_byte_is_noticed)
{
	struct vhd_footer footer = sample();
	struct vhd_disk_footer disk;

	vhd_footer_encode(&footer, &disk);
	for (size_t i = 0; i < sizeof(disk); i++) {
		((uint8_t *)&disk)[i] ^= 0x40;
		/* Old Xen tools changed `hidden` without the checksum. */
		cr_expect_eq(faults_of(&disk) == 0, i == offsetof(struct vhd_disk_footer, hidden),
			     "byte %zu", i);
		((uint8_t *)&disk)[i] ^= 0x40;
	}
}

Test(footer, of_another_major_version_cannot_be_used)
{
	struct vhd_footer footer = sample();
	struct vhd_disk_footer disk;

	footer.version = 0x00020000;
	vhd_footer_encode(&footer, &disk);
	cr_assert_eq(faults_of(&disk), VHD_FOOTER_VERSION_BAD);
	footer.version = 0x00010007;
	vhd_footer_encode(&footer, &disk);
	cr_assert_eq(faults_of(&disk), 0);
}

Test(footer, of_an_unknown_type_cannot_be_used)
{
	static const uint32_t types[] = { 0, 1, 5, 6, 7, UINT32_MAX };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct vhd_footer footer = sample();
		struct vhd_disk_footer disk;

		footer.type = types[i];
		vhd_footer_encode(&footer, &disk);
		cr_expect_eq(faults_of(&disk), VHD_FOOTER_TYPE_BAD);
	}
}

Test(footer, filled_by_xen_is_told_from_garbage)
{
	struct vhd_disk_footer disk;

	memset(&disk, VHD_OPEN_BYTE, sizeof(disk));
	cr_expect_eq(faults_of(&disk), VHD_FOOTER_COOKIE_BAD | VHD_FOOTER_OPEN);
	memset(&disk, 0x55, sizeof(disk));
	cr_expect_eq(faults_of(&disk), VHD_FOOTER_COOKIE_BAD);
	memcpy(disk.cookie, VHD_POISON_COOKIE, 8);
	cr_expect_eq(faults_of(&disk), VHD_FOOTER_COOKIE_BAD | VHD_FOOTER_POISON);
}

static uint64_t size_by(const char *creator, const struct vhd_geometry *geometry, bool *from_chs)
{
	struct vhd_footer footer = sample();

	memcpy(footer.creator, creator, 4);
	footer.geometry = *geometry;
	return vhd_footer_size(&footer, from_chs);
}

Test(footer, size_is_that_of_the_geometry_for_virtual_pc_and_old_qemu_only)
{
	static const struct {
		const char *creator;
		bool chs;
	} rules[] = {
		{ "vpc ", true },  { "qemu", true },  { "win ", false },       { "qem2", false },
		{ "d2v ", false }, { "d2v", false },  { "wa\0", false },       { "tap", false },
		{ "CTXS", false }, { "vbox", false }, { "\xff\xff\1", false },
	};
	struct vhd_geometry geometry = { 120, 4, 17 };

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		bool from_chs;
		uint64_t size = size_by(rules[i].creator, &geometry, &from_chs);

		cr_expect_eq(size, rules[i].chs ? 4177920u : 4194304u, "%s", rules[i].creator);
		cr_expect_eq(from_chs, rules[i].chs, "%s", rules[i].creator);
	}
}

Test(footer, size_is_never_that_of_a_geometry_that_says_nothing)
{
	static const struct vhd_geometry none[] = {
		{ 65535, 16, 255 }, /* the largest: look at the size */
		{ 13523, 16, 63 },  /* larger than the disk: Microsoft's VhdTool */
		{ 0, 4, 17 },
	};
	bool from_chs;

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		cr_expect_eq(size_by("vpc ", &none[i], &from_chs), 4194304);
		cr_expect_not(from_chs);
	}
}

/* Both footers of a file. */

static const struct vhd_footer *read_both(struct hv_file *file, struct vhd_footers *ret)
{
	HV_ERR(err);

	cr_assert_eq(vhd_footers_read(file, ret, &err), 0, "%s", err.sentence);
	return ret->best;
}

static void put(struct hv_file *file, const void *data, size_t length, uint64_t offset)
{
	HV_ERR(err);

	cr_assert_eq(hv_file_pwrite(file, data, length, offset, &err), 0, "%s", err.sentence);
}

static struct crash_stage *stage;

static void setup(void)
{
	stage = crash_stage_new(NULL, 1);
}

static void teardown(void)
{
	crash_stage_free(stage);
}

TestSuite(footers, .init = setup, .fini = teardown);

/* A file of 4 KiB with a footer at both ends. */
static struct hv_file *make_file(struct vhd_disk_footer *disk)
{
	struct crash_world *world = crash_world_new(stage);
	struct vhd_footer footer = sample();
	struct hv_file *file;
	HV_ERR(err);

	cr_assert_eq(crash_create(world, "disk.vhd", false, &file, &err), 0);
	crash_world_free(world);
	vhd_footer_encode(&footer, disk);
	put(file, disk, sizeof(*disk), 0);
	put(file, disk, sizeof(*disk), 4096 - sizeof(*disk));
	return file;
}

Test(footers, the_trailing_one_is_in_force)
{
	struct vhd_disk_footer disk;
	HV_AUTO(hv_file_close) struct hv_file *file = make_file(&disk);
	struct vhd_footers footers;

	disk.timestamp = hv_be32_make(1);
	reseal(&disk);
	put(file, &disk, sizeof(disk), 0);
	read_both(file, &footers);
	cr_assert_eq(footers.trailing_faults | footers.copy_faults, 0);
	cr_assert_eq(footers.best, &footers.trailing);
	cr_assert_eq(footers.trailing_offset, 4096 - 512);
}

Test(footers, the_copy_stands_in_for_a_damaged_one)
{
	struct vhd_disk_footer disk;
	HV_AUTO(hv_file_close) struct hv_file *file = make_file(&disk);
	struct vhd_footers footers;

	put(file, "x", 1, 4095);
	read_both(file, &footers);
	cr_assert_eq(footers.trailing_faults, VHD_FOOTER_CHECKSUM_BAD);
	cr_assert_eq(footers.best, &footers.copy);
}

Test(footers, neither_can_be_used_when_both_are_damaged)
{
	struct vhd_disk_footer disk;
	HV_AUTO(hv_file_close) struct hv_file *file = make_file(&disk);
	struct vhd_footers footers;

	put(file, "x", 1, 4095);
	put(file, "x", 1, 511);
	cr_assert_null(read_both(file, &footers));
}

Test(footers, an_old_one_of_511_bytes_is_read)
{
	struct vhd_disk_footer disk;
	HV_AUTO(hv_file_close) struct hv_file *file = make_file(&disk);
	struct vhd_footers footers;
	HV_ERR(err);

	cr_assert_eq(hv_file_truncate(file, 4095, &err), 0);
	read_both(file, &footers);
	cr_assert(footers.old_form);
	cr_assert_eq(footers.trailing_faults, 0);
	cr_assert_eq(footers.trailing_offset, 4096 - 512);
}

Test(footers, a_fixed_disk_has_no_copy)
{
	struct vhd_disk_footer disk;
	HV_AUTO(hv_file_close) struct hv_file *file = make_file(&disk);
	struct vhd_footers footers;

	disk.type = hv_be32_make(VHD_FIXED);
	reseal(&disk);
	put(file, &disk, sizeof(disk), 0);
	put(file, "x", 1, 4095);
	read_both(file, &footers);
	cr_assert_neq(footers.copy_faults, 0);
	cr_assert_null(footers.best);
}

Test(footers, a_file_of_any_length_can_be_looked_at)
{
	struct vhd_disk_footer disk;
	HV_AUTO(hv_file_close) struct hv_file *file = make_file(&disk);
	struct vhd_footers footers;
	HV_ERR(err);

	for (int size = 1100; size >= 0; size--) {
		cr_assert_eq(hv_file_truncate(file, (uint64_t)size, &err), 0);
		if (size < 511)
			cr_expect_null(read_both(file, &footers), "%d", size);
		else
			cr_expect_not_null(read_both(file, &footers), "%d", size);
	}
}
