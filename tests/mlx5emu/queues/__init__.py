# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Objects that work is posted to or completes in: QPs, CQs, shared and raw queues, their rings, and
what holds them back. Each file has the commands of its objects. Their states, failing and flushing
are :class:`queue.Queue`'s; what they do is the data path's.
"""
