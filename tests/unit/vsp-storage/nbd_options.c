/*
 * The NBD server's handshake.
 */
#include "tests/unit/vsp-storage/nbd_client.h"

TestSuite(nbd_options, .init = setup, .fini = teardown, .timeout = 60);

Test(nbd_options, export_name_is_followed_by_zeroes_unless_agreed)
{
	char zeroes[124], none[124] = { 0 };
	uint16_t flags;

	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_EXPORT_NAME, 4);
	put("disk", 4);
	cr_assert_eq(get_u64(), SIZE);
	flags = get_u16();
	cr_assert_eq(flags, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
				    NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
				    NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_FAST_ZERO);
	get(zeroes, sizeof(zeroes));
	cr_assert_eq(memcmp(zeroes, none, sizeof(none)), 0);
	close(client);
	client = plug_in();
	greet(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	put_option(NBD_OPT_EXPORT_NAME, 4);
	put("disk", 4);
	get_u64();
	get_u16();
	cr_assert_eq(get_some(zeroes, 1), 0);
}

Test(nbd_options, an_unknown_export_name_ends_the_connection)
{
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_EXPORT_NAME, 4);
	put("nope", 4);
	expect_end();
}

Test(nbd_options, unknown_client_flags_end_the_connection)
{
	greet(0x80);
	expect_end();
}

Test(nbd_options, options_are_answered_one_by_one)
{
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_STARTTLS, 0);
	put_option(99, 3);
	put("abc", 3);
	put_info(NBD_OPT_INFO, "disk");
	put_info(NBD_OPT_INFO, "");
	put_info(NBD_OPT_INFO, "other");
	put_option(NBD_OPT_LIST, 0);
	put_option(NBD_OPT_ABORT, 0);
	get_option_reply(NBD_OPT_STARTTLS, NBD_REP_ERR_UNSUP);
	get_option_reply(99, NBD_REP_ERR_UNSUP);
	get_infos(NBD_OPT_INFO);
	get_infos(NBD_OPT_INFO);
	get_option_reply(NBD_OPT_INFO, NBD_REP_ERR_UNKNOWN);
	cr_assert_eq(get_option_reply(NBD_OPT_LIST, NBD_REP_SERVER), 8);
	cr_assert_eq(get_u32(), 4);
	cr_assert_eq(get_u32(), 0x6469736b, "\"disk\"");
	get_option_reply(NBD_OPT_LIST, NBD_REP_ACK);
	get_option_reply(NBD_OPT_ABORT, NBD_REP_ACK);
	expect_end();
}

Test(nbd_options, malformed_options_are_refused_and_haggling_goes_on)
{
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_LIST, 1);
	put("x", 1);
	get_option_reply(NBD_OPT_LIST, NBD_REP_ERR_INVALID);
	put_option(NBD_OPT_INFO, 4);
	put_u32(UINT32_MAX);
	get_option_reply(NBD_OPT_INFO, NBD_REP_ERR_INVALID);
	put_option(NBD_OPT_GO, 4 + 4 + 2);
	put_u32(4);
	put("disk", 4);
	put_u16(7);
	get_option_reply(NBD_OPT_GO, NBD_REP_ERR_INVALID);
	put_queries(NBD_OPT_SET_META_CONTEXT, 0, NULL);
	get_option_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	put_option(NBD_OPT_STRUCTURED_REPLY, 1);
	put("x", 1);
	get_option_reply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
	agree(NBD_OPT_STRUCTURED_REPLY);
	put_option(NBD_OPT_SET_META_CONTEXT, 12);
	put_u32(4);
	put("disk", 4);
	put_u32(UINT32_MAX);
	get_option_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	agree(NBD_OPT_EXTENDED_HEADERS);
	put_option(NBD_OPT_STRUCTURED_REPLY, 0);
	get_option_reply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_EXT_HEADER_REQD);
	go();
}

Test(nbd_options, too_much_data_of_an_option_is_skipped_or_ends_it)
{
	static char much[1 << 20];

	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_INFO, sizeof(much));
	put(much, sizeof(much));
	get_option_reply(NBD_OPT_INFO, NBD_REP_ERR_TOO_BIG);
	agree(NBD_OPT_STRUCTURED_REPLY);
	put_option(NBD_OPT_INFO, UINT32_MAX);
	expect_end();
}

Test(nbd_options, a_wrong_magic_ends_the_connection)
{
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_u64(NBD_OPTION_MAGIC + 1);
	put_u64(0);
	expect_end();
}

Test(nbd_options, options_may_come_byte_by_byte)
{
	uint8_t bytes[] = { 0,   0,   0, 1, 'I', 'H', 'A', 'V', 'E', 'O',
			    'P', 'T', 0, 0, 0,   8,   0,   0,   0,   0 };

	cr_assert_eq(get_u64(), NBD_MAGIC);
	get_u64();
	get_u16();
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		put(&bytes[i], 1);
		hv_loop_serve(loop, 0);
	}
	get_option_reply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
}

Test(nbd_options, contexts_are_listed_and_set)
{
	static const char *const queries[] = { "hvkit:depth", "base:", "x:y" };

	greet(NBD_FLAG_FIXED_NEWSTYLE);
	agree(NBD_OPT_STRUCTURED_REPLY);
	put_queries(NBD_OPT_LIST_META_CONTEXT, 0, NULL);
	expect_context(NBD_OPT_LIST_META_CONTEXT, 0, "base:allocation");
	expect_context(NBD_OPT_LIST_META_CONTEXT, 0, "hvkit:depth");
	get_option_reply(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	put_queries(NBD_OPT_LIST_META_CONTEXT, 2, queries + 1);
	expect_context(NBD_OPT_LIST_META_CONTEXT, 0, "base:allocation");
	get_option_reply(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	put_queries(NBD_OPT_SET_META_CONTEXT, 3, queries);
	expect_context(NBD_OPT_SET_META_CONTEXT, 2, "hvkit:depth");
	get_option_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
}
