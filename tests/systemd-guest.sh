#!/bin/bash
# vspd as systemd runs it: what `make install` brings, in a whole Debian guest that is booted for it.
# tests/systemd/*.sh are the tests, and run there, by run.sh; their verdicts are told here.
#
# The guest comes from debian-guest.sh and is kept in build/systemd-guest. It has its disks from vspd,
# too: a child of the disk kept, what was installed as its /usr/local, and an empty one.
#
#	HVKIT_GUEST_T=PATTERN	run only the tests there whose "script:test" matches
export TIMEOUT=${TIMEOUT:-900}
. "${BASH_SOURCE[0]%/*}/lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"
. "$HVKIT_ROOT/tests/guest.sh"

kept=$HVKIT_BUILD/systemd-guest
packages="libaio1 libblkid1 libext2fs2 libjansson4 libssl3 qemu-utils libnbd-bin jq"

need_debian_guest() {
	need_tool mmdebstrap qemu-system-x86_64 mke2fs
	[ ! -e "$kept/guest.initrd" ] || return 0 # the last that is made
	mkdir -p "$kept"
	rm -f "$kept"/*
	# shellcheck disable=SC2086 # many words are many packages
	"$HVKIT_ROOT/tests/debian-guest.sh" "$kept/guest.vhd" 2G $packages ||
		fail "the guest cannot be made; does it have a package mirror?"
}

# What is installed, the load of the benchmarks, and the tests, on a filesystem.
make_local() {
	MAKEFLAGS='' make -s -C "$HVKIT_ROOT" install DESTDIR="$PWD/tree" PREFIX=/usr/local
	mkdir -p tree/usr/local/check/tests
	cp -r "$HVKIT_ROOT"/tests/{run.sh,lib.sh,systemd} tree/usr/local/check/tests/
	cp "$HVKIT_BUILD/tests/bench/vhostload" tree/usr/local/check/
	echo "${HVKIT_GUEST_T-}" >tree/usr/local/check/pattern
	truncate -s 256M local.raw
	mke2fs -q -t ext4 -L local -d tree/usr/local local.raw
}

# In the guest, instead of a login: for the kernel's command line.
command="mount LABEL=local /usr/local; exec /usr/local/check/tests/systemd/run >/dev/console 2>&1"
append="root=LABEL=root systemd.run=\"/bin/sh -c '$command'\" systemd.run_success_action=poweroff"
append+=" systemd.run_failure_action=poweroff systemd.show_status=false"
append+=" systemd.mask=serial-getty@ttyS0.service"

test_service() {
	local disk options=()
	need_debian_guest
	make_local
	vhdtool create -q --diff "$kept/guest.vhd" root.vhd
	vhdtool create -q --dynamic 64M spare.vhd
	short_directory sockets
	start_vspd --disk root=root.vhd --disk local=local.raw,format=raw \
		--disk spare=spare.vhd,serial=spare --vhost-user root=sockets/root \
		--vhost-user local=sockets/local --vhost-user spare=sockets/spare
	for disk in root local spare; do
		options+=(-chardev "socket,id=$disk,path=sockets/$disk"
			-device "vhost-user-blk-pci,chardev=$disk")
	done
	GUEST_KERNEL=$kept/guest.vmlinuz GUEST_MEMORY=1G GUEST_TIMEOUT=$((TIMEOUT - 20)) \
		GUEST_APPEND=$append run_guest "$kept/guest.initrd" "${options[@]}" |
		sed -u 's/\r$//' >console || :
	grep -vE '^(ok|result|SKIP) ?|whole log:' console
	sed -n 's:^result	\([a-z]*\)	systemd/:\1	:p' console >"$HVKIT_STATE/subtests"
	grep -q "^status: " console || fail "the guest did not come to its end: $(tail -n 1 console)"
	stop_vspd
	expect_quiet_vspd
}
