# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Protection signature values: CREATE_PSV, DESTROY_PSV, and the SET_PSV work request."""
from typing import TYPE_CHECKING

from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from ..firmware.tables import Object, declare
from ..prm.wqe import SET_PSV
from .mkey import ANY_PD, AccessError

if TYPE_CHECKING:
    from ..card import Card
    from ..queues.queue import Queue

#: Most PSVs of one command.
MAX_PER_COMMAND = 4
_SEGMENT_AT = 16


class Psv(Object):
    """What the first block's signature starts from: guard or seed, and the tags of T10-DIF."""

    kind = declare('psv', 'psvs', 1, 1 << 16, destroy=('DESTROY_PSV', 'psvn'))

    def __init__(self, pd: int) -> None:
        super().__init__()
        self.pd = pd
        #: T10-DIF: guard seed, application tag, reference tag.  CRC32 and CRC32C: seed in the upper
        #: half.  CRC64: seed.
        self.transient = 0
        self.syndrome = 0


@command('CREATE_PSV')
def create_psv(card: 'Card', cmd: Command) -> None:
    """Make one to four PSVs of a protection domain, all or none."""
    count = cmd.inp['num_psv']
    if not 1 <= count <= MAX_PER_COMMAND:
        raise Status('BAD_PARAM', 'num_psv')
    pd = card.pds.get(cmd.inp['pd'], cmd.uid)
    made: list[int] = []
    try:
        for _ in range(count):
            psv = Psv(pd.number)
            made.append(card.psvs.alloc(psv, cmd.uid))
            psv.use(pd)
    except Status:
        for number in made:
            card.psvs.free(number)
        raise
    for k, number in enumerate(made):
        cmd.out[f'psv{k}_index'] = number


@command('DESTROY_PSV')
def destroy_psv(card: 'Card', cmd: Command) -> None:
    """Gone at once: keys whose signature names it can no longer be used."""
    card.psvs.free(cmd.inp['psvn'], cmd.uid)


def set_psv(card: 'Card', qp: 'Queue', wqe: bytes) -> None:
    """Carry a SET_PSV work request out.

    :raises AccessError: no such PSV in the queue's protection domain.
    :raises struct.error: the WQE is too short.
    """
    number, syndrome, transient = SET_PSV.unpack_from(wqe, _SEGMENT_AT)
    psv = card.psvs.find(number)
    if psv is None or qp.pd not in (psv.pd, ANY_PD):
        raise AccessError('no such PSV')
    psv.syndrome, psv.transient = syndrome, transient
