#!/bin/bash
# Makes a whole Debian guest in a VHD, to try vspd with; nothing of `make check` needs it.
#
#	tests/debian-guest.sh DISK.vhd [SIZE [PACKAGE...]]	SIZE: 2G
#
# DISK.vhd is a dynamic disk with ext4; beside it lie the guest's DISK.vmlinuz and DISK.initrd. How to
# boot it is printed at the end. The guest is the host's release of Debian; root logs in on the serial
# console without a password. Who makes it need not be root where mmdebstrap may use user namespaces.
set -euo pipefail
root=$(realpath "${BASH_SOURCE[0]%/*}/..")
vhdtool=${VHDTOOL:-$root/build/bin/vhdtool}

fail() {
	echo "debian-guest.sh: $*" >&2
	exit 1
}

[ $# -ge 1 ] || fail "say which disk to make: debian-guest.sh DISK.vhd [SIZE [PACKAGE...]]"
disk=$1 size=${2:-2G}
shift $(($# > 1 ? 2 : 1))
packages=linux-image-cloud-amd64,systemd-sysv,udev,dbus,iproute2,e2fsprogs
for package; do packages+=,$package; done
[[ $disk == *.vhd ]] || fail "$disk: the name has to end with .vhd"
base=${disk%.vhd}
for file in "$disk" "$base.vmlinuz" "$base.initrd"; do
	[ ! -e "$file" ] || fail "$file: exists already"
done
for tool in mmdebstrap mke2fs "$vhdtool"; do
	command -v "$tool" >/dev/null || fail "needs $tool"
done
. /etc/os-release

# mmdebstrap's hooks may run as another user, in namespaces where all owners are right; /proc and its
# kind are mounted in the guest, and do not come along when it is bound to another place. For root the
# hooks run in our own namespaces, in which nothing may stay mounted.
work=$(mktemp -d "$base.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/guest"
for file in raw vmlinuz initrd; do
	: >"$work/$file"
	chmod 666 "$work/$file"
done
truncate -s "$size" "$work/raw"
fill='mount --bind "$1" "$2"; mke2fs -q -t ext4 -L root -d "$2" "$3"'
printf '%s\n' 'LABEL=root / ext4 errors=remount-ro 0 1' >"$work/fstab"

mmdebstrap --quiet --variant=minbase --include="$packages" \
	--customize-hook='passwd -R "$1" -d root >/dev/null' \
	--customize-hook='echo guest >"$1/etc/hostname"' \
	--customize-hook="copy-in '$work/fstab' /etc" \
	--customize-hook="cat \"\$1\"/boot/vmlinuz-* >'$work/vmlinuz'" \
	--customize-hook="cat \"\$1\"/boot/initrd.img-* >'$work/initrd'" \
	--customize-hook="unshare --mount sh -ec '$fill' sh \"\$1\" '$work/guest' '$work/raw'" \
	"$VERSION_CODENAME" - >/dev/null
[ -s "$work/vmlinuz" ] && [ -s "$work/initrd" ] || fail "the guest has no kernel"

"$vhdtool" convert -q --force --from raw --to dynamic "$work/raw" "$disk"
mv "$work/vmlinuz" "$base.vmlinuz"
mv "$work/initrd" "$base.initrd"
cat <<END
made $disk; to boot it:

vspd --disk $disk --vhost-user $base.sock &
qemu-system-x86_64 -M q35 -m 1G -nographic -no-reboot \\
	-object memory-backend-memfd,id=m,size=1G,share=on -numa node,memdev=m \\
	-chardev socket,id=c,path=$base.sock,reconnect=1 -device vhost-user-blk-pci,chardev=c \\
	-kernel $base.vmlinuz -initrd $base.initrd -append "root=LABEL=root console=ttyS0"
END
