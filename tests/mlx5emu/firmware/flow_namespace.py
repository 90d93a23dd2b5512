# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Types of flow tables and what the card can do in each."""
from typing import TYPE_CHECKING

from .. import prm
from .status import Status

if TYPE_CHECKING:
    from ..card import Card

#: NIC receive and transmit, the switch between virtual ports and the wire, and receive and transmit
#: for RoCE packets.
NIC_RX, NIC_TX, FDB, RDMA_RX, RDMA_TX = 0, 1, 4, 7, 8
#: The same for RDMA packets as transports see them, for whoever may control RDMA.
TRANSPORT_RX, TRANSPORT_TX = 0xd, 0xe
#: Virtual ports of the switch: the function's own, and the wire.
OWN_PORT, UPLINK = 0, 0xffff
#: Their names in the capability page.
DIRECTIONS = {
    NIC_RX: 'nic_receive', NIC_TX: 'nic_transmit', RDMA_RX: 'nic_receive_rdma', RDMA_TX:
    'nic_transmit_rdma'}


def properties(card: 'Card', table_type: int) -> prm.View:
    """Capabilities of a table type (flow_table_prop_layout).

    :raises Status: BAD_PARAM when the card has no such tables.
    """
    if table_type == FDB and card.caps.get('eswitch_manager'):
        view: prm.View | None = card.caps.page('eswitch_flow_table').sub(
            'flow_table_properties_nic_esw_fdb')
    elif table_type in (TRANSPORT_RX, TRANSPORT_TX):
        way = 'rx' if table_type == TRANSPORT_RX else 'tx'
        view = card.caps.page('adv_rdma').sub(f'rdma_transport_{way}_flow_table_properties')
    else:
        name = DIRECTIONS.get(table_type)
        view = card.caps.page('flow_table').sub(f'flow_table_properties_{name}') if name else None
    if view is None or not view['ft_support']:
        raise Status('BAD_PARAM', 'flow table type is not supported')
    return view
