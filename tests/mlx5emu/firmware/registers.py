# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Configuration registers: ACCESS_REG.  A register that is not here is refused, as one that the
card does not have."""
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import prm
from .dispatch import Command, command
from .status import Status

if TYPE_CHECKING:
    from ..card import Card

WRITE, READ = 0, 1
MAX_MTU_ETH, MAX_MTU_IB = 10218, 4096
#: PTYS: 100 Gb/s on four lanes; EDR x4.
ETH_100G, IB_EDR, IB_4X = 1 << 23, 1 << 5, 1 << 1

Register = Callable[['Card', prm.View, bool], None]
_REGISTERS: dict[str, tuple[Register, str, bool]] = {}

prm.declare('node_desc_reg', [('node_description', 8, 64)])
prm.declare('host_endianness_reg', [('he', 8), ('', 24), ('', 32, 3)])


def register(name: str, layout: str = '',
             read_only: bool = False) -> Callable[[Register], Register]:
    """Register a handler ``(card, view, write)`` of a register; it changes the view into what is
    answered.  One that is ``read_only`` is never called for a write."""
    def add(handler: Register) -> Register:
        _REGISTERS[name] = (handler, layout or name.lower() + '_reg', read_only)
        return handler
    return add


@command('ACCESS_REG', state='enabled', min_in=16, min_out=16, op_mods=(WRITE, READ), kernel=True)
def access_reg(card: 'Card', cmd: Command) -> None:
    """Read (op_mod 1) or write (0) a register; the answer is the register."""
    name = prm.REGISTER_NAMES.get(cmd.inp['register_id'], '')
    found = _REGISTERS.get(name)
    if found is None:
        raise Status('BAD_PARAM', f"no such register: {cmd.inp['register_id']:#x} {name}".rstrip())
    handler, layout, read_only = found
    size = (prm.layout_bits(layout) + 7) >> 3
    if len(cmd.raw) - 16 > 4096:
        raise Status('BAD_INP_LEN', 'register data is too long')
    # An answer may be longer than what was asked with (MCQI).
    size = max(size, min(cmd.out_len - 16, 4096))
    data = bytearray(cmd.raw[16:])
    data.extend(bytes(max(0, size - len(data))))
    view = prm.View(layout, data)
    if view.has('local_port') and view['local_port'] > 1:
        raise Status('BAD_PARAM', 'no such port')
    if read_only and cmd.op_mod == WRITE:
        raise Status('BAD_PARAM', 'read-only register')
    handler(card, view, cmd.op_mod == WRITE)
    n = min(len(data), max(0, cmd.out_len - 16))
    cmd.out.buf[16:16 + n] = data[:n]


@register('HOST_ENDIANNESS', 'host_endianness_reg')
def host_endianness(card: 'Card', r: prm.View, write: bool) -> None:
    """Kept; the card converts nothing by it."""
    if write:
        card.host_endianness = r['he']
    else:
        r['he'] = card.host_endianness


@register('NODE_DESC', 'node_desc_reg')
def node_desc(card: 'Card', r: prm.View, write: bool) -> None:
    """The node description, 64 bytes."""
    if write:
        card.vport.node_description = r['node_description']
    else:
        r['node_description'] = card.vport.node_description


@register('PTYS')
def ptys(card: 'Card', r: prm.View, write: bool) -> None:
    """Speeds; one only, so a write may ask for nothing else."""
    eth = card.link_layer == 'eth'
    if write:
        admin = r['eth_proto_admin'] if eth else r['ib_proto_admin']
        if admin and not admin & (ETH_100G if eth else IB_EDR):
            raise Status('BAD_PARAM', 'speed is not supported')
        return
    if eth:
        r.set(eth_proto_capability=ETH_100G, eth_proto_admin=ETH_100G, eth_proto_oper=ETH_100G,
              data_rate_oper=1000)
    else:
        r.set(ib_link_width_capability=IB_4X, ib_link_width_admin=IB_4X, ib_link_width_oper=IB_4X,
              ib_proto_capability=IB_EDR, ib_proto_admin=IB_EDR, ib_proto_oper=IB_EDR)


@register('PMTU')
def pmtu(card: 'Card', r: prm.View, write: bool) -> None:
    """Port MTU in bytes, headers included on Ethernet."""
    top = MAX_MTU_ETH if card.link_layer == 'eth' else MAX_MTU_IB
    if write:
        if not 68 <= r['admin_mtu'] <= top:
            raise Status('BAD_PARAM', 'admin_mtu')
        card.port_mtu = r['admin_mtu']
    else:
        r.set(max_mtu=top, admin_mtu=card.port_mtu, oper_mtu=card.port_mtu)


@register('PVLC')
def pvlc(card: 'Card', r: prm.View, write: bool) -> None:
    """Virtual lanes: VL0 to VL7."""
    if write:
        raise Status('BAD_PARAM', 'virtual lanes are fixed')
    r.set(vl_hw_cap=4, vl_admin=4, vl_operational=4)


@register('PAOS')
def paos(card: 'Card', r: prm.View, write: bool) -> None:
    """Administrative port state: 1 up, 2 down; a write changes it only with ``ase`` set, and
    answers with what it is then."""
    if write and r['ase']:
        if r['admin_status'] not in (1, 2):
            raise Status('BAD_PARAM', 'admin_status')
        card.set_port(r['admin_status'] == 1)
    r.set(admin_status=1 if card.vport.up else 2, oper_status=1 if card.vport.up else 2)


@register('PMLP')
def pmlp(card: 'Card', r: prm.View, write: bool) -> None:
    """Four lanes of module 0."""
    if write:
        raise Status('BAD_PARAM', 'lanes are fixed')
    r['width'] = 4
    for lane in range(4):
        r[f'lane{lane}_module_mapping'] = lane << 16


def _what_there_is(*fields: str) -> Register:
    def handler(card: 'Card', r: prm.View, write: bool) -> None:
        if not r['feature_group'] and not r['access_reg_group']:
            for field in fields:
                r[field] = 1
    return handler


# Which registers and features there are, where the driver asks before it uses them.
register('PCAM', read_only=True)(_what_there_is('port_access_reg_cap_mask.regs_5000_to_507f.pplm'))
register('MCAM', read_only=True)(_what_there_is('mng_access_reg_cap_mask.access_regs.mcqi',
                                'mng_access_reg_cap_mask.access_regs.mcqs'))
register('QCAM', read_only=True)(_what_there_is())


@register('PPCNT', read_only=True)
def ppcnt(card: 'Card', r: prm.View, write: bool) -> None:
    """Port counters: of every group, zero: there is no wire."""
