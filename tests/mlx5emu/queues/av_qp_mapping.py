# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Which QP's congestion control the messages to an address use (general object AV_QP_MAPPING)."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.general_object import HEADER, object_type
from ..firmware.status import Status
from ..firmware.tables import Object

if TYPE_CHECKING:
    from ..card import Card

AV_QP_MAPPING = 0x3a

prm.declare('av_qp_mapping', [('modify_field_select', 64), ('', 32), ('qpn', 32), ('', 96), ('', 4),
                              ('sl_or_eth_prio', 4), ('', 24), ('', 96), ('', 4),
                              ('src_addr_index', 8), ('', 20), ('rgid_or_rip', 8, 16)])


class AvQpMapping(Object):
    """An address and the QP whose congestion control was taken over when it was made; the QP may go
    away.

    The card has no congestion control, so the mapping is kept and told of, and changes nothing on
    the way.
    """

    def __init__(self, mapping: bytes) -> None:
        super().__init__()
        self.mapping = mapping

    def describe(self, view: prm.View) -> None:
        """The mapping as it was created."""
        at = view.base
        view.buf[at:at + len(self.mapping)] = self.mapping


@object_type(AV_QP_MAPPING, 'av_qp_mapping')
def create_av_qp_mapping(card: 'Card', view: prm.View, uid: int) -> Object:
    """The QP may be another context's: it is the one of a connection that gave the address.

    :raises Status: BAD_RES no such QP; BAD_INDEX no such source address.
    """
    if card.qps.find(view['qpn']) is None:
        raise Status('BAD_RES', 'no such qp')
    if not any(card.vport.source_gid(view['src_addr_index'])[0]):
        raise Status('BAD_INDEX', 'src_addr_index')
    if view['modify_field_select']:
        raise Status('BAD_PARAM', 'modify_field_select')
    return AvQpMapping(bytes(view.buf[HEADER:HEADER + (prm.layout_bits('av_qp_mapping') >> 3)]))
