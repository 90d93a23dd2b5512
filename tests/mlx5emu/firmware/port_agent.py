# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What an InfiniBand port answers to management datagrams by itself: about itself as a node of the
subnet, by MAD_IFC, and about its counters, to whoever asks its QP1.

There is no subnet manager that could be asked, and no switch: SMInfo and the subnet administration
have nobody who answers, and a directed route ends at the port.
"""
from typing import TYPE_CHECKING

from .. import prm
from .dispatch import Command, command
from .status import Status
from .vport import DISABLED, GID_PREFIX, PHYSICAL_UP, PKEYS

if TYPE_CHECKING:
    from ..card import Card

prm.declare('mad', [('base_version', 8), ('mgmt_class', 8), ('class_version', 8), ('method', 8),
                    ('status', 16), ('', 16), ('tid', 64), ('attr_id', 16), ('', 16),
                    ('attr_mod', 32), ('@', 64 * 8), ('data', 8, 192)], size=2048)
MAD_BYTES = 256
GET, GET_RESP, SUBN_LID, SUBN_DIRECTED, PERFORMANCE = 0x01, 0x81, 0x01, 0x81, 0x04
NODE_DESC, NODE_INFO, GUID_INFO, PORT_INFO, PKEY_TABLE = 0x10, 0x11, 0x14, 0x15, 0x16
SL_TO_VL, VL_ARBITRATION = 0x17, 0x18
CLASS_PORT_INFO, PORT_COUNTERS, PORT_COUNTERS_EXTENDED = 0x01, 0x12, 0x1d
UNSUPPORTED_ATTRIBUTE = 0x0c
#: Of ClassPortInfo: the extended counters are there.
EXTENDED_WIDTH = 1 << 9
#: PortInfo's code for eight virtual lanes.
EIGHT_LANES = 4


def subnet_management(card: 'Card', attribute: int, modifier: int) -> bytes | None:
    """Return an attribute of the port as a node of the subnet, None for one that it has not.

    :param card: whose port
    :param attribute: as NODE_INFO
    :param modifier: which block of a table
    """
    v, data = card.vport, bytearray(64)
    if attribute == NODE_DESC:
        data[:] = v.node_description
    elif attribute == NODE_INFO:
        data[0:4] = bytes([1, 1, 1, 1])
        for at, guid in ((4, card.system_image_guid), (12, card.guid), (20, card.guid)):
            data[at:at + 8] = guid.to_bytes(8, 'big')
        data[28:30] = (PKEYS).to_bytes(2, 'big')
        data[30:32] = card.profile.device_id.to_bytes(2, 'big')
        data[36:40] = (1 << 24 | 0x2c9).to_bytes(4, 'big')
    elif attribute == GUID_INFO:
        data[0:8] = card.guid.to_bytes(8, 'big')
    elif attribute == PORT_INFO:
        data[8:16] = GID_PREFIX.to_bytes(8, 'big')
        data[16:18], data[18:20] = v.lid.to_bytes(2, 'big'), v.sm_lid.to_bytes(2, 'big')
        data[20:24] = v.cap_mask1.to_bytes(4, 'big')
        # Port 1, 4x enabled, supported and active.
        data[28:32] = bytes([1, 2, 2, 2])
        data[32] = 1 << 4 | v.state
        data[33] = (PHYSICAL_UP if v.up else DISABLED) << 4 | 2
        # MTU of 4096 bytes at the neighbour, GUIDs of one port.
        data[36], data[37], data[50] = 5 << 4, EIGHT_LANES << 4, 1
    elif attribute == PKEY_TABLE:
        block = modifier & 0xffff
        for k, pkey in enumerate(v.pkeys[block * 32:block * 32 + 32]):
            data[2 * k:2 * k + 2] = pkey.to_bytes(2, 'big')
    elif attribute == SL_TO_VL:
        # Two levels a byte: each its own lane, and over again.
        for k in range(8):
            data[k] = (2 * k % 8) << 4 | (2 * k + 1) % 8
    elif attribute == VL_ARBITRATION:
        # One turn for each lane, in the first block of either priority.
        if modifier >> 16 in (1, 3):
            for lane in range(8):
                data[2 * lane], data[2 * lane + 1] = lane, 1
    else:
        return None
    return bytes(data)


def performance(card: 'Card', attribute: int) -> bytes | None:
    """Return an attribute of performance management, None for one that the port has not.

    :param card: whose port
    :param attribute: as PORT_COUNTERS
    """
    data = bytearray(192)
    counted = card.vport.counters

    def count(way: str, cast: str, unit: str) -> int:
        return counted.get((f'{way}_ib_{cast}', unit), 0)
    words = [sum(count(way, cast, 'octets') for cast in ('unicast', 'multicast')) // 4
             for way in ('transmitted', 'received')]
    packets = [sum(count(way, cast, 'packets') for cast in ('unicast', 'multicast'))
               for way in ('transmitted', 'received')]
    if attribute == CLASS_PORT_INFO:
        data[0:2] = bytes([1, 1])
        data[2:4] = EXTENDED_WIDTH.to_bytes(2, 'big')
    elif attribute == PORT_COUNTERS:
        data[1] = 1
        # They stop at their highest value.
        for k, value in enumerate(words + packets):
            data[24 + 4 * k:28 + 4 * k] = min(value, 0xffffffff).to_bytes(4, 'big')
    elif attribute == PORT_COUNTERS_EXTENDED:
        data[1] = 1
        casts = [count(way, cast, 'packets') for cast in ('unicast', 'multicast')
                 for way in ('transmitted', 'received')]
        for k, value in enumerate(words + packets + casts):
            data[8 + 8 * k:16 + 8 * k] = value.to_bytes(8, 'big')
    else:
        return None
    return bytes(data)


def answer(card: 'Card', mad: bytes) -> bytes:
    """Return the answer to a management datagram of 256 bytes."""
    request = prm.View('mad', bytearray(mad))
    data = None
    if request['method'] == GET:
        if request['mgmt_class'] in (SUBN_LID, SUBN_DIRECTED):
            data = subnet_management(card, request['attr_id'], request['attr_mod'])
        elif request['mgmt_class'] == PERFORMANCE:
            data = performance(card, request['attr_id'])
    request['method'] = GET_RESP
    if data is None:
        request['status'] = UNSUPPORTED_ATTRIBUTE
    else:
        request['data'] = data.ljust(192, b'\0')
    return bytes(request.buf)


def is_for_port(mad: bytes) -> bool:
    """Tell whether the port itself answers a datagram to its QP1: software never sees it."""
    return len(mad) == MAD_BYTES and mad[1] == PERFORMANCE and mad[3] == GET


@command('MAD_IFC', min_in=0x110, min_out=0x110, op_mods=range(4), kernel=True)
def mad_ifc(card: 'Card', cmd: Command) -> None:
    """Answer a subnet management or performance query about this port."""
    if cmd.inp['port'] > 1:
        raise Status('BAD_PARAM', 'no such port')
    cmd.out['response_mad_packet'] = answer(card, cmd.inp['mad'])
