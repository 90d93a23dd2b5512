#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# Runs a command with every card's switch in switchdev mode: its tables are an administrator's then, and the driver's default rules.
# The driver manages them by firmware commands; the entries that its own steering code writes are of other formats than rdma-core's.
set -e
for d in /sys/class/infiniband/*/device; do
	handle=pci/$(basename "$(readlink -f "$d")")
	devlink dev param set "$handle" name flow_steering_mode value dmfs cmode runtime
	devlink dev eswitch set "$handle" mode switchdev
done
netdevs-up 2>/dev/null
# The RDMA device has a port for each virtual port of the switch; only the wire's, which is the last, has a network device.
for p in /sys/class/infiniband/*/ports/*; do
	case $(cat "$p/state") in 4*) export SUITE_ARGUMENTS="--port ${p##*/}" ;; esac
done
exec "$@"
