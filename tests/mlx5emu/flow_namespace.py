# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Types of flow tables and what the card can do in each."""
from typing import TYPE_CHECKING

from . import prm
from .status import Status

if TYPE_CHECKING:
    from .card import Card

#: NIC receive and transmit, and the same for RoCE packets.
NIC_RX, NIC_TX, RDMA_RX, RDMA_TX = 0, 1, 7, 8
#: Their names in the capability page.
DIRECTIONS = {NIC_RX: 'nic_receive', NIC_TX: 'nic_transmit', RDMA_RX: 'nic_receive_rdma', RDMA_TX: 'nic_transmit_rdma'}


def properties(card: 'Card', table_type: int) -> prm.View:
    """Capabilities of a table type (flow_table_prop_layout).

    :raises Status: BAD_PARAM when the card has no such tables.
    """
    name = DIRECTIONS.get(table_type)
    view = card.caps.page('flow_table').sub(f'flow_table_properties_{name}') if name else None
    if view is None or not view['ft_support']:
        raise Status('BAD_PARAM', 'flow table type is not supported')
    return view
