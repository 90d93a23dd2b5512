# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""User contexts: CREATE_UCTX, DESTROY_UCTX.  A context's number is the uid that its commands
carry."""
from typing import TYPE_CHECKING, Any

from .. import prm
from . import dispatch
from .dispatch import Command, Status, command
from .tables import Object

if TYPE_CHECKING:
    from ..card import Card


#: Right to control the function's RDMA.
RDMA_CTRL = 1 << 3


class Uctx(Object):
    """A user context and the rights it was given (MLX5_UCTX_CAP_*)."""

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


#: Which command destroys an object of a kind, and the field that names the object.
DESTROY = {
    'qp': ('DESTROY_QP', 'qpn'),
    'dct': ('DESTROY_DCT', 'dctn'),
    'sq': ('DESTROY_SQ', 'sqn'),
    'rq': ('DESTROY_RQ', 'rqn'),
    'tir': ('DESTROY_TIR', 'tirn'),
    'tis': ('DESTROY_TIS', 'tisn'),
    'rqt': ('DESTROY_RQT', 'rqtn'),
    'srq': ('DESTROY_SRQ', 'srqn'),
    'xrc_srq': ('DESTROY_XRC_SRQ', 'xrc_srqn'),
    'rmp': ('DESTROY_RMP', 'rmpn'),
    'xrq': ('DESTROY_XRQ', 'xrqn'),
    'cq': ('DESTROY_CQ', 'cqn'),
    'mkey': ('DESTROY_MKEY', 'mkey_index'),
    'eq': ('DESTROY_EQ', 'eq_number'),
    'general_object': ('DESTROY_GENERAL_OBJECT', 'obj_id'),
    'umem': ('DESTROY_UMEM', 'umem_id'),
    'uar': ('DEALLOC_UAR', 'uar'),
    'q_counter': ('DEALLOC_Q_COUNTER', 'counter_set_id'),
    'xrcd': ('DEALLOC_XRCD', 'xrcd'),
    'transport_domain': ('DEALLOC_TRANSPORT_DOMAIN', 'transport_domain'),
    'pd': ('DEALLOC_PD', 'pd'),
    'modify_header': ('DEALLOC_MODIFY_HEADER_CONTEXT', 'modify_header_id'),
    'packet_reformat': ('DEALLOC_PACKET_REFORMAT_CONTEXT', 'packet_reformat_id'),
    'flow_counter': ('DEALLOC_FLOW_COUNTER', 'flow_counter_id'),
    'psv': ('DESTROY_PSV', 'psvn'),
    **dict.fromkeys(('reserved_qpn', 'match_definer', 'header_modify_argument', 'flow_sampler', 'flow_meter'), ('DESTROY_GENERAL_OBJECT', 'obj_id')),
}


def _destroy(card: 'Card', obj: Any) -> bool:
    """Destroy an object by the command that its owner would use; False when the card refuses."""
    name, field = DESTROY[obj.kind]
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
    left = [o for t in card.tables.values() if t.kind in DESTROY for o in t.owned_by(uid)]
    while left:
        again = [o for o in left if o.refs or not _destroy(card, o)]
        if len(again) == len(left):
            raise Status('BAD_RES_STATE', f'{left[0].kind} of the context is in use')
        left = again
    if any(t.owned_by(uid) for t in card.tables.values() if t is not card.uctxs):
        raise Status('BAD_RES_STATE', 'the context has flow tables')
    card.uctxs.free(uid)
    card.packet_pacing.forget(uid)
