# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Packet pacing: the table of rates that send queues name by index, SET_PP_RATE_LIMIT."""
from typing import TYPE_CHECKING

from ..firmware.dispatch import Command, command
from ..firmware.status import Status
from ..firmware.tables import SHARED_UID
from .rate_limit import RateLimit

if TYPE_CHECKING:
    from ..card import Card


class Entry:
    """One rate: whose it is and its context as it was set."""

    def __init__(self) -> None:
        self.uid = 0
        self.context = b''
        self.limit = RateLimit()


class PacketPacing:
    """The table; index 0 is no limit.  An entry outlives its rate: queues that still name it are
    then not held back."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
        self.entries: dict[int, Entry] = {}

    def check_index(self, index: int) -> None:
        """:raises Status: BAD_SYS_STATE when the card does not pace, BAD_INDEX beyond the table."""
        caps = self.card.caps.page('qos')
        if not self.card.caps.get('qos') or not caps['packet_pacing']:
            raise Status('BAD_SYS_STATE', 'no packet pacing')
        if not 0 < index < caps['packet_pacing_rate_table_size']:
            raise Status('BAD_INDEX', 'rate_limit_index')

    def limits(self, index: int, uid: int) -> tuple[RateLimit, ...]:
        """What holds back a queue that names the index.

        :raises Status: BAD_INDEX when there is no such rate for the user.
        """
        if not index:
            return ()
        self.check_index(index)
        entry = self.entries.get(index)
        if entry is None or not entry.limit.rate or (uid and entry.uid not in (uid, SHARED_UID)):
            raise Status('BAD_INDEX', 'no rate of that index')
        return (entry.limit,)

    def forget(self, uid: int) -> None:
        """A user is gone, and its rates with it."""
        for entry in self.entries.values():
            if entry.uid == uid:
                entry.uid, entry.context = 0, b''
                entry.limit.change(0)


@command('SET_PP_RATE_LIMIT')
def set_pp_rate_limit(card: 'Card', cmd: Command) -> None:
    """Set the rate of an index in kilobits a second, or take it away with 0."""
    index, c = cmd.inp['rate_limit_index'], cmd.inp.sub('ctx')
    table, caps = card.packet_pacing, card.caps.page('qos')
    table.check_index(index)
    entry = table.entries.get(index)
    if entry is not None and entry.limit.rate and entry.uid != cmd.uid:
        raise Status('BAD_RES_STATE', "the index is another user's")
    rate = c['rate_limit']
    if rate and not caps['packet_pacing_min_rate'] <= rate <= caps['packet_pacing_max_rate']:
        raise Status('BAD_PARAM', 'rate_limit')
    if entry is None:
        entry = table.entries[index] = Entry()
    entry.uid, entry.context = cmd.uid, cmd.inp['ctx'] if rate else b''
    entry.limit.change(rate * 1000)
