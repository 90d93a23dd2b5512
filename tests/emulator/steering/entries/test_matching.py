# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Software's steering table entries, of each format: hashing, matching, chains, counters and where
they lead."""
from typing import Any

import pytest
from emulator.driver.frames import IPV6, MAC_A, MAC_B, PLAIN, VXLAN, ether, ipv4
from emulator.driver.steering_entries import (
    ALLOW,
    DROP,
    DROP_TX,
    PROFILES,
    SteBench,
    crc,
    root_field,
)
from mlx5emu.firmware.flow_namespace import NIC_TX
from mlx5emu.steering import flow
from mlx5emu.steering.entries import format

SMAC = {
    'smac_47_16': int.from_bytes(MAC_A[:4], 'big'), 'smac_15_0': int.from_bytes(MAC_A[4:], 'big')}
ONES = {'smac_47_16': 0xffffffff, 'smac_15_0': 0xffff}


@pytest.fixture(params=PROFILES)
def bench(request: pytest.FixtureRequest):
    """A card whose entries are of one of the formats; no test may make the emulator fail."""
    b = SteBench(request.param)
    yield b
    assert b.card.internal_errors == 0


def only(bench: SteBench, lookup: str, fields: dict[str, int], masks: dict[str, int], frame: bytes,
         **options: Any) -> tuple[bool, bool]:
    """Whether a frame hits an entry that wants the fields, and one that wants the first field to be
    different."""
    tir, address = bench.tir()
    out = []
    registers = options.pop('registers', {})
    for change in (0, 1):
        first = next(iter(fields))
        value = dict(fields, **{first: fields[first] ^ change * (masks[first] & -masks[first])})
        at = bench.put(bench.entry(lookup, masks, value, hit=address, **options))
        bench.table(at)
        out.append([d.tir for d in bench.receive(frame, **registers)] == [tir])
    return out[0], out[1]


def full(fields: dict[str, int], **bits: int) -> dict[str, int]:
    """Masks of all ones as wide as the values need, or as told."""
    return {k: (1 << bits.get(k, max(v.bit_length(), 1))) - 1 for k, v in fields.items()}


def test_anchor_hash_collision(bench: SteBench) -> None:
    """From the anchor into a table by the tag's hash; a miss goes down the list of collisions and
    on to the end anchor."""
    lookup, tag = bench.lookup('eth_l2_src')
    (first, to_first), (second, to_second) = bench.tir(), bench.tir()
    end = bench.put(bench.always_miss())
    other = bench.put(
        bench.entry('eth_l2_src', ONES, {**SMAC, 'smac_15_0': 0xa2}, hit=to_second, miss=end))
    table = bench.alloc(64 * 16)
    want = bench.tag(tag, SMAC)
    byte_mask = sum(1 << 15 - k for k, b in enumerate(bench.tag(tag, ONES)) if b == 0xff)
    index = crc(want) % 16
    for k in range(16):
        bench.put(bench.always_miss(end) if k != index else
                  bench.entry('eth_l2_src', ONES, SMAC, hit=to_first, miss=other), table + 64 * k)
    root = bench.put(bench.always_hit(table, 16, lookup, byte_mask))
    bench.table(root)
    assert [d.tir for d in bench.receive(PLAIN)] == [first]
    # The other address is found behind the first only where the hash happens to be the same: ask
    # for it there.
    assert bench.receive(ether(b'', source=MAC_B)) == []
    bench.put(bench.always_hit(table + 64 * index), root)
    assert [d.tir for d in bench.receive(ether(b'', source=MAC_A[:5] + b'\xa2'))] == [second]
    assert [d.tir for d in bench.receive(PLAIN)] == [first]
    assert bench.walker.bad == 0


def test_hash_is_the_libraries() -> None:
    """CRC-32 without complements, its bytes swapped, as rdma-core computes it."""
    assert format.hash_index(bytes(16), 1 << 20) == 0
    for data in (bytes(range(16)), b'\xff' * 32, PLAIN[:16]):
        assert format.hash_index(data, 1 << 32) == crc(data)
    assert crc(b'123456789') == 0x882dfd2d


def test_byte_mask(bench: SteBench) -> None:
    """Bytes that the mask leaves out do not count for the index."""
    lookup, tag = bench.lookup('eth_l2_src')
    tir, address = bench.tir()
    table = bench.alloc(64 * 4)
    part = {'smac_47_16': 0xffffffff}
    byte_mask = sum(1 << 15 - k for k, b in enumerate(bench.tag(tag, part)) if b == 0xff)
    index = crc(bench.tag(tag, {'smac_47_16': SMAC['smac_47_16']})) % 4
    for k in range(4):
        bench.put(
            bench.entry('eth_l2_src', part, {'smac_47_16': SMAC['smac_47_16']}, hit=address)
            if k == index else bench.always_miss(), table + 64 * k)
    bench.table(bench.put(bench.always_hit(table, 4, lookup, byte_mask)))
    for last in (0xa1, 0x00, 0xff):
        assert [d.tir for d in bench.receive(ether(b'', source=MAC_A[:5] + bytes([last])))] == [tir]


@pytest.mark.parametrize(('lookup', 'fields', 'bits', 'frame'), [
    ('eth_l2_dst', {'dmac_15_0': int.from_bytes(MAC_B[4:], 'big'), 'l3_ethertype': 0x800
                    }, {}, PLAIN),
    ('eth_l2_src_dst', {'dmac_47_16': int.from_bytes(MAC_B[:4], 'big'), 'l3_type': 1}, {
        'l3_type': 2}, PLAIN),
    ('eth_l2_src', {
        'first_vlan_id': 5, 'first_priority': 3, 'first_vlan_qualifier': 2, 'second_vlan_id': 7,
        'second_vlan_qualifier': 1}, {
            'first_vlan_id': 12, 'second_vlan_id': 12, 'first_priority': 3, 'second_vlan_qualifier':
            2}, ether(ipv4(b''), tags=bytes.fromhex('8100600588a80007'))),
    ('eth_l3_ipv4_5_tuple', {
        'source_address': 0x01010101, 'destination_address': 0x02020202, 'source_port': 1234,
        'destination_port': 5678, 'protocol': 17, 'fragmented': 0}, {
            'source_port': 16, 'protocol': 8}, PLAIN),
    ('eth_l3_ipv4_misc', {'time_to_live': 64, 'ihl': 5, 'identification': 7}, {
        'time_to_live': 8, 'ihl': 4}, PLAIN),
    ('eth_l3_ipv6_dst', {'dst_ip_127_96': 0x10111213, 'dst_ip_31_0': 0x1c1d1e1f}, {}, IPV6),
    ('eth_l3_ipv6_src', {'src_ip_95_64': 0x04050607, 'src_ip_63_32': 0x08090a0b}, {}, IPV6),
    ('eth_l4', {
        'src_port': 0x1111, 'dst_port': 0x2222, 'protocol': 6, 'flow_label': 0x34567,
        'ipv6_hop_limit': 64, 'dscp': 4, 'ecn': 2, 'tcp_syn': 1, 'tcp_ack': 1, 'tcp_fin': 0}, {
            'protocol': 8}, IPV6),
    ('eth_l4_misc', {
        'seq_num': 0x01020304, 'ack_num': 0x05060708, 'window_size': 0xabcd, 'urgent_pointer': 9
    }, {}, IPV6),
    ('flex_parser_tnl_header', {'tunnel_header_0': 0x08000000, 'tunnel_header_1': 0x12345600
                                }, {}, VXLAN),
    ('gre', {'gre_0': 0x20006558, 'gre_key': 0x99887766
             }, {}, ether(ipv4(bytes.fromhex('2000655899887766') + PLAIN, 47))),
    ('mpls', {'mpls0': 0x00123040, 'mpls1': 0x00456140
              }, {}, ether(bytes.fromhex('0012304000456140') + b'data', 0x8847)), ])
def test_lookup_types(bench: SteBench, lookup: str, fields: dict[str, int], bits: dict[str, int],
                      frame: bytes) -> None:
    """An entry takes the frame whose fields it names, and no other."""
    assert only(bench, lookup, fields, full(fields, **bits), frame) == (True, False)
    assert bench.walker.bad == 0


@pytest.mark.parametrize(('lookup', 'fields', 'frame'), [
    ('eth_l2_src', {**SMAC}, VXLAN),
    ('eth_l3_ipv4_5_tuple', {'source_address': 0x01010101, 'destination_port': 5678}, VXLAN),
])
def test_inner_lookup_types(bench: SteBench, lookup: str, fields: dict[str, int],
                            frame: bytes) -> None:
    """The same of the headers inside a tunnel; without one they are all zero."""
    assert only(bench, lookup, fields, full(fields), frame, inner=True) == (True, False)
    assert only(bench, lookup, fields, full(fields), PLAIN, inner=True) == (False, False)


def test_tunnel_network(bench: SteBench) -> None:
    """The VXLAN network and the inner address are one tag."""
    fields = {
        'l2_tunneling_network_id': 0x123456 << 8, 'dmac_47_16': int.from_bytes(MAC_B[:4], 'big')}
    assert only(bench, 'eth_l2_tnl', fields,
                {'l2_tunneling_network_id': 0xffffff00, 'dmac_47_16': 0xffffffff},
                VXLAN) == (True, False)


def test_registers(bench: SteBench) -> None:
    """Metadata registers of the packet."""
    for lookup, name in (('register_0', 'metadata_reg_c_2'), ('register_1', 'metadata_reg_c_5'),
                         ('general_purpose', 'metadata_reg_a')):
        assert only(bench, lookup, {name: 0x1234}, {name: 0xffff}, PLAIN, registers={
            name: 0xab1234}) == (True, False)


def test_source(bench: SteBench) -> None:
    """A frame of the function's own queue tells which; one from the wire tells neither queue nor
    function."""
    fields = {'source_qp': 0x77, 'source_gvmi': 1, 'functional_lb': 1}
    masks = {'source_qp': 0xffffff, 'source_gvmi': 0xffff, 'functional_lb': 1}
    assert only(bench, 'src_gvmi_qp', fields, masks, PLAIN, registers={'sqn':
                                                                       0x77}) == (True, False)
    assert only(bench, 'src_gvmi_qp', {'source_qp': 0, 'source_gvmi': 0, 'functional_lb': 0}, masks,
                PLAIN) == (True, False)


def test_icmp(bench: SteBench) -> None:
    """Type, code and the word behind: format 0 sees them through flex parsers 0 and 1, format 1 in
    the place of TCP's numbers."""
    frame = ether(ipv4(bytes.fromhex('0803000012345678'), 1))
    if bench.v0:
        fields = {'flex_parser_0': 0x08030000, 'flex_parser_1': 0x12345678}
        masks = {'flex_parser_0': 0xffff0000, 'flex_parser_1': 0xffffffff}
        assert only(bench, 'flex_parser_0', fields, masks, frame) == (True, False)
        return
    tir, address = bench.tir()
    e = bytearray(bench.entry('eth_l4_misc', hit=address))
    e[32:48] = bench.tag('icmp_v1',
                         {'icmp_type': 0xff, 'icmp_code': 0xff, 'icmp_header_data': 0xffffffff})
    e[48:64] = bench.tag('icmp_v1',
                         {'icmp_type': 8, 'icmp_code': 3, 'icmp_header_data': 0x12345678})
    bench.table(bench.put(bytes(e)))
    assert [d.tir for d in bench.receive(frame)] == [tir]
    assert bench.receive(ether(ipv4(bytes.fromhex('0903000012345678'), 1))) == []


def test_counter(bench: SteBench) -> None:
    """A hit counts packet and octets, a miss does not; an entry may name a counter that is gone."""
    number = bench.counter()
    tir, address = bench.tir()
    bench.table(bench.put(bench.entry('eth_l2_src', ONES, SMAC, hit=address, counter=number)))
    bench.receive(PLAIN)
    bench.receive(ether(b'', source=MAC_B))
    out = bench.g.cmd('QUERY_FLOW_COUNTER', flow_counter_id=number, out_len=32)
    assert (out['flow_statistics[0].packets'], out['flow_statistics[0].octets']) == (1, len(PLAIN))
    bench.g.cmd('DEALLOC_FLOW_COUNTER', flow_counter_id=number)
    assert [d.tir for d in bench.receive(PLAIN)] == [tir]


def test_places(bench: SteBench) -> None:
    """Drop and allow, each in its direction; a TIR that is gone takes nothing."""
    for address, passes in ((ALLOW, True), (DROP_TX, False), (bench.tir()[1], False)):
        bench.table(bench.put(bench.entry(hit=address, tx=True)), NIC_TX)
        assert [d.packet.data for d in bench.transmit(PLAIN)] == [PLAIN] * passes
    tir, address = bench.tir()
    bench.table(bench.put(bench.always_hit(address)))
    assert len(bench.receive(PLAIN)) == 1
    bench.card.tirs.free(tir.number)
    for nowhere in (address, DROP, ALLOW):
        bench.table(bench.put(bench.always_hit(nowhere)))
        assert bench.receive(PLAIN) == []
    assert bench.walker.bad == 0


def test_firmware_tables(bench: SteBench) -> None:
    """From a firmware table into a software table and back: the ICM address that QUERY_FLOW_TABLE
    tells of a firmware table."""
    g = bench.g
    tir, _ = bench.tir()
    last = g.cmd('CREATE_FLOW_TABLE', table_type=0, **{
        'flow_table_context.log_size': 1, 'flow_table_context.level': 20})['table_id']
    group = g.cmd('CREATE_FLOW_GROUP', table_type=0, table_id=last)['group_id']
    context = {'group_id': group, 'action': flow.FORWARD, 'destination_list_size': 1}
    g.cmd('SET_FLOW_TABLE_ENTRY',
          bytes([flow.TO_TIR]) + tir.number.to_bytes(3, 'big') + bytes(4), table_type=0,
          table_id=last, **{f'flow_context.{k}': v for k, v in context.items()})
    address = g.cmd('QUERY_FLOW_TABLE', table_type=0,
                    table_id=last)[f'flow_table_context.{root_field()}']
    assert address >> 48 == 1
    at = bench.put(bench.always_hit(address))
    software = bench.table(at, set_root=False)
    out = g.cmd('QUERY_FLOW_TABLE', table_type=0, table_id=software)
    assert (out[f'flow_table_context.{root_field()}'], out['flow_table_context.sw_owner']) == (at,
                                                                                               1)
    first = g.cmd('CREATE_FLOW_TABLE', table_type=0, **{
        'flow_table_context.log_size': 1, 'flow_table_context.level': 10})['table_id']
    group = g.cmd('CREATE_FLOW_GROUP', table_type=0, table_id=first)['group_id']
    g.cmd('SET_FLOW_TABLE_ENTRY',
          bytes([flow.TO_TABLE]) + software.to_bytes(3, 'big') + bytes(4), table_type=0,
          table_id=first, **{
              f'flow_context.{k}': v for k, v in (context | {'group_id': group}).items()})
    g.cmd('SET_FLOW_TABLE_ROOT', table_type=0, table_id=first)
    assert [d.tir for d in bench.receive(PLAIN)] == [tir]
