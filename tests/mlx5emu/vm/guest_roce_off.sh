#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# Runs a command with RoCE off on every card: an administrator's choice, which the driver takes up
# when it is loaded anew.
set -e
for d in /sys/class/infiniband/*/device; do
	handle=pci/$(basename "$(readlink -f "$d")")
	devlink dev param set "$handle" name enable_roce value false cmode driverinit
	devlink dev reload "$handle"
done
netdevs-up
exec "$@"
