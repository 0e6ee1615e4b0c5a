#!/bin/sh
# How many environments a gibibyte holds: with hard limits and no swap, and with memory overbooked.
# What each does and how they are counted is in heap.py.
set -eu
modprobe zram
echo lzo-rle > /sys/block/zram0/comp_algorithm
echo 2G > /sys/block/zram0/disksize
busybox mkswap /dev/zram0 > /dev/null
# One page at a time: there is no seek to save.
echo 0 > /proc/sys/vm/page-cluster
echo 100 > /proc/sys/vm/swappiness
python3 /mnt/heap.py
