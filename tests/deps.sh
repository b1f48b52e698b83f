#!/bin/bash
# What building and testing need, by the names of Debian 12, and whether it is there.
#
#	deps.sh install GROUP...	installs what is missing, with apt-get (through sudo if not root)
#	deps.sh require GROUP...	says what is missing and fails
#
# What is there is found by looking for the thing itself, so that neither a package manager nor a
# network is needed when nothing is missing. Without the group "test" the tests run, and skip.
set -u
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

build="build-essential pkg-config libaio-dev libblkid-dev libssl-dev libjansson-dev \
	libext2fs-dev libfuse3-dev"
unit="libcriterion-dev"
test="qemu-utils libvhdi-utils e2fsprogs xfsprogs util-linux mandoc clang python3 strace fio jq \
	p7zip-full procps fuse3 dosfstools fdisk libnbd-bin python3-libnbd nbdkit openssl \
	fuse2fs ntfs-3g exfat-fuse exfatprogs squashfuse squashfs-tools fuseiso grub-common mtools \
	xorriso attr xxd qemu-system-x86 cpio kmod"
optional="btrfs-progs gnuplot-nox mmdebstrap"
quickstart="e2fsprogs"
coverage="gcovr"
fuzz="clang libclang-rt-14-dev python3"
format="clang-format"
tidy="clang-tidy clang-tools cppcheck"

header() {
	echo "#include <$1>" | "${CC:-cc}" -E - >/dev/null 2>&1
}

# Is what this package brings there?
present() {
	case $1 in
	build-essential) command -v "${CC:-cc}" && command -v ar && header stdio.h ;;
	pkg-config) command -v pkg-config ;;
	libaio-dev) header libaio.h ;;
	libblkid-dev) pkg-config --exists blkid ;;
	libssl-dev) pkg-config --exists libcrypto ;;
	libjansson-dev) pkg-config --exists jansson ;;
	libext2fs-dev) pkg-config --exists ext2fs ;;
	libfuse3-dev) pkg-config --exists fuse3 ;;
	libcriterion-dev) header criterion/criterion.h ;;
	libnbd-bin) command -v nbdinfo && command -v nbdcopy ;;
	python3-libnbd) /usr/bin/python3 -c 'import nbd' ;;
	qemu-utils) command -v qemu-img && command -v qemu-io ;;
	qemu-system-x86) command -v qemu-system-x86_64 ;;
	gnuplot-nox) command -v gnuplot ;;
	kmod) command -v depmod && command -v modprobe ;;
	libvhdi-utils) command -v vhdimount ;;
	e2fsprogs) command -v mke2fs && command -v e2fsck && command -v debugfs ;;
	xfsprogs) command -v mkfs.xfs ;;
	btrfs-progs) command -v mkfs.btrfs ;;
	exfatprogs) command -v mkfs.exfat ;;
	ntfs-3g) command -v mkfs.ntfs ;;
	p7zip-full) command -v 7z ;;
	procps) command -v pgrep ;;
	fuse3) command -v fusermount3 ;;
	libclang-rt-14-dev) [ -e "$(clang -print-file-name=libclang_rt.fuzzer-"$(uname -m)".a)" ] ;;
	dosfstools) command -v mkfs.vfat ;;
	exfat-fuse) command -v mount.exfat-fuse ;;
	squashfs-tools) command -v mksquashfs ;;
	grub-common) command -v grub-mount ;;
	mtools) command -v mcopy ;;
	attr) command -v getfattr ;;
	clang-tools) command -v scan-build ;;
	fdisk) command -v sfdisk ;;
	util-linux) command -v losetup && command -v setpriv && command -v findmnt ;;
	*) command -v "$1" ;;
	esac >/dev/null 2>&1
}

missing() {
	local group package
	for group; do
		for package in ${!group}; do
			present "$package" || echo "$package"
		done
	done
}

cannot() {
	echo "hvkit: missing: ${lacking//$'\n'/ } (Debian 12 package names): $1" >&2
	[ -z "$(missing $hard)" ] || exit 1
	echo "hvkit: going on without; tests that need them will be skipped" >&2
	exit 0
}

apt() {
	echo "\$ ${sudo:+$sudo }apt-get $*" >&2
	if [ "${V:-0}" = 1 ]; then
		$sudo env DEBIAN_FRONTEND=noninteractive apt-get "$@" >&2
	else
		$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >/dev/null
	fi
}

verb=$1
shift
hard=
for group; do
	case $group in
	test | optional) ;;
	*) hard+=" $group" ;;
	esac
done
lacking=$(missing "$@")
[ -n "$lacking" ] || exit 0

[ "$verb" = install ] || cannot "run 'make deps', or install them by hand"
command -v apt-get >/dev/null || cannot "there is no apt-get here, please install them by hand"
sudo=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || cannot "run 'make deps' as root, there is no sudo here"
	sudo=sudo
	[ -t 2 ] || sudo="sudo -n"
fi

# The package lists are fetched only when what they say does not do.
if ! apt-get install -s $lacking >/dev/null 2>&1; then
	apt update || cannot "apt-get update failed"
fi
apt install -y --no-install-recommends $lacking ||
	{ apt update && apt install -y --no-install-recommends $lacking; } ||
	cannot "apt-get could not install them"
lacking=$(missing "$@")
[ -z "$lacking" ] || cannot "still not found after apt-get installed them"
