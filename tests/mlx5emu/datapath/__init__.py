# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What queues do once a doorbell was rung: requests carried out transport by transport, what peers
answer, and frames through the flow tables. The door is :class:`datapath.DataPath`, as
``card.datapath``; other functions see its :class:`port.Port` only. Nothing that a guest writes
raises out of here.
"""
