# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Raw work queues and what points at them: SQ, RQ, TIS, TIR, RQT; create, modify, query,
destroy."""
from array import array
from typing import TYPE_CHECKING, Any

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.lag import check_affinity
from ..firmware.status import Status
from ..firmware.tables import Object, declare
from ..steering import sw_steering
from . import scheduling
from .queue import ERR, RST, RTS, Queue
from .queue_buffer import QueueBuffer
from .rings import ReceiveRing, SendRing
from .srq import CYCLIC, LINKED_LIST, work_queue_buffer

if TYPE_CHECKING:
    from ..card import Card

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
#: list_q_type of an RQ table, and the general objects that the second kind lists.
LIST_RQ, LIST_VIRTIO = 0, 1
VIRTIO_NET_Q = 0xd
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


def _context(cmd: Command) -> bytes:
    at = cmd.inp.offset('ctx')
    return cmd.raw[at:at + cmd.inp.sub('ctx').size]


def _check_ring(card: 'Card', wq: prm.View, low: int, high: int) -> None:
    if wq['log_wq_sz'] > card.caps.get('log_max_wq_sz'):
        raise Status('BAD_PARAM', 'log_wq_sz')
    if not low <= wq['log_wq_stride'] <= high:
        raise Status('BAD_PARAM', 'log_wq_stride')


@command('CREATE_SQ')
def create_sq(card: 'Card', cmd: Command) -> None:
    """Check the context against its CQ, PD, TISes, UAR and buffer."""
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
    sq = Sq(card, _context(cmd))
    sq.buf, dbr, umems = work_queue_buffer(card, cmd, wq, 64 << wq['log_wq_sz'])
    sq.scq, sq.tis = cq, tis
    sq.sq = SendRing(sq, sq.buf, 0, wq['log_wq_sz'], dbr, cq, sq.user_index)
    cmd.out['sqn'] = card.sqs.alloc(sq, cmd.uid, cost=sq.buf.cost)
    sq.use(cq, pd, tis, *umems)
    sq.sq.pacing = pacing
    scheduling.join(sq, 'queue_group', group)


@command('MODIFY_SQ')
def modify_sq(card: 'Card', cmd: Command) -> None:
    """Change the state, or the fields that the bitmask selects."""
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
    """The context with state and counters as they are now."""
    sq = card.sqs.get(cmd.inp['sqn'], cmd.uid)
    c = sq.write_context(cmd, 'sq_context')
    c['wq.hw_counter'], c['wq.sw_counter'] = sq.sq.consumer, sq.sq.producer


@command('DESTROY_SQ')
def destroy_sq(card: 'Card', cmd: Command) -> None:
    """In any state."""
    card.sqs.free(cmd.inp['sqn'], cmd.uid)


@command('CREATE_RQ')
def create_rq(card: 'Card', cmd: Command) -> None:
    """Check the context against its CQ, PD, RMP and buffer."""
    c = cmd.inp.sub('ctx')
    wq = c.sub('wq')
    if c['state'] != WQ_RESET:
        raise Status('BAD_PARAM', 'RQ is created in state RST')
    if c['rlky'] and cmd.uid:
        raise Status('BAD_PARAM', "the reserved key is the kernel's")
    cq = card.cqs.get(c['cqn'], cmd.uid)
    rq = Rq(card, _context(cmd))
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
    """Change the state, or the fields that the bitmask selects."""
    rq = card.rqs.get(cmd.inp['rqn'], cmd.uid)
    new = cmd.inp['ctx.state']
    _check_step(rq, cmd.inp['rq_state'], new)
    bits = cmd.inp['modify_bitmask']
    if bits & ~RQ_BITS:
        raise Status('BAD_PARAM', 'modify_bitmask')
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
    """The context with state and counters as they are now."""
    rq = card.rqs.get(cmd.inp['rqn'], cmd.uid)
    c = rq.write_context(cmd, 'rq_context')
    if rq.rq is not None:
        c['wq.hw_counter'], c['wq.sw_counter'] = rq.rq.consumer, rq.rq.producer


@command('DESTROY_RQ')
def destroy_rq(card: 'Card', cmd: Command) -> None:
    """Refused while a TIR or RQT points at it."""
    card.rqs.free(cmd.inp['rqn'], cmd.uid)


class _Context(Object):
    """An object that is little more than its context."""

    def __init__(self, context: bytes) -> None:
        super().__init__()
        self.context = bytearray(context)


class Tis(_Context):
    """Transport interface send."""

    kind = declare('tis', 'tises', 1, 1 << 14, destroy=('DESTROY_TIS', 'tisn'))

    @property
    def transport_domain(self) -> int:
        """Number of its transport domain."""
        return prm.view('tisc', self.context)['transport_domain']


class Tir(_Context):
    """Transport interface receive: one RQ, or an RQ table and how to hash."""

    kind = declare('tir', 'tirs', 1, 1 << 14, destroy=('DESTROY_TIR', 'tirn'))
    target: Any = None


class Rqt(_Context):
    """An RQ table."""

    kind = declare('rqt', 'rqts', 1, 1 << 14, destroy=('DESTROY_RQT', 'rqtn'))
    rqs: tuple[Object, ...] = ()


@command('CREATE_TIS')
def create_tis(card: 'Card', cmd: Command) -> None:
    """Check the transport domain."""
    domain = cmd.inp['ctx.transport_domain']
    check_affinity(card, cmd.inp['ctx.lag_tx_port_affinity'])
    td = card.transport_domains.get(domain, cmd.uid) if domain else None
    tis = Tis(_context(cmd))
    cmd.out['tisn'] = card.tises.alloc(tis, cmd.uid)
    tis.use(td)


@command('MODIFY_TIS')
def modify_tis(card: 'Card', cmd: Command) -> None:
    """Priority and LAG affinity."""
    tis = card.tises.get(cmd.inp['tisn'], cmd.uid)
    kept = prm.view('tisc', tis.context)
    check_affinity(card, cmd.inp['ctx.lag_tx_port_affinity'])
    for field in ('prio', 'lag_tx_port_affinity', 'strict_lag_tx_port_affinity'):
        if cmd.inp[f'bitmask.{field}']:
            kept[field] = cmd.inp[f'ctx.{field}']


@command('QUERY_TIS')
def query_tis(card: 'Card', cmd: Command) -> None:
    """The context."""
    _answer(cmd, card.tises.get(cmd.inp['tisn'], cmd.uid), 'tis_context')


@command('DESTROY_TIS')
def destroy_tis(card: 'Card', cmd: Command) -> None:
    """Refused while an SQ sends through it."""
    card.tises.free(cmd.inp['tisn'], cmd.uid)


def _answer(cmd: Command, obj: _Context, field: str) -> None:
    at = cmd.out.offset(field)
    n = min(len(obj.context), len(cmd.out.buf) - at)
    cmd.out.buf[at:at + n] = obj.context[:n]


@command('CREATE_TIR')
def create_tir(card: 'Card', cmd: Command) -> None:
    """Check the transport domain and the RQ or table that it points at."""
    c = cmd.inp.sub('ctx')
    td = card.transport_domains.get(c['transport_domain'],
                                    cmd.uid) if c['transport_domain'] else None
    if c['disp_type'] == 0:
        target: Object = card.rqs.get(c['inline_rqn'], cmd.uid)
    elif c['disp_type'] == 1:
        target = card.rqts.get(c['indirect_table'], cmd.uid)
    else:
        raise Status('BAD_PARAM', 'disp_type')
    tir = Tir(_context(cmd))
    tir.target = target
    cmd.out['tirn'] = card.tirs.alloc(tir, cmd.uid)
    sw_steering.tell_tir(card, cmd.out, tir.number)
    tir.use(td, target)


@command('MODIFY_TIR')
def modify_tir(card: 'Card', cmd: Command) -> None:
    """Loopback, hash and packet merge, as the bitmask selects."""
    tir = card.tirs.get(cmd.inp['tirn'], cmd.uid)
    kept, new, bits = prm.view('tirc', tir.context), cmd.inp.sub('ctx'), cmd.inp.sub('bitmask')
    if bits['self_lb_en']:
        kept['self_lb_block'] = new['self_lb_block']
    if bits['packet_merge']:
        for field in ('packet_merge_mask', 'lro_timeout_period_usecs', 'lro_max_ip_payload_size'):
            kept[field] = new[field]
    if bits['hash']:
        for field in ('rx_hash_fn', 'rx_hash_symmetric', 'rx_hash_toeplitz_key',
                      'rx_hash_field_selector_outer', 'rx_hash_field_selector_inner'):
            kept[field] = new[field]


@command('QUERY_TIR')
def query_tir(card: 'Card', cmd: Command) -> None:
    """The context."""
    _answer(cmd, card.tirs.get(cmd.inp['tirn'], cmd.uid), 'tir_context')


@command('DESTROY_TIR')
def destroy_tir(card: 'Card', cmd: Command) -> None:
    """Refused while a flow rule sends to it."""
    card.tirs.free(cmd.inp['tirn'], cmd.uid)


def _rq_list(card: 'Card', cmd: Command, c: prm.View, limit: int,
             list_q_type: int) -> tuple[Object, ...]:
    actual = c['rqt_actual_size']
    if actual > limit:
        raise Status('BAD_PARAM', 'rqt_actual_size')
    at = c.offset('rq_num')
    if 4 * actual > len(cmd.raw) - at:
        raise Status('BAD_INP_LEN', 'RQ list is shorter than rqt_actual_size')
    numbers: array[int] = array('I')
    numbers.frombytes(bytes(cmd.raw[at:at + 4 * actual]))
    numbers.byteswap()
    if list_q_type == LIST_RQ:
        return tuple(card.rqs.get(n & 0xffffff, cmd.uid) for n in numbers)
    out = tuple(card.general_objects.get(n, cmd.uid) for n in numbers)
    if any(o.obj_type != VIRTIO_NET_Q or o.index & 1 for o in out):
        raise Status('BAD_RES', 'no receiving virtqueue of that number')
    return out


@command('CREATE_RQT')
def create_rqt(card: 'Card', cmd: Command) -> None:
    """Every RQ of the list must exist."""
    c = cmd.inp.sub('rqt_context')
    most = c['rqt_max_size']
    if most > 1 << card.caps.get('log_max_rqt_size'):
        raise Status('BAD_PARAM', 'rqt_max_size')
    if c['list_q_type'] not in (LIST_RQ, LIST_VIRTIO):
        raise Status('BAD_PARAM', 'list_q_type')
    rqs = _rq_list(card, cmd, c, most, c['list_q_type'])
    at = cmd.inp.offset('rqt_context')
    rqt = Rqt(cmd.raw[at:at + c.size])
    rqt.rqs = rqs
    cmd.out['rqtn'] = card.rqts.alloc(rqt, cmd.uid)
    rqt.use(*rqs)


@command('MODIFY_RQT')
def modify_rqt(card: 'Card', cmd: Command) -> None:
    """Replace the list."""
    rqt = card.rqts.get(cmd.inp['rqtn'], cmd.uid)
    if not cmd.inp['bitmask.rqn_list']:
        raise Status('BAD_PARAM', 'nothing to modify')
    kept = prm.view('rqtc', rqt.context)
    c = cmd.inp.sub('ctx')
    rqs = _rq_list(card, cmd, c, kept['rqt_max_size'], kept['list_q_type'])
    rqt.release()
    rqt.use(*rqs)
    rqt.rqs = rqs
    kept['rqt_actual_size'] = c['rqt_actual_size']


@command('QUERY_RQT')
def query_rqt(card: 'Card', cmd: Command) -> None:
    """The context and the list, as far as there is room for it."""
    rqt = card.rqts.get(cmd.inp['rqtn'], cmd.uid)
    _answer(cmd, rqt, 'rqt_context')
    at = cmd.out.offset('rqt_context.rq_num')
    for k, rq in enumerate(rqt.rqs):
        if at + 4 * k + 4 > len(cmd.out.buf):
            break
        cmd.out.buf[at + 4 * k:at + 4 * k + 4] = rq.number.to_bytes(4, 'big')


@command('DESTROY_RQT')
def destroy_rqt(card: 'Card', cmd: Command) -> None:
    """Refused while a TIR uses it."""
    card.rqts.free(cmd.inp['rqtn'], cmd.uid)
