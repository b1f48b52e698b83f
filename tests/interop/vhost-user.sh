#!/bin/bash
# vspd under a real guest: Debian's kernel in QEMU, with a disk over vhost-user-blk.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"
. "$HVKIT_ROOT/tests/guest.sh"

export HVKIT_LOG=info

disk_options=(-chardev socket,id=c,path=disk.sock,reconnect=1
	-device vhost-user-blk-pci,chardev=c,num-queues=2,disable-legacy=on)

expect_guest() {
	grep -q "^status: 0" console || {
		tail -n 40 console
		fail "the guest failed: $(tail -n 1 console)"
	}
}

# ---- In the guest ----

fill_disk() {
	/usr/bin/mke2fs -q -t ext4 -E nodiscard /dev/vda
	mount -t ext4 /dev/vda /mnt
	mkdir /mnt/tree
	cp -r /bin /modules /mnt/tree
	for i in 1 2 3 4; do
		dd if=/dev/urandom of=/mnt/noise$i bs=64k count=40 conv=fsync 2>/dev/null
	done
	(cd /mnt && find . -type f | sort | xargs sha256sum) >/sums
	cp /sums /mnt/sums
	sync
	rm /mnt/noise1
	sed -i /noise1/d /mnt/sums
	fstrim /mnt
	umount /mnt
	mount -t ext4 /dev/vda /mnt
	cd /mnt
	sha256sum -c sums >/dev/null
	cd /
	umount /mnt
}

# The host reads what the guest has written: sound, and each file as the guest has summed it up.
expect_filled() { # DISK
	expect_exit 0 vhdtool check "$1"
	expect_exit 0 vhdtool convert "$1" after.raw
	expect_exit 0 e2fsck -fn after.raw
	mkdir -p back
	debugfs -R 'rdump / back' after.raw >/dev/null 2>&1
	(cd back && sha256sum --quiet -c sums) || fail "files differ from what the guest wrote"
	rm -rf back after.raw
}

fill() { # DISK
	need_guest
	need_tool mke2fs e2fsck debugfs
	start_vspd --disk "$1",discard=on --vhost-user disk.sock
	make_initramfs ird.gz fill_disk mke2fs
	run_guest ird.gz "${disk_options[@]}" >console
	stop_vspd
	expect_guest
	expect_filled "$1"
}

test_filesystem_on_a_fixed_disk() {
	expect_exit 0 vhdtool create --fixed 64M d.vhd
	fill d.vhd
}

test_filesystem_on_a_dynamic_disk() {
	expect_exit 0 vhdtool create --dynamic 64M d.vhd
	fill d.vhd
}

test_filesystem_on_a_chain() {
	noise 8M >noise
	truncate -s 64M noise
	expect_exit 0 vhdtool convert --to dynamic noise parent.vhd
	sha256sum parent.vhd >parent.sum
	expect_exit 0 vhdtool create --diff parent.vhd child.vhd
	expect_exit 0 vhdtool create --diff child.vhd grandchild.vhd
	fill grandchild.vhd
	expect_exit 0 sha256sum -c parent.sum
}

fill_both() {
	for d in a b; do
		(
			set -e
			mkdir /disk$d
			/usr/bin/mke2fs -q -t ext4 -E nodiscard /dev/vd$d
			mount -t ext4 /dev/vd$d /disk$d
			cd /disk$d
			cp -r /bin .
			for i in 1 2 3 4 5 6; do
				dd if=/dev/urandom of=noise$i bs=64k count=40 conv=fsync 2>/dev/null
			done
			find . -type f | sort | xargs sha256sum >/sums$d
			cp /sums$d sums
			cd /
			umount /disk$d
			touch /filled$d
		) &
	done
	wait
	[ -e /filleda ] && [ -e /filledb ]
}

# Each disk of the guest belongs to another loop of vspd.
test_filesystems_on_two_disks_at_once() {
	need_guest
	need_tool mke2fs e2fsck debugfs
	expect_exit 0 vhdtool create --dynamic 64M a.vhd
	expect_exit 0 vhdtool create --fixed 64M b.vhd
	start_vspd --loops 2 --disk a=a.vhd --disk b=b.vhd --vhost-user a=disk.sock --vhost-user b=b.sock
	make_initramfs ird.gz fill_both mke2fs
	GUEST_CPUS=2 run_guest ird.gz "${disk_options[@]}" -chardev socket,id=d,path=b.sock,reconnect=1 \
		-device vhost-user-blk-pci,chardev=d,num-queues=2,disable-legacy=on >console
	stop_vspd
	expect_guest
	expect_filled a.vhd
	expect_filled b.vhd
}

# ---- What the guest is told ----

tell_about_disk() {
	cd /sys/block/vda
	for i in size ro queue/logical_block_size queue/physical_block_size queue/discard_max_bytes \
		queue/write_zeroes_max_bytes queue/write_cache cache_type serial; do
		echo "$i=$(cat $i)"
	done
	echo "queues=$(ls mq | wc -l)"
}

test_guest_sees_what_the_disk_is() {
	need_guest
	expect_exit 0 vhdtool create --dynamic 64M d.vhd
	start_vspd --disk d.vhd,discard=on,serial=hvkit-0001,sector=4096 --vhost-user disk.sock
	make_initramfs ird.gz tell_about_disk
	GUEST_CPUS=2 run_guest ird.gz "${disk_options[@]}" | tr -d '\r' >console
	stop_vspd
	expect_guest
	for line in size=131072 ro=0 queue/logical_block_size=4096 \
		queue/physical_block_size=4096 queue/discard_max_bytes=1073741824 \
		queue/write_zeroes_max_bytes=1073741824 "cache_type=write back" \
		serial=hvkit-0001 queues=2; do
		grep -qxF "$line" console || fail "the guest does not see $line: $(cat console)"
	done
}

# Each of four processors has a queue of its own, and writes and reads through it.
use_every_queue() {
	cd /sys/block/vda
	[ "$(cat serial)" = hvkit-0004 ]
	[ "$(ls mq | wc -l)" = 4 ]
	jobs=
	for cpu in 0 1 2 3; do
		dd if=/dev/urandom of=/part$cpu bs=64k count=32 2>/dev/null
		taskset $((1 << cpu)) dd if=/part$cpu of=/dev/vda bs=64k seek=$((cpu * 64)) \
			oflag=direct conv=notrunc 2>/dev/null &
		jobs="$jobs $!"
	done
	for job in $jobs; do
		wait $job
	done
	for cpu in 0 1 2 3; do
		taskset $((1 << cpu)) dd if=/dev/vda bs=64k skip=$((cpu * 64)) count=32 \
			iflag=direct 2>/dev/null | cmp - /part$cpu
		awk -v name="-req.$cpu\$" '$NF ~ name { for (i = 2; i < 6; i++) sum += $i }
			END { exit sum < 32 }' /proc/interrupts
	done

	# Discarded, zeroed, kept.
	/usr/bin/blkdiscard -o 0 -l 2M /dev/vda
	/usr/bin/blkdiscard --zeroout -o 4M -l 1M /dev/vda
	dd if=/dev/vda bs=1M count=2 iflag=direct 2>/dev/null | cmp -n 2097152 - /dev/zero
	dd if=/dev/vda bs=1M skip=4 count=1 iflag=direct 2>/dev/null | cmp -n 1048576 - /dev/zero
	dd if=/dev/vda bs=1M skip=5 count=1 iflag=direct 2>/dev/null >/rest
	dd if=/part1 bs=1M skip=1 2>/dev/null | cmp - /rest

	[ "$(cat cache_type)" = "write back" ]
	for mode in "write through" "write back"; do
		echo "$mode" >cache_type
		[ "$(cat cache_type)" = "$mode" ]
		[ "$(cat queue/write_cache)" = "$mode" ]
		dd if=/part2 of=/dev/vda bs=64k seek=128 oflag=direct conv=fsync,notrunc 2>/dev/null
	done
	cat /part2 /part3 | sha256sum | sed 's/^/sum=/'
	! dmesg | grep -iE 'I/O error|blocked for more'
}

test_every_queue_of_a_guest_with_four_processors() {
	need_guest
	need_tool blkdiscard
	expect_exit 0 vhdtool create --dynamic 64M d.vhd
	start_vspd --disk d.vhd,discard=on,serial=hvkit-0004 --vhost-user disk.sock
	make_initramfs ird.gz use_every_queue blkdiscard
	GUEST_CPUS=4 run_guest ird.gz "${disk_options[@]:0:3}" \
		vhost-user-blk-pci,chardev=c,num-queues=4,queue-size=256,disable-legacy=on |
		tr -d '\r' >console
	stop_vspd
	expect_guest
	# What was discarded leaves a gap between blocks; nothing worse.
	vhdtool check -q d.vhd || expect_equal $? 4 "status of check"
	expect_exit 0 vhdtool convert d.vhd after.raw
	expect_exit 0 cmp -n 2M after.raw /dev/zero
	sum=$({ dd if=after.raw bs=1M skip=8 count=2; dd if=after.raw bs=1M skip=12 count=2; } 2>/dev/null |
		sha256sum)
	grep -qx "sum=$sum" console || fail "the disk does not hold what the guest wrote: $(cat console)"
	expect_exit 0 vhdtool map --json --length 2M d.vhd
	expect_json 'map(.present) | any | not'
}

refuse_to_write() {
	echo "ro=$(cat /sys/block/vda/ro)"
	! dd if=/dev/zero of=/dev/vda bs=4096 count=1 2>/dev/null
}

test_guest_cannot_write_a_read_only_disk() {
	need_guest
	expect_exit 0 vhdtool create --dynamic 64M d.vhd
	sha256sum d.vhd >before
	start_vspd --disk d.vhd,readonly --vhost-user disk.sock
	make_initramfs ird.gz refuse_to_write
	run_guest ird.gz "${disk_options[@]}" | tr -d '\r' >console
	stop_vspd
	expect_guest
	grep -qx "ro=1" console
	expect_exit 0 sha256sum -c before
}

# ---- vspd dies ----

# Writes without end to different places, checks everything once vspd has been killed and come back.
write_through_a_crash() {
	/usr/bin/mke2fs -q -t ext4 /dev/vda
	mount -t ext4 /dev/vda /mnt
	echo "begun" >/dev/console
	i=0
	end=$(($(cut -d. -f1 /proc/uptime) + 10))
	while [ "$(cut -d. -f1 /proc/uptime)" -lt $end ]; do
		i=$((i + 1))
		for part in a b c; do
			(dd if=/dev/urandom bs=32k count=8 2>/dev/null | tee /mnt/$part | sha256sum |
				sed "s:-:$part:" >/sum.$part) &
		done
		wait
		sync
		echo 3 >/proc/sys/vm/drop_caches
		cat /sum.a /sum.b /sum.c >/sums
		(cd /mnt && sha256sum -c /sums >/dev/null)
		echo "round $i" >/dev/console
	done
	echo "rounds: $i"
	cp /sums /mnt/sums
	umount /mnt
	! dmesg | grep -iE 'I/O error|blocked for more'
}

# The guest gets on. (QEMU 7.2 does not come back to a back end that dies while they greet each other.)
await_round() {
	local before
	before=$(grep -c '^round ' console) || :
	for _ in {1..600}; do
		[ "$(grep -c '^round ' console)" = "$before" ] || return 0
		! grep -q '^rounds: ' console || return 0
		sleep 0.05
	done
	fail "the guest does not get on: $(tail -n 3 console)"
}

crash_and_return() { # DISK
	need_guest
	need_tool mke2fs e2fsck debugfs
	start_vspd --disk "$1" --vhost-user disk.sock
	make_initramfs ird.gz write_through_a_crash mke2fs
	run_guest ird.gz "${disk_options[@]}" >console &
	guest=$!
	for _ in {1..300}; do
		! grep -q begun console || break
		sleep 0.05
	done
	for _ in 1 2 3; do
		await_round
		sleep 0.$((RANDOM % 10))
		kill -9 $daemon
		wait $daemon || :
		start_vspd --disk "$1" --vhost-user disk.sock
	done
	wait $guest
	stop_vspd
	expect_guest
	grep rounds console
	grep repeating "$vspd_err" || :
	# Who was killed leaves room behind the last block, as after a power cut; nothing worse.
	vhdtool check -q "$1" || expect_equal $? 4 "status of check"
	expect_exit 0 vhdtool check --repair "$1"
	expect_filled "$1"
}

test_guest_continues_when_vspd_is_killed() {
	expect_exit 0 vhdtool create --dynamic 64M d.vhd
	crash_and_return d.vhd
}

test_guest_on_a_chain_continues_when_vspd_is_killed() {
	expect_exit 0 vhdtool create --dynamic 64M parent.vhd
	expect_exit 0 vhdtool create --diff parent.vhd d.vhd
	crash_and_return d.vhd
}
