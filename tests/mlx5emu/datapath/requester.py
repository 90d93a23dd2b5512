# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The sending side: takes WQEs from send queues and carries them out, transport by transport."""
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..dma import DmaError
from ..firmware import port_agent
from ..firmware.subnet import admits, admits_management, pkey
from ..memory.byte_stream import check_message, is_stream
from ..memory.mkey import (
    LOCAL_READ,
    LOCAL_WRITE,
    RESERVED_LKEY,
    AccessError,
    PageFault,
    Run,
    resolve,
)
from ..memory.psv import set_psv
from ..memory.transfer import InlineData, ReadFault, WriteFault, copy, read_all
from ..memory.umr import BindError, update
from ..prm.wqe import (
    ATOMIC,
    AV_BASE,
    AV_GRH,
    AV_GRH_PART,
    CQE,
    CTRL,
    CTRL_CQ_UPDATE,
    CTRL_SOLICITED,
    DATA,
    EXTENDED_AV,
    INLINE,
    INLINE_COUNT,
    MASKED_ATOMIC,
    RADDR,
    TERMINATOR,
    WQEBB,
    ZERO_COUNT,
    CqeOp,
    Op,
    Syndrome,
)
from ..prm.wqe import XRC as XRC_SEGMENT
from ..queues.mmo import MmoError, copy_memory
from ..queues.page_fault import RemoteFault
from ..queues.queue import (
    DATAGRAM,
    DCI,
    ERR,
    QP0,
    QP1,
    RAW,
    RC,
    REG_UMR,
    RTS,
    SQER,
    UC,
    UD,
    XRC,
)
from ..queues.rate_limit import spend, wait
from ..queues.scatter_cqe import CqeData, fits, place
from .ethernet import EthernetSender, FrameError
from .fabric import PERMISSIVE_LID, Address, address_of
from .flow_table_access import flow_table_access
from .headers import grh
from .responder import Nak, NoAnswer, NotReady, Sender, takes_requests
from .retries import Retries
from .roce_steering import passes
from .work_trace import sent

if TYPE_CHECKING:
    from ..queues.qp import Qp
    from ..queues.queue import Queue, Target
    from ..queues.rings import SendRing
    from .port import Port

#: WQEs and bytes of one turn; a queue with more goes on after the others had theirs.
TURN_WQES, TURN_BYTES = 512, 64 << 20
TURN_PAUSE_NS = 20_000
MULTICAST_QPN = 0xffffff
_PSN = 0xffffff


class WqeError(Exception):
    """The WQE completes in error with ``syndrome``."""

    def __init__(self, syndrome: int, why: str = '') -> None:
        super().__init__(why)
        self.syndrome = syndrome


#: (queue, WQE, opcode, flags, immediate) -> bytes moved; the queue is of the kind of its transport.
Handler = Callable[..., int]


class Requester:
    """Runs one function's send queues."""

    def __init__(self, port: 'Port') -> None:
        self.port, self.card, self.work = port, port.card, port.work
        self.infiniband = port.card.link_layer == 'ib'
        self.retries = Retries(self)
        #: What the WQE at hand fetched for its CQE.
        self._fetched: bytes | bytearray = b''
        #: Work of the WQE at hand beyond copying, in bytes.
        self.extra = 0
        both: dict[int, Handler] = {Op.NOP: self._nop, Op.UMR: self._umr, Op.SET_PSV: self._set_psv}
        send: dict[int, Handler] = {Op.SEND: self._send, Op.SEND_IMM: self._send}
        reliable: dict[int, Handler] = {
            **both, **send, Op.SEND_INVAL: self._send, Op.WRITE: self._write, Op.WRITE_IMM:
            self._write, Op.READ: self._read, Op.CS: self._atomic, Op.FA: self._atomic,
            Op.MASKED_CS: self._atomic, Op.MASKED_FA: self._atomic}
        datagram: dict[int, Handler] = {
            Op.NOP: self._nop, Op.SEND: self._datagram, Op.SEND_IMM: self._datagram}
        ethernet = EthernetSender(self)
        frames: dict[int, Handler] = {
            **both, Op.SEND: ethernet.frame, Op.LSO: ethernet.frame, Op.ENHANCED_MPSW:
            ethernet.frames}
        self.handlers: dict[int, dict[int, Handler]] = {
            RC: {**reliable, Op.FLOW_TBL_ACCESS: self._flow_table_access, Op.MMO: self._mmo}, XRC:
            reliable, DCI: {**reliable, Op.MMO: self._mmo}, REG_UMR: both, RAW: frames, UC: {
                **both, **send, Op.SEND_INVAL: self._send, Op.WRITE: self._write, Op.WRITE_IMM:
                self._write}, UD: datagram, QP0: datagram, QP1: datagram}

    # ---- the ring

    def run(self, qp: 'Queue') -> None:
        """Take up what a send queue's doorbell record says is posted."""
        ring = qp.sq
        if ring is None or ring.waiting or ring.scheduled:
            return
        if qp.state != RTS:
            if qp.state in (ERR, SQER):
                qp.flush_send()
            return
        try:
            posted = ring.look()
        except DmaError:
            qp.fail('WQ_CATAS_ERROR')
            return
        if posted > ring.size:
            qp.fail('WQ_CATAS_ERROR')
            return
        wqes, moved = TURN_WQES, TURN_BYTES
        limits = ring.scheduling + ring.pacing
        while ring.consumer != ring.producer:
            if wqes <= 0 or moved <= 0:
                ring.scheduled = True
                self.retries.later(qp, TURN_PAUSE_NS)
                return
            if limits:
                now = self.card.now()
                pause = wait(limits, now)
                if pause:
                    ring.scheduled = True
                    self.retries.later(qp, pause)
                    return
                n = self._one(qp, ring)
                spend(limits, now, n)
            else:
                n = self._one(qp, ring)
            moved -= n + self.extra
            self.extra = 0
            wqes -= 1
            if ring.waiting or qp.state != RTS:
                return

    def _one(self, qp: 'Queue', ring: 'SendRing') -> int:
        """The WQE at the head; bytes moved."""
        index = ring.consumer
        op, blocks = Op.NOP, 1
        try:
            wqe = ring.read(index, WQEBB)
            w0, w1, flags, imm = CTRL.unpack_from(wqe)
            op, size = w0 & 0xff, (w1 & 0x3f) << 4
            blocks = (size + 63) >> 6
            if not size or blocks > (ring.producer - index) & 0xffff:
                blocks = 1
                raise WqeError(Syndrome.LOCAL_QP_OP, 'size of the WQE')
            wqe = wqe + ring.read(index, size - WQEBB, WQEBB) if size > WQEBB else wqe[:size]
            if ring.streams is not None and not ring.streams.enter(wqe):
                raise WqeError(Syndrome.FLUSH, 'stream is in error')
            handler = self.handlers[qp.st].get(op)
            if handler is None:
                raise WqeError(Syndrome.LOCAL_QP_OP, f'opcode {op:#x}')
            n = handler(qp, wqe, op, flags, imm)
        except NotReady as e:
            self.retries.not_ready(qp, ring, index, op, blocks, e)
            return 0
        except NoAnswer:
            self.retries.no_answer(qp, ring, index, op, blocks)
            return 0
        except (PageFault, RemoteFault) as e:
            self.retries.absent(qp, ring, index, op, blocks, e)
            return 0
        except (WqeError, Nak) as e:
            self.fail(qp, ring, index, op, blocks, e.syndrome, str(e))
            return 0
        except BindError as e:
            self.fail(qp, ring, index, op, blocks, Syndrome.MW_BIND, str(e))
            return 0
        except MmoError as e:
            self.fail(qp, ring, index, op, blocks,
                       Syndrome.LOCAL_LENGTH if e.length else Syndrome.LOCAL_QP_OP, str(e))
            return 0
        except (AccessError, ReadFault, WriteFault) as e:
            self.fail(qp, ring, index, op, blocks, Syndrome.LOCAL_PROT, str(e))
            return 0
        except (struct.error, FrameError) as e:
            self.fail(qp, ring, index, op, blocks, Syndrome.LOCAL_QP_OP, str(e))
            return 0
        except DmaError:
            qp.fail('WQ_CATAS_ERROR')
            return 0
        if self.card.trace is not None:
            self.card.trace(sent(qp, ring, index, op))
        ring.consumer = (index + blocks) & 0xffff
        tries = ring.tries
        if tries[0] or tries[1] or ring.faults:
            ring.fresh()
        if flags & CTRL_CQ_UPDATE and ring.cq is not None:
            body = CQE.pack(0, 0, 0, ring.user_index, 0, 0, 0, 0, n, self.work.timestamp(),
                            op << 24 | qp.number, index)
            if self._fetched:
                body, op_own, wide = place(body, CqeOp.REQ << 4, bytes(self._fetched))
                self._fetched = b''
                ring.cq.push(body, op_own, False, wide)
            else:
                ring.cq.push(body, CqeOp.REQ << 4, False)
        return n

    def complete_nop(self, qp: 'Queue', index: int) -> None:
        """A NOP whose BlueFlame copy asked for a CQE that the WQE in memory did not."""
        ring = qp.sq
        if ring is not None and ring.cq is not None:
            ring.cq.push(
                CQE.pack(0, 0, 0, ring.user_index, 0, 0, 0, 0, 0, self.work.timestamp(),
                         qp.number, index), CqeOp.REQ << 4, False)

    # ---- errors

    def fail(self, qp: 'Queue', ring: 'SendRing', index: int, op: int, blocks: int, syndrome: int,
              why: str) -> None:
        """Complete the head WQE in error and stop the queue."""
        self.work.count(syndrome)
        if self.card.trace is not None:
            self.card.trace(sent(qp, ring, index, op, syndrome, why))
        ring.consumer = (index + blocks) & 0xffff
        qp.send_error_cqe(index, op, syndrome)
        if ring.streams is not None and ring.streams.absorb(syndrome):
            ring.fresh()
        else:
            qp.fail_send()

    # ---- local memory

    def local(self, qp: 'Queue', key: int, addr: int, n: int, right: int, pd: int) -> list[Run]:
        """Runs of a local buffer.

        :raises AccessError: refused.
        """
        if key == RESERVED_LKEY:
            if not qp.rlky:
                raise AccessError('reserved key')
            return [(self.card.dma, addr, n)]
        return resolve(self.card, key, addr, n, right, pd, qp.number, sending=True)

    def gather(self, qp: 'Queue', wqe: bytes, pos: int, right: int) -> tuple[list[Run], int]:
        """Runs and bytes of the data segments from ``pos`` to the end of the WQE."""
        end = len(wqe)
        if end - pos == 16:         # by far the most frequent: one segment
            count, key, addr = DATA.unpack_from(wqe, pos)
            if count and not count & INLINE:
                return self.local(qp, key, addr, count, right, qp.pd), count
        runs: list[Run] = []
        total = streams = 0
        while pos < end:
            if int.from_bytes(wqe[pos:pos + 4], 'big') & INLINE:
                count = int.from_bytes(wqe[pos:pos + 4], 'big') & INLINE_COUNT
                if right != LOCAL_READ or count > end - pos - 4:
                    raise WqeError(Syndrome.LOCAL_QP_OP, 'inline data')
                if count:
                    runs.append((InlineData(wqe), pos + 4, count))
                pos += (count + 4 + 15) & ~15
            else:
                count, key, addr = DATA.unpack_from(wqe, pos)
                pos += 16
                if not count:
                    if key == TERMINATOR:
                        break
                    count = ZERO_COUNT
                part = self.local(qp, key, addr, count, right, qp.pd)
                if is_stream(part):
                    streams += count
                    check_message(streams)
                runs += part
            total += count
        return runs, total

    # ---- connected transports

    def _peer(self, qp: 'Qp', wqe: bytes) -> tuple['Target', 'Port', int, int | None]:
        """Who gets the request: (QP or DCT, its data path, where the WQE goes on, XRC SRQ number).

        :raises NoAnswer: nobody there, or not connected to this QP.
        """
        st = qp.st
        if st == DCI:
            return self._dct(qp, wqe)
        pos, srqn = 16, None
        if st == XRC:
            srqn = XRC_SEGMENT.unpack_from(wqe, pos)[0] & 0xffffff
            pos += 16
        target = self.port if qp.force_loopback else self.port.fabric.route(
            self.port, address_of(qp))
        peer = target.card.qps.find(qp.remote_qpn) if target is not None else None
        if target is None or peer is None or peer.st != st or not takes_requests(
                peer) or peer.remote_qpn != qp.number:
            raise NoAnswer
        if peer.recv_psn != qp.send_psn and st != UC:
            raise NoAnswer
        if not (qp.force_loopback or passes(self.port, target, address_of(qp), qp.sgid_index,
                                            qp.remote_qpn, qp.udp_sport, qp.number)):
            raise NoAnswer
        if not admits(target.card, pkey(self.card, qp.pkey_index), peer.pkey_index):
            raise NoAnswer
        return peer, target, pos, srqn

    def _dct(self, qp: 'Qp', wqe: bytes) -> tuple['Target', 'Port', int, int | None]:
        qkey, low, dest, _, path, rlid = AV_BASE.unpack_from(wqe, 16)
        pos, gid, has_gid, mac, sgid_index = 32, bytes(16), False, b'', 0
        if dest & EXTENDED_AV:
            mac, _, _, flow, gid = AV_GRH_PART.unpack_from(wqe, 32)
            has_gid, sgid_index = bool(flow & AV_GRH), flow >> 20 & 0xff
            pos = 64
        address = Address(rlid, gid, has_gid, mac)
        target = self.port.fabric.route(self.port, address)
        dct = target.card.dcts.find(dest & 0xffffff) if target is not None else None
        if target is None or dct is None or not takes_requests(dct):
            raise NoAnswer
        if not passes(self.port, target, address, sgid_index, dest & 0xffffff, sqn=qp.number):
            raise NoAnswer
        if not admits(target.card, pkey(self.card, qp.pkey_index), dct.pkey_index):
            raise NoAnswer
        if dct.access_key != qkey << 32 | low:
            dct.key_violation()
            raise NoAnswer
        return dct, target, pos, None

    def _initiator(self, qp: 'Qp', wqe: bytes) -> Sender | None:
        """What a DC target's CQE tells of who sent; a connected QP knows it."""
        if qp.st != DCI:
            return None
        if self.card.link_layer != 'ib':
            return Sender(qp.number, 0, 0)
        return Sender(qp.number, AV_BASE.unpack_from(wqe, 16)[3] & 0xf, self.card.vport.lid)

    def _sent(self, qp: 'Qp', peer: 'Target', n: int) -> None:
        """Both sides' packet sequence numbers move on by the packets of ``n`` bytes."""
        packets = (n + qp.mtu - 1) // qp.mtu or 1
        if self.infiniband:
            self.card.vport.count('transmitted_ib_unicast', n, packets)
            peer.card.vport.count('received_ib_unicast', n, packets)
        if qp.st == DCI:
            return
        qp.send_psn = (qp.send_psn + packets) & _PSN
        peer.recv_psn = qp.send_psn

    def _nop(self, qp: 'Queue', wqe: bytes, op: int, flags: int, imm: int) -> int:
        return 0

    def _umr(self, qp: 'Queue', wqe: bytes, op: int, flags: int, imm: int) -> int:
        update(self, qp, wqe, imm)
        return 0

    def _mmo(self, qp: 'Qp', wqe: bytes, op: int, flags: int, imm: int) -> int:
        return copy_memory(self, qp, wqe)

    def _set_psv(self, qp: 'Queue', wqe: bytes, op: int, flags: int, imm: int) -> int:
        set_psv(self.card, qp, wqe)
        return 0

    def _flow_table_access(self, qp: 'Queue', wqe: bytes, op: int, flags: int, imm: int) -> int:
        try:
            flow_table_access(self.card, qp, wqe, imm)
        except ValueError as e:
            raise WqeError(Syndrome.LOCAL_QP_OP, str(e)) from e
        return 0

    def _send(self, qp: 'Qp', wqe: bytes, op: int, flags: int, imm: int) -> int:
        try:
            peer, target, pos, srqn = self._peer(qp, wqe)
        except NoAnswer:
            if qp.st != UC:
                raise
            return self._lost(qp, wqe, 16)
        runs, n = self.gather(qp, wqe, pos, LOCAL_READ)
        if n > qp.max_message:
            raise WqeError(Syndrome.LOCAL_LENGTH, 'longer than log_msg_max')
        try:
            target.responder.receive(peer, op, runs, n, imm, bool(flags & CTRL_SOLICITED), srqn,
                                     self._initiator(qp, wqe))
        except (Nak, NotReady):
            if qp.st != UC:
                raise
        self._sent(qp, peer, n)
        return n

    def _lost(self, qp: 'Qp', wqe: bytes, pos: int) -> int:
        """An unreliable message that nobody takes: sent all the same, so its memory must be
        readable."""
        runs, n = self.gather(qp, wqe, pos, LOCAL_READ)
        for memory, addr, k in runs:
            copy([(memory, addr, min(k, 1))], [(_VOID, 0, 1)], 1)
        qp.send_psn = (qp.send_psn + ((n + qp.mtu - 1) // qp.mtu or 1)) & _PSN
        return n

    def _write(self, qp: 'Qp', wqe: bytes, op: int, flags: int, imm: int) -> int:
        try:
            peer, target, pos, srqn = self._peer(qp, wqe)
        except NoAnswer:
            if qp.st != UC:
                raise
            return self._lost(qp, wqe, 32)
        raddr, rkey = RADDR.unpack_from(wqe, pos)
        runs, n = self.gather(qp, wqe, pos + 16, LOCAL_READ)
        if n > qp.max_message:
            raise WqeError(Syndrome.LOCAL_LENGTH, 'longer than log_msg_max')
        try:
            if op == Op.WRITE_IMM:
                ring = target.responder.queue(peer, srqn)[0]
                if ring.consumer == ring.producer and not ring.posted():
                    raise NotReady(peer.min_rnr_nak)
            target.responder.write(peer, rkey, raddr, runs, n, srqn)
            if op == Op.WRITE_IMM:
                target.responder.receive(peer, op, None, n, imm, bool(flags & CTRL_SOLICITED), srqn,
                                         self._initiator(qp, wqe))
        except (Nak, NotReady):
            if qp.st != UC:
                raise
        self._sent(qp, peer, n)
        return n

    def _read(self, qp: 'Qp', wqe: bytes, op: int, flags: int, imm: int) -> int:
        peer, target, pos, srqn = self._peer(qp, wqe)
        raddr, rkey = RADDR.unpack_from(wqe, pos)
        sink, n = self.gather(qp, wqe, pos + 16, LOCAL_WRITE)
        if n > qp.max_message:
            raise WqeError(Syndrome.LOCAL_LENGTH, 'longer than log_msg_max')
        if n and self._into_cqe(qp, n, flags):
            room = CqeData(n)
            target.responder.read(peer, rkey, raddr, [(room, 0, n)], n, srqn)
            self._fetched = room.data
        else:
            target.responder.read(peer, rkey, raddr, sink, n, srqn)
        self._sent(qp, peer, n)
        return n

    @staticmethod
    def _into_cqe(qp: 'Qp', n: int, flags: int) -> bool:
        """Whether what a WQE fetches goes into its CQE."""
        cq = qp.scq
        return bool(qp.cs_req and flags & CTRL_CQ_UPDATE and cq is not None and
                    fits(qp.cs_req, cq.cqe_size, n))

    def _atomic(self, qp: 'Qp', wqe: bytes, op: int, flags: int, imm: int) -> int:
        peer, target, pos, srqn = self._peer(qp, wqe)
        raddr, rkey = RADDR.unpack_from(wqe, pos)
        pos += 16
        if op == Op.MASKED_CS:
            swap, compare, swap_mask, compare_mask = MASKED_ATOMIC.unpack_from(wqe, pos)
            pos += 32

            def change(old: int) -> int:
                return old & ~swap_mask | swap & swap_mask if not (old ^
                                                                   compare) & compare_mask else old
        else:
            first, second = ATOMIC.unpack_from(wqe, pos)
            pos += 16
            if op == Op.CS:
                def change(old: int) -> int:
                    return first if old == second else old
            elif op == Op.FA:
                def change(old: int) -> int:
                    return old + first & (1 << 64) - 1
            else:
                def change(old: int) -> int:
                    return add_fields(old, first, second)
        sink, n = self.gather(qp, wqe, pos, LOCAL_WRITE)
        if n != 8:
            raise WqeError(Syndrome.LOCAL_LENGTH, 'atomic operand is 8 bytes')
        old = target.responder.atomic(peer, rkey, raddr, change, srqn)
        if self._into_cqe(qp, 8, flags):
            self._fetched = old
        else:
            copy([(InlineData(old), 0, 8)], sink, 8)
        self._sent(qp, peer, 8)
        return 8

    # ---- datagrams

    def _datagram(self, qp: 'Qp', wqe: bytes, op: int, flags: int, imm: int) -> int:
        qkey, _, dest, rate_sl, path, rlid = AV_BASE.unpack_from(wqe, 16)
        pos, mac, tclass, hops, flow, gid = 32, b'', 0, 0, 0, bytes(16)
        if dest & EXTENDED_AV:
            mac, tclass, hops, flow, gid = AV_GRH_PART.unpack_from(wqe, 32)
            pos = 64
        runs, n = self.gather(qp, wqe, pos, LOCAL_READ)
        if n > qp.mtu:
            raise WqeError(Syndrome.LOCAL_LENGTH, 'longer than the MTU')
        if qkey >> 31:
            qkey = qp.qkey
        qpn = dest & 0xffffff
        header = grh(self.card, n, flow, tclass, hops, gid)
        message = [(InlineData(header.data), 0, 40), *runs]
        mine = Sender(qp.number if qp.st == UD else qp.st - QP0,
                        rate_sl & 0xf if self.infiniband else header.l3_type,
                        self.card.vport.lid if self.infiniband else 0, path & 0x7f, header.g,
                        pkey(self.card, qp.pkey_index))
        if qpn == MULTICAST_QPN:
            receivers = [(t, q) for t in self.port.multicast_targets()
                         for q in t.groups.get(gid, ()) if not (q is qp and qp.block_lb_mc)]
        else:
            address = Address(rlid, gid, bool(flow & AV_GRH), mac)
            # A directed route, of permissive LID, leads through the link: no switch is there.
            directed = qp.st == QP0 and rlid == PERMISSIVE_LID
            target = None if directed else self.port.fabric.route(self.port, address)
            found = target.datagram_qp(qpn) if target is not None else None
            if target is not None and not passes(self.port, target, address, flow >> 20 & 0xff,
                                                 qpn, sqn=qp.number):
                found = None
            receivers = [(target, found)] if target is not None and found is not None else []
        cast = 'multicast' if qpn == MULTICAST_QPN else 'unicast'
        if self.infiniband:
            self.card.vport.count(f'transmitted_ib_{cast}', n)
        if not receivers:
            read_all([(memory, addr, k) for memory, addr, k in runs])
        for target, peer in receivers:
            if peer.st not in DATAGRAM or not takes_requests(peer):
                continue
            if peer.st == QP1 and n == port_agent.MAD_BYTES and self.infiniband:
                mad = b''.join(memory.read(addr, k) for memory, addr, k in runs)
                if port_agent.is_for_port(mad):
                    self._agent_answers(target, qp, mad)
                    continue
            # Subnet management knows no partitions.
            if peer.st == QP1 and not admits_management(target.card, mine.pkey):
                continue
            if peer.st == UD and not admits(target.card, mine.pkey, peer.pkey_index):
                continue
            if peer.qkey != qkey:
                target.card.vport.qkey_violations = min(target.card.vport.qkey_violations + 1,
                                                        0xffff)
                continue
            try:
                target.responder.receive(peer, op, message, n + 40, imm,
                                         bool(flags & CTRL_SOLICITED), None, mine)
                if self.infiniband:
                    target.card.vport.count(f'received_ib_{cast}', n)
            except (Nak, NotReady):
                pass    # nobody tells the sender of a datagram
        qp.send_psn = (qp.send_psn + 1) & _PSN
        return n


    def _agent_answers(self, target: 'Port', qp: 'Qp', mad: bytes) -> None:
        """A port answers a management datagram by itself, to the queue that sent it."""
        message: list[Run] = [(InlineData(bytes(40) + port_agent.answer(target.card, mad)), 0,
                               40 + port_agent.MAD_BYTES)]
        try:
            self.port.responder.receive(
                qp, Op.SEND, message, 40 + port_agent.MAD_BYTES, 0, False, None,
                Sender(1, 0, target.card.vport.lid, pkey=pkey(target.card, 0)))
        except (Nak, NotReady):
            pass    # as for any datagram


def add_fields(old: int, add: int, boundary: int) -> int:
    """Masked fetch and add: a set bit of ``boundary`` is the top of a field, across which nothing
    is carried."""
    out, low = 0, 0
    for bit in range(64):
        if boundary >> bit & 1 or bit == 63:
            mask = (1 << (bit + 1)) - (1 << low)
            out |= (old & mask) + (add & mask) & mask
            low = bit + 1
    return out


class _Void:
    """Where unreliable messages go that nobody takes."""

    def write(self, address: int, data: bytes) -> None:
        """Lost."""


_VOID = _Void()
