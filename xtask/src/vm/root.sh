# Makes what the machine boots from in the folder $1: a minimal Debian of the suite $2 as an ext4
# image, its stock kernel, and an initial file system that mounts the image. Run as root.
set -eu
folder=$1
suite=$2
tree=$folder/tree
trap 'rm -rf "$tree"' EXIT
mkdir -p "$folder"
mmdebstrap --quiet --variant=minbase \
    --include=kmod,nftables,iptables,iproute2,iputils-ping,busybox-static,procps,uidmap,cpio,git,ca-certificates,e2fsprogs,xfsprogs,python3 \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='chroot "$1" sh -s < '"$folder/kernel.sh" \
    "$suite" "$tree"
mv "$tree/kernel" "$folder/kernel"
mv "$tree/initrd" "$folder/initrd"
truncate -s 3G "$folder/root.ext4"
mke2fs -q -t ext4 -m 0 -E lazy_itable_init=1 -d "$tree" "$folder/root.ext4"
chmod 0644 "$folder/kernel" "$folder/initrd" "$folder/root.ext4"
