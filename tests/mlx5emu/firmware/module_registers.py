# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What sits on the board, as ethtool and devlink ask for it: the module in the cage by its EEPROM
(MCIA, SFF-8636), and the firmware's components by index (MCQS, MCQI)."""
from typing import TYPE_CHECKING

from .. import prm
from .registers import register
from .status import Status

if TYPE_CHECKING:
    from ..card import Card

#: I2C address of a module; a QSFP module answers at no other.
I2C_ADDRESS = 0x50
MCIA_MAX_BYTES = 48
#: MCIA's status when a module has no such page or address.
MCIA_NO_SUCH_PLACE = 0x4
PAGE_BYTES = 256
#: The one component: the image that the card boots.
BOOT_IMAGE = 1
#: Kinds of MCQI: what can be asked, and versions.
CAPABILITIES, VERSION = 0, 1

prm.declare('mcia_data_reg', [('', 128), ('data', 8, MCIA_MAX_BYTES)])


def module_page(serial: int) -> bytes:
    """Return page 0 of a QSFP28 module for 100GBASE-LR4, flat memory, no sensors.

    :param serial: its serial number
    """
    page = bytearray(PAGE_BYTES)
    page[0] = page[128] = 0x11  # QSFP28
    page[1] = 0x08  # revision 2.8 of SFF-8636
    page[2] = 1 << 2  # no other page
    page[130] = 0x07  # LC connector
    page[131] = 1 << 7  # the specification is in byte 192
    page[139] = 0x05  # 64B/66B
    page[140] = 0xff  # more than 25.4 Gb/s a lane: byte 222
    page[142] = 10  # km of single-mode fibre
    page[148:164] = b'mlx5emu'.ljust(16)
    page[165:168] = bytes.fromhex('0002c9')
    page[168:184] = b'EMULATED-LR4'.ljust(16)
    page[184:186] = b'A1'
    page[186:188] = (1310 * 20).to_bytes(2, 'big')  # wavelength in 0.05 nm
    page[191] = sum(page[128:191]) & 0xff
    page[192] = 0x03  # 100GBASE-LR4
    page[196:212] = b'%016x' % serial
    page[222] = 103  # 25.78 Gb/s a lane, in 250 Mb/s
    page[223] = sum(page[192:223]) & 0xff
    return bytes(page)


@register('MCIA')
def mcia(card: 'Card', r: prm.View, write: bool) -> None:
    """Read the module's EEPROM, 48 bytes at most."""
    if write:
        raise Status('BAD_PARAM', 'the module is read-only')
    if r['module'] or r['l']:
        raise Status('BAD_PARAM', 'no such module')
    if not 0 < r['size'] <= MCIA_MAX_BYTES:
        raise Status('BAD_PARAM', 'size of MCIA')
    first, size = r['device_address'], r['size']
    if r['i2c_device_address'] != I2C_ADDRESS or r['page_number'] or size > PAGE_BYTES - first:
        r['status'] = MCIA_NO_SUCH_PLACE
        return
    data = module_page(card.guid)[first:first + size].ljust(MCIA_MAX_BYTES, b'\0')
    prm.View('mcia_data_reg', r.buf)['data'] = data


@register('MCQS', read_only=True)
def mcqs(card: 'Card', r: prm.View, write: bool) -> None:
    """State of a component: there is one, and nothing is pending."""
    if r['component_index']:
        raise Status('BAD_PARAM', 'no such component')
    r.set(last_index_flag=1, identifier=BOOT_IMAGE)


@register('MCQI', read_only=True)
def mcqi(card: 'Card', r: prm.View, write: bool) -> None:
    """Capabilities or version of the component, from an offset on."""
    if r['component_index']:
        raise Status('BAD_PARAM', 'no such component')
    if r['info_type'] == CAPABILITIES:
        info = prm.new('mcqi_cap')
        info['supported_info_bitmask'] = 1 << CAPABILITIES | 1 << VERSION
    elif r['info_type'] == VERSION:
        p = card.profile
        text = f'{p.fw_major}.{p.fw_minor}.{p.fw_subminor:04}'.encode()
        info = prm.new('mcqi_version')
        info.set(version=p.fw_major << 24 | p.fw_minor << 16 | p.fw_subminor,
                 version_string_length=len(text), version_string=text.ljust(92, b'\0'))
    else:
        raise Status('BAD_PARAM', 'info_type')
    if r['offset'] > len(info.buf) or r['data_size'] > len(info.buf) - r['offset']:
        raise Status('BAD_PARAM', 'what is asked for ends behind the information')
    r['info_size'] = len(info.buf)
    head = prm.layout_bits('mcqi_reg') >> 3
    room = min(r['data_size'], len(r.buf) - head)
    r.buf[head:head + room] = info.buf[r['offset']:r['offset'] + room]
