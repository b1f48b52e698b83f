#!/bin/bash
# vspd as a user starts it: mistakes are sentences, sockets are private, and nothing is left behind.
# tests/interop/nbd.sh has what it does for clients.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"

finish() { # [SIGNAL]
	stop_vspd "$@"
	expect_quiet_vspd
}

test_mistakes_are_sentences() {
	vhdtool create -q --dynamic 8M d.vhd
	expect_exit 2 vspd --nbd unix:s
	expect_sentence "no disk"
	expect_exit 2 vspd --disk d.vhd,colour=red --nbd unix:s
	expect_sentence "colour"
	expect_exit 2 vspd --disk d.vhd --nbd unix:s --cache fast
	expect_sentence "cache"
	expect_exit 2 vspd --disk d.vhd --nbd unix:s --serial 'white space'
	expect_sentence "serial"
	expect_exit 1 vspd --disk d.vhd
	expect_sentence "--nbd"
	expect_exit 1 vspd --disk missing.vhd --nbd unix:s
	expect_sentence "missing.vhd"
	expect_exit 1 vspd --disk d.vhd --nbd s
	expect_sentence '"s"' unix:PATH
	expect_exit 1 vspd --disk d.vhd --nbd tcp:localhost
	expect_sentence port
	expect_exit 1 vspd --disk a=d.vhd,readonly --disk a=d.vhd,readonly --nbd unix:s
	expect_sentence '"a"'
	expect_exit 1 vspd --disk d.vhd --nbd "unix:$(printf 'x%.0s' {1..200})"
	expect_sentence 107
	expect_exit 2 vspd --disk d.vhd --nbd unix:s --tls required
	expect_sentence --tls-certs --tls-psk
	expect_exit 2 vspd --disk d.vhd --nbd unix:s --tls-certs a --tls-psk b
	expect_sentence exclude
	expect_exit 1 vspd --disk d.vhd --nbd unix:s --tls-certs nowhere
	expect_sentence nowhere/ca-cert.pem
	expect_exit 1 vspd --disk d.vhd --nbd unix:s --tls-psk nowhere
	expect_sentence nowhere
	touch file
	expect_exit 1 vspd --disk d.vhd --nbd unix:file
	expect_sentence "no socket"
	expect_only . d.vhd file
}

test_a_socket_is_private_and_goes_in_the_end() {
	local signal
	vhdtool create -q --dynamic 8M d.vhd
	for signal in -TERM -INT; do
		start_vspd --disk d.vhd --nbd unix:s
		expect_equal "$(stat -c %a s)" 600
		expect_equal "$(cat pid)" "$daemon"
		finish $signal
		expect_only . d.vhd
	done
}

test_a_socket_in_use_is_left_alone_and_a_stale_one_replaced() {
	vhdtool create -q --dynamic 8M d.vhd
	vhdtool create -q --dynamic 8M e.vhd
	start_vspd --disk d.vhd --nbd unix:s
	expect_exit 1 vspd --disk e.vhd --nbd unix:s
	expect_sentence "another program listens"
	kill -KILL $daemon
	wait $daemon || true
	expect_file s
	start_vspd --disk d.vhd --nbd unix:s
	# Who puts another socket there keeps it.
	mv s mine
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'
	finish
	expect_file s mine
}

test_a_disk_is_locked_while_it_is_served() {
	vhdtool create -q --dynamic 8M d.vhd
	start_vspd --disk d.vhd --nbd unix:s
	expect_exit 1 vspd --disk d.vhd --nbd unix:t
	expect_sentence d.vhd
	expect_exit 1 vhdtool convert d.vhd x.raw
	finish
	start_vspd --disk d.vhd --nbd unix:s --read-only
	expect_exit 0 vhdtool convert d.vhd x.raw
	finish
}

test_it_tells_who_started_it() {
	vhdtool create -q --dynamic 8M d.vhd
	python3 -c '
import os, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("notify")
s.settimeout(20)
p = subprocess.Popen(sys.argv[1:], env={**os.environ, "NOTIFY_SOCKET": "notify"})
assert s.recv(100) == b"READY=1"
assert os.path.exists("s")
p.terminate()
assert p.wait() == 0' "$HVKIT_BUILD/bin/vspd" --disk d.vhd --nbd unix:s
}

# ---- Confinement ----

status_of() { # KEY: of every thread
	sed -n "s/^$1:\t//p" /proc/"$daemon"/task/*/status | sort -u
}

test_every_thread_is_confined() {
	[ -z "$SANITIZED" ] || skip "the sanitizers need more than vspd"
	vhdtool create -q --dynamic 8M d.vhd
	start_vspd --disk d.vhd --nbd unix:s --loops 2
	expect_equal "$(status_of NoNewPrivs)" 1
	expect_equal "$(status_of Seccomp)" 2
	if [ "$(id -u)" = 0 ]; then
		expect_equal "$(status_of CapEff)" 0000000000000007
		expect_equal "$(status_of CapPrm)" 0000000000000007
	else
		expect_equal "$(status_of CapEff)" 0000000000000000
	fi
	finish
	start_vspd --disk d.vhd --nbd unix:s --sandbox off
	expect_equal "$(status_of Seccomp)" 0
	finish
}

test_confined_it_opens_what_others_own() {
	need_root
	need_tool qemu-io
	vhdtool create -q --dynamic 8M d.vhd
	mkdir theirs
	mv d.vhd theirs
	chown -R 65534 theirs
	chmod 700 theirs
	chmod 600 theirs/d.vhd
	start_vspd --disk theirs/d.vhd --nbd unix:s
	expect_exit 0 qemu-io -f raw -c 'write 0 1M' "nbd:unix:$PWD/s"
	finish
	expect_equal "$(stat -c %u theirs/d.vhd)" 65534
}

test_what_systemd_is_told_is_sound() {
	need_tool systemd-analyze systemd-sysusers systemd-tmpfiles
	local from=$HVKIT_ROOT/vsp-storage
	mkdir -p root/usr/bin root/usr/lib/{systemd/system,sysusers.d,tmpfiles.d} root/etc
	install -m 755 "$HVKIT_BUILD/bin"/vsp{d,ctl} root/usr/bin
	sed "s:@BINDIR@:/usr/bin:" "$from/vspd.service.in" >root/usr/lib/systemd/system/vspd.service
	cp "$from/sysusers.conf" root/usr/lib/sysusers.d/hvkit.conf
	cp "$from/tmpfiles.conf" root/usr/lib/tmpfiles.d/hvkit.conf
	expect_exit 0 systemd-analyze verify --man=no --recursive-errors=no --root="$PWD/root" \
		/usr/lib/systemd/system/vspd.service
	expect_equal "$(cat "$err")" ""
	expect_exit 0 systemd-analyze security --offline=yes --threshold=31 \
		root/usr/lib/systemd/system/vspd.service
	expect_exit 0 systemd-sysusers --root="$PWD/root" hvkit.conf
	grep -q '^hvkit:' root/etc/group || fail "no group"
	expect_exit 0 systemd-tmpfiles --root="$PWD/root" --create hvkit.conf
	expect_file root/etc/hvkit/vms root/run/hvkit root/var/log/hvkit
}

# The system calls that a filter of systemd's lets through.
calls_of() { # CALL|@GROUP...
	local word
	for word; do
		case $word in
		# shellcheck disable=SC2046 # a group is many words
		@*) calls_of $(systemd-analyze syscall-filter "$word" | sed '1d; /#/d') ;;
		*) echo "$word" ;;
		esac
	done
}

test_what_systemd_lets_through_is_enough() {
	need_tool systemd-analyze strace qemu-io
	[ -z "$SANITIZED" ] || skip "the sanitizers need more than vspd"
	strace -o /dev/null true 2>"$err" || skip "needs to trace: $(tail -n 1 "$err")"
	vhdtool create -q --dynamic 8M d.vhd
	short_directory run
	strace -D -f -qq -o "$HVKIT_STATE/trace" "$HVKIT_BUILD/bin/vspd" --pidfile pid --config-dir etc \
		--runtime-dir "$(realpath run)" --audit-log audit.log &
	daemon=$!
	await_vspd
	vspctl vm add web --disk d=d.vhd
	expect_exit 0 qemu-io -f raw -c 'write 0 1M' -c flush "nbd:unix:$PWD/run/vsp/web/d.nbd"
	stop_vspd
	sed -nE 's/^[0-9]+ +([a-z0-9_]+)\(.*/\1/p' "$HVKIT_STATE/trace" | sort -u >called
	grep -q '^seccomp$' called || fail "what is called was not seen: $(cat called)"
	# shellcheck disable=SC2046 # a filter is many words
	calls_of @default $(sed -n 's/^SystemCallFilter=//p' "$HVKIT_ROOT/vsp-storage/vspd.service.in") |
		sort -u >allowed
	expect_equal "$(comm -23 called allowed)" "" "calls that the unit does not allow"
}
