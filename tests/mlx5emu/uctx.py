# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""User contexts: CREATE_UCTX, DESTROY_UCTX.  A context's number is the uid that its commands carry."""
from typing import TYPE_CHECKING

from .firmware import Command, Status, command
from .tables import Object

if TYPE_CHECKING:
    from .card import Card


class Uctx(Object):
    """A user context and the rights it was given (MLX5_UCTX_CAP_*)."""

    def __init__(self, cap: int) -> None:
        super().__init__()
        self.cap = cap


@command('CREATE_UCTX')
def create_uctx(card: 'Card', cmd: Command) -> None:
    """Only the kernel makes contexts; rights that the card does not offer are refused."""
    cap = cmd.inp['uctx.cap']
    if cmd.uid:
        raise Status('BAD_PARAM', 'a user context cannot make another')
    if cap & ~card.caps.get('uctx_cap'):
        raise Status('BAD_PARAM', 'uctx capability is not supported')
    cmd.out['uid'] = card.uctxs.alloc(Uctx(cap))


@command('DESTROY_UCTX')
def destroy_uctx(card: 'Card', cmd: Command) -> None:
    """Refused while objects of the context are alive: the driver destroys them first."""
    raw = cmd.inp['uid']
    card.uctxs.get(raw)
    for table in card.tables.values():
        if table is not card.uctxs and any(o.uid == raw for o in table):
            raise Status('BAD_RES_STATE', f'{table.kind} of the context is alive')
    card.uctxs.free(raw)
