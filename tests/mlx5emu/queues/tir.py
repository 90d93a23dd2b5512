# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What points at raw queues: TIS, TIR and RQ tables; create, modify, query, destroy."""
from array import array
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.lag import check_affinity
from ..firmware.status import Status
from ..firmware.tables import Object, declare
from ..steering import sw_steering
from .raw_queues import context_of

if TYPE_CHECKING:
    from ..card import Card
    from ..datapath.virtio_net_q import VirtioNetQ
    from .raw_queues import Rq

#: list_q_type of an RQ table, and the general objects that the second kind lists.
LIST_RQ, LIST_VIRTIO = 0, 1
VIRTIO_NET_Q = 0xd


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
    rq: 'Rq | None' = None
    rqt: 'Rqt | None' = None


class Rqt(_Context):
    """An RQ table."""

    kind = declare('rqt', 'rqts', 1, 1 << 14, destroy=('DESTROY_RQT', 'rqtn'))
    rqs: 'tuple[Rq | VirtioNetQ, ...]' = ()


@command('CREATE_TIS')
def create_tis(card: 'Card', cmd: Command) -> None:
    """Make a TIS. Refused for a transport domain or an affinity that is not there."""
    domain = cmd.inp['ctx.transport_domain']
    check_affinity(card, cmd.inp['ctx.lag_tx_port_affinity'])
    if cmd.inp['ctx.underlay_qpn']:
        card.qps.get(cmd.inp['ctx.underlay_qpn'], cmd.uid)
    td = card.transport_domains.get(domain, cmd.uid) if domain else None
    tis = Tis(context_of(cmd))
    cmd.out['tisn'] = card.tises.alloc(tis, cmd.uid)
    tis.use(td)


@command('MODIFY_TIS')
def modify_tis(card: 'Card', cmd: Command) -> None:
    """Change priority and LAG affinity, as the bitmask selects."""
    tis = card.tises.get(cmd.inp['tisn'], cmd.uid)
    kept = prm.view('tisc', tis.context)
    check_affinity(card, cmd.inp['ctx.lag_tx_port_affinity'])
    for field in ('prio', 'lag_tx_port_affinity', 'strict_lag_tx_port_affinity'):
        if cmd.inp[f'bitmask.{field}']:
            kept[field] = cmd.inp[f'ctx.{field}']


@command('QUERY_TIS')
def query_tis(card: 'Card', cmd: Command) -> None:
    """Tell the TIS's context."""
    _answer(cmd, card.tises.get(cmd.inp['tisn'], cmd.uid), 'tis_context')


@command('DESTROY_TIS')
def destroy_tis(card: 'Card', cmd: Command) -> None:
    """Destroy a TIS. Refused while an SQ sends through it."""
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
        rq, rqt = card.rqs.get(c['inline_rqn'], cmd.uid), None
    elif c['disp_type'] == 1:
        rq, rqt = None, card.rqts.get(c['indirect_table'], cmd.uid)
    else:
        raise Status('BAD_PARAM', 'disp_type')
    tir = Tir(context_of(cmd))
    tir.rq, tir.rqt = rq, rqt
    cmd.out['tirn'] = card.tirs.alloc(tir, cmd.uid)
    sw_steering.tell_tir(card, cmd.out, tir.number)
    tir.use(td, rq, rqt)


@command('MODIFY_TIR')
def modify_tir(card: 'Card', cmd: Command) -> None:
    """Change loopback, hash and packet merge, as the bitmask selects."""
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
    """Tell the TIR's context."""
    _answer(cmd, card.tirs.get(cmd.inp['tirn'], cmd.uid), 'tir_context')


@command('DESTROY_TIR')
def destroy_tir(card: 'Card', cmd: Command) -> None:
    """Destroy a TIR. Refused while a flow rule sends to it."""
    card.tirs.free(cmd.inp['tirn'], cmd.uid)


def _rq_list(card: 'Card', cmd: Command, c: prm.View, limit: int,
             list_q_type: int) -> 'tuple[Rq | VirtioNetQ, ...]':
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
    """Make a table of RQs, or of receiving virtqueues. Refused when one of the list is not
    there."""
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
    """Replace the list. Refused when one of the new list is not there."""
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
    """Tell the context and the list, as far as there is room for it."""
    rqt = card.rqts.get(cmd.inp['rqtn'], cmd.uid)
    _answer(cmd, rqt, 'rqt_context')
    at = cmd.out.offset('rqt_context.rq_num')
    for k, rq in enumerate(rqt.rqs):
        if at + 4 * k + 4 > len(cmd.out.buf):
            break
        cmd.out.buf[at + 4 * k:at + 4 * k + 4] = rq.number.to_bytes(4, 'big')


@command('DESTROY_RQT')
def destroy_rqt(card: 'Card', cmd: Command) -> None:
    """Destroy a table. Refused while a TIR uses it."""
    card.rqts.free(cmd.inp['rqtn'], cmd.uid)
