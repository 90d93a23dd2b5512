# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Objects that only have a number and users: protection and transport domains, XRC domains, queue
counters, and user access regions, the doorbell pages of BAR0."""
from typing import TYPE_CHECKING

from .dispatch import Command, command
from .tables import Object, declare

if TYPE_CHECKING:
    from ..card import Card


class Pd(Object):
    """A protection domain."""

    kind = declare('pd', 'pds', 1, 1 << 16, destroy=('DEALLOC_PD', 'pd'))


class TransportDomain(Object):
    """A transport domain: what TIS and TIR belong to."""

    kind = declare('transport_domain', 'transport_domains', 1, 1 << 12,
                   destroy=('DEALLOC_TRANSPORT_DOMAIN', 'transport_domain'))


class Xrcd(Object):
    """An XRC domain."""

    kind = declare('xrcd', 'xrcds', 1, 1 << 12, destroy=('DEALLOC_XRCD', 'xrcd'))


class QCounter(Object):
    """A queue counter set: the data path counts into ``values`` by the names of
    query_q_counter_out."""

    kind = declare('q_counter', 'q_counters', 1, 0xfe,
                   destroy=('DEALLOC_Q_COUNTER', 'counter_set_id'))

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, int] = {}

    def count(self, name: str, n: int = 1) -> None:
        """Add to one counter; it wraps at 32 bits as the register does."""
        self.values[name] = (self.values.get(name, 0) + n) & 0xffffffff


@command('ALLOC_PD')
def alloc_pd(card: 'Card', cmd: Command) -> None:
    """Make a protection domain. Refused when there are too many."""
    cmd.out['pd'] = card.pds.alloc(Pd(), cmd.uid)


@command('DEALLOC_PD')
def dealloc_pd(card: 'Card', cmd: Command) -> None:
    """Free a protection domain. Refused while keys, queues or address vectors belong to it."""
    card.pds.free(cmd.inp['pd'], cmd.uid)


@command('ALLOC_TRANSPORT_DOMAIN')
def alloc_transport_domain(card: 'Card', cmd: Command) -> None:
    """Make a transport domain. Refused when there are too many."""
    cmd.out['transport_domain'] = card.transport_domains.alloc(TransportDomain(), cmd.uid)


@command('DEALLOC_TRANSPORT_DOMAIN')
def dealloc_transport_domain(card: 'Card', cmd: Command) -> None:
    """Free a transport domain. Refused while TISes or TIRs belong to it."""
    card.transport_domains.free(cmd.inp['transport_domain'], cmd.uid)


@command('ALLOC_XRCD')
def alloc_xrcd(card: 'Card', cmd: Command) -> None:
    """Make an XRC domain. Refused when there are too many."""
    cmd.out['xrcd'] = card.xrcds.alloc(Xrcd(), cmd.uid)


@command('DEALLOC_XRCD')
def dealloc_xrcd(card: 'Card', cmd: Command) -> None:
    """Free an XRC domain. Refused while XRC SRQs or QPs belong to it."""
    card.xrcds.free(cmd.inp['xrcd'], cmd.uid)


@command('ALLOC_Q_COUNTER')
def alloc_q_counter(card: 'Card', cmd: Command) -> None:
    """Make a set of queue counters. Refused when there are too many."""
    cmd.out['counter_set_id'] = card.q_counters.alloc(QCounter(), cmd.uid)


@command('DEALLOC_Q_COUNTER')
def dealloc_q_counter(card: 'Card', cmd: Command) -> None:
    """Queues that still name the set simply stop counting, as on the card."""
    counter = card.q_counters.get(cmd.inp['counter_set_id'], cmd.uid)
    counter.refs = 0
    card.q_counters.free(counter.number, cmd.uid)


def check_counter(card: 'Card', number: int, uid: int) -> None:
    """Refuse a counter set that is not there, or another user's; 0 is none.

    :raises Status: BAD_RES
    """
    if number:
        card.q_counters.get(number, uid)


@command('QUERY_Q_COUNTER')
def query_q_counter(card: 'Card', cmd: Command) -> None:
    """All counters of the set; ``clear`` zeroes them after reading."""
    counter = card.q_counters.get(cmd.inp['counter_set_id'], cmd.uid)
    for name, value in counter.values.items():
        cmd.out[name] = value
    if cmd.inp['clear']:
        counter.values.clear()


class Uar(Object):
    """A doorbell page; its number is its page index in BAR0."""

    kind = declare('uar', 'uars', 0x100, 0x700, destroy=('DEALLOC_UAR', 'uar'))


@command('ALLOC_UAR')
def alloc_uar(card: 'Card', cmd: Command) -> None:
    """A doorbell page of BAR0; EXCEED_LIM when the BAR has no more."""
    cmd.out['uar'] = card.uars.alloc(Uar(), cmd.uid)


@command('DEALLOC_UAR')
def dealloc_uar(card: 'Card', cmd: Command) -> None:
    """Free a doorbell page. Refused while an EQ uses it."""
    card.uars.free(cmd.inp['uar'], cmd.uid)
