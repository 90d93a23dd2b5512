# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""User contexts: CREATE_UCTX, DESTROY_UCTX.  A context's number is the uid that its commands
carry."""
from typing import TYPE_CHECKING, Any

from .. import prm
from . import dispatch
from .dispatch import Command, command
from .status import Status
from .tables import KINDS, Object, declare

if TYPE_CHECKING:
    from ..card import Card


#: Rights: to send frames as they are, and to control the function's RDMA.
RAW_TX, RDMA_CTRL = 1 << 0, 1 << 3


class Uctx(Object):
    """A user context and the rights it was given (MLX5_UCTX_CAP_*)."""

    kind = declare('uctx', 'uctxs', 1, 0xff)

    def __init__(self, cap: int) -> None:
        super().__init__()
        self.cap = cap


@command('CREATE_UCTX', kernel=True)
def create_uctx(card: 'Card', cmd: Command) -> None:
    """Only the kernel makes contexts; rights that the card does not offer are refused."""
    cap = cmd.inp['uctx.cap']
    if cap & ~card.caps.get('uctx_cap'):
        raise Status('BAD_PARAM', 'uctx capability is not supported')
    cmd.out['uid'] = card.uctxs.alloc(Uctx(cap))


def _destroy(card: 'Card', destroy: tuple[str, str], obj: Any) -> bool:
    """Destroy an object by the command that its owner would use; False when the card refuses."""
    name, field = destroy
    view = prm.new(prm.command_layouts(name)[0])
    view['opcode'], view[field] = prm.OPCODES[name], obj.number
    if name == 'DESTROY_GENERAL_OBJECT':
        view['obj_type'] = obj.obj_type
    view.buf[2:4] = obj.uid.to_bytes(2, 'big')
    out = dispatch.execute_inner(card, bytes(view.buf))
    return out == 0


@command('DESTROY_UCTX', kernel=True)
def destroy_uctx(card: 'Card', cmd: Command) -> None:
    """Ends the context and what its process left behind, users before what they use.

    The driver destroys objects one by one first, but lets go of those that it cannot: they must not
    outlive the context. Refused when another context's object holds on to one.
    """
    uid = cmd.inp['uid']
    card.uctxs.get(uid)
    left = [(kind.destroy, o) for kind in KINDS.values() if kind.destroy
            for o in card.tables[kind.name].owned_by(uid)]
    while left:
        again = [(how, o) for how, o in left if o.refs or not _destroy(card, how, o)]
        if len(again) == len(left):
            raise Status('BAD_RES_STATE', f'{left[0][1].kind} of the context is in use')
        left = again
    if any(t.owned_by(uid) for t in card.tables.values() if t is not card.uctxs):
        raise Status('BAD_RES_STATE', 'the context has flow tables')
    card.uctxs.free(uid)
    card.packet_pacing.forget(uid)
