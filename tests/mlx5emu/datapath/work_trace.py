# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Work requests as records of the trace."""
from typing import TYPE_CHECKING, Any

from ..dma import DmaError
from ..prm.wqe import CTRL, SYNDROME_NAMES, WQEBB
from ..prm.wqe_decode import OP_NAMES, buffers, segments
from ..queues.queue import DATAGRAM, DCI, XRC

if TYPE_CHECKING:
    from ..queues.queue import Queue
    from ..queues.rings import ReceiveRing, SendRing


def sent(qp: 'Queue', ring: 'SendRing', index: int, op: int, syndrome: int = 0,
         why: str = '') -> dict[str, Any]:
    """The WQE at an index of a send queue, by segment and field, and how it ended."""
    entry = _entry('work request', OP_NAMES.get(op, f'{op:#x}'), qp, index, syndrome, why)
    try:
        wqe = ring.read(index, WQEBB)
        size = (CTRL.unpack_from(wqe)[1] & 0x3f) << 4
        wqe = wqe[:size] if size <= WQEBB else wqe + ring.read(index, size - WQEBB, WQEBB)
        found = segments(wqe, op, addressed=qp.st == DCI or qp.st in DATAGRAM, xrc=qp.st == XRC)
    except DmaError as e:
        found = {'ctrl': {'unreadable': str(e)}}
    entry['in'] = {f'{name}.{field}': value for name, fields in found.items()
                   for field, value in fields.items()}
    return entry


def received(qp: 'Queue', ring: 'ReceiveRing', index: int, n: int, syndrome: int = 0,
             why: str = '') -> dict[str, Any]:
    """The WQE at the head of a receive queue, which took a message of ``n`` bytes, or did not."""
    entry = _entry('receive', 'RECEIVE', qp, index, syndrome, why)
    try:
        wqe = (ring.peek() or (0, b''))[1]
    except DmaError:
        wqe = b''
    entry['in'] = {f'{name}.{field}': value for name, fields in buffers(wqe, ring.skip).items()
                   for field, value in fields.items()}
    entry['out'] = {'bytes': n} if not syndrome else {}
    return entry


def _entry(kind: str, name: str, qp: 'Queue', index: int, syndrome: int,
           why: str) -> dict[str, Any]:
    status = SYNDROME_NAMES.get(syndrome, f'{syndrome:#x}') if syndrome else 'OK'
    return {'kind': kind, 'name': name, 'uid': qp.uid, 'queue': qp.kind, 'number': qp.number,
            'index': index, 'in': {}, 'out': {}, 'status': status, 'syndrome': syndrome, 'reason':
            why}
