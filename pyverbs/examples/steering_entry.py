# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
A steering table entry (STE) of a receive table, as bytes: which frames it takes, by their source
address, and where it sends them and the others.

Neither libmlx5's headers nor the kernel's public ones have its layout. A card has one of two:
ConnectX-5 format 0, ConnectX-6 Dx and ConnectX-7 format 1 (`steering_format_version` 1 and 2).
"""
import struct
from typing import Dict

SIZE = 64
#: entry_type of format 0; what an entry compares: nothing, or the source address, by format.
RECEIVE, ANYTHING = 2, 0x0f
SOURCE_MAC: Dict[int, int] = {0: 0x1c, 1: 0x05}
#: The tag of a lookup by source address: where in it the address is.
MAC_AT: Dict[int, int] = {0: 0, 1: 4}
#: ICM addresses have 40 bits, and above them whose they are.
ADDRESS, ONE_ENTRY = (1 << 40) - 1, 1


class SteeringEntries:
    """
    Writes entries of one card.
    :param steering_format_version: The capability of that name
    :param vhca_id: The capability of that name: the function whose addresses the entries hold
    """

    def __init__(self, steering_format_version: int, vhca_id: int) -> None:
        self.format, self.vhca_id = min(steering_format_version, 1), vhca_id

    def every_frame(self, hit: int, then_by_mac: bool = False) -> bytes:
        """
        An entry that every frame hits.
        :param hit: ICM address of the next entry or of a TIR
        :param then_by_mac: Whether the next entry compares the source address
        """
        next_lookup = SOURCE_MAC[self.format] if then_by_mac else ANYTHING
        return self._entry(ANYTHING, next_lookup, hit, 0) + bytes(32)

    def source_mac(self, mac: bytes, hit: int, miss: int) -> bytes:
        """
        An entry for the frames from one address.
        :param mac: The address, 6 bytes
        :param hit: ICM address where these go on
        :param miss: ICM address of the entry where the others go on
        """
        head = self._entry(SOURCE_MAC[self.format], ANYTHING, hit, miss)
        tag = (bytes(MAC_AT[self.format]) + mac).ljust(16, b'\0')
        mask = (bytes(MAC_AT[self.format]) + b'\xff' * 6).ljust(16, b'\0')
        return head + (mask + tag if self.format else tag + mask)

    def _entry(self, lookup: int, next_lookup: int, hit: int, miss: int) -> bytes:
        # The next table's address and size are one number of 35 bits, which counts 32 bytes: its
        # lowest set bit is the number of entries.
        base, owner = (hit & ADDRESS) >> 5 | ONE_ENTRY, self.vhca_id
        next_table = base >> 27, (base & (1 << 27) - 1) << 5
        after_miss = (miss & ADDRESS) >> 32, miss & 0xffffffff
        if self.format:
            return struct.pack('>B3xHBBIHBBIHH8x', 0, owner, lookup, *after_miss, owner,
                               next_lookup, *next_table, 0, owner)
        return struct.pack('>BBHHBBIHHIIHBBI', RECEIVE << 4, lookup, 0, owner, next_lookup,
                           *next_table, 0, owner, 0, 0, owner, 0, *after_miss)
