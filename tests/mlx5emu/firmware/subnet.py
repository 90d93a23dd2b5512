# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""InfiniBand's subnet manager: what it gives a port, and which partitions let packets pass.

A port comes up in state Initialize, without a LID and in the default partition alone; the manager's
sweep finds it there a moment later, gives it what it has for it and makes it active, and the driver
is told.  Later sweeps change what they are to change (:func:`assign`).  A port that comes up again
gets what it had.  On Ethernet there is no manager, and the default partition alone.
"""
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import prm

if TYPE_CHECKING:
    from ..card import Card

#: Membership bit: full members reach each other and limited ones, limited ones reach full ones
#: only.
FULL = 0x8000
DEFAULT = 0xffff
#: Unicast LIDs.
FIRST_LID, LAST_LID = 1, 0xbfff
#: Subtypes of a port change event: active, another LID, another P_Key table.
_ACTIVE, _LID_CHANGE, _PKEY_CHANGE = 4, 6, 7
#: Time from a port's coming up to the sweep.
SWEEP_NS = 10_000_000
_PORT_1 = bytes(8) + b'\x10'


class Assignment:
    """What a subnet manager gave a port: LID, its own LID, and the P_Keys from index 0 on.

    Every port is a full member of the default partition and of 1; of partition 2 the first port is
    a full member, the others are limited ones.
    """

    def __init__(self, index: int) -> None:
        self.lid, self.sm_lid = FIRST_LID + index, FIRST_LID
        self.pkeys = [DEFAULT, FULL | 1, 2 if index else FULL | 2]


def link_up(card: 'Card') -> None:
    """An InfiniBand port comes up: it waits for the sweep."""
    if card.link_layer != 'ib':
        return
    vport = card.vport
    vport.lid, vport.sm_lid, vport.pkeys = 0, 0, [DEFAULT, *[0] * (len(vport.pkeys) - 1)]
    card.call_later(SWEEP_NS, lambda: _sweep(card))


def _sweep(card: 'Card') -> None:
    given = card.subnet
    card.vport.sm_lid = given.sm_lid
    assign(card, given.lid, given.pkeys)
    if card.vport.up:
        card.post_event(prm.EVENTS['PORT_CHANGE'], _ACTIVE, _PORT_1)


def assign(card: 'Card', lid: int | None = None, pkeys: Sequence[int] | None = None) -> None:
    """Give a port another LID or P_Key table, and tell the driver.

    :param lid: unicast LID, or None.
    :param pkeys: P_Keys from index 0 on, or None; 0 is no P_Key.
    :raises ValueError: a value or a table that cannot be, or the port is not InfiniBand's; nothing
        is changed.
    """
    if card.link_layer != 'ib':
        raise ValueError('an Ethernet port has no subnet manager')
    if lid is not None and not FIRST_LID <= lid <= LAST_LID:
        raise ValueError(f'LID {lid:#x} is no unicast LID')
    vport = card.vport
    if pkeys is not None and (len(pkeys) > len(vport.pkeys) or any(not 0 <= key <= 0xffff
                                                                   for key in pkeys)):
        raise ValueError(f'a P_Key table has {len(vport.pkeys)} entries of 16 bits')
    if lid is not None:
        card.subnet.lid = vport.lid = lid
        card.post_event(prm.EVENTS['PORT_CHANGE'], _LID_CHANGE, _PORT_1)
    if pkeys is not None:
        card.subnet.pkeys = list(pkeys)
        vport.pkeys = [*pkeys, *[0] * (len(vport.pkeys) - len(pkeys))]
        card.post_event(prm.EVENTS['PORT_CHANGE'], _PKEY_CHANGE, _PORT_1)


def pkey(card: 'Card', index: int) -> int:
    """The P_Key at an index of a port's table; 0 where none is."""
    if card.link_layer != 'ib':
        return DEFAULT
    keys = card.vport.pkeys
    return keys[index] if index < len(keys) else 0


def together(a: int, b: int) -> bool:
    """Whether two P_Keys are of one partition, and one of them a full member's."""
    return bool(a & ~FULL) and not (a ^ b) & ~FULL and bool((a | b) & FULL)


def admits(card: 'Card', key: int, index: int) -> bool:
    """Whether a port takes a packet; one that it does not is counted.

    :param key: P_Key in the packet.
    :param index: of the receiving queue's P_Key in the port's table.
    """
    if card.link_layer != 'ib' or together(key, pkey(card, index)):
        return True
    card.vport.pkey_violations = min(card.vport.pkey_violations + 1, 0xffff)
    return False


def admits_management(card: 'Card', key: int) -> bool:
    """Whether a port's QP1 takes a packet: with a P_Key that goes with any of the table."""
    if card.link_layer != 'ib' or any(together(key, own) for own in card.vport.pkeys):
        return True
    card.vport.pkey_violations = min(card.vport.pkey_violations + 1, 0xffff)
    return False
