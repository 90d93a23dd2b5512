# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Reserved QP numbers (general object RESERVED_QPN): ranges that no queue gets, for connections
whose messages another queue takes."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.general_object import DESTROY, object_type
from ..firmware.status import Status
from ..firmware.tables import Object, declare

if TYPE_CHECKING:
    from ..card import Card

RESERVED_QPN = 0x2c

prm.declare('reserved_qpn', [('', 128)])


class ReservedQpns(Object):
    """A range of queue numbers; a doorbell or a packet that names one of them finds no queue.

    :param log_range: log2 of how many.
    """

    kind = declare('reserved_qpn', 'reserved_qpns', space='queue_numbers', destroy=DESTROY)
    sq = None

    def __init__(self, log_range: int) -> None:
        super().__init__()
        self.span = 1 << log_range


@object_type(RESERVED_QPN, 'reserved_qpn', ReservedQpns.kind)
def create_reserved_qpns(card: 'Card', view: prm.View, uid: int) -> Object:
    """A range of the size in the command's header.

    :raises Status: BAD_PARAM for a size that the card does not give; EXCEED_LIM when too many are
        reserved.
    """
    cap = card.caps.page('general_2')
    log_range = prm.view('general_obj_in_cmd_hdr', view.buf)['op_param.create.log_obj_range']
    if not cap['log_reserved_qpn_granularity'] <= log_range <= cap['log_reserved_qpn_max_alloc']:
        raise Status('BAD_PARAM', 'log_obj_range')
    if sum(r.span
           for r in card.reserved_qpns) + (1 << log_range) > 1 << cap['log_max_num_reserved_qpn']:
        raise Status('EXCEED_LIM', 'reserved QP numbers')
    return ReservedQpns(log_range)
