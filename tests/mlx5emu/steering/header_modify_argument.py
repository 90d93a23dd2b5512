# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Arguments of header modification (general object HEADER_MODIFY_ARGUMENT): lines of 64 bytes by
number, which send queues write."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.general_object import DESTROY, object_type
from ..firmware.status import Status
from ..firmware.tables import Object, declare

if TYPE_CHECKING:
    from ..card import Card

HEADER_MODIFY_ARGUMENT = 0x23
#: Bytes of one number.
LINE = 64

prm.declare('modify_header_arg', [('modify_field_select', 64), ('@', 0x88), ('access_pd', 24)])


class HeaderModifyArgument(Object):
    """A range of lines.

    :param log_range: log2 of how many.
    """

    kind = declare('header_modify_argument', 'header_modify_arguments', 1 << 16, 1 << 16,
                   destroy=DESTROY)

    def __init__(self, card: 'Card', log_range: int, pd: int) -> None:
        super().__init__()
        self.card, self.span, self.pd = card, 1 << log_range, pd
        self._lines: dict[int, bytes] = {}

    def write(self, number: int, line: bytes) -> None:
        """Write one line.

        :raises Status: EXCEED_LIM when the card's memory is exhausted.
        """
        if number not in self._lines:
            self.charge(self.card.memory, LINE)
        self._lines[number] = line

    def read(self, number: int, n: int) -> bytes | None:
        """``n`` bytes from a line on; None when they go beyond the range."""
        if n > LINE * (self.number + self.span - number):
            return None
        lines = range(number, number + (n + LINE - 1) // LINE)
        return b''.join(self._lines.get(k, bytes(LINE)) for k in lines)[:n]

    def describe(self, view: prm.View) -> None:
        """Who may write it."""
        view['access_pd'] = self.pd


@object_type(HEADER_MODIFY_ARGUMENT, 'modify_header_arg', HeaderModifyArgument.kind)
def create_header_modify_argument(card: 'Card', view: prm.View, uid: int) -> HeaderModifyArgument:
    """A range of the size in the command's header, for the queues of a protection domain.

    :raises Status: BAD_PARAM for a size that the card does not give, BAD_RES without the domain.
    """
    log_range = prm.view('general_obj_in_cmd_hdr', view.buf)['op_param.create.log_obj_range']
    granularity, most = (card.caps.get(f'log_header_modify_argument_{k}')
                         for k in ('granularity', 'max_alloc'))
    if not granularity <= log_range <= most:
        raise Status('BAD_PARAM', 'log_obj_range')
    pd = card.pds.get(view['access_pd'], uid)
    argument = HeaderModifyArgument(card, log_range, view['access_pd'])
    argument.use(pd)
    return argument
