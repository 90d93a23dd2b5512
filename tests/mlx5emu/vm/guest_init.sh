#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# The guest's process 1: kernel modules, the host's file system, one command, power-off. It tells
# the host what happens in lines on the port "events"; the kernel's own console stays the kernel's.
# shellcheck disable=SC2154  # /spec/settings sets fs, functions, modules, tty, rows and cols
# shellcheck disable=SC3045  # busybox's shell has ulimit -l
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
# shellcheck source=/dev/null
. /spec/settings
export PATH=/bin:/sbin

port() {
	# Where the driver is a module, ports and their names come one by one.
	for _ in $(busybox seq 50); do
		for p in /sys/class/virtio-ports/*; do
			read -r name <"$p/name" && [ "$name" = "$1" ] && echo "/dev/${p##*/}" && \
			  return
		done 2>/dev/null
		usleep 100000
	done
}
say() {
	read -r up _ </proc/uptime
	echo "$1 $up $2" >&3
}
die() {
	say failed "$1"
	poweroff -f
}

while read -r module; do insmod "$module"; done </load/virtio
exec 3>"$(port events)"
say init
for group in "$fs" overlay; do
	while read -r module; do insmod "$module" || die "insmod $module"; done <"/load/$group"
done
share() {
	if [ "$fs" = 9p ]; then
		mount -t 9p -o "$3trans=virtio,version=9p2000.L,msize=512000,cache=loose" "$1" "$2"
	else
		mount -t virtiofs -o "$3" "$1" "$2"
	fi || die "mounting the host's files at $2 by $fs"
}
share host /host ro,
for d in dev proc sys run tmp; do
	[ -d "/host/$d" ] || die "the host has no directory /$d to mount on"
done
# The host's /tmp can be read; what is written there is the guest's own and goes with it.
mount -t tmpfs -o mode=755 own /own
mkdir /own/tmp /own/work
busybox chmod 1777 /own/tmp
mount -t overlay -o lowerdir=/host/tmp,upperdir=/own/tmp,workdir=/own/work tmp /host/tmp || die \
  "mounting the guest's own /tmp"
# For modprobe, and for what the kernel itself asks for.
mount -o bind "/host$modules" "/lib/modules/${modules##*/}" || die "mounting the kernel's modules"
while read -r tag path; do share "$tag" "/host$path" rw,; done </spec/mounts
mount -t devtmpfs dev /host/dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 shm /host/dev/shm
mount -t devpts -o ptmxmode=666 pts /host/dev/pts
mount -t proc proc /host/proc
mount -t sysfs sys /host/sys
mount -t debugfs debug /host/sys/kernel/debug
mount -t tmpfs -o mode=755 run /host/run
mkdir -p /host/run/mlx5emu/bin
ln -s "$(port control)" /host/run/mlx5emu/control
cat /bin/busybox >/host/run/mlx5emu/bin/busybox
# modprobe has the modules of the guest's kernel, which are not where the host's are
for applet in modprobe rmmod insmod lsmod netdevs-up; do
	printf '#!/bin/sh\nexec chroot /proc/1/root /bin/%s "$@"\n' $applet \
	  >/host/run/mlx5emu/bin/$applet
done
for applet in ip dmesg poweroff chroot; do ln -s busybox /host/run/mlx5emu/bin/$applet; done
cat /spec/command >/host/run/mlx5emu/command
busybox chmod 755 /host/run/mlx5emu/bin/* /host/run/mlx5emu/command
# A name that every host file system resolves; programs look for their own.
echo localhost >/proc/sys/kernel/hostname
say mounted
ip link set lo up
while read -r module; do
	# prof_sel=0: no cache of memory keys, which is filled with thousands of commands at load
	# and emptied at unload
	case $module in */mlx5_core.ko) options=prof_sel=0 ;; *) options= ;; esac
	insmod "$module" $options || die "insmod $module: see the kernel log"
done </load/mlx5
say loaded
tries=0
last=uverbs$((functions - 1))
until [ -e /dev/infiniband/$last ]; do
	tries=$((tries + 1))
	[ $tries -gt 100 ] &&
		die "no /dev/infiniband/$last 10 s after the driver was loaded: see the kernel log"
	usleep 100000
done
busybox chmod 666 /dev/infiniband/uverbs* /dev/infiniband/rdma_cm 2>/dev/null
say uverbs0
netdevs-up
ulimit -l unlimited
say start
if [ "$tty" = 1 ]; then
	# Kept open in between: the last close of a terminal forgets its size.
	exec 4<>/dev/hvc0
	stty rows "$rows" cols "$cols" <&4
	setsid -c chroot /host /run/mlx5emu/command <&4 >&4 2>&1 3>&- 4>&-
else
	setsid chroot /host /run/mlx5emu/command <"$(port stdin)" >"$(port stdout)" \
	  2>"$(port stderr)" 3>&-
fi
say exit $?
busybox sync
poweroff -f
