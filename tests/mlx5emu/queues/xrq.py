# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Extended receive queues: CREATE_XRQ, QUERY_XRQ, ARM_XRQ, DESTROY_XRQ; shared receive queues that
know of an application's messages."""
from typing import TYPE_CHECKING

from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from .rings import ReceiveRing
from .srq import LINKED_LIST, Srq, check_size, query, work_queue_buffer
from .tag_list import TagList

if TYPE_CHECKING:
    from ..card import Card

#: topology, offload and state of the context.
NO_TOPOLOGY, TAG_MATCHING = 0, 1
NO_OFFLOAD, RNDV = 0, 1
GOOD = 0


@command('CREATE_XRQ')
def create_xrq(card: 'Card', cmd: Command) -> None:
    """Check the context against its PD, CQ, buffer and what of tag matching the card has."""
    c = cmd.inp.sub('xrq_context')
    wq, tags = c.sub('wq'), c.sub('tag_matching_topology_context')
    if not card.caps.get('tag_matching'):
        raise Status('BAD_PARAM', 'the card has no tag matching')
    if c['state'] != GOOD or c['topology'] != TAG_MATCHING or wq['wq_type'] != LINKED_LIST:
        raise Status('BAD_PARAM', 'state, topology or wq_type')
    if c['offload'] not in ((NO_OFFLOAD, RNDV) if card.caps.get('rndv_offload_rc') else
                            (NO_OFFLOAD, )):
        raise Status('BAD_PARAM', 'offload')
    if c['rlkey'] and cmd.uid:
        raise Status('BAD_PARAM', "the reserved key is the kernel's")
    if tags['log_matching_list_sz'] > card.caps.get('log_tag_matching_list_sz'):
        raise Status('BAD_PARAM', 'log_matching_list_sz')
    if tags['append_next_index'] >> tags['log_matching_list_sz']:
        raise Status('BAD_PARAM', 'append_next_index')
    check_size(card, wq['log_wq_sz'], wq['log_wq_stride'])
    pd, cq = card.pds.get(wq['pd'], cmd.uid), card.cqs.get(c['cqn'], cmd.uid)
    buf, dbr, umems = work_queue_buffer(card, cmd, wq, 1 << (wq['log_wq_sz'] + wq['log_wq_stride']))
    ring = ReceiveRing(buf, 0, wq['log_wq_sz'], wq['log_wq_stride'], dbr, wq['pd'], True,
                       bool(wq['wq_signature']))
    at = cmd.inp.offset('xrq_context')
    xrq = Srq(card, buf, ring, cmd.raw[at:at + c.size], 'xrqc')
    xrq.cq, xrq.user_index = cq, c['user_index']
    xrq.tag_list = TagList(1 << tags['log_matching_list_sz'], tags['append_next_index'],
                           c['offload'] == RNDV)
    xrq.arm(wq['lwm'])
    cmd.out['xrqn'] = card.xrqs.alloc(xrq, cmd.uid, cost=xrq.buf.cost)
    xrq.use(pd, cq, *umems)


@command('QUERY_XRQ')
def query_xrq(card: 'Card', cmd: Command) -> None:
    """The context, with the counters of both rings as they are now."""
    xrq = card.xrqs.get(cmd.inp['xrqn'], cmd.uid)
    c = query(cmd, xrq, 'xrq_context')
    xrq.ring.posted()
    c.sub('wq').set(lwm=xrq.limit, hw_counter=xrq.ring.consumer, sw_counter=xrq.ring.producer)
    tags = xrq.tag_list
    c.sub('tag_matching_topology_context').set(
        append_next_index=tags.next, sw_phase_cnt=tags.sw_phase, hw_phase_cnt=tags.hw_phase)


@command('ARM_XRQ')
def arm_xrq(card: 'Card', cmd: Command) -> None:
    """Arm the limit of an XRQ. Refused for one beyond the size of the queue."""
    card.xrqs.get(cmd.inp['xrqn'], cmd.uid).arm(cmd.inp['lwm'])


@command('DESTROY_XRQ')
def destroy_xrq(card: 'Card', cmd: Command) -> None:
    """Destroy an XRQ. Refused while a QP receives from it."""
    card.xrqs.free(cmd.inp['xrqn'], cmd.uid)
