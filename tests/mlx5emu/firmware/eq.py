# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Event queues: CREATE_EQ, DESTROY_EQ, QUERY_EQ, the EQ doorbell, and posting of EQEs."""
from typing import TYPE_CHECKING

from .. import prm
from ..dma import DmaError
from .dispatch import Command, command
from .status import Status
from .tables import Object, declare

if TYPE_CHECKING:
    from ..card import Card

EQE_SIZE = 64
prm.declare('eqe', [('', 8), ('type', 8), ('', 8), ('sub_type', 8), ('@', 0x100), ('data', 8, 28),
                    ('', 16), ('signature', 8), ('owner', 8)])


class Eq(Object):
    """An event queue: a ring of 64-byte EQEs in guest pages, an interrupt vector, and the types it
    takes."""

    kind = declare('eq', 'eqs', 4, 124, destroy=('DESTROY_EQ', 'eq_number'))

    def __init__(self, log_size: int, log_page: int, pages: tuple[int, ...], vector: int, uar: int,
                 bitmask: int, overrun_ignore: bool) -> None:
        super().__init__()
        self.log_size, self.log_page, self.pages = log_size, log_page, pages
        self.vector, self.uar = vector, uar
        self.bitmask, self.overrun_ignore = bitmask, overrun_ignore
        self.producer, self.consumer = 0, 0
        self.armed = False
        self.overruns = 0

    def takes(self, event_type: int) -> bool:
        """Whether the EQ subscribed to the type."""
        return event_type < 256 and bool(self.bitmask >> event_type & 1)


def queue_event(card: 'Card', number: int, name: str, kind: int = 0) -> None:
    """Tell the driver of an affiliated asynchronous event of a queue.

    :param number: of the queue.
    :param kind: 0 QP, 1 RQ, 2 SQ.
    """
    data = prm.new('qp_event')
    data.set(type=kind, qpn_rqn_sqn=number)
    card.post_event(prm.EVENTS[name], 0, bytes(data.buf))


@command('CREATE_EQ')
def create_eq(card: 'Card', cmd: Command) -> None:
    """Number a new EQ; its page list must hold the whole ring, its UAR must be allocated."""
    c = cmd.inp.sub('eq_context_entry')
    log_size, log_page = c['log_eq_size'], c['log_page_size'] + 12
    if not 0 <= log_size <= card.caps.get('log_max_eq_sz'):
        raise Status('BAD_PARAM', 'log_eq_size')
    if log_page > 30:
        raise Status('BAD_PARAM', 'log_page_size')
    need = max(1, (EQE_SIZE << log_size) + (1 << log_page) - 1 >> log_page)
    pages = cmd.inp.array('pas', limit=need)
    if len(pages) < need:
        raise Status('BAD_INP_LEN', 'page list is shorter than the EQ')
    if c['page_offset']:
        raise Status('BAD_PARAM', 'page_offset')
    if c['intr'] >= card.vectors:
        raise Status('BAD_PARAM', 'interrupt vector')
    uar = card.uars.get(c['uar_page'])
    # Word k of the array is bits 64k .. 64k+63 of the mask.
    mask = sum(cmd.inp[f'event_bitmask[{k}]'] << 64 * k for k in range(4))
    eq = Eq(log_size, log_page, tuple(p & ~0xfff for p in pages), c['intr'], c['uar_page'], mask,
            bool(c['oi']))
    cmd.out['eq_number'] = card.eqs.alloc(eq, cmd.uid)
    eq.use(uar)
    if eq.takes(prm.EVENTS['CMD']) and card.command_eq is None:
        card.command_eq = eq


@command('DESTROY_EQ')
def destroy_eq(card: 'Card', cmd: Command) -> None:
    """Destroy an EQ. Refused while a CQ reports to it."""
    eq = card.eqs.free(cmd.inp['eq_number'], cmd.uid)
    if card.command_eq is eq:
        card.command_eq = None


@command('QUERY_EQ')
def query_eq(card: 'Card', cmd: Command) -> None:
    """Tell the EQ's context, with the producer and consumer counters as they are now."""
    eq = card.eqs.get(cmd.inp['eq_number'], cmd.uid)
    c = cmd.out.sub('eq_context_entry')
    c.set(log_eq_size=eq.log_size, log_page_size=eq.log_page - 12, intr=eq.vector, uar_page=eq.uar,
          oi=int(eq.overrun_ignore), st=9 if eq.armed else 0xa,
          consumer_counter=eq.consumer & 0xffffff, producer_counter=eq.producer & 0xffffff)


def doorbell(card: 'Card', arm: bool, data: bytes) -> None:
    """Take a consumer index, behind the number of the EQ, and arm the EQ if asked to."""
    if len(data) < 4:
        return
    value = int.from_bytes(data[:4], 'big')
    eq = card.eqs.find(value >> 24)
    if eq is None:
        return
    # The doorbell carries 24 bits of an index that only grows, and never passes the producer.
    step = (value - eq.consumer) & 0xffffff
    if step <= eq.producer - eq.consumer:
        eq.consumer += step
    if arm:
        if eq.consumer != eq.producer:
            card.raise_irq(eq.vector)
        else:
            eq.armed = True


def post(card: 'Card', eqn: int, event_type: int, subtype: int, data: bytes) -> bool:
    """Write an EQE, the ownership byte last, and interrupt when the EQ is armed."""
    eq = card.eqs.find(eqn)
    if eq is None:
        return False
    size = 1 << eq.log_size
    if eq.producer - eq.consumer >= size and not eq.overrun_ignore:
        eq.overruns += 1
        return False
    at = (eq.producer & (size - 1)) * EQE_SIZE
    addr = eq.pages[at >> eq.log_page] + (at & ((1 << eq.log_page) - 1))
    e = bytearray(EQE_SIZE)
    e[1], e[3] = event_type & 0xff, subtype & 0xff
    e[32:32 + min(28, len(data))] = data[:28]
    try:
        card.dma.write(addr, e[:63])
        card.dma.write(addr + 63, bytes([eq.producer >> eq.log_size & 1]))
    except DmaError:
        return False
    eq.producer += 1
    if eq.armed:
        eq.armed = False
        card.raise_irq(eq.vector)
    return True


def post_all(card: 'Card', event_type: int, subtype: int, data: bytes) -> int:
    """Post to every EQ that takes the type."""
    return sum(
        post(card, eq.number, event_type, subtype, data) for eq in card.eqs if eq.takes(event_type))
