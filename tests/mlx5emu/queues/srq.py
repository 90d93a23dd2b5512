# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Shared receive queues: SRQ, RMP and XRC SRQ; create, query, arm the limit, destroy."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from ..firmware.tables import Object, declare
from .cq import Cq
from .queue_buffer import QueueBuffer, doorbell_record, in_pages, in_umem, page_list
from .rings import ReceiveRing

if TYPE_CHECKING:
    from ..card import Card
    from .tag_list import TagList

#: wq_type.
LINKED_LIST, CYCLIC = 0, 1
RMP_READY, RMP_ERROR = 1, 3
#: op_mod of ARM_RQ; the first is that of ARM_XRC_SRQ too.
ARM_SRQ, ARM_XRQ = 1, 2


class Srq(Object):
    """A receive ring that many QPs share.

    :param context: bytes of the context as created.
    :param layout: name of its layout.
    """

    #: Four kinds share the class; the table tells them apart.
    KINDS = (declare('srq', 'srqs', space='srq_numbers', destroy=('DESTROY_SRQ', 'srqn')),
             declare('xrc_srq', 'xrc_srqs', space='srq_numbers',
                     destroy=('DESTROY_XRC_SRQ', 'xrc_srqn')),
             declare('rmp', 'rmps', space='srq_numbers', destroy=('DESTROY_RMP', 'rmpn')),
             declare('xrq', 'xrqs', space='srq_numbers', destroy=('DESTROY_XRQ', 'xrqn')))

    def __init__(self, card: 'Card', buf: QueueBuffer, ring: ReceiveRing, context: bytes,
                 layout: str) -> None:
        super().__init__()
        self.card, self.buf, self.ring = card, buf, ring
        self.context, self.layout = bytearray(context), layout
        self.cq: Cq | None = None
        self.xrcd = 0
        self.user_index = 0xffffff
        #: Tags of an XRQ that messages are matched against.
        self.tag_list: TagList | None = None
        #: Fewer WQEs left than this raises the limit event, once; 0: not armed.
        self.limit = 0

    @property
    def pd(self) -> int:
        """Number of the protection domain of the buffers posted."""
        return self.ring.pd

    def consumed(self) -> None:
        """A WQE was taken: raise the limit event when it is due."""
        if self.limit and self.ring.posted() < self.limit:
            self.limit = 0
            data = prm.new('qp_event')
            data['qpn_rqn_sqn'] = self.number
            self.card.post_event(prm.EVENTS['SRQ_RQ_LIMIT'], 0, bytes(data.buf))

    def arm(self, limit: int) -> None:
        """Set the limit.

        :raises Status: BAD_PARAM when it is beyond the size of the queue.
        """
        if limit > self.ring.size:
            raise Status('BAD_PARAM', 'limit is beyond the size of the queue')
        self.limit = limit


def check_size(card: 'Card', log_size: int, log_stride: int) -> None:
    if log_size > card.caps.get('log_max_srq_sz') and log_size > card.caps.get('log_max_wq_sz'):
        raise Status('BAD_PARAM', 'queue size')
    if not 4 <= log_stride <= 11:
        raise Status('BAD_PARAM', 'stride')


def _srq_context(card: 'Card', cmd: Command, c: prm.View,
                 log_size: int) -> tuple[ReceiveRing, list]:
    """The ring of an SRQ or XRC SRQ, and what it holds."""
    inp, xrc = cmd.inp, c.name == 'xrc_srqc'
    log_stride = c['log_rq_stride'] + 4
    check_size(card, log_size, log_stride)
    size = 1 << (log_size + log_stride)
    pd = card.pds.get(c['pd'], cmd.uid)
    umem = None
    if xrc:
        if c['dbr_umem_valid']:
            raise Status('BAD_PARAM', 'doorbell record of an XRC SRQ in a umem is not supported')
        dbr = c['db_record_addr_h'] << 32 | c['db_record_addr_l'] << 2
    else:
        dbr = c['dbr_addr']
    dbr = doorbell_record(None, dbr)
    if xrc and inp['xrc_srq_umem_valid']:
        umem = card.umems.get(inp['xrc_srq_umem_id'], cmd.uid)
        buf = in_umem(card, umem, inp['xrc_srq_umem_offset'], size, write=False)
    else:
        log_page = c['log_page_size'] + 12
        buf = in_pages(card, page_list(cmd.raw, inp.offset('pas')), log_page,
                       c['page_offset'] << log_page >> 6, size)
    linked = not (xrc and c['basic_cyclic_rcv_wqe'])
    return ReceiveRing(buf, 0, log_size, log_stride, dbr, c['pd'], linked,
                       bool(c['wq_signature'])), [pd, umem]


@command('CREATE_SRQ')
def create_srq(card: 'Card', cmd: Command) -> None:
    """Make an SRQ of the older kind. Refused for a size, PD or buffer that cannot be."""
    c = cmd.inp.sub('srq_context_entry')
    ring, holds = _srq_context(card, cmd, c, c['log_srq_size'])
    at = cmd.inp.offset('srq_context_entry')
    srq = Srq(card, ring.buf, ring, cmd.raw[at:at + c.size], 'srqc')
    srq.arm(c['lwm'])
    cmd.out['srqn'] = card.srqs.alloc(srq, cmd.uid, cost=srq.buf.cost)
    srq.use(*holds)


@command('CREATE_XRC_SRQ')
def create_xrc_srq(card: 'Card', cmd: Command) -> None:
    """Make an SRQ of an XRC domain, with a CQ of its own. Refused when one of them is not there."""
    c = cmd.inp.sub('xrc_srq_context_entry')
    ring, holds = _srq_context(card, cmd, c, c['log_xrc_srq_size'])
    xrcd = card.xrcds.get(c['xrcd'], cmd.uid)
    cq = card.cqs.get(c['cqn'], cmd.uid)
    at = cmd.inp.offset('xrc_srq_context_entry')
    srq = Srq(card, ring.buf, ring, cmd.raw[at:at + c.size], 'xrc_srqc')
    srq.cq, srq.xrcd = cq, xrcd.number
    srq.arm(c['lwm'])
    cmd.out['xrc_srqn'] = card.xrc_srqs.alloc(srq, cmd.uid, cost=srq.buf.cost)
    srq.user_index = srq.number if c['user_index_equal_xrc_srqn'] else c['user_index']
    srq.use(*holds, xrcd, cq)


def work_queue_buffer(card: 'Card', cmd: Command, wq: prm.View, size: int,
                      write: bool = False) -> tuple[QueueBuffer, int, list]:
    """Buffer and doorbell record of a ``wq`` context.

    :param size: bytes of the ring.
    :return: buffer, bus address of the doorbell record, umems to hold.
    :raises Status: see :mod:`queue_buffer`.
    """
    umem = dbr_umem = None
    if wq['dbr_umem_valid']:
        dbr_umem = card.umems.get(wq['dbr_umem_id'], cmd.uid)
    dbr = doorbell_record(dbr_umem, wq['dbr_addr'])
    if wq['wq_umem_valid']:
        umem = card.umems.get(wq['wq_umem_id'], cmd.uid)
        buf = in_umem(card, umem, wq['wq_umem_offset'], size, write)
    else:
        log_page = wq['log_wq_pg_sz'] + 12
        buf = in_pages(card, page_list(cmd.raw, wq.offset('pas')), log_page,
                       wq['page_offset'] << log_page >> 6, size)
    return buf, dbr, [umem, dbr_umem]


@command('CREATE_RMP')
def create_rmp(card: 'Card', cmd: Command) -> None:
    """Make a receive memory pool: what a basic SRQ of verbs is. Refused for a size, PD or buffer
    that cannot be."""
    c = cmd.inp.sub('ctx')
    wq = c.sub('wq')
    if c['state'] != RMP_READY:
        raise Status('BAD_PARAM', 'RMP state')
    if wq['wq_type'] not in (LINKED_LIST, CYCLIC):
        raise Status('BAD_PARAM', 'wq_type')
    check_size(card, wq['log_wq_sz'], wq['log_wq_stride'])
    pd = card.pds.get(wq['pd'], cmd.uid)
    buf, dbr, umems = work_queue_buffer(card, cmd, wq, 1 << (wq['log_wq_sz'] + wq['log_wq_stride']))
    if c['basic_cyclic_rcv_wqe'] and wq['wq_type'] != CYCLIC:
        raise Status('BAD_PARAM', 'basic_cyclic_rcv_wqe is for a cyclic queue')
    ring = ReceiveRing(buf, 0, wq['log_wq_sz'], wq['log_wq_stride'], dbr, wq['pd'],
                       wq['wq_type'] == LINKED_LIST,
                       bool(wq['wq_signature']) or not c['basic_cyclic_rcv_wqe'])
    at = cmd.inp.offset('ctx')
    srq = Srq(card, buf, ring, cmd.raw[at:at + c.size], 'rmpc')
    srq.arm(wq['lwm'])
    cmd.out['rmpn'] = card.rmps.alloc(srq, cmd.uid, cost=srq.buf.cost)
    srq.use(pd, *umems)


@command('MODIFY_RMP')
def modify_rmp(card: 'Card', cmd: Command) -> None:
    """Arm the limit. Refused for one beyond the size of the queue."""
    srq = card.rmps.get(cmd.inp['rmpn'], cmd.uid)
    if cmd.inp['rmp_state'] != RMP_READY or cmd.inp['ctx.state'] != RMP_READY:
        raise Status('BAD_RES_STATE', 'RMP state')
    if cmd.inp['bitmask.lwm']:
        srq.arm(cmd.inp['ctx.wq.lwm'])


@command('ARM_RQ', op_mods=(ARM_SRQ, ARM_XRQ))
def arm_rq(card: 'Card', cmd: Command) -> None:
    """Arm the limit of an SRQ or XRQ. Refused for one beyond the size of the queue."""
    table = card.xrqs if cmd.op_mod == ARM_XRQ else card.srqs
    table.get(cmd.inp['srq_number'], cmd.uid).arm(cmd.inp['lwm'])


@command('ARM_XRC_SRQ', op_mods=(ARM_SRQ,))
def arm_xrc_srq(card: 'Card', cmd: Command) -> None:
    """Arm the limit of an XRC SRQ. Refused for one beyond the size of the queue."""
    card.xrc_srqs.get(cmd.inp['xrc_srqn'], cmd.uid).arm(cmd.inp['lwm'])


def query(cmd: Command, srq: Srq, field: str) -> prm.View:
    at = cmd.out.offset(field)
    cmd.out.buf[at:at + len(srq.context)] = srq.context
    return cmd.out.sub(field)


@command('QUERY_SRQ')
def query_srq(card: 'Card', cmd: Command) -> None:
    """The context, the limit as it is now, and how many WQEs are posted."""
    srq = card.srqs.get(cmd.inp['srqn'], cmd.uid)
    query(cmd, srq, 'srq_context_entry').set(lwm=srq.limit, wqe_cnt=srq.ring.posted())


@command('QUERY_XRC_SRQ')
def query_xrc_srq(card: 'Card', cmd: Command) -> None:
    """The context, the limit as it is now, and how many WQEs are posted."""
    srq = card.xrc_srqs.get(cmd.inp['xrc_srqn'], cmd.uid)
    query(cmd, srq, 'xrc_srq_context_entry').set(lwm=srq.limit, wqe_cnt=srq.ring.posted())


@command('QUERY_RMP')
def query_rmp(card: 'Card', cmd: Command) -> None:
    """Tell the context, the limit as it is now, and the counters."""
    srq = card.rmps.get(cmd.inp['rmpn'], cmd.uid)
    wq = query(cmd, srq, 'rmp_context').sub('wq')
    srq.ring.posted()
    wq.set(lwm=srq.limit, hw_counter=srq.ring.consumer, sw_counter=srq.ring.producer)


@command('DESTROY_SRQ')
def destroy_srq(card: 'Card', cmd: Command) -> None:
    """Destroy an SRQ. Refused while a QP receives from it."""
    card.srqs.free(cmd.inp['srqn'], cmd.uid)


@command('DESTROY_XRC_SRQ')
def destroy_xrc_srq(card: 'Card', cmd: Command) -> None:
    """Destroy an XRC SRQ, at once: messages for it are refused."""
    card.xrc_srqs.free(cmd.inp['xrc_srqn'], cmd.uid)


@command('DESTROY_RMP')
def destroy_rmp(card: 'Card', cmd: Command) -> None:
    """Destroy an RMP. Refused while a QP or RQ receives from it."""
    card.rmps.free(cmd.inp['rmpn'], cmd.uid)
