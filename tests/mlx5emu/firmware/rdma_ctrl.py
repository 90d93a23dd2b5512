# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""RDMA_CTRL objects: a privileged context takes control of a function's RDMA.

No public document tells what one changes, so no profile offers the type: an object is checked and
kept, no more.  With the type set in general_obj_types_127_64 Linux 6.15 and later give privileged
contexts, which RDMA transport tables are for.
"""
from typing import TYPE_CHECKING

from .. import prm
from .general_object import object_type
from .status import Status
from .tables import Object
from .uctx import RDMA_CTRL

if TYPE_CHECKING:
    from ..card import Card

TYPE = 0x53

prm.declare('rdma_ctrl', [('modify_field_select', 64), ('', 48), ('other_vhca_id', 16)], 0x200)


class RdmaCtrl(Object):
    """Control of the function's own RDMA."""

    def __init__(self, vhca_id: int) -> None:
        super().__init__()
        self.vhca_id = vhca_id

    def describe(self, view: prm.View) -> None:
        """Whose it is."""
        view['other_vhca_id'] = self.vhca_id


@object_type(TYPE, 'rdma_ctrl')
def create_rdma_ctrl(card: 'Card', view: prm.View, uid: int) -> Object:
    """For contexts with the right, and the function itself only.

    :raises Status: BAD_PARAM without the right, or for another function.
    """
    if uid and not card.uctxs.get(uid).cap & RDMA_CTRL:
        raise Status('BAD_PARAM', 'the context may not control RDMA')
    if view['other_vhca_id'] != card.caps.get('vhca_id') or view['modify_field_select']:
        raise Status('BAD_PARAM', 'other_vhca_id')
    return RdmaCtrl(view['other_vhca_id'])
