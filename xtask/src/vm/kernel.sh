# Run inside the new Debian: unpacks its stock kernel without what its package would configure (a
# boot loader, a large initial file system), and makes a small /initrd of our own.
set -eu
cd /tmp
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -n 1)
apt-get -qq download "$package"
# Not `dpkg -x`, which would put a folder in the place of the link /lib.
dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x -C / --keep-directory-symlink
rm "$package"_*.deb
version=$(ls /lib/modules)
depmod "$version"
mv "/boot/vmlinuz-$version" /kernel

mkdir -p /tmp/initrd/bin /tmp/initrd/dev /tmp/initrd/root /tmp/initrd/modules
cd /tmp/initrd
cp /bin/busybox bin/
for name in virtio_pci virtio_blk crc32c_generic ext4; do
    modprobe -S "$version" --show-depends "$name" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' > order
while read -r module; do
    cp "$module" modules/
    basename "$module"
done < order > modules/order
rm order
cat > init <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do
    /bin/busybox insmod "/modules/$module"
done < /modules/order
tries=0
while [ ! -b /dev/vdb ] && [ $tries -lt 100 ]; do
    /bin/busybox usleep 50000
    tries=$((tries + 1))
done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -t ext4 -o ro /dev/vdb /root/mnt
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /bin/sh /mnt/run.sh
INIT
chmod 755 init
find . | cpio --quiet -o -H newc | gzip -1 > /initrd
cd /
rm -rf /tmp/initrd
