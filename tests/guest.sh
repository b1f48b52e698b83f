# For scripts that boot a real Linux guest: Debian's cloud kernel with an initramfs of busybox, under
# QEMU. A test says what the guest does in a function whose body runs there, in busybox's shell:
#
#	serve_disk() { /usr/bin/mke2fs -q /dev/vda && echo all is well; }
#	need_guest
#	make_initramfs ird.gz serve_disk mke2fs
#	run_guest ird.gz -device ... >console
#
# Kernel and busybox come from the package archive, are not installed, and are kept in build/guest.

guest_dir=$HVKIT_ROOT/build/guest
guest_modules="virtio_pci virtio_blk"

fetch_guest() {
	local image staging
	image=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
		awk '/Depends: linux-image-/ { print $2; exit }')
	[ -n "$image" ] || return
	staging=$(mktemp -d "$guest_dir.XXXXXX")
	if (cd "$staging" && timeout 300 apt-get -q download "$image" busybox-static &&
		for package in *.deb; do dpkg -x "$package" root; done &&
		depmod -b "$PWD/root" "$(ls root/lib/modules)" && rm ./*.deb); then
		mv -T "$staging" "$guest_dir" 2>/dev/null || rm -rf "$staging"
	else
		rm -rf "$staging"
	fi
}

# Skips where there is no emulator, or the kernel cannot be had.
need_guest() {
	need_tool qemu-system-x86_64 cpio depmod modprobe apt-get dpkg
	mkdir -p "$HVKIT_ROOT/build"
	if [ ! -d "$guest_dir" ]; then
		exec 9>"$guest_dir.lock"
		flock 9
		[ -d "$guest_dir" ] || fetch_guest >"$HVKIT_STATE/fetch" 2>&1 || :
		exec 9>&-
	fi
	[ -e "$guest_dir/root/bin/busybox" ] ||
		skip "needs Debian's cloud kernel, which cannot be fetched: $(tail -n 1 "$HVKIT_STATE/fetch" 2>/dev/null)"
}

# put_program DIRECTORY PROGRAM: with the libraries that it wants, in /usr/bin; the shell prefers its own
# programs to those, unless it is given the path.
put_program() {
	local file
	cp "$(command -v "$2")" "$1/usr/bin/"
	for file in $(ldd "$(command -v "$2")" | grep -o '/[^ ]*'); do
		mkdir -p "$1/$(dirname "$file")"
		cp -L "$file" "$1/$file"
	done
}

# make_initramfs FILE FUNCTION [PROGRAM...]
make_initramfs() {
	local file=$1 function=$2 tree version module
	tree=$(mktemp -d "$HVKIT_STATE/initramfs.XXXXXX")
	shift 2
	mkdir -p "$tree"/{bin,usr/bin,proc,sys,dev,mnt,modules}
	cp "$guest_dir/root/bin/busybox" "$tree/bin/"
	version=$(ls "$guest_dir/root/lib/modules")
	modprobe -d "$guest_dir/root" -S "$version" --show-depends -a $guest_modules |
		awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$tree/modules/paths"
	while read -r module; do
		cp "$module" "$tree/modules/"
		echo "${module##*/}"
	done <"$tree/modules/paths" >"$tree/modules/order"
	while [ $# -gt 0 ]; do
		put_program "$tree" "$1"
		shift
	done
	{
		echo '#!/bin/busybox sh'
		echo '/bin/busybox --install -s /bin; export PATH=/bin'
		echo 'echo # the firmware leaves the cursor anywhere'
		echo 'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev'
		echo 'for module in $(cat /modules/order); do insmod /modules/$module; done'
		declare -f "$function"
		echo "(set -e; $function); echo \"status: \$?\"; sync; poweroff -f"
	} >"$tree/init"
	chmod 755 "$tree/init"
	(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$file"
	rm -rf "$tree"
}

# boot_guest INITRAMFS QEMU-OPTION...: its console is the output. GUEST_KERNEL is another kernel than
# the fetched one, GUEST_APPEND more for its command line.
boot_guest() {
	local initramfs=$1 kernel
	shift
	kernel=${GUEST_KERNEL:-$(echo "$guest_dir"/root/boot/vmlinuz-*)}
	timeout "${GUEST_TIMEOUT:-90}" qemu-system-x86_64 -accel tcg -cpu max -smp "${GUEST_CPUS:-1}" \
		-machine q35 -nodefaults -nographic -no-reboot -serial stdio \
		-kernel "$kernel" -initrd "$initramfs" \
		-append "console=ttyS0 panic=-1 quiet no_timer_check ${GUEST_APPEND-}" "$@" </dev/null
}

# run_guest INITRAMFS [QEMU option...]: the same with memory that others may share, GUEST_MEMORY of it.
run_guest() {
	local memory=${GUEST_MEMORY:-256M}
	boot_guest "$1" -m "$memory" -object memory-backend-memfd,id=mem,size="$memory",share=on \
		-machine memory-backend=mem "${@:2}"
}
