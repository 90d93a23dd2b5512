# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Out-of-order data placement: contexts may allow it where the card has it.

Messages and receive WQEs of such a queue may be taken in any order, with completions in the order
of the WQEs. The order of arrival is one of those, and the only one that the wire between emulated
ports has.
"""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.status import Status

if TYPE_CHECKING:
    from ..card import Card

# Earlier headers lack them.
prm.extend('qpc', {'dp_ordering_force': (0x27, 1), 'dp_ordering_1': (0x49c, 1)})
prm.extend('dctc', {'dp_ordering_force': (0x27, 1), 'dp_ordering_1': (0x74, 1)})

#: Fields of a context.
FIELDS = ('dp_ordering_1', 'dp_ordering_force')


def check_ordering(card: 'Card', context: prm.View, capability: str | None) -> None:
    """Refuse what the card does not have.

    :param capability: the transport's field of the general page; None when it has none.
    :raises Status: BAD_PARAM.
    """
    if not any(context[f] for f in FIELDS):
        return
    if capability is None or not card.caps.get(capability):
        raise Status('BAD_PARAM', 'out-of-order placement of that transport')
    if context['dp_ordering_force'] and not card.caps.page('general_2')['dp_ordering_force']:
        raise Status('BAD_PARAM', 'dp_ordering_force')
