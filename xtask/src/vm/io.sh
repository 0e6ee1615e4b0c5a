#!/bin/sh
# What an fsync waits beside a neighbour's flood on a disk of a definite speed (`bench ROUNDS io`).
# Arguments: the rounds, then how the kernel shares the disk: as it comes (the default), `none`, `bfq`,
# or `iocost` with its rate in percent of the disk's, each where this kernel has it.
set -eu
disk=vdc
queue=/sys/block/$disk/queue
case ${2:-} in
none) echo none > $queue/scheduler ;;
bfq)
    modprobe bfq
    echo bfq > $queue/scheduler
    ;;
iocost)
    number=$(cat /sys/block/$disk/dev)
    # What this machine's disk does.
    bytes=31457280
    requests=1000
    echo "$number ctrl=user model=linear rbps=$bytes rseqiops=$requests rrandiops=$requests wbps=$bytes wseqiops=$requests wrandiops=$requests" > /sys/fs/cgroup/io.cost.model
    echo "$number enable=1 ctrl=user rpct=0.00 rlat=0 wpct=0.00 wlat=0 min=${3:-100.00} max=${3:-100.00}" > /sys/fs/cgroup/io.cost.qos
    cat /sys/fs/cgroup/io.cost.qos /sys/fs/cgroup/io.cost.model
    ;;
esac
echo "scheduler: $(cat $queue/scheduler), writeback throttling: $(cat $queue/wbt_lat_usec) us"
BOATYARD_BIN=$BOATYARD /mnt/bench "${1:-3}" io
