# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Steering table entries put into ICM by hand, as software that owns its flow tables does, for
tests without a driver."""
from typing import Any

from emulator.driver.guest import Guest
from mlx5emu import prm
from mlx5emu.firmware import firmware_icm
from mlx5emu.firmware.flow_namespace import NIC_RX, NIC_TX
from mlx5emu.queues.tir import Tir
from mlx5emu.steering import sw_steering
from mlx5emu.steering.packet import Packet
from mlx5emu.steering.steering import Delivery

#: Lookup types by what they look at, of a receive domain: {tag: (format 0, format 1)}; format 1's
#: tag ends in _v1 if it is another.
LOOKUPS = {
    'eth_l2_src': (0x1c, 0x0005),
    'eth_l2_dst': (0x1b, 0x0003),
    'eth_l2_src_dst': (0x38, 0x000b),
    'eth_l3_ipv4_5_tuple': (0x20, 0x0007),
    'eth_l3_ipv6_dst': (0x1e, 0x0107),
    'eth_l3_ipv6_src': (0x1f, 0x0109),
    'eth_l4': (0x21, 0x0009),
    'eth_l3_ipv4_misc': (0x2b, 0x000d),
    'eth_l4_misc': (0x2e, 0x0113),
    'gre': (0x16, 0x010d),
    'register_0': (0x2f, 0x010f),
    'register_1': (0x30, 0x0110),
    'general_purpose': (0x18, 0x010e),
    'flex_parser_tnl_header': (0x19, 0x000e),
    'src_gvmi_qp': (0x05, 0x0104),
    'eth_l2_tnl': (0x0a, 0x0002),
    'mpls': (0x25, 0x010b),
    'flex_parser_0': (0x22, 0x0111), }
INNER = {
    'eth_l2_src': (0x09, 0x0006), 'eth_l3_ipv4_5_tuple': (0x12, 0x0008), 'eth_l3_ipv6_dst':
    (0x0e, 0x0108)}
DONT_CARE = 0x0f
DROP = firmware_icm.address_of(1, firmware_icm.DROP_RX)
ALLOW = firmware_icm.address_of(1, firmware_icm.ALLOW_TX)
DROP_TX = firmware_icm.address_of(1, firmware_icm.DROP_TX)


def crc(data: bytes) -> int:
    """The hash of a tag, bit by bit."""
    out = 0
    for byte in data:
        out ^= byte
        for _ in range(8):
            out = out >> 1 ^ (0xedb88320 if out & 1 else 0)
    return int.from_bytes(out.to_bytes(4, 'little'), 'big')


class SteBench:
    """A card on Ethernet with steering, header modification and other ICM, and tables whose entries
    a test writes.

    :param profile: which says the entries' format.
    """

    def __init__(self, profile: str = 'connectx6dx') -> None:
        self.g = Guest(link_layer='eth', profile=profile)
        self.card = self.g.card
        self.v0 = profile == 'connectx5'
        self._next = {}
        for kind, (start, _) in self.card.icm.ranges().items():
            self.card.icm.allocate(start, 1 << 20)
            self._next[kind] = start

    # ---- memory

    def alloc(self, size: int, kind: str = 'steering') -> int:
        """Address of ``size`` bytes (a power of two, and aligned to it) of a kind of ICM."""
        at = -(-self._next[kind] // size) * size
        self._next[kind] = at + size
        return at

    def put(self, data: bytes, address: int | None = None) -> int:
        """Write an entry or a table; its address."""
        at = self.alloc(max(64, 1 << (len(data) - 1).bit_length())) if address is None else address
        self.card.icm.write(at, data)
        return at

    # ---- entries

    def entry(self, lookup: str | int = DONT_CARE, mask: dict[str, int] | None = None,
              value: dict[str, int] | None = None, hit: int = DROP, miss: int = DROP,
              entries: int = 1, next_lookup: int = DONT_CARE, byte_mask: int = 0, counter: int = 0,
              actions: bytes = b'', inner: bool = False, tx: bool = False, **control: int) -> bytes:
        """One entry of the card's format: what it matches, where hit and miss go on, what it
        does."""
        number, tag = self.lookup(lookup, inner, tx) if isinstance(lookup, str) else (lookup,
                                                                                      'dont_care')
        m, v = self.tag(tag, mask or {}), self.tag(tag, value or {})
        if self.v0:
            layout = control.pop('layout', 'ste_sx_transmit' if tx else 'ste_rx_steering_mult')
            e = prm.new(layout, 32)
            e.set(
                entry_type={
                    'ste_sx_transmit': 1, 'ste_rx_steering_mult': 2, 'ste_modify_packet':
                    6}[layout], entry_sub_type=number, next_lu_type=next_lookup & 0xff, gvmi=1,
                counter_trigger_15_0=counter & 0xffff, counter_trigger_23_16=counter >> 16)
            e.buf[32:64] = v + m
        else:
            e = prm.new('ste_match_bwc_v1', 32)
            e.set(entry_format=number >> 8, match_definer_ctx_idx=number & 0xff,
                  next_entry_format=next_lookup >> 8, hash_definer_ctx_idx=next_lookup & 0xff,
                  gvmi=1, counter_id=counter, action=actions.ljust(8, b'\0'))
            e.buf[32:64] = m + v
        e['byte_mask'] = byte_mask
        self.link(e, hit, entries, miss)
        e.set(**control)
        return bytes(e.buf)

    def match(self, hit: int = DROP, miss: int = DROP, definer: int = DONT_CARE,
              tag: bytes = bytes(32), actions: bytes = b'', counter: int = 0, entries: int = 1,
              next_definer: int = DONT_CARE) -> bytes:
        """An entry of format 1 that a match definer serves."""
        e = prm.new('ste_mask_and_match_v1', 32)
        e.set(entry_format=4, match_definer_ctx_idx=definer, hash_definer_ctx_idx=next_definer,
              counter_id=counter, action=actions.ljust(12, b'\0'))
        e.buf[32:64] = tag
        self.link(e, hit, entries, miss)
        return bytes(e.buf)

    @staticmethod
    def link(e: prm.View, hit: int, entries: int, miss: int) -> None:
        """Set where an entry leads; everything is the card's own function's, number 1."""
        base = (hit & (1 << 40) - 1) >> 5 | entries
        e.set(next_table_base_63_48=1, next_table_base_39_32_size=base >> 27,
              next_table_base_31_5_size=base & (1 << 27) - 1, miss_address_63_48=1,
              miss_address_39_32=miss >> 32 & 0xff, miss_address_31_6=(miss & 0xffffffff) >> 6)

    def lookup(self, name: str, inner: bool = False, tx: bool = False) -> tuple[int, str]:
        """Number and tag of a lookup type."""
        number = (INNER if inner else LOOKUPS)[name][0 if self.v0 else 1]
        if self.v0 and tx:
            number = {0x1c: 0x08, 0x1b: 0x06, 0x20: 0x11}.get(number, number)
        return number, name if self.v0 or not prm.has(f'ste_{name}_v1') else f'{name}_v1'

    @staticmethod
    def tag(name: str, fields: dict[str, int]) -> bytes:
        """The bytes of a tag."""
        t = prm.new(f'ste_{name}')
        t.set(**fields)
        return bytes(t.buf)

    def always_hit(self, address: int, entries: int = 1, lookup: int = DONT_CARE,
                   byte_mask: int = 0, tx: bool = False) -> bytes:
        """An anchor: everything goes on in a table."""
        return self.entry(hit=address, entries=entries, next_lookup=lookup, byte_mask=byte_mask,
                          tx=tx)

    def always_miss(self, address: int = DROP, tx: bool = False) -> bytes:
        """An entry that nobody uses: a tag that the empty mask cannot give."""
        e = bytearray(self.entry(miss=address, tx=tx))
        e[32 if self.v0 else 48] = 0xdc
        return bytes(e)

    # ---- objects

    def tir(self) -> tuple[Any, int]:
        """A TIR and its ICM address."""
        tir = Tir(bytes(prm.layout_bits('tirc') >> 3))
        number = self.card.tirs.alloc(tir)
        return tir, firmware_icm.address_of(1, firmware_icm.TIR, number)

    def table(self, root: int, kind: int = NIC_RX, set_root: bool = True) -> int:
        """A flow table whose first entry is at ``root``."""
        t = self.g.cmd(
            'CREATE_FLOW_TABLE', table_type=kind, **{
                'flow_table_context.sw_owner': 1, 'flow_table_context.level': 63,
                f'flow_table_context.{root_field()}': root})['table_id']
        if set_root:
            self.g.cmd('SET_FLOW_TABLE_ROOT', table_type=kind, table_id=t)
        return t

    def counter(self) -> int:
        """A flow counter."""
        return self.g.cmd('ALLOC_FLOW_COUNTER')['flow_counter_id']

    # ---- traffic

    def receive(self, frame: bytes, sqn: int = 0, **registers: int) -> list[Delivery]:
        """Where a frame gets to, through the receive tables."""
        packet = Packet(frame, sqn)
        packet.registers.update(registers)
        return self.card.datapath.port.steering.walk(NIC_RX, packet)

    def transmit(self, frame: bytes) -> list[Delivery]:
        """Where a frame gets to, through the transmit tables."""
        return self.card.datapath.port.steering.walk(NIC_TX, Packet(frame, 0x77))

    @property
    def walker(self) -> Any:
        """The card's walker, which counts what it drops."""
        return self.card.datapath.port.steering.software.walker


def root_field(which: int = 0) -> str:
    """The path of an ICM root in the flow table context of the header at hand."""
    return sw_steering._root_path(prm.new('flow_table_context'), which)


PROFILES = ('connectx5', 'connectx6dx', 'connectx7')
