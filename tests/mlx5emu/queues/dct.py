# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Dynamically connected targets: CREATE_DCT, QUERY_DCT, DRAIN_DCT, DESTROY_DCT,
ARM_DCT_FOR_KEY_VIOLATION."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.domains import check_counter
from ..firmware.status import Status
from ..firmware.tables import declare
from ..firmware.vport import check_addresses
from .cq import Cq
from .dp_ordering import check_ordering
from .queue import DCT, RTR, Target
from .srq import Srq

if TYPE_CHECKING:
    from ..card import Card

#: State of the context: takes requests, is draining or drained.
ACTIVE, DRAINING, DRAINED = 0, 1, 2
_NOT_RECEIVING = -1


class Dct(Target):
    """A target that any DC initiator with the key may address; to the responder it looks like a QP
    on an SRQ."""

    kind = declare('dct', 'dcts', space='queue_numbers', destroy=('DESTROY_DCT', 'dctn'))
    st = DCT

    def __init__(self, card: 'Card', context: bytes, srq: Srq, cq: Cq) -> None:
        super().__init__(card)
        self.context = bytearray(context)
        c = prm.view('dctc', self.context)
        self.srq, self.rcq = srq, cq
        self.state = RTR
        self.pd, self.user_index = c['pd'], c['user_index']
        self.rre, self.rwe, self.rae = bool(c['rre']), bool(c['rwe']), bool(c['rae'])
        self.access_key = c['dc_access_key']
        self.min_rnr_nak, self.cs_res = c['min_rnr_nak'], c['cs_res']
        self.mtu, self.pkey_index = 128 << c['mtu'], c['pkey_index']
        self.recv_psn = 0
        self.violations = 0
        self.armed = False

    def fail(self, why: str | None = None) -> None:
        """It goes on: an initiator's fault is no one else's."""

    def key_violation(self) -> None:
        """A request had the wrong key."""
        self.violations = min(self.violations + 1, 0xffffffff)
        if self.armed:
            self.armed = False
            data = prm.new('dct_event')
            data['dctn'] = self.number
            self.card.post_event(prm.EVENTS['DCT_KEY_VIOLATION'], 0, bytes(data.buf))


@command('CREATE_DCT')
def create_dct(card: 'Card', cmd: Command) -> None:
    """Make a target. Refused for a PD, an SRQ or a CQ that is not there, and an SRQ with tag
    matching."""
    c = cmd.inp.sub('dct_context_entry')
    pd = card.pds.get(c['pd'], cmd.uid)
    cq = card.cqs.get(c['cqn'], cmd.uid)
    srq = card.srq_numbers.lookup(c['srqn_xrqn'])
    if not isinstance(srq, Srq) or (cmd.uid and srq.uid != cmd.uid):
        raise Status('BAD_RES', 'no such srq')
    if srq.tag_list is not None:
        raise Status('BAD_PARAM', 'tag matching is for RC')
    check_ordering(card, c, 'dp_ordering_ooo_all_dc')
    check_addresses(card, c['pkey_index'], c['my_addr_index'])
    check_counter(card, c['counter_set_id'], cmd.uid)
    at = cmd.inp.offset('dct_context_entry')
    dct = Dct(card, cmd.raw[at:at + c.size], srq, cq)
    cmd.out['dctn'] = card.dcts.alloc(dct, cmd.uid)
    dct.use(pd, cq, srq)


@command('QUERY_DCT')
def query_dct(card: 'Card', cmd: Command) -> None:
    """Tell the context, with state and violation counter as they are now."""
    dct = card.dcts.get(cmd.inp['dctn'], cmd.uid)
    at = cmd.out.offset('dct_context_entry')
    cmd.out.buf[at:at + len(dct.context)] = dct.context
    cmd.out.sub('dct_context_entry').set(state=ACTIVE if dct.state == RTR else DRAINED,
                                         dc_access_key_violation_count=dct.violations)


@command('DRAIN_DCT')
def drain_dct(card: 'Card', cmd: Command) -> None:
    """Take no more requests; the drained event follows. Refused when it is drained already."""
    dct = card.dcts.get(cmd.inp['dctn'], cmd.uid)
    if dct.state != RTR:
        raise Status('BAD_RES_STATE', 'DCT is drained already')
    dct.state = _NOT_RECEIVING
    event = prm.new('dct_event')
    event['dctn'] = dct.number
    card.post_event(prm.EVENTS['DCT_DRAINED'], 0, bytes(event.buf))


@command('ARM_DCT_FOR_KEY_VIOLATION')
def arm_dct(card: 'Card', cmd: Command) -> None:
    """Ask for one event at the next request with a wrong key."""
    card.dcts.get(cmd.inp['dct_number'], cmd.uid).armed = True


@command('DESTROY_DCT')
def destroy_dct(card: 'Card', cmd: Command) -> None:
    """Destroy a target. Refused before it was drained."""
    dct = card.dcts.get(cmd.inp['dctn'], cmd.uid)
    if dct.state == RTR:
        raise Status('BAD_RES_STATE', 'DCT is not drained')
    card.dcts.free(cmd.inp['dctn'], cmd.uid)
