#!/bin/sh
# What a user does, on the real binary: an image, an environment from a folder, commands in it, its
# stop, start and end. Everything from this machine alone.
set -eu
boatyard() {
    "$BOATYARD" "$@"
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
echo '{"image":"yard:1","remoteUser":"root","postCreateCommand":"echo made > made"}' \
    > /root/hello/.devcontainer/devcontainer.json

boatyard image import /root/image.tar --tag yard:1
boatyard doctor
boatyard up /root/hello --name hello --detach
boatyard exec hello -- sh -c 'id -u; cat made; cat /sys/fs/cgroup/cgroup.controllers; echo kept > /kept'
boatyard stop hello
boatyard start hello
[ "$(boatyard exec hello -- cat /kept)" = kept ]
boatyard rm hello
[ "$(cat /root/hello/made)" = made ]
deadline=200
while ls -d /sys/fs/cgroup/boatyard*/envs/*/ 2>/dev/null && [ $deadline -gt 0 ]; do
    busybox usleep 100000
    deadline=$((deadline - 1))
done
[ $deadline -gt 0 ]
