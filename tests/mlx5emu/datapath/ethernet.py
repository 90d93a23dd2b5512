# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Frames: from raw send queues out, with the offloads that their WQEs ask for, and from TIRs into
raw receive queues."""
import struct
from typing import TYPE_CHECKING

from .. import prm
from ..dma import DmaError
from ..memory.mkey import LOCAL_READ, AccessError, Run
from ..memory.transfer import InlineData, ReadFault, WriteFault, read_all
from ..prm.wqe import ETH_CQE, INLINE_COUNT, CqeOp, Op, Syndrome
from ..queues.queue import RTS
from ..steering.packet import (
    TCP,
    UDP,
    VLAN,
    Headers,
    Packet,
    fill_checksums,
    inner_headers,
    l3_ok,
    l4_ok,
    ones_sum,
    parse,
    pop_vlan_tag,
)
from .rss import select_rq
from .virtio_net_q import VirtioNetQ

if TYPE_CHECKING:
    from ..queues.raw_queues import Rq, Sq
    from ..queues.tir import Tir
    from .port import Port
    from .requester import Requester

#: Flags of the Ethernet segment.
L3_CSUM, L4_CSUM, INSERT_VLAN = 0x40, 0x80, 0x8000
#: Bytes of a frame that one WQE may make, and the least that a segment of it must carry.
MAX_LSO, MIN_MSS = 1 << 18, 64
#: hds_ip_ext of a CQE.
_L2_OK, _L3_OK, _L4_OK = 1, 2, 4
#: self_lb_block of a TIR: which frames of its own transport domain it takes.  The bits enable,
#: whatever their name says.
SELF_UNICAST, SELF_MULTICAST = 1, 2


class FrameError(Exception):
    """The WQE cannot be made into a frame."""


class EthernetSender:
    """The WQEs of raw send queues."""

    def __init__(self, requester: 'Requester') -> None:
        self.requester = requester
        self.port = requester.port

    def frame(self, queue: 'Sq', wqe: bytes, op: int, flags: int, imm: int) -> int:
        """One frame behind an Ethernet segment, which may hold the first headers itself, or the
        headers of many."""
        size = int.from_bytes(wqe[28:30], 'big')
        tag = b''
        if size & INSERT_VLAN:
            tag, head, pos = VLAN.to_bytes(2, 'big') + wqe[30:32], b'', 32
        else:
            size &= INLINE_COUNT
            head, pos = wqe[30:30 + size], 32 if size <= 2 else 16 + ((14 + size + 15) & ~15)
        if pos > len(wqe):
            raise FrameError('inline headers')
        runs, n = self.requester.gather(queue, wqe, pos, LOCAL_READ)
        if n > MAX_LSO:
            raise FrameError('longer than max_lso')
        data = head + read_all(runs)
        if tag:
            data = data[:12] + tag + data[12:]
        if op == Op.LSO:
            for part in segments(data, len(head), int.from_bytes(wqe[22:24], 'big')):
                self.port.transmit(queue, part)
        else:
            self._out(queue, data, wqe[20])
        return len(data)

    def frames(self, queue: 'Sq', wqe: bytes, op: int, flags: int, imm: int) -> int:
        """Several frames, one a data segment."""
        total, pos, end = 0, 32, len(wqe)
        while pos < end:
            inline = wqe[pos] & 0x80
            size = (int.from_bytes(wqe[pos:pos + 4], 'big') & INLINE_COUNT) + 4 if inline else 16
            step = (size + 15) & ~15
            runs, n = self.requester.gather(queue, wqe[pos:pos + step], 0, LOCAL_READ)
            if n > MAX_LSO:
                raise FrameError('longer than max_lso')
            self._out(queue, read_all(runs), wqe[20])
            total += n
            pos += step
        return total

    def _out(self, queue: 'Sq', data: bytes, checksums: int) -> None:
        if checksums & (L3_CSUM | L4_CSUM):
            data = fill_checksums(data, bool(checksums & L3_CSUM), bool(checksums & L4_CSUM))
        self.port.transmit(queue, data)


def segments(data: bytes, head: int, mss: int) -> list[bytes]:
    """A long TCP packet cut into frames.

    :param head: bytes of the headers, which each frame gets.
    :param mss: most bytes of data behind them.
    :raises FrameError: no such packet.
    """
    h = parse(data)
    if mss < MIN_MSS or h.protocol != TCP or h.l4 < 0 or h.payload > head:
        raise FrameError('LSO')
    out = []
    sequence, flags = struct.unpack_from('>I', data, h.l4 + 4)[0], data[h.l4 + 13]
    identification = int.from_bytes(data[h.l3 + 4:h.l3 + 6], 'big') if h.ip == 4 else 0
    for k, at in enumerate(range(head, len(data), mss)):
        body = data[at:at + mss]
        part = bytearray(data[:head] + body)
        length = len(part) - h.l3
        if h.ip == 4:
            struct.pack_into('>HH', part, h.l3 + 2, length & 0xffff, identification + k & 0xffff)
        else:
            struct.pack_into('>H', part, h.l3 + 4, length - 40 & 0xffff)
        struct.pack_into('>I', part, h.l4 + 4, sequence + at - head & 0xffffffff)
        last = at + mss >= len(data)
        # Push and FIN belong to the last, CWR to the first.
        part[h.l4 + 13] = flags & (0xff if last else 0xf6) & (0xff if not k else 0x7f)
        out.append(fill_checksums(bytes(part), True, True))
    return out


class EthernetReceiver:
    """Frames into raw receive queues."""

    def __init__(self, port: 'Port') -> None:
        self.port, self.card, self.work = port, port.card, port.work
        #: Frames that no receive WQE was there for.
        self.out_of_buffer = 0

    def deliver(self, tir: 'Tir', packet: Packet, domain: int | None) -> None:
        """A frame that steering sent to a TIR.

        :param domain: transport domain of the function's own queue that sent it; None when it came
            from the wire.
        """
        context = prm.view('tirc', tir.context)
        if domain is not None and domain == context['transport_domain']:
            multicast = bool(packet.data[0] & 1) if packet.data else False
            if not context['self_lb_block'] & (SELF_MULTICAST if multicast else SELF_UNICAST):
                return
        rq, rss_hash, rss_type = select_rq(tir, context, packet)
        if isinstance(rq, VirtioNetQ):
            rq.receive_frame(packet.data)
        elif rq is not None:
            self.work.guarded(lambda queue: self._receive(queue, packet, rss_hash, rss_type),
                                  rq)

    def _receive(self, rq: 'Rq', packet: Packet, rss_hash: int, rss_type: int) -> None:
        if rq.state != RTS:
            return
        ring, cq = rq.srq.ring if rq.srq is not None else rq.rq, rq.rcq
        assert ring is not None and cq is not None
        try:
            head = ring.peek()
        except DmaError:
            rq.fail('WQ_CATAS_ERROR')
            return
        if head is None:
            self.out_of_buffer += 1
            return
        index, wqe = head
        data, tci = packet.data, None
        if not rq.vlan_strip_disabled:
            data, tci = pop_vlan_tag(data)
        n = len(data)
        if rq.scatter_fcs:
            data, n = data + bytes(4), n + 4
        source: list[Run] = [(InlineData(data), 0, n)]
        responder = self.port.responder
        try:
            responder.scatter(rq, ring, None, wqe, source, n)
        except (WriteFault, ReadFault, AccessError, OverflowError) as e:
            syndrome = Syndrome.LOCAL_LENGTH if isinstance(e,
                                                           OverflowError) else Syndrome.LOCAL_PROT
            ring.take()
            self.work.note(rq, index, 0, syndrome, str(e))
            rq.receive_error_cqe(cq, None, index, syndrome)
            rq.fail('WQ_CATAS_ERROR')
            return
        ring.take()
        h = parse(data)
        l3, l4 = l3_ok(data, h), l4_ok(data, h)
        tunneled = inner_headers(data, h) is not None
        start = h.l2 + 14 if h.l2 >= 0 else 0
        body = ETH_CQE.pack(int(tunneled), rss_hash, rss_type, ones_sum(data[start:]),
                            _L2_OK | _L3_OK * l3 | _L4_OK * l4,
                            _header_types(data, h) | (tci is not None), tci or 0, rq.user_index,
                            packet.registers.get('metadata_reg_b', 0), n, self.work.timestamp(),
                            packet.tag, index)
        cq.push(body, CqeOp.RESP_SEND << 4, False)
        if rq.srq is not None and rq.srq.limit:
            try:
                rq.srq.consumed()
            except DmaError:
                # The doorbell record went away under the queue: nothing is posted, so no limit is
                # passed.
                pass


def _header_types(data: bytes, h: Headers) -> int:
    """l4_l3_hdr_type of a CQE."""
    out = {0: 0, 6: 1 << 2, 4: 2 << 2}[h.ip]
    if h.l4 >= 0 and not h.fragment:
        if h.protocol == UDP:
            out |= 2 << 4
        elif h.protocol == TCP:
            ack = data[h.l4 + 13] & 0x10
            out |= (4 if h.payload < h.end else 3) << 4 if ack else 1 << 4
    return out


__all__ = ['EthernetReceiver', 'EthernetSender', 'FrameError', 'segments']
