# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""ICM addresses of what firmware owns and steering table entries may point at: TIRs, tables,
samplers, meters, drop and allow.

Steering table entries hold 40 bits of an address, and in its bits 63..48 the function whose memory
it is.
"""
from typing import NamedTuple

#: Bits of an address inside one function's memory, and where the function's number is.
ADDRESS_BITS, GVMI_SHIFT = 40, 48
#: Firmware's half of the memory: this bit, the kind from bit 32 on, the object's number from bit 6
#: on.
_FIRMWARE, _KIND_SHIFT, _NUMBER_SHIFT = 1 << 39, 32, 6

DROP_RX, DROP_TX, ALLOW_TX, TIR, TABLE, SAMPLER, METER, VPORT = range(1, 9)


class Place(NamedTuple):
    """What firmware owns at an address: a kind of the above, and the object's number."""
    kind: int
    number: int


def address_of(vhca_id: int, kind: int, number: int = 0) -> int:
    """The address that tells software of an object."""
    return vhca_id << GVMI_SHIFT | _FIRMWARE | kind << _KIND_SHIFT | number << _NUMBER_SHIFT


def place(address: int) -> Place | None:
    """What firmware owns there; None for software's half of the memory."""
    if not address & _FIRMWARE:
        return None
    return Place(address >> _KIND_SHIFT & 0x7f, (address & 0xffffffff) >> _NUMBER_SHIFT)
