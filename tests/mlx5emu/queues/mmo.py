# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Memory to memory operations of a send queue: a copy by the card's DMA engine, which needs no
peer."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.dispatch import Command
from ..firmware.status import Status
from ..memory.mkey import LOCAL_READ, LOCAL_WRITE
from ..memory.transfer import InlineData, copy
from ..prm.wqe import DATA, MMO_METADATA, MMO_RESULT

if TYPE_CHECKING:
    from ..card import Card
    from ..datapath.requester import Requester
    from .qp import Qp

#: opc_mod of the control segment.
DMA = 0x01
#: Bit of opt_param_mask_95_32 of INIT2INIT_QP.
ENABLE = 1 << 3
#: log2 of the longest copy where the capabilities do not say.
LOG_MAX_SIZE = 31
_METADATA_AT, _SOURCE_AT, _SINK_AT, _END = 16, 32, 48, 64


class MmoError(Exception):
    """An operation that the queue may not do, or that is too long.

    :param length: whether it is its length.
    """

    def __init__(self, why: str, length: bool = False) -> None:
        super().__init__(why)
        self.length = length


def asked_for(card: 'Card', cmd: Command, reliable: bool) -> bool:
    """Whether INIT2INIT_QP asks for the engine.

    :param reliable: whether the QP is of a transport that can use it.
    :raises Status: BAD_PARAM for a card without the engine, another transport, or a command without
        the extended context.
    """
    if cmd.name != 'INIT2INIT_QP' or not cmd.inp['qpc_ext'] or not reliable or not card.caps.get(
            'dma_mmo_qp'):
        raise Status('BAD_PARAM', 'memory to memory operations')
    return bool(prm.View('qpc_ext', cmd.raw, cmd.inp.size)['mmo'])


def copy_memory(requester: 'Requester', qp: 'Qp', wqe: bytes) -> int:
    """Carry a DMA work request out; bytes copied.

    :raises MmoError: refused.
    :raises AccessError: a key that may not be used so.
    :raises ReadFault: the source cannot be read.
    :raises WriteFault: the sink cannot be written.
    """
    caps = requester.card.caps
    if not (caps.get('dma_mmo_sq') or (caps.get('dma_mmo_qp') and qp.mmo)):
        raise MmoError('memory to memory operations are not enabled')
    control, result_key, result_addr = MMO_METADATA.unpack_from(wqe, _METADATA_AT)
    if wqe[0] != DMA or control or len(wqe) != _END:
        raise MmoError('kind of the operation')
    n, source_key, source_addr = DATA.unpack_from(wqe, _SOURCE_AT)
    room, sink_key, sink_addr = DATA.unpack_from(wqe, _SINK_AT)
    n, room = n or 1 << LOG_MAX_SIZE, room or 1 << LOG_MAX_SIZE
    if n > 1 << (caps.get('log_dma_mmo_max_size') or LOG_MAX_SIZE) or n != room:
        raise MmoError('length of the copy', length=True)
    result = requester.local(qp, result_key, result_addr, MMO_RESULT.size, LOCAL_WRITE, qp.pd)
    source = requester.local(qp, source_key, source_addr, n, LOCAL_READ, qp.pd)
    sink = requester.local(qp, sink_key, sink_addr, n, LOCAL_WRITE, qp.pd)
    copy(source, sink, n)
    # No syndrome; bytes written and read.
    copy([(InlineData(MMO_RESULT.pack(0, n, n)), 0, MMO_RESULT.size)], result, MMO_RESULT.size)
    return n
