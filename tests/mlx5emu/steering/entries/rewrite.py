# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Header fields as modify actions of steering table entries name them: numbered words, each of
several fields of a packet."""
from collections.abc import Mapping

from ..header_rewrite import get_field, has_field, set_field
from ..packet import SERVICE_VLAN, VLAN
from .fields import CVLAN, SVLAN
from .format import SteError, Visit

#: (lowest bit, bits, names in header_rewrite of which the packet has at most one).
Part = tuple[int, int, tuple[str, ...]]
Words = Mapping[int, tuple[Part, ...]]
#: The type of the outermost VLAN tag, which no firmware action names.
VLAN_QUALIFIER = 'VLAN_QUALIFIER'


def _qualifier(visit: Visit, value: int | None) -> int:
    """Type of the outermost tag, or change it."""
    h, data = visit.packet.headers, visit.packet.data
    if h.l2 < 0 or not h.tags:
        return 0
    at = h.l2 + 12
    if value in (CVLAN, SVLAN):
        visit.packet.data = data[:at] + (VLAN if value == CVLAN else SERVICE_VLAN).to_bytes(
            2, 'big') + data[at + 2:]
    return CVLAN if int.from_bytes(data[at:at + 2], 'big') == VLAN else SVLAN


def _present(visit: Visit, names: tuple[str, ...]) -> str | None:
    return next((n for n in names if n == VLAN_QUALIFIER or has_field(visit.packet, n)), None)


def read(visit: Visit, words: Words, number: int) -> int:
    """A word; zero where the packet has no such header.

    :raises SteError: no such word.
    """
    if number not in words:
        raise SteError(f'modify action of field {number:#x}')
    value = 0
    for low, bits, names in words[number]:
        name = _present(visit, names)
        if name is not None:
            part = _qualifier(visit, None) if name == VLAN_QUALIFIER else get_field(
                visit.packet, name)
            value |= (part & (1 << bits) - 1) << low
    return value


def write(visit: Visit, words: Words, number: int, value: int, mask: int) -> None:
    """Change the bits of a word that ``mask`` selects.

    :raises SteError: no such word.
    """
    if number not in words:
        raise SteError(f'modify action of field {number:#x}')
    visit.spend(64 + len(visit.packet.data))
    for low, bits, names in words[number]:
        part = mask >> low & (1 << bits) - 1
        name = _present(visit, names) if part else None
        if name is None:
            continue
        new = value >> low & part
        if name == VLAN_QUALIFIER:
            _qualifier(visit, new)
        else:
            old = get_field(visit.packet, name)
            set_field(visit.packet, name, old & ~part | new)
    visit.changed()


def put(visit: Visit, words: Words, number: int, low: int, bits: int, value: int) -> None:
    """Set ``bits`` bits of a word from bit ``low`` on."""
    mask = (1 << bits) - 1 << low
    write(visit, words, number, value << low & mask, mask)


def add(visit: Visit, words: Words, number: int, low: int, bits: int, value: int) -> None:
    """Add to ``bits`` bits of a word from bit ``low`` on; what overflows is lost."""
    old = read(visit, words, number) >> low
    put(visit, words, number, low, bits, old + value & (1 << bits) - 1)
