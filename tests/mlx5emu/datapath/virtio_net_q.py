# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""General object VIRTIO_NET_Q: split virtqueues of a virtio-net device that the card serves, and
their doorbell pages in BAR0.

An odd queue_index sends: frames that the virtqueue makes available go through the transmit tables.
An even one receives: a TIR or an RQ table of list_q_type VIRTIO_NET_Q points at it. No offloads;
used buffers are told by a message of the event QP (event_mode QP).
"""
import struct
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.caps import (
    LOG_VIRTIO_PAGES,
    VIRTIO_EVENT_QP,
    VIRTIO_SPLIT,
)
from ..firmware.general_object import object_type
from ..firmware.status import Status
from ..firmware.tables import Object
from ..memory.mkey import LOCAL_READ, LOCAL_WRITE, AccessError, Run, resolve
from ..memory.transfer import InlineData, ReadFault, WriteFault, copy, read_all
from ..prm.wqe import Op
from ..queues.queue import RTS
from .responder import Nak, NotReady, RemoteFault, takes_requests

if TYPE_CHECKING:
    from ..card import Card
    from ..queues.qp import Qp
    from ..queues.tir import Tis

VIRTIO_NET_Q = 0xd
INIT, READY, SUSPENDED, ERROR = 0, 1, 2, 3
#: The only change of state that software may ask for, from each state.
_NEXT = {INIT: READY, READY: SUSPENDED}
#: Bits of modify_field_select.
MODIFY_STATE = 1
MAX_SIZE, MAX_FRAME = 1 << 15, 1 << 16
#: Chains of one turn, and the pause until the next.
TURN, PAUSE_NS = 256, 20_000

_DESCRIPTOR = struct.Struct('<QIHH')
_NEXT_FLAG, _WRITE_FLAG = 1, 2
_NO_INTERRUPT = 1


class _Sender:
    """What the transmit tables see of a virtqueue: no SQ number, and the TIS."""

    number = 0

    def __init__(self, tis: 'Tis | None') -> None:
        self.tis = tis


class BadChain(Exception):
    """The virtqueue says what it must not: it goes to the error state."""


class VirtioNetQ(Object):
    """One virtqueue."""

    def __init__(self, card: 'Card', context: bytes, tis: 'Tis | None', event_qp: 'Qp | '
                                                                                  'None') -> None:
        super().__init__()
        self.card, self.context, self.event_qp = card, bytearray(context), event_qp
        c = prm.view('virtio_net_q_object', self.context)
        q = c.sub('virtio_q_context')
        self.state = INIT
        self.available, self.used = c['hw_available_index'], c['hw_used_index']
        self.size, self.index, self.stride = q['queue_size'], q['queue_index'], q[
            'doorbell_stride_index']
        self.desc, self.avail_ring, self.used_ring = q['desc_addr'], q['available_addr'], q[
            'used_addr']
        self.key, self.pd = q['virtio_q_mkey'], q['pd']
        self.header = 12 if q['virtio_version_1_0'] else 10
        self.sender = _Sender(tis)
        self.scheduled = False
        card.virtio_doorbells[self.stride, self.index] = self

    def destroyed(self) -> None:
        """Its doorbell means nothing any more."""
        self.state = ERROR
        del self.card.virtio_doorbells[self.stride, self.index]
        super().destroyed()

    # ---- the general object

    def describe(self, view: prm.View) -> None:
        """State and indices as they are now."""
        view.buf[view.base:view.base + len(self.context)] = self.context
        view.set(state=self.state, hw_available_index=self.available, hw_used_index=self.used)

    def modify(self, card: 'Card', view: prm.View, uid: int) -> None:
        """Start the queue, or suspend it."""
        if view['modify_field_select'] != MODIFY_STATE:
            raise Status('BAD_PARAM', 'only the state of a virtqueue can be modified')
        if _NEXT.get(self.state) != view['state']:
            raise Status('BAD_RES_STATE', 'no such change of state')
        self.state = view['state']
        if self.state == READY and self.index & 1:
            self.kick()

    # ---- the virtqueue

    def _runs(self, addr: int, n: int, write: bool = False) -> list[Run]:
        return resolve(self.card, self.key, addr, n, LOCAL_WRITE if write else LOCAL_READ, self.pd,
                       self.number)

    def _read(self, addr: int, n: int) -> bytes:
        return read_all(self._runs(addr, n))

    def _write(self, addr: int, data: bytes) -> None:
        copy([(InlineData(data), 0, len(data))], self._runs(addr, len(data), True), len(data))

    def _posted(self) -> int:
        """Chains that the driver made available and the card has not taken."""
        n = (struct.unpack('<H', self._read(self.avail_ring + 2, 2))[0] - self.available) & 0xffff
        if n > self.size:
            raise BadChain('available index')
        return n

    def _chain(self) -> tuple[int, list[tuple[int, int, int]]]:
        """Head and (address, bytes, flags) of the next chain's descriptors."""
        slot = self.avail_ring + 4 + 2 * (self.available % self.size)
        head = at = struct.unpack('<H', self._read(slot, 2))[0]
        out: list[tuple[int, int, int]] = []
        while True:
            if at >= self.size or len(out) >= self.size:
                raise BadChain('chain of descriptors')
            addr, n, flags, at = _DESCRIPTOR.unpack(self._read(self.desc + 16 * at, 16))
            if flags & ~(_NEXT_FLAG | _WRITE_FLAG):
                raise BadChain('flags of a descriptor')
            out.append((addr, n, flags))
            if not flags & _NEXT_FLAG:
                return head, out

    def _finish(self, head: int, n: int) -> None:
        """Give a chain back and tell the driver, unless it does not want to know."""
        self.available = (self.available + 1) & 0xffff
        self._write(self.used_ring + 4 + 8 * (self.used % self.size), struct.pack('<II', head, n))
        self.used = (self.used + 1) & 0xffff
        self._write(self.used_ring + 2, self.used.to_bytes(2, 'little'))
        if not self._read(self.avail_ring, 1)[0] & _NO_INTERRUPT:
            self._tell()

    def _tell(self) -> None:
        qp = self.event_qp
        peer = self.card.qps.find(qp.remote_qpn) if qp is not None else None
        if qp is None or qp.state != RTS or peer is None or not takes_requests(
                peer) or peer.remote_qpn != qp.number:
            return
        try:
            self.card.datapath.port.responder.receive(peer, Op.SEND, None, 0, 0, False)
            qp.send_psn = peer.recv_psn = (qp.send_psn + 1) & 0xffffff
        except (Nak, NotReady, RemoteFault):
            pass    # nobody waits for the event

    def kick(self) -> None:
        """The doorbell of a sending queue: send what is available, a turn at a time."""
        if self.state != READY or not self.index & 1 or self.scheduled:
            return
        try:
            left = self._posted()
            for _ in range(min(left, TURN)):
                head, chain = self._chain()
                self._send(chain)
                self._finish(head, 0)
        except (BadChain, AccessError, ReadFault, WriteFault):
            self.state = ERROR
            return
        if left > TURN:
            self.scheduled = True
            self.card.call_later(PAUSE_NS, self._again)

    def _again(self) -> None:
        self.scheduled = False
        self.kick()

    def _send(self, chain: list[tuple[int, int, int]]) -> None:
        if any(flags & _WRITE_FLAG
               for _, _, flags in chain) or sum(n for _, n, _ in chain) > MAX_FRAME + self.header:
            raise BadChain('frame')
        data = b''.join(self._read(addr, n) for addr, n, _ in chain)
        # flags and gso_type of the virtio header: offloads, which were not offered.
        if len(data) < self.header + 14 or data[0] or data[1]:
            raise BadChain('header of the frame')
        self.card.datapath.port.transmit(self.sender, data[self.header:])

    def receive_frame(self, data: bytes) -> None:
        """A frame that steering sent here; it is lost when there is no buffer, or none that is
        large enough."""
        if self.state != READY or self.index & 1:
            return
        try:
            if not self._posted():
                return
            head, chain = self._chain()
            if any(not flags & _WRITE_FLAG for _, _, flags in chain):
                raise BadChain('buffer that cannot be written')
            # num_buffers, the last field of the longer header, is 1.
            message = (bytes(self.header - 2) +
                       b'\1\0' if self.header == 12 else bytes(self.header)) + data
            sink: list[Run] = []
            left = len(message)
            for addr, n, _ in chain:
                k = min(n, left)
                sink += self._runs(addr, k, True)
                left -= k
            if left:
                return
            copy([(InlineData(message), 0, len(message))], sink, len(message))
            self._finish(head, len(message))
        except (BadChain, AccessError, ReadFault, WriteFault):
            self.state = ERROR


@object_type(VIRTIO_NET_Q, 'virtio_net_q_object')
def create_virtio_net_q(card: 'Card', view: prm.View, uid: int) -> VirtioNetQ:
    """Check the queue against its keys, umems, QP, TIS and doorbell."""
    q, caps = view.sub('virtio_q_context'), card.caps.page('virtio_emulation')
    if (q['virtio_q_type'] != VIRTIO_SPLIT or q['event_mode'] != VIRTIO_EVENT_QP or
            q['full_emulation'] or q['offload_type']):
        raise Status('BAD_PARAM', 'split virtqueues of Ethernet frames with event_mode QP')
    if view['queue_feature_bit_mask_12_3'] or view['queue_feature_bit_mask_2_0'] or view[
            'dirty_bitmap_dump_enable']:
        raise Status('BAD_PARAM', 'features of a virtqueue')
    size = q['queue_size']
    if not size or size & size - 1 or size > MAX_SIZE:
        raise Status('BAD_PARAM', 'queue_size')
    if q['doorbell_stride_index'] >= 1 << LOG_VIRTIO_PAGES:
        raise Status('BAD_PARAM', 'doorbell_stride_index')
    if (q['doorbell_stride_index'], q['queue_index']) in card.virtio_doorbells:
        raise Status('BAD_RES_STATE', 'a virtqueue with that doorbell is there')
    if len(card.virtio_doorbells) >= caps['max_num_virtio_queues']:
        raise Status('EXCEED_LIM', 'virtqueues')
    pd = card.pds.get(q['pd'], uid)
    mkey = card.mkeys.get(q['virtio_q_mkey'] >> 8, uid)
    event_qp = card.qps.get(q['event_qpn_or_msix'], uid)
    tis = card.tises.get(view['tisn_or_qpn'], uid) if q['queue_index'] & 1 else None
    umems = []
    for k in (1, 2, 3):
        umem = card.umems.get(q[f'umem_{k}_id'], uid)
        need, offset = caps[f'umem_{k}_buffer_param_a'] * size, q[f'umem_{k}_offset']
        if q[f'umem_{k}_size'] < need or offset > umem.size or q[
                f'umem_{k}_size'] > umem.size - offset:
            raise Status('BAD_PARAM', f'umem_{k}')
        umems.append(umem)
    queue = VirtioNetQ(card, view.buf[view.base:view.base + view.size], tis, event_qp)
    queue.use(pd, mkey, event_qp, tis, *umems)
    return queue


def doorbell(card: 'Card', page: int, data: bytes) -> None:
    """A write into a doorbell page: the index of the virtqueue, little-endian as virtio has it.

    :param page: number of the page, the first is 0.
    """
    if len(data) >= 2:
        queue = card.virtio_doorbells.get((page, int.from_bytes(data[:2], 'little')))
        if queue is not None:
            queue.kick()
