#!/bin/sh
# What a user does, on the real binary: an image, an environment from a folder, commands in it, its
# stop, start and end; then one with a limited disk, where state lies on a file system with project
# quotas. Everything from this machine alone.
set -eu
boatyard() {
    "$BOATYARD" "$@"
}
ends() {
    deadline=200
    while ls -d /sys/fs/cgroup/boatyard*/envs/*/ 2>/dev/null && [ $deadline -gt 0 ]; do
        busybox usleep 100000
        deadline=$((deadline - 1))
    done
    [ $deadline -gt 0 ]
}
mkdir -p /root/image/layer/bin /root/image/layer/etc /root/image/layer/tmp /root/hello/.devcontainer
cd /root/image
cp /bin/busybox layer/bin/
for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "layer/bin/$applet"
done
echo root:x:0:0::/root:/bin/sh > layer/etc/passwd
tar -C layer -cf layer.tar .
digest=$(sha256sum layer.tar | cut -d' ' -f1)
cat > config.json <<JSON
{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$digest"]}}
JSON
echo '[{"Config":"config.json","RepoTags":["yard:1"],"Layers":["layer.tar"]}]' > manifest.json
tar -cf ../image.tar manifest.json config.json layer.tar
echo '{"image":"yard:1","remoteUser":"root","waitFor":"postCreateCommand","postCreateCommand":"echo made > made"}' \
    > /root/hello/.devcontainer/devcontainer.json

# Quotas are kept where /scratch is.
mkdir -p /var/lib/boatyard /scratch/state
mount --bind /scratch/state /var/lib/boatyard
# By emulation the daemon's runner may take longer to come than a command waits for it.
tries=10
until boatyard image import /root/image.tar --tag yard:1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ]
done
boatyard doctor
boatyard up /root/hello --name hello --detach
boatyard exec hello -- sh -c 'id -u; cat made; cat /sys/fs/cgroup/cgroup.controllers; echo kept > /kept'
boatyard stop hello
boatyard start hello
[ "$(boatyard exec hello -- cat /kept)" = kept ]
boatyard rm hello
[ "$(cat /root/hello/made)" = made ]
ends

cat > /root/class.yaml <<YAML
apiVersion: boatyard.dev/v1
kind: EnvironmentClass
metadata:
  name: small
spec:
  resources: {cpu: "1", memory: 256Mi, disk: 64Mi}
YAML
boatyard apply -f /root/class.yaml
boatyard up /root/hello --name small --class small --detach
size=$(boatyard exec small -- df -m / | awk 'NR > 1 {print $2}')
[ "$size" -ge 64 ] && [ "$size" -lt 80 ]
boatyard exec small -- dd if=/dev/zero of=/full bs=64k && exit 1
if grep -q disk.img /sys/block/loop*/loop/backing_file; then exit 1; fi
written=$(boatyard exec small -- stat -c %s /full)
[ "$written" -gt $((60 << 20)) ] && [ "$written" -lt $((72 << 20)) ]
boatyard stop small
boatyard start small
boatyard exec small -- rm /full
boatyard exec small -- sh -c 'echo kept > /kept'
top=/sys/fs/cgroup/boatyard*/envs
[ "$(cat $top/*/memory.max)" = $((256 << 20)) ]
# One processor on the average, for moments as much again (`plan::shares::caps`).
awk '$1 < $2 || $1 > $2 * 2 { exit 1 }' $top/*/cpu.max
boatyard rm small
ends
