# PID 1 of the machine: a host with cgroup version 2 alone, on which the programs listed in
# /mnt/tests run one after the other. Lines that begin with `vm: ` are for xtask.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RUST_BACKTRACE=0
# This kernel keeps project quotas: what needs them may not be skipped.
export BOATYARD_QUOTA=1
# Nobody else uses this machine: probes may succeed here once their protection is removed, though
# that changes it.
export BOATYARD_OWN_MACHINE=1
finish() {
    echo "vm: end"
    # Everything is written to the console before the machine goes.
    busybox sleep 0.2
    busybox poweroff -f
}
trap finish EXIT
set -e
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /scratch
ln -sfn /proc/self/fd /dev/fd
for module in overlay fuse tun veth dummy loop xfs quota_v2 zram; do modprobe "$module"; done
# Where daemons under test keep what they have: with project quotas, so that disks are limited by them
# where on the developer's own host they are by images.
mount -o prjquota /dev/vdc /scratch
mkdir -m 1777 /scratch/tmp
export TMPDIR=/scratch/tmp
# As service managers leave it; the kernel's own is 4096.
ulimit -Hn 524288
echo yard > /proc/sys/kernel/hostname
ip link set lo up
# A way out that leads nowhere: tests ask for the host's own address on it.
ip link add up0 type dummy
ip address add 192.0.2.1/24 dev up0
ip link set up0 up
ip route add default via 192.0.2.254
# The tests name the programs they start by the paths at which those were built.
while read -r source path; do
    mkdir -p "$(dirname "$path")"
    ln -s "/mnt/$source" "$path"
done < /mnt/places
set +e
echo "vm: up, Linux $(uname -r), cgroup v2 with $(cat /sys/fs/cgroup/cgroup.controllers)"
while read -r program arguments; do
    echo "vm: run $program"
    began=$(cut -d. -f1 /proc/uptime)
    case $program in
    # No terminal, so that progress is shown in plain lines.
    # shellcheck disable=SC2086 -- one word for each argument
    *.sh)
        { BOATYARD=/mnt/boatyard sh "/mnt/$program" $arguments < /dev/null; echo $? > /run/code; } 2>&1 | cat
        code=$(cat /run/code)
        ;;
    # shellcheck disable=SC2046 -- one word for each argument
    *)
        BOATYARD_BIN=/mnt/boatyard "/mnt/$program" $arguments < /dev/null
        code=$?
        ;;
    esac
    echo "it took $(($(cut -d. -f1 /proc/uptime) - began)) s"
    echo "vm: exit $code $program"
done < /mnt/tests
