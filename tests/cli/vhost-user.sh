#!/bin/bash
# vspd --vhost-user: which disk, and its socket. What it serves is looked at in tests/unit/vsp-storage
# and, by a real guest, in tests/interop/vhost-user.sh.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"

make_disks() {
	expect_exit 0 vhdtool create --dynamic 8M a.vhd
	expect_exit 0 vhdtool create --dynamic 8M b.vhd
}

test_several_disks_have_a_socket_each() {
	make_disks
	start_vspd --disk one=a.vhd --disk two=b.vhd --vhost-user one=1.sock --vhost-user two=2.sock
	expect_equal "$(stat -c %a-%F 1.sock 2.sock | sort -u)" "600-socket"
	stop_vspd
	expect_no_file 1.sock 2.sock pid
}

test_a_left_over_socket_is_replaced_and_one_in_use_is_not() {
	make_disks
	start_vspd --disk a.vhd --vhost-user a.sock
	expect_exit 1 vspd --disk b.vhd --vhost-user a.sock
	expect_sentence a.sock "listens there already"
	kill -9 "$daemon"
	wait "$daemon" || :
	expect_file a.sock
	start_vspd --disk b.vhd --vhost-user a.sock
	stop_vspd
	echo mine >file
	expect_exit 1 vspd --disk b.vhd --vhost-user file
	expect_sentence "is no socket"
	expect_equal "$(cat file)" mine
}

test_which_disk_must_be_clear() {
	make_disks
	expect_exit 1 vspd --disk one=a.vhd --disk two=b.vhd --vhost-user x.sock
	expect_sentence "several disks"
	expect_exit 1 vspd --disk one=a.vhd --disk two=b.vhd --vhost-user three=x.sock
	expect_sentence "no disk of that name"
	expect_exit 1 vspd --disk a.vhd
	expect_sentence "nothing to listen on" --vhost-user
	expect_no_file x.sock
}

test_share_of_polling_is_percent_and_null_disks_have_a_size() {
	expect_exit 2 vspd --poll 101 --disk null:1M --vhost-user x.sock
	expect_sentence percent
	expect_exit 1 vspd --disk null:1000 --vhost-user x.sock
	expect_sentence "null:1000" "multiple of 512"
	start_vspd --poll 0 --disk null:1M --vhost-user x.sock
	stop_vspd
	expect_exit 1 vspd --disk ./null:1M --vhost-user x.sock
	expect_sentence "./null:1M"
}
