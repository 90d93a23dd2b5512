# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Raw work queues: SQ and RQ; create, modify, query, destroy."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.domains import check_counter
from ..firmware.status import Status
from ..firmware.tables import declare
from ..firmware.uctx import RAW_TX
from . import scheduling
from .queue import ERR, RST, RTS, Queue
from .queue_buffer import QueueBuffer
from .rings import ReceiveRing, SendRing
from .srq import CYCLIC, LINKED_LIST, work_queue_buffer

if TYPE_CHECKING:
    from ..card import Card
    from .tir import Tis

#: state of an SQ or RQ context.
WQ_RESET, WQ_READY, WQ_ERROR = 0, 1, 3
#: States of a queue, and what the context calls them.
_STATES = {WQ_RESET: RST, WQ_READY: RTS, WQ_ERROR: ERR}
_WQ_STATES = {state: wq_state for wq_state, state in _STATES.items()}
#: What MODIFY_SQ and MODIFY_RQ may go to.
_NEXT_STATES = {
    WQ_RESET: (WQ_RESET, WQ_READY), WQ_READY: (WQ_READY, WQ_ERROR, WQ_RESET), WQ_ERROR:
    (WQ_RESET, WQ_ERROR)}
STRIDING = (2, 3)
#: mem_rq_type.
INLINE_RQ, RMP_RQ = 0, 1
#: modify_bitmask of MODIFY_SQ and what MODIFY_RQ takes.
PACING, QUEUE_GROUP = 1 << 0, 1 << 2
SQ_BITS, RQ_BITS = PACING | QUEUE_GROUP, 0xe


class _WorkQueue(Queue):
    """What SQ and RQ share: a context with a state, and a buffer."""

    def __init__(self, card: 'Card', context: bytes, layout: str) -> None:
        super().__init__(card)
        self.context, self.layout = bytearray(context), layout
        self.buf: QueueBuffer | None = None
        c = prm.view(layout, self.context)
        self.user_index, self.rlky = c['user_index'], bool(c['rlky'])
        self.flush_in_error = bool(c['flush_in_error_en'])
        self.pd, self.uar = c['wq.pd'], c['wq.uar_page']

    @property
    def wq_state(self) -> int:
        """The state as the context has it."""
        return _WQ_STATES[self.state]

    def write_context(self, cmd: Command, field: str) -> prm.View:
        """Put the context with the present state into a command's output."""
        at = cmd.out.offset(field)
        cmd.out.buf[at:at + len(self.context)] = self.context
        c = cmd.out.sub(field)
        c['state'] = self.wq_state
        return c


class Sq(_WorkQueue):
    """A raw send queue."""

    kind = declare('sq', 'sqs', space='queue_numbers', destroy=('DESTROY_SQ', 'sqn'))
    event_kind = 2
    sq: SendRing

    def __init__(self, card: 'Card', context: bytes) -> None:
        super().__init__(card, context, 'sqc')
        self.tis: Tis | None = None


class Rq(_WorkQueue):
    """A raw receive queue, with a ring of its own or an RMP's."""

    kind = declare('rq', 'rqs', space='queue_numbers', destroy=('DESTROY_RQ', 'rqn'))
    event_kind = 1

    def __init__(self, card: 'Card', context: bytes) -> None:
        super().__init__(card, context, 'rqc')
        self.read_offloads()

    def read_offloads(self) -> None:
        """Take over what the context says of frames, after it was made or changed."""
        c = prm.view('rqc', self.context)
        self.vlan_strip_disabled, self.scatter_fcs = bool(c['vsd']), bool(c['scatter_fcs'])


def context_of(cmd: Command) -> bytes:
    """The context in a command of a raw queue, TIS, TIR or RQ table."""
    at = cmd.inp.offset('ctx')
    return cmd.raw[at:at + cmd.inp.sub('ctx').size]


def _check_ring(card: 'Card', wq: prm.View, low: int, high: int) -> None:
    if wq['log_wq_sz'] > card.caps.get('log_max_wq_sz'):
        raise Status('BAD_PARAM', 'log_wq_sz')
    if not low <= wq['log_wq_stride'] <= high:
        raise Status('BAD_PARAM', 'log_wq_stride')


@command('CREATE_SQ', right=RAW_TX)
def create_sq(card: 'Card', cmd: Command) -> None:
    """Check the context against its CQ, PD, TISes, UAR and buffer. Refused for a user context that
    may not send frames as they are."""
    c = cmd.inp.sub('ctx')
    wq = c.sub('wq')
    if c['state'] != WQ_RESET:
        raise Status('BAD_PARAM', 'SQ is created in state RST')
    if wq['wq_type'] != CYCLIC:
        raise Status('BAD_PARAM', 'wq_type')
    if c['rlky'] and cmd.uid:
        raise Status('BAD_PARAM', "the reserved key is the kernel's")
    _check_ring(card, wq, 6, 6)
    cq = card.cqs.get(c['cqn'], cmd.uid)
    pd = card.pds.get(wq['pd'], cmd.uid) if wq['pd'] else None
    tis = card.tises.get(c['tis_num_0'], cmd.uid) if c['tis_lst_sz'] else None
    card.uars.get(wq['uar_page'], cmd.uid)
    pacing = card.packet_pacing.limits(c['packet_pacing_rate_limit_index'], cmd.uid)
    group = scheduling.group(card, c['qos_queue_group_id'], cmd.uid)
    sq = Sq(card, context_of(cmd))
    sq.buf, dbr, umems = work_queue_buffer(card, cmd, wq, 64 << wq['log_wq_sz'])
    sq.scq, sq.tis = cq, tis
    sq.sq = SendRing(sq, sq.buf, 0, wq['log_wq_sz'], dbr, cq, sq.user_index)
    cmd.out['sqn'] = card.sqs.alloc(sq, cmd.uid, cost=sq.buf.cost)
    sq.use(cq, pd, tis, *umems)
    sq.sq.pacing = pacing
    scheduling.join(sq, 'queue_group', group)


@command('MODIFY_SQ')
def modify_sq(card: 'Card', cmd: Command) -> None:
    """Change the state, or the fields that the bitmask selects. Refused for a step that there is
    not."""
    sq = card.sqs.get(cmd.inp['sqn'], cmd.uid)
    new = cmd.inp['ctx.state']
    _check_step(sq, cmd.inp['sq_state'], new)
    if cmd.inp['modify_bitmask'] & ~SQ_BITS:
        raise Status('BAD_PARAM', 'modify_bitmask')
    kept, c, bits = prm.view('sqc', sq.context), cmd.inp.sub('ctx'), cmd.inp['modify_bitmask']
    pacing = card.packet_pacing.limits(c['packet_pacing_rate_limit_index'],
                                       cmd.uid) if bits & PACING else ()
    group = scheduling.group(card, c['qos_queue_group_id'], cmd.uid) if bits & QUEUE_GROUP else None
    if bits & PACING:
        kept['packet_pacing_rate_limit_index'] = c['packet_pacing_rate_limit_index']
        sq.sq.pacing = pacing
    if bits & QUEUE_GROUP:
        kept['qos_queue_group_id'] = c['qos_queue_group_id']
        scheduling.join(sq, 'queue_group', group)
    if new == sq.wq_state:
        return
    if new == WQ_ERROR:
        sq.flush_send()
    elif new == WQ_RESET:
        sq.sq.reset()
    sq.enter(_STATES[new])


def _check_step(queue: _WorkQueue, old: int, new: int) -> None:
    if old != queue.wq_state:
        raise Status('BAD_RES_STATE', 'queue is in another state')
    if new not in _NEXT_STATES[old]:
        raise Status('BAD_RES_STATE', 'no such change of state')


@command('QUERY_SQ')
def query_sq(card: 'Card', cmd: Command) -> None:
    """Tell the context, with state and counters as they are now."""
    sq = card.sqs.get(cmd.inp['sqn'], cmd.uid)
    c = sq.write_context(cmd, 'sq_context')
    c['wq.hw_counter'], c['wq.sw_counter'] = sq.sq.consumer, sq.sq.producer


@command('DESTROY_SQ')
def destroy_sq(card: 'Card', cmd: Command) -> None:
    """Destroy an SQ, whatever its state is."""
    card.sqs.free(cmd.inp['sqn'], cmd.uid)


@command('CREATE_RQ')
def create_rq(card: 'Card', cmd: Command) -> None:
    """Make an RQ in the reset state. Refused for a CQ, PD, RMP or buffer that cannot be."""
    c = cmd.inp.sub('ctx')
    wq = c.sub('wq')
    if c['state'] != WQ_RESET:
        raise Status('BAD_PARAM', 'RQ is created in state RST')
    if c['rlky'] and cmd.uid:
        raise Status('BAD_PARAM', "the reserved key is the kernel's")
    check_counter(card, c['counter_set_id'], cmd.uid)
    cq = card.cqs.get(c['cqn'], cmd.uid)
    rq = Rq(card, context_of(cmd))
    rq.rcq = cq
    holds: list = [cq]
    if c['mem_rq_type'] == RMP_RQ:
        rq.srq = card.rmps.get(c['rmpn'], cmd.uid)
        holds.append(rq.srq)
    elif c['mem_rq_type'] == INLINE_RQ:
        if wq['wq_type'] not in (LINKED_LIST, CYCLIC,
                                 *(STRIDING if card.caps.get('striding_rq') else ())):
            raise Status('BAD_PARAM', 'wq_type')
        _check_ring(card, wq, 4, 11)
        holds.append(card.pds.get(wq['pd'], cmd.uid) if wq['pd'] else None)
        rq.buf, dbr, umems = work_queue_buffer(card, cmd, wq, 1 <<
                                               (wq['log_wq_sz'] + wq['log_wq_stride']))
        holds += umems
        rq.rq = ReceiveRing(rq.buf, 0, wq['log_wq_sz'], wq['log_wq_stride'], dbr, wq['pd'],
                            wq['wq_type'] in (0, 2), bool(wq['wq_signature']))
    else:
        raise Status('BAD_PARAM', 'mem_rq_type')
    cmd.out['rqn'] = card.rqs.alloc(rq, cmd.uid, cost=rq.buf.cost if rq.buf else 0)
    rq.use(*holds)


@command('MODIFY_RQ')
def modify_rq(card: 'Card', cmd: Command) -> None:
    """Change the state, or the fields that the bitmask selects. Refused for a step that there is
    not."""
    rq = card.rqs.get(cmd.inp['rqn'], cmd.uid)
    new = cmd.inp['ctx.state']
    _check_step(rq, cmd.inp['rq_state'], new)
    bits = cmd.inp['modify_bitmask']
    if bits & ~RQ_BITS:
        raise Status('BAD_PARAM', 'modify_bitmask')
    if bits & 1 << 3:
        check_counter(card, cmd.inp['ctx.counter_set_id'], cmd.uid)
    kept = prm.view('rqc', rq.context)
    for bit, field in ((1 << 1, 'vsd'), (1 << 2, 'scatter_fcs'), (1 << 3, 'counter_set_id')):
        if bits & bit:
            kept[field] = cmd.inp[f'ctx.{field}']
    rq.read_offloads()
    if new == rq.wq_state:
        return
    if new == WQ_ERROR:
        rq.flush_receive()
    elif new == WQ_RESET and rq.rq is not None:
        rq.rq.reset()
    rq.enter(_STATES[new])


@command('QUERY_RQ')
def query_rq(card: 'Card', cmd: Command) -> None:
    """Tell the context, with state and counters as they are now."""
    rq = card.rqs.get(cmd.inp['rqn'], cmd.uid)
    c = rq.write_context(cmd, 'rq_context')
    if rq.rq is not None:
        c['wq.hw_counter'], c['wq.sw_counter'] = rq.rq.consumer, rq.rq.producer


@command('DESTROY_RQ')
def destroy_rq(card: 'Card', cmd: Command) -> None:
    """Destroy an RQ. Refused while a TIR or RQT points at it."""
    card.rqs.free(cmd.inp['rqn'], cmd.uid)
