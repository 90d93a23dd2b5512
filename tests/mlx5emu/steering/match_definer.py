# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Match definers (general object MATCH_DEFINER): a format of 32-byte tags, and which of its bits
count."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.general_object import DESTROY, object_type
from ..firmware.status import Status
from ..firmware.tables import Object, declare
from ..prm.ste_layouts import DEFINERS

if TYPE_CHECKING:
    from ..card import Card

MATCH_DEFINER = 0x18

prm.declare('definer', [('modify_field_select', 64), ('@', 0x90), ('format_id', 16), ('@', 0x300),
                        ('match_mask_dw_7_0', 8, 32)])


class MatchDefiner(Object):
    """A definer; steering table entries name it by eight bits."""

    # Steering table entries name definers by eight bits, of which the first are the card's own.
    kind = declare('match_definer', 'match_definers', 0x40, 0xc0, destroy=DESTROY)

    def __init__(self, format_id: int, mask: bytes) -> None:
        super().__init__()
        self.format_id, self.mask = format_id, int.from_bytes(mask, 'big')
        #: Name of the tag.
        self.layout = f'def{format_id}_v1'

    def describe(self, view: prm.View) -> None:
        """Format and mask."""
        view.set(format_id=self.format_id, match_mask_dw_7_0=self.mask.to_bytes(32, 'big'))


@object_type(MATCH_DEFINER, 'definer', MatchDefiner.kind)
def create_match_definer(card: 'Card', view: prm.View, uid: int) -> MatchDefiner:
    """A definer of one of the formats that the card has.

    :raises Status: BAD_PARAM for another.
    """
    number = view['format_id']
    if number not in DEFINERS or not card.caps.get('match_definer_format_supported') >> number & 1:
        raise Status('BAD_PARAM', 'format_id')
    return MatchDefiner(number, view['match_mask_dw_7_0'])
