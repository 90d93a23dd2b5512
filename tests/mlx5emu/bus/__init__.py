# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The way in: vfio-user messages to a PCI function, its windows, and the command queue in guest
memory. The door is :class:`server.Server`, one thread that owns a card. What a message means is
decoded here, once, and handed to firmware's dispatch or to the data path.
"""
