#!/bin/bash
# A real guest whose disks vspd has from the registry, started with exactly what vspctl prints.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"
. "$HVKIT_ROOT/tests/guest.sh"

await() { # WHAT COMMAND...
	for _ in {1..600}; do
		! "${@:2}" || return 0
		sleep 0.05
	done
	fail "$1 does not come: $(tail -n 5 "$vspd_err" console 2>/dev/null)"
}

# Boots the VM "web" in the background, with options of qemu-args.
boot() {
	# What is printed is for the shell to split.
	boot_guest ird.gz $(vspctl qemu-args web --memory 256M "$@") >console &
	guest=$!
}

told() {
	grep -q "^$1" console
}

expect_guest() {
	wait $guest || :
	told "status: 0" || {
		tail -n 40 console
		fail "the guest failed: $(tail -n 1 console)"
	}
}

# ---- A disk that grows ----

fill_what_grows() {
	/usr/bin/mke2fs -q -t ext4 /dev/vda
	mount -t ext4 /dev/vda /mnt
	dd if=/dev/urandom of=/mnt/small bs=64k count=16 conv=fsync 2>/dev/null
	ls /sys/block/vda/mq | wc -l | sed 's/^/queues: /'
	echo "ready"
	i=0
	while [ "$(cat /sys/block/vda/size)" = 32768 ] && [ $i -lt 300 ]; do
		usleep 100000
		i=$((i + 1))
	done
	echo "sectors: $(cat /sys/block/vda/size)"
	/usr/bin/resize2fs /dev/vda >/dev/null 2>&1
	dd if=/dev/urandom of=/mnt/large bs=1M count=18 conv=fsync 2>/dev/null
	(cd /mnt && sha256sum small large >sums)
	umount /mnt
}

test_guest_sees_its_disk_grow() {
	need_guest
	need_tool mke2fs resize2fs e2fsck debugfs
	vhdtool create -q --dynamic 16M system.vhd
	start_daemon
	vspctl vm add web --disk system=system.vhd
	make_initramfs ird.gz fill_what_grows mke2fs resize2fs
	GUEST_CPUS=2 boot --queues 2
	await "the guest" told ready
	expect_exit 0 vspctl vm show web --json
	expect_json '.disks[0].vhost_connected'
	expect_exit 0 vspctl disk resize web system 32M
	expect_guest
	grep -q "^queues: 2" console || fail "$(grep queues console)"
	grep -q "^sectors: 65536" console || fail "$(grep sectors console)"
	stop_vspd
	expect_exit 0 vhdtool check system.vhd
	vhdtool convert -q system.vhd system.raw
	expect_exit 0 e2fsck -fn system.raw
	mkdir back
	debugfs -R 'rdump / back' system.raw >/dev/null 2>&1
	(cd back && sha256sum --quiet -c sums) || fail "files differ from what the guest wrote"
}

# ---- A disk that others use at the same time ----

talk_with_the_host() {
	yes | dd of=/dev/vda bs=4k count=16 iflag=fullblock conv=fsync 2>/dev/null
	echo "written"
	i=0
	until dd if=/dev/vda bs=4k skip=32 count=1 iflag=direct 2>/dev/null | grep -q hello; do
		[ $i -lt 100 ]
		i=$((i + 1))
		usleep 100000
	done
	echo "heard"
}

test_guest_and_nbd_clients_see_the_same_disk() {
	need_guest
	need_tool qemu-io
	vhdtool create -q --dynamic 16M data.vhd
	start_daemon
	vspctl vm add web --disk data=data.vhd
	make_initramfs ird.gz talk_with_the_host
	boot
	await "the guest" told written
	local url="nbd+unix:///data?socket=$(realpath run)/vsp/web/data.nbd"
	expect_exit 0 qemu-io -f raw -c 'read -v 60k 4k' "$url"
	expect_out "79 0a 79 0a"
	printf '%-4096s' hello >word
	expect_exit 0 qemu-io -f raw -c 'write -f -s word 128k 4k' "$url"
	expect_guest
	stop_vspd
	expect_exit 0 vhdtool check data.vhd
}

test_guest_has_its_disk_over_nbd() {
	need_guest
	vhdtool create -q --dynamic 16M data.vhd
	start_daemon
	vspctl vm add web --disk data=data.vhd,serial=over-nbd
	tell() {
		yes | dd of=/dev/vda bs=4k count=16 iflag=fullblock conv=fsync 2>/dev/null
		echo "serial: $(cat /sys/block/vda/serial)"
	}
	make_initramfs ird.gz tell
	boot_guest ird.gz -m 256 $(vspctl qemu-args web --nbd) >console &
	guest=$!
	expect_guest
	grep -q "^serial: over-nbd" console || fail "$(grep serial console)"
	stop_vspd
	expect_exit 0 vhdtool check data.vhd
}

# ---- A disk that goes, and comes again ----

write_all_the_time() {
	/usr/bin/mke2fs -q -t ext4 /dev/vda
	mount -t ext4 /dev/vda /mnt
	end=$(($(cut -d. -f1 /proc/uptime) + 8))
	echo "begun"
	i=0
	until [ -e /mnt/enough ]; do
		i=$((i + 1))
		dd if=/dev/urandom bs=32k count=8 2>/dev/null | tee /mnt/file | sha256sum |
			sed "s:-:file:" >/sums
		sync
		echo 3 >/proc/sys/vm/drop_caches
		(cd /mnt && sha256sum -c /sums >/dev/null)
		[ "$(cut -d. -f1 /proc/uptime)" -lt $end ] || touch /mnt/enough
	done
	cp /sums /mnt/sums
	umount /mnt
	! dmesg | grep -iE 'I/O error|blocked for more'
}

test_guest_waits_while_its_disk_is_drained() {
	need_guest
	need_tool mke2fs e2fsck jq
	vhdtool create -q --dynamic 64M system.vhd
	start_daemon
	vspctl vm add web --disk system=system.vhd
	make_initramfs ird.gz write_all_the_time mke2fs
	boot
	await "the guest" told begun
	for _ in 1 2 3; do
		sleep 1
		expect_exit 0 vspctl drain web
		expect_exit 0 vhdtool check system.vhd
		expect_exit 0 vspctl reload web
		await "the front end" connected
	done
	expect_guest
	stop_vspd
	expect_exit 0 vhdtool check system.vhd
	vhdtool convert -q system.vhd system.raw
	expect_exit 0 e2fsck -fn system.raw
}

connected() {
	vspctl vm show web --json | jq -e '.disks[0].vhost_connected' >/dev/null
}

# ---- A disk whose host is full ----

write_more_than_there_is() {
	/usr/bin/mke2fs -q -t ext4 -E nodiscard /dev/vda
	mount -t ext4 /dev/vda /mnt
	echo "begun"
	for i in 1 2 3 4; do
		dd if=/dev/urandom of=/mnt/part$i bs=1M count=6 conv=fsync 2>/dev/null
	done
	(cd /mnt && sha256sum part? >sums)
	umount /mnt
	! dmesg | grep -iE 'I/O error|blocked for more|aborting journal'
}

stopped() {
	vspctl vm show web --json | jq -e '.disks[0].state == "stopped"' >/dev/null
}

test_guest_waits_while_the_host_is_full() {
	need_guest
	need_tool mke2fs e2fsck debugfs jq
	new_fs ext4 128M small -m 0
	fallocate -l 100M small/ballast
	vhdtool create -q --dynamic 64M small/d.vhd
	start_daemon
	vspctl vm add web --disk data=small/d.vhd,on-error=stop
	make_initramfs ird.gz write_more_than_there_is mke2fs
	boot
	await "the end of space" stopped
	sleep 2
	stopped || fail "it goes on, although nothing has changed"
	rm small/ballast
	expect_exit 0 vspctl disk resume web data
	expect_guest
	stop_vspd
	expect_exit 0 vhdtool check small/d.vhd
	vhdtool convert -q small/d.vhd d.raw
	expect_exit 0 e2fsck -fn d.raw
	mkdir back
	debugfs -R 'rdump / back' d.raw >/dev/null 2>&1
	(cd back && sha256sum --quiet -c sums) || fail "files differ from what the guest wrote"
}
