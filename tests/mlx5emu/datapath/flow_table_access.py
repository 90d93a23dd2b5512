# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""WQEs that change what steering uses: today one argument line of header modification."""
from typing import TYPE_CHECKING

from ..firmware.status import Status
from ..memory.mkey import AccessError
from ..steering.header_modify_argument import LINE

if TYPE_CHECKING:
    from ..card import Card
    from ..queues.queue import Queue

#: opcode modifier of the control segment.
UPDATE_HEADER_MODIFY_ARGUMENT = 1
#: Control and flow update segments, before the data.
_DATA = 64


def flow_table_access(card: 'Card', qp: 'Queue', wqe: bytes, number: int) -> None:
    """Write one line of a header modify argument.

    :param number: of the line, from the control segment's immediate field.
    :raises AccessError: no such line, another protection domain's, or no memory left.
    :raises ValueError: not such a WQE.
    """
    if wqe[0] != UPDATE_HEADER_MODIFY_ARGUMENT or len(wqe) != _DATA + LINE:
        raise ValueError('flow table access')
    argument = card.header_modify_arguments.space.lookup(number)
    if argument is None or argument.pd != qp.pd:
        raise AccessError('header modify argument')
    try:
        argument.write(number, bytes(wqe[_DATA:]))
    except Status as e:
        raise AccessError(e.reason) from e
