# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""User access regions: ALLOC_UAR, DEALLOC_UAR.  A UAR's number is its page index in BAR0."""
from typing import TYPE_CHECKING

from .dispatch import Command, command
from .tables import Object

if TYPE_CHECKING:
    from ..card import Card


class Uar(Object):
    """A doorbell page."""


@command('ALLOC_UAR')
def alloc_uar(card: 'Card', cmd: Command) -> None:
    """A doorbell page of BAR0; EXCEED_LIM when the BAR has no more."""
    cmd.out['uar'] = card.uars.alloc(Uar(), cmd.uid)


@command('DEALLOC_UAR')
def dealloc_uar(card: 'Card', cmd: Command) -> None:
    """Refused while an EQ uses the page."""
    card.uars.free(cmd.inp['uar'], cmd.uid)
