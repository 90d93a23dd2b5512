# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Link aggregation as the function sees it: QUERY_LAG, and which of the bonded ports a queue sends
through.

The ports are not bonded, as those of most cards are not, and the function is not the one that could
bond them (lag_master).  Both ports lead to the same wire; the affinity of a QP or TIS is checked,
kept and shown.
"""
from typing import TYPE_CHECKING

from .dispatch import Command, command
from .status import Status

if TYPE_CHECKING:
    from ..card import Card

#: lag_state: the ports are not bonded.
DISABLED = 0


def check_affinity(card: 'Card', port: int) -> int:
    """The affinity that a queue asks for: 0 leaves the choice to the card.

    :raises Status: BAD_PARAM when there is no such port.
    """
    if port > max(1, card.caps.get('num_lag_ports')):
        raise Status('BAD_PARAM', 'lag_tx_port_affinity')
    return port


@command('QUERY_LAG')
def query_lag(card: 'Card', cmd: Command) -> None:
    """Tell that there is no bond: each port's traffic goes through the port itself. A port that
    could not be bonded says so too."""
    c = cmd.out.sub('ctx')
    c.set(lag_state=DISABLED, tx_remap_affinity_1=1,
          tx_remap_affinity_2=2 if card.caps.get('num_lag_ports') > 1 else 0)
