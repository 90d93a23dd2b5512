# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Streams of a DC initiator: a failing message stops the stream that its WQE names, not the queue.

Messages of different streams are carried out one after the other, in the order of their WQEs: one
that waits for its target holds up the others.
"""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.dispatch import Command
from ..firmware.status import Status
from ..prm.wqe import Syndrome

if TYPE_CHECKING:
    from ..card import Card
    from .qp import Qp

#: What is wrong with the WQE itself stops the queue.
_OF_THE_QUEUE = (Syndrome.LOCAL_QP_OP,)


class DciStreams:
    """Which streams of a send queue are in error.

    :param log_errored: log2 of how many make the QP fail.
    """

    def __init__(self, log_errored: int) -> None:
        self.limit = 1 << log_errored
        self.errored: set[int] = set()
        #: Stream of the WQE at the head.
        self.current = 0

    def enter(self, wqe: bytes) -> bool:
        """Take the stream of a WQE; False when it is in error, so that the WQE is flushed."""
        self.current = int.from_bytes(wqe[9:11], 'big')
        return self.current not in self.errored

    def absorb(self, syndrome: int) -> bool:
        """The head WQE failed: whether its stream alone is in error for it; False when the QP
        is."""
        if syndrome in _OF_THE_QUEUE:
            return False
        self.errored.add(self.current)
        return len(self.errored) < self.limit


def streams_of(card: 'Card', qpc: prm.View, initiator: bool) -> DciStreams | None:
    """The streams that a QP context asks for, None when it has none.

    :param initiator: whether it is a DCI's.
    :raises Status: BAD_PARAM when the card or the transport does not have so many.
    """
    channels, errored = qpc['log_num_dci_stream_channels'], qpc['log_num_dci_errored_streams']
    if not channels and not errored:
        return None
    if not initiator:
        raise Status('BAD_PARAM', 'streams are for DC initiators')
    if channels > card.caps.get('log_max_dci_stream_channels') or errored > card.caps.get(
            'log_max_dci_errored_streams'):
        raise Status('BAD_PARAM', 'more DCI streams than the card has')
    return DciStreams(errored) if channels else None


def reset_stream(cmd: Command, qp: 'Qp') -> None:
    """A stream that is in error may send again.

    :raises Status: BAD_PARAM no streams; BAD_RES_STATE it is not in error.
    """
    streams = qp.sq.streams if qp.sq is not None else None
    if cmd.name != 'RTS2RTS_QP' or not cmd.inp['qpc_ext'] or streams is None:
        raise Status('BAD_PARAM', 'no DCI stream to reset')
    stream = prm.View('qpc_ext', cmd.raw, cmd.inp.size)['dci_stream_channel_id']
    if stream not in streams.errored:
        raise Status('BAD_RES_STATE', 'stream is not in error')
    streams.errored.remove(stream)
