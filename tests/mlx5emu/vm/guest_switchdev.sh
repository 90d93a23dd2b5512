#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# Runs a command with every card's switch in switchdev mode: its tables hold the driver's rules
# then, which the driver's own steering code writes into ICM, as rdma-core's does.
set -e
for d in /sys/class/infiniband/*/device; do
	handle=pci/$(basename "$(readlink -f "$d")")
	devlink dev eswitch set "$handle" mode switchdev
done
netdevs-up 2>/dev/null
# The RDMA device has a port for each virtual port of the switch; only the wire's, which is the
# last, has a network device.
for p in /sys/class/infiniband/*/ports/*; do
	case $(cat "$p/state") in 4*) export SUITE_ARGUMENTS="--port ${p##*/}" ;; esac
done
exec "$@"
