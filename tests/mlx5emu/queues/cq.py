# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Completion queues: CREATE_CQ, MODIFY_CQ, QUERY_CQ, DESTROY_CQ; writing CQEs; arming and
moderation."""
from typing import TYPE_CHECKING

from .. import prm
from ..dma import DmaError
from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from ..firmware.tables import Object, declare
from .cqe_compression import ARRAY, CHECKSUM_STRIDE_INDEX, FORMATS, Session
from .queue_buffer import QueueBuffer, doorbell_record, in_pages, in_umem, page_list

if TYPE_CHECKING:
    from ..card import Card
    from ..memory.umem import Umem

#: CQ context: status, state, CQE size.
STATUS_OK, STATUS_OVERFLOW, STATUS_WRITE_FAILURE = 0x0, 0x9, 0xa
STATE_SOLICITED_ARMED, STATE_ARMED, STATE_FIRED = 0x6, 0x9, 0xa
CQE_64, CQE_128, CQE_128_PAD = 0, 1, 2
#: Syndromes of a CQ error event.
ERROR_OVERRUN, ERROR_ACCESS = 1, 2
#: MODIFY_CQ field select.
MODIFY_PERIOD, MODIFY_COUNT, MODIFY_OVERRUN, MODIFY_PERIOD_MODE = 0x01, 0x02, 0x04, 0x10
OP_MOD_MODIFY, OP_MOD_RESIZE = 0, 1

#: cq_period_mode.
FROM_EQE, FROM_CQE = 0, 1

_RESIZE_CQE = 5
_NOT_ARMED, _ARMED_SOLICITED, _ARMED_ANY = 0, 1, 2


class Cq(Object):
    """A completion queue: a ring of CQEs, the consumer's doorbell record, and who is told."""

    kind = declare('cq', 'cqs', 0x10, 1 << 16, destroy=('DESTROY_CQ', 'cqn'))

    def __init__(self, card: 'Card', buf: QueueBuffer, log_size: int, cqe_size: int, dbr: int,
                 eqn: int) -> None:
        super().__init__()
        self.card, self.eqn, self.dbr = card, eqn, dbr
        self.producer, self.consumer = 0, 0
        self.solicited_end = 0
        self.armed = _NOT_ARMED
        self.status = STATUS_OK
        self.overrun_ignore = False
        #: Every CQE goes to the first slot: who polls looks at the WQE counter of the last.
        self.collapsed = False
        self.period_us, self.max_count, self.uar = 0, 0, 0
        self.pending = 0
        self._timer, self._due = False, 0
        #: The period begins anew with each completion, not with the first alone.
        self.period_from_cqe = False
        self.context = bytearray(64)
        #: Completions that are to be compressed, where the CQ asked for it.
        self.session: Session | None = None
        self.lay_out(buf, log_size, cqe_size)

    def lay_out(self, buf: QueueBuffer, log_size: int, cqe_size: int) -> None:
        """Take a buffer of 2^log_size CQEs of ``cqe_size`` bytes."""
        self.buf, self.log_size, self.cqe_size = buf, log_size, cqe_size
        self.size = 1 << log_size
        # The 64 bytes that tell what happened are the last of a wide CQE.
        self._tail = cqe_size - 64

    # ---- completions

    def push(self, body: bytes, op_own: int, solicited: bool, inline: bytes = b'') -> None:
        """Write a CQE; the byte with the owner bit goes last, so that a reader on another CPU sees
        all or nothing.

        A full or unreachable CQ goes to its error state and the driver is told; nothing is raised.

        :param body: its first 62 bytes.
        :param op_own: its last byte without the owner bit.
        :param solicited: whether it counts for a CQ armed for solicited completions only.
        :param inline: 64 bytes of data for the first half of a 128-byte CQE.
        """
        if self.session is not None and self.session.take(body, op_own, inline):
            return
        self.write(body, op_own, solicited=solicited, inline=inline)

    def room(self, n: int) -> bool:
        """Whether ``n`` more CQEs fit."""
        if self.status:
            return False
        if self.overrun_ignore:
            return n <= self.size
        if (self.producer + n - 1 - self.consumer) & 0xffffff >= self.size:
            try:
                self.consumer = self.card.dma.read_be32(self.dbr) & 0xffffff
            except DmaError:
                return False
        return (self.producer + n - 1 - self.consumer) & 0xffffff < self.size

    def write(self, body: bytes, op_own: int, minis: bytes = b'', solicited: bool = False,
              inline: bytes = b'') -> None:
        """Write a CQE as :meth:`push` does, or a session of completions: the title, and eight bytes
        for each."""
        if self.status:
            return
        p = self.producer
        dma = self.card.dma
        try:
            if (p - self.consumer) & 0xffffff >= self.size and not self.overrun_ignore:
                self.consumer = dma.read_be32(self.dbr) & 0xffffff
                if (p - self.consumer) & 0xffffff >= self.size:
                    self.fail(STATUS_OVERFLOW, ERROR_OVERRUN)
                    return
            pos = 0 if self.collapsed else (p & (self.size - 1)) * self.cqe_size
            if inline and self._tail:
                dma.write(self.buf.address(pos), inline)
            for k in range(0, len(minis), 8 * ARRAY):
                slot = (p + max(1, k >> 3)) & (self.size - 1)
                dma.write(self.buf.address(slot * self.cqe_size + self._tail),
                          minis[k:k + 8 * ARRAY])
            addr = self.buf.address(pos + self._tail)
            dma.write(addr, body)
            dma.write(addr + 62, bytes((0, op_own | p >> self.log_size & 1)))
        except DmaError:
            self.fail(STATUS_WRITE_FAILURE, ERROR_ACCESS)
            return
        self.producer = p = (p + (len(minis) >> 3 or 1)) & 0xffffff
        if solicited:
            self.solicited_end = p
        if self.armed and (solicited or self.armed == _ARMED_ANY):
            self._notify()

    def fail(self, status: int, syndrome: int) -> None:
        """Stop taking CQEs and tell the driver."""
        self.status = status
        event = prm.new('cq_error_event')
        event.set(cqn=self.number, syndrome=syndrome)
        self.card.post_event(prm.EVENTS['CQ_ERROR'], 0, bytes(event.buf))

    # ---- events

    def arm(self, consumer: int, solicited_only: bool) -> None:
        """Ask for one event at the next (solicited) completion after ``consumer``; at once when
        there is one already."""
        self.consumer = consumer
        end = self.solicited_end if solicited_only else self.producer
        waiting = (end - consumer) & 0xffffff
        self.armed = _ARMED_SOLICITED if solicited_only else _ARMED_ANY
        if 0 < waiting < 1 << 23:
            self._fire()

    def _notify(self) -> None:
        if self.max_count <= 1 and not self.period_us:
            self._fire()
            return
        self.pending += 1
        if self.max_count and self.pending >= self.max_count:
            self._fire()
        elif self.period_us:
            now = self.card.now()
            if self.pending == 1 or self.period_from_cqe:
                self._due = now + self.period_us * 1000
            self._wait(now)

    def _wait(self, now: int) -> None:
        if not self._timer:
            self._timer = True
            self.card.call_later(self._due - now, self._period_over)

    def _period_over(self) -> None:
        self._timer = False
        if not self.pending or not self.armed or self.card.cqs.find(self.number) is not self:
            return
        now = self.card.now()
        if now < self._due:
            self._wait(now)     # completions began the period anew
        else:
            self._fire()

    def _fire(self) -> None:
        self.armed, self.pending = _NOT_ARMED, 0
        self.card.post_eqe(self.eqn, 0, 0, self.number.to_bytes(28, 'big'))

    @property
    def state(self) -> int:
        """As the context tells it."""
        return (STATE_FIRED, STATE_SOLICITED_ARMED, STATE_ARMED)[self.armed]


# ---- commands


def _buffer(card: 'Card', cmd: Command, uid: int, context: prm.View,
            size: int) -> tuple[QueueBuffer, 'Umem | None']:
    inp = cmd.inp
    if inp['cq_umem_valid']:
        umem = card.umems.get(inp['cq_umem_id'], uid)
        buf = in_umem(card, umem, inp['cq_umem_offset'], size, write=True)
    else:
        umem = None
        log_page = context['log_page_size'] + 12
        base = context['page_offset'] << log_page >> 6
        buf = in_pages(card, page_list(cmd.raw, inp.offset('pas')), log_page, base, size)
    return buf, umem


def _size(card: 'Card', context: prm.View) -> tuple[int, int]:
    log_size, code = context['log_cq_size'], context['cqe_sz']
    if log_size > card.caps.get('log_max_cq_sz'):
        raise Status('BAD_PARAM', 'log_cq_size')
    if code not in (CQE_64, CQE_128, CQE_128_PAD):
        raise Status('BAD_PARAM', 'cqe_sz')
    return log_size, 64 if code == CQE_64 else 128


def _session(card: 'Card', cq: Cq, c: prm.View) -> Session | None:
    if c['cqe_compression_layout']:
        raise Status('BAD_PARAM', 'cqe_compression_layout')
    if not c['cqe_comp_en']:
        return None
    if c['cc']:
        raise Status('BAD_PARAM', 'compression in a collapsed CQ')
    form = c['mini_cqe_res_format']
    if not card.caps.get('cqe_compression' if cq.cqe_size == 64 else 'cqe_compression_128'):
        raise Status('BAD_PARAM', 'CQE compression is not supported for the size')
    if form not in FORMATS or (form == CHECKSUM_STRIDE_INDEX and
                               not card.caps.get('mini_cqe_resp_stride_index')):
        raise Status('BAD_PARAM', 'mini_cqe_res_format')
    return Session(cq, form)


@command('CREATE_CQ')
def create_cq(card: 'Card', cmd: Command) -> None:
    """Make a CQ. Refused for sizes, an EQ, a UAR, a buffer or a doorbell record that cannot be."""
    c = cmd.inp.sub('cq_context')
    log_size, cqe_size = _size(card, c)
    eq = card.eqs.get(c['c_eqn_or_apu_element'])
    card.uars.get(c['uar_page'], cmd.uid)
    dbr_umem = card.umems.get(c['dbr_umem_id'], cmd.uid) if c['dbr_umem_valid'] else None
    dbr = doorbell_record(dbr_umem, c['dbr_addr'])
    buf, umem = _buffer(card, cmd, cmd.uid, c, cqe_size << log_size)
    cq = Cq(card, buf, log_size, cqe_size, dbr, eq.number)
    cq.session = _session(card, cq, c)
    cq.overrun_ignore, cq.collapsed = bool(c['oi']), bool(c['cc'])
    cq.period_from_cqe = c['cq_period_mode'] == FROM_CQE
    cq.period_us, cq.max_count, cq.uar = c['cq_period'], c['cq_max_count'], c['uar_page']
    at = cmd.inp.offset('cq_context')
    cq.context[:] = cmd.raw[at:at + 64]
    cmd.out['cqn'] = card.cqs.alloc(cq, cmd.uid, cost=buf.cost)
    cq.use(eq, dbr_umem, umem)


@command('MODIFY_CQ', min_in=0x50, op_mods=(OP_MOD_MODIFY, OP_MOD_RESIZE))
def modify_cq(card: 'Card', cmd: Command) -> None:
    """Moderation and overrun (op_mod 0), or a new buffer (op_mod 1)."""
    cq = card.cqs.get(cmd.inp['cqn'], cmd.uid)
    c = cmd.inp.sub('cq_context')
    if cmd.op_mod == OP_MOD_RESIZE:
        _resize(card, cmd, cq, c)
        return
    select = cmd.inp[
        'modify_field_select_resize_field_select.modify_field_select.modify_field_select']
    if select & ~(MODIFY_PERIOD | MODIFY_COUNT | MODIFY_OVERRUN | MODIFY_PERIOD_MODE):
        raise Status('BAD_PARAM', 'modify_field_select')
    kept = prm.view('cqc', cq.context)
    if select & MODIFY_PERIOD:
        cq.period_us = kept['cq_period'] = c['cq_period']
    if select & MODIFY_COUNT:
        cq.max_count = kept['cq_max_count'] = c['cq_max_count']
    if select & MODIFY_OVERRUN:
        kept['oi'] = c['oi']
        cq.overrun_ignore = bool(c['oi'])
    if select & MODIFY_PERIOD_MODE:
        kept['cq_period_mode'] = c['cq_period_mode']
        cq.period_from_cqe = c['cq_period_mode'] == FROM_CQE


def _resize(card: 'Card', cmd: Command, cq: Cq, c: prm.View) -> None:
    log_size = c['log_cq_size']
    if log_size > card.caps.get('log_max_cq_sz'):
        raise Status('BAD_PARAM', 'log_cq_size')
    if cq.status or cq.collapsed:
        raise Status('BAD_RES_STATE', 'CQ is in error, or collapsed')
    cq.consumer = card.dma.read_be32(cq.dbr) & 0xffffff
    if (cq.producer - cq.consumer) & 0xffffff >= 1 << log_size:
        raise Status('BAD_RES_STATE', 'CQEs would not fit')
    buf, umem = _buffer(card, cmd, cmd.uid or cq.uid, c, cq.cqe_size << log_size)
    # Both buffers are there for a moment.
    card.memory.charge(buf.cost)
    # A last CQE in the old ring tells the reader to go on in the new one; it takes an index of its
    # own.
    armed, cq.armed = cq.armed, _NOT_ARMED
    ignore, cq.overrun_ignore = cq.overrun_ignore, True
    cq.push(bytes(62), _RESIZE_CQE << 4, False)
    cq.armed, cq.overrun_ignore = armed, ignore
    if cq.status:
        card.memory.release(buf.cost)
        raise Status('BAD_PARAM', 'CQ buffer is not mapped')
    cq.recharge(buf.cost)
    cq.lay_out(buf, log_size, cq.cqe_size)
    cq.use(umem)
    kept = prm.view('cqc', cq.context)
    kept.set(log_cq_size=log_size, log_page_size=c['log_page_size'], page_offset=c['page_offset'])


@command('QUERY_CQ')
def query_cq(card: 'Card', cmd: Command) -> None:
    """Tell the context, with state and counters as they are now."""
    cq = card.cqs.get(cmd.inp['cqn'], cmd.uid)
    at = cmd.out.offset('cq_context')
    cmd.out.buf[at:at + 64] = cq.context
    c = cmd.out.sub('cq_context')
    try:
        cq.consumer = card.dma.read_be32(cq.dbr) & 0xffffff
    except DmaError:
        pass
    c.set(status=cq.status, st=cq.state, consumer_counter=cq.consumer, producer_counter=cq.producer)


@command('DESTROY_CQ')
def destroy_cq(card: 'Card', cmd: Command) -> None:
    """Destroy a CQ. Refused while a queue completes to it."""
    card.cqs.free(cmd.inp['cqn'], cmd.uid)
