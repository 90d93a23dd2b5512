# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Where packets go: flow tables of firmware and of software, what their entries match and do, and
the switch. The door is :class:`steering.Steering`, which walks a packet from a root table to
receivers. Each file has the commands of its objects.
"""
