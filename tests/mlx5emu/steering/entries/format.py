# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the formats of steering table entries share: how an entry is asked, where it leads, and how
a table is hashed."""
import zlib
from typing import TYPE_CHECKING, Protocol

from ... import prm
from ...firmware.firmware_icm import GVMI_SHIFT
from ..packet import Packet

if TYPE_CHECKING:
    from ...card import Card
    from .fields import PacketFields


class SteError(Exception):
    """The entry asks for what the card does not do, or leads nowhere: the packet is dropped."""


class Visit:
    """A packet at a steering table entry.

    :param rx: whether the domain is a receive domain.
    """

    def __init__(self, card: 'Card', packet: Packet, fields: 'PacketFields', rx: bool) -> None:
        self.card, self.packet, self.fields, self.rx = card, packet, fields, rx
        #: What may still be done to the packet, in bytes touched.
        self.work = 0

    def spend(self, work: int) -> None:
        """Account for work.

        :raises SteError: the packet used up what it may cost.
        """
        self.work -= work
        if self.work < 0:
            raise SteError('too much work for one packet')

    def change(self, data: bytes) -> None:
        """The packet becomes ``data``."""
        self.packet.data = data
        self.fields.changed()

    def changed(self) -> None:
        """The packet or its registers were changed."""
        self.fields.changed()

    def icm(self, address: int, n: int) -> bytes:
        """Bytes of software's ICM.

        :raises SteError: not allocated.
        """
        self.spend(n)
        try:
            return self.card.icm.read(address, n)
        except IndexError as e:
            raise SteError(str(e)) from e


class Format(Protocol):
    """One format: how its 64 bytes are read."""

    def matches(self, raw: bytes, visit: Visit) -> bool:
        """Whether the packet is what the entry matches."""

    def counter(self, raw: bytes) -> int:
        """Number of the flow counter of a hit, 0 for none."""

    def next_table(self, raw: bytes, visit: Visit) -> int:
        """Address where a hit goes on: an entry of the next table, by its hash, or what firmware
        owns."""

    def act(self, raw: bytes, visit: Visit) -> None:
        """Carry out the actions of a hit."""

    def miss(self, raw: bytes) -> int:
        """Address where a miss goes on."""


def miss_address(view: prm.View) -> int:
    """The address in the miss fields, which both formats name alike."""
    return view['miss_address_63_48'] << GVMI_SHIFT | view['miss_address_39_32'] << 32 | view[
        'miss_address_31_6'] << 6


def next_base(view: prm.View) -> tuple[int, int]:
    """Address and number of entries of the next table: the lowest set bit of the base is the
    number.

    :raises SteError: there is no next table.
    """
    value = view['next_table_base_39_32_size'] << 27 | view['next_table_base_31_5_size']
    entries = value & -value
    if not entries:
        raise SteError('no next table')
    return view['next_table_base_63_48'] << GVMI_SHIFT | (value ^ entries) << 5, entries


def byte_masked(tag: int, byte_mask: int) -> bytes:
    """The 16 bytes of a tag, with those zeroed whose bit is not set in the mask (first byte,
    highest bit)."""
    raw = tag.to_bytes(16, 'big')
    return bytes(b if byte_mask >> 15 - k & 1 else 0 for k, b in enumerate(raw))


def hash_index(tag: bytes, entries: int) -> int:
    """Index of a tag in a table: CRC-32 with neither initial nor final complement, read as
    big-endian, modulo the entries."""
    crc = zlib.crc32(tag, 0xffffffff) ^ 0xffffffff
    return int.from_bytes(crc.to_bytes(4, 'little'), 'big') % entries
