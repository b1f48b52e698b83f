#!/bin/bash
# libnbd's own programs for trying NBD servers, from Debian's source package: how a server is
# started, exports are listed, and TLS begins. Left out are dirty-bitmap, structured-read and
# block-size, which are about QEMU's bitmaps, its way of cutting replies, and its options.
#
# The sources are fetched into a directory of the test's own, without changing the system's lists.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

vspd=$(dirname "$VHDTOOL")/vspd

# In ./libnbd.
fetch() {
	local site apt
	need_tool apt-get dpkg-source gcc nbdinfo
	site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 == "bookworm" { print $1; exit }')
	[ -n "$site" ] || skip "needs Debian 12's archive among apt's sources"
	mkdir -p lists/partial cache/archives/partial
	echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site bookworm main" >list
	apt="apt-get -q -o Dir::State::lists=$PWD/lists -o Dir::Cache=$PWD/cache
		-o Dir::Etc::sourcelist=$PWD/list -o Dir::Etc::sourceparts=/dev/null
		-o Acquire::Retries=1 -o Acquire::http::Timeout=15 -o APT::Sandbox::User="
	timeout 60 $apt update >fetch.log 2>&1 && timeout 60 $apt source libnbd >>fetch.log 2>&1 ||
		skip "needs libnbd's source package: $(tail -n 1 fetch.log)"
	mv libnbd-[0-9]*/ libnbd
}

# build PROGRAM SOURCE DEFINES...: against the library that is installed.
build() {
	gcc -o "$1" "libnbd/interop/$2" libnbd/tests/requires.c -I. -Ilibnbd/include \
		-Ilibnbd/common/include -DSERVER="\"$vspd\"" "${@:3}" -l:libnbd.so.0 ||
		skip "libnbd's $2 does not build here"
}

key() { # NAME OPTIONS...
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
		-keyout "tests/pki/$1-key.pem" "${@:2}" 2>/dev/null
}

# What the programs look for in ../tests.
credentials() {
	local who pki=tests/pki
	need_tool openssl
	mkdir -p $pki
	key ca -x509 -days 9 -out $pki/ca-cert.pem
	for who in server client; do
		key $who -out $pki/$who.csr
		openssl x509 -req -in $pki/$who.csr -CA $pki/ca-cert.pem -CAkey $pki/ca-key.pem \
			-CAcreateserial -days 9 -out $pki/$who-cert.pem 2>/dev/null
	done
	echo alice:00112233445566778899aabbccddeeff >tests/keys.psk
}

# builds_and_runs PROGRAM SOURCE DEFINES...: with a vspd of its own, which it starts.
builds_and_runs() {
	build "$@"
	mkdir -p run
	(cd run && expect_exit 0 timeout 60 ../"$1")
}

try() {
	subtest "$1" builds_and_runs "$@"
}

test_interop_programs() {
	local disk='"--format", "raw", "--cache", "writeback", "--disk"'
	local inetd="-DSERVER_PARAMS=\"--inetd\", $disk, TMPFILE"
	local certs='"--tls-certs", "../tests/pki"' psk='"--tls-psk", "../tests/keys.psk"'
	fetch
	credentials
	touch config.h
	try inetd interop.c -DNEEDS_TMPFILE=1 "$inetd"
	try activation interop.c -DNEEDS_TMPFILE=1 -DSOCKET_ACTIVATION=1 \
		-DSERVER_PARAMS="$disk, TMPFILE"
	try activation2 socket-activation.c -DSERVER_PARAMS="$disk, tmpfile"
	try exports list-exports.c -DNEEDS_TMPFILE=1 -DSOCKET_ACTIVATION=1 \
		-DSERVER_PARAMS="$disk, TMPFILE, \"--read-only\"" -DEXPORTS='""' -DDESCRIPTIONS='""'
	try tls-certs interop.c -DNEEDS_TMPFILE=1 "$inetd, $certs" -DCERTS=1 \
		-DTLS_MODE=LIBNBD_TLS_REQUIRE
	try tls-certs-allow interop.c -DNEEDS_TMPFILE=1 "$inetd, $certs" -DCERTS=1 \
		-DTLS_MODE=LIBNBD_TLS_ALLOW
	try tls-certs-fallback interop.c -DNEEDS_TMPFILE=1 "$inetd, $certs, \"--tls=off\"" -DCERTS=1 \
		-DTLS_MODE=LIBNBD_TLS_ALLOW -DTLS_FALLBACK=1
	try tls-psk interop.c -DNEEDS_TMPFILE=1 "$inetd, $psk" -DPSK=1 -DTLS_MODE=LIBNBD_TLS_REQUIRE
	try tls-psk-allow interop.c -DNEEDS_TMPFILE=1 "$inetd, $psk, \"--tls=on\"" -DPSK=1 \
		-DTLS_MODE=LIBNBD_TLS_ALLOW
	try tls-psk-fallback interop.c -DNEEDS_TMPFILE=1 "$inetd, $psk, \"--tls=off\"" -DPSK=1 \
		-DTLS_MODE=LIBNBD_TLS_ALLOW -DTLS_FALLBACK=1
}
