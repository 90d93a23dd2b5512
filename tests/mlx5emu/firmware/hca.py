# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The function's life cycle, its capability pages and constants: ENABLE_HCA to DISABLE_HCA,
QUERY_HCA_CAP, QUERY_ADAPTER."""
from typing import TYPE_CHECKING

from . import caps, subnet
from .dispatch import Command, command
from .status import Status

if TYPE_CHECKING:
    from ..card import Card

#: Keys that every function has from the start, by their field in query_special_contexts_out.
SPECIAL_KEYS = {
    'null_mkey': 0x300, 'resd_lkey': 0x200, 'dump_fill_mkey': 0x500, 'terminate_scatter_list_mkey':
    0x100}
ISSI_SUPPORTED = 0b10


@command('ENABLE_HCA', state='any', kernel=True)
def enable_hca(card: 'Card', cmd: Command) -> None:
    """Begin to use the function. Refused for another function than itself."""
    if cmd.inp['function_id']:
        raise Status('BAD_PARAM', 'no other function')
    if card.state != card.RESET:
        raise Status('BAD_SYS_STATE', 'HCA is enabled already')
    card.state = card.ENABLED


@command('DISABLE_HCA', state='enabled', kernel=True)
def disable_hca(card: 'Card', cmd: Command) -> None:
    """End the use of the function, after TEARDOWN_HCA. Refused while a page is held."""
    if cmd.inp['function_id']:
        raise Status('BAD_PARAM', 'no other function')
    if card.state == card.READY:
        raise Status('BAD_SYS_STATE', 'HCA is not torn down')
    if card.pages.held:
        raise Status('BAD_RES_STATE', 'pages are held')
    card.state = card.RESET


@command('INIT_HCA', state='enabled', min_in=16, kernel=True)
def init_hca(card: 'Card', cmd: Command) -> None:
    """Let objects be made from now on. Refused before all pages were given, and twice."""
    if card.state == card.READY:
        raise Status('BAD_SYS_STATE', 'HCA is initialized already')
    if len(card.pages.held) < card.pages.wanted():
        raise Status('NO_RES', 'INIT_HCA before the pages were given')
    card.state = card.READY
    subnet.link_up(card)


@command('TEARDOWN_HCA', kernel=True)
def teardown_hca(card: 'Card', cmd: Command) -> None:
    """Graceful (0) or forced (1): everything left is dropped, pages stay until the driver takes
    them."""
    profile = cmd.inp['profile']
    if profile not in (0, 1):
        raise Status('BAD_PARAM', 'TEARDOWN_HCA profile')
    card.teardown()


@command('QUERY_ISSI', state='enabled')
def query_issi(card: 'Card', cmd: Command) -> None:
    """Tell that ISSI 1 is the only one."""
    cmd.out['current_issi'] = card.issi
    cmd.out['supported_issi_dw0'] = ISSI_SUPPORTED


@command('SET_ISSI', state='enabled', kernel=True)
def set_issi(card: 'Card', cmd: Command) -> None:
    """Choose an ISSI. Refused for one that is not supported."""
    issi = cmd.inp['current_issi']
    if issi > 31 or not ISSI_SUPPORTED >> issi & 1:
        raise Status('BAD_PARAM', 'ISSI is not supported')
    card.issi = issi


@command('QUERY_HCA_CAP', state='enabled', min_out=16, op_mods=None)
def query_hca_cap(card: 'Card', cmd: Command) -> None:
    """A capability page: op_mod bit 0 current or maximal, the rest the type."""
    if cmd.inp['other_function'] or cmd.inp['function_id']:
        raise Status('BAD_PARAM', 'no other function')
    page = card.caps.by_type(cmd.op_mod >> 1, current=bool(cmd.op_mod & 1))
    if page is None:
        raise Status('BAD_PARAM', 'no such capability type')
    n = min(len(page.buf), len(cmd.out.buf) - 16)
    cmd.out.buf[16:16 + n] = page.buf[:n]


@command('SET_HCA_CAP', state='enabled', min_in=16, op_mods=None, kernel=True)
def set_hca_cap(card: 'Card', cmd: Command) -> None:
    """Before INIT_HCA the driver may set what it wants of the page: never more than the card
    has."""
    if card.state == card.READY:
        raise Status('BAD_SYS_STATE', 'SET_HCA_CAP after INIT_HCA')
    if cmd.inp['other_function'] or cmd.inp['function_id']:
        raise Status('BAD_PARAM', 'no other function')
    name = caps.BY_TYPE.get(cmd.op_mod >> 1)
    if name is None:
        raise Status('BAD_PARAM', 'no such capability type')
    card.caps.set(name, cmd.raw[16:16 + caps.PAGE_SIZE])


@command('QUERY_ADAPTER', state='enabled')
def query_adapter(card: 'Card', cmd: Command) -> None:
    """Tell the identifiers of vendor and board."""
    s = cmd.out.sub('query_adapter_struct')
    s['ieee_vendor_id'], s['vsd_vendor_id'] = 0x2c9, 0x15b3
    s['vsd_contd_psid'] = card.profile.psid.encode().ljust(16, b'\0')


@command('SET_DRIVER_VERSION', kernel=True)
def set_driver_version(card: 'Card', cmd: Command) -> None:
    """Keep the driver's version for reports."""
    card.driver_version = cmd.inp['driver_version'].rstrip(b'\0').decode('ascii', 'replace')


@command('QUERY_SPECIAL_CONTEXTS')
def query_special_contexts(card: 'Card', cmd: Command) -> None:
    """Tell the keys that every function has from the start."""
    for field, key in SPECIAL_KEYS.items():
        if cmd.out.has(field):
            cmd.out[field] = key


@command('NOP')
def nop(card: 'Card', cmd: Command) -> None:
    """Do nothing, and succeed."""
