# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The embedded switch: the function's own virtual port and the uplink.

As long as the driver has no root table in it (legacy mode without virtual functions), frames pass
as if it were not there.
"""
from typing import TYPE_CHECKING

from ..firmware import firmware_icm
from ..firmware.dispatch import Command, command
from ..firmware.flow_namespace import OWN_PORT, UPLINK
from ..firmware.status import Status
from . import sw_steering

if TYPE_CHECKING:
    from ..card import Card


@command('QUERY_ESW_VPORT_CONTEXT')
def query_esw_vport_context(card: 'Card', cmd: Command) -> None:
    """Where software steering sends what is for the port; tags are neither added nor taken off."""
    if not card.caps.get('eswitch_manager'):
        raise Status('BAD_OP', 'the function does not manage its switch')
    number = cmd.inp['vport_number']
    if number not in (OWN_PORT, UPLINK) or (number and not cmd.inp['other_vport']):
        raise Status('BAD_PARAM', 'no such vport')
    c = cmd.out.sub('esw_vport_context')
    for k, side in enumerate(('rx', 'tx')):
        c[f'sw_steering_vport_icm_address_{side}'] = sw_steering.address_of(
            card, firmware_icm.VPORT, number << 1 | k)


@command('QUERY_ESW_FUNCTIONS', min_out=16)
def query_esw_functions(card: 'Card', cmd: Command) -> None:
    """The host whose functions the switch serves: this one, without virtual functions."""
    if not card.caps.get('eswitch_manager'):
        raise Status('BAD_OP', 'the function does not manage its switch')
    host = cmd.out.sub('host_params_context')
    host.set(host_pci_bus=1, host_pci_function=card.index)
