# For scripts that start vspd, after lib.sh: in the background, until it listens, and what it said on
# standard error, which should be nothing.

vspd_err=$HVKIT_STATE/vspd.err

vspd() {
	"$HVKIT_BUILD/bin/vspd" "$@"
}

# To the daemon of start_daemon.
vspctl() {
	"$HVKIT_BUILD/bin/vspctl" "$@" --socket run/vspd.sock
}

await_vspd() {
	for _ in $(seq 500); do
		[ ! -e pid ] || return 0
		kill -0 "$daemon" 2>/dev/null || fail "vspd: $(cat "$vspd_err")"
		sleep 0.02
	done
	fail "vspd does not listen"
}

# start_vspd ARGUMENT...: its process is $daemon.
start_vspd() {
	rm -f pid
	"$HVKIT_BUILD/bin/vspd" --pidfile pid "$@" 2>>"$vspd_err" &
	daemon=$!
	await_vspd
}

# short_directory LINK: links to a directory of a short name; the paths of sockets have at most 107
# bytes.
short_directory() {
	local directory
	directory=$(mktemp -d /tmp/vspd.XXXXXX)
	chmod 755 "$directory"
	defer "rm -rf $directory"
	ln -s "$directory" "$1"
}

# start_daemon ARGUMENT...: with the VMs of ./etc, and sockets in ./run, whose path is $run.
start_daemon() {
	[ -e run ] || short_directory run
	run=$(realpath run)
	start_vspd --config-dir "$PWD/etc" --runtime-dir "$run" --audit-log "$PWD/audit.log" "$@"
}

# stop_vspd [SIGNAL]: it ends well.
stop_vspd() {
	local rc=0
	kill "${1--TERM}" "$daemon"
	wait "$daemon" || rc=$?
	[ $rc = 0 ] || fail "vspd ended with status $rc: $(tail -n 1 "$vspd_err")"
}

# And had nothing to complain about.
expect_quiet_vspd() {
	expect_equal "$(cat "$vspd_err")" ""
}
