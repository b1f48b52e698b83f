#!/bin/bash
# vspd over NBD, with other people's clients (libnbd, QEMU, fio) and one of ours that misbehaves
# (nbd_peer.py). What they write is looked at through vhdtool afterwards, what vhdtool wrote through
# them.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"

vspd=$HVKIT_BUILD/bin/vspd
uri='nbd+unix:///?socket=s'
peer_py=$HVKIT_ROOT/tests/interop/nbd_peer.py
mib=$((1 << 20))

# serve ARGUMENTS...: on the socket "s".
serve() {
	start_vspd --nbd unix:s "$@"
}

# Ends it; it was content with everything.
stop() {
	stop_vspd
	expect_quiet_vspd
	expect_no_file s pid
}

# nbdsh, with the Python that Debian's libnbd is for, whatever else is called python3 here.
need_nbdsh() {
	/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "needs python3-libnbd, which is not installed"
}

nbdsh() {
	/usr/bin/python3 -m nbd "$@"
}

peer() {
	python3 "$peer_py" s "$@"
}

# make_disk KIND SIZE: d.vhd, empty, of that kind. A chain's leaf lies over 1 MiB of data in its base.
make_disk() {
	rm -f d.vhd base.vhd middle.vhd
	case $1 in
	fixed) vhdtool create -q --fixed "$2" d.vhd ;;
	dynamic) vhdtool create -q --dynamic "$2" d.vhd ;;
	chain)
		vhdtool create -q --dynamic "$2" base.vhd
		noise 1M 9 | vhdtool write -q --offset 3M base.vhd
		vhdtool create -q --diff base.vhd middle.vhd
		noise 70000 8 | vhdtool write -q --offset 3500000 middle.vhd
		vhdtool create -q --diff middle.vhd d.vhd
		;;
	esac
}

each_kind() { # FUNCTION
	local kind
	for kind in fixed dynamic chain; do
		subtest "$kind" "$1" "$kind"
	done
}

# ---- libnbd ----

test_nbdinfo_tells_what_there_is() {
	need_tool nbdinfo jq
	vhdtool create -q --dynamic 64M a.vhd
	vhdtool create -q --dynamic 5M b.vhd
	serve --disk a.vhd --disk data=b.vhd,readonly
	expect_exit 0 nbdinfo --json "$uri"
	expect_json '.exports[0] | ."export-size" == 67108864 and .can_multi_conn and .can_fua and
		.can_trim and .can_zero and .can_fast_zero and .can_df and .can_flush and
		(.is_read_only | not) and .block_size_preferred == 4096 and
		.block_size_maximum == 33554432 and
		.contexts == ["base:allocation", "hvkit:depth"]'
	expect_exit 0 nbdinfo --json --list "$uri"
	expect_json '[.exports[]."export-name"] == ["", "data"]'
	expect_exit 0 nbdinfo --is read-only 'nbd+unix:///data?socket=s'
	expect_exit 1 nbdinfo --size 'nbd+unix:///other?socket=s'
	stop
}

test_nbdinfo_maps_a_chain() {
	need_tool nbdinfo
	make_disk chain 20M
	noise 4096 1 | vhdtool write -q --offset 5M d.vhd
	serve --disk d.vhd
	expect_exit 0 nbdinfo --map=hvkit:depth "$uri"
	awk '{ print $1, $2, $3 }' "$out" >depth
	expect_equal "$(awk '{ n += $2 } END { print n }' depth)" $((20 << 20))
	for want in "$((5 << 20)) 4096 1" "$((3 << 20)) 353792 3" "3499520 70656 2"; do
		grep -qxF "$want" depth || fail "no \"$want\" in: $(cat depth)"
	done
	stop
}

copies_back_and_forth() {
	make_disk "$1" 48M
	{
		noise 10M 1
		head -c 9M /dev/zero
		noise 29M 2
	} >model.raw
	serve --disk d.vhd
	expect_exit 0 nbdcopy --connections=4 --requests=64 model.raw "$uri"
	expect_exit 0 nbdcopy --connections=4 --requests=64 "$uri" back.raw
	expect_same_file model.raw back.raw
	expect_exit 0 qemu-img compare -f raw -F raw model.raw "nbd:unix:s"
	stop
	expect_contents d.vhd model.raw
	expect_exit 0 vhdtool check d.vhd
}

test_nbdcopy_with_four_connections() {
	need_tool nbdcopy qemu-img
	each_kind copies_back_and_forth
}

test_a_library_in_python() {
	need_nbdsh
	vhdtool create -q --dynamic 64M d.vhd
	serve --disk d.vhd
	expect_exit 0 nbdsh -u "$uri" -c '
assert h.get_size() == 64 << 20
data = bytes(i * 7 % 251 for i in range(100001))
h.pwrite(data, 12345, nbd.CMD_FLAG_FUA)
assert h.pread(len(data), 12345) == data
h.zero(50000, 20001, nbd.CMD_FLAG_FAST_ZERO)
h.trim(1 << 20, 0)
h.flush()
try:
    h.pread(1, 64 << 20)
    assert False
except nbd.Error as e:
    assert e.errno == "EINVAL", e.errno'
	expect_exit 0 nbdsh --base-allocation -u "$uri" -c '
h.pwrite(b"x" * 4096, 32 << 20)
seen = []
def one(context, offset, entries, err):
    seen.append((context, offset, sum(entries[::2]), entries[1::2]))
h.block_status(64 << 20, 0, one)
assert seen[0][0] == "base:allocation" and seen[0][1] == 0, seen
h.block_status(4 << 20, 40 << 20, one)
assert seen[1][2:] == (4 << 20, [3]), seen
h.block_status(1, 8191, one, nbd.CMD_FLAG_REQ_ONE)
assert seen[2][2] == 1, seen'
	stop
}

# ---- QEMU ----

qemu_reads_and_writes() {
	make_disk "$1" 32M
	serve --disk d.vhd
	expect_exit 0 qemu-io -f raw -c 'write -P 7 0 1M' -c 'read -P 7 0 1M' \
		-c 'write -z -u 64k 4k' -c 'read -P 0 64k 4k' -c 'discard 4M 4M' \
		-c 'write -P 9 1M 512' -c 'aio_write -P 3 8M 2M' -c 'aio_write -P 4 11M 2M' \
		-c aio_flush -c 'read -P 3 8M 2M' -c 'read -P 4 11M 2M' -c flush "$uri"
	! grep -i 'failed\|error' "$out" || fail "qemu-io is not content"
	expect_exit 0 qemu-img map --output=json "nbd:unix:s"
	expect_json '([.[].length] | add) == 33554432 and (.[0].data)'
	stop
	vhdtool convert -q d.vhd after.raw
	expect_equal "$(tail -c +$((8 * mib + 1)) after.raw | head -c 2M | tr -d '\3' | wc -c)" 0
	expect_equal "$(head -c 65536 after.raw | tr -d '\7' | wc -c)" 0
	expect_exit 0 vhdtool check d.vhd
	rm after.raw
}

test_qemu_io() {
	need_tool qemu-io qemu-img jq
	each_kind qemu_reads_and_writes
}

test_qemu_img_converts_through_it() {
	need_tool qemu-img
	vhdtool create -q --dynamic 32M d.vhd
	noise 5M 4 >model.raw
	truncate -s 32M model.raw
	serve --disk d.vhd
	expect_exit 0 qemu-img convert -n -f raw -O raw -m 8 -W model.raw "nbd:unix:s"
	expect_exit 0 qemu-img convert -f raw -O qcow2 "nbd:unix:s" copy.qcow2
	expect_exit 0 qemu-img compare -f qcow2 -F raw copy.qcow2 model.raw
	stop
	expect_contents d.vhd model.raw
}

# ---- fio ----

fio_verifies() {
	make_disk "$1" 64M
	serve --disk d.vhd
	expect_exit 0 fio --name=verify --ioengine=nbd --uri="nbd+unix:///?socket=$PWD/s" --rw=randrw \
		--bsrange=512-64k --bs_unaligned=1 --iodepth=64 --size=64M --io_size=96M \
		--verify=crc32c --do_verify=1 --verify_state_save=0 --verify_backlog=512 \
		--randseed="${RANDOM}"
	stop
	expect_exit 0 vhdtool check d.vhd
}

test_fio_verifies_what_it_wrote() {
	need_tool fio
	fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio with its nbd engine"
	each_kind fio_verifies
}

# ---- Others in front of it ----

# passes_a_filter FILTER [PARAMETER...]: what goes through nbdkit's filter to the disk comes back.
passes_a_filter() {
	nbdkit --dump-plugin --filter="$1" null >/dev/null 2>&1 || skip "needs nbdkit's filter $1"
	make_disk dynamic 8M
	serve --disk d.vhd
	expect_exit 0 nbdkit -U - --filter="$1" nbd socket="$PWD/s" "${@:2}" \
		--run 'nbdcopy model.raw "$uri" && nbdcopy "$uri" back.raw && nbdinfo --map "$uri"'
	expect_same_file model.raw back.raw
	stop
	[ "$1" = cow ] || expect_contents d.vhd model.raw
	expect_exit 0 vhdtool check d.vhd
}

test_nbdkit_in_front() {
	need_tool nbdkit nbdcopy nbdinfo
	noise 6M >model.raw
	truncate -s 8M model.raw
	subtest log passes_a_filter log logfile=log
	subtest stats passes_a_filter stats statsfile=stats
	subtest cow passes_a_filter cow
	subtest blocksize passes_a_filter blocksize minblock=4K maxlen=64K
	subtest multi-conn passes_a_filter multi-conn multi-conn-mode=emulate
	subtest nozero passes_a_filter nozero zeromode=emulate
	subtest fua passes_a_filter fua fuamode=force
	subtest delay passes_a_filter delay rdelay=1ms
	subtest readahead passes_a_filter readahead
	subtest retry passes_a_filter retry
	subtest checkwrite checks_what_is_there
}

# The filter fails writes of anything but what the disk holds.
checks_what_is_there() {
	make_disk dynamic 8M
	serve --disk d.vhd
	expect_exit 0 nbdcopy model.raw "$uri"
	expect_exit 0 nbdkit -U - --filter=checkwrite nbd socket="$PWD/s" \
		--run 'nbdcopy model.raw "$uri"'
	stop
}

# ---- TLS ----

# make_pki DIRECTORY: an authority, and certificates of it for a server and a client.
make_pki() {
	local who
	need_tool openssl
	mkdir "$1"
	make_key "$1/ca" -x509 -days 30 -subj '/CN=an authority' -out "$1/ca-cert.pem"
	for who in server client; do
		make_key "$1/$who" -subj "/CN=$who" -out "$1/$who.csr" \
			-addext 'subjectAltName=DNS:localhost,IP:127.0.0.1'
		openssl x509 -req -in "$1/$who.csr" -CA "$1/ca-cert.pem" -CAkey "$1/ca-key.pem" \
			-CAcreateserial -days 30 -copy_extensions copy -out "$1/$who-cert.pem" 2>/dev/null
	done
}

make_key() { # PREFIX OPTIONS...
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1-key.pem" \
		"${@:2}" 2>/dev/null
}

# On a port that nobody uses, which is told in $port.
serve_tls() {
	port=$((20000 + RANDOM % 20000))
	serve --disk d.vhd --nbd "tcp:localhost:$port" "$@"
	pki="tls-certificates=$PWD/pki"
}

test_tls_with_certificates() {
	need_tool nbdinfo nbdcopy qemu-img
	make_pki pki
	vhdtool create -q --dynamic 32M d.vhd
	noise 20M >model.raw
	truncate -s 32M model.raw
	serve_tls --tls-certs pki
	expect_exit 0 nbdinfo "nbds://localhost:$port?$pki"
	expect_out "with TLS, using structured packets"
	expect_exit 0 nbdcopy --connections=4 --requests=64 model.raw "nbds://localhost:$port?$pki"
	expect_exit 0 nbdcopy --connections=4 --requests=64 "nbds://localhost:$port?$pki" back.raw
	expect_same_file model.raw back.raw
	expect_exit 0 qemu-img compare --object "tls-creds-x509,id=t,endpoint=client,dir=$PWD/pki" \
		--image-opts driver=file,filename=model.raw \
		"driver=nbd,host=localhost,port=$port,tls-creds=t,tls-hostname=localhost"
	# The Unix socket, too.
	expect_exit 0 nbdinfo --size "nbds+unix:///?socket=s&tls-hostname=localhost&$pki"
	stop
	expect_contents d.vhd model.raw
}

test_tls_is_not_got_around() {
	need_tool nbdinfo
	need_nbdsh
	make_pki pki
	make_pki other
	mkdir anonymous && cp pki/ca-cert.pem anonymous
	cp -r pki impostor && cp other/client-*.pem impostor
	vhdtool create -q --dynamic 8M d.vhd
	serve_tls --tls-certs pki
	expect_exit 1 nbdinfo --size "nbd://localhost:$port"
	expect_exit 1 nbdinfo --size "$uri"
	expect_exit 1 nbdinfo --size "nbds://localhost:$port?tls-certificates=$PWD/other"
	expect_exit 1 nbdinfo --size "nbds://localhost:$port?tls-certificates=$PWD/anonymous"
	expect_exit 1 nbdinfo --size "nbds://localhost:$port?tls-certificates=$PWD/impostor"
	expect_exit 0 nbdsh -c '
h.set_opt_mode(True)
h.connect_unix("s")
try:
    h.opt_list(lambda *args: 0)
    assert False
except nbd.Error as e:
    assert "TLS" in str(e) or "Operation not supported" in str(e), str(e)'
	stop

	# Where clients of the Unix socket may choose, those over TCP may not.
	serve_tls --tls-certs pki --tls on
	expect_exit 0 nbdinfo --size "$uri"
	expect_exit 0 nbdinfo --size "nbds+unix:///?socket=s&tls-hostname=localhost&$pki"
	expect_exit 1 nbdinfo --size "nbd://localhost:$port"
	expect_exit 0 nbdinfo --size "nbds://localhost:$port?$pki"
	stop
	serve_tls --tls-certs pki --tls off
	expect_exit 0 nbdinfo --size "nbd://localhost:$port"
	expect_exit 1 nbdinfo --size "nbds://localhost:$port?$pki"
	stop
}

test_tls_with_a_revoked_certificate() {
	need_tool nbdinfo
	make_pki pki
	vhdtool create -q --dynamic 8M d.vhd
	touch index
	printf '%s\n' '[ca]' default_ca=a '[a]' database=index default_md=sha256 >ca.conf
	openssl ca -config ca.conf -keyfile pki/ca-key.pem -cert pki/ca-cert.pem -gencrl -crldays 9 \
		-out pki/ca-crl.pem 2>/dev/null
	serve_tls --tls-certs pki
	expect_exit 0 nbdinfo --size "nbds://localhost:$port?$pki"
	stop
	openssl ca -config ca.conf -keyfile pki/ca-key.pem -cert pki/ca-cert.pem \
		-revoke pki/client-cert.pem 2>/dev/null
	openssl ca -config ca.conf -keyfile pki/ca-key.pem -cert pki/ca-cert.pem -gencrl -crldays 9 \
		-out pki/ca-crl.pem 2>/dev/null
	serve_tls --tls-certs pki
	expect_exit 1 nbdinfo --size "nbds://localhost:$port?$pki"
	stop
}

test_tls_with_keys() {
	need_tool nbdinfo nbdcopy qemu-img
	vhdtool create -q --dynamic 8M d.vhd
	noise 8M >model.raw
	mkdir psk
	echo alice:00112233445566778899aabbccddeeff >psk/keys.psk
	echo bob:ffeeddccbbaa99887766554433221100 >>psk/keys.psk
	echo alice:ffeeddccbbaa99887766554433221100 >wrong.psk
	serve_tls --tls-psk psk/keys.psk
	for user in alice bob; do
		expect_exit 0 nbdcopy model.raw "nbds://$user@localhost:$port?tls-psk-file=$PWD/psk/keys.psk"
	done
	expect_exit 0 qemu-img compare \
		--object "tls-creds-psk,id=t,endpoint=client,dir=$PWD/psk,username=bob" \
		--image-opts driver=file,filename=model.raw \
		"driver=nbd,host=localhost,port=$port,tls-creds=t"
	expect_exit 1 nbdinfo "nbds://alice@localhost:$port?tls-psk-file=$PWD/wrong.psk"
	sed s/alice/carol/ psk/keys.psk >carol.psk
	expect_exit 1 nbdinfo "nbds://carol@localhost:$port?tls-psk-file=$PWD/carol.psk"
	expect_exit 1 nbdinfo "nbd://localhost:$port"
	stop
	expect_contents d.vhd model.raw
}

test_tls_with_hostile_clients() {
	make_pki pki
	vhdtool create -q --dynamic 8M d.vhd
	serve --disk d.vhd --tls-certs pki --tls on
	expect_exit 0 peer tls pki
	stop
	serve --disk d.vhd --tls-certs pki
	expect_exit 0 peer tls-required pki
	stop
	# A client that has chosen a disk of another loop goes on there, with its session.
	vhdtool create -q --dynamic 8M e.vhd
	serve --loops 2 --disk d.vhd --disk e=e.vhd --tls-certs pki --tls on
	for disk in '' e; do
		expect_exit 0 nbdinfo --map "nbds+unix:///$disk?socket=s&tls-hostname=localhost&tls-certificates=$PWD/pki"
	done
	stop
}

# ---- Beginnings and ends ----

test_it_serves_standard_input() {
	need_nbdsh
	vhdtool create -q --dynamic 8M d.vhd
	for how in --inetd '--nbd -'; do
		expect_exit 0 nbdsh -c "h.connect_command('$vspd --disk d.vhd $how'.split())" \
			-c 'h.pwrite(b"x" * 512, 0)' -c 'assert h.pread(512, 0) == b"x" * 512' \
			-c 'h.shutdown()'
	done
}

test_it_takes_sockets_that_are_handed_over() {
	need_nbdsh
	vhdtool create -q --dynamic 8M d.vhd
	expect_exit 0 nbdsh -c "h.connect_systemd_socket_activation(['$vspd', '--disk', 'd.vhd'])" \
		-c 'h.pwrite(b"x" * 512, 0)' -c 'assert h.pread(512, 0) == b"x" * 512' -c 'h.shutdown()'
}

test_it_listens_on_tcp() {
	need_tool nbdinfo
	local port=$((20000 + RANDOM % 20000))
	vhdtool create -q --dynamic 8M d.vhd
	serve --disk d.vhd --nbd "tcp:localhost:$port"
	expect_exit 0 nbdinfo --size "nbd://localhost:$port"
	expect_out 8388608
	stop
}

test_a_killed_server_leaves_what_was_flushed() {
	need_nbdsh
	local round
	vhdtool create -q --dynamic 64M d.vhd
	for round in 1 2 3; do
		serve --disk d.vhd
		/usr/bin/python3 -m nbd -u "$uri" -c "
for i in range(64):
    h.pwrite(bytes([$round * 64 + i & 255]) * 4096, i << 20, nbd.CMD_FLAG_FUA if i % 2 else 0)
h.flush()
print('flushed', flush=True)
i = 0
while True:
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b'z' * 4096)), (i % 64 << 20) + 8192)
    h.poll(0)
    i += 1" >flushed 2>/dev/null &
		client=$!
		for _ in $(seq 500); do
			! grep -q flushed flushed || break
			sleep 0.02
		done
		sleep 0.1
		kill -KILL $daemon
		wait $daemon 2>/dev/null || true
		kill $client 2>/dev/null || true
		wait $client 2>/dev/null || true
		rm -f pid
		vhdtool convert -q --force d.vhd after.raw
		python3 -c "
data = open('after.raw', 'rb').read()
for i in range(64):
    assert data[i << 20:(i << 20) + 4096] == bytes([$round * 64 + i & 255]) * 4096, i
    assert data[(i << 20) + 8192:(i << 20) + 12288] in (b'z' * 4096, bytes(4096)), i"
		expect_exit 0 vhdtool check --repair -q d.vhd
	done
	expect_file s # left over, and replaced by the next one
	serve --disk d.vhd
	stop
}

# ---- Our own ----

test_extended_headers() {
	vhdtool create -q --dynamic 64M d.vhd
	serve --disk d.vhd
	expect_exit 0 peer extended
	stop
}

test_hostile_clients() {
	make_disk chain 64M
	serve --disk d.vhd
	expect_exit 0 peer hostile
	cat "$out"
	stop
	expect_exit 0 vhdtool check d.vhd
}

descriptors() {
	ls "/proc/$daemon/fd" | wc -l
}

memory_kib() {
	awk '/^RssAnon/ { print $2 }' "/proc/$daemon/status"
}

# What 64 clients leave behind that come, do something and vanish in the middle of it: nothing. For
# minutes with HVKIT_CROWD_SECONDS; HVKIT_SEED repeats a run.
crowd() { # VSPD-ARGUMENTS...
	local before memory
	need_tool nbdcopy
	make_disk dynamic 64M
	serve --disk d.vhd "$@"
	peer crowd 2 >/dev/null
	sleep 0.5
	before=$(descriptors)
	memory=$(memory_kib)
	peer crowd "${HVKIT_CROWD_SECONDS:-5}"
	for _ in $(seq 200); do
		[ "$(descriptors)" != "$before" ] || break
		sleep 0.05
	done
	expect_equal "$(descriptors)" "$before" descriptors
	echo "memory: $memory KiB before, $(memory_kib) after"
	[ -n "$SANITIZED" ] || [ "$(memory_kib)" -le $((memory + 4096)) ] ||
		fail "it had $memory KiB and keeps $(memory_kib)"
	expect_exit 0 timeout 60 nbdcopy "$uri" null:
	stop
	expect_exit 0 vhdtool check d.vhd
}

test_clients_come_and_go() {
	subtest "one loop" crowd --loops 1
	vhdtool create -q --dynamic 8M other.vhd
	subtest "several loops" crowd --loops 3 --disk other=other.vhd
}

test_who_takes_no_replies_is_bounded_and_holds_up_nobody() {
	local i peers=
	need_tool nbdcopy
	vhdtool create -q --dynamic 64M d.vhd
	noise 64M >model.raw
	serve --disk d.vhd
	nbdcopy model.raw "$uri"
	for i in 1 2 3; do
		python3 "$peer_py" s hold >"full$i" &
		peers+=" $!"
	done
	for i in 1 2 3; do
		for _ in $(seq 500); do
			! grep -q full "full$i" || break
			sleep 0.02
		done
	done
	expect_exit 0 timeout 20 nbdcopy "$uri" back.raw
	expect_same_file model.raw back.raw
	[ -n "$SANITIZED" ] || [ "$(memory_kib)" -lt 200000 ] || fail "it takes $(memory_kib) KiB"
	kill $peers
	stop
}

test_it_ends_though_a_client_takes_no_replies() {
	local peer
	vhdtool create -q --dynamic 64M d.vhd
	noise 1M | vhdtool write -q d.vhd
	serve --disk d.vhd
	python3 "$peer_py" s hold >full &
	peer=$!
	for _ in $(seq 500); do
		! grep -q full full || break
		sleep 0.02
	done
	stop
	kill $peer
}
